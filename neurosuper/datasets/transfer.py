"""Transfer: one file from its archive to its final name, which it gets only after size and digest are as they must be.

Bytes arrive in a staged file that a later call, or another process, goes on with. What is staged is of one version:
every answer is compared with the first by ETag, Last-Modified and length. After the final name follows a receipt.
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
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from neurosuper import __version__
from neurosuper.datasets.answers import PERMANENT, Version, retry_after, server_of, span_of, total_of
from neurosuper.datasets.archives import TIMEOUT, RemoteFile
from neurosuper.datasets.content import content_fault
from neurosuper.datasets.receipts import (
    Place,
    digest_of,
    disk,
    fault_of,
    finished,
    read_json,
    write_json,
    write_receipt,
)

__all__ = ["Progress", "download"]

BLOCK = 1 << 16  # of which a cut loses at most one
OVERLAP = 1 << 12  # bytes that a transfer which goes on asks for again, to compare them with those that are staged
ATTEMPTS = 8  # in a row that bring nothing new
BACKOFF = 0.5  # s before the second attempt; doubles
LONGEST_WAIT = 300  # s, in all attempts in a row that bring nothing new
HEADERS = {"User-Agent": f"neurosuper/{__version__}", "Accept-Encoding": "identity"}
GOES_ON = "the same call goes on where it stopped"


class StoppedError(Exception):
    """The user wants no more."""


class Progress:
    """One bar of bytes over several files, and the way to stop their transfers."""

    def __init__(self, title: str, total: int | None) -> None:
        self._bar = tqdm(desc=title, total=total, unit="B", unit_scale=True)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._open: set[requests.Response] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def stop(self) -> None:
        """Let every transfer end: those that wait for bytes at once, by shutting their connections."""
        self._stop.set()
        with self._lock:
            for response in self._open:
                with suppress(Exception):  # an older urllib3, or one that has just ended
                    response.raw.shutdown()

    @contextmanager
    def reading(self, response: requests.Response) -> Iterator[None]:
        """Let `stop` shut a connection while its bytes are read."""
        with self._lock:
            self._open.add(response)
        try:
            self.wait(0)
            yield
        finally:
            with self._lock:
                self._open.discard(response)

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

    def __init__(self, reason: str, wait: float = 0, *, forbidden: bool = False, changed: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.forbidden, self.changed = wait, forbidden, changed


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
        _verify_and_publish(remote, place, url)


@contextmanager
def _only_one(place: Place, progress: Progress) -> Iterator[None]:
    """Hold the lock of a place; the system lets go of it when a process dies."""
    with disk(place.staged):
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
    """Make the staged file whole, in as many attempts as it takes; return where the last bytes came from."""
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
            raise ConnectionError(f"{remote.path} does not arrive from {server_of(url)}: {fault}; {GOES_ON}")
        progress.wait(pause, str(fault))
        tried, url = url, remote.url()
        if fault.forbidden and url == tried:
            raise PermissionError(f"{server_of(url)} refuses {remote.path} (403); {remote.access}")


def _receive(url: str, remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Append to the staged file what is missing, in one request."""
    have = _resumable(remote, place, progress)
    if have and have == remote.size:
        return
    before, start = Version.noted(read_json(place.notes)), max(have - OVERLAP, 0)
    headers = HEADERS | ({"Range": f"bytes={start}-"} if have else {})
    if have and before.condition:
        headers["If-Range"] = before.condition
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            total = have - 1 if response.status_code == 416 else _check_answer(response, remote, start)
            if response.status_code == 200:
                _start_again(response, place, have, progress)
            elif total is not None and have > total:
                _forget(place, have, progress, "the file has become shorter than what was staged")
            elif have and (difference := before.difference(Version.of(response))):
                # also where the server ignores If-Range: bytes of two versions are never joined
                _forget(place, have, progress, f"the file has changed on the server ({difference})")
            with progress.reading(response):
                _append(response, place, progress, total, start)
    except PERMANENT as error:
        raise ConnectionError(
            f"{server_of(url)} sends {remote.path} to no valid address ({type(error).__name__}); {remote.access}"
        ) from None
    except (requests.RequestException, HTTPError) as error:
        raise _AttemptError(f"the connection failed ({type(error).__name__})") from None
    if total is not None and _staged_bytes(place) != total:
        raise _AttemptError(f"the transfer was cut at {_staged_bytes(place)} of {total} bytes")
    if total is not None and remote.digest is None and remote.size is None:
        _confirm_end(url, total, remote, place, progress)


def _confirm_end(url: str, total: int, remote: RemoteFile, place: Place, progress: Progress) -> None:
    """Ask for what follows the last byte: only the server can tell that it gave a length that is too short."""
    with (
        suppress(requests.RequestException),
        requests.get(url, headers=HEADERS | {"Range": f"bytes={total}-"}, stream=True, timeout=TIMEOUT) as response,
    ):
        longer = total_of(response) if response.status_code in (200, 206) else None
        if longer not in (None, total):
            _forget(place, total, progress, f"the server sent {total} of {longer} bytes as if they were all")


def _forget(place: Place, have: int, progress: Progress, why: str) -> None:
    """Drop what was staged, and let another attempt start from the first byte."""
    place.discard()
    progress.advance(-have)
    raise _AttemptError(why, changed=True)


def _resumable(remote: RemoteFile, place: Place, progress: Progress) -> int:
    """Return how many staged bytes are good to go on from; none that nobody could tell from another version's."""
    have = _staged_bytes(place)
    known = remote.digest or Version.noted(read_json(place.notes)).exact
    if have and (not known or have > (remote.size or have)):
        place.discard()
        progress.advance(-have)
        return 0
    return have


def _start_again(response: requests.Response, place: Place, have: int, progress: Progress) -> None:
    """Forget what was staged, and note by what the server tells versions of the file apart."""
    progress.advance(-have)
    with disk(place.staged):
        place.discard()
        write_json(place.notes, Version.of(response).note())


def _append(response: requests.Response, place: Place, progress: Progress, total: int | None, start: int) -> None:
    """Write the bytes of an answer from byte `start` on behind those staged; the bytes that both have must agree."""
    with disk(place.staged, total), place.staged.open("a+b") as file:
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
    _forget(place, start + len(staged), progress, "the server sent other bytes than before")


def _check_answer(response: requests.Response, remote: RemoteFile, start: int) -> int | None:
    """Return how many bytes the whole file has by this answer (None: it is sent in chunks), or refuse the answer."""
    server, status = server_of(response.url), response.status_code
    if status in (408, 429) or status >= 500:
        raise _AttemptError(f"{server} answers {status} {response.reason}", retry_after(response))
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
    if status == 206 and not span_of(response).startswith(f"{start}-"):
        raise _AttemptError(f"{server} sent bytes {span_of(response)} in place of {start}-")
    total = total_of(response)
    if total is None and remote.size is None and response.headers.get("Transfer-Encoding") != "chunked":
        raise ValueError(f"{server} does not say how long {remote.path} is; pin its size in [[checksums]]")
    if None not in (total, remote.size) and total != remote.size:
        raise ValueError(f"{remote.path} has {total} bytes on {server}, expected {remote.size}; correct the manifest")
    return remote.size if total is None else total


def _verify_and_publish(remote: RemoteFile, place: Place, url: str) -> None:
    """Give a staged file its final name, and a receipt, if it is what it must be; else delete it."""
    found = {"sha256": digest_of(place.staged, "sha256")}
    if fault := fault_of(remote, place.staged, found):
        place.discard()
        raise ValueError(
            f"{remote.path} arrived with {fault}; it was deleted: fetch it again, and tell the archive if this persists"
        )
    if remote.digest is None and (fault := content_fault(place.staged, remote.path)):
        place.discard()
        raise ValueError(
            f"what {server_of(url)} sent in place of {remote.path} was deleted: {fault}; if it must be so, pin its "
            "sha256 in [[checksums]]"
        )
    with disk(place.target):
        place.target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(place.staged, place.target)
        place.discard()
        write_receipt(remote, place, found, url)
