"""NWB: what the readers of a session hand out.

Arrays are datasets of the open file: nothing is read before it is sliced.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from neurosuper.load.array import as_label

__all__ = [
    "Column",
    "Series",
    "Table",
    "Template",
    "images_template",
    "listed",
    "listing",
    "series_template",
    "single_values",
    "split_rows",
    "time_values",
]


@dataclass(frozen=True)
class Column:
    """A column of a table: one value a row, or (where there are `stops`) the values of all rows, row after row."""

    data: Any
    stops: Any = None
    table: Table | None = None  # whose rows the values are


@dataclass(frozen=True)
class Table:
    """A table: its columns by name, and the ids of its rows."""

    name: str
    ids: Any
    columns: Mapping[str, Column]
    location: str | None = None  # of all rows: where the imaging plane lies

    def read_ids(self) -> np.ndarray:
        """Return the ids of all rows."""
        if self.ids is None:
            raise ValueError(f"table {self.name!r} has lost the ids of its rows; the file is damaged, fetch it again")
        return np.asarray(self.ids[:])


@dataclass(frozen=True)
class Template:
    """Images of a session: their names where they have any, in the order that indices mean, and their pixels."""

    name: str
    n: int | None
    names: list[str] | None
    pixels: Any = None


@dataclass(frozen=True)
class Series:
    """A time series (time × column), and what its columns or its indices refer to."""

    name: str
    kind: str
    data: Any
    timestamps: Any
    start: float
    rate: float | None
    conversion: Any
    offset: float
    unit: str
    rois: Column | None = None
    images: Template | None = None

    def times(self) -> np.ndarray:
        """Return the time of every sample, in seconds."""
        if self.timestamps is not None:
            return _as_seconds(np.asarray(self.timestamps[:]), f"timestamps of time series {self.name!r}")
        if not self.rate:
            raise ValueError(f"time series {self.name!r} has neither timestamps nor a rate; name another series")
        if not 0 < self.rate < np.inf or not np.isfinite(self.start):
            raise ValueError(
                f"time series {self.name!r} starts at {self.start:g} s and has a rate of {self.rate:g} Hz; both must "
                "be finite, and the rate above 0: name another series"
            )
        return self.start + np.arange(len(self.data)) / self.rate


def listed(names: Collection[str]) -> str:
    """Return names as text: `'a', 'b'`."""
    return ", ".join(map(repr, names)) or "none"


def listing(value: object) -> list:
    """Return one value, or the values of any collection, as a list."""
    several = isinstance(value, Collection) and not isinstance(value, str | bytes)
    return list(cast(Collection, value)) if several else [value]


def single_values(table: Table, name: str) -> np.ndarray:
    """Return one column that has one value a row, text decoded."""
    if name not in table.columns:
        raise ValueError(f"no column {name!r} in table {table.name!r}; it has {listed(table.columns)}")
    column = table.columns[name]
    if not _is_single(column):
        raise ValueError(f"column {name!r} of table {table.name!r} has no single value a row; name another column")
    values = np.asarray(column.data[:])
    return np.array([as_label(value) for value in values]) if values.dtype.kind in "SO" else values


def time_values(table: Table, name: str) -> np.ndarray:
    """Return one column of times in seconds."""
    return _as_seconds(single_values(table, name), f"column {name!r} of table {table.name!r}")


def _as_seconds(values: np.ndarray, what: str) -> np.ndarray:
    """Return times as floats, also those that are numbers in text."""
    if values.dtype.kind in "iufUSO":
        with suppress(ValueError, TypeError):
            return values.astype(float)
    example = as_label(values.flat[0]) if values.size else "none"
    raise ValueError(f"{what} must contain numbers of seconds, got {values.dtype} such as {example!r}; convert them")


def _is_single(column: Column) -> bool:
    return column.stops is None and column.table is None and len(np.shape(column.data)) == 1


def split_rows(column: Column) -> list[np.ndarray]:
    """Return the values of every row of a ragged column, from one flat read."""
    return np.split(column.data[:], np.asarray(column.stops[:], np.int64))[:-1]


def _base_names(paths: Sequence[str]) -> list[str]:
    """Return the names that `load_images` gives to image files; with their folders where names are not unique."""
    whole = [path.replace("\\", "/").strip("/") for path in map(as_label, paths)]
    stems = [re.sub(r"(?<=[^/])\.[^./]*$", "", path) for path in whole]
    bases = [stem.rpartition("/")[2] for stem in stems]
    return bases if len(set(bases)) == len(set(stems)) else stems


def _numbered(names: Collection[str]) -> list[str] | None:
    """Return names in order of the one number in which they differ, or None where they are not so numbered."""
    split = {name: re.fullmatch(r"(.*?)(\d+)(\D*)", name) for name in names}
    if not all(split.values()) or len({(match[1], match[3]) for match in split.values() if match}) > 1:
        return None
    numbers = {name: int(match[2]) for name, match in split.items() if match}
    ordered = sorted(numbers, key=numbers.__getitem__)
    first = numbers[ordered[0]]
    gapless = [numbers[name] for name in ordered] == list(range(first, first + len(ordered)))
    return ordered if gapless and first in (0, 1) else None


def images_template(name: str, images: Mapping[str, Any], order: list[str] | None) -> Template:
    """Return an Images container as a template, in its own order, or in that of the numbers in its images' names."""
    names = order or _numbered(images)
    return Template(name, len(images), names, names and [images[image] for image in names])


def series_template(name: str, data: Any, external: Any, starts: Any) -> Template:
    """Return an ImageSeries as a template: frames in the file, or external files of one frame each."""
    if external is None or not len(external):
        return Template(name, len(data), None, data)
    if starts is not None and list(starts) != list(range(len(external))):
        return Template(name, None, None)
    return Template(name, len(external), _base_names(list(external[:])))
