"""Labels of what goes into a finder and of what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from neurosuper.responses import check_averaged, check_labels, coords_along, name_some

TAKEN = ("direction", "whitened_unit", "iteration")  # dims of what finders learn


def label_input(responses: Any, *, min_stimuli: int = 2) -> xr.DataArray:
    """Return responses, checked; plain arrays get numbers as labels, and data frames keep the names of their columns.

    Raises
    ------
    TypeError, ValueError
        Responses that break the contract, or have a coord that is named like a dim of what finders learn.
    """
    if _is_plain(responses):
        columns = getattr(responses, "columns", ())
        named = len(columns) > 0 and all(isinstance(name, str) for name in columns)
        values = _check_plain(responses, min_stimuli)
        responses = _label_plain(values, np.array(columns) if named else np.arange(values.shape[1]).astype(str))
    responses = check_averaged(responses, min_stimuli)
    for name in TAKEN:
        if name in responses.coords:
            raise ValueError(
                f"responses have a coord {name!r}, the name of labels that finders give; rename it, e.g. "
                f"responses.rename({name}='preferred_{name}')"
            )
    return responses


def label_known_input(responses: Any, finder: Any, *, min_stimuli: int = 1) -> xr.DataArray:
    """Return one or more responses, checked, with the units of the fit in the order of the fit.

    Labelled responses may have their units in any order; plain arrays have those of the fit, in its order, and data
    frames, as everywhere in scikit-learn, the same columns in the same order.
    """
    fitted = finder.mean_.indexes["unit"]
    if _is_plain(responses):
        if hasattr(responses, "columns"):
            validate_data(finder, responses, reset=False, skip_check_array=True)
        values = _check_plain(responses, min_stimuli)
        if values.shape[1] != len(fitted):
            raise ValueError(
                f"X has {values.shape[1]} features, but {type(finder).__name__} is expecting {len(fitted)} features as "
                "input: the units of the fit, in the same order"
            )
        responses = _label_plain(values, fitted.values)
    responses = label_input(responses, min_stimuli=min_stimuli)
    if len(extra := fitted.symmetric_difference(responses.indexes["unit"])):
        raise ValueError(
            f"fitted on {len(fitted)} units, got {responses.sizes['unit']}; they differ in {name_some(extra)}"
        )
    return responses if fitted.equals(responses.indexes["unit"]) else responses.sel(unit=fitted)


def _is_plain(responses: Any) -> bool:
    """Whether responses have no labels of stimuli: an array in memory, a nested list, or a data frame."""
    if hasattr(type(responses), "chunks"):  # xarray, dask, zarr and HDF5: reading these whole is left to the caller
        return False
    return hasattr(responses, "__array__") or isinstance(responses, list | tuple) or issparse(responses)


def _check_plain(responses: Any, min_stimuli: int) -> np.ndarray:
    """Return an array (stimulus, unit) of real numbers, which may still contain NaN."""
    if isinstance(responses, np.ndarray) and responses.ndim != 2:
        raise ValueError(
            f"a plain array of responses must be (stimulus, unit), got shape {responses.shape}. Reshape your data, "
            "e.g. responses[None] if it is one stimulus"
        )
    kind = responses.dtype.kind if isinstance(responses, np.ndarray) else ""
    if kind == "c":  # scikit-learn asks for these words, but its own message prints the whole array
        raise ValueError(f"Complex data not supported: responses must be real numbers, got dtype {responses.dtype}")
    if kind in ("U", "S"):
        raise TypeError(f"responses must be real numbers, got dtype {responses.dtype}")
    return check_array(responses, ensure_all_finite=False, ensure_min_samples=min_stimuli)


def _label_plain(values: np.ndarray, units: np.ndarray) -> xr.DataArray:
    labels = {"stimulus": np.arange(len(values)).astype(str), "unit": units}
    return xr.DataArray(values, dims=("stimulus", "unit"), coords=labels)


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
