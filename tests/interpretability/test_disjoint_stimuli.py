"""The reliability of the index equals a loop over sets of stimuli, and is that of planted items."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import t

from neurosuper import Color, Precomputed, interpretability_index
from neurosuper.interpretability import index_reliability
from neurosuper.interpretability.disjoint_stimuli import _draw_pairs


def make_world(rng, n_stimuli, n_items, tuned):
    """Items that follow the category of a stimulus, on which distances depend, by less or more of their variance."""
    feature = rng.integers(0, 10, n_stimuli)
    share = tuned * np.linspace(0, 1, n_items)
    preferred = feature[:, None] == np.arange(n_items) % 10
    values = 3 * share * preferred + np.sqrt(1 - share**2) * rng.normal(size=(n_stimuli, n_items))
    labels = [f"s{i:04d}" for i in range(n_stimuli)]
    codes = xr.DataArray(values, {"stimulus": labels, "unit": np.arange(n_items).astype(str)}, ("stimulus", "unit"))
    other = rng.random(n_stimuli)
    table = xr.DataArray(
        (feature[:, None] != feature) + 0.2 * np.abs(other[:, None] - other),
        {"stimulus": labels, "other": labels},
        ("stimulus", "other"),
    )
    blank = np.zeros((n_stimuli, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    return codes, images, Precomputed(table)


def test_it_is_the_correlation_of_the_index_between_sets_without_a_common_stimulus(rng):
    codes, images, metric = make_world(rng, 60, 8, 0.9)
    result = index_reliability(codes, images, metric, sizes=[20], top=3, n_resamples=10, confidence_level=0.9)
    splits = _draw_pairs(codes, np.arange(60), 20, 10, np.random.default_rng(0)).values
    assert all(np.bincount(draw).tolist() == [20, 20, 20] for draw in splits)
    x, y = (
        np.array([interpretability_index(codes[draw == k], images, metric, top=3).values for draw in splits])
        for k in (0, 1)
    )
    on_all = interpretability_index(codes, images, metric, top=3)

    def mean_r(x, y):
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])

    r = mean_r(x, y)
    assert_allclose(result.reliability, r)
    assert_allclose(result.spearman_brown, 2 * r / (1 + r))
    assert_allclose(result.with_all, np.mean([np.corrcoef(own, on_all)[0, 1] for own in [*x, *y]]))
    z = np.arctanh([mean_r(np.delete(x, i, 1), np.delete(y, i, 1)) for i in range(8)])
    margin = t.isf(0.05, 7) * np.sqrt(7 * z.var())
    limits = np.tanh(np.arctanh(r) + margin * np.array([-1, 1]))
    assert_allclose([result.reliability_low[0], result.reliability_high[0]], limits)
    assert_allclose(result.spearman_brown_low, 2 * limits[0] / (1 + limits[0]))
    assert (result.n_items, result.n_stimuli, result["size"].item()) == (8, 60, 20)


def test_items_that_differ_are_reliable_and_items_of_noise_are_not(rng):
    codes, images, metric = make_world(rng, 400, 40, 0.95)
    tuned = index_reliability(codes, images, metric)
    assert tuned["size"].values.tolist() == [25, 50, 100, 200]
    assert (tuned.reliability.diff("size") > 0).all()
    assert tuned.reliable_enough[-1]
    assert tuned.reliability[-1] > 0.6
    codes, images, metric = make_world(rng, 400, 40, 0.0)
    noise = index_reliability(codes, images, metric)
    assert not noise.reliable_enough.any()
    assert (noise.reliability_low < 0).all()
    assert (np.abs(noise.reliability) < 0.2).all()


def test_an_interval_covers_the_reliability_of_other_items():
    """Of 60 sets of 30 items of a population, with one set of stimuli."""
    rng = np.random.default_rng(0)
    codes, images, metric = make_world(rng, 200, 1800, 0.95)
    truth = index_reliability(codes, images, metric, sizes=100, n_resamples=10).reliability.item()
    covered = []
    for i in range(60):
        own = index_reliability(codes[:, i::60], images, metric, sizes=100, n_resamples=10)
        covered.append(own.reliability_low.item() < truth < own.reliability_high.item())
    assert np.mean(covered) > 0.85


def test_bad_input_is_refused_with_a_reason(rng):
    codes, images, metric = make_world(rng, 40, 6, 0.9)
    with pytest.raises(ValueError, match="a correlation over items needs at least 4, got 3; score more items"):
        index_reliability(codes[:, :3], images, metric)
    with pytest.raises(ValueError, match=r"sizes must increase from at least top = 5 to at most 20, half of the stim"):
        index_reliability(codes, images, metric, sizes=[10, 21])
    with pytest.raises(ValueError, match=r"sizes must increase from at least top = 5.*got \[4, 10\]"):
        index_reliability(codes, images, metric, sizes=[4, 10])
    with pytest.raises(ValueError, match="top must be a whole number from 2 to 20, half of the 40 stimuli, got 30"):
        index_reliability(codes, images, metric, top=30)
    same = images.assign_coords(stimulus=codes.stimulus.values)
    with pytest.raises(ValueError, match="all items have the same index on some set of stimuli"):
        index_reliability(codes, same, Color(device="cpu"))
