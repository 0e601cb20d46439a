"""Tables, columns, time series and templates of an NWB session, the same for both readers.

Arrays are datasets of the open file: data are read when they are sliced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import h5py
import numpy as np

from neurosuper._labels import as_label
from neurosuper.loaders.external import check_written
from neurosuper.loaders.nwb.validate import check_clock, check_order, check_region, check_rows, check_stops

__all__ = [
    "MISSING",
    "Column",
    "Referred",
    "Series",
    "Table",
    "Template",
    "column_of",
    "images_template",
    "is_stack",
    "listed",
    "listing",
    "region_rows",
    "series_template",
    "single_values",
    "split_rows",
    "stops_of",
    "time_values",
]


MISSING = ("", "null", "nan", "none", "<na>")  # in lower case, among numbers that were written as text


class Referred(NamedTuple):
    """Name and location of an object to which a row refers, such as an electrode group."""

    name: str
    location: str


@dataclass(frozen=True)
class Column:
    """A column of a table: one value per row, or (if there are `stops`) the values of all rows, row after row."""

    data: Any
    stops: Any = None
    table: Table | None = None  # the values are rows of this table
    elements: Any = None  # the values are indices of these texts
    objects: Callable[[], list[Referred]] | None = None  # returns the objects to which the rows refer


@dataclass(frozen=True)
class Table:
    """A table: its columns by name, and the ids of its rows."""

    name: str
    ids: Any
    columns: Mapping[str, Column]
    location: str | None = None  # area of the imaging plane, for all rows
    file: str = ""
    lost: frozenset[str] = frozenset()  # columns that cannot be read

    def called(self, column: str) -> str:
        """Return the name of a column in errors."""
        return f"{self.file}: column {column!r} of table {self.name!r}"

    @property
    def n_rows(self) -> int:
        """Number of rows: of ids, else of values in the first column."""
        if self.ids is None:
            return next((_n_values(column) for column in self.columns.values()), 0)
        shape = np.shape(self.ids)
        if len(shape) != 1:
            raise ValueError(f"{self.called('id')} has the shape {shape}, not one id per row; fetch the file again")
        return shape[0]

    def read_ids(self) -> np.ndarray:
        """Return the ids of all rows."""
        if self.ids is None:
            raise ValueError(
                f"{self.file}: table {self.name!r} has lost the ids of its rows; it is damaged, fetch it again"
            )
        check_written(self.ids, self.called("id"))
        ids = np.asarray(self.ids[: self.n_rows])
        if ids.dtype.kind in "cV":
            raise ValueError(f"{self.called('id')} contains {ids.dtype}, not numbers of rows; fetch the file again")
        if ids.dtype.kind == "f" and not (np.isfinite(ids) & (np.floor(ids) == ids)).all():
            raise ValueError(f"{self.called('id')} contains numbers that are not whole; fetch the file again")
        return ids


@dataclass(frozen=True)
class Template:
    """Images of a session, in the order of their indices: their names, if they have any, and their pixels."""

    name: str
    n: int | None  # None if the number is unknown
    names: list[str] | None
    pixels: Any = None


@dataclass(frozen=True)
class Series:
    """A time series (time × column), with the ROIs of its columns or the images of its indices."""

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
    file: str = ""

    def times(self) -> np.ndarray:
        """Return the time of every sample, in seconds."""
        if self.timestamps is not None:
            what = f"timestamps of time series {self.name!r}"
            check_written(self.timestamps, f"{self.file}: {what}")
            return _as_seconds(np.asarray(self.timestamps[:]), what)
        if not self.rate:
            raise ValueError(f"time series {self.name!r} has neither timestamps nor a rate; name another series")
        check_clock(self.rate, self.start, f"{self.file}: time series {self.name!r}")
        return self.start + np.arange(len(self.data)) / self.rate


def listed(names: Collection[str]) -> str:
    """Return names as text: `'a', 'b'`."""
    return ", ".join(map(repr, names)) or "none"


def listing(value: object) -> list:
    """Return one value, or the values of any collection, as a list."""
    several = isinstance(value, Collection) and not isinstance(value, str | bytes)
    return list(cast(Collection, value)) if several else [value]


def column_of(table: Table, name: str) -> Column:
    """Return one column, after checking that it was written and has one value per row of its table."""
    if name in table.lost:
        raise ValueError(f"{table.called(name)} is a broken link, or cannot be read; repair the file")
    if name not in table.columns:
        raise ValueError(f"{table.file}: no column {name!r} in table {table.name!r}; it has {listed(table.columns)}")
    column = table.columns[name]
    check_written(column.data, table.called(name))
    check_rows(_n_values(column), table.n_rows, table.called(name))
    return column


def _n_values(column: Column) -> int:
    shape = np.shape(column.data if column.stops is None else column.stops)
    return shape[0] if shape else 1


def single_values(table: Table, name: str) -> np.ndarray:
    """Return a column with one value per row: text is decoded, enumerations and references are returned as names."""
    column, what = column_of(table, name), table.called(name)
    if column.objects is not None:
        return np.array([referred.name for referred in column.objects()], dtype=str)
    shape = np.shape(column.data)
    if column.stops is not None or column.table is not None or len(shape) not in (1, 2):
        raise ValueError(f"{what} does not have a single value per row; name another column")
    values = _stored(column.data)
    if values.ndim == 2:
        values = _flags(values, what)
    names = h5py.check_enum_dtype(values.dtype)
    if column.elements is not None:
        texts = _stored(column.elements).tolist()
        rows = check_region(values, len(texts), what, "its elements")
        values = np.array([as_label(text) for text in texts])[rows]
    elif names is not None:
        by_code = {code: label for label, code in names.items()}
        values = np.array([by_code.get(code, str(code)) for code in values.tolist()])
    if values.dtype.kind in "biufU":
        return values
    if not set(map(type, values.tolist())) <= {str, bytes}:
        raise ValueError(f"{what} contains {values.dtype}, which is neither text nor numbers; name another column")
    return np.array([as_label(value) for value in values])


def _stored(data: Any) -> np.ndarray:
    """Return all values of a dataset, text as bytes: hdmf would decode it as UTF-8 and fail where it is Latin-1."""
    return np.asarray(h5py.Dataset.__getitem__(data, slice(None)) if isinstance(data, h5py.Dataset) else data[:])


def _flags(values: np.ndarray, what: str) -> np.ndarray:
    """Return the first of two columns if they are a flag and its probability, like `iscell` of suite2p."""
    is_pair = values.shape[1] == 2 and values.dtype.kind in "biuf"
    if is_pair and np.isin(values[:, 0], (0, 1)).all() and ((values[:, 1] >= 0) & (values[:, 1] <= 1)).all():
        return values[:, 0]
    raise ValueError(f"{what} does not have a single value per row, but {values.shape[1]}; name another column")


def time_values(table: Table, name: str) -> np.ndarray:
    """Return one column of times in seconds."""
    return _as_seconds(single_values(table, name), table.called(name))


def _as_seconds(values: np.ndarray, what: str) -> np.ndarray:
    """Return times as floats, also if they are numbers in text."""
    if values.dtype.kind in "iufUSO":
        with suppress(ValueError, TypeError):
            return values.astype(float)
    example = as_label(values.flat[0]) if values.size else "none"
    raise ValueError(f"{what} must contain numbers of seconds, got {values.dtype} such as {example!r}; convert them")


def stops_of(table: Table, name: str) -> np.ndarray:
    """Return the end of each row of a ragged column in its values."""
    column, what = column_of(table, name), table.called(f"{name}_index")
    if column.stops is None:
        raise ValueError(f"{table.called(name)} has no {name}_index, which assigns its values to rows; fetch it again")
    return check_stops(column.stops, table.n_rows, len(column.data), what)


def split_rows(table: Table, name: str) -> list[np.ndarray]:
    """Return the values of every row of a ragged column, read at once."""
    stops = stops_of(table, name)
    return np.split(np.asarray(table.columns[name].data[:]), stops)[: len(stops)]


def region_rows(table: Table, name: str) -> list[np.ndarray]:
    """Return the rows of another table to which each row refers."""
    region = column_of(table, name)
    other = cast(Table, region.table)
    rows = check_region(region.data, other.n_rows, table.called(name), f"table {other.name!r}")
    return np.split(rows, np.arange(1, len(rows)) if region.stops is None else stops_of(table, name))[: table.n_rows]


def _base_names(paths: Sequence[str]) -> list[str]:
    """Return the names that `load_images` gives to image files; with their folders if names are not unique."""
    whole = [path.replace("\\", "/").strip("/") for path in map(as_label, paths)]
    stems = [re.sub(r"(?<=[^/])\.[^./]*$", "", path) for path in whole]
    bases = [stem.rpartition("/")[2] for stem in stems]
    return bases if len(set(bases)) == len(set(stems)) else stems


def _numbered(names: Collection[str]) -> list[str] | None:
    """Return names sorted by the one number in which they differ, or None if they are not numbered from 0 or 1."""
    split = {name: re.fullmatch(r"(.*?)(\d+)(\D*)", name) for name in names}
    if not all(split.values()) or len({(match[1], match[3]) for match in split.values() if match}) > 1:
        return None
    numbers = {name: int(match[2]) for name, match in split.items() if match}
    ordered = sorted(numbers, key=numbers.__getitem__)
    first = numbers[ordered[0]]
    gapless = [numbers[name] for name in ordered] == list(range(first, first + len(ordered)))
    return ordered if gapless and first in (0, 1) else None


def images_template(name: str, images: Mapping[str, Any], order: Sequence[str | None] | None, file: str) -> Template:
    """Return an Images container as a template, in its own order, else sorted by the numbers in the names of images."""
    names = check_order(order, images, f"{file}: order_of_images of template {name!r}") if order else _numbered(images)
    return Template(name, len(names or images), names, names and [images[image] for image in names])


def is_stack(neurodata_type: str) -> bool:
    """Return whether objects of a type contain images that may have been shown, not images of the brain."""
    return neurodata_type in ("ImageSeries", "OpticalSeries", "Images")


def series_template(name: str, data: Any, external: Any, starts: Any) -> Template:
    """Return an ImageSeries as a template: frames in the file, or external files of one frame each."""
    if external is None or not len(external):
        return Template(name, len(data), None, data)
    if starts is not None and list(starts) != list(range(len(external))):
        return Template(name, None, None)
    return Template(name, len(external), _base_names(_stored(external).tolist()))
