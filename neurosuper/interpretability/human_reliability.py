"""How reliable human judgements are: the ceiling of any score that predicts them.

x_u, y_u accuracy of people for unit u in two random halves of its trials; r their correlation over units.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper.interpretability.judgement_tables import UNIT, check_judgements

MIN_CEILING = 0.1  # a correlation is not divided by less: the ratio would be noise
MAX_DRAWN = 2**20  # places of trials in random halves at once: 8 MiB each in a few arrays
MIN_UNITS = 3  # two points always correlate fully


def human_ceiling(judgements: pd.DataFrame, *, n_resamples: int = 1000, random_state: Seed = 0) -> xr.Dataset:
    """Return the largest correlation and AUC that a score of units can be expected to reach with human judgements.

    Parameters
    ----------
    judgements : DataFrame
        See `read_judgements`.
    n_resamples : int, optional
        Number of random halves of the trials of each unit, at least 1.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves.

    Returns
    -------
    Dataset
        `reliability` of the accuracy of people for a unit: the correlation over units between random halves of their
        trials, averaged over halves, and extended to all trials by Spearman–Brown, 2r/(1 + r). `ceiling`, its square
        root, or 0 where it is negative: the expected correlation of a perfect score with that accuracy.
        `auc` of one person for another, over all ordered pairs of judgements of the same trial: the probability that
        the other was correct more often where this person is correct than where not, a tie counting as half; NaN if no
        trial has two judgements, or all agree. `n_units` with at least two trials, which alone are halved; fewer than
        three give NaN. attrs: `n_units_left_out`, `n_resamples`, `random_state`.

    Raises
    ------
    TypeError, ValueError
        Missing columns or values that are not allowed in the judgements.

    See Also
    --------
    validate_against_humans : Correlation of scores with human accuracy, also divided by the ceiling.
    neurosuper.reliability.reliability : The same for responses.

    Notes
    -----
    Judgements of one trial stay in the same half, so that the images of a trial do not count as reliability of a unit.

    References
    ----------
    Spearman 1910, Brown 1910 (split-half reliability); Zimmermann, Klein, Brendel 2023, arXiv 2307.05471.

    Examples
    --------
    >>> import pandas as pd
    >>> judgements = pd.DataFrame({"model": "net", "layer": "layer1", "channel": [0] * 4 + [1] * 4 + [2] * 4,
    ...     "batch": [0, 1, 2, 3] * 3, "correct": [0] * 4 + [1, 0, 1, 0] + [1] * 4, "confidence": 3})
    >>> ceiling = human_ceiling(judgements)
    >>> bool(0.8 < ceiling.reliability < ceiling.ceiling < 1)
    True
    """
    n_resamples, seed = check_count("n_resamples", n_resamples), seed_or_new(random_state)
    judgements = check_judgements(judgements)
    n_units = len(judgements.drop_duplicates(UNIT))
    measures = ceiling_of(judgements, n_resamples, seed)
    settings = {"n_resamples": n_resamples, "random_state": seed}
    return xr.Dataset(
        measures | {"auc": _auc_of_another(judgements)},
        attrs={"n_units_left_out": n_units - measures["n_units"]} | settings,
    )


def ceiling_of(judgements: pd.DataFrame, n_resamples: int, seed: int) -> dict[str, float]:
    """Return the reliability and ceiling of checked judgements, and the number of units with at least two trials."""
    trials = judgements.groupby([*UNIT, "batch"], sort=True)["correct"].agg(["sum", "size"])
    unit = trials.groupby(UNIT).ngroup().to_numpy()
    n_trials = np.bincount(unit)
    halved = n_trials[unit] >= 2
    unit, n_trials = np.unique(unit[halved], return_inverse=True)[1], n_trials[n_trials >= 2]
    correct, size = (trials[name].to_numpy(float)[halved] for name in ("sum", "size"))
    if len(n_trials) < MIN_UNITS:
        return {"reliability": np.nan, "ceiling": np.nan, "n_units": len(n_trials)}
    rng = np.random.default_rng(seed)
    n_at_once = max(1, MAX_DRAWN // len(unit))
    sizes = [min(n_at_once, n_resamples - start) for start in range(0, n_resamples, n_at_once)]
    halves = np.concatenate([_correlate_halves(unit, n_trials, correct, size, n, rng) for n in sizes])
    if np.isnan(halves).all():
        return {"reliability": np.nan, "ceiling": np.nan, "n_units": len(n_trials)}
    r = np.nanmean(halves)
    reliability = 2 * r / (1 + r) if r > -1 else -np.inf
    return {"reliability": reliability, "ceiling": np.sqrt(max(reliability, 0)), "n_units": len(n_trials)}


def _correlate_halves(
    unit: np.ndarray, n_trials: np.ndarray, correct: np.ndarray, size: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Return correlations of accuracies in `n` random halves of the trials, sorted by unit; NaN without variation."""
    starts = n_trials.cumsum() - n_trials
    order = np.argsort(unit + rng.random((n, len(unit))), axis=1)  # in random order within each unit
    # of an odd number of trials, either half has one more
    n_first = (n_trials + rng.integers(2, size=(n, len(n_trials)))) // 2
    first = np.arange(len(unit)) - starts[unit] < n_first[:, unit]
    x, y = (
        np.add.reduceat(correct[order] * half, starts, axis=1) / np.add.reduceat(size[order] * half, starts, axis=1)
        for half in (first, ~first)
    )
    varies = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    r = np.full(n, np.nan)
    # r = Σ x y / √(Σ x² Σ y²), of centred x and y
    r[varies] = ((x * y).sum(1)[varies]) / np.sqrt((x**2).sum(1) * (y**2).sum(1))[varies]
    return r


def _auc_of_another(judgements: pd.DataFrame) -> float:
    """Return the AUC of the answers of one person for those of another, over ordered pairs in the same trial."""
    trials = judgements.groupby([*UNIT, "batch"])["correct"].agg(["sum", "size"])
    c, n = trials["sum"].to_numpy(float), trials["size"].to_numpy(float)
    # pairs in which the other is correct, where this person is correct and where not
    both, one, neither = (c * (c - 1)).sum(), (c * (n - c)).sum(), ((n - c) * (n - c - 1)).sum()
    if both + one == 0 or one + neither == 0:
        return np.nan
    # AUC of a binary predictor: (1 + P(correct | correct) − P(correct | incorrect)) / 2
    return float((1 + both / (both + one) - one / (one + neither)) / 2)
