"""Responses from traces in memory, such as dF/F or deconvolved activity, and a table of presentations."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.loaders.labelling import add_unit_coords, name_labels
from neurosuper.loaders.nwb.frames import sum_frames
from neurosuper.loaders.nwb.units import Windows
from neurosuper.loaders.presentation_tables import PresentationTable, read_presentation_table
from neurosuper.loaders.spike_trains import arrange_windows
from neurosuper.responses import check_windows

__all__ = ["Traces", "average_frames", "average_parts"]


def average_frames(
    traces: np.ndarray,
    frame_times: np.ndarray | Sequence[float],
    presentations: pd.DataFrame | xr.Dataset | tuple[Any, Any],
    *,
    window: tuple[float, float] | Sequence[tuple[float, float]],
    stimulus_column: str = "stimulus",
    onset_column: str = "onset",
    blanks: Collection[object] | str | float = (),
    units: Sequence | np.ndarray | None = None,
    measured_in: str = "a.u.",
    **unit_coords: Sequence | np.ndarray,
) -> xr.DataArray:
    """Return the mean of traces in a window after each onset, as responses to the stimuli of a table of presentations.

    Frames are averaged as by `load_nwb`.

    Parameters
    ----------
    traces : array (unit, frame)
        Such as dF/F; or a memory map of a file.
    frame_times : array (frame,)
        Time of each frame in seconds, in order, by the clock of the onsets.
    presentations : DataFrame, Dataset, or pair (onsets, labels)
        As in `count_spikes`.
    window : (start, stop), or list of (start, stop)
        Seconds after onset; a frame at `start` counts, one at `stop` does not.
    stimulus_column, onset_column : str, optional
        Columns of the table.
    blanks : value or collection of values, optional
        Stimuli to leave out.
    units : labels, optional
        Labels of the units in order; by default positions.
    measured_in : str, optional
        Unit of measurement, such as "dF/F".
    **unit_coords
        Coords of the units, such as `area=["V1", "V4", …]`, with one value per unit.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Responses as float32, arranged as by `count_spikes`. They are NaN if a window contains no frame, or only values
        that are NaN or infinite, which are left out.

    Raises
    ------
    ValueError
        Traces that do not have one value per frame, times that are not in order, no such column, a window that does not
        end after it starts, no presentation left.

    Warns
    -----
    UserWarning
        No frame in any window; onsets or windows that look like milliseconds; a blank that was not named.

    See Also
    --------
    count_spikes : The same for spike times.
    load_suite2p : The same for a folder of suite2p.
    load_nwb : The same for a time series in an NWB file.

    Examples
    --------
    >>> traces = np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    >>> frames = average_frames(traces, np.arange(6.0), ([1.0, 3.0], ["owl", "cat"]), window=(0.0, 2.0))
    >>> frames.sel(stimulus="owl").values.tolist()
    [[1.5]]
    """
    values, times = np.asanyarray(traces), np.asarray(frame_times, dtype=float)
    if values.ndim != 2 or values.shape[1:] != times.shape or values.dtype.kind not in "iufb":
        raise ValueError(
            f"traces must be numbers (unit, frame) with one frame_times for each frame, got {values.dtype} of shape "
            f"{values.shape} and {times.shape}; transpose them if they are (frame, unit)"
        )
    coords = unit_coords if units is None else {"unit": units, **unit_coords}
    part = Traces(values.T, times, np.arange(len(values)))
    shown = read_presentation_table(presentations, stimulus_column, onset_column, blanks)
    responses, concerns = average_parts([part], shown, Windows.of(window), coords, measured_in)
    for concern in concerns:
        warnings.warn(concern, stacklevel=2)
    return responses


class Traces(NamedTuple):
    """Traces on one clock: values (frame, column), perhaps in a file, times of frames, and columns to average."""

    values: Any
    times: np.ndarray
    columns: np.ndarray


def average_parts(
    parts: Sequence[Traces],
    shown: PresentationTable,
    windows: Windows,
    coords: Mapping[str, Any],
    measured_in: str,
) -> tuple[xr.DataArray, list[str]]:
    """Return responses of the columns of all parts, and warnings.

    Parameters
    ----------
    parts : sequence of Traces
        Such as the planes of a microscope.
    shown : PresentationTable
    windows : Windows
    coords : mapping
        Coords of the units of all parts together.
    measured_in : str

    Raises
    ------
    ValueError
        Times that are not in order.
    """
    n_units = sum(len(part.columns) for part in parts)
    (spans,) = windows.of_units(None, n_units)
    starts, ends = np.array([(shown.onsets + start, shown.onsets + stop) for start, stop in spans]).transpose(1, 0, 2)
    sums = []
    for part in parts:
        if not np.isfinite(part.times).all() or (np.diff(part.times) < 0).any():
            raise ValueError("frame_times must be finite, and not decrease; sort the frames")
        sums.append(sum_frames(part.values, part.times, part.columns, starts.ravel(), ends.ravel()))
    totals, n_frames = np.concatenate([s.totals for s in sums]), np.concatenate([s.n_frames for s in sums])
    means = np.where(n_frames > 0, totals / np.maximum(n_frames, 1), np.nan).astype(np.float32)
    concerns = [*shown.concerns, *windows.concerns(shown.onsets)]
    if not n_frames.any():
        concerns.append(f"no frame falls into any window; window is in seconds, got {' and '.join(map(str, spans))}")
    array = xr.DataArray(means.reshape(n_units, *starts.shape), dims=("unit", "window", "trial"))
    array = add_unit_coords(array.assign_coords(windows.coords() if windows.several else {}), coords, "traces")
    facts: dict[str, object] = {"measure": "mean", "units": measured_in, "window": windows.as_attribute()}
    n_nan = sum(s.n_nan for s in sums)
    facts |= {**shown.counts, "n_unobserved": int(np.isnan(means).sum()), "n_nan_frames": n_nan}
    responses = arrange_windows(array.assign_attrs(facts), shown.trials, windows)
    return check_windows(name_labels(responses, "traces")), concerns
