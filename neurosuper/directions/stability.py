"""Stability of directions: how well other fits recover them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._progress import progress
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.labels import label_input
from neurosuper.responses import coords_along

ORIGIN = {"stimuli": "bootstrap samples of stimuli", "seeds": "other seeds"}
INTERVAL = (0.025, 0.975)


def direction_stability(
    finder: DirectionFinder,
    responses: xr.DataArray | np.ndarray,
    *,
    n_resamples: int = 20,
    over: Literal["stimuli", "seeds"] = "stimuli",
    null: bool = False,
    random_state: Seed = 0,
) -> xr.DataArray:
    """Return how well each direction is recovered from other stimuli of the same kind, or from other seeds.

    The directions of the fit on all stimuli are matched one to one with the directions of every refit, maximising the
    sum of |cosine| (Hungarian algorithm); the stability of a direction is its mean |cosine| over refits.

    Parameters
    ----------
    finder : DirectionFinder
        Not changed.
    responses : DataArray (stimulus, unit)
        As for `fit`.
    n_resamples : int, optional
        Number of refits.
    over : {"stimuli", "seeds"}, optional
        "stimuli": refits use the same number of stimuli, drawn with replacement, and the seed of the finder. "seeds":
        refits use all stimuli, and other seeds.
    null : bool, optional
        Also compute the chance level: the stability of the same finder on responses that are permuted over stimuli,
        independently for each unit. They keep the distribution and the mean of each unit, but no stimulus drives two
        units together, so that there are no directions to find. Takes as long again.
    random_state : int, Generator, RandomState or None, optional
        Seed of the samples, or of the other seeds, and of the permutations.

    Returns
    -------
    DataArray (direction,)
        Name `stability`, from 0 to 1. The coords `stability_low` and `stability_high` are the 2.5 and 97.5 % quantiles
        over refits. With `null`, the scalar coord `chance_level` is the mean over the directions of permuted responses,
        and 95 % of these are between `chance_level_low` and `chance_level_high`. `attrs` contain `over`, `n_resamples`,
        `random_state`, `finder` and, in `comment`, the definition.

    Raises
    ------
    ValueError
        Another `over`; `n_resamples` below 1; responses or settings that the finder refuses: in a bootstrap sample, a
        unit that responds to very few stimuli may be constant.

    See Also
    --------
    neurosuper.sweep : Stability over seeds for several numbers of directions.
    neurosuper.directions.recovery : How well known directions are recovered.

    Notes
    -----
    Stability is above 0 even if there is nothing to find: matched random directions have a |cosine| above 0, and a
    larger one with fewer units; a bootstrap sample shares the noise of the stimuli that it is drawn from; and
    directions of rates that are not centred all resemble the mean response. Compare it with the chance level (`null`).
    In a session of V4 (89 units), as many centres of `KMeans` have a stability over seeds of 0.99, but so they have by
    chance; with `center=True` it is 0.79, with a chance level of 0.63. A stability above the chance level shows that
    units respond together in the same way again. It does not show features: another fit may divide a continuum at the
    same places. With `whiten`, each refit has its own whitened space.

    References
    ----------
    Kuhn 1955, "The Hungarian method for the assignment problem", Nav. Res. Logist. Q. 2, 83–97.
    Efron 1979, "Bootstrap methods: another look at the jackknife", Ann. Stat. 7, 1–26.

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper import PCA
    >>> from neurosuper.directions import direction_stability
    >>> r = np.random.default_rng(0).normal(size=(400, 4)) * [9, 3, 1, 1]
    >>> direction_stability(PCA(2), r).round(2).values.tolist()
    [1.0, 1.0]
    """
    if over not in ORIGIN:
        raise ValueError(f"over must be 'stimuli' or 'seeds', got {over!r}")
    n_resamples = check_count("n_resamples", n_resamples)
    labelled, seed = label_input(responses), seed_or_new(random_state)
    rng = np.random.default_rng(seed)
    directions, cosines = _refit(finder, labelled, over, n_resamples, rng)
    low, high = (("direction", bound) for bound in np.quantile(cosines, INTERVAL, axis=0))
    coords = coords_along(directions, "direction") | {"stability_low": low, "stability_high": high}
    if null:
        _, of_null = _refit(finder, _permute_units(labelled, seed), over, n_resamples, rng)
        chance_low, chance_high = np.quantile(of_null.mean(axis=0), INTERVAL)
        coords |= {"chance_level": of_null.mean(), "chance_level_low": chance_low, "chance_level_high": chance_high}
    attrs = {
        "confidence_level": 0.95,
        "comment": f"mean |cosine| with the matched direction of {n_resamples} refits, to {ORIGIN[over]}",
        "over": over,
        "n_resamples": int(n_resamples),
        "random_state": seed,
        "finder": repr(finder),
    }
    return xr.DataArray(cosines.mean(axis=0), coords, dims="direction", name="stability", attrs=attrs)


def matched_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |cosine| of each row of `a` with its match in `b`, one to one, with the largest sum.

    Both are `(direction, unit)`, with the same number of rows, of unit length.
    """
    cosine = np.abs(a @ b.T).clip(max=1)
    return cosine[linear_sum_assignment(cosine, maximize=True)]


def _refit(
    finder: DirectionFinder, responses: xr.DataArray, over: str, n_resamples: int, rng: np.random.Generator
) -> tuple[xr.DataArray, np.ndarray]:
    """Return the directions of the fit on all stimuli, and their |cosine| with their matches `(refit, direction)`."""
    directions = clone(finder).fit(responses).directions_
    again = clone(finder)
    if over == "stimuli" and isinstance(finder.n_directions, str | None):
        again.set_params(n_directions=len(directions))  # a sample has fewer different stimuli, which may cap a multiple
    refits = _resampled(again, responses, rng) if over == "stimuli" else _reseeded(again, responses, rng)
    bar = progress(range(n_resamples), desc="stability", unit="fit", leave=False)
    return directions, np.stack([matched_cosines(directions.values, next(refits)) for _ in bar])


def _permute_units(responses: xr.DataArray, seed: int) -> xr.DataArray:
    """Return responses with the stimuli of each unit permuted independently; a dask array stays lazy."""
    if responses.chunks is None:
        return responses.copy(data=_permute_columns(responses.values, seed))
    columns = responses.data.rechunk({0: -1, 1: "auto"})
    permuted = columns.map_blocks(_permute_block, seed=seed, dtype=responses.dtype)
    return responses.copy(data=permuted.rechunk(responses.chunks))


def _permute_columns(values: np.ndarray, seed: int, first: int = 0) -> np.ndarray:
    """Return columns `first`, `first` + 1, … of an array, each permuted with a seed of its own."""
    n = len(values)
    orders = [np.random.default_rng([seed, first + i]).permutation(n) for i in range(values.shape[1])]
    return np.take_along_axis(values, np.stack(orders, axis=1), axis=0)


def _permute_block(values: np.ndarray, seed: int, block_info: dict | None = None) -> np.ndarray:
    """Return a block of columns of a dask array, permuted as they would be in a single array."""
    if not block_info:  # dask calls this once without data to infer the dtype
        return values
    return _permute_columns(values, seed, block_info[0]["array-location"][1][0])


def _resampled(finder: DirectionFinder, responses: xr.DataArray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the directions of bootstrap samples of stimuli; a stimulus drawn twice gets two labels."""
    n = responses.sizes["stimulus"]
    labels = np.arange(n).astype(str)
    while True:
        drawn = np.sort(rng.integers(n, size=n))  # in order: blocks of a dask array are read in turn
        sample = responses.isel(stimulus=drawn).assign_coords(stimulus=labels)
        try:
            fitted = clone(finder).fit(sample)
        except ValueError as error:
            raise ValueError(f"in a bootstrap sample of stimuli: {error}") from error
        yield fitted.directions_.values


def _reseeded(finder: DirectionFinder, responses: xr.DataArray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the directions from other seeds; responses are prepared once."""
    rows = finder.prepare_rows(responses)
    while True:
        seed = int(rng.integers(2**31))
        yield clone(finder).set_params(random_state=seed).fit_rows(responses, rows).directions_.values
