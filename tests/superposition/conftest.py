"""Toy worlds, shared by the tests of this room."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import Precomputed
from neurosuper.demo.superposed import superposed


@pytest.fixture(scope="module")
def world():
    """A toy world with known features."""
    return superposed(n_features=60, n_units=20, n_stimuli=400, active=0.1, random_state=1)


@pytest.fixture(scope="package")
def label_world():
    """Return responses, images without content, and a metric, of values `(stimulus, unit)` and features of stimuli.

    Two images are at distance 1 if their features differ, and 0.2 times the difference of a random number more.
    """

    def make(values: np.ndarray, features: np.ndarray, seed: int = 0):
        n, n_units = values.shape
        labels = [f"s{i:04d}" for i in range(n)]
        coords = {"stimulus": labels, "unit": [f"u{i:03d}" for i in range(n_units)]}
        noise = np.random.default_rng(seed).random(n)
        table = (features[:, None] != features) + 0.2 * np.abs(noise[:, None] - noise)
        distances = xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other"))
        blank = np.zeros((n, 1, 1, 3), np.uint8)
        images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
        return xr.DataArray(values, coords, ("stimulus", "unit")), images, Precomputed(distances)

    return make
