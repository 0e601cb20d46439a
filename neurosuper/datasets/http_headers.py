"""Answers: what the headers of a server say of a file: its version, its length, which bytes of it follow."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import requests

__all__ = ["PERMANENT", "Version", "retry_after", "server_of", "span_of", "total_of"]

# What another attempt cannot mend: redirects in circles, or to no address of the web.
PERMANENT = (
    requests.TooManyRedirects,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidURL,
)


@dataclass(frozen=True)
class Version:
    """By what a server tells one version of a file from another; None where it does not say."""

    etag: str | None = None
    modified: str | None = None
    length: int | None = None
    exact: bool = False  # whether equal versions are equal bytes: a strong ETag, or a date with no later change in it

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        """Return the version that an answer is of."""
        etag, modified = response.headers.get("ETag") or None, response.headers.get("Last-Modified") or None
        strong = etag is not None and not etag.startswith("W/")
        return cls(etag, modified, total_of(response), strong or _is_past(modified, response.headers.get("Date")))

    @classmethod
    def noted(cls, notes: dict[str, Any]) -> Self:
        """Return a version as `note` wrote it; an empty one where the notes are damaged."""
        etag, modified, length, exact = (notes.get(name) for name in ("etag", "modified", "length", "exact"))
        texts = all(isinstance(text, str | None) for text in (etag, modified))
        return cls(etag, modified, length, exact is True) if texts and isinstance(length, int | None) else cls()

    def note(self) -> dict[str, Any]:
        """Return the version as JSON can keep it."""
        return asdict(self)

    @property
    def condition(self) -> str | None:
        """What to send as If-Range, if the server can be asked so (RFC 9110, 13.1.5: no weak ETag)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.modified if self.exact else None

    def difference(self, other: Version) -> str:
        """Return by what another answer is of another version, or cannot be known to be of this one."""
        if self.etag and other.etag and self.etag.removeprefix("W/") != other.etag.removeprefix("W/"):
            return "another ETag"
        if self.modified and other.modified and self.modified != other.modified:
            return "another Last-Modified"
        if None not in (self.length, other.length) and self.length != other.length:
            return f"{other.length} bytes in place of {self.length}"
        if self.exact and not ((self.etag and other.etag) or (self.modified and other.modified)):
            return "neither the ETag nor the Last-Modified of before"
        return ""


def _is_past(modified: str | None, date: str | None) -> bool:
    """Return whether a file was modified in an earlier second than the answer: no later change has the same date."""
    if modified is None:
        return False
    with suppress(ValueError, TypeError, OverflowError):
        return date is None or parsedate_to_datetime(modified) < parsedate_to_datetime(date)
    return False


def span_of(response: requests.Response) -> str:
    """Return which bytes an answer with a part of a file sends, such as "0-99"."""
    return response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")[0]


def total_of(response: requests.Response) -> int | None:
    """Return how many bytes the whole file has; None where an answer does not say."""
    if response.status_code == 206:
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        told = response.headers.get("Content-Length", "")
    return int(told) if told.isascii() and told.isdecimal() else None


def retry_after(response: requests.Response) -> float:
    """Return the seconds that a server asks to wait, given as such or as a date by its own clock."""
    asked, date = response.headers.get("Retry-After", ""), response.headers.get("Date")
    if asked.isascii() and asked.isdecimal():
        return float(asked)
    with suppress(ValueError, TypeError, OverflowError):
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
        return max(0.0, parsedate_to_datetime(asked).timestamp() - now)
    return 0


def server_of(url: str) -> str:
    """Return the name of a server: all of an address that an error may show."""
    return urlsplit(url).hostname or "?"
