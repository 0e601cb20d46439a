"""Checks of scores before inference: one finite number per item, at least two items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._checks import check_count
from neurosuper.responses import check_labels, name_some

Statistic = Literal["mean", "median"]
CENTERS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "median": np.median}
ROUNDING = 1e-13  # relative to the largest score: smaller differences are rounding errors of double precision
MAX_RESAMPLED = 2**22  # resampled scores in memory at once: 32 MiB in double precision
MIN_RESAMPLES = 100  # of 100 resamples, two or three are beyond each limit of a 95 % interval


def check_items(scores: xr.DataArray, dim: str, what: str) -> xr.DataArray:
    """Return scores as float64 with the items last, after checking that each item has a finite score."""
    if not isinstance(scores, xr.DataArray):
        raise TypeError(f"{what} must be an xarray.DataArray, got {type(scores).__name__}; see interpretability_index")
    if dim not in scores.dims:
        raise ValueError(f"{what} have no dim {dim!r}; their dims are {scores.dims}: pass one of these")
    if scores.dtype.kind not in "iufb":
        raise TypeError(f"{what} must be real numbers, got dtype {scores.dtype}; convert them with .astype(float)")
    if (n := scores.sizes[dim]) < 2:
        raise ValueError(f"{what} need at least 2 items along {dim!r}, got {n}; score more units or directions")
    items = scores.transpose(..., dim).astype(float)
    bad = ~np.isfinite(items.values).reshape(-1, n).all(axis=0)
    if bad.any():
        raise ValueError(
            f"{what} contain NaN or infinite values at {dim} {name_some(items[dim].values[bad])}; drop these items "
            f"with {what}.where(np.isfinite({what})).dropna({dim!r})"
        )
    return items


def check_two(a: xr.DataArray, b: xr.DataArray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of two sets of items (item,); pairs are in the same order."""
    (x, of_a), (y, of_b) = (_check_one_dim(scores, what) for scores, what in ((a, "a"), (b, "b")))
    if not paired:
        return x.values, y.values
    x, y = check_labels(x, of_a, "paired scores"), check_labels(y, of_b, "paired scores")
    unpaired = x.indexes[of_a].symmetric_difference(y.indexes[of_b])
    if len(unpaired):
        raise ValueError(
            f"paired scores need the same labels in a and b, but only one has {name_some(unpaired)}; "
            "select the labels that both have, or use paired=False"
        )
    return x.values, y.sel({of_b: x.indexes[of_a].values}).values


def _check_one_dim(scores: xr.DataArray, what: str) -> tuple[xr.DataArray, str]:
    """Return scores with a single dim, and the name of that dim."""
    if isinstance(scores, xr.DataArray) and scores.ndim != 1:
        raise ValueError(
            f"{what} must have one dim, that of its items, got {scores.dims}; select along the others, "
            f"such as {what}.sel(metric='color')"
        )
    dim = str(scores.dims[0]) if isinstance(scores, xr.DataArray) else ""
    return check_items(scores, dim, what), dim


def check_resamples(n_resamples: int) -> None:
    """Raise unless there are at least `MIN_RESAMPLES` resamples."""
    check_count("n_resamples", n_resamples, least=MIN_RESAMPLES)
