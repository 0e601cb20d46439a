"""Non-negative least squares for many rows at once, on Gram matrices, by coordinate descent (HALS).

X (row, unit) rows to be explained, D (direction, unit), Z (row, direction) codes ≥ 0; gram D Dᵀ (direction, direction),
products X Dᵀ (row, direction). The same kernels find D ≥ 0 from Z: transpose both, gram Zᵀ Z, products Xᵀ Z.
"""

from __future__ import annotations

import numba
import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import torch_threads

ROWS_PER_TASK = 128  # that one thread takes at a time
RIDGE = 0.1  # of the mean squared length of directions, where codes start


def nonnegative_codes(
    gram: torch.Tensor,
    products: torch.Tensor,
    codes: torch.Tensor | None = None,
    *,
    sweeps: int = 1000,
    tol: float = 1e-4,
) -> torch.Tensor:
    """Return the codes Z ≥ 0 that minimise ½ z G zᵀ − z pᵀ for each row: least squares, with G = D Dᵀ and p = x Dᵀ.

    A penalty λ Σ z + ½ μ ‖z‖² is had by products − λ and gram + μ I. Hierarchical alternating least squares
    (Cichocki and Phan 2009, algorithm 2): each code in turn takes its best value ≥ 0 while the others rest. A row comes
    to rest on its own, so that its codes depend on no other row. Compiled on the CPU, in torch elsewhere; cost of a
    sweep: rows × directions × codes that still change.

    Parameters
    ----------
    gram : Tensor (direction, direction)
        Symmetric, positive semi-definite. A code whose diagonal entry is zero stays as it starts.
    products : Tensor (row, direction)
    codes : Tensor (row, direction), optional
        Where to start, ≥ 0; residual alone. None starts at `ridge_codes`.
    sweeps : int, optional
        At most.
    tol : float, optional
        A row rests when no code changes by more than this, relative to its largest (both times ‖d‖) in a sweep.

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
    """Return max(0, p (G + λ I)⁻¹), λ a tenth of the mean squared length of the directions: a start for codes."""
    ridge = RIDGE * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny
    damped = gram.double() + ridge.double() * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    codes = (products @ torch.linalg.inv(damped).to(products.dtype)).clamp_(min=0)
    return codes * (gram.diagonal() > 0)


def _inverse_diagonal(gram: torch.Tensor) -> torch.Tensor:
    diagonal = gram.diagonal()
    return torch.where(diagonal > 0, 1 / diagonal, 0)


def _descend(gram: torch.Tensor, products: torch.Tensor, codes: torch.Tensor, sweeps: int, tol: float) -> torch.Tensor:
    """Sweep over directions, all rows at once; codes are held (direction, row), where a direction lies together."""
    Z, P, inverse, lengths = codes.T.contiguous(), products.T, _inverse_diagonal(gram), gram.diagonal()
    awake = torch.ones_like(Z[0])
    for _ in range(sweeps):
        before = Z.clone()
        for j in range(len(Z)):
            Z[j] += awake * ((Z[j] + (P[j] - gram[j] @ Z) * inverse[j]).clamp(min=0) - Z[j])
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
    with torch_threads():
        _sweep_rows(G, inverse, P, Z.numpy(), sweeps, tol**2)
    return Z


@njit(parallel=True, fastmath=FASTMATH)
def _sweep_rows(
    gram: np.ndarray, inverse: np.ndarray, products: np.ndarray, codes: np.ndarray, sweeps: int, squared_tol: float
) -> None:
    """Sweep over the codes of each row until they rest; what is residual to explain is kept up to date beside them."""
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
    change = largest = residual.dtype.type(0)
    for j in range(len(z)):
        best = max(z[j] + residual[j] * inverse[j], residual.dtype.type(0))
        step = best - z[j]
        if step != 0:
            z[j] = best
            for other in range(len(z)):
                residual[other] -= step * gram[j, other]
            change = max(change, step * step * gram[j, j])
        largest = max(largest, best * best * gram[j, j])
    return change, largest
