"""Remote files: read by ranged requests, with what was read kept on disk, so that nothing travels twice.

remfile decides what to ask for; here is what it leaves open: addresses that expire, servers that cannot send parts of
files, and errors in one line.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import remfile
import requests

from neurosuper.load.archives import TIMEOUT, RemoteFile
from neurosuper.load.cache import STREAMING, own_folder, version_folder
from neurosuper.load.transfer import HEADERS, disk

__all__ = ["open_remote"]

PART = 1 << 15  # bytes; with remfile's own 100 KiB and growth of 1.7, 3 times as much travels as 5 units' spikes need
GROWTH = 1.3  # by which more is read ahead while reading goes straight on
AHEAD = 8  # parts read ahead at most: after a large read, remfile would read as much again


def open_remote(remote: RemoteFile, cache: Path | None) -> io.RawIOBase:
    """Open a file of an archive for reading, without fetching the whole of it.

    Parameters
    ----------
    remote : RemoteFile
        As `list_files` returns it. Its digest cannot be verified, since not all of it is read.
    cache : path or None
        Folder in which the parts that were read are kept (in `.streaming`); None keeps none.

    Returns
    -------
    binary file
        Takes `read`, `seek` and `tell`, as `h5py.File` needs; close what reads it before the interpreter ends.

    Raises
    ------
    ValueError
        A server that cannot send parts of files: fetch the file instead.
    OSError
        The archive does not answer or refuses; also later, while reading.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.nwb")
    >>> _ = path.write_bytes(b"spikes")
    >>> with open_remote(RemoteFile("mine", "1", "a.nwb", 6, None, path.as_uri), None) as file:
    ...     file.read(3)
    b'spi'
    """
    url = remote.url()
    if url.startswith("file:"):
        return io.FileIO(url2pathname(urlsplit(url).path))
    door = _Door(remote, url)
    size = door.size() if remote.size is None else remote.size
    kept = None if cache is None else _KeptParts(_folder(remote, url, size, cache))
    return _Stream(remote, door, size, kept)


def _folder(remote: RemoteFile, url: str, size: int, cache: Path) -> Path:
    """Return the folder for the parts of one version of a file."""
    same = remote.digest.value if remote.digest else f"{remote.version} {url.partition('?')[0]}"
    name = hashlib.sha256(f"{remote.path} {size} {same}".encode()).hexdigest()[:32]
    own_folder(cache / STREAMING)
    return cache / STREAMING / remote.dataset / version_folder(remote.version) / name


class _KeptParts(remfile.DiskCache):
    """Parts of one file on disk, each there as a whole or not at all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder

    def get(self, key: str) -> bytes | None:
        path = self._path(key)
        return path.read_bytes() if path.is_file() else None

    def set(self, key: str, value: bytes) -> None:
        path = self._path(key)
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(value)
            os.replace(file.name, path)

    def _path(self, key: str) -> Path:
        return self._folder / "-".join(key.rsplit("|", 2)[1:])


class _Door:
    """What remfile takes for a session of requests: asks one file for ranges, at an address that is renewed."""

    def __init__(self, remote: RemoteFile, url: str) -> None:
        self._remote, self._url = remote, url
        self._session = requests.Session()

    def get(self, _: str | None, headers: dict[str, str]) -> requests.Response:
        """Return an answer; one that remfile could not use becomes a refusal, which it does not try to mend."""
        answer = self._ask(headers)
        if answer.status_code == 403:
            expired, self._url = self._url, self._remote.url()
            answer = answer if self._url == expired else self._ask(headers)
        total = _total(answer)
        if answer.status_code == 200:
            answer.status_code, answer.reason = 416, "the server cannot send parts of files; use stream=False"
        elif answer.status_code == 206 and total != str(self._remote.size or total):
            told = f"the file has {total} bytes, expected {self._remote.size}; correct the manifest"
            answer.status_code, answer.reason = 416, told
        if answer.status_code != 206:
            answer.close()
        return answer

    def _ask(self, headers: dict[str, str]) -> requests.Response:
        answer = self._session.get(self._url, headers=HEADERS | headers, timeout=TIMEOUT, stream=True)
        if answer.status_code == 403:
            answer.close()
        return answer

    def size(self) -> int:
        """Return how long the file is, by asking for its first byte."""
        with _in_one_line(self._remote):
            answer = self.get(None, {"Range": "bytes=0-0"})
            if answer.status_code != 206 or len(answer.content) != 1 or not _total(answer).isdecimal():
                raise OSError(f"{answer.status_code} {answer.reason}")
            return int(_total(answer))

    def close(self) -> None:
        self._session.close()


def _total(answer: requests.Response) -> str:
    return answer.headers.get("Content-Range", "").rpartition("/")[2]


class _Stream(io.RawIOBase):
    """A remote file as Python's own files are."""

    def __init__(self, remote: RemoteFile, door: _Door, size: int, kept: _KeptParts | None) -> None:
        super().__init__()
        self._remote, self._door, self._size = remote, door, size
        self._file = remfile.File(
            remote.path, disk_cache=kept, _size=size, _min_chunk_size=PART, _chunk_increment_factor=GROWTH
        )
        self._file.session = door

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError(f"{self._remote.path} is closed; open it again")
        n = min(len(buffer), self._size - self.tell())
        if n <= 0:
            return 0
        known = self._file._smart_loader_chunk_sequence_length
        self._file._smart_loader_chunk_sequence_length = min(known, AHEAD)
        with _in_one_line(self._remote):
            buffer[:n] = self._file.read(n)
        return n

    def close(self) -> None:
        self._door.close()
        super().close()


@contextmanager
def _in_one_line(remote: RemoteFile) -> Iterator[None]:
    """Say what a server refuses, without the address, which may be signed."""
    try:
        yield
    except Exception as error:
        foreign = isinstance(error, requests.RequestException)
        told = type(error).__name__ if foreign else " ".join(str(error).split())
        raise OSError(f"{remote.path} cannot be read from its archive: {told}; {remote.access}") from None
