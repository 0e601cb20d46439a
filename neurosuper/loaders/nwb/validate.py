"""NWB: what tables and series must agree on, checked in one place for whichever reader opened the file.

A file may contradict itself: a column that is longer than its table, an index beyond its data, a mask that ends before
it starts. Each check looks at shapes, indices and what is read anyway, never at all values of a large dataset, and says
in one line which table and column it is about, with both numbers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosuper.responses import name_some

__all__ = [
    "check_clock",
    "check_indices",
    "check_intervals",
    "check_order",
    "check_region",
    "check_rows",
    "check_scale",
    "check_stops",
    "check_unique",
    "check_written",
]

MAX_CHUNKS = 1024  # of a stream, whose places are some 50 KB: less than one spike train
RARE = 0.05  # share of numbers that are not whole below which they look like errors, not like orientations or contrasts
MEND = "the file contradicts itself: mend it, or fetch it again"


def check_written(data: Any, what: str) -> None:
    """Refuse a dataset that was never written, which HDF5 reads as zeros; warn where parts of it were not."""
    if not isinstance(data, h5py.Dataset) or not data.size:
        return
    if data.is_virtual:
        _check_sources(data, what)
        return
    if data.file.driver != "sec2" and data.chunks and data.size > MAX_CHUNKS * np.prod(data.chunks, dtype=float):
        return  # of a stream, HDF5 would read the places of all chunks
    status = data.id.get_space_status()
    if status == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
        raise ValueError(f"{what} has room for {data.size} values, but none was ever written; fetch the file again")
    if status == h5py.h5d.SPACE_STATUS_PART_ALLOCATED and data.fillvalue == data.fillvalue:  # NaN says itself: missing
        warnings.warn(f"parts of {what} were never written, and are read as {data.fillvalue!r}", stacklevel=2)


def _check_sources(data: h5py.Dataset, what: str) -> None:
    folder = Path(data.file.filename).parent
    for source in data.virtual_sources():
        if source.file_name != "." and not (folder / source.file_name).is_file():
            raise ValueError(
                f"{what} is stored in the file {source.file_name!r}, which is missing; put it beside the file that "
                "refers to it"
            )


def check_rows(n_values: int, n_rows: int, what: str) -> None:
    """Refuse a column that does not have one value for each row of its table."""
    if n_values != n_rows:
        raise ValueError(f"{what} has {n_values} values for {n_rows} rows; {MEND}")


def check_stops(index: Any, n_rows: int, n_values: int, what: str) -> np.ndarray:
    """Return where each row of a ragged column stops, rising and within its values; warn where some are of no row."""
    check_written(index, what)
    stops = np.asarray(index[:])
    if stops.dtype.kind not in "iu" or stops.ndim != 1:
        raise ValueError(f"{what} holds {stops.dtype} of shape {stops.shape}, not one whole number a row; {MEND}")
    check_rows(len(stops), n_rows, what)
    largest, rising = np.iinfo(stops.dtype).max, stops.astype(np.int64)
    falls = np.flatnonzero(np.diff(rising, prepend=0) < 0)
    if len(falls):
        row = int(falls[0])
        before = rising[row - 1] if row else 0
        raise ValueError(f"{what} falls from {before} to {rising[row]} at row {row}, but must rise; {MEND}")
    last = int(rising[-1]) if n_rows else 0
    if last > n_values or (last < n_values and (last == 0 or largest < n_values)):
        raise ValueError(f"{what} ends at {last}, but its column has {n_values} values; {MEND}")
    if last < n_values:
        warnings.warn(
            f"{what} ends at {last}, but its column has {n_values} values: the last {n_values - last} belong to no row "
            "and are left out",
            stacklevel=2,
        )
    return rising


def check_region(rows: Any, n_rows: int, what: str, table: str) -> np.ndarray:
    """Return the rows of a table that are referred to, all of which it has."""
    check_written(rows, what)
    found = np.asarray(rows[:])
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise ValueError(f"{what} holds {found.dtype} of shape {found.shape}, not numbers of rows; {MEND}")
    beyond = found[(found < 0) | (found >= n_rows)]
    if len(beyond):
        raise ValueError(f"{what} refers to row {beyond[0]} of {table}, which has {n_rows} rows; {MEND}")
    return found.astype(np.int64)


def check_unique(labels: Collection[Any], what: str) -> None:
    """Refuse ids of which one stands for several rows."""
    twice = [label for label, n in Counter(labels).items() if n > 1]
    if twice:
        raise ValueError(f"{what} are not unique: {name_some([str(label) for label in twice])} in several rows; {MEND}")


def check_intervals(intervals: np.ndarray, where: str) -> None:
    """Refuse intervals that are not (interval, 2), each with a start (s) and a stop that is not before it."""
    if not intervals.size:
        return
    if intervals.ndim != 2 or intervals.shape[1] != 2 or intervals.dtype.kind not in "iuf":
        raise ValueError(
            f"{where} has {intervals.dtype} of shape {intervals.shape}; it must be (interval, 2), start and stop in "
            "seconds: correct the file"
        )
    wrong = np.flatnonzero(~(intervals[:, 0] <= intervals[:, 1]))  # also NaN
    if len(wrong):
        start, stop = intervals[wrong[0]]
        raise ValueError(
            f"{where} has the interval {start:g} to {stop:g} s in row {wrong[0]} ({len(wrong)} such rows); each needs "
            "a start and a stop that is not before it: correct the file"
        )


def check_scale(conversion: Any, offset: Any, n_columns: int, what: str) -> None:
    """Refuse a conversion that is not finite or 0, or not one for all columns or for each, and an offset like that."""
    scale = np.asarray(conversion)
    if scale.shape not in ((), (1,), (n_columns,)):
        raise ValueError(f"{what} has {scale.size} conversions for {n_columns} columns; {MEND}")
    if scale.dtype.kind not in "iuf" or not np.isfinite(scale).all() or not scale.all():
        wrong = scale[~np.isfinite(scale) | (scale == 0)].ravel()[0] if scale.dtype.kind in "iuf" else scale
        raise ValueError(f"{what} has the conversion {wrong}, but it must be finite and not 0; {MEND}")
    if not np.isfinite(offset):
        raise ValueError(f"{what} has the offset {offset}, but it must be finite; {MEND}")


def check_clock(rate: float, start: float, what: str) -> None:
    """Refuse a rate that is not positive, or a start that is not finite."""
    if not 0 < rate < np.inf or not np.isfinite(start):
        raise ValueError(
            f"{what} starts at {start:g} s and has a rate of {rate:g} Hz; both must be finite, and the rate above 0: "
            "name another series"
        )


def check_order(order: Sequence[str | None], images: Collection[str], what: str) -> list[str]:
    """Return the order of images, each of which is there, once."""
    for name in order:
        if name not in images:
            told = "to nothing" if name is None else f"to {name!r}"
            raise ValueError(f"{what} refers {told}, which is none of its {len(images)} images; {MEND}")
    check_unique(order, f"{what}: images")
    return [str(name) for name in order]


def check_indices(values: np.ndarray, what: str, remedy: str) -> None:
    """Refuse image numbers that are infinite, or so large that their type cannot tell them from the next.

    Warn where a few among many are not whole.
    """
    if values.dtype.kind != "f" or not len(values):
        return
    limit = 2.0 ** (np.finfo(values.dtype).nmant + 1)  # from here on, whole numbers are rounded
    beyond = values[~(np.abs(values) < limit) & (values != 2.0**64)]  # which is −1 as an unsigned number, a blank
    if len(beyond):
        raise ValueError(
            f"{what} has the number {beyond[0]:g}, but {values.dtype} tells whole numbers apart only below {limit:g}; "
            f"{remedy}"
        )
    parted = values[values % 1 != 0]
    if 0 < len(parted) <= RARE * len(values):
        warnings.warn(
            f"{what} has {len(parted)} of {len(values)} numbers that are not whole, such as {parted[0]:g}; {remedy}",
            stacklevel=2,
        )
