"""Guess from names and values which columns of tables of intervals name stimuli, and which gives their onsets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from neurosuper._labels import as_label, without_suffixes
from neurosuper.loaders.nwb.records import Table, single_values, time_values

__all__ = ["Candidate", "count_known", "distinct_values", "onset_column_of", "rank_columns", "stimulus_columns"]

NOT_STIMULI = re.compile(r"start|stop|onset|offset|time|duration|trial|block|index_in|tags|color|contrast")
NAMES = ("image", "picture|photo|scene", "stim", "frame|object|file", "name|label|identity", "(?<!se)cond")
STIMULI = tuple(map(re.compile, NAMES))
TIMES = ("start_time", "stop_time")
# Words of names such as stim_on_time, pdOnTS and stimulus_onset; reward_on is another event.
ONSETS = {"on", "onset"}
SHOWN = {"stim", "stimulus", "image", "picture", "photo", "photodiode", "pd", "flash", "visual"}
Rank = tuple[int, int, int]


class Candidate(NamedTuple):
    """A column that may name stimuli, its different values as labels, and its rank (the lowest is best)."""

    table: str
    column: str
    labels: list[str]
    rank: Rank


def stimulus_columns(tables: Mapping[str, Table]) -> list[tuple[str, str]]:
    """Return path of the table and name of every column that may name stimuli, best first."""
    return [(each.table, each.column) for each in sorted(rank_columns(tables, ()), key=lambda each: each.rank)]


def rank_columns(tables: Mapping[str, Table], known: Collection[str]) -> Iterator[Candidate]:
    """Yield every column that may name stimuli: some of its values are known labels, or its name suggests it."""
    columns = [(path, name) for path, table in tables.items() for name in table.columns if name not in TIMES]
    for path, name in columns:
        values = None if path.rpartition("/")[2] == "invalid_times" else distinct_values(tables[path], name)
        if values is None or len(values) < 2 or values.dtype.kind == "b":
            continue
        labels = [as_label(value) for value in values]
        n_known = count_known(labels, known)
        likely = next((i for i, pattern in enumerate(STIMULI) if pattern.search(name.lower())), len(STIMULI))
        is_measured = values.dtype.kind == "f" and (values % 1 != 0).any()
        is_other = NOT_STIMULI.search(name.lower()) or _words(name) & ONSETS
        if n_known or not (likely == len(STIMULI) or is_measured or is_other):
            yield Candidate(path, name, labels, (-n_known, likely, -len(values)))


def count_known(names: Sequence[str], known: Collection[str]) -> int:
    """Return how many names are known labels, with or without the extension of image files."""
    return max(len(set(known).intersection(names)), len(set(known).intersection(without_suffixes(names))))


def distinct_values(table: Table, name: str) -> np.ndarray | None:
    """Return the different values of a column; None if it does not have a single readable value per row."""
    try:
        return np.unique(single_values(table, name))
    except ValueError:
        return None


def onset_column_of(table: Table) -> str | None:
    """Return the only column whose name is that of an onset of stimuli, and whose values are within the rows."""
    named = [name for name in table.columns if name not in TIMES and _names_onsets(name)]
    found = [name for name in named if _is_within_rows(table, name)]
    return found[0] if len(found) == 1 else None


def _words(name: str) -> set[str]:
    """Return the words of a name: `pdOnTS` consists of pd, on and ts."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _names_onsets(name: str) -> bool:
    words = _words(name)
    return bool(words & ONSETS) and bool(words & SHOWN or words <= ONSETS | {"time", "ts", "s", "sec"})


def _is_within_rows(table: Table, name: str) -> bool:
    """Return whether most values are between start and stop of their row, and some are not its start."""
    try:
        onsets, starts, stops = (time_values(table, each) for each in (name, *TIMES))
    except ValueError:
        return False
    within = (onsets >= starts) & (onsets <= stops)
    return bool(2 * within.sum() > len(onsets) and (onsets[within] > starts[within]).any())
