"""Means of frames after onsets equal a loop in NumPy."""

import numpy as np
import pandas as pd
import pytest

from neurosuper.loaders import average_frames

TIMES = np.arange(0.0, 10.0, 0.125)
TRACES = np.random.default_rng(0).normal(size=(3, len(TIMES))).astype(np.float32)
TABLE = pd.DataFrame(
    {"image": ["owl", "cat", "owl", "bat"], "onset": [6.0, 1.0, 3.0, 4.03], "kind": ["bird", "pet", "bird", "wild"]}
)


def average(**options):
    given = {"traces": TRACES, "frame_times": TIMES, "presentations": TABLE, "window": (0.25, 1.0)} | options
    return average_frames(**given | {"stimulus_column": "image"})


def test_means_equal_a_loop():
    responses = average(measured_in="dF/F", units=["a", "b", "c"], depth=[1, 2, 3])
    for stimulus, onsets in {"owl": [3.0, 6.0], "cat": [1.0], "bat": [4.03]}.items():
        for repetition, onset in enumerate(onsets):
            inside = np.array([onset + 0.25 <= time < onset + 1.0 for time in TIMES])
            own = responses.sel(stimulus=stimulus).isel(repetition=repetition)
            np.testing.assert_allclose(own, TRACES[:, inside].mean(axis=1), rtol=1e-5)
    assert np.isnan(responses.sel(stimulus="cat").isel(repetition=1)).all()
    assert responses.unit.values.tolist() == ["a", "b", "c"]
    assert responses.depth.values.tolist() == [1, 2, 3]
    assert responses.kind.values.tolist() == ["wild", "pet", "bird"]
    assert responses.attrs["units"] == "dF/F"
    assert responses.attrs["n_unobserved"] == 0


def test_windows_without_frames_are_nan_and_nan_frames_are_left_out():
    traces = TRACES.copy()
    traces[0, TIMES == 1.5] = np.nan
    table = TABLE.replace({"onset": {6.0: 60.0}})
    responses = average(traces=traces, presentations=table)
    assert np.isnan(responses.sel(stimulus="owl").isel(repetition=1)).all()
    assert responses.attrs["n_unobserved"] == 3
    assert responses.attrs["n_nan_frames"] == 1
    inside = (TIMES >= 1.25) & (TIMES < 2.0) & (TIMES != 1.5)
    assert responses.sel(stimulus="cat").isel(repetition=0, unit=0) == pytest.approx(TRACES[0, inside].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"traces": TRACES.T}, "one frame_times for each frame, got .*; transpose them"),
        ({"frame_times": TIMES[::-1]}, "must be finite, and not decrease"),
        ({"window": (1.0, 0.5)}, "window must be"),
        ({"onset_column": "time"}, "no column 'time'; it has 'image', 'onset', 'kind': pass onset_column="),
    ],
)
def test_traces_that_do_not_fit_are_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        average(**options)


def test_no_frame_in_any_window_is_a_warning():
    with pytest.warns(UserWarning, match="no frame falls into any window"):
        average(presentations=TABLE.assign(onset=[60.0, 70.0, 80.0, 90.0]))
