"""Encoding models: how well the features of one system predict each unit of another on other stimuli.

X (stimulus, feature) features, z-scored on the stimuli to fit; Y (stimulus, unit) responses; Ŷ their predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from sklearn.model_selection import PredefinedSplit

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._optional import require
from neurosuper._progress import progress
from neurosuper._threads import blas_threads_for
from neurosuper.comparison.shared_stimuli import common_systems, groups_of, number_folds
from neurosuper.reliability import split_half_reliability
from neurosuper.responses import coords_along

__all__ = ["encode"]

MIN_PER_FOLD = 4
DRAWS_OF_BANDS = 100  # random mixtures of bands, as by default in himalaya
MOST_TARGETS = {"n_targets_batch": 1_000}  # predicted at the same time, with each penalty
ALPHAS = tuple(np.logspace(-2, 6, 17).tolist())


class _Fold(NamedTuple):
    """Predictions of one fold: by band, for the stimuli that it was not fitted on."""

    target: np.ndarray  # (stimulus, unit): responses minus the mean of those that were fitted
    by_band: np.ndarray  # (band, stimulus, unit)
    alpha: np.ndarray  # (unit,)


def encode(
    features: xr.DataArray | Mapping[str, xr.DataArray],
    responses: xr.DataArray,
    *,
    alphas: Sequence[float] = ALPHAS,
    n_folds: int = 5,
    stimulus_groups: str | None = None,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how well a linear model of features predicts each unit, on stimuli that it was not fitted on.

    Ridge regression, whose penalty is chosen for each unit by cross-validation within the stimuli to fit. With several
    bands of features, such as layers or codes and low-level statistics, each has a penalty of its own (banded ridge),
    and the explained variance is divided among them. Both directions are the same call: `encode(network, brain)` and
    `encode(brain, network)`.

    Parameters
    ----------
    features : DataArray (stimulus, item), or dict of them
        Responses or codes; a dict names bands.
    responses : DataArray (stimulus, unit), or (stimulus, repetition, unit)
        What is predicted; codes have their own dim in place of `unit`, here and in the result. With repetitions,
        averages are predicted, and there is a ceiling. Stimuli are matched by label.
    alphas : sequence of float, optional
        Penalties to choose from, above 0, for z-scored features.
    n_folds : int, optional
        Number of folds of the stimuli to score, and of the stimuli to fit, to choose the penalty; at least 2.
    stimulus_groups : str, optional
        A stimulus coord of `responses`, such as "burst" or "category", whose groups are never divided between folds, so
        that dependent stimuli are not on both sides.
    random_state : int, Generator, RandomState or None, optional
        Seed of the folds, and of the mixtures of bands that are tried.

    Returns
    -------
    Dataset (unit,)
        `r`, the mean over folds of the correlation of predictions with responses, and `r2`, 1 minus the squared errors
        over those of the mean of the stimuli to fit, below 0 if that predicts better; `alpha`, the geometric mean of
        the penalties. With repetitions: `ceiling`, the square root of the split-half reliability, the largest r to be
        expected, and `r_ceiled`, r divided by it (NaN where it is below 0.1). With bands: `r2_of_band (band, unit)`,
        whose sum is `r2`. Coords of units are kept.

    Raises
    ------
    ImportError
        himalaya is not installed.
    ValueError
        Too few common stimuli or groups, copies of one photograph among them, NaN, items that do not vary, or settings
        out of range.

    See Also
    --------
    twins : One item for each item, in place of all.
    neurosuper.reliability.split_half_reliability : The reliability.

    Notes
    -----
    More features predict better for free: compare systems at the same number, such as units with random expansions of
    them to as many columns as codes have. The share of a band is Σ ŷ_b (2y − ŷ) / Σ y² (the product measure), where y
    is the response minus the mean of the stimuli to fit.

    References
    ----------
    Dupré la Tour, Eickenberg, Nunez-Elizalde and Gallant 2022, "Feature-space selection with banded ridge regression",
    NeuroImage 264, 119728.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> def system(values):
    ...     names = {"stimulus": np.arange(80).astype(str), "unit": np.arange(values.shape[1]).astype(str)}
    ...     return xr.DataArray(values, names, ("stimulus", "unit"))
    >>> x = rng.normal(size=(80, 4))
    >>> found = encode(system(x), system(x @ rng.normal(size=(4, 3)) + 0.1 * rng.normal(size=(80, 3))))
    >>> bool((found.r > 0.95).all())
    True
    """
    require("himalaya", "encoding")
    check_count("n_folds", n_folds, least=2)
    penalties = check_penalties(alphas)
    seed = seed_or_new(random_state)
    bands = dict(features) if isinstance(features, Mapping) else {"": features}
    if not bands:
        raise ValueError("features is an empty dict; name at least one band of features")
    systems = []
    for each in bands.values():
        responses, system = common_systems(responses, each, MIN_PER_FOLD * n_folds, repeated=True)
        if "repetition" in system.dims:
            raise ValueError("features have repetitions; call neurosuper.average_repetitions(features) first")
        systems.append(system)
    item = responses.dims[-1]
    responses = responses.rename({item: "unit"})  # of codes: directions
    groups = None if stimulus_groups is None else groups_of(responses, stimulus_groups)
    fold = number_folds(responses, groups, n_folds, seed)
    averages = responses.mean("repetition") if "repetition" in responses.dims else responses
    Y = averages.values.astype(float)
    X = [system.sel(stimulus=responses.stimulus.values).values.astype(float) for system in systems]
    bar = progress(range(n_folds), desc="folds", unit="fold", leave=False)
    folds = [predict_fold(X, Y, fold, k, groups, penalties, seed, averages) for k in bar]
    columns = _scores(folds, list(bands) if isinstance(features, Mapping) else None)
    columns["alpha"] = ("unit", np.exp(np.mean([np.log(each.alpha) for each in folds], axis=0)))
    if "repetition" in responses.dims:
        reliability = split_half_reliability(responses, random_state=seed).values
        ceiling = np.sqrt(np.clip(reliability, 0, None))
        with np.errstate(divide="ignore", invalid="ignore"):
            ceiled = np.where(ceiling >= 0.1, columns["r"][1] / ceiling, np.nan)
        columns |= {"ceiling": ("unit", ceiling), "r_ceiled": ("unit", ceiled)}
    coords = coords_along(averages, "unit") | ({"band": list(bands)} if isinstance(features, Mapping) else {})
    attrs: dict[str, object] = {"method": "banded ridge" if len(bands) > 1 else "ridge", "quantity": "correlation"}
    attrs |= {"n_stimuli": len(Y), "n_features": int(sum(x.shape[1] for x in X)), "n_folds": int(n_folds)}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return xr.Dataset(columns, coords, attrs | {"random_state": seed}).rename(unit=item)


def check_penalties(alphas: Sequence[float]) -> np.ndarray:
    """Return penalties to choose from, above 0."""
    penalties = np.atleast_1d(np.asarray(alphas, float))
    if penalties.ndim != 1 or not penalties.size or not (np.isfinite(penalties) & (penalties > 0)).all():
        raise ValueError(f"alphas must be penalties above 0, such as numpy.logspace(-2, 6, 17), got {alphas!r}")
    return penalties


def predict_fold(
    X: list[np.ndarray],
    Y: np.ndarray,
    fold: np.ndarray,
    k: int,
    groups: np.ndarray | None,
    alphas: np.ndarray,
    seed: int,
    averages: xr.DataArray,
) -> _Fold:
    """Return the predictions for one fold of a model that is fitted, and whose penalties are chosen, on the others."""
    fit = fold != k
    scaled = [_zscore(x, fit) for x in X]
    mean = Y[fit].mean(axis=0)
    inner = number_folds(averages[fit], None if groups is None else groups[fit], fold.max() + 1, seed + 1)
    cv, n = PredefinedSplit(inner), int(fit.sum())
    if len(X) > 1:
        with blas_threads_for(n * n):
            return _predict_by_band(scaled, Y - mean, fit, cv, alphas, seed)
    x = scaled[0]
    # as many equations as there are fewer of: features, or stimuli
    if x.shape[1] <= n:
        model = require("himalaya.ridge", "encoding").RidgeCV(alphas=alphas, cv=cv, solver_params=MOST_TARGETS)
    else:
        kernel_ridge = require("himalaya.kernel_ridge", "encoding")
        model = kernel_ridge.KernelRidgeCV(alphas=alphas, cv=cv, kernel="linear", solver_params=MOST_TARGETS)
    with blas_threads_for(n * min(n, x.shape[1])):
        model.fit(x[fit], Y[fit] - mean)
    return _Fold(Y[~fit] - mean, model.predict(x[~fit])[None], np.asarray(model.best_alphas_))


def _predict_by_band(
    X: list[np.ndarray], Y: np.ndarray, fit: np.ndarray, cv: PredefinedSplit, alphas: np.ndarray, seed: int
) -> _Fold:
    """Return the predictions of each band, of one model with a penalty for each."""
    model = require("himalaya.kernel_ridge", "encoding").MultipleKernelRidgeCV(
        kernels="precomputed",
        solver="random_search",
        solver_params={"n_iter": DRAWS_OF_BANDS, "alphas": alphas, "progress_bar": False},
        cv=cv,
        random_state=seed % 2**32,
    )
    model.fit(np.stack([x[fit] @ x[fit].T for x in X]), Y[fit])
    by_band = model.predict(np.stack([x[~fit] @ x[fit].T for x in X]), split=True)
    return _Fold(Y[~fit], np.asarray(by_band), np.exp(-np.asarray(model.deltas_).max(axis=0)))


def _zscore(X: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return features in units of the stimuli to fit; those that do not vary over them are 0."""
    scale = X[fit].std(axis=0)
    scale[X[fit].min(axis=0) == X[fit].max(axis=0)] = np.inf
    return (X - X[fit].mean(axis=0)) / scale


def _scores(folds: list[_Fold], bands: list[str] | None) -> dict[str, Any]:
    """Return the scores of all folds."""
    r, errors, variance, shares = [], 0.0, 0.0, []
    for fold in folds:
        y, predicted = fold.target, fold.by_band.sum(axis=0)
        own, theirs = y - y.mean(axis=0), predicted - predicted.mean(axis=0)
        lengths = np.linalg.norm(own, axis=0) * np.linalg.norm(theirs, axis=0)
        r.append(np.divide((own * theirs).sum(axis=0), lengths, out=np.zeros_like(lengths), where=lengths > 0))
        errors, variance = errors + ((y - predicted) ** 2).sum(axis=0), variance + (y**2).sum(axis=0)
        shares.append(np.einsum("bij,ij->bj", fold.by_band, 2 * y - predicted))
    columns: dict[str, Any] = {"r": ("unit", np.mean(r, axis=0)), "r2": ("unit", 1 - errors / variance)}
    if bands is not None:
        columns["r2_of_band"] = (("band", "unit"), np.sum(shares, axis=0) / variance)
    return columns
