"""What an NWB file contains, and a proposal of how to load it: which columns name stimuli and areas, and a window."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from neurosuper._labels import as_label, without_suffixes
from neurosuper.loaders.nwb.presentations import Presentations, read_presentations
from neurosuper.loaders.nwb.records import Table, Template, single_values
from neurosuper.loaders.nwb.session import Kind, Session, open_session
from neurosuper.loaders.nwb.sources import Source, open_source

__all__ = ["NWBContents", "inspect_nwb"]

NOT_STIMULI = re.compile(r"start|stop|onset|offset|time|duration|trial|block|index_in|tags|color|contrast")
STIMULI = tuple(map(re.compile, ("image", "picture|photo|scene", "stim", "frame|object|file", "name|label|identity")))
TIMES = ("start_time", "stop_time")
AREAS = ("area", "brain_area", "location", "brain_region", "region", "structure_acronym", "ecephys_structure_acronym")
RESPONSES = re.compile(r"df|raster|deconv|fluorescence|roiresponse|spike|event", re.IGNORECASE)
BLANKS = {"-1", "blank", "grey", "gray", "spontaneous"}
LATENCY = 0.05  # s; the first spikes of the ventral stream come 50 ms after the onset
SHORTEST, LONGEST = 0.05, 0.5  # s; a shorter window has few spikes, a longer one more than the response to one image
FEWEST_FRAMES = 2
N_EXAMPLES = 3
Rank = tuple[int, int, int]


@dataclass(frozen=True, repr=False)
class NWBContents:
    """What an NWB file contains, as returned by `inspect_nwb`; printed, it is a listing.

    Parameters
    ----------
    source : str
        The file.
    reader : str
        "pynwb", or "h5py" with the reason why pynwb refused the file.
    intervals : dict of str to DataFrame
        Every table of intervals by its path. A row is a column of that table, with `n_values` (different ones) and
        `examples`; its attr `n_rows` is the number of rows of that table.
    units : DataFrame
        Columns of the table of the units, in the same form; empty if the file has no responses.
    n_units : int
        Number of units.
    areas : dict of str to dict
        By column that names areas: the number of units in each area.
    series : DataFrame
        Time series by path: `kind` and `shape`.
    images : DataFrame
        Templates of stimuli by name: `n_images`, and whether they are `in_file`.
    arguments : dict
        Proposed arguments of `load_nwb`, without a window if the file has no responses; empty if no stimuli are named.
    remark : str
        What is missing.

    See Also
    --------
    inspect_nwb : Returns it.

    Examples
    --------
    >>> empty = pd.DataFrame()
    >>> NWBContents("a.nwb", "pynwb", {}, empty, 3, {}, empty, empty, {"window": (0.05, 0.25)}, "").call
    "neurosuper.load_nwb('a.nwb', window=(0.05, 0.25))"
    """

    source: str
    reader: str
    intervals: Mapping[str, pd.DataFrame]
    units: pd.DataFrame
    n_units: int
    areas: Mapping[str, Mapping[str, int]]
    series: pd.DataFrame
    images: pd.DataFrame
    arguments: Mapping[str, Any]
    remark: str = field(default="")

    @property
    def call(self) -> str:
        """The proposed call of `load_nwb` (`load_presentations` if there are no responses), as text; "" if none."""
        if not self.arguments:
            return ""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        function = "load_nwb" if "window" in self.arguments else "loaders.load_presentations"
        return f"neurosuper.{function}({self.source!r}, {settings})"

    def __repr__(self) -> str:
        lines = [f"{self.source}, read by {self.reader}", "", "Tables of presentations (intervals)"]
        for path, columns in self.intervals.items():
            lines += [f"  {path}: {columns.attrs['n_rows']:,} rows", *_describe(columns)]
        lines += ["  none"] * (not self.intervals) + ["", f"Units: {self.n_units:,}", *_describe(self.units)]
        for column, counts in self.areas.items():
            lines.append(f"    areas by {column}: " + ", ".join(f"{area!r} {n}" for area, n in counts.items()))
        for heading, table in (("Time series", self.series), ("Images (templates of stimuli)", self.images)):
            lines += ["", heading]
            lines += [f"  {line}" for line in table.to_string().splitlines()] if len(table) else ["  none"]
        if self.arguments:
            what = "responses (window: seconds after onset)" if "window" in self.arguments else "presentations"
            lines += ["", f"To load the {what}; check whether this is what you mean:", f"  {self.call}"]
        return "\n".join([*lines, *(["", self.remark] if self.remark else [])])


def inspect_nwb(
    path: str | Path | BinaryIO, *, labels: Iterable[str] = (), allow_external: bool = False
) -> NWBContents:
    """Return what an NWB file contains: tables of presentations, units, time series, images; and how to load it.

    The proposal is a guess from names and values. The column that names the stimuli is the one with most values among
    `labels`, else one whose name suggests images and whose values differ. The window begins 50 ms after the onset (at
    the onset for imaging), and is as long as a presentation, but 50 to 500 ms.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
        Columns of its tables are read, but no responses.
    labels : iterable of str, optional
        Names of your images, such as `images.stimulus.values`; a column may add the extension of the files.
    allow_external : bool, optional
        As in `load_nwb`.

    Returns
    -------
    NWBContents
        Printed, it is a listing. Its `call` is the proposed call of `load_nwb`, its `arguments` those of this call.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `load_nwb`: no such file, not NWB, or damaged.

    See Also
    --------
    load_nwb : Load the responses.
    load_presentations : List the presentations.
    load_nwb_images : Load the images that the file contains.

    Examples
    --------
    >>> import datetime, pathlib, pynwb, tempfile
    >>> nwb = pynwb.NWBFile("two trials", "demo", datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))
    >>> nwb.add_trial_column("image", "base name of the image file")
    >>> nwb.add_trial(start_time=1.0, stop_time=1.2, image="cat")
    >>> nwb.add_trial(start_time=2.0, stop_time=2.2, image="owl")
    >>> nwb.add_unit(spike_times=[1.1, 1.2, 2.1], id=7)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.nwb")
    >>> with pynwb.NWBHDF5IO(path, "w") as file:
    ...     file.write(nwb)
    >>> inspect_nwb(path).arguments
    {'presentations': 'trials', 'stimulus_column': 'image', 'window': (0.05, 0.25)}
    """
    with open_session(path, allow_external=allow_external) as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loading will show them
        tables = {name: opened() for name, opened in session.found("intervals").items()}
        templates: dict[str, Template] = {name: opened() for name, opened in session.found("template").items()}
        named = set(labels) or {name for each in templates.values() if each.pixels is not None for name in _names(each)}
        stimuli = _propose_stimuli(session, tables, named)
        series, source, remark = _propose_source(session)
        areas = {} if source is None else dict(_count_areas(source))
        if stimuli is None:
            remark = remark or "no column of a table of intervals, and no index_series, names stimuli"
        arguments = {} if stimuli is None else stimuli[0]
        if source is not None and stimuli is not None:
            arguments |= {"window": _propose_window(stimuli[1], source)} | series
            arguments |= {} if not areas else {"area_column": next(iter(areas))}
        shapes = {name: (each.kind, np.shape(each.data)) for name, each in _open_all(session, "series")}
        images = {name: (each.n, each.pixels is not None) for name, each in templates.items()}
        return NWBContents(
            str(path) if isinstance(path, str | Path) else session.name,
            session.reader,
            {name: _summarize(table) for name, table in tables.items()},
            pd.DataFrame() if source is None else _summarize(_table_of(source)),
            0 if source is None else len(source.population.names),
            areas,
            pd.DataFrame.from_dict(shapes, orient="index", columns=["kind", "shape"]),
            pd.DataFrame.from_dict(images, orient="index", columns=["n_images", "in_file"]),
            arguments,
            remark,
        )


def _open_all(session: Session, kind: Kind) -> Iterator[tuple[str, Any]]:
    for path, opened in session.found(kind).items():
        yield path, opened()


def _names(template: Template) -> list[str]:
    return template.names or [str(i) for i in range(template.n or 0)]


def _describe(columns: pd.DataFrame) -> Iterator[str]:
    """Yield a line per column of a table."""
    for name, column in columns.iterrows():
        yield f"    {name}: {column.n_values:,} values, {column.examples}" if column.n_values else f"    {name}"


def _summarize(table: Table) -> pd.DataFrame:
    """Return the columns of a table: how many different values each has, and examples."""
    rows = {}
    for name in table.columns:
        values = _values(table, name)
        rows[name] = (
            (0, "") if values is None else (len(values), ", ".join(map(_example, values[:N_EXAMPLES].tolist())))
        )
    summary = pd.DataFrame.from_dict(rows, orient="index", columns=["n_values", "examples"])
    summary.attrs["n_rows"] = table.n_rows
    return summary


def _example(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else as_label(value)


def _values(table: Table, name: str) -> np.ndarray | None:
    """Return the different values of a column; None if it does not have a single readable value per row."""
    try:
        return np.unique(single_values(table, name))
    except ValueError:
        return None


def _propose_stimuli(
    session: Session, tables: Mapping[str, Table], labels: set[str]
) -> tuple[dict[str, Any], Presentations] | None:
    """Return the best arguments that name stimuli, and the presentations that they give; None if there are none."""
    ranked = [*_rank_columns(tables, labels), *_rank_index_series(session, tables, labels)]
    for _, arguments in sorted(ranked, key=lambda each: each[0]):
        if (shown := _try_presentations(session, arguments)) is not None:
            return arguments, shown
    return None


def _try_presentations(session: Session, arguments: Mapping[str, Any]) -> Presentations | None:
    settings = {"presentations": None, "stimulus_column": None, "index_series": None, "blanks": ()} | dict(arguments)
    try:
        return read_presentations(session, **settings)
    except ValueError:
        return None


def _rank_columns(tables: Mapping[str, Table], labels: set[str]) -> Iterator[tuple[Rank, dict[str, Any]]]:
    """Yield a rank (the lowest is best) and arguments for every column that may name stimuli."""
    columns = [(path, name) for path, table in tables.items() for name in table.columns if name not in TIMES]
    for path, name in columns:
        values = None if path.rpartition("/")[2] == "invalid_times" else _values(tables[path], name)
        if values is None or len(values) < 2 or values.dtype.kind == "b":
            continue
        names = [as_label(value) for value in values]
        n_known = _count_known(names, labels)
        likely = next((i for i, pattern in enumerate(STIMULI) if pattern.search(name.lower())), len(STIMULI))
        is_measured = values.dtype.kind == "f" and (values % 1 != 0).any()
        if not n_known and (likely == len(STIMULI) or is_measured or NOT_STIMULI.search(name.lower())):
            continue
        blanks = [int(label) if label == "-1" else label for label in names if label.lower() in BLANKS]
        arguments = {"presentations": path, "stimulus_column": name} | ({"blanks": blanks} if blanks else {})
        yield (-n_known, likely, -len(values)), arguments


def _count_known(names: Sequence[str], labels: set[str]) -> int:
    """Return how many names are among the labels, with or without the extension of image files."""
    return max(len(labels.intersection(names)), len(labels.intersection(without_suffixes(names))))


def _rank_index_series(
    session: Session, tables: Mapping[str, Table], labels: set[str]
) -> Iterator[tuple[Rank, dict[str, Any]]]:
    """Yield the same for every IndexSeries, joined with the first table that has a row for each of its indices."""
    for path, series in _open_all(session, "index_series"):
        if series.kind != "IndexSeries":
            continue
        joined = next((name for name, table in tables.items() if table.n_rows == len(series.data)), None)
        for blanks in ({}, {"blanks": [-1]}):
            arguments = {"presentations": joined, "index_series": path} | blanks
            if (shown := _try_presentations(session, arguments)) is not None:
                yield (-_count_known(shown.images, labels), len(STIMULI), -len(shown.images)), arguments
                break


def _propose_source(session: Session) -> tuple[dict[str, Any], Source | None, str]:
    """Return arguments of `load_nwb` for the responses, the source that they open, and why if there is none."""
    try:
        return {}, open_source(session, None, None, None, has_companion=False), ""
    except ValueError as error:
        why = str(error)
    likely = [path for path, series in _open_all(session, "series") if RESPONSES.search(f"{path} {series.kind}")]
    for path in sorted(likely, key=lambda path: (re.search("df", path, re.IGNORECASE) is None, path)):
        try:
            return {"series": path}, open_source(session, path, None, None, has_companion=False), ""
        except ValueError:
            continue
    return {}, None, why


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


def _table_of(source: Source) -> Table:
    """Return the table that describes the units."""
    members = getattr(source.population, "members", [source.population])
    return members[0].table


def _count_areas(source: Source) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the columns that name areas, and the number of units in each area."""
    for column in AREAS:
        try:
            names, counts = np.unique(source.population.areas(column, {}), return_counts=True)
        except ValueError:
            continue
        yield column, dict(zip(names.tolist(), counts.tolist(), strict=True))
