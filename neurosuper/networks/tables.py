"""Tables (stimulus, unit) that are filled batch by batch: in memory, or in a zarr folder that survives interruptions.

Until it is complete, the folder `name.zarr` is `name.zarr.part/data`. `name.zarr.part/finished` has one line with the
fingerprint of the network and the shape of its units, then one line per finished batch, which is written after the
batch's activations: a hash of the batch, its number of images, and a hash of the activations.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from filelock import FileLock, Timeout

from neurosuper._batch_cache import key_of
from neurosuper._checks import one_line
from neurosuper._files import whole_file
from neurosuper._optional import require
from neurosuper.networks.units import unit_coords

Run = Callable[[], list[np.ndarray]]
CHUNK_BYTES = 2**25  # of a chunk of a zarr folder, at most, if a value of each image is not larger
BLOCK_BYTES = 2**27  # of a block that is read at once, at most, if one batch is not larger
NOTES, KEYS = "finished", "batches"  # file of the finished batches; attribute of a complete folder with their hashes


@dataclass
class Table(ABC):
    """Activations of all images, which is filled batch by batch.

    Parameters
    ----------
    layers : list of str
        Names of the layers.
    n_images : int or None
        None: not known before the last batch.
    coords_of : callable
        From the number of images to the coords along stimulus.
    attrs : dict
        Attributes of the responses.
    """

    layers: list[str]
    n_images: int | None
    coords_of: Callable[[int], dict[str, Any]]
    attrs: dict[str, Any]
    shapes: list[tuple[int, ...]] = field(default_factory=list, init=False)  # of one image's units, by layer
    n_rows: int = field(default=0, init=False)

    @abstractmethod
    def add(self, batch: torch.Tensor, run: Run) -> None:
        """Add the rows of the next batch; `run` computes the units of each layer."""

    @abstractmethod
    def finish(self) -> xr.DataArray:
        """Return the responses."""

    def _n_units(self) -> int:
        return sum(map(_size, self.shapes))

    def _responses(self, values: Any) -> xr.DataArray:
        coords = self.coords_of(len(values)) | unit_coords(self.layers, self.shapes)
        return xr.DataArray(values, coords, ("stimulus", "unit"), "response", self.attrs)

    def _fill(self, rows: np.ndarray, units: list[np.ndarray]) -> None:
        """Write the units of all layers side by side into rows (n, unit)."""
        stop = 0
        for layer, values, shape in zip(self.layers, units, self.shapes, strict=True):
            if values.shape[1:] != shape:
                raise ValueError(
                    f"layer {layer!r} gives units of shape {values.shape[1:]} for one batch and {shape} for the first; "
                    "preprocess must give every image the same size"
                )
            start, stop = stop, stop + _size(shape)
            rows[:, start:stop] = values.reshape(len(values), -1)


class InMemory(Table):
    """A table in memory: one array, with room for the expected number of images from the start."""

    def add(self, batch: torch.Tensor, run: Run) -> None:
        """Add the rows of the next batch."""
        units, start = run(), self.n_rows
        self.n_rows += len(batch)
        if not self.shapes:  # the first batch shows how many units each layer has
            self.shapes = [layer_units.shape[1:] for layer_units in units]
            self._values = np.empty((self.n_images or self.n_rows, self._n_units()), np.float32)
        if self.n_rows > len(self._values):  # the number of images was not known: make room for half as many again
            self._resize(max(self.n_rows, len(self._values) * 3 // 2))
        self._fill(self._values[start : self.n_rows], units)

    def finish(self) -> xr.DataArray:
        """Return the responses."""
        if self.n_rows < len(self._values):
            self._resize(self.n_rows)
        return self._responses(self._values)

    def _resize(self, n_rows: int) -> None:
        # In place, so that the values are never in memory twice; no other array shares them.
        self._values.resize((n_rows, self._n_units()), refcheck=False)


class OnDisk(Table):
    """A table in a zarr folder, which is complete or does not exist under its name.

    Parameters
    ----------
    folder : Path
        Where the table will be.
    identity : str
        Fingerprint of everything that the table depends on, except the pixels of the images.
    *table
        See `Table`; the number of images must be known.

    Raises
    ------
    ValueError
        The folder contains something else, or activations of another network or of other images.
    """

    def __init__(self, folder: Path, identity: str, *table: Any) -> None:
        super().__init__(*table)
        self.folder, self.part, self.identity = folder, folder.with_name(f"{folder.name}.part"), identity
        self._keys: list[str] = []  # of the batches of this run
        self._values: Any = None
        self.complete = folder.exists()
        self._expected = self._read_complete() if self.complete else self._read_unfinished()

    def _read_complete(self) -> list[str]:
        """Return the hashes of the batches of a complete folder."""
        try:
            found = json.loads((self.folder / ".zattrs").read_text(encoding="utf-8"))
            identity, keys = found["identity"], found[KEYS].split()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"store {self.folder} exists, and was not written by activations; delete it or give another path"
            ) from error
        if identity != self.identity:
            raise self._other("another network, other layers, settings or labels")
        return keys

    def _read_unfinished(self) -> list[str]:
        """Return the hashes of the batches that an interrupted run has finished, up to the first damaged one."""
        notes = self.part / NOTES
        try:
            head, *lines = notes.read_text(encoding="utf-8").split("\n")
            known = json.loads(head)
            finished = [(key, int(n_rows), content) for key, n_rows, content in map(str.split, lines[:-1])]
        except (OSError, ValueError):  # killed before the first batch was finished
            shutil.rmtree(self.part, ignore_errors=True)
            return []
        if known["identity"] != self.identity:
            raise self._other("another network, other layers, settings or labels")
        self.shapes, self._values = [tuple(shape) for shape in known["shapes"]], self._open_values()
        n_intact = start = 0
        for _, n_rows, content in finished:
            # After a power failure, a line may be on disk and the rows that it names not.
            if _digest(self._values[start : start + n_rows]) != content:
                break
            n_intact, start = n_intact + 1, start + n_rows
        for leftover in (self.part / "data").rglob("*.partial"):
            leftover.unlink()  # a chunk that a killed process was writing
        with whole_file(notes) as partial:
            partial.write_text("".join(f"{line}\n" for line in (head, *lines[:n_intact])), encoding="utf-8")
        return [key for key, *_ in finished[:n_intact]]

    def _other(self, what: str) -> ValueError:
        kind = "activations" if self.complete else "unfinished activations"
        where = self.folder if self.complete else self.part
        return ValueError(f"store {where} contains {kind} of {what}; delete it, or give another path")

    def add(self, batch: torch.Tensor, run: Run) -> None:
        """Add the rows of the next batch, unless they are already there."""
        key, rows = key_of(self.identity, batch), slice(self.n_rows, self.n_rows + len(batch))
        self.n_rows = rows.stop
        self._keys.append(key)
        if len(self._keys) <= len(self._expected) and key == self._expected[len(self._keys) - 1]:
            return
        if self.complete or len(self._keys) <= len(self._expected):
            raise self._other("other images")
        if self.n_rows > (self.n_images or 0):
            raise ValueError(f"the images are more than the {self.n_images} expected ones; check the dataset's length")
        units = run()
        with _writing(self.part):
            if self._values is None:
                self._create(units)
            block = np.empty((len(batch), self._n_units()), np.float32)
            self._fill(block, units)
            self._values[rows] = block
            self._note(f"{key} {len(block)} {_digest(block)}")

    def _create(self, units: list[np.ndarray]) -> None:
        """Write coords and metadata; the first batch shows how many units each layer has."""
        import dask.array as da

        self.shapes = [layer_units.shape[1:] for layer_units in units]
        shape, n_rows = (self.n_images, self._n_units()), len(units[0])
        chunks = (n_rows, max(1, min(shape[1], CHUNK_BYTES // (4 * n_rows))))
        self.part.mkdir(parents=True, exist_ok=True)
        self._responses(da.zeros(shape, dtype=np.float32, chunks=chunks)).to_dataset().to_zarr(
            self.part / "data",
            mode="w",
            compute=False,
            consolidated=False,
            zarr_format=2,  # the specification of the third has no text yet
            encoding={"response": {"chunks": chunks}},
        )
        self._values = self._open_values()
        self._note(json.dumps({"identity": self.identity, "shapes": self.shapes}))

    def _open_values(self) -> Any:
        return require("zarr", "zarr").open_group(self.part / "data", mode="r+")["response"]

    def _note(self, line: str) -> None:
        with (self.part / NOTES).open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> xr.DataArray:
        """Return the responses, as a dask array that reads the folder."""
        if self.n_rows < (self.n_images or 0) or len(self._keys) < len(self._expected):
            raise ValueError(f"the images are {self.n_rows} instead of {self.n_images}; check the dataset's length")
        if not self.complete:
            with _writing(self.part):
                group = require("zarr", "zarr").open_group(self.part / "data", mode="r+")
                group.attrs.update({"identity": self.identity, KEYS: " ".join(self._keys)})
                os.replace(self.part / "data", self.folder)
            shutil.rmtree(self.part, ignore_errors=True)
        stored = xr.open_zarr(self.folder, consolidated=False, chunks=None).response
        n_rows = stored.encoding["chunks"][0]
        n_rows *= max(1, BLOCK_BYTES // (4 * n_rows * stored.sizes["unit"]))
        return stored.assign_coords({name: coord.load() for name, coord in stored.coords.items()}).chunk(
            stimulus=n_rows
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"cannot write to {folder}: {one_line(error)}; make room for it, then the same call continues"
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write a table.

    Raises
    ------
    ValueError
        Another process is writing it, or the folder above it cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"store {folder} is being written by another process; wait for it, or give another path"
        ) from error
    except OSError as error:
        raise ValueError(f"cannot write to {folder.parent}: {one_line(error)}; give another path for store=") from error
    try:
        yield
    finally:
        lock.release()


def _digest(rows: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=16).hexdigest()


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))
