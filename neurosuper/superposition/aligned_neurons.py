"""Alignment: whether single neurons correspond to single units or directions of a network.

X (stimulus, item) codes of the model and Y (stimulus, neuron) responses, both z-scored by the stimuli to fit on;
W (item, neuron) weights of a lasso, Y ≈ X W.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._content import photographs_of
from neurosuper._progress import progress
from neurosuper.inference import halves_interval
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.responses import coords_along, require_varying
from neurosuper.superposition.axes import random_rotation
from neurosuper.superposition.factor_information import evenness
from neurosuper.superposition.factor_predictions import zscored
from neurosuper.superposition.finite_codes import LEAST_PER_SIDE, check_resamples, sorted_pair, stimuli_to_fit
from neurosuper.superposition.sparse_regression import choose_penalties, draw_folds, lasso


class _Fit(NamedTuple):
    """How a model predicts each neuron."""

    penalties: np.ndarray  # (neuron,)
    alignment: np.ndarray  # (neuron,)
    r2: np.ndarray  # (neuron,) on stimuli to score on
    item: np.ndarray  # (match,) the items that are matched to a neuron each
    neuron: np.ndarray  # (match,)
    sign: np.ndarray  # (match,) of their correlation on stimuli to fit on
    r: np.ndarray  # (match,) their correlation on stimuli to score on, times this sign


def alignment(
    model_codes: xr.DataArray,
    neurons: xr.DataArray,
    *,
    n_rotations: int = 19,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return whether each neuron is predicted by one unit or direction of a model, and which it corresponds to.

    Parameters
    ----------
    model_codes : DataArray (stimulus, unit) or (stimulus, direction)
        Activations or codes of a model, at least two items; stimuli are matched by label. The coord `split`, if there
        is one, marks the stimuli to fit on and to score on; without it, halves are drawn.
    neurons : DataArray (stimulus, unit)
        Responses averaged over repetitions.
    n_rotations : int, optional
        Number of random rotations of the model's codes, for the null; 19 allow p = 0.05, 0 computes none.
    n_resamples : int, optional
        Number of random halves of the stimuli for intervals, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed.

    Returns
    -------
    Dataset (unit)
        For each neuron: `alignment`, 1 minus the normalised entropy of the absolute weights of the model's items in its
        prediction, 1 if there is a single one; `r2` of this prediction on scored stimuli; `partner`, the item that is
        matched to it one to one, or "" if there are fewer items, and `r`, their correlation on scored stimuli, positive
        if it has the sign that it has on those to fit on. Scalars: `mean_alignment`, weighted by `r2` where that is
        above 0, and `mean_r` of the matched pairs, each with `…_low`, `…_high`, `…_null` and `…_p_value`: mean and
        p-value for rotated codes. Coords of neurons are kept.

    Raises
    ------
    ValueError
        No common stimuli, or fewer than 20; NaN; constant items or neurons; fewer than two items; a model that predicts
        no neuron on scored stimuli; settings out of range.

    See Also
    --------
    disentanglement : The same entropy for factors of the stimuli (DCI completeness).
    soft_matching : Matches many items without a regression.

    Notes
    -----
    Weights are those of a lasso with a penalty for each neuron, chosen by cross-validation on the stimuli to fit on; a
    neuron that nothing predicts has a single weight by chance, so that its alignment of 1 has weight 0 in the mean.
    Pairs maximise Σ |correlation| on the stimuli to fit on.

    A rotation of z-scored codes keeps all that a linear model knows of neurons. If alignment is higher than that of
    rotated codes, the axes of the model, not only its subspace, are those of the neurons. Rotations are exact as a test
    if the model's codes have no axes of their own. Intervals hold penalties, weights of the mean and pairs as fitted.

    References
    ----------
    Higgins, Chang, Langston, Hassabis, Summerfield, Tsao and Botvinick 2021, "Unsupervised deep learning identifies
    semantic disentanglement in single inferotemporal face patch neurons", Nature Communications 12, 6456.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> z = xr.DataArray(np.random.default_rng(0).laplace(size=(200, 4)), dims=("stimulus", "direction"),
    ...                  coords={"stimulus": np.arange(200).astype(str), "direction": list("abcd")})
    >>> neurons = z[:, ::-1].rename(direction="unit").assign_coords(unit=["n1", "n2", "n3", "n4"])
    >>> found = alignment(z, neurons, n_resamples=10)
    >>> bool(found.mean_alignment > 0.9), float(found.mean_alignment_p_value), found.partner.values.tolist()
    (True, 0.05, ['d', 'c', 'b', 'a'])
    """
    check_count("n_rotations", n_rotations, least=0)
    n_resamples, seed = check_resamples(n_resamples), seed_or_new(random_state)
    a, b = sorted_pair(model_codes, neurons, 2 * LEAST_PER_SIDE)
    for each in (a, b):
        require_varying(each)
    if a.shape[1] < 2:
        raise ValueError("alignment needs at least 2 items of the model, got 1")
    is_fit = stimuli_to_fit(b if "split" in b.coords and "split" not in a.coords else a, seed)
    X, Y = zscored(a.values, is_fit), zscored(b.values, is_fit)
    folds = draw_folds(int(is_fit.sum()), np.random.default_rng([seed, 2]))
    found = _fit(X, Y, is_fit, folds)
    weights = np.maximum(found.r2, 0)
    if not weights.any():
        raise ValueError(
            f"the model predicts no neuron on scored stimuli (largest R² {found.r2.max():.2g}), which alignment needs; "
            "use more stimuli, or more reliable neurons"
        )
    scalars = {"mean_alignment": np.average(found.alignment, weights=weights), "mean_r": found.r.mean()}
    variables: dict[str, object] = dict(scalars)
    if n_resamples:
        variables |= _intervals(X, Y, is_fit, found, weights, scalars, photographs_of(a), n_resamples, seed)
    if n_rotations:
        variables |= _null(X, Y, is_fit, folds, weights, scalars, n_rotations, seed)
    variables |= _by_neuron(found, b, a[a.dims[1]].values)
    attrs: dict[str, object] = {"method": model_codes.attrs.get("method", str(a.dims[1])), "quantity": "alignment"}
    attrs |= {"n_stimuli": len(X), "n_fit": int(is_fit.sum()), "n_items": X.shape[1], "n_rotations": n_rotations}
    result = xr.Dataset(variables, coords_along(b, str(b.dims[1])), attrs | {"n_resamples": n_resamples})
    given = neurons[b.dims[1]].values
    return result.sel({b.dims[1]: given}).assign_attrs(random_state=seed)


def _fit(X: np.ndarray, Y: np.ndarray, is_fit: np.ndarray, folds: np.ndarray) -> _Fit:
    """Return weights of all items for all neurons, and one-to-one pairs."""
    A, B = X[is_fit], Y[is_fit]
    penalties = choose_penalties(A, B, np.arange(B.shape[1]), folds)
    W = lasso(A, B, penalties)
    residual, held = Y[~is_fit] - X[~is_fit] @ W, Y[~is_fit]
    total = ((held - held.mean(0)) ** 2).sum(0)
    r2 = 1 - (residual**2).sum(0) / np.where(total > 0, total, np.inf)
    correlations = A.T @ B / len(A)
    item, neuron = linear_sum_assignment(-np.abs(correlations))
    sign = np.sign(correlations[item, neuron])
    r = sign * _correlations(X[~is_fit][:, item], held[:, neuron])
    return _Fit(penalties, 1 - evenness(np.abs(W).T), r2, item, neuron, sign, r)


def _correlations(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the correlation of each column with the column of the other; 0 for one that is constant."""
    A, B = A - A.mean(0), B - B.mean(0)
    scale = np.sqrt((A**2).sum(0) * (B**2).sum(0))
    return np.asarray((A * B).sum(0) / np.where(scale > 0, scale, np.inf))


def _intervals(
    X: np.ndarray,
    Y: np.ndarray,
    is_fit: np.ndarray,
    found: _Fit,
    weights: np.ndarray,
    scalars: dict[str, float],
    photographs: np.ndarray,
    n_resamples: int,
    seed: int,
) -> dict[str, float]:
    def mean_alignment(rows: np.ndarray) -> float:
        A, B = (each[rows[is_fit[rows]]] for each in (X, Y))
        W = lasso(A - A.mean(0), B - B.mean(0), found.penalties)
        return float(np.average(1 - evenness(np.abs(W).T), weights=weights))

    def mean_r(rows: np.ndarray) -> float:
        A, B = X[~is_fit][rows][:, found.item], Y[~is_fit][rows][:, found.neuron]
        return float((found.sign * _correlations(A, B)).mean())

    limits: dict[str, float] = {}
    for name, statistic, groups in (
        ("mean_alignment", mean_alignment, photographs),
        ("mean_r", mean_r, photographs[~is_fit]),
    ):
        interval = halves_interval(
            statistic, len(groups), n_resamples=n_resamples, stimulus_groups=groups, random_state=seed
        )
        margin = float(interval.estimate_high - interval.estimate_low) / 2
        limits |= {f"{name}_low": scalars[name] - margin, f"{name}_high": scalars[name] + margin}
    return limits


def _null(
    X: np.ndarray,
    Y: np.ndarray,
    is_fit: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray,
    scalars: dict[str, float],
    n_rotations: int,
    seed: int,
) -> dict[str, float]:
    """Return mean and p-value of both scalars for rotations of the codes, which are z-scored again."""
    rng, draws = np.random.default_rng([seed, 1]), []
    for _ in progress(range(n_rotations), desc="rotations", unit="rotation", leave=False):
        fit = _fit(zscored(X @ random_rotation(X.shape[1], rng), is_fit), Y, is_fit, folds)
        draws.append([np.average(fit.alignment, weights=weights), fit.r.mean()])
    values = np.array(draws)
    p = p_of_draws(np.array(list(scalars.values())), values)
    return {
        f"{name}_{key}": float(value)
        for name, mean, own in zip(scalars, values.mean(0), p, strict=True)
        for key, value in (("null", mean), ("p_value", own))
    }


def _by_neuron(found: _Fit, neurons: xr.DataArray, items: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    dim, n = str(neurons.dims[1]), neurons.shape[1]
    partner, r = np.full(n, "", items.dtype), np.full(n, np.nan)
    partner[found.neuron], r[found.neuron] = items[found.item], found.r
    return {
        name: (dim, values)
        for name, values in (("alignment", found.alignment), ("r2", found.r2), ("partner", partner), ("r", r))
    }
