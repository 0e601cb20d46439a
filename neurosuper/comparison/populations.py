"""Parts of responses as systems of their own: the layers of a network, the subjects of a recording."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._labels import DOOR
from neurosuper.responses import coords_along, name_some

__all__ = ["by_layer", "by_subject"]


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


def _by(responses: xr.DataArray, coord: str, prefix: str | None) -> dict[str, xr.DataArray]:
    """Return the units of each value of a unit coord."""
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
    names = values.astype(str)
    return {
        f"{prefix} {name}" if prefix else name: responses.isel(unit=np.flatnonzero(names == name))
        for name in dict.fromkeys(names.tolist())
    }
