"""Layers and subjects as systems of their own, and systems side by side in one array of responses."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._content import CONTENT, all_stimuli, content_of
from neurosuper._joins import LEFT_OUT
from neurosuper._labels import DOOR
from neurosuper.responses import check_averaged, check_responses, coords_along, name_some

__all__ = ["by_layer", "by_subject", "concatenate_systems"]


def by_layer(responses: xr.DataArray, *, prefix: str | None = None) -> dict[str, xr.DataArray]:
    """Return the layers of a network as systems, for `compare`.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        With the unit coord `layer`, as from `activations`.
    prefix : str, optional
        The name of the network, put before that of each layer: for several networks in one comparison.

    Returns
    -------
    dict of str to DataArray (stimulus, unit)
        The units of each layer, by the name of the layer, in the order in which layers first occur.

    Raises
    ------
    TypeError
        `responses` is not a DataArray.
    ValueError
        No such coord along units, or a unit without a layer.

    See Also
    --------
    by_subject : The same for subjects.
    compare : Takes the result as `systems`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.eye(3), dims=("stimulus", "unit"),
    ...                  coords={"unit": list("abc"), "layer": ("unit", ["conv2", "conv1", "conv2"])})
    >>> {name: part.unit.values.tolist() for name, part in by_layer(r, prefix="net").items()}
    {'net conv2': ['a', 'c'], 'net conv1': ['b']}
    """
    return _by(responses, "layer", prefix)


def by_subject(responses: xr.DataArray, *, prefix: str | None = None) -> dict[str, xr.DataArray]:
    """Return the subjects of a recording as systems, for `compare`.

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
        With the unit coord `subject`.
    prefix : str, optional
        Put before the name of each subject, such as the area.

    Returns
    -------
    dict of str to DataArray
        The units of each subject, by its name, in the order in which subjects first occur.

    Raises
    ------
    TypeError
        `responses` is not a DataArray.
    ValueError
        No such coord along units, or a unit without a subject.

    See Also
    --------
    by_layer : The same for layers of a network.
    compare : Takes the result as `systems`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.eye(3), dims=("stimulus", "unit"),
    ...                  coords={"unit": list("abc"), "subject": ("unit", ["M1", "M1", "M2"])})
    >>> {name: part.sizes["unit"] for name, part in by_subject(r).items()}
    {'M1': 2, 'M2': 1}
    """
    return _by(responses, "subject", prefix)


def concatenate_systems(systems: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Return the units of several systems side by side, such as those of all animals, on their common stimuli.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
        Responses of each subject, without repetitions. Stimuli are matched by label.

    Returns
    -------
    DataArray (stimulus, unit)
        Units are named "system/unit" and have the coord `subject`, the name of their system, by which `by_subject`
        divides them again. Stimuli that some system lacks are left out, and counted for each subject in
        `attrs["left_out"]` and in all in `attrs["n_stimuli_left_out"]`, if there are any; the others are in the order
        of the first system. Unit coords that all systems have, and stimulus coords and attrs that do not differ, are
        kept.

    Raises
    ------
    TypeError
        Systems are not a mapping, or not DataArrays.
    ValueError
        No system; no common stimulus; a label that names different photographs; systems that mark stimuli differently
        in `split`; repetitions; a system of several subjects.

    See Also
    --------
    by_subject : The inverse.
    SharedSpace : Directions that subjects share.

    Notes
    -----
    Subjects keep their units of measurement: bring them to one scale first, by
    ``neurosuper.normalize(responses, "zscore")``, for finders that do not do so themselves.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.eye(3), dims=("stimulus", "unit"), coords={"stimulus": list("xyz"), "unit": list("abc")})
    >>> both = concatenate_systems({"M1": r, "M2": r[::-1, :1]})
    >>> both.unit.values.tolist(), both.subject.values.tolist()
    (['M1/a', 'M1/b', 'M1/c', 'M2/a'], ['M1', 'M1', 'M1', 'M2'])
    """
    systems = on_common_stimuli(systems, repeated=False)
    labelled = [_label_units(name, responses) for name, responses in systems.items()]
    along = [coords_along(each, "unit") for each in labelled]
    kept = [name for name in along[0] if all(name in coords for coords in along)]
    bare = [each.reset_coords(drop=True).drop_vars("stimulus").drop_attrs() for each in labelled]
    joined = xr.concat(bare, "unit", join="exact")
    coords = {
        name: (
            "unit",
            np.concatenate([coords[name].values for coords in along]),
            _common_attrs(coords[name] for coords in along),
        )
        for name in kept
    }
    joined = joined.assign_coords(coords | _equal_stimulus_coords(labelled)).rename("response")
    attrs = _common_attrs(labelled)
    attrs.pop(LEFT_OUT, None)
    lost = {name: int(n) for name, each in systems.items() if (n := each.attrs.get(LEFT_OUT, 0))}
    if lost:
        attrs |= {"left_out": ", ".join(f"{name} {n}" for name, n in lost.items()), LEFT_OUT: sum(lost.values())}
    return joined.assign_attrs(attrs)


def on_common_stimuli(systems: Mapping[str, xr.DataArray], *, repeated: bool) -> dict[str, xr.DataArray]:
    """Return systems on the stimuli that all have, in the order of the first, with a count of the others in attrs."""
    if not isinstance(systems, Mapping):
        raise TypeError(f"systems must be a mapping {{name: responses, …}}, got {type(systems).__name__}")
    if not systems:
        raise ValueError("no system to put side by side; pass {'name': responses, …}")
    checked = {}
    for name, responses in systems.items():
        try:
            checked[str(name)] = check_responses(responses) if repeated else check_averaged(responses)
        except (TypeError, ValueError) as error:
            raise type(error)(f"system {name!r}: {error}") from error
    all_stimuli(checked.values())  # raises if a label names two photographs
    first = next(iter(checked))
    common = checked[first].indexes["stimulus"]
    for name, responses in checked.items():
        own = responses.indexes["stimulus"]
        shared = common[common.isin(own)]
        if not len(shared):
            raise ValueError(
                f"subjects with different stimuli: {name!r} lacks all {len(common)} stimuli of {first!r} that were "
                f"common so far, {name_some(own)} against {name_some(common)}; leave it out, or give the same labels"
            )
        common = shared
    return {name: _take(responses, common) for name, responses in checked.items()}


def _take(responses: xr.DataArray, labels: pd.Index) -> xr.DataArray:
    n_lost = responses.sizes["stimulus"] - len(labels)
    taken = responses if responses.indexes["stimulus"].equals(labels) else responses.sel(stimulus=labels)
    return taken.assign_attrs({LEFT_OUT: responses.attrs.get(LEFT_OUT, 0) + n_lost}) if n_lost else taken


def _label_units(name: str, responses: xr.DataArray) -> xr.DataArray:
    """Return responses with units named after their system, unless they are already, and its name as `subject`."""
    if "subject" in coords_along(responses, "unit") and len(subjects := positions_by(responses, "subject")) > 1:
        raise ValueError(
            f"system {name!r} has units of several subjects, {name_some(list(subjects))}; divide it first, by "
            "neurosuper.by_subject"
        )
    units = responses.unit.values.tolist()
    named = all(unit.startswith(f"{name}/") for unit in units)
    responses = responses.drop_vars("subject", errors="ignore")
    return responses.assign_coords(
        unit=units if named else [f"{name}/{unit}" for unit in units], subject=("unit", np.full(len(units), name))
    )


def _equal_stimulus_coords(systems: list[xr.DataArray]) -> dict[str, xr.Variable]:
    """Return the stimulus coords that no two systems give different values; `split` must be one of them."""
    known: dict[str, xr.Variable] = {}
    differ: set[str] = set()
    for system in systems:
        for name, coord in coords_along(system, "stimulus").items():
            values = known.setdefault(name, coord.variable)
            if name == CONTENT and content_of(system) is not None:
                continue  # the digests of each system were compared above; some may be unknown
            if not values.equals(coord.variable):
                differ.add(name)
    if "split" in differ:
        raise ValueError("systems mark the same stimulus differently in the coord `split`; remove it from all but one")
    return {name: values for name, values in known.items() if name not in differ}


def _common_attrs(arrays: Iterable[xr.DataArray]) -> dict[Hashable, Any]:
    """Return the attrs that all arrays have, with one value."""
    first, *others = (each.attrs for each in arrays)
    common: dict[Hashable, Any] = dict(first)
    for each in others:
        for name in list(common):
            value: Any = each.get(name)
            if type(value) is not type(common[name]) or not np.array_equal(value, common[name]):
                del common[name]
    return common


def _by(responses: xr.DataArray, coord: str, prefix: str | None) -> dict[str, xr.DataArray]:
    """Return the units of each value of a unit coord."""
    parts = positions_by(responses, coord)
    return {f"{prefix} {name}" if prefix else name: responses.isel(unit=units) for name, units in parts.items()}


def positions_by(responses: xr.DataArray, coord: str) -> dict[str, np.ndarray]:
    """Return the positions of the units that have each value of a unit coord, in the order in which these occur."""
    if not isinstance(responses, xr.DataArray):
        raise TypeError(f"responses must be a DataArray, got {type(responses).__name__}; {DOOR}")
    known = coords_along(responses, "unit") if "unit" in responses.dims else {}
    if coord not in known:
        raise ValueError(
            f"units have no coord {coord!r}; they have {', '.join(known) or 'none'}. Add it with "
            f"responses.assign_coords({coord}=('unit', …))"
        )
    values = known[coord].values
    if (missing := pd.isnull(values) | (values == "")).any():
        raise ValueError(f"units without a {coord}: {name_some(responses.unit.values[missing])}; name it, or drop them")
    names = np.array([str(value) for value in values.tolist()])  # also of strings of variable width
    return {name: np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())}
