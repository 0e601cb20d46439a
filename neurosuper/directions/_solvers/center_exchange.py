"""K-means on few rows: single rows move between clusters, and clusters merge and split, while the inertia falls.

X (row, unit) distinct rows, w (row,) how often each occurs, C (direction, unit) centres, n (direction,) rows in each
cluster. Inertia is Σ w ‖x − c‖².
"""

from __future__ import annotations

import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit
from neurosuper.directions._solvers.center_search import Assign, find_centers
from neurosuper.directions._solvers.nearest_centers import nearest

FEW_PRODUCTS = 2**25  # rows × units × centres: up to this, rows are exchanged, which takes about 0.1 s
VERY_FEW_PRODUCTS, N_SEARCHES = 2**22, 4  # up to this, four searches are made, which take about as long
MIN_GAIN = 1e-9  # of the inertia about the mean of all rows: smaller gains may be rounding, and moves would never end


def best_centers(
    X: torch.Tensor, n: int, generator: torch.Generator, n_init: int | None, assign: Assign | None = None
) -> torch.Tensor:
    """Return the centres with the smallest inertia of `n_init` searches, each followed by `exchange` if rows are few.

    None as `n_init` is four if rows are very few, otherwise one.
    """
    are_few = X.numel() * n <= FEW_PRODUCTS
    n_init = n_init or (N_SEARCHES if X.numel() * n <= VERY_FEW_PRODUCTS else 1)
    best, least = X[:0], float("inf")
    for _ in range(n_init):
        C = find_centers(X, n, generator, assign)
        if are_few:
            C, inertia = exchange(X, C)
        elif n_init > 1:
            found = nearest(X, C, X.mean(0)) if assign is None else assign(C, X.mean(0))
            inertia = float(found[1].sum(dtype=torch.float64))
        else:
            return C
        if inertia < least:
            best, least = C, inertia
    return best


def exchange(X: torch.Tensor, C: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return centres that no move of a row to another cluster improves, and no merge with a split; and the inertia.

    Lloyd's algorithm rests where each row is nearest to its own centre. With few rows per cluster most partitions do,
    since each row pulls its centre towards itself; Hartigan and Wong (1979) take that into account. Equal rows move
    together.
    """
    rows, weights = np.unique(X.cpu().numpy(), axis=0, return_counts=True)
    rows, weights = rows.astype(np.float64), weights.astype(np.float64)
    mean = weights @ rows / weights.sum()
    rows -= mean
    centers = C.cpu().numpy().astype(np.float64) - mean
    inertia = _improve(rows, weights, centers)
    return torch.from_numpy(centers + mean).to(C), inertia


@njit(fastmath=FASTMATH)
def _improve(X: np.ndarray, w: np.ndarray, C: np.ndarray) -> float:  # pragma: no cover
    """Improve centres in place; return the inertia."""
    least = MIN_GAIN * (w * (X**2).sum(1)).sum()
    label = np.empty(len(X), np.int64)
    for i in range(len(X)):
        label[i] = _nearest(X[i], C)
    while True:
        n = _move_rows(X, w, label, C, least)
        if not _merge_and_split(X, w, label, C, n, least):
            break
    inertia = 0.0
    for i in range(len(X)):
        inertia += w[i] * _squared_distance(X[i], C[label[i]])
    return inertia


@njit(fastmath=FASTMATH)
def _squared_distance(x: np.ndarray, c: np.ndarray) -> float:  # pragma: no cover
    total = 0.0
    for unit in range(len(x)):
        total += (x[unit] - c[unit]) ** 2
    return total


@njit(fastmath=FASTMATH)
def _nearest(x: np.ndarray, C: np.ndarray) -> int:  # pragma: no cover
    best, least = 0, np.inf
    for k in range(len(C)):
        distance = _squared_distance(x, C[k])
        if distance < least:
            best, least = k, distance
    return best


@njit(fastmath=FASTMATH)
def _cheapest_entry(
    x: np.ndarray, w: float, C: np.ndarray, n: np.ndarray, own: int
) -> tuple[int, float]:  # pragma: no cover
    """Return the cluster whose inertia rises least if a row of weight w enters it, and by how much it rises."""
    best, least = -1, np.inf
    for k in range(len(C)):
        if k != own:
            # Inertia rises by n w / (n + w) ‖x − c‖²: not at all if the cluster is empty.
            rise = n[k] * w / (n[k] + w) * _squared_distance(x, C[k])
            if rise < least:
                best, least = k, rise
    return best, least


@njit(fastmath=FASTMATH)
def _move_rows(
    X: np.ndarray, w: np.ndarray, label: np.ndarray, C: np.ndarray, least: float
) -> np.ndarray:  # pragma: no cover
    """Move rows, in place, until no move lowers the inertia by more than `least`; return the sizes of clusters."""
    n = _update_means(X, w, label, C)
    moved = True
    while moved:
        moved = False
        for i in range(len(X)):
            own = label[i]
            if n[own] <= w[i]:  # the only row of its cluster
                continue
            # Without the row, the inertia of its cluster falls by n w / (n − w) ‖x − c‖².
            fall = n[own] * w[i] / (n[own] - w[i]) * _squared_distance(X[i], C[own])
            if fall <= least:
                continue
            other, rise = _cheapest_entry(X[i], w[i], C, n, own)
            if fall - rise > least:
                C[own] -= (X[i] - C[own]) * (w[i] / (n[own] - w[i]))
                C[other] += (X[i] - C[other]) * (w[i] / (n[other] + w[i]))
                n[own] -= w[i]
                n[other] += w[i]
                label[i], moved = other, True
        n = _update_means(X, w, label, C)
    return n


@njit(fastmath=FASTMATH)
def _update_means(X: np.ndarray, w: np.ndarray, label: np.ndarray, C: np.ndarray) -> np.ndarray:  # pragma: no cover
    """Set centres to the means of their rows, in place, but those of empty clusters; return the sizes of clusters."""
    n, sums = np.zeros(len(C)), np.zeros_like(C)
    for i in range(len(X)):
        n[label[i]] += w[i]
        sums[label[i]] += w[i] * X[i]
    for k in range(len(C)):
        if n[k] > 0:
            C[k] = sums[k] / n[k]
    return n


@njit(fastmath=FASTMATH)
def _merge_and_split(
    X: np.ndarray, w: np.ndarray, label: np.ndarray, C: np.ndarray, n: np.ndarray, least: float
) -> bool:  # pragma: no cover
    """Merge two clusters and split a third, in place, if that lowers the inertia; return whether it does."""
    far, gain = _splits(X, w, label, C, n)
    best, first, second, split = least, -1, -1, -1
    for k in np.argsort(-gain)[:3]:
        for a in range(len(C)):
            for b in range(a):
                if a != k and b != k:
                    # Ward (1963): a merge raises the inertia by n_a n_b / (n_a + n_b) ‖c_a − c_b‖².
                    rise = n[a] * n[b] / max(n[a] + n[b], 1.0) * _squared_distance(C[a], C[b])
                    if gain[k] - rise > best:
                        best, first, second, split = gain[k] - rise, a, b, k
    if split < 0:
        return False
    label[label == second] = first
    center, seed = C[split].copy(), X[far[split]]
    for i in range(len(X)):
        if label[i] == split and _squared_distance(X[i], seed) < _squared_distance(X[i], center):
            label[i] = second
    return True


@njit(fastmath=FASTMATH)
def _splits(
    X: np.ndarray, w: np.ndarray, label: np.ndarray, C: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    """Return the farthest row of each cluster, and by how much the inertia falls if rows nearer to it leave."""
    far, longest = np.full(len(C), -1), np.zeros(len(C))
    for i in range(len(X)):
        length = _squared_distance(X[i], C[label[i]])
        if length > longest[label[i]]:
            far[label[i]], longest[label[i]] = i, length
    leaving, sums, gain = np.zeros(len(C)), np.zeros_like(C), np.zeros(len(C))
    for i in range(len(X)):
        k = label[i]
        if far[k] >= 0 and _squared_distance(X[i], X[far[k]]) < _squared_distance(X[i], C[k]):
            leaving[k] += w[i]
            sums[k] += w[i] * (X[i] - C[k])
    for k in range(len(C)):
        if 0 < leaving[k] < n[k]:
            # With s = Σ w (x − c) over the w rows that leave, ‖s‖² (1/w + 1/(n − w)) = n₁ n₂ / n ‖m₁ − m₂‖².
            gain[k] = (sums[k] ** 2).sum() * (1 / leaving[k] + 1 / (n[k] - leaving[k]))
    return far, gain
