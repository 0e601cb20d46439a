"""Cosine distance in a network's features, against scipy on features read by other means."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from neurosuper.metrics import Features
from neurosuper.metrics.base import pixels


class Net(nn.Module):
    """A trunk, dropout that only eval mode silences, a head that runs only if asked, and a sum over images."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Dropout(0.5))
        self.unused = nn.Linear(2, 2)
        self.total = nn.Flatten(0)

    def forward(self, x):
        return self.total(self.trunk(x))


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


def test_squared_distance_is_one_minus_cosine(net, images):
    metric = Features(net, "trunk", device="cpu")
    embedding = metric.embed(images[:6])
    with torch.no_grad():
        expected = net.trunk[1](net.trunk[0](pixels(images[:6], "cpu"))).flatten(1)
    squared = torch.cdist(embedding, embedding).square()
    np.testing.assert_allclose(squared, cdist(expected, expected, "cosine"), rtol=1e-4, atol=1e-6)
    assert net.training, "the model's training mode is restored"
    assert not embedding.requires_grad


def test_preprocess_comes_before_the_network(net, images):
    def swap(x):
        return x.flip(1)

    swapped = Features(net, "trunk.0", preprocess=swap, device="cpu").embed(images[:6])
    by_hand = Features(net, "trunk.0", device="cpu").embed(images[:6].isel(channel=slice(None, None, -1)))
    torch.testing.assert_close(swapped, by_hand)


def test_name_and_repr(net):
    assert Features(net, "trunk").name == "features:trunk"
    assert Features(net, "trunk").quantity == "cosine distance in trunk"
    assert repr(Features(net, "trunk", name="mine")) == "Features(Net, 'trunk', name='mine', device=None)"


def test_features_of_zero_are_refused(net, images):
    nn.init.constant_(net.trunk[0].bias, 0)
    some = pixels(images[:6], "cpu")
    some[[1, 4]] = 0
    with pytest.raises(ValueError, match="2 of 6 images have all-zero or non-finite features in 'trunk"):
        Features(net, "trunk.0", device="cpu").embed(some)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("trunk.9", "no layer 'trunk.9' in Net; similar names: trunk"),
        ("unused", "layer 'unused' is not used in the forward pass of Net"),
        ("total", r"layer 'total' gives shape \(4704,\) for 6 images and \(1568,\) for 2, so its axis 0 does not"),
    ],
)
def test_layers_that_give_no_features_are_refused(net, images, layer, message):
    with pytest.raises(ValueError, match=message):
        Features(net, layer, device="cpu").embed(images[:6])


class TokensFirst(nn.Module):
    """Four tokens of 8 × 8 pixels, as (token, image, channel)."""

    def __init__(self):
        super().__init__()
        self.patches, self.tokens = nn.Conv2d(3, 5, 8, stride=8), nn.Identity()

    def forward(self, x):
        return self.tokens(self.patches(x).flatten(2).permute(2, 0, 1))


def test_tokens_as_many_as_images_are_not_taken_for_them(images):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = TokensFirst()
    with pytest.raises(ValueError, match="so its axis 0 does not count images; pass layout='token image channel'"):
        Features(net, "tokens", device="cpu").embed(images[:4])
    found = Features(net, "tokens", device="cpu", layout="token image channel").embed(images[:4])
    maps = Features(net, "patches", device="cpu").embed(images[:4])
    torch.testing.assert_close(found, maps.unflatten(1, (5, 4)).transpose(1, 2).flatten(1))


def test_errors_of_network_and_preprocess_are_one_line(net, images):
    for metric, message in (
        (Features(net, "trunk", preprocess=lambda x: x.convert("RGB"), device="cpu"), "preprocess takes a tensor"),
        (Features(net, "trunk", preprocess=lambda x: x[:2], device="cpu"), "preprocess .* must return a tensor of 6"),
        (Features(net, "trunk", preprocess=lambda x: x[:, :2], device="cpu"), "Net fails on a batch of shape"),
        (Features(torch.device, "trunk", device="cpu"), r"model must be a torch\.nn\.Module, got type"),
    ):
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            metric.embed(images[:6])
        assert "\n" not in str(caught.value)


def test_the_image_whose_features_are_zero_is_named(net, images):
    nn.init.constant_(net.trunk[0].bias, 0)
    some = images[:6].copy(deep=True)
    some[4] = 0
    with pytest.raises(ValueError, match=f"1 of 6 images .* such as image {some.stimulus.values[4]};"):
        Features(net, "trunk.0", device="cpu").embed(some)


class FirstAlone(nn.Module):
    """Answers to the first image only."""

    def __init__(self):
        super().__init__()
        self.first = nn.Identity()

    def forward(self, x):
        return self.first(x[:1].flatten(1))


def test_a_layer_that_answers_to_fewer_images_is_refused(images):
    metric = Features(FirstAlone(), "first", device="cpu")
    metric._checked = True  # the first batch may have been of one image
    with pytest.raises(ValueError, match=r"'first' returned an output of shape \(1, .* for 4 images"):
        metric.embed(images[:4])
