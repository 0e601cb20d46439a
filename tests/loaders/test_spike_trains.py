"""Counts of spikes in memory equal a loop in NumPy, and what `load_nwb` counts of the same spikes."""

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper import as_responses, average_repetitions, count_spikes, load_nwb
from neurosuper.loaders import SpikeTrains, load_presentations

LABELS = ["owl", "cat", "owl", "bat", "cat", "owl"]
ONSETS = np.array([3.0, 1.0, 5.0, 2.0, 6.0, 4.0])  # not in order
TABLE = pd.DataFrame({"stimulus": LABELS, "onset": ONSETS, "kind": ["bird", "pet", "bird", "wild", "pet", "bird"]})
SPIKES = {
    7: np.sort(np.random.default_rng(0).uniform(0, 8, 200)),
    3: np.sort(np.random.default_rng(1).uniform(0, 8, 90)),
}
WINDOW = (0.05, 0.55)


def by_loop(spikes, onsets, labels, window):
    """Return {(stimulus, unit): counts in order of onsets}."""
    counts = {}
    for i in np.argsort(onsets):
        for unit, train in spikes.items():
            n = sum(onsets[i] + window[0] <= time < onsets[i] + window[1] for time in train)
            counts.setdefault((labels[i], str(unit)), []).append(n)
    return counts


def equals_loop(responses, expected):
    for (stimulus, unit), counts in expected.items():
        own = responses.sel(stimulus=stimulus, unit=unit).values
        assert own[: len(counts)].tolist() == counts
        assert np.isnan(own[len(counts) :]).all()


PRESENTATIONS = {
    "table": TABLE,
    "rows in another order": TABLE.iloc[::-1],
    "pair": (ONSETS, LABELS),
    "pair of lists": [ONSETS.tolist(), LABELS],
    "Dataset": xr.Dataset({name: ("presentation", TABLE[name]) for name in TABLE}),
}


@pytest.mark.parametrize("presentations", PRESENTATIONS.values(), ids=PRESENTATIONS)
def test_counts_equal_a_loop(presentations):
    counts = count_spikes(SPIKES, presentations, window=WINDOW, measure="count")
    equals_loop(counts, by_loop(SPIKES, ONSETS, LABELS, WINDOW))
    assert counts.sizes == {"stimulus": 3, "repetition": 3, "unit": 2}
    assert counts.unit.values.tolist() == ["7", "3"]
    assert counts.n_spikes.values.tolist() == [200, 90]
    if not isinstance(presentations, tuple | list):
        assert counts.kind.values.tolist() == ["wild", "pet", "bird"]
    rates = count_spikes(SPIKES, presentations, window=WINDOW)
    np.testing.assert_allclose(rates, counts / 0.5, rtol=1e-6)
    assert (rates.attrs["units"], counts.attrs["units"]) == ("spikes/s", "spike count")


eighths = st.integers(0, 80).map(lambda n: n / 8)  # sums are exact, so that spikes fall on the edges


@given(
    trains=st.lists(st.lists(eighths, min_size=30, max_size=60).map(sorted), min_size=1, max_size=3),
    onsets=st.lists(eighths.filter(lambda t: 1 <= t <= 7), min_size=3, max_size=9, unique=True),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=30)
def test_any_spikes_and_onsets_equal_a_loop(trains, onsets, seed):
    rng = np.random.default_rng(seed)
    labels = ["a", "b", *rng.choice(list("abc"), len(onsets) - 2)]
    spikes = {i: np.array([0.0, *train, 10.0]) for i, train in enumerate(trains)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few spikes
        counts = count_spikes(spikes, (onsets, labels), window=(-0.25, 0.5), measure="count")
    equals_loop(counts, by_loop(spikes, np.array(onsets), labels, (-0.25, 0.5)))


@pytest.mark.parametrize("measure", ["rate", "count"])
def test_the_same_spikes_in_an_nwb_file_give_the_same_responses(write_nwb, measure):
    rng = np.random.default_rng(2)
    onsets = np.append(rng.permutation(np.arange(2.0, 42.0)), 900.0)  # the last is outside the recording
    labels = [f"im{i}" for i in rng.integers(0, 9, 41)]
    trains = [np.sort(rng.uniform(0, 44, 900)), rng.uniform(0, 44, 700), np.empty(0)]  # unsorted, silent
    trains[0][5] = np.nan
    path = write_nwb(labels, onsets, [{"spike_times": train, "id": 4 + i} for i, train in enumerate(trains)])
    options = {"window": (0.05, 0.35), "measure": measure, "blanks": "im3"}
    with warnings.catch_warnings(record=True) as of_file:
        warnings.simplefilter("always")
        expected = load_nwb(path, stimulus_column="image", **options)
    with warnings.catch_warnings(record=True) as in_memory:
        warnings.simplefilter("always")
        responses = count_spikes({4 + i: train for i, train in enumerate(trains)}, (onsets, labels), **options)
        again = count_spikes(
            {4 + i: train for i, train in enumerate(trains)},
            load_presentations(path, stimulus_column="image"),
            **options,
        )
    xr.testing.assert_equal(responses, expected)
    xr.testing.assert_equal(again, expected)
    assert {str(w.message) for w in of_file} >= {str(w.message) for w in in_memory}
    assert len({str(w.message) for w in in_memory}) == 3  # NaN, unsorted, outside the recording
    shared = set(responses.attrs) & set(expected.attrs)
    assert {name: responses.attrs[name] for name in shared} == {name: expected.attrs[name] for name in shared}
    assert shared >= {"window", "measure", "units", "n_presentations", "n_blanks", "n_missing", "n_unobserved"}


def test_presentations_without_label_or_onset_are_left_out_and_counted():
    table = TABLE.assign(stimulus=["owl", None, "cat", "grey", "owl", "cat"], onset=[1.0, 2.0, np.nan, 3.0, 4.0, 5.0])
    counts = count_spikes(SPIKES, table, window=WINDOW, blanks=["grey"])
    facts = {name: counts.attrs[name] for name in ("n_presentations", "n_blanks", "n_missing")}
    assert facts == {"n_presentations": 3, "n_blanks": 1, "n_missing": 2}


def test_each_area_has_its_window():
    windows = {"V1": (0.0, 0.25), "all": (0.25, 1.0)}
    counts = count_spikes(SPIKES, TABLE, window=windows, measure="count", area=["V1", "IT"])
    for unit, window in {7: (0.0, 0.25), 3: (0.25, 1.0)}.items():
        equals_loop(counts, by_loop({unit: SPIKES[unit]}, ONSETS, LABELS, window))
    assert counts.area.values.tolist() == ["V1", "IT"]
    with pytest.raises(ValueError, match="window names the areas"):
        count_spikes(SPIKES, TABLE, window=windows)


class Group:
    """A stand-in for the TsGroup of pynapple 0.11, which is not a dependency: the attributes that are read."""

    def __init__(self, spikes, intervals, **metadata):
        self._spikes, self._metadata = spikes, metadata
        self.time_support = SimpleNamespace(values=np.array(intervals))
        self.metadata_columns = list(metadata)

    def keys(self):
        return list(self._spikes)

    def __getitem__(self, unit):
        return SimpleNamespace(t=self._spikes[unit])

    def get_info(self, name):
        return pd.Series(self._metadata[name], index=self.keys())


def test_a_group_of_pynapple_brings_its_metadata_and_what_was_recorded():
    group = Group(SPIKES, [(0.0, 4.2), (4.9, 8.0)], area=["V1", "V4"], rate=[25.0, 11.0])
    counts = count_spikes(group, TABLE, window=WINDOW, measure="count")
    assert counts.area.values.tolist() == ["V1", "V4"]
    assert counts.rate.values.tolist() == [25.0, 11.0]
    assert counts.attrs["n_unobserved"] == 2  # one presentation, at 4 s, of two units
    assert np.isnan(counts.sel(stimulus="owl").isel(repetition=1)).all()
    plain = count_spikes(SPIKES, TABLE, window=WINDOW, measure="count")
    np.testing.assert_array_equal(counts.sel(stimulus="cat"), plain.sel(stimulus="cat"))


def test_the_default_support_of_pynapple_says_nothing_about_the_recording():
    times = np.concatenate(list(SPIKES.values()))
    group = Group(SPIKES, [(times.min(), times.max())])
    table = pd.DataFrame({"stimulus": ["a", "b"] * 10, "onset": [*np.arange(0.5, 7.5, 0.5), *np.arange(6) + 1.25]})
    late = table.replace({"onset": {7.0: 7.49}})  # its window ends after the last spike, as by chance
    assert count_spikes(group, late, window=(0.0, times.max() - 7.48)).attrs["n_unobserved"] == 0


def test_the_real_pynapple_gives_the_same():
    nap = pytest.importorskip("pynapple")
    group = nap.TsGroup({unit: nap.Ts(train) for unit, train in SPIKES.items()}, time_support=nap.IntervalSet(0, 8))
    group.set_info(area=["V4", "V1"])  # pynapple sorts units: 3, 7
    counts = count_spikes(group, TABLE, window=WINDOW, measure="count")
    equals_loop(counts, by_loop(SPIKES, ONSETS, LABELS, WINDOW))
    assert dict(zip(counts.unit.values.tolist(), counts.area.values.tolist(), strict=True)) == {"3": "V4", "7": "V1"}


def test_planted_tuning_comes_back():
    rng = np.random.default_rng(3)
    rates = rng.uniform(5, 60, (6, 4))  # (stimulus, unit)
    which = np.tile(np.arange(6), 30)
    onsets = 1 + 0.5 * np.arange(len(which))
    trials = list(zip(onsets, which, strict=True))
    spikes = {
        unit: np.sort(np.concatenate([t + rng.uniform(0, 0.5, rng.poisson(rates[i, unit] / 2)) for t, i in trials]))
        for unit in range(4)
    }
    found = average_repetitions(count_spikes(spikes, (onsets, which), window=(0.0, 0.5)))
    assert np.corrcoef(found.values.ravel(), rates.ravel())[0, 1] > 0.98


@pytest.mark.parametrize(
    ("spikes", "presentations", "options", "error", "message"),
    [
        (
            SPIKES,
            TABLE,
            {"onset_column": "start_time"},
            ValueError,
            "no column 'start_time'; it has 'stimulus', 'onset'",
        ),
        (SPIKES, TABLE.assign(onset="now"), {}, ValueError, "must contain onsets in seconds, got 'now'"),
        (SPIKES, TABLE, {"window": (0.5, 0.1)}, ValueError, "window must be .start, stop. in seconds"),
        (SPIKES, TABLE, {"measure": "mean"}, ValueError, "measure must be one of 'rate', 'count'; got 'mean'"),
        (SPIKES, TABLE, {"blanks": ["owl", "cat", "bat"]}, ValueError, "no presentation left of 6"),
        (SPIKES, (ONSETS, LABELS[:3]), {}, ValueError, "onsets, labels. of the same length"),
        (SPIKES, "trials", {}, TypeError, "must be a DataFrame, or a pair"),
        ({}, TABLE, {}, ValueError, "contains no unit"),
        ([1.0, 2.0], TABLE, {}, TypeError, "must be a dict of unit to spike times.*as_responses"),
        ({"a": [[1.0]]}, TABLE, {}, TypeError, "spike times of unit 'a' must be a list of numbers"),
        ({"a": ["x"]}, TABLE, {}, TypeError, "spike times of unit 'a' must be a list of numbers"),
        ({1: [1.0], "1": [2.0]}, TABLE, {}, ValueError, "labels are equal as text"),
        (SPIKES, TABLE, {"area": ["V1"]}, ValueError, r"shape \(1,\) were given for 'area'"),
    ],
)
def test_what_cannot_be_counted_is_refused_in_one_line(spikes, presentations, options, error, message):
    with pytest.raises(error, match=message) as raised:
        count_spikes(spikes, presentations, **{"window": WINDOW} | options)
    assert "\n" not in str(raised.value)


def test_milliseconds_and_samples_are_named():
    for scale in (1e3, 3e4):
        spikes = {unit: train * scale for unit, train in SPIKES.items()}
        with pytest.warns(UserWarning, match="seconds"):
            count_spikes(spikes, TABLE, window=WINDOW)


def test_as_responses_refuses_a_group_of_spike_trains_with_a_hint():
    with pytest.raises(TypeError, match="count_spikes"):
        as_responses(Group(SPIKES, [(0.0, 8.0)]))


def test_trains_made_by_hand_have_the_facts_about_their_units():
    trains = SpikeTrains(
        {str(u): t for u, t in SPIKES.items()}, pd.DataFrame({"depth": [1.0, 2.0]}), np.array([(0.0, 3.0)])
    )
    counts = count_spikes(trains, TABLE, window=WINDOW)
    assert counts.depth.values.tolist() == [1.0, 2.0]
    assert counts.attrs["n_unobserved"] == 8  # onsets 3, 4, 5, 6


def test_several_windows_give_what_each_gives_alone():
    spikes = {"a": np.sort(np.random.default_rng(0).uniform(0, 30, 300)), "b": np.array([2.1, 9.3])}
    shown, windows = (np.arange(1.0, 25), [f"im{i % 5}" for i in range(24)]), [(0.0, 0.3), (0.1, 0.6)]
    both = count_spikes(spikes, shown, window=windows)
    assert both.dims == ("stimulus", "repetition", "window", "unit")
    for i, window in enumerate(windows):
        np.testing.assert_array_equal(both.isel(window=i), count_spikes(spikes, shown, window=window))
    assert both.window_stop.values.tolist() == [0.3, 0.6]
