"""One number of threads, that of torch, for torch, BLAS and compiled loops on a CPU.

Torch, BLAS and numba each have their own threads, which keep a core busy while they wait: if two of them take turns,
the waiting threads of one slow down the other. Matrix products are therefore divided into tiles, one per thread, and
BLAS computes each tile in one thread (see `directions/_rows/products.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from threading import Lock

import numba
import scipy.linalg.cython_blas  # noqa: F401 - numba multiplies matrices with it: threadpoolctl must know its threads
import threadpoolctl
import torch

# Numbers of a matrix; with fewer, threads of BLAS wait more than they work: measured in ridge regressions on two cores.
MANY = 500_000
_lock, _users, _limits = Lock(), 0, None


@contextmanager
def torch_threads() -> Iterator[None]:
    """Run compiled kernels on at most as many threads as torch uses."""
    n = torch.get_num_threads()
    before = numba.get_num_threads()
    if torch.get_num_threads() != n:  # numba has just started its threads, which resets the number of torch's
        torch.set_num_threads(n)
    most: int = getattr(numba.config, "NUMBA_NUM_THREADS")  # noqa: B009
    numba.set_num_threads(min(n, most))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _forget_threads_of_the_parent() -> None:
    # OpenMP would wait forever for threads that exist only in the parent; with one thread it needs none.
    torch.set_num_threads(1)
    # So would dask, which keeps its threads between calls; without them it starts new ones.
    if (dask := sys.modules.get("dask.threaded")) is not None:
        dask.default_pool = None  # type: ignore[attr-defined]
        dask.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads_of_the_parent)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, until the last of all callers that are in this context at the same time has left."""
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


def blas_threads_for(n_numbers: int) -> AbstractContextManager[None]:
    """Return a context for algebra of matrices of this size: one BLAS thread for small ones, as many as before else."""
    return one_blas_thread() if n_numbers < MANY else nullcontext()


@cache
def _blas() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController().select(user_api="blas")
