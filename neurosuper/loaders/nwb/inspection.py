"""What an NWB file contains, and a call that loads it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from neurosuper._labels import as_label
from neurosuper.loaders.nwb.proposal import count_areas, propose
from neurosuper.loaders.nwb.records import Series, Table, single_values
from neurosuper.loaders.nwb.session import Kind, Session, check_source, open_session
from neurosuper.loaders.nwb.sources import Source

__all__ = ["NWBContents", "inspect_nwb"]

N_EXAMPLES = 3
KINDS_OF_IMAGES: tuple[Kind, ...] = ("template", "stack")


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
        `examples` (the most frequent ones, with their counts); its attr `n_rows` is the number of rows of that table.
    units : DataFrame
        Columns of the table of the units, in the same form; empty if the file has no responses.
    n_units : int
        Number of units.
    areas : dict of str to dict
        By column that names areas: the number of units in each area.
    series : DataFrame
        Time series by path: `kind`, `shape`, and of ROIs their number in each of the `areas`.
    index_series : DataFrame
        Which images were shown, by name: `n_shown`, the template of the `images`, and the number of `n_images`.
    images : DataFrame
        Templates of stimuli, and other stacks of images, by name: `n_images`, and whether they are `in_file`.
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
    >>> arguments = {"window": (0.05, 0.25)}
    >>> print(NWBContents("a.nwb", "pynwb", {}, empty, 3, {}, empty, empty, empty, arguments, "").proposed_call)
    import neurosuper as ns
    responses = ns.load_nwb('a.nwb', window=(0.05, 0.25))
    """

    source: str
    reader: str
    intervals: Mapping[str, pd.DataFrame]
    units: pd.DataFrame
    n_units: int
    areas: Mapping[str, Mapping[str, int]]
    series: pd.DataFrame
    index_series: pd.DataFrame
    images: pd.DataFrame
    arguments: Mapping[str, Any]
    remark: str = field(default="")

    @property
    def proposed_call(self) -> str:
        """Two lines of Python that load the responses (the presentations if there are none); "" if none is proposed."""
        if not self.arguments:
            return ""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        has_responses = "window" in self.arguments
        result, function = ("responses", "load_nwb") if has_responses else ("shown", "loaders.load_presentations")
        return f"import neurosuper as ns\n{result} = ns.{function}({self.source!r}, {settings})"

    def __repr__(self) -> str:
        lines = [f"{self.source}, read by {self.reader}", "", "Tables of presentations (intervals)"]
        for path, columns in self.intervals.items():
            lines += [f"  {path}: {columns.attrs['n_rows']:,} rows", *_describe(columns)]
        lines += ["  none"] * (not self.intervals) + ["", f"Units: {self.n_units:,}", *_describe(self.units)]
        for column, counts in self.areas.items():
            lines.append(f"    areas by {column}: {_describe_counts(counts)}")
        tables = {
            "Time series": self.series,
            "Images that were shown (IndexSeries)": self.index_series,
            "Images (templates of stimuli, and other stacks)": self.images,
        }
        for heading, table in tables.items():
            lines += ["", heading]
            lines += [f"  {line}" for line in table.to_string().splitlines()] if len(table) else ["  none"]
        if self.arguments:
            what = "responses (window: seconds after onset)" if "window" in self.arguments else "presentations"
            lines += ["", f"To load the {what}; check whether this is what you mean:"]
            lines += [f"  {line}" for line in self.proposed_call.splitlines()]
        return "\n".join([*lines, *(["", self.remark] if self.remark else [])])


def inspect_nwb(
    path: str | Path | BinaryIO,
    *,
    companion: str | Path | BinaryIO | None = None,
    labels: Iterable[str] = (),
    allow_external: bool = False,
) -> NWBContents:
    """Return what an NWB file contains: tables of presentations, units, time series, images; and how to load it.

    The proposal is a guess from names and values. The column that names the stimuli is the one with most values among
    `labels`, else one whose name suggests images and whose values differ. The window begins 50 ms after the onset (at
    the onset for imaging), and is as long as a presentation, but 50 to 500 ms.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
        Columns of its tables are read, but no responses.
    companion : path or binary file object, optional
        Another NWB file of the session, which contains the responses: its units and time series are listed.
    labels : iterable of str, optional
        Names of your images, such as `images.stimulus.values`; a column may add the extension of the files.
    allow_external : bool, optional
        As in `load_nwb`.

    Returns
    -------
    NWBContents
        Printed, it is a listing. Its `proposed_call` is Python that runs as it is, its `arguments` are those of this
        call.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `load_nwb`: no such file, not NWB, or damaged.

    See Also
    --------
    load_nwb : Load the responses.
    neurosuper.loaders.load_presentations : List the presentations.
    neurosuper.loaders.load_nwb_images : Load the images that the file contains.

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
    path, companion = check_source(path), companion and check_source(companion)
    with ExitStack() as stack:
        session = stack.enter_context(open_session(path, allow_external=allow_external))
        other = session
        if companion is not None:
            other = stack.enter_context(open_session(companion, allow_external=allow_external))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # loading will show them
        found = propose(session, other, set(labels))
        arguments = found.arguments
        if companion is not None and found.source is not None and "window" in arguments:
            arguments = arguments | {"companion": _shown_path(companion, other)}
        if allow_external and arguments:
            arguments = arguments | {"allow_external": True}
        tables: dict[str, Table] = dict(_open_all(session, "intervals"))
        return NWBContents(
            _shown_path(path, session),
            session.reader,
            {name: _summarize(table) for name, table in tables.items()},
            pd.DataFrame() if found.source is None else _summarize(_table_of(found.source)),
            0 if found.source is None else len(found.source.population.names),
            {} if found.source is None else dict(count_areas(found.source)),
            _list_series(other),
            _list_index_series(session),
            _list_images(session),
            arguments,
            found.remark,
        )


def _shown_path(source: str | Path | BinaryIO, session: Session) -> str:
    return str(source) if isinstance(source, str | Path) else session.name


def _open_all(session: Session, kind: Kind) -> Iterator[tuple[str, Any]]:
    for path, opened in session.found(kind).items():
        yield path, opened()


def _list_series(session: Session) -> pd.DataFrame:
    rows = {path: (each.kind, np.shape(each.data), _areas_of_rois(each)) for path, each in _open_all(session, "series")}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["kind", "shape", "areas"])


def _areas_of_rois(series: Series) -> str:
    """Return the area of the imaging plane of a series and its number of ROIs, "" if it has no ROIs or no area."""
    table = None if series.rois is None else series.rois.table
    if series.rois is None or table is None or not table.location:
        return ""
    return _describe_counts({table.location: len(series.rois.data)})


def _list_index_series(session: Session) -> pd.DataFrame:
    rows = {
        path: (len(each.data), each.images.name if each.images else "", each.images.n if each.images else None)
        for path, each in _open_all(session, "index_series")
        if each.kind == "IndexSeries" and each.data is not None
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n_shown", "images", "n_images"])


def _list_images(session: Session) -> pd.DataFrame:
    rows: dict[str, tuple[int | None, bool]] = {}
    for kind in KINDS_OF_IMAGES:
        for path, each in _open_all(session, kind):
            rows.setdefault(path, (each.n, each.pixels is not None))  # a template hides a stack of the same name
    return pd.DataFrame.from_dict(rows, orient="index", columns=["n_images", "in_file"])


def _describe_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name!r} {n}" for name, n in counts.items())


def _describe(columns: pd.DataFrame) -> Iterator[str]:
    """Yield a line per column of a table."""
    for name, column in columns.iterrows():
        yield f"    {name}: {column.n_values:,} values, {column.examples}" if column.n_values else f"    {name}"


def _summarize(table: Table) -> pd.DataFrame:
    """Return the columns of a table: how many different values each has, and examples."""
    rows = {name: _examples(table, name) for name in table.columns}
    summary = pd.DataFrame.from_dict(rows, orient="index", columns=["n_values", "examples"])
    summary.attrs["n_rows"] = table.n_rows
    return summary


def _examples(table: Table, name: str) -> tuple[int, str]:
    """Return the number of different values of a column, and the most frequent ones with their counts."""
    try:
        values, counts = np.unique(single_values(table, name), return_counts=True)
    except ValueError:  # not one readable value per row
        return 0, ""
    most = np.argsort(-counts, kind="stable")[:N_EXAMPLES]
    shown = [
        _example(value) + (f" (×{n})" if n > 1 else "")
        for value, n in zip(values[most].tolist(), counts[most].tolist(), strict=True)
    ]
    return len(values), ", ".join(shown)


def _example(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else as_label(value)


def _table_of(source: Source) -> Table:
    """Return the table that describes the units."""
    members = getattr(source.population, "members", [source.population])
    return members[0].table
