"""Sparsified directions keep the largest weights, and are scored as a loop over them would."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import orthogonal_mp

from neurosuper import PCA, KMeans, interpretability_index, split_stimuli
from neurosuper.superposition import sparsify, sparsity_curve


@pytest.fixture(scope="module")
def clustered(label_world):
    """Clusters of stimuli that two of 12 units each make respond, on which distances depend; and noise."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 6, 240)
    values = rng.gamma(2, 0.3, (240, 12))
    for k in range(2):
        values[np.arange(240), 2 * features + k] += 4
    return label_world(values, features)


def test_the_largest_weights_are_kept_as_a_loop_keeps_them(rng):
    D = rng.normal(size=(5, 9))
    D[0, :4] = 0.5
    directions = xr.DataArray(D, {"direction": list("abcde"), "unit": list("ihgfedcba")}, ("direction", "unit"))
    kept = sparsify(directions, [1, 0.5, 3, 0.01])
    assert kept.n_units.values.tolist() == [9, 4, 3, 1]
    for part, n in zip(kept.values, [9, 4, 3, 1], strict=True):
        for row, sparse in zip(D, part, strict=True):
            order = sorted(range(9), key=lambda u: (-abs(row[u]), directions.unit.values[u]))
            assert_array_equal(np.flatnonzero(sparse), sorted(order[:n]))
            assert_array_equal(sparse[order[:n]], row[order[:n]])
    shuffled = rng.permutation(9)
    assert sparsify(directions[:, shuffled], [3]).sel(unit=directions.unit).equals(kept.sel(keep=[3]))


def test_each_number_is_that_of_a_loop_over_directions(clustered):
    responses, images, metric = clustered
    responses = split_stimuli(responses, random_state=1)
    curve = sparsity_curve(KMeans(6, normalize=False), responses, images, metric, keep=[1, 0.25], n_resamples=10)
    fit, score = (responses[responses.split == part] for part in ("fit", "score"))
    fitted = KMeans(6, normalize=False).fit(fit)
    D, C, R = fitted.directions_.values, fitted.centers_.values, score.values
    nearest = ((R[:, None] - C) ** 2).sum(2).argmin(1)
    for keep, n in ((1, 12), (0.25, 3)):
        part = curve.sel(keep=keep)
        W, pursued, sparse_centers = np.zeros_like(D), np.zeros_like(D), np.zeros_like(C)
        for row in range(6):
            best = np.argsort(-np.abs(D[row]))[:n]
            W[row, best], sparse_centers[row, best] = D[row, best], C[row, best]
            centred = (fit.values - fit.values.mean(0)).astype(float)
            lengths = np.linalg.norm(centred, axis=0)
            pursued[row] = orthogonal_mp(centred / lengths, centred @ D[row], n_nonzero_coefs=n) / lengths
        codes = xr.DataArray(R @ W.T, {"stimulus": score.stimulus, "direction": fitted.directions_.direction})
        expected = interpretability_index(codes, images, metric).values
        assert_allclose(part.interpretability, expected, atol=1e-6)
        assert_allclose(part["mean"], expected.mean(), atol=1e-6)
        by_omp = interpretability_index(codes.copy(data=R @ pursued.T), images, metric).values
        assert_allclose(part.interpretability_omp, by_omp, atol=1e-6)
        assert_allclose(part.omp_gain, by_omp.mean() - expected.mean(), atol=1e-6)
        cosine = (W * D).sum(1) / np.linalg.norm(W, axis=1) / np.linalg.norm(D, axis=1)
        assert_allclose(part.cosine, cosine, rtol=1e-6)
        assert part.same_cluster == (((R[:, None] - sparse_centers) ** 2).sum(2).argmin(1) == nearest).mean()
    assert (curve.change.sel(keep=1), curve.change_low.sel(keep=1)) == (0, 0)
    assert np.isnan(curve.p_value.sel(keep=1))  # no units are left to compare with


def test_two_units_are_enough_where_two_drive_a_cluster_and_random_ones_are_not(clustered):
    curve = sparsity_curve(KMeans(6), *clustered, keep=[1, 2], n_resamples=50)
    two = curve.sel(keep=2)
    assert two.same_cluster > 0.95
    assert two.above_random > 0.15
    assert two.above_random_low > 0
    assert two.p_value < 0.01
    assert abs(two.change) < 0.05
    assert (curve.interpretability_random.sel(keep=1) == curve.interpretability.sel(keep=1)).all()


def test_units_without_a_direction_to_find_score_like_random_units(label_world):
    p_values = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        world = label_world(rng.normal(size=(120, 10)), rng.integers(0, 6, 120))
        p_values.append(sparsity_curve(PCA(5), *world, keep=0.2, n_resamples=10, random_state=seed).p_value.item())
    assert np.mean(np.array(p_values) < 0.05) < 0.3
    assert np.median(p_values) > 0.1


def test_order_and_dask_do_not_matter(clustered):
    responses, images, metric = clustered
    responses = split_stimuli(responses)
    first = sparsity_curve(PCA(3), responses, images, metric, keep=0.3, n_resamples=10)
    lazy = sparsity_curve(PCA(3), responses.chunk(stimulus=50), images, metric, keep=0.3, n_resamples=10)
    xr.testing.assert_allclose(first, lazy)
    turned = sparsity_curve(PCA(3), responses[::-1, ::-1], images[::-1], metric, keep=0.3, n_resamples=10)
    xr.testing.assert_allclose(turned, first)


def test_bad_input_is_refused_with_a_reason(clustered):
    responses, images, metric = clustered
    D = xr.DataArray(np.eye(3), {"direction": list("abc"), "unit": list("xyz")}, ("direction", "unit"))
    for wrong in (0, -1, 4, 1.5, True, "all"):
        with pytest.raises(ValueError, match=r"^keep must be shares of the units, above 0 and at most 1, or numbers o"):
            sparsify(D, [wrong])
    with pytest.raises(ValueError, match=r"^keep must be at least one number and no duplicates, got \[1, 1\]$"):
        sparsify(D, [1, 1])
    with pytest.raises(ValueError, match="top must be a whole number from 2 to 60, half of the 120 stimuli to score"):
        sparsity_curve(KMeans(2), responses, images, metric, top=61)
