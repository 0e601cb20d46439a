"""Responses: the contract, and what is done to responses before directions are sought.

Responses are a plain `xarray.DataArray` with dims `("stimulus", "unit")`, or `("stimulus", "repetition", "unit")`
with NaN where a repetition is missing. `stimulus` and `unit` carry unique strings.
"""

from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import xarray as xr
from pandas.api.types import infer_dtype

__all__ = ["align", "average_repetitions", "check_responses", "drop_constant_units", "normalize", "split_stimuli"]

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)
Other = TypeVar("Other", xr.DataArray, xr.Dataset)


def name_some(labels: object, most: int = 3) -> str:
    """Return the first few labels and how many there are: `'a', 'b', 'c', … (12 in all)`."""
    names = [str(label) for label in np.atleast_1d(np.asarray(labels)).tolist()]
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def check_labels(array: xr.DataArray | xr.Dataset, dim: str, what: str) -> None:
    """Refuse a dim whose labels are missing, repeated, or not strings."""
    if dim not in array.dims:
        raise ValueError(f"{what} need a dim {dim!r}, got dims {tuple(array.dims)}; rename them")
    if dim not in array.indexes:
        raise ValueError(f"{what} need labels on {dim!r}; add them with .assign_coords({dim}=[...])")
    index = array.indexes[dim]
    if index.nlevels > 1:
        raise ValueError(
            f"{what} have a MultiIndex on {dim!r}; flatten it with .reset_index({dim!r}) and label {dim!r}"
        )
    if infer_dtype(index, skipna=False) != "string" or index.hasnans:
        kinds = {type(label).__name__ for label in index if not isinstance(label, str)}
        raise TypeError(
            f"{what} need strings on {dim!r}, got {', '.join(sorted(kinds))}; "
            f"use .assign_coords({dim}=labels.astype(str))"
        )
    if not index.is_unique:
        twice = index[index.duplicated()].unique()
        raise ValueError(f"{what} have duplicate {dim} labels {name_some(twice)}; average or relabel them first")


def check_responses(responses: xr.DataArray) -> xr.DataArray:
    """Return responses in the order of the contract, or say what is wrong with them.

    Parameters
    ----------
    responses : DataArray
        Dims `stimulus` and `unit`, and `repetition` where stimuli were repeated, in any order.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, repetition, unit)
        The same data, transposed; name `response`. Dask-backed responses stay lazy, and are not searched for NaN.

    Raises
    ------
    TypeError
        Not a DataArray, not numbers, or labels that are not strings.
    ValueError
        Missing dims or labels, duplicate labels, fewer than two stimuli, no unit, infinite values, or NaN (but for
        missing repetitions).

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1., 2.]], dims=("unit", "stimulus"), coords={"unit": ["a"], "stimulus": ["x", "y"]})
    >>> check_responses(r).dims
    ('stimulus', 'unit')
    """
    return _check_responses(responses, 2)


def _check_responses(responses: xr.DataArray, least_stimuli: int) -> xr.DataArray:
    if not isinstance(responses, xr.DataArray):
        raise TypeError(f"responses must be an xarray.DataArray, got {type(responses).__name__}; see load_array")
    for dim in ("stimulus", "unit"):
        check_labels(responses, dim, "responses")
    dims = ("stimulus", "repetition", "unit") if "repetition" in responses.dims else ("stimulus", "unit")
    if extra := set(responses.dims) - set(dims):
        raise ValueError(f"responses have the extra dims {sorted(map(str, extra))}; select or average them first")
    if responses.dtype.kind not in "iufb":
        raise TypeError(f"responses must be real numbers, got dtype {responses.dtype}")
    if responses.sizes["stimulus"] < least_stimuli or responses.sizes["unit"] < 1:
        stimuli = "1 stimulus" if least_stimuli == 1 else f"{least_stimuli} stimuli"
        raise ValueError(f"responses need at least {stimuli} and 1 unit, got {dict(responses.sizes)}")
    responses = responses.transpose(*dims).rename("response")
    if responses.chunks is None:
        _check_values(responses, allow_nan="repetition" in dims)
    return responses


def _check_values(responses: xr.DataArray, allow_nan: bool) -> None:
    """Refuse infinite values, and NaN unless allowed, naming the units that hold them."""
    values = responses.values
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):  # which one value that is not would spoil
            return
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    if bad.any():
        units = responses.unit.values[bad.reshape(-1, bad.shape[-1]).any(axis=0)]
        kind = "infinite" if allow_nan else "NaN or infinite"
        cure = "responses.where(np.isfinite(responses))" + ("" if allow_nan else ".dropna('stimulus')")
        raise ValueError(
            f"responses hold {int(bad.sum())} {kind} values, in unit {name_some(units)}; drop those units, or clear "
            f"the values with {cure}"
        )


def check_averaged(responses: xr.DataArray, least_stimuli: int = 2) -> xr.DataArray:
    """Return responses in the order of the contract, refusing repetitions that were not averaged."""
    responses = _check_responses(responses, least_stimuli)
    if "repetition" in responses.dims:
        raise ValueError(
            f"responses must have the dims stimulus and unit, got {responses.dims}; "
            "call neurosuper.average_repetitions(responses) first"
        )
    return responses


DROP_THEM = "drop such units with neurosuper.drop_constant_units(responses)"


def constant_items(codes: xr.DataArray) -> np.ndarray:
    """Return the labels of units or directions that give every stimulus the same code (stimulus, item)."""
    constant = codes.max("stimulus") == codes.min("stimulus")
    return codes[codes.dims[1]].values[constant.values]


def require_varying(codes: xr.DataArray, where: str = "", remedy: str = DROP_THEM) -> None:
    """Refuse units or directions of zero variance (stimulus, item): they have no top stimuli and no direction."""
    constant = constant_items(codes)
    if len(constant):
        raise ValueError(f"zero variance over stimuli{where} in {codes.dims[1]} {name_some(constant)}; {remedy}")


def drop_constant_units(responses: xr.DataArray) -> xr.DataArray:
    """Drop the units that give every stimulus the same response.

    Where stimuli carry a `split` (see `split_stimuli`), a unit must vary within each part of it.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)

    Returns
    -------
    DataArray (stimulus, unit)
        `attrs["dropped_units"]` lists the labels of those dropped.

    Raises
    ------
    ValueError
        No unit is left; repetitions that were not averaged.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1., 0.], [2., 0.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "silent"]})
    >>> drop_constant_units(r).unit.values.tolist()
    ['a']
    """
    responses = check_averaged(responses)
    dropped = np.unique(np.concatenate([constant_items(part) for part in split_parts(responses)]))
    kept = responses.sel(unit=~responses.indexes["unit"].isin(dropped))
    if not kept.sizes["unit"]:
        raise ValueError(f"all {len(dropped)} units are constant over the stimuli; check the window and the loader")
    return kept.assign_attrs(dropped_units=dropped.tolist())


def split_parts(responses: xr.DataArray) -> list[xr.DataArray]:
    """Return the parts of responses named by the coord `split`, or the whole where there is none."""
    if "split" not in responses.coords:
        return [responses]
    return [part_of(responses, split) for split in np.unique(responses.split.values)]


def part_of(responses: xr.DataArray, split: str) -> xr.DataArray:
    """Return the stimuli whose `split` is this."""
    return responses.sel(stimulus=(responses.split == split).values)


def coords_along(array: xr.DataArray, dim: str) -> dict[str, xr.DataArray]:
    """Return the coords that lie along one dim and no other."""
    return {str(name): coord for name, coord in array.coords.items() if coord.dims == (dim,)}


def average_repetitions(responses: xr.DataArray) -> xr.DataArray:
    """Average over repetitions, leaving out the missing ones.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing; stimuli may have been repeated unequally often.

    Returns
    -------
    DataArray (stimulus, unit)
        With the stimulus coord `n_repetitions` (the most that any unit has); coords and attrs are kept. Where a unit
        has no repetition of a stimulus, NaN remains. Responses without `repetition` are returned unchanged.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray([[[1.], [3.]], [[5.], [np.nan]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a"]})
    >>> average_repetitions(r).values.ravel().tolist()
    [2.0, 5.0]
    """
    responses = check_responses(responses)
    if "repetition" not in responses.dims:
        return responses
    if responses.dtype == np.float16:
        responses = responses.astype(np.float32)
    counts = responses.notnull().sum("repetition").max("unit")
    mean = responses.mean("repetition", skipna=True, keep_attrs=True)
    return mean.assign_coords(n_repetitions=counts)


def normalize(responses: xr.DataArray, how: Literal["zscore", "unit_norm"]) -> xr.DataArray:
    """Normalise units to mean 0 and variance 1, or stimuli to response vectors of unit length.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
    how : {"zscore", "unit_norm"}
        "zscore": every unit over stimuli, with the population's standard deviation (ddof=0).
        "unit_norm": every stimulus over units (Klindt et al. 2023); a stimulus without any response stays zero.

    Returns
    -------
    DataArray (stimulus, unit)
        float32 for float32 input, else float64; `attrs["units"]` becomes "s.d." or "1".

    Raises
    ------
    ValueError
        Another `how`; "zscore" with units of zero variance; repetitions that were not averaged.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[3., 4.], [0., 2.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "b"]})
    >>> normalize(r, "unit_norm").values.tolist()
    [[0.6, 0.8], [0.0, 1.0]]
    """
    responses = check_averaged(responses)
    if responses.dtype != np.float32:
        responses = responses.astype(float)
    if how == "zscore":
        require_varying(responses)
        scaled, units = (responses - responses.mean("stimulus")) / responses.std("stimulus"), "s.d."
    elif how == "unit_norm":
        length = (responses**2).sum("unit") ** 0.5
        scaled, units = responses / length.where(length > 0, 1), "1"
    else:
        raise ValueError(f"how must be 'zscore' or 'unit_norm', got {how!r}")
    return scaled.assign_attrs(responses.attrs | {"units": units, "normalized": how})


def split_stimuli(responses: Labelled, fit: float = 0.5, random_state: int | None = 0) -> Labelled:
    """Mark each stimulus for fitting directions or for scoring them.

    The same labels and `random_state` always give the same split, whatever the order of the stimuli.

    Parameters
    ----------
    responses : DataArray or Dataset with dim `stimulus`
    fit : float, optional
        Share of stimuli to fit on, strictly between 0 and 1.
    random_state : int, optional

    Returns
    -------
    The same, with the stimulus coord `split`: "fit" or "score".

    Raises
    ------
    ValueError
        `fit` outside (0, 1), or so extreme that a part would have fewer than two stimuli.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1.], [2.], [3.], [4.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("wxyz"), "unit": ["a"]})
    >>> (split_stimuli(r).split == "fit").sum().item()
    2
    """
    check_labels(responses, "stimulus", "responses")
    labels = np.sort(responses.stimulus.values.astype(str))
    n_fit = round(fit * len(labels)) if 0 < fit < 1 else 0
    if min(n_fit, len(labels) - n_fit) < 2:
        raise ValueError(
            f"fit={fit} of {len(labels)} stimuli must leave at least 2 stimuli on each side; use a share in (0, 1)"
        )
    chosen = np.random.default_rng(random_state).permutation(labels)[:n_fit]
    split = np.where(responses.indexes["stimulus"].isin(chosen), "fit", "score")
    return responses.assign_coords(split=("stimulus", split))


def align(a: Labelled, b: Other) -> tuple[Labelled, Other]:
    """Keep the stimuli that two systems (or responses and images) share, in the order of the first.

    Parameters
    ----------
    a, b : DataArray or Dataset with dim `stimulus`

    Returns
    -------
    tuple
        `a` and `b`, on the same stimuli in the same order.

    Raises
    ------
    ValueError
        They share no stimulus; three labels of each side are shown.

    Examples
    --------
    >>> import xarray as xr
    >>> a = xr.DataArray([1, 2, 3], dims="stimulus", coords={"stimulus": ["x", "y", "z"]})
    >>> b = xr.DataArray([10, 20], dims="stimulus", coords={"stimulus": ["z", "x"]})
    >>> align(a, b)[1].values.tolist()
    [20, 10]
    """
    for side in (a, b):
        check_labels(side, "stimulus", "both sides")
    labels = a.indexes["stimulus"]
    shared = labels[labels.isin(b.indexes["stimulus"])]
    if shared.empty:
        raise ValueError(
            f"no stimulus label in common: {name_some(a.stimulus)} against {name_some(b.stimulus)}; "
            "labels are base names of image files without extension"
        )
    return _take(a, shared), _take(b, shared)


def _take(side: Labelled, labels: pd.Index) -> Labelled:
    """Return these stimuli; what has them in this order already is not copied."""
    return side if side.indexes["stimulus"].equals(labels) else side.sel(stimulus=labels)
