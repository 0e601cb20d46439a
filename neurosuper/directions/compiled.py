"""Compiled loops use as many threads as torch does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import torch


@contextmanager
def torch_threads() -> Iterator[None]:
    """Let compiled kernels run on at most as many threads as torch was told to use."""
    before = numba.get_num_threads()
    most: int = getattr(numba.config, "NUMBA_NUM_THREADS")  # noqa: B009
    numba.set_num_threads(min(torch.get_num_threads(), most))
    try:
        yield
    finally:
        numba.set_num_threads(before)
