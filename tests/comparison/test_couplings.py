"""Couplings have the least cost."""

from itertools import permutations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from neurosuper.comparison import couplings


def optimum(cost, mass=1.0):
    """Return the smallest cost of a coupling by linear programming."""
    n_a, n_b = cost.shape
    rows, columns = np.kron(np.eye(n_a), np.ones(n_b)), np.kron(np.ones(n_a), np.eye(n_b))
    limits = np.r_[np.full(n_a, 1 / n_a), np.full(n_b, 1 / n_b)]
    found = linprog(
        cost.ravel(),
        A_ub=np.r_[rows, columns],
        b_ub=limits,
        A_eq=np.ones((1, cost.size)),
        b_eq=[mass],
        method="highs",
    )
    return found.fun


def test_equal_numbers_are_matched_by_the_best_permutation(rng):
    cost = rng.random((5, 5))
    T = couplings.couple(cost, 1.0)
    assert_allclose((T * cost).sum(), min(np.mean(cost[range(5), order]) for order in permutations(range(5))))
    assert_allclose((T * cost).sum(), optimum(cost))


@pytest.mark.parametrize(("shape", "mass"), [((4, 7), 1.0), ((6, 3), 1.0), ((4, 4), 0.6), ((5, 3), 0.5)])
def test_couplings_are_those_of_linear_programming(rng, shape, mass):
    pytest.importorskip("ot", reason="POT is not installed")
    cost = rng.random(shape)
    T = couplings.couple(cost, mass)
    assert_allclose((T * cost).sum(), optimum(cost, mass), rtol=1e-10)
    assert_allclose(T.sum(), mass)
    assert (T >= 0).all()
    assert (T.sum(0) <= 1 / shape[1] + 1e-12).all()
    assert (T.sum(1) <= 1 / shape[0] + 1e-12).all()
