"""Responses from spike times in memory and a table of presentations, counted and checked as from an NWB file."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import check_one_of
from neurosuper._labels import as_label, name_some
from neurosuper.loaders.labelling import add_unit_coords
from neurosuper.loaders.nwb.units import Window, Windows, observed
from neurosuper.loaders.presentation_tables import read_presentation_table
from neurosuper.loaders.recording import Recording
from neurosuper.loaders.spike_counts import count_in_windows
from neurosuper.loaders.trials import Trials, plain_values, repeat_by_stimulus
from neurosuper.responses import check_windows

__all__ = ["SpikeTrains", "arrange_windows", "count_spikes"]

UNITS = {"rate": "spikes/s", "count": "spike count"}


@dataclass(frozen=True)
class SpikeTrains:
    """Spike times of units, with facts about the units.

    Parameters
    ----------
    times : dict of str to array (spike,)
        Spike times of each unit in seconds, by its label.
    units : DataFrame
        A row per unit, in the same order; columns become coords of the units.
    intervals : array (interval, 2), optional
        Start and stop of what was recorded, in seconds; by default it is estimated from the spikes.

    See Also
    --------
    load_phy : Read those of Kilosort and phy.
    count_spikes : Count them in windows.

    Examples
    --------
    >>> trains = SpikeTrains({"7": np.array([0.1, 0.4])}, pd.DataFrame({"depth": [120.0]}))
    >>> len(trains.times)
    1
    """

    times: dict[str, np.ndarray]
    units: pd.DataFrame
    intervals: np.ndarray | None = None


def count_spikes(
    spikes: Mapping[Any, Any] | SpikeTrains | Any,
    presentations: pd.DataFrame | xr.Dataset | tuple[Any, Any],
    *,
    window: Window,
    stimulus_column: str = "stimulus",
    onset_column: str = "onset",
    blanks: Collection[object] | str | float = (),
    measure: Literal["rate", "count"] = "rate",
    **unit_coords: Sequence | np.ndarray,
) -> xr.DataArray:
    """Return the responses of units whose spike times are in memory, to the stimuli of a table of presentations.

    Spikes are counted, and problems reported, as by `load_nwb`.

    Parameters
    ----------
    spikes : dict of unit to array (spike,), TsGroup of pynapple, or SpikeTrains
        Spike times of each unit in seconds. The metadata of a TsGroup become coords of the units, and its time support
        is what was recorded, unless it only goes from the first to the last spike.
    presentations : DataFrame, Dataset, or pair (onsets, labels)
        A row per presentation, with its onset in seconds of the same clock; or a Dataset as from `load_presentations`;
        or two lists.
    window : (start, stop), mapping of area to that, or list of (start, stop)
        Seconds after onset; a spike at `start` counts, one at `stop` does not. A mapping needs the unit coord `area`,
        and "all" in it is for the areas that are not named. A list gives responses with the dim `window`, as in
        `load_nwb`.
    stimulus_column, onset_column : str, optional
        Columns of the table.
    blanks : value or collection of values, optional
        Stimuli to leave out. Presentations without a label or onset are always left out.
    measure : {"rate", "count"}, optional
        Spikes per second, or their number in the window.
    **unit_coords
        Coords of the units, such as `area=["V1", "V4", …]`, with one value per unit.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Responses as float32. Stimuli are sorted as numbers if all labels are numbers, else as text; repetitions are in
        order of time, NaN if a stimulus has fewer. Units have the coord `n_spikes`; a silent unit is kept. Columns of
        the table with one value per stimulus become coords. Responses are NaN (`n_unobserved`, summed over units) if
        the window is outside the recording. `attrs` contain the window, the measure and the numbers of presentations
        used (`n_presentations`), blank (`n_blanks`) and without label or onset (`n_missing`).

    Raises
    ------
    TypeError
        Spikes or presentations in another form.
    ValueError
        No such column, onsets that are not numbers, a window that does not end after it starts, another measure, no
        presentation or unit left.

    Warns
    -----
    UserWarning
        As by `load_nwb`: spike times that are NaN, infinite, not in order, or restart; presentations outside the
        recording; times or windows that look like milliseconds or samples; a blank that was not named; no spike in any
        window.

    See Also
    --------
    load_nwb : The same for an NWB file, with conditions on units.
    neurosuper.loaders.load_phy : Read the spike times of Kilosort and phy.
    as_responses : For responses that were counted elsewhere.

    Examples
    --------
    >>> spikes = {"a": [1.1, 1.2, 2.1], "b": [2.15]}
    >>> table = pd.DataFrame({"stimulus": ["owl", "cat"], "onset": [1.0, 2.0]})
    >>> responses = count_spikes(spikes, table, window=(0.05, 0.25))
    >>> responses.sel(stimulus="owl").values.tolist()
    [[10.0, 0.0]]
    """
    check_one_of("measure", measure, UNITS)
    windows, trains = Windows.of(window), _as_trains(spikes)
    shown = read_presentation_table(presentations, stimulus_column, onset_column, blanks)
    coords = {str(name): plain_values(trains.units[name]) for name in trains.units} | unit_coords
    values, recording, n_unobserved = _respond(trains, shown.onsets, windows, coords.get("area"), measure)
    dims = ("unit", "window", "trial")
    array = xr.DataArray(values, {"unit": list(trains.times)} | (windows.coords() if windows.several else {}), dims)
    array = add_unit_coords(array, coords | {"n_spikes": recording.n_spikes}, "spikes")
    for concern in [*shown.concerns, *_concerns(values, shown.onsets, windows, recording)]:
        warnings.warn(concern, stacklevel=2)
    facts = {"measure": measure, "units": UNITS[measure], "modality": "spikes", "window": windows.as_attribute()}
    array = array.assign_attrs(facts | shown.counts | {"n_unobserved": n_unobserved})
    return check_windows(arrange_windows(array, shown.trials, windows))


def arrange_windows(array: xr.DataArray, trials: Trials, windows: Windows) -> xr.DataArray:
    """Return responses (unit, window, trial) by stimulus and repetition, without the dim of a single window."""
    in_windows = [repeat_by_stimulus(array.isel(window=i), trials) for i in range(array.sizes["window"])]
    if not windows.several:
        return in_windows[0]
    own = ["window_start", "window_stop"]
    return xr.concat(in_windows, "window", coords=own, compat="equals", join="exact")


def _respond(
    trains: SpikeTrains, onsets: np.ndarray, windows: Windows, areas: Any, measure: str
) -> tuple[np.ndarray, Recording, int]:
    """Return responses (unit, window, presentation), NaN outside the estimated recording; the recording; how many."""
    names = list(trains.times)
    times = np.concatenate([np.empty(0), *trains.times.values()])
    stops = np.cumsum([len(train) for train in trains.times.values()])
    recording, n_unobserved = Recording(times, stops, names), 0
    n_windows = max(map(len, windows.by_area.values()))
    values = np.empty((len(names), n_windows, len(onsets)), np.float32)
    texts = None if areas is None else [as_label(area) for area in areas]
    for spans, units in windows.of_units(texts, len(names)).items():
        starts, ends = np.array([(onsets + start, onsets + stop) for start, stop in spans]).transpose(1, 0, 2)
        found = count_in_windows(times, stops, starts.ravel(), ends.ravel(), units=units, dtype=np.float32)
        recording.note(units, found, starts, ends)
        counts = found.counts.reshape(len(units), *starts.shape)
        for window, (start, stop) in enumerate(spans):
            own = starts[window], ends[window]
            seen = recording.observed(*own) if trains.intervals is None else observed(trains.intervals, *own)
            n_unobserved += len(units) * int((~seen).sum())
            counts[:, window, ~seen] = np.nan
            values[units, window] = counts[:, window] / np.float32(stop - start if measure == "rate" else 1)
    return values, recording, n_unobserved


def _concerns(values: np.ndarray, onsets: np.ndarray, windows: Windows, recording: Recording) -> list[str]:
    """Return warnings about the spikes and the windows, one line each."""
    found = [*windows.concerns(onsets), *recording.concerns()]
    if not np.nan_to_num(values).any():
        spans = " and ".join(str(span) for spans in windows.by_area.values() for span in spans)
        found = ["; ".join([f"no spike falls into any window; window is in seconds, got {spans}", *found])]
    return found


def _as_trains(spikes: Any) -> SpikeTrains:
    """Return spikes with text labels of units, each a flat array of numbers."""
    if isinstance(spikes, SpikeTrains):
        trains = spikes
    elif hasattr(spikes, "time_support") and hasattr(spikes, "metadata_columns"):
        trains = _from_pynapple(spikes)
    elif isinstance(spikes, Mapping):
        trains = SpikeTrains(dict(spikes), pd.DataFrame(index=range(len(spikes))))
    else:
        raise TypeError(
            f"spikes must be a dict of unit to spike times, a TsGroup of pynapple, or from load_phy; got "
            f"{type(spikes).__name__}; responses that are counted already go into as_responses"
        )
    if not trains.times:
        raise ValueError("spikes contains no unit; check how units were selected")
    times = {unit: np.asarray(getattr(train, "t", train)) for unit, train in trains.times.items()}
    for unit, train in times.items():
        if train.ndim != 1 or (len(train) and train.dtype.kind not in "iuf"):
            raise TypeError(
                f"spike times of unit {unit!r} must be a list of numbers of seconds, got {train.dtype} of shape "
                f"{train.shape}"
            )
    labelled = {as_label(unit): train for unit, train in times.items()}
    if len(labelled) < len(times):
        raise ValueError(
            f"spikes has units whose labels are equal as text, among {name_some(list(times), 10)}; rename one"
        )
    return SpikeTrains(labelled, trains.units, trains.intervals)


def _from_pynapple(group: Any) -> SpikeTrains:
    """Return the spike trains of a TsGroup, with its metadata."""
    times = {unit: np.asarray(group[unit].t) for unit in group.keys()}  # noqa: SIM118 (a TsGroup iterates otherwise)
    units = pd.DataFrame({name: np.asarray(group.get_info(name)) for name in group.metadata_columns})
    intervals = np.asarray(group.time_support.values, dtype=float).reshape(-1, 2)
    spikes = np.concatenate([np.empty(0), *times.values()])
    # By default pynapple sets the support from the first to the last spike, which says nothing about the recording.
    is_default = len(spikes) and np.array_equal(intervals, [[spikes.min(), spikes.max()]])
    return SpikeTrains(times, units, None if is_default or not len(intervals) else intervals)
