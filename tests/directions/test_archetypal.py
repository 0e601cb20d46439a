"""Archetypes against planted corners, a general solver, and the conditions of an optimum."""

import dask.array as da
import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from neurosuper import Archetypal
from neurosuper.directions import archetypal, recovery
from neurosuper.directions._solvers.simplex import memberships, onto_simplex


@pytest.fixture
def mixtures(rng, make_responses):
    """2,200 stimuli between 6 corners in 12 units, more than may all be candidates; and the corners."""
    corners = rng.exponential(size=(6, 12))
    return make_responses(rng.dirichlet(np.full(6, 0.3), 2200) @ corners + 0.01 * rng.normal(size=(2200, 12))), corners


def test_planted_corners_are_recovered(mixtures):
    responses, corners = mixtures
    fitted = Archetypal(6).fit(responses)
    planted = fitted.directions_.copy(data=corners)
    assert recovery(fitted.directions_, planted).min() > 0.99
    assert fitted.explained_variance(responses) > 0.99
    assert (np.diff(fitted.learning_curve_) < 1e-3).all(), "each iteration lowers the error"


def test_codes_are_memberships_times_the_length_of_archetypes(mixtures):
    responses, _ = mixtures
    fitted = Archetypal(6, max_iter=5, tol=None).fit(responses)
    share = fitted.transform(responses) / np.linalg.norm(fitted.archetypes_, axis=1)
    assert (share >= 0).all()
    assert_allclose(share.sum("direction"), 1, rtol=1e-5)
    assert_allclose(
        fitted.inverse_transform(fitted.transform(responses)), share.values @ fitted.archetypes_.values, rtol=1e-4
    )


def test_archetypes_are_mixtures_of_stimuli(mixtures):
    responses, _ = mixtures
    found = Archetypal(3, max_iter=5, tol=None, dtype="float64").fit(responses[:60]).archetypes_.values
    stimuli = np.vstack([responses.values[:60].T, np.ones(60)])
    for archetype in found:
        _, distance = scipy.optimize.nnls(stimuli, [*archetype, 1])
        assert distance < 1e-8


def test_memberships_are_those_of_a_general_solver(rng):
    X, A = rng.normal(size=(5, 7)), rng.normal(size=(4, 7))
    found = memberships(torch.tensor(X), torch.tensor(A)).numpy()
    for x, m in zip(X, found, strict=True):
        best = scipy.optimize.minimize(
            lambda m, x=x: ((x - m @ A) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda m: m.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert_allclose(m, best.x, atol=1e-5)


@given(arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-100, 100)))
def test_projection_on_the_simplex_is_there_and_nearest(V):
    P = onto_simplex(torch.tensor(V)).numpy()
    assert (P >= 0).all()
    assert_allclose(P.sum(1), 1, atol=1e-9)
    # nearest: V - P makes no acute angle with the way to any corner
    assert (((V - P)[:, None] * (np.eye(V.shape[1]) - P[:, None])).sum(-1) <= 1e-6).all()


def test_rows_do_not_depend_on_one_another(rng):
    X, A = torch.tensor(rng.normal(size=(50, 7))), torch.tensor(rng.normal(size=(4, 7)))
    assert_allclose(memberships(X, A)[:1], memberships(X[:1], A), atol=1e-12)


def test_candidates_of_streamed_blocks_are_those_of_one_array(mixtures, monkeypatch):
    responses, _ = mixtures
    monkeypatch.setattr(archetypal, "CANDIDATES", 64)
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(700, -1)))
    fits = [Archetypal(3, max_iter=5, tol=None, dtype="float64").fit(array) for array in (responses, lazy)]
    assert_allclose(fits[0].directions_, fits[1].directions_, atol=1e-8)


def test_centred_archetypes_are_the_same_corners(mixtures):
    responses, _ = mixtures
    plain, centred = (Archetypal(6, center=center).fit(responses[:200]) for center in (False, True))
    assert_allclose(centred.archetypes_ + centred.mean_, plain.archetypes_, atol=1e-2)


def test_bad_numbers_and_archetypes_without_direction_are_refused(responses):
    with pytest.raises(
        ValueError, match="cannot give 130 directions: 120 stimuli are on the hull of 120, .*; ask for fewer"
    ):
        Archetypal(130).fit(responses)
    with pytest.raises(ValueError, match="an archetype is at the origin"):
        Archetypal(3).fit(np.array([[0.0, 0], [1, 0], [0, 1], [0.1, 0.1]]))
