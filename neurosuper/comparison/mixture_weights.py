"""Weights of mixtures: an item of one system from few items of another, or from all.

A, B (stimulus, item) codes of two systems; S the items of B that a mixture contains, x ≥ 0 their weights, A ≈ B_S x.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV

BLOCK_BYTES = 2**27  # of the columns of chosen items that are in memory at once (128 MiB)
ENOUGH = 1e-10  # correlation with a residual, in units of the item's length, below which there is only rounding
RANK_TOLERANCE = 1e-12  # of the largest eigenvalue of a Gram matrix
ALPHAS = np.logspace(-2, 6, 17)  # penalties for z-scored items, as in `encode`


class Pursuit(NamedTuple):
    """Mixtures of 1, 2, … items, each with those of the one before and one more."""

    chosen: np.ndarray  # (rank, item of A) of int: items of B in the order of choice; −1 if no other one helps
    weights: np.ndarray  # (step, rank, item of A), of the centred columns of B

    def predict(self, B: np.ndarray) -> np.ndarray:
        """Return the mixture of each step `(step, stimulus, item of A)`, up to a constant."""
        predicted = np.zeros((len(self.weights), len(B), self.chosen.shape[1]))
        for rank, items in enumerate(self.chosen):
            column = B[:, items]  # where none was chosen (−1), the weight is 0
            for step in range(rank, len(self.weights)):
                predicted[step] += self.weights[step, rank] * column
        return predicted


def pursue(A: np.ndarray, B: np.ndarray, n_steps: int, signed: bool) -> Pursuit:
    """Return mixtures by orthogonal matching pursuit, with weights of at least 0 unless they are `signed`.

    Each step adds the item of B with the largest correlation with the residual (if `signed`, the largest absolute one),
    and finds all weights again by least squares.
    """
    A, B = A - A.mean(axis=0), B - B.mean(axis=0)
    length_a, length_b = (_lengths(X) for X in (A, B))
    parts = [_pursue(A[:, items] / length_a[items], B / length_b, n_steps, signed) for items in _blocks(A, n_steps)]
    chosen, weights = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    size = np.where(np.isfinite(length_a), length_a, 0)  # an item of rounding alone has the weights 0
    return Pursuit(chosen, weights * size / length_b[chosen])


def _pursue(A: np.ndarray, B: np.ndarray, n_steps: int, signed: bool) -> Pursuit:
    """Return mixtures of columns of length 1, which are centred."""
    n_stimuli, n_items = A.shape
    items, residual = np.arange(n_items), A
    chosen, weights = np.full((n_steps, n_items), -1), np.zeros((n_steps, n_steps, n_items))
    columns = np.zeros((n_steps, n_stimuli, n_items))
    gram, products = np.zeros((n_items, n_steps, n_steps)), np.zeros((n_items, n_steps))
    taken = np.zeros((B.shape[1], n_items), bool)
    for t in range(n_steps):
        # the item that correlates most with the residual, a − B_S x
        C = B.T @ residual
        C = np.where(taken, -np.inf, np.abs(C) if signed else C)
        best = C.argmax(axis=0)
        helps = C[best, items] > ENOUGH
        chosen[t, helps], taken[best, items] = best[helps], True
        columns[t] = B[:, best] * helps
        gram[:, t, : t + 1] = np.einsum("si,tsi->it", columns[t], columns[: t + 1])
        gram[:, :t, t] = gram[:, t, :t]
        products[:, t] = np.einsum("si,si->i", columns[t], A)
        # x = (B_Sᵀ B_S)⁻¹ B_Sᵀ a; an item that was not chosen is a column of 0, and gets the weight 0
        inverse = np.linalg.pinv(gram[:, : t + 1, : t + 1], rcond=RANK_TOLERANCE, hermitian=True)
        x = np.einsum("itu,iu->it", inverse, products[:, : t + 1])
        for i in [] if signed else np.flatnonzero((x < 0).any(axis=1)):
            x[i] = nnls(columns[: t + 1, :, i].T, A[:, i])[0]
        weights[t, : t + 1] = x.T
        residual = A - np.einsum("tsi,it->si", columns[: t + 1], x)
    return Pursuit(chosen, weights)


class Ridge(NamedTuple):
    """Mixtures of all items of another system."""

    weights: np.ndarray  # (item of B, item of A), of the centred columns of B
    alpha: np.ndarray  # (item of A,): penalty

    def predict(self, B: np.ndarray) -> np.ndarray:
        """Return the mixtures `(stimulus, item of A)`, up to a constant."""
        return B @ self.weights


def regress(A: np.ndarray, B: np.ndarray) -> Ridge:
    """Return mixtures by ridge regression, whose penalty is chosen for each item by leaving out stimuli in turn."""
    scale = _lengths(B - B.mean(axis=0)) / np.sqrt(len(B))
    model = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit((B - B.mean(axis=0)) / scale, A)
    return Ridge(model.coef_.reshape(A.shape[1], -1).T / scale[:, None], np.broadcast_to(model.alpha_, A.shape[1]))


def _lengths(X: np.ndarray) -> np.ndarray:
    """Return the lengths of columns; infinite where these are rounding, so that divided by it they are 0."""
    length = np.linalg.norm(X, axis=0)
    return np.where(length > 1e-12 * max(length.max(initial=0), np.finfo(float).tiny), length, np.inf)


def _blocks(A: np.ndarray, n_steps: int) -> Iterator[slice]:
    """Return slices of items whose chosen columns are in memory at once."""
    size = max(1, BLOCK_BYTES // (8 * n_steps * len(A)))
    return (slice(start, start + size) for start in range(0, A.shape[1], size))
