"""Names, areas, conditions and observation windows of the units of an NWB file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from neurosuper._labels import as_label
from neurosuper.loaders.nwb.conditions import rows_that_meet
from neurosuper.loaders.nwb.records import Table, column_of, listed, region_rows, single_values
from neurosuper.loaders.nwb.validate import check_unique

__all__ = [
    "Population",
    "Populations",
    "Windows",
    "observed",
    "overlaps",
    "select_units",
    "side_by_side",
]

Span = tuple[float, float]
Window = Span | Mapping[str, Span] | Sequence[Span]
MAX_GAP = 1000  # median time from one onset to the next, in window lengths; no experiment waits longer
MANY = 10  # onsets needed to judge their gaps
LONG = 5.0  # s; a window that is meant in milliseconds is longer than 5


@dataclass(frozen=True)
class Population:
    """Units, and the rows of the table that describes them."""

    names: list[str]
    table: Table
    rows: np.ndarray
    electrodes: Table | None = None  # of the session

    def values(self, name: str) -> np.ndarray:
        """Return the values of a column for each unit: of its own table, else of its electrodes."""
        if name in self.table.columns or not self._has_elsewhere(name):
            return single_values(self.table, name)[self.rows]
        if self.table.location is not None and name == "location":
            return np.full(len(self.rows), self.table.location)
        linked = self._linked()
        if linked is None or name not in linked.columns:
            return self._of_groups()[self.rows]
        return (self._joined if "electrodes" in self.table.columns else self._by_peak)(name)[self.rows]

    def areas(self, name: str, area_map: Mapping[str, str]) -> np.ndarray:
        """Return the area of each unit."""
        if name not in self.table.columns and not self._has_elsewhere(name):
            table = "Units table" if self.table.name == "units" else f"table {self.table.name!r}"
            raise ValueError(
                f"no area_column {name!r}: the {table} has {listed(self.table.columns)}, and "
                f"{self._describe_electrodes()}"
            )
        areas = [as_label(area) for area in self.values(name)]
        return np.array([area_map.get(area, area) for area in areas], dtype=str)

    def _linked(self) -> Table | None:
        """Return the electrodes that the units refer to, by region or by the id of the peak channel."""
        if "electrodes" in self.table.columns:
            return self.table.columns["electrodes"].table
        return self.electrodes if "peak_channel_id" in self.table.columns else None

    def _has_elsewhere(self, name: str) -> bool:
        linked = self._linked()
        if name == "location" and (self.table.location is not None or "electrode_group" in self.table.columns):
            return True
        return linked is not None and name in linked.columns

    def _describe_electrodes(self) -> str:
        linked = self._linked()
        if linked is None and {"electrodes", "peak_channel_id"} & set(self.table.columns):
            return "the table 'electrodes' that it refers to is missing from the file; name a column of its own"
        return f"the electrodes that it refers to have {listed(() if linked is None else linked.columns)}"

    def _by_peak(self, name: str) -> np.ndarray:
        """Return the values of a column of electrodes for the peak channel of each row, "" if its id is unknown."""
        electrodes = cast(Table, self._linked())
        values, ids = single_values(electrodes, name), electrodes.read_ids().tolist()
        check_unique(ids, f"{electrodes.file}: ids of table {electrodes.name!r}")
        value_of = dict(zip(ids, values.tolist(), strict=True))
        peaks = single_values(self.table, "peak_channel_id")
        peaks = peaks.astype(float) if peaks.dtype.kind == "U" else peaks
        lost = [peak for peak in peaks[self.rows].tolist() if peak not in value_of]
        if lost:
            warnings.warn(
                f"{self.table.file}: {len(lost)} of {len(self.rows)} units have a peak_channel_id (such as {lost[0]}) "
                f"that is not among the ids of the electrodes; their {name} is ''",
                stacklevel=2,
            )
        return np.array([value_of.get(peak, "") for peak in peaks.tolist()])

    def _of_groups(self) -> np.ndarray:
        """Return the location of the electrode group of each row."""
        objects = column_of(self.table, "electrode_group").objects
        if objects is None:
            raise ValueError(
                f"{self.table.called('electrode_group')} does not refer to electrode groups; name another area_column"
            )
        return np.array([group.location for group in objects()], dtype=str)

    def _joined(self, name: str) -> np.ndarray:
        """Return the values of a column for the electrodes of each row, joined with "/" if they differ."""
        labels = np.array([as_label(value) for value in single_values(cast(Table, self._linked()), name)])
        return np.array(["/".join(np.unique(labels[row])) for row in region_rows(self.table, "electrodes")], dtype=str)


@dataclass(frozen=True)
class Populations:
    """The units of several tables, side by side."""

    names: list[str]
    members: list[Population]

    def values(self, name: str) -> np.ndarray:
        """Return the values of a column for each unit."""
        return np.concatenate([member.values(name) for member in self.members])

    def areas(self, name: str, area_map: Mapping[str, str]) -> np.ndarray:
        """Return the area of each unit."""
        return np.concatenate([member.areas(name, area_map) for member in self.members])


def side_by_side(names: Sequence[str], members: list[Population]) -> Populations:
    """Return several populations as one, with units named `name/unit`."""
    called = [f"{name}/{unit}" for name, member in zip(names, members, strict=True) for unit in member.names]
    return Populations(called, members)


def select_units(population: Population | Populations, units_where: Mapping[str, object]) -> np.ndarray:
    """Return the positions of the units that meet all conditions."""
    n_units = len(population.names)
    kept = rows_that_meet(units_where, population.values, n_units, setting="units_where", what="unit")
    return np.flatnonzero(kept)


@dataclass(frozen=True)
class Windows:
    """Response windows in seconds after onset: one by area or for all, or several for all."""

    by_area: Mapping[str, tuple[Span, ...]]
    several: bool = False

    @classmethod
    def of(cls, window: object) -> Windows:
        """Return checked windows, from (start, stop), a list of those, or a mapping from area, or "all", to one."""
        if _is_several(window):
            spans = tuple(map(_span, cast(Sequence, window)))
            if len(set(spans)) < len(spans):
                raise ValueError(f"window has the same (start, stop) twice, got {window!r}; name each once")
            return cls({"all": spans}, several=True)
        named = window if isinstance(window, Mapping) else {"all": window}
        if not named:
            raise ValueError("window names no area; give (start, stop), or a mapping from area to it")
        return cls({str(area): (_span(span),) for area, span in named.items()})

    def as_attribute(self) -> list[float] | str:
        """Return the window in a form that netCDF can store: one window for all, or JSON."""
        if self.several:
            return json.dumps([list(span) for span in self.by_area["all"]])
        if set(self.by_area) == {"all"}:
            return list(self.by_area["all"][0])
        return json.dumps({area: list(spans[0]) for area, spans in self.by_area.items()})

    def coords(self) -> dict[str, object]:
        """Return the coords of several windows: labels such as "0.05 to 0.15 s", start and stop (s)."""
        starts, stops = np.array(self.by_area["all"]).T
        labels = [f"{start:g} to {stop:g} s" for start, stop in self.by_area["all"]]
        seconds = {"units": "s", "long_name": "after the onset"}
        named = {"window_start": starts, "window_stop": stops}
        return {"window": labels} | {name: ("window", values, seconds) for name, values in named.items()}

    def concerns(self, onsets: np.ndarray) -> list[str]:
        """Return warnings if windows, compared with the gaps between onsets, or onsets seem to be in milliseconds."""
        gap = float(np.median(np.diff(np.sort(onsets)))) if len(onsets) > 1 else np.inf
        spans = dict.fromkeys(span for spans in self.by_area.values() for span in spans)
        found = [
            f"window {span} is longer than the {gap:g} s between onsets (median); window is in seconds, divide by 1000 "
            "if milliseconds are meant"
            for span in spans
            if span[1] - span[0] > max(gap, LONG)
        ]
        if len(onsets) >= MANY and gap > MAX_GAP * max(stop - start for start, stop in spans):
            found.append(
                f"onsets are {gap:g} s apart (median), over {MAX_GAP} times the length of a window; if they are in "
                "milliseconds, write onsets and spike times in seconds"
            )
        return found

    def of_units(self, areas: Sequence[str] | None, n_units: int) -> dict[tuple[Span, ...], np.ndarray]:
        """Return the positions of the units of each window (of all windows together, if there are several)."""
        if areas is None and set(self.by_area) != {"all"}:
            raise ValueError(
                f"window names the areas {listed(self.by_area)}; pass area_column, which gives the area of each unit"
            )
        chosen: dict[tuple[Span, ...], list[int]] = {}
        for unit, area in enumerate(["all"] * n_units if areas is None else areas):
            spans = self.by_area.get(area) or self.by_area.get("all")
            if spans is None:
                raise ValueError(
                    f"no window for area {str(area)!r}; window has {listed(self.by_area)}: add it, or 'all', or leave "
                    "its units out by units_where"
                )
            chosen.setdefault(spans, []).append(unit)
        return {spans: np.array(units) for spans, units in chosen.items()}


def _is_several(window: object) -> bool:
    """Return whether a window is a list of windows, not (start, stop)."""
    if isinstance(window, np.ndarray):
        return window.ndim == 2
    is_list = isinstance(window, list | tuple) and len(window) > 0
    return is_list and all(isinstance(each, list | tuple | np.ndarray) for each in cast(Sequence, window))


def _span(span: object) -> Span:
    try:
        given = np.asarray(span if isinstance(span, list | tuple | np.ndarray) else np.nan, dtype=float)
    except (TypeError, ValueError):  # not numbers, or some pairs among them
        given = np.empty(0)
    if given.shape != (2,) or not np.isfinite(given).all() or not given[0] < given[1]:
        raise ValueError(
            f"window must be (start, stop) in seconds after onset, with start before stop, or a list of these, got "
            f"{span!r}"
        )
    return float(given[0]), float(given[1])


def observed(intervals: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return a mask of windows within one of the intervals (interval, 2); intervals that touch are merged."""
    if not len(intervals):
        return np.ones(len(starts), bool)
    # Sort by start, then merge: an interval begins a new one if it starts after the latest end so far.
    begin, until = intervals[np.argsort(intervals[:, 0], kind="stable")].T
    until = np.maximum.accumulate(until)
    first = np.concatenate([[True], begin[1:] > until[:-1]])
    begin, until = begin[first], until[np.concatenate([np.flatnonzero(first)[1:] - 1, [len(until) - 1]])]
    place = np.searchsorted(begin, starts, side="right") - 1
    return (place >= 0) & (ends <= until[place])


def overlaps(intervals: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return a mask of windows that overlap any of the intervals (interval, 2)."""
    # A window overlaps if more intervals began before its end than were over by its start.
    began = np.searchsorted(np.sort(intervals[:, 0]), ends)
    over = np.searchsorted(np.sort(intervals[:, 1]), starts, side="right")
    return began > over
