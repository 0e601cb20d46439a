"""Couplings of the items of two systems: how much each item of one is matched to each of the other, at the least cost.

T (item of A, item of B) ≥ 0 a coupling, whose rows and columns sum to 1/(number of rows) and 1/(number of columns), or
to less where only a part of the weight is matched.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from neurosuper._optional import require

MOST_PAIRS = 25_000_000  # entries of a coupling: 0.2 GiB each for correlations, costs and the coupling
MOST_ITERATIONS = 10_000_000  # of the solver of the transport problem, which warns if it needs more


def check_pairs(n_a: int, n_b: int) -> None:
    """Raise an error if a coupling of these numbers of items does not fit into memory."""
    if (n_pairs := n_a * n_b) > MOST_PAIRS:
        raise ValueError(
            f"a coupling of {n_a:,} × {n_b:,} items takes {n_pairs * 8 / 2**30:.1f} GiB, several times; "
            f"select items, so that there are at most {MOST_PAIRS:,} pairs"
        )


def couple(cost: np.ndarray, mass: float) -> np.ndarray:
    """Return the coupling T of the smallest Σ T · cost, with weights 1/n of items, that matches this mass."""
    n_a, n_b = cost.shape
    if n_a == n_b and mass == 1:
        # a permutation is optimal (Birkhoff and von Neumann)
        T = np.zeros_like(cost)
        T[linear_sum_assignment(cost)] = 1 / n_a
        return T
    ot = require("ot", "transport")
    weights = np.full(n_a, 1 / n_a), np.full(n_b, 1 / n_b)
    if mass == 1:
        return ot.emd(*weights, cost, numItermax=MOST_ITERATIONS)
    return ot.partial.partial_wasserstein(*weights, cost, m=float(mass), numItermax=MOST_ITERATIONS)
