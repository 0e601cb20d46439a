"""Counting and reading spikes: 100 million of 1,000 units, against pynapple, numpy.searchsorted and a raw h5py read.

Counting: 50,000 windows that do not overlap (pynapple would join them), spikes in memory. pynapple is timed with its
best settings, all units at once into an IntervalSet, with objects built before; the loop searches both edges of all
windows, unit by unit. Peak memory is that of a fresh process. Reading: a file written by pynwb, which the system keeps
in memory, 200 presentations; the raw read reads only the two flat arrays. The two of each pair are timed one after the
other, so that a drift of the machine is visible.
"""

import datetime
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from neurosuper.loaders.spike_counts import count_in_windows

N_UNITS, N_SPIKES, N_WINDOWS, DURATION = 1000, 100_000, 50_000, 10_000.0
PAIRS = 5


def make_spikes() -> tuple[np.ndarray, np.ndarray]:
    """Return the times (s) of all units, and where each unit's stop; rates drift, so that units differ."""
    rng = np.random.default_rng(0)
    times = np.empty((N_UNITS, N_SPIKES))
    for row in times:
        rng.random(out=row)
        row.sort()
        row **= rng.uniform(0.8, 1.2)
        row *= DURATION
    return times.ravel(), np.arange(1, N_UNITS + 1) * N_SPIKES


def make_windows() -> tuple[np.ndarray, np.ndarray]:
    """Return start and stop (s) of windows of 0.1 s, one each 0.2 s or so."""
    starts = np.linspace(0, DURATION - 1, N_WINDOWS) + np.random.default_rng(1).uniform(0, 0.09, N_WINDOWS)
    return starts.round(9), (starts + 0.1).round(9)


def timed(work: Callable[[], np.ndarray]) -> float:
    """Return the duration of some work in seconds; its result is discarded, so that its memory is reused."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def by_search(times: np.ndarray, stops: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    counts = np.empty((len(stops), len(starts)), np.int32)
    for row, first, last in zip(counts, np.append(0, stops), stops, strict=False):
        train = times[first:last]
        row[:] = np.searchsorted(train, ends) - np.searchsorted(train, starts)
    return counts


def by_pynapple(times: np.ndarray, stops: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Callable[[], np.ndarray]:
    import pynapple as nap

    whole = nap.IntervalSet(0, 2 * DURATION)
    trains = {i: nap.Ts(train, time_support=whole) for i, train in enumerate(np.split(times, stops)[:-1])}
    group = nap.TsGroup(trains, time_support=whole, bypass_check=True)
    windows = nap.IntervalSet(starts, ends)
    return lambda: group.count(ep=windows, dtype=np.int32).values.T


def compare(name: str, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray]) -> None:
    """Print the times of pairs, their ratios, and whether the counts are equal."""
    n_unlike = int((ours() != theirs()).sum())
    pairs = [(timed(ours), timed(theirs)) for _ in range(PAIRS)]
    turns = ", ".join(f"{b / a:.1f} ({b:.2f} s / {a:.3f} s)" for a, b in pairs)
    median = float(np.median([b / a for a, b in pairs]))
    print(f"{name:22} {median:5.1f} times as fast   pairs: {turns}   counts that differ: {n_unlike}")


def compare_counting(*arguments: np.ndarray) -> None:
    compare("searchsorted, a loop", lambda: count_in_windows(*arguments)[0], lambda: by_search(*arguments))
    compare("pynapple, all at once", lambda: count_in_windows(*arguments)[0], by_pynapple(*arguments))


def peak() -> int:
    """Return the process's largest resident memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_memory() -> None:
    count_in_windows(np.arange(9.0), np.array([9]), np.array([0.0]), np.array([1.0]))  # compiles
    before = peak()
    times, stops = make_spikes()
    counts, *_ = count_in_windows(times, stops, *make_windows())
    share, size = (peak() - before) / (times.nbytes + counts.nbytes), (times.nbytes + counts.nbytes) / 2**20
    print(f"peak memory of ours: {share:.2f} of input and output ({size:.0f} MiB)")


def write_file(path: Path, times: np.ndarray, stops: np.ndarray) -> None:
    from hdmf.common import ElementIdentifiers, VectorData, VectorIndex
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.misc import Units

    nwb = NWBFile("benchmark", "benchmark", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
    nwb.add_trial_column("image", "what was shown")
    for i in range(200):
        nwb.add_trial(start_time=40.0 * i, stop_time=40.0 * i + 1, image=f"image{i % 50}")
    spikes = VectorData(name="spike_times", description="s", data=times)
    index = VectorIndex(name="spike_times_index", data=stops, target=spikes)
    ids = ElementIdentifiers(name="id", data=np.arange(len(stops)))
    nwb.units = Units(name="units", description="", id=ids, columns=[spikes, index], colnames=["spike_times"])
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)


def read_raw(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        file["units/spike_times_index"][:]
        return file["units/spike_times"][:]


def read_only(path: Path) -> np.ndarray:
    """Read spikes and count them in few windows, as load_nwb does."""
    onsets = 40.0 * np.arange(200)
    with h5py.File(path) as file:
        stops = file["units/spike_times_index"][:]
        return count_in_windows(file["units/spike_times"], stops, onsets + 0.05, onsets + 0.15, dtype=np.float32)[0]


def compare_reading(path: Path) -> None:
    from neurosuper import load_nwb

    ways = {
        "load_nwb": lambda: load_nwb(path, stimulus_column="image", window=(0.05, 0.15)),
        "its reading": lambda: read_only(path),
    }
    for name, ours in ways.items():
        ours(), read_raw(path)
        pairs = [(timed(ours), timed(lambda: read_raw(path))) for _ in range(PAIRS)]
        turns = ", ".join(f"{a / b:.2f} ({a:.3f} s / {b:.3f} s)" for a, b in pairs)
        print(f"{name:22} {np.median([a / b for a, b in pairs]):5.2f} of a raw read   pairs: {turns}")


def main() -> None:
    print(f"spikes: {N_UNITS * N_SPIKES:,} of {N_UNITS:,} units, {N_WINDOWS:,} windows; {os.cpu_count()} processors")
    fresh = multiprocessing.get_context("spawn").Process(target=print_memory)
    fresh.start()
    fresh.join()
    times, stops = make_spikes()
    compare_counting(times, stops, *make_windows())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "benchmark.nwb")
        write_file(path, times, stops)
        del times
        compare_reading(path)


if __name__ == "__main__":
    main()
