"""p of partners is that of a loop, and rotations of fewer stimuli than items are as random as others."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from neurosuper.comparison.halved_systems import Half
from neurosuper.comparison.pairings import correlate
from neurosuper.comparison.partner_tests import _random_frame, p_of_partners, rotate_partners


def correlations(X, Y):
    """Return the correlation of each column of X with the same one of Y."""
    X, Y = (Z - Z.mean(axis=0) for Z in (X, Y))
    return (X * Y).sum(axis=0) / np.sqrt((X**2).sum(axis=0) * (Y**2).sum(axis=0))


@pytest.mark.parametrize("grouped", [False, True])
def test_p_is_that_of_a_loop_over_permutations(rng, grouped):
    """More items than a tile has, and more draws than a block."""
    own, theirs = rng.normal(size=(2, 12, 40))
    theirs += 0.5 * own
    groups = np.repeat(["x", "y"], 6) if grouped else None
    r = correlations(own, theirs)
    r[7] = np.nan
    p, p_any = p_of_partners(own, theirs, r, groups, 120, 3)
    again = np.random.default_rng([3, 1])
    draws = []
    for _ in range(120):
        order = np.concatenate([again.permutation(6), 6 + again.permutation(6)]) if grouped else again.permutation(12)
        draws.append(correlations(own, theirs[order]))
    expected = (1 + (np.array(draws) >= r - 1e-12).sum(0)) / 121
    has = np.arange(40) != 7
    assert_allclose(p[has], expected[has])
    assert np.isnan(p[7])
    assert p_any == (1 + (np.array(draws)[:, has].max(1) >= np.nanmax(r)).sum()) / 121


def test_no_item_with_a_partner_has_no_p(rng):
    p, p_any = p_of_partners(*rng.normal(size=(2, 12, 3)), np.full(3, np.nan), None, 19, 0)
    assert np.isnan([*p, p_any]).all()


def test_frames_are_orthonormal_and_uniform():
    rng = np.random.default_rng(0)
    frames = np.array([_random_frame(2, 5, rng) for _ in range(400)])
    assert_allclose(frames @ frames.transpose(0, 2, 1), np.broadcast_to(np.eye(2), (400, 2, 2)), atol=1e-12)
    for row in range(2):  # the square of a coordinate of a point on the sphere in 5 dimensions
        assert stats.kstest(frames[:, row, 3] ** 2, stats.beta(1 / 2, 2).cdf).pvalue > 0.01
        assert abs((frames[:, row, 3] > 0).mean() - 0.5) < 0.08


def test_rotations_of_fewer_stimuli_than_items_are_those_of_whole_rotations():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(24, 40))
    a, b = (shared + 0.3 * rng.normal(size=shared.shape) for _ in range(2))
    found = rotate_partners(Half(a[:12], a[12:]), Half(b[:12], b[12:]), "best", False, None, 150, 0)
    expected = []
    for seed in range(150):
        Q = stats.ortho_group.rvs(40, random_state=seed)
        partner = correlate(a[:12] @ Q, b[:12]).argmax(1)
        expected.append(np.median(correlations(a[12:] @ Q, b[12:, partner])))
    assert stats.ks_2samp(found, expected).pvalue > 0.01
    assert np.std(found) > 0
