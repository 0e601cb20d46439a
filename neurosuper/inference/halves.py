"""Confidence intervals over stimuli for any statistic, from random halves of the stimuli.

v(n) variance of a statistic over samples of n stimuli; u its change without some of the stimuli.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from neurosuper._checks import Seed, check_count, check_share, seed_or_new
from neurosuper.inference import degrees_of_freedom

MIN_GROUPS = 4  # two in each half
N_LEFT_OUT = 50  # parts that are left out in turn to find degrees of freedom: t with 49 is within 3 % of normal


def halves_interval(
    statistic: Callable[[np.ndarray], ArrayLike],
    n_stimuli: int,
    *,
    n_resamples: int = 500,
    stimulus_groups: ArrayLike | None = None,
    fall: float = 0.5,
    confidence_level: float = 0.95,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a statistic of stimuli, with a confidence interval for other stimuli of the same kind, from random halves.

    It is for statistics that a bootstrap of stimuli would bias, because two copies of a stimulus are more similar than
    any two stimuli are: correlations between patterns, ranks, spectra, nearest neighbours.

    Parameters
    ----------
    statistic : callable
        `statistic(positions)` returns a number, or an array of the same shape each time, of the stimuli at these
        positions, in increasing order. It is called 2 × `n_resamples` + 51 times.
    n_stimuli : int
        Number of stimuli, at least 4.
    n_resamples : int, optional
        Number of random splits of the stimuli in halves, at least 10.
    stimulus_groups : array (stimulus,), optional
        Labels of stimuli that are not independent, such as clusters, categories or bursts of frames. Whole groups are
        halved, and the interval is for other groups. At least 4.
    fall : float, optional
        Factor by which the variance decreases if the number of stimuli doubles: ½ for a mean and any statistic that is
        smooth in it, such as a correlation; 1, which is safe, for one that depends on extremes.
    confidence_level : float, optional
        Strictly between 0 and 1.
    random_state : int, Generator, RandomState or None, optional
        Seed of the splits.

    Returns
    -------
    Dataset
        `estimate`, of all stimuli, with `estimate_low` and `estimate_high`; its `standard_error`, and the
        `monte_carlo_error` of that (its standard deviation over other seeds) and its `degrees_of_freedom`; each with
        the dims of the statistic. attrs: `method`, `n_stimuli`, `n_stimulus_groups` with groups, and the settings.

    Raises
    ------
    TypeError
        `random_state` is of another type.
    ValueError
        Fewer than 4 stimuli or groups; not one group for each stimulus; a statistic of some half that is not finite;
        settings out of range.

    See Also
    --------
    bootstrap_interval : Interval over items.
    neurosuper.interpretability.index_interval : Interval of the mean interpretability index.

    Notes
    -----
    Two halves, with no stimulus in common, estimate v(n/2) by their variance (random groups). The standard error is
    √(`fall` · v(n/2)), averaged over splits before the root. The interval is estimate ± t · standard_error, where t has
    2 (Σu²)² / (Σu⁴ − (Σu²)²/m) degrees of freedom, from the changes u of the statistic without each of m random parts
    of the stimuli (at most 50; whole groups). In simulations of 60 normal stimuli (`make validate`), 95 % intervals
    cover their mean, variance and correlation in 92 to 95 % of studies, and, with `fall=1`, the largest in 94 %. They
    do not show a bias of the statistic, such as that of a participation ratio.

    References
    ----------
    Wolter 2007, Introduction to Variance Estimation, chapter 2 (random groups).

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper.inference import halves_interval
    >>> x, y = np.random.default_rng(0).normal(size=(2, 100))
    >>> r = halves_interval(lambda rows: np.corrcoef(x[rows], x[rows] + y[rows])[0, 1], 100)
    >>> bool(r.estimate_low < 0.5**0.5 < r.estimate_high), bool(0.03 < r.standard_error < 0.08)
    (True, True)
    """
    labelled: list[xr.DataArray] = []

    def evaluate(members: np.ndarray) -> np.ndarray:
        values = [statistic(np.flatnonzero(row)) for row in members]
        labelled[:] = labelled or [xr.DataArray(values[0]).astype(float)]
        return np.stack([np.asarray(value, float) for value in values])

    found = interval_of_subsets(
        evaluate,
        n_stimuli,
        n_resamples=n_resamples,
        stimulus_groups=stimulus_groups,
        fall=fall,
        confidence_level=confidence_level,
        seed=random_state,
    )
    return xr.Dataset({name: labelled[0].copy(data=values) for name, values in found.items()}, attrs=found.attrs)


def interval_of_subsets(
    evaluate: Callable[[np.ndarray], np.ndarray],
    n_stimuli: int,
    *,
    n_resamples: int,
    stimulus_groups: ArrayLike | None,
    fall: float,
    confidence_level: float,
    seed: Seed,
) -> xr.Dataset:
    """Return what `halves_interval` returns, for a statistic that is computed for many subsets of stimuli at once.

    Parameters
    ----------
    evaluate : callable
        `evaluate(members)` returns the statistic (subset, …) of each row of the boolean array `members`
        (subset, stimulus).
    n_stimuli, n_resamples, stimulus_groups, fall, confidence_level, seed
        See `halves_interval`; `seed` is its `random_state`.
    """
    check_share("confidence_level", confidence_level, 0.95)
    check_count("n_resamples", n_resamples, least=10)
    check_count("n_stimuli", n_stimuli, least=MIN_GROUPS)
    if not 0 < fall <= 1:
        raise ValueError(f"fall must be above 0 and at most 1, got {fall!r}; 0.5 is that of a mean")
    groups, n_groups = _number_groups(stimulus_groups, n_stimuli)
    seed = seed_or_new(seed)
    rng = np.random.default_rng(seed)
    estimate = evaluate(np.ones((1, n_stimuli), bool))[0]
    in_first = rng.permuted(np.broadcast_to(np.arange(n_groups) % 2 == 0, (n_resamples, n_groups)), axis=1)[:, groups]
    parts = rng.permutation(np.arange(n_groups) % N_LEFT_OUT)[groups]
    members = np.concatenate([in_first, ~in_first, parts != np.arange(parts.max() + 1)[:, None]])
    values = _finite(evaluate(members), members)
    first, second, u = np.split(values, [n_resamples, 2 * n_resamples])
    # Of two halves, the variance (ddof 1) is half of their squared difference.
    by_draw = (first - second) ** 2 / 2
    variance = fall * by_draw.mean(0)
    df = np.apply_along_axis(degrees_of_freedom.of_influence, 0, u)
    error = np.sqrt(variance)
    # By the delta method, √v has the standard error (standard error of v) / (2 √v).
    monte_carlo = fall * by_draw.std(0, ddof=1) / np.sqrt(n_resamples) / (2 * np.where(error > 0, error, 1))
    margin = stats.t.isf((1 - confidence_level) / 2, df) * error
    columns = {"estimate": estimate, "estimate_low": estimate - margin, "estimate_high": estimate + margin}
    columns |= {"standard_error": error, "monte_carlo_error": monte_carlo, "degrees_of_freedom": df}
    attrs = {"method": "t interval from random halves of the stimuli", "n_stimuli": int(n_stimuli)}
    attrs |= {} if stimulus_groups is None else {"n_stimulus_groups": n_groups}
    attrs |= {"n_resamples": int(n_resamples), "fall": float(fall), "confidence_level": float(confidence_level)}
    attrs |= {"random_state": seed}
    return xr.Dataset({name: xr.DataArray(values) for name, values in columns.items()}, attrs=attrs)


def _finite(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the statistics (subset, …) of subsets of stimuli, if they are finite."""
    is_finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not is_finite.all():
        raise ValueError(
            f"the statistic of {members[~is_finite][0].sum()} of {members.shape[1]} stimuli is not finite; use more "
            "stimuli, or a statistic that half of them define"
        )
    return values


def _number_groups(stimulus_groups: ArrayLike | None, n_stimuli: int) -> tuple[np.ndarray, int]:
    """Return the number of each stimulus's group, and how many groups there are."""
    if stimulus_groups is None:
        return np.arange(n_stimuli), n_stimuli
    labels = np.asarray(stimulus_groups)
    if labels.shape != (n_stimuli,) or pd.isnull(labels).any():
        raise ValueError(
            f"stimulus_groups must be one label for each of {n_stimuli} stimuli, got shape {labels.shape} with "
            f"{int(pd.isnull(labels).sum())} missing"
        )
    groups, names = pd.factorize(labels)
    if len(names) < MIN_GROUPS:
        raise ValueError(
            f"{len(names)} stimulus groups are too few to halve; use at least {MIN_GROUPS}, or leave out "
            "`stimulus_groups` and restrict conclusions to these groups"
        )
    return groups, len(names)
