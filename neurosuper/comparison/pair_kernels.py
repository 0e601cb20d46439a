"""Compiled loops over pairs of stimuli: their values, ranks of them, and products of two systems, one shuffled."""

from __future__ import annotations

import numpy as np
from scipy import stats

from neurosuper._kernels import FASTMATH, njit

KEY = 2**31 - 1  # the largest key; one bit less than there is room for, so that rounding cannot exceed it
POSITION = np.uint64(2**32 - 1)
TILE = 64  # rows and columns
MOST_MOVES = 8  # for each value; 700,000 distances of Gaussian responses need 0.0001


@njit(fastmath=FASTMATH)
def shuffled_product(F: np.ndarray, G: np.ndarray, order: np.ndarray) -> float:
    """Return Σ F[i, j] G[order[i], order[j]] of symmetric F and G, without the shuffled copy of G."""
    total = 0.0
    for i in range(len(F)):
        row = G[order[i]]
        product = 0.0
        for j in range(i):
            product += F[i, j] * row[order[j]]
        total += 2 * product + F[i, i] * row[order[i]]
    return total


@njit()
def upper_triangle(d: np.ndarray) -> np.ndarray:
    """Return d[i, j] of all i < j, row after row."""
    n, k = len(d), 0
    x = np.empty(n * (n - 1) // 2)
    for i in range(n):
        for j in range(i + 1, n):
            x[k] = d[i, j]
            k += 1
    return x


@njit()
def is_symmetric(d: np.ndarray) -> bool:
    """Return whether a square matrix equals its transpose, tile after tile, as columns are slow to read."""
    n = len(d)
    for top in range(0, n, TILE):
        for left in range(0, top + 1, TILE):
            for i in range(top, min(top + TILE, n)):
                for j in range(left, min(left + TILE, n)):
                    if d[i, j] != d[j, i]:
                        return False
    return True


def rank(x: np.ndarray) -> np.ndarray:
    """Return the ranks of values, from 1, and of equal ones the mean rank, as scipy.stats.rankdata does but faster."""
    low = x.min()
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scale = KEY / (x.max() - low)
    if 0 < scale < np.inf and len(x) < 2**32:
        packed = _pack(x, low, scale)
        packed.sort()
        ranks = _rank_nearly_sorted(x, packed)
        if len(ranks):
            return ranks
    return stats.rankdata(x)


@njit()
def _pack(x: np.ndarray, low: float, scale: float) -> np.ndarray:
    """Return a key of 31 bits and the position of each value, as one whole number: they sort faster than positions."""
    packed = np.empty(len(x), np.uint64)
    for k in range(len(x)):
        packed[k] = (np.uint64((x[k] - low) * scale) << np.uint64(32)) | np.uint64(k)
    return packed


@njit()
def _rank_nearly_sorted(x: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """Return ranks of values, from positions sorted by key; none, if too many values share a key."""
    m, moves, start = len(x), 0, 0
    ranks, order = np.empty(m), np.empty(m, np.uint32)
    while start < m:
        end = start + 1
        order[start] = packed[start] & POSITION
        while end < m and packed[end] >> np.uint64(32) == packed[start] >> np.uint64(32):
            # put a value with the same key where it belongs among the others
            position, j = packed[end] & POSITION, end
            while j > start and x[order[j - 1]] > x[position]:
                order[j] = order[j - 1]
                j -= 1
            order[j] = position
            moves += end - j
            end += 1
        if moves > MOST_MOVES * m:  # an outlier leaves one key to all others
            return np.empty(0)
        while start < end:
            last = start + 1
            while last < end and x[order[last]] == x[order[start]]:
                last += 1
            for k in range(start, last):
                ranks[order[k]] = (start + last + 1) / 2
            start = last
    return ranks
