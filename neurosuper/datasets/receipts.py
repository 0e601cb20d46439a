"""Receipts: what arrived, when, from where, what it was verified against, and whether it still is that.

A receipt is stored in the folder of the version. It may be lost, damaged, or of another user: then only a digest of
archive or manifest vouches for the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from neurosuper._files import whole_file
from neurosuper.datasets.archives import RemoteFile
from neurosuper.datasets.content import content_fault

__all__ = [
    "Place",
    "Verify",
    "digest_of",
    "digests_in",
    "disk",
    "fault_of",
    "finished",
    "megabytes",
    "read_json",
    "write_json",
    "write_receipt",
    "write_whole",
]

Verify = Literal["receipt", "always"]
FULL = (errno.ENOSPC, errno.EDQUOT)
UNVERIFIED = "size only"  # what a receipt says where no digest was known


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

    @property
    def lock(self) -> Path:
        """What a process locks while it writes here."""
        return self.staged.with_suffix(".lock")

    def discard(self) -> None:
        """Forget what was staged."""
        self.staged.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Forget what a killed process staged of a finished file, unless another process writes there now."""
        if self.staged.is_file() or self.notes.is_file():
            with suppress(OSError, Timeout), FileLock(self.lock, timeout=0):
                self.discard()


@contextmanager
def disk(path: Path, size: int | None = None) -> Iterator[None]:
    """Say in one line what a disk refuses; of a full one, how much is missing of the `size` that a file is to have."""
    try:
        yield
    except OSError as error:
        other = "name another folder in NEUROSUPER_CACHE"
        if error.errno in FULL:
            has = path.stat().st_size if path.is_file() else 0
            missing = "more room is" if size is None else f"{megabytes(max(size - has, 0))} are"
            raise OSError(f"disk full: {missing} needed at {path}; make room there, or {other}") from None
        raise type(error)(
            f"cannot write {path} ({error.strerror or error}); make room or get permission there, or {other}"
        ) from None


def megabytes(size: int) -> str:
    """Return a number of bytes as text, rounded up to 0.1 MB."""
    return f"{-(-max(size, 1) // 100_000) / 10:,.1f} MB"


def finished(remote: RemoteFile, place: Place, verify: Verify = "receipt") -> bool:
    """Return whether a file is there and verified.

    One that was touched since its receipt was written is read again; so is every file with `verify="always"`.
    """
    if not place.target.is_file():
        return False
    receipt, status = read_json(place.receipt), place.target.stat()
    noted = digests_in(receipt)
    same = (receipt.get("size"), receipt.get("mtime_ns")) == (status.st_size, status.st_mtime_ns)
    if noted and same and verify == "receipt":
        digests = dict(noted)
    else:
        digests = {"sha256": digest_of(place.target, "sha256")}
        if digests["sha256"] != noted.get("sha256") and not remote.digest:
            return not noted and _taken_as_it_is(remote, place)
    if fault_of(remote, place.target, digests):
        return False
    if not same or digests != noted:
        with suppress(OSError):  # a cache that cannot be written: the file is read again next time
            write_receipt(remote, place, digests, str(receipt.get("url", "")))
    return True


def _taken_as_it_is(remote: RemoteFile, place: Place) -> bool:
    """Return whether to use a file that nothing vouches for: only where it cannot be fetched again."""
    writable = os.access(place.target.parent, os.W_OK)
    if writable or fault_of(remote, place.target, {}) or content_fault(place.target, remote.path):
        return False
    warnings.warn(
        f"{place.target} is used unverified: its cache cannot be written, no receipt of it can be read, and archive "
        "and manifest give no digest; to fetch it again, name another folder in NEUROSUPER_CACHE",
        UserWarning,
        stacklevel=2,
    )
    return True


def fault_of(remote: RemoteFile, path: Path, found: dict[str, str]) -> str:
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


def digests_in(receipt: dict[str, Any]) -> dict[str, str]:
    """Return the digests in a receipt; none where it is damaged."""
    digests = receipt.get("digests")
    sound = isinstance(digests, dict) and all(isinstance(value, str) for value in digests.values())
    return dict(digests) if sound and isinstance(digests, dict) and "sha256" in digests else {}


def write_receipt(remote: RemoteFile, place: Place, digests: dict[str, str], url: str) -> None:
    """Note what arrived; of the address only what is no secret."""
    status, parts = place.target.stat(), urlsplit(url)
    against = remote.digest and f"{remote.digest.said_by} {remote.digest.algorithm}"
    receipt = {
        "path": remote.path,
        "url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "digests": digests,
        "verified_against": against or UNVERIFIED,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": remote.version,
    }
    write_json(place.receipt, receipt)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file so that it is there as a whole or not at all."""
    write_whole(path, json.dumps(content, indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all, for whom the user's umask lets read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_bytes(content)


def read_json(path: Path) -> dict[str, Any]:
    """Return what a small file says; nothing where there is none, or none that can be read."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
