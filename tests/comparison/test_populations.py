"""Layers and subjects become systems: each unit is in one of them, unchanged."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from neurosuper import by_layer, by_subject

BOTH = pytest.mark.parametrize(("by", "coord"), [(by_layer, "layer"), (by_subject, "subject")])


def with_coord(responses, coord):
    values = np.resize(["b", "a", "b"], responses.sizes["unit"])
    return responses.assign_coords({coord: ("unit", values), "depth": ("unit", np.arange(len(values)))})


@BOTH
def test_units_are_divided_in_the_order_in_which_names_occur(responses, by, coord):
    whole = with_coord(responses, coord)
    parts = by(whole)
    assert list(parts) == ["b", "a"]
    joined = xr.concat(list(parts.values()), "unit").sortby("depth")
    xr.testing.assert_identical(joined, whole)
    for name, part in parts.items():
        assert set(part[coord].values) == {name}


@BOTH
def test_a_prefix_names_the_network_or_the_area(responses, by, coord):
    assert list(by(with_coord(responses, coord), prefix="V4")) == ["V4 b", "V4 a"]


@BOTH
def test_lazy_responses_stay_lazy(responses, by, coord):
    lazy = with_coord(responses, coord).chunk(stimulus=5)
    assert all(isinstance(part.data, da.Array) for part in by(lazy).values())


def test_numbered_subjects_are_named_by_their_numbers(responses):
    numbers = np.arange(responses.sizes["unit"]) % 2 + 1
    assert list(by_subject(responses.assign_coords(subject=("unit", numbers)))) == ["1", "2"]


@BOTH
def test_a_missing_coord_is_named_with_those_that_there_are(responses, by, coord):
    with pytest.raises(ValueError, match=f"units have no coord '{coord}'; they have .*depth"):
        by(with_coord(responses, coord).drop_vars(coord))
    on_stimuli = responses.assign_coords({coord: ("stimulus", np.arange(len(responses)))})
    with pytest.raises(ValueError, match=f"units have no coord '{coord}'"):
        by(on_stimuli)


@BOTH
@pytest.mark.parametrize("nothing", ["", None, np.nan])
def test_a_unit_without_a_name_is_refused(responses, by, coord, nothing):
    values = np.full(responses.sizes["unit"], "a", object)
    values[1] = nothing
    with pytest.raises(ValueError, match=f"units without a {coord}: '{responses.unit.values[1]}'"):
        by(responses.assign_coords({coord: ("unit", values)}))


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="responses must be a DataArray, got ndarray"):
        by_layer(np.eye(3))
