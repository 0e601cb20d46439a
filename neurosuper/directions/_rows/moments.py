"""Mean and scatter of rows; whitening matrices and signs of directions.

X (row, unit) prepared responses, m (unit,) their mean, Σ (x − m)(x − m)ᵀ (unit, unit) their scatter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from neurosuper.directions._rows.products import bare, gram, product
from neurosuper.directions._rows.rows import SUM_ROWS, Rows, Tensors, join
from neurosuper.directions._rows.tiles import CENTRED_TILE_ENTRIES, MIN_CENTRED_ROWS

RANK_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the largest variance
FLOAT32_SUM_ROWS = 2**15  # rows whose products are added in float32 before they are added in float64
FAR_MEAN_RATIO = 10  # mean² / variance of a unit: above this, rows are centred first, or float32 would lose digits
ROUGH_MEAN_ROWS = 256  # rows that give a rough mean to centre a block on
MAX_SMALL_PRODUCTS = 2**31  # multiplications: so few that float64 takes little time on a CPU
SIGN_ENTRIES, SIGN_ROWS = 2**23, (2**11, 2**12)  # that determine signs: 32 MiB in float32, and 2,048 to 4,096


def moments(rows: Rows, precise: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean row `(unit,)` and the scatter about it, Σ (x − mean)(x − mean)ᵀ `(unit, unit)`, both in float64.

    One pass, the first time; results are stored with the rows. A block whose mean is far from zero is centred on a
    rough mean of its own, and the sums of blocks are combined exactly (Chan, Golub and LeVeque 1979): no digits are
    lost.

    Parameters
    ----------
    rows : Rows
    precise : bool, optional
        Multiply in float64; otherwise in the dtype of the rows, unless they are few. Float32 is two to three times as
        fast, and variances are then accurate to about 10⁻⁶ of the largest.
    """
    precise = precise or rows.dtype == torch.float64 or is_small(rows)
    kept = vars(rows).get("kept_moments")
    if kept is None or kept[0] is not rows.preparation or kept[1] < precise:
        totals = rows.reduce(_block_moments, _merge_moments, precise, width=None)
        kept = vars(rows)["kept_moments"] = (rows.preparation, precise, *_put_together(*totals))
    return kept[2], kept[3]


def is_small(rows: Rows) -> bool:
    """Return whether products of these rows are cheap enough to compute in float64 in any case."""
    smaller, larger = sorted((rows.n_rows, rows.n_columns))
    return smaller * smaller * larger <= MAX_SMALL_PRODUCTS


def centred_tiles(X: torch.Tensor, mean: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield X − mean in tiles of rows; each tile overwrites the one before, so that they stay in the cache."""
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
    """Return the number n of rows, their mean m, a point p near it or 0, and the scatter Σ (x − p)(x − p)ᵀ."""
    # p is the mean of about 256 evenly spaced rows; it is used if mean² is large compared with the variance of a unit.
    sample = bare(block)[:: max(1, len(block) // ROUGH_MEAN_ROWS)]
    point = sample.mean(0)
    is_centred = precise or bool((point**2 > FAR_MEAN_RATIO * ((sample - point) ** 2).mean(0)).any())
    tiles = centred_tiles(block, torch.as_tensor(point)) if is_centred else block.split(FLOAT32_SUM_ROWS)
    sums: Any = 0
    scatter: Any = None
    # Σ (x − p) and Σ (x − p)(x − p)ᵀ, tile by tile; partial sums are added in float64.
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
    """Return the numbers, means and points of all blocks, and the sum of their scatters, which overwrites the first."""
    _add(bare(a[3]), bare(b[3]))
    return *join(a[:3], b[:3]), a[3]


def _put_together(n: torch.Tensor, means: torch.Tensor, points: torch.Tensor, scatter: torch.Tensor) -> Tensors:
    """Return mean and scatter of all rows, from the moments of each block."""
    # M = Σ n m / N over blocks.
    mean = n @ means / n.sum()
    # For each block Σ (x − p)(x − p)ᵀ = Σ (x − m)(x − m)ᵀ + n (m − p)(m − p)ᵀ, and about M instead of p the last term
    # is n (m − M)(m − M)ᵀ. Where all p are zero, the two terms of all blocks add up to −N M Mᵀ.
    if not points.any():
        return mean, torch.addr(scatter, mean, mean, alpha=-float(n.sum()))
    weight = n.sqrt()[:, None]
    return mean, scatter + gram(weight * (means - mean)) - gram(weight * (means - points))


def _double(X: Any) -> Any:
    return X.double() if isinstance(X, torch.Tensor) else X.astype(np.float64)


def _sum_of_rows(X: Any) -> Any:
    """Return the sum of rows in float64; groups of 512 are added in their own dtype first."""
    return sum(_double(X[start : start + SUM_ROWS].sum(0)) for start in range(0, len(X), SUM_ROWS))


def sign_rows(rows: Rows) -> np.ndarray:
    """Return the positions of at most 4,096 stimuli, evenly spread, whose codes determine the signs of directions."""
    minimum, maximum = SIGN_ROWS
    n = min(rows.n_rows, maximum, max(minimum, SIGN_ENTRIES // rows.n_columns))
    return np.arange(n) * rows.n_rows // n


def skew_signs(X: torch.Tensor, mean: torch.Tensor, D: torch.Tensor) -> torch.Tensor:
    """Return the signs ±1 `(direction, 1)` of directions that give the codes of these rows positive skewness."""
    # The sign of the third central moment Σ z³, z = (x − m)·d; +1 if it is zero.
    third: Any = 0
    for centred in centred_tiles(X, mean):
        Z = bare(product(centred, D.T))
        third = third + _double((Z * Z * Z).sum(0))
    return torch.as_tensor(third < 0).to(D.dtype)[:, None] * -2 + 1


def whitening(variance: torch.Tensor, V: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Return the symmetric whitening matrix C^(−½) `(unit, unit)`, from eigenvalues and eigenvectors of C = V Λ Vᵀ.

    Zero-phase (ZCA) whitening changes units least (Kessy, Lewin and Strimmer 2018). Directions whose variance is at
    most `tolerance` of the largest are projected out: whitening would amplify their rounding.
    """
    kept = variance > tolerance * variance.max()
    V, variance = V[:, kept], variance[kept]
    # C^(−½) = V Λ^(−½) Vᵀ.
    return (V / variance.sqrt()) @ V.T
