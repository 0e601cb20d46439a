"""Macaque V4 in the layout of DANDI 001357: the onset is that of a photodiode, and multi-units are marked."""

import datetime

import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile

import neurosuper as ns
from neurosuper.demo.write_allen import trains

N_SHAPES, N_UNITS = 8, 4
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(10.0, (N_SHAPES, N_UNITS))  # (condition, unit)
SHOWN = RNG.permutation(np.repeat(np.arange(N_SHAPES), 4))
STARTS = 2.0 + np.arange(len(SHOWN))
ONSETS = STARTS + RNG.uniform(0.3, 0.5, len(SHOWN))
SHAPES = [str(i + 1) for i in range(N_SHAPES)]


def write(folder, shown=SHOWN, onsets=ONSETS):
    """Write a session of shapes, two of them (stim_ID) at four rotations (together: cond_ID)."""
    start = datetime.datetime(2019, 7, 17, 10, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=-7)))
    nwb = NWBFile("V4 shape screen", "20190717SL", start, session_id="20190717SL", lab="Pasupathy Lab")
    for column in ("sub_ID", "pen_ID", "ses_ID", "cond_ID", "stim_ID", "rotation", "luminance", "pdOnTS", "pdOffTS"):
        nwb.add_trial_column(column, column)
    labels = {"sub_ID": "A", "pen_ID": "A1", "ses_ID": "20190717SL"}
    for i, shape in enumerate(shown):
        what = {"cond_ID": shape + 1, "stim_ID": float(shape // 4), "rotation": 45.0 * (shape % 4), "luminance": 12}
        times = {"pdOnTS": onsets[i], "pdOffTS": onsets[i] + 0.3}
        nwb.add_trial(start_time=STARTS[i], stop_time=STARTS[i] + 0.9, **labels, **what, **times)
    group = nwb.create_electrode_group("probe0", description="probe", location="V4", device=nwb.create_device("probe"))
    for _ in range(4):
        nwb.add_electrode(location="V4", group=group)
    for column in ("sub_ID", "pen_ID", "ses_ID", "unit_ID", "probe_num", "best_ch", "depth", "is_sua"):
        nwb.add_unit_column(column, column)
    for i, train in enumerate(trains(COUNTS[SHOWN], ONSETS, (0.05, 0.25))):
        where = {"unit_ID": float(i), "probe_num": 0, "best_ch": 3.0, "depth": 400.0}
        nwb.add_unit(spike_times=train, **labels, **where, is_sua=int(i != 2))
    path = folder / "sub-A" / "sub-A_ses-20190717SL.nwb"
    path.parent.mkdir()
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


def load(folder, **options):
    return ns.load("macaque-v4-shapes-textures", path=folder, **options)


def test_planted_spikes_come_back_from_the_onset_of_the_photodiode(tmp_path):
    path = write(tmp_path)
    responses = load(tmp_path)
    assert responses.unit.values.tolist() == ["0", "1", "3"]  # is_sua
    rates = ns.average_repetitions(responses).sel(stimulus=SHAPES)
    np.testing.assert_allclose(rates, COUNTS[:, [0, 1, 3]] / 0.2, rtol=1e-5)
    assert responses.attrs["onset_column"] == "pdOnTS"
    by_start = ns.load_nwb(path, stimulus_column="cond_ID", window=(0.45, 0.65))  # not locked to the onset
    assert not np.allclose(ns.average_repetitions(by_start).sel(stimulus=SHAPES), COUNTS / 0.2, rtol=0.1)


def test_presentations_of_one_rotation(tmp_path):
    write(tmp_path)
    responses = load(tmp_path, presentations_where={"rotation": [(">", 0), ("<", 135)]})
    assert responses.stimulus.values.tolist() == ["2", "3", "6", "7"]
    assert responses.attrs["n_excluded"] == len(SHOWN) // 2


def test_several_windows_of_a_dataset(tmp_path):
    write(tmp_path)
    several = load(tmp_path, window=[(0.05, 0.15), (0.15, 0.25)])
    assert several.dims == ("stimulus", "repetition", "window", "unit")
    np.testing.assert_allclose(several.mean("window"), load(tmp_path), rtol=1e-5)


@pytest.mark.parametrize("shown", [np.roll(SHOWN, 1), (SHOWN + 1) % N_SHAPES], ids=["rows", "conditions"])
def test_shifted_sessions_do_not_come_back(tmp_path, shown):
    write(tmp_path, shown)
    found = ns.average_repetitions(load(tmp_path)).sel(stimulus=SHAPES)
    assert abs(np.corrcoef(found.values.ravel(), COUNTS[:, [0, 1, 3]].ravel())[0, 1]) < 0.5


def test_onsets_that_count_from_the_start_of_each_trial_are_named(tmp_path):
    path = write(tmp_path, onsets=ONSETS - STARTS)
    with pytest.warns(UserWarning, match="pdOnTS is not between start_time and stop_time in 32 of 32 rows of t"):
        ns.loaders.load_presentations(path, stimulus_column="cond_ID", onset_column="pdOnTS")
