"""Predictions are those of scikit-learn's ridge, reach the ceiling of planted responses, and do not leak."""

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import PredefinedSplit

from neurosuper.comparison import encode
from neurosuper.comparison.shared_stimuli import number_folds


def system(values, prefix: str = "u") -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"{prefix}{i}" for i in range(values.shape[-1])],
    }
    return xr.DataArray(
        values, coords, ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    )


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6)) * [1, 2, 3, 4, 5, 6] + 3
    return X, X @ rng.normal(size=(6, 4)) + 5 * rng.normal(size=(120, 4)) + 10


@pytest.mark.parametrize("n_features", [6, 130])  # fewer than stimuli; more, in products of stimuli
def test_predictions_are_those_of_scikit_learn(linear, n_features):
    X, Y = linear
    X = np.hstack([X, np.random.default_rng(1).normal(size=(120, n_features - 6))])
    alphas = [1.0, 100.0]
    found = encode(system(X), system(Y), alphas=alphas, n_folds=3)
    fold = number_folds(system(Y), None, 3, 0)
    r, errors, variance, chosen = [], 0, 0, []
    for k in range(3):
        fit = fold != k
        Z = (X - X[fit].mean(0)) / X[fit].std(0)
        inner = PredefinedSplit(number_folds(system(Y)[fit], None, 3, 1))
        y = Y - Y[fit].mean(0)
        models = [
            RidgeCV(alphas, fit_intercept=False, cv=inner, scoring="neg_mean_squared_error").fit(Z[fit], y[fit][:, u])
            for u in range(4)
        ]
        best = [model.alpha_ for model in models]
        predicted = np.stack(
            [Ridge(a, fit_intercept=False).fit(Z[fit], y[fit][:, u]).predict(Z[~fit]) for u, a in enumerate(best)], 1
        )
        r.append([np.corrcoef(predicted[:, u], Y[~fit][:, u])[0, 1] for u in range(4)])
        errors = errors + ((y[~fit] - predicted) ** 2).sum(0)
        variance = variance + (y[~fit] ** 2).sum(0)
        chosen.append(np.log(best))
    np.testing.assert_allclose(found.r, np.mean(r, 0), rtol=1e-6)
    np.testing.assert_allclose(found.r2, 1 - errors / variance, rtol=1e-6)
    np.testing.assert_allclose(found.alpha, np.exp(np.mean(chosen, 0)))


def test_planted_responses_are_predicted_up_to_their_ceiling():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8))
    signal = X @ rng.normal(size=(8, 5)) / np.sqrt(8)
    Y = system(signal[:, None] + 1.5 * rng.normal(size=(400, 4, 5)))
    found = encode(system(X), Y)
    assert abs(found.r_ceiled.mean() - 1) < 0.05
    assert (found.r < 0.9).all()
    assert (found.ceiling < 0.95).all()
    noise = encode(system(rng.normal(size=(400, 8))), Y)
    assert (abs(noise.r) < 0.15).all()
    assert (noise.r2 < 0.02).all()


def test_bands_share_what_they_explain():
    rng = np.random.default_rng(0)
    first, second, third = (rng.normal(size=(150, 4)) for _ in range(3))
    Y = np.stack([first.sum(1), second.sum(1), first.sum(1) + second.sum(1)], 1)
    bands = {"first": system(first), "second": system(second), "third": system(third)}
    found = encode(bands, system(Y + 0.5 * rng.normal(size=Y.shape)), alphas=np.logspace(-1, 3, 5), n_folds=3)
    shares = found.r2_of_band.transpose("unit", "band").values
    np.testing.assert_allclose(shares[0], [0.95, 0, 0], atol=0.08)
    np.testing.assert_allclose(shares[1], [0, 0.95, 0], atol=0.08)
    np.testing.assert_allclose(shares[2], [0.49, 0.49, 0], atol=0.12)
    np.testing.assert_allclose(shares.sum(1), found.r2, rtol=1e-6)
    assert found.band.values.tolist() == list(bands)


def test_copies_under_other_labels_leak_unless_their_group_is_whole():
    rng = np.random.default_rng(0)
    burst = np.repeat(np.arange(30), 4)
    X, Y = rng.normal(size=(30, 60))[burst], rng.normal(size=(30, 3))[burst]
    Y = system(Y + 0.1 * rng.normal(size=Y.shape)).assign_coords(burst=("stimulus", burst))
    X = system(X + 0.01 * rng.normal(size=X.shape))
    assert (encode(X, Y).r > 0.8).all()
    assert (abs(encode(X, Y, stimulus_groups="burst").r) < 0.5).all()
    content = [f"{i:032x}" for i in burst]
    with pytest.raises(ValueError, match="show the same photograph; average over copies first"):
        encode(X, Y.assign_coords(content=("stimulus", content)))


def test_order_of_stimuli_is_irrelevant_and_coords_of_units_stay(linear):
    X, Y = map(system, linear)
    Y = Y.assign_coords(area=("unit", ["V4"] * 4))
    order = np.random.default_rng(0).permutation(120)
    found = encode(X, Y)
    xr.testing.assert_allclose(encode(X[order], Y[order]), found)
    assert found.area.values.tolist() == ["V4"] * 4


def test_bad_input_is_named(linear):
    X, Y = map(system, linear)
    with pytest.raises(ValueError, match="12 common stimuli are too few; use at least 20"):
        encode(X[:12], Y[:12])
    with pytest.raises(ValueError, match="no stimulus label in common"):
        encode(X, Y.assign_coords(stimulus=Y.stimulus.str.upper()))
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u1'"):
        encode(X.where(X.unit != "u1", 3.0), Y)
    with pytest.raises(ValueError, match="alphas must be penalties above 0"):
        encode(X, Y, alphas=[0, 1])
    with pytest.raises(ValueError, match="features is an empty dict"):
        encode({}, Y)
    with pytest.raises(ValueError, match="features have repetitions"):
        encode(X.expand_dims("repetition", axis=1), Y)
    with pytest.raises(ValueError, match="NaN or infinite values in unit 'u1'"):
        encode(X.where(X.unit != "u1"), Y)


def test_the_missing_package_is_named(linear, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "himalaya", None)
    with pytest.raises(ImportError, match=r"himalaya is not installed; run: pip install 'neurosuper\[encoding\]'"):
        encode(*map(system, linear))


def test_codes_keep_the_labels_and_the_name_of_their_items():
    rng = np.random.default_rng(0)
    names = np.arange(60).astype(str)
    x = rng.normal(size=(60, 4))
    features = xr.DataArray(x, {"stimulus": names, "unit": list("abcd")}, ("stimulus", "unit"))
    repeated = (x @ rng.normal(size=(4, 3)))[:, None] + 0.1 * rng.normal(size=(60, 2, 3))
    codes = xr.DataArray(
        repeated, {"stimulus": names, "direction": list("uvw")}, ("stimulus", "repetition", "direction")
    )
    units = encode(features, codes.rename(direction="unit"), alphas=[1.0], n_folds=2)
    xr.testing.assert_identical(encode(features, codes, alphas=[1.0], n_folds=2), units.rename(unit="direction"))
    assert units.unit.values.tolist() == list("uvw")
