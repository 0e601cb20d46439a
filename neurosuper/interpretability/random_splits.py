"""Random splits of the stimuli into groups of equal size (halves, quarters), and the index on each group."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.interpretability.ties import TieOrder, rank_stimuli
from neurosuper.metrics.distances import Distances
from neurosuper.responses import name_some

HEAD_FACTOR = 8  # the 8 × n_groups × top largest codes are searched first: on average 8 × top are in a group

# Tries at dividing the photographs of three sets or more: with 1, 3 to 5 % of halves are unequal by 2, with 16 0.1 %.
TRIES = 16


def draw_splits(
    labels: np.ndarray,
    n_groups: int,
    n_resamples: int,
    rng: np.random.Generator,
    photographs: np.ndarray | None = None,
    shown: np.ndarray | None = None,
) -> xr.DataArray:
    """Return the group of each stimulus in each random split `(draw, stimulus)`; group sizes differ by at most one.

    If the number of the photograph of each stimulus is given (see `photographs_of`), copies of one photograph are in
    the same group, and groups have equally many photographs. With `shown (photograph, set)`, the photographs that each
    of several sets of items saw (see `shown_to`), this is so for the photographs of each set: exactly for up to two
    sets, as closely as a greedy choice allows for more. Sets that all saw the same are one.
    """
    photographs = np.arange(len(labels)) if photographs is None else photographs
    n = int(photographs.max()) + 1
    shown = np.ones((n, 1), bool) if shown is None else np.unique(shown, axis=1)
    # A stratum is the photographs that the same sets saw, in order of first appearance: the order of sets is no matter.
    stratum, seen_by = pd.factorize(pd.Series(map(tuple, shown.tolist())))
    sizes, seen_by = np.bincount(stratum), np.array(seen_by.tolist())
    drawn = np.empty((n_resamples, n), np.int8)
    places = [np.broadcast_to((np.arange(size) % n_groups).astype(np.int8), (n_resamples, size)) for size in sizes]
    places = [rng.permuted(own, axis=1) for own in places]
    order = _order_groups(sizes, seen_by, n_groups, n_resamples, rng)
    for i, own in enumerate(places):
        drawn[:, stratum == i] = np.take_along_axis(order[:, i], own, axis=1)
    coords = {"stimulus": labels}
    return xr.DataArray(drawn[:, photographs], coords, ("draw", "stimulus"), attrs={"n_groups": n_groups})


def _order_groups(
    sizes: np.ndarray, seen_by: np.ndarray, n_groups: int, n_resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the groups `(draw, stratum, place)` of each stratum, those first that get one photograph more.

    Strata are taken one by one, those that most sets saw first, and give the photographs that are left over to the
    groups in which their sets have the fewest so far: those of a single set make up for the others. Of several tries,
    which differ in the order of strata and in ties, the one that divides the sets most equally is taken.
    """
    n_strata, n_systems = seen_by.shape
    if n_strata == 1:
        return np.broadcast_to(np.arange(n_groups, dtype=np.int8), (n_resamples, 1, n_groups))
    n_tries = 1 if n_systems <= 2 else TRIES  # the first is the best for two sets
    n = n_resamples * n_tries
    order, ties = np.empty((n, n_strata, n_groups), np.int8), rng.random((n, n_strata, n_groups))
    most_first = np.lexsort((rng.random((n, n_strata)), np.tile(-seen_by.sum(1), (n, 1))))
    tries, totals = np.arange(n), np.zeros((n, n_systems, n_groups), int)
    for i in most_first.T:  # (try,): the next stratum of each
        load = (seen_by[i, :, None] * totals).sum(1)
        order[tries, i] = fewest = np.lexsort((ties[tries, i], load))
        extra = np.zeros((n, n_groups), int)
        np.put_along_axis(extra, fewest, (np.arange(n_groups) < sizes[i, None] % n_groups).astype(int), axis=1)
        totals += seen_by[i, :, None] * extra[:, None]
    unequal = np.ptp(totals, axis=2).max(1).reshape(n_resamples, n_tries)
    return order.reshape(n_resamples, n_tries, n_strata, n_groups)[np.arange(n_resamples), unequal.argmin(1)]


def shown_to(sets: Iterable[xr.DataArray], labels: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    """Return which photographs `(photograph, set)` each set saw; `photographs` are the numbers of all `labels`."""
    number_of, sets = pd.Series(photographs, labels), list(sets)
    shown = np.zeros((int(photographs.max()) + 1, len(sets)), bool)
    for i, own in enumerate(sets):
        shown[number_of[own.stimulus.values].values, i] = True
    return shown


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
