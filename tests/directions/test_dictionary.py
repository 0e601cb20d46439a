"""Atoms against planted ones and against scikit-learn; codes, scales and refusals."""

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.decomposition import DictionaryLearning as BatchDictionaryLearning
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, orthogonal_mp_gram

from neurosuper.directions import recovery
from neurosuper.directions._rows.tiles import TILE_ENTRIES
from neurosuper.directions._solvers.atoms import Atoms, count_uses, turn_atoms, turn_compiled, update_atoms
from neurosuper.directions._solvers.sparse_coding import TOLERANCE
from neurosuper.directions.dictionary import DictionaryLearning


def objective(R, D, alpha):
    """The mean of ½‖x − z D‖² + alpha ‖z‖₁, with scikit-learn's codes."""
    codes = sparse_encode(R, D, algorithm="lasso_cd", alpha=alpha, max_iter=10_000)
    return (0.5 * ((R - codes @ D) ** 2).sum(1) + alpha * np.abs(codes).sum(1)).mean()


@pytest.mark.parametrize("settings", [{}, {"positive": True}, {"encoding": "omp", "n_active": 2}], ids=repr)
def test_recovers_planted_features_in_superposition(settings, superposition):
    """48 sparse features in 24 units (seed 0)."""
    R, planted = superposition
    D = DictionaryLearning("2x", batch_size=64, **settings).fit(R).directions_
    best = np.abs(planted.values @ D.values.T).max(1)
    assert best.mean() > 0.95
    assert recovery(D, planted).median() > 0.95


@pytest.mark.filterwarnings("ignore:Objective did not converge")  # scikit-learn's, on the way
def test_objective_is_no_worse_than_scikit_learns(superposition):
    R, _ = superposition
    ours = DictionaryLearning(48, l1=0.1, batch_size=64, max_iter=10).fit(R)
    theirs = MiniBatchDictionaryLearning(
        48, alpha=0.1, batch_size=64, max_iter=10, fit_algorithm="cd", tol=0, max_no_improvement=None, random_state=0
    ).fit(R.values)
    at_end = objective(R.values, ours.directions_.values.astype(float), 0.1)
    assert at_end <= objective(R.values, theirs.components_, 0.1)
    assert_allclose(ours.objective_, at_end, rtol=0.05)
    assert ours.learning_curve_[-1] < ours.learning_curve_[0]


@pytest.mark.parametrize(("n_stimuli", "n_updates"), [(60, 15), (300, 16), (512, 16), (9000, 18)])
def test_an_iteration_has_at_least_about_16_updates(n_stimuli, n_updates, make_responses, rng, monkeypatch):
    updates = []

    def learn(atoms, X, *_):
        updates.append(len(X))
        atoms.A.fill_(1)
        return torch.ones(())

    monkeypatch.setattr(Atoms, "learn", learn)
    DictionaryLearning(2, max_iter=1).fit(make_responses(rng.gamma(1, 1, (n_stimuli, 3))))
    assert len(updates) == n_updates
    assert sum(updates) == n_stimuli


@pytest.mark.filterwarnings("ignore:Objective did not converge")
def test_few_stimuli_are_learned_nearly_as_well_as_by_batches(superposition):
    """300 stimuli: within 7 % of scikit-learn's batch algorithm; one update per iteration gives 13 %."""
    R = superposition[0][:300]
    ours = DictionaryLearning(48, l1=0.1).fit(R)
    theirs = BatchDictionaryLearning(48, alpha=0.1, fit_algorithm="cd", max_iter=100, random_state=0).fit(R.values)
    best = objective(R.values, theirs.components_, 0.1)
    assert objective(R.values, ours.directions_.values.astype(float), 0.1) < 1.07 * best
    one_update = DictionaryLearning(48, l1=0.1, batch_size=512).fit(R)
    assert objective(R.values, one_update.directions_.values.astype(float), 0.1) > 1.1 * best


@pytest.mark.parametrize("positive", [False, True])
def test_transform_is_the_lasso_of_scikit_learn(positive, superposition):
    R, _ = superposition
    finder = DictionaryLearning(48, l1=0.2, positive=positive, max_iter=2, dtype="float64").fit(R)
    D = finder.directions_.values.astype(float)
    lasso = Lasso(0.2 / D.shape[1], fit_intercept=False, positive=positive, tol=1e-10, max_iter=10_000)
    theirs = lasso.fit(D.T, R.values.T.astype(float)).coef_
    codes = finder.transform(R)
    assert_allclose(codes, theirs, atol=1e-4)
    assert finder.l1_ == 0.2
    assert_allclose(finder.inverse_transform(codes), codes.values @ finder.directions_.values)


def test_transform_by_omp_is_scikit_learns(superposition):
    R, _ = superposition
    finder = DictionaryLearning(48, encoding="omp", n_active=3, max_iter=2, dtype="float64").fit(R)
    D = finder.directions_.values
    theirs = orthogonal_mp_gram(D @ D.T, D @ R.values.T, n_nonzero_coefs=3).T
    assert_allclose(finder.transform(R), theirs, atol=1e-8)


def test_relative_alpha_does_not_care_about_the_unit_of_responses(superposition):
    R, _ = superposition
    hertz, kilohertz = (DictionaryLearning(30, max_iter=2, dtype="float64").fit(scale * R) for scale in (1, 1e-3))
    assert_allclose(kilohertz.directions_, hertz.directions_, atol=1e-6)
    assert_allclose(hertz.l1_, 0.1 * np.sqrt((R**2).sum("unit").mean()), rtol=1e-6)
    assert_allclose(kilohertz.l1_, 1e-3 * hertz.l1_, rtol=1e-6)


def test_streamed_blocks_give_atoms_as_good(superposition):
    R, _ = superposition
    lazy = R.copy(data=da.from_array(R.values, chunks=(300, 10)))
    whole, streamed = (DictionaryLearning("2x", batch_size=64, max_iter=10).fit(r) for r in (R, lazy))
    assert_allclose(streamed.objective_, whole.objective_, rtol=0.02)
    assert streamed.n_iter_ == whole.n_iter_ == 10
    codes = streamed.transform(lazy)
    assert codes.chunks is not None
    assert_allclose(codes.compute(), streamed.transform(R), atol=1e-5)


def test_centred_responses_are_reconstructed_about_their_mean(superposition):
    R, _ = superposition
    finder = DictionaryLearning(center=True, l1="0.01x", max_iter=5).fit(R + 3)
    assert_allclose(finder.mean_, (R + 3).mean("stimulus"), rtol=1e-5)
    assert finder.explained_variance(R + 3) > 0.9


def test_dead_atoms_restart(make_responses, rng):
    """Half of the atoms start at one and the same response: without a restart they would stay unused."""
    R = rng.exponential(1, (600, 12)) * (rng.random((600, 12)) < 0.2)
    R[::2] = np.eye(12)[0] * 2 + 1e-6 * rng.random((300, 12))
    finder = DictionaryLearning(12, batch_size=50, max_iter=30).fit(make_responses(R))
    assert (finder.transform(make_responses(R)) != 0).any("stimulus").all()


def test_atoms_are_updated_in_turn_to_the_best_for_the_statistics(rng):
    X, Z, D = rng.normal(size=(40, 5)), rng.normal(size=(40, 7)) * (rng.random((40, 7)) < 0.5), rng.normal(size=(7, 5))
    Z[:, 3] = 0
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    expected = D.copy()
    for j in set(range(7)) - {3}:
        goal = Z[:, j] @ (X - Z @ expected + np.outer(Z[:, j], expected[j]))
        expected[j] = goal / np.linalg.norm(goal)
    got = torch.from_numpy(D)
    update_atoms(got, torch.from_numpy(Z.T @ Z), torch.from_numpy(Z.T @ X))
    assert_allclose(got, expected, atol=1e-12)


def test_atoms_are_turned_alike_by_both_kernels(rng):
    Z, X = rng.normal(size=(90, 12)) * (rng.random((90, 12)) < 0.3), rng.normal(size=(90, 8))
    Z[:, 5] = 0
    A, left, D = (torch.from_numpy(values) for values in (Z.T @ Z, Z.T @ X, rng.normal(size=(12, 8))))
    ours, theirs = (D.clone(), left.clone()), (D.clone(), left.clone())
    turn_atoms(ours[0], A, ours[1])
    turn_compiled(theirs[0], A, theirs[1])
    assert_allclose(ours[0], theirs[0], atol=1e-12)
    assert (ours[0][5] == D[5]).all()


def test_statistics_are_products_of_codes(rng):
    X, Z = rng.normal(size=(40, 5)), rng.normal(size=(40, 37)) * (rng.random((40, 37)) < 0.2)
    A, B = count_uses(torch.from_numpy(X), torch.from_numpy(Z))
    assert_allclose(A, Z.T @ Z, atol=1e-12)
    assert_allclose(B, Z.T @ X, atol=1e-12)


def test_codes_that_are_not_accurate_are_warned_of_once_a_call(superposition, monkeypatch):
    """No code is exact to a tolerance of zero; the largest error of all mini-batches and tiles is reported."""
    R, _ = superposition
    monkeypatch.setitem(TOLERANCE, torch.float32, 0.0)
    monkeypatch.setattr("neurosuper.directions._rows.tiles.TILE_ROWS", 100)
    monkeypatch.setitem(TILE_ENTRIES, "cpu", 100)
    with pytest.warns(ConvergenceWarning, match="raise alpha, or use dtype='float64'") as of_fit:
        finder = DictionaryLearning(batch_size=300, max_iter=2).fit(R)
    with pytest.warns(ConvergenceWarning) as of_transform:
        finder.transform(R)
    assert len(of_fit) == len(of_transform) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": 0}, "l1 must be a positive number"),
        ({"l1": -1.0}, "l1 must be a positive number"),
        ({"l1": float("nan")}, "l1 must be a positive number"),
        ({"l1": "0x"}, "l1 must be a positive number"),
        ({"l1": "much"}, "a multiple of the length of a response such as '0.1x', got 'much'"),
        ({"l1": "5x"}, "no response has a code with l1='5x'; choose a smaller one"),
        ({"encoding": "ridge"}, "encoding must be 'lasso' or 'omp', got 'ridge'"),
        ({"encoding": "omp", "n_active": 9}, "n_active must be a whole number from 1 to 8"),
        ({"encoding": "omp", "n_active": 0}, "n_active must be a whole number from 1 to 8"),
        ({"n_active": 2}, "n_active=2 needs encoding='omp'"),
        ({"encoding": "omp", "positive": True}, "positive=True needs encoding='lasso'"),
        ({"positive": "yes"}, "positive must be True or False"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        (
            {"n_directions": 121},
            "cannot give 121 directions: each starts at a stimulus of its own, of 120; ask for fewer",
        ),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, message, responses):
    with pytest.raises(ValueError, match=message):
        DictionaryLearning(**settings).fit(responses)


def test_survives_storage(responses):
    fitted = DictionaryLearning(max_iter=2).fit(responses)
    again = DictionaryLearning.from_dataset(fitted.to_dataset())
    xr.testing.assert_identical(again.transform(responses), fitted.transform(responses))


@pytest.mark.gpu
def test_gpu_learns_the_atoms_of_the_cpu(responses):
    on_cpu, on_gpu = (DictionaryLearning(max_iter=2, device=d).fit(responses).directions_ for d in ("cpu", "cuda"))
    assert_allclose(on_gpu, on_cpu, atol=1e-3)
