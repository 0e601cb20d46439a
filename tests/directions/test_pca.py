import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import subspace_angles
from sklearn import decomposition

from neurosuper.directions import PCA


@pytest.mark.parametrize("n_stimuli", [120, 5], ids=["tall", "wide"])
def test_equals_scikit_learn(n_stimuli, responses):
    R = responses[:n_stimuli]
    n = min(R.shape) - (n_stimuli == 5)
    ours = PCA(n, dtype="float64").fit(R)
    theirs = decomposition.PCA(n, svd_solver="full").fit(R.values)
    assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-8)
    assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-8)
    assert_allclose(ours.mean_, theirs.mean_)
    assert_allclose(np.abs(ours.directions_.values @ theirs.components_.T), np.eye(n), atol=1e-6)


def test_finds_a_planted_subspace(rng, make_responses):
    basis = np.linalg.qr(rng.normal(size=(30, 3)))[0]
    R = make_responses(rng.normal(size=(500, 3)) * [9, 6, 4] @ basis.T + 1e-3 * rng.normal(size=(500, 30)))
    assert subspace_angles(PCA(3).fit(R).directions_.values.T, basis).max() < 1e-3


def test_far_mean_does_not_spoil_single_precision(responses):
    near, far = PCA().fit(responses), PCA().fit(responses + 1000)
    assert_allclose(far.explained_variance_, near.explained_variance_, rtol=1e-3)


def test_complete_directions_give_the_responses_back(responses):
    finder = PCA(dtype="float64").fit(responses)
    assert_allclose(finder.inverse_transform(finder.transform(responses)), responses)


def test_directions_without_variance_are_left_out(responses):
    redundant = responses.copy()
    redundant[:, 7] = redundant[:, 0] + redundant[:, 1]
    assert PCA().fit(redundant).directions_.sizes["direction"] == 7
    assert PCA().fit(responses[:5]).directions_.sizes["direction"] == 4
    with pytest.raises(ValueError, match="vary along 7 directions"):
        PCA(8).fit(redundant)


def test_more_units_than_stimuli_are_not_streamed(responses):
    lazy = responses[:5].chunk(stimulus=2)
    with pytest.raises(ValueError, match=r"streams only where stimuli .*compute\(\) first, or use Random or KMeans"):
        PCA().fit(lazy)


def test_more_directions_than_there_can_be_are_refused(responses):
    with pytest.raises(ValueError, match=r"vary along 8 directions .*, not 16; .* KMeans"):
        PCA("2x").fit(responses)
