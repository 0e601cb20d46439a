"""Results in an NWB file are read again with pynwb, refer to its units, and pass validator and inspector."""

import shutil

import h5py
import numpy as np
import pynwb
import pytest
from numpy.testing import assert_array_equal
from pynwb import NWBHDF5IO

from neurosuper import Color, KMeans, Pixel, Units, compare, load_nwb
from neurosuper.export import tidy, write_nwb
from tests.export.session import UNITS, make_nwb, write_session


@pytest.fixture
def responses(responses):
    """Units are labelled by ids of the file, in another order than there."""
    labels = [str(name) for name in sorted(UNITS)]
    return responses.assign_coords(unit=labels, area=("unit", ["V1"] * 4 + ["V4"] * 4), depth=("unit", np.arange(8.0)))


@pytest.fixture
def finder(responses):
    return KMeans(3).fit(responses)


@pytest.fixture
def comparison(responses, images):
    return compare(
        {"mouse": responses}, images, [Units(), KMeans(3)], [Color(), Pixel()], top=3, score_on="all", baselines=False
    )


@pytest.fixture
def session(tmp_path, rng):
    """A recording of these units, with trials."""
    path = tmp_path / "session.nwb"
    write_session(path, rng)
    return path


def read(path, module="neurosuper"):
    """Return the tables of a module as data frames, with references as row numbers and the labels they lead to."""
    tables = {}
    with NWBHDF5IO(path, "r") as io:
        for name, table in io.read().processing[module].data_interfaces.items():
            tables[name] = table.to_dataframe(index=True)
            for column in table.columns:
                if isinstance(column, pynwb.core.DynamicTableRegion):
                    tables[name].attrs[column.name] = (column.table.name, column.table.id[:][column.data[:]].tolist())
    return tables


def test_directions_codes_and_scores_are_read_again(session, finder, comparison, responses):
    codes = finder.transform(responses)
    write_nwb(session, finder.directions_, codes, comparison)
    tables = read(session)
    assert list(tables) == ["codes", "directions", "scores_of_directions", "scores_of_units", "units"]
    directions = tables["directions"]
    assert directions.label.tolist() == finder.directions_.direction.values.tolist()
    assert_array_equal(np.stack(directions.weights), finder.directions_.values)
    assert tables["codes"].stimulus.tolist() == responses.stimulus.values.tolist()
    assert_array_equal(np.stack(tables["codes"].codes), codes.values)
    assert tables["units"].label.tolist() == responses.unit.values.tolist()
    assert tables["units"].area.tolist() == responses.area.values.tolist()
    expected = tidy(comparison)
    for kind, name in (("KMeans", "scores_of_directions"), ("Units", "scores_of_units")):
        own = expected[expected.finder == kind].drop(columns="direction").dropna(axis=1, how="all")
        own = own.loc[:, (own != "").any()]  # no area or depth of a direction
        found = tables[name]
        assert {*own.columns} | {"direction" if kind == "KMeans" else "unit"} == {*found.columns}
        for column in own:
            assert_array_equal(found[column].values, own[column].values, err_msg=column)


def test_units_refer_to_the_rows_of_the_units_table(session, finder, comparison):
    """Also from a column of names, and where the order differs."""
    write_nwb(session, finder.directions_, comparison=comparison)
    by_id = read(session)
    ids = sorted(UNITS)
    in_order = [int(label) for label in finder.directions_.unit.values]
    assert by_id["units"].attrs["unit"] == ("units", in_order)
    assert sorted(in_order) == ids
    scores = by_id["scores_of_units"]
    direction_labels = tidy(comparison).query("finder == 'Units'").direction.astype(int).tolist()
    assert scores.attrs["unit"] == ("units", direction_labels)
    of_directions = by_id["scores_of_directions"]
    assert of_directions.attrs["direction"] == ("directions", [0, 0, 1, 1, 2, 2])
    named = finder.directions_.assign_coords(unit=[f"c{label}" for label in in_order])
    write_nwb(session, named, module="by_cluster", unit_names="cluster")
    assert read(session, "by_cluster")["units"].attrs["unit"] == ("units", in_order)


def test_the_recording_is_as_it_was(session, finder):
    def load():
        return load_nwb(session, stimulus_column="image", window=(0.0, 0.5))

    before = load()
    write_nwb(session, finder.directions_)
    write_nwb(session, finder.directions_, module="again")
    assert load().identical(before)
    assert [path.name for path in session.parent.iterdir()] == ["session.nwb"]


def test_a_file_passes_validator_and_inspector(session, finder, comparison, responses, tmp_path):
    inspect = pytest.importorskip("nwbinspector").inspect_nwbfile
    codes = finder.transform(responses)
    alone = tmp_path / "results.nwb"
    shutil.copy(session, tmp_path / "before.nwb")
    write_nwb(session, finder.directions_, codes, comparison)
    write_nwb(alone, finder.directions_, codes, comparison, new_file=make_nwb())
    said = {}
    for path in (session, alone, tmp_path / "before.nwb"):
        assert pynwb.validate(path=path) == []
        said[path.name] = [message for message in inspect(path) if message is not None]
        assert [message for message in said[path.name] if message.importance.name in ("CRITICAL", "ERROR")] == []
    # Of the module itself, the inspector says nothing at all.
    known = {message.message for message in said["before.nwb"]}
    new = [message.message for message in said["session.nwb"] if message.message not in known]
    assert len(new) == 1
    assert new[0].startswith("Processing module is named neurosuper. It is recommended to use the schema module names")


def test_without_a_units_table_units_have_labels_and_scores_refer_to_them(finder, comparison, tmp_path):
    path = tmp_path / "results.nwb"
    write_nwb(path, finder.directions_, comparison=comparison, new_file=make_nwb())
    tables = read(path)
    assert "unit" not in tables["units"]
    name, rows = tables["scores_of_units"].attrs["unit"]
    assert name == "units"
    assert tables["units"].label.iloc[rows].tolist() == tidy(comparison).query("finder == 'Units'").direction.tolist()
    with NWBHDF5IO(path, "r") as io:
        assert io.read().subject.subject_id == "mouse-1"


def refused(match, path, *args, kind=ValueError, **settings):
    """Check that nothing is written, and the file that is there stays as it is."""
    before = {each: each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(kind, match=match):
        write_nwb(path, *args, **settings)
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


def test_a_failure_leaves_the_file_as_it_was(session, finder, comparison, responses, monkeypatch):
    D, codes = finder.directions_, finder.transform(responses)
    refused(
        "has no unit 'a', 'b', .* in its column 'id', but '3', '7', '1'",
        session,
        D.assign_coords(unit=list("abcdefgh")),
    )
    refused("has no column 'name'; it has id, ", session, D, unit_names="name")
    refused("codes are of 'KMeans 2', .* pass the codes of these directions", session, D, codes[:, ::-1])
    refused("directions must be a DataArray with the dims direction and unit", session, D.values)
    several = comparison.assign_coords(system=("item", ["a", "b"] * 5 + ["a"]))
    refused("the comparison has the systems 'a', 'b'; select one", session, D, comparison=several)
    refused(r"items 'KMeans 2', which are neither directions nor", session, D[:2], comparison=comparison)
    twice = comparison.assign_coords(direction=("item", [*comparison.direction.values[:-1], "KMeans 0"]))
    refused("several finders with directions of the same label", session, D, comparison=twice)
    refused("exists; leave out new_file to add to it", session, D, new_file=make_nwb())
    refused("to make a new one, pass new_file=", session.parent / "no.nwb", D, kind=FileNotFoundError)
    monkeypatch.setattr(NWBHDF5IO, "write", lambda *_: 1 / 0)
    refused("division", session, D, kind=ZeroDivisionError)


def test_a_second_module_of_one_name_is_refused(session, finder):
    write_nwb(session, finder.directions_)
    refused("has a processing module 'neurosuper' already; choose another name", session, finder.directions_)


def test_a_damaged_file_is_refused(session, finder):
    session.write_bytes(session.read_bytes()[:1000])
    refused("NWB", session, finder.directions_)


def test_only_core_types_are_used(session, finder, comparison, responses):
    write_nwb(session, finder.directions_, finder.transform(responses), comparison)
    with h5py.File(session) as file:
        assert set(file["specifications"]) <= {"core", "hdmf-common", "hdmf-experimental"}
        kinds = set()
        file["processing/neurosuper"].visititems(lambda _, item: kinds.add(item.attrs["neurodata_type"]))
    assert kinds == {"DynamicTable", "DynamicTableRegion", "ElementIdentifiers", "VectorData"}
