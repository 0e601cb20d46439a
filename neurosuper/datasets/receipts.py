"""Receipts of fetched files: digests, source and time of each, and whether the file still matches.

A receipt is stored in the folder of the version. It may be lost, damaged or unreadable; then a file can be verified
only against a digest from the archive or the manifest.
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
from neurosuper._optional import require
from neurosuper.datasets.archives import RemoteFile
from neurosuper.datasets.content import content_fault

__all__ = [
    "Place",
    "Verify",
    "digest_of",
    "digests_in",
    "disk_errors",
    "fault_of",
    "is_finished",
    "megabytes",
    "read_json",
    "write_json",
    "write_receipt",
    "write_whole",
]

Verify = Literal["receipt", "always"]
FULL = (errno.ENOSPC, errno.EDQUOT)
UNVERIFIED = "size only"  # `verified_against` in the receipt of a file without a known digest


@dataclass(frozen=True)
class Place:
    """Paths of one file in the cache: the finished file, its receipt, and the staged file during the transfer."""

    target: Path
    receipt: Path
    staged: Path

    @property
    def notes(self) -> Path:
        """The file with the server's version of the staged file."""
        return self.staged.with_suffix(".json")

    @property
    def lock(self) -> Path:
        """The file that a process locks while it writes here."""
        return self.staged.with_suffix(".lock")

    def discard(self) -> None:
        """Delete the staged file and its notes."""
        self.staged.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete what a killed process staged of a finished file, unless another process is writing here."""
        if self.staged.is_file() or self.notes.is_file():
            with suppress(OSError, Timeout), FileLock(self.lock, timeout=0):
                self.discard()


@contextmanager
def disk_errors(path: Path, size: int | None = None) -> Iterator[None]:
    """Raise errors of the disk in one line; if it is full, with the room needed for a file of `size` bytes."""
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


def is_finished(remote: RemoteFile, place: Place, verify: Verify = "receipt") -> bool:
    """Return whether a file is in place and verified.

    It is read again if its size or date differ from its receipt, or with `verify="always"`.
    """
    if not place.target.is_file():
        return False
    receipt, status = read_json(place.receipt), place.target.stat()
    recorded = digests_in(receipt)
    same = (receipt.get("size"), receipt.get("mtime_ns")) == (status.st_size, status.st_mtime_ns)
    if recorded and same and verify == "receipt":
        digests = dict(recorded)
    else:
        digests = {"sha256": digest_of(place.target, "sha256")}
        if digests["sha256"] != recorded.get("sha256") and not remote.digest:
            return not recorded and _accept_unverified(remote, place)
    if fault_of(remote, place.target, digests):
        return False
    if not same or digests != recorded:
        with suppress(OSError):  # a cache that cannot be written: the file is read again next time
            write_receipt(remote, place, digests, str(receipt.get("url", "")))
    return True


def _accept_unverified(remote: RemoteFile, place: Place) -> bool:
    """Return whether to use a file that cannot be verified: only if it cannot be fetched again."""
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
    """Return how a file differs from the expected size or digest, else ""; computed digests are added to `found`."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes, expected {remote.size}"
    if remote.digest is None:
        return ""
    name, expected, source = remote.digest
    if name not in found:
        found[name] = digest_of(path, name)
    return "" if found[name] == expected else f"{name} {found[name]}, expected {expected} (from {source})"


def digest_of(path: Path, algorithm: str) -> str:
    """Return a digest of a file: one of hashlib's, or DANDI's own "dandi-etag"."""
    if algorithm == "dandi-etag":
        etag = require("dandischema.digests.dandietag", "dandi").DandiETag
        return str(etag.from_file(path).as_str())
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def digests_in(receipt: dict[str, Any]) -> dict[str, str]:
    """Return the digests in a receipt; none if it is damaged."""
    digests = receipt.get("digests")
    sound = isinstance(digests, dict) and all(isinstance(value, str) for value in digests.values())
    return dict(digests) if sound and isinstance(digests, dict) and "sha256" in digests else {}


def write_receipt(remote: RemoteFile, place: Place, digests: dict[str, str], url: str) -> None:
    """Write the receipt of a file that arrived; of its address, only the parts that cannot be secret."""
    status, parts = place.target.stat(), urlsplit(url)
    against = remote.digest and f"{remote.digest.source} {remote.digest.algorithm}"
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
    """Write a JSON file whole or not at all."""
    write_whole(path, json.dumps(content, indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, with the permissions of the user's umask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError), whole_file(path) as partial:  # the folder was cleared by another process
        partial.write_bytes(content)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if there is none, or none that can be read."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        return content if isinstance(content, dict) else {}
    return {}
