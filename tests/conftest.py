"""Planted truth and real inputs that tests share."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

LONGEST_FIRST = ("test_tutorials", "test_kills", "test_sae", "test_conformance", "test_files", "test_killed_fetches")


def pytest_configure() -> None:
    """Let tests interrupt processes that they start, also where a job in the background ignores interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take longest, so that no core waits for one of them at the end; skip what needs a GPU."""
    rank = {name: i for i, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in on_gpu:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real inputs; tests are skipped without it, and fail where a file in it is missing."""
    if "NEUROSUPER_TEST_DATA" not in os.environ:
        pytest.skip("NEUROSUPER_TEST_DATA is not set (a folder of real recordings, images and networks)")
    return Path(os.environ["NEUROSUPER_TEST_DATA"]).resolve()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_responses():
    """Make labelled responses from a matrix `(stimulus, unit)`."""

    def make(values: np.ndarray, **coords: object) -> xr.DataArray:
        n_stimuli, n_units = values.shape
        labels = {
            "stimulus": [f"s{i:04d}" for i in range(n_stimuli)],
            "unit": [f"u{i:03d}" for i in range(n_units)],
        }
        return xr.DataArray(
            values, dims=("stimulus", "unit"), coords=labels | coords, name="response", attrs={"units": "spikes/s"}
        )

    return make


@pytest.fixture
def responses(rng, make_responses) -> xr.DataArray:
    """120 stimuli × 8 units, non-negative and skewed like firing rates."""
    return make_responses(rng.gamma(1.0, 5.0, (120, 8)))


@pytest.fixture
def superposition(rng, make_responses) -> tuple[xr.DataArray, xr.DataArray]:
    """Responses of 24 units to 48 sparse features, and the planted directions `(direction, unit)`."""
    n_stimuli, n_units, n_features = 2000, 24, 48
    planted = np.abs(rng.normal(size=(n_features, n_units))) * (rng.random((n_features, n_units)) < 0.4)
    planted += 1e-3
    planted /= np.linalg.norm(planted, axis=1, keepdims=True)
    features = rng.exponential(1.0, (n_stimuli, n_features)) * (rng.random((n_stimuli, n_features)) < 1.5 / n_features)
    noise = 0.05 * rng.normal(size=(n_stimuli, n_units))
    directions = xr.DataArray(
        planted,
        dims=("direction", "unit"),
        coords={
            "direction": [f"feature {i}" for i in range(n_features)],
            "unit": [f"u{i:03d}" for i in range(n_units)],
        },
    )
    return make_responses(features @ planted + noise), directions


@pytest.fixture
def images(rng) -> xr.DataArray:
    """120 images of 16 × 16, labelled as `responses` are, in four categories of distinct colour."""
    category = np.arange(120) % 4
    base = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [180, 180, 60]])[category]
    pixels = np.clip(base[:, None, None, :] + rng.integers(-40, 40, (120, 16, 16, 3)), 0, 255).astype(np.uint8)
    return xr.DataArray(
        pixels,
        dims=("stimulus", "row", "column", "channel"),
        coords={
            "stimulus": [f"s{i:04d}" for i in range(120)],
            "category": ("stimulus", np.array(["red", "green", "blue", "yellow"])[category]),
        },
        name="image",
    )


STUDY = """
title = "A small study"
note = "Made up."
top = 3
seeds = [0, 1]

[images]
path = "images"

[systems.brain]
loader = "load_array"
path = "brain.npy"
dims = ["unit", "stimulus"]
stimuli = "images"
truth = "planted.nc"

[systems.net]
loader = "activations"
model = "network.py:build"
model_args = { channels = 6 }
layers = ["first", "second"]
position = "mean"
batch_size = 8

[finders.Units]

[finders."KMeans 4"]
finder = "KMeans"
n_directions = 4

[metrics.color]
metric = "Color"

[metrics.Pixel]
"""

NETWORK = """
import torch
from torch import nn


def build(channels):
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(3, channels, 3))
    model.add_module("second", nn.Conv2d(channels, channels, 3))
    for i, weight in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(i)
        weight.data = torch.randn(weight.shape, generator=generator)
    model.first.weight.data[0] = 0
    model.first.bias.data[0] = 1
    return model


def halve(images):
    return images.half()
"""


@pytest.fixture
def study(tmp_path, rng):
    """A folder with 40 images, a brain of 5 units, a network whose first unit is constant, and a study file."""
    (tmp_path / "images").mkdir()
    for i in range(40):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"photo{i:02d}.png")
    np.save(tmp_path / "brain.npy", rng.gamma(1, 5, (5, 40)))
    planted = xr.DataArray(np.eye(2, 5), dims=("direction", "unit"))
    planted = planted.assign_coords(direction=["f", "g"], unit=list("01234"))
    planted.to_netcdf(tmp_path / "planted.nc")
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"
