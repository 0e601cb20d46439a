"""Compiled loops and products of matrices on a CPU use as many threads as torch does, and wait for none of one another.

Torch, BLAS and numba each keep threads of their own, which wait busily: two of them in turn share the cores with what
the other left waiting. So products are cut into pieces here, each of which BLAS computes in one thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import numba
import scipy.linalg.cython_blas  # noqa: F401 - numba multiplies matrices with it: its threads are to be known
import threadpoolctl
import torch

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
