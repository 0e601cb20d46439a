import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.linalg import polar
from scipy.optimize import linear_sum_assignment
from sklearn import decomposition
from sklearn.exceptions import ConvergenceWarning

from neurosuper.directions import ica
from neurosuper.directions.ica import ICA


@pytest.fixture
def mixed(rng, make_responses):
    """Five Laplace sources in eight units, and their mixing patterns `(source, unit)`."""
    patterns = rng.normal(size=(5, 8))
    return make_responses(rng.laplace(size=(4000, 5)) @ patterns + 3), patterns


def matched(similarity):
    """Return the similarities of the best one-to-one match."""
    return np.abs(similarity)[linear_sum_assignment(-np.abs(similarity))]


def correlation(a, b):
    return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]


def amari(P):
    """Return Amari's distance of a gain matrix to a scaled permutation, 0 to 1 (Amari, Cichocki and Yang 1996)."""
    P, n = np.abs(P), len(P)
    rows, columns = P.sum(1) / P.max(1) - 1, P.sum(0) / P.max(0) - 1
    return (rows.sum() + columns.sum()) / (2 * n * (n - 1))


@pytest.mark.parametrize("fun", ["logcosh", "exp"])
def test_equals_scikit_learn(fun, mixed):
    R, _ = mixed
    ours = ICA(5, contrast=fun, tol=1e-10, dtype="float64").fit_transform(R)
    theirs = decomposition.FastICA(5, fun=fun, whiten="unit-variance", w_init=np.eye(5), tol=1e-10, max_iter=1000)
    assert matched(correlation(ours.values, theirs.fit_transform(R.values))).min() > 1 - 1e-6


def test_equals_picard(mixed):
    picard = pytest.importorskip("picard").picard
    R, _ = mixed
    ours = ICA(5, tol=1e-10, dtype="float64").fit_transform(R)
    theirs = picard(R.values.T, n_components=5, w_init=np.eye(5), tol=1e-9, ortho=True, extended=True)[2]
    assert matched(correlation(ours.values, theirs.T)).min() > 1 - 1e-6


def test_unmixes_laplace_sources(mixed):
    R, patterns = mixed
    finder = ICA(5).fit(R)
    assert amari(patterns @ finder.filters_.values.T) < 0.05
    cosine = patterns @ finder.directions_.values.T / np.linalg.norm(patterns, axis=1)[:, None]
    assert matched(cosine).min() > 0.99


@pytest.mark.parametrize("fun", ["logcosh", "exp"])
def test_finds_sources_of_lighter_tails_than_a_gaussian(fun, rng, make_responses):
    patterns = rng.normal(size=(4, 6))
    sources = np.hstack([rng.uniform(-1, 1, (3000, 2)), rng.laplace(size=(3000, 2))])
    finder = ICA(4, contrast=fun).fit(make_responses(sources @ patterns))
    assert amari(patterns @ finder.filters_.values.T) < 0.05


def test_finds_planted_sparse_features(rng, make_responses):
    planted = rng.normal(size=(12, 24))
    planted /= np.linalg.norm(planted, axis=1, keepdims=True)
    features = rng.exponential(1.0, (5000, 12)) * (rng.random((5000, 12)) < 0.1)
    finder = ICA(12).fit(make_responses(features @ planted + 0.01 * rng.normal(size=(5000, 24))))
    cosine = planted @ finder.directions_.values.T
    assert matched(cosine).min() > 0.99
    assert np.abs(cosine).argmax(1).tolist() != list(range(12)), "directions are sorted by variance"
    assert (cosine[np.arange(12), np.abs(cosine).argmax(1)] > 0).all(), "features are positive, and so are their codes"


def test_codes_and_directions_give_back_the_principal_part(mixed):
    R, _ = mixed
    finder = ICA(3, dtype="float64").fit(R)
    principal = decomposition.PCA(3, svd_solver="full").fit(R.values)
    back = finder.inverse_transform(finder.transform(R))
    assert_allclose(back, principal.inverse_transform(principal.transform(R.values)), atol=1e-8)
    assert finder.explained_variance(R) == pytest.approx(principal.explained_variance_ratio_.sum())


def test_codes_are_uncorrelated_skewed_to_the_right_and_fall_in_variance(mixed):
    R, _ = mixed
    codes = ICA(dtype="float64", tol=1e-3).fit_transform(R[:, :5])
    covariance = np.cov(codes.values.T)
    variance = np.diag(covariance)
    assert_allclose(covariance, np.diag(variance), atol=1e-8)
    assert (np.diff(variance) <= 0).all()
    assert ((codes**3).mean("stimulus") > 0).all()


def contrast(codes):
    """Return E[log cosh z] − E[log cosh ν] of each direction's codes z, scaled to unit variance; ν standard normal."""
    at, weight = np.polynomial.hermite_e.hermegauss(200)
    gaussian = (weight * np.log(np.cosh(at))).sum() / weight.sum()
    return np.log(np.cosh(codes / codes.std("stimulus"))).mean("stimulus") - gaussian


def test_negentropy_and_objective_are_those_of_the_codes(mixed):
    R, _ = mixed
    finder = ICA(5, dtype="float64").fit(R)
    found = contrast(finder.transform(R))
    assert_allclose(finder.negentropy_, found**2, rtol=1e-6)
    assert finder.objective_ == pytest.approx(float(np.abs(found).sum()), rel=1e-6)
    assert (np.diff(finder.learning_curve_) > 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_objective_is_that_of_the_codes_where_a_source_is_gaussian(seed, v4):
    """With seed 0 the search meets a source as good as Gaussian, where MMᵀ is singular."""
    finder = ICA(10, random_state=seed).fit(v4)
    assert finder.objective_ == pytest.approx(float(np.abs(contrast(finder.transform(v4))).sum()), rel=1e-4)


def test_streamed_blocks_give_the_directions_of_one_array(mixed):
    R, _ = mixed
    whole = ICA(5, dtype="float64").fit(R)
    streamed = ICA(5, dtype="float64").fit(R.chunk(stimulus=777))
    for name in ("directions_", "filters_", "mean_", "negentropy_"):
        assert_allclose(getattr(streamed, name), getattr(whole, name), atol=1e-8)
    assert_allclose(streamed.learning_curve_, whole.learning_curve_)


def test_gaussian_responses_do_not_converge_and_say_so(rng, make_responses):
    R = make_responses(rng.normal(size=(300, 20)))
    with pytest.warns(ConvergenceWarning, match="ICA stopped after 10 iterations .* raise max_iter or tol"):
        finder = ICA(max_iter=10).fit(R)
    assert finder.n_iter_ == 10


def test_no_tolerance_runs_all_iterations(mixed):
    assert ICA(5, tol=None, max_iter=40).fit(mixed[0]).n_iter_ == 40


def test_far_mean_does_not_spoil_single_precision(mixed):
    R, _ = mixed
    near, far = ICA(5).fit(R), ICA(5).fit(R + 1000)
    assert_allclose(far.directions_, near.directions_, atol=5e-3)


def test_rank_limits_directions(mixed):
    R, _ = mixed
    assert ICA(dtype="float64").fit(R).directions_.sizes["direction"] == 5
    with pytest.raises(
        ValueError, match=r"cannot give 6 directions: .* vary along 5 \(.*\); ask for fewer, or use KMeans or Sp"
    ):
        ICA(6, dtype="float64").fit(R)


def test_more_units_than_stimuli(rng, make_responses):
    R = make_responses(rng.laplace(size=(40, 3)) @ rng.normal(size=(3, 60)))
    whole, streamed = (ICA(3, dtype="float64").fit(responses) for responses in (R, R.chunk(stimulus=9)))
    assert_allclose(whole.inverse_transform(whole.transform(R)), R, atol=1e-8)
    assert_allclose(streamed.directions_, whole.directions_, atol=1e-7)


def test_unknown_contrast_is_refused(mixed):
    with pytest.raises(ValueError, match="contrast must be 'logcosh' or 'exp', got 'cube'"):
        ICA(contrast="cube").fit(mixed[0])


@given(st.integers(1, 6), st.integers(0, 99))
def test_nearest_orthogonal_matrix_is_the_polar_factor(n, seed):
    M = np.random.default_rng(seed).normal(size=(n, n)) + 3 * np.eye(n)
    assert_allclose(ica.nearest_orthogonal(torch.tensor(M)), polar(M)[0], atol=1e-8)


@given(st.integers(2, 8), st.integers(1, 7), st.floats(0, 1e-5), st.integers(0, 99))
def test_nearest_orthogonal_matrix_is_orthogonal_where_a_source_is_gaussian(n, rank, size, seed):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(n, min(rank, n - 1))) @ rng.normal(size=(min(rank, n - 1), n)) + size * rng.normal(size=(n, n))
    W = ica.nearest_orthogonal(torch.tensor(M)).numpy()
    assert_allclose(W @ W.T, np.eye(n), atol=1e-12)
    assert_allclose(np.trace(W.T @ M), np.linalg.norm(M, "nuc"), rtol=1e-10)
