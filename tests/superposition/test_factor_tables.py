"""Factors are read from tables and coords, divided into levels, and refused in one line where they cannot serve."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurosuper.superposition.factor_tables import read_factors, require_levels_in_halves

N = 60
LABELS = [f"s{i:02d}" for i in range(N)]
CODES = xr.DataArray(np.random.default_rng(0).normal(size=(N, 3)), {"stimulus": LABELS}, ("stimulus", "unit"))
OBJECT = np.repeat(["cat", "owl", "ant"], N // 3)


def read(codes, factors, bins):
    return read_factors(codes, factors, bins, np.arange(len(codes)) % 5 > 1)


def table(**factors):
    return xr.Dataset({name: ("stimulus", values) for name, values in factors.items()}, {"stimulus": LABELS})


def test_text_is_labels_and_numbers_are_numbers():
    pose = np.arange(N) % 4 * 10.0
    found = read(CODES, table(object=OBJECT, shown=np.arange(N) % 2 == 0, pose=pose), 20)
    assert [each.name for each in found] == ["object", "shown", "pose"]
    assert [each.values is None for each in found] == [True, True, False]
    assert found[0].names == ["ant", "cat", "owl"]
    assert found[1].names == ["False", "True"]
    assert found[2].names == ["0", "10", "20", "30"]
    np.testing.assert_array_equal(np.array(found[0].names)[found[0].levels], OBJECT)
    np.testing.assert_array_equal(found[2].levels * 10.0, pose)


@pytest.mark.parametrize("kind", [object, "category", "string"])
def test_labels_of_pandas_are_those_of_numpy(kind):
    column = pd.Series(OBJECT, index=pd.Index(LABELS, name="stimulus")).astype(kind)
    found = read(CODES, xr.Dataset({"object": column.to_xarray(), "pose": ("stimulus", np.arange(N))}), 5)
    np.testing.assert_array_equal(found[0].levels, read(CODES, table(a=OBJECT, b=OBJECT), 5)[0].levels)


def test_many_numbers_make_bins_of_equal_counts_that_do_not_divide_ties():
    values = np.random.default_rng(0).permutation(N) ** 2.0
    assert np.bincount(read(CODES, table(a=values, b=OBJECT), 6)[0].levels).tolist() == [10] * 6
    sparse = np.where(np.arange(N) < 50, 0, values + 1)
    found = read(CODES, table(a=sparse, b=OBJECT), 6)[0]
    np.testing.assert_array_equal(found.levels, sparse > 0)
    np.testing.assert_array_equal(found.values, sparse)


def test_bins_that_ties_leave_small_are_merged_with_the_next():
    values = np.repeat([0.0, 1, 2, 3, 4, 5], [20, 2, 13, 4, 20, 1])  # quartiles: 0, 2 and 4
    found = read(CODES, table(a=values, b=OBJECT), 4)[0]
    assert [np.unique(values[found.levels == k]).tolist() for k in range(3)] == [[0], [1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="factor 'a' has one level of at least 5 stimuli, 'bin 1'; leave it out"):
        read(CODES, table(a=np.arange(N).clip(56), b=OBJECT), 3)


def test_every_level_has_stimuli_on_both_sides_of_the_split():
    every_tenth = np.arange(N) % 10 == 9
    found = read_factors(CODES, table(a=np.arange(N), b=OBJECT), 12, ~every_tenth)
    np.testing.assert_array_equal(found[0].levels, np.arange(N) // 10)
    is_fit = np.arange(N) < 40
    with pytest.raises(ValueError, match="factor 'b' has no stimulus to fit on of the level 'ant'; drop them, or"):
        read_factors(CODES, table(a=np.arange(N) % 7, b=OBJECT), 6, is_fit)
    with pytest.raises(ValueError, match="factor 'b' has no stimulus to score on of the level 'cat', 'owl'; drop them"):
        read_factors(CODES, table(a=np.arange(N) % 7, b=OBJECT), 6, (OBJECT != "ant") | (np.arange(N) > 50))


def test_factors_follow_the_stimuli_of_the_codes():
    longer = table(a=OBJECT, b=np.arange(N)).isel(stimulus=np.random.default_rng(1).permutation(N))
    found = read(CODES[:50], longer, 5)
    np.testing.assert_array_equal(found[1].values, np.arange(50))


def test_names_of_coords_are_factors():
    codes = CODES.assign_coords(object_name=("stimulus", OBJECT), size=("stimulus", np.arange(N)))
    found = read(codes, ["size", "object_name"], 5)
    assert [each.name for each in found] == ["size", "object_name"]
    np.testing.assert_array_equal(found[0].values, np.arange(N))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (table(a=OBJECT), "need at least 2 factors, got 'a'"),
        (table(a=OBJECT, b=["one"] * N), "factor 'b' has one level of at least 5 stimuli, 'one'; leave it out"),
        (table(a=OBJECT, b=np.ones(N)), "factor 'b' has one level of at least 5 stimuli, '1'; leave it out"),
        (table(a=OBJECT, b=["x"] * 4 + ["y"] * 56), "'b' has fewer than 5 stimuli of the level 'x'; drop them"),
        (table(a=OBJECT, b=[1.0] * 4 + [0.0] * 56), "'b' has fewer than 5 stimuli of the level '1'; lower `bins`"),
        (table(a=OBJECT, b=[np.nan, *range(59)]), "factor 'b' is missing for 1 of 60 stimuli: 's00'; leave them out"),
        (table(a=OBJECT, b=[None, *OBJECT[1:]]), "factor 'b' is missing for 1 of 60 stimuli: 's00'"),
        (table(a=OBJECT, b=["", *OBJECT[1:]]), "factor 'b' is missing for 1 of 60 stimuli: 's00'"),
        (table(a=OBJECT, b=[np.inf, *range(59)]), "factor 'b' has 1 infinite values"),
        (table(a=OBJECT, b=OBJECT)[{"stimulus": slice(2, None)}], "factors lack 2 of 60 stimuli of the codes: 's00', "),
        (table(a=OBJECT).assign(b=(("stimulus", "k"), np.ones((N, 2)))), "the dim stimulus alone; 'b' has others"),
        (["size", "pose"], "codes have no stimulus coord 'size', 'pose'; they have none"),
    ],
)
def test_factors_that_cannot_serve_are_refused_in_one_line(factors, message):
    with pytest.raises(ValueError, match=message) as error:
        read(CODES, factors, 20)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ("object_name", "a list of names of stimulus coords of the codes, got 'object_name'"),
        (3, "got 'int'"),
        (table(a=OBJECT, b=pd.date_range("2026-01-01", periods=N)), "factor 'b' must be labels or numbers, got dtype"),
    ],
)
def test_factors_of_another_type_are_refused(factors, message):
    with pytest.raises(TypeError, match=message):
        read(CODES, factors, 20)


def test_a_level_that_is_nearly_all_gives_no_interval():
    found = read(CODES, table(a=OBJECT, b=np.arange(N) < 6), 20)
    with pytest.raises(ValueError, match="all but 6 of 60 stimuli to score on have one level of factor 'b', and"):
        require_levels_in_halves(found)
    require_levels_in_halves(found[:1])
