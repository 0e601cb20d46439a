"""An NWB file is listed, and a call is proposed that loads it."""

import datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile

from neurosuper import inspect_nwb
from neurosuper.loaders import load_nwb_images


@pytest.fixture
def session(tmp_path):
    """Write a session with a distracting column for every reason by which a column is no candidate."""

    def write(*, spikes=True, labels=("im0", "im1", "blank")):
        nwb = NWBFile("planted", "session 7", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        columns = (
            "correct",
            "image",
            "image_onset",
            "stimulus_contrast",
            "trial_number",
            "photo_angle",
            "session_name",
        )
        for column in columns:
            nwb.add_trial_column(column, column)
        for i in range(12):
            row = {"correct": i % 2 == 0, "image": labels[i % len(labels)], "image_onset": i + 0.4}
            row |= {"stimulus_contrast": i % 4, "trial_number": i, "photo_angle": 0.5 * i, "session_name": "a"}
            nwb.add_trial(start_time=float(i), stop_time=i + 0.2, **row)
        nwb.add_invalid_time_interval(start_time=100.0, stop_time=101.0)
        if spikes:
            nwb.add_unit_column("area", "area")
        for i in range(3 * spikes):
            nwb.add_unit(spike_times=np.arange(0.1 + i / 100, 13, 0.25), area=("V4", "IT", "V4")[i])
        path = tmp_path / "session.nwb"
        with NWBHDF5IO(path, "w") as file:
            file.write(nwb)
        return path

    return write


def run(contents):
    """Return what the proposed call returns, run as it is."""
    names = {}
    exec(contents.proposed_call, names)
    return names["responses"] if "responses" in names else names["shown"]


def test_the_proposed_call_runs_as_it_is(session):
    contents = inspect_nwb(session())
    assert contents.arguments == {
        "presentations": "trials",
        "stimulus_column": "image",
        "blanks": ["blank"],
        "window": (0.05, 0.25),  # as long as a presentation
        "area_column": "area",
    }
    responses = run(contents)
    assert responses.stimulus.values.tolist() == ["im0", "im1"]
    assert responses.area.values.tolist() == ["V4", "IT", "V4"]


def test_labels_of_images_decide_between_columns(session):
    contents = inspect_nwb(session(), labels=map(str, range(12)))
    assert contents.arguments["stimulus_column"] == "trial_number"


def test_a_listing_names_columns_with_examples_units_and_areas(session):
    contents = inspect_nwb(session())
    text = str(contents)
    assert "trials: 12 rows" in text
    assert "    image: 3 values, blank (×4), im0 (×4), im1 (×4)" in text
    assert "    image_onset: 12 values, 0.4, 1.4, 2.4" in text
    assert "Units: 3" in text
    assert "areas by area: 'IT' 1, 'V4' 2" in text
    assert all(line in text for line in contents.proposed_call.splitlines())
    assert contents.intervals["trials"].n_values["trial_number"] == 12


def test_images_in_the_file_decide_for_their_index_series(mouse):
    contents = inspect_nwb(mouse.path)
    expected = {"presentations": mouse.table, "index_series": "shown", "blanks": [-1], "window": (0.05, 0.3)}
    assert contents.arguments.items() >= expected.items()
    assert set(run(contents).stimulus.values) == set(load_nwb_images(mouse.path).stimulus.values)
    assert contents.images.loc["scenes"].tolist() == [12, True]
    assert contents.index_series.loc["shown"].tolist() == [60, "scenes", 12]
    assert contents.series.areas.tolist().count("'VISp' 2") == 1
    assert "processing/running" not in contents.arguments


def test_imaging_is_proposed_where_there_are_no_spikes(mouse):
    def remove_units(file):
        del file["units"]

    contents = inspect_nwb(mouse.damaged(remove_units).path, labels=map(str, range(12)))
    assert contents.arguments["stimulus_column"] == "frame"
    assert contents.arguments["series"].endswith("DfOverF")
    assert contents.arguments["window"] == (0.0, 0.25)
    responses = run(contents)
    assert responses.sizes["unit"] == 2
    planted = {str(index): dff for index, dff in zip(mouse.indices, mouse.dff, strict=True)}
    for stimulus in responses.stimulus.values:
        np.testing.assert_allclose(responses.sel(stimulus=stimulus).mean("repetition"), planted[stimulus], rtol=1e-5)


def test_a_file_without_responses_says_where_they_may_be(session):
    contents = inspect_nwb(session(spikes=False))
    assert contents.n_units == 0
    assert "companion" in contents.remark
    assert contents.remark in str(contents)
    assert run(contents).sizes["presentation"] == 8


def test_without_a_column_of_stimuli_nothing_is_proposed(session):
    contents = inspect_nwb(session(labels=("same", "same")))
    assert contents.proposed_call == ""
    assert "names stimuli" in str(contents)


def test_a_real_session_without_units_is_listed(real_data):
    contents = inspect_nwb(real_data / "nwb" / "Pa210120-main.nwb")
    assert contents.intervals["presentations"].attrs["n_rows"] == 1507
    assert contents.images.n_images.tolist() == [144]
    assert contents.index_series.loc["presentations", "n_shown"] == 1507
    assert "Pa210120-rasters.nwb" in contents.remark
    assert run(contents).sizes["presentation"] == 1507
