"""Sources of the responses of an NWB session: the spikes of the Units table, or the columns of time series."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np

from neurosuper._labels import as_label
from neurosuper.loaders.external import check_written
from neurosuper.loaders.nwb.frames import as_columns, sum_frames
from neurosuper.loaders.nwb.records import (
    Series,
    Table,
    column_of,
    listed,
    listing,
    single_values,
    split_rows,
    stops_of,
)
from neurosuper.loaders.nwb.session import Session, find, refuse_broken_link
from neurosuper.loaders.nwb.units import Population, Populations, observed, side_by_side
from neurosuper.loaders.nwb.validate import check_intervals, check_region, check_scale
from neurosuper.loaders.recording import Recording
from neurosuper.loaders.spike_counts import count_in_windows
from neurosuper.responses import name_some

__all__ = ["Measure", "Source", "open_source"]

Measure = Literal["rate", "count", "mean"]


class Source(ABC):
    """Units that respond: spikes or time series."""

    population: Population | Populations
    interval: float = 0.0  # s between frames
    event: ClassVar[str]
    measures: ClassVar[tuple[Measure, ...]]  # the first is the default

    def __init__(self) -> None:
        self.n_events = 0
        self.omitted: Counter[str] = Counter(n_unobserved=0)

    def check_measure(self, measure: str | None) -> Measure:
        """Return the requested measure, or the default."""
        if measure is None:
            return self.measures[0]
        if measure not in self.measures:
            *most, last = map(repr, self.measures)
            raise ValueError(f"measure must be {', '.join(most)} or {last}, got {measure!r}")
        return measure

    def coords(self, kept: np.ndarray) -> dict[str, Any]:
        """Return the coords of the kept units; to be called after `respond`."""
        return {"unit": [self.population.names[unit] for unit in kept]}

    def check_names(self, kept: np.ndarray) -> None:
        """Refuse units with the same name; the error says how to name them uniquely."""
        twice = [name for name, n in Counter(self.population.names[unit] for unit in kept).items() if n > 1]
        if twice:
            raise ValueError(f"several units are called {name_some(twice)}; {self.remedy_for_names()}")

    @abstractmethod
    def remedy_for_names(self) -> str:
        """Return how to give units with the same name unique names."""

    def naming_column(self) -> str | None:
        """Return a value of unit_names that makes the names of units unique; None if they are."""
        return None

    @abstractmethod
    def respond(self, units: np.ndarray, onsets: np.ndarray, windows: np.ndarray, measure: Measure) -> np.ndarray:
        """Return the responses (unit, window, presentation) as float32, NaN if a unit was not observed.

        `windows` (window, 2) are start and stop after the onset, in seconds.
        """

    def concerns(self) -> list[str]:
        """Return warnings, one line each; to be called after `respond`."""
        return []

    @abstractmethod
    def attrs(self, measure: Measure) -> dict[str, object]:
        """Return unit of measurement, modality, and counts of omitted data."""


def open_source(
    session: Session,
    series: str | Collection[str] | None,
    unit_names: str | None,
    roi_delay_column: str | None,
    has_companion: bool,
) -> Source:
    """Return the requested source; if it is missing, the error says where the responses may be."""
    if not series:
        found = _spike_table(session, unit_names)
        if found is None:
            refuse_broken_link(session, "units", "spike_times", "spike_times_index")
            _refuse_spikes_without_index(session)
            raise ValueError(f"no Units table with spike times in {session.name}{_remedy(session, has_companion)}")
        return Spikes(session, *found, (unit_names or "").rpartition("/")[2] or None)
    names, present = [str(name) for name in listing(series)], session.found("series")
    for name in names:
        if not any(f"/{path}".endswith(f"/{name}") for path in present):
            refuse_broken_link(session, name)
            raise ValueError(f"no time series {name!r} in {session.name}{_remedy(session, has_companion)}")
    planes = [_Plane(session, name, unit_names, roi_delay_column) for name in names]
    return Frames(names, planes)


def _spike_table(session: Session, unit_names: str | None = None) -> tuple[str, Table] | None:
    """Return path and table of the spike times: the table of `unit_names`, else `units`, else the only one."""
    tables = session.found("table")
    named = (unit_names or "").rpartition("/")[0]
    paths = (
        [path for path in tables if f"/{path}".endswith(f"/{named}")] if named else sorted(tables, key="units".__ne__)
    )
    found: dict[str, Table] = {}
    for path in paths:
        table = tables[path]()
        column = table.columns.get("spike_times")
        if column is not None and column.stops is not None:
            found[path] = table
            if path == "units":
                break
    if len(found) > 1:
        raise ValueError(
            f"{session.name} has spike times in the tables {listed(found)}; name one as part of unit_names=, such as "
            f"'{next(iter(found))}/id'"
        )
    return next(iter(found.items()), None)


def _refuse_spikes_without_index(session: Session) -> None:
    opened = session.found("table").get("units")
    spikes = None if opened is None else opened().columns.get("spike_times")
    if spikes is not None:
        raise ValueError(
            f"spike_times of {session.name} has shape {np.shape(spikes.data)} and no spike_times_index; it must have "
            "the times of one unit after another, and an index of the end of each unit: write it again with pynwb's "
            "add_unit, without padding"
        )


def _remedy(session: Session, has_companion: bool) -> str:
    """Return where responses may be that are missing in a file."""
    present = session.found("series")
    if present:
        return f"; it has the time series {listed(present)}: name one as series=, or another file as companion="
    if _spike_table(session) is not None:
        return ", but spikes in a Units table: leave series= out, or pass companion="
    if has_companion:
        return ", nor any other responses; check companion="
    recording, example = PurePosixPath(session.name).stem, ""
    # Dandiset 000628 has the presentations in NAME_image.nwb and the rasters in NAME.nwb; the authors' own files are
    # called NAME-main.nwb and NAME-rasters.nwb.
    for ending, other in (("-main", "-rasters"), ("_image", "")):
        if recording.endswith(ending):
            recording = recording.removesuffix(ending)
            example = f" (such as {recording}{other}.nwb)"
    return (
        f"; its spikes are in a companion file of session {recording!r}{example}: pass companion= its path, and "
        "series= their name if they are a time series there"
    )


class Spikes(Source):
    """The spike times of the Units table."""

    event = "spike"
    measures = ("rate", "count")

    def __init__(self, session: Session, path: str, table: Table, named_by: str | None) -> None:
        super().__init__()
        electrodes = session.found("table").get("electrodes")
        names = _unit_names(table, named_by)
        self.population = Population(names, table, np.arange(len(names)), electrodes and electrodes())
        self._session, self._path, self._table = session, path, table
        self._times = column_of(table, "spike_times").data
        if len(np.shape(self._times)) != 1 or np.dtype(self._times.dtype).kind not in "iuf":
            raise ValueError(
                f"spike_times of {session.name} has {self._times.dtype} of shape {np.shape(self._times)}; it must be "
                "flat, and contain numbers of seconds"
            )
        self._stops = stops_of(table, "spike_times")
        self._where = f"obs_intervals of {session.name}"
        self._recording = Recording(self._times, self._stops, names)

    def remedy_for_names(self) -> str:
        return f"pass unit_names={self.naming_column()!r}, or keep one of each by units_where"

    def naming_column(self) -> str | None:
        names = self.population.names
        if len(set(names)) == len(names):
            return None
        ids = self._table.read_ids().tolist()
        for name, column in self._table.columns.items():
            if column.stops is None and column.table is None and len(np.shape(column.data)) == 1:
                pairs = set(zip(single_values(self._table, name).tolist(), ids, strict=True))
                if len(pairs) == len(ids):
                    return f"{self._path}/{name}"
        return f"{self._path}/row"

    def coords(self, kept: np.ndarray) -> dict[str, Any]:
        return super().coords(kept) | {"n_spikes": ("unit", self._recording.n_spikes[kept])}

    def respond(self, units: np.ndarray, onsets: np.ndarray, windows: np.ndarray, measure: Measure) -> np.ndarray:
        # One pass over the spikes counts them in the windows of all presentations.
        starts, ends = onsets + windows[:, :1], onsets + windows[:, 1:]
        found = count_in_windows(self._times, self._stops, starts.ravel(), ends.ravel(), units=units, dtype=np.float32)
        self._recording.note(units, found, starts, ends)
        counts = found.counts.reshape(len(units), *starts.shape)
        self.n_events += bool(counts.any())
        for window, (start, stop) in enumerate(windows):
            if measure == "rate":
                counts[:, window] /= float(stop - start)
            self._hide_unobserved(counts[:, window], units, starts[window], ends[window])
        return counts

    def concerns(self) -> list[str]:
        return self._recording.concerns()

    @cached_property
    def _observed(self) -> list[np.ndarray]:
        """The intervals in which each unit was observed; empty arrays if the table has none."""
        if "obs_intervals" in self._table.columns:
            check_intervals(self._table.columns["obs_intervals"].data[:], self._where)
            return split_rows(self._table, "obs_intervals")
        groups, names = ("", "processing/", "analysis/", "scratch/"), ("obs_intervals", "obs_intervals_index")
        if any(self._session.has(f"{group}{self._path}/{name}") for group in groups for name in names):
            raise ValueError(f"{self._where} is in the file, but cannot be read; repair it, or fetch it again")
        return [np.empty((0, 2))] * len(self._stops)

    def _hide_unobserved(self, values: np.ndarray, units: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        unseen: dict[bytes, np.ndarray] = {}
        for row, unit in zip(values, units, strict=True):
            intervals = self._observed[unit]
            key = intervals.tobytes()
            if key not in unseen:
                seen = observed(intervals, starts, ends) if len(intervals) else self._recording.observed(starts, ends)
                unseen[key] = np.flatnonzero(~seen)
            row[unseen[key]] = np.nan
            self.omitted["n_unobserved"] += len(unseen[key])

    def attrs(self, measure: Measure) -> dict[str, object]:
        return {
            "units": {"rate": "spikes/s", "count": "spike count"}[measure],
            "modality": "spikes",
            "measure": measure,
            **self.omitted,
        }


def _unit_names(table: Table, named_by: str | None) -> list[str]:
    """Return the names of units: their ids, or the values of another column, followed by the id if values repeat.

    "row", if there is no such column, names them by their position.
    """
    ids = [as_label(unit) for unit in table.read_ids()]
    if named_by in (None, "id"):
        return ids
    if named_by == "row" and named_by not in table.columns:
        return [str(row) for row in range(len(ids))]
    names = [as_label(name) for name in single_values(table, str(named_by))]
    return names if len(set(names)) == len(names) else [f"{name}/{unit}" for name, unit in zip(names, ids, strict=True)]


class _Plane:
    """One time series: its columns as units."""

    def __init__(self, session: Session, name: str, unit_names: str | None, delay_column: str | None) -> None:
        self.series: Series = find(session, "series", name, "time series")
        self.times = self.series.times()
        self.where = f"time series {name!r} of {session.name}"
        if self.times.ndim != 1 or not (np.diff(self.times) >= 0).all():
            raise ValueError(f"the timestamps of {self.where} are not one per frame in order; name another series")
        if not np.isfinite(self.times).all():
            raise ValueError(f"the timestamps of {self.where} are not all finite; name another series")
        check_written(self.series.data, f"data of {self.where}")
        self.frames = as_columns(self.series.data, len(self.times), self.where)
        check_scale(self.series.conversion, self.series.offset, self.frames.shape[1], self.where)
        self.population = self._units(session, unit_names)
        self.delays = None if delay_column is None else self.population.values(delay_column).astype(float)

    def _units(self, session: Session, unit_names: str | None) -> Population:
        n_columns, rois = self.frames.shape[1], self.series.rois
        if unit_names is not None:
            path, _, column = unit_names.rpartition("/")
            table = find(session, "table", path, "table of unit_names")
            names, rows = single_values(table, column).tolist(), np.arange(n_columns)
        elif rois is None:
            table, rows = Table(self.series.name, range(n_columns), {}), np.arange(n_columns)
            names = rows.tolist()
        elif rois.table is None:
            raise ValueError(f"the table of ROIs of {self.where} is missing; pass unit_names= a column that names them")
        else:
            table = rois.table
            rows = check_region(rois.data, table.n_rows, f"rois of {self.where}", f"table {table.name!r}")
            ids = table.read_ids()
            if len(np.unique(ids)) < len(ids):
                raise ValueError(
                    f"{table.called('id')} contains an id twice; pass unit_names= a column that names them"
                )
            names = ids[rows].tolist()
        if len(names) != n_columns:
            raise ValueError(f"{self.where} has {n_columns} columns, but {len(names)} names of units; check unit_names")
        return Population([as_label(name) for name in names], table, rows)


class Frames(Source):
    """The columns of time series, each with its own times."""

    event = "frame"
    measures = ("mean", "rate", "count")

    def __init__(self, names: list[str], planes: list[_Plane]) -> None:
        super().__init__()
        self._names, self._planes = names, planes
        self.interval = max(float(np.median(np.diff(plane.times))) if len(plane.times) > 1 else 0.0 for plane in planes)
        self.omitted["n_nan_frames"] = 0
        sizes = [len(plane.population.rows) for plane in planes]
        self._starts = np.cumsum([0, *sizes])
        populations = [plane.population for plane in planes]
        self.population = populations[0] if len(populations) == 1 else side_by_side(names, populations)

    def remedy_for_names(self) -> str:
        return "pass unit_names='table/column' that names each column of the series, or repair the file"

    def respond(self, units: np.ndarray, onsets: np.ndarray, windows: np.ndarray, measure: Measure) -> np.ndarray:
        by_plane = []
        for plane, first, stop in zip(self._planes, self._starts, self._starts[1:], strict=False):
            columns = units[(units >= first) & (units < stop)] - first
            if len(columns):
                by_plane.append(self._respond(plane, columns, onsets, windows, measure))
        return by_plane[0] if len(by_plane) == 1 else np.concatenate(by_plane)

    def _respond(
        self, plane: _Plane, columns: np.ndarray, onsets: np.ndarray, windows: np.ndarray, measure: Measure
    ) -> np.ndarray:
        delays = None if plane.delays is None else plane.delays[columns]
        starts, ends = onsets + windows[:, :1], onsets + windows[:, 1:]
        frames = sum_frames(plane.frames, plane.times, columns, starts.ravel(), ends.ravel(), delays)
        conversion = np.broadcast_to(plane.series.conversion, plane.frames.shape[1])[columns, np.newaxis]
        # NWB: value = data · conversion + offset. Summed over n frames: Σ data · conversion + n · offset.
        values = frames.totals * conversion + frames.n_frames * plane.series.offset
        unseen = frames.n_frames == 0
        if measure == "mean":
            values /= np.maximum(frames.n_frames, 1)
        else:
            unseen |= ~self._within(plane.times, starts.ravel(), ends.ravel())
        if measure == "rate":
            values /= np.repeat(np.diff(windows), len(onsets))
        values[unseen] = np.nan
        self.n_events += int((~unseen).any())
        self.omitted.update(n_unobserved=int(unseen.sum()), n_nan_frames=frames.n_nan)
        return values.astype(np.float32).reshape(len(columns), *starts.shape)

    def concerns(self) -> list[str]:
        n = 0 if self.n_events else self.omitted["n_nan_frames"]
        return [f"{n} values in windows are NaN or infinite and were left out"] if n else []

    @staticmethod
    def _within(times: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return a mask of windows within the recording: sums over an incomplete window would be too small."""
        # The last frame lasts as long as the others; 1e-6 of a frame allows for rounding of times.
        frame = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        return (starts >= times[0] - 1e-6 * frame) & (ends <= times[-1] + (1 + 1e-6) * frame)

    def attrs(self, measure: Measure) -> dict[str, object]:
        series = self._planes[0].series
        is_roi = series.kind == "RoiResponseSeries"
        unit = "a.u." if series.unit.lower() in ("", "n.a.", "n/a", "na", "unknown") else series.unit
        if measure == "mean":
            units = unit
        elif is_roi:
            units = f"{unit}/s" if measure == "rate" else unit
        else:
            units = "spikes/s" if measure == "rate" else "spike count"
        modality = "calcium imaging" if is_roi else "time series" if measure == "mean" else "spikes"
        names = self._names[0] if len(self._names) == 1 else self._names
        return {"units": units, "modality": modality, "measure": measure, "series": names, **self.omitted}
