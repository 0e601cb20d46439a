"""Areas under ROC curves from sums of ranks: of the codes of many items for many groups of stimuli at once.

For n₁ stimuli in a group and n₂ others, with S the sum of the mid-ranks of the group among all n = n₁ + n₂, Mann and
Whitney's U = S − n₁(n₁ + 1)/2, and AUC = U/(n₁ n₂). Twice a mid-rank is a whole number, so sums of these are exact.
"""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from neurosuper._kernels import njit

CONFIDENCE_LEVEL = 0.95
MAX_SORTED = 2**22  # codes that are sorted at once: 64 MiB of codes in float64 and positions
N_BISECTIONS = 50  # halvings of an interval of length 1, down to the precision of float64


def rank_sums(values: np.ndarray, partitions: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return twice the sum of mid-ranks of each group, `(partition, item, group)`, and Σ t³ − t over ties of t codes.

    Parameters
    ----------
    values : array (stimulus, item)
        Codes, without NaN. Each item is sorted once.
    partitions : array of int (partition, stimulus)
        Group of each stimulus, or −1 for those that a partition leaves out; ranks are among the others.
    n_groups : int

    Returns
    -------
    sums : array of int (partition, item, group)
    ties : array of float (partition, item)
    """
    (n, n_items), n_partitions = values.shape, len(partitions)
    sums = np.zeros((n_partitions, n_items, n_groups), np.int64)
    ties = np.zeros((n_partitions, n_items))
    width = max(1, MAX_SORTED // n)
    for start in range(0, n_items, width):
        block = np.ascontiguousarray(values[:, start : start + width].T)
        order = block.argsort(axis=1)
        for part, groups in enumerate(partitions):
            items = slice(start, start + width)
            _add_rank_sums(block, order, groups, sums[part, items], ties[part, items])
    return sums, ties


@njit(parallel=True)
def _add_rank_sums(
    values: np.ndarray, order: np.ndarray, groups: np.ndarray, sums: np.ndarray, ties: np.ndarray
) -> None:
    """Add twice the mid-ranks of each row of `values` to `sums` (item, group), and Σ t³ − t to `ties` (item,)."""
    n = order.shape[1]
    for item in numba.prange(len(order)):
        below, start = 0, 0
        while start < n:
            # `start` to `stop` are the places of equal codes; `tied` of them have a group.
            stop, tied = start, 0
            while stop < n and values[item, order[item, stop]] == values[item, order[item, start]]:
                tied += groups[order[item, stop]] >= 0
                stop += 1
            for place in range(start, stop):
                group = groups[order[item, place]]
                if group >= 0:
                    sums[item, group] += 2 * below + tied + 1
            ties[item] += float(tied) ** 3 - tied
            below += tied
            start = stop


def areas(sums: np.ndarray, n_in: ArrayLike, n_out: ArrayLike) -> np.ndarray:
    """Return AUC = U/(n₁ n₂), given twice the sums of ranks."""
    n_in, n_out = np.asarray(n_in), np.asarray(n_out)
    return np.asarray((sums - n_in * (n_in + 1)) / (2 * n_in * n_out))


def p_of_rank_sums(
    sums: np.ndarray,
    n_in: ArrayLike,
    n_out: ArrayLike,
    ties: np.ndarray,
    alternative: Literal["two-sided", "greater"],
) -> np.ndarray:
    """Return the p-value of Mann and Whitney's test, by the normal approximation, corrected for ties and continuity.

    1 where all codes are equal.
    """
    n_in, n_out = np.asarray(n_in), np.asarray(n_out)
    n = n_in + n_out
    # E U = n₁ n₂/2; var U = n₁ n₂/12 · (n + 1 − Σ(t³ − t)/(n (n − 1)))
    deviation = (sums - n_in * (n_in + 1) - n_in * n_out) / 2
    error = np.sqrt(np.maximum(n_in * n_out / 12 * (n + 1 - ties / (n * (n - 1))), 0))
    if alternative == "two-sided":
        deviation = np.abs(deviation)
    z = np.divide(deviation - 0.5, error, out=np.full(deviation.shape, -np.inf), where=error > 0)
    return np.minimum(1, (2 if alternative == "two-sided" else 1) * stats.norm.sf(z))


def area_interval(auc: np.ndarray, n_in: ArrayLike, n_out: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of an AUC for other stimuli (Newcombe 2006, method 5): all θ with |AUC − θ| ≤ z √V(θ).

    It covers well for few stimuli and near 0 and 1, where the interval of Wald has no width.
    """
    n_in, n_out = np.asarray(n_in, float), np.asarray(n_out, float)
    z, mean_size = stats.norm.isf((1 - CONFIDENCE_LEVEL) / 2), (n_in + n_out) / 2 - 1
    limits = []
    for end in (0.0, 1.0):
        # The end of [0, 1] is outside of the interval or its limit, the AUC itself is inside: halve what is between.
        outside, inside = np.full(auc.shape, end), auc.astype(float)
        for _ in range(N_BISECTIONS):
            theta = (outside + inside) / 2
            # V(θ) = θ(1 − θ) [1 + N ((1 − θ)/(2 − θ) + θ/(1 + θ))]/(n₁ n₂), N = (n₁ + n₂)/2 − 1
            excess = mean_size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            variance = theta * (1 - theta) * (1 + excess) / (n_in * n_out)
            is_inside = (auc - theta) ** 2 <= z**2 * variance
            outside, inside = np.where(is_inside, outside, theta), np.where(is_inside, theta, inside)
        limits.append(inside)
    return limits[0], limits[1]
