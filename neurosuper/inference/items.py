"""What is asked of scores before anything is inferred from them: one finite number per item, at least two items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._checks import check_count
from neurosuper.responses import check_labels, name_some

Statistic = Literal["mean", "median"]
CENTERS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "median": np.median}
ROUNDING = 1e-13  # of the largest score: differences below this are rounding
AT_ONCE = 2**22  # resampled scores held in memory
FEWEST_RESAMPLES = 100


def check_items(scores: xr.DataArray, dim: str, what: str) -> xr.DataArray:
    """Return scores as float64 with their items last, or say which items have none."""
    if not isinstance(scores, xr.DataArray):
        raise TypeError(f"{what} must be an xarray.DataArray, got {type(scores).__name__}; see interpretability_index")
    if dim not in scores.dims:
        raise ValueError(f"{what} have no dim {dim!r}; their dims are {scores.dims}: name one of these")
    if scores.dtype.kind not in "iufb":
        raise TypeError(f"{what} must be real numbers, got dtype {scores.dtype}; convert them with .astype(float)")
    if (n := scores.sizes[dim]) < 2:
        raise ValueError(f"{what} need at least 2 items along {dim!r}, got {n}; score more units or directions")
    items = scores.transpose(..., dim).astype(float)
    bad = ~np.isfinite(items.values).reshape(-1, n).all(axis=0)
    if bad.any():
        raise ValueError(
            f"{what} hold NaN or infinite values at {dim} {name_some(items[dim].values[bad])}; drop these items with "
            f"{what}.where(np.isfinite({what})).dropna({dim!r})"
        )
    return items


def check_two(a: xr.DataArray, b: xr.DataArray, paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of two sets of items (item,); of pairs, in the same order."""
    (x, of_a), (y, of_b) = (_check_one_dim(scores, what) for scores, what in ((a, "a"), (b, "b")))
    if not paired:
        return x.values, y.values
    x, y = check_labels(x, of_a, "paired scores"), check_labels(y, of_b, "paired scores")
    alone = x.indexes[of_a].symmetric_difference(y.indexes[of_b])
    if len(alone):
        raise ValueError(
            f"paired scores need the same labels in a and b, but only one has {name_some(alone)}; "
            "select those that both have, or use paired=False"
        )
    return x.values, y.sel({of_b: x.indexes[of_a].values}).values


def _check_one_dim(scores: xr.DataArray, what: str) -> tuple[xr.DataArray, str]:
    """Return scores along one dim, and that dim."""
    if isinstance(scores, xr.DataArray) and scores.ndim != 1:
        raise ValueError(
            f"{what} must have one dim, that of its items, got {scores.dims}; select along the others, "
            f"such as {what}.sel(metric='color')"
        )
    dim = str(scores.dims[0]) if isinstance(scores, xr.DataArray) else ""
    return check_items(scores, dim, what), dim


def check_resamples(n_resamples: int) -> None:
    """Refuse so few resamples that they say nothing."""
    check_count("n_resamples", n_resamples, least=FEWEST_RESAMPLES)
