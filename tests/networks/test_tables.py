"""Activations on disk equal those in memory, survive interruptions, and are never those of another network or image."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from neurosuper.loaders import load_array
from neurosuper.networks import activations, recording, tables
from neurosuper.networks.tables import InMemory, locked

pytest.importorskip("zarr")


class Fails(nn.Module):
    """A network that stops after some batches of ten images, and counts them."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.act = nn.Conv2d(3, 4, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.first(x))


@pytest.fixture
def model():
    return Fails()


@pytest.fixture
def passes(monkeypatch):
    """The number of batches that a network may still see (index 0) and has seen (index 1)."""
    counts, run_layers = [10**6, 0], recording.run_layers

    def note(model, layers, outputs, batch, **rest):
        if len(batch) == 30:
            if counts[0] == counts[1]:
                raise KeyboardInterrupt
            counts[1] += 1
        return run_layers(model, layers, outputs, batch, **rest)

    monkeypatch.setattr(recording, "run_layers", note)
    return counts


LABELS = [f"other {i:03d}" for i in range(120)]
CALL = {"layers": ["act", "first"], "position": "all", "batch_size": 30, "device": "cpu"}


def test_a_store_has_the_activations_that_memory_has(model, images, tmp_path):
    expected = activations(model, images, **CALL)
    found = activations(model, images, **CALL, store=tmp_path / "new" / "a.zarr")
    assert found.chunks is not None
    assert found.dtype == expected.dtype == np.float32
    xr.testing.assert_identical(found.load(), expected)
    assert (expected == 0).any(), "zeros are not taken for missing values"
    assert sorted(path.name for path in (tmp_path / "new").iterdir() if path.suffix != ".lock") == ["a.zarr"]


def test_a_store_is_read_by_xarray_and_by_load_array(model, images, tmp_path):
    expected = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    read = xr.open_zarr(tmp_path / "a.zarr", consolidated=False).response
    xr.testing.assert_equal(read, expected)
    loaded = load_array(tmp_path / "a.zarr")
    np.testing.assert_array_equal(loaded.values, expected.values)
    assert loaded.unit.values.tolist() == expected.unit.values.tolist()


def test_large_rows_are_cut_into_chunks_of_units(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr("neurosuper.networks.tables.CHUNK_BYTES", 30 * 4 * 100)
    found = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    assert xr.open_zarr(tmp_path / "a.zarr", consolidated=False).response.encoding["chunks"] == (30, 100)
    xr.testing.assert_identical(found.load(), activations(model, images, **CALL))


def test_an_interrupted_store_is_not_there_and_continues_where_it_stopped(model, images, tmp_path, passes):
    passes[0] = 2
    with pytest.raises(KeyboardInterrupt):
        activations(model, images, **CALL, store=tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    passes[:] = [10**6, 0]
    found = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    assert passes[1] == 2, "of four batches"
    xr.testing.assert_identical(found.load(), activations(model, images, **CALL))
    assert not (tmp_path / "a.zarr.part").exists()


@pytest.mark.parametrize("damage", ["half a line", "no file", "a chunk that is not there", "a chunk of other values"])
def test_a_damaged_store_continues_before_the_damage(model, images, tmp_path, passes, damage):
    passes[0] = 2
    with pytest.raises(KeyboardInterrupt):
        activations(model, images, **CALL, store=tmp_path / "a.zarr")
    notes, chunks = tmp_path / "a.zarr.part" / "finished", tmp_path / "a.zarr.part" / "data" / "response"
    if damage == "half a line":
        notes.write_text(notes.read_text()[:-20])
    elif damage == "no file":
        notes.unlink()
    elif damage == "a chunk that is not there":
        (chunks / "0.0").unlink()
    else:
        (chunks / "1.0").write_bytes((chunks / "0.0").read_bytes())
    passes[:] = [10**6, 0]
    found = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    n_missing = {"half a line": 3, "no file": 4, "a chunk that is not there": 4, "a chunk of other values": 3}
    assert passes[1] == n_missing[damage]
    xr.testing.assert_identical(found.load(), activations(model, images, **CALL))


def test_a_full_disk_is_one_line_and_the_same_call_continues(model, images, tmp_path, monkeypatch, passes):
    def full(_table, line):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(tables.OnDisk, "_note", full)
        message = r"cannot write to .*a\.zarr\.part: .*No space left on device; make room for it, then the same call"
        with pytest.raises(ValueError, match=message):
            activations(model, images, **CALL, store=tmp_path / "a.zarr")
    found = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    xr.testing.assert_identical(found.load(), activations(model, images, **CALL))


def test_a_complete_store_is_checked_and_not_computed_again(model, images, tmp_path, passes):
    first = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    passes[1] = 0
    again = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    assert passes[1] == 0
    xr.testing.assert_identical(again.load(), first.load())


def change_weights(model, images, call):
    with torch.no_grad():
        model.first.bias[0] += 1


CHANGES = {
    "weights": change_weights,
    "layers": lambda model, images, call: call.update(layers=["first", "act"]),
    "position": lambda model, images, call: call.update(position="mean"),
    "one pixel": lambda model, images, call: images.__setitem__((-1, 0, 0, 0), images[-1, 0, 0, 0] ^ 1),
    "batch size": lambda model, images, call: call.update(batch_size=40),
    "labels": lambda model, images, call: call.update(images=images.assign_coords(stimulus=LABELS)),
    "fewer images": lambda model, images, call: call.update(images=images[:-1]),
}  # fmt: skip


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_store_of_anything_else_is_refused_and_left_as_it_is(model, images, tmp_path, passes, change, complete):
    images, call = images.copy(deep=True), dict(CALL)
    passes[0] = 4 if complete else 3
    store = tmp_path / "a.zarr"
    if complete:
        before = activations(model, images, **call, store=store).load()
    else:
        with pytest.raises(KeyboardInterrupt):
            activations(model, images, **call, store=store)
    passes[0] = 10**6
    images[:] = images if complete else images[::-1].values
    change(model, images, call)
    shown = call.pop("images", images)
    kind = "activations" if complete else "unfinished activations"
    with pytest.raises(ValueError, match=rf"store .*a\.zarr.* contains {kind} of .*; delete it, or give another path"):
        activations(model, shown, **call, store=store)
    if complete:
        xr.testing.assert_equal(xr.open_zarr(store, consolidated=False).response.load(), before)


def test_a_network_without_a_fingerprint_is_stored_and_a_warning_says_that_it_cannot_continue(model, images, tmp_path):
    model.noise = np.random.default_rng(0)
    with pytest.warns(UserWarning, match=r"an interrupted run cannot be continued: model\.noise is a Generator"):
        found = activations(model, images, **CALL, store=tmp_path / "a.zarr")
    xr.testing.assert_identical(found.load(), activations(model, images, **CALL))
    with pytest.warns(UserWarning, match="cannot be continued"), pytest.raises(ValueError, match="another network"):
        activations(model, images, **CALL, store=tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"store": "a.nc"}, "store must be a folder with the ending .zarr, got 'a.nc'"),
        ({"store": "a.zarr", "cache": "b"}, "pass cache= or store=, not both"),
        ({"store": "notes.zarr"}, r"store notes\.zarr exists, and was not written by activations"),
        ({"store": "file.txt/a.zarr"}, "cannot write to file.txt: .*; give another path for store="),
    ],
)
def test_other_stores_are_refused(model, images, tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / ".zattrs").write_text("{}")
    with pytest.raises(ValueError, match=message) as caught:
        activations(model, images, **CALL, **settings)
    assert "\n" not in str(caught.value)


def test_two_processes_cannot_write_one_store(model, images, tmp_path):
    with locked(tmp_path / "a.zarr"), pytest.raises(ValueError, match="is being written by another process"):
        activations(model, images, **CALL, store=tmp_path / "a.zarr")


def test_a_dataset_can_be_stored_if_its_length_is_true(model, images, tmp_path):
    x = torch.tensor(images.values).permute(0, 3, 1, 2)
    stored = activations(model, DataLoader(TensorDataset(x), batch_size=30), **CALL, store=tmp_path / "a.zarr")
    np.testing.assert_array_equal(stored, activations(model, images, **CALL))
    with pytest.raises(ValueError, match="the images are 120 instead of 130; check the dataset's length"):
        activations(model, Stream(x, 130), **CALL, store=tmp_path / "b.zarr")
    with pytest.raises(ValueError, match="more than the 110 expected ones"):
        activations(model, Stream(x, 110), **CALL, store=tmp_path / "c.zarr")


class Stream(IterableDataset):
    def __init__(self, items, length):
        self.items, self.length = items, length

    def __len__(self):
        return self.length

    def __iter__(self):
        return iter(self.items)


def test_a_table_of_unknown_length_grows_and_is_cut_to_its_rows():
    table = InMemory(["a"], None, lambda n: {"stimulus": [str(i) for i in range(n)]}, {"units": "a.u."})
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    for start in range(0, 20, 3):
        block = rows[start : start + 3]
        table.add(torch.zeros(len(block)), lambda block=block: [block])
    found = table.finish()
    np.testing.assert_array_equal(found, rows)
    assert found.stimulus.size == 20
