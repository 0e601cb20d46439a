"""The index of items on groups of the stimuli, for many random splits at once, and without each of their top stimuli.

In any split, an item's top stimuli of each group are among the first few by its codes, its *leading* stimuli. Their
distances are looked up once for each item, in a table (place, place), and splits only select places of this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numba
import numpy as np
import xarray as xr

from neurosuper._kernels import FASTMATH, njit
from neurosuper.interpretability.random_splits import smallest_group
from neurosuper.interpretability.ties import TieOrder, rank_stimuli
from neurosuper.metrics.distances import Distances
from neurosuper.responses import name_some

MAX_TABLE_BYTES = 2**26  # bytes of distances of leading stimuli that are in memory at once (64 MiB)


class SampledIndex(NamedTuple):
    """The index of items on random groups of the stimuli, and how much it depends on each top stimulus.

    Parameters
    ----------
    of_groups : list of array (draw, group, item)
        The index on the groups of each split, in float32.
    influence : array (item, rank)
        The change of the index, on all stimuli, if the top stimulus of this rank is left out.
    """

    of_groups: list[np.ndarray]
    influence: np.ndarray


def groups_of(codes: xr.DataArray, splits: xr.DataArray, top: int) -> np.ndarray:
    """Return the group of each stimulus of these codes in each draw, `(stimulus, draw)`, after checking their sizes.

    Raises
    ------
    ValueError
        A group with fewer stimuli than `top`.
    """
    if (least := smallest_group(codes, splits)) < top:
        raise ValueError(
            f"{codes.sizes['stimulus']} stimuli are few: one of {splits.n_groups} random groups has {least}, and an "
            f"index needs {top}; lower `top`, or score on more stimuli"
        )
    return np.ascontiguousarray(splits.sel(stimulus=codes.stimulus.values).values.T, np.int8)


def leading_stimuli(codes: xr.DataArray, splits: Sequence[np.ndarray], top: int, seed: int = 0) -> np.ndarray:
    """Return positions `(item, place)` of the stimuli with the largest codes, as many as fill all groups in all draws.

    Stimuli with equal codes are in the order of `top_stimuli`. Places that an item does not need repeat its first
    stimulus.

    Parameters
    ----------
    codes : DataArray (stimulus, item)
    splits : sequence of array (stimulus, draw)
        From `groups_of`.
    top : int
        Number of top stimuli of a group.
    seed : int, optional
        Seed of the order of stimuli with equal codes.

    Raises
    ------
    ValueError
        NaN.
    """
    if (missing := codes.isnull().values.any(1)).any():
        raise ValueError(f"no code for stimulus {name_some(codes.stimulus.values[missing])}; leave it out")
    order = rank_stimuli(codes.values, TieOrder(codes.stimulus.values, codes[codes.dims[1]].values, seed))
    needed = np.max([_places_needed(order, groups, int(groups.max()) + 1, top) for groups in splits], axis=0)
    leading = order[:, : needed.max()].copy()
    unneeded = np.arange(leading.shape[1]) >= needed[:, None]
    return np.where(unneeded, leading[:, :1], leading)


def sample_index(
    distances: Distances,
    images: np.ndarray,
    leading: np.ndarray,
    splits: Sequence[np.ndarray],
    top: int,
    self_similarity: float,
) -> SampledIndex:
    """Return the index of each item on all groups of all splits, and without each of its top stimuli.

    Parameters
    ----------
    distances : Distances
    images : array (item, place)
        Positions in `distances` of the leading stimuli.
    leading : array (item, place)
        From `leading_stimuli`, for the same splits.
    splits : sequence of array (stimulus, draw)
        From `groups_of`.
    top : int
        Number of top stimuli of a group.
    self_similarity : float
        Of the metric: the index is this minus the mean distance.
    """
    n_items = len(leading)
    of_groups = [np.empty((groups.shape[1], int(groups.max()) + 1, n_items), np.float32) for groups in splits]
    influence = np.empty((n_items, top))
    for rows in _blocks(n_items, 8 * leading.shape[1] ** 2):
        tables = distances.between(images[rows], images[rows])
        for groups, scores in zip(splits, of_groups, strict=True):
            _mean_in_groups(tables, leading[rows], groups, top, scores[..., rows])
        influence[rows] = _influence(tables[:, : top + 1, : top + 1].astype(float))
    for scores in of_groups:
        np.subtract(self_similarity, scores, out=scores)
    return SampledIndex(of_groups, influence)


def _influence(tables: np.ndarray) -> np.ndarray:
    """Return the change of the index (item, rank) without the top stimulus of this rank.

    `tables` (item, M + 1, M + 1) are distances between the M top stimuli and the next, which replaces the one left out.
    """
    n = tables.shape[1] - 1
    # Without image j of M + 1, the sum over ordered pairs is T − 2 Σ_i d_ij, with T that of all M + 1. The index itself
    # is that without the last: the change is −[(T − 2 Σ_i d_ij) − (T − 2 Σ_i d_i,M+1)] / (M (M − 1)).
    sums = tables.sum(2)
    return 2 * (sums[:, :n] - sums[:, n:]) / (n * (n - 1))


def _blocks(n_rows: int, bytes_per_row: int) -> Iterator[slice]:
    size = max(1, MAX_TABLE_BYTES // bytes_per_row)
    return (slice(start, start + size) for start in range(0, n_rows, size))


@njit(parallel=True)
def _places_needed(order: np.ndarray, groups: np.ndarray, n_groups: int, top: int) -> np.ndarray:
    """Return how many of the first places of `order` (item, place) fill all groups in all draws, for each item."""
    n_items, n_stimuli = order.shape
    needed = np.zeros(n_items, np.int64)
    for u in numba.prange(n_items):
        counts, most = np.zeros(n_groups, np.int64), 0
        for draw in range(groups.shape[1]):
            counts[:] = 0
            n_full = 0
            for place in range(n_stimuli):
                group = groups[order[u, place], draw]
                counts[group] += 1
                n_full += counts[group] == top
                if n_full == n_groups:
                    most = max(most, place + 1)
                    break
        needed[u] = most
    return needed


@njit(parallel=True, fastmath=FASTMATH)
def _mean_in_groups(tables: np.ndarray, leading: np.ndarray, groups: np.ndarray, top: int, means: np.ndarray) -> None:
    """Write the mean distance over the pairs of the top stimuli of each group to `means` (draw, group, item)."""
    n_resamples, n_groups, n_items = means.shape
    n_pairs = top * (top - 1) / 2
    for u in numba.prange(n_items):
        members = np.zeros((n_groups, top), np.int64)
        counts, sums = np.zeros(n_groups, np.int64), np.zeros(n_groups)
        for draw in range(n_resamples):
            counts[:] = 0
            sums[:] = 0
            n_full = 0
            for place in range(leading.shape[1]):
                group = groups[leading[u, place], draw]
                n = counts[group]
                if n == top:
                    continue
                for i in range(n):
                    sums[group] += tables[u, place, members[group, i]]
                members[group, n] = place
                counts[group] = n + 1
                n_full += n + 1 == top
                if n_full == n_groups:
                    break
            for group in range(n_groups):
                means[draw, group, u] = sums[group] / n_pairs
