"""Onsets and labels of the stimuli of an NWB session, from a table of intervals, an IndexSeries, or both row by row."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from neurosuper._labels import as_label
from neurosuper.loaders.arrange import presentation_concerns, select_presentations
from neurosuper.loaders.external import check_written
from neurosuper.loaders.nwb.candidates import stimulus_columns
from neurosuper.loaders.nwb.conditions import rows_that_meet
from neurosuper.loaders.nwb.records import MISSING, Series, Table, Template, listed, listing, single_values, time_values
from neurosuper.loaders.nwb.session import Session, find
from neurosuper.loaders.nwb.validate import check_indices

__all__ = ["Presentations", "column_labels", "read_presentations"]

NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")  # "007" is a name
Blanks = Collection[object] | str | float | None
MOST_CANDIDATES = 5  # columns that an error names


@dataclass(frozen=True)
class Presentations:
    """The presentations to keep: onsets and offsets (s), labels; and counts of kept, blank and missing ones."""

    onsets: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    counts: dict[str, int]
    images: list[str] = field(default_factory=list)  # of the template, shown or not
    concerns: list[str] = field(default_factory=list)  # warnings, one line each


@dataclass(frozen=True)
class _Rows:
    """Onset and offset of the rows of a table of presentations (s), whether each meets the conditions, and warnings."""

    onsets: np.ndarray
    offsets: np.ndarray
    meets: np.ndarray
    onset_name: str = ""
    concerns: list[str] = field(default_factory=list)


def read_presentations(
    session: Session,
    *,
    presentations: str | None,
    stimulus_column: str | None = None,
    index_series: str | None = None,
    onset_column: str | None = None,
    presentations_where: Mapping[str, object] | None = None,
    blanks: Blanks = (),
) -> Presentations:
    """Return the presentations of a session; the parameters are those of `load_nwb`."""
    if (stimulus_column is None) == (index_series is None):
        raise ValueError(
            f"stimuli are named by stimulus_column or by index_series, got {stimulus_column!r} and {index_series!r}; "
            f"{_candidates(session)}"
        )
    if presentations is None:
        if stimulus_column is not None or onset_column is not None or presentations_where:
            raise ValueError(
                "presentations is None, which requires an index_series, and no stimulus_column, onset_column or "
                "presentations_where: these name columns of a table; name a table of intervals"
            )
        series = find(session, "index_series", cast(str, index_series), "index_series")
        return _from_index(session, series, None, None, blanks)
    table: Table = find(session, "intervals", presentations, "table of presentations")
    rows = _read_rows(table, onset_column, presentations_where or {})
    if index_series is None:
        return _from_column(table, rows, cast(str, stimulus_column), blanks)
    return _from_index(session, find(session, "index_series", index_series, "index_series"), table, rows, blanks)


def _candidates(session: Session) -> str:
    """Return which columns and IndexSeries may name the stimuli, and what to do, for errors."""
    tables = {path: opened() for path, opened in session.found("intervals").items()}
    found = [f"stimulus_column={name!r} of {path!r}" for path, name in stimulus_columns(tables)]
    series = {path: opened() for path, opened in session.found("index_series").items()}
    found += [f"index_series={path!r}" for path, each in series.items() if each.kind == "IndexSeries"]
    if not found:
        return f"give one of the two; {session.name} has the tables {listed(tables)}, see neurosuper.inspect_nwb"
    shown = ", ".join(found[:MOST_CANDIDATES])
    return f"give one of the two, such as {shown} (neurosuper.inspect_nwb lists all columns of {session.name})"


def _read_rows(table: Table, onset_column: str | None, where: Mapping[str, object]) -> _Rows:
    """Return onset and offset (NaN if the table has none) of every row, in seconds, and which rows are wanted."""
    onsets = time_values(table, onset_column or "start_time")
    offsets = time_values(table, "stop_time") if "stop_time" in table.columns else np.full(len(onsets), np.nan)
    meets = rows_that_meet(
        where,
        lambda name: single_values(table, name),
        len(onsets),
        setting="presentations_where",
        what=f"presentation of table {table.name!r}",
    )
    concerns = []
    if onset_column is not None and "start_time" in table.columns:
        starts = time_values(table, "start_time")
        wrong = int(((onsets < starts) | (onsets > offsets)).sum())
        if wrong > len(onsets) / 2:
            concerns.append(
                f"{onset_column} is not between start_time and stop_time in {wrong} of {len(onsets)} rows of table "
                f"{table.name!r}; onsets are in seconds from the start of the session: check that they are not in "
                "another unit, or relative to each trial"
            )
    return _Rows(onsets, offsets, meets, onset_column or "start_time", concerns)


def _from_column(table: Table, rows: _Rows, name: str, blanks: Blanks) -> Presentations:
    values = single_values(table, name)
    labels = _labels_of(values)
    blank = np.isin(labels, _blank_labels(blanks, values.dtype))
    remedy = "add it to blanks if it is one, or name another column"
    check_indices(values[rows.meets & ~blank & (labels != "")], table.called(name), remedy)
    where = f"table {table.name!r}"
    kept, counts = select_presentations(rows.onsets, labels, blank, rows.meets, where, "stimulus_column")
    onsets, offsets, labels = rows.onsets[kept], rows.offsets[kept], labels[kept]
    images = list(dict.fromkeys(labels.tolist()))
    concerns = [*rows.concerns, *presentation_concerns(onsets, labels, where)]
    if not rows.concerns and (n_wrong := int((offsets < onsets).sum())):
        concerns.append(
            f"stop_time is before {rows.onset_name} in {n_wrong} of {len(onsets)} presentations in {where}; check both"
        )
    return Presentations(onsets, offsets, labels, counts, images, concerns)


def column_labels(table: Table, name: str) -> np.ndarray:
    """Return the values of a column as labels of stimuli, "" where there is none."""
    return _labels_of(single_values(table, name))


def _labels_of(values: np.ndarray) -> np.ndarray:
    return _plain_numbers(_as_labels(values))


def _as_labels(values: np.ndarray) -> np.ndarray:
    """Return values as text, "" for NaN."""
    return np.where(values == values, np.array([as_label(value) for value in values], dtype=str), "")


def _plain_numbers(labels: np.ndarray) -> np.ndarray:
    """Return numbers that were written as text as labels of whole numbers ("-1.0" as "-1"), and "" for "null".

    Only if all labels are numbers or missing: AllenSDK writes columns of mixed type as "3.0", "-1.0" and "null".
    """
    found = set(labels.tolist())
    numbers = found - {label for label in found if label.lower() in MISSING}
    if not numbers or not all(map(NUMBER.fullmatch, numbers)):
        return labels
    plain = {label: re.sub(r"\.0+$", "", label) if label in numbers else "" for label in found}
    return np.array([plain[label] for label in labels.tolist()])


def _blank_labels(blanks: Blanks, dtype: np.dtype) -> list[str]:
    """Return blanks as labels; −1 also as the unsigned number to which it may have been converted."""
    labels = _plain_numbers(np.array([as_label(value) for value in listing(blanks)], dtype=str)).tolist()
    if "-1" not in labels:
        return labels
    # 32 bits: IndexSeries of NWB store uint32. 2**64: 2**64 − 1 as a float.
    wraps = {2**32 - 1, 2**64 - 1, 2**64}
    if dtype.kind != "i":
        wraps |= {2**16 - 1}
    if dtype.kind == "u":
        wraps |= {int(np.iinfo(dtype).max)}
    return labels + [str(wrap) for wrap in wraps]


def _blank_indices(blanks: Blanks, dtype: np.dtype, images: Template | None) -> list[str]:
    """Return blanks as indices, including images named like a blank, but no converted −1 that is a valid index."""
    labels, n = _blank_labels(blanks, dtype), (images and images.n) or 0
    named = list(map(as_label, listing(blanks)))
    by_name = [str(i) for i, name in enumerate((images and images.names) or []) if name in named]
    return by_name + [label for label in labels if label in named or int(label) >= n]


def _from_index(
    session: Session, series: Series, table: Table | None, rows: _Rows | None, blanks: Blanks
) -> Presentations:
    where = f"index_series {series.name!r}"
    check_written(series.data, f"data of {where} of {session.name}")
    indices = np.asarray(() if series.data is None else series.data[:])
    if indices.ndim != 1 or indices.dtype.kind not in "iuf":
        raise ValueError(
            f"{where} of {session.name} has {indices.dtype} of shape {indices.shape}, not one index per presentation"
        )
    if rows is None:
        rows = _Rows(series.times(), np.full(len(indices), np.nan), np.ones(len(indices), bool))
    onsets, offsets = rows.onsets, rows.offsets
    if onsets.shape != indices.shape:
        others = "timestamps" if table is None else f"rows in table {table.name!r}"
        raise ValueError(
            f"{where} of {session.name} has {len(indices)} indices for {len(onsets)} {others}; their numbers must be "
            "equal: name another table, or pass presentations=None for the series' own times"
        )
    labels = _as_labels(indices)
    blank = np.isin(labels, _blank_indices(blanks, indices.dtype, series.images))
    wanted = rows.meets & ~blank & (labels != "")
    check_indices(indices[wanted], f"{where} of {session.name}", "add it to blanks if it is one")
    kept, counts = select_presentations(onsets, labels, blank, rows.meets, where, "index_series")
    names = _names(session, series, indices[kept])
    found = labels[kept] if names is None else np.array(names)[indices[kept].astype(np.int64)]
    concerns = [*rows.concerns, *presentation_concerns(onsets[kept], found, where)]
    if table is None and (n_falls := int((np.diff(onsets[np.isfinite(onsets)]) < 0).sum())):
        concerns.append(
            f"timestamps of {where} decrease {n_falls} times; each index was used with its own timestamp: check them"
        )
    images = names or list(dict.fromkeys(found.tolist()))
    return Presentations(onsets[kept], offsets[kept], found, counts, images, concerns)


def _names(session: Session, series: Series, indices: np.ndarray) -> list[str] | None:
    """Return the names of all images of an IndexSeries, or None if the file contains no image."""
    template = series.images or _only_large_enough(session, series, indices.max())
    n, allowed = np.inf, "are whole numbers from 0"
    if template is not None and template.n is not None:
        n, allowed = template.n, f"of its template {template.name!r} go from 0 to {template.n - 1}"
    wrong = indices[(indices < 0) | (indices >= n) | (indices % 1 != 0)]
    if len(wrong):
        raise ValueError(
            f"index_series {series.name!r} of {session.name} has the index {wrong[0]}, but indices {allowed}; if it is "
            "a blank, add it to blanks"
        )
    if template is None or template.n is None:
        return None
    return template.names or [str(i) for i in range(template.n)]


def _only_large_enough(session: Session, series: Series, largest: float) -> Template | None:
    """Return the only template with enough images, for a series without a link to its images."""
    templates = [opened() for opened in session.found("template").values()]
    if not templates:
        warnings.warn(
            f"the images of index_series {series.name!r} are not in {session.name}; stimuli are named by their "
            "indices, which cannot be checked",
            stacklevel=2,
        )
        return None
    enough = [template for template in templates if template.n is not None and template.n > largest]
    if len(enough) != 1:
        raise ValueError(
            f"index_series {series.name!r} of {session.name} does not link to its images, and {len(enough)} of the "
            f"templates {listed([template.name for template in templates])} have more than {largest:g} images; name "
            "the stimuli by a stimulus_column"
        )
    return enough[0]
