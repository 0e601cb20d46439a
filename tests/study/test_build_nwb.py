"""A study file reads a recording as `load_nwb` does: with an onset column, conditions, and the images in the file."""

import datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.image import ImageSeries

from neurosuper import average_repetitions, load_nwb
from neurosuper.study.build import load_study_images, load_systems
from neurosuper.study.file import read_study
from neurosuper.study.references import References

STUDY = """
title = "One file"
finders.Units = {}
metrics.Color = {}

[images]
path = "session.nwb"
stimulus_column = "picture"
channel_order = "BGR"

[systems.V4]
loader = "load_nwb"
path = "session.nwb"
stimulus_column = "picture"
onset_column = "stim_on"
window = WINDOW

[systems.V4.presentations_where]
correct = true
start_time = [[">=", 4.0], ["<", 20.0]]
"""


@pytest.fixture
def write(tmp_path, rng):
    """Write a session with an image per trial, and a study of it."""

    def write(window):
        shown = np.tile(np.arange(6), 4)
        pixels = rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
        nwb = NWBFile("one file", "session", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
        nwb.add_acquisition(ImageSeries(name="shown", data=pixels[shown][..., ::-1], unit="n.a.", rate=1.0))
        for column in ("picture", "stim_on", "correct"):
            nwb.add_trial_column(column, column)
        for i, image in enumerate(shown):
            row = {"picture": f"p{image}", "stim_on": i + 0.3, "correct": i % 4 != 0}
            nwb.add_trial(start_time=float(i), stop_time=i + 0.9, **row)
        nwb.add_unit(spike_times=np.sort(rng.uniform(0, 25, 500)))
        with NWBHDF5IO(tmp_path / "session.nwb", "w") as file:
            file.write(nwb)
        (tmp_path / "study.toml").write_text(STUDY.replace("WINDOW", window))
        return tmp_path / "study.toml", pixels

    return write


def build(path):
    study, files = read_study(path), References(path)
    images = load_study_images(study, files)
    return images, load_systems(study, images, files, path.parent / "cache")


def test_a_study_reads_onsets_conditions_and_images_of_an_nwb_file(write):
    path, pixels = write("[0.05, 0.25]")
    images, systems = build(path)
    np.testing.assert_array_equal(images.sel(stimulus=[f"p{i}" for i in range(6)]), pixels)
    (system,) = systems
    where = {"correct": True, "start_time": [(">=", 4), ("<", 20)]}
    settings = {"stimulus_column": "picture", "onset_column": "stim_on", "presentations_where": where}
    expected = average_repetitions(load_nwb(path.parent / "session.nwb", window=(0.05, 0.25), **settings))
    np.testing.assert_array_equal(system.responses, expected.sel(stimulus=system.responses.stimulus))
    assert system.responses.attrs["n_excluded"] == 12


def test_a_study_of_several_windows_is_told_to_select_one(write):
    path, _ = write("[[0.05, 0.15], [0.15, 0.25]]")
    message = "the dim window .'0.05 to 0.15 s', '0.15 to 0.25 s'.; select one first"
    with pytest.raises(ValueError, match=message) as raised:
        list(build(path)[1])
    assert "\n" not in str(raised.value)
