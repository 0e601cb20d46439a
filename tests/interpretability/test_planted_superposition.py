"""24 image features in superposition in 16 units: both scores rank planted directions, units, random directions.

Each feature drives four units, each unit six features; all features are in every image, few of them strongly.
"""

import numpy as np
import pytest
import torch
import xarray as xr

from neurosuper import Color, Features, Pixel, Random, interpretability_index, load_images, psychophysics
from neurosuper.inference import permutation_test

N_FEATURES, N_UNITS, N_IMAGES, SIZE = 24, 16, 2000, 8


class Smaller(torch.nn.Module):
    """A network whose features are the image at half the size, about grey."""

    def __init__(self):
        super().__init__()
        self.small = torch.nn.AvgPool2d(2)

    def forward(self, images):
        return self.small(images - 0.5) + 0.05


def make_patterns(rng, channels):
    """Return patterns `(feature, row, column, channel)` of 2 × 2 patches; grey ones are as bright as dark."""
    patches = np.sign(rng.permuted(np.tile(np.linspace(-1, 1, (SIZE // 2) ** 2), (N_FEATURES, channels, 1)), axis=2))
    grid = patches.reshape(N_FEATURES, channels, SIZE // 2, SIZE // 2).repeat(2, axis=2).repeat(2, axis=3)
    if channels == 3:
        grid = grid * 0.2 + rng.choice([-1, 1], (N_FEATURES, 3, 1, 1))
    return np.broadcast_to(np.moveaxis(grid, 1, 3), (N_FEATURES, SIZE, SIZE, 3))


@pytest.fixture
def planted(kind):
    """Images with grey patterns or colors, and codes `(stimulus, direction)` of planted ones, units and random ones."""
    rng = np.random.default_rng(0)
    strength = rng.exponential(1, (N_IMAGES, N_FEATURES))
    strength /= np.linalg.norm(strength, axis=1, keepdims=True)
    patterns = make_patterns(rng, 1 if kind == "grey" else 3)
    pixels = 127.5 + 40 * np.tensordot(strength, patterns, 1)
    images = load_images(np.clip(np.round(pixels), 0, 255).astype(np.uint8))
    drives = rng.permuted(np.tile(np.arange(N_UNITS) < 4, (N_FEATURES, 1)), axis=1)
    directions = drives * rng.uniform(0.7, 1, (N_FEATURES, N_UNITS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    R = xr.DataArray(
        strength @ directions + 0.02 * rng.normal(size=(N_IMAGES, N_UNITS)),
        dims=("stimulus", "unit"),
        coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(N_UNITS)]},
    )
    labels = {"stimulus": images.stimulus, "direction": [f"feature {i}" for i in range(N_FEATURES)]}
    codes = {
        "planted": xr.DataArray(R.values @ directions.T, dims=("stimulus", "direction"), coords=labels),
        "units": R.rename(unit="direction"),
        "random": Random("2x").fit_transform(R),
    }
    return images, codes


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("grey", Pixel(device="cpu")),
        ("grey", Features(Smaller(), "small", device="cpu")),
        ("grey", Color(device="cpu")),  # sees nothing: all images are as bright
        ("color", Pixel(device="cpu")),
        ("color", Color(device="cpu")),
    ],
    ids=["grey pixels", "grey features", "grey color", "colored pixels", "colored color"],
)
def test_scores_rank_planted_directions_above_units_above_random_ones(kind, metric, planted):
    images, codes = planted
    index = {name: interpretability_index(own, images, metric, top=10) for name, own in codes.items()}
    score = {
        name: psychophysics(own, images, metric, design="paper", pool="mean", slope=4.0, n_trials=40).score[:, 0]
        for name, own in codes.items()
    }
    for found in (index, score):
        planted_mean, units_mean, random_mean = (float(found[name].mean()) for name in ("planted", "units", "random"))
        if kind == "grey" and metric.name == "color":
            assert abs(planted_mean - random_mean) < 0.01
            assert permutation_test(found["planted"], found["random"]).p_value > 0.05
        else:
            assert planted_mean > units_mean > random_mean
            assert permutation_test(found["planted"], found["random"]).p_value < 0.01
