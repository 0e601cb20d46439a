import warnings

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from sklearn import decomposition
from sklearn.exceptions import ConvergenceWarning

from neurosuper.directions import recovery
from neurosuper.directions._solvers import nmf_starts
from neurosuper.directions.nmf import NMF


@pytest.fixture
def parts(make_responses, rng):
    """400 stimuli × 30 units made of 6 sparse parts, and the parts."""
    planted = rng.gamma(2, 1, (6, 30)) * (rng.random((6, 30)) < 0.3) + 1e-3
    codes = rng.exponential(1, (400, 6)) * (rng.random((400, 6)) < 0.5)
    planted /= np.linalg.norm(planted, axis=1, keepdims=True)
    R = make_responses((codes @ planted + 0.01 * rng.normal(size=(400, 30))).clip(min=0))
    return R, xr.DataArray(planted, dims=("direction", "unit"), coords={"unit": R.unit, "direction": np.arange(6)})


def squared_error(finder, R):
    return float(((R - finder.inverse_transform(finder.transform(R))) ** 2).sum())


def fitted_to_the_end(*args, **settings):
    return NMF(*args, **{"dtype": "float64", "tol": 1e-10, "max_iter": 5000} | settings)


@pytest.mark.parametrize("init", ["nndsvd", "random"])
def test_recovers_planted_parts(init, parts):
    R, planted = parts
    finder = NMF(6, init=init).fit(R)
    assert recovery(finder.directions_, planted).mean() > 0.95
    assert (finder.directions_ >= 0).all()
    assert (finder.transform(R) >= 0).all()


def test_signed_recovers_planted_directions_of_any_sign(make_responses, rng):
    planted = rng.normal(size=(5, 30))
    planted /= np.linalg.norm(planted, axis=1, keepdims=True)
    codes = rng.exponential(1, (600, 5)) * (rng.random((600, 5)) < 0.4)
    R = make_responses(codes @ planted + 0.01 * rng.normal(size=(600, 30)))
    planted = xr.DataArray(planted, dims=("direction", "unit"), coords={"unit": R.unit, "direction": np.arange(5)})
    finder = NMF(5, signed=True, l1_codes=1e-3, l2_directions=1e-3, tol=1e-6, max_iter=2000).fit(R)
    assert recovery(finder.directions_, planted).mean() > 0.95
    assert (finder.directions_ < 0).any()
    assert (finder.transform(R) >= 0).all()


def test_default_tolerance_finds_the_same_parts_in_any_order(v4, rng):
    """Parts of V4 turn slowly: at tol=1e-4 one differs by a cosine of 0.96."""
    R = v4[:600]
    once, again = (NMF(10).fit(responses) for responses in (R, R[rng.permutation(600)]))
    assert recovery(once.directions_, again.directions_).min() > 0.99


def test_loss_is_that_of_scikit_learn_and_torchnmf(superposition, rng):
    R = superposition[0].clip(min=0)
    ours = squared_error(NMF(12, tol=1e-5, max_iter=500).fit(R), R)
    theirs = decomposition.NMF(12, init="nndsvda", max_iter=500).fit(R.values).reconstruction_err_ ** 2
    assert ours < 1.005 * theirs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchnmf is of 2023
        torchnmf = pytest.importorskip("torchnmf.nmf")
    net = torchnmf.NMF(W=torch.tensor(rng.random((24, 12))), H=torch.tensor(rng.random((2000, 12))))
    net.fit(torch.tensor(R.values), beta=2, max_iter=500, tol=1e-6)
    assert ours < 1.01 * float(((torch.tensor(R.values) - net()) ** 2).sum().detach())


def test_multiplicative_updates_equal_scikit_learns_from_the_same_start(parts, rng):
    R = parts[0]
    start, level = rng.random((6, 30)), np.sqrt(R.values.mean() / 6)
    ours = NMF(6, solver="mu", init=start, max_iter=50, tol=None, dtype="float64").fit(R)
    weights = {"alpha_W": 0, "alpha_H": 0, "max_iter": 50, "tol": 0}
    W, H = np.full((400, 6), level), start.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W, H, _ = decomposition.non_negative_factorization(R.values, W, H, 6, init="custom", solver="mu", **weights)
    assert_allclose(ours.directions_, H / np.linalg.norm(H, axis=1, keepdims=True), rtol=1e-4, atol=1e-12)
    assert_allclose(ours.objective_, ((R.values - W @ H) ** 2).sum() / 2, rtol=1e-4)


@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.0), (0.0, 0.02), (0.01, 0.01)])
def test_penalised_objective_is_scikit_learns(l1, l2, parts):
    R = parts[0]
    ours = fitted_to_the_end(6, l1_codes=l1, l2_codes=l2, l1_directions=l1 / 2, l2_directions=l2 / 2).fit(R)
    alpha, ratio = l1 + l2, l1 / (l1 + l2)
    theirs = decomposition.NMF(
        6, init="nndsvda", alpha_W=alpha, alpha_H=alpha / 2, l1_ratio=ratio, tol=1e-8, max_iter=5000
    )
    W = theirs.fit_transform(R.values)
    assert_allclose(ours.objective_, penalised(R.values, W, theirs.components_, l1, l2), rtol=1e-3)
    Z, D = ours.transform(R).values / ours.lengths_.values, ours.directions_.values * ours.lengths_.values[:, None]
    assert_allclose(penalised(R.values, Z, D, l1, l2), ours.objective_, rtol=1e-6)


def penalised(X, Z, D, l1, l2):
    of_codes = X.shape[1] * (l1 * Z.sum() + l2 / 2 * (Z**2).sum())
    of_directions = X.shape[0] * (l1 * D.sum() + l2 / 2 * (D**2).sum()) / 2
    return ((X - Z @ D) ** 2).sum() / 2 + of_codes + of_directions


@pytest.mark.parametrize(("signed", "l2"), [(False, 0.0), (True, 0.01)])
def test_rests_where_the_conditions_of_a_minimum_hold(signed, l2, parts):
    R = parts[0] - (0.2 if signed else 0)
    finder = fitted_to_the_end(4, signed=signed, l2_codes=l2, l2_directions=l2, tol=1e-12).fit(R)
    lengths = finder.lengths_.values
    Z, D = finder.transform(R).values / lengths, finder.directions_.values * lengths[:, None]
    error = Z @ D - R.values
    of_codes, of_directions = error @ D.T + 30 * l2 * Z, Z.T @ error + 400 * l2 * D
    assert of_codes.min() > -1e-3
    assert_allclose(Z * of_codes, 0, atol=1e-3)
    assert_allclose(of_directions if signed else D * of_directions, 0, atol=1e-3)
    assert signed or of_directions.min() > -1e-3


@pytest.mark.parametrize("settings", [{}, {"signed": True}, {"solver": "mu"}], ids=repr)
def test_streamed_blocks_give_the_directions_of_one_array(settings, parts):
    R = parts[0]
    lazy = R.copy(data=da.from_array(R.values, chunks=(130, 7)))
    whole, streamed = (NMF(5, dtype="float64", max_iter=30, tol=None, **settings).fit(x) for x in (R, lazy))
    assert_allclose(streamed.directions_, whole.directions_, atol=1e-8)
    assert_allclose(streamed.transform(lazy).compute(), whole.transform(R), atol=1e-8)


def test_start_on_drawn_stimuli_leads_as_low(superposition, monkeypatch):
    R = superposition[0].clip(min=0)
    on_all = NMF(12, tol=1e-5, max_iter=500).fit(R)
    monkeypatch.setattr(nmf_starts, "SAMPLE", (400, 10))
    drawn = NMF(12, tol=1e-5, max_iter=500).fit(R)
    assert drawn.n_iter_ < on_all.n_iter_
    assert drawn.objective_ < 1.01 * on_all.objective_


def test_objective_falls_and_is_half_the_squared_error(parts):
    R = parts[0]
    finder = fitted_to_the_end(5).fit(R)
    assert finder.learning_curve_[-1] < finder.learning_curve_[0]
    assert_allclose(finder.objective_, squared_error(finder, R) / 2, rtol=1e-6)


def test_more_directions_than_units_and_stimuli_without_response(parts):
    R = parts[0].copy()
    R[:9] = 0
    finder = NMF("2x", max_iter=20, tol=None).fit(R)
    assert finder.directions_.shape == (60, 30)
    assert_allclose(np.linalg.norm(finder.directions_, axis=1), 1, rtol=1e-5)
    assert (finder.transform(R)[:9] == 0).all()


def test_dead_directions_start_again(parts):
    R = parts[0]
    start = np.random.default_rng(0).random((6, 30))
    start[3:] = -1 * (np.arange(30) == 1) - 1e-3  # no response is negative: no stimulus uses these
    finder = NMF(6, signed=True, init=start, max_iter=100, tol=None).fit(R)
    assert (finder.transform(R) > 0).any("stimulus").all()


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_directions_that_nothing_is_left_for_are_finite_and_of_unit_length(solver, make_responses, rng):
    R = make_responses(np.outer(rng.random(50), [1.0, 2.0, 3.0]))
    finder = NMF(3, solver=solver, max_iter=50, tol=None).fit(R)
    assert_allclose(np.linalg.norm(finder.directions_, axis=1), 1, rtol=1e-5)
    assert squared_error(finder, R) < 1e-3


def test_negative_responses_are_refused_by_name(responses):
    responses[3, 2] = -1
    with pytest.raises(ValueError, match="Negative values in data, in unit 'u002'; NMF takes them with signed=True"):
        NMF(3).fit(responses)
    assert NMF(3, signed=True, tol=None, max_iter=5).fit(responses).directions_.notnull().all()


@pytest.mark.parametrize(
    ("finder", "message"),
    [
        (NMF(3, solver="cd"), "solver must be 'hals', or 'mu' without signed, got 'cd'"),
        (NMF(3, solver="mu", signed=True), "solver must be 'hals', or 'mu' without signed"),
        (NMF(3, init="zeros"), "init must be 'nndsvd', 'random' or an array"),
        (NMF(3, init=np.eye(2, 8)), r"init gives directions of shape \(2, 8\), but 3 .*; set n_directions=2"),
        (NMF(2, init=-np.eye(2, 8)), "init must be finite directions"),
        (NMF(2, init=np.zeros((2, 8))), "none of them all zero"),
        (NMF(3, l1_codes=-1), "must be finite and not negative"),
        (NMF(3, l1_codes=0.1), "penalised together or not at all"),
        (NMF(3, l1_codes=0.1, l1_directions=0.1, signed=True), "use l2_directions with signed"),
    ],
)
def test_bad_settings_are_refused(finder, message, responses):
    with pytest.raises(ValueError, match=message):
        finder.fit(responses)
