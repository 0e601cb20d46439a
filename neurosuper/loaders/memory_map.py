"""HDF5 datasets without copies: slices of a large, uncompressed dataset of a local file are views of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["mapped"]

LARGE = 2**26  # bytes of a dataset (64 MiB): below this a copy costs little


def mapped(dataset: Any) -> Any:
    """Return an object that is sliced like the dataset, along its one axis, without copies if possible.

    Parameters
    ----------
    dataset : h5py.Dataset or any object that can be sliced

    Returns
    -------
    array-like
        The dataset itself, unless it is a large, one-dimensional, unfiltered dataset of a local file: then slices are
        read-only views of the mapped file. Only slices that cross from one run of chunks to the next are copied.

    Examples
    --------
    >>> mapped([1.0, 2.0])[:1]
    [1.0]
    """
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1 or dataset.nbytes < LARGE or not _is_plain(dataset):
        return dataset
    starts, offsets = _runs(dataset)
    return dataset if starts is None else _MemoryMapped(dataset, starts, offsets)


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Return whether the bytes of a dataset are stored in a local file as they would be in memory."""
    file, filters = dataset.file, dataset.id.get_create_plist().get_nfilters()
    local = file.driver == "sec2" and file.userblock_size == 0 and Path(file.filename).is_file()
    return local and not filters and dataset.dtype.isnative and dataset.external is None and not dataset.is_virtual


def _runs(dataset: h5py.Dataset) -> tuple[Any, Any]:
    """Return where each run of values that are contiguous in the file starts: in the dataset, and in bytes."""
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        return (None, None) if offset is None else (np.array([0]), np.array([offset]))
    found: list[tuple[int, int]] = []
    dataset.id.chunk_iter(lambda chunk: found.append((chunk.chunk_offset[0], chunk.byte_offset)))
    starts, offsets = np.array(sorted(found)).reshape(-1, 2).T
    if len(starts) != -(-len(dataset) // dataset.chunks[0]):
        return None, None  # chunks that were never written
    # A chunk starts a run unless it follows the chunk before it directly.
    first = np.append(True, np.diff(offsets) != dataset.chunks[0] * dataset.dtype.itemsize)
    return starts[first], offsets[first]


class _MemoryMapped:
    """A dataset as memory-mapped runs of contiguous values."""

    def __init__(self, dataset: h5py.Dataset, starts: np.ndarray, offsets: np.ndarray) -> None:
        self.dtype, self.chunks, self._starts = dataset.dtype, None, starts
        stops = np.append(starts[1:], len(dataset))
        self._runs = [
            np.memmap(dataset.file.filename, self.dtype, "r", offset, (stop - start,)).view(np.ndarray)
            for start, stop, offset in zip(starts.tolist(), stops.tolist(), offsets.tolist(), strict=True)
        ]

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def __getitem__(self, key: slice) -> np.ndarray:
        start, stop, _ = key.indices(len(self))
        first, last = np.searchsorted(self._starts, [start, max(start, stop - 1)], side="right") - 1
        pieces = [
            self._runs[run][max(start - self._starts[run], 0) : max(stop - self._starts[run], 0)]
            for run in range(first, last + 1)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
