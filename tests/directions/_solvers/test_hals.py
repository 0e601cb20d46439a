import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import nnls

from neurosuper.directions._solvers.hals import _descend, nonnegative_codes, ridge_codes


def problem(seed, n_rows=40, n_directions=6, n_units=10, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    D, X = (torch.randn(n, n_units, generator=generator, dtype=dtype) for n in (n_directions, n_rows))
    return D, X


def test_equals_scipy_nnls():
    D, X = problem(0)
    codes = nonnegative_codes(D @ D.T, X @ D.T, tol=1e-12)
    expected = [nnls(D.T.numpy(), x)[0] for x in X.numpy()]
    assert_allclose(codes, np.array(expected), atol=1e-9)


@given(seed=st.integers(0, 10_000), n_directions=st.integers(1, 9), penalty=st.floats(0, 2))
@settings(max_examples=25, deadline=None)
def test_codes_satisfy_the_conditions_of_a_minimum(seed, n_directions, penalty):
    D, X = problem(seed, n_directions=n_directions)
    gram, products = D @ D.T, X @ D.T - penalty
    codes = nonnegative_codes(gram, products, tol=1e-12, sweeps=100_000)
    slope = codes @ gram - products
    assert (codes >= 0).all()
    assert (slope > -1e-7).all()
    assert_allclose(codes * slope, 0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sweeps", [1, 3, 1000])
def test_compiled_sweeps_equal_those_in_torch(dtype, sweeps):
    D, X = problem(1, n_rows=300, dtype=dtype)
    gram, products = D @ D.T, X @ D.T
    start = ridge_codes(gram, products)
    compiled = nonnegative_codes(gram, products, start, sweeps=sweeps, tol=1e-5)
    plain = _descend(gram, products, start, sweeps, 1e-5)
    assert compiled.dtype == plain.dtype == dtype
    assert_allclose(compiled, plain, atol=2e-4 if dtype == torch.float32 else 1e-12)


def test_codes_of_a_row_depend_on_no_other_row():
    D, X = problem(2, n_rows=300)
    gram, products = D @ D.T, X @ D.T
    together = nonnegative_codes(gram, products, tol=1e-2)
    alone = torch.cat([nonnegative_codes(gram, row[None], tol=1e-2) for row in products])
    assert_allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize("descend", [nonnegative_codes, lambda *a: _descend(*a, 100, 1e-6)], ids=["compiled", "torch"])
def test_a_direction_of_no_length_keeps_its_codes_and_initial_codes_are_not_written_to(descend):
    D, X = problem(3)
    D[2] = 0
    start = torch.ones(40, 6, dtype=torch.float64)
    codes = descend(D @ D.T, X @ D.T, start)
    assert codes.isfinite().all()
    assert (codes[:, 2] == 1).all()
    assert (start == 1).all()
    assert (nonnegative_codes(D @ D.T, X @ D.T)[:, 2] == 0).all()


def test_no_response_has_no_codes():
    D, X = problem(4)
    assert (nonnegative_codes(D @ D.T, 0 * X @ D.T) == 0).all()


@pytest.mark.gpu
def test_gpu_gives_the_codes_of_the_cpu():
    D, X = problem(5, dtype=torch.float32)
    on_cpu = nonnegative_codes(D @ D.T, X @ D.T, tol=1e-6)
    D, X = D.cuda(), X.cuda()
    assert_allclose(nonnegative_codes(D @ D.T, X @ D.T, tol=1e-6).cpu(), on_cpu, atol=1e-4)


def test_initial_codes_are_those_of_ridge_regression_without_negative_ones(rng):
    D, X = rng.normal(size=(4, 9)), rng.normal(size=(30, 9))
    gram, products = D @ D.T, X @ D.T
    damped = gram + 0.1 * np.diag(gram).mean() * np.eye(4)
    ours = ridge_codes(torch.as_tensor(gram), torch.as_tensor(products)).numpy()
    np.testing.assert_allclose(ours, np.maximum(0, products @ np.linalg.inv(damped)), atol=1e-12)
    assert (ours == 0).any()
