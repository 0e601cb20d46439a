"""Transfer: one file from its archive to its final name, which it gets only after size and digest are as they must be.

Bytes arrive in a staged file that a later call, or another process, goes on with. After the final name follows a
receipt: what arrived, when, from where, and what it was verified against.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from neurosuper import __version__
from neurosuper.load.archives import TIMEOUT, RemoteFile

__all__ = ["Place", "Progress", "digest_of", "disk", "download", "finished", "read_json", "write_json"]

BLOCK = 1 << 16  # of which a cut loses at most one
ATTEMPTS = 8  # in a row that bring nothing new
BACKOFF = 0.5  # s before the second attempt; doubles
LONGEST_WAIT = 300  # s
HEADERS = {"User-Agent": f"neurosuper/{__version__}", "Accept-Encoding": "identity"}
GOES_ON = "the same call goes on where it stopped"


@dataclass(frozen=True)
class Place:
    """Where a file lies in the cache once it is finished, where its receipt does, and where it grows."""

    target: Path
    receipt: Path
    staged: Path

    @property
    def notes(self) -> Path:
        """By what the server tells versions of a staged file apart."""
        return self.staged.with_suffix(".json")

    def discard(self) -> None:
        """Forget what was staged."""
        self.staged.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


class StoppedError(Exception):
    """The user wants no more."""


class Progress:
    """One bar of bytes over several files, and the way to stop their transfers."""

    def __init__(self, title: str, total: int | None) -> None:
        self._bar = tqdm(desc=title, total=total, unit="B", unit_scale=True)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def stop(self) -> None:
        """Let every transfer end at its next block."""
        self._stop.set()

    def advance(self, n: int) -> None:
        """Count `n` more bytes."""
        with self._lock:
            self._bar.update(n)
        self.wait(0)

    def wait(self, seconds: float, why: str = "") -> None:
        """Sleep, unless stopped; meanwhile the bar says why."""
        if why:
            self._say(f"{why}; again in {seconds:.0f} s")
        stopped = self._stop.wait(seconds) if seconds else self._stop.is_set()
        if why:
            self._say("")
        if stopped:
            raise StoppedError

    def _say(self, text: str) -> None:
        with self._lock:
            self._bar.set_postfix_str(text)


class _AttemptError(Exception):
    """What a later attempt may mend; `wait` is for how long the server asks, in seconds."""

    def __init__(self, reason: str, wait: float = 0, *, forbidden: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.forbidden = wait, forbidden


def download(remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Bring one file to its place, unless another process does so meanwhile.

    Parameters
    ----------
    remote : RemoteFile
    place : Place
    progress : Progress

    Raises
    ------
    ValueError
        What arrived is not what it must be; it is deleted.
    FileNotFoundError, PermissionError, ConnectionError, OSError
        The archive has no such file, refuses it or does not answer; or the disk refuses it.
    """
    with _only_one(place, progress):
        if finished(remote, place):
            progress.advance(remote.size or 0)
            return
        progress.advance(_staged_bytes(place))
        url = _stage(remote, place, progress)
        _seal(remote, place, url)


@contextmanager
def _only_one(place: Place, progress: Progress) -> Iterator[None]:
    """Hold the lock of a place; the system lets go of it when a process dies."""
    lock = FileLock(place.staged.with_suffix(".lock"))
    with disk(place.staged):
        place.staged.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            with suppress(Timeout):
                lock.acquire(timeout=0.5)
            progress.wait(0)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Say in one line what a disk refuses."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"cannot write {path} ({error.strerror or error}); make room or get permission there, or name another "
            "folder in NEUROSUPER_CACHE"
        ) from None


def _staged_bytes(place: Place) -> int:
    return place.staged.stat().st_size if place.staged.exists() else 0


def _stage(remote: RemoteFile, place: Place, progress: Progress) -> str:
    """Make the staged file whole, in as many attempts as it takes; return where the last bytes came from."""
    furthest, failures, url = _staged_bytes(place), 0, remote.url()
    while True:
        try:
            _receive(url, remote, place, progress)
            return url
        except _AttemptError as error:
            fault = error
        failures = 1 if _staged_bytes(place) > furthest else failures + 1
        furthest = max(furthest, _staged_bytes(place))
        if failures >= ATTEMPTS or fault.wait > LONGEST_WAIT:
            raise ConnectionError(f"{remote.path} does not arrive from {_server(url)}: {fault}; {GOES_ON}")
        progress.wait(
            max(fault.wait, BACKOFF * 2 ** (failures - 1) * random.SystemRandom().uniform(0.5, 1)), str(fault)
        )
        tried, url = url, remote.url()
        if fault.forbidden and url == tried:
            raise PermissionError(f"{_server(url)} refuses {remote.path} (403); {remote.access}")


def _receive(url: str, remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Append to the staged file what is missing, in one request."""
    have = _resumable(remote, place, progress)
    if have and have == remote.size:
        return
    headers = HEADERS | ({"Range": f"bytes={have}-"} if have else {})
    if have and (validator := read_json(place.notes).get("validator")):
        headers["If-Range"] = validator
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == 416:
                _past_end(response, place, have, progress)
                return
            total = _check_answer(response, remote, have)
            if response.status_code != 206:
                _start_anew(response, place, have, progress)
            _append(response, place, progress)
    except (requests.RequestException, HTTPError) as error:
        raise _AttemptError(f"the connection failed ({type(error).__name__})") from None
    if total is not None and _staged_bytes(place) != total:
        raise _AttemptError(f"the transfer was cut at {_staged_bytes(place)} of {total} bytes")


def _past_end(response: requests.Response, place: Place, have: int, progress: Progress) -> None:
    """Return if nothing is missing, else start anew."""
    if response.headers.get("Content-Range") != f"bytes */{have}":
        place.discard()
        progress.advance(-have)
        raise _AttemptError("the file has become shorter than what was staged")


def _resumable(remote: RemoteFile, place: Place, progress: Progress) -> int:
    """Return how many staged bytes are good to go on from; none that nobody could tell from another version's."""
    have = _staged_bytes(place)
    known = remote.digest or read_json(place.notes).get("validator")
    if have and (not known or have > (remote.size or have)):
        place.discard()
        progress.advance(-have)
        return 0
    return have


def _start_anew(response: requests.Response, place: Place, have: int, progress: Progress) -> None:
    """Forget what was staged, and note by what the server tells versions of the file apart."""
    progress.advance(-have)
    etag = response.headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    with disk(place.staged):
        place.discard()
        write_json(place.notes, {"validator": validator})


def _append(response: requests.Response, place: Place, progress: Progress) -> None:
    with disk(place.staged), place.staged.open("ab") as file:
        for block in response.raw.stream(BLOCK, decode_content=False):
            file.write(block)
            progress.advance(len(block))
        file.flush()
        os.fsync(file.fileno())


def _check_answer(response: requests.Response, remote: RemoteFile, have: int) -> int | None:
    """Return how many bytes the whole file has by this answer (None: it is sent in chunks), or refuse the answer."""
    server, status = _server(response.url), response.status_code
    if status in (408, 429) or status >= 500:
        raise _AttemptError(f"{server} answers {status} {response.reason}", _retry_after(response))
    if status == 403:
        raise _AttemptError("403 Forbidden", forbidden=True)
    if status == 401:
        raise PermissionError(f"{server} refuses {remote.path} (401); {remote.access}")
    if status not in (200, 206):
        raise FileNotFoundError(f"{server} has no {remote.path} ({status} {response.reason}); correct the manifest")
    if "html" in response.headers.get("Content-Type", "") and not remote.path.endswith((".html", ".htm")):
        raise ValueError(f"{server} sent a web page in place of {remote.path}, such as a login page; {remote.access}")
    if response.headers.get("Content-Encoding", "identity") != "identity" and not remote.path.endswith(".gz"):
        raise ValueError(f"{server} sends {remote.path} compressed, which cannot be verified; {remote.access}")
    total = _total(response, have)
    if total is None and remote.size is None and response.headers.get("Transfer-Encoding") != "chunked":
        raise ValueError(f"{server} does not say how long {remote.path} is; pin its size in [[checksums]]")
    if None not in (total, remote.size) and total != remote.size:
        raise ValueError(f"{remote.path} has {total} bytes on {server}, expected {remote.size}; correct the manifest")
    return remote.size if total is None else total


def _total(response: requests.Response, have: int) -> int | None:
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    if not span.startswith(f"{have}-"):
        raise _AttemptError(f"{_server(response.url)} sent bytes {span} in place of {have}-")
    return int(total) if total.isdecimal() else None


def _retry_after(response: requests.Response) -> float:
    """Return the seconds that a server asks to wait, given as such or as a date."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return 0


def _server(url: str) -> str:
    return urlsplit(url).hostname or "?"


def _seal(remote: RemoteFile, place: Place, url: str) -> None:
    """Give a staged file its final name, and a receipt, if it is what it must be; else delete it."""
    found = {"sha256": digest_of(place.staged, "sha256")}
    if fault := _fault(remote, place.staged, found):
        place.discard()
        raise ValueError(
            f"{remote.path} arrived with {fault}; it was deleted: fetch it again, and tell the archive if this persists"
        )
    with disk(place.target):
        place.target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(place.staged, place.target)
        place.discard()
        _write_receipt(remote, place, found, url)


def _fault(remote: RemoteFile, path: Path, found: dict[str, str]) -> str:
    """Return in what a file differs from what it must be; digests are added to those found."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes, expected {remote.size}"
    if remote.digest is None:
        return ""
    name, wanted, said_by = remote.digest
    if name not in found:
        found[name] = digest_of(path, name)
    return "" if found[name] == wanted else f"{name} {found[name]}, expected {wanted} as {said_by} says"


def digest_of(path: Path, algorithm: str) -> str:
    """Return a digest of a file: one of hashlib's, or DANDI's own "dandi-etag"."""
    if algorithm == "dandi-etag":
        from dandischema.digests.dandietag import DandiETag

        return str(DandiETag.from_file(path).as_str())
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def finished(remote: RemoteFile, place: Place) -> bool:
    """Return whether a file is there and verified; one that was touched since is read again."""
    if not place.target.is_file():
        return False
    receipt, status = read_json(place.receipt), place.target.stat()
    digests = receipt.get("digests", {})
    same = (receipt.get("size"), receipt.get("mtime_ns")) == (status.st_size, status.st_mtime_ns)
    if not same:
        digests = {"sha256": digest_of(place.target, "sha256")}
    known = same or digests["sha256"] == receipt.get("digests", {}).get("sha256")
    if not (known or remote.digest) or _fault(remote, place.target, digests):
        return False
    if not same or set(digests) != set(receipt.get("digests", {})):
        _write_receipt(remote, place, digests, receipt.get("url", ""))
    return True


def _write_receipt(remote: RemoteFile, place: Place, digests: dict[str, str], url: str) -> None:
    status, parts = place.target.stat(), urlsplit(url)
    against = remote.digest and f"{remote.digest.said_by} {remote.digest.algorithm}"
    receipt = {
        "path": remote.path,
        "url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "digests": digests,
        "verified_against": against or "size only",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": remote.version,
    }
    write_json(place.receipt, receipt)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file so that it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", encoding="utf-8", delete=False) as file:
        json.dump(content, file, indent=1)
    os.replace(file.name, path)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a small file says; nothing where there is none, or none that can be read."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
