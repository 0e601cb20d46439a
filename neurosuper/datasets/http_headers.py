"""Read HTTP headers: the version and length of a file, which of its bytes follow, and how long to wait."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import requests

__all__ = ["PERMANENT", "Version", "retry_after", "server_of", "span_of", "total_of"]

# Errors that another attempt cannot fix: circular redirects, or redirects to no valid address.
PERMANENT = (
    requests.TooManyRedirects,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
)


@dataclass(frozen=True)
class Version:
    """What identifies one version of a file on a server; None for headers that it does not send."""

    etag: str | None = None
    modified: str | None = None
    length: int | None = None
    exact: bool = False  # equal versions mean equal bytes: a strong ETag, or a modification date that cannot recur

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        """Return the version that a response belongs to."""
        etag, modified = response.headers.get("ETag") or None, response.headers.get("Last-Modified") or None
        strong = etag is not None and not etag.startswith("W/")
        return cls(etag, modified, total_of(response), strong or _is_past(modified, response.headers.get("Date")))

    @classmethod
    def from_json(cls, notes: dict[str, Any]) -> Self:
        """Return a version as `to_json` wrote it; an empty one if the notes are damaged."""
        etag, modified, length, exact = (notes.get(name) for name in ("etag", "modified", "length", "exact"))
        texts = all(isinstance(text, str | None) for text in (etag, modified))
        return cls(etag, modified, length, exact is True) if texts and isinstance(length, int | None) else cls()

    def to_json(self) -> dict[str, Any]:
        """Return the version as values that JSON can store."""
        return asdict(self)

    @property
    def condition(self) -> str | None:
        """The value to send as If-Range, if there is one (RFC 9110, 13.1.5: no weak ETag)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.modified if self.exact else None

    def difference(self, other: Version) -> str:
        """Return how another response differs in version, or why it cannot be shown to be of this version; else ""."""
        if self.etag and other.etag and self.etag.removeprefix("W/") != other.etag.removeprefix("W/"):
            return "another ETag"
        if self.modified and other.modified and self.modified != other.modified:
            return "another Last-Modified"
        if None not in (self.length, other.length) and self.length != other.length:
            return f"{other.length} bytes instead of {self.length}"
        if self.exact and not ((self.etag and other.etag) or (self.modified and other.modified)):
            return "neither the earlier ETag nor the earlier Last-Modified"
        return ""


def _is_past(modified: str | None, date: str | None) -> bool:
    """Return whether a file was modified before the second of the response, so that no later change has this date."""
    if modified is None:
        return False
    with suppress(ValueError, TypeError, OverflowError):
        return date is None or parsedate_to_datetime(modified) < parsedate_to_datetime(date)
    return False


def span_of(response: requests.Response) -> str:
    """Return the range of bytes in a partial response, such as "0-99"."""
    return response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")[0]


def total_of(response: requests.Response) -> int | None:
    """Return the number of bytes of the whole file; None if the response does not state it."""
    if response.status_code == 206:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = response.headers.get("Content-Length", "")
    return int(total) if total.isascii() and total.isdecimal() else None


def retry_after(response: requests.Response) -> float:
    """Return the seconds that a server asks to wait; it may send seconds, or a date by its own clock."""
    asked, date = response.headers.get("Retry-After", ""), response.headers.get("Date")
    if asked.isascii() and asked.isdecimal():
        return float(asked)
    with suppress(ValueError, TypeError, OverflowError):
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
        return max(0.0, parsedate_to_datetime(asked).timestamp() - now)
    return 0


def server_of(url: str) -> str:
    """Return the host name in an address: the rest may be signed, and must not appear in errors."""
    return urlsplit(url).hostname or "?"
