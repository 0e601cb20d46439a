"""Labels of what goes into a finder and of what comes out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.responses import check_averaged, check_labels, coords_along, name_some

TAKEN = ("direction", "whitened_unit", "iteration")  # dims of what finders learn


def label_plain(values: np.ndarray, fitted: pd.Index | None) -> xr.DataArray:
    """Return a plain array (stimulus, unit) with the units of the fit, or with numbers."""
    if values.ndim != 2:
        raise ValueError(f"a plain array of responses must be (stimulus, unit), got shape {values.shape}")
    n_stimuli, n_units = values.shape
    units = fitted.values if fitted is not None and len(fitted) == n_units else np.arange(n_units).astype(str)
    labels = {"stimulus": np.arange(n_stimuli).astype(str), "unit": units}
    return xr.DataArray(values, dims=("stimulus", "unit"), coords=labels)


def check_labelled(responses: xr.DataArray, least_stimuli: int) -> xr.DataArray:
    """Return responses that keep the contract, and leave the names of learned dims free."""
    responses = check_averaged(responses, least_stimuli)
    for name in TAKEN:
        if name in responses.coords:
            raise ValueError(
                f"responses have a coord {name!r}, the name of labels that finders give; rename it, e.g. "
                f"responses.rename({name}='preferred_{name}')"
            )
    return responses


def put_in_order(responses: xr.DataArray, fitted: pd.Index) -> xr.DataArray:
    """Return responses with the units of the fit, in its order."""
    if len(extra := fitted.symmetric_difference(responses.indexes["unit"])):
        raise ValueError(
            f"fitted on {len(fitted)} units, got {responses.sizes['unit']}; they differ in {name_some(extra)}"
        )
    return responses if fitted.equals(responses.indexes["unit"]) else responses.sel(unit=fitted)


def coords_of_dims(responses: xr.DataArray, directions: list[str] | None) -> dict[str, dict]:
    """Return the coords of each dim that a learned array may have."""
    return {
        "unit": coords_along(responses, "unit"),
        "whitened_unit": {"whitened_unit": responses.unit.values},
        "stimulus": {"stimulus": responses.stimulus},
        "direction": {} if directions is None else {"direction": directions},
    }


def check_codes(codes: xr.DataArray, fitted: pd.Index) -> np.ndarray:
    """Return codes as an array (stimulus, direction), or refuse those of other directions."""
    for dim in ("stimulus", "direction"):
        codes = check_labels(codes, dim, "codes")
    if not fitted.equals(codes.indexes["direction"]):
        raise ValueError(f"codes must have the {len(fitted)} directions of this finder, got {codes.sizes}")
    return codes.transpose("stimulus", "direction").values


def label_responses(R: np.ndarray, codes: xr.DataArray, mean: xr.DataArray) -> xr.DataArray:
    """Return an array (stimulus, unit) as responses, with the coords of codes and of the units of the fit."""
    coords = coords_along(codes, "stimulus") | dict(mean.coords)
    return xr.DataArray(R, dims=("stimulus", "unit"), coords=coords, name="response")
