"""Columns are decoded: indices of texts, references to groups, flags with probabilities, numbers as text."""

import datetime
import warnings

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from neurosuper import load_nwb
from neurosuper.loaders import load_presentations

OPTIONS = {"stimulus_column": "image", "window": (0.0, 0.4)}
START = datetime.datetime(2023, 3, 4, tzinfo=datetime.UTC)
SHOWN = ["owl", "bee", "owl", "elk"]


def add_units(nwb):
    """Four units of two probes that were sorted separately; unit i fires after presentation i."""
    device = nwb.create_device("device")
    probes = [nwb.create_electrode_group(f"probe{a}", description=a, location=a, device=device) for a in ("V2", "TE")]
    nwb.add_unit_column("probe", "name of the probe")
    nwb.add_unit_column("kind", "how isolated", enum=True)
    for unit in range(4):
        probe = probes[unit // 2]
        kind = "single" if unit % 2 else "multi"
        nwb.add_unit(id=unit % 2, spike_times=[unit + 1.1], electrode_group=probe, probe=probe.name, kind=kind)


def write(path, add, labels=SHOWN, enum=False):
    nwb = NWBFile("parts", "parts", START)
    table = TimeIntervals(name="trials", description="shown")
    table.add_column("image", "image", enum=enum)
    for i, label in enumerate(labels):
        table.add_row(start_time=i + 1.0, stop_time=i + 1.4, image=label)
    nwb.trials = table
    add(nwb)
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EnumData is experimental")
        return write(tmp_path_factory.mktemp("parts") / "probes.nwb", add_units, enum=True)


@pytest.fixture(params=["pynwb", "h5py"])
def session(request, probes, tmp_path):
    """The same session; for h5py, without an object that pynwb needs."""
    path = tmp_path / "copy.nwb"
    path.write_bytes(probes.read_bytes())
    if request.param == "h5py":
        with h5py.File(path, "r+") as file:
            del file["session_description"]
    return path


def test_stimuli_of_an_enumeration_are_named_by_its_texts(session):
    shown = load_presentations(session, stimulus_column="image", blanks="elk")
    assert shown.stimulus.values.tolist() == ["owl", "bee", "owl"]
    assert shown.attrs["n_blanks"] == 1


def test_units_are_kept_by_the_texts_of_an_enumeration(session):
    found = load_nwb(session, **OPTIONS, units_where={"kind": "single"}, unit_names="units/probe", area_column="kind")
    assert found.unit.values.tolist() == ["probeV2/1", "probeTE/1"]
    assert found.area.values.tolist() == ["single", "single"]


def test_an_index_beyond_its_texts_is_refused(session):
    with h5py.File(session, "r+") as file:
        file["intervals/trials/image"][1] = 3
    with pytest.raises(ValueError, match="'image' of table 'trials' refers to row 3 of its elements, which has 3 rows"):
        load_presentations(session, stimulus_column="image")


def test_an_enumeration_that_lost_its_texts_is_refused(session):
    with h5py.File(session, "r+") as file:
        del file["intervals/trials/image_elements"]
    with pytest.raises(ValueError, match="'image' of table 'trials' .* indices whose texts are missing"):
        load_presentations(session, stimulus_column="image")


def test_an_enumeration_of_hdf5_is_text_too(session):
    with h5py.File(session, "r+") as file:
        attrs = dict(file["units/probe"].attrs)
        del file["units/probe"]
        kind = h5py.enum_dtype({"shallow": 4, "deep": 9}, "i1")
        file["units"].create_dataset("probe", data=[9, 4, 4, 9], dtype=kind).attrs.update(attrs)
    found = load_nwb(session, **OPTIONS, units_where={"probe": "deep"})
    assert found.unit.values.tolist() == ["0", "1"]


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.string_dtype("ascii", 8), h5py.string_dtype("utf-8", 8)])
def test_text_that_is_latin_1_or_padded_is_read(session, dtype):
    with h5py.File(session, "r+") as file:
        attrs = dict(file["units/probe"].attrs)
        del file["units/probe"]
        names = ["cafe\u0301".encode(), *(name.encode("latin-1") for name in ("Mu\u00f1oz", "Mu\u00f1oz ", "V4"))]
        file["units"].create_dataset("probe", data=np.array(names, dtype=dtype))
        file["units/probe"].attrs.update(attrs)
    found = load_nwb(session, **OPTIONS, unit_names="units/probe", area_column="probe")
    assert found.area.values.tolist() == ["caf\u00e9", "Mu\u00f1oz", "Mu\u00f1oz", "V4"]


@pytest.mark.parametrize(("column", "areas"), [("location", ["V2", "TE"]), ("electrode_group", ["probeV2", "probeTE"])])
def test_the_area_is_taken_from_the_electrode_group(session, column, areas):
    found = load_nwb(session, **OPTIONS, area_column=column, unit_names="units/probe")
    assert found.unit.values.tolist() == ["probeV2/0", "probeV2/1", "probeTE/0", "probeTE/1"]
    assert found.area.values.tolist() == np.repeat(areas, 2).tolist()
    assert found.sel(stimulus="bee").values[0].tolist() == [0.0, 2.5, 0.0, 0.0]


def test_ids_that_restart_are_refused_with_a_column_of_unique_names(session):
    with pytest.raises(
        ValueError, match=r"several units are called '0', '1'; pass unit_names='units/probe', or keep one"
    ):
        load_nwb(session, **OPTIONS)
    found = load_nwb(session, **OPTIONS, units_where={"electrode_group": "probeTE"})
    assert found.unit.values.tolist() == ["0", "1"]


def test_ids_that_restart_without_a_column_that_distinguishes_them_are_named_by_row(session):
    with h5py.File(session, "r+") as file:
        del file["units/probe"], file["units/electrode_group"], file["units/kind"]
        del file["units/kind_elements"]
        file["units"].attrs["colnames"] = ["spike_times"]
    with pytest.raises(ValueError, match="several units are called '0', '1'; pass unit_names='units/row', or keep one"):
        load_nwb(session, **OPTIONS)
    assert load_nwb(session, **OPTIONS, unit_names="units/row").unit.values.tolist() == ["0", "1", "2", "3"]


def test_a_flag_with_its_probability_is_the_flag(session):
    with h5py.File(session, "r+") as file:
        attrs = dict(file["units/probe"].attrs)
        del file["units/probe"]
        file["units/probe"] = np.array([[1, 0.9], [0, 0.3], [0, 0.2], [1, 0.6]])
        file["units/probe"].attrs.update(attrs)
    found = load_nwb(session, **OPTIONS, units_where={"probe": True, "electrode_group": "probeTE"})
    assert found.unit.values.tolist() == ["1"]
    with h5py.File(session, "r+") as file:
        file["units/probe"][0, 0] = 2
    with pytest.raises(ValueError, match="'probe' of table 'units' does not have a single value per row, but 2"):
        load_nwb(session, **OPTIONS, units_where={"probe": True})


def sorted_twice(names):
    def add(nwb):
        module = nwb.create_processing_module("ecephys", "sorted")
        for name in names:
            module.add(Units(name=name, description="sorted"))
            for i in range(2):
                module[name].add_unit(id=i + 5, spike_times=[1.1 + i])

    return add


@pytest.mark.parametrize("names", [["units"], ["curated"]])
def test_units_of_a_processing_module_are_read_if_there_are_no_others(tmp_path, names):
    found = load_nwb(write(tmp_path / "a.nwb", sorted_twice(names)), **OPTIONS)
    assert found.unit.values.tolist() == ["5", "6"]
    assert found.sel(stimulus="bee").values[0].tolist() == [0.0, 2.5]


def test_one_of_several_tables_of_units_must_be_named(tmp_path):
    path = write(tmp_path / "a.nwb", sorted_twice(["raw", "curated"]))
    with pytest.raises(
        ValueError, match=r"in the tables 'ecephys/\w+', 'ecephys/\w+'; name one as part of unit_names="
    ):
        load_nwb(path, **OPTIONS)
    assert load_nwb(path, **OPTIONS, unit_names="ecephys/curated/id").unit.values.tolist() == ["5", "6"]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["3.0", "-1.0", "null", "12.00"], ["3", "12"]),
        (["3", "-1", "nan", "4.5"], ["3", "4.5"]),
        (["03", "-1", "null", "4"], ["03", "null", "4"]),
        (["a1.0", "-1", "b", "4"], ["a1.0", "b", "4"]),
    ],
)
def test_numbers_written_as_text_are_read_as_numbers(tmp_path, written, kept):
    path = write(tmp_path / "a.nwb", lambda nwb: None, written)
    assert load_presentations(path, stimulus_column="image", blanks=-1).stimulus.values.tolist() == kept
