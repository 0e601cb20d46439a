"""Intervals over stimuli of several statistics at once, as variables of a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy import stats

from neurosuper.inference.halves import interval_of_subsets

CONFIDENCE_LEVEL = 0.95


def intervals_of(
    statistics: Callable[[np.ndarray], Mapping[str, ArrayLike]],
    n_stimuli: int,
    *,
    dims: tuple[str, ...] = (),
    groups: np.ndarray | None = None,
    n_resamples: int,
    seed: int,
    tested: str | None = None,
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return variables `x`, `x_low` and `x_high` of each statistic x, and the two-sided `p_value` of one.

    Parameters
    ----------
    statistics : callable
        Returns the statistics `(subset, …)` of subsets of the stimuli, rows of a boolean array `(subset, stimulus)`, by
        name, all of the same shape.
    n_stimuli : int
    dims : tuple of str, optional
        Of each statistic.
    groups : array (stimulus,), optional
        Of stimuli that no half divides, such as those that show the same photograph.
    n_resamples : int
        Number of random halves.
    seed : int
    tested : str, optional
        The statistic that is 0 under the null hypothesis, if there is one.
    """
    names: list[str] = []

    def evaluate(members: np.ndarray) -> np.ndarray:
        found = statistics(members)
        names[:] = found
        return np.stack([np.asarray(values, float) for values in found.values()], axis=1)

    # Statistics of top stimuli depend on extremes, so their variance may not halve as stimuli double.
    found = interval_of_subsets(
        evaluate,
        n_stimuli,
        n_resamples=n_resamples,
        stimulus_groups=groups,
        fall=1.0,
        confidence_level=CONFIDENCE_LEVEL,
        seed=seed,
    )
    variables = {
        f"{name}{side}": (dims, found[f"estimate{side}"].values[i])
        for i, name in enumerate(names)
        for side in ("", "_low", "_high")
    }
    if tested is None:
        return variables
    of_test = found.isel({found.estimate.dims[0]: names.index(tested)})
    return variables | {"p_value": (dims, _two_sided(of_test))}


def _two_sided(found: xr.Dataset) -> np.ndarray:
    """Return the p-value of a statistic that is 0 under the null hypothesis; 1 if it is always 0."""
    error, estimate = found.standard_error.values, np.abs(found.estimate.values)
    t = np.divide(estimate, error, out=np.where(estimate > 0, np.inf, 0.0), where=error > 0)
    return np.asarray(2 * stats.t.sf(t, found.degrees_of_freedom.values))
