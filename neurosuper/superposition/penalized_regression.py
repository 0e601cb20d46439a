"""Linear regression on codes with a penalty on its weights, whose strength is chosen by cross-validation.

X (stimulus, item) codes and Y (stimulus, response) what they predict, both with mean 0; W (item, response) weights that
minimise ‖Y − X W‖²/2n plus alpha Σ|W| (lasso) or alpha ‖W‖²/2 (ridge), for n stimuli.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from neurosuper.directions._solvers.lasso_active_set import active_set

Penalty = Literal["lasso", "ridge"]
N_FOLDS = 5
OF_LASSO = np.geomspace(0.9, 0.01, 12)  # of the penalty that makes all weights 0
OF_RIDGE = np.geomspace(10, 0.001, 13)  # of the mean variance of items
TOLERANCE = 1e-7  # of the largest correlation: by how much the conditions of an optimum may be missed


def fit_weights(X: np.ndarray, Y: np.ndarray, alpha: np.ndarray, penalty: Penalty) -> np.ndarray:
    """Return weights W for one alpha per response, all above 0."""
    return _solver(X, Y, penalty)(alpha)


def choose_penalties(
    X: np.ndarray, Y: np.ndarray, groups: np.ndarray, folds: np.ndarray, penalty: Penalty
) -> np.ndarray:
    """Return the alpha of each response with the smallest squared error on folds (stimulus,) that are left out.

    Responses of one group `(response,)`, such as the levels of a factor, share it.
    """
    n_groups = int(groups.max()) + 1
    if penalty == "lasso":
        largest = np.zeros(n_groups)
        np.maximum.at(largest, groups, np.abs(X.T @ Y / len(X)).max(0))
        grid = OF_LASSO[:, None] * np.where(largest > 0, largest, 1)  # (alpha, group)
    else:
        grid = np.tile(OF_RIDGE[:, None] * (X**2).mean(), n_groups)
    errors = np.zeros_like(grid)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        mean_x, mean_y = X[~out].mean(0), Y[~out].mean(0)
        solve = _solver(X[~out] - mean_x, Y[~out] - mean_y, penalty)
        for i, alpha in enumerate(grid):
            residual = Y[out] - mean_y - (X[out] - mean_x) @ solve(alpha[groups])
            errors[i] += np.bincount(groups, (residual**2).sum(0), n_groups)
    return grid[errors.argmin(0), np.arange(n_groups)][groups]


def draw_folds(n_stimuli: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold of each stimulus, at random."""
    return rng.permutation(np.arange(n_stimuli) % N_FOLDS)


def _solver(X: np.ndarray, Y: np.ndarray, penalty: Penalty) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives W for any penalties (response,)."""
    n = len(X)
    if penalty == "lasso":
        G, C = torch.tensor(X.T @ X / n), Y.T @ X / n
        return lambda alpha: _lasso(G, C, alpha)
    if X.shape[1] <= n:
        # W = (XᵀX/n + alpha)⁻¹ XᵀY/n
        variances, V = np.linalg.eigh(X.T @ X / n)
        C = V.T @ (X.T @ Y / n)
        return lambda alpha: V @ (C / (variances[:, None].clip(0) + alpha))
    # the same by the smaller matrix: W = Xᵀ (XXᵀ/n + alpha)⁻¹ Y/n
    variances, U = np.linalg.eigh(X @ X.T / n)
    B = U.T @ (Y / n)
    return lambda alpha: X.T @ (U @ (B / (variances[:, None].clip(0) + alpha)))


def _lasso(G: torch.Tensor, C: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return W from G = XᵀX/n and C = YᵀX/n: the weights of a lasso with alpha = 1 and C/alpha are W/alpha."""
    scaled, missed = active_set(torch.tensor(C / alpha[:, None]), G, 1.0, False, TOLERANCE)
    if missed > 0:
        warnings.warn(
            f"a lasso missed the conditions of its optimum by {missed:.2g} of the largest correlation; leave out items "
            "that are copies of others",
            ConvergenceWarning,
            stacklevel=4,
        )
    return np.asarray((scaled.numpy() * alpha[:, None]).T)
