"""Random splits of the stimuli into groups of equal size (halves, quarters), and the index on each group."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper.interpretability.ties import TieOrder, rank_stimuli
from neurosuper.metrics.distances import Distances
from neurosuper.responses import name_some

HEAD_FACTOR = 8  # the 8 × n_groups × top largest codes are searched first: on average 8 × top are in a group


def draw_splits(
    labels: np.ndarray, n_groups: int, n_resamples: int, rng: np.random.Generator, photographs: np.ndarray | None = None
) -> xr.DataArray:
    """Return the group of each stimulus in each random split `(draw, stimulus)`; group sizes differ by at most one.

    If the number of the photograph of each stimulus is given (see `photographs_of`), copies of one photograph are in
    the same group, and groups have equally many photographs.
    """
    photographs = np.arange(len(labels)) if photographs is None else photographs
    groups = (np.arange(photographs.max() + 1) % n_groups).astype(np.int8)
    drawn = rng.permuted(np.broadcast_to(groups, (n_resamples, len(groups))), axis=1)[:, photographs]
    return xr.DataArray(drawn, dims=("draw", "stimulus"), coords={"stimulus": labels}, attrs={"n_groups": n_groups})


def smallest_group(codes: xr.DataArray, splits: xr.DataArray) -> int:
    """Return the smallest number of stimuli of these codes in a group of any split."""
    groups = splits.sel(stimulus=codes.stimulus.values).values
    return min(int((groups == group).sum(axis=1).min()) for group in range(splits.n_groups))


def top_in_groups(codes: xr.DataArray, splits: xr.DataArray, top: int, seed: int = 0) -> np.ndarray:
    """Return positions `(draw, group, item, rank)` of the top stimuli of each group, among the stimuli of `codes`.

    They are those that `top_stimuli` would choose in each group: `seed` ranks stimuli with equal codes.

    Raises
    ------
    ValueError
        NaN, or a group with fewer stimuli than `top`.
    """
    if (missing := codes.isnull().values.any(1)).any():
        raise ValueError(f"no code for stimulus {name_some(codes.stimulus.values[missing])}; leave it out")
    groups, n_groups = splits.sel(stimulus=codes.stimulus.values).values, splits.n_groups
    if (least := smallest_group(codes, splits)) < top:
        raise ValueError(
            f"{codes.sizes['stimulus']} stimuli are few: one of {n_groups} random groups has {least}, and an index "
            f"needs {top}; lower `top`, or score on more stimuli"
        )
    order = rank_stimuli(codes.values, TieOrder(codes.stimulus.values, codes[codes.dims[1]].values, seed))
    return np.stack([top_in_split(order, row, n_groups, top) for row in groups])


def top_in_split(order: np.ndarray, groups: np.ndarray, n_groups: int, top: int) -> np.ndarray:
    """Return stimuli `(group, item, rank)` of `order (item, place)`, by decreasing code, given the group of each."""
    first = order[:, : HEAD_FACTOR * n_groups * top]
    inside = groups[first] == np.arange(n_groups)[:, None, None]
    if inside.sum(2).min() < top:
        first, inside = order, groups[order] == np.arange(n_groups)[:, None, None]
    chosen = inside & (inside.cumsum(2) <= top)
    return np.broadcast_to(first, chosen.shape)[chosen].reshape(n_groups, len(order), top)


def index_of_sets(distances: Distances, positions: np.ndarray, self_similarity: float) -> np.ndarray:
    """Return the index `(…)` of sets of images, given by their positions `(…, rank)`."""
    rows = positions.reshape(-1, positions.shape[-1])
    means = distances.mean(rows, np.ones(rows.shape), [rows.shape[1]])
    return (self_similarity - means).reshape(positions.shape[:-1])
