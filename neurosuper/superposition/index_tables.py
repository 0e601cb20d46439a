"""The interpretability index of many items on any subset of the stimuli, for statistics with intervals over stimuli.

The leading stimuli of an item are those with its largest codes, in order. The top stimuli of a subset are the first
leading stimuli that are in it, and the distances of all of them are in one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numba
import numpy as np
import xarray as xr

from neurosuper._checks import check_count
from neurosuper._kernels import FASTMATH, njit
from neurosuper._memory import memory_of_machine
from neurosuper.interpretability.ranking import merge_blocks
from neurosuper.interpretability.ties import TieOrder
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances

BLOCK = 2048  # items whose codes are in memory at once, such as directions between two others
MIN_PARALLEL = 4096  # indices: fewer take less time (0.2 ms) than the start of threads may
ITEMS_AT_ONCE = 64  # which share the working memory of a thread
MIN_SUBSETS = 16  # fewer are computed one by one
SUBSETS_AT_ONCE = 128  # whose sums stay in the cache
NEAR = 3  # × top stimuli, and one: 4 % of halves have fewer than 5 of 16


class IndexTable(NamedTuple):
    """Distances between the leading stimuli of some items.

    Parameters
    ----------
    rows : array of int (stimulus,)
        Row of the table of each stimulus; −1 for stimuli that lead no item.
    distances : array (row, row)
        In float32.
    self_similarity : float
        Of the metric: the index is this minus the mean distance.
    """

    rows: np.ndarray
    distances: np.ndarray
    self_similarity: float

    def scores(self, leading: np.ndarray, top: int) -> np.ndarray:
        """Return the index `(item,)` of the first `top` of the `leading (item, place)` stimuli."""
        return self.scores_of_subsets(leading, top, np.ones((1, len(self.rows)), bool))[0]

    def scores_of_subsets(self, leading: np.ndarray, top: int, members: np.ndarray) -> np.ndarray:
        """Return the index `(subset, item)` of the first `top` of the `leading (item, place)` stimuli in each subset.

        A row of `members (subset, stimulus)` is True for the stimuli of a subset. NaN where fewer than `top` leading
        stimuli are in it.
        """
        means = np.empty((len(leading), len(members)))
        kernel = _mean_in_subsets if means.size > MIN_PARALLEL else _mean_in_subsets.sequential
        kernel(leading, np.ascontiguousarray(members.T), self.rows, self.distances, top, means)
        return self.self_similarity - means.T


def leading_places(blocks: Iterable[xr.DataArray], n_places: int, seed: int) -> np.ndarray:
    """Return positions `(item, place)` of the stimuli with the largest codes, the largest first.

    Parameters
    ----------
    blocks : iterable of DataArray (stimulus, item)
        Codes of some items each, for the same stimuli; not NaN.
    n_places : int
        Number of leading stimuli, or all stimuli if these are fewer.
    seed : int
        Of the order of stimuli with equal codes, which is that of `top_stimuli`.
    """
    found = []
    for codes in blocks:
        ties = TieOrder(codes.stimulus.values.astype(str), codes[codes.dims[1]].values, seed)
        positions, _ = merge_blocks(codes, 1, ties, min(n_places, codes.sizes["stimulus"]))
        found.append(positions.T.astype(np.int32))
    return np.concatenate(found)


def places_for(top: int) -> int:
    """Return the number of leading stimuli that has `top` in any random half, but for one of 10¹² halves."""
    return 40 + 4 * top


def open_table(
    stimuli: np.ndarray, images: xr.DataArray, metric: ImageMetric | Precomputed, leading: Iterable[np.ndarray]
) -> IndexTable:
    """Return the distances between all leading stimuli; each of their images is embedded once.

    Parameters
    ----------
    stimuli : array of str (stimulus,)
        Labels of the stimuli that positions in `leading` count from.
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric or Precomputed
    leading : iterable of array (item, place)
        From `leading_places`.

    Raises
    ------
    ValueError
        The table would take more memory than this machine has.
    """
    used = np.unique(np.concatenate([np.unique(places) for places in leading]))
    if (n_bytes := 4 * len(used) ** 2) > memory_of_machine() / 2:
        raise ValueError(
            f"the distances between {len(used)} images take {n_bytes / 1e9:.3g} GB, more than half of this machine's "
            "memory; use fewer stimuli"
        )
    rows = np.full(len(stimuli), -1, np.int64)
    rows[used] = np.arange(len(used))
    with open_distances(images.sel(stimulus=stimuli[used]), np.arange(len(used)), metric) as distances:
        return IndexTable(rows, np.ascontiguousarray(distances.matrix().table), float(metric.self_similarity))


def index_of_top(
    stimuli: np.ndarray, images: xr.DataArray, metric: ImageMetric | Precomputed, top: np.ndarray
) -> np.ndarray:
    """Return the index `(item,)` of items with the positions `top (item, place)` of their top stimuli.

    Only the distances that are needed are computed, each once.
    """
    used, rows = np.unique(top, return_inverse=True)
    rows = np.sort(rows.reshape(top.shape), axis=1)
    i, j = np.triu_indices(top.shape[1], 1)
    numbers, own = np.unique(rows[:, i] * len(used) + rows[:, j], return_inverse=True)
    with open_distances(images.sel(stimulus=stimuli[used]), np.arange(len(used)), metric) as distances:
        needed = distances.of_pairs(*np.divmod(numbers, len(used)))
    return float(metric.self_similarity) - needed[own.reshape(-1, len(i))].mean(axis=1)


def check_top(top: int, n_stimuli: int) -> int:
    """Return the number of top stimuli, if a random half of the stimuli has as many."""
    return check_count("top", top, least=2, most=n_stimuli // 2, why=f", half of the {n_stimuli} stimuli to score on")


@njit(parallel=True, fastmath=FASTMATH)
def _mean_in_subsets(
    leading: np.ndarray, members: np.ndarray, rows: np.ndarray, distances: np.ndarray, top: int, means: np.ndarray
) -> None:
    """Write the mean distance over pairs of the first `top` stimuli of each row of `leading` to `means` (item, subset).

    They are the first that are in the subset by `members` (stimulus, subset).
    """
    n_items, n_subsets = means.shape
    # Most subsets have enough of the first few stimuli. For these, sums are computed in many subsets at once.
    n_near = min(leading.shape[1], NEAR * top + 1) if n_subsets >= MIN_SUBSETS else 0
    for part in numba.prange((n_items + ITEMS_AT_ONCE - 1) // ITEMS_AT_ONCE):
        near, totals, counts = np.empty((n_near, n_near)), np.zeros(n_subsets), np.zeros(n_subsets)
        chosen = np.empty((n_near + 1, SUBSETS_AT_ONCE))
        for item in range(part * ITEMS_AT_ONCE, min((part + 1) * ITEMS_AT_ONCE, n_items)):
            for i in range(n_near):
                for j in range(i):
                    near[i, j] = distances[rows[leading[item, i]], rows[leading[item, j]]]
            for start in range(0, n_subsets if n_near else 0, SUBSETS_AT_ONCE):
                own = slice(start, min(start + SUBSETS_AT_ONCE, n_subsets))
                _add_in_subsets(leading[item, :n_near], members[:, own], near, top, totals[own], counts[own], chosen)
            for subset in range(n_subsets):
                if counts[subset] >= top:
                    means[item, subset] = totals[subset] / (top * (top - 1) / 2)
                else:
                    means[item, subset] = _mean_of_first(leading[item], members[:, subset], rows, distances, top)


@njit(fastmath=FASTMATH)
def _add_in_subsets(
    first: np.ndarray,
    members: np.ndarray,
    near: np.ndarray,
    top: int,
    totals: np.ndarray,
    counts: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """Write the sum of distances between the `first` members of each subset to `totals`, their number to `counts`.

    Distances between `first` (place,) are in `near` (place, place), below the diagonal; only the first `top` of
    `members` (stimulus, subset) are added. `chosen` is memory for rows (place, subset), and one more.
    """
    n = len(totals)
    totals[:], counts[:] = 0, 0
    sums = chosen[len(first), :n]
    for i in range(len(first)):
        row, is_member = chosen[i, :n], members[first[i]]
        sums[:] = 0
        for j in range(i):
            distance, other = near[i, j], chosen[j, :n]
            for k in range(n):
                sums[k] += distance * other[k]
        for k in range(n):
            row[k] = is_member[k] if counts[k] < top else 0.0
            counts[k] += is_member[k]
            totals[k] += row[k] * sums[k]


@njit(fastmath=FASTMATH)
def _mean_of_first(leading: np.ndarray, member: np.ndarray, rows: np.ndarray, distances: np.ndarray, top: int) -> float:
    """Return the mean distance over pairs of the first `top` stimuli of `leading` that are members; NaN without."""
    chosen, n, total = np.empty(top, np.int64), 0, 0.0
    for stimulus in leading:
        if member[stimulus]:
            row = rows[stimulus]
            for i in range(n):
                total += distances[row, chosen[i]]
            chosen[n] = row
            n += 1
            if n == top:
                return total / (top * (top - 1) / 2)
    return np.nan
