"""Check that tables and time series of an NWB file agree, in one place for both readers.

A file may contradict itself: a column that is longer than its table, an index beyond its data, a mask that ends before
it starts. Each check uses shapes, indices and data that are read anyway, never all values of a large dataset, and its
error names in one line the table and column, with both numbers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from neurosuper.loaders.external import check_written
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
]

RARE = 0.05  # share of numbers that are not whole below which they look like errors, not like orientations or contrasts
REPAIR = "the file contradicts itself: repair it, or fetch it again"


def check_rows(n_values: int, n_rows: int, what: str) -> None:
    """Refuse a column that does not have one value per row of its table."""
    if n_values != n_rows:
        raise ValueError(
            f"{what} has {n_values} values for {n_rows} rows, but must have one per row; correct it in the file, or "
            "name another column"
        )


def check_stops(index: Any, n_rows: int, n_values: int, what: str) -> np.ndarray:
    """Return the ends of the rows of a ragged column, sorted and within its values; warn if values belong to no row."""
    check_written(index, what)
    stops = np.asarray(index[:])
    if stops.dtype.kind not in "iu" or stops.ndim != 1:
        raise ValueError(f"{what} has {stops.dtype} of shape {stops.shape}, not one whole number per row; {REPAIR}")
    check_rows(len(stops), n_rows, what)
    largest, ends = np.iinfo(stops.dtype).max, stops.astype(np.int64)
    falls = np.flatnonzero(np.diff(ends, prepend=0) < 0)
    if len(falls):
        row = int(falls[0])
        before = ends[row - 1] if row else 0
        raise ValueError(f"{what} falls from {before} to {ends[row]} at row {row}, but must not decrease; {REPAIR}")
    last = int(ends[-1]) if n_rows else 0
    # A last end of 0, or an index whose type cannot count the values (uint8 for more than 255), means a damaged index.
    if last > n_values or (last < n_values and (last == 0 or largest < n_values)):
        raise ValueError(f"{what} ends at {last}, but its column has {n_values} values; {REPAIR}")
    if last < n_values:
        warnings.warn(
            f"{what} ends at {last}, but its column has {n_values} values: the last {n_values - last} belong to no row "
            "and are left out",
            stacklevel=2,
        )
    return ends


def check_region(rows: Any, n_rows: int, what: str, table: str) -> np.ndarray:
    """Return rows of a table to which a column refers, after checking that they exist."""
    check_written(rows, what)
    found = np.asarray(rows[:])
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise ValueError(f"{what} has {found.dtype} of shape {found.shape}, not numbers of rows; {REPAIR}")
    beyond = found[(found < 0) | (found >= n_rows)]
    if len(beyond):
        raise ValueError(f"{what} refers to row {beyond[0]} of {table}, which has {n_rows} rows; {REPAIR}")
    return found.astype(np.int64)


def check_unique(labels: Collection[Any], what: str) -> None:
    """Refuse ids if one of them occurs in several rows."""
    twice = [str(label) for label, n in Counter(labels).items() if n > 1]
    if twice:
        raise ValueError(f"{what} are not unique: {name_some(twice)} in several rows; {REPAIR}")


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
    """Refuse a conversion that is not finite, is 0, or not one value for all or each column; and an infinite offset."""
    scale = np.asarray(conversion)
    if scale.shape not in ((), (1,), (n_columns,)):
        raise ValueError(f"{what} has {scale.size} conversions for {n_columns} columns; {REPAIR}")
    if scale.dtype.kind not in "iuf" or not np.isfinite(scale).all() or not scale.all():
        wrong = scale[~np.isfinite(scale) | (scale == 0)].ravel()[0] if scale.dtype.kind in "iuf" else scale
        raise ValueError(f"{what} has the conversion {wrong}, but it must be finite and not 0; {REPAIR}")
    if not np.isfinite(offset):
        raise ValueError(f"{what} has the offset {offset}, but it must be finite; {REPAIR}")


def check_clock(rate: float, start: float, what: str) -> None:
    """Refuse a rate that is not positive, or a start that is not finite."""
    if not 0 < rate < np.inf or not np.isfinite(start):
        raise ValueError(
            f"{what} starts at {start:g} s and has a rate of {rate:g} Hz; both must be finite, and the rate above 0: "
            "name another series"
        )


def check_order(order: Sequence[str | None], images: Collection[str], what: str) -> list[str]:
    """Return the order of images, after checking that each image exists and occurs once."""
    for name in order:
        if name not in images:
            target = "to nothing" if name is None else f"to {name!r}"
            raise ValueError(f"{what} refers {target}, which is none of its {len(images)} images; {REPAIR}")
    check_unique(order, f"{what}: images")
    return [str(name) for name in order]


def check_indices(values: np.ndarray, what: str, remedy: str) -> None:
    """Refuse image numbers that are infinite, or too large for their type to represent each whole number.

    Warn if a few among many are not whole.
    """
    if values.dtype.kind != "f" or not len(values):
        return
    limit = 2.0 ** (np.finfo(values.dtype).nmant + 1)  # above it, floats round whole numbers
    beyond = values[~(np.abs(values) < limit) & (values != 2.0**64)]  # 2⁶⁴ is −1 as an unsigned number, a blank
    if len(beyond):
        raise ValueError(
            f"{what} has the number {beyond[0]:g}, but {values.dtype} represents whole numbers exactly only below "
            f"{limit:g}; {remedy}"
        )
    fractional = values[values % 1 != 0]
    if 0 < len(fractional) <= RARE * len(values):
        warnings.warn(
            f"{what} has {len(fractional)} of {len(values)} numbers that are not whole, such as {fractional[0]:g}; "
            f"{remedy}",
            stacklevel=2,
        )
