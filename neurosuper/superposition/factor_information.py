"""Mutual information of codes and factors, and the measures of disentanglement that rest on it.

Z (stimulus, item) codes; B (item, factor) mutual information in bits, N = B / H(factor), its share of the factor's
entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import special, stats
from sklearn.feature_selection import mutual_info_classif

from neurosuper.superposition.factor_tables import Factor

Estimator = Literal["histogram", "ksg"]
BLOCK_ENTRIES = 2**22  # (stimulus, item) pairs that are counted at once: 32 MiB
N_NEIGHBORS = 10  # of the nearest-neighbour estimate, as in Hsu et al. 2023
TINY = 1e-11  # added to weights, so that rows without any have the largest entropy (as in disentanglement_lib)
MIN_RANGE = 0.05  # of the largest range of any item: items with less are inactive (Hsu et al. 2023)


def information(Z: np.ndarray, factors: Sequence[Factor], bins: int, estimator: Estimator, seed: int) -> np.ndarray:
    """Return the mutual information of each item and each factor (item, factor), in bits."""
    if estimator == "ksg":
        return np.stack([_by_neighbors(Z, factor.levels, seed) for factor in factors], axis=1)
    step = max(1, BLOCK_ENTRIES // len(Z))
    blocks = (_bin(Z[:, i : i + step], bins) for i in range(0, Z.shape[1], step))
    return np.concatenate([np.stack([_by_counts(b, f.levels, bins) for f in factors], axis=1) for b in blocks])


def entropies(factors: Sequence[Factor]) -> np.ndarray:
    """Return the entropy of each factor, in bits."""
    return np.array([_entropy(np.bincount(factor.levels)) for factor in factors])


def _bin(Z: np.ndarray, bins: int) -> np.ndarray:
    """Return the number, from 0, of the bin of each code (item, stimulus); bins of an item are equally wide."""
    low, high = Z.min(0), Z.max(0)
    high = np.where(high > low, high, low + 1)
    edges = np.linspace(low, high, bins + 1)  # (edge, item)
    found = ((Z - low) / (high - low) * bins).astype(int).clip(0, bins - 1)
    # rounding may put a code that is near an edge into the next bin
    items = np.arange(Z.shape[1])
    found -= (edges[found, items] > Z) & (found > 0)
    found += (edges[found + 1, items] <= Z) & (found < bins - 1)
    return np.ascontiguousarray(found.T)


def _by_counts(binned: np.ndarray, levels: np.ndarray, bins: int) -> np.ndarray:
    """Return H(bin) + H(level) − H(bin, level) of each item of binned codes (item, stimulus)."""
    n_items, n_levels = len(binned), int(levels.max()) + 1
    cell = (np.arange(n_items)[:, None] * bins + binned) * n_levels + levels
    counts = np.bincount(cell.ravel(), minlength=n_items * bins * n_levels).reshape(n_items, bins, n_levels)
    total = _entropy(counts.sum(2), -1) + _entropy(np.bincount(levels)) - _entropy(counts.reshape(n_items, -1), -1)
    return np.maximum(total, 0)


def _entropy(counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return special.entr(counts / counts.sum(axis, keepdims=True)).sum(axis) / np.log(2)


def _by_neighbors(Z: np.ndarray, levels: np.ndarray, seed: int) -> np.ndarray:
    return mutual_info_classif(Z, levels, n_neighbors=N_NEIGHBORS, random_state=seed % 2**32) / np.log(2)


def mean_gap(table: np.ndarray) -> float:
    """Return by how much the best item of each factor exceeds the second best, averaged: the gap of MIG and SAP."""
    second, best = np.sort(table, axis=0)[-2:]
    return float((best - second).mean())


def evenness(table: np.ndarray) -> np.ndarray:
    """Return the entropy of each row over that of equal weights: 0 if one column has all weight, 1 if all are equal."""
    return np.asarray(stats.entropy(table + TINY, base=table.shape[1], axis=1))


def weighted_concentration(table: np.ndarray) -> float:
    """Return the mean of 1 − evenness over rows, weighted by their sums: DCI disentanglement, of (item, factor)."""
    weights = table.sum(1) if table.any() else np.ones(len(table))
    return float(np.average(1 - evenness(table), weights=weights))


def modularity(B: np.ndarray) -> float:
    """Return the mean over items of 1 − Σ over all factors but the best of B² / ((n_factors − 1) max B²)."""
    squares = B**2
    best = squares.max(1)
    others = squares.sum(1) - best
    scores = 1 - others / np.where(best > 0, best, 1) / (B.shape[1] - 1)
    return float(np.where(best > 0, scores, 0).mean())


def concentration(table: np.ndarray) -> float:
    """Return the mean over rows of max / Σ, rescaled to 0 for equal columns and 1 for a single one."""
    equal, total = 1 / table.shape[1], table.sum(1)
    shares = np.where(total > 0, table.max(1) / np.where(total > 0, total, 1), equal)
    return float((shares.mean() - equal) / (1 - equal))


def active_items(Z: np.ndarray) -> np.ndarray:
    """Return which items have a range of more than a twentieth of the largest; of one, InfoC is not defined."""
    spread = np.ptp(Z, axis=0)
    return np.asarray(spread > MIN_RANGE * spread.max())
