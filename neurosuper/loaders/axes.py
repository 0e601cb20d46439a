"""Which axis of an array is which: by the names given, by usual names, or by numbers of labels; never by a guess."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from itertools import permutations

import xarray as xr

from neurosuper.loaders.synonyms import REPETITION_NAMES, STIMULUS_NAMES, TIME_NAMES, TRIAL_NAMES, UNIT_NAMES

__all__ = ["NO_LABELS", "name_axes"]

UNNAMED = re.compile(r"dim_\d+")  # what xarray calls axes without a name
USUAL = {"stimulus": STIMULUS_NAMES, "trial": TRIAL_NAMES, "repetition": REPETITION_NAMES, "unit": UNIT_NAMES}
NO_LABELS = (
    "has no stimulus labels; pass stimuli= a list of labels, the labelled images, or the path of their folder or zip "
    "file; or trials= the label of each row, if rows are trials"
)
HOW = (
    "pass dims= the names of all axes in their order ('stimulus' or 'trial', 'unit' and, if stimuli were repeated, "
    "'repetition')"
)


def name_axes(
    array: xr.DataArray,
    dims: Sequence[str] | None,
    chosen: Mapping[Hashable, str],
    lengths: Mapping[str, int],
    what: str,
) -> dict[Hashable, str]:
    """Return what each axis of an array is: "stimulus" or "trial", "unit", "repetition"; other axes are left out.

    Parameters
    ----------
    array : DataArray
        Axes without a name are called `dim_0` and so on, as by xarray.
    dims : sequence of str, optional
        Names of all axes in their order, which the user gave.
    chosen : mapping of dim to name
        Axes that the user named one by one.
    lengths : mapping of name to int
        Numbers of labels that the user gave, which decide if axes have no name.
    what : str
        Name of the array in errors.

    Returns
    -------
    dict
        Exactly one of "stimulus" and "trial", and "unit".

    Raises
    ------
    ValueError
        Axes that remain ambiguous or are none of these; the error names the candidates.

    Examples
    --------
    >>> import numpy as np
    >>> name_axes(xr.DataArray(np.zeros((2, 3))), None, {}, {"stimulus": 3}, "values")
    {'dim_0': 'unit', 'dim_1': 'stimulus'}
    """
    row = "trial" if "trial" in {*lengths, *chosen.values()} else "stimulus"
    if dims is not None:
        names = dict(zip(array.dims, _check_dims(array, tuple(dims), row, what), strict=True))
    elif not chosen and all(UNNAMED.fullmatch(str(dim)) for dim in array.dims):
        names = dict(zip(array.dims, _deduce(array.shape, row, lengths, what), strict=True))
    else:
        names = _by_name(array, chosen, {row: lengths[row]} if row in lengths else {}, what)
    for name, n in lengths.items():
        sizes = [array.sizes[dim] for dim, known in names.items() if known == name]
        if sizes and sizes[0] != n:
            raise ValueError(
                f"{what} has length {sizes[0]} along {name!r}, but {n} labels were given for it; check dims and their "
                "order"
            )
    return names


def _check_dims(array: xr.DataArray, dims: tuple[str, ...], row: str, what: str) -> tuple[str, ...]:
    """Return dims that the user gave, if they name all axes."""
    allowed = ({"trial", "unit"},) if row == "trial" else ({"stimulus", "unit"}, {"stimulus", "unit", "repetition"})
    if len(dims) != array.ndim or set(dims) not in allowed or len(set(dims)) < len(dims):
        names = (
            "'trial' or 'unit'" if row == "trial" else "'stimulus', 'unit' or 'repetition' (if stimuli were repeated)"
        )
        raise ValueError(f"{what} has shape {array.shape}; dims must name each axis {names}, got {dims}")
    if set(array.dims) == set(dims) and array.dims != dims:
        raise ValueError(f"{what} itself names its axes {array.dims}, which dims={dims} contradicts; leave dims out")
    return dims


def _deduce(shape: tuple[int, ...], row: str, lengths: Mapping[str, int], what: str) -> tuple[str, ...]:
    """Return the names of axes without a name, if only one order fits the numbers of labels."""
    names = (row, "unit") if len(shape) == 2 else (row, "repetition", "unit")
    if len(shape) != len(names) or (row == "trial" and len(shape) != 2):
        raise ValueError(f"{what} has shape {shape}, but responses have an axis of {' and one of '.join(names)}; {HOW}")
    if row not in lengths:
        raise ValueError(f"{what} {NO_LABELS}")
    fitting = [
        order
        for order in permutations(names)
        if all(lengths.get(name, n) == n for name, n in zip(order, shape, strict=True))
    ]
    if not fitting:
        given = " and ".join(f"{n} labels of {name}" for name, n in lengths.items())
        raise ValueError(f"{what} has shape {shape}, and {given} were given: no order of axes fits; check both")
    if len(fitting) > 1:
        orders = " or ".join(f"dims={order}" for order in fitting)
        raise ValueError(f"{what} has shape {shape}, so its axes may be in several orders; pass {orders}")
    return fitting[0]


def _by_name(
    array: xr.DataArray, chosen: Mapping[Hashable, str], rows: Mapping[str, int], what: str
) -> dict[Hashable, str]:
    """Return the axes with a usual name, those that the user named, and the only one that fits the labels of rows."""
    names = dict(chosen)
    for name, usual in USUAL.items():
        free = [dim for dim in array.dims if dim not in names and str(dim).lower() in usual]
        if name == "trial" and "stimulus" in names.values():
            name = "repetition"  # stimulus × trial × unit: trials are numbered within their stimulus
        if len(free) == 1 and name not in names.values():
            names[free[0]] = name
    rest = [dim for dim in array.dims if dim not in names and array.sizes[dim] > 1]
    for row, n in rows.items():
        fitting = [dim for dim in rest if array.sizes[dim] == n and str(dim).lower() not in TIME_NAMES]
        if row not in names.values() and len(fitting) == 1:
            names[fitting[0]] = row
            rest.remove(fitting[0])
    has_row = "stimulus" in names.values() or "trial" in names.values()
    if len(rest) == 1 and has_row and "unit" not in names.values() and str(rest[0]).lower() not in TIME_NAMES:
        names[rest.pop()] = "unit"
    if not has_row or "unit" not in names.values():
        missing = "units=" if has_row else "stimuli= (or trials=, if rows are trials)"
        raise ValueError(
            f"{what} has the dims {array.dims}; pass {missing} the name of a dim, or of a coord with its labels, or "
            f"{HOW}"
        )
    if rest or (set(names.values()) >= {"trial", "repetition"}):
        extra = [*rest, *(dim for dim, name in names.items() if name == "repetition" and not rest)]
        raise ValueError(
            f"{what} has the extra dims {sorted(map(str, extra))}; select or average them first, such as by "
            f".mean({str(extra[0])!r})"
        )
    return names
