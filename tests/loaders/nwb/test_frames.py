"""Sums over frames in windows equal those of brute force, for any size of the blocks that are read."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper.loaders.nwb import frames as series
from neurosuper.loaders.nwb.frames import sum_frames

sixteenths = st.integers(-32, 96).map(lambda n: n / 16)  # sums are exact, so that frames fall on the edges
windows = st.lists(st.tuples(sixteenths, sixteenths), max_size=10)


def brute_force(data, times, columns, starts, ends, delays):
    """Sum of values that are not NaN, and their number, for each column and window; and how many are NaN."""
    inside = [
        [(times + delay >= start) & (times + delay < end) for start, end in zip(starts, ends, strict=True)]
        for delay in delays
    ]
    chosen = [[data[rows, column] for rows in of] for column, of in zip(columns, inside, strict=True)]
    totals = [[np.nansum(values) for values in of] for of in chosen]
    n_frames = [[int((values == values).sum()) for values in of] for of in chosen]
    return totals, n_frames, sum(int((values != values).sum()) for of in chosen for values in of)


@st.composite
def recordings(draw):
    """Data (time, column) of whole numbers and NaN, with times, columns, windows and delays."""
    n_frames, n_columns = draw(st.integers(1, 40)), draw(st.integers(1, 4))
    values = st.one_of(st.integers(-9, 9).map(float), st.just(np.nan))
    data = np.array(draw(st.lists(values, min_size=n_frames * n_columns, max_size=n_frames * n_columns)))
    times = np.sort(draw(st.lists(sixteenths, min_size=n_frames, max_size=n_frames)))
    columns = draw(st.lists(st.sampled_from(range(n_columns)), min_size=1, unique=True))
    starts, ends = np.array(draw(windows), float).reshape(-1, 2).T
    delays = draw(st.lists(sixteenths, min_size=len(columns), max_size=len(columns)))
    return data.reshape(n_frames, n_columns), times, np.array(columns), starts, ends, np.array(delays)


@given(recordings(), st.booleans(), st.integers(1, 60))
@settings(deadline=None)
def test_sums_equal_brute_force(recording, delayed, block):
    *whole, delays = recording
    series.BLOCK, before = block, series.BLOCK
    try:
        frames = sum_frames(*whole, delays if delayed else None)
    finally:
        series.BLOCK = before
    expected = brute_force(*whole, delays if delayed else np.zeros(len(delays)))
    assert (frames.totals.tolist(), frames.n_frames.tolist(), frames.n_nan) == expected


def test_frames_of_a_rate_count_where_they_are_meant():
    """2.561 s + 70 ms is 2.6310000000000002 s, and frame 2631 of 1 kHz is at 2.631 s: they are the same moment."""
    data = np.arange(10_000.0)[:, None]
    onsets = np.arange(1000, 9000, 7) / 1000
    frames = sum_frames(data, np.arange(10_000) / 1000, np.array([0]), onsets + 0.07, onsets + 0.27)
    firsts = np.arange(1000, 9000, 7) + 70
    assert (frames.n_frames == 200).all()
    np.testing.assert_array_equal(frames.totals[0], 200 * firsts + 199 * 100)


def test_only_frames_in_windows_and_close_by_are_read(tmp_path):
    read = []

    class Watched:
        chunks = (10, 2)

        def __getitem__(self, key):
            read.append((key[0].start, key[0].stop))
            return np.zeros((key[0].stop - key[0].start, 2))

    starts = np.array([100.0, 105.0, 500.0, 506.0, 900.0])
    sum_frames(Watched(), np.arange(1000.0), np.array([0, 1]), starts, starts + 3)
    assert sorted(read) == [(100, 108), (500, 509), (900, 903)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_any_number_from_a_file(tmp_path, dtype):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(60, dtype=dtype).reshape(20, 3), chunks=(4, 2))
        frames = sum_frames(file["x"], np.arange(20.0), np.array([2, 0]), np.array([3.0, 18.0]), np.array([5.0, 99.0]))
    assert frames.totals.tolist() == [[11.0 + 14.0, 56.0 + 59.0], [9.0 + 12.0, 54.0 + 57.0]]


def test_a_frame_half_a_percent_outside_a_window_does_not_count():
    """Rounding of times is forgiven to a millionth of a frame, not to a hundredth."""
    data, times = np.arange(20.0)[:, None], np.arange(20.0)
    starts, ends = np.array([5.005, 5.0, 5.0 + 1e-7]), np.array([8.0, 8.005, 8.0])
    frames = sum_frames(data, times, np.array([0]), starts, ends)
    assert frames.totals.tolist() == [[6.0 + 7, 5.0 + 6 + 7 + 8, 5.0 + 6 + 7]]
    assert sum_frames(data, times, np.array([0]), starts[:1] - 1, ends[:1] - 0.005).n_frames.tolist() == [[3]]
