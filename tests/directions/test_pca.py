import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import subspace_angles
from sklearn import decomposition
from sklearn.base import clone

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
    with pytest.raises(ValueError, match="PCA cannot give 8 directions: these responses vary along 7 "):
        PCA(8).fit(redundant)


def lazily(responses, rows):
    return responses.copy(data=da.from_array(responses.values, chunks=(rows, -1)))


def decaying(rng, make_responses, shape, rank=30):
    """Responses of falling variance, whose mean is far."""
    n_stimuli, n_units = shape
    scores = rng.normal(size=(n_stimuli, rank)) * 0.8 ** np.arange(rank)
    return make_responses(scores @ rng.normal(size=(rank, n_units)) + 0.05 * rng.normal(size=shape) + 3)


@pytest.mark.parametrize("shape", [(5, 8), (200, 30)], ids=["wide", "tall"])
def test_blocks_that_are_streamed_give_what_scikit_learn_gives(shape, rng, make_responses):
    R = decaying(rng, make_responses, shape)
    n = min(shape) - 1
    ours = PCA(n, dtype="float64").fit(lazily(R, 3 if shape[0] == 5 else 30))
    theirs = decomposition.PCA(n, svd_solver="full").fit(R.values)
    assert_allclose(ours.explained_variance_, theirs.explained_variance_, rtol=1e-8)
    assert_allclose(np.abs(ours.directions_.values @ theirs.components_.T), np.eye(n), atol=1e-6)


@pytest.mark.parametrize("shape", [(600, 80), (80, 600)], ids=["tall", "wide"])
@pytest.mark.parametrize("rows", [None, 41], ids=["whole", "streamed"])
def test_randomized_finds_what_is_exact_where_the_spectrum_falls(shape, rows, rng, make_responses):
    R = decaying(rng, make_responses, shape)
    fitted = PCA(5, solver="randomized", dtype="float64").fit(R if rows is None else lazily(R, rows))
    theirs = decomposition.PCA(5, svd_solver="full").fit(R.values)
    assert subspace_angles(fitted.directions_.values.T, theirs.components_.T).max() < 1e-3
    assert_allclose(fitted.explained_variance_, theirs.explained_variance_, rtol=1e-5)
    assert_allclose(fitted.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-5)
    assert_allclose(fitted.directions_.values @ fitted.directions_.values.T, np.eye(5), atol=1e-10)


def test_randomized_with_all_directions_is_exact(responses):
    fitted = PCA(solver="randomized", dtype="float64").fit(responses)
    theirs = decomposition.PCA(svd_solver="full").fit(responses.values)
    assert_allclose(fitted.explained_variance_, theirs.explained_variance_, rtol=1e-8)


def test_randomized_streamed_is_randomized_whole(rng, make_responses):
    R = decaying(rng, make_responses, (150, 200))
    finder = PCA(4, solver="randomized", dtype="float64")
    whole, streamed = clone(finder).fit(R).directions_, clone(finder).fit(lazily(R, 40)).directions_
    assert_allclose(streamed, whole, atol=1e-8)


def test_seeds_matter_only_to_the_randomized_solver(rng, make_responses):
    R = decaying(rng, make_responses, (150, 200), rank=150)
    one, same, other = (PCA(4, solver="randomized", random_state=seed).fit(R).directions_ for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()
    assert (PCA(4, random_state=0).fit(R).directions_ == PCA(4, random_state=1).fit(R).directions_).all()


@pytest.mark.parametrize("shape", [(2100, 1050), (1050, 2100)], ids=["tall", "wide"])
@pytest.mark.parametrize("n", [4, 100], ids=["randomized", "exact"])
def test_large_responses_in_single_precision(shape, n, rng, make_responses):
    R = decaying(rng, make_responses, shape, rank=150).astype(np.float32)
    fitted = PCA(n).fit(R)
    theirs = decomposition.PCA(n, svd_solver="full").fit(R.values.astype(float))
    assert_allclose(fitted.explained_variance_, theirs.explained_variance_, rtol=1e-4)
    assert_allclose(fitted.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-4)
    assert_allclose(fitted.directions_.values @ fitted.directions_.values.T, np.eye(n), atol=1e-5)


@pytest.mark.parametrize("n", [20, 100], ids=["randomized", "exact"])
def test_rank_of_large_responses_is_exact_in_single_precision(n, rng, make_responses):
    values = rng.normal(size=(2500, 15)) @ rng.normal(size=(15, 1200))
    with pytest.raises(ValueError, match="responses vary along [0-9]+ "):
        PCA(n, dtype="float64").fit(make_responses(values))
    weak = values[:, :1] * rng.normal(size=1200) + 1e-3 * rng.normal(size=(2500, 1200))
    fitted = PCA(n).fit(make_responses(weak.astype(np.float32)))
    theirs = decomposition.PCA(n, svd_solver="covariance_eigh").fit(weak)
    assert_allclose(fitted.explained_variance_, theirs.explained_variance_, rtol=1e-4)


@pytest.mark.parametrize("solver", ["exact", "randomized"])
@pytest.mark.parametrize("n_stimuli", [120, 6], ids=["tall", "wide"])
def test_without_centring_directions_are_of_the_second_moment(solver, n_stimuli, responses):
    R = responses[:n_stimuli]
    fitted = PCA(3, center=False, solver=solver, dtype="float64").fit(R)
    singular, theirs = np.linalg.svd(R.values, full_matrices=False)[1:]
    assert_allclose(np.abs(fitted.directions_.values @ theirs[:3].T), np.eye(3), atol=1e-6)
    assert_allclose(fitted.explained_variance_, singular[:3] ** 2 / (n_stimuli - 1))
    assert_allclose(fitted.explained_variance_ratio_, singular[:3] ** 2 / (singular**2).sum())
    assert (fitted.mean_ == 0).all()


@pytest.mark.parametrize("n", [None, 3], ids=["rank", "some"])
def test_streamed_exact_pca_passes_over_the_blocks_once(n, responses):
    reads = []
    blocks = lazily(responses, 40).data.map_blocks(lambda block: reads.append(0) or block, meta=np.empty((0, 0)))
    PCA(n).fit(responses.copy(data=blocks))
    assert len(reads) == 3


def test_streamed_randomized_pca_passes_over_the_blocks_five_times(responses):
    reads = []
    blocks = lazily(responses, 40).data.map_blocks(lambda block: reads.append(0) or block, meta=np.empty((0, 0)))
    PCA(1, solver="randomized").fit(responses.copy(data=blocks))
    assert len(reads) <= 5 * 3


def test_all_directions_of_many_more_units_than_stimuli_are_not_streamed(rng, make_responses):
    lazy = lazily(make_responses(rng.normal(size=(6, 4100))), 2)
    with pytest.raises(ValueError, match=r"cannot stream all .*give n_directions, or call responses\.compute\(\)"):
        PCA().fit(lazy)
    assert PCA(2).fit(lazy).directions_.shape == (2, 4100)


def test_unknown_solver_is_refused(responses):
    with pytest.raises(ValueError, match="solver must be 'auto', 'exact' or 'randomized', got 'arpack'"):
        PCA(solver="arpack").fit(responses)


def test_more_directions_than_there_can_be_are_refused(responses):
    with pytest.raises(ValueError, match=r"cannot give 16 directions: these responses vary along 8 .*; .* KMeans"):
        PCA(16).fit(responses)
