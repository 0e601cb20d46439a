"""Estimate from spikes when a session was recorded, and check that spikes and presentations share a clock.

Many files have no `obs_intervals`. Then a window without any spike may be silent, or may never have been recorded, and
only the spikes can distinguish the two. A session is assumed to be recorded from the first to the last spike of the
population, extended on both sides by the time for which the population may be silent by chance (`longest_silence`):
after 1,200 spikes in 25 s, a silence of 975 s was not recorded, but all units may be silent for 0.3 s. A sparse
population has long silences, and keeps its true zeros; very few spikes exclude nothing. Other data of the file are no
evidence: cameras, wheels and presentations continue after a probe was stopped. A pause within the recording is not
detected.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from neurosuper.loaders.spike_counts import SpikeCounts
from neurosuper.responses import name_some

__all__ = ["Recording", "longest_silence"]

POOL = 2**17  # spikes of the most active units that are read to estimate silences: 1 MiB, quick also over a network
BURST = 2.0  # s; spikes closer than this may all follow from one presentation
BURSTY = 1.5  # coefficient of variation of gaps above which spikes come in bursts; it is 1 at a steady (Poisson) rate
CHANCE = 1e-6  # probability that a population is silent for longer than `longest_silence`
# Ratio of the spans of spikes and presentations. It is 1000 if spikes are in ms and cover the presentations, and above
# 500 if they cover at least half of them.
FAR = 500
SLOW = 0.5  # spikes/s: the most active unit of a population fires more, but if spikes are in ms it seems to fire less
SAMPLES = 10  # times the end of the last window; whole numbers beyond it are numbers of samples
ENOUGH = 10  # spikes, or presentations, needed to judge a clock
RESOLUTION = 1e-3  # s; spike times with coarser rounding are too imprecise for a window of 100 ms


class Recording:
    """Estimates from spikes when a session was recorded, and collects warnings about them."""

    def __init__(self, times: Any, stops: np.ndarray, names: Sequence[str]) -> None:
        self._times, self._stops, self._names = times, stops, names
        self.n_spikes = np.diff(stops, prepend=0)  # (unit,); only finite times, for units that were counted
        self._faulty: dict[str, list[str]] = {"n_lost": [], "disordered": [], "restarted": []}
        self._span = (np.inf, -np.inf)  # first and last spike (s) of the counted and the pooled units
        self._shown = (np.inf, -np.inf)  # start of the first window (s), end of the last
        self._missed = np.zeros(0, bool)  # presentations outside the recording
        self._gap = 0.0  # median time from one presentation to the next (s)
        self._n_lost = 0

    def note(self, units: np.ndarray, found: SpikeCounts, starts: np.ndarray, ends: np.ndarray) -> None:
        """Add the results of counting the spikes of some units in some windows (window, presentation)."""
        for fault, names in self._faulty.items():
            names += [self._names[unit] for unit in units[getattr(found, fault) > 0]]
        self.n_spikes[units] -= found.n_lost
        self._n_lost += int(found.n_lost.sum())
        self._span = _union(self._span, found.firsts, found.lasts)
        self._shown = _union(self._shown, starts.ravel(), ends.ravel())
        if not len(self._missed):
            n_presentations = starts.shape[-1]
            self._missed = np.zeros(n_presentations, bool)
            self._gap = float(np.median(np.diff(np.sort(starts[0])))) if n_presentations > 1 else 0.0

    def observed(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return a mask of the presentations whose window is within the recording.

        Spikes of other units are read only if some may be outside.
        """
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
        """Sorted spikes of the most active units; silences of fewer units are longer, never shorter."""
        sizes, pool, n = np.diff(self._stops, prepend=0), [np.empty(0)], 0
        for unit in np.argsort(-sizes, kind="stable"):
            if n and n + sizes[unit] > POOL:
                break
            pool.append(np.asarray(self._times[self._stops[unit] - sizes[unit] : self._stops[unit]], float))
            n += sizes[unit]
        spikes = np.concatenate(pool)
        return np.sort(spikes[np.isfinite(spikes)])

    def concerns(self) -> list[str]:
        """Return warnings, one line each."""
        restarted, lost = self._faulty["restarted"], self._faulty["n_lost"]
        disordered = [name for name in self._faulty["disordered"] if name not in set(restarted)]
        found = []
        if lost:
            found.append(f"{self._n_lost} spike times are NaN or infinite and were left out, in unit {name_some(lost)}")
        if disordered:
            found.append(f"spike times are not in order and were sorted, in unit {name_some(disordered)}")
        if restarted:
            found.append(
                f"spike times jump back over half of their range or more, in unit {name_some(restarted)}, as if they "
                "restart with every trial or file; they were sorted, which is right only if they count from the "
                "start of the session: check spike_times"
            )
        return found + self._clock_concerns()

    def _clock_concerns(self) -> list[str]:
        """Return warnings if spikes and presentations cannot share one clock in seconds."""
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
            found.append(f"spike times are whole numbers, like sample numbers: {spans}; write spike_times in seconds")
        elif (
            # Spikes extend far beyond the presentations, at rates too low for any population.
            last - first > FAR * (self._shown[1] - self._shown[0])
            and len(self._missed) >= ENOUGH
            and self.n_spikes.max() < SLOW * (last - first)
        ):
            found.append(f"spike times look like milliseconds or samples: {spans}; write spike_times in seconds")
        enough = min(len(self._missed), self.n_spikes.sum()) >= ENOUGH
        if last - first < self._gap and enough and not self._missed.any():
            found.append(
                f"all spikes are closer together than presentations: {spans}; if they were never written, or are "
                "relative to each onset, write spike_times in seconds from the start of the session"
            )
        # Distance to the next number of this type at the last spike.
        dtype = np.dtype(self._times.dtype)
        step = float(np.spacing(dtype.type(last))) if dtype.kind == "f" else 1.0
        if step > RESOLUTION and (dtype.kind == "f" or not found):
            found.append(f"spike times are {dtype}, which near {last:g} s rounds to {step:g} s; write them as float64")
        return found

    def _are_whole(self) -> bool:
        first = np.asarray(self._times[:1000], float)
        return len(first) >= ENOUGH and bool((first[np.isfinite(first)] % 1 == 0).all())


def _union(span: tuple[float, float], lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
    """Return a span (first, last) extended to all lows and highs except NaN."""
    return float(np.fmin.reduce(lows, initial=span[0])), float(np.fmax.reduce(highs, initial=span[1]))


def longest_silence(spikes: np.ndarray, starts: np.ndarray) -> float:
    """Return the longest silence of a population by chance (s); it is exceeded with a probability of one in a million.

    Spikes evoked by one presentation say little about the next, so the number n of intervals between onsets (2 s at
    most) that contain spikes is the sample size. At a steady rate, known from n − 1 of its gaps, the next gap is longer
    than s with P = (1 + s / ((n − 1) mean))^−(n − 1). If spikes come in bursts, m − n of m intervals are empty, and the
    next k are all empty with P = ((m − n + 1) / (m + 2))^k.

    Parameters
    ----------
    spikes : array (spike,)
        Spike times of all units (s), sorted.
    starts : array (window,)
        Starts of the windows (s).

    Returns
    -------
    float
        In seconds; inf if there is no spike, or all are in one interval.

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
    # Steady rate: solve P = (1 + s / (n mean))^−n = CHANCE for s. Here n is one less than the occupied intervals.
    silence = n * gaps.mean() * (CHANCE ** (-1 / n) - 1)
    if gaps.std() > BURSTY * gaps.mean():
        # Bursts: solve P = ((m − n) / (m + 2))^k = CHANCE for k intervals, with the same n.
        m = occupied[-1] - occupied[0] + 1
        silence = max(silence, interval * np.log(CHANCE) / np.log((m - n) / (m + 2)))
    return float(silence)
