"""Responses of each unit of one NWB session to each presentation: spikes, or a time series such as dF/F or a raster.

Only the named columns of a table are read: waveforms and amplitudes may be gigabytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xarray as xr

from neurosuper.loaders.arrange import arrange
from neurosuper.loaders.nwb.presentations import Presentations, read_presentations
from neurosuper.loaders.nwb.records import time_values
from neurosuper.loaders.nwb.session import Session, check_source, open_session
from neurosuper.loaders.nwb.sources import Measure, Source, open_source
from neurosuper.loaders.nwb.units import Span, Window, Windows, overlaps, select_units
from neurosuper.loaders.nwb.validate import check_intervals
from neurosuper.responses import check_windows

__all__ = ["load_nwb", "load_presentations"]


def load_nwb(
    path: str | Path | BinaryIO,
    *,
    window: Window,
    presentations: str | None = "trials",
    stimulus_column: str | None = None,
    index_series: str | None = None,
    onset_column: str | None = None,
    presentations_where: Mapping[str, object] | None = None,
    blanks: Collection[object] | str | float = (),
    measure: Measure | None = None,
    series: str | Collection[str] | None = None,
    companion: str | Path | BinaryIO | None = None,
    unit_names: str | None = None,
    units_where: Mapping[str, object] | None = None,
    area_column: str | None = None,
    area_map: Mapping[str, str] | None = None,
    roi_delay_column: str | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return the responses of sorted units, or of ROIs, from an NWB file.

    pynwb reads the file; if it refuses, h5py reads the paths that are needed, and `attrs["reader"]` gives the reason.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
        Or what h5py or pynwb opened from a path (`h5py.File`, `NWBFile`, `NWBHDF5IO`): the file is opened again. From
        a stream, only the necessary data are read: the spikes of the selected units, the frames in windows.
    window : (start, stop), mapping of area to that, or list of (start, stop)
        Seconds after onset; a spike (or frame) at `start` counts, one at `stop` does not. In a mapping, "all" is for
        the areas that are not named. A list of windows gives responses with the dim `window`.
    presentations : str, optional
        Table of intervals, one row per presentation. None: the timestamps of `index_series` are the onsets.
    stimulus_column : str, optional
        Column of that table that names the image. Numbers written as text are read as numbers if all labels are such.
    index_series : str, optional
        IndexSeries that names the image instead: by its name in the template (for an external file, the base name
        without extension), else by its index. With a table of presentations, the two are joined row by row.
    onset_column : str, optional
        Column of the table of presentations with the onset of the stimulus in seconds from the start of the session,
        such as that of a photodiode; by default "start_time".
    presentations_where : mapping of column to condition, optional
        Keep the presentations that meet all conditions on columns of their table, in the form of `units_where`, such
        as `{"correct": True, "start_time": [(">=", 60), ("<", 600)]}`.
    blanks : value or collection of values, optional
        Stimuli to leave out, such as -1 (also as 65535 or 4294967295, which is −1 as an unsigned number) or "grey".
        Presentations without a label or onset (NaN or infinite) are always left out.
    measure : {"rate", "count", "mean"}, optional
        Spikes per second (the default for spikes) or their number in the window. Of a time series, the mean over the
        frames in the window (the default for it), their sum ("count", for rasters), or the sum per second ("rate").
    series : str or collection of str, optional
        Time series whose columns are the units, such as "DfOverF", or "ophys/DfOverF/plane0" if several have the same
        name. By default the spikes of the Units table are read. Units of several series are named `series/unit`.
    companion : path or binary file object, optional
        Another NWB file of the session, which contains the responses.
    unit_names : str, optional
        "table/column" that names the columns of the series; by default the ids of their ROIs, else their position. For
        sorted units a column of their table, such as "units/probe" (`probe/id` if values repeat), or "units/row" for
        their position; by default their ids.
        It also selects the table of units if a file has several.
    units_where : mapping of column to condition, optional
        Keep the units that meet all conditions on columns of the Units table (of the ROIs, or of the electrodes that
        the units refer to): a value, a list of allowed values, `(operator, number)` (in a study file: a list of the
        two) with one of == != < <= > >=, or a list of such pairs, which must all hold: `{"quality": "good", "snr":
        (">=", 2)}`. For a column of pairs of flag and probability (`iscell` of suite2p), the flag is used.
    area_column : str, optional
        Column that names the area: of the Units table or of the ROIs ("location": of their imaging plane), else of the
        electrodes that the units refer to, by region or by `peak_channel_id` (several areas of one unit are joined with
        "/", and a unit without electrodes has area ""), else "location" of their electrode groups ("electrode_group":
        the names of these).
    area_map : mapping, optional
        New names of areas, by their names in the file.
    roi_delay_column : str, optional
        Column of the ROIs with the time from its frame until each ROI was recorded, in seconds.
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, repetition, unit), or (stimulus, repetition, window, unit) for a list of windows
        Responses as float32. Windows are called "0.05 to 0.15 s" and have the coords `window_start` and `window_stop`;
        select one by `responses.sel(window=…)`, or `isel`, before the next step. Stimuli are sorted as numbers if all
        labels are numbers, else as text; repetitions are in order of time, NaN if a stimulus has fewer. Units are named
        by their id and have, if requested, the coord `area`; sorted units also have `n_spikes` (in the whole session; a
        silent unit is kept). `attrs` contain reader, window, session, and the numbers of presentations that were used
        (`n_presentations`), excluded by `presentations_where` (`n_excluded`), blank (`n_blanks`), or without label or
        onset (`n_missing`). Responses are NaN if the window overlaps `invalid_times` (`n_invalid` presentations), and
        for single units (`n_unobserved`, summed over units and windows) if the window is not within its
        `obs_intervals`, contains no frame, or for a sum is not completely recorded. NaN and infinite values within a
        series are left out (`n_nan_frames` values).

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        A file that is not NWB or damaged, neither spikes nor such a series (the error says if a companion is needed),
        no such table, column or operator, times that are not numbers, spike times without an index, an index without
        an image, a window that does not end after it starts, another measure, no presentation or unit left, several
        units with one name; or a file that contradicts itself: columns of other lengths than their table, indices or
        regions beyond their data, masks that cannot be read, values that were never written, a conversion of 0.
    OSError
        The file is locked by the program that writes it.
    TypeError
        Neither a path nor a binary file object, nor opened from a path.

    Warns
    -----
    UserWarning
        Spike times of a unit are NaN or infinite (they are left out), not in order (they are sorted), or restart;
        presentations are outside the recording; spikes, onsets or the window look like milliseconds or samples; many
        onsets are equal, or outside their rows; one stimulus was shown 20 times as often as the others (a blank that
        was not named?); no spike or frame falls into any window, the images of an IndexSeries are not in the file, the
        companion began at another time.

    See Also
    --------
    inspect_nwb : List what a file contains, and propose a call of this function.
    load_presentations : List the presentations without responses.
    load_nwb_images : Load the images that the file contains.
    load : Load a published dataset by its id.

    Notes
    -----
    If a unit has no `obs_intervals`, the recording is assumed to last from the first to the last spike of the
    population, extended on both sides by the time for which this population may be silent by chance (with probability
    one in a million, given its rate and its bursts). Windows long after the last spike of all units are therefore NaN,
    not zero, while a sparse population keeps its zeros; very few spikes exclude nothing. A pause within a recording is
    only detected from `obs_intervals` or `invalid_times`.

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
    windows = Windows.of(window)
    if companion is not None:
        check_source(companion)
    request = _Request(presentations, stimulus_column, index_series, onset_column, presentations_where or {})
    with ExitStack() as stack:
        main = session = stack.enter_context(open_session(path, allow_external=allow_external))
        shown = request.read(main, blanks)
        attrs, invalid = _origin(main), [_invalid_times(main)]
        if companion is not None:
            session = stack.enter_context(open_session(companion, allow_external=allow_external))
            attrs |= _check_companion(main, session)
            invalid.append(_invalid_times(session))
        source = open_source(session, series, unit_names, roi_delay_column, has_companion=companion is not None)
        measure = source.check_measure(measure)
        kept = select_units(source.population, units_where or {})
        source.check_names(kept)
        areas = source.population.areas(area_column, area_map or {})[kept] if area_column is not None else None
        of_area = windows.of_units(areas, len(kept))
        values, n_invalid = _respond(source, kept, of_area, shown.onsets, np.concatenate(invalid), measure)
        coords = source.coords(kept) | ({} if areas is None else {"area": ("unit", areas)})
        concerns = [*windows.concerns(shown.onsets), *source.concerns()]
    if not source.n_events:
        empty = f"no {source.event} falls into any window of {session.name}; window is in seconds, got {window}"
        concerns = ["; ".join([empty, *concerns])]
    for concern in [*shown.concerns, *concerns]:
        warnings.warn(concern, stacklevel=2)
    attrs |= request.attrs() | ({"units_where": repr(dict(units_where))} if units_where else {})
    attrs |= shown.counts | source.attrs(measure) | {"window": windows.as_attribute(), "n_invalid": n_invalid}
    return check_windows(_arrange(values, shown, coords, windows).assign_attrs(attrs))


@dataclass(frozen=True)
class _Request:
    """The settings that name presentations."""

    presentations: str | None
    stimulus_column: str | None
    index_series: str | None
    onset_column: str | None
    presentations_where: Mapping[str, object]

    def read(self, session: Session, blanks: Collection[object] | str | float) -> Presentations:
        return read_presentations(session, blanks=blanks, **vars(self))

    def attrs(self) -> dict[str, object]:
        """Return the settings that were given, in a form that netCDF can store."""
        given = vars(self) | {"presentations_where": dict(self.presentations_where)}
        return {name: value if isinstance(value, str) else repr(value) for name, value in given.items() if value}


def _arrange(values: np.ndarray, shown: Presentations, coords: dict[str, Any], windows: Windows) -> xr.DataArray:
    """Return responses (unit, window, presentation) by stimulus and repetition, without the dim of a single window."""
    n_units, n_windows, n_presentations = values.shape
    rows = values.transpose(2, 1, 0).reshape(n_presentations, n_windows * n_units)
    stimuli, arranged = arrange(rows, shown.labels, shown.onsets)
    coords = {"stimulus": stimuli} | coords
    dims = ["stimulus", "repetition", "unit"]
    if windows.several:
        arranged = arranged.reshape(*arranged.shape[:2], n_windows, n_units)
        coords, dims = coords | windows.coords(), ["stimulus", "repetition", "window", "unit"]
    return xr.DataArray(arranged, dims=dims, coords=coords)


def load_presentations(
    path: str | Path | BinaryIO,
    *,
    presentations: str | None = "trials",
    stimulus_column: str | None = None,
    index_series: str | None = None,
    onset_column: str | None = None,
    presentations_where: Mapping[str, object] | None = None,
    blanks: Collection[object] | str | float = (),
    allow_external: bool = False,
) -> xr.Dataset:
    """Return the presentations of an NWB file, without any responses.

    Parameters
    ----------
    path : path of an .nwb file, or a binary file object that can seek
        The session, as in `load_nwb`.
    presentations, stimulus_column, index_series, onset_column : str, optional
        As in `load_nwb`.
    presentations_where : mapping of column to condition, optional
        As in `load_nwb`.
    blanks : value or collection of values, optional
        As in `load_nwb`.
    allow_external : bool, optional
        As in `load_nwb`.

    Returns
    -------
    Dataset (presentation)
        Variables `stimulus` (label), `onset` and `offset` (s; NaN if not in the file), in the order of the file.
        `attrs` contain reader, session, the numbers of presentations that were left out, and all `images`: all images
        of the template, else the images that were shown.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `load_nwb`.

    Warns
    -----
    UserWarning
        As in `load_nwb`, about onsets and stimuli.

    See Also
    --------
    load_nwb : Load the responses.

    Examples
    --------
    >>> import datetime, pathlib, pynwb, tempfile
    >>> nwb = pynwb.NWBFile("two trials", "demo", datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc))
    >>> nwb.add_trial_column("image", "base name of the image file")
    >>> nwb.add_trial(start_time=1.0, stop_time=1.5, image="cat")
    >>> path = pathlib.Path(tempfile.mkdtemp(), "demo.nwb")
    >>> with pynwb.NWBHDF5IO(path, "w") as file:
    ...     file.write(nwb)
    >>> load_presentations(path, stimulus_column="image").onset.values.tolist()
    [1.0]
    """
    with open_session(path, allow_external=allow_external) as session:
        request = _Request(presentations, stimulus_column, index_series, onset_column, presentations_where or {})
        shown = request.read(session, blanks)
        attrs = _origin(session)
    for concern in shown.concerns:
        warnings.warn(concern, stacklevel=2)
    variables = {"stimulus": shown.labels, "onset": shown.onsets, "offset": shown.offsets}
    listed = xr.Dataset({name: ("presentation", values) for name, values in variables.items()})
    for name in ("onset", "offset"):
        listed[name].attrs["units"] = "s"
    return listed.assign_attrs(attrs | shown.counts | {"session": attrs["dataset"], "images": shown.images})


def _origin(session: Session) -> dict[str, object]:
    about = session.about()
    return {
        "reader": session.reader,
        "dataset": about["identifier"],
        "session_start_time": about["session_start_time"],
        "source": session.name,
    }


def _check_companion(main: Session, companion: Session) -> dict[str, object]:
    """Return attrs that describe a companion; warn if its times have another origin than in the main file."""
    began, theirs = main.about()["session_start_time"], companion.about()["session_start_time"]
    if _instant(began) != _instant(theirs):
        warnings.warn(
            f"{main.name} began at {began}, but its companion {companion.name} at {theirs}; check that times in both "
            "count from the same moment",
            stacklevel=3,
        )
    return {"companion": companion.name, "companion_reader": companion.reader}


def _instant(moment: str) -> datetime | str:
    """Return a time that compares equal in all time zones; text that is not a time is returned as it is."""
    with suppress(ValueError):
        return datetime.fromisoformat(moment)
    return moment


def _invalid_times(session: Session) -> np.ndarray:
    """Return the invalid intervals (interval, 2) of a session, in seconds."""
    opened = session.found("intervals").get("invalid_times")
    if opened is None:
        if session.has("intervals/invalid_times"):
            raise ValueError(
                f"{session.name}: intervals/invalid_times cannot be read as a table of intervals; repair it, or fetch "
                "the file again: without it, invalid responses would be taken for valid ones"
            )
        return np.empty((0, 2))
    table = opened()
    intervals = np.stack([time_values(table, name) for name in ("start_time", "stop_time")], axis=-1)
    check_intervals(intervals, f"invalid_times of {session.name}")
    return intervals


def _respond(
    source: Source,
    kept: np.ndarray,
    of_area: Mapping[tuple[Span, ...], np.ndarray],
    onsets: np.ndarray,
    invalid: np.ndarray,
    measure: Measure,
) -> tuple[np.ndarray, int]:
    """Return responses (unit, window, presentation), NaN where invalid, and the number of invalid presentations."""
    by_area, any_invalid = [], np.zeros(len(onsets), bool)
    for spans, units in of_area.items():
        by_area.append(source.respond(kept[units], onsets, np.array(spans), measure))
        for window, (start, stop) in enumerate(spans):
            hidden = overlaps(invalid, onsets + start, onsets + stop)
            by_area[-1][:, window, hidden] = np.nan
            any_invalid |= hidden
    if len(by_area) == 1:
        return by_area[0], int(any_invalid.sum())
    values = np.empty((len(kept), 1, len(onsets)), np.float32)  # areas have one window each
    for units, responses in zip(of_area.values(), by_area, strict=True):
        values[units] = responses
    return values, int(any_invalid.sum())
