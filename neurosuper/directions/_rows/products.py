"""Matrix products on a CPU: one tile of rows per thread, each multiplied by BLAS in one thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - numba multiplies matrices with it: threadpoolctl must know its threads
import torch

from neurosuper._threads import one_blas_thread

MIN_THREADED_PRODUCTS = 2**22  # multiplications: below this, starting threads costs more than it saves


def bare(X: torch.Tensor) -> Any:
    """Return a tensor on a CPU as NumPy array, so that torch starts no threads; on a GPU the tensor itself."""
    return X.numpy() if X.device.type == "cpu" else X


def product(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Return A B; on a CPU by NumPy, whose BLAS is up to twice as fast as torch's (Intel's) on other processors."""
    if A.device.type != "cpu":
        return A @ B
    a, b = A.numpy(), B.numpy()
    out = np.empty((len(a), b.shape[1]), a.dtype)
    tiles = _tiles(len(a), b.size)
    _each(lambda tile: np.matmul(a[tile], b, out=out[tile]), tiles)
    return torch.from_numpy(out)


def gram(X: torch.Tensor) -> torch.Tensor:
    """Return XᵀX; on a CPU by NumPy, which computes half of it."""
    if X.device.type != "cpu":
        return X.T @ X
    x = X.numpy()
    first, *rest = _each(lambda tile: x[tile].T @ x[tile], _tiles(len(x), x.shape[1] ** 2))
    for term in rest:
        first += term
    return torch.from_numpy(first)


def _tiles(n_rows: int, work: int) -> list[slice]:
    """Return slices of rows, one per thread; a single one if n_rows × `work` multiplications are too few to share."""
    n = torch.get_num_threads() if n_rows * work > MIN_THREADED_PRODUCTS else 1
    return [slice(i * n_rows // n, (i + 1) * n_rows // n) for i in range(n)]


def _each(function: Callable[[slice], np.ndarray], tiles: list[slice]) -> list[np.ndarray]:
    """Return the results of a function for all tiles; the calling thread computes the first."""
    first, *rest = tiles
    with one_blas_thread():
        if not rest:
            return [function(first)]
        with ThreadPoolExecutor(len(rest), "neurosuper-product") as pool:
            others = pool.map(function, rest)
            return [function(first), *others]
