"""Download one file; it gets its final name only after its size and digest are verified.

Bytes are appended to a staged file, with which a later call or another process can continue. A staged file contains
bytes of one version only: every response is compared with the first by ETag, Last-Modified and length. A receipt is
written after the file has its final name.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

import requests
from filelock import FileLock, Timeout
from urllib3.exceptions import HTTPError

from neurosuper import __version__
from neurosuper._progress import progress
from neurosuper.datasets.archives import TIMEOUT, RemoteFile
from neurosuper.datasets.content import content_fault
from neurosuper.datasets.http_headers import PERMANENT, Version, retry_after, server_of, span_of, total_of
from neurosuper.datasets.receipts import (
    Place,
    digest_of,
    disk_errors,
    fault_of,
    is_finished,
    read_json,
    write_json,
    write_receipt,
)

__all__ = ["Progress", "download"]

BLOCK = 1 << 16  # bytes per read; an interruption loses at most one block
OVERLAP = 1 << 12  # bytes that a resumed transfer requests again, to compare them with the staged ones
ATTEMPTS = 8  # maximum number of attempts in a row without new bytes
BACKOFF = 0.5  # seconds before the second attempt; doubles with each attempt
LONGEST_WAIT = 300  # seconds, in total over attempts in a row without new bytes
HEADERS = {"User-Agent": f"neurosuper/{__version__}", "Accept-Encoding": "identity"}
RESUMES = "the same call continues where it stopped"


class StoppedError(Exception):
    """Raised in worker threads when the user interrupts."""


class Progress:
    """A progress bar of bytes over several files, with a method that stops their transfers."""

    def __init__(self, title: str, total: int | None) -> None:
        self._bar = progress(desc=title, total=total, unit="B", unit_scale=True, delay=0)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open: set[requests.Response] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def stop(self) -> None:
        """End every transfer; the connections of those that wait for bytes are shut down."""
        self._stop.set()
        with self._lock:
            for response in self._open:
                with suppress(Exception):  # an older urllib3, or a transfer that has just ended
                    response.raw.shutdown()

    @contextmanager
    def reading(self, response: requests.Response) -> Iterator[None]:
        """Allow `stop` to shut down a connection while its bytes are read."""
        with self._lock:
            self._open.add(response)
        try:
            self.wait(0)
            yield
        finally:
            with self._lock:
                self._open.discard(response)

    def advance(self, n: int) -> None:
        """Add `n` bytes to the bar."""
        with self._lock:
            self._bar.update(n)
        self.wait(0)

    def wait(self, seconds: float, why: str = "") -> None:
        """Sleep, with the reason shown in the bar; raise if transfers are stopped."""
        if why:
            self._show(f"{why}; again in {seconds:.0f} s")
        stopped = self._stop.wait(seconds) if seconds else self._stop.is_set()
        if why:
            self._show("")
        if stopped:
            raise StoppedError

    def _show(self, text: str) -> None:
        with self._lock:
            self._bar.set_postfix_str(text)


class _AttemptError(Exception):
    """A failure that a later attempt may overcome; `wait` is the time in seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0, *, forbidden: bool = False, changed: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.forbidden, self.changed = wait, forbidden, changed


def download(remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Download one file and verify it, unless another process does so first.

    Parameters
    ----------
    remote : RemoteFile
        The file in the archive.
    place : Place
        Where the file, its receipt and its staged bytes are stored.
    progress : Progress
        Counts the bytes.

    Raises
    ------
    ValueError
        The bytes that arrived have another size, digest or format than expected; they are deleted.
    FileNotFoundError, PermissionError, ConnectionError
        The archive has no such file, denies access or does not respond.
    OSError
        The file cannot be written.
    """
    with _locked(place, progress):
        if is_finished(remote, place):
            progress.advance(remote.size or 0)
            return
        progress.advance(_staged_bytes(place))
        url = _stage(remote, place, progress)
        _verify_and_publish(remote, place, url)


@contextmanager
def _locked(place: Place, progress: Progress) -> Iterator[None]:
    """Hold the lock of a file while it is written; the operating system releases it if the process dies."""
    with disk_errors(place.staged):
        lock = FileLock(place.lock)
        place.staged.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            with suppress(Timeout):
                lock.acquire(timeout=0.5)
            progress.wait(0)
    try:
        yield
    finally:
        lock.release()


def _staged_bytes(place: Place) -> int:
    return place.staged.stat().st_size if place.staged.exists() else 0


def _stage(remote: RemoteFile, place: Place, progress: Progress) -> str:
    """Complete the staged file in as many attempts as necessary; return the address of the last one."""
    furthest, failures, changes, url = _staged_bytes(place), 0, 0, remote.url()
    waited = 0.0
    while True:
        try:
            _receive(url, remote, place, progress)
            return url
        except _AttemptError as error:
            fault = error
        changes += fault.changed
        if _staged_bytes(place) > furthest:
            furthest, failures, waited = _staged_bytes(place), 0, 0.0
        failures += 1
        pause = max(fault.wait, BACKOFF * 2 ** (failures - 1) * random.SystemRandom().uniform(0.5, 1))
        waited += pause
        if failures >= ATTEMPTS or waited > LONGEST_WAIT or changes > 1:
            raise ConnectionError(f"{remote.path} cannot be fetched from {server_of(url)}: {fault}; {RESUMES}")
        progress.wait(pause, str(fault))
        tried, url = url, remote.url()  # a signed address may have expired
        if fault.forbidden and url == tried:
            raise PermissionError(f"{server_of(url)} denies access to {remote.path} (403); {remote.access}")


def _receive(url: str, remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Append the missing bytes to the staged file, in one request."""
    have = _resumable(remote, place, progress)
    if have and have == remote.size:
        return
    before, start = Version.from_json(read_json(place.notes)), max(have - OVERLAP, 0)
    headers = HEADERS | ({"Range": f"bytes={start}-"} if have else {})
    if have and before.condition:
        headers["If-Range"] = before.condition
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            total = have - 1 if response.status_code == 416 else _check_response(response, remote, start)
            if response.status_code == 200:
                _reset_staged(response, place, have, progress)
            elif total is not None and have > total:
                _discard_and_retry(place, have, progress, "the file has become shorter than the staged bytes")
            elif have and (difference := before.difference(Version.of(response))):
                # Checked even if the server ignores If-Range: bytes of two versions are never joined.
                _discard_and_retry(place, have, progress, f"the file has changed on the server ({difference})")
            with progress.reading(response):
                _append(response, place, progress, total, start)
    except PERMANENT as error:
        raise ConnectionError(
            f"{server_of(url)} redirects {remote.path} to no valid address ({type(error).__name__}); {remote.access}"
        ) from None
    except (requests.RequestException, HTTPError) as error:
        raise _AttemptError(f"the connection failed ({type(error).__name__})") from None
    if total is not None and _staged_bytes(place) != total:
        raise _AttemptError(f"the transfer ended after {_staged_bytes(place)} of {total} bytes")
    if total is not None and remote.digest is None and remote.size is None:
        _confirm_end(url, total, remote, place, progress)


def _confirm_end(url: str, total: int, remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Request bytes after the last one, to find out whether the server stated too short a length."""
    with (
        suppress(requests.RequestException),
        requests.get(url, headers=HEADERS | {"Range": f"bytes={total}-"}, stream=True, timeout=TIMEOUT) as response,
    ):
        longer = total_of(response) if response.status_code in (200, 206) else None
        if longer not in (None, total):
            _discard_and_retry(place, total, progress, f"the server sent only {total} of {longer} bytes")


def _discard_and_retry(place: Place, have: int, progress: Progress, why: str) -> None:
    """Delete the staged bytes, and raise so that another attempt starts from the first byte."""
    place.discard()
    progress.advance(-have)
    raise _AttemptError(why, changed=True)


def _resumable(remote: RemoteFile, place: Place, progress: Progress) -> int:
    """Return the number of staged bytes to resume from; 0 if they may be of another version."""
    have = _staged_bytes(place)
    known = remote.digest or Version.from_json(read_json(place.notes)).exact
    if have and (not known or have > (remote.size or have)):
        place.discard()
        progress.advance(-have)
        return 0
    return have


def _reset_staged(response: requests.Response, place: Place, have: int, progress: Progress) -> None:
    """Delete the staged bytes, and write down the version that the response belongs to."""
    progress.advance(-have)
    with disk_errors(place.staged):
        place.discard()
        write_json(place.notes, Version.of(response).to_json())


def _append(response: requests.Response, place: Place, progress: Progress, total: int | None, start: int) -> None:
    """Append the bytes of a response that starts at byte `start`; bytes that are staged already must agree."""
    with disk_errors(place.staged, total), place.staged.open("a+b") as file:
        file.seek(start)
        staged = file.read()
        for block in response.raw.stream(BLOCK, decode_content=False):
            if not block.startswith(staged[: len(block)]):
                break
            fresh, staged = block[len(staged) :], staged[len(block) :]
            file.write(fresh)
            progress.advance(len(fresh))
        else:
            file.flush()
            os.fsync(file.fileno())
            return
    _discard_and_retry(place, start + len(staged), progress, "the server sent different bytes than before")


def _check_response(response: requests.Response, remote: RemoteFile, start: int) -> int | None:
    """Return the size of the whole file (None if it is sent in chunks of unknown number); refuse unusable responses."""
    server, status = server_of(response.url), response.status_code
    if status in (408, 429) or status >= 500:
        raise _AttemptError(f"{server} responds {status} {response.reason}", retry_after(response))
    if status == 403:
        raise _AttemptError("403 Forbidden", forbidden=True)
    if status == 401:
        raise PermissionError(f"{server} denies access to {remote.path} (401); {remote.access}")
    if status not in (200, 206):
        raise FileNotFoundError(f"{server} has no {remote.path} ({status} {response.reason}); correct the manifest")
    if "html" in response.headers.get("Content-Type", "") and not remote.path.endswith((".html", ".htm")):
        raise ValueError(f"{server} sent a web page instead of {remote.path}, such as a login page; {remote.access}")
    if response.headers.get("Content-Encoding", "identity") != "identity" and not remote.path.endswith(".gz"):
        raise ValueError(f"{server} sends {remote.path} compressed, which cannot be verified; {remote.access}")
    if status == 206 and not span_of(response).startswith(f"{start}-"):
        raise _AttemptError(f"{server} sent bytes {span_of(response)} instead of {start}-")
    total = total_of(response)
    if total is None and remote.size is None and response.headers.get("Transfer-Encoding") != "chunked":
        raise ValueError(f"{server} does not state the size of {remote.path}; pin it in [[checksums]]")
    if None not in (total, remote.size) and total != remote.size:
        raise ValueError(f"{remote.path} has {total} bytes on {server}, expected {remote.size}; correct the manifest")
    return remote.size if total is None else total


def _verify_and_publish(remote: RemoteFile, place: Place, url: str) -> None:
    """Give a staged file its final name and a receipt if it passes all checks; else delete it."""
    found = {"sha256": digest_of(place.staged, "sha256")}
    if fault := fault_of(remote, place.staged, found):
        place.discard()
        raise ValueError(
            f"{remote.path} arrived with {fault}; it was deleted: fetch it again, and report it to the archive if this "
            "persists"
        )
    if remote.digest is None and (fault := content_fault(place.staged, remote.path)):
        place.discard()
        raise ValueError(
            f"the file that {server_of(url)} sent as {remote.path} was deleted: {fault}; if it is correct, pin its "
            "sha256 in [[checksums]]"
        )
    with disk_errors(place.target):
        place.target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(place.staged, place.target)
        place.discard()
        write_receipt(remote, place, found, url)
