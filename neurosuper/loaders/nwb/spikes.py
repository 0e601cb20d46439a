"""Spikes: how many of each unit's fall into each window, counted by a compiled merge of sorted times and edges.

Windows are half-open: a spike at the start counts, one at the stop does not. The edges of all windows are sorted once;
each unit's spikes are then merged with them. Every step of a merge waits for the one before, so that eight parts of it
run side by side. Units are counted in blocks, on all processors, while others are still being read.

The merge stays within its arrays only where times and edges are finite and in order. Both are checked before: edges
where they are sorted, the spikes of each unit in the compiled loop itself, right before they are merged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from neurosuper._kernels import njit
from neurosuper.loaders.nwb.memory_map import mapped

__all__ = ["SpikeCounts", "count_spikes"]

BLOCK = 2**20  # spikes and edges that one thread takes at a time
SEARCH_RATIO = 32  # so many more spikes than edges: search instead of merging
MAX_THREADS = 8  # at most; each holds a block of spikes
MEDIAN_SPIKES = 5  # spikes of a running median, which a few stray spikes do not move


class SpikeCounts(NamedTuple):
    """Counts of spikes, and what was wrong with the spike times of each unit, by its place in `counts`."""

    counts: np.ndarray  # (unit, window)
    n_lost: np.ndarray  # (unit,) times that are NaN or infinite: no spikes
    disordered: np.ndarray  # (unit,) bool: times were not in order, and were sorted to be counted
    restarted: np.ndarray  # (unit,) bool: they fall back over half of their range or more
    firsts: np.ndarray  # (unit,) the first spike in s, NaN where there is none
    lasts: np.ndarray


def count_spikes(
    times: np.ndarray,
    stops: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    units: Sequence[int] | np.ndarray | None = None,
    dtype: type = np.int32,
) -> SpikeCounts:
    """Count the spikes of every unit in every window.

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
        Which units to count, in increasing order; the spikes of others are not read. By default all.
    dtype : optional
        Of the counts.

    Returns
    -------
    SpikeCounts
        `counts` (unit, window) first. Times that are NaN or infinite are left out, and times out of order are sorted;
        the other fields say in which units.

    Raises
    ------
    ValueError
        An edge of a window is NaN, or `times` ends before the spikes of the last unit.

    Examples
    --------
    >>> import numpy as np
    >>> times, starts, ends = np.array([0.1, 0.2, 0.9, 0.2]), np.array([0.0, 0.2]), np.array([0.2, 1.0])
    >>> count_spikes(times, np.array([3, 4]), starts, ends)[0].tolist()
    [[1, 2], [0, 1]]
    """
    times, stops = mapped(times), np.asarray(stops, np.int64)
    firsts = np.concatenate([[0], stops[:-1]])
    chosen = np.arange(len(stops)) if units is None else np.asarray(units)
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
        list(pool.map(count, _blocks(firsts[chosen], stops[chosen], len(edges), _gap(times))))
    return found


def n_threads() -> int:
    """Return how many blocks to work on at once."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def _sort_edges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges of all windows in order, and where the start and the end of each window is among them."""
    both = np.concatenate([starts, np.maximum(starts, ends)])
    if np.isnan(both).any():
        raise ValueError(f"{np.isnan(both).sum()} edges of windows are NaN; leave these windows out")
    order = np.argsort(both, kind="stable")
    place = np.empty(len(both), np.int32)
    place[order] = np.arange(len(both), dtype=np.int32)
    return both[order], place[: len(starts)], place[len(starts) :]


def _native(spikes: Any) -> np.ndarray:
    """Return spikes in a type that the compiler knows."""
    dtype = spikes.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        dtype = np.dtype(np.float64)
    return np.ascontiguousarray(spikes, dtype=dtype)


def _repair(spikes: np.ndarray, found: SpikeCounts, place: int) -> np.ndarray:
    """Return the finite spikes of one unit in order, and note at its place what was wrong with them."""
    finite = spikes[np.isfinite(spikes)]
    found.n_lost[place] = len(spikes) - len(finite)
    ordered = np.sort(finite)
    if len(ordered):
        found.firsts[place], found.lasts[place] = ordered[0], ordered[-1]
    found.disordered[place] = not np.array_equal(finite, ordered)
    found.restarted[place] = _restarts(finite)
    return ordered


def _restarts(spikes: np.ndarray) -> bool:
    """Return whether times fall back over half of their range or more, all falls together.

    Times that are relative to each trial fall with every trial, those of two files in a row once; spikes that are
    swapped with their neighbours fall by little, and single ones do not move the running median.
    """
    half = np.ptp(spikes) / 2 if len(spikes) else 0
    if len(spikes) < 2 * MEDIAN_SPIKES or _fallen(spikes) < half:
        return False
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(spikes, MEDIAN_SPIKES), axis=1)
    return bool(_fallen(smooth) >= half > 0)


def _fallen(values: np.ndarray) -> float:
    """Return the sum of all steps down."""
    return float(np.maximum(values[:-1] - values[1:], 0).sum())


def _gap(times: Any) -> int:
    """Return how many spikes of units left out may be read along: those of one chunk of a file are read in any case."""
    chunks = getattr(times, "chunks", None)
    return chunks[0] if chunks else 0


def _blocks(firsts: np.ndarray, stops: np.ndarray, n_edges: int, gap: int) -> Iterator[slice]:
    """Yield units in blocks of enough work, that lie together in the file."""
    start, work = 0, 0
    for unit in range(len(firsts)):
        work += stops[unit] - firsts[unit] + n_edges
        last = unit + 1 == len(firsts)
        if last or work >= BLOCK or firsts[unit + 1] - stops[unit] > gap:
            yield slice(start, unit + 1)
            start, work = unit + 1, 0


@njit(nogil=True)
def _count_block(times, first, last, edges, start_at, end_at, counts, is_sorted):  # type: ignore[no-untyped-def]
    """Count block by block; units whose spikes are not finite and in order are marked, and their counts not written."""
    ranks = np.empty(edges.size + 1, np.int32)
    for unit in range(first.size):
        spikes = times[first[unit] : last[unit]]
        is_sorted[unit] = _check_sorted(spikes)
        if not is_sorted[unit]:
            continue  # merging would leave the arrays
        if spikes.size > SEARCH_RATIO * edges.size:
            for i in range(edges.size):
                ranks[i] = _rank(spikes, edges[i])
        else:
            _merge(spikes, edges, ranks)
        for window in range(start_at.size):
            counts[unit, window] = ranks[end_at[window]] - ranks[start_at[window]]


@njit(nogil=True)
def _check_sorted(values):  # type: ignore[no-untyped-def]
    """Return whether values are in order and finite: a NaN has no order, and infinities would be at the ends."""
    if values.size == 0:
        return True
    n_steps = 0
    for i in range(1, values.size):
        n_steps += values[i - 1] <= values[i]
    return n_steps == values.size - 1 and np.isfinite(values[0]) and np.isfinite(values[-1])


@njit(nogil=True)
def _rank(values, edge):  # type: ignore[no-untyped-def]
    """Return how many of the sorted values lie before an edge."""
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
    """Return how many times are among the first n of times and edges in order, an edge before times that equal it."""
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
    """Make step n of a merge, in which i times were passed before: pass the smaller of the next time and the next edge.

    Return how many times were passed. There is no branch; unsigned numbers spare a look at negative indices.
    """
    edge = np.uint64(n) - i
    ranks[edge] = i
    return i + np.uint64(times[i] < edges[edge])


@njit(nogil=True)
def _merge(times, edges, ranks):  # type: ignore[no-untyped-def]
    """Write how many of the sorted times lie before each of the sorted edges.

    Only edges up to the last time are merged, and times before the last of these edges: so no step needs to ask whether
    one side is at its end.
    """
    n_edges = np.searchsorted(edges, times[-1], side="right") if times.size else 0
    ranks[n_edges:] = times.size
    if n_edges == 0:
        return
    n_times = _rank(times, edges[n_edges - 1])
    step = (n_times + n_edges) // 8
    passed = np.zeros(8, np.uint64)
    for k in range(8):
        passed[k] = _merge_partition(times[:n_times], edges[:n_edges], k * step)
    a, b, c, d = passed[0], passed[1], passed[2], passed[3]
    e, f, g, h = passed[4], passed[5], passed[6], passed[7]
    for n in range(step):
        a = _step(times, edges, ranks, n, a)
        b = _step(times, edges, ranks, n + step, b)
        c = _step(times, edges, ranks, n + 2 * step, c)
        d = _step(times, edges, ranks, n + 3 * step, d)
        e = _step(times, edges, ranks, n + 4 * step, e)
        f = _step(times, edges, ranks, n + 5 * step, f)
        g = _step(times, edges, ranks, n + 6 * step, g)
        h = _step(times, edges, ranks, n + 7 * step, h)
    for n in range(8 * step, n_times + n_edges):
        h = _step(times, edges, ranks, n, h)
    for k in range(1, 8):  # where a step began, the step before wrote last
        seam = k * step - np.int64(passed[k])
        if seam < n_edges:
            ranks[seam] = _rank(times, edges[seam])
