"""Leading eigenvectors of the covariance of responses: exact, or by block Krylov iterations.

X (row, unit) centred responses, S = XᵀX (unit, unit) their scatter, D (direction, unit) its unit eigenvectors; the
variance along a direction is its eigenvalue / (n − 1).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch

from neurosuper._threads import one_blas_thread
from neurosuper.directions._rows.moments import (
    centred_tiles,
    is_small,
    moments,
)
from neurosuper.directions._rows.products import bare, gram, product
from neurosuper.directions._rows.rows import Rows, Tensors

FLOAT32_SAFE_RATIO = 1e-4  # smallest / largest variance: below this, products in float32 are not accurate enough
EXACT_SIDE = 1000  # stimuli or units, the smaller number: up to this the exact solution is always used
ROUNDING = 1e-14  # of the largest variance: what eigenvalues of a Gram matrix in float64 may be by rounding alone
DEPTH = 2  # blocks of the Krylov space after the first, if the first comes from a sample of rows
BLIND_DEPTH = 3  # blocks after the first, if the first is random
OVERSAMPLING = 12  # columns of a block in addition to one per direction
SAMPLE = 8  # one row in 8 gives the first block
Multiply = Callable[[torch.Tensor], torch.Tensor]


class Spectrum(NamedTuple):
    """Variances in descending order `(direction,)`, their directions `(direction, unit)`, and the total variance."""

    variance: torch.Tensor
    D: torch.Tensor
    total: torch.Tensor


def is_accurate(found: Spectrum) -> bool:
    """Return whether products in float32 were accurate enough for all directions."""
    return bool(found.variance[-1] > FLOAT32_SAFE_RATIO * found.variance[0])


def uses_gram(rows: Rows) -> bool:
    """Return whether to use the Gram matrix of stimuli: it is the smaller one, and all rows are in memory."""
    return rows.in_memory and rows.n_columns > rows.n_rows


def exact_spectrum(rows: Rows, wanted: int | None, center: bool) -> tuple[torch.Tensor, Spectrum]:
    """Return the mean row and the spectrum, from float32 products if these are accurate enough, else from float64."""
    solve = _from_gram if uses_gram(rows) else _from_covariance
    if wanted is not None and rows.dtype == torch.float32 and not is_small(rows):
        mean, found = solve(rows, wanted, center, precise=False)
        if is_accurate(found):
            return mean, found
    return solve(rows, wanted, center, precise=True)


def _from_covariance(rows: Rows, wanted: int | None, center: bool, precise: bool) -> tuple[torch.Tensor, Spectrum]:
    mean, scatter = moments(rows, precise)
    # Without centring, the second moment Σ x xᵀ = Σ (x − m)(x − m)ᵀ + n m mᵀ.
    if not center:
        mean, scatter = torch.zeros_like(mean), torch.addr(scatter, mean, mean, alpha=rows.n_rows)
    squares, vectors = _leading(scatter, wanted)
    return mean, Spectrum(squares / (rows.n_rows - 1), vectors.T, scatter.trace() / (rows.n_rows - 1))


def _from_gram(rows: Rows, wanted: int | None, center: bool, precise: bool) -> tuple[torch.Tensor, Spectrum]:
    """Return mean and spectrum from inner products of stimuli, XXᵀ = U S² Uᵀ; D = S⁻¹ Uᵀ X."""
    X = rows.whole
    mean = rows.mean() if center else torch.zeros_like(rows.mean())
    dtype = torch.float64 if precise else X.dtype
    columns = [slice(start, start + len(X)) for start in range(0, X.shape[1], len(X))]

    def prepare(some: slice) -> torch.Tensor:
        """Return units, centred in the dtype of the products: a mean rounded to float32 would leave a rest of it."""
        part = X[:, some].to(dtype)
        return part - part.mean(0) if center else part

    # XXᵀ is summed over square slices of units, so that no centred copy of all responses is needed.
    inner = torch.zeros(len(X), len(X), dtype=torch.float64, device=X.device)
    for some in columns:
        inner += gram(prepare(some).T)
    squares, U = _leading(inner, wanted)
    varies = squares > ROUNDING * squares[0]
    squares, U = squares[varies], U[:, varies].to(dtype)
    D = torch.cat([U.T @ prepare(some) for some in columns], dim=1)
    total = inner.trace() / (len(X) - 1)
    return mean, Spectrum(squares / (len(X) - 1), torch.nn.functional.normalize(D, dim=1), total)


def _leading(S: torch.Tensor, wanted: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest eigenvalues of a symmetric matrix (None: all), descending, and eigenvectors as columns."""
    size = len(S)
    n = size if wanted is None else min(wanted, size)
    if S.device.type == "cpu":
        some = [size - n, size - 1] if 2 * n <= size else None
        columnwise = S.numpy().T  # LAPACK's layout; the matrix is symmetric, so no copy is needed
        with one_blas_thread() if size <= EXACT_SIDE else nullcontext():
            values, vectors = scipy.linalg.eigh(columnwise, subset_by_index=some, check_finite=False)
        return torch.from_numpy(values[::-1][:n].copy()), torch.from_numpy(vectors[:, ::-1][:, :n].copy())
    values, vectors = torch.linalg.eigh(S)
    return values[-n:].flip(0), vectors[:, -n:].flip(1)


def randomized_spectrum(rows: Rows, mean: torch.Tensor, n_directions: int, generator: torch.Generator) -> Spectrum:
    """Return the spectrum of S on a block Krylov space (Musco and Musco 2015); one pass for each of its blocks."""
    width = min(n_directions + OVERSAMPLING, rows.n_columns)
    Q = torch.randn(rows.n_columns, width, generator=generator, dtype=rows.dtype).to(rows.device)
    depth = BLIND_DEPTH
    if rows.in_memory and rows.n_rows > 2 * rows.n_columns:
        Q, depth = _from_sample(rows.whole[::SAMPLE], mean, Q), DEPTH
    K, products = _krylov(lambda Q: rows.sum(_multiply, mean, Q, width=None)[0], Q, depth)
    corner, squares = rows.sum(_finish, mean, K[:, products.shape[1] :], width=None)
    # Rayleigh–Ritz: eigenvectors of H = KᵀSK, mapped back by K. SK is known for all but the last block, whose corner of
    # H comes from one more pass; H is symmetric.
    upper = K.T @ products
    H = torch.cat([upper.double(), torch.cat([upper[products.shape[1] :].T.double(), corner])], dim=1)
    values, V = _leading((H + H.T) / 2, n_directions)
    D = torch.linalg.qr(K @ V.to(K.dtype))[0].T
    return Spectrum(values.clamp(min=0) / (rows.n_rows - 1), D, squares / (rows.n_rows - 1))


def _from_sample(X: torch.Tensor, mean: torch.Tensor, Q: torch.Tensor) -> torch.Tensor:
    """Return approximate eigenvectors of the scatter of some rows, as many as Q `(unit, column)` has columns."""
    K, products = _krylov(lambda Q: _multiply(X, mean, Q)[0], Q, BLIND_DEPTH)
    K = K[:, : products.shape[1]]
    return K @ _leading((K.T @ products).double(), Q.shape[1])[1].to(K.dtype)


def _krylov(multiply: Multiply, Q: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis K of Q, SQ, …, S^depth Q, and SK of all but the last block."""
    K = torch.linalg.qr(Q)[0]
    products = K[:, :0]
    for _ in range(depth):
        products = torch.cat([products, multiply(K[:, products.shape[1] :])], dim=1)
        block = products[:, -Q.shape[1] :][:, : len(K) - K.shape[1]]
        if not block.shape[1]:
            break
        # Gram–Schmidt twice: once leaves rounding that grows from block to block.
        for _ in range(2):
            block = torch.linalg.qr(block - K @ (K.T @ block))[0]
        K = torch.cat([K, block], dim=1)
    return K, products


def _multiply(block: torch.Tensor, mean: torch.Tensor, Q: torch.Tensor) -> Tensors:
    """Return the contribution of a block to S Q = Xᵀ (X Q)."""
    total = bare(torch.zeros_like(Q))
    for X in centred_tiles(block, mean):
        total += bare(product(X.T, product(X, Q)))
    return (torch.as_tensor(total),)


def _finish(block: torch.Tensor, mean: torch.Tensor, Q: torch.Tensor) -> Tensors:
    """Return the contributions of a block to QᵀSQ = (XQ)ᵀ(XQ) and to the trace of S, Σ ‖x‖²."""
    corner = torch.zeros(Q.shape[1], Q.shape[1], dtype=torch.float64, device=Q.device)
    trace = corner.new_zeros(())
    vecdot = np.linalg.vecdot if block.device.type == "cpu" else torch.linalg.vecdot
    for X in centred_tiles(block, mean):
        Y = product(X, Q)
        corner += gram(Y)
        trace += torch.as_tensor(vecdot(bare(X), bare(X))).double().sum()
    return corner, trace
