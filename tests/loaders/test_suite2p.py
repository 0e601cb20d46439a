"""Folders of suite2p: means of planted traces come back by plane and ROI, equal to a loop, and no code in them is run.

The folders are written here, by the layout that the documentation of suite2p describes: suite2p itself has another
license (GPL-3), so it is not needed to run the tests.
"""

import datetime
import pickle
import subprocess
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pytest

from neurosuper.loaders import inspect_file, load_suite2p
from neurosuper.loaders.suite2p import SETTINGS

FS = 4.0
N_ROIS = (3, 5)
TABLE = pd.DataFrame({"image": ["owl", "cat", "owl", "bat"], "onset": [6.0, 1.0, 3.0, 4.1]})


def write_plane(folder, n_rois, n_frames=40, seed=0, settings="ops.npy", **more):
    """Write a plane, and return its arrays by name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    arrays = {name: rng.gamma(2.0, size=(n_rois, n_frames)).astype(np.float32) for name in ("F", "Fneu", "spks")}
    arrays["iscell"] = np.column_stack([np.arange(n_rois) % 2 == 0, rng.uniform(size=n_rois)])
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    stat = [
        {"med": [int(y), int(x)], "npix": np.int64(n), "ypix": np.arange(n), "lam": np.ones(n, np.float32)}
        for y, x, n in rng.integers(1, 500, (n_rois, 3))
    ]
    np.save(folder / "stat.npy", np.array(stat), allow_pickle=True)
    # What settings contain beside numbers: paths, dates, arrays of text.
    ops = {"fs": FS, "nplanes": 2, "save_path": PurePosixPath("/data"), "date_proc": datetime.datetime(2024, 1, 2)}
    np.save(folder / settings, ops | {"filelist": np.array(["a.tif"]), "meanImg": np.ones((4, 4))} | more)
    return arrays | {"stat": stat}


@pytest.fixture
def folder(tmp_path):
    """Two planes; the second lacks the last frame."""
    return tmp_path / "mouse" / "suite2p"


@pytest.fixture
def planes(folder):
    return [write_plane(folder / f"plane{i}", n, 40 - i, seed=i) for i, n in enumerate(N_ROIS)]


def load(path, **options):
    return load_suite2p(path, TABLE, **{"window": (0.25, 1.5), "stimulus_column": "image"} | options)


def loop(traces, onset, times):
    inside = [i for i, time in enumerate(times[: traces.shape[1]]) if onset + 0.25 <= time < onset + 1.5]
    return np.mean([traces[:, i] for i in inside], axis=0)


@pytest.mark.parametrize(
    ("options", "trace_of"),
    [
        ({}, lambda plane: plane["spks"]),
        ({"traces": "F"}, lambda plane: plane["F"] - 0.7 * plane["Fneu"]),
        ({"traces": "F", "neuropil": 0.0}, lambda plane: plane["F"]),
        ({"traces": "F", "neuropil": 0.5}, lambda plane: plane["F"] - 0.5 * plane["Fneu"]),
        ({"frame_times": np.arange(40) / FS + 0.5}, lambda plane: plane["spks"]),
    ],
)
def test_means_of_the_cells_of_all_planes_equal_a_loop(folder, planes, options, trace_of):
    responses = load(folder, **options)
    times = options.get("frame_times", np.arange(40) / FS)
    assert responses.unit.values.tolist() == ["plane0_0", "plane0_2", "plane1_0", "plane1_2", "plane1_4"]
    assert responses.plane.values.tolist() == [0, 0, 1, 1, 1]
    for stimulus, onsets in {"owl": [3.0, 6.0], "cat": [1.0], "bat": [4.1]}.items():
        for repetition, onset in enumerate(onsets):
            expected = np.concatenate([loop(trace_of(plane)[::2], onset, times) for plane in planes])
            found = responses.sel(stimulus=stimulus).isel(repetition=repetition)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=f"{stimulus} {onset}")
    assert np.isnan(responses.sel(stimulus="cat").isel(repetition=1)).all()


def test_facts_on_rois_become_coords(folder, planes):
    responses = load(folder, cells_only=False)
    stat = [roi for plane in planes for roi in plane["stat"]]
    iscell = np.concatenate([plane["iscell"] for plane in planes])
    assert responses.sizes["unit"] == sum(N_ROIS)
    assert responses.unit.values[3] == "plane1_0"
    assert responses.x.values.tolist() == [roi["med"][1] for roi in stat]
    assert responses.y.values.tolist() == [roi["med"][0] for roi in stat]
    assert responses.n_pixels.values.tolist() == [roi["npix"] for roi in stat]
    np.testing.assert_array_equal(responses.is_cell, iscell[:, 0] == 1)
    np.testing.assert_array_equal(responses.cell_probability, iscell[:, 1])
    assert (responses.attrs["traces"], "neuropil" in responses.attrs) == ("spks", False)
    assert load(folder, traces="F").attrs["neuropil"] == 0.7


def test_the_folder_above_a_plane_and_combined_planes_are_the_same_cells(folder, planes):
    """As suite2p writes `combined`: ROIs of all planes in order, whose stat says the plane."""
    whole = load(folder)
    assert whole.identical(load(folder.parent))
    assert load(folder / "plane1").equals(whole.isel(unit=slice(2, None)))
    combined = folder / "combined"
    write_plane(combined, sum(N_ROIS), 39)
    for name in ("F", "Fneu", "spks"):
        np.save(combined / f"{name}.npy", np.concatenate([plane[name][:, :39] for plane in planes]))
    stat = [roi | {"iplane": i} for i, plane in enumerate(planes) for roi in plane["stat"]]
    np.save(combined / "stat.npy", np.array(stat), allow_pickle=True)
    iscell = np.concatenate([plane["iscell"] for plane in planes])
    np.save(combined / "iscell.npy", iscell)
    assert load(combined).equals(whole)
    assert load(folder).equals(whole)
    iscell[1, 0] = 1  # a cell that was chosen in the combined view
    np.save(combined / "iscell.npy", iscell)
    assert load(combined).unit.values.tolist()[:3] == ["plane0_0", "plane0_1", "plane0_2"]
    with pytest.raises(ValueError, match="has other cells in combined than in its planes; pass the folder combined"):
        load(folder)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_rate_is_in_the_settings_of_any_version(tmp_path, settings):
    plane = write_plane(tmp_path / "plane0", 3, settings=settings)
    expected = loop(plane["spks"][::2], 1.0, np.arange(40) / FS)
    np.testing.assert_allclose(load(tmp_path).sel(stimulus="cat").isel(repetition=0), expected, rtol=1e-5)


def test_frames_of_several_recordings_are_warned_of(tmp_path):
    write_plane(tmp_path / "plane0", 3, frames_per_folder=np.array([20, 20]))
    with pytest.warns(UserWarning, match="has frames of 2 recordings, taken as one without gaps; pass frame_times="):
        load(tmp_path)
    load(tmp_path, frame_times=np.arange(40) / FS)


class Shell:
    def __reduce__(self):
        return subprocess.check_call, (["touch", "ran"],)


def test_code_in_the_files_is_not_run(folder, planes, monkeypatch):
    monkeypatch.chdir(folder)
    expected = load(folder)
    np.save(folder / "plane0" / "ops.npy", {"fs": FS, "path": Shell()}, allow_pickle=True)
    assert load(folder).equals(expected)
    assert not Path("ran").exists()


def test_arrays_that_an_old_numpy_wrote_are_read(folder, planes):
    """NumPy 1 names its functions `numpy.core`, NumPy 2 `numpy._core`."""
    expected = load(folder)
    file = folder / "plane0" / "stat.npy"
    array = pickle.dumps(np.load(file, allow_pickle=True), protocol=3)
    header = file.read_bytes()[: 10 + int.from_bytes(file.read_bytes()[8:10], "little")]
    file.write_bytes(header + array.replace(b"numpy._core", b"numpy.core"))
    assert load(folder).equals(expected)


def remove(name):
    return lambda plane: (plane / name).unlink()


def save(name, values):
    return lambda plane: np.save(plane / name, values)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (remove("spks.npy"), {}, "no spks.npy in .*; pass the folder that suite2p wrote"),
        (remove("stat.npy"), {}, "no stat.npy in"),
        (remove("ops.npy"), {}, "no rate `fs` in ops.npy or settings.npy or db.npy of .*; pass frame_times="),
        (save("iscell.npy", np.zeros((3, 2))), {}, "none of 3 ROIs in .* is a cell; choose cells in suite2p"),
        (save("iscell.npy", np.ones((2, 2))), {}, r"3 traces in spks.npy, iscell.npy of shape \(2, 2\), and 3 ROIs"),
        (save("Fneu.npy", np.ones((3, 2))), {"traces": "F"}, r"F.npy of shape \(3, 40\), Fneu.npy of \(3, 2\)"),
        (save("stat.npy", np.array([{"med": [1, 2]}] * 3)), {}, "ROIs in .*stat.npy have no npix; run suite2p again"),
        (save("stat.npy", np.array([1, None])), {}, "cannot read .*stat.npy: it has no dicts; copy it again"),
        (lambda plane: (plane / "stat.npy").write_bytes(b"\x93NUMPY"), {}, "cannot read .*stat.npy: .*; copy it again"),
        (lambda plane: (plane / "spks.npy").write_bytes(b"\x93NUMPY"), {}, "cannot read .*spks.npy: .*; copy it again"),
        (lambda _: None, {"frame_times": np.arange(41)}, r"one for each of 40 frames of a plane, got \(41,\)"),
        (lambda _: None, {"traces": "dff"}, "traces must be one of 'spks', 'F'; got 'dff'"),
    ],
)
def test_folders_that_do_not_fit_are_refused_in_one_line(tmp_path, change, options, message):
    write_plane(tmp_path / "plane0", 3)
    change(tmp_path / "plane0")
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_folders_of_something_else_are_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no folder plane0 and no iscell.npy in .*; pass the folder that suite2p"
    ):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; check the path"):
        load(tmp_path / "nowhere")


def test_what_is_in_a_folder_and_how_to_load_it(folder, planes, monkeypatch):
    for path, first in ((folder, "plane0/F"), (folder.parent, "suite2p/plane0/F"), (folder / "plane0", "F")):
        contents = inspect_file(path)
        assert contents.arrays.index[0] == str(Path(first))
        assert contents.arrays["shape"].iloc[0] == (3, 40)
    contents = inspect_file(folder)
    assert list(contents.arrays.index[-1:]) == [str(Path("plane1/spks"))]
    assert "To load responses, with your table of presentations" in repr(contents)
    monkeypatch.chdir(folder)
    TABLE.rename(columns={"image": "stimulus"}).to_csv("presentations.csv")
    names: dict = {}
    exec(contents.proposed_call, names)
    assert names["responses"].equals(load(folder, window=(0.0, 0.5)))
