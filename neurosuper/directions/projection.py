"""Codes of directions that come from anywhere: Z = R Dᵀ."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._labels import check_labels
from neurosuper.responses import check_responses, coords_along, name_some

__all__ = ["project"]


def project(responses: xr.DataArray, directions: xr.DataArray) -> xr.DataArray:
    """Return the codes of directions of your own: the weighted sums of units that they name.

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
        In memory, or dask-backed: codes are lazy then.
    directions : DataArray (direction, unit)
        A weight for each unit, such as the weights of a decoder or the axis between two means; of any length, which
        scales the codes and changes no rank. Units are matched by label, in any order, and must be those of
        `responses`.

    Returns
    -------
    DataArray (stimulus, direction) or (stimulus, repetition, direction)
        Name `code`, for `top_stimuli`, `interpretability_index` and all other functions that take codes. Coords of
        stimuli and directions are kept, and so are the attrs of `responses`. A missing repetition has no code (NaN).

    Raises
    ------
    TypeError
        Not DataArrays of real numbers, or labels that are not strings.
    ValueError
        Responses that break the contract; directions with other dims, without labels, with weights that are not
        finite, or all of whose weights are 0; units that only one of the two has.

    See Also
    --------
    neurosuper.directions.DirectionFinder.transform : Codes of directions that a finder found.
    top_stimuli : Takes the codes.

    Notes
    -----
    No mean is subtracted, and responses are not scaled. For a finder whose codes are projections, such as `PCA`,
    `transform(responses)` is `project(responses - finder.mean_, finder.directions_)`, after
    `normalize(responses, "unit_norm")` if the finder has `normalize`. A mean shifts all codes of a direction by one
    number: their ranks, and so top stimuli and index, are the same with and without.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[3., 1.], [0., 2.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "b"]})
    >>> axis = xr.DataArray([[1., -1.]], dims=("direction", "unit"),
    ...                     coords={"direction": ["a minus b"], "unit": ["a", "b"]})
    >>> project(r, axis).values.ravel().tolist()
    [2.0, -2.0]
    """
    responses = check_responses(responses)
    directions = check_directions(directions)
    own, known = directions.indexes["unit"], responses.indexes["unit"]
    if len(extra := own.symmetric_difference(known)):
        raise ValueError(
            f"directions have {len(own)} units and responses {len(known)}; they differ in {name_some(extra)}; select "
            "the same units of both, or give the others the weight 0 with "
            "directions.reindex(unit=responses.unit, fill_value=0)"
        )
    weights = directions.sel(unit=known).variable.astype(np.result_type(directions.dtype, np.float32))
    codes = xr.dot(responses.variable, weights, dim="unit")
    coords = {name: coord for name, coord in responses.coords.items() if "unit" not in coord.dims}
    method = {"method": directions.attrs.get("method", "project")}
    return xr.DataArray(
        codes, coords | coords_along(directions, "direction"), name="code", attrs=responses.attrs | method
    )


def check_directions(directions: xr.DataArray) -> xr.DataArray:
    """Return directions (direction, unit) with clean labels and at least one weight each."""
    if not isinstance(directions, xr.DataArray):
        raise TypeError(
            f"directions must be a DataArray (direction, unit), got {type(directions).__name__}; make one with "
            "xarray.DataArray(weights, dims=('direction', 'unit'), coords={'direction': names, 'unit': responses.unit})"
        )
    if set(directions.dims) != {"direction", "unit"}:
        raise ValueError(f"directions must have the dims direction and unit, got {directions.dims}; rename them")
    if directions.dtype.kind not in "iufb":
        raise TypeError(f"directions must be real numbers, got dtype {directions.dtype}")
    for dim in ("direction", "unit"):
        directions = check_labels(directions, dim, "directions")
    directions = directions.transpose("direction", "unit").compute()
    size = np.abs(directions.values).max(axis=1)
    for bad, what in ((~np.isfinite(size), "weights that are not finite"), (size == 0, "no weight other than 0")):
        if bad.any():
            names = name_some(directions.direction.values[bad])
            raise ValueError(f"direction {names} has {what}; give it other weights, or leave it out")
    return directions
