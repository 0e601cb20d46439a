"""Compiled loops and products of matrices on a CPU use as many threads as torch does, and wait for none of one another.

Torch, BLAS and numba each keep threads of their own, which wait busily: two of them in turn share the cores with what
the other left waiting. So products are cut into pieces here, each of which BLAS computes in one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - numba multiplies matrices with it: its threads are to be known
import threadpoolctl
import torch

WORTH_THREADS = 2**22  # multiplications

_lock, _users, _limits = Lock(), 0, None


@contextmanager
def torch_threads() -> Iterator[None]:
    """Let compiled kernels run on at most as many threads as torch was told to use."""
    n = torch.get_num_threads()
    before = numba.get_num_threads()
    if torch.get_num_threads() != n:  # numba has just started its threads, and told those of torch their number
        torch.set_num_threads(n)
    most: int = getattr(numba.config, "NUMBA_NUM_THREADS")  # noqa: B009
    numba.set_num_threads(min(n, most))
    try:
        yield
    finally:
        numba.set_num_threads(before)


# OpenMP waits for ever for threads that did not survive a fork; one thread asks for none.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS start no threads of its own, until the last of those who asked for it has left."""
    global _users, _limits
    with _lock:
        _users += 1
        if _users == 1:
            _limits = _blas().limit(limits=1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _limits.restore_original_limits()


@cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def bare(X: torch.Tensor) -> Any:
    """Return the NumPy array that a tensor on a CPU is, which keeps torch's threads out; on a GPU the tensor."""
    return X.numpy() if X.device.type == "cpu" else X


def product(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """Return A B; on a CPU by NumPy, whose BLAS is up to twice as fast as torch's (Intel's) on other processors."""
    if A.device.type != "cpu":
        return A @ B
    a, b = A.numpy(), B.numpy()
    out = np.empty((len(a), b.shape[1]), a.dtype)
    pieces = _pieces(len(a), b.size)
    _each(lambda piece: np.matmul(a[piece], b, out=out[piece]), pieces)
    return torch.from_numpy(out)


def gram(X: torch.Tensor) -> torch.Tensor:
    """Return XᵀX; on a CPU by NumPy, which computes half of it."""
    if X.device.type != "cpu":
        return X.T @ X
    x = X.numpy()
    first, *rest = _each(lambda piece: x[piece].T @ x[piece], _pieces(len(x), x.shape[1] ** 2))
    for term in rest:
        first += term
    return torch.from_numpy(first)


def _pieces(n_rows: int, work: int) -> list[slice]:
    """Return slices of rows, one for each thread; one alone where the `work` on all rows is too little to share."""
    n = torch.get_num_threads() if n_rows * work > WORTH_THREADS else 1
    return [slice(i * n_rows // n, (i + 1) * n_rows // n) for i in range(n)]


def _each(function: Callable[[slice], np.ndarray], pieces: list[slice]) -> list[np.ndarray]:
    """Return what a function returns for each piece; the first is left to the calling thread."""
    first, *rest = pieces
    with one_blas_thread():
        if not rest:
            return [function(first)]
        with ThreadPoolExecutor(len(rest), "neurosuper-product") as pool:
            others = pool.map(function, rest)
            return [function(first), *others]
