import itertools

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.optimize import fsolve
from scipy.spatial.distance import pdist, squareform

from neurosuper import Color, Label, Precomputed, interpretability_index
from neurosuper.interpretability import (
    frequency_floor,
    index_difference,
    index_interval,
    sampled_floors,
)
from neurosuper.interpretability.random_splits import draw_splits
from neurosuper.interpretability.sampled_sets import score_sets
from neurosuper.metrics.distances import DistanceMatrix


def study(rng, n_stimuli=80, n_items=8, preference=1.0):
    """Return codes of items that share a preference for plain images, whose distances are small, and the images."""
    plain = rng.normal(size=n_stimuli)
    content = np.exp(-0.4 * plain)[:, None] * rng.normal(size=(n_stimuli, 5))
    labels = [f"s{i:03d}" for i in range(n_stimuli)]
    table = squareform(pdist(content))
    metric = Precomputed(xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    blank = np.zeros((n_stimuli, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    values = preference * plain[:, None] + rng.normal(size=(n_stimuli, n_items))
    units = [f"u{i}" for i in range(n_items)]
    return xr.DataArray(values, {"stimulus": labels, "unit": units}, ("stimulus", "unit")), images, metric, table


def floor_of_counts(table, f, start=None):
    """Return the floor of images that are picked f times each (fractions too), by a solver of equations and loops."""
    picked = np.flatnonzero(f)
    f = f[picked]
    x = fsolve(lambda x: x * (x.sum() - x) - f, f / np.sqrt(f.sum()), xtol=1e-13)
    pairs = [(x[i] * x[j], table[picked[i], picked[j]]) for i, j in itertools.combinations(range(len(f)), 2)]
    weights, distances = np.array(pairs).T
    return -np.average(distances, weights=weights)


def above_floor(codes, images, metric, top):
    index = interpretability_index(codes, images, metric, top=top).mean()
    return float(index - frequency_floor(codes, images, metric, top=top))


def test_the_floor_of_an_item_is_that_of_the_set_and_its_change_with_more_of_the_item(rng):
    tops = np.stack([[rng.choice(12, 4, replace=False) for _ in range(6)] for _ in range(3)])
    table = squareform(pdist(rng.normal(size=(12, 3))))
    floors, _ = sampled_floors.floors_of_sets(DistanceMatrix(table), tops, 12)
    step = 1e-4
    for of_set, expected in zip(tops, floors, strict=True):
        picks = np.stack([np.bincount(best, minlength=12) for best in of_set])
        whole = floor_of_counts(table, picks.sum(0).astype(float))
        assert_allclose(expected.mean(), whole, rtol=1e-6)
        for item, floor in enumerate(expected):
            # the mean over 6 items has the derivative (floor of the item − floor) / 6 by the weight of one
            more, less = (floor_of_counts(table, picks.sum(0) + sign * step * picks[item]) for sign in (1, -1))
            assert_allclose(floor, whole + 6 * (more - less) / (2 * step), rtol=1e-4)


@pytest.mark.parametrize("top", [2, 3], ids=["half of the picks", "a third of the picks"])
def test_an_image_in_every_pair_leaves_the_floors_finite_and_their_mean_right(top, rng):
    """With three, the weights of this image and of all others become equal, where the change has a limit."""
    tops = np.stack([[0, *1 + rng.choice(20, top - 1, replace=False)] for _ in range(10)])[None]
    table = squareform(pdist(rng.normal(size=(21, 3))))
    floors, terms = sampled_floors.floors_of_sets(DistanceMatrix(table), tops, 21)
    pairs = [table[i, j] for best in tops[0] for i, j in itertools.combinations(best, 2) if 0 in (i, j)]
    assert np.isfinite(floors).all()
    assert np.isfinite(terms).all()
    if top == 2:  # all ways to share out the picks pair this image with each other pick
        assert_allclose(floors.mean(), -np.mean(pairs), rtol=0.02)


def test_halves_are_scored_above_the_floor_of_their_own_picks(rng):
    """Oracle: each half by itself, through the public functions."""
    codes, images, metric, _ = study(rng)
    (scores,), attrs = score_sets(
        [codes],
        images,
        metric,
        top=4,
        n_resamples=6,
        stimulus_groups=None,
        random_state=0,
        correction="floor",
    )
    halves = draw_splits(codes.stimulus.values, 2, 6, np.random.default_rng(0)).values
    for draw, half in itertools.product(range(6), (0, 1)):
        own = codes[halves[draw] == half]
        assert_allclose(scores.of_halves[draw, half].mean(), above_floor(own, images, metric, 4), atol=1e-5)
    assert_allclose(scores.scores.mean(), above_floor(codes, images, metric, 4), atol=1e-6)
    assert attrs["correction"] == "floor"
    assert attrs["quantity"].endswith(", above the frequency floor")


def test_the_influence_of_a_stimulus_is_the_change_without_it_to_first_order(rng):
    codes, images, metric, _ = study(rng, n_stimuli=200, n_items=30, preference=0.7)
    settings = {"top": 5, "n_resamples": 10, "stimulus_groups": None, "random_state": 0}
    (scores,), _ = score_sets([codes], images, metric, correction="floor", **settings)
    whole = above_floor(codes, images, metric, 5)
    changes = [
        above_floor(codes.sel(stimulus=codes.stimulus != label), images, metric, 5) - whole
        for label in codes.stimulus.values
    ]
    assert np.corrcoef(scores.influence, changes)[0, 1] > 0.98
    assert_allclose(np.std(scores.influence), np.std(changes), rtol=0.1)


def test_memory_is_bounded_by_blocks_that_change_nothing(rng, monkeypatch):
    codes, images, metric, _ = study(rng)
    whole = index_interval(codes, images, metric, n_resamples=30, correction="floor")
    monkeypatch.setattr(sampled_floors, "MAX_BLOCK_BYTES", 8 * 80 * 2 * 7)
    xr.testing.assert_allclose(index_interval(codes, images, metric, n_resamples=30, correction="floor"), whole)


@pytest.mark.parametrize("metric", [Color(device="cpu"), Label(device="cpu")], ids=lambda metric: metric.name)
def test_distances_and_agreements_are_above_their_floor_alike(metric, responses, images):
    result = index_interval(responses, images, metric, correction="floor")
    assert_allclose(result.interpretability, above_floor(responses, images, metric, 5), atol=1e-5)
    assert result.scale == "linear"
    assert result.interpretability_low < result.interpretability < result.interpretability_high


def test_items_that_all_pick_the_same_images_are_at_their_floor_without_error(make_responses, images, rng):
    codes = make_responses(np.repeat(rng.normal(size=(len(images), 1)), 3, axis=1))
    result = index_interval(codes, images, Color(), correction="floor")
    assert_allclose([result.interpretability, result.standard_error], 0, atol=1e-6)


def test_a_difference_is_that_of_two_sets_above_their_floors(rng):
    codes, images, metric, _ = study(rng, n_items=16)
    a, b = codes[:, :8], codes[:, 8:]
    result = index_difference(a, b, images, metric, correction="floor")
    expected = above_floor(a, images, metric, 5) - above_floor(b, images, metric, 5)
    assert_allclose(result.difference, expected, atol=1e-6)


@pytest.mark.parametrize("preference", [0.0, 1.0], ids=["random picks", "a shared preference"])
def test_sets_without_features_are_at_their_floor_on_average(preference):
    """Of 40 studies, the mean in standard errors has a standard error of at most 0.16, and 1 is above at 2.5 %."""
    studies = [study(np.random.default_rng(seed), 100, 10, preference)[:3] for seed in range(40)]
    results = [index_interval(*each, n_resamples=50, correction="floor") for each in studies]
    z = np.array([float(each.interpretability / each.standard_error) for each in results])
    assert abs(z.mean()) < 0.5
    assert 0.4 < z.std() < 1.2
    assert sum(bool(each.interpretability_low > 0) for each in results) <= 4


def test_other_corrections_are_refused(rng):
    codes, images, metric, _ = study(rng)
    with pytest.raises(ValueError, match="correction must be 'hub', 'floor' or None, got 'floors'"):
        index_interval(codes, images, metric, correction="floors")
