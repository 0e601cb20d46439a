"""Counts equal those of brute force at every edge, for any order of windows, spikes and units."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper.loaders import spike_counts
from neurosuper.loaders.spike_counts import count_in_windows

sixteenths = st.integers(-64, 64).map(lambda n: n / 16)  # sums are exact, so that spikes fall on the edges
trains = st.lists(st.lists(sixteenths, max_size=40).map(sorted), max_size=5)
windows = st.lists(st.tuples(sixteenths, sixteenths), max_size=12)


def brute_force(units, starts, ends):
    return [[sum(a <= spike < b for spike in unit) for a, b in zip(starts, ends, strict=True)] for unit in units]


def flat(units):
    return np.array([spike for unit in units for spike in unit], float), np.cumsum(
        [len(unit) for unit in units], dtype=int
    )


@given(trains, windows)
@settings(deadline=None)
def test_counting_equals_brute_force(units, windows):
    """Also where windows overlap, are out of order, of different lengths, or end before they start."""
    starts, ends = np.array(windows, float).reshape(-1, 2).T
    found = count_in_windows(*flat(units), starts, ends)
    assert found.counts.tolist() == brute_force(units, starts, ends)
    assert found.counts.shape == (len(units), len(windows))
    assert not (found.disordered | found.restarted | found.n_lost > 0).any()


@given(st.lists(sixteenths, max_size=60), st.lists(sixteenths, max_size=8), sixteenths, sixteenths)
@settings(deadline=None)
def test_few_windows_are_searched_for(train, onsets, start, length):
    many = sorted(train) * spike_counts.SEARCH_RATIO
    starts = np.array(onsets, float) + start
    counts, *_ = count_in_windows(*flat([sorted(many)]), starts, starts + abs(length))
    assert counts.tolist() == brute_force([many], starts, starts + abs(length))


@pytest.mark.parametrize("seed", range(5))
def test_long_trains_equal_two_searches(seed):
    rng = np.random.default_rng(seed)
    times, stops = flat([np.sort(rng.random(n)) * 100 for n in rng.integers(0, 9000, 7)])
    starts = rng.random(rng.integers(1, 5000)) * 130 - 15
    ends = starts + rng.exponential(0.3, len(starts))
    counts, *_ = count_in_windows(times, stops, starts, ends)
    for row, train in zip(counts, np.split(times, stops)[:-1], strict=True):
        np.testing.assert_array_equal(row, np.searchsorted(train, ends) - np.searchsorted(train, starts))


@pytest.mark.parametrize(
    ("start", "end", "count"), [(0.5, 1.0, 1), (0.5, np.nextafter(1, 2), 2), (np.nextafter(0.5, 1), 1.0, 0)]
)
def test_edges_are_exact_to_the_last_bit(start, end, count):
    assert count_in_windows(np.array([0.5, 1.0]), np.array([2]), np.array([start]), np.array([end]))[0].item() == count


@given(trains, windows, st.integers(0, 2**16))
@settings(deadline=None)
def test_units_left_out_change_nothing(units, windows, seed):
    starts, ends = np.array(windows, float).reshape(-1, 2).T
    kept = np.flatnonzero(np.random.default_rng(seed).random(len(units)) < 0.5)
    counts, *_ = count_in_windows(*flat(units), starts, ends, units=kept)
    assert counts.tolist() == brute_force([units[unit] for unit in kept], starts, ends)


@given(st.lists(st.one_of(sixteenths, st.sampled_from([np.nan, np.inf, -np.inf])), max_size=30), windows)
@settings(deadline=None)
def test_spikes_out_of_order_are_sorted_and_reported(train, windows):
    starts, ends = np.array(windows, float).reshape(-1, 2).T
    given_times = np.array([0.0, *train, 1.0])
    found = count_in_windows(given_times, np.array([1, 1 + len(train), 2 + len(train)]), starts, ends)
    assert found.counts.tolist() == brute_force([[0.0], train, [1.0]], starts, ends)
    finite = [spike for spike in train if np.isfinite(spike)]
    assert found.n_lost.tolist() == [0, len(train) - len(finite), 0]
    assert found.disordered.tolist() == [False, finite != sorted(finite), False]
    assert np.array_equal(found.firsts, [0.0, min(finite, default=np.nan), 1.0], equal_nan=True)
    assert np.array_equal(found.lasts, [0.0, max(finite, default=np.nan), 1.0], equal_nan=True)
    assert np.array_equal(given_times[1:-1], train, equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f8"])
def test_any_float(dtype):
    counts, *_ = count_in_windows(np.array([0.25, 0.5], dtype), np.array([2]), np.array([0.25]), np.array([0.5]))
    assert counts.tolist() == [[1]]


def test_every_block_of_a_file_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(spike_counts, "BLOCK", 700)
    rng = np.random.default_rng(1)
    units = [np.sort(rng.random(n)) for n in rng.integers(0, 400, 40)]
    times, stops = flat(units)
    starts = rng.random(50)
    with h5py.File(tmp_path / "spikes.h5", "w") as file:
        file.create_dataset("chunked", data=times, chunks=(64,), compression="gzip")
        file["contiguous"] = times
        whole, *_ = count_in_windows(times, stops, starts, starts + 0.1)
        for name in file:
            counts, *_ = count_in_windows(file[name], stops, starts, starts + 0.1)
            np.testing.assert_array_equal(counts, whole)
            kept = [1, 2, 17, 39]
            counts, *_ = count_in_windows(file[name], stops, starts, starts + 0.1, units=kept)
            np.testing.assert_array_equal(counts, whole[kept])


class Watched:
    """An array that remembers what was read of it."""

    def __init__(self, array):
        self.array, self.read, self.dtype = array, [], array.dtype

    def __getitem__(self, key):
        self.read.append((key.start, key.stop))
        return self.array[key]


def test_spikes_of_units_left_out_are_not_read():
    watched = Watched(np.arange(1000.0))
    count_in_windows(watched, np.arange(100, 1001, 100), np.array([0.0]), np.array([1.0]), units=[2, 3, 7])
    assert sorted(watched.read) == [(200, 400), (700, 800)]


SECONDS = np.sort(np.random.default_rng(0).uniform(0, 100, 300))


@pytest.mark.parametrize(
    ("times", "restarts"),
    [
        (np.tile(SECONDS[:30], 10), True),  # relative to each of ten trials
        (np.concatenate([SECONDS, SECONDS]), True),  # two files in a row
        (np.random.default_rng(1).permutation(SECONDS), True),  # in no order of time
        (np.append(99.9, SECONDS[1:]), False),  # one stray spike
        (np.append(SECONDS, 0.0), False),
        (SECONDS.reshape(-1, 2)[:, ::-1].ravel(), False),  # neighbours are swapped
        (SECONDS, False),
        (np.zeros(300), False),
        (SECONDS[[5, 1]], False),  # too few to decide
        (np.where(np.arange(300) % 7, SECONDS, np.nan), False),
    ],
)
def test_times_that_restart_differ_from_a_few_out_of_order(times, restarts):
    assert count_in_windows(times, np.array([len(times)]), np.zeros(1), np.ones(1)).restarted.tolist() == [restarts]


@pytest.mark.parametrize(("starts", "ends"), [([np.nan], [1.0]), ([0.0, 1.0], [1.0, np.nan])])
def test_windows_without_an_edge_are_refused(starts, ends):
    with pytest.raises(ValueError, match="1 edges of windows are NaN|2 edges"):
        count_in_windows(np.array([0.5]), np.array([1]), np.array(starts), np.array(ends))


def test_spikes_that_end_too_early_are_refused():
    with pytest.raises(ValueError, match="fewer than 5 spike times, where the last unit should stop"):
        count_in_windows(np.arange(4.0), np.array([2, 5]), np.zeros(1), np.ones(1))


def test_no_units_and_no_windows():
    empty = np.array([])
    assert count_in_windows(empty, np.array([], int), np.array([0.0]), np.array([1.0]))[0].shape == (0, 1)
    assert count_in_windows(np.array([1.0]), np.array([1]), empty, empty)[0].shape == (1, 0)


MEMORY = """
import resource
import numpy as np
from neurosuper.loaders.spike_counts import count_in_windows

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

count_in_windows(np.arange(9.0), np.array([9]), np.array([0.0]), np.array([1.0]))
before = peak()
times, stops = np.tile(np.linspace(0, 1000, 100_000), 200), np.arange(1, 201) * 100_000
starts = np.linspace(0, 1000, 20_000)
counts, *_ = count_in_windows(times, stops, starts, starts + 0.1)
print((peak() - before) / (times.nbytes + counts.nbytes))
"""


@pytest.mark.slow
def test_peak_memory_is_at_most_input_and_output_and_a_fifth():
    ran = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    assert float(ran.stdout) < 1.2


@pytest.mark.parametrize("code", ["import neurosuper", "from neurosuper import load_array"])
def test_the_compiler_is_not_imported_before_it_is_needed(code):
    subprocess.run([sys.executable, "-c", f"{code}\nimport sys; assert 'numba' not in sys.modules"], check=True)
