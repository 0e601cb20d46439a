"""A keyed store of rows of numbers on disk; each row is verified by its checksum when it is read.

`<folder>` is a zarr array (row, feature). Every write starts a new chunk and fills its last chunk with blank rows, so
no chunk is ever read in order to be written. `<folder>/index` contains its own checksum, the shape of a chunk, then the
key and checksum of each row in order, or zeros for blank rows; if a key occurs twice, the later row is used. The index
is written after the rows, in one step, so it names only finished rows. One process writes at a time (`<folder>.lock`);
any number of processes read.
"""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from neurosuper._files import whole_file
from neurosuper._optional import require
from neurosuper._zarr import check_codecs

__all__ = ["KEY_BYTES", "RowStore", "digest"]

KEY_BYTES = 16
RECORD = 2 * KEY_BYTES  # bytes: key, checksum
SHAPE = np.dtype([("rows", "<i8"), ("features", "<i8")])  # of a chunk
BLANK = bytes(RECORD)  # of a row that only fills a chunk
CHUNK_BYTES, CHUNK_ROWS = 2**21, 64  # per chunk, at most; a larger row has a chunk of its own
UNREADABLE = Exception  # on a damaged file, zarr and its codecs may raise any exception


def digest(content: bytes | bytearray | memoryview) -> bytes:
    """Return the checksum of some bytes.

    Parameters
    ----------
    content : bytes, bytearray or memoryview
        The bytes.

    Returns
    -------
    bytes
        A checksum of `KEY_BYTES` bytes.

    Examples
    --------
    >>> len(digest(b"an image"))
    16
    """
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


class RowStore:
    """Store of rows of numbers, each with a key of `KEY_BYTES` bytes.

    Parameters
    ----------
    folder : Path
        Created at the first write.
    dtype : str
        Type of the numbers.
    attrs : dict of str
        Written to the attributes of the zarr array, for people who open it.

    Examples
    --------
    >>> import tempfile
    >>> store = RowStore(Path(tempfile.mkdtemp(), "rows"), "float32", {})
    >>> store.write([digest(b"a")], np.ones((1, 3), np.float32))
    >>> {key == digest(b"a"): row.tolist() for key, row in store.read([digest(b"a"), digest(b"b")]).items()}
    {True: [1.0, 1.0, 1.0]}
    """

    def __init__(self, folder: Path, dtype: str, attrs: dict[str, str]) -> None:
        self.folder, self.dtype, self.attrs = folder, np.dtype(dtype), attrs
        self._version: tuple[int, ...] | None = None  # of the index file, as last read or written
        self._swept = False
        self._array: Any = None  # None: to be created again
        self._forget()

    def read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the rows of these keys, without those that are missing.

        Parameters
        ----------
        keys : sequence of bytes
            In any order.

        Returns
        -------
        dict
            (feature,) arrays by key. Damaged rows are missing, with a warning.
        """
        self._sweep()
        self._refresh()
        known = {key: self._index[key] for key in keys if key in self._index}
        rows = self._load([place for place, _ in known.values()])
        intact = {
            key: rows[place]
            for key, (place, checksum) in known.items()
            if place in rows and digest(rows[place].data) == checksum
        }
        if damaged := known.keys() - intact.keys():
            _warn(f"{len(damaged)} of {len(known)} rows read from {self.folder} are damaged; they are computed again")
            for key in damaged:
                del self._index[key]
        return intact

    def write(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Add rows with these keys.

        Parameters
        ----------
        keys : sequence of bytes
            One key per row.
        rows : ndarray (row, feature)
            As many features as the stored rows.

        Raises
        ------
        ValueError
            Rows that are shorter or longer than the stored ones.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.folder}.lock"):
            self._refresh()
            if self._array is None:
                self._make(rows.shape[1])
            if self._array.shape[1] != rows.shape[1]:
                raise ValueError(
                    f"embeddings have {rows.shape[1]} features, but those in {self.folder} have {self._array.shape[1]}"
                    "; anything that changes embeddings must also change the metric's fingerprint()"
                )
            start, n_blank = len(self._records) // RECORD, -len(rows) % self._array.chunks[0]
            stop = start + len(rows) + n_blank
            if stop > self._array.shape[0]:
                self._array.resize((max(2 * start, stop), rows.shape[1]))
            self._array[start:stop] = np.pad(rows, ((0, n_blank), (0, 0)))
            records = [key + digest(row.data) for key, row in zip(keys, rows, strict=True)]
            self._remember(b"".join(records) + n_blank * BLANK)
            self._write_index()

    def _sweep(self) -> None:
        """Remove the temporary files of killed writers, once, unless another process is writing."""
        if self._swept:
            return
        self._swept = True
        abandoned = [path for pattern in ("*.part", "*.partial") for path in self.folder.glob(pattern)]
        with suppress(OSError, Timeout):
            if abandoned:
                with FileLock(f"{self.folder}.lock", timeout=0):
                    for path in abandoned:
                        path.unlink(missing_ok=True)

    def _refresh(self) -> None:
        """Read the index if it has changed since it was last read; a damaged index counts as empty."""
        version = _version(self.folder / "index")
        if version == self._version:
            return
        self._version, self._array = version, None
        self._forget()
        try:
            chunks, records = _parse_index((self.folder / "index").read_bytes())
            self._array = self._open(chunks, len(records) // RECORD)
            self._remember(records)
        except UNREADABLE as error:
            _warn(f"{self.folder} is not readable ({type(error).__name__}); its rows are computed again")

    def _open(self, chunks: tuple[int, int], n_rows: int) -> Any:
        check_codecs(self.folder)  # a cache may have been copied from elsewhere
        array = require("zarr", "zarr").open_array(self.folder, mode="r+")
        if (
            array.dtype != self.dtype
            or array.chunks != chunks
            or array.shape[0] < n_rows
            or array.shape[1] != chunks[1]
        ):
            raise ValueError("the array does not match its index")
        return array

    def _make(self, width: int) -> None:
        """Replace the folder by an empty array."""
        self._forget()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self._array = require("zarr", "zarr").create_array(
            self.folder,
            shape=(0, width),
            chunks=(int(np.clip(CHUNK_BYTES // (width * self.dtype.itemsize), 1, CHUNK_ROWS)), width),
            dtype=self.dtype,
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=("row", "feature"),
            attributes=self.attrs,
        )

    def _load(self, places: list[int]) -> dict[int, np.ndarray]:
        """Return rows by position, without those that cannot be read; neighbouring chunks are read together."""
        if not places:
            return {}
        n_rows, found = self._array.chunks[0], {}
        chunks = np.unique(np.array(places) // n_rows)
        for run in np.split(chunks, np.flatnonzero(np.diff(chunks) > 1) + 1):
            found.update(self._load_chunks(run.tolist()))
        return {place: found[place // n_rows][place % n_rows] for place in places if place // n_rows in found}

    def _load_chunks(self, run: list[int]) -> dict[int, np.ndarray]:
        n_rows = self._array.chunks[0]
        try:
            rows = self._array[n_rows * run[0] : n_rows * (run[-1] + 1)]
            return dict(zip(run, rows.reshape(len(run), n_rows, -1), strict=True))
        except UNREADABLE:
            each = [self._load_chunks([chunk]) for chunk in run] if len(run) > 1 else []
            return {number: rows for found in each for number, rows in found.items()}

    def _forget(self) -> None:
        self._records = bytearray()
        self._index: dict[bytes, tuple[int, bytes]] = {}  # key: (place of the row, its checksum)

    def _remember(self, records: bytes) -> None:
        for start in range(0, len(records), RECORD):
            key, checksum = records[start : start + KEY_BYTES], records[start + KEY_BYTES : start + RECORD]
            if key + checksum != BLANK:
                self._index[key] = (len(self._records) // RECORD, checksum)
            self._records += key + checksum

    def _write_index(self) -> None:
        final = self.folder / "index"
        content = np.array(self._array.chunks, SHAPE).tobytes() + self._records
        with whole_file(final) as partial:
            partial.write_bytes(digest(content) + content)
        self._version = _version(final)


def _parse_index(content: bytes) -> tuple[tuple[int, int], bytes]:
    """Return the shape of a chunk and the records from an index file; raise an error if its checksum is wrong."""
    checksum, content = content[:KEY_BYTES], content[KEY_BYTES:]
    if checksum != digest(content):
        raise ValueError("the index has a wrong checksum")
    (chunk,) = np.frombuffer(content, SHAPE, 1).tolist()
    return chunk, content[SHAPE.itemsize :]


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
