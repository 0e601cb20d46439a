"""Draws have the mean and covariance of the responses, whichever way the covariance is computed."""

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.preprocessing import normalize

from neurosuper.directions import CovarianceMatched, covariance_matched
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.spectrum import exact_spectrum
from neurosuper.directions.covariance_matched import draw_normal

N = 200_000  # draws: an entry of their covariance has a Monte Carlo error of at most √(2/N) = 0.3 % of a variance


def draws(responses, n=N):
    mean, spectrum = exact_spectrum(Rows(responses, "cpu", "float64"), None, center=True)
    return draw_normal(mean, spectrum, n, torch.Generator().manual_seed(0)).numpy()


@pytest.mark.parametrize("n_stimuli", [120, 6], ids=["more stimuli than units", "more units than stimuli"])
def test_draws_before_unit_length_have_mean_and_covariance_of_the_responses(n_stimuli, responses):
    R = responses[:n_stimuli]
    G, C = draws(R), np.cov(R.values.T)
    sd = np.sqrt(C.diagonal())
    # Standard errors of a mean, σ/√N, and of a covariance, √((σ_i² σ_j² + c_ij²) / N); 5 of them for 72 numbers.
    assert (np.abs(G.mean(0) - R.values.mean(0)) < 5 * sd / np.sqrt(N)).all()
    assert (np.abs(np.cov(G.T) - C) < 5 * np.sqrt((np.outer(sd, sd) ** 2 + C**2) / N)).all()


def test_draws_are_gaussian_along_any_axis(responses):
    z = draws(responses, 2000) @ np.random.default_rng(0).normal(size=8)
    assert stats.kstest((z - z.mean()) / z.std(), "norm").pvalue > 0.01


def test_directions_are_the_draws_of_the_prepared_responses_at_unit_length(responses):
    for center in (False, True):
        finder = CovarianceMatched(500, normalize=True, center=center, dtype="float64").fit(responses)
        X = responses.copy(data=normalize(responses.values))
        X = X - X.mean("stimulus") if center else X
        assert_allclose(finder.directions_, normalize(draws(X, 500)), atol=1e-9)


def test_mean_direction_is_shared_unless_responses_are_centred(responses):
    mean = normalize(normalize(responses.values).mean(0)[None])[0]
    for center, (low, high) in ((False, (0.7, 0.9)), (True, (-0.1, 0.1))):
        D = CovarianceMatched(2000, normalize=True, center=center).fit(responses).directions_
        assert low < np.mean(D.values @ mean) < high


def test_whitened_directions_are_uniform_on_the_sphere(responses):
    """The square of an entry of a random unit vector in 8 dimensions is Beta(1/2, 7/2)."""
    D = CovarianceMatched(1000, whiten=True).fit(responses).directions_.values
    assert stats.kstest(D[:, 3] ** 2, stats.beta(0.5, 3.5).cdf).pvalue > 0.01
    assert 0.45 < (D[:, 3] > 0).mean() < 0.55


def test_streamed_responses_of_more_units_than_stimuli_give_the_same_directions(make_responses, rng):
    R = make_responses(rng.gamma(2, 1, (10, 30)))
    lazy = R.copy(data=da.from_array(R.values, chunks=(4, 7)))
    whole, streamed = (CovarianceMatched("2x", dtype="float64").fit(r).directions_ for r in (R, lazy))
    assert_allclose(streamed, whole, atol=1e-6)


def test_by_default_there_are_as_many_draws_as_units_up_to_a_limit(responses, monkeypatch):
    monkeypatch.setattr(covariance_matched, "MANY", 5)
    n_units = responses.sizes["unit"]
    assert n_units > 5
    assert [CovarianceMatched(n).fit(responses).directions_.shape for n in (None, 7)] == [(5, n_units), (7, n_units)]
    monkeypatch.setattr(covariance_matched, "MANY", n_units + 1)
    assert CovarianceMatched().fit(responses).directions_.shape == (n_units, n_units)
