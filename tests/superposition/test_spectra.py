"""Spectra are those of scikit-learn and of the equations of cross-validated PCA, and find planted power laws."""

from itertools import permutations

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import special_ortho_group
from sklearn.decomposition import PCA

from neurosuper import split_repetitions
from neurosuper.superposition import spectrum
from neurosuper.superposition.spectra import _unbiased_ratio

SCALARS = ("alpha", "participation_ratio", "effective_rank")


def label(values):
    """Label responses (stimulus, repetition, unit) or (stimulus, unit)."""
    dims = ("stimulus", "repetition", "unit") if values.ndim == 3 else ("stimulus", "unit")
    names = {"stimulus": [f"s{i:03d}" for i in range(len(values))], "unit": [f"u{j}" for j in range(values.shape[-1])]}
    return xr.DataArray(values, names, dims)


def power_law(n_stimuli, n_units, noise, n_repetitions=2, seed=0, exact=True):
    """Return repeated responses whose signal has the variances 1, 1/2, 1/3, …, exactly or in expectation."""
    rng = np.random.default_rng(seed)
    k = min(n_stimuli - 1, n_units)
    axes, codes = np.linalg.qr(rng.normal(size=(n_units, k)))[0], rng.normal(size=(n_stimuli, k))
    if exact:
        codes = np.linalg.qr(codes - codes.mean(0))[0] * (n_stimuli - 1) ** 0.5
    signal = codes / np.arange(1, k + 1) ** 0.5 @ axes.T
    return label(signal[:, None] + noise * rng.normal(size=(n_stimuli, n_repetitions, n_units)))


def cross_validated(A, B):
    """Return Σ of the codes of two halves along the principal components of the first, as in Stringer et al. 2019."""
    components = PCA(svd_solver="full").fit(A).components_
    A, B = A - A.mean(0), B - B.mean(0)
    return np.array([(A @ u) @ (B @ u) for u in components])


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
@pytest.mark.parametrize("correlation", [False, True])
def test_pca_is_that_of_scikit_learn(rng, shape, correlation):
    X = rng.exponential(size=shape) * rng.uniform(0.1, 10, shape[1]) + 100
    scaled = X / X.std(0, ddof=1) if correlation else X
    expected = PCA(svd_solver="full").fit(scaled).explained_variance_[: min(shape[0] - 1, shape[1])]
    found = spectrum(label(X), fit=(1, 10), correlation=correlation, n_resamples=0)
    assert_allclose(found.variance, expected, rtol=1e-8, atol=1e-8 * expected[0])
    assert_allclose(found.participation_ratio, expected.sum() ** 2 / (expected**2).sum())
    share = expected / expected.sum()
    assert_allclose(found.effective_rank, np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize("shape", [(30, 2, 12), (12, 2, 30), (12, 3, 30), (30, 4, 12)])
def test_cross_validated_pca_is_that_of_its_equation_in_every_split(rng, shape):
    responses = label(rng.normal(size=(shape[0], 1, shape[2])) + 0.5 * rng.normal(size=shape) + 10)
    if shape[1] > 2:
        responses[0, 0] = np.nan  # a missing repetition
    halves = [split_repetitions(responses, random_state=5 + i) for i in range(3)]
    expected = np.mean([cross_validated(a.values, b.values) for a, b in halves], axis=0) / (shape[0] - 1)
    found = spectrum(responses, fit=(1, 10), n_splits=3, n_resamples=0, random_state=5)
    assert found.attrs["method"] == "cvpca"
    assert_allclose(found.variance, expected[: found.sizes["component"]], rtol=1e-8, atol=1e-10)


def test_centred_stimuli_give_the_spectrum_of_the_published_code(rng):
    """There, each stimulus's mean over neurons is subtracted: PCA is fitted on neurons as samples."""
    X = rng.normal(size=(12, 1, 30)) + 0.5 * rng.normal(size=(12, 2, 30))
    X -= X.mean(-1, keepdims=True)
    a, b = (half.values for half in split_repetitions(label(X), random_state=0))
    W, s, _ = np.linalg.svd(a, full_matrices=False)
    expected = [(a @ (a.T @ w) / t) @ (b @ (a.T @ w) / t) for w, t in zip(W.T, s, strict=True)]
    found = spectrum(label(X + rng.normal(size=(12, 2, 1))), center="stimulus", fit=(1, 9), n_splits=1, n_resamples=0)
    assert_allclose(found.variance, np.array(expected) / 11, rtol=1e-8)


def test_alpha_is_the_weighted_slope_in_logs(rng):
    found = spectrum(label(rng.normal(size=(80, 40)) / np.arange(1, 41)), fit=(3, 30), n_resamples=0)
    rank = np.arange(3, 31)
    slope = np.polyfit(np.log(rank), np.log(found.variance.values[2:30]), 1, w=rank**-0.5)[0]
    assert_allclose(found.alpha, -slope, rtol=1e-10)
    turned = label(special_ortho_group.rvs(40, random_state=rng))
    assert_allclose(spectrum(turned, n_resamples=0).alpha, 0, atol=1e-9)


def test_cross_validation_finds_a_planted_exponent_that_noise_hides_from_pca():
    responses = power_law(300, 500, 0.15)
    found = spectrum(responses, n_splits=2, n_resamples=10, stimulus_dim=4)
    single = spectrum(responses.isel(repetition=0), n_resamples=0)
    assert abs(found.alpha - 1) < 0.04
    assert found.alpha_low < 1 < found.alpha_high
    assert single.alpha < 0.85
    assert found.alpha_critical == 1.5
    assert found.attrs["fit"] == [11, 299]
    assert_allclose(found.variance.sum(), (1 / np.arange(1, 300)).sum(), rtol=0.02)


def test_even_variances_count_the_dimensions(rng):
    basis = np.linalg.qr(rng.normal(size=(30, 12)))[0]
    found = spectrum(label(rng.normal(size=(4000, 12)) @ basis.T), fit=(1, 12), n_resamples=0)
    assert_allclose([found.participation_ratio, found.effective_rank], 12, rtol=0.01)
    assert abs(found.alpha) < 0.1


def test_the_unbiased_sums_are_those_over_four_different_stimuli(rng):
    X = rng.exponential(size=(7, 1)) + 0.5 * rng.exponential(size=(7, 3))
    above, below = [], []
    for s, t, u, v in permutations(range(7), 4):
        first, second = np.outer(X[s] - X[t], X[s] - X[t]) / 2, np.outer(X[u] - X[v], X[u] - X[v]) / 2
        others = ~np.eye(3, dtype=bool)  # pairs of different units
        above.append(np.outer(first.diagonal(), second.diagonal())[others].sum())
        below.append((first * second)[others].sum())
    assert_allclose(_unbiased_ratio(X), np.sum(above) / np.sum(below))
    wide = np.hstack([X, X**2, X**0.5])
    assert_allclose(_unbiased_ratio(wide), _unbiased_ratio(wide[:, ::-1] + 5))


def test_few_stimuli_and_units_give_the_participation_ratio_of_all(rng):
    """Units are random combinations of 10 features: over all units, C_ij² is a tenth of C_ii C_jj on average."""
    found = [
        spectrum(label(rng.normal(size=(40, 10)) @ rng.normal(size=(10, 30))), fit=(1, 9), n_resamples=0, unbiased=each)
        for each in [False, True] * 30
    ]
    biased, unbiased = (np.array([each.participation_ratio for each in found[i::2]]) for i in (0, 1))
    assert biased.mean() < 7
    assert abs(unbiased.mean() - 10) < 3 * unbiased.std() / 30**0.5 + 0.3
    shared = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 12))
    both = spectrum(label(shared + rng.normal(size=(60, 12))), fit=(1, 9), n_resamples=10, unbiased=True)
    assert both.participation_ratio_low < both.participation_ratio < both.participation_ratio_high


def test_noise_alone_has_no_cross_validated_variance(rng):
    totals = [
        spectrum(label(rng.normal(size=(40, 2, 30))), fit=(1, 30), n_splits=1, n_resamples=0).variance.sum().item()
        for _ in range(40)
    ]
    assert abs(np.mean(totals)) < 2.5 * np.std(totals) / 40**0.5
    assert np.std(totals) < 5
    assert spectrum(label(rng.normal(size=(40, 30))), fit=(1, 30), n_resamples=0).variance.sum() > 20


def test_intervals_cover_what_other_stimuli_give():
    found = [
        spectrum(power_law(400, 15, 0.05, seed=seed, exact=False), fit=(1, 15), n_splits=2, n_resamples=10)
        for seed in range(20)
    ]
    for name in SCALARS:
        estimates = np.array([each[name] for each in found])
        covers = [bool(each[f"{name}_low"] < estimates.mean() < each[f"{name}_high"]) for each in found]
        assert np.mean(covers) >= 0.8
        assert_allclose([(each[f"{name}_low"] + each[f"{name}_high"]) / 2 for each in found], estimates)


def test_neither_order_nor_chunks_change_the_spectrum(rng):
    responses = label(rng.normal(size=(20, 1, 9)) + 0.3 * rng.normal(size=(20, 2, 9)))
    found = spectrum(responses, fit=(1, 9), n_resamples=0)
    order = rng.permutation(20)
    other = spectrum(responses[order, :, ::-1].chunk(stimulus=6), fit=(1, 9), n_resamples=0)
    for name in ("variance", *SCALARS):
        assert_allclose(other[name], found[name], rtol=1e-10)
    averaged = spectrum(responses, method="pca", fit=(1, 9), n_resamples=0)
    assert_allclose(averaged.variance, spectrum(responses.mean("repetition"), fit=(1, 9), n_resamples=0).variance)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "svd"}, "method must be one of 'auto', 'pca', 'cvpca'; got 'svd'"),
        ({"center": "both"}, "center must be one of 'unit', 'stimulus'; got 'both'"),
        ({"fit": 3}, r"fit must be the first and the last component, such as \(11, 500\); got 3"),
        ({"fit": (1, 4)}, "the last component of fit must be a whole number of at least 5, got 4"),
        ({"fit": (11, 500)}, r"a power law needs at least 5 components with variance from 11 to 500; 0 of 9 have any"),
        ({"n_resamples": 3}, r"n_resamples must be a whole number of at least 10 \(or 0 for no intervals\), got 3"),
        ({"stimulus_dim": 0}, "stimulus_dim must be above 0, got 0"),
        ({"unbiased": True, "center": "stimulus"}, "unbiased is for method='pca' with center='unit'"),
        ({"method": "cvpca"}, "cvpca needs the dim 'repetition', got"),
        ({"fit": (1, 9), "n_resamples": 10}, "the statistic of 5 of 10 stimuli is not finite; use more stimuli"),
    ],
)
def test_bad_settings_are_refused_in_one_line(rng, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        spectrum(label(rng.normal(size=(10, 12))), **settings)
    assert "\n" not in str(error.value)


def test_constant_units_cannot_be_scaled(rng):
    responses = label(np.column_stack([np.ones(20), rng.normal(size=(20, 8))]))
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u0'"):
        spectrum(responses, correlation=True, fit=(1, 8))
