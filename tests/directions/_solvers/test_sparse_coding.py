"""Codes against scikit-learn, against the conditions of an optimum, and one kernel against the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, orthogonal_mp_gram

from neurosuper.directions._solvers.lasso_active_set import active_set
from neurosuper.directions._solvers.sparse_coding import bound_eigenvalue, fista, lasso_codes, omp_codes, one_warning

KERNELS = pytest.mark.parametrize("kernel", [active_set, fista])


def problem(seed=0, n_rows=60, n_units=16, n_atoms=32, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    D = torch.nn.functional.normalize(torch.randn(n_atoms, n_units, generator=generator, dtype=dtype), dim=1)
    return torch.randn(n_rows, n_units, generator=generator, dtype=dtype), D


def missed(X, D, Z, alpha, positive):
    """By how much codes miss the conditions of an optimum of ½‖x − z D‖² + alpha ‖z‖₁."""
    q = (X - Z @ D) @ D.T
    on_active = (q - alpha * Z.sign()).abs()[Z != 0]
    elsewhere = ((q if positive else q.abs()) - alpha)[Z == 0]
    return max(on_active.max().item() if len(on_active) else 0, elsewhere.max().item() if len(elsewhere) else 0)


@KERNELS
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0])
def test_lasso_equals_scikit_learn(kernel, positive, alpha):
    X, D = problem()
    codes, _ = kernel(X @ D.T, D @ D.T, alpha, positive, 1e-9)
    # sparse_encode solves the same problem, but cannot be told how exactly.
    lasso = Lasso(alpha / D.shape[1], fit_intercept=False, positive=positive, tol=1e-10, max_iter=100_000)
    theirs = lasso.fit(D.numpy().T, X.numpy().T).coef_
    assert_allclose(codes, theirs, atol=1e-4 * np.abs(theirs).max())
    assert (codes >= 0).all() or not positive


@pytest.mark.parametrize("positive", [False, True])
def test_both_kernels_give_the_same_codes(positive):
    X, D = problem(seed=1)
    C, G = X @ D.T, D @ D.T
    codes, _ = active_set(C, G, 0.2, positive, 1e-10)
    assert_allclose(fista(C, G, 0.2, positive, 1e-9)[0], codes, atol=1e-5)
    in_float32 = lasso_codes(X.float(), D.float(), 0.2, positive=positive)
    assert_allclose(in_float32, codes, atol=1e-4 * codes.abs().max().item())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    alpha=st.floats(1e-3, 5),
    positive=st.booleans(),
    n_units=st.integers(1, 12),
    n_atoms=st.integers(1, 30),
)
def test_lasso_codes_meet_the_conditions_of_an_optimum(seed, alpha, positive, n_units, n_atoms):
    X, D = problem(seed, 5, n_units, n_atoms)
    codes = lasso_codes(X, D, alpha, positive=positive)
    assert missed(X, D, codes, alpha, positive) < 1e-8
    assert ((codes != 0).sum(1) <= n_units).all()


@KERNELS
def test_atoms_may_be_twins_zero_or_of_any_length(kernel):
    X, D = problem(seed=2)
    D = torch.cat([3 * D, D[:8], torch.zeros(1, D.shape[1], dtype=D.dtype)])
    codes, _ = kernel(X @ D.T, D @ D.T, 0.3, False, 1e-9)
    assert missed(X, D, codes, 0.3, False) < 1e-6
    assert (codes[:, -1] == 0).all()


@KERNELS
def test_a_penalty_beyond_every_correlation_gives_no_codes(kernel):
    X, D = problem()
    X[0] = 0
    C = X @ D.T
    assert not kernel(C, D @ D.T, 1.01 * C.abs().max().item(), False, 1e-8)[0].any()
    assert not kernel(C, D @ D.T, 0.1, False, 1e-8)[0][0].any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), alpha=st.floats(1e-2, 5), positive=st.booleans(), n_units=st.integers(2, 40))
def test_codes_on_similar_atoms_meet_these_conditions_too(seed, alpha, positive, n_units):
    """Cosines of about 0.9, as between responses that are not centred."""
    X, D = problem(seed, 5, n_units, 60)
    D = torch.nn.functional.normalize(D.abs() + 2, dim=1)
    assert missed(X.abs(), D, lasso_codes(X.abs(), D, alpha, positive=positive), alpha, positive) < 1e-8


@KERNELS
def test_kernels_report_how_much_they_miss_the_tolerance(kernel, monkeypatch):
    """A tolerance of zero is never reached, neither in ten steps nor within rounding."""
    monkeypatch.setattr("neurosuper.directions._solvers.sparse_coding.FISTA_ITERATIONS", 10)
    X, D = problem(seed=6)
    codes, shortfall = kernel(X @ D.T, D @ D.T, 0.1, False, 0.0)
    true = missed(X, D, codes, 0.1, False)
    assert 0 < shortfall < (0.5 if kernel is fista else 1e-13)
    assert true < (10 if kernel is fista else 1e-13)


def test_codes_that_miss_their_tolerance_are_warned_of_once():
    X, D = problem(seed=6)

    @one_warning()
    def code_all():
        return [lasso_codes(part, D, 0.1, tol=0.0) for part in X.split(20)]

    with pytest.warns(ConvergenceWarning, match=r"missed an optimum's conditions by \d") as warnings:
        code_all()
    assert len(warnings) == 1
    with pytest.warns(ConvergenceWarning):
        lasso_codes(X, D, 0.1, tol=0.0)


@pytest.mark.parametrize("n_active", [1, 3, 8])
def test_omp_equals_scikit_learn(n_active):
    X, D = problem(seed=4)
    codes = omp_codes(X, D, n_active)
    theirs = orthogonal_mp_gram((D @ D.T).numpy(), (D @ X.T).numpy(), n_nonzero_coefs=n_active).T
    assert ((codes.numpy() != 0) == (theirs != 0)).all()
    assert_allclose(codes, theirs, atol=1e-10)


def test_omp_takes_no_more_atoms_than_explain_a_row():
    X, D = problem(seed=5)
    X = torch.cat([2 * D[:4], 0 * X[:1]])
    codes = omp_codes(X, torch.cat([D, D[:8]]), n_active=5)
    assert (codes != 0).sum(1).tolist() == [1, 1, 1, 1, 0]
    assert_allclose(codes @ torch.cat([D, D[:8]]), X, atol=1e-12)


def test_bound_is_just_above_the_largest_eigenvalue():
    D = problem(n_atoms=200, n_units=50)[1]
    largest = torch.linalg.eigvalsh(D @ D.T)[-1]
    assert 1 <= bound_eigenvalue(D @ D.T) / largest <= 1.1


@pytest.mark.gpu
def test_gpu_gives_the_codes_of_the_cpu():
    X, D = problem(dtype=torch.float32)
    assert_allclose(lasso_codes(X.cuda(), D.cuda(), 0.2).cpu(), lasso_codes(X, D, 0.2), atol=1e-4)
    assert_allclose(omp_codes(X.cuda(), D.cuda(), 4).cpu(), omp_codes(X, D, 4), atol=1e-4)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_lasso_codes_are_as_exact_in_any_unit(unit, rng):
    """`tol` is a share of the largest product, so that steps end where they do for responses of another unit."""
    D = rng.normal(size=(12, 20))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    G, C = torch.as_tensor(D @ D.T), torch.as_tensor(rng.normal(size=(30, 20)) @ D.T)
    codes, missed = fista(C, G, 0.1, False, 1e-8)
    scaled, scaled_missed = fista(unit * C, G, 0.1 * unit, False, 1e-8)
    assert missed == scaled_missed == 0
    np.testing.assert_allclose(scaled / unit, codes, rtol=1e-6, atol=1e-9)
