"""Recovery: how well the directions that were found match known directions."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper.responses import name_some


def recovery(found: xr.DataArray, planted: xr.DataArray) -> xr.DataArray:
    """Return how well each planted direction is recovered: its largest |cosine| with any direction found.

    Parameters
    ----------
    found : DataArray (direction, unit)
        `finder.directions_`.
    planted : DataArray (direction, unit)
        Known directions over the same units, in any order; rows of any length but zero.

    Returns
    -------
    DataArray (planted,)
        Name `recovery`, in [0, 1]; `planted` has the labels of the planted directions. The coord `match` is the
        label of the nearest direction found; several may share one.

    Raises
    ------
    ValueError
        Units differ, or a direction has length zero.

    See Also
    --------
    neurosuper.directions.direction_stability : How well directions are recovered from other stimuli or seeds.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> planted = xr.DataArray(np.eye(2), dims=("direction", "unit"),
    ...                        coords={"direction": ["f", "g"], "unit": ["a", "b"]})
    >>> recovery(planted[::-1], planted).match.values.tolist()
    ['f', 'g']
    """
    extra = found.indexes["unit"].symmetric_difference(planted.indexes["unit"])
    if len(extra):
        raise ValueError(f"found and planted directions have different units, such as {name_some(extra)}")
    cosine = np.abs(_unit_rows(planted.sel(unit=found.unit)) @ _unit_rows(found).T).clip(max=1)
    labels = planted.direction.values
    coords = {"planted": labels, "match": ("planted", found.direction.values[cosine.argmax(1)])}
    return xr.DataArray(cosine.max(1), dims="planted", coords=coords, name="recovery")


def _unit_rows(directions: xr.DataArray) -> np.ndarray:
    rows = directions.transpose("direction", "unit").values.astype(float)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"direction {name_some(directions.direction.values[length[:, 0] == 0])} has length zero")
    return rows / length
