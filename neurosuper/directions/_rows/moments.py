"""Mean and scatter of rows, and what is made of them.

X (row, unit) prepared responses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from neurosuper.directions._rows.products import bare, gram, product
from neurosuper.directions._rows.rows import SUM_ROWS, Rows, Tensors, join
from neurosuper.directions._rows.tiles import CENTRED_TILE_ENTRIES, MIN_CENTRED_ROWS

RANK_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the largest variance: less is rounding
FLOAT32_SUM_ROWS = 2**15  # multiplied as they are, before float64 takes over
FAR_MEAN_RATIO = 10  # squared means over variances from which float32 would lose digits unless rows are centred first
ROUGH_MEAN_ROWS = 256  # rows that tell a rough mean
MAX_SMALL_PRODUCTS = 2**31  # multiplications that a CPU does in float64 in no time
SIGN_ENTRIES, SIGN_ROWS = 2**23, (2**11, 2**12)  # of the rows that signs are told from, and how many these may be


def moments(rows: Rows, precise: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean row `(unit,)` and the scatter about it, Σ (x − mean)(x − mean)ᵀ `(unit, unit)`, both in float64.

    One pass, the first time: they are kept with the rows. Each block is summed about a rough mean of its own, where its
    mean is far from zero, and the sums are put together exactly (Chan, Golub and LeVeque 1979): a far mean costs no
    digits.

    Parameters
    ----------
    rows : Rows
    precise : bool, optional
        Multiply in float64. Else in the dtype of the rows, unless they are few: in float32 two to three times as fast,
        and variances are then good to some 10⁻⁶ of the largest.
    """
    precise = precise or rows.dtype == torch.float64 or is_small(rows)
    kept = vars(rows).get("kept_moments")
    if kept is None or kept[0] is not rows.preparation or kept[1] < precise:
        totals = rows.reduce(_block_moments, _merge_moments, precise, width=None)
        kept = vars(rows)["kept_moments"] = (rows.preparation, precise, *_put_together(*totals))
    return kept[2], kept[3]


def is_small(rows: Rows) -> bool:
    """Whether float64 costs nothing worth saving."""
    smaller, larger = sorted((rows.n_rows, rows.n_columns))
    return smaller * smaller * larger <= MAX_SMALL_PRODUCTS


def centred_tiles(X: torch.Tensor, mean: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield X − mean in tiles of rows, each written over the one before, so that they stay in the cache."""
    size = max(MIN_CENTRED_ROWS, CENTRED_TILE_ENTRIES[X.device.type] // X.shape[1])
    buffer = torch.empty_like(X[:size])
    for tile in X.split(size):
        out = buffer[: len(tile)]
        if X.device.type == "cpu":
            np.subtract(tile.numpy(), mean.numpy(), out=out.numpy())
        else:
            torch.sub(tile, mean, out=out)
        yield out


def _block_moments(block: torch.Tensor, precise: bool) -> Tensors:
    """Return the number of rows, their mean, a point near it or 0, and the scatter about that point."""
    sample = bare(block)[:: max(1, len(block) // ROUGH_MEAN_ROWS)]
    point = sample.mean(0)
    is_centred = precise or bool((point**2 > FAR_MEAN_RATIO * ((sample - point) ** 2).mean(0)).any())
    tiles = centred_tiles(block, torch.as_tensor(point)) if is_centred else block.split(FLOAT32_SUM_ROWS)
    sums: Any = 0
    scatter: Any = None
    for X in tiles:
        Y = torch.as_tensor(_double(bare(X))) if precise else X
        sums = sums + _sum_of_rows(bare(Y))
        scatter = _add(scatter, bare(gram(Y)))
    point = _double(point) if is_centred else 0 * sums
    n = torch.tensor([len(block)], dtype=torch.float64, device=block.device)
    return n, *map(torch.as_tensor, ((sums / len(block) + point)[None], point[None], scatter))


def _add(total: Any, term: Any) -> Any:
    """Return their sum in float64, written over the total."""
    if total is None:
        return _double(term)
    total += term
    return total


def _merge_moments(a: Tensors, b: Tensors) -> Tensors:
    """Return the numbers, means and points of all blocks, and the sum of their scatters, written over the first."""
    _add(bare(a[3]), bare(b[3]))
    return *join(a[:3], b[:3]), a[3]


def _put_together(n: torch.Tensor, means: torch.Tensor, points: torch.Tensor, scatter: torch.Tensor) -> Tensors:
    """Return mean and scatter of all rows: Σ (x − p)(x − p)ᵀ = Σ (x − m)(x − m)ᵀ + n (m − p)(m − p)ᵀ of each block."""
    mean = n @ means / n.sum()
    if not points.any():  # n (m − M)(m − M)ᵀ − n m mᵀ of all blocks is −N M Mᵀ
        return mean, torch.addr(scatter, mean, mean, alpha=-float(n.sum()))
    weight = n.sqrt()[:, None]
    return mean, scatter + gram(weight * (means - mean)) - gram(weight * (means - points))


def _double(X: Any) -> Any:
    return X.double() if isinstance(X, torch.Tensor) else X.astype(np.float64)


def _sum_of_rows(X: Any) -> Any:
    """Return the sum of rows in float64; of 512 at a time in their own dtype."""
    return sum(_double(X[start : start + SUM_ROWS].sum(0)) for start in range(0, len(X), SUM_ROWS))


def sign_rows(rows: Rows) -> np.ndarray:
    """Return the positions of at most 4,096 stimuli, evenly spread: those whose codes tell the signs of directions."""
    least, most = SIGN_ROWS
    n = min(rows.n_rows, most, max(least, SIGN_ENTRIES // rows.n_columns))
    return np.arange(n) * rows.n_rows // n


def skew_signs(X: torch.Tensor, mean: torch.Tensor, D: torch.Tensor) -> torch.Tensor:
    """Return the signs ±1 `(direction, 1)` of directions that skew the codes of these rows to the right."""
    third: Any = 0
    for centred in centred_tiles(X, mean):
        Z = bare(product(centred, D.T))
        third = third + _double((Z * Z * Z).sum(0))
    return torch.as_tensor(third < 0).to(D.dtype)[:, None] * -2 + 1


def whitening(scatter: torch.Tensor, n_rows: int) -> torch.Tensor:
    """Return the symmetric matrix that makes units uncorrelated and of unit variance; of a lower rank where they are.

    C^(−½), C = scatter/(n − 1): zero-phase (ZCA) whitening, which moves units least (Kessy, Lewin and Strimmer 2018).
    Directions whose variance is below 10⁻⁶ of the largest are projected out: float32 responses hold nothing there but
    rounding, which whitening would blow up.
    """
    variance, vectors = torch.linalg.eigh(scatter / (n_rows - 1))
    kept = variance > RANK_TOLERANCE[torch.float32] * variance[-1]
    vectors, variance = vectors[:, kept], variance[kept]
    return (vectors / variance.sqrt()) @ vectors.T
