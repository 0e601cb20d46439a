"""Pairings: which items of one system are the partners of each item of another, given their correlations.

A, B (stimulus, item) codes of two systems; C (item of A, item of B) their correlations; T (item of A, item of B) ≥ 0 an
optimal coupling.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from neurosuper.comparison.couplings import couple

Match = Literal["best", "one-to-one", "mutual", "soft", "partial"]
COUPLED = ("soft", "partial")  # matches with weights
ROUNDING = 1e-9  # of the largest weight: smaller ones are rounding errors of the solver


class Pairing(NamedTuple):
    """The partners of each item of A."""

    partner: np.ndarray  # (item_a,): position of the one with the largest weight, −1 for none
    sign: np.ndarray  # (item_a,): that of its correlation, 1 unless pairs are matched by the absolute correlation
    coupling: np.ndarray | None = None  # T, of COUPLED only
    weights: np.ndarray | None = None  # T with the signs of C, relative to the sums of its rows

    @classmethod
    def of(cls, C: np.ndarray, match: str, signed: bool, mass: float | None = None) -> Pairing:
        """Return the partners with the largest correlations, or largest absolute ones."""
        strength, rows = np.abs(C) if signed else C, np.arange(len(C))
        if match in COUPLED:
            T = couple(1 - strength, 1.0 if mass is None else mass)
            T[ROUNDING * T.max() > T] = 0
            total = T.sum(axis=1)
            partner = np.where(total > 0, T.argmax(axis=1), -1)
            weights = (T * np.sign(C) if signed else T) / np.where(total > 0, total, 1)[:, None]
            return cls(partner, _signs(C, partner, signed), T, weights)
        if match == "one-to-one":
            partner = np.full(len(C), -1)
            matched, columns = linear_sum_assignment(strength, maximize=True)
            partner[matched] = columns
        else:
            partner = strength.argmax(axis=1)
        if match == "mutual":
            partner = np.where(strength.argmax(axis=0)[partner] == rows, partner, -1)
        return cls(partner, _signs(C, partner, signed))

    @property
    def has(self) -> np.ndarray:
        """Which items of A have a partner."""
        return self.partner >= 0

    def courses(self, B: np.ndarray) -> np.ndarray:
        """Return the codes (stimulus, item_a) of partners, or weighted means of these; those of no partner are void."""
        return B[:, self.partner] * self.sign if self.weights is None else B @ self.weights.T

    def n_sharing(self) -> np.ndarray:
        """Return the number of items of A with the same partner, 0 for items without."""
        counts = np.bincount(self.partner[self.has], minlength=1)
        return np.where(self.has, counts[self.partner.clip(0)], 0)

    def next_best(self, C: np.ndarray, signed: bool) -> Pairing:
        """Return the item of B that correlates most except `partner`; of no item if there is no other."""
        if C.shape[1] < 2:
            none = np.full(len(C), -1)
            return Pairing(none, np.ones(len(C)))
        others = np.abs(C) if signed else C.copy()
        others[np.arange(len(C)), self.partner] = -np.inf  # without partner, the last one: masked by `has` below
        second = np.where(self.has, others.argmax(axis=1), -1)
        return Pairing(second, _signs(C, second, signed))


def _signs(C: np.ndarray, partner: np.ndarray, signed: bool) -> np.ndarray:
    return np.where(signed & (C[np.arange(len(C)), partner] < 0), -1.0, 1.0)


def standardize(Z: np.ndarray) -> np.ndarray:
    """Return columns of mean 0 and length 1; 0 where they do not vary."""
    Z = Z - Z.mean(axis=0)
    length = np.linalg.norm(Z, axis=0)
    return Z / np.where(length > 1e-12 * max(length.max(initial=0), np.finfo(float).tiny), length, np.inf)


def correlate(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the correlation of each column of A with each of B."""
    return standardize(A).T @ standardize(B)


def correlate_columns(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the correlation of each column of A with the same column of B."""
    return np.einsum("si,si->i", standardize(A), standardize(B))
