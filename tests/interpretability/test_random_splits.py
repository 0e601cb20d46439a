import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper.interpretability.random_splits import draw_splits, index_of_sets, top_in_groups
from neurosuper.interpretability.ranking import top_stimuli
from neurosuper.metrics.distances import DistanceMatrix


def test_groups_are_equal_in_size_and_every_split_is_different(rng):
    labels = np.array([f"s{i}" for i in range(11)])
    splits = draw_splits(labels, 4, 20, rng)
    assert splits.dims == ("draw", "stimulus")
    assert {tuple(np.bincount(draw)) for draw in splits.values} == {(3, 3, 3, 2)}
    assert len({tuple(draw) for draw in splits.values}) == 20


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([2, 4]), st.integers(2, 5), st.integers(20, 90))
def test_top_in_groups_are_top_stimuli_of_each(seed, n_groups, top, n_stimuli):
    rng = np.random.default_rng(seed)
    labels = [f"s{i}" for i in range(n_stimuli)]
    codes = xr.DataArray(
        rng.normal(size=(n_stimuli, 3)), {"stimulus": labels, "unit": list("abc")}, ("stimulus", "unit")
    )
    splits = draw_splits(codes.stimulus.values, n_groups, 3, rng)
    found = codes.stimulus.values[top_in_groups(codes, splits, top)]
    for draw in range(3):
        for group in range(n_groups):
            members = codes[splits.values[draw] == group]
            np.testing.assert_array_equal(found[draw, group].T, top_stimuli(members, top=top))


def test_copies_of_a_photograph_are_in_one_group(rng):
    photographs = np.arange(40) // 2
    splits = draw_splits(np.arange(40).astype(str), 4, 10, rng, photographs)
    np.testing.assert_array_equal(splits[:, ::2], splits[:, 1::2])
    assert {tuple(np.bincount(draw)) for draw in splits.values} == {(10, 10, 10, 10)}


def test_for_sets_that_saw_the_same_stimuli_the_splits_are_those_of_one_set():
    """Also bit for bit those that a permutation of equally many marks gives."""
    labels, photographs = np.arange(14).astype(str), np.array([0, 1, 2, 2, *range(3, 13)])
    seen = [None, np.ones((13, 1), bool), np.ones((13, 3), bool)]
    drawn = [draw_splits(labels, 2, 9, np.random.default_rng(5), photographs, each).values for each in seen]
    marks = np.broadcast_to((np.arange(13) % 2).astype(np.int8), (9, 13))
    expected = np.random.default_rng(5).permuted(marks, axis=1)[:, photographs]
    for each in drawn:
        np.testing.assert_array_equal(each, expected)


def saw(counts, rng):
    """Return which photographs `(photograph, set)` each set saw, in a random order, from `counts` by the sets."""
    rows = [row for row, n in counts.items() for _ in range(n)]
    return np.array(rows, bool)[rng.permutation(len(rows))]


def imbalance(splits, shown):
    """Return the largest difference in size `(draw, set)` between the groups of each set."""
    counts = np.stack([(splits.values == group) @ shown.astype(int) for group in range(splits.n_groups)])
    return counts.max(0) - counts.min(0)


@pytest.mark.parametrize("n_groups", [2, 4])
def test_of_two_sets_with_any_overlap_each_is_divided_equally(n_groups, rng):
    """By brute force over 0 to 4 stimuli that both, only the first, and only the second saw."""
    for both, first, second in itertools.product(range(5), repeat=3):
        if both + first and both + second:
            shown = saw({(1, 1): both, (1, 0): first, (0, 1): second}, rng)
            splits = draw_splits(np.arange(len(shown)).astype(str), n_groups, 6, rng, None, shown)
            assert imbalance(splits, shown).max() <= 1


PATTERNS = [row for row in itertools.product([False, True], repeat=3) if any(row)]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10**6), st.lists(st.integers(0, 5), min_size=7, max_size=7).filter(any), st.permutations(range(3))
)
def test_stimuli_that_the_same_sets_saw_are_divided_equally_in_any_order_of_the_sets(seed, counts, order):
    rng = np.random.default_rng(seed)
    shown = saw(dict(zip(PATTERNS, counts, strict=True)), rng)
    labels = np.arange(len(shown)).astype(str)
    splits = draw_splits(labels, 2, 8, np.random.default_rng(seed), None, shown)
    again = draw_splits(labels, 2, 8, np.random.default_rng(seed), None, shown[:, list(order)])
    xr.testing.assert_identical(splits, again)
    of_strata = np.stack([(shown == row).all(1) for row in PATTERNS], axis=1)
    assert imbalance(splits, of_strata).max() <= 1
    # By brute force over both groups for the stimulus that is left over in each stratum.
    odd = np.array(PATTERNS)[np.array(counts) % 2 == 1].astype(int)
    signs = np.array(list(itertools.product([-1, 1], repeat=len(odd))))
    assert imbalance(splits, shown).max() <= np.abs(signs @ odd).max(1).min()


def test_any_two_stimuli_are_in_one_half_as_often_as_the_sizes_imply(rng):
    """Of 4,000 draws, a share has the standard error 0.8 %. Both sets saw 3, the first alone 5, the second alone 4."""
    shown = saw({(1, 1): 3, (1, 0): 5, (0, 1): 4}, rng)
    drawn = draw_splits(np.arange(12).astype(str), 2, 4000, rng, None, shown).values
    assert abs(drawn.mean(0) - 0.5).max() < 0.04
    stratum = shown @ [2, 1]  # 3 both, 2 the first, 1 the second
    together = (drawn[:, :, None] == drawn[:, None]).mean(0)
    # Of n = 2k + 1 in halves of k + 1 and k, two are together in k/n of draws; of 4 in 1/3. The one that is left over
    # of the 3 and that of the 5 are on opposite sides, which lowers 1/2 by 1/(2 × 3 × 5).
    expected = {(3, 3): 1 / 3, (2, 2): 2 / 5, (1, 1): 1 / 3, (2, 3): 1 / 2 - 1 / 30, (1, 3): 1 / 2, (1, 2): 1 / 2}
    for i, j in itertools.combinations(range(12), 2):
        assert abs(together[i, j] - expected[tuple(sorted((stratum[i], stratum[j])))]) < 0.035


def test_a_group_of_the_lowest_codes_has_its_top_stimuli_too():
    labels = [f"s{i:03d}" for i in range(200)]
    codes = xr.DataArray(-np.arange(200.0)[:, None], {"stimulus": labels, "unit": ["a"]}, ("stimulus", "unit"))
    marks = (np.arange(200) >= 196).astype(int)[None]
    splits = xr.DataArray(marks, {"stimulus": labels}, ("draw", "stimulus"), attrs={"n_groups": 2})
    assert top_in_groups(codes, splits, 3).tolist() == [[[[0, 1, 2]], [[196, 197, 198]]]]
    assert top_in_groups(codes, splits, 4)[0, 1].tolist() == [[196, 197, 198, 199]]
    with pytest.raises(ValueError, match="one of 2 random groups has 4, and an index needs 5; lower `top`"):
        top_in_groups(codes, splits, 5)


def test_stimuli_without_a_code_are_named(rng):
    labels = [f"s{i}" for i in range(6)]
    codes = xr.DataArray(rng.normal(size=(6, 6)), {"stimulus": labels, "unit": list("abcdef")}, ("stimulus", "unit"))
    codes[4, 1] = np.nan
    with pytest.raises(ValueError, match="^no code for stimulus 's4'; leave it out$"):
        top_in_groups(codes, draw_splits(np.array(labels), 2, 1, rng), 2)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1, 2)], ids=["more items than ranks", "fewer"])
def test_the_index_of_sets_is_self_similarity_minus_the_mean_distance(shape, rng):
    """Oracle: a loop over draws, groups and items, and over the pairs of each."""
    table = rng.random((9, 9))
    table = table + table.T
    np.fill_diagonal(table, 0)
    positions = np.stack([rng.permutation(9)[:5] for _ in range(np.prod(shape))]).reshape(*shape, 5)
    index = index_of_sets(DistanceMatrix(table), positions, 1.0)
    assert index.shape == shape
    for place in np.ndindex(shape):
        at = positions[place]
        mean = np.mean([table[i, j] for k, i in enumerate(at) for j in at[:k]])
        np.testing.assert_allclose(index[place], 1 - mean, rtol=1e-12)
