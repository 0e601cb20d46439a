"""Read remote files by ranged requests; parts are stored on disk, so that none is downloaded twice.

remfile decides which ranges to request. This module handles what it does not: addresses that expire, servers that
cannot send parts of files or send other ranges than requested, and one-line errors. A session reads one version of a
file only: every response, and every part on disk, is compared with the first by ETag, Last-Modified and length.
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
from neurosuper.datasets.archives import TIMEOUT, RemoteFile
from neurosuper.datasets.folders import STREAMING, own_folder, version_folder
from neurosuper.datasets.http_headers import PERMANENT, Version, span_of, total_of
from neurosuper.datasets.receipts import disk_errors, write_whole
from neurosuper.datasets.transfer import HEADERS

__all__ = ["open_remote"]

PART = 1 << 15  # bytes; with remfile's 100 KiB and growth of 1.7, reading 5 units' spikes downloads 3 times their bytes
GROWTH = 1.3  # factor by which reading ahead grows during sequential reads
MAX_TIMEOUTS = 2  # in a row; remfile would wait for 9
MAX_PARTS_AHEAD = 8  # after a large read, remfile would read the same amount ahead


def open_remote(remote: RemoteFile, cache: Path | None) -> io.RawIOBase:
    """Return a file of an archive, opened for reading without fetching all of it.

    Parameters
    ----------
    remote : RemoteFile
        As `list_files` returns it. Its digest cannot be verified, since not all of it is read.
    cache : path or None
        Folder in which parts are stored (in `.streaming`), each with its digest and the version of its file. With None
        no part is stored; nor is any part of a file whose versions its server does not identify.

    Returns
    -------
    binary file
        Supports `read`, `seek` and `tell`, as `h5py.File` needs. Close its reader before the interpreter ends.

    Raises
    ------
    OSError
        The archive does not respond, denies access, or cannot send parts of files (then fetch the file instead); also
        later, while reading, and if the file changes in the meantime.

    Warns
    -----
    UserWarning
        Parts cannot be stored, since the disk is full or the cache cannot be written.

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
    session = _RangeSession(remote, url)
    if remote.size is None or remote.digest is None:
        session.probe()
    parts = None if cache is None else _PartCache(_folder(remote, url, session.size, cache), session)
    return _RemoteFileReader(remote, session, parts)


def _folder(remote: RemoteFile, url: str, size: int, cache: Path) -> Path:
    """Return the folder for the parts of one file."""
    same = remote.digest.value if remote.digest else f"{remote.version} {url.partition('?')[0]}"
    name = hashlib.sha256(f"{remote.path} {size} {same}".encode()).hexdigest()[:32]
    with suppress(OSError):  # parts in a cache that cannot be written can still be read
        own_folder(cache / STREAMING)
    return cache / STREAMING / remote.dataset / version_folder(remote.version) / name


class _RangeSession:
    """A session for remfile: requests ranges of one file, and renews its address when that expires."""

    def __init__(self, remote: RemoteFile, url: str) -> None:
        self._remote, self._url = remote, url
        self._session = requests.Session()
        self._timeouts = 0
        self.size = remote.size or 0
        self.version = Version()  # of the bytes read so far
        self.changed = False

    def probe(self) -> None:
        """Request the first byte, to find out the size of the file and its version."""
        with _one_line_errors(self._remote):
            response = self.get(None, {"Range": "bytes=0-0"})
            size = total_of(response)
            if response.status_code != 206 or len(response.content) != 1 or size is None:
                raise OSError(f"{response.status_code} {response.reason}")
            self.size = size

    def get(self, _: str | None, headers: dict[str, str]) -> requests.Response:
        """Return a response; one that cannot be used gets a status with which remfile does not try again."""
        try:
            response = self._request(headers)
            if response.status_code in (200, 206) and (fault := self._fault(response, headers["Range"])):
                response.status_code, response.reason = 416, fault
            if response.status_code == 206:
                response.content  # noqa: B018  # read here, where timeouts are counted
                self.version = Version.of(response) if self.version == Version() else self.version
            else:
                response.close()
        except PERMANENT as error:
            return _refusal(f"it is redirected to no valid address ({type(error).__name__})")
        except (requests.Timeout, requests.ConnectionError) as error:
            timed_out = isinstance(error, requests.Timeout)
            self._timeouts += timed_out or isinstance(next(iter(error.args), None), ReadTimeoutError)
            if self._timeouts < MAX_TIMEOUTS:
                raise
            return _refusal(f"the server sent nothing for {TIMEOUT[1]} s")
        self._timeouts = 0
        return response

    def _request(self, headers: dict[str, str]) -> requests.Response:
        """Return a response; if the address has expired, from a renewed one."""
        response = self._session.get(self._url, headers=HEADERS | headers, timeout=TIMEOUT, stream=True)
        if response.status_code != 403:
            return response
        response.close()
        expired, self._url = self._url, self._remote.url()
        if self._url == expired:
            return response
        return self._session.get(self._url, headers=HEADERS | headers, timeout=TIMEOUT, stream=True)

    @property
    def identified(self) -> bool:
        """Whether parts of this version can be recognised; DANDI never alters a file."""
        digest = self._remote.digest
        return self.version.exact or (digest is not None and digest.source == "DANDI")

    def _fault(self, response: requests.Response, requested: str) -> str:
        """Return why a response cannot be used, else ""."""
        if response.status_code == 200:
            return "the server cannot send parts of files; use stream=False"
        if response.headers.get("Content-Encoding", "identity") != "identity":
            return "the server sends parts of files compressed; use stream=False"
        if span_of(response) != requested.removeprefix("bytes="):
            return f"the server sent bytes {span_of(response)} instead of {requested.removeprefix('bytes=')}"
        if difference := self.version.difference(Version.of(response)):
            self.changed = True
            return (
                f"it has changed in its archive while it was read ({difference}); the same call reads its new version"
            )
        if self._remote.size is not None and total_of(response) != self._remote.size:
            return f"the file has {total_of(response)} bytes, expected {self._remote.size}; correct the manifest"
        return ""

    def close(self) -> None:
        self._session.close()


def _refusal(reason: str) -> requests.Response:
    """Return a response made here, with a status with which remfile does not try again."""
    response = requests.Response()
    response.status_code, response.reason = 408, reason
    return response


class _PartCache(remfile.DiskCache):
    """Parts of one file on disk, each with its digest and the version of its file.

    A part that is damaged or of another version is downloaded again.
    """

    def __init__(self, folder: Path, session: _RangeSession) -> None:
        super().__init__(str(folder))
        self._folder, self._session, self._writable = folder, session, True
        remove_unfinished(folder)

    def get(self, key: str) -> bytes | None:
        path, read_before = self._path(key), self._session.version != Version()
        if read_before and not self._session.identified:
            return None
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            head, _, part = path.read_bytes().partition(b"\n")
            notes = json.loads(head)
            version = Version.from_json(notes["version"])
            if notes["sha256"] == _digest(path.name, part) and not self._session.version.difference(version):
                self._session.version = self._session.version if read_before else version
                return part
        return None

    def set(self, key: str, value: bytes) -> None:
        if not self._writable or not self._session.identified:
            return
        path = self._path(key)
        head = json.dumps({"sha256": _digest(path.name, value), "version": self._session.version.to_json()}).encode()
        try:
            with disk_errors(path):
                write_whole(path, head + b"\n" + value)
        except OSError as error:
            self._writable = False
            warnings.warn(
                f"streamed parts are not stored, and will be downloaded again next time: {error}",
                UserWarning,
                stacklevel=2,
            )

    def drop(self) -> None:
        """Delete all parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / "-".join(key.rsplit("|", 2)[1:])


def _digest(name: str, part: bytes) -> str:
    return hashlib.sha256(name.encode() + part).hexdigest()


class _RemoteFileReader(io.RawIOBase):
    """A remote file with the interface of Python's binary files."""

    def __init__(self, remote: RemoteFile, session: _RangeSession, parts: _PartCache | None) -> None:
        super().__init__()
        self._remote, self._session, self._size, self._parts = remote, session, session.size, parts
        self._file = remfile.File(
            remote.path, disk_cache=parts, _size=session.size, _min_chunk_size=PART, _chunk_increment_factor=GROWTH
        )
        self._file.session = session

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
        self._file._smart_loader_chunk_sequence_length = min(known, MAX_PARTS_AHEAD)
        try:
            with _one_line_errors(self._remote):
                buffer[:n] = self._file.read(n)
        finally:
            if self._session.changed and self._parts is not None:
                self._parts.drop()
        return n

    def close(self) -> None:
        self._session.close()
        super().close()


@contextmanager
def _one_line_errors(remote: RemoteFile) -> Iterator[None]:
    """Raise errors of a server in one line, without its address, which may be signed."""
    try:
        yield
    except Exception as error:
        has_address = isinstance(error, requests.RequestException | HTTPError)
        message = type(error).__name__ if has_address else one_line(error)
        raise OSError(f"{remote.path} cannot be read from its archive: {message}; {remote.access}") from None
