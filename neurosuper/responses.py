"""Responses: their layout, and the steps that prepare them for finding directions.

Responses are an ordinary `xarray.DataArray` with dims `("stimulus", "unit")`, or `("stimulus", "repetition", "unit")`
with NaN where a repetition is missing. The labels of `stimulus` and `unit` are unique strings, compared in Unicode form
NFC and without padding.
"""

from typing import Literal, TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import Seed, make_rng
from neurosuper._content import photographs_of
from neurosuper._joins import By, is_images, join
from neurosuper._labels import DOOR, check_labels, name_some

__all__ = ["align", "average_repetitions", "check_responses", "drop_constant_units", "normalize", "split_stimuli"]

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)
Other = TypeVar("Other", xr.DataArray, xr.Dataset)


def check_responses(responses: xr.DataArray) -> xr.DataArray:
    """Return responses with their dims in standard order, or raise an error that says what is wrong with them.

    Parameters
    ----------
    responses : DataArray
        Dims `stimulus` and `unit`, and `repetition` if stimuli were repeated, in any order.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, repetition, unit)
        The same data, transposed; name `response`. Labels are in Unicode form NFC, without padding. Dask-backed
        responses stay lazy and are not checked for NaN.

    Raises
    ------
    TypeError
        Not a DataArray, not numbers, or labels that are not strings.
    ValueError
        Missing dims or labels, duplicate labels, fewer than two stimuli, no unit, infinite values, or NaN (except for
        missing repetitions).

    See Also
    --------
    neurosuper.images.check_images : the same for images.
    neurosuper.as_responses : make responses of any array or table.
    drop_constant_units : remove units that give every stimulus the same response.

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
        raise TypeError(f"responses must be an xarray.DataArray, got {type(responses).__name__}; {DOOR}")
    for dim in ("stimulus", "unit"):
        responses = check_labels(responses, dim, "responses")
    dims = ("stimulus", "repetition", "unit") if "repetition" in responses.dims else ("stimulus", "unit")
    if "window" in responses.dims:
        windows = name_some(responses["window"].values)
        raise ValueError(f"responses have the dim window ({windows}); select one first, by responses.sel(window=…)")
    if extra := set(responses.dims) - set(dims):
        raise ValueError(
            f"responses have the extra dims {sorted(map(str, extra))}; select or average them first, and if dims have "
            f"other names, {DOOR}"
        )
    if responses.dtype.kind not in "iufb":
        raise TypeError(f"responses must be real numbers, got dtype {responses.dtype}; {DOOR}")
    if responses.sizes["stimulus"] < least_stimuli or responses.sizes["unit"] < 1:
        stimuli = "1 stimulus" if least_stimuli == 1 else f"{least_stimuli} stimuli"
        raise ValueError(f"responses need at least {stimuli} and 1 unit, got {dict(responses.sizes)}")
    responses = responses.transpose(*dims).rename("response")
    if responses.chunks is None:
        _check_values(responses, allow_nan="repetition" in dims)
    return responses


def check_windows(responses: xr.DataArray) -> xr.DataArray:
    """Return responses of one window, or of several along the dim `window`, in standard order after checking them."""
    if "window" not in responses.dims:
        return check_responses(responses)
    checked = [check_responses(responses.isel(window=i)) for i in range(responses.sizes["window"])]
    labels = {dim: checked[0][dim].variable for dim in ("stimulus", "unit")}
    return responses.assign_coords(labels).transpose(*checked[0].dims[:-1], "window", "unit").rename("response")


def _check_values(responses: xr.DataArray, allow_nan: bool) -> None:
    """Raise an error that names the units with infinite values, or with NaN unless it is allowed."""
    values = responses.values
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):  # the sum is finite only if every value is
            return
    bad = np.isinf(values) if allow_nan else ~np.isfinite(values)
    if bad.any():
        units = responses.unit.values[bad.reshape(-1, bad.shape[-1]).any(axis=0)]
        kind = "infinite" if allow_nan else "NaN or infinite"
        cure = "responses.where(np.isfinite(responses))" + ("" if allow_nan else ".dropna('stimulus')")
        raise ValueError(
            f"responses contain {int(bad.sum())} {kind} values, in unit {name_some(units)}; drop those units, or "
            f"remove the values with {cure}"
        )


def check_averaged(responses: xr.DataArray, least_stimuli: int = 2) -> xr.DataArray:
    """Return responses (stimulus, unit) in standard order; raise an error if repetitions were not averaged."""
    responses = _check_responses(responses, least_stimuli)
    if "repetition" in responses.dims:
        raise ValueError(
            f"responses must have the dims stimulus and unit, got {responses.dims}; "
            "call neurosuper.average_repetitions(responses) first"
        )
    return responses


DROP_THEM = "drop such units with neurosuper.responses.drop_constant_units(responses)"


def constant_items(codes: xr.DataArray) -> np.ndarray:
    """Return the labels of units or directions that give every stimulus the same code (stimulus, item).

    The same in float32, as in finders: the mean of 0.1, 0.1 and 0.1 may differ from that of 0.1 and 0.1 in float64.
    """
    low, high = codes.min("stimulus").values, codes.max("stimulus").values
    with np.errstate(over="ignore"):  # rounding keeps the order: the largest code is still the largest
        low32, high32 = low.astype(np.float32), high.astype(np.float32)
    is_in_range = np.isfinite(low32) & (low32 != 0)  # finders refuse other responses, or scale them
    return codes[codes.dims[1]].values[(low == high) | (low32 == high32) & is_in_range]


def require_varying(codes: xr.DataArray, where: str = "", remedy: str = DROP_THEM) -> None:
    """Raise an error for units or directions of zero variance (stimulus, item), which have no top stimuli."""
    constant = constant_items(codes)
    if len(constant):
        raise ValueError(f"zero variance over stimuli{where} in {codes.dims[1]} {name_some(constant)}; {remedy}")


def drop_constant_units(responses: xr.DataArray) -> xr.DataArray:
    """Return responses without the units that give every stimulus the same response, to the precision of float32.

    If stimuli have the coord `split` (see `split_stimuli`), a unit must vary within each of its parts.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        Averaged over repetitions.

    Returns
    -------
    DataArray (stimulus, unit)
        `attrs["dropped_units"]` lists the labels of the units that were dropped.

    Raises
    ------
    ValueError
        No unit is left; repetitions that were not averaged.

    See Also
    --------
    neurosuper.select_units : keep the units that reach a threshold, such as of reliability.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1., 0.], [2., 0.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "silent"]})
    >>> drop_constant_units(r).unit.values.tolist()
    ['a']
    """
    responses = check_averaged(responses)
    parts = [responses]
    if "split" in responses.coords:
        parts = [part_of(responses, split) for split in np.unique(responses.split.values)]
    dropped = np.unique(np.concatenate([constant_items(part) for part in parts]))
    kept = responses.sel(unit=~responses.indexes["unit"].isin(dropped))
    if not kept.sizes["unit"]:
        raise ValueError(f"all {len(dropped)} units are constant over the stimuli; check the window and the loader")
    return kept.assign_attrs(dropped_units=dropped.tolist())


def part_of(responses: xr.DataArray, split: str) -> xr.DataArray:
    """Return the responses to the stimuli whose coord `split` has this value."""
    return responses.sel(stimulus=(responses.split == split).values)


def coords_along(array: xr.DataArray, dim: str) -> dict[str, xr.DataArray]:
    """Return the coords that have this dim and no other."""
    return {str(name): coord for name, coord in array.coords.items() if coord.dims == (dim,)}


def average_repetitions(responses: xr.DataArray) -> xr.DataArray:
    """Return responses averaged over repetitions, ignoring the missing ones.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing; the number of repetitions may differ between stimuli.

    Returns
    -------
    DataArray (stimulus, unit)
        With the stimulus coord `n_repetitions` (the largest number over units); coords and attrs are kept. NaN where a
        unit has no repetition of a stimulus. Responses without the dim `repetition` are returned unchanged.

    See Also
    --------
    neurosuper.split_repetitions : averages over two random halves of the repetitions.
    neurosuper.copies.average_copies : average over stimuli that show the same photograph.

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
    """Return z-scored units, or response vectors of unit length for each stimulus.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        Averaged over repetitions.
    how : {"zscore", "unit_norm"}
        "zscore": each unit has mean 0 and standard deviation 1 over stimuli (ddof=0). "unit_norm": the response vector
        of each stimulus over units has length 1 (Klindt et al. 2023); a vector of zeros stays zero.

    Returns
    -------
    DataArray (stimulus, unit)
        In float32 for float32 input, else float64; `attrs["units"]` becomes "s.d." or "1".

    Raises
    ------
    ValueError
        Another `how`; "zscore" with units of zero variance; repetitions that were not averaged.

    See Also
    --------
    average_repetitions : what to call first, if stimuli were repeated.

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


def split_stimuli(responses: Labelled, *, fit: float = 0.5, random_state: Seed = 0) -> Labelled:
    """Return responses whose stimuli are marked at random for fitting directions or for scoring them.

    The same labels and `random_state` always give the same split, in any order of the stimuli. Copies of one
    photograph, which the coord `content` identifies (see `find_copies`), are in the same part.

    Parameters
    ----------
    responses : DataArray or Dataset with dim `stimulus`
        Responses, images, or anything else with stimulus labels.
    fit : float, optional
        Share of stimuli to fit on, strictly between 0 and 1.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split; None draws another split each time.

    Returns
    -------
    DataArray or Dataset
        The same data, with the stimulus coord `split`: "fit" or "score".

    Raises
    ------
    ValueError
        `fit` outside (0, 1), or so extreme that a part would have fewer than two photographs.

    See Also
    --------
    neurosuper.split_repetitions : halves that share all stimuli, but not the noise.
    neurosuper.copies.find_copies : find the copies of a photograph.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1.], [2.], [3.], [4.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("wxyz"), "unit": ["a"]})
    >>> (split_stimuli(r).split == "fit").sum().item()
    2
    """
    responses = check_labels(responses, "stimulus", "responses")
    n_stimuli = responses.sizes["stimulus"]
    n_fit = round(fit * n_stimuli) if 0 < fit < 1 else 0
    order = np.argsort(responses.stimulus.values.astype(str))
    photographs = pd.factorize(photographs_of(responses)[order])[0]  # numbered in order of label
    sizes = np.bincount(photographs)
    drawn = make_rng(random_state).permutation(len(sizes))
    # photographs are taken whole, with all their copies, until the next one would exceed n_fit
    n_chosen = int(np.searchsorted(sizes[drawn].cumsum(), n_fit, side="right"))
    if min(n_fit, n_stimuli - n_fit) < 2 or min(n_chosen, len(sizes) - n_chosen) < 2:
        what = f"{n_stimuli} stimuli" if len(sizes) == n_stimuli else f"{n_stimuli} stimuli ({len(sizes)} photographs)"
        raise ValueError(f"fit={fit} of {what} must leave at least 2 stimuli on each side; use a share in (0, 1)")
    split = np.empty(n_stimuli, dtype="U5")
    split[order] = np.where(np.isin(photographs, drawn[:n_chosen]), "fit", "score")
    return responses.assign_coords(split=("stimulus", split))


def align(a: Labelled, b: Other, *, by: By = "label") -> tuple[Labelled, Other]:
    """Return two systems, or responses and images, restricted to their shared stimuli in the order of the first.

    A warning reports how many stimuli of each side are left out. Images without responses alone give no warning.

    Parameters
    ----------
    a, b : DataArray or Dataset with dim `stimulus`
        The two sides: responses, codes or images.
    by : {"label", "content"}, optional
        "label": stimuli with the same label are the same. "content": stimuli with the same pixels are the same, even if
        their labels differ; each side must be images or have the coord `content`, a digest that `load_images` computes.

    Returns
    -------
    tuple
        `a` and `b` on the same stimuli in the same order, with the labels of `a`. `attrs["n_stimuli_left_out"]` of each
        counts the stimuli that joins have left out, if any. A side without `content` gets that of the other.

    Raises
    ------
    ValueError
        They share no stimulus (three labels of each side are shown); a label names different photographs on the two
        sides; by "content", a side has no content, or has copies of one photograph (see `average_copies`).

    See Also
    --------
    neurosuper.copies.average_copies : average over copies before joining by content.
    neurosuper.load_images : load images with their labels and content.

    Examples
    --------
    >>> import xarray as xr
    >>> a = xr.DataArray([1, 2], dims="stimulus", coords={"stimulus": ["x", "y"]})
    >>> b = xr.DataArray([10, 20], dims="stimulus", coords={"stimulus": ["y", "x"]})
    >>> align(a, b)[1].values.tolist()
    [20, 10]
    """
    stacks = (is_images(a), is_images(b))
    images: Literal["a", "b", None] = None if stacks[0] == stacks[1] else ("a" if stacks[0] else "b")
    return join(a, b, by, images=images)
