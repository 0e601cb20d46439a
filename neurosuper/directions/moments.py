"""Mean and scatter of rows, and what is made of them.

X (row, unit) prepared responses.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neurosuper.directions.blocks import Blocks, Kernel, Survey, Tensors

RANK_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the largest variance: less is rounding
CHUNK_ENTRIES = {"cpu": 2**21, "cuda": 2**25}  # centred at once: 8 MiB in float32 stay in the cache
FULL_PRECISION = 2**31  # multiplications that a CPU does in float64 in no time


def moments(rows: Blocks, precise: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean row `(unit,)` and the scatter about it, Σ (x − mean)(x − mean)ᵀ `(unit, unit)`, both in float64.

    One pass, the first time: they are kept with the rows, and so is the survey of raw rows. Each part is summed about a
    mean of its own, and the sums of two parts are merged exactly (Chan, Golub and LeVeque 1979), so that a far mean
    costs no digits.

    Parameters
    ----------
    rows : Blocks
    precise : bool, optional
        Multiply in float64. Else in the dtype of the rows, unless they are few: in float32 two to three times as fast,
        and variances are then good to some 10⁻⁷ of the largest.
    """
    precise = precise or rows.dtype == torch.float64 or is_small(rows)
    kept = vars(rows).get("kept_moments")
    if kept is None or kept[0] is not rows.preparation or kept[1] < precise:
        if rows.in_memory:
            totals = _part_moments(rows.whole, precise)
        else:
            totals = rows.reduce(_part_moments, _merge_moments, precise)
        _, mean, scatter, least, largest = totals
        if rows.preparation.is_nothing and least.isfinite().all() and largest.isfinite().all():
            rows._surveys[False] = Survey(least, largest, mean.to(rows.dtype))
        kept = vars(rows)["kept_moments"] = (rows.preparation, precise, mean, scatter)
    return kept[2], kept[3]


def is_small(rows: Blocks) -> bool:
    """Whether float64 costs nothing worth saving."""
    smaller, larger = sorted((rows.n_rows, rows.n_columns))
    return smaller * smaller * larger <= FULL_PRECISION


def total(rows: Blocks, kernel: Kernel, *state: object) -> Tensors:
    """Return the sum of what `kernel(part, *state)` returns; rows in memory are one part, in chunks of its own."""
    return kernel(rows.whole, *state) if rows.in_memory else rows.sum(kernel, *state)


def symmetric_product(X: torch.Tensor) -> torch.Tensor:
    """Return XᵀX; little more than half of it is computed, and the rest mirrored."""
    n = X.shape[1]
    product, size = X.new_empty(n, n), max(128, n // 8)
    for start in range(0, n, size):
        stripe = X[:, start : start + size].T @ X[:, start:]
        product[start : start + size, start:] = stripe
        product[start:, start : start + size] = stripe.T
    return product


def centred_chunks(X: torch.Tensor, mean: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield X − mean in chunks of rows, each written over the one before, so that they stay in the cache."""
    size = max(256, CHUNK_ENTRIES[X.device.type] // X.shape[1])
    buffer = torch.empty_like(X[:size])
    for chunk in X.split(size):
        yield torch.sub(chunk, mean, out=buffer[: len(chunk)])


def _part_moments(part: torch.Tensor, precise: bool) -> Tensors:
    """Return the number of rows, their mean, scatter, least and largest."""
    shift = part[:1024].mean(0)
    sums = torch.zeros_like(shift, dtype=torch.float64)
    scatter = sums.new_zeros(len(sums), len(sums))
    for X in centred_chunks(part, shift):
        sums += X.sum(0)
        scatter += symmetric_product(X.double() if precise else X)
    n = sums.new_tensor(len(part))
    scatter.addr_(sums, sums, alpha=-1 / len(part))
    return n, shift + sums / n, scatter, part.amin(0), part.amax(0)


def _merge_moments(a: Tensors, b: Tensors) -> Tensors:
    n, step = a[0] + b[0], b[1] - a[1]
    scatter = (a[2] + b[2]).addr_(step * (a[0] * b[0] / n), step)
    return n, a[1] + step * (b[0] / n), scatter, torch.minimum(a[3], b[3]), torch.maximum(a[4], b[4])


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
