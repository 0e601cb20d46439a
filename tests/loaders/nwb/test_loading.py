"""Planted spikes are recovered as the planted counts, and the error of each bad input says what to do."""

from collections import Counter

import h5py
import numpy as np
import pytest
import xarray as xr
from pynwb import NWBHDF5IO

from neurosuper import average_repetitions, load_nwb

WINDOW = (0.0625, 0.1875)
LABELS = [10.0, 2.0, -1.0, 10.0, np.nan, 2.0, 10.0, 1.0]
ONSETS = np.array([7.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
COUNTS = np.random.default_rng(0).poisson(3, (8, 3))
SESSION = {"stimulus_column": "image", "window": WINDOW}


def train(counts: np.ndarray) -> np.ndarray:
    """Plant that many spikes in the window of each presentation, and one after it."""
    inside = [onset + np.linspace(0.07, 0.18, count) for onset, count in zip(ONSETS, counts, strict=True)]
    return np.sort(np.concatenate([*inside, ONSETS + 0.1875]))


UNITS = [
    {"id": 3, "spike_times": train(COUNTS[:, 0]), "electrodes": [0, 1], "quality": "good", "snr": 1.5},
    {"id": 8, "spike_times": train(COUNTS[:, 1]), "electrodes": [3, 1], "quality": "noise", "snr": 2.0},
    {"id": 9, "spike_times": train(COUNTS[:, 2]), "electrodes": [], "quality": "multi", "snr": 3.5},
    {"id": 12, "spike_times": [], "electrodes": [2], "quality": "good", "snr": np.nan},
]
UNITS = [unit | {"lobe": f"lobe {unit['id']}", "waveform_mean": np.zeros((500, 2))} for unit in UNITS]


@pytest.fixture(scope="session")
def session(write_nwb):
    return write_nwb(LABELS, ONSETS, UNITS)


@pytest.fixture(scope="session")
def write_two(write_nwb):
    """Write a session of the images "a" and "b", shown at 1 s and 2 s, with one unit."""

    def write(spike_times, labels=("a", "b"), table="trials", **columns):
        return write_nwb(labels, [1.0, 2.0, 3.0, 4.0][: len(labels)], [{"spike_times": spike_times, **columns}], table)

    return write


def test_planted_counts_come_back_in_order_of_number_and_time(session):
    counts = load_nwb(session, **SESSION, blanks=[-1], measure="count")
    expected = np.full((3, 3, 3), np.nan)
    for i, label in enumerate([1.0, 2.0, 10.0]):
        rows = sorted(np.flatnonzero(np.array(LABELS) == label), key=ONSETS.__getitem__)
        expected[i, : len(rows)] = COUNTS[rows]
    assert counts.dims == ("stimulus", "repetition", "unit")
    assert counts.stimulus.values.tolist() == ["1", "2", "10"]
    np.testing.assert_array_equal(counts.sel(unit=["3", "8", "9"]), expected)
    assert counts.dtype == np.float32


def test_averaging_leaves_out_the_missing_repetitions(session):
    counts = load_nwb(session, **SESSION, blanks=[-1], measure="count")
    averaged = average_repetitions(counts)
    assert averaged.n_repetitions.values.tolist() == [1, 2, 3]
    np.testing.assert_allclose(averaged.sel(stimulus="2", unit="8"), COUNTS[[1, 5], 1].mean())


def test_rate_is_count_per_second(session):
    rate, count = (load_nwb(session, **SESSION, blanks=-1, measure=measure) for measure in ("rate", "count"))
    xr.testing.assert_equal(rate, count / 0.125)
    assert (rate.attrs["units"], count.attrs["units"]) == ("spikes/s", "spike count")


def test_attributes_name_the_session_and_survive_netcdf(session, tmp_path):
    rates = load_nwb(session, **SESSION, blanks=[-1], area_column="location")
    assert rates.attrs == {
        "reader": "pynwb",
        "units": "spikes/s",
        "modality": "spikes",
        "measure": "rate",
        "window": [0.0625, 0.1875],
        "dataset": "session 7",
        "session_start_time": "2024-05-06T07:08:00+00:00",
        "source": "session.nwb",
        "presentations": "trials",
        "stimulus_column": "image",
        "n_presentations": 6,
        "n_excluded": 0,
        "n_blanks": 1,
        "n_missing": 1,
        "n_invalid": 0,
        "n_unobserved": 0,
    }
    rates.to_netcdf(tmp_path / "rates.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "rates.nc"), rates)


def test_silent_unit_is_kept_and_all_spikes_are_counted(session):
    rates = load_nwb(session, **SESSION)
    assert rates.unit.values.tolist() == ["3", "8", "9", "12"]
    assert rates.n_spikes.values.tolist() == [*(COUNTS.sum(axis=0) + len(ONSETS)), 0]
    assert float(np.nanmax(rates.sel(unit="12"))) == 0.0


def test_window_contains_its_start_and_not_its_stop(write_two):
    path = write_two([1.25, 1.5, 2.375, 2.4375, 2.5])
    counts = load_nwb(path, stimulus_column="image", window=(0.25, 0.5), measure="count")
    assert counts.values.ravel().tolist() == [1.0, 2.0]


def test_window_may_be_before_onset(write_two):
    path = write_two([0.75, 1.0, 1.9, 2.1])
    counts = load_nwb(path, stimulus_column="image", window=(-0.25, 0.0), measure="count")
    assert counts.values.ravel().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("blanks", [(-1,), [-1.0], {"-1"}, "-1", -1, ("grey", -1, np.nan)])
def test_blanks_are_values_or_text(session, blanks):
    rates = load_nwb(session, **SESSION, blanks=blanks)
    assert rates.stimulus.values.tolist() == ["1", "2", "10"]
    assert rates.attrs["n_blanks"] == 1


def test_a_blank_not_named_is_a_stimulus(session):
    rates = load_nwb(session, **SESSION)
    assert rates.stimulus.values.tolist() == ["-1", "1", "2", "10"]
    assert rates.attrs["n_blanks"] == 0


def test_text_labels_in_a_table_of_another_name(write_two):
    path = write_two([1.1], labels=["owl", "grey", "cat", "owl"], table="flashes")
    rates = load_nwb(path, **SESSION, presentations="flashes", blanks="grey")
    assert rates.stimulus.values.tolist() == ["cat", "owl"]
    assert rates.sizes["repetition"] == 2


@pytest.mark.parametrize(
    ("units_where", "kept"),
    [
        ({"quality": "good"}, ["3", "12"]),
        ({"quality": ["good", "multi"]}, ["3", "9", "12"]),
        ({"snr": 2}, ["8"]),
        ({"snr": ("==", 2)}, ["8"]),
        ({"snr": ("!=", 2)}, ["3", "9", "12"]),
        ({"snr": ("<", 2)}, ["3"]),
        ({"snr": ("<=", 2)}, ["3", "8"]),
        ({"snr": (">", 2)}, ["9"]),
        ({"snr": (">=", 2)}, ["8", "9"]),
        ({"quality": "good", "snr": ("<", 9)}, ["3"]),
    ],
)
def test_units_are_kept_where_all_conditions_hold(session, units_where, kept):
    assert load_nwb(session, **SESSION, units_where=units_where).unit.values.tolist() == kept


def test_filtered_units_keep_their_own_spikes(session):
    everyone = load_nwb(session, **SESSION, area_column="location")
    some = load_nwb(session, **SESSION, area_column="location", units_where={"snr": (">=", 2)})
    assert some.attrs.pop("units_where") == "{'snr': ('>=', 2)}"
    xr.testing.assert_identical(some, everyone.sel(unit=["8", "9"]))


@pytest.mark.parametrize(
    ("column", "areas"),
    [
        ("lobe", ["lobe 3", "lobe 8", "lobe 9", "lobe 12"]),
        ("location", ["V1", "V1/V4", "", "V4"]),
    ],
)
def test_area_is_a_column_of_the_units_or_of_their_electrodes(session, column, areas):
    assert load_nwb(session, **SESSION, area_column=column).area.values.tolist() == areas


def test_columns_that_are_not_named_are_not_read(session, monkeypatch):
    reads = Counter()

    def spy(method):
        def spied(dataset, *args, **kwargs):
            reads[dataset.name] += 1
            return method(dataset, *args, **kwargs)

        return spied

    for name in ("__getitem__", "__array__", "__iter__", "read_direct"):
        monkeypatch.setattr(h5py.Dataset, name, spy(getattr(h5py.Dataset, name)))
    with NWBHDF5IO(session, "r") as file:
        file.read()
    by_opening = reads.copy()
    reads.clear()
    load_nwb(session, **SESSION, units_where={"quality": "good"})
    of_units = {name.removeprefix("/units/") for name in reads - by_opening if name.startswith("/units/")}
    assert of_units == {"id", "quality", "spike_times", "spike_times_index"}
    assert "/units/waveform_mean" not in reads


def test_spikes_out_of_order_are_sorted_with_a_warning(write_two):
    path = write_two([2.15, 1.1, 2.1], id=4)
    with pytest.warns(UserWarning, match="not in order and were sorted, in unit '4'"):
        counts = load_nwb(path, **SESSION, measure="count")
    assert counts.values.ravel().tolist() == [1.0, 2.0]


def test_no_warning_for_spikes_of_a_unit_left_out(write_nwb):
    units = [{"spike_times": [2.0, 1.0], "good": False}, {"spike_times": [1.1, 2.1], "good": True}]
    assert load_nwb(write_nwb("ab", [1.0, 2.0], units), **SESSION, units_where={"good": True}).sizes["unit"] == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"presentations": "flashes"}, "no table of presentations 'flashes' in session.nwb; it has 'trials'"),
        (
            {"stimulus_column": "frame"},
            "no column 'frame' in table 'trials'; it has 'start_time', 'stop_time', 'image'",
        ),
        ({"window": (0.2, 0.1)}, r"start before stop, or a list of these, got \(0.2, 0.1\)"),
        ({"window": (0.1, 0.1)}, "start before stop"),
        ({"window": (0.0, np.nan)}, "start before stop"),
        ({"window": 0.1}, r"window must be \(start, stop\) in seconds"),
        ({"measure": "dff"}, "measure must be 'rate' or 'count', got 'dff'"),
        ({"blanks": [-1, 1, 2, 10]}, "no presentation left of 8 in table 'trials': 7 blank, 1 without label"),
        ({"units_where": {"depth": 3}}, "no column 'depth' in table 'units'; it has "),
        (
            {"units_where": {"waveform_mean": 3}},
            "'waveform_mean' of table 'units' does not have a single value",
        ),
        (
            {"units_where": {"electrodes": 3}},
            "'electrodes' of table 'units' does not have a single value per",
        ),
        ({"units_where": {"snr": ("=>", 2)}}, "one of == != < <= > >="),
        ({"units_where": {"quality": ("good", "multi")}}, "a value, a list of values, or"),
        ({"units_where": {"quality": (">", 2)}}, "operators compare numbers"),
        (
            {"units_where": {"quality": "best", "snr": (">", 2)}},
            "no unit left of 4: quality keeps 0 .it has 'good', 'multi', 'noise'., snr keeps 1; loosen units_where",
        ),
        ({"area_column": "region"}, "no area_column 'region': the Units table has .*'lobe'.* have .*'location'"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(session, wrong, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_nwb(session, **SESSION | wrong)
    assert "\n" not in str(raised.value)
    with h5py.File(session, "r+"):
        """Opens for writing only if the loader has closed it."""


def test_units_without_electrodes_have_no_area(write_two):
    with pytest.raises(ValueError, match=r"no area_column 'location': .* have none"):
        load_nwb(write_two([1.1]), **SESSION, area_column="location")


def test_no_units_table(write_nwb):
    with pytest.raises(ValueError, match=r"no Units table with spike times in session.nwb"):
        load_nwb(write_nwb("ab", [1.0, 2.0], []), **SESSION)


def test_units_table_without_spike_times(write_nwb):
    with pytest.raises(ValueError, match=r"no Units table with spike times in session.nwb"):
        load_nwb(write_nwb("ab", [1.0, 2.0], [{"quality": "good"}]), **SESSION)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no NWB file at .*gone\.nwb; check the path"):
        load_nwb(tmp_path / "gone.nwb", **SESSION)


@pytest.mark.parametrize("content", ["empty", "pointer", "cut"])
def test_files_that_are_not_nwb(session, tmp_path, content):
    whole = session.read_bytes()
    path = tmp_path / "broken.nwb"
    path.write_bytes({"empty": b"", "pointer": b"version https://git-lfs", "cut": whole[: len(whole) // 2]}[content])
    with pytest.raises(ValueError, match=r"broken\.nwb cannot be read as NWB: .* fetch it again") as raised:
        load_nwb(path, **SESSION)
    assert "\n" not in str(raised.value)


def test_hdf5_that_is_not_nwb_is_refused_and_closed(tmp_path):
    path = tmp_path / "plain.nwb"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="cannot be read as NWB"):
        load_nwb(path, **SESSION)
    with h5py.File(path, "r+") as file:
        assert list(file) == ["x"]


def test_real_session_without_units(real_data):
    with pytest.raises(ValueError, match=r"no Units table with spike times in Pa210120-main\.nwb") as raised:
        load_nwb(
            real_data / "nwb" / "Pa210120-main.nwb",
            presentations="presentations",
            stimulus_column="trial_id",
            window=(0.07, 0.27),
        )
    assert "\n" not in str(raised.value)


def test_a_window_without_any_spike_gives_a_warning(session):
    """For instance, a window in milliseconds."""
    with pytest.warns(UserWarning, match=r"no spike .*window is in seconds, got \(62, 187\)"):
        load_nwb(session, **SESSION | {"window": (62, 187)})


@pytest.mark.parametrize("blanks", [np.int64(-1), {-1}, np.array([-1, 99]), None])
def test_blanks_may_be_any_collection(session, blanks):
    found = load_nwb(session, **SESSION, blanks=blanks)
    assert ("-1" in found.stimulus.values) == (blanks is None)


@pytest.mark.parametrize("allowed", [{"good", "multi"}, np.array(["good", "multi"]), ("==", 2.0)])
def test_allowed_values_may_be_any_collection(session, allowed):
    column = "snr" if isinstance(allowed, tuple) else "quality"
    found = load_nwb(session, **SESSION, units_where={column: allowed})
    assert found.unit.values.tolist() == (["8"] if isinstance(allowed, tuple) else ["3", "9", "12"])
