"""Sums of time series (time, column) over windows.

Frames are read in blocks of some MiB, with as few frames between windows as possible; a compiled loop adds them up.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosuper._kernels import njit
from neurosuper.loaders.spike_counts import n_threads

__all__ = ["Frames", "as_columns", "sum_frames"]

BLOCK = 2**20  # values that a thread reads and adds up at a time: 8 MiB in float64
MEMORY_GAP = 64  # frames between windows that may be read too; of a file, one chunk: it is read in whole chunks anyway
SLACK = 1e-6  # of the time between frames: a frame this close to the edge of a window is on it, for times are rounded


@dataclass(frozen=True)
class Frames:
    """Sums and numbers of frames in each window, both (unit, window), and the number of values that are not finite."""

    totals: np.ndarray
    n_frames: np.ndarray
    n_nan: int


def sum_frames(
    data: Any,
    times: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    delays: np.ndarray | None = None,
) -> Frames:
    """Return sums of the frames in each window, column by column, without NaN and infinite values.

    Parameters
    ----------
    data : array (time, column)
        Or a dataset of an open HDF5 file; only frames in windows, and some between them, are read.
    times : array (time,)
        In seconds, in order.
    columns : array of int
        Columns to read.
    starts, ends : array (window,)
        In seconds, in any order. A frame at the start counts, one at the end does not.
    delays : array, one for each of `columns`, optional
        Time from that of a frame to the recording of a column, in seconds.

    Returns
    -------
    Frames

    See Also
    --------
    neurosuper.loaders.spike_counts.count_in_windows : Count spikes in windows.

    Examples
    --------
    >>> import numpy as np
    >>> frames = sum_frames(np.array([[1.0], [2.0], [4.0]]), np.array([0.0, 1.0, 2.0]), np.array([0]), np.array([1.0]),
    ...                     np.array([3.0]))
    >>> frames.totals.tolist(), frames.n_frames.tolist()
    ([[6.0]], [[2]])
    """
    # Moving both edges of all windows earlier puts frames that rounding left just before an edge onto it.
    slack = SLACK * float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    order = np.argsort(starts, kind="stable")
    starts, ends = np.asarray(starts, float)[order] - slack, np.asarray(ends, float)[order] - slack
    delays = np.zeros(1) if delays is None else np.asarray(delays, float)
    # Frames that any column may need, for the largest and the smallest delay.
    first = np.searchsorted(times, starts - delays.max() - slack)
    last = np.searchsorted(times, ends - delays.min() + slack)
    totals, n_frames = np.zeros((len(columns), len(starts))), np.zeros((len(columns), len(starts)), np.int32)
    low, high = columns.min(), columns.max() + 1

    def add(block: slice) -> int:
        rows = slice(first[block].min(), last[block].max())
        frames = np.asarray(data[rows, low:high], np.float64).take(columns - low, axis=1)
        return _sum_block(frames, times[rows], delays, starts[block], ends[block], totals[:, block], n_frames[:, block])

    with ThreadPoolExecutor(n_threads()) as pool:
        gap = chunks[0] if (chunks := getattr(data, "chunks", None)) else MEMORY_GAP
        n_nan = sum(pool.map(add, _blocks(first, last, max(1, BLOCK // int(high - low)), gap)))
    back = np.argsort(order)
    return Frames(totals[:, back], n_frames[:, back], n_nan)


def as_columns(data: Any, n_frames: int, where: str) -> Any:
    """Return a dataset that is sliced as (time, column), also if it has the shape (time,) or (1, time).

    Parameters
    ----------
    data : dataset
        Of a time series.
    n_frames : int
        Number of timestamps.
    where : str
        Name of the time series in errors.

    Raises
    ------
    ValueError
        Another shape.

    Examples
    --------
    >>> import numpy as np
    >>> as_columns(np.zeros(3), 3, "time series 'speed'").shape
    (3, 1)
    """
    shape: tuple[int, ...] = () if data is None else tuple(data.shape)
    if len(shape) == 2 and shape[0] == n_frames:
        return data
    if shape in ((n_frames,), (1, n_frames)):
        return _AsColumns(data)
    raise ValueError(
        f"{where} has data of shape {shape} for {n_frames} frames; it must be (time, column), not transposed"
    )


class _AsColumns:
    """A dataset with shape (time,) or (1, time), read as (time, column)."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.shape = (data.shape[-1], 1)
        self.chunks = None if getattr(data, "chunks", None) is None else (data.chunks[-1],)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        rows = self._data[key[0]] if self._data.ndim == 1 else self._data[0, key[0]]
        return np.asarray(rows)[:, np.newaxis][:, key[1]]


def _blocks(first: np.ndarray, last: np.ndarray, n_rows: int, gap: int) -> Iterator[slice]:
    """Yield windows (sorted by their first frame) in blocks, with at most `gap` frames between two of them."""
    start, stop = 0, 0
    for window in range(len(first)):
        if window > start and (last[window] - first[start] > n_rows or first[window] > stop + gap):
            yield slice(start, window)
            start = window
        stop = max(stop, last[window])
    if len(first):
        yield slice(start, len(first))


@njit(nogil=True)
def _frame_at(times, delay, edge):  # type: ignore[no-untyped-def]
    """Return the first frame whose time plus delay is not before an edge (binary search)."""
    low, high = 0, times.size
    while low < high:
        middle = (low + high) >> 1
        if times[middle] + delay < edge:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True)
def _sum_block(frames, times, delays, starts, ends, totals, n_frames):  # type: ignore[no-untyped-def]
    """Add the frames of each window to `totals`, their number to `n_frames`; return the number of values left out."""
    n_nan = 0
    for window in range(starts.size):
        first, last = 0, 0
        for column in range(frames.shape[1]):
            # Without delays there is one entry for all columns: the search is made for the first only.
            if column < delays.size:
                first = _frame_at(times, delays[column], starts[window])
                last = _frame_at(times, delays[column], ends[window])
            for frame in range(first, last):
                value = frames[frame, column]
                if np.isfinite(value):
                    totals[column, window] += value
                    n_frames[column, window] += 1
                else:
                    n_nan += 1
    return n_nan
