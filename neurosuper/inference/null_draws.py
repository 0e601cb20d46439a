"""Test any statistic against draws of a null model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.inference.permutation import Alternative

ROUNDING = 1e-12  # of the largest draw: sums of the same numbers in another order differ by less
Data = TypeVar("Data", contravariant=True)


class Draw(Protocol[Data]):
    """A function that draws data under a null hypothesis."""

    def __call__(self, data: Data, /, *, random_state: int) -> object:
        """Return data of the same kind, drawn with this seed."""


def compare_with_null(
    statistic: Callable[..., ArrayLike],
    data: Data,
    null: Draw[Data],
    *,
    alternative: Alternative = "greater",
    n_resamples: int = 199,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a test of whether any statistic of codes or directions is higher than under a null model.

    The test is exact if data and draws have the same distribution under the null hypothesis, for any statistic.

    Parameters
    ----------
    statistic : callable
        `statistic(data)` returns a finite number, or an array of the same shape each time.
    data : object
        Responses, codes, directions, or anything else that both functions take.
    null : callable
        `null(data, random_state=seed)` returns a draw of data, such as `shuffle_stimuli`, `shuffle_units`, or, for
        directions, ``lambda D, random_state: Random(len(D), random_state=random_state).fit(responses).directions_``.
    alternative : {"greater", "less", "two-sided"}, optional
        "greater": the statistic is larger than under the null model. "two-sided": p is twice the smaller of both.
    n_resamples : int, optional
        Number of draws, at least 19; p is at least 1/(n_resamples + 1), twice that if two-sided.
    random_state : int, Generator, RandomState or None, optional
        Seed; draw i has the seed `random_state` + i, from 1.

    Returns
    -------
    Dataset
        `estimate`, the statistic; `null (draw, …)`, that of each draw; `p_value`, not adjusted if there are several.
        attrs: `alternative`, `n_resamples`, `random_state`.

    Raises
    ------
    TypeError
        `random_state` is of another type.
    ValueError
        Statistics that are not finite, or of another shape than that of the data; settings out of range; any error of
        the null model.

    See Also
    --------
    halves_interval : Confidence interval of any statistic.
    neurosuper.interpretability.null_test : The same for the interpretability index.

    References
    ----------
    Phipson and Smyth 2010, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 39, eq. 2.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.arange(8), np.array([1, 0, 2, 4, 3, 5, 6, 7])
    >>> def shuffled(values, /, *, random_state):
    ...     return np.random.default_rng(random_state).permutation(values)
    >>> test = compare_with_null(lambda values: np.corrcoef(x, values)[0, 1], y, shuffled)
    >>> bool(test.p_value < 0.05)
    True
    """
    check_one_of("alternative", alternative, ("greater", "less", "two-sided"))
    n_resamples = check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    seed = seed_or_new(random_state)
    observed = xr.DataArray(statistic(data)).astype(float)
    seeds = ((seed + 1 + i) % 2**64 for i in progress(range(n_resamples), desc="nulls", unit="draw", leave=False))
    draws = [np.asarray(statistic(null(data, random_state=each)), float) for each in seeds]
    if any(drawn.shape != observed.shape for drawn in draws):
        raise ValueError(f"a statistic of shape {observed.shape} has another shape under the null; return the same one")
    if not np.isfinite(observed.values).all() or not np.isfinite(draws).all():
        raise ValueError("the statistic of the data or of a draw is not finite; use one that the null model defines")
    null_values = np.stack(draws)
    p = p_of_draws(observed.values, null_values, alternative)
    columns = {
        "estimate": observed.rename(None),
        "null": xr.DataArray(null_values, dims=("draw", *observed.dims)),
        "p_value": (observed.dims, p),
    }
    return xr.Dataset(columns, attrs={"alternative": alternative, "n_resamples": n_resamples, "random_state": seed})


def p_of_draws(observed: ArrayLike, draws: np.ndarray, alternative: Alternative = "greater") -> np.ndarray:
    """Return p = (1 + number of draws `(draw, …)` at least as extreme as observed) / (1 + number of draws)."""
    rounding = ROUNDING * np.abs(draws).max()
    above = (1 + (draws >= observed - rounding).sum(0)) / (1 + len(draws))
    below = (1 + (draws <= observed + rounding).sum(0)) / (1 + len(draws))
    return {"greater": above, "less": below}.get(alternative, np.minimum(1, 2 * np.minimum(above, below)))
