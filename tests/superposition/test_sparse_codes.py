"""Sparseness has the values of its formulas and of scipy, is derived in the toy world, and says where it has none."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats

from neurosuper.inference import halves_interval
from neurosuper.superposition import sparseness
from neurosuper.superposition.sparse_codes import MEASURES


def label(values, item="unit"):
    values = np.asarray(values, float)
    names = {"stimulus": [f"s{i:03d}" for i in range(len(values))], item: [f"i{j}" for j in range(values.shape[1])]}
    return xr.DataArray(values, names, ("stimulus", item))


def naive(z, measure):
    """Return the measure of a list of codes, as its definition says."""
    n, mean = len(z), sum(z) / len(z)
    if measure == "treves-rolls":
        return (1 - mean**2 / (sum(x * x for x in z) / n)) / (1 - 1 / n)
    if measure == "hoyer":
        return (n**0.5 - sum(z) / sum(x * x for x in z) ** 0.5) / (n**0.5 - 1)
    if measure == "gini":
        return sum(abs(x - y) for x in z for y in z) / (2 * n * n * mean)
    return sum(x > 0 for x in z) / n


@pytest.mark.parametrize("measure", ["treves-rolls", "hoyer", "gini", "active"])
def test_every_measure_is_that_of_its_definition(rng, measure):
    codes = label(rng.exponential(size=(30, 4)) * (rng.random((30, 4)) < 0.6))
    assert_allclose(sparseness(codes, measure=measure), [naive(z, measure) for z in codes.values.T], rtol=1e-12)
    of_stimuli = sparseness(codes[:, :3] + 0.01, measure=measure, over="item")
    assert_allclose(of_stimuli, [naive(z, measure) for z in codes.values[:, :3] + 0.01], atol=1e-10)
    assert of_stimuli.dims == ("stimulus",)


def test_kurtosis_and_skewness_are_those_of_scipy(rng):
    codes = label(rng.gamma(2, 1, (50, 3)) - 3)
    assert_allclose(sparseness(codes, measure="kurtosis"), stats.kurtosis(codes.values), rtol=1e-10)
    assert_allclose(sparseness(codes, measure="skewness"), stats.skew(codes.values), rtol=1e-10)


def test_hoyer_is_that_of_overcomplete():
    """`overcomplete.metrics.hoyer` of overcomplete 0.3.0 gives these for the transpose of the same matrix.

    It adds 10⁻⁶ to a denominator, and has √n in float32.
    """
    codes = label(np.random.default_rng(7).exponential(size=(15, 4)))
    expected = [0.47375251454728895, 0.3624718323559832, 0.30859851503755914, 0.27339549530600477]
    assert_allclose(sparseness(codes, measure="hoyer"), expected, rtol=2e-6)


def test_one_code_is_sparse_equal_codes_are_not_and_the_half_normal_is_between(rng):
    codes = np.zeros((20_000, 3))
    codes[7, 0] = 5
    codes[:, 1] = 2
    codes[:, 2] = np.abs(rng.normal(size=20_000))
    for measure, (one, equal, half_normal) in {
        "treves-rolls": (1, 0, 1 - 2 / np.pi),
        "hoyer": (1, 0, 1 - (2 / np.pi) ** 0.5),
        "gini": (1, 0, 2**0.5 - 1),
    }.items():
        assert_allclose(sparseness(label(codes), measure=measure), [one, equal, half_normal], atol=0.01)


def test_features_of_the_toy_world_are_as_sparse_as_derived(world):
    features = world.features.rename(feature="direction")
    assert_allclose(sparseness(features).mean(), 1 - 0.1 / 2, atol=0.01)
    assert_allclose(sparseness(features, measure="active").mean(), 0.1, atol=0.01)
    mixed = sparseness(world.response, measure="kurtosis").mean()
    assert mixed < sparseness(features, measure="kurtosis").mean() / 3  # sums of features are closer to normal


def test_codes_with_a_large_offset_are_sparse_above_their_baseline(rng):
    sparse = label(rng.exponential(size=(100, 3)) * (rng.random((100, 3)) < 0.2))
    offset = sparse + np.array([10, 100, 1000])
    assert (sparseness(offset) < 0.02).all()
    for baseline in ("min", "median"):
        assert_allclose(sparseness(offset, baseline=baseline), sparseness(sparse), rtol=1e-9)
    assert_allclose(sparseness(-offset, baseline=-1e4), sparseness(1e4 - offset))
    assert sparseness(offset, baseline="min").attrs == {
        "quantity": "sparseness (treves-rolls)",
        "over": "stimulus",
        "baseline": "min",
    }


def test_the_interval_of_a_mean_covers_the_sparseness_of_the_distribution():
    inside = 0
    for seed in range(40):
        codes = np.random.default_rng(seed).exponential(size=(60, 2))
        found = halves_interval(lambda rows, z=codes: MEASURES["treves-rolls"](z[rows]).mean(), 60, n_resamples=40)
        inside += int(found.estimate_low <= 0.5 <= found.estimate_high)
    assert inside >= 33  # 90 to 95 % of 40


@pytest.mark.parametrize("measure", MEASURES)
def test_neither_order_nor_chunks_nor_scale_change_the_result(rng, measure):
    codes = label(rng.exponential(size=(30, 4))).assign_coords(area=("unit", list("abcd")))
    found = sparseness(codes, measure=measure)
    assert found.area.values.tolist() == list("abcd")
    other = sparseness(codes[::-1, ::-1].T.chunk() * 1e200, measure=measure)
    assert_allclose(other.sel(unit=codes.unit), found, rtol=1e-10)


@pytest.mark.parametrize(
    ("codes", "settings", "message"),
    [
        ([[1, -1], [2, 3]], {}, "treves-rolls is not defined for negative codes, in unit 'i1'; give a baseline"),
        ([[1, -1], [2, 3]], {"measure": "gini"}, "gini is not defined for negative codes"),
        ([[0, 1], [0, 3]], {"measure": "hoyer"}, "no code is above 0 in unit 'i0'; drop those"),
        ([[1, 0], [0, 0]], {"over": "item"}, "no code is above 0 in stimulus 's001'"),
        ([[5, 1], [5, 2]], {"measure": "kurtosis"}, "zero variance in unit 'i0' has no kurtosis; drop those"),
        ([[5, np.nan], [5, 2]], {}, "codes contain NaN or infinite values, in unit 'i1'"),
        ([[5, 1]], {}, "sparseness over stimulus needs at least 2 of them, got 1"),
        ([[1], [2]], {"over": "item"}, "sparseness over unit needs at least 2 of them, got 1"),
        ([[1, 2], [3, 4]], {"measure": "l0"}, "measure must be one of 'treves-rolls', 'hoyer'"),
        ([[1, 2], [3, 4]], {"over": "unit"}, "over must be one of 'stimulus', 'item'; got 'unit'"),
        ([[1, 2], [3, 4]], {"baseline": "mean"}, "baseline must be one of 'min', 'median'; got 'mean'"),
        ([[1, 2], [3, 4]], {"baseline": np.inf}, "baseline must be a finite number, 'min', 'median' or None, got inf"),
    ],
)
def test_codes_without_a_sparseness_are_refused_in_one_line(codes, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        sparseness(label(codes), **settings)
    assert "\n" not in str(error.value)
