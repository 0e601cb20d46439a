"""Prediction of factors from codes: fitted on some stimuli, scored on others.

X (stimulus, item) codes, z-scored by the stimuli to fit on; y (stimulus,) the levels of a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special, stats
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from neurosuper._kernels import njit
from neurosuper.superposition.factor_information import mean_gap
from neurosuper.superposition.factor_tables import Factor
from neurosuper.superposition.penalized_regression import Penalty, choose_penalties, draw_folds, fit_weights

Importance = Literal["ridge", "lasso", "gbt"]
SVM_C = 0.01  # of SAP (Kumar et al. 2018, and all implementations since)
MAX_STEPS, STEP_TOLERANCE = 100, 1e-10  # of Newton's method in two dimensions, which takes about 8


class Importances(NamedTuple):
    """How much each item serves to predict each factor, and the predictions."""

    table: np.ndarray  # (item, factor), at least 0
    predicted: list[np.ndarray]  # for each factor (scored stimulus,), its level, or its number
    penalties: np.ndarray | None  # of the regression, for each response


def zscored(Z: np.ndarray, is_fit: np.ndarray) -> np.ndarray:
    """Return codes with mean 0 and standard deviation 1 over the stimuli to fit on; 0 for items constant there."""
    part = Z[is_fit]
    spread = part.std(0)
    is_constant = np.ptp(part, axis=0) == 0
    return np.where(is_constant, 0, (Z - part.mean(0)) / np.where(is_constant, 1, spread))


def importances(
    X: np.ndarray,
    factors: Sequence[Factor],
    is_fit: np.ndarray,
    method: Importance,
    seed: int,
    penalties: np.ndarray | None = None,
) -> Importances:
    """Return the importances of items, by regression or boosted trees, and predictions for scored stimuli."""
    if method != "gbt":
        return _by_regression(X, factors, is_fit, method, seed, penalties)
    table, predicted = np.empty((X.shape[1], len(factors))), []
    for j, factor in enumerate(factors):
        model = _trees(factor, seed).fit(X[is_fit], _target(factor)[is_fit])
        table[:, j] = np.abs(model.feature_importances_)
        predicted.append(model.predict(X[~is_fit]))
    return Importances(table, predicted, None)


def _trees(factor: Factor, seed: int) -> GradientBoostingClassifier | GradientBoostingRegressor:
    kind = GradientBoostingClassifier if factor.values is None else GradientBoostingRegressor
    return kind(random_state=seed % 2**32)


def _target(factor: Factor) -> np.ndarray:
    return factor.levels if factor.values is None else factor.values


def _by_regression(
    X: np.ndarray,
    factors: Sequence[Factor],
    is_fit: np.ndarray,
    penalty: Penalty,
    seed: int,
    penalties: np.ndarray | None,
) -> Importances:
    responses = [_responses(factor) for factor in factors]
    groups = np.repeat(np.arange(len(factors)), [each.shape[1] for each in responses])
    Y, fit = np.hstack(responses), X[is_fit]
    mean = Y[is_fit].mean(0)
    # the variances of all levels of a factor add up to 1, so that factors count equally
    scale = np.sqrt(np.bincount(groups, Y[is_fit].var(0))[groups])
    scale = np.where(scale > 0, scale, 1)
    target = (Y[is_fit] - mean) / scale
    if penalties is None:
        folds = draw_folds(len(fit), np.random.default_rng([seed, 2]))
        penalties = choose_penalties(fit, target, groups, folds, penalty)
    W = fit_weights(fit, target, penalties, penalty)
    at = np.cumsum([0, *(each.shape[1] for each in responses)])
    table = np.add.reduceat(np.abs(W), at[:-1], axis=1)
    scored = mean + X[~is_fit] @ W * scale
    parts = np.split(scored, at[1:-1], axis=1)
    predicted = [
        part[:, 0] if factor.values is not None else part.argmax(1) for factor, part in zip(factors, parts, strict=True)
    ]
    return Importances(table, predicted, penalties)


def _responses(factor: Factor) -> np.ndarray:
    """Return what a linear model predicts: a number, or which level it is, (stimulus, response)."""
    if factor.values is not None:
        return factor.values[:, None]
    return (factor.levels[:, None] == np.arange(len(factor.names))).astype(float)


class Readout(NamedTuple):
    """Predictions of one factor on the scored stimuli, from which scores of any of them are computed."""

    levels: np.ndarray  # (stimulus,) of the factor
    target: np.ndarray  # (stimulus,) its numbers; for labels, its levels
    X: np.ndarray  # (stimulus, item) codes of the scored stimuli
    predicted: np.ndarray  # (stimulus,) by the model of the importances
    is_right: np.ndarray | None  # (stimulus, item) by a classifier of each single item; None for numbers
    log_p: np.ndarray  # (stimulus, level) ln P(level) by logistic regression on all items
    frequencies: np.ndarray  # (level,) ln of the share of each level among the stimuli to fit on


def read_out(X: np.ndarray, factor: Factor, is_fit: np.ndarray, predicted: np.ndarray) -> Readout:
    """Return the predictions of a factor by each item, and by all items together."""
    y, n_levels = factor.levels[is_fit], len(factor.names)
    counts = np.bincount(y, minlength=n_levels)
    model = LogisticRegression(max_iter=1000).fit(X[is_fit], y)
    right = None
    if factor.values is None:
        W, b = _fit_svms(X[is_fit], y, n_levels)
        right = _levels_of_svms(X[~is_fit], W, b) == factor.levels[~is_fit][:, None]
    scores = model.decision_function(X[~is_fit])  # (stimulus, level), or those of the second of two levels
    # ln of a softmax, not of probabilities: these round to 0 where a stimulus is far from the boundary
    log_p = special.log_softmax(scores if scores.ndim == 2 else np.stack([np.zeros_like(scores), scores], 1), axis=1)
    levels, target = factor.levels[~is_fit], _target(factor)[~is_fit]
    return Readout(levels, target, X[~is_fit], predicted, right, log_p, np.log(counts / len(y)))


def held_out_scores(readouts: Sequence[Readout], rows: np.ndarray) -> dict[str, float]:
    """Return SAP, informativeness, explicitness and InfoE of some of the scored stimuli."""
    tables = np.stack([_by_item(each, rows) for each in readouts], axis=1)
    means = {
        "dci_informativeness": [_agreement(each, rows) for each in readouts],
        "explicitness": [_mean_auc(each.log_p[rows], each.levels[rows]) for each in readouts],
        "infoe": [_information_gain(each, rows) for each in readouts],
    }
    return {"sap": mean_gap(tables)} | {name: float(np.mean(each)) for name, each in means.items()}


def _by_item(readout: Readout, rows: np.ndarray) -> np.ndarray:
    """Return the accuracy of each item for labels, and its squared correlation with numbers."""
    if readout.is_right is not None:
        return readout.is_right[rows].mean(0)
    x, f = readout.X[rows], readout.target[rows]
    x, f = x - x.mean(0), f - f.mean()
    squares = (x**2).sum(0)
    return (f @ x) ** 2 / np.where(squares > 0, squares, 1) / (f @ f)


def _agreement(readout: Readout, rows: np.ndarray) -> float:
    """Return the accuracy for labels, R² for numbers."""
    f, predicted = readout.target[rows], readout.predicted[rows]
    if readout.is_right is not None:
        return float((predicted == f).mean())
    return float(1 - ((f - predicted) ** 2).sum() / ((f - f.mean()) ** 2).sum())


def _mean_auc(scores: np.ndarray, levels: np.ndarray) -> float:
    """Return the area under the ROC curve of each level against all others, averaged over levels that occur."""
    ranks = stats.rankdata(scores, axis=0)
    is_level = levels[:, None] == np.arange(scores.shape[1])
    n = is_level.sum(0)
    occurs = (n > 0) & (n < len(levels))
    # Mann and Whitney: U = Σ ranks − n(n+1)/2, over the number of pairs
    U = (ranks * is_level).sum(0) - n * (n + 1) / 2
    return float((U[occurs] / (n * (len(levels) - n))[occurs]).mean())


def _information_gain(readout: Readout, rows: np.ndarray) -> float:
    """Return (H(f) − H(f | codes)) / H(f), both in the scored stimuli by models of those to fit on."""
    levels = readout.levels[rows]
    without = -readout.frequencies[levels].mean()
    return float(1 + readout.log_p[rows, levels].mean() / without)


def _fit_svms(X: np.ndarray, y: np.ndarray, n_levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and intercepts (item, level) of linear support vector machines of single items, one against rest.

    Those of scikit-learn's `LinearSVC(C=0.01, class_weight="balanced")`: the intercept is penalised, and, with more
    than two levels, only stimuli of the level itself have the weight n / (n_levels · n of the level).
    """
    balance = len(y) / (n_levels * np.bincount(y, minlength=n_levels))
    if n_levels == 2:
        w, b = _solve_svms(X, y == 1, SVM_C * balance[1], SVM_C * balance[0])
        return np.stack([-w, w], 1), np.stack([-b, b], 1)
    solved = [_solve_svms(X, y == k, SVM_C * balance[k], SVM_C) for k in range(n_levels)]
    return np.stack([w for w, _ in solved], 1), np.stack([b for _, b in solved], 1)


def _levels_of_svms(X: np.ndarray, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the level with the largest margin for each stimulus and item."""
    best, level = np.full(X.shape, -np.inf), np.zeros(X.shape, int)
    for k in range(W.shape[1]):
        margin = X * W[:, k] + b[:, k]
        level[margin > best] = k
        np.maximum(best, margin, out=best)
    return level


@njit(nogil=True)
def _solve_svms(X: np.ndarray, is_level: np.ndarray, c_level: float, c_rest: float) -> tuple[np.ndarray, np.ndarray]:
    """Return w and b of each item that minimise ½(w² + b²) + Σ c max(0, 1 − y (w x + b))², by Newton's method."""
    n, n_items = X.shape
    slopes, intercepts = np.zeros(n_items), np.zeros(n_items)
    for i in range(n_items):
        w, b, before = 0.0, 0.0, np.inf
        dw, db, part = 0.0, 0.0, 1.0
        for _ in range(MAX_STEPS):
            # value, gradient and generalised Hessian: only stimuli within the margin count
            value, gw, gb = 0.5 * (w * w + b * b), w, b
            ww, wb, bb = 1.0, 0.0, 1.0
            for s in range(n):
                y, c = (1.0, c_level) if is_level[s] else (-1.0, c_rest)
                x = X[s, i]
                short = 1.0 - y * (w * x + b)
                if short > 0:
                    value += c * short * short
                    gw -= 2 * c * short * y * x
                    gb -= 2 * c * short * y
                    ww += 2 * c * x * x
                    wb += 2 * c * x
                    bb += 2 * c
            if value > before * (1 + 1e-14):  # too far: half of the last step is taken back
                part /= 2
                w, b = w - part * dw, b - part * db
                continue
            if gw * gw + gb * gb < STEP_TOLERANCE**2:
                break
            determinant = ww * bb - wb * wb
            dw, db, part, before = -(bb * gw - wb * gb) / determinant, -(ww * gb - wb * gw) / determinant, 1.0, value
            w, b = w + dw, b + db
        slopes[i], intercepts[i] = w, b
    return slopes, intercepts
