"""Effect sizes: differences between two sets of scores, without a unit."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper.inference.items import ROUNDING, check_two


def cohens_d(a: xr.DataArray, b: xr.DataArray, *, paired: bool = False) -> float:
    """Return Cohen's d: the difference between two means in standard deviations.

    Parameters
    ----------
    a, b : DataArray (item,)
        Scores of two sets of units or directions, without NaN.
    paired : bool, optional
        The items of `a` and `b` are the same, by label. The difference is then in standard deviations of the
        differences (d_z), otherwise in pooled standard deviations (d_s); both with n − 1.

    Returns
    -------
    float
        Positive if `a` is higher; ±inf for a difference without variance, and 0 without either.

    Raises
    ------
    TypeError
        Not DataArrays of real numbers.
    ValueError
        More than one dim; fewer than two items; NaN; pairs whose labels differ.

    See Also
    --------
    probability_of_superiority : Effect size by rank.
    permutation_test : Test of the difference, with both effect sizes.

    References
    ----------
    Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2; Lakens 2013, Front. Psychol. 4, 863
    (d_s and d_z).

    Examples
    --------
    >>> import xarray as xr
    >>> a, b = (xr.DataArray(values, dims="unit") for values in ([3., 4., 5.], [2., 3., 4.]))
    >>> cohens_d(a, b)
    1.0
    """
    return standardized_difference(*check_two(a, b, paired), paired)


def probability_of_superiority(a: xr.DataArray, b: xr.DataArray, *, paired: bool = False) -> float:
    """Return the probability that an item of one set is higher than one of the other: P(a > b) + ½ P(a = b).

    Parameters
    ----------
    a, b : DataArray (item,)
        Scores of two sets of units or directions, without NaN.
    paired : bool, optional
        The items of `a` and `b` are the same, by label, and each is compared with itself; otherwise each item of `a` is
        compared with each of `b`, which gives the Mann–Whitney U / (n_a n_b).

    Returns
    -------
    float
        From 0 to 1; 0.5 if neither set is higher.

    Raises
    ------
    TypeError
        Not DataArrays of real numbers.
    ValueError
        More than one dim; fewer than two items; NaN; pairs whose labels differ.

    See Also
    --------
    cohens_d : Effect size in standard deviations.
    permutation_test : Test of the difference, with both effect sizes.

    References
    ----------
    Vargha & Delaney 2000, J. Educ. Behav. Stat. 25, 101–132 (their A).

    Examples
    --------
    >>> import xarray as xr
    >>> a, b = (xr.DataArray(values, dims="unit") for values in ([3., 4.], [2., 3.]))
    >>> probability_of_superiority(a, b)
    0.875
    """
    return superiority(*check_two(a, b, paired), paired)


def standardized_difference(x: np.ndarray, y: np.ndarray, paired: bool) -> float:
    """Return Cohen's d (see `cohens_d`) of checked scores."""
    difference = float(x.mean() - y.mean())
    if paired:
        sd = np.std(x - y, ddof=1)
    else:
        # pooled: sd² = (Σ (x − mean x)² + Σ (y − mean y)²) / (n_x + n_y − 2)
        squares = np.var(x) * len(x) + np.var(y) * len(y)
        sd = np.sqrt(squares / (len(x) + len(y) - 2))
    rounding = ROUNDING * max(np.abs(x).max(), np.abs(y).max())
    if sd > rounding:
        return float(difference / sd)
    return math.copysign(math.inf, difference) if abs(difference) > rounding else 0.0


def superiority(x: np.ndarray, y: np.ndarray, paired: bool) -> float:
    """Return the probability of superiority (see `probability_of_superiority`) of checked scores."""
    if paired:
        return float(np.mean((x > y) + (x == y) / 2))
    # U / (n_x n_y) = (mean rank of x among all − (n_x + 1)/2) / n_y
    ranks = stats.rankdata(np.concatenate([x, y]))[: len(x)]
    return float((ranks.mean() - (len(x) + 1) / 2) / len(y))
