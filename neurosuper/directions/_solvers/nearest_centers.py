"""Nearest centres of rows, and sums of rows by centre: in torch, and compiled for CPUs that multiply bfloat16.

X (row, unit) prepared responses, C (direction, unit) centres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import torch_threads
from neurosuper.directions._rows.rows import Tensors
from neurosuper.directions._rows.shared_passes import stacks_on
from neurosuper.directions._rows.tiles import into_tiles

MIN_SCREENED = 64  # centres, units and rows: below this the products in bfloat16 save less than they cost
ROUNDING = 2.0**-8 * 1.01  # relative error of rounding to bfloat16 (8 significant bits), and 1 % more
SLACK = 1 + 2.0**-10  # factor on the bounds, for the rounding of the bounds themselves in float32


def nearest(X: torch.Tensor, C: torch.Tensor, origin: torch.Tensor, n_nearest: int = 1) -> Tensors:
    """Return the nearest centre of each row `(row,)`, and the squared distances to the nearest one or two.

    ‖x − c‖² = ‖x‖² − 2 (x·c − ‖c‖²/2), relative to `origin`: rounding is smallest near the mean row.

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
    # The nearest centre has the highest score x·c − ‖c‖²/2; ‖x‖² is added for the distance only.
    kernel: Callable[..., Tensors] = best_screened if _screen_pays(X, C) else best
    table = Screen(C) if _screen_pays(X, C) else C
    columns, tiles = [], into_tiles(X, len(C))
    buffer = torch.empty_like(tiles[0])
    for tile in tiles:
        centred = torch.sub(tile, origin, out=buffer[: len(tile)])
        label, *scores = kernel(centred, table, n_nearest)
        length = torch.linalg.vector_norm(centred, dim=1).square()
        columns.append((label, *((length - 2 * score).clamp(min=0) for score in scores)))
    return tuple(torch.cat(column) for column in zip(*columns, strict=True))


def nearest_of_each(
    X: torch.Tensor, centers: Sequence[torch.Tensor], origins: Sequence[torch.Tensor], n_nearest: int = 1
) -> list[Tensors]:
    """Return what `nearest` does for each of several fits; on a GPU by one product with the centres of all fits.

    On a GPU all fits share one origin, and tiles shrink so that the (row, centre) matrix stays as large as for one fit.
    """
    sizes = [len(C) for C in centers]
    if len(sizes) == 1 or min(sizes) < n_nearest or not stacks_on(X.device):
        return [nearest(X, C, origin, n_nearest) for C, origin in zip(centers, origins, strict=True)]
    origin = torch.stack(list(origins)).mean(0)
    C = torch.cat(list(centers)) - origin
    columns = []
    for tile in into_tiles(X, len(C)):
        centred = tile - origin
        found = [highest(scores, n_nearest) for scores in score(centred, C).split(sizes, dim=1)]
        label, *scores = map(torch.stack, zip(*found, strict=True))
        length = torch.linalg.vector_norm(centred, dim=1).square()
        columns.append((label, *((length - 2 * one).clamp(min=0) for one in scores)))
    stacked = (torch.cat(column, dim=1) for column in zip(*columns, strict=True))
    return list(zip(*stacked, strict=True))


def best(X: torch.Tensor, C: torch.Tensor, n_best: int) -> Tensors:
    """Return the centre with the highest score x·c − ‖c‖²/2 for each row, and the `n_best` highest scores."""
    return highest(score(X, C), n_best)


def score(X: torch.Tensor, C: torch.Tensor) -> torch.Tensor:
    """Return x·c − ‖c‖²/2 `(row, direction)`."""
    return torch.addmm(-(C**2).sum(1) / 2, X, C.T)


def highest(scores: torch.Tensor, n_best: int) -> Tensors:
    """Return the column of the highest score in each row, and the `n_best` highest scores."""
    if n_best == 1:
        score, label = scores.max(1)
        return label, score
    top, labels = scores.topk(2, dim=1)
    return labels[:, 0], top[:, 0], top[:, 1]


class Screen:
    """Centres, half their squared lengths, and bounds on the error of their products in bfloat16.

    Products overwrite those of the previous rows: allocating memory again costs more than the product.
    """

    def __init__(self, C: torch.Tensor) -> None:
        self.centers, self.half, self.rounded = C, (C**2).sum(1) / 2, C.bfloat16()
        self.length, self.off = SLACK * C.norm(dim=1), SLACK * (C - self.rounded.float()).norm(dim=1)
        self._rows, self._products = self.rounded[:0], self.rounded[:0]

    def multiply(self, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows, and their products with the centres, in bfloat16."""
        if len(X) > len(self._rows):
            self._rows, self._products = X.bfloat16(), self.rounded.new_empty(len(X), len(self.centers))
        x = self._rows[: len(X)].copy_(X)
        return x, torch.mm(x, self.rounded.T, out=self._products[: len(X)])


def best_screened(X: torch.Tensor, screen: Screen, n_best: int) -> Tensors:
    """Return what `best` does: products in bfloat16 select the few centres that can be best, and only these are scored.

    The error of a product is at most ‖x − x̂‖‖c‖ + ‖x̂‖‖c − ĉ‖ (Cauchy–Schwarz; x̂ and ĉ are rounded) plus the rounding
    of the product itself. A centre that is left out cannot be best: the screen changes the time, not the result.
    """
    label, scores = np.empty(len(X), np.int64), np.empty((2, len(X)), np.float32)
    rounded = [values.view(torch.int16).numpy().view(np.uint16) for values in screen.multiply(X)]
    tables = [table.contiguous().numpy() for table in (X, screen.centers, screen.half, screen.length, screen.off)]
    arguments: list[Any] = [*rounded, *tables, n_best == 2, label, scores]
    _refine(*arguments)
    return torch.from_numpy(label), *(torch.from_numpy(score) for score in scores[:n_best])


def sum_by_center(X: torch.Tensor, *labels_and_sums: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Add each row to the sum of its centre, in place and in float64; for each of several pairs of labels and sums."""
    if X.device.type != "cpu" or X.shape[1] < MIN_SCREENED:
        start = 0
        for tile in into_tiles(X):
            precise = tile.double()
            for label, sums in labels_and_sums:
                sums.index_add_(0, label[start : start + len(tile)], precise)
            start += len(tile)
        return
    with torch_threads():
        for label, sums in labels_and_sums:
            _add_rows(X.numpy(), label.numpy(), sums.numpy(), numba.get_num_threads())


def _screen_pays(X: torch.Tensor, C: torch.Tensor) -> bool:
    large = min(*C.shape, len(X)) >= MIN_SCREENED
    return large and X.device.type == "cpu" and X.dtype == torch.float32 and _multiplies_bfloat16()


@cache
def _multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions that multiply bfloat16."""
    features = llvmlite.binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16"))


@njit(parallel=True, fastmath=FASTMATH)
def _refine(  # pragma: no cover
    x_rounded: np.ndarray,
    products: np.ndarray,
    X: np.ndarray,
    C: np.ndarray,
    half: np.ndarray,
    c_length: np.ndarray,
    c_off: np.ndarray,
    two: bool,
    label: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Score the centres whose upper bound reaches the best, or second best, lower bound."""
    n_centers, n_units = C.shape
    least, rounding, slack = np.float32(-np.inf), np.float32(ROUNDING), np.float32(SLACK)
    for i in numba.prange(len(X)):
        x, product = _widened(x_rounded[i]), _widened(products[i])
        # ‖x − x̂‖ and ‖x̂‖ of the row.
        x_off, x_length = np.float32(0), np.float32(0)
        for unit in range(n_units):
            x_off += (X[i, unit] - x[unit]) ** 2
            x_length += x[unit] ** 2
        x_off, x_length = slack * np.sqrt(x_off), slack * np.sqrt(x_length)
        above = np.empty(n_centers, np.float32)
        below = np.empty(n_centers, np.float32)
        first = least
        for j in range(n_centers):
            # |x·c − x̂·ĉ| ≤ ‖x − x̂‖ ‖c‖ + ‖x̂‖ ‖c − ĉ‖, and the product was rounded to bfloat16 itself.
            off = rounding * abs(product[j]) + x_off * c_length[j] + x_length * c_off[j]
            above[j] = product[j] - half[j] + off
            below[j] = product[j] - half[j] - off
            first = max(first, below[j])
        # The bar is the highest lower bound, or the second highest if two scores are wanted.
        bar = first
        if two:
            bar, top = least, least
            for j in range(n_centers):
                if below[j] > bar:
                    bar = min(below[j], top) if top > least else least
                    top = max(below[j], top)
        # Exact scores in float32 of the few centres that remain.
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


@njit(inline="always")
def _widened(values: np.ndarray) -> np.ndarray:  # pragma: no cover
    """Return bfloat16 numbers, given by their bits, in float32."""
    # A bfloat16 is the upper half of the float32 of the same value.
    bits = np.empty(len(values), np.uint32)
    for i in range(len(values)):
        bits[i] = np.uint32(values[i]) << np.uint32(16)
    return bits.view(np.float32)


@njit(parallel=True)
def _add_rows(X: np.ndarray, label: np.ndarray, sums: np.ndarray, n_threads: int) -> None:  # pragma: no cover
    """Add rows to the sums of their centres; each thread has its own units, so that no two write to the same entry."""
    n_units = X.shape[1]
    for thread in numba.prange(n_threads):
        start, stop = thread * n_units // n_threads, (thread + 1) * n_units // n_threads
        for i in range(len(X)):
            total, row = sums[label[i], start:stop], X[i, start:stop]
            for unit in range(len(row)):
                total[unit] += row[unit]
