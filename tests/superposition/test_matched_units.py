"""Scores and distances are those of their equation on other stimuli."""

import sys
from itertools import permutations

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.comparison import couplings
from neurosuper.superposition import matched_units, soft_matching
from neurosuper.superposition.axes import random_rotation


def label(values, name="u", item="unit"):
    values = np.asarray(values, float)
    names = {"stimulus": [f"s{i:03d}" for i in range(len(values))]}
    return xr.DataArray(values, names | {item: [f"{name}{j}" for j in range(values.shape[1])]}, ("stimulus", item))


def laplace(n_stimuli=200, n_units=12, noise=0.2, seed=0):
    """Return two systems of the same Laplace sources, in another order, with noise."""
    rng = np.random.default_rng(seed)
    sources = rng.laplace(size=(n_stimuli, n_units)) / 2**0.5
    order = rng.permutation(n_units)
    a, b = (sources[:, at] + noise * rng.normal(size=sources.shape) for at in (slice(None), order))
    return label(a), label(b, "v"), order


def test_correlations_after_a_rotation_are_those_of_numpy(rng):
    A, B, Q = rng.exponential(size=(30, 4)), rng.normal(size=(30, 3)), random_rotation(4, rng)
    moments = matched_units.Moments.of(A, B)
    assert_allclose(moments.correlations(), np.corrcoef(A.T, B.T)[:4, 4:])
    assert_allclose(moments.correlations(Q), np.corrcoef((A @ Q).T, B.T)[:4, 4:])
    A[:, 1] = 3
    assert_allclose(matched_units.Moments.of(A, B).correlations()[1], 0)


def test_scores_are_those_of_a_loop_over_folds(rng):
    a, b, _ = laplace(60, 4, noise=1)
    found = soft_matching(a, b, n_folds=3, n_resamples=10, random_state=4)
    fold = matched_units.number_folds(np.arange(60), 3, 4)
    scores, r = [], np.zeros(4)
    for k in range(3):
        fit, held = (np.corrcoef(a[rows].T, b[rows].T)[:4, 4:] for rows in (fold != k, fold == k))
        best = max(permutations(range(4)), key=lambda order: fit[range(4), order].sum())
        scores.append(held[range(4), best].mean())
        r += held[range(4), best] / 3
    assert_allclose(found.score, np.mean(scores))
    assert_allclose(found.r, r)
    assert np.bincount(fold).tolist() == [20, 20, 20]
    assert found.score_low < found.score < found.score_high


def test_sources_in_another_order_are_found():
    a, b, order = laplace()
    found = soft_matching(a, b, n_resamples=10)
    expected = np.zeros((12, 12))
    expected[order, range(12)] = 1 / 12
    assert_allclose(found.coupling, expected)
    assert found.coupling.item_b.values.tolist() == b.unit.values.tolist()


def test_independent_items_score_nothing_held_out_but_more_where_they_were_matched(rng):
    a, b = label(rng.normal(size=(60, 10))), label(rng.normal(size=(60, 10)))
    held_out = soft_matching(a, b, n_resamples=20)
    same = soft_matching(a, b, score_on="all", n_resamples=20)
    assert held_out.score_low < 0 < held_out.score_high
    assert same.score > 0.15
    assert same.attrs["n_folds"] == 1


def test_unequal_numbers_and_partial_mass(rng):
    pytest.importorskip("ot", reason="POT is not installed")
    a, b, _ = laplace(100, 6)
    mixed = b.assign_coords(unit=[f"w{j}" for j in range(6)]).copy(data=rng.normal(size=b.shape))
    both = xr.concat([b, mixed], "unit")  # half of the weight of a has to go to noise
    found = soft_matching(a, both, n_resamples=10)
    assert_allclose(found.coupling.sum("item_b"), 1 / 6)
    assert_allclose(found.coupling.sum("item_a"), 1 / 12)
    assert 0.4 < found.score < 0.6
    partial = soft_matching(a, both, mass=0.5, n_resamples=10)
    assert partial.score > 0.9
    assert_allclose(partial.coupling.sum(), 0.5)
    assert_allclose(partial.coupling.sel(item_b=mixed.unit.values).sum(), 0, atol=1e-12)


def test_neither_order_nor_chunks_nor_scale_change_the_score(rng):
    a, b, _ = laplace(60, 4)
    found = soft_matching(a, b, n_resamples=0)
    order = rng.permutation(60)
    other = soft_matching(a[order, ::-1].chunk() * 1000 + 5, b[rng.permutation(60)], n_resamples=0)
    assert_allclose(other.score, found.score)
    assert_allclose(other.coupling.sel(item_a=found.item_a), found.coupling)


def test_neither_copies_of_a_photograph_nor_groups_are_in_two_folds(rng):
    content = [f"{i // 2:032d}" for i in range(60)]
    a, b = (label(rng.normal(size=(60, 3))) for _ in range(2))
    a = a.assign_coords(content=("stimulus", content))
    folds = matched_units.prepare(a, b, 5, None, 0).folds
    assert all((fold.scored[::2] == fold.scored[1::2]).all() for fold in folds)
    bursts = b.assign_coords(burst=("stimulus", np.arange(60) // 5))  # the middle photograph links two of them
    pair = matched_units.prepare(a, bursts, 2, "burst", 0)
    assert all(set(fold.scored.reshape(-1, 10).sum(1)) <= {0, 10} for fold in pair.folds)
    assert pair.groups.tolist() == (np.arange(60) // 10).tolist()
    assert (
        soft_matching(a, bursts, n_folds=2, stimulus_groups="burst", n_resamples=10).attrs["stimulus_groups"] == "burst"
    )
    with pytest.raises(ValueError, match=r"6 groups of stimuli \(or photographs\) leave 0 stimuli in one of 8 folds"):
        matched_units.number_folds(np.arange(60) // 10, 8, 0)


def test_distances_are_those_of_the_best_permutation_in_a_loop_over_folds(rng):
    a, b, _ = laplace(60, 4, noise=1)
    found = soft_matching(3 * a, 3 * b + 7, correlation=False, n_folds=3, n_resamples=10, random_state=4)
    fold = matched_units.number_folds(np.arange(60), 3, 4)
    squares, of_items = [], np.zeros(4)
    for k in range(3):
        costs = []
        for rows in (fold != k, fold == k):
            A, B = (3 * (x[rows] - x[rows].mean("stimulus")).values for x in (a, b))
            costs.append(((A[:, :, None] - B[:, None]) ** 2).mean(0))
        best = min(permutations(range(4)), key=lambda order: costs[0][range(4), order].sum())
        squares.append(costs[1][range(4), best].mean())
        of_items += costs[1][range(4), best] / 3
    assert_allclose(found.distance, np.mean(squares) ** 0.5)
    assert_allclose(found.item_distance, of_items**0.5)
    assert found.distance_low < found.distance < found.distance_high
    assert found.attrs["quantity"] == "distance"
    assert "score" not in found


def test_the_distance_of_unequal_systems_is_that_of_pot(rng):
    ot = pytest.importorskip("ot", reason="POT is not installed")
    a, b = label(rng.exponential(size=(40, 5))), label(rng.exponential(size=(40, 3)))
    found = soft_matching(a, b, correlation=False, score_on="all", n_resamples=0)
    costs = ot.dist((a - a.mean("stimulus")).values.T, (b - b.mean("stimulus")).values.T) / 40
    assert_allclose(found.distance**2, ot.emd2(ot.unif(5), ot.unif(3), costs), rtol=1e-10)
    by_correlation = soft_matching(a, b, score_on="all", n_resamples=0)
    r = np.corrcoef(a.T, b.T)[:5, 5:]
    assert_allclose(1 - by_correlation.score, ot.emd2(ot.unif(5), ot.unif(3), 1 - r), rtol=1e-10)
    assert_allclose(soft_matching(a, a, correlation=False, n_resamples=0).distance, 0, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda a: a[:20], {}, "20 common stimuli are too few for 5 folds of at least 6; lower n_folds, or use more"),
        (lambda a: a.where(a != a[0, 1]), {}, "NaN or infinite values in unit 'u1'; drop those, or their stimuli"),
        (lambda a: a * [1, 0, 1], {}, "zero variance over stimuli in unit 'u1'"),
        (lambda a: a, {"mass": 0}, "mass must be above 0 and at most 1, got 0"),
        (lambda a: a, {"n_folds": 1}, "n_folds must be a whole number of at least 2, got 1"),
        (lambda a: a, {"score_on": "same"}, "score_on must be one of 'held-out', 'all'; got 'same'"),
    ],
)
def test_bad_input_is_refused_in_one_line(rng, change, settings, message):
    a = label(rng.normal(size=(40, 3)))
    with pytest.raises(ValueError, match=message) as error:
        soft_matching(change(a), label(rng.normal(size=(40, 3))).sel(stimulus=change(a).stimulus), **settings)
    assert "\n" not in str(error.value)


def test_couplings_that_do_not_fit_into_memory_are_refused(rng, monkeypatch):
    monkeypatch.setattr(couplings, "MOST_PAIRS", 8)
    with pytest.raises(ValueError, match=r"a coupling of 3 × 3 items takes 0.0 GiB, several times; select items"):
        soft_matching(*[label(rng.normal(size=(40, 3)))] * 2)


def test_without_pot_different_numbers_are_refused_with_what_to_install(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"ot is not installed; run: pip install 'neurosuper\[transport\]'"):
        soft_matching(label(rng.normal(size=(40, 3))), label(rng.normal(size=(40, 2))))
