"""Windows outside the recording are NaN with a warning, silent ones are zero, and clocks not in seconds are named."""

import re
import warnings

import h5py
import numpy as np
import pytest

from neurosuper import load_nwb
from neurosuper.loaders.recording import longest_silence

SHOWN = {"stimulus_column": "image", "window": (0.0, 0.25), "measure": "count"}
ONSETS = np.arange(2.0, 42.0)


def trains(rate, stop=42.0, n_units=3, seed=0):
    """Units that fire at a steady rate (1/s) from 0 s to a stop."""
    rng = np.random.default_rng(seed)
    return [{"spike_times": np.sort(rng.uniform(0, stop, int(rate * stop)))} for _ in range(n_units)]


def load(write_nwb, onsets, units, **options):
    """Return responses (presentation, unit) and the warnings."""
    path = write_nwb([f"im{i:03d}" for i in range(len(onsets))], onsets, units)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        responses = load_nwb(path, **SHOWN | options)
    return responses.isel(repetition=0), [str(warning.message) for warning in warned]


def rewrite(path, name, change):
    """Replace a column of the units by the result of `change`; pynwb would convert it."""
    with h5py.File(path, "r+") as file:
        values, attrs = file["units"][name][:], dict(file["units"][name].attrs)
        del file["units"][name]
        file["units"][name] = change(values)
        file["units"][name].attrs.update(attrs)
        file["units"][f"{name}_index"].attrs["target"] = file["units"][name].ref


def present(responses):
    return responses.notnull().all("unit").values.tolist()


@pytest.mark.parametrize(
    ("late", "missed"),
    [
        ([1000.0, 1001.0, 1002.0], [True, True, True]),
        ([42.5, 43.5, 44.5], [True, True, True]),
        ([41.9], [False]),  # no longer silent than by chance
        ([-900.0, -0.6], [True, True]),
        ([1e30], [True]),
    ],
)
def test_presentations_outside_the_recording_are_nan_and_counted(write_nwb, late, missed):
    onsets = np.append(ONSETS[:30], late)
    responses, messages = load(write_nwb, onsets, trains(20))
    assert present(responses) == [True] * 30 + [not each for each in missed]
    assert responses.attrs["n_unobserved"] == 3 * sum(missed)
    assert responses.attrs["n_presentations"] == len(onsets)
    assert [f"{sum(missed)} of {len(onsets)} presentations are outside the recording" in line for line in messages] == (
        [True] if any(missed) else []
    )


@pytest.mark.parametrize("rate", [0.05, 0.2, 1, 30])
def test_silence_within_the_recording_is_zero(write_nwb, rate):
    """For units of any sparseness, even if the last presentations come after the last spike."""
    responses, messages = load(write_nwb, ONSETS[:-1], trains(rate, n_units=2, seed=3))
    assert responses.notnull().all()
    assert not any("recording" in line for line in messages)


@pytest.mark.parametrize("burst", [[0.05], [0.05, 0.06, 0.07, 0.1, 0.2]])
@pytest.mark.parametrize("active", [[0], [3], [0, 1], [2, 5, 6]])
def test_trials_without_a_spike_are_zero_where_few_trials_have_any(write_nwb, active, burst):
    times = np.add.outer(ONSETS[active], burst).ravel()
    responses, messages = load(write_nwb, ONSETS[:8], [{"spike_times": times}])
    expected = np.zeros(8)
    expected[active] = len(burst)
    assert responses.values.ravel().tolist() == expected.tolist()
    assert not messages


def test_units_left_out_are_evidence_too(write_nwb):
    units = [{"spike_times": [3.1, 3.2, 4.1], "good": True}, trains(40)[0] | {"good": False}]
    responses, messages = load(write_nwb, [*ONSETS[:20], 99.0], units, units_where={"good": True})
    assert present(responses) == [True] * 20 + [False]
    assert "spikes go from 0.0" in messages[0]


def test_obs_intervals_take_precedence_over_spikes(write_nwb):
    """A unit observed until 99 s was silent at 90 s; for the other unit this is unknown."""
    units = [unit | {"obs_intervals": np.empty((0, 2))} for unit in trains(20, n_units=2)]
    units[0]["obs_intervals"] = np.array([[0.0, 99.0]])
    responses, messages = load(write_nwb, [*ONSETS[:30], 90.0], units)
    assert responses[-1].isnull().values.tolist() == [False, True]
    assert responses[-1, 0] == 0
    assert responses.attrs["n_unobserved"] == 1
    assert "1 of 31 presentations" in messages[0]


def test_a_silence_by_chance_depends_on_the_rate_and_on_how_well_it_is_known():
    starts = np.arange(100.0)
    by_rate = [longest_silence(np.arange(0, 100, 1 / rate), starts) for rate in (0.1, 1, 10, 100)]
    assert (np.diff(by_rate) < 0).all()
    by_number = [longest_silence(np.arange(0, stop, 0.1), starts) for stop in (2, 4, 10, 100)]
    assert (np.diff(by_number) < 0).all()
    assert by_number[-1] == pytest.approx(0.1 * np.log(1e6), rel=0.1)
    assert longest_silence(np.zeros(0), starts) == longest_silence(np.full(50, 3.0), starts) == np.inf


def test_bursts_are_expected_at_the_distances_that_were_observed():
    """In four of five trials no unit fires, in the fifth there are 30 spikes: ten more silent trials are expected."""
    starts = np.arange(100.0)
    bursts = np.add.outer(starts[::5], np.linspace(0.05, 0.2, 30)).ravel()
    steady = np.linspace(0, 100, len(bursts))
    assert longest_silence(bursts, starts) > 10 > 5 > longest_silence(steady, starts)


@pytest.mark.parametrize(
    ("change", "onsets", "message"),
    [
        (
            lambda t: t * 1000,
            ONSETS,
            "spike times look like milliseconds or samples: spikes go from .* from 2 to 41.25 s",
        ),
        (lambda t: (t * 30_000).astype(int), ONSETS, "spike times are whole numbers, like sample numbers"),
        (lambda t: np.round(t * 30_000), ONSETS, "spike times are whole numbers, like sample numbers"),
        (lambda t: t, ONSETS * 1000, "40 of 40 presentations are outside the recording .* both are in seconds"),
        (lambda t: t.astype(np.float16), ONSETS, "are float16, which near 41.9.* s rounds to 0.03125 s; write them as"),
        (lambda t: t / 50, ONSETS, "all spikes are closer together than presentations: spikes go from 0.* relative to"),
        (np.zeros_like, ONSETS, "all spikes are closer together than presentations: spikes go from 0 to 0 s"),
    ],
)
def test_clocks_that_are_not_in_seconds_are_named(write_nwb, change, onsets, message):
    path = write_nwb([f"im{i}" for i in range(40)], onsets, trains(20))
    rewrite(path, "spike_times", change)
    with pytest.warns(UserWarning, match=message):
        load_nwb(path, **SHOWN)


@pytest.mark.parametrize(
    ("change", "onsets", "message", "rounded"),
    [
        (lambda t: t.astype(np.float16), ONSETS * 1000, "are outside the recording", True),
        (lambda t: (t * 30_000).astype(int), ONSETS, "are whole numbers", False),
    ],
    ids=["floats", "numbers of samples"],
)
def test_rounding_is_reported_for_floats_but_not_for_numbers_of_samples(write_nwb, change, onsets, message, rounded):
    path = write_nwb([f"im{i}" for i in range(40)], onsets, trains(20))
    rewrite(path, "spike_times", change)
    with pytest.warns(UserWarning, match=message) as warned:
        load_nwb(path, **SHOWN)
    assert ("rounds to" in " ".join(str(warning.message) for warning in warned)) == rounded


def test_times_that_restart_with_every_trial_are_named(write_nwb):
    times = np.tile(trains(20, stop=0.9)[0]["spike_times"], 40)
    _, messages = load(write_nwb, ONSETS, [{"spike_times": times}])
    assert re.search("jump back over half of their range or more, in unit '0', as if they restart with", messages[0])


def test_nan_are_not_spikes(write_nwb):
    times = np.array([2.1, np.nan, 3.1, 3.2, np.inf, 4.1])
    units = [{"spike_times": times}, {"spike_times": [2.2, 4.2]}]
    responses, messages = load(write_nwb, [2.0, 3.0, 4.0], units)
    assert responses.values.T.tolist() == [[1, 2, 1], [1, 0, 1]]
    assert responses.n_spikes.values.tolist() == [4, 2]
    assert messages == ["2 spike times are NaN or infinite and were left out, in unit '0'"]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_onsets_that_are_not_a_time_are_missing(write_nwb, value):
    onsets = ONSETS[:20].copy()
    onsets[3] = value
    responses, messages = load(write_nwb, onsets, trains(20))
    assert (responses.attrs["n_missing"], responses.attrs["n_presentations"]) == (1, 19)
    assert "im003" not in responses.stimulus.values
    assert not messages


def test_a_window_that_looks_like_milliseconds_is_named(write_nwb):
    units = [trains(20, stop=400.0)[0]]
    _, messages = load(write_nwb, ONSETS, units, window=(50, 250))
    line = (
        r"window \(50.0, 250.0\) is longer than the 1 s between onsets \(median\); window is in seconds, divide by 1000"
    )
    assert len(messages) == 1
    assert re.search(line, messages[0])


@pytest.mark.parametrize(("scale", "named"), [(1, False), (100, False), (1000, True)])
def test_onsets_and_spikes_that_are_both_in_milliseconds_are_named(write_nwb, scale, named):
    units = [unit | {"spike_times": unit["spike_times"] * scale} for unit in trains(20, stop=float(ONSETS[-1]) + 1)]
    _, messages = load(write_nwb, ONSETS * scale, units)
    assert any("onsets are 1000 s apart (median)" in message for message in messages) == named


@pytest.mark.parametrize(("length", "named"), [(4.75, False), (5.25, True)])
def test_windows_of_at_most_5_s_are_in_seconds_for_any_distance_of_onsets(write_nwb, length, named):
    _, messages = load(write_nwb, ONSETS[:12], trains(20), window=(0.0, length))
    assert any("divide by 1000" in message for message in messages) == named


def test_a_few_presentations_in_a_long_recording_pass(write_nwb):
    _, messages = load(write_nwb, ONSETS[:12], trains(2, stop=9000.0))
    assert not messages


def test_windows_that_overlap_a_little_pass(write_nwb):
    _, messages = load(write_nwb, ONSETS[:30], trains(20), window=(0.0, 1.5))
    assert not messages


def test_spikes_without_an_index_are_refused_with_the_reason(write_nwb):
    """For instance, if each unit is a row, padded with NaN."""
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1, 2.1]}, {"spike_times": [1.2, 1.3]}])
    with h5py.File(path, "r+") as file:
        attrs = dict(file["units/spike_times"].attrs)
        del file["units/spike_times"], file["units/spike_times_index"]
        file["units/spike_times"] = np.array([[1.1, 2.1, np.nan], [1.2, 1.3, np.nan]])
        file["units/spike_times"].attrs.update(attrs)
    with pytest.raises(ValueError, match=r"spike_times of session.nwb has shape \(2, 3\) and no spike_times_index; it"):
        load_nwb(path, **SHOWN)


def test_spikes_that_are_not_numbers_are_refused(write_nwb):
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1, 2.1]}])
    rewrite(path, "spike_times", lambda times: np.array([f"{time} s" for time in times], h5py.string_dtype()))
    with pytest.raises(ValueError, match="spike_times of .* must be flat, and contain numbers of seconds"):
        load_nwb(path, **SHOWN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:, ::-1], "obs_intervals of session.nwb has the interval 9 to 0 s in row 0 .1 such rows"),
        (lambda rows: np.where(rows == 9, np.nan, rows), "has the interval 0 to nan s in row 0"),
        (np.ravel, r"has float64 of shape \(2,\); it must be \(interval, 2\), start and stop in seconds"),
    ],
)
def test_observation_intervals_that_cannot_be_read_are_refused(write_nwb, change, message):
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1, 2.1], "obs_intervals": np.array([[0.0, 9.0]])}])
    rewrite(path, "obs_intervals", change)
    with pytest.raises(ValueError, match=message):
        load_nwb(path, **SHOWN)


@pytest.mark.parametrize("invalid", [(np.nan, 1.5), (1.0, np.nan), (5.0, 0.5)])
def test_invalid_times_that_cannot_be_read_are_refused(write_nwb, invalid):
    path = write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1, 2.1]}], invalid=[(7.0, 8.0), invalid])
    with pytest.raises(
        ValueError, match="invalid_times of session.nwb has the interval .* s in row 1 .* correct the file"
    ):
        load_nwb(path, **SHOWN)


def test_masks_may_be_open(write_nwb):
    units = [{"spike_times": [1.1, 2.1, 3.1], "obs_intervals": np.array([[1.5, np.inf]])}]
    path = write_nwb("abc", [1.0, 2.0, 3.0], units, invalid=[(2.5, np.inf)])
    counts = load_nwb(path, **SHOWN)
    assert np.array_equal(counts.values.ravel(), [np.nan, 1, np.nan], equal_nan=True)
