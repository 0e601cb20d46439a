"""What every comparison of two systems refuses, in one line each."""

import itertools

import numpy as np
import pytest
import xarray as xr

from neurosuper.comparison.shared_stimuli import common_systems, shuffle_stimuli_order

RNG = np.random.default_rng(0)
A = xr.DataArray(
    RNG.normal(size=(20, 3)), {"stimulus": [f"s{i:02d}" for i in range(20)], "unit": list("uvw")}, ("stimulus", "unit")
)


@pytest.mark.parametrize("dtype", [complex, object])
def test_numbers_that_are_not_real_are_refused(dtype):
    with pytest.raises(TypeError, match=f"must be real numbers, got dtype {np.dtype(dtype)}"):
        common_systems(A.astype(dtype), A, 8)


def test_a_system_without_items_is_refused():
    with pytest.raises(ValueError, match="a system has no unit; at least 1 is needed"):
        common_systems(A, A[:, :0], 8)


@pytest.mark.parametrize("factor", [1e100, 1e-100])
def test_values_whose_products_would_overflow_are_refused(factor):
    changed = A * np.array([1, factor, 1])
    with pytest.raises(ValueError, match=r"values of unit 'v' are up to .* use another unit of measurement"):
        common_systems(changed, A, 8)


@pytest.mark.parametrize("factor", [1e30, 1e-30])
def test_large_and_small_units_of_measurement_are_kept(factor):
    changed, _ = common_systems(A * factor, A, 8)
    np.testing.assert_array_equal(changed, A * factor)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64, np.uint8])
def test_any_real_numbers_are_taken(dtype):
    counts = (4 * A + 20).astype(dtype)
    np.testing.assert_array_equal(common_systems(counts, A, 8)[0], counts)


def test_whole_groups_change_places_with_others_of_their_size():
    groups = np.repeat(["p", "q", "r", "s", "t"], [3, 3, 3, 2, 1])
    orders = [shuffle_stimuli_order(12, groups, np.random.default_rng(seed)) for seed in range(60)]
    for order in orders:
        assert sorted(order) == list(range(12))
        for group in np.unique(groups):
            moved = order[groups == group]
            assert len(set(groups[moved])) == 1
            assert (np.diff(moved) == 1).all()  # in the same order within
    assert {tuple(groups[order[:9:3]]) for order in orders} == set(itertools.permutations("pqr"))
    assert all((order[9:] == [9, 10, 11]).all() for order in orders)  # no others of their sizes


def test_codes_with_repetitions_keep_the_name_of_their_items():
    repeated = xr.concat([A, A + 1], "repetition").assign_coords(repetition=[0, 1]).rename(unit="direction")
    checked, _ = common_systems(repeated, A, 8, repeated=True)
    assert checked.dims == ("stimulus", "repetition", "direction")
