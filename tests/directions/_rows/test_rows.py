"""Rows: for any layout of responses, every reduction over their rows equals that of NumPy on the whole array."""

import threading
from contextlib import closing

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper.directions import KMeans
from neurosuper.directions._rows import tiles as tiles_module
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.rows import Rows, require_finite, to_tensor
from neurosuper.directions._rows.tiles import into_tiles


def gram(part, shift):
    return (part - shift).T @ (part - shift), part.sum(0)


def lengths(part):
    return (part.norm(dim=1),)


def fails_at_the_third_row(part):
    if len(part) > 2:
        raise RuntimeError("no more than two rows")
    return (part.sum(0),)


def as_is(values):
    return values


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


LAYOUTS = {
    "one chunk": lambda x: da.from_array(x, chunks=-1),
    "one row per chunk": lambda x: da.from_array(x, chunks=(1, -1)),
    "uneven chunks": lambda x: da.from_array(x, chunks=((1, 70, 19, 30), -1)),
    "empty chunks": lambda x: da.from_array(x, chunks=((60, 0, 60, 0), -1)),
    "chunks of units": lambda x: da.from_array(x, chunks=(50, 3)),
    "one unit per chunk": lambda x: da.from_array(x, chunks=(-1, 1)),
    "computed": lambda x: (da.from_array(x, chunks=(7, 5)) * 2)[::-1][::-1] / 2,
    "memory": as_is,
    "Fortran order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
    "read-only": read_only,
    "read-only chunks": lambda x: da.from_array(read_only(x), chunks=(11, -1)),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Let parts be of 16 rows of 8 units, as if the cache were tiny."""
    monkeypatch.setattr(tiles_module, "TILE_ENTRIES", {"cpu": 128, "cuda": 128})
    monkeypatch.setattr(tiles_module, "TILE_ROWS", 2)


@layouts
def test_reductions_over_any_layout_are_those_of_the_whole(layout, responses):
    rows = Rows(responses.copy(data=layout(responses.values)), "cpu", "float64")
    R = responses.values
    scatter, total = rows.sum(gram, torch.from_numpy(R.mean(0)), width=30)
    assert_allclose(scatter, (R - R.mean(0)).T @ (R - R.mean(0)))
    assert_allclose(total, R.sum(0))
    assert_allclose(rows.map(lengths)[0], np.linalg.norm(R, axis=1))
    assert_allclose(torch.cat(list(rows)), R)
    assert_allclose(rows.mean(), R.mean(0))
    assert_array_equal(rows.column_ranges.minimum, R.min(0))
    assert_array_equal(rows.column_ranges.maximum, R.max(0))
    assert_array_equal(rows.take(np.array([0, 3, 118])), R[[0, 3, 118]])
    assert_array_equal(torch.cat([rows.read(*bounds) for bounds in rows.bounds]), R)
    assert_array_equal(rows.read(5, 99), R[5:99])


@layouts
@pytest.mark.parametrize("dtype", ["float16", ">f4", ">f8", "float64", "uint8", "int16", "uint16", ">i4", "int64"])
def test_any_real_dtype_is_read_in_the_same_way(layout, dtype, responses):
    counts = responses.values.round().astype(dtype)
    rows = Rows(responses.copy(data=layout(counts)), "cpu")
    assert {block.dtype for block in rows} == {torch.float32}
    assert_allclose(torch.cat(list(rows)), responses.values.round())


def test_an_array_in_memory_is_not_copied_and_not_written_to(responses):
    values = responses.values.astype("float32")
    rows = Rows(responses.copy(data=values), "cpu")
    assert rows.whole.data_ptr() == values.ctypes.data
    with pytest.raises(RuntimeError, match="never all in memory"):
        _ = Rows(responses.chunk(stimulus=40), "cpu").whole


PREPARATIONS = {
    "nothing": (False, False, False),
    "length": (True, False, False),
    "mean": (False, True, False),
    "length, mean": (True, True, False),
    "length, mean, whitened": (True, True, True),
}


@pytest.mark.parametrize("steps", PREPARATIONS.values(), ids=PREPARATIONS)
@pytest.mark.parametrize("layout", [as_is, LAYOUTS["chunks of units"]], ids=["memory", "streamed"])
def test_ranges_of_prepared_rows_are_right_and_preparation_can_be_undone(steps, layout, responses):
    normalize, center, whiten = steps
    expected = responses.values / np.linalg.norm(responses.values, axis=1, keepdims=True) ** normalize
    mean = expected.mean(0) if center else None
    matrix = np.cov(expected.T) if whiten else None
    X = (expected if mean is None else expected - mean) @ (np.eye(8) if matrix is None else matrix)
    preparation = Preparation(normalize, *(None if x is None else torch.from_numpy(x) for x in (mean, matrix)))
    raw = Rows(responses.copy(data=layout(responses.values)), "cpu", "float64")
    rows = raw.prepared(Preparation(normalize=True)).prepared(preparation)
    assert_allclose(torch.cat(list(rows)), X)
    for found, truth in zip(rows.column_ranges, (X.min(0), X.max(0), X.mean(0)), strict=True):
        assert_allclose(found, truth, atol=1e-14)
    assert_allclose(preparation.undo(torch.from_numpy(X)), expected)
    assert_array_equal(torch.cat(list(raw)), responses.values, err_msg="raw rows stay as they were")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 1), st.integers(1, 300))
def test_tiles_cover_all_rows_once_in_order_and_are_small(sizes, width):
    R = np.arange(sum(sizes) * 4.0).reshape(-1, 4)
    responses = xr.DataArray(da.from_array(R, chunks=(tuple(sizes), -1)), dims=("stimulus", "unit"))
    rows = Rows(responses, "cpu", "float64")
    parts = list(rows.tiles(width))
    assert_array_equal(torch.cat(parts), R)
    assert all(len(part) <= max(tiles_module.TILE_ROWS, 128 // max(width, 4)) for part in parts)


def test_tiles_have_a_minimum_number_of_rows(monkeypatch):
    monkeypatch.undo()
    assert {len(part) for part in into_tiles(torch.zeros(4096, 1024))} == {1024}
    assert {len(part) for part in into_tiles(torch.zeros(4096, 8), width=10**6)} == {512}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_when_they_are_read(bad, responses):
    values = responses.values.copy()
    values[[50, 51], 2] = bad
    rows = Rows(responses.copy(data=da.from_array(values, chunks=(40, 3))), "cpu")
    message = "^responses contain 2 NaN or infinite values in a block of stimuli; drop them$"
    for call in (rows.mean, lambda: list(rows), lambda: rows.map(lengths), lambda: rows.take(np.array([50, 51]))):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=message):
        require_finite(values)
    assert require_finite(values[:0]).shape == (0, 8)


def test_values_beyond_float32_are_refused(responses):
    large = responses * 1e300
    with pytest.raises(ValueError, match="larger than the largest float32; rescale them"):
        KMeans(3).fit(large)


@pytest.mark.parametrize("layout", [LAYOUTS["one row per chunk"], LAYOUTS["chunks of units"]], ids=["rows", "units"])
def test_no_thread_outlives_a_pass_however_it_ends(layout, responses):
    rows = Rows(responses.copy(data=layout(responses.values)), "cpu")
    before = set(threading.enumerate())
    rows.mean()
    assert set(threading.enumerate()) <= before
    with pytest.raises(RuntimeError, match="no more than two rows"):
        Rows(responses.chunk(stimulus=40), "cpu").sum(fails_at_the_third_row)
    with closing(iter(rows)) as blocks:
        next(blocks)
    for _ in rows.tiles():
        break
    with pytest.raises(KeyboardInterrupt):
        rows.sum(interrupt)
    assert set(threading.enumerate()) <= before


def interrupt(part):
    raise KeyboardInterrupt


def test_an_interrupted_read_ends_the_pass(responses):
    def read(values, block_info=None):
        if block_info[None]["chunk-location"][0] == 2:
            raise KeyboardInterrupt
        return values

    before = set(threading.enumerate())
    lazy = da.map_blocks(read, da.from_array(responses.values, chunks=(30, -1)), dtype=float)
    with pytest.raises(KeyboardInterrupt):
        Rows(responses.copy(data=lazy), "cpu").mean()
    assert set(threading.enumerate()) <= before


def test_the_next_block_is_read_while_one_is_reduced_and_no_more(responses):
    read, third = [], threading.Event()

    def note(values, block_info=None):
        read.append(block_info[None]["chunk-location"][0])
        if len(read) == 3:
            third.set()
        return values

    lazy = da.map_blocks(note, da.from_array(responses.values, chunks=(10, -1)), dtype=float, meta=np.empty((0, 0)))
    with closing(iter(Rows(responses.copy(data=lazy), "cpu"))) as blocks:
        next(blocks), next(blocks)
        third.wait(10)
    assert read == [0, 1, 2]


def test_rows_that_do_not_fit_on_the_device_are_sent_in_blocks(responses, monkeypatch):
    whole = KMeans(5, dtype="float64", device="cpu").fit(responses)
    monkeypatch.setattr(Rows, "in_memory", False)
    rows = Rows(responses, "cpu", "float64")
    assert [stop - start for start, stop in rows.bounds] == [16] * 7 + [8]
    assert_array_equal(torch.cat(list(rows)), responses.values)
    assert_array_equal(rows.take(np.array([1, 100])), responses.values[[1, 100]])
    assert_allclose(KMeans(5, dtype="float64", device="cpu").fit(responses).directions_, whole.directions_, atol=1e-12)


def test_a_bar_of_blocks_appears_in_a_long_pass(responses, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "neurosuper.directions._rows.rows.progress", lambda **settings: drawn.append(Bar(**settings)) or drawn[-1]
    )
    Rows(responses.chunk(stimulus=30), "cpu").mean()
    assert [(bar.total, bar.done, bar.closed) for bar in drawn] == [(4, 4, True)]


class Bar:
    def __init__(self, total, **_settings):
        self.total, self.done, self.closed = total, 0, False

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.closed = True

    def update(self):
        self.done += 1


def test_tensors_of_a_fitting_array_share_its_memory():
    fits, other = np.zeros((2, 3), "float32"), np.zeros((2, 3), "float16")
    assert to_tensor(fits, torch.float32, torch.device("cpu")).data_ptr() == fits.ctypes.data
    assert to_tensor(other, torch.float32, torch.device("cpu")).dtype == torch.float32


@pytest.mark.gpu
def test_gpu_streams_what_does_not_fit(responses, monkeypatch):
    whole = KMeans(5, device="cuda").fit(responses).directions_
    monkeypatch.setattr(Rows, "in_memory", False)
    assert_allclose(KMeans(5, device="cuda").fit(responses).directions_, whole, atol=1e-5)
