"""Products are right for any memory layout, and use no more threads than torch."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from neurosuper.directions._rows.products import _tiles, gram, product

LAYOUTS = {
    "rows": lambda X: X.contiguous(),
    "columns": lambda X: X.T.contiguous().T,
    "strided": lambda X: torch.stack([X, X], 2)[:, :, 0],
}
layouts = st.sampled_from(list(LAYOUTS.values()))
sizes = st.integers(1, 30)


def matrix(n, m, seed, layout, dtype=torch.float64):
    return layout(torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=dtype))


@settings(max_examples=50, deadline=None)
@given(sizes, sizes, sizes, st.integers(0, 9), layouts, layouts, st.sampled_from([torch.float32, torch.float64]))
def test_products_are_those_of_torch(n, m, k, seed, layout, other, dtype):
    A, B = matrix(n, m, seed, layout, dtype), matrix(m, k, seed + 1, other, dtype)
    assert product(A, B).dtype == dtype
    assert_allclose(product(A, B), A @ B, atol=1e-12 if dtype == torch.float64 else 1e-4)


@settings(max_examples=50, deadline=None)
@given(sizes, sizes, st.integers(0, 9), layouts)
def test_gram_matrices_are_those_of_torch(n, m, seed, layout):
    X = matrix(n, m, seed, layout)
    assert_allclose(gram(X), X.T @ X, atol=1e-12)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_large_products_are_divided_into_one_tile_per_thread(n_threads, monkeypatch):
    A, B = matrix(501, 300, 0, LAYOUTS["rows"]), matrix(300, 200, 1, LAYOUTS["rows"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
    assert len(_tiles(501, 300 * 200)) == n_threads
    assert_allclose(product(A, B), A @ B, atol=1e-11)
    assert_allclose(product(A.T, A), A.T @ A, atol=1e-11)
    assert_allclose(gram(A), A.T @ A, atol=1e-11)


def test_compiled_loops_leave_torch_its_threads():
    """Numba starts its threads once in a process, with the first loop; those of torch are the same library's."""
    script = """
import torch
torch.set_num_threads(1)
import numba
import numpy as np
from neurosuper.interpretability.group_scores import _places_needed
from neurosuper._threads import torch_threads
_places_needed(np.zeros((1, 1), int), np.zeros((1, 1), np.int8), 1, 1)
print(torch.get_num_threads())
with torch_threads():
    print(numba.get_num_threads(), torch.get_num_threads())
print(numba.get_num_threads())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["1", "1", "1", "2"]


def test_blas_has_one_thread_until_the_last_has_left():
    """In a process of its own: a fit that still runs in another thread would have it at one thread already."""
    script = """
import threadpoolctl
from neurosuper._threads import one_blas_thread

def blas_threads():
    return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

with threadpoolctl.threadpool_limits(2, "blas"):
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    print(*blas_threads())
    second.__exit__(None, None, None)
    print(*blas_threads())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "2"]
