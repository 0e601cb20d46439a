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
