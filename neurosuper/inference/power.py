"""Power of the two-sided t-test, and the number of items needed, by the noncentral t distribution.

d is the difference in standard deviations. For n pairs, t has n − 1 degrees of freedom and the noncentrality d √n; for
two sets, n_a + n_b − 2 and d √(n_a n_b / (n_a + n_b)). Permutation tests of means have nearly the same power.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from numbers import Real

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import check_counts, check_share


def statistical_power(
    difference: float,
    *,
    sd: float,
    n: int | Sequence[int],
    alpha: float = 0.05,
    paired: bool = False,
    n_b: int | None = None,
) -> xr.DataArray:
    """Return the power of a two-sided t-test of the difference between two means.

    Parameters
    ----------
    difference : float
        The true difference, in the unit of the scores.
    sd : float
        Standard deviation of the items within a set; with `paired`, that of the differences.
    n : int or sequence of int
        Number of items per set, or of pairs; one power is returned for each number.
    alpha : float, optional
        Significance level of the test.
    paired : bool, optional
        Whether the same items are in both sets.
    n_b : int, optional
        Number of items of the second set; None: `n`, as in the first.

    Returns
    -------
    DataArray (n,)
        Name `power`, from `alpha` to 1.

    Raises
    ------
    ValueError
        `sd` not above 0; `n` or `n_b` below 2; `alpha` not between 0 and 1; `n_b` with `paired`.

    See Also
    --------
    items_needed : The number of items for a given power.
    neurosuper.interpretability.index_power : Power with stimuli and items as samples.

    References
    ----------
    Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, table 2.3.5.

    Examples
    --------
    >>> statistical_power(0.5, sd=1, n=[20, 64]).values.round(2).tolist()
    [0.34, 0.8]
    """
    _check_effect(difference, sd, alpha)
    if paired and n_b is not None:
        raise ValueError(f"paired sets have equally many items, got n_b={n_b}; leave out n_b")
    n_a = check_counts("n", n)
    n_other = n_a if n_b is None else check_counts("n_b", n_b)
    power = _power(difference / sd, n_a, n_other, alpha, paired)
    attrs = {"difference": difference, "sd": sd, "alpha": alpha, "paired": int(paired)}
    attrs |= {} if n_b is None else {"n_b": int(n_b)}
    return xr.DataArray(power, dims="n", coords={"n": n_a}, name="power", attrs=attrs)


def items_needed(difference: float, *, sd: float, power: float = 0.8, alpha: float = 0.05, paired: bool = False) -> int:
    """Return the smallest number of items per set, or of pairs, for a two-sided t-test of a given power.

    Parameters
    ----------
    difference : float
        The true difference, in the unit of the scores; not 0.
    sd : float
        Standard deviation of the items within a set; with `paired`, that of the differences.
    power : float, optional
        The power to reach, strictly between 0 and 1.
    alpha : float, optional
        Significance level of the test.
    paired : bool, optional
        Whether the same items are in both sets.

    Returns
    -------
    int
        At least 2.

    Raises
    ------
    ValueError
        `difference` is 0, or so small that no experiment finds it; `sd` not above 0; `power` or `alpha` not between 0
        and 1.

    See Also
    --------
    statistical_power : The power with a given number of items.

    References
    ----------
    Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, table 2.4.1.

    Examples
    --------
    >>> items_needed(0.5, sd=1), items_needed(0.5, sd=1, paired=True)
    (64, 34)
    """
    _check_effect(difference, sd, alpha)
    check_share("power", power, 0.8)
    if abs(difference / sd) < 1e-4:  # about 10⁹ items
        raise ValueError(
            f"no number of items shows a difference of {difference:g} with an sd of {sd:g}; give a larger one"
        )

    def achieved(n: int) -> float:
        return float(_power(difference / sd, np.array([n]), np.array([n]), alpha, paired)[0])

    # Power increases with n: double n until it suffices, then bisect.
    enough = 2
    while achieved(enough) < power:
        enough *= 2
    return 2 + bisect_left(range(2, enough), power, key=achieved)


def power_of_t(noncentrality: np.ndarray, freedom: np.ndarray, alpha: float) -> np.ndarray:
    """Return P(|t| > critical) for t with this noncentrality and these degrees of freedom."""
    critical = stats.t.isf(alpha / 2, freedom)
    missed = _cdf(critical, freedom, noncentrality) - _cdf(-critical, freedom, noncentrality)
    return np.clip(1 - missed, 0, 1)


def _power(d: float, n_a: np.ndarray, n_b: np.ndarray, alpha: float, paired: bool) -> np.ndarray:
    """Return the power of a t-test of items, with noncentrality |d| √weight."""
    freedom, weight = (n_a - 1, n_a) if paired else (n_a + n_b - 2, n_a / (n_a + n_b) * n_b)
    return power_of_t(abs(d) * np.sqrt(weight), freedom, alpha)


def _cdf(t: np.ndarray, freedom: np.ndarray, noncentrality: np.ndarray) -> np.ndarray:
    """Return the cdf of noncentral t; scipy returns NaN instead of 0 far out in the lower tail (its issue 25106)."""
    return np.nan_to_num(stats.nct.cdf(t, freedom, noncentrality), nan=0)


def _check_effect(difference: float, sd: float, alpha: float) -> None:
    if not isinstance(difference, Real) or not np.isfinite(difference):
        raise ValueError(f"difference must be a finite number, in the unit of the scores; got {difference!r}")
    if not isinstance(sd, Real) or not 0 < sd < np.inf:
        raise ValueError(f"sd must be above 0, got {sd!r}; take it from scores, such as scores.std(ddof=1)")
    check_share("alpha", alpha, 0.05)
