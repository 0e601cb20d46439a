"""Regression on codes with an L1 penalty, whose strength is chosen by cross-validation.

X (stimulus, item) codes and Y (stimulus, response) what they predict, both with mean 0; W (item, response) weights that
minimise ‖Y − X W‖²/2n + alpha Σ|W|, for n stimuli.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from neurosuper.directions._solvers.lasso_active_set import active_set

N_FOLDS = 5
PENALTIES = np.geomspace(0.9, 0.01, 12)  # of the penalty that makes all weights 0
TOLERANCE = 1e-7  # of the largest correlation: by how much the conditions of an optimum may be missed


def lasso(X: np.ndarray, Y: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return weights W for one penalty per response, all above 0."""
    return _from_moments(X.T @ X / len(X), Y.T @ X / len(X), alpha).T


def choose_penalties(X: np.ndarray, Y: np.ndarray, groups: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the penalty of each response with the smallest squared error on folds (stimulus,) that are left out.

    Responses of one group `(response,)`, such as the levels of a factor, share it. It is that of scikit-learn's
    `LassoCV` on a grid of twelve.
    """
    n_groups = int(groups.max()) + 1
    largest = np.zeros(n_groups)
    np.maximum.at(largest, groups, np.abs(X.T @ Y / len(X)).max(0))
    grid = PENALTIES[:, None] * np.where(largest > 0, largest, 1)  # (penalty, group)
    errors = np.zeros_like(grid)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        mean_x, mean_y = X[~out].mean(0), Y[~out].mean(0)
        A, B, n = X[~out] - mean_x, Y[~out] - mean_y, (~out).sum()
        G, C = A.T @ A / n, B.T @ A / n
        for i, alpha in enumerate(grid):
            residual = Y[out] - mean_y - (X[out] - mean_x) @ _from_moments(G, C, alpha[groups]).T
            errors[i] += np.bincount(groups, (residual**2).sum(0), n_groups)
    return grid[errors.argmin(0), np.arange(n_groups)][groups]


def draw_folds(n_stimuli: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each stimulus, at random."""
    return rng.permutation(np.arange(n_stimuli) % N_FOLDS)


def _from_moments(G: np.ndarray, C: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return weights (response, item) from XᵀX/n and YᵀX/n: those of a lasso with alpha = 1 are W/alpha."""
    scaled, missed = active_set(torch.tensor(C / alpha[:, None]), torch.tensor(G), 1.0, False, TOLERANCE)
    if missed > 0:
        warnings.warn(
            f"a lasso missed the conditions of its optimum by {missed:.2g} of the largest correlation; leave out items "
            "that are copies of others",
            ConvergenceWarning,
            stacklevel=4,
        )
    return np.asarray(scaled.numpy() * alpha[:, None])
