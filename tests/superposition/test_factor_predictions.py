"""Predictions of factors are those of scikit-learn's models, scored on stimuli that these have not seen."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.svm import LinearSVC

from neurosuper.superposition import factor_predictions as prediction
from neurosuper.superposition.factor_tables import Factor

N, IS_FIT = 240, np.arange(240) < 140
LEVELS = np.random.default_rng(0).integers(3, size=N)
NUMBERS = np.random.default_rng(1).normal(size=N)
RNG = np.random.default_rng(2)
Z = np.stack([LEVELS == 1, NUMBERS, LEVELS + NUMBERS, np.zeros(N)], 1) + 0.5 * RNG.normal(size=(N, 4))
X = prediction.zscored(Z, IS_FIT)
LABELS = Factor("object", LEVELS, ["a", "b", "c"], None)
POSE = Factor("pose", np.digitize(NUMBERS, [-1, 0, 1]), list("wxyz"), NUMBERS)
SCORED = np.arange(100)


def test_codes_are_scaled_by_the_stimuli_to_fit_on():
    assert_allclose(X[IS_FIT].mean(0), 0, atol=1e-12)
    assert_allclose(X[IS_FIT].std(0), 1)
    sparse = np.where(np.arange(N) < 200, 5.0, 9.0)[:, None]
    assert not prediction.zscored(sparse, IS_FIT).any()


@pytest.mark.parametrize("n_levels", [2, 3])
def test_support_vector_machines_are_those_of_scikit_learn(n_levels):
    y = LEVELS % n_levels
    W, b = prediction._fit_svms(X[IS_FIT], y[IS_FIT], n_levels)
    for i in range(4):
        model = LinearSVC(C=0.01, class_weight="balanced", tol=1e-12, max_iter=10**5).fit(
            X[IS_FIT, i : i + 1], y[IS_FIT]
        )
        assert_allclose(W[i] if n_levels > 2 else W[i, 1:], model.coef_[:, 0], atol=1e-6)
        assert_allclose(b[i] if n_levels > 2 else b[i, 1:], model.intercept_, atol=1e-6)
        chosen = prediction._levels_of_svms(X[~IS_FIT, i : i + 1], W[i : i + 1], b[i : i + 1])[:, 0]
        assert (chosen == model.predict(X[~IS_FIT, i : i + 1])).all()


def test_lasso_importances_are_the_absolute_weights_of_scikit_learn():
    found = prediction.importances(X, [LABELS, POSE], IS_FIT, "lasso", 0)
    shares = np.bincount(LEVELS[IS_FIT]) / IS_FIT.sum()
    scale = np.sqrt((shares * (1 - shares)).sum())
    fits = [Lasso(found.penalties[k], tol=1e-10).fit(X[IS_FIT], (k == LEVELS)[IS_FIT] / scale) for k in range(3)]
    assert_allclose(found.table[:, 0], sum(np.abs(fit.coef_) for fit in fits), atol=1e-6)
    level = np.argmax([fit.predict(X[~IS_FIT]) for fit in fits], axis=0)
    assert (found.predicted[0] == level).all()
    number = Lasso(found.penalties[3], tol=1e-10).fit(X[IS_FIT], NUMBERS[IS_FIT] / NUMBERS[IS_FIT].std())
    assert_allclose(found.table[:, 1], np.abs(number.coef_), atol=1e-6)
    assert_allclose(found.predicted[1], number.predict(X[~IS_FIT]) * NUMBERS[IS_FIT].std(), atol=1e-6)
    assert len(set(found.penalties[:3])) == 1


def test_ridge_importances_are_the_absolute_weights_of_scikit_learn():
    found = prediction.importances(X, [LABELS, POSE], IS_FIT, "ridge", 0)
    number = Ridge(found.penalties[3] * IS_FIT.sum()).fit(X[IS_FIT], NUMBERS[IS_FIT] / NUMBERS[IS_FIT].std())
    assert_allclose(found.table[:, 1], np.abs(number.coef_), rtol=1e-8)
    assert_allclose(found.predicted[1], number.predict(X[~IS_FIT]) * NUMBERS[IS_FIT].std(), rtol=1e-8)


def test_tree_importances_are_those_of_scikit_learn():
    found = prediction.importances(X, [LABELS, POSE], IS_FIT, "gbt", 5)
    for j, (kind, target) in enumerate([(GradientBoostingClassifier, LEVELS), (GradientBoostingRegressor, NUMBERS)]):
        model = kind(random_state=5).fit(X[IS_FIT], target[IS_FIT])
        assert_allclose(found.table[:, j], model.feature_importances_)
        assert_allclose(found.predicted[j], model.predict(X[~IS_FIT]))


@pytest.fixture(scope="module")
def readouts():
    predicted = [(LEVELS[~IS_FIT] + (np.arange(100) < 20)) % 3, NUMBERS[~IS_FIT] + 0.1]
    factors = (LABELS, POSE)
    return [prediction.read_out(X, f, IS_FIT, p) for f, p in zip(factors, predicted, strict=True)]


@pytest.mark.parametrize("rows", [SCORED, SCORED[::3]])
def test_held_out_scores_are_those_of_scikit_learn(readouts, rows):
    found = prediction.held_out_scores(readouts, rows)
    held, y = X[~IS_FIT][rows], LEVELS[~IS_FIT][rows]
    f, levels = NUMBERS[~IS_FIT][rows], POSE.levels[~IS_FIT][rows]
    auc, gain = [], []
    for own, truth in ((LEVELS, y), (POSE.levels, levels)):
        model = LogisticRegression(max_iter=1000).fit(X[IS_FIT], own[IS_FIT])
        p, k = model.predict_proba(held), len(model.classes_)
        auc.append(np.mean([roc_auc_score(truth == level, p[:, level]) for level in range(k)]))
        shares = np.tile(np.bincount(own[IS_FIT]) / IS_FIT.sum(), (len(rows), 1))
        without = log_loss(truth, shares, labels=range(k))
        gain.append((without - log_loss(truth, p, labels=range(k))) / without)
    assert_allclose(found["explicitness"], np.mean(auc))
    assert_allclose(found["infoe"], np.mean(gain))
    right = (readouts[0].predicted[rows] == y).mean()
    assert_allclose(found["dci_informativeness"], (right + r2_score(f, f + 0.1)) / 2)
    of_labels = np.sort(readouts[0].is_right[rows].mean(0))
    of_numbers = np.sort([np.corrcoef(z, f)[0, 1] ** 2 for z in held.T])
    assert_allclose(found["sap"], (of_labels[-1] - of_labels[-2] + of_numbers[-1] - of_numbers[-2]) / 2)


@pytest.mark.parametrize("n_levels", [2, 3])
def test_a_stimulus_far_from_the_boundary_has_a_small_probability_and_not_none(n_levels):
    factor = Factor("object", LEVELS % n_levels, list("abc")[:n_levels], None)
    far = X.copy()
    far[-1] *= 1e4
    log_p = prediction.read_out(far, factor, IS_FIT, factor.levels[~IS_FIT]).log_p
    model = LogisticRegression(max_iter=1000).fit(X[IS_FIT], factor.levels[IS_FIT])
    assert_allclose(log_p[:-1], model.predict_log_proba(X[~IS_FIT][:-1]), rtol=1e-9)
    assert -np.inf < log_p.min() < -1000
