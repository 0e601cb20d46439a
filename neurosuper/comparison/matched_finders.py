"""Finders at equal quality: the numbers of directions with which they explain as much, or are as sparse.

R (stimulus, unit) responses, Z (stimulus, direction) codes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Literal, get_args

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurosuper._checks import Seed, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper._sparsity import hoyer
from neurosuper.directions import CovarianceMatched, DirectionFinder, Units
from neurosuper.responses import check_averaged, part_of, split_stimuli

__all__ = ["match_finders"]

By = Literal["variance", "sparseness"]
WITHOUT_NUMBER = (Units, CovarianceMatched)  # as many as units, however much they explain
N_TRIED = 8  # numbers of directions in each of two rounds
TOLERANCE = 0.05  # a finder that stays farther from the others is named in a warning


def match_finders(
    finders: Mapping[str, DirectionFinder],
    responses: xr.DataArray,
    *,
    by: By = "variance",
    at: float | None = None,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the number of directions of each finder with which all explain as much variance, or are as sparse.

    At equal numbers of directions, one method may explain half as much as another, and its directions are then of
    another part of the responses. `compare(…, match="variance")` does this in each system.

    Parameters
    ----------
    finders : mapping of name to finder
        Left untouched. `Units` and `CovarianceMatched` have no number to choose, and are not in the result.
    responses : DataArray (stimulus, unit)
        Stimuli to fit on. Finders are fitted on one half of them and measured on the other: those with the coord
        `split`, or, without it, random ones.
    by : {"variance", "sparseness"}, optional
        "variance": the share of the variance of (prepared) responses to other stimuli that directions explain.
        "sparseness": Hoyer's sparsity of a stimulus's codes, averaged over stimuli. Few methods become sparser with
        more directions: look at `reached`.
    at : float, optional
        The value to reach, above 0 and below 1. None: that of the first finder, with the number it has.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves. Finders have their own.

    Returns
    -------
    Dataset (finder,)
        `n_directions`, from 1 (2 for sparseness) to the number of units or half that of the stimuli to fit on, if these
        are fewer; and `reached`, the value with that number. attrs: `method`, `quantity`, `at`, `random_state`.

    Raises
    ------
    ValueError
        No finder with a number to choose; `at` outside (0, 1); fewer than 8 stimuli; responses that break the contract.

    Warns
    -----
    UserWarning
        A finder stays farther than 0.05 from the value, with any number.

    See Also
    --------
    compare : Takes `match`.
    neurosuper.sweep : Measures of a finder at each number, on the stimuli that it was fitted on.

    Notes
    -----
    Eight numbers are tried at equal ratios, and then up to eight more around the nearest: no measure needs to rise with
    the number. Of two that are as near, the smaller number is taken.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import PCA, Random
    >>> r = np.random.default_rng(0).normal(size=(60, 6)) * [9, 3, 1, 1, 1, 1]
    >>> r = xr.DataArray(r, {"stimulus": [f"s{i}" for i in range(60)], "unit": list("abcdef")}, ("stimulus", "unit"))
    >>> found = match_finders({"PCA": PCA(1), "all": PCA()}, r)
    >>> found.n_directions.values.tolist()
    [1, 1]
    """
    check_one_of("by", by, get_args(By))
    if at is not None and (not isinstance(at, Real) or isinstance(at, bool) or not 0 < at < 1):
        raise ValueError(f"at must be a share above 0 and below 1, such as 0.5, got {at!r}")
    seed, responses = seed_or_new(random_state), check_averaged(responses)
    chosen = {name: finder for name, finder in finders.items() if not isinstance(finder, WITHOUT_NUMBER)}
    if not chosen:
        raise ValueError("no finder has a number of directions to choose; add one, such as neurosuper.PCA()")
    if responses.sizes["stimulus"] < 8:
        raise ValueError(f"{responses.sizes['stimulus']} stimuli are too few to match finders on; use at least 8")
    marked = responses if "split" in responses.coords else split_stimuli(responses, random_state=seed)
    fit, other = (part_of(marked, part).compute() for part in ("fit", "score"))
    names = list(chosen)
    own = _measure(chosen[names[0]], fit, other, by) if at is None else None
    target = own[1] if own else float(at)
    sought = names[1:] if own else names
    bar = progress(sought, desc="matching", unit="finder", leave=False)
    found = ([own] if own else []) + [_nearest(chosen[name], fit, other, by, target) for name in bar]
    for name, (n, value) in zip(names, found, strict=True):
        if abs(value - target) > TOLERANCE:
            warnings.warn(
                f"{name!r} comes to a {by} of {value:.2f} with {n} directions, its nearest to {target:.2f}; choose "
                "another `at`, or leave it out",
                stacklevel=2,
            )
    columns = {"n_directions": ("finder", [n for n, _ in found]), "reached": ("finder", [value for _, value in found])}
    attrs = {"method": "finders at equal quality", "quantity": by, "at": target, "random_state": seed}
    return xr.Dataset(columns, {"finder": names}, attrs)


def _nearest(
    finder: DirectionFinder, fit: xr.DataArray, other: xr.DataArray, by: str, target: float
) -> tuple[int, float]:
    """Return the number of directions whose value is nearest to the target, and this value."""
    least = 1 if by == "variance" else 2  # one code is always as sparse as can be
    most = max(least, min(fit.sizes["unit"], fit.sizes["stimulus"] // 2))
    values: dict[int, float] = {}

    def nearest() -> int:
        return min(sorted(values), key=lambda n: abs(values[n] - target))

    for bounds in (np.geomspace, np.linspace):  # first at equal ratios, then between the neighbours of the nearest
        low, high = (least, most) if not values else _neighbours(sorted(values), nearest())
        for n in np.unique(np.round(bounds(low, high, N_TRIED)).astype(int)).tolist():
            if n not in values:
                values[n] = _measure(clone(finder).set_params(n_directions=n), fit, other, by)[1]
    return nearest(), values[nearest()]


def _neighbours(numbers: Sequence[int], n: int) -> tuple[int, int]:
    """Return the numbers before and after one of them, or itself at an end."""
    i = numbers.index(n)
    return numbers[max(i - 1, 0)], numbers[min(i + 1, len(numbers) - 1)]


def _measure(finder: DirectionFinder, fit: xr.DataArray, other: xr.DataArray, by: str) -> tuple[int, float]:
    """Return the number of directions, and the value on other stimuli, of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about one of many numbers; the fit with the chosen one warns again
        fitted = clone(finder).fit(fit)
    n = fitted.directions_.sizes["direction"]
    if by == "variance":
        return n, fitted.explained_variance(other)
    Z = np.abs(fitted.transform(other).values.astype(float))
    Z = Z[Z.any(axis=1)]
    return n, float(hoyer(Z.sum(axis=1), np.linalg.norm(Z, axis=1), n).mean()) if len(Z) else 0.0
