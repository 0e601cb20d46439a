"""Worlds in which items prefer plain images, and worlds in which they prefer features."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

from neurosuper import Precomputed
from neurosuper.interpretability import index_difference, index_interval

N_IMAGES, N_ITEMS, N_FEATURES, N_DIMS = 300, 20, 15, 40


class World:
    """Images of sparse features and different contrast; the less the contrast, the nearer an image is to all others."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        directions = rng.normal(size=(N_FEATURES, N_DIMS))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.features = rng.exponential(size=(N_IMAGES, N_FEATURES)) * (rng.random((N_IMAGES, N_FEATURES)) < 0.12)
        content = 1.2 * self.features @ directions + rng.normal(size=(N_IMAGES, N_DIMS)) / N_DIMS**0.5
        table = squareform(pdist(rng.lognormal(0, 0.5, N_IMAGES)[:, None] * content, "sqeuclidean"))
        self.h = table.sum(1) / (N_IMAGES - 1)
        labels = [f"s{i:03d}" for i in range(N_IMAGES)]
        self.metric = Precomputed(xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
        blank = np.zeros((N_IMAGES, 1, 1, 3), np.uint8)
        self.images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))

    def items(self, signal, noise):
        values = (signal - signal.mean(0)) / signal.std(0) + noise * self.rng.normal(size=(N_IMAGES, N_ITEMS))
        coords = {"stimulus": self.images.stimulus.values, "unit": [f"u{i:02d}" for i in range(N_ITEMS)]}
        return xr.DataArray(values, coords, ("stimulus", "unit"))

    def plain(self):
        return self.items(-self.h[:, None], 2.0)

    def of_features(self):
        return self.items(self.features[:, np.arange(N_ITEMS) % N_FEATURES], 0.4)

    def none(self):
        return self.items(self.rng.normal(size=(N_IMAGES, N_ITEMS)), 0.0)

    def above_random(self, codes, correction):
        """Return how many standard errors a set is above one that ignores the images, and its p."""
        result = index_difference(codes, self.none(), self.images, self.metric, correction=correction)
        return float(result.difference / result.standard_error), float(result.p_value)

    def above_floor(self, codes):
        """Return how many standard errors a set is above its frequency floor, and whether the interval is."""
        result = index_interval(codes, self.images, self.metric, correction="floor")
        return float(result.interpretability / result.standard_error), bool(result.interpretability_low > 0)


def test_items_that_pick_plain_images_are_above_random_ones_only_before_correction():
    """On average over ten worlds, in standard errors of each."""
    z = []
    for seed in range(10):
        world = World(seed)
        plain = world.plain()
        raw, corrected = (world.above_random(plain, correction)[0] for correction in (None, "hub"))
        z.append((raw, corrected, world.above_floor(plain)[0]))
    raw, corrected, above_floor = np.mean(z, axis=0)
    assert raw > 1.5
    assert abs(corrected) < 1
    assert abs(above_floor) < 0.5


def test_items_of_planted_features_are_found_by_both_corrections():
    world = World(1)
    found = world.of_features()
    assert world.above_random(found, "hub")[0] > 3
    assert world.above_floor(found)[0] > 3


@pytest.mark.slow
def test_in_many_worlds_plain_images_are_seldom_taken_for_features():
    """Of 40 worlds: raw, most sets that pick plain images are above random ones; by both corrections at most one is."""
    counts = dict.fromkeys(("raw", "both", "features"), 0)
    for seed in range(40):
        world = World(seed)
        plain, found = world.plain(), world.of_features()
        is_found = {}
        for name, codes in (("plain", plain), ("features", found)):
            z, p = world.above_random(codes, "hub")
            is_found[name] = z > 0 and p < 0.05
        z, p = world.above_random(plain, None)
        counts["raw"] += z > 0 and p < 0.05
        counts["both"] += is_found["plain"] and world.above_floor(plain)[1]
        counts["features"] += is_found["features"] and world.above_floor(found)[1]
    assert counts["raw"] > 12, counts
    assert counts["both"] <= 1, counts
    assert counts["features"] >= 39, counts
