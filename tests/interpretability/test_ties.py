from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import Color, Label, interpretability_index, load_images, top_stimuli
from neurosuper.interpretability import index_interval, make_trials, null_test
from neurosuper.interpretability.random_splits import draw_splits, top_in_groups
from neurosuper.interpretability.ties import GOLDEN, TieOrder, _mix, rank_stimuli
from neurosuper.metrics import pairwise_distances


def silent_but_for(n_active: int, n_stimuli: int, n_items: int, rng: np.random.Generator) -> np.ndarray:
    """Return codes `(stimulus, item)` that are 0 but for a few random stimuli of each item."""
    codes = np.zeros((n_stimuli, n_items))
    for column in codes.T:
        column[rng.choice(n_stimuli, n_active, replace=False)] = rng.exponential(size=n_active) + 0.1
    return codes


@pytest.fixture
def counts(rng):
    """Codes with ties everywhere, the labels of their stimuli in random order."""
    labels = rng.permutation([f"s{i:03d}" for i in range(60)])
    coords = {"stimulus": labels, "unit": [f"u{i}" for i in range(20)]}
    return xr.DataArray(rng.poisson(0.3, (60, 20)).astype(float), coords, ("stimulus", "unit"))


def test_a_label_index_of_nearly_silent_directions_is_that_of_chance(rng):
    """One active stimulus of 500: ranking ties by label made this 0.64, as labels begin with the category."""
    categories = np.repeat([f"category{i}" for i in range(10)], 50)
    labels = [f"{category}_{i:04d}" for i, category in enumerate(categories)]
    images = load_images(rng.integers(0, 255, (500, 2, 2, 3), dtype=np.uint8))
    images = images.assign_coords(stimulus=labels, category=("stimulus", categories))
    coords = {"stimulus": labels, "direction": [f"d{i}" for i in range(300)]}
    codes = xr.DataArray(silent_but_for(1, 500, 300, rng), coords, ("stimulus", "direction"))
    index = interpretability_index(codes, images, Label(), top=5).values
    chance = 49 / 499  # a pair of different images is of one category
    assert abs(index.mean() - chance) < 3 * index.std(ddof=1) / 300**0.5


def test_the_mean_index_over_seeds_is_the_average_over_ties(rng):
    """Closed form: with s stimuli for certain and M − s of t tied ones, a tied stimulus is in with probability
    (M − s)/t, and a pair of them with (M − s)(M − s − 1)/(t(t − 1))."""
    images = load_images(rng.integers(0, 255, (12, 4, 4, 3), dtype=np.uint8))
    column = np.array([3.0, 2.0, *[1.0] * 6, *[0.0] * 4])  # top 4: s = 2, and 2 of t = 6
    coords = {"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(100)]}
    codes = xr.DataArray(np.repeat(column[:, None], 100, axis=1), coords, ("stimulus", "unit"))
    one, both = 2 / 6, 2 / 6 * 1 / 5
    inclusion = np.array([1, 1, *[one] * 6])
    distances = pairwise_distances(images, Color()).values
    average = sum(
        distances[i, j] * (both if i > 1 and j > 1 else inclusion[i] * inclusion[j])
        for i, j in combinations(range(8), 2)
    )
    drawn = [interpretability_index(codes, images, Color(), top=4, random_state=seed) for seed in range(20)]
    assert len(np.unique(np.round(drawn, 9))) == 15  # every pair of the six was drawn
    assert abs(np.mean(drawn) + average / 6) < 3 * np.std(drawn) / 2000**0.5


@pytest.mark.parametrize("top", [5, [3, 5]])
def test_items_with_fewer_active_stimuli_than_top_are_flagged(top, rng):
    images = load_images(rng.integers(0, 255, (40, 4, 4, 3), dtype=np.uint8))
    values = np.concatenate([silent_but_for(n, 40, 2, rng) for n in (3, 5)] + [rng.normal(size=(40, 2))], axis=1)
    coords = {"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(6)]}
    codes = xr.DataArray(values, coords, ("stimulus", "unit"))
    index = interpretability_index(codes, images, Color(), top=top)
    assert index.n_active.values.tolist() == [3, 3, 5, 5, 40, 40]
    assert index.n_items_inactive == 2
    lazy = interpretability_index(codes.chunk({"stimulus": 7}), images, Color(), top=top)
    xr.testing.assert_identical(lazy, index)
    both = interpretability_index(codes, images, Color(), top=top, end="both")
    assert both.n_active.sel(end="bottom").values.tolist() == [0, 0, 0, 0, 40, 40]
    assert both.n_items_inactive == 4
    assert "n_active" not in interpretability_index(codes[:, 2:], images, Color(), top=top).coords


def test_every_tied_stimulus_is_drawn_equally_often():
    """Oracle: the binomial distribution. 4,000 items draw 5 of 40 tied stimuli each."""
    coords = {"stimulus": [f"s{i}" for i in range(40)], "unit": [f"u{i}" for i in range(4000)]}
    codes = xr.DataArray(np.zeros((40, 4000)), coords, ("stimulus", "unit"))
    drawn = np.unique(top_stimuli(codes, top=5).values, return_counts=True)[1]
    chi_squared = ((drawn - 500) ** 2 / (500 * (1 - 5 / 40))).sum() * 39 / 40
    assert 15 < chi_squared < 70  # 39 degrees of freedom: 99.8 % are between 16 and 73


def test_order_of_stimuli_and_items_and_leaving_some_out_change_no_top_stimuli(counts, rng):
    top = top_stimuli(counts, top=8)
    xr.testing.assert_identical(top_stimuli(counts[rng.permutation(60)], top=8), top)
    others = rng.permutation(20)[:7]
    xr.testing.assert_identical(top_stimuli(counts[:, others], top=8), top[:, others])
    kept = np.isin(counts.stimulus, top) | (rng.random(60) < 0.5)
    assert_array_equal(top_stimuli(counts[kept], top=8), top)


def test_seeds_and_items_differ_and_a_seed_repeats(counts):
    same = counts.copy(data=np.repeat(counts.values[:, :1], 20, axis=1))
    top = top_stimuli(same, top=8)
    assert len(np.unique(top.values.T, axis=0)) == 20
    assert_array_equal(top, top_stimuli(same, top=8, random_state=0))
    assert (top != top_stimuli(same, top=8, random_state=1)).any()
    assert (top_stimuli(same, top=8, random_state=None) != top_stimuli(same, top=8, random_state=None)).any()


def test_top_and_bottom_of_tied_codes_share_no_stimulus(counts):
    top, bottom = (top_stimuli(0 * counts, top=30, end=end) for end in ("top", "bottom"))
    assert all(not set(a) & set(b) for a, b in zip(top.values.T, bottom.values.T, strict=True))


def test_top_stimuli_of_groups_break_ties_as_those_of_all_do(counts, rng):
    splits = draw_splits(counts.stimulus.values, 2, 5, rng)
    found = counts.stimulus.values[top_in_groups(counts, splits, 6, seed=3)]
    for draw in range(5):
        for group in range(2):
            members = counts[splits.values[draw] == group]
            assert_array_equal(found[draw, group].T, top_stimuli(members, top=6, random_state=3))


def test_intervals_and_null_tests_break_ties_by_their_own_seed(counts, rng):
    images = load_images(rng.integers(0, 255, (60, 2, 2, 3), dtype=np.uint8))
    images = images.assign_coords(stimulus=counts.stimulus.values)
    means = [interpretability_index(counts, images, Color(), random_state=seed).mean().item() for seed in (0, 3)]
    assert abs(means[0] - means[1]) > 1e-3
    for test in (index_interval, null_test):
        found = [test(counts, images, Color(), n_resamples=19, random_state=seed) for seed in (0, 3)]
        assert_allclose([each.interpretability for each in found], means)


def test_trials_show_the_top_stimuli_of_tied_codes(counts):
    """With one trial and extreme queries, the query and the references of IMI are the top stimuli, in bins of one."""
    made = make_trials(counts, design="imi", n_references=5, n_trials=1, quantiles=(0,), random_state=2)
    for end in ("top", "bottom"):
        shown = np.concatenate(
            [
                made.queries.sel(end=end).squeeze(drop=True).values[:, None],
                made.references.sel(reference_end=end).squeeze(drop=True).transpose("unit", "reference").values,
            ],
            axis=1,
        )
        assert_array_equal(np.sort(shown), np.sort(top_stimuli(counts, top=6, end=end, random_state=2).values.T))


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", bool])
@pytest.mark.parametrize("most", [2, 3, 250, 10**6])
def test_stimuli_are_ranked_by_code_then_by_number(most, dtype, rng):
    values = rng.integers(0, most, (300, 2)).astype(dtype)
    ties = TieOrder(np.arange(300), np.arange(2), seed=1)
    for item, order in enumerate(rank_stimuli(values, ties)):
        keys = zip(-values[:, item].astype(float), ties.numbers(slice(None), item).tolist(), range(300), strict=True)
        assert order.tolist() == [place for *_, place in sorted(keys)]


def test_a_few_equal_codes_after_many_different_ones_are_ranked_by_number_too(rng):
    values = rng.permutation(400)[:, None].astype(float)
    values[200:] = rng.permuted(np.append(np.repeat([1.5, 7.5, 399.5], (2, 3, 4)), np.arange(1000, 1191)))[:, None]
    ties = TieOrder(np.arange(400), np.arange(1), seed=1)
    keys = zip(-values[:, 0], ties.numbers(slice(None), 0).tolist(), range(400), strict=True)
    assert rank_stimuli(values, ties)[0].tolist() == [place for *_, place in sorted(keys)]


def test_numbers_are_those_of_splitmix64():
    """Published outputs for the seed 1234567, whose n-th state is the seed plus n − 1 increments before the mix."""
    states = np.array([1234567], np.uint64) + np.arange(3, dtype=np.uint64) * GOLDEN
    assert _mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_of_different_items_are_uncorrelated():
    ties = TieOrder(np.arange(5000), np.arange(6), seed=0)
    numbers = ties.numbers(np.arange(5000)[:, None], np.arange(6)) / 2.0**64
    assert_allclose(np.corrcoef(numbers.T), np.eye(6), atol=4 / 5000**0.5)
