"""Propose arguments of `load_nwb` for a file: which columns name stimuli and areas, the responses, and a window."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosuper.loaders.nwb.candidates import (
    STIMULI,
    Rank,
    count_known,
    distinct_values,
    onset_column_of,
    rank_columns,
)
from neurosuper.loaders.nwb.presentations import Presentations, read_presentations
from neurosuper.loaders.nwb.records import Series, Table, Template, time_values
from neurosuper.loaders.nwb.session import Session
from neurosuper.loaders.nwb.sources import Source, open_source

__all__ = ["Proposal", "count_areas", "propose"]

AREAS = ("area", "brain_area", "location", "brain_region", "region", "structure_acronym", "ecephys_structure_acronym")
RESPONSES = re.compile(r"df|raster|deconv|fluorescence|roiresponse|spike|event", re.IGNORECASE)
BLANKS = {"-1", "blank", "grey", "gray", "spontaneous"}
LATENCY = 0.05  # s; the first spikes of the ventral stream come 50 ms after the onset
SHORTEST, LONGEST = 0.05, 0.5  # s; a shorter window has few spikes, a longer one more than the response to one image
FEWEST_FRAMES = 2
SAME_TIME = 0.02  # s; presentations that begin so close together are the same, whichever clock was written
LAST = len(STIMULI)  # rank of an IndexSeries: after columns whose name suggests stimuli, unless it names known images


@dataclass(frozen=True)
class Proposal:
    """Proposed arguments of `load_nwb`, the source of responses that they open, and what is missing."""

    arguments: dict[str, Any]
    source: Source | None
    remark: str


def propose(session: Session, companion: Session, known: set[str]) -> Proposal:
    """Return a proposal for a session whose responses are in a companion (the session itself, if in one file).

    `known` are names of images: a column that contains them names the stimuli.
    """
    tables = {path: opened() for path, opened in session.found("intervals").items()}
    templates: list[Template] = [opened() for opened in session.found("template").values()]
    known = known or {name for each in templates if each.pixels is not None for name in _names(each)}
    stimuli = _propose_stimuli(session, tables, known)
    series, source, remark = _propose_source(companion, is_companion=companion is not session)
    if stimuli is None:
        return Proposal({}, source, remark or "no column of a table of intervals, and no index_series, names stimuli")
    arguments, shown = stimuli
    if source is None:
        return Proposal(arguments, None, remark)
    arguments |= {"window": _propose_window(shown, source)} | series
    areas = dict(count_areas(source))
    return Proposal(arguments | ({"area_column": next(iter(areas))} if areas else {}), source, remark)


def _names(template: Template) -> list[str]:
    return template.names or [str(i) for i in range(template.n or 0)]


def _propose_stimuli(
    session: Session, tables: Mapping[str, Table], known: set[str]
) -> tuple[dict[str, Any], Presentations] | None:
    """Return the best arguments that name stimuli, and the presentations that they give; None if there are none."""
    ranked = [*_by_column(tables, known), *_by_index_series(session, tables, known)]
    for _, arguments in sorted(ranked, key=lambda each: each[0]):
        if (shown := _try_presentations(session, arguments)) is not None:
            return arguments, shown
    return None


def _by_column(tables: Mapping[str, Table], known: set[str]) -> Iterator[tuple[Rank, dict[str, Any]]]:
    """Yield a rank (the lowest is best) and arguments for every column that may name stimuli."""
    for path, column, labels, rank in rank_columns(tables, known):
        arguments: dict[str, Any] = {"presentations": path, "stimulus_column": column}
        if (onset := onset_column_of(tables[path])) is not None:
            arguments["onset_column"] = onset
        if blanks := [int(label) if label == "-1" else label for label in labels if label.lower() in BLANKS]:
            arguments["blanks"] = blanks
        yield rank, arguments


def _by_index_series(
    session: Session, tables: Mapping[str, Table], known: set[str]
) -> Iterator[tuple[Rank, dict[str, Any]]]:
    """Yield the same for every IndexSeries, joined with the first table whose rows are its presentations."""
    for path, opened in session.found("index_series").items():
        series: Series = opened()
        if series.kind != "IndexSeries":
            continue
        joined = next((name for name, table in tables.items() if _has_rows_of(table, series)), None)
        for blanks in ({}, {"blanks": [-1]}):
            arguments = {"presentations": joined, "index_series": path} | blanks
            if (shown := _try_presentations(session, arguments)) is not None:
                yield (-count_known(shown.images, known), LAST, -len(shown.images)), arguments
                break


def _has_rows_of(table: Table, series: Series) -> bool:
    """Return whether a table has a row per index of an IndexSeries, and rows start when the series says, if it does."""
    if table.n_rows != len(series.data):
        return False
    try:
        times = series.times()
    except ValueError:  # the series has no times
        return True
    return len(times) == table.n_rows and np.allclose(times, time_values(table, "start_time"), atol=SAME_TIME)


def _try_presentations(session: Session, arguments: Mapping[str, Any]) -> Presentations | None:
    try:
        return read_presentations(session, **arguments)
    except ValueError:
        return None


def _propose_source(session: Session, *, is_companion: bool) -> tuple[dict[str, Any], Source | None, str]:
    """Return arguments of `load_nwb` for the responses, the source that they open, and why if there is none."""
    try:
        source = open_source(session, None, None, None, has_companion=is_companion)
    except ValueError as error:
        why = str(error)
    else:
        column = source.naming_column()
        return {} if column is None else {"unit_names": column}, source, ""
    for path in session.found("table"):  # several tables have spike times
        try:
            return {"unit_names": f"{path}/id"}, open_source(session, None, f"{path}/id", None, is_companion), ""
        except ValueError:
            continue
    opened = {path: open_series() for path, open_series in session.found("series").items()}
    likely = [path for path, series in opened.items() if RESPONSES.search(f"{path} {series.kind}")]
    for path in sorted(likely, key=lambda path: (re.search("df", path, re.IGNORECASE) is None, path)):
        names = _column_of_names(session, opened[path])
        try:
            source = open_source(session, path, names, None, has_companion=is_companion)
        except ValueError:
            continue
        return {"series": path} | ({} if names is None else {"unit_names": names}), source, ""
    return {}, None, why


def _column_of_names(session: Session, series: Series) -> str | None:
    """Return "table/column" of the only text that could name the columns of a series without ROIs."""
    shape = np.shape(series.data)
    if series.rois is not None or len(shape) != 2:
        return None
    tables = {path: opened() for path, opened in session.found("table").items()}
    found = [
        f"{path}/{column}"
        for path, table in tables.items()
        if table.n_rows == shape[1]
        for column in table.columns
        if _is_unique_text(table, column)
    ]
    return found[0] if len(found) == 1 else None


def _is_unique_text(table: Table, column: str) -> bool:
    values = distinct_values(table, column)
    return values is not None and values.dtype.kind == "U" and len(values) == table.n_rows


def _propose_window(shown: Presentations, source: Source) -> tuple[float, float]:
    """Return a window as long as a presentation, but not longer than the time between two."""
    lengths = (shown.offsets - shown.onsets)[shown.offsets > shown.onsets]
    gaps = np.diff(np.sort(shown.onsets))
    gaps = gaps[gaps > 0]
    spans = [float(np.median(each)) for each in (lengths, gaps) if len(each)]
    length = float(np.clip(min(spans, default=LONGEST), SHORTEST, LONGEST))
    if not source.interval:
        return LATENCY, round(LATENCY + length, 3)
    return 0.0, round(max(length, FEWEST_FRAMES * source.interval), 3)


def count_areas(source: Source) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the columns that name areas, and the number of units in each area."""
    for column in AREAS:
        try:
            names, counts = np.unique(source.population.areas(column, {}), return_counts=True)
        except ValueError:
            continue
        yield column, dict(zip(names.tolist(), counts.tolist(), strict=True))
