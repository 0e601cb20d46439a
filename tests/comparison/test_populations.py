"""Layers and subjects become systems, each unit in one of them, unchanged; and systems are put side by side again."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from neurosuper import by_layer, by_subject
from neurosuper.comparison import concatenate_systems

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


def test_systems_side_by_side_are_divided_again(responses, make_responses, rng):
    systems = {"M1": responses.assign_coords(area=("unit", ["V4"] * 8)), "M2": make_responses(rng.random((120, 3)))}
    both = concatenate_systems(systems)
    assert both.dims == ("stimulus", "unit")
    assert both.unit.values.tolist() == [f"M1/u{i:03d}" for i in range(8)] + [f"M2/u{i:03d}" for i in range(3)]
    assert "area" not in both.coords, "M2 has none"
    assert both.attrs == {"units": "spikes/s"}
    parts = by_subject(both)
    for name, system in systems.items():
        np.testing.assert_array_equal(parts[name], system)
    xr.testing.assert_identical(concatenate_systems(parts), both)


def test_subjects_with_other_stimuli_are_joined_with_a_note(responses):
    other = (responses[40:] + 1).assign_attrs(units="counts").isel(stimulus=slice(None, None, -1))
    both = concatenate_systems({"M1": responses, "M2": other})
    xr.testing.assert_equal(both.stimulus, responses.stimulus[40:])
    np.testing.assert_array_equal(both[:, 8:], both[:, :8] + 1)
    assert both.attrs == {"left_out": "M1 40", "n_stimuli_left_out": 40}
    message = "subjects with different stimuli: 'M2' lacks all 40 stimuli of 'M1' .* 's0119', 's0118', 's0117', … "
    with pytest.raises(ValueError, match=message):
        concatenate_systems({"M1": responses[:40], "M2": other})


def test_coords_that_differ_between_systems_are_left_out(responses):
    other = responses.assign_coords(day=("stimulus", np.arange(120)), category=("stimulus", ["a", "b"] * 60))
    both = concatenate_systems({"M1": other, "M2": other.assign_coords(day=other.day + 1), "M3": responses})
    assert both.category.values.tolist() == ["a", "b"] * 60
    assert "day" not in both.coords
    marked = [responses.assign_coords(split=("stimulus", np.roll(["fit", "score"] * 60, i))) for i in range(2)]
    assert "split" in concatenate_systems({"M1": marked[0], "M2": responses}).coords
    with pytest.raises(ValueError, match="systems mark the same stimulus differently in the coord `split`"):
        concatenate_systems({"M1": marked[0], "M2": marked[1]})


def test_systems_side_by_side_stay_lazy(responses):
    both = concatenate_systems({"M1": responses.chunk(stimulus=40), "M2": responses})
    assert isinstance(both.data, da.Array)
    np.testing.assert_array_equal(both.values, np.hstack([responses, responses]))


def test_what_cannot_be_put_side_by_side_is_refused_by_name(responses):
    two = responses.assign_coords(subject=("unit", ["a", "b"] * 4))
    content = [responses.assign_coords(content=("stimulus", [f"{i + k:032x}" for i in range(120)])) for k in range(2)]
    for systems, message in (
        ({}, "no system to put side by side"),
        ({"M1": two}, "system 'M1' has units of several subjects, 'a', 'b'; divide it first"),
        ({"M1": responses.expand_dims(repetition=2)}, "system 'M1': .*average_repetitions"),
        ({"M1": content[0], "M2": content[1]}, "names different photographs"),
    ):
        with pytest.raises(ValueError, match=message):
            concatenate_systems(systems)
    with pytest.raises(TypeError, match="systems must be a mapping"):
        concatenate_systems([responses])
