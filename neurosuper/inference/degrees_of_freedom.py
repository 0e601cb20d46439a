"""Degrees of freedom of a standard error: of a variance over stimuli, and of a sum of variances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEGLIGIBLE = 1e-12  # Σ u⁴ − (Σ u²)²/n relative to Σ u⁴, below which all |u| are equal up to rounding


def of_influence(u: np.ndarray) -> float:
    """Return the degrees of freedom ν of the variance of a statistic over stimuli, from its changes without each one.

    Parameters
    ----------
    u : array (stimulus,)
        The statistic without one stimulus (or group of stimuli) minus that of all.

    Returns
    -------
    float
        At least 1. Small if the statistic depends on few stimuli; about n for normal values and a mean.

    Notes
    -----
    The variance is a sum of n squares u². Were these independent, its own variance would be Σu⁴ − (Σu²)²/n; a variance
    with ν degrees of freedom, v χ²(ν)/ν, has 2v²/ν.
    """
    u = u - u.mean()
    squares, fourth = (u**2).sum(), (u**4).sum()
    spread = fourth - squares**2 / len(u)
    return float(max(1.0, 2 * squares**2 / spread)) if spread > NEGLIGIBLE * fourth else float(max(1, len(u) - 1))


def of_sum(variances: Sequence[float], degrees_of_freedom: Sequence[float]) -> float:
    """Return the degrees of freedom of a sum of independent variances (Satterthwaite 1946); infinite if all are 0."""
    v, df = np.asarray(variances, float), np.asarray(degrees_of_freedom, float)
    # ν = (Σ v)² / Σ v²/ν
    spread = float((v**2 / df).sum())
    return float(v.sum() ** 2 / spread) if spread > 0 else np.inf
