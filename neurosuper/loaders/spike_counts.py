"""Spike counts of each unit in each window, by a compiled merge of sorted times and edges.

Windows are half-open: a spike at the start counts, one at the end does not. The rank of an edge is the number of spikes
before it; the count of a window is the rank of its end minus that of its start. The edges of all windows are sorted
once, and merged with the spikes of each unit. Units are counted in blocks, on all processors, while others are being
read.

The merge stays within its arrays only if times and edges are finite and sorted. Both are checked: edges when they are
sorted, the spikes of each unit in the compiled loop, immediately before they are merged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from neurosuper._kernels import njit
from neurosuper.loaders.memory_map import mapped

__all__ = ["SpikeCounts", "count_in_windows"]

BLOCK = 2**20  # spikes and edges that a thread counts at a time: 8 MiB in float64
SEARCH_RATIO = 32  # spikes per edge: above this, a binary search per edge costs less than a merge of all spikes
MAX_THREADS = 8  # threads, at most: each needs the memory of a block
MEDIAN_SPIKES = 5  # width of a running median, which one or two stray spikes do not change


class SpikeCounts(NamedTuple):
    """Spike counts, and problems with the spike times of each unit, in the order of `counts`."""

    counts: np.ndarray  # (unit, window)
    n_lost: np.ndarray  # (unit,) times that are NaN or infinite: no spikes
    disordered: np.ndarray  # (unit,) bool: times were not in order, and were sorted to be counted
    restarted: np.ndarray  # (unit,) bool: times go back by half of their range or more in total
    firsts: np.ndarray  # (unit,) the first spike in s, NaN where there is none
    lasts: np.ndarray


def count_in_windows(
    times: np.ndarray,
    stops: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    units: Sequence[int] | np.ndarray | None = None,
    dtype: type = np.int32,
) -> SpikeCounts:
    """Return the number of spikes of each unit in each window.

    Parameters
    ----------
    times : array (spike,)
        Spike times of all units, one unit after another, in seconds: an array, or a dataset of an open HDF5 file, which
        is read in blocks of some MiB.
    stops : array of int (unit,)
        Where the spikes of each unit stop in `times`.
    starts, ends : array (window,)
        In seconds, in any order; windows may overlap. Not NaN.
    units : array of int, optional
        Units to count, in increasing order; spikes of other units are not read. By default all.
    dtype : optional
        Data type of the counts.

    Returns
    -------
    SpikeCounts
        `counts` (unit, window) first. NaN and infinite times are left out, and unsorted times are sorted; the other
        fields give the units concerned.

    Raises
    ------
    ValueError
        An edge of a window is NaN, or `times` ends before the spikes of the last unit.

    See Also
    --------
    neurosuper.loaders.nwb.frames.sum_frames : Sum the frames of time series in windows.

    Examples
    --------
    >>> import numpy as np
    >>> times, starts, ends = np.array([0.1, 0.2, 0.9, 0.2]), np.array([0.0, 0.2]), np.array([0.2, 1.0])
    >>> count_in_windows(times, np.array([3, 4]), starts, ends)[0].tolist()
    [[1, 2], [0, 1]]
    """
    times, stops = mapped(times), np.asarray(stops, np.int64)
    firsts = np.concatenate([[0], stops[:-1]])
    chosen = np.arange(len(stops)) if units is None else np.asarray(units)
    gap = chunks[0] if (chunks := getattr(times, "chunks", None)) else 0  # a file is read in whole chunks anyway
    edges, start_at, end_at = _sort_edges(np.asarray(starts, float), np.asarray(ends, float))
    n = len(chosen)
    counts: np.ndarray = np.empty((n, len(start_at)), dtype)
    found = SpikeCounts(counts, np.zeros(n, int), *np.zeros((2, n), bool), *np.full((2, n), np.nan))
    is_sorted = np.ones(n, bool)

    def count(block: slice) -> None:
        first, last = firsts[chosen[block]], stops[chosen[block]]
        spikes = _native(times[first[0] : last[-1]])
        if len(spikes) != last[-1] - first[0]:
            raise ValueError(f"there are fewer than {last[-1]} spike times, where the last unit should stop")
        first, last = first - first[0], last - first[0]
        _count_block(spikes, first, last, edges, start_at, end_at, counts[block], is_sorted[block])
        fires = is_sorted[block] & (last > first)
        found.firsts[block][fires], found.lasts[block][fires] = spikes[first[fires]], spikes[last[fires] - 1]
        for place in np.flatnonzero(~is_sorted[block]):
            repaired = _repair(spikes[first[place] : last[place]], found, block.start + place)
            whole, row = np.array([0, len(repaired)]), slice(block.start + place, block.start + place + 1)
            _count_block(repaired, whole[:1], whole[1:], edges, start_at, end_at, counts[row], np.ones(1, bool))

    with ThreadPoolExecutor(n_threads()) as pool:
        list(pool.map(count, _blocks(firsts[chosen], stops[chosen], len(edges), gap)))
    return found


def n_threads() -> int:
    """Return the number of blocks to count at once."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def _sort_edges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sorted edges of all windows, and the positions of the starts and the ends of windows among them."""
    # A window that ends before it starts is empty: its end moves to its start.
    both = np.concatenate([starts, np.maximum(starts, ends)])
    if np.isnan(both).any():
        raise ValueError(f"{np.isnan(both).sum()} edges of windows are NaN; leave these windows out")
    order = np.argsort(both, kind="stable")
    place = np.empty(len(both), np.int32)
    place[order] = np.arange(len(both), dtype=np.int32)
    return both[order], place[: len(starts)], place[len(starts) :]


def _native(spikes: Any) -> np.ndarray:
    """Return spikes in a data type that numba supports."""
    dtype = spikes.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float64)
    return np.ascontiguousarray(spikes, dtype=dtype)


def _repair(spikes: np.ndarray, found: SpikeCounts, place: int) -> np.ndarray:
    """Return the sorted, finite spikes of one unit, and record its problems in `found`."""
    finite = spikes[np.isfinite(spikes)]
    found.n_lost[place] = len(spikes) - len(finite)
    ordered = np.sort(finite)
    if len(ordered):
        found.firsts[place], found.lasts[place] = ordered[0], ordered[-1]
    found.disordered[place] = not np.array_equal(finite, ordered)
    found.restarted[place] = _restarts(finite)
    return ordered


def _restarts(spikes: np.ndarray) -> bool:
    """Return whether times go back by half of their range or more, adding up all steps back.

    Times that are relative to each trial go back with every trial, those of two concatenated files once. Swapped
    neighbours go back by little, and single stray spikes do not change the running median.
    """
    half = np.ptp(spikes) / 2 if len(spikes) else 0
    if len(spikes) < 2 * MEDIAN_SPIKES or _fallen(spikes) < half:
        return False
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(spikes, MEDIAN_SPIKES), axis=1)
    return bool(_fallen(smooth) >= half > 0)


def _fallen(values: np.ndarray) -> float:
    """Return the sum of all decreases between neighbours."""
    return float(np.maximum(values[:-1] - values[1:], 0).sum())


def _blocks(firsts: np.ndarray, stops: np.ndarray, n_edges: int, gap: int) -> Iterator[slice]:
    """Yield units in blocks of enough work, with at most `gap` spikes of other units between two of them."""
    start, work = 0, 0
    for unit in range(len(firsts)):
        work += stops[unit] - firsts[unit] + n_edges
        last = unit + 1 == len(firsts)
        if last or work >= BLOCK or firsts[unit + 1] - stops[unit] > gap:
            yield slice(start, unit + 1)
            start, work = unit + 1, 0


@njit(nogil=True)
def _count_block(times, first, last, edges, start_at, end_at, counts, is_sorted):  # type: ignore[no-untyped-def]
    """Write the counts of a block of units; those with spikes that are not finite and sorted are only marked."""
    ranks = np.empty(edges.size + 1, np.int32)
    for unit in range(first.size):
        spikes = times[first[unit] : last[unit]]
        is_sorted[unit] = _check_sorted(spikes)
        if not is_sorted[unit]:
            continue  # the merge would leave its arrays
        # Ranks of all edges: by binary searches if edges are few, by a merge otherwise.
        if spikes.size > SEARCH_RATIO * edges.size:
            for i in range(edges.size):
                ranks[i] = _rank(spikes, edges[i])
        else:
            _merge(spikes, edges, ranks)
        for window in range(start_at.size):
            counts[unit, window] = ranks[end_at[window]] - ranks[start_at[window]]


@njit(nogil=True)
def _check_sorted(values):  # type: ignore[no-untyped-def]
    """Return whether values are sorted and finite."""
    if values.size == 0:
        return True
    # Comparisons with NaN are false, and infinities of sorted values are at the ends. No early exit: the loop then uses
    # vector instructions.
    n_steps = 0
    for i in range(1, values.size):
        n_steps += values[i - 1] <= values[i]
    return n_steps == values.size - 1 and np.isfinite(values[0]) and np.isfinite(values[-1])


@njit(nogil=True)
def _rank(values, edge):  # type: ignore[no-untyped-def]
    """Return how many of the sorted values are before an edge (binary search)."""
    low, high = 0, values.size
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < edge:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True)
def _merge_partition(times, edges, n):  # type: ignore[no-untyped-def]
    """Return how many of the first n of merged times and edges are times; an edge precedes times that equal it."""
    # Binary search for i with times[i − 1] < edges[n − i] and times[i] ≥ edges[n − i − 1] (merge path).
    low, high = max(0, n - edges.size), min(n, times.size)
    while low < high:
        middle = (low + high) >> 1
        if times[middle] < edges[n - middle - 1]:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True)
def _step(times, edges, ranks, n, i):  # type: ignore[no-untyped-def]
    """Make step n of a merge after i times and n − i edges: pass the smaller of the next time and the next edge.

    Return the new number of times passed.
    """
    # The rank of the next edge is at least i, and is final once that edge is passed. There is no branch to mispredict,
    # and unsigned numbers need no check for negative indices.
    edge = np.uint64(n) - i
    ranks[edge] = i
    return i + np.uint64(times[i] < edges[edge])


@njit(nogil=True)
def _merge(times, edges, ranks):  # type: ignore[no-untyped-def]
    """Write the rank of each sorted edge: the number of sorted times before it."""
    # Only edges up to the last time are merged, and only times before the last of these edges, so that no step needs to
    # check whether one side is exhausted.
    n_edges = np.searchsorted(edges, times[-1], side="right") if times.size else 0
    ranks[n_edges:] = times.size
    if n_edges == 0:
        return
    n_times = _rank(times, edges[n_edges - 1])
    # Each step of a merge waits for the step before. Eight segments of equal length, whose first times are found by
    # binary search, are merged side by side, so that the processor works on eight steps at once.
    length = (n_times + n_edges) // 8
    passed = np.zeros(8, np.uint64)
    for k in range(8):
        passed[k] = _merge_partition(times[:n_times], edges[:n_edges], k * length)
    a, b, c, d = passed[0], passed[1], passed[2], passed[3]
    e, f, g, h = passed[4], passed[5], passed[6], passed[7]
    for n in range(length):
        a = _step(times, edges, ranks, n, a)
        b = _step(times, edges, ranks, n + length, b)
        c = _step(times, edges, ranks, n + 2 * length, c)
        d = _step(times, edges, ranks, n + 3 * length, d)
        e = _step(times, edges, ranks, n + 4 * length, e)
        f = _step(times, edges, ranks, n + 5 * length, f)
        g = _step(times, edges, ranks, n + 6 * length, g)
        h = _step(times, edges, ranks, n + 7 * length, h)
    for n in range(8 * length, n_times + n_edges):
        h = _step(times, edges, ranks, n, h)
    # The first edge of a segment was also written, last and too low, by the segment before it: compute its rank again.
    for k in range(1, 8):
        seam = k * length - np.int64(passed[k])
        if seam < n_edges:
            ranks[seam] = _rank(times, edges[seam])
