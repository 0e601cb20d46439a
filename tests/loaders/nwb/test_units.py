"""Several windows give the same numbers as one call for each."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import average_repetitions, load_nwb
from neurosuper.loaders.nwb.units import Windows

WINDOWS = [(0.0, 0.125), (0.0625, 0.25), (-0.5, 0.0625)]  # overlapping, and one from before the onset
SCENES = {"presentations": "natural_scenes_presentations", "stimulus_column": "frame", "blanks": [-1]}


def test_spikes_in_several_windows_are_those_of_single_calls(mouse):
    options = SCENES | {"area_column": "location"}
    several = load_nwb(mouse.path, window=WINDOWS, **options)
    assert several.dims == ("stimulus", "repetition", "window", "unit")
    assert several.window.values.tolist() == ["0 to 0.125 s", "0.0625 to 0.25 s", "-0.5 to 0.0625 s"]
    assert several.window_start.values.tolist() == [start for start, _ in WINDOWS]
    assert several.window_stop.values.tolist() == [stop for _, stop in WINDOWS]
    assert several.window_start.attrs["units"] == "s"
    for i, window in enumerate(WINDOWS):
        single = load_nwb(mouse.path, window=window, **options)
        xr.testing.assert_identical(several.isel(window=i).drop_vars(WINDOW_COORDS).drop_attrs(), single.drop_attrs())
    assert several.attrs["window"] == "[[0.0, 0.125], [0.0625, 0.25], [-0.5, 0.0625]]"


WINDOW_COORDS = ["window", "window_start", "window_stop"]


@pytest.mark.parametrize("measure", ["mean", "rate"])
def test_frames_in_several_windows_are_those_of_single_calls(mouse, measure):
    options = SCENES | {"measure": measure, "series": "DfOverF"}
    several = load_nwb(mouse.path, window=WINDOWS, **options)
    for i, window in enumerate(WINDOWS):
        single = load_nwb(mouse.path, window=window, **options)
        xr.testing.assert_identical(several.isel(window=i).drop_vars(WINDOW_COORDS).drop_attrs(), single.drop_attrs())
    assert not several.isel(window=0).equals(several.isel(window=2))


def test_windows_outside_the_recording_or_invalid_are_hidden_one_by_one(write_nwb):
    observed = {"obs_intervals": np.array([[0.0, 99.0]])}
    units = [
        {"spike_times": [1.1, 2.1, 3.1], "obs_intervals": np.array([[0.0, 3.2]])},
        observed | {"spike_times": [1.3, 9.0]},
    ]
    path = write_nwb("abc", [1.0, 2.0, 3.0], units, invalid=[(2.3, 2.4)])
    windows = [(0.0, 0.2), (0.2, 0.5)]
    several = load_nwb(path, stimulus_column="image", window=windows, measure="count")
    singles = [load_nwb(path, stimulus_column="image", window=window, measure="count") for window in windows]
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(several.isel(window=i), single)
    assert several.isel(unit=0).isnull().sum("window").values.ravel().tolist() == [0, 1, 1]
    assert several.attrs["n_unobserved"] == sum(single.attrs["n_unobserved"] for single in singles)
    assert several.attrs["n_invalid"] == 1


def test_a_windowed_array_survives_netcdf_and_asks_to_select_a_window(mouse, tmp_path):
    several = load_nwb(mouse.path, window=WINDOWS[:2], **SCENES)
    several.to_netcdf(tmp_path / "several.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "several.nc"), several)
    with pytest.raises(
        ValueError, match="have the dim window .'0 to 0.125 s', '0.0625 to 0.25 s'.; select one"
    ) as raised:
        average_repetitions(several)
    assert "\n" not in str(raised.value)
    assert average_repetitions(several.sel(window="0 to 0.125 s")).dims == ("stimulus", "unit")


def test_one_window_in_a_list_is_still_a_dim(mouse):
    assert load_nwb(mouse.path, window=np.array([[0.0, 0.1]]), **SCENES).sizes["window"] == 1
    assert "window" not in load_nwb(mouse.path, window=[0.0, 0.1], **SCENES).dims


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ([(0.0, 0.1), (0.0, 0.1)], "the same .start, stop. twice"),
        ([(0.0, 0.1), (0.2, 0.1)], "start before stop, or a list of these, got .0.2, 0.1."),
        ([], "start before stop, or a list of these, got "),
        ([(0.0, 0.1, 0.2)], "start before stop"),
        ([0.1, (0.2, 0.3)], "start before stop, or a list of these, got .0.1, .0.2, 0.3.."),
        (("early", "late"), "start before stop"),
    ],
)
def test_wrong_lists_of_windows_are_refused(window, message):
    with pytest.raises(ValueError, match=message):
        Windows.of(window)
