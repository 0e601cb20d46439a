"""Weights of mixtures are those of scikit-learn, of a loop over NNLS, and of the formula of ridge regression."""

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp

from neurosuper.comparison import mixture_weights
from neurosuper.comparison.mixture_weights import ALPHAS, pursue, regress

rng = np.random.default_rng(0)
MIXING = rng.normal(size=(20, 20))
B = rng.exponential(size=(90, 20)) @ MIXING * rng.uniform(0.1, 5, 20)
# the last is near to the sum of two others, and far from their sum without its own part
parts = rng.normal(size=(3, 90))
B[:, 17:] = np.stack([parts[0], parts[1], parts[0] + parts[1] + 0.5 * parts[2]], axis=1)
A = np.concatenate([B @ rng.normal(size=(20, 12)) * (rng.random(12) + 1), rng.normal(size=(90, 7))], axis=1)
A = np.concatenate([A, (parts[0] + parts[1] - 0.2 * parts[2])[:, None]], axis=1)


def centred(X):
    X = X - X.mean(axis=0)
    return X, np.linalg.norm(X, axis=0)


def test_signed_weights_are_those_of_scikit_learn():
    inexact = A[:, :19]  # the last is a mixture of three, without any noise
    found = pursue(inexact, B, 5, signed=True)
    (a, _), (b, length) = centred(inexact), centred(B)
    for step in range(5):
        x = orthogonal_mp(b / length, a, n_nonzero_coefs=step + 1) / length[:, None]
        expected = b @ x
        np.testing.assert_allclose(centred(found.predict(B)[step])[0], expected, atol=1e-8)
        dense = np.zeros_like(x)
        for rank in range(step + 1):
            dense[found.chosen[rank], np.arange(19)] += found.weights[step, rank]
        np.testing.assert_allclose(dense, x, atol=1e-8)


def test_weights_of_at_least_0_are_those_of_a_loop():
    found = pursue(A, B, 5, signed=False)
    (a, _), (b, length) = centred(A), centred(B)
    n_refitted = 0
    for i in range(A.shape[1]):
        chosen, residual, x = [], a[:, i], np.empty(0)
        for step in range(5):
            products = (b / length).T @ residual
            products[chosen] = -np.inf
            if products.max() < 1e-10 * np.linalg.norm(a[:, i]):
                assert found.chosen[step, i] == -1
                x = np.append(x, 0)
            else:
                chosen.append(int(products.argmax()))
                assert found.chosen[step, i] == chosen[-1]
                x = nnls(b[:, chosen], a[:, i])[0]
                n_refitted += (x == 0).any()
                residual = a[:, i] - b[:, chosen] @ x
            np.testing.assert_allclose(found.weights[step, : step + 1, i], x, atol=1e-8)
    assert n_refitted > 0  # least squares without the limit would have been negative
    assert (found.weights >= 0).all()


def test_a_copy_is_found_alone_and_constant_items_never():
    constant = np.concatenate([B[:, :4], np.full((90, 1), 3.0)], axis=1)
    found = pursue(np.concatenate([B[:, :2], np.ones((90, 1))], axis=1), constant, 3, signed=False)
    assert found.chosen.tolist() == [[0, 1, -1], [-1, -1, -1], [-1, -1, -1]]
    np.testing.assert_allclose(found.weights[:, 0, :2], 1)
    assert not found.weights[:, 1:].any()
    assert not found.weights[..., 2].any()


def test_blocks_of_items_change_nothing(monkeypatch):
    whole = pursue(A, B, 3, signed=False)
    monkeypatch.setattr(mixture_weights, "BLOCK_BYTES", 8 * 3 * 90 * 7)
    parts = pursue(A, B, 3, signed=False)
    np.testing.assert_array_equal(parts.chosen, whole.chosen)
    np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-12)


def test_ridge_has_the_penalty_with_the_smallest_error_of_stimuli_left_out():
    found = regress(A, B)
    x = centred(B)[0] / B.std(axis=0)
    for i in (0, 3, 13, 19):
        y, errors, weights = centred(A[:, i])[0], [], []
        for alpha in ALPHAS:
            hat = x @ np.linalg.solve(x.T @ x + alpha * np.eye(20), x.T)
            leverage = hat.diagonal() + 1 / 90  # of the mean, too
            errors.append((((y - hat @ y) / (1 - leverage)) ** 2).mean())
            weights.append(np.linalg.solve(x.T @ x + alpha * np.eye(20), x.T @ y) / B.std(axis=0))
        assert found.alpha[i] == pytest.approx(ALPHAS[np.argmin(errors)])
        np.testing.assert_allclose(found.weights[:, i], weights[np.argmin(errors)], rtol=1e-6, atol=1e-9)
