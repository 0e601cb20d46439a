import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neurosuper import top_stimuli
from neurosuper.interpretability.ties import TieOrder


def code_matrix(values) -> xr.DataArray:
    n_stimuli, n_units = np.shape(values)
    labels = [f"s{i:02d}" for i in range(n_stimuli)]
    coords = {"stimulus": labels, "unit": [f"u{i}" for i in range(n_units)]}
    return xr.DataArray(np.asarray(values), dims=("stimulus", "unit"), coords=coords)


def brute_force(column: np.ndarray, ties: np.ndarray, labels: np.ndarray, n: int, sign: int) -> list[str]:
    rows = [row for row in zip(column, ties.tolist(), labels, strict=True) if not np.isnan(row[0])]
    return [label for *_, label in sorted(rows, key=lambda row: (-row[0], row[1]))[::sign][:n]]


@settings(deadline=None, max_examples=50)
@given(
    values=arrays(np.float32, (12, 3), elements=st.sampled_from([0, 1, 2, 3, np.nan])),
    seed=st.integers(0, 99),
    end=st.sampled_from(["top", "bottom"]),
)
def test_equals_sorting_by_code_then_random_number(values, seed, end):
    codes = code_matrix(values)[np.random.default_rng(seed).permutation(12)]
    enough = int(codes.notnull().sum("stimulus").min())
    if enough:
        n = min(5, enough)
        top = top_stimuli(codes, top=n, end=end, random_state=seed)
        ties = TieOrder(codes.stimulus.values, codes.unit.values, seed)
        for i, unit in enumerate(codes.unit.values):
            column, numbers = codes.sel(unit=unit), ties.numbers(slice(None), i)
            expected = brute_force(column.values, numbers, column.stimulus.values, n, 1 if end == "top" else -1)
            assert top.sel(unit=unit).values.tolist() == expected


@pytest.mark.parametrize("chunk", [2, 5, 120])
def test_dask_blocks_give_the_same(chunk, responses):
    coarse = responses.round(-1)
    lazy = coarse.copy(data=da.from_array(coarse.values, chunks=(chunk, -1)))
    xr.testing.assert_identical(top_stimuli(lazy, top=7), top_stimuli(coarse, top=7))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, bool, np.float16])
def test_counts_of_any_dtype_rank_by_size(dtype):
    codes = code_matrix(np.array([[0], [5], [9], [2], [-128 if dtype == np.int8 else 0]]).astype(dtype))
    chosen = top_stimuli(codes, top=2).values.ravel().tolist()
    assert set(chosen) < {"s01", "s02", "s03"} if dtype is bool else chosen == ["s02", "s01"]


@pytest.mark.parametrize("end", ["top", "bottom"])
def test_bottom_has_the_smallest_codes_and_codes_are_returned(end, responses):
    chosen = top_stimuli(responses, top=4, end=end)
    for unit in responses.unit.values:
        column = responses.sel(unit=unit).sortby(responses.sel(unit=unit), ascending=end == "bottom")
        assert chosen.sel(unit=unit).values.tolist() == column.stimulus.values[:4].tolist()
        assert chosen.code.sel(unit=unit).values.tolist() == column.values[:4].tolist()
    counts = code_matrix(np.array([[3], [1], [2]], np.uint8))
    assert top_stimuli(counts, top=1, end="bottom").item() == "s01"


def test_coords_of_units_are_kept_and_ranks_count_from_one(responses):
    top = top_stimuli(responses.assign_coords(area=("unit", ["V1", "V4"] * 4)), top=3)
    assert top.dims == ("rank", "unit")
    assert top["rank"].values.tolist() == [1, 2, 3]
    assert top.area.values.tolist() == ["V1", "V4"] * 4


@pytest.mark.parametrize("name", ["code", "end", "has_copies", "is_copy", "n_active", "rank", "top"])
def test_a_coord_with_the_name_of_one_that_results_get_is_refused(name, responses):
    named = responses.assign_coords({name: ("unit", range(8))})
    remedy = rf"have a coord '{name}', the name of one that .*; rename it, e\.g\. codes\.rename\({name}='unit_{name}'\)"
    with pytest.raises(ValueError, match=remedy):
        top_stimuli(named)
    top_stimuli(named.rename({name: f"unit_{name}"}))
    of_stimuli = responses.assign_coords({name: ("stimulus", range(120))})  # which results do not have
    xr.testing.assert_identical(top_stimuli(of_stimuli), top_stimuli(responses))


def test_too_many_or_too_few_are_refused(responses):
    with pytest.raises(ValueError, match="end must be 'top' or 'bottom', got 'both'"):
        top_stimuli(responses, top=3, end="both")
    with pytest.raises(ValueError, match="top must be a whole number from 1 to 120, the number of stimuli, got 121"):
        top_stimuli(responses, top=121)
    with pytest.raises(ValueError, match="top must be a whole number from 1 to 120, the number of stimuli, got 0"):
        top_stimuli(responses, top=0)
    mostly_missing = responses.where((responses.unit != "u002") | (responses > responses.quantile(0.98)))
    with pytest.raises(ValueError, match="unit 'u002' has fewer than 20 stimuli with a code"):
        top_stimuli(mostly_missing, top=20)
    with pytest.raises(ValueError, match="dims stimulus and unit or direction, got ndarray"):
        top_stimuli(responses.values)
