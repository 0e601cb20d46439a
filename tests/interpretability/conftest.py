"""Metrics of every kind that tests of scores share."""

import pytest
import torch

from neurosuper import Color, Features, Label, Pixel


class Brightness(torch.nn.Module):
    """A network of one layer, whose features are a smaller image."""

    def __init__(self):
        super().__init__()
        self.small = torch.nn.AvgPool2d(2)

    def forward(self, images):
        return self.small(images)


@pytest.fixture
def features():
    """Cosine distance in the layer of a tiny network."""
    return Features(Brightness(), "small")


@pytest.fixture(params=["pixel", "color", "label", "features:small"])
def metric(request, features):
    """Each kind of metric: a distance, a squared distance, an agreement."""
    return {each.name: each for each in (Pixel(), Color(), Label(), features)}[request.param]
