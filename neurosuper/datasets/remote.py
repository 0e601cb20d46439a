"""Remote files: read by ranged requests, with what was read kept on disk, so that nothing travels twice.

remfile decides what to ask for; here is what it leaves open: addresses that expire, servers that cannot send parts of
files, or send others than asked for, and errors in one line. All that is read in a session is of one version of a file:
every answer, and every part on disk, is compared with the first by ETag, Last-Modified and length.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import remfile
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from neurosuper._checks import one_line
from neurosuper._files import remove_unfinished
from neurosuper.datasets.answers import PERMANENT, Version, span_of, total_of
from neurosuper.datasets.archives import TIMEOUT, RemoteFile
from neurosuper.datasets.cache import STREAMING, own_folder, version_folder
from neurosuper.datasets.receipts import disk, write_whole
from neurosuper.datasets.transfer import HEADERS

__all__ = ["open_remote"]

PART = 1 << 15  # bytes; with remfile's own 100 KiB and growth of 1.7, 3 times as much travels as 5 units' spikes need
GROWTH = 1.3  # by which more is read ahead while reading goes straight on
SILENCES = 2  # answers that may take too long, in a row; remfile would wait for 9
AHEAD = 8  # parts read ahead at most: after a large read, remfile would read as much again


def open_remote(remote: RemoteFile, cache: Path | None) -> io.RawIOBase:
    """Open a file of an archive for reading, without fetching the whole of it.

    Parameters
    ----------
    remote : RemoteFile
        As `list_files` returns it. Its digest cannot be verified, since not all of it is read.
    cache : path or None
        Folder in which the parts that were read are kept (in `.streaming`), each with its digest and the version that
        it is of; None keeps none. Nor is any kept of a file whose versions its server does not tell apart.

    Returns
    -------
    binary file
        Takes `read`, `seek` and `tell`, as `h5py.File` needs; close what reads it before the interpreter ends.

    Raises
    ------
    ValueError
        A server that cannot send parts of files: fetch the file instead.
    OSError
        The archive does not answer or refuses; also later, while reading, and if the file changes meanwhile.

    Warns
    -----
    UserWarning
        Parts cannot be kept, since the disk is full or the cache cannot be written.

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
    door = _RangeSession(remote, url)
    if remote.size is None or remote.digest is None:
        door.look()
    kept = None if cache is None else _PartCache(_folder(remote, url, door.size, cache), door)
    return _RemoteFileReader(remote, door, kept)


def _folder(remote: RemoteFile, url: str, size: int, cache: Path) -> Path:
    """Return the folder for the parts of one file."""
    same = remote.digest.value if remote.digest else f"{remote.version} {url.partition('?')[0]}"
    name = hashlib.sha256(f"{remote.path} {size} {same}".encode()).hexdigest()[:32]
    with suppress(OSError):  # a cache that cannot be written: parts in it can be read all the same
        own_folder(cache / STREAMING)
    return cache / STREAMING / remote.dataset / version_folder(remote.version) / name


class _RangeSession:
    """What remfile takes for a session of requests: asks one file for ranges, at an address that is renewed."""

    def __init__(self, remote: RemoteFile, url: str) -> None:
        self._remote, self._url = remote, url
        self._session = requests.Session()
        self._silences = 0
        self.size = remote.size or 0
        self.version = Version()  # of what was read so far
        self.changed = False

    def look(self) -> None:
        """Ask for the first byte, to know how long the file is and which version it is of."""
        with _in_one_line(self._remote):
            answer = self.get(None, {"Range": "bytes=0-0"})
            size = total_of(answer)
            if answer.status_code != 206 or len(answer.content) != 1 or size is None:
                raise OSError(f"{answer.status_code} {answer.reason}")
            self.size = size

    def get(self, _: str | None, headers: dict[str, str]) -> requests.Response:
        """Return an answer; one that remfile could not use becomes a refusal, which it does not try to mend."""
        try:
            answer = self._ask(headers)
            if answer.status_code in (200, 206) and (fault := self._fault(answer, headers["Range"])):
                answer.status_code, answer.reason = 416, fault
            if answer.status_code == 206:
                answer.content  # noqa: B018  # read here, where silence is counted, not later
                self.version = Version.of(answer) if self.version == Version() else self.version
            else:
                answer.close()
        except PERMANENT as error:
            return _refusal(f"it is sent to no valid address ({type(error).__name__})")
        except (requests.Timeout, requests.ConnectionError) as error:
            silent = isinstance(error, requests.Timeout) or isinstance(next(iter(error.args), None), ReadTimeoutError)
            self._silences += silent
            if self._silences < SILENCES:
                raise
            return _refusal(f"the server is silent for {TIMEOUT[1]} s")
        self._silences = 0
        return answer

    def _ask(self, headers: dict[str, str]) -> requests.Response:
        """Return an answer, if need be from an address that is renewed."""
        answer = self._session.get(self._url, headers=HEADERS | headers, timeout=TIMEOUT, stream=True)
        if answer.status_code != 403:
            return answer
        answer.close()
        expired, self._url = self._url, self._remote.url()
        if self._url == expired:
            return answer
        return self._session.get(self._url, headers=HEADERS | headers, timeout=TIMEOUT, stream=True)

    @property
    def identified(self) -> bool:
        """Whether a part can be known to be of the same version as those that were read."""
        digest = self._remote.digest
        return self.version.exact or (digest is not None and digest.said_by == "DANDI")  # which never alters a file

    def _fault(self, answer: requests.Response, asked: str) -> str:
        """Return why an answer cannot be used."""
        if answer.status_code == 200:
            return "the server cannot send parts of files; use stream=False"
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            return "the server sends parts of files compressed; use stream=False"
        if span_of(answer) != asked.removeprefix("bytes="):
            return f"the server sent bytes {span_of(answer)} in place of {asked.removeprefix('bytes=')}"
        if difference := self.version.difference(Version.of(answer)):
            self.changed = True
            return (
                f"it has changed in its archive while it was read ({difference}); the same call reads it as it is now"
            )
        if self._remote.size is not None and total_of(answer) != self._remote.size:
            return f"the file has {total_of(answer)} bytes, expected {self._remote.size}; correct the manifest"
        return ""

    def close(self) -> None:
        self._session.close()


def _refusal(reason: str) -> requests.Response:
    """Return an answer that nobody gave, which remfile does not try to mend."""
    answer = requests.Response()
    answer.status_code, answer.reason = 408, reason
    return answer


class _PartCache(remfile.DiskCache):
    """Parts of one file on disk, each with its digest and the version that it is of.

    A part that was damaged or is of another version travels again.
    """

    def __init__(self, folder: Path, door: _RangeSession) -> None:
        super().__init__(str(folder))
        self._folder, self._door, self._writable = folder, door, True
        remove_unfinished(folder)

    def get(self, key: str) -> bytes | None:
        path, read_before = self._path(key), self._door.version != Version()
        if read_before and not self._door.identified:
            return None
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            head, _, part = path.read_bytes().partition(b"\n")
            notes = json.loads(head)
            version = Version.noted(notes["version"])
            if notes["sha256"] == _digest(path.name, part) and not self._door.version.difference(version):
                self._door.version = self._door.version if read_before else version
                return part
        return None

    def set(self, key: str, value: bytes) -> None:
        if not self._writable or not self._door.identified:
            return
        path = self._path(key)
        head = json.dumps({"sha256": _digest(path.name, value), "version": self._door.version.note()}).encode()
        try:
            with disk(path):
                write_whole(path, head + b"\n" + value)
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"what is streamed is not kept, and travels again next time: {error}", UserWarning, stacklevel=2
            )

    def drop(self) -> None:
        """Forget all parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / "-".join(key.rsplit("|", 2)[1:])


def _digest(name: str, part: bytes) -> str:
    return hashlib.sha256(name.encode() + part).hexdigest()


class _RemoteFileReader(io.RawIOBase):
    """A remote file as Python's own files are."""

    def __init__(self, remote: RemoteFile, door: _RangeSession, kept: _PartCache | None) -> None:
        super().__init__()
        self._remote, self._door, self._size, self._kept = remote, door, door.size, kept
        self._file = remfile.File(
            remote.path, disk_cache=kept, _size=door.size, _min_chunk_size=PART, _chunk_increment_factor=GROWTH
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
        try:
            with _in_one_line(self._remote):
                buffer[:n] = self._file.read(n)
        finally:
            if self._door.changed and self._kept is not None:
                self._kept.drop()
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
        foreign = isinstance(error, requests.RequestException | HTTPError)  # they name the address
        told = type(error).__name__ if foreign else one_line(error)
        raise OSError(f"{remote.path} cannot be read from its archive: {told}; {remote.access}") from None
