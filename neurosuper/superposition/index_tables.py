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
from neurosuper.metrics import ImageMetric, Precomputed, pairwise_distances

MIN_PARALLEL = 4096  # items: fewer take less time (0.2 ms) than the start of threads may
BLOCK = 2048  # items whose codes are in memory at once, such as pairs of units


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

    def scores(self, leading: np.ndarray, top: int, positions: np.ndarray | None = None) -> np.ndarray:
        """Return the index `(item,)` of the first `top` of the `leading (item, place)` stimuli at these positions.

        None: of all stimuli. NaN where fewer than `top` leading stimuli are at these positions.
        """
        member = np.full(len(self.rows), positions is None)
        if positions is not None:
            member[positions] = True
        means = np.empty(len(leading))
        kernel = _mean_in_subset if len(leading) > MIN_PARALLEL else _mean_in_subset.sequential
        kernel(leading, member, self.rows, self.distances, top, means)
        return self.self_similarity - means


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
    distances = pairwise_distances(images.sel(stimulus=stimuli[used]), metric)
    return IndexTable(rows, np.ascontiguousarray(distances.values), float(metric.self_similarity))


def check_top(top: int, n_stimuli: int) -> int:
    """Return the number of top stimuli, if a random half of the stimuli has as many."""
    return check_count("top", top, least=2, most=n_stimuli // 2, why=f", half of the {n_stimuli} stimuli to score on")


@njit(parallel=True, fastmath=FASTMATH)
def _mean_in_subset(
    leading: np.ndarray, member: np.ndarray, rows: np.ndarray, distances: np.ndarray, top: int, means: np.ndarray
) -> None:
    """Write the mean distance over the pairs of the first `top` members of each row of `leading` to `means` (item,)."""
    n_pairs = top * (top - 1) / 2
    for item in numba.prange(len(leading)):
        chosen = np.empty(top, np.int64)
        n, total = 0, 0.0
        for place in range(leading.shape[1]):
            stimulus = leading[item, place]
            if member[stimulus]:
                row = rows[stimulus]
                for i in range(n):
                    total += distances[row, chosen[i]]
                chosen[n] = row
                n += 1
                if n == top:
                    break
        means[item] = total / n_pairs if n == top else np.nan
