"""Damage to files: bytes anywhere, and objects of HDF5 files that contradict the rest of the file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
    10**6,
    2**40,
)
DIGITS = (b"9" * 12, b"-1", b"0", b"1e9", b"99999", b"1e400", b"nan")
Damage = Callable[[h5py.File, str], None]


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return the content of a file with one to eight changes; four in ten of these are in the first 512 bytes."""
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        if damaged:
            _change(damaged, rng, rng.randrange(len(damaged) if rng.random() < 0.6 else min(len(damaged), 512)))
    return bytes(damaged)


def _change(damaged: bytearray, rng: random.Random, at: int) -> None:
    kind = rng.choice(
        ["flip", "flip", "flip", "number", "number", "cut", "remove", "repeat", "zero", "insert", "digits"]
    )
    size = rng.randrange(1, 64)
    if kind == "flip":
        damaged[at] ^= 1 << rng.randrange(8)
    elif kind == "number":
        size = rng.choice([1, 2, 4, 8])
        value = rng.choice(NUMBERS) % 2 ** (8 * size)
        damaged[at : at + size] = value.to_bytes(size, rng.choice(["little", "big"]))
    elif kind == "cut":
        del damaged[max(1, at) :]
    elif kind == "remove":
        del damaged[at : at + size]
    elif kind == "repeat":
        damaged[at:at] = damaged[at : at + 4 * size]
    elif kind == "zero":
        damaged[at : at + 8 * size] = bytes(len(damaged[at : at + 8 * size]))
    elif kind == "insert":
        damaged[at:at] = rng.randbytes(size)
    else:
        digits = [i for i in range(max(0, at - 200), min(len(damaged), at + 200)) if 48 <= damaged[i] <= 57]
        if digits:
            i = rng.choice(digits)
            damaged[i : i + 1] = rng.choice(DIGITS)


def _replace(file: h5py.File, path: str, values: object, **settings: object) -> None:
    """Replace the values of a dataset, and keep its attributes."""
    attrs = dict(file[path].attrs)
    del file[path]
    dataset = file.create_dataset(path, data=values, **settings)
    for name, value in attrs.items():
        dataset.attrs[name] = value


def _with(change: Callable[[np.ndarray], object]) -> Damage:
    return lambda file, path: _replace(file, path, change(file[path][()]))


def _first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        changed = np.array(values, np.float64 if values.dtype.kind == "f" else np.int64)
        changed.reshape(-1)[0] = value
        return changed

    return change


def _without_data(file: h5py.File, path: str) -> None:
    """Replace a dataset by one that was declared but never written, which HDF5 reads as zeros."""
    old, attrs = file[path], dict(file[path].attrs)
    shape, dtype = old.shape, old.dtype
    del file[path]
    dataset = file.create_dataset(path, shape, dtype, chunks=bool(shape) or None)
    for name, value in attrs.items():
        dataset.attrs[name] = value


def _elsewhere(file: h5py.File, path: str) -> None:
    """Store the values of a dataset in another file that exists on every system."""
    old, attrs = file[path], dict(file[path].attrs)
    shape, dtype = old.shape, old.dtype
    del file[path]
    dataset = file.create_dataset(path, shape, dtype, external=[(__file__, 0, h5py.h5f.UNLIMITED)])
    for name, value in attrs.items():
        dataset.attrs[name] = value


def _virtual(file: h5py.File, path: str) -> None:
    old, attrs = file[path], dict(file[path].attrs)
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource("missing.h5", "x", old.shape, old.dtype)
    del file[path]
    dataset = file.create_virtual_dataset(path, layout)
    for name, value in attrs.items():
        dataset.attrs[name] = value


def _link(link: Callable[[str], object]) -> Damage:
    def change(file: h5py.File, path: str) -> None:
        del file[path]
        file[path] = link(path)

    return change


def _as_group(file: h5py.File, path: str) -> None:
    del file[path]
    file.create_group(path)


def _to_parent(file: h5py.File, path: str) -> None:
    parent = file[path].parent
    del file[path]
    file[path] = parent


ANY: dict[str, Damage] = {
    "a link to nowhere": _link(lambda _: h5py.SoftLink("/nowhere/at/all")),
    "a link to itself": _link(h5py.SoftLink),
    "a link to its group": _to_parent,
    "a link to a file that is missing": _link(lambda path: h5py.ExternalLink("missing.nwb", path)),
    "a link to another file": _link(lambda path: h5py.ExternalLink("other.nwb", path)),
}
DATASET: dict[str, Damage] = {
    "a group in its place": _as_group,
    "never written": _without_data,
    "one number": _with(lambda values: np.asarray(values).ravel()[0]),
    "nothing": _with(lambda values: h5py.Empty("f4")),
    "one dimension more": _with(lambda values: np.asarray(values)[np.newaxis]),
    "two dimensions more": _with(lambda values: np.asarray(values)[..., np.newaxis, np.newaxis]),
}
COLUMN: dict[str, Damage] = {
    "a row more": _with(lambda values: np.concatenate([values, values[-1:]])),
    "a row less": _with(lambda values: values[:-1]),
    "one row": _with(lambda values: values[:1]),
    "no row": _with(lambda values: values[:0]),
    "every row twice": _with(lambda values: np.concatenate([values, values])),
}
STORED: dict[str, Damage] = {"kept in another file": _elsewhere, "virtual, of a file that is missing": _virtual}
NUMERIC: dict[str, Damage] = {
    "complex numbers": _with(lambda values: values + 1j),
    "records": _with(lambda values: np.zeros(np.shape(values), [("a", "f4"), ("b", "i4")])),
    "not a number": _with(lambda values: np.full(np.shape(values), np.nan)),
}
TEXT: dict[str, Damage] = {"bytes that are no text": _with(lambda values: np.full(np.shape(values), b"\xff\xfe", "S2"))}
INDEX: dict[str, Damage] = {
    "falling": _with(lambda values: values[::-1]),
    "beyond the data": _with(lambda values: np.append(values[:-1], 10**6)),
    "all zero": _with(lambda values: values * 0),
    "below zero": _with(_first(-1)),
    "short of the data": _with(lambda values: values - np.uint8(1)),
}
NAMED: dict[str, dict[str, Damage]] = {  # damage only to columns of these names
    "id": {"twice the same": _with(lambda values: np.append(values[:1], values[:-1]))},
    "start_time": {"an infinite onset": _with(_first(np.inf)), "an onset long before": _with(_first(-1e6))},
    "timestamps": {"an infinite time": _with(_first(np.inf)), "a time that is missing": _with(_first(np.nan))},
    "spike_times": {"a spike time that is missing": _with(_first(np.nan)), "an infinite time": _with(_first(np.inf))},
    "rois": {"a row that is not there": _with(_first(99)), "a row below zero": _with(_first(-1))},
    "electrodes": {"a row that is not there": _with(_first(99)), "a row below zero": _with(_first(-1))},
}


def kinds_for(dataset: h5py.Dataset, path: str) -> dict[str, Damage]:
    """Return the kinds of damage that apply to a dataset, by description."""
    name, kinds = path.rpartition("/")[2], ANY | DATASET
    references = h5py.check_ref_dtype(dataset.dtype) is not None
    if references:
        return ANY
    text = h5py.check_string_dtype(dataset.dtype) is not None
    kinds |= {} if text else STORED
    if dataset.ndim and len(dataset):
        kinds |= COLUMN | (INDEX if name.endswith("_index") else NAMED.get(name, {}))
    if dataset.size:
        kinds |= TEXT if text else NUMERIC if dataset.dtype.kind in "iuf" else {}
    return kinds


def plan(path: Path) -> Iterator[tuple[str, str]]:
    """Yield every object of an NWB file with each kind of damage that applies to it."""
    with h5py.File(path) as file:
        found: list[str] = []
        file.visit(found.append)
        for name in found:
            if name.startswith("specifications"):
                continue
            item = file[name]
            for kind in kinds_for(item, name) if isinstance(item, h5py.Dataset) else ANY:
                yield name, kind


def damage_object(path: Path, name: str, kind: str) -> None:
    """Damage one object of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        item = file[name]
        kinds = kinds_for(item, name) if isinstance(item, h5py.Dataset) else ANY
        kinds[kind](file, name)


def refuse_to_pynwb(path: Path) -> None:
    """Remove from a file what pynwb requires, and no reader of this package needs."""
    with h5py.File(path, "r+") as file:
        del file["session_description"]
