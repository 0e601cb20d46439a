"""NWB: when a session was recorded, as far as its spikes say, and whether spikes and presentations share a clock.

Many files have no `obs_intervals`. Then a window without any spike may be silent, or may never have been recorded, and
only the spikes can tell the two apart. A session is taken to have been recorded from the first to the last spike of the
population, and before and after for as long as the population may be silent by chance (`longest_silence`): 975 s after
1,200 spikes in 25 s nobody recorded, but for 0.3 s all units may be silent. A sparse population has long silences, and
keeps its true zeros; nothing follows from very few spikes. Other data of the file are no evidence: cameras, wheels and
presentations go on where a probe was stopped. A pause within the recording is not noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from neurosuper.loaders.nwb.spikes import SpikeCounts
from neurosuper.responses import name_some

__all__ = ["Recording", "longest_silence"]

POOL = 2**17  # spikes of the most active units that are read to estimate silences: 1 MiB, also over a network
BURST = 2.0  # s; spikes closer than this may all follow from one presentation
BURSTY = 1.5  # coefficient of variation of gaps; 1 at a steady rate
CHANCE = 1e-6  # that a population is silent for longer than `longest_silence`
FAR = 500  # times the span of the presentations: spikes in ms, of a session twice as long as these, go as far
SLOW = 0.5  # spikes/s: the most active unit of a population fires more, but not a thousandth as much
SAMPLES = 10  # times the end of the last window: whole numbers that go as far are numbers of samples
ENOUGH = 10  # spikes, or presentations, from which a clock can be judged
RESOLUTION = 1e-3  # s; spike times that are rounded by more are no longer good for a window of 100 ms


class Recording:
    """What the spikes of a session say of when it was recorded, and what is doubtful in them."""

    def __init__(self, times: Any, stops: np.ndarray, names: Sequence[str]) -> None:
        self._times, self._stops, self._names = times, stops, names
        self.n_spikes = np.diff(stops, prepend=0)  # (unit,): of units that were counted, only finite times
        self._faulty: dict[str, list[str]] = {"n_lost": [], "disordered": [], "restarted": []}
        self._span = (np.inf, -np.inf)  # first and last spike (s) of the units that were counted, and of those pooled
        self._shown = (np.inf, -np.inf)  # start of the first window (s), end of the last
        self._missed = np.zeros(0, bool)  # presentations outside the recording
        self._apart = 0.0  # from one presentation to the next (s, median)
        self._n_lost = 0

    def note(self, units: np.ndarray, found: SpikeCounts, starts: np.ndarray, ends: np.ndarray) -> None:
        """Remember what counting the spikes of some units in some windows has found."""
        for fault, names in self._faulty.items():
            names += [self._names[unit] for unit in units[getattr(found, fault) > 0]]
        self.n_spikes[units] -= found.n_lost
        self._n_lost += int(found.n_lost.sum())
        self._span = _union(self._span, found.firsts, found.lasts)
        self._shown = _union(self._shown, starts, ends)
        if not len(self._missed):
            self._missed = np.zeros(len(starts), bool)
            self._apart = float(np.median(np.diff(np.sort(starts)))) if len(starts) > 1 else 0.0

    def observed(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return which windows are within the recording; spikes of other units are read only where some may not be."""
        first, last = self._span
        seen = (starts >= first) & (ends <= last)
        if not seen.all():
            self._span = first, last = _union(self._span, self._pool[:1], self._pool[-1:])
            silence = longest_silence(self._pool, starts)
            seen = np.isinf(silence) | (starts >= first - silence) & (ends <= last + silence)
        self._missed |= ~seen
        return seen

    @cached_property
    def _pool(self) -> np.ndarray:
        """Spikes of the most active units in order; from fewer units silences look longer, never shorter."""
        sizes, pool, n = np.diff(self._stops, prepend=0), [np.empty(0)], 0
        for unit in np.argsort(-sizes, kind="stable"):
            if n and n + sizes[unit] > POOL:
                break
            pool.append(np.asarray(self._times[self._stops[unit] - sizes[unit] : self._stops[unit]], float))
            n += sizes[unit]
        spikes = np.concatenate(pool)
        return np.sort(spikes[np.isfinite(spikes)])

    def doubts(self) -> list[str]:
        """Return what to warn of, one line each."""
        restarted, lost = self._faulty["restarted"], self._faulty["n_lost"]
        disordered = [name for name in self._faulty["disordered"] if name not in set(restarted)]
        found = []
        if lost:
            found.append(f"{self._n_lost} spike times are NaN or infinite and were left out, in unit {name_some(lost)}")
        if disordered:
            found.append(f"spike times are not in order and were sorted, in unit {name_some(disordered)}")
        if restarted:
            found.append(
                f"spike times fall back over half of their range or more, in unit {name_some(restarted)}, as where "
                "they restart with every trial or file; they were sorted, which is right only if they count from the "
                "start of the session: check spike_times"
            )
        return found + self._clock_doubts()

    def _clock_doubts(self) -> list[str]:
        """Return in which respects spikes and presentations cannot be of one clock in seconds."""
        first, last = self._span
        if not first <= last:
            return []
        spans = f"spikes go from {first:g} to {last:g} s, windows from {self._shown[0]:g} to {self._shown[1]:g} s"
        found = []
        if self._missed.any():
            found.append(
                f"{self._missed.sum()} of {len(self._missed)} presentations are outside the recording and NaN: "
                f"{spans}; check that both are in seconds from the same start"
            )
        if last > SAMPLES * abs(self._shown[1]) and self._are_whole():
            found.append(f"spike times are whole numbers, as those of samples: {spans}; write spike_times in seconds")
        elif self._are_slow(last - first, self._shown[1] - self._shown[0]):
            found.append(f"spike times look like milliseconds or samples: {spans}; write spike_times in seconds")
        enough = min(len(self._missed), self.n_spikes.sum()) >= ENOUGH
        if last - first < self._apart and enough and not self._missed.any():
            found.append(
                f"all spikes are closer together than presentations: {spans}; if they were never written, or are "
                "relative to each onset, write spike_times in seconds from the start of the session"
            )
        dtype = np.dtype(self._times.dtype)
        step = float(np.spacing(dtype.type(last))) if dtype.kind == "f" else 1.0
        if step > RESOLUTION and (dtype.kind == "f" or not found):
            found.append(f"spike times are {dtype}, which near {last:g} s rounds to {step:g} s; write them as float64")
        return found

    def _are_slow(self, span: float, shown: float) -> bool:
        """Return whether spikes go far beyond the presentations, at rates that no population has."""
        return span > FAR * shown and len(self._missed) >= ENOUGH and self.n_spikes.max() < SLOW * span

    def _are_whole(self) -> bool:
        some = np.asarray(self._times[:1000], float)
        return len(some) >= ENOUGH and bool((some[np.isfinite(some)] % 1 == 0).all())


def _union(span: tuple[float, float], lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
    """Return a span (first, last) that also contains all lows and highs but NaN."""
    return float(np.fmin.reduce(lows, initial=span[0])), float(np.fmax.reduce(highs, initial=span[1]))


def longest_silence(spikes: np.ndarray, starts: np.ndarray) -> float:
    """Return how long a population may be silent by chance: longer than this once in a million times.

    Spikes that follow from one presentation say little of the next: what counts is the number n of intervals between
    onsets (of 2 s at most) that contain spikes. At a steady rate, known from n − 1 of its gaps, the next gap is longer
    than s with P = (1 + s / ((n − 1) mean))^−(n − 1). Where spikes come in bursts, of m intervals m − n are empty, and
    the next k all are with P = ((m − n + 1) / (m + 2))^k.

    Parameters
    ----------
    spikes : array (spike,)
        Of all units, in seconds, in order.
    starts : array (window,)
        In seconds.

    Returns
    -------
    float
        In seconds; inf where there is no spike, or all are of one burst.

    Examples
    --------
    >>> import numpy as np
    >>> starts = np.arange(20.0)
    >>> round(longest_silence(np.arange(0, 20, 0.01), starts), 2), longest_silence(np.array([1.1, 1.2]), starts)
    (0.2, inf)
    """
    gaps, apart = np.diff(spikes), np.diff(np.unique(starts))
    interval = min(np.median(apart), BURST) if len(apart) else BURST
    occupied = np.unique((spikes - starts.min() % interval) // interval)  # the intervals begin as windows do
    n = len(occupied) - 1
    if n < 1:
        return np.inf
    silence = n * gaps.mean() * (CHANCE ** (-1 / n) - 1)
    if gaps.std() > BURSTY * gaps.mean():
        m = occupied[-1] - occupied[0] + 1
        silence = max(silence, interval * np.log(CHANCE) / np.log((m - n) / (m + 2)))
    return float(silence)
