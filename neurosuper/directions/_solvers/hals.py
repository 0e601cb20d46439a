"""Non-negative least squares for many rows at once, on Gram matrices, by coordinate descent (HALS).

X (row, unit) rows to be explained, D (direction, unit), Z (row, direction) codes ≥ 0; gram D Dᵀ (direction, direction),
products X Dᵀ (row, direction). The same kernels find D ≥ 0 from Z: transpose both, gram Zᵀ Z, products Xᵀ Z.
"""

from __future__ import annotations

import numba
import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit

ROWS_PER_TASK = 128  # rows that a thread takes at a time: enough to share, few enough to balance rows of unequal cost
RIDGE = 0.1  # λ of the ridge regression that codes start from, as a share of the mean squared length of directions


def nonnegative_codes(
    gram: torch.Tensor,
    products: torch.Tensor,
    codes: torch.Tensor | None = None,
    *,
    sweeps: int = 1000,
    tol: float = 1e-4,
) -> torch.Tensor:
    """Return the codes Z ≥ 0 that minimise ½ z G zᵀ − z pᵀ for each row: least squares, with G = D Dᵀ and p = x Dᵀ.

    To add the penalty λ Σ z + ½ μ ‖z‖², pass `products − λ` and `gram + μ I`. Hierarchical alternating least squares
    (Cichocki and Phan 2009, algorithm 2): each code in turn takes its best value ≥ 0 while the others are fixed. Each
    row stops on its own, so that its codes depend on no other row. Compiled on the CPU, in torch elsewhere; the cost of
    a sweep is rows × directions × codes that still change.

    Parameters
    ----------
    gram : Tensor (direction, direction)
        Symmetric, positive semi-definite. A code whose diagonal entry is zero stays as it starts.
    products : Tensor (row, direction)
    codes : Tensor (row, direction), optional
        Initial codes, ≥ 0; not written to. None starts at `ridge_codes`.
    sweeps : int, optional
        Maximum number of sweeps.
    tol : float, optional
        A row is done when no code changes by more than this in a sweep, relative to its largest (both times ‖d‖).

    Returns
    -------
    Tensor (row, direction)

    Examples
    --------
    >>> D, X = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    >>> nonnegative_codes(D @ D.T, X @ D.T).round(decimals=3).tolist()
    [[2.0, 1.0], [0.0, 1.5]]
    """
    if codes is None:
        codes = ridge_codes(gram, products)
    descend = _descend_compiled if products.device.type == "cpu" else _descend
    return descend(gram, products, codes, sweeps, tol)


def ridge_codes(gram: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """Return max(0, p (G + λ I)⁻¹), the codes of ridge regression with negative ones set to zero, as initial codes.

    λ is a tenth of the mean squared length of the directions.
    """
    ridge = RIDGE * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny
    damped = gram.double() + ridge.double() * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    codes = (products @ torch.linalg.inv(damped).to(products.dtype)).clamp_(min=0)
    return codes * (gram.diagonal() > 0)


def _inverse_diagonal(gram: torch.Tensor) -> torch.Tensor:
    diagonal = gram.diagonal()
    return torch.where(diagonal > 0, 1 / diagonal, 0)


def _descend(gram: torch.Tensor, products: torch.Tensor, codes: torch.Tensor, sweeps: int, tol: float) -> torch.Tensor:
    """Sweep over directions, for all rows at once; codes are transposed, so that memory is contiguous."""
    Z, P, inverse, lengths = codes.T.contiguous(), products.T, _inverse_diagonal(gram), gram.diagonal()
    awake = torch.ones_like(Z[0])
    for _ in range(sweeps):
        before = Z.clone()
        for j in range(len(Z)):
            # z_j ← max(0, z_j + (p_j − z G_j) / G_jj), for rows that are not done.
            Z[j] += awake * ((Z[j] + (P[j] - gram[j] @ Z) * inverse[j]).clamp(min=0) - Z[j])
        # A row is done when (Δz_j)² G_jj ≤ tol² max z_j² G_jj: codes count in the unit of a response.
        change = ((Z - before) ** 2 * lengths[:, None]).amax(0)
        awake *= change > tol**2 * (Z**2 * lengths[:, None]).amax(0)
        if not awake.any():
            break
    return Z.T.contiguous()


def _descend_compiled(
    gram: torch.Tensor, products: torch.Tensor, codes: torch.Tensor, sweeps: int, tol: float
) -> torch.Tensor:
    Z = codes.clone(memory_format=torch.contiguous_format)
    G, inverse, P = (array.contiguous().numpy() for array in (gram, _inverse_diagonal(gram), products))
    _sweep_rows(G, inverse, P, Z.numpy(), sweeps, tol**2)
    return Z


@njit(parallel=True, fastmath=FASTMATH)
def _sweep_rows(
    gram: np.ndarray, inverse: np.ndarray, products: np.ndarray, codes: np.ndarray, sweeps: int, squared_tol: float
) -> None:
    """Sweep over the codes of each row until it is done, and keep its residual p − z G up to date."""
    n_rows, n = codes.shape
    for task in numba.prange((n_rows + ROWS_PER_TASK - 1) // ROWS_PER_TASK):
        residual = np.empty(n, codes.dtype)
        for row in range(task * ROWS_PER_TASK, min(n_rows, (task + 1) * ROWS_PER_TASK)):
            z = codes[row]
            residual[:] = products[row]
            for j in range(n):
                if z[j] != 0:
                    residual -= z[j] * gram[j]
            for _ in range(sweeps):
                change, largest = _sweep(gram, inverse, residual, z)
                if change <= squared_tol * largest:
                    break


@njit(fastmath=FASTMATH)
def _sweep(gram: np.ndarray, inverse: np.ndarray, residual: np.ndarray, z: np.ndarray) -> tuple[float, float]:
    """Give each code of a row its best value in turn; return the largest squared change, and the largest square."""
    # Both in the unit of a response: times G_jj, the squared length of the direction.
    change = largest = residual.dtype.type(0)
    for j in range(len(z)):
        # z_j ← max(0, z_j + (p_j − z G_j) / G_jj); 1 / G_jj is 0 for a direction of length zero.
        best = max(z[j] + residual[j] * inverse[j], residual.dtype.type(0))
        step = best - z[j]
        # Most codes do not change in later sweeps: for them the update of the residual is skipped.
        if step != 0:
            z[j] = best
            for other in range(len(z)):
                residual[other] -= step * gram[j, other]
            change = max(change, step * step * gram[j, j])
        largest = max(largest, best * best * gram[j, j])
    return change, largest
