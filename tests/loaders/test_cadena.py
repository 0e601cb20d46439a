"""Counts in the published layout of Cadena et al. are recovered, and a pickle never runs code."""

import csv
import hashlib
import os
import pickle
from collections import defaultdict

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neurosuper import average_repetitions
from neurosuper.loaders import cadena, load_cadena, load_cadena2019
from tests.loaders.faithful_cadena import write_cadena, write_cadena2019

V1, V4 = (0.04, 0.16), (0.07, 0.16)
IDS = [12, 3, 100_207, 3, 12, 12]
TRIALS = [5, 4, 0, 1, 2, 9]
COUNTS = np.random.default_rng(0).poisson(2, (6, 5, 12))


@pytest.fixture
def session(tmp_path):
    return write_cadena(tmp_path / "session", COUNTS, IDS)


@pytest.mark.parametrize(("window", "bins"), [(V1, slice(0, 12)), (V4, slice(3, 12)), ((0.05, 0.06), slice(1, 2))])
def test_bins_of_the_window_are_summed(session, window, bins):
    counts = load_cadena(session, window=window)
    assert counts.stimulus.values.tolist() == ["000003", "000012", "100207"]
    summed = COUNTS[..., bins].sum(axis=2)
    expected = np.full((3, 3, 5), np.nan)
    expected[0, :2], expected[1], expected[2, :1] = summed[[1, 3]], summed[[0, 4, 5]], summed[[2]]
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.float32


def test_repetitions_come_in_the_order_of_trials(tmp_path):
    counts = load_cadena(write_cadena(tmp_path, COUNTS, IDS, trial_ids=TRIALS), window=V1)
    summed = COUNTS.sum(axis=2)
    np.testing.assert_array_equal(counts.sel(stimulus="000012"), summed[[4, 0, 5]])
    np.testing.assert_array_equal(counts.sel(stimulus="000003")[:2], summed[[3, 1]])


@pytest.mark.parametrize("values", [COUNTS, COUNTS.astype(float)])
def test_counts_may_be_whole_numbers_or_not(tmp_path, values):
    counts = load_cadena(write_cadena(tmp_path, values, IDS), window=V4)
    np.testing.assert_array_equal(counts.sel(stimulus="100207")[0], COUNTS[2, :, 3:].sum(axis=1))


def test_planted_tuning_comes_back_through_the_average(tmp_path):
    """Noise-free: every repetition has the same counts."""
    rng = np.random.default_rng(1)
    tuning, shown = rng.poisson(3, (40, 7, 12)), rng.permutation(np.repeat(np.arange(40), rng.integers(1, 4, 40)))
    averaged = average_repetitions(load_cadena(write_cadena(tmp_path, tuning[shown], shown), window=V4))
    planted = tuning[..., 3:].sum(axis=2)
    correlations = [np.corrcoef(averaged[:, unit], planted[:, unit])[0, 1] for unit in range(7)]
    assert min(correlations) > 0.999


def moved_by_a_bin(counts):
    return np.roll(counts, 1, axis=2)


def moved_by_a_trial(counts):
    return np.roll(counts, 1, axis=0)


@pytest.mark.parametrize("damage", [moved_by_a_bin, moved_by_a_trial])
def test_the_planted_tuning_catches_what_shapes_cannot(tmp_path, damage):
    tuning = np.random.default_rng(1).poisson(3, (40, 7, 12))
    found = average_repetitions(load_cadena(write_cadena(tmp_path, damage(tuning), range(40)), window=(0.07, 0.08)))
    assert abs(np.corrcoef(found[:, 0], tuning[:, 0, 3])[0, 1]) < 0.5


def test_units_and_bins_in_another_order_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"trial 0, an array of shape \(12, 5\); .* 12 bins: check n_bins"):
        load_cadena(write_cadena(tmp_path, COUNTS.transpose(0, 2, 1), IDS), window=V1)


def test_labels_and_attributes_survive_netcdf(tmp_path):
    counts = load_cadena(write_cadena(tmp_path, COUNTS, IDS), window=V4, area="V4")
    assert counts.unit.values.tolist() == ["0", "1", "2", "3", "4"]
    assert set(counts.subject.values) == {"31"}
    assert set(counts.area.values) == {"V4"}
    assert counts.attrs == {
        "units": "spike count",
        "modality": "spikes",
        "window": [0.07, 0.16],
        "session": "3631896544452",
        "n_presentations": 6,
    }
    counts.to_netcdf(tmp_path / "counts.nc")
    xr.testing.assert_equal(xr.load_dataarray(tmp_path / "counts.nc"), counts)


def test_the_area_chooses_the_window(session):
    windows = {"V1": V1, "V4": V4}
    chosen = load_cadena(session, window=windows, area="V4")
    xr.testing.assert_identical(chosen, load_cadena(session, window=V4, area="V4"))
    with pytest.raises(ValueError, match="window differs between V1, V4; pass one as area, got area=None"):
        load_cadena(session, window=windows)


@given(st.data())
def test_bookkeeping_of_trials_equals_brute_force(tmp_path_factory, data):
    images = data.draw(st.lists(st.integers(0, 6), min_size=2, max_size=15).filter(lambda ids: len(set(ids)) > 1))
    trials = data.draw(st.permutations(range(len(images))))
    counts = np.arange(len(images))[:, None, None] * np.ones((1, 2, 12), int)
    folder = write_cadena(tmp_path_factory.mktemp("session"), counts, images, trial_ids=trials)
    shown = defaultdict(list)
    for _, row in sorted(zip(trials, range(len(images)), strict=True)):
        shown[f"{images[row]:06d}"].append(12 * row)
    found = load_cadena(folder, window=V1)
    assert found.stimulus.values.tolist() == sorted(shown)
    for label, rows in shown.items():
        values = found.sel(stimulus=label, unit="1").values
        assert values[~np.isnan(values)].tolist() == rows


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 30), st.integers(0, 50))
def test_windows_on_edges_of_bins_give_these_bins(first, n, width, offset):
    """Widths and offsets in ms, as floats in s."""
    start, stop = (offset + first * width) / 1000, (offset + (first + n) * width) / 1000
    assert cadena._bins_in(start, stop, first + n, offset / 1000, width / 1000) == slice(first, first + n)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": (0.045, 0.16)}, r"edges of bins, 12 of 0.01 s from 0.04 s to 0.16 s, got \(0.045, 0.16\)"),
        ({"window": (0.03, 0.16)}, "edges of bins"),
        ({"window": (0.04, 0.17)}, "edges of bins"),
        ({"window": (0.1, 0.1)}, "edges of bins"),
        ({"window": (0.1, 0.08)}, "edges of bins"),
        ({"window": (40, 160)}, "edges of bins"),
        ({"window": (0.04, np.nan)}, "edges of bins"),
        ({"window": 0.1}, r"window must be \(start, stop\) in seconds, got 0.1"),
        ({"window": "V4"}, r"window must be \(start, stop\)"),
        ({"window": (0.04, 0.14), "n_bins": 10}, r"trial 0, an array of shape \(5, 12\); .* 10 bins"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(session, wrong, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_cadena(session, **wrong)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["meta_data.json", "responses.csv"])
def test_missing_files_are_named(session, name):
    (session / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}.*check the path"):
        load_cadena(session, window=V1)


@pytest.mark.parametrize("name", ["meta_data.json", "responses.csv"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"version https://git-lfs.github.com/spec/v1\n",
        lambda whole: b"<!DOCTYPE html><html>Sign in</html>",
        lambda whole: whole[: len(whole) - 20],
        lambda whole: bytes(byte ^ 0x5A if i % 7 == 0 else byte for i, byte in enumerate(whole)),
    ],
    ids=["empty", "pointer", "page", "cut", "fuzzed"],
)
def test_broken_files_are_named_with_the_remedy(session, name, damage):
    path = session / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{name} .*(fetch|must be a|check)") as raised:
        load_cadena(session, window=V1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("responses", "image", "message"),
    [
        ("__import__('os').system('true')", "1", "trial 1, no list of numbers; it may be cut short"),
        ("[[1, 2]]", "1", r"trial 1, an array of shape \(1, 2\)"),
        (str([[0] * 12] * 4), "1", r"trial 1, an array of shape \(4, 12\)"),
        ("5", "1", r"trial 1, an array of shape \(\)"),
        ("[[1, 2], [3]]", "1", "trial 1, no list of numbers"),
        ("", "1", "trial 1, no list of numbers"),
        (str([[0] * 12] * 5), "1.5", "a whole number as image_id of every trial"),
        (str([[0] * 12] * 5), "", "a whole number as image_id of every trial"),
    ],
)
def test_odd_rows_are_named(tmp_path, responses, image, message):
    folder = write_cadena(tmp_path, COUNTS[:1], IDS[:1])
    with (folder / "responses.csv").open("a", newline="") as file:
        csv.writer(file).writerow([responses, image])
    with pytest.raises(ValueError, match=message) as raised:
        load_cadena(folder, window=V1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["image_id\n1\n", "responses\n[]\n", "a,b\n1,2\n"])
def test_tables_without_the_columns(session, content):
    (session / "responses.csv").write_text(content)
    with pytest.raises(ValueError, match="responses.csv has no column"):
        load_cadena(session, window=V1)


def test_a_table_cut_within_a_label_is_refused(session):
    """Image 12 must not become image 1."""
    path = session / "responses.csv"
    path.write_bytes(path.read_bytes().rstrip()[:-1])
    with pytest.raises(ValueError, match=r"responses\.csv ends within a line; it is cut short, fetch it again"):
        load_cadena(session, window=V1)


def test_a_table_without_a_trial(session):
    (session / "responses.csv").write_text("responses,image_id\n")
    with pytest.raises(ValueError, match=r"responses\.csv must have a whole number as image_id of every trial"):
        load_cadena(session, window=V1)


@pytest.mark.parametrize("content", ["{}", "[1]", '{"subject_id": 1}'])
def test_meta_data_without_the_session(session, content):
    (session / "meta_data.json").write_text(content)
    with pytest.raises(ValueError, match=r"meta_data\.json has no '(subject|session)_id'"):
        load_cadena(session, window=V1)


TYPES = ["original", "conv1", "conv2", "conv3", "conv4"]


@pytest.fixture
def planted():
    """Three images of five types each, four repetitions, three neurons; the last has two repetitions, one image not."""
    rng = np.random.default_rng(2)
    responses = np.repeat(rng.poisson(4, (1, 15, 3)), 4, axis=0).astype(float)
    responses[2:, :, 2] = np.nan
    responses[:, 3, 1] = np.nan
    return responses, np.repeat([1208, 1, 77], 5), TYPES * 3


def test_pickle_of_2019_comes_back(tmp_path, planted):
    responses, ids, types = planted
    path = tmp_path / "cadena_ploscb_data.pkl"
    sha256 = write_cadena2019(path, responses, ids, types)
    found = load_cadena2019(path, sha256=sha256.upper())
    assert found.dims == ("stimulus", "repetition", "unit")
    np.testing.assert_array_equal(found, responses.swapaxes(0, 1))
    assert found.stimulus.values[:6].tolist() == [*(f"1208_{kind}" for kind in TYPES), "1_original"]
    assert found.image_type.values.tolist() == types
    assert found.image_id.values.tolist() == [str(i) for i in ids]
    assert found.subject.values.tolist() == ["31", "33", "31"]
    assert (found.dtype, found.attrs) == (np.float32, {"units": "spike count", "modality": "spikes"})
    averaged = average_repetitions(found)
    assert averaged.isnull().sum() == 1
    np.testing.assert_array_equal(averaged[:, 2], responses[0, :, 2])
    found.to_netcdf(tmp_path / "v1.nc")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_old_protocols_are_read(tmp_path, protocol):
    data = {
        "responses": np.arange(8.0).reshape(2, 2, 2),
        "image_ids": [np.int64(4), np.float64(5)],
        "image_types": np.array(["original", "conv1"]),
    }
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    found = load_cadena2019(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert found.stimulus.values.tolist() == ["4_original", "5_conv1"]
    assert found[1, 0].values.tolist() == [2, 3]


def test_another_sha256_is_refused_before_anything_is_read(tmp_path, planted, monkeypatch):
    path = tmp_path / "data.pkl"
    found = write_cadena2019(path, *planted)
    monkeypatch.setattr(cadena, "_ArraysOnly", lambda _: pytest.fail("read"))
    with pytest.raises(
        ValueError, match=f"data.pkl has sha256 {found}, but {'0' * 64} is pinned; a pickle may run any"
    ):
        load_cadena2019(path, sha256="0" * 64)


class Malicious:
    """What unpickles to a call."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [os.mkdir, eval, print, np.load, np.fromfile, getattr])
def test_a_malicious_pickle_never_runs(tmp_path, call, protocol, capsys):
    """Not even where its sha256 is pinned; neither at the top nor within arrays and dicts."""
    trap = tmp_path / "trap"
    argument = f"__import__('os').mkdir({str(trap)!r})" if call is eval else str(trap)
    bomb = Malicious(call, argument)
    array = np.empty(2, dtype=object)
    array[:] = [bomb, 1]
    for content in (bomb, {"responses": bomb}, [bomb], {"image_types": array}):
        path = tmp_path / "data.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(
            ValueError, match=r"data\.pkl is not a pickle that contains only arrays: .*; it is not read"
        ) as raised:
            load_cadena2019(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        assert "\n" not in str(raised.value)
    assert not trap.exists()
    assert capsys.readouterr().out == ""


def test_dotted_names_and_other_encodings_are_refused(tmp_path):
    for content in (b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", b"c_codecs\nencode\n(Vx\nVzip\ntR."):
        path = tmp_path / "data.pkl"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a pickle that contains only arrays: it asks for"):
            load_cadena2019(path, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "contains a list; it must be a dict of responses, image_ids, image_types"),
        ({"responses": np.ones((1, 2, 3))}, "contains no 'image_ids'"),
        (
            {"responses": np.ones((2, 3, 4)), "image_ids": np.arange(2), "image_types": ["a", "b"]},
            r"shape \(2, 3, 4\) and dtype float64 with 2 image_ids and 2 image_types",
        ),
        (
            {"responses": np.ones((2, 3)), "image_ids": np.arange(3), "image_types": ["a"] * 3},
            r"shape \(2, 3\)",
        ),
        (
            {"responses": np.ones((2, 3, 4), dtype=object), "image_ids": np.arange(3), "image_types": ["a"] * 3},
            "dtype object",
        ),
        (
            {"responses": np.ones((2, 2, 4)), "image_ids": np.array([1, 1]), "image_types": ["a", "a"]},
            "duplicate stimulus labels '1_a'",
        ),
    ],
)
def test_pickles_of_other_content_are_refused(tmp_path, content, message):
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(ValueError, match=message) as raised:
        load_cadena2019(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_pinned_content_that_is_no_pickle(tmp_path, content):
    path = tmp_path / "data.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a pickle that contains only arrays"):
        load_cadena2019(path, sha256=hashlib.sha256(content).hexdigest())


def test_no_pickle_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no pickle at .*gone\.pkl; check the path"):
        load_cadena2019(tmp_path / "gone.pkl", sha256="0" * 64)
