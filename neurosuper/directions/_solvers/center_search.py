"""Initial centres for K-means: k-means++ in rounds of several draws, then Lloyd's iterations with swaps.

X (row, unit) prepared responses, C (direction, unit) centres. Inertia is Σ min_j ‖x − c_j‖².
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numba
import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit
from neurosuper.directions._rows.rows import Tensors
from neurosuper.directions._rows.tiles import into_tiles
from neurosuper.directions._solvers.nearest_centers import nearest, sum_by_center

SAMPLE_ENTRIES = 2**25, 2**24  # of the rows searched, in memory and streamed: 128 and 64 MiB in float32
SAMPLE_ROWS = 16  # rows per centre that are searched at least, even if they take more memory
SEED_ROWS = 16  # rows per centre that initial centres are drawn from
N_DRAWS = 8  # rounds of k-means++; each draws an eighth of the centres
MAX_ROUNDS = 8  # of Lloyd's iterations with swaps
MAX_SWAP_FRACTION = 0.1  # of the centres, per round: gains are exact for a single swap only
MIN_SPLIT_ROWS = 4  # rows of a cluster that may be split: two per half
POWER_ITERATIONS = 6  # towards the longest axis of a cluster; any axis near it splits the cluster about as well
MIN_SWAP_FRACTION = 0.01  # of the centres: fewer swaps in a round end the search
MIN_GAIN_RATIO = 1.05  # gain / loss of a swap: both ignore the other swaps of the round, so that 1 is too little

Assign = Callable[[torch.Tensor, torch.Tensor], Tensors]


def sample_size(n_rows: int, n_columns: int, n: int, in_memory: bool) -> int:
    """Return the number of rows to search for `n` centres: all, if they are few."""
    return min(n_rows, max(SAMPLE_ROWS * n, SAMPLE_ENTRIES[not in_memory] // n_columns))


def find_centers(X: torch.Tensor, n: int, generator: torch.Generator, assign: Assign | None = None) -> torch.Tensor:
    """Return `n` centres of rows that no exchange of two centres improves by much.

    `assign(C, origin)` replaces `nearest` of all rows to their two nearest centres, where several fits share one matrix
    product.

    Rows are drawn as in k-means++ (Arthur and Vassilvitskii 2007), several at a time (Bahmani et al. 2012). Lloyd's
    iterations then alternate with many swaps at once: centres whose removal costs least move to the clusters whose
    split helps most (local search; Lattanzi and Sohler 2019).
    """
    assign, origin = assign or partial(nearest, X, n_nearest=2), X.mean(0)
    C = plus_plus(X[:: max(1, len(X) // (SEED_ROWS * n))].contiguous(), n, origin, generator)
    for _ in range(MAX_ROUNDS):
        label, distance, second = assign(C, origin)
        C = means(X, label, distance, C)
        if _swap(X, C, label, distance, second) < max(1, MIN_SWAP_FRACTION * n):
            break
    return C


def plus_plus(X: torch.Tensor, n: int, origin: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return `n` rows, drawn with probability proportional to the squared distance to the nearest row drawn before."""
    drawn = torch.randperm(len(X), generator=generator)[: max(1, n // N_DRAWS)].to(X.device)
    distance = nearest(X, X[drawn], origin)[1]
    while len(drawn) < n:
        # P(x) ∝ min_j ‖x − c_j‖², exactly zero for rows already drawn (rounding may leave a little).
        distance[drawn] = 0
        new = draw(distance, min(n - len(drawn), max(1, n // N_DRAWS)), generator)
        drawn = torch.cat([drawn, new])
        distance = torch.minimum(distance, nearest(X, X[new], origin)[1])
    return X[drawn].clone()


def draw(weight: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return at most `n` distinct positions, drawn with probability proportional to their weight.

    If all weights are zero, all positions have the same probability.
    """
    # Inverse transform sampling: the first position whose cumulated weight exceeds u · Σ weight.
    cumulated = weight.double().cumsum(0)
    if not cumulated[-1] > 0:
        return torch.randperm(len(weight), generator=generator)[:n].to(weight.device)
    chances = torch.rand(n, generator=generator, dtype=torch.float64).to(weight.device) * cumulated[-1]
    return torch.searchsorted(cumulated, chances, right=True).clamp(max=len(weight) - 1).unique()


def means(X: torch.Tensor, label: torch.Tensor, distance: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """Return the means of clusters; for empty clusters, the rows farthest from their centres."""
    sums = torch.zeros_like(C, dtype=torch.float64)
    sum_by_center(X, (label, sums))
    counts = torch.bincount(label, minlength=len(C))
    new = (sums / counts.clamp(min=1)[:, None]).to(C.dtype)
    empty = (counts == 0).nonzero()[:, 0]
    new[empty] = X[distance.topk(len(empty)).indices]
    return new


def _swap(X: torch.Tensor, C: torch.Tensor, label: torch.Tensor, distance: torch.Tensor, second: torch.Tensor) -> int:
    """Move centres that are missed least to clusters that gain most by a split, in place; return how many."""
    # Without centre j each of its rows belongs to the second nearest: loss_j = Σ (‖x − c_second‖² − ‖x − c_j‖²).
    loss = torch.zeros_like(C[:, 0]).index_add_(0, label, second - distance)
    halves, gain = split_clusters(X, label, C)
    splits, removed = gain.argsort(descending=True), loss.argsort()
    swaps = pair(gain[splits].tolist(), splits.tolist(), loss[removed].tolist(), removed.tolist())
    swaps = swaps[: max(1, int(MAX_SWAP_FRACTION * len(C)))]
    if swaps:
        split, moved = torch.tensor(swaps, device=C.device).T
        C[split], C[moved] = halves[split].unbind(1)
    return len(swaps)


def pair(gain: list[float], splits: list[int], loss: list[float], removed: list[int]) -> list[tuple[int, int]]:
    """Return pairs of a cluster to split and a cluster to remove: the highest gains with the smallest losses.

    Gains are in descending order, losses in ascending order. Each cluster is in at most one pair.
    """
    swaps, used, at = [], set(), 0
    for cluster, gained in zip(splits, gain, strict=True):
        if cluster in used:
            continue
        while at < len(removed) and (removed[at] in used or removed[at] == cluster):
            at += 1
        if at == len(removed) or gained <= MIN_GAIN_RATIO * loss[at]:
            break
        swaps.append((cluster, removed[at]))
        used |= {cluster, removed[at]}
    return swaps


def split_clusters(X: torch.Tensor, label: torch.Tensor, C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means of each cluster's two halves `(direction, 2, unit)`, and by how much they lower the inertia.

    A cluster is cut at its mean, across the axis of largest variance, which a few power iterations approximate.
    """
    if X.device.type != "cpu":
        return halve(X, label, C)
    order, counts = label.argsort(stable=True), torch.bincount(label, minlength=len(C))
    halves, gain = C[:, None].repeat(1, 2, 1), torch.zeros_like(C[:, 0])
    starts = np.concatenate([[0], counts.cumsum(0).numpy()])
    _halve_all(X.numpy(), order.numpy(), starts, halves.numpy(), gain.numpy())
    return halves, gain


def halve(X: torch.Tensor, label: torch.Tensor, C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `split_clusters` does, in torch and for all clusters at once: many small steps leave a GPU idle."""
    counts = torch.bincount(label, minlength=len(C))
    sums = torch.zeros_like(C, dtype=torch.float64)
    sum_by_center(X, (label, sums))
    mean = (sums / counts.clamp(min=1)[:, None]).to(X.dtype)
    # Power iteration on each cluster's scatter, a ← Σ (x − m) (x − m)·a, from its farthest row.
    axis = X[_farthest_of_each(X, label, mean, counts)] - mean
    for _ in range(POWER_ITERATIONS):
        turned, _ = _sum_sides(X, label, mean, axis, lambda side: side)
        axis = torch.nn.functional.normalize(turned, dim=1, eps=torch.finfo(X.dtype).tiny)
    upper, n_above = _sum_sides(X, label, mean, axis, lambda side: (side > 0).to(side.dtype))
    # Centred rows sum to zero, so that those below sum to minus those above.
    n_below = counts - n_above
    shifts = torch.stack([upper / n_above.clamp(min=1)[:, None], -upper / n_below.clamp(min=1)[:, None]], 1)
    # Inertia falls by n₁ n₂ / n · ‖m₁ − m₂‖² (Ward 1963).
    gain = n_above * n_below / counts.clamp(min=1) * ((shifts[:, 0] - shifts[:, 1]) ** 2).sum(1)
    is_split = (counts >= MIN_SPLIT_ROWS) & (n_above > 0) & (n_below > 0)
    halves = torch.where(is_split[:, None, None], mean[:, None] + shifts, C[:, None])
    return halves, torch.where(is_split, gain, 0.0)


def _sum_sides(
    X: torch.Tensor,
    label: torch.Tensor,
    mean: torch.Tensor,
    axis: torch.Tensor,
    weigh: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each cluster's sum of centred rows, weighted by their projection on its axis, and the sum of weights."""
    sums, total = torch.zeros_like(mean, dtype=torch.float64), torch.zeros_like(mean[:, 0])
    for P, at in _labelled_tiles(X, label):
        centred = P - mean[at]
        weight = weigh((centred * axis[at]).sum(1))
        sum_by_center(centred * weight[:, None], (at, sums))
        total.index_add_(0, at, weight)
    return sums.to(mean.dtype), total


def _farthest_of_each(X: torch.Tensor, label: torch.Tensor, mean: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the position of each cluster's farthest row from its mean; an arbitrary one for an empty cluster."""
    # Sorted by distance, then stably by cluster: the last row of each cluster is its farthest.
    order = torch.cat([((P - mean[at]) ** 2).sum(1) for P, at in _labelled_tiles(X, label)]).argsort()
    order = order[label[order].argsort(stable=True)]
    return order[counts.cumsum(0) - 1]


def _labelled_tiles(X: torch.Tensor, label: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return pairs of a tile of rows and its labels."""
    tiles = into_tiles(X)
    return zip(tiles, label.split(len(tiles[0])), strict=True)


@njit(parallel=True, fastmath=FASTMATH)
def _halve_all(
    X: np.ndarray, order: np.ndarray, starts: np.ndarray, halves: np.ndarray, gain: np.ndarray
) -> None:  # pragma: no cover
    """Halve every cluster, as `halve` does: one thread per cluster."""
    n_units = X.shape[1]
    for k in numba.prange(len(gain)):
        n = starts[k + 1] - starts[k]
        if n < MIN_SPLIT_ROWS:
            continue
        P, mean = np.empty((n, n_units), X.dtype), np.zeros(n_units, X.dtype)
        sides, upper = np.empty(n, X.dtype), np.zeros(n_units, X.dtype)
        far = _centre(X, order[starts[k] : starts[k + 1]], P, mean)
        _side(P, P[far].copy(), sides)
        n_above = 0
        for i in range(n):
            if sides[i] > 0:
                n_above += 1
                for unit in range(n_units):
                    upper[unit] += P[i, unit]
        if n_above == 0 or n_above == n:
            continue
        total = X.dtype.type(0)
        for unit in range(n_units):
            halves[k, 0, unit] = mean[unit] + upper[unit] / n_above
            halves[k, 1, unit] = mean[unit] - upper[unit] / (n - n_above)
            # ‖m₁ − m₂‖², for the gain n₁ n₂ / n · ‖m₁ − m₂‖² (Ward 1963).
            total += (halves[k, 0, unit] - halves[k, 1, unit]) ** 2
        gain[k] = total * n_above * (n - n_above) / n


@njit(fastmath=FASTMATH)
def _centre(X: np.ndarray, rows: np.ndarray, P: np.ndarray, mean: np.ndarray) -> int:  # pragma: no cover
    """Write centred rows to P and their mean to `mean`, zero before; return the index of the row farthest from it."""
    for i in range(len(rows)):
        for unit in range(len(mean)):
            P[i, unit] = X[rows[i], unit]
            mean[unit] += P[i, unit]
    mean /= len(rows)
    far, longest = 0, X.dtype.type(-1)
    for i in range(len(rows)):
        length = X.dtype.type(0)
        for unit in range(len(mean)):
            P[i, unit] -= mean[unit]
            length += P[i, unit] ** 2
        if length > longest:
            far, longest = i, length
    return far


@njit(fastmath=FASTMATH)
def _side(P: np.ndarray, axis: np.ndarray, sides: np.ndarray) -> None:  # pragma: no cover
    """Write the projections of centred rows on their longest axis, found by power iteration from `axis`."""
    new = np.empty_like(axis)
    for turn in range(POWER_ITERATIONS + 1):
        # s = P a; in the last turn only the projections are needed.
        for i in range(len(P)):
            side = P.dtype.type(0)
            for unit in range(len(axis)):
                side += P[i, unit] * axis[unit]
            sides[i] = side
        if turn == POWER_ITERATIONS:
            break
        # a ← Pᵀ s / ‖Pᵀ s‖.
        new[:] = 0
        for i in range(len(P)):
            for unit in range(len(axis)):
                new[unit] += sides[i] * P[i, unit]
        length = P.dtype.type(0)
        for unit in range(len(axis)):
            length += new[unit] ** 2
        if length > 0:
            axis[:] = new / np.sqrt(length)
