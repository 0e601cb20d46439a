"""Weights and penalties are those of scikit-learn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import Lasso, LassoCV, Ridge

from neurosuper.superposition.penalized_regression import (
    N_FOLDS,
    OF_LASSO,
    OF_RIDGE,
    choose_penalties,
    draw_folds,
    fit_weights,
)


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
        assert_allclose(fit_weights(X, Y, alpha, "lasso")[:, j], expected, atol=1e-6)


@pytest.mark.parametrize("n", [80, 9])
def test_weights_of_a_ridge_are_those_of_scikit_learn_with_more_or_fewer_stimuli_than_items(data, n):
    X, Y, alpha = data[0][:n], data[1][:n], np.array([0.05, 0.4])
    expected = Ridge(alpha=alpha * n, fit_intercept=False, tol=1e-12).fit(X, Y).coef_.T
    assert_allclose(fit_weights(X, Y, alpha, "ridge"), expected, rtol=1e-8)


def test_the_penalty_of_a_ridge_has_the_least_error_on_folds_that_are_left_out(data):
    X, Y, folds = data
    grid, errors = OF_RIDGE * X.var(), []
    for alpha in grid:
        outs = [folds == k for k in range(N_FOLDS)]
        fits = [(out, Ridge(alpha=alpha * (~out).sum()).fit(X[~out], Y[~out])) for out in outs]
        errors.append(sum(((Y[out] - fit.predict(X[out])) ** 2).sum(0) for out, fit in fits))
    assert_allclose(choose_penalties(X, Y, np.arange(2), folds, "ridge"), grid[np.argmin(errors, axis=0)])


def test_a_penalty_of_its_own_is_that_of_cross_validation(data):
    X, Y, folds = data
    splits = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(N_FOLDS)]
    found = choose_penalties(X, Y, np.arange(2), folds, "lasso")
    for j in range(2):
        grid = OF_LASSO * np.abs(X.T @ Y[:, j] / 80).max()
        assert_allclose(found[j], LassoCV(alphas=grid, cv=splits, tol=1e-8).fit(X, Y[:, j]).alpha_)


def test_responses_of_a_group_share_the_penalty_of_least_total_error(data):
    X, Y, folds = data
    found = choose_penalties(X, Y, np.zeros(2, int), folds, "lasso")
    grid = OF_LASSO * np.abs(X.T @ Y / 80).max()
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
    for penalty in ("lasso", "ridge"):
        assert not fit_weights(X, zero, choose_penalties(X, zero, np.arange(2), folds, penalty), penalty).any()
