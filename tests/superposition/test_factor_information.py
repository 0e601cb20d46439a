"""Information and the measures on it are those of scikit-learn, and of published code by formula or by its figures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score

from neurosuper.superposition import factor_information as info
from neurosuper.superposition.factor_tables import Factor


def as_factors(F):
    return [Factor(f"f{j}", f, [str(k) for k in range(f.max() + 1)], None) for j, f in enumerate(F.T)]


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    F = np.stack([rng.integers(4, size=300), rng.integers(2, size=300), rng.integers(7, size=300)], 1)
    return F @ rng.normal(size=(3, 5)) + 0.3 * rng.normal(size=(300, 5)), F


@pytest.mark.parametrize("block", [2**22, 700])
def test_histogram_information_is_that_of_scikit_learn(world, block, monkeypatch):
    Z, F = world
    monkeypatch.setattr(info, "BLOCK_ENTRIES", block)
    expected = [
        [mutual_info_score(f, np.digitize(z, np.histogram(z, 9)[1][:-1])) / np.log(2) for f in F.T] for z in Z.T
    ]
    assert_allclose(info.information(Z, as_factors(F), 9, "histogram", 0), expected, atol=1e-12)
    assert_allclose(info.entropies(as_factors(F)), [mutual_info_score(f, f) / np.log(2) for f in F.T], rtol=1e-12)


def test_bins_have_the_edges_of_numpy_even_where_codes_are_on_them():
    Z = np.stack([np.arange(0, 1.01, 0.1).repeat(3), np.r_[np.zeros(32), 5e-320], np.full(33, 7.0)], 1)
    found = info._bin(Z, 10)
    assert found[0].tolist() == (np.digitize(Z[:, 0], np.histogram(Z[:, 0], 10)[1][:-1]) - 1).tolist()
    assert np.ptp(found[2]) == 0  # one bin for a constant item, as of a sparse code in some half of the stimuli
    assert found.min() == 0
    assert found.max() == 9


def test_neighbours_give_the_information_of_scikit_learn(world):
    Z, F = world
    expected = [mutual_info_classif(Z, f, n_neighbors=10, random_state=3) / np.log(2) for f in F.T]
    assert_allclose(info.information(Z, as_factors(F), 9, "ksg", 3), np.transpose(expected), atol=1e-10)


def test_measures_of_a_table_are_those_of_their_formulas():
    """Figures of `_disentanglement` and `_completeness` of disent 0.8.0 (MIT) for this table."""
    P = np.random.default_rng(1).random((5, 3))
    P[2] = 0
    assert_allclose(info.weighted_concentration(P), 0.1680021982504253, atol=1e-9)
    assert_allclose(info.weighted_concentration(P.T), 0.23048772059495942, atol=1e-9)
    assert info.weighted_concentration(np.zeros((4, 3))) < 1e-6
    assert_allclose(info.evenness(P[:2]), [stats.entropy(p, base=3) for p in P[:2]], atol=1e-9)
    by_hand = [1 - sum(np.delete(p, p.argmax()) ** 2) / (2 * p.max() ** 2) for p in np.delete(P, 2, 0)]
    assert_allclose(info.modularity(P), np.sum(by_hand) / 5)  # an item without information counts as 0
    shares = np.mean([p.max() / p.sum() for p in np.delete(P, 2, 0)] + [1 / 3])
    assert_allclose(info.concentration(P), (shares - 1 / 3) / (2 / 3))
    assert_allclose(info.mean_gap(P), np.mean([np.sort(p)[-1] - np.sort(p)[-2] for p in P.T]))


def test_ends_of_the_scales():
    for measure in (info.weighted_concentration, info.modularity, info.concentration, info.mean_gap):
        assert_allclose(measure(np.eye(3)), 1, atol=1e-8)
        assert_allclose(measure(np.ones((3, 3))), 0, atol=1e-8)


def test_items_of_small_range_are_inactive():
    Z = np.array([[0, 0, 0, 5.0], [1, 0.04, 0.06, 5.0]])
    assert info.active_items(Z).tolist() == [True, False, True, False]
