"""Responses from an array: axes and labels under any names are found, and named as in all responses."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import xarray as xr

from neurosuper._labels import name_some
from neurosuper.loaders.axes import name_axes
from neurosuper.loaders.labelling import stimulus_coords
from neurosuper.loaders.request import Request
from neurosuper.loaders.synonyms import STIMULUS_NAMES, TRIAL_NAMES, UNIT_NAMES, usual_names
from neurosuper.loaders.trials import Trials, label_texts, read_trials

__all__ = ["from_array"]

TRIAL_OR_STIMULUS = ("stimulus", "trial")
RENAMED = {"region": "area", "animal": "subject"}  # what Brain-Score calls coords of units


def from_array(array: xr.DataArray, request: Request) -> tuple[xr.DataArray, Trials | None]:
    """Return an array with the dims of responses, or (trial, unit) and its trials, with labels as coords.

    Parameters
    ----------
    array : DataArray
        Axes without a name are called `dim_0` and so on.
    request : Request
        The names and labels that the user gave.

    Returns
    -------
    DataArray, Trials or None
        The array has coords `stimulus` and `unit` if they are known.

    Raises
    ------
    ValueError
        Axes or labels that remain ambiguous.

    Examples
    --------
    >>> array = xr.DataArray([[1.0, 2.0]], dims=("neuron", "image"), coords={"image": [7, 8]})
    >>> from_array(array, Request())[0].dims
    ('unit', 'stimulus')
    """
    stimuli, trials = _given_labels(array, request)
    names = name_axes(array, request.dims, _chosen(array, request), _lengths(stimuli, trials, request), request.what)
    if request.token is not None:
        array = array.chunk(
            {dim: "auto" if names.get(dim) in TRIAL_OR_STIMULUS else -1 for dim in array.dims}, token=request.token
        )
    array = _flatten(array).squeeze([dim for dim in array.dims if dim not in names], drop=True)
    row, unit = (next(dim for dim in names if names[dim] in kinds) for kinds in (TRIAL_OR_STIMULUS, ("unit",)))
    label = None if stimuli or trials else _row_label(array, row, names[row] == "trial", request)
    unit_label = _unit_label(array, unit, request)
    coords = _coords(array, names, {row, unit, label, unit_label})
    if unit_label is not None:
        coords["unit"] = ("unit", array[unit_label].values)
    if stimuli:
        coords |= {name: ("stimulus", values) for name, values in stimuli.items()}
    if label is not None:
        labels = label_texts(array[label].values, f"{label!r} of {request.what}")
        if names[row] == "trial":
            trials = Trials(labels)
        else:
            coords["stimulus"] = ("stimulus", labels)
    if trials is not None:
        coords, columns = _split_columns(array, row, label, coords)
        trials = Trials(trials.labels, columns | dict(trials.columns))
    return xr.DataArray(array.data, coords, [names[dim] for dim in array.dims], attrs=array.attrs), trials


def _flatten(array: xr.DataArray) -> xr.DataArray:
    """Return a plain DataArray in which the levels of a MultiIndex are coords of their dim."""
    several = [dim for dim in array.dims if dim in array.indexes and array.indexes[dim].nlevels > 1]
    coords = {
        name: (coord.dims, coord.values if coord.dims else coord.item(), coord.attrs)
        for name, coord in array.coords.items()
        if name not in several
    }
    return xr.DataArray(array.data, coords, array.dims, attrs=array.attrs)


def _is_name(array: xr.DataArray, value: Any) -> bool:
    """Return whether a value is the name of a dim of an array, or of a coord along one dim."""
    if not isinstance(value, str):
        return False
    return value in array.dims or (value in array.coords and array[value].ndim == 1)


def _given_labels(array: xr.DataArray, request: Request) -> tuple[dict[str, Any], Trials | None]:
    """Return the coords of stimuli, or the trials, whose labels the user gave; those in the array are not included."""
    stimuli, trials, what = request.stimuli, request.trials, request.what
    known = [
        str(name) for name in {**dict.fromkeys(array.dims), **dict.fromkeys(array.coords)} if _is_name(array, name)
    ]
    if trials is not None and not _is_name(array, trials):
        if stimuli is not None and not isinstance(stimuli, str):
            raise ValueError(
                "trials= gives the label of each row, so stimuli= may only name a column of trials; leave stimuli out"
            )
        return {}, read_trials(trials, stimuli, known)
    if stimuli is None or _is_name(array, stimuli):
        return {}, None
    if trials is not None or (isinstance(stimuli, str) and not Path(stimuli).exists()):
        raise ValueError(
            f"stimuli={stimuli!r} is neither a dim or coord of {what} (which has {name_some(known, 10)}) nor a folder "
            "or zip file of images; pass a name, or a list of labels"
        )
    return stimulus_coords(stimuli), None


def _chosen(array: xr.DataArray, request: Request) -> dict[Hashable, str]:
    """Return what the dims are that the user named, directly or by a coord along them."""
    chosen: dict[Hashable, str] = {}
    for name, given in {"unit": request.units, "stimulus": request.stimuli, "trial": request.trials}.items():
        if _is_name(array, given):
            dim = array[given].dims[0] if given in array.coords else given
            is_trial = name == "stimulus" and str(dim).lower() in TRIAL_NAMES
            chosen[dim] = "trial" if is_trial else name
    if isinstance(request.units, str) and not _is_name(array, request.units):
        raise ValueError(
            f"units={request.units!r} is no dim or coord of {request.what}; units= are the labels of the units, or the "
            "name of their coord, and measured_in= is the unit of measurement"
        )
    return chosen


def _lengths(stimuli: dict[str, Any], trials: Trials | None, request: Request) -> dict[str, int]:
    """Return the numbers of labels that the user gave."""
    lengths = {"stimulus": len(stimuli["stimulus"])} if stimuli else {}
    if trials is not None:
        lengths["trial"] = len(trials.labels)
    for values in ([] if request.units is None or isinstance(request.units, str) else [request.units]) + [
        *request.unit_coords.values()
    ]:
        lengths.setdefault("unit", len(values))
    return lengths


def _row_label(array: xr.DataArray, row: Hashable, is_trial: bool, request: Request) -> Hashable | None:
    """Return the coord that labels the rows; None if there is none."""
    along = [name for name, coord in array.coords.items() if coord.dims == (row,)]
    usual = usual_names([name for name in along if name != row], STIMULUS_NAMES)
    for given in (request.stimuli, request.trials):
        if given in along and not (given == row and is_trial and str(row).lower() in TRIAL_NAMES and usual):
            return given
    if row in along and not (is_trial and request.trials is None):
        return row
    if len(usual) == 1:
        return usual[0]
    if usual or is_trial:
        known = f"has the coords {name_some(along, 10)}" if along else "has no coord"
        raise ValueError(
            f"{request.what} {known} along {row!r}; pass stimuli= the one that names the stimulus, or trials= the "
            "label of each row"
        )
    return None


def _unit_label(array: xr.DataArray, unit: Hashable, request: Request) -> Hashable | None:
    """Return the coord that labels the units; None if there is none, or if the user gives labels."""
    along = [name for name, coord in array.coords.items() if coord.dims == (unit,)]
    if isinstance(request.units, str) and request.units in along:
        return request.units
    if request.units is not None and not isinstance(request.units, str):
        return None
    if unit in along:
        return unit
    usual = usual_names(along, UNIT_NAMES)
    if len(usual) > 1:
        raise ValueError(
            f"{request.what} has the coords {name_some(usual, 10)} along {unit!r}; pass units= the one that labels the "
            "units"
        )
    return usual[0] if usual else None


def _coords(array: xr.DataArray, names: dict[Hashable, str], used: set[Hashable]) -> dict[str, Any]:
    """Return the coords of an array along the dims of responses, without those that are labels."""
    is_neuroid = any(dim == "neuroid" for dim in names)
    coords = {}
    for name, coord in array.coords.items():
        if name in used or not all(dim in names for dim in coord.dims):
            continue
        new = (
            RENAMED.get(str(name), str(name))
            if is_neuroid and RENAMED.get(str(name)) not in array.coords
            else str(name)
        )
        coords[new] = (tuple(names[dim] for dim in coord.dims), coord.values, coord.attrs)
    return coords


def _split_columns(
    array: xr.DataArray, row: Hashable, label: Hashable | None, coords: dict[str, Any]
) -> tuple[dict[str, Any], dict[Hashable, Any]]:
    """Return the coords that do not depend on the trial, and the columns with one value per trial."""
    columns = {
        name: coord.values for name, coord in array.coords.items() if coord.dims == (row,) and name not in (row, label)
    }
    return {name: coord for name, coord in coords.items() if "trial" not in coord[0]}, columns
