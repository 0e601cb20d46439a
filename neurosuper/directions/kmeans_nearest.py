"""Nearest centres of rows, and sums of rows by centre: in torch, and on CPUs that multiply bfloat16 compiled as well.

X (row, unit) prepared responses, C (direction, unit) centres.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np
import torch

from neurosuper.directions.blocks import Tensors, split
from neurosuper.directions.compiled import torch_threads

LEAST_SIZE = 64  # centres and units from which the screen pays
ROUNDING = 2.0**-8 * 1.01  # of a bfloat16, relative
SLACK = 1 + 2.0**-10  # for the rounding of the bounds themselves


def nearest(X: torch.Tensor, C: torch.Tensor, origin: torch.Tensor, n_nearest: int = 1) -> Tensors:
    """Return the nearest centre of each row `(row,)`, and its squared distances to the nearest one or two.

    ‖x − c‖² = ‖x‖² − 2 (x·c − ‖c‖²/2), about `origin`: near the mean row rounding is least.

    Returns
    -------
    label, distance : Tensor (row,)
    second : Tensor (row,)
        Only if `n_nearest` is 2: the squared distance to the second nearest centre.
    """
    C = C - origin
    if n_nearest > len(C):
        label, distance = nearest(X, C + origin, origin)
        return label, distance, torch.full_like(distance, torch.inf)
    kernel, table = (best_screened, Screen.of(C)) if _pays(X, C) else (best, C)
    parts = (_nearest_of_part(part - origin, kernel, table, n_nearest) for part in split(X, len(C)))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _nearest_of_part(X: torch.Tensor, kernel: Callable[..., Tensors], table: Any, n_nearest: int) -> Tensors:
    label, *scores = kernel(X, table, n_nearest)
    lengths = (X**2).sum(1)
    return label, *((lengths - 2 * score).clamp(min=0) for score in scores)


def best(X: torch.Tensor, C: torch.Tensor, n_best: int) -> Tensors:
    """Return the centre of the highest score x·c − ‖c‖²/2 of each row, and the `n_best` highest scores."""
    scores = torch.addmm(-(C**2).sum(1) / 2, X, C.T)
    if n_best == 1:
        score, label = scores.max(1)
        return label, score
    top, labels = scores.topk(2, dim=1)
    return labels[:, 0], top[:, 0], top[:, 1]


class Screen(NamedTuple):
    """Centres, half their squared lengths, and what bounds the error of their products in bfloat16."""

    centers: torch.Tensor
    half: torch.Tensor
    rounded: torch.Tensor
    length: torch.Tensor
    off: torch.Tensor

    @classmethod
    def of(cls, C: torch.Tensor) -> Screen:
        """Return the screen of centres `(direction, unit)`."""
        rounded = C.bfloat16()
        return cls(C, (C**2).sum(1) / 2, rounded, SLACK * C.norm(dim=1), SLACK * (C - rounded.float()).norm(dim=1))


def best_screened(X: torch.Tensor, screen: Screen, n_best: int) -> Tensors:
    """Return the same; products in bfloat16 tell which few centres can be the best, and only these are computed.

    The products are off by at most ‖x − x̂‖‖c‖ + ‖x̂‖‖c − ĉ‖ and their own rounding (Cauchy–Schwarz, x̂ and ĉ rounded),
    so that what is left out cannot have been best: the screen changes the time, not the result.
    """
    C, half, rounded, c_length, c_off = screen
    x = X.bfloat16()
    products, back = (x @ rounded.T).float(), x.float()
    x_off, x_length = (X - back).norm(dim=1), back.norm(dim=1)
    label, scores = np.empty(len(X), np.int64), np.empty((2, len(X)), np.float32)
    tables = (X, C, half, products, SLACK * x_off, SLACK * x_length, c_length, c_off)
    arguments: list[Any] = [*(table.contiguous().numpy() for table in tables), n_best == 2, label, scores]
    with torch_threads():
        _refine(*arguments)
    return torch.from_numpy(label), *(torch.from_numpy(score) for score in scores[:n_best])


def sum_by_center(X: torch.Tensor, label: torch.Tensor, sums: torch.Tensor) -> None:
    """Add each row to the sum of its centre, in float64."""
    if X.device.type != "cpu" or X.shape[1] < LEAST_SIZE:
        sums.index_add_(0, label, X.to(sums.dtype))
        return
    with torch_threads():
        _add_rows(X.numpy(), label.numpy(), sums.numpy(), numba.get_num_threads())


def _pays(X: torch.Tensor, C: torch.Tensor) -> bool:
    large = min(*C.shape, len(X)) >= LEAST_SIZE
    return large and X.device.type == "cpu" and X.dtype == torch.float32 and _multiplies_bfloat16()


@cache
def _multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions that multiply bfloat16."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16"))


@numba.njit(parallel=True, fastmath={"reassoc", "nnan", "nsz", "contract"}, cache=True)
def _refine(  # pragma: no cover
    X: np.ndarray,
    C: np.ndarray,
    half: np.ndarray,
    products: np.ndarray,
    x_off: np.ndarray,
    x_length: np.ndarray,
    c_length: np.ndarray,
    c_off: np.ndarray,
    two: bool,
    label: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Score the centres whose bound from above reaches the best, or second best, bound from below."""
    n_centers, n_units = C.shape
    least, rounding = np.float32(-np.inf), np.float32(ROUNDING)
    for i in numba.prange(len(X)):
        above = np.empty(n_centers, np.float32)
        below = np.empty(n_centers, np.float32)
        first = least
        for j in range(n_centers):
            off = rounding * abs(products[i, j]) + x_off[i] * c_length[j] + x_length[i] * c_off[j]
            above[j] = products[i, j] - half[j] + off
            below[j] = products[i, j] - half[j] - off
            first = max(first, below[j])
        bar = first
        if two:
            bar, top = least, least
            for j in range(n_centers):
                if below[j] > bar:
                    bar = min(below[j], top) if top > least else least
                    top = max(below[j], top)
        first, second, at = least, least, 0
        for j in range(n_centers):
            if above[j] >= bar:
                score = -half[j]
                for unit in range(n_units):
                    score += X[i, unit] * C[j, unit]
                if score > first:
                    first, second, at = score, first, j
                elif score > second:
                    second = score
        label[i] = at
        scores[0, i], scores[1, i] = first, second


@numba.njit(parallel=True, cache=True)
def _add_rows(X: np.ndarray, label: np.ndarray, sums: np.ndarray, n_slices: int) -> None:  # pragma: no cover
    """Add rows to the sums of their centres; each thread has units of its own."""
    n_units = X.shape[1]
    for piece in numba.prange(n_slices):
        start, stop = piece * n_units // n_slices, (piece + 1) * n_units // n_slices
        for i in range(len(X)):
            total, row = sums[label[i], start:stop], X[i, start:stop]
            for unit in range(len(row)):
                total[unit] += row[unit]
