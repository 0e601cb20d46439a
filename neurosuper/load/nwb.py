"""NWB: what each unit of one session did after each presentation, from the Units table and a table of intervals.

Columns are taken by name and nothing else of the Units table is read: waveforms and amplitudes may be gigabytes.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from numbers import Real
from pathlib import Path
from typing import Literal, cast

import numpy as np
import xarray as xr
from hdmf.build import ConstructError
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex
from pynwb import NWBHDF5IO, NWBFile

from neurosuper.load.array import as_label
from neurosuper.responses import check_responses, name_some

__all__ = ["load_nwb"]

MEASURES = {"rate": "spikes/s", "count": "spike count"}
OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
UNREADABLE = (OSError, KeyError, TypeError, ValueError, ConstructError)


def load_nwb(
    path: str | Path,
    *,
    stimulus_column: str,
    window: tuple[float, float],
    presentations: str = "trials",
    units_where: Mapping[str, object] | None = None,
    area_column: str | None = None,
    blanks: Collection[object] | str | float = (),
    measure: Literal["rate", "count"] = "rate",
) -> xr.DataArray:
    """Load the responses of sorted units from the Units table of an NWB file.

    Parameters
    ----------
    path : path of an .nwb file
    stimulus_column : str
        Column of the table of presentations that names the image.
    window : (start, stop)
        Seconds after onset (`start_time`); a spike at `start` counts, one at `stop` does not.
    presentations : str, optional
        Name of the table of intervals, one row a presentation.
    units_where : mapping of column to condition, optional
        Keep the units that meet all conditions on columns of the Units table: a value, a list of allowed values, or
        `(operator, number)` (in a study file: a list of the two) with one of == != < <= > >=, such as
        `{"quality": "good", "snr": (">=", 2)}`.
    area_column : str, optional
        Column that names the area: of the Units table, else of the electrodes that the units refer to (several areas of
        one unit are joined with "/", and a unit without electrodes has area "").
    blanks : value or collection of values, optional
        Stimuli to leave out, such as -1 or "grey". Presentations without a label or onset (NaN) are always left out.
    measure : {"rate", "count"}, optional
        Spikes per second, or their number in the window.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        float32, in spikes/s or spike count. Stimuli are in order of number where all labels are numbers, else of text;
        repetitions in order of time, NaN where a stimulus has fewer. Units are named by their id and carry `n_spikes`
        (in the whole session; a silent unit is kept) and, where asked for, `area`. `attrs` state window, session and
        how many presentations were used (`n_presentations`), blank (`n_blanks`), or without label or onset
        (`n_missing`).

    Raises
    ------
    FileNotFoundError
        No file there.
    ValueError
        A file that is not NWB, no Units table, no such table, column or operator, a window that does not end after it
        starts, another measure, or no presentation or unit left.

    Warns
    -----
    UserWarning
        Spike times of a unit are not in order (they are sorted), or no spike falls into any window.

    Examples
    --------
    >>> import datetime, pathlib, pynwb, tempfile
    >>> nwb = pynwb.NWBFile("two trials", "demo", datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))
    >>> nwb.add_trial_column("image", "base name of the image file")
    >>> nwb.add_trial(start_time=1.0, stop_time=1.5, image="cat")
    >>> nwb.add_trial(start_time=2.0, stop_time=2.5, image="owl")
    >>> nwb.add_unit(spike_times=[1.1, 1.2, 2.1], id=7)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.nwb")
    >>> with pynwb.NWBHDF5IO(path, "w") as file:
    ...     file.write(nwb)
    >>> load_nwb(path, stimulus_column="image", window=(0.05, 0.25)).sel(unit="7").values.tolist()
    [[10.0], [5.0]]
    """
    path, (start, stop) = Path(path), _check_window(window)
    if measure not in MEASURES:
        raise ValueError(f"measure must be 'rate' or 'count', got {measure!r}")
    with _open_nwb(path) as nwb:
        trains, coords = _read_units(nwb, path, units_where or {}, area_column)
        onsets, labels, tally = _read_presentations(_find_table(nwb, presentations, path), stimulus_column, blanks)
        session = {"dataset": nwb.identifier, "session_start_time": nwb.session_start_time.isoformat()}
    per = stop - start if measure == "rate" else 1.0
    values = [(count_spikes(train, onsets, start, stop) / per).astype(np.float32) for train in trains]
    if not any(column.any() for column in values):
        warnings.warn(
            f"no spike falls into any window of {path.name}; window is in seconds, got {window}", stacklevel=2
        )
    stimuli, arranged = _arrange(np.stack(values, axis=-1), onsets, labels)
    attrs = {"units": MEASURES[measure], "modality": "spikes", "measure": measure, "window": [start, stop]}
    origin = {"source": path.name, "presentations": presentations, "stimulus_column": stimulus_column}
    responses = xr.DataArray(arranged, dims=("stimulus", "repetition", "unit"), coords={"stimulus": stimuli} | coords)
    return check_responses(responses.assign_attrs(attrs | session | origin | tally))


def count_spikes(spikes: np.ndarray, onsets: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Return how many of the sorted spikes fall into [onset + start, onset + stop) of each onset, all in seconds."""
    return np.searchsorted(spikes, onsets + stop) - np.searchsorted(spikes, onsets + start)


def _check_window(window: tuple[float, float]) -> tuple[float, float]:
    if np.shape(window) != (2,) or not np.isfinite(window).all() or not window[0] < window[1]:
        raise ValueError(f"window must be (start, stop) in seconds after onset, with start before stop, got {window!r}")
    return float(window[0]), float(window[1])


@contextmanager
def _open_nwb(path: Path) -> Iterator[NWBFile]:
    if not path.is_file():
        raise FileNotFoundError(f"no NWB file at {path}; check the path")
    with ExitStack() as stack:
        try:
            nwb = stack.enter_context(NWBHDF5IO(path, "r")).read()
        except UNREADABLE as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"{path} cannot be read as NWB: {reason}; fetch it again if it was cut short or is a git-lfs pointer, "
                "else install a newer pynwb or the ndx extension that it names"
            ) from error
        yield nwb


def _listing(value: object) -> list:
    """Return one value, or the values of any collection, as a list."""
    several = isinstance(value, Collection) and not isinstance(value, str | bytes)
    return list(cast(Collection, value)) if several else [value]


def _find_table(nwb: NWBFile, name: str, path: Path) -> DynamicTable:
    tables = dict(nwb.intervals)
    if name not in tables:
        raise ValueError(f"no table of presentations {name!r} in {path.name}; it has {_listed(tables)}")
    return tables[name]


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _column(table: DynamicTable, name: str) -> np.ndarray:
    """Return one column, text decoded."""
    if name not in table.colnames:
        raise ValueError(f"no column {name!r} in table {table.name!r}; it has {_listed(table.colnames)}")
    column = table[name]
    if isinstance(column, VectorIndex | DynamicTableRegion) or len(np.shape(column.data)) != 1:
        raise ValueError(f"column {name!r} of table {table.name!r} has no single value a row; name another column")
    values = np.asarray(column[:])
    return np.array([as_label(value) for value in values]) if values.dtype.kind in "SO" else values


def _read_presentations(
    table: DynamicTable, column: str, blanks: Collection[object] | str | float
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Return onset (s) and label of every presentation to keep, and how many there are of each kind."""
    names, onsets = _column(table, column), _column(table, "start_time").astype(float)
    labels = np.array([as_label(name) for name in names], dtype=str)
    missing = np.isnan(onsets) | (names != names) | (labels == "")
    blank = np.isin(labels, [as_label(value) for value in _listing(blanks)]) & ~missing
    kept = ~(missing | blank)
    tally = {"n_presentations": int(kept.sum()), "n_blanks": int(blank.sum()), "n_missing": int(missing.sum())}
    if not kept.any():
        raise ValueError(
            f"no presentation left of {len(labels)} in table {table.name!r}: {tally['n_blanks']} blank, "
            f"{tally['n_missing']} without label or onset; check stimulus_column and blanks"
        )
    return onsets[kept], labels[kept], tally


def _read_units(
    nwb: NWBFile, path: Path, units_where: Mapping[str, object], area_column: str | None
) -> tuple[list[np.ndarray], dict[str, object]]:
    """Return the spike times (s) and the coords of the units kept."""
    units = nwb.units
    if units is None or not isinstance(units.get("spike_times"), VectorIndex):
        raise ValueError(
            f"no Units table with spike times in {path.name}; its spikes may lie in a companion file, or under "
            "processing, which load_nwb does not read"
        )
    kept = _select_units(units, units_where)
    trains = _spike_trains(units, kept)
    coords: dict[str, object] = {
        "unit": [as_label(unit) for unit in np.asarray(units.id[:])[kept]],
        "n_spikes": ("unit", [len(train) for train in trains]),
    }
    if area_column is not None:
        coords["area"] = ("unit", _areas(nwb, area_column)[kept])
    return trains, coords


def _select_units(units: DynamicTable, units_where: Mapping[str, object]) -> np.ndarray:
    """Return which units meet all conditions."""
    passed = {column: _meets(_column(units, column), wanted, column) for column, wanted in units_where.items()}
    kept = np.logical_and.reduce([np.ones(len(units), bool), *passed.values()])
    if not kept.any():
        told = ", ".join(f"{column} keeps {mask.sum()}" for column, mask in passed.items()) or "the table is empty"
        raise ValueError(f"no unit left of {len(units)}: {told}; loosen units_where")
    return kept


def _meets(values: np.ndarray, wanted: object, column: str) -> np.ndarray:
    if isinstance(wanted, list) and len(wanted) == 2 and wanted[0] in list(OPERATORS):
        wanted = tuple(wanted)
    if not isinstance(wanted, tuple):
        allowed = _listing(wanted)
        return np.array([value in allowed for value in values.tolist()], dtype=bool)
    if len(wanted) != 2 or wanted[0] not in OPERATORS:
        raise ValueError(
            f"units_where[{column!r}] is {wanted!r}; a condition is a value, a list of values, or (operator, number) "
            f"with one of {' '.join(OPERATORS)}"
        )
    if values.dtype.kind not in "biuf" or not isinstance(wanted[1], Real):
        raise ValueError(
            f"units_where[{column!r}] compares {values.dtype} with {wanted[1]!r}; operators compare numbers, "
            "give a value or a list of values instead"
        )
    return OPERATORS[wanted[0]](values, wanted[1])


def _split_rows(column: VectorIndex) -> list[np.ndarray]:
    """Return the values of every row of a ragged column, from one flat read."""
    stops = np.asarray(column.data[:], np.int64)
    return np.split(column.target.data[:], stops)[:-1]


def _spike_trains(units: DynamicTable, kept: np.ndarray) -> list[np.ndarray]:
    """Return the sorted spike times (s) of the units kept."""
    trains = [train for train, keep in zip(_split_rows(units["spike_times"]), kept, strict=True) if keep]
    if disordered := [i for i, train in enumerate(trains) if not (np.diff(train) >= 0).all()]:
        ids = np.asarray(units.id[:])[kept][disordered]
        warnings.warn(f"spike times are not in order and were sorted, in unit {name_some(ids)}", stacklevel=3)
        for i in disordered:
            trains[i] = np.sort(trains[i])
    return trains


def _areas(nwb: NWBFile, name: str) -> np.ndarray:
    """Return the area of every unit, of the table itself or through its electrodes."""
    units, electrodes = nwb.units, nwb.electrodes
    if name in units.colnames:
        return np.array([as_label(area) for area in _column(units, name)])
    known = electrodes.colnames if electrodes is not None and "electrodes" in units.colnames else ()
    if name not in known:
        raise ValueError(
            f"no area_column {name!r}: the Units table has {_listed(units.colnames)}, and the electrodes that it "
            f"refers to have {_listed(known)}"
        )
    area_of = np.array([as_label(area) for area in _column(electrodes, name)])
    region = units["electrodes"]
    rows = _split_rows(region) if isinstance(region, VectorIndex) else np.asarray(region.data[:])[:, np.newaxis]
    return np.array(["/".join(np.unique(area_of[row])) for row in rows])


def _arrange(values: np.ndarray, onsets: np.ndarray, labels: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the stimuli in order, and values (presentation, unit) as (stimulus, repetition, unit)."""
    stimuli, which = np.unique(labels, return_inverse=True)
    repeats = np.bincount(which)
    rows_of = np.split(np.lexsort((onsets, which)), np.cumsum(repeats)[:-1])
    order = _number_order(stimuli)
    arranged = np.full((len(stimuli), repeats.max(), values.shape[-1]), np.nan, values.dtype)
    for place, stimulus in zip(arranged, order, strict=True):
        place[: repeats[stimulus]] = values[rows_of[stimulus]]
    return stimuli[order].tolist(), arranged


def _number_order(labels: np.ndarray) -> np.ndarray:
    """Return the order by number where all labels are numbers, else as they are."""
    try:
        return np.argsort(labels.astype(float), kind="stable")
    except ValueError:
        return np.arange(len(labels))
