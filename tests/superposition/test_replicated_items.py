"""Replication is that of its equation, is 1 for independent items in another order, and sees a rotation."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import kstest, spearmanr

from neurosuper.superposition import replicate_disentanglement
from neurosuper.superposition.axes import random_rotation

FAST = {"n_permutations": 0, "n_resamples": 0}


def label(values, item="direction"):
    names = {"stimulus": [f"s{i:04d}" for i in range(len(values))], item: [f"d{j}" for j in range(values.shape[1])]}
    return xr.DataArray(values, names, ("stimulus", item))


def test_the_score_is_that_of_its_equation(rng):
    """`relative_strength_disentanglement` of disentanglement_lib (Apache-2.0), written out."""
    a = rng.normal(size=(40, 3))
    b = a @ rng.normal(size=(3, 4)) + rng.normal(size=(40, 4))
    b[:, 0] = b[:, 0].round()  # ties
    R = np.array([[abs(spearmanr(x, y).statistic) for y in b.T] for x in a.T])
    expected = ((R.max(0) ** 2 / R.sum(0)).mean() + (R.max(1) ** 2 / R.sum(1)).mean()) / 2
    found = replicate_disentanglement(label(a), label(b, "unit"), **FAST)
    assert_allclose(found.replication, expected, rtol=1e-12)
    assert_allclose(found.correlation, R)
    assert_allclose(found.replication_a, R.max(1) ** 2 / R.sum(1))
    assert found.partner_b.values.tolist() == [f"d{i}" for i in R.argmax(0)]


def test_orthogonal_items_in_another_order_replicate_exactly():
    # rank patterns of three items without any rank correlation
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3).astype(float)
    found = replicate_disentanglement(label(grid), label(-(grid[:, [2, 0, 1]] ** 3)), **FAST)
    assert_allclose(found.replication, 1)
    assert found.partner_a.values.tolist() == ["d1", "d2", "d0"]


def test_chance_lowers_the_score_of_many_perfect_partners_as_stated(rng):
    a = label(rng.normal(size=(300, 30)))
    assert_allclose(replicate_disentanglement(a, a, **FAST).replication, 1 / (1 + 0.8 * 29 / 300**0.5), rtol=0.03)


def test_a_rotation_lowers_the_score_and_a_null_model_tells_it_from_chance(rng):
    sources = rng.laplace(size=(400, 6))
    a, b = (label(sources + 0.2 * rng.normal(size=sources.shape)) for _ in range(2))
    turned = label(sources @ random_rotation(6, rng))
    same, other = (replicate_disentanglement(a, each, n_permutations=19, n_resamples=10) for each in (b, turned))
    assert same.replication_low < same.replication < same.replication_high
    assert other.replication_high < same.replication_low
    assert same.replication_null < other.replication
    assert same.p_value == other.p_value == 0.05


def test_constant_items_are_left_out(rng):
    a, b = rng.normal(size=(2, 50, 3))
    expected = replicate_disentanglement(label(a[:, :2]), label(b), **FAST)
    found = replicate_disentanglement(label(np.column_stack([a[:, :2], np.ones(50)])), label(b), **FAST)
    assert_allclose(found.replication, expected.replication)
    assert np.isnan(found.replication_a[2])
    assert found.partner_a.values[2] == ""
    assert found.attrs["n_constant"] == 1
    with pytest.raises(ValueError, match="all items of one side are constant over the common stimuli"):
        replicate_disentanglement(label(np.ones((50, 2))), label(b))


def test_p_values_of_independent_codes_are_uniform():
    rng = np.random.default_rng(0)
    found = [
        replicate_disentanglement(*(label(rng.normal(size=(20, 3))) for _ in "ab"), n_permutations=19, n_resamples=0)
        for _ in range(60)
    ]
    assert kstest([float(each.p_value) - rng.random() / 20 for each in found], "uniform").pvalue > 0.01


def test_neither_order_nor_chunks_matter(rng):
    a, b = (label(rng.normal(size=(30, 4))) for _ in range(2))
    expected = replicate_disentanglement(a, b, n_permutations=5, n_resamples=10)
    other = replicate_disentanglement(a[::-1, ::-1].chunk(stimulus=7), b[:, ::-1], n_permutations=5, n_resamples=10)
    xr.testing.assert_allclose(other, expected)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda a: a[:6], {}, "6 common stimuli are too few; use at least 8"),
        (lambda a: a.where(a > a.min()), {}, "codes contain NaN or infinite values, in direction 'd"),
        (lambda a: a, {"n_permutations": -1}, "n_permutations must be a whole number of at least 0, got -1"),
        (lambda a: a, {"n_resamples": 5}, r"n_resamples must be a whole number of at least 10 \(or 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:6 stimuli are joined")
def test_bad_input_is_refused_in_one_line(rng, change, settings, message):
    a = label(rng.normal(size=(30, 4)))
    with pytest.raises(ValueError, match=message) as error:
        replicate_disentanglement(change(a), a, **settings)
    assert "\n" not in str(error.value)
