"""Procrustes similarity is that of singular values, its rotation is SciPy's, and chance is learned on other stimuli."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.linalg import orthogonal_procrustes, svdvals

from neurosuper.comparison import procrustes

FAST = {"n_permutations": 19, "n_resamples": 0}


def system(values) -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:03d}" for i in range(len(values))],
        "unit": [f"u{i}" for i in range(values.shape[1])],
    }
    return xr.DataArray(values, coords, ("stimulus", "unit"))


def centred(X):
    return X - X.mean(axis=0)


@pytest.mark.parametrize("q", [3, 5, 8])  # fewer items than 5, as many, more
def test_on_all_stimuli_it_is_the_sum_of_singular_values(q):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(30, 5)), rng.normal(size=(30, q))
    found = procrustes(system(A), system(B), score_on="all", **FAST)
    A, B = centred(A), centred(B)
    expected = svdvals(A.T @ B).sum() / np.linalg.norm(A) / np.linalg.norm(B)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-8)
    np.testing.assert_allclose(found.angle, np.arccos(expected), rtol=1e-8)


def test_the_rotation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    A, B = centred(rng.normal(size=(30, 5))), centred(rng.normal(size=(30, 5)))
    Q, _ = orthogonal_procrustes(A, B)
    expected = ((A @ Q) * B).sum() / np.linalg.norm(A) / np.linalg.norm(B)
    np.testing.assert_allclose(procrustes(system(A), system(B), score_on="all", **FAST).estimate, expected, rtol=1e-8)


def test_whitened_it_is_the_mean_canonical_correlation():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(50, 4))
    B = A @ rng.normal(size=(4, 4)) + rng.normal(size=(50, 4))
    found = procrustes(system(A), system(B), alpha=0, score_on="all", **FAST)
    orthonormal = [np.linalg.qr(centred(X))[0] for X in (A, B)]
    np.testing.assert_allclose(found.estimate, svdvals(orthonormal[0].T @ orthonormal[1]).mean(), rtol=1e-8)


@pytest.mark.parametrize("alpha", [0, 0.5, 1])
def test_a_rotated_system_scores_one_on_other_stimuli(alpha):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(60, 4)) * [1, 2, 3, 4]
    B = A @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    found = procrustes(system(A), system(B), alpha=alpha, n_permutations=99, n_resamples=10)
    np.testing.assert_allclose(found.estimate, 1)
    assert found.p_value == 0.01


def test_independent_systems_score_zero_only_on_other_stimuli():
    rng = np.random.default_rng(0)
    pairs = [[system(rng.normal(size=(40, 30))) for _ in range(2)] for _ in range(25)]
    held_out = np.array([procrustes(a, b, **FAST).estimate.item() for a, b in pairs])
    assert abs(held_out.mean()) < 2.5 * held_out.std() / np.sqrt(25)
    assert procrustes(*pairs[0], score_on="all", **FAST).estimate > 0.6


def test_rotations_are_the_same_where_divide_and_conquer_fails(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(60, 4))), system(rng.normal(size=(60, 5)))
    expected = procrustes(a, b, **FAST).estimate

    def fails(*_, **__):
        raise np.linalg.LinAlgError("SVD did not converge")

    monkeypatch.setattr(np.linalg, "svd", fails)
    np.testing.assert_allclose(procrustes(a, b, **FAST).estimate, expected, rtol=1e-9)


def test_p_is_uniform():
    rng = np.random.default_rng(0)
    p = [procrustes(*(system(rng.normal(size=(30, 4))) for _ in range(2)), **FAST).p_value.item() for _ in range(120)]
    assert stats.kstest(np.array(p) - rng.uniform(0, 0.05, 120), "uniform").pvalue > 0.01


def test_the_order_of_stimuli_is_irrelevant_and_groups_stay_in_a_fold():
    rng = np.random.default_rng(0)
    bursts = np.repeat(np.arange(12), 4)
    a = system(rng.normal(size=(48, 4))).assign_coords(burst=("stimulus", bursts))
    b = system(rng.normal(size=(48, 4)) + a.values)
    order = rng.permutation(48)
    for settings in ({}, {"stimulus_groups": "burst"}):
        expected = procrustes(a, b, **settings, **FAST).estimate
        np.testing.assert_allclose(procrustes(a[order], b, **settings, **FAST).estimate, expected)
    # stimuli of a burst are copies: other folds know them unless bursts are whole
    copies = [system(rng.normal(size=(12, 20))[bursts] + 1e-3 * rng.normal(size=(48, 20))) for _ in range(2)]
    copies[0] = copies[0].assign_coords(burst=("stimulus", bursts))
    assert procrustes(*copies, **FAST).estimate > 0.5
    assert procrustes(*copies, stimulus_groups="burst", **FAST).estimate < 0.3


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(40, 4))), system(rng.normal(size=(40, 5)))
    with pytest.raises(ValueError, match="alpha must be from 0"):
        procrustes(a, b, alpha=2)
    with pytest.raises(ValueError, match="score_on must be one of 'held-out', 'all'"):
        procrustes(a, b, score_on="score")
    with pytest.raises(ValueError, match="40 common stimuli are too few; use at least 60"):
        procrustes(a, b, n_folds=10)
    with pytest.raises(ValueError, match=r"call neurosuper\.average_repetitions"):
        procrustes(a.expand_dims("repetition", axis=1).astype(float), b)
    groups = a.assign_coords(burst=("stimulus", np.arange(40) // 10))
    with pytest.raises(ValueError, match="4 stimulus groups are too few for 5 folds"):
        procrustes(groups, b, stimulus_groups="burst", **FAST)
