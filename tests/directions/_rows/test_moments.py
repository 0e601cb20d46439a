"""Mean, scatter and whitening are those of numpy, at both scales and where it is hard."""

import dask.array as da
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import skew

from neurosuper.directions._rows import moments as module
from neurosuper.directions._rows.moments import centred_tiles, moments, skew_signs, whitening
from neurosuper.directions._rows.rows import Rows


def lazily(responses, rows):
    return responses.copy(data=da.from_array(responses.values, chunks=(rows, 3)))


@pytest.mark.parametrize("rows", [None, 7, 50])
def test_moments_are_those_of_numpy(rows, responses):
    blocks = Rows(responses if rows is None else lazily(responses, rows), "cpu", "float64")
    mean, scatter = moments(blocks)
    assert_allclose(mean, responses.mean("stimulus"))
    assert_allclose(scatter, 119 * np.cov(responses.values.T), rtol=1e-10)


@pytest.mark.parametrize("precise", [True, False])
def test_a_far_mean_costs_no_digits_in_single_precision(precise, rng, make_responses):
    R = make_responses(rng.normal(size=(3000, 900)).astype(np.float32) + np.float32(1000))
    _, scatter = moments(Rows(R, "cpu"), precise)
    expected = 2999 * np.cov(R.values.astype(float).T)
    assert_allclose(scatter, expected, atol=(1e-9 if precise else 1e-6) * np.abs(expected).max())


def test_moments_are_stored_until_better_ones_are_requested(rng, make_responses):
    rows = Rows(make_responses(rng.normal(size=(3000, 900)).astype(np.float32)), "cpu")
    rough, exact = moments(rows, precise=False)[1], moments(rows)[1]
    assert exact is not rough
    assert moments(rows, precise=False)[1] is exact


def test_tiles_are_the_centred_rows_in_order():
    X = torch.arange(3000 * 2000, dtype=torch.float32).reshape(3000, 2000)
    parts = [chunk.clone() for chunk in centred_tiles(X, X[1])]
    assert len(parts) > 1
    assert torch.equal(torch.cat(parts), X - X[1])


def covariance(variances, rng):
    basis = np.linalg.qr(rng.normal(size=(len(variances),) * 2))[0]
    return torch.from_numpy(basis * variances @ basis.T), basis


@pytest.mark.parametrize("lost", [0, 3], ids=["full", "deficient"])
@pytest.mark.parametrize("condition", [1.0, 1e5], ids=["well", "ill"])
def test_whitened_rows_have_identity_covariance_on_the_kept_space(lost, condition, rng):
    variances = np.geomspace(1, 1 / condition, 10) * (np.arange(10) < 10 - lost)
    C, basis = covariance(variances, rng)
    W = whitening(*torch.linalg.eigh(C), 1e-6)
    kept = basis[:, : 10 - lost]
    assert_allclose(W @ C @ W, kept @ kept.T, atol=1e-8)
    assert_allclose(W, W.T, atol=1e-9 * condition)


def test_rounding_is_not_amplified(rng):
    C, _ = covariance(np.array([1, 1, 1e-9]), rng)
    assert np.linalg.norm(whitening(*torch.linalg.eigh(C), 1e-6), 2) == pytest.approx(1)


def test_whitening_changes_units_least(responses):
    X = responses.values - responses.values.mean(0)
    W = whitening(*torch.linalg.eigh(torch.from_numpy(np.cov(X.T))), 1e-6).numpy()
    values, vectors = np.linalg.eigh(np.cov(X.T))
    rotated = X @ (vectors / np.sqrt(values))
    assert np.linalg.norm(X @ W - X) < np.linalg.norm(rotated - X)
    assert_allclose(np.cov((X @ W).T), np.eye(8), atol=1e-10)


@pytest.mark.parametrize("entries", [2**21, 60], ids=["one chunk", "many chunks"])
def test_signs_give_codes_positive_skewness_and_are_1_without_skewness(entries, rng, monkeypatch):
    """Also where the codes of the last rows are skewed to the other side."""
    monkeypatch.setitem(module.CENTRED_TILE_ENTRIES, "cpu", entries)
    monkeypatch.setattr(module, "MIN_CENTRED_ROWS", 1)
    X = rng.exponential(size=(200, 6)) * rng.choice([-1, 1], 6) + 3
    X[150:] = 2 * X.mean(0) - X[150:]
    D = rng.normal(size=(4, 6))
    signs = skew_signs(torch.as_tensor(X), torch.as_tensor(X.mean(0)), torch.as_tensor(D))
    assert signs.numpy().ravel().tolist() == np.sign(skew(X @ D.T)).tolist()
    assert {-1.0, 1.0} == set(signs.ravel().tolist())
    even = torch.tensor([[-1.0], [0.0], [1.0]])
    assert skew_signs(even, torch.zeros(1), torch.tensor([[1.0], [-1.0]])).tolist() == [[1], [1]]
