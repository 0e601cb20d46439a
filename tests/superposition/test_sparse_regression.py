"""The lasso and its penalties are those of scikit-learn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import Lasso, LassoCV

from neurosuper.superposition.sparse_regression import N_FOLDS, PENALTIES, choose_penalties, draw_folds, lasso


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 12)) @ (np.eye(12) + 0.2 * rng.normal(size=(12, 12)))
    Y = X[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(80, 2))
    return X - X.mean(0), Y - Y.mean(0), draw_folds(80, rng)


def test_weights_are_those_of_scikit_learn(data):
    X, Y, _ = data
    alpha = np.array([0.05, 0.4])
    for j in range(2):
        expected = Lasso(alpha=alpha[j], fit_intercept=False, tol=1e-12, max_iter=10**5).fit(X, Y[:, j]).coef_
        assert_allclose(lasso(X, Y, alpha)[:, j], expected, atol=1e-6)


def test_a_penalty_of_its_own_is_that_of_cross_validation(data):
    X, Y, folds = data
    splits = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(N_FOLDS)]
    found = choose_penalties(X, Y, np.arange(2), folds)
    for j in range(2):
        grid = PENALTIES * np.abs(X.T @ Y[:, j] / 80).max()
        assert_allclose(found[j], LassoCV(alphas=grid, cv=splits, tol=1e-8).fit(X, Y[:, j]).alpha_)


def test_responses_of_a_group_share_the_penalty_of_least_total_error(data):
    X, Y, folds = data
    found = choose_penalties(X, Y, np.zeros(2, int), folds)
    grid = PENALTIES * np.abs(X.T @ Y / 80).max()
    errors = []
    for alpha in grid:
        error = 0
        for k in range(N_FOLDS):
            out = folds == k
            fits = [Lasso(alpha=alpha, tol=1e-10).fit(X[~out], Y[~out, j]) for j in range(2)]
            error += sum(((Y[out, j] - fit.predict(X[out])) ** 2).sum() for j, fit in enumerate(fits))
        errors.append(error)
    assert_allclose(found, grid[np.argmin(errors)])


def test_responses_that_nothing_predicts_get_no_weight(data):
    X, Y, folds = data
    zero = np.zeros_like(Y)
    assert not lasso(X, zero, choose_penalties(X, zero, np.arange(2), folds)).any()
