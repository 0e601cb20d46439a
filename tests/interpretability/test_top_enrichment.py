import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats

from neurosuper import top_stimuli
from neurosuper.interpretability import enrichment
from neurosuper.responses import split_stimuli

NAMES = np.array(["bird", "cat", "dog"])
TOP = 12


@pytest.fixture(scope="module")
def codes() -> xr.DataArray:
    """Codes of a unit for dogs, one for birds and cats, and noise; categories of 40, 50 and 60 stimuli."""
    rng, category = np.random.default_rng(0), NAMES[np.repeat(np.arange(3), [40, 50, 60])]
    values = rng.normal(size=(150, 3))
    values[:, 0] += 3 * (category == "dog")
    values[:, 1] += 2 * (category != "dog")
    coords = {"stimulus": [f"s{i:03d}" for i in range(150)], "unit": ["dog", "pets", "noise"]}
    return xr.DataArray(values, coords | {"category": ("stimulus", category)}, ("stimulus", "unit"))


@pytest.fixture(scope="module")
def result(codes) -> xr.Dataset:
    return enrichment(codes, "category", top=TOP)


def test_counts_p_purity_and_negentropy_are_those_of_a_loop_with_fishers_exact_test(codes, result):
    chosen = top_stimuli(codes, top=TOP)
    for unit in codes.unit.values:
        of_top = codes.category.sel(stimulus=chosen.sel(unit=unit).values).values
        ours, shares = result.sel(unit=unit), []
        for name in NAMES:
            a, size = (of_top == name).sum(), (codes.category == name).sum().item()
            table = [[a, TOP - a], [size - a, 150 - TOP - size + a]]
            assert ours.n_top.sel(category=name) == a
            expected = stats.fisher_exact(table, "greater").pvalue
            assert_allclose(ours.p_value.sel(category=name), expected, rtol=1e-10)
            assert_allclose(expected, stats.hypergeom.sf(a - 1, 150, size, TOP), rtol=1e-10)
            shares.append(a / TOP)
        assert_allclose(ours.purity, max(shares))
        assert_allclose(ours.negentropy, sum(p * np.log(p) for p in shares if p), atol=1e-15)


def test_the_best_category_is_chosen_on_one_half_and_scored_on_the_other(codes):
    marked = split_stimuli(codes, random_state=1)
    result = enrichment(marked, "category", top=TOP)
    halves = [marked[(marked.split == part).values] for part in ("fit", "score")]
    for unit in codes.unit.values:
        counts = []
        for half in halves:
            labels = half.sortby(half.sel(unit=unit)).category.values[-TOP:]
            counts.append({name: (labels == name).sum() for name in NAMES})
        sizes = [{name: (half.category == name).sum().item() for name in NAMES} for half in halves]
        p = {name: stats.hypergeom.sf(counts[0][name] - 1, len(halves[0]), sizes[0][name], TOP) for name in NAMES}
        ours, best = result.sel(unit=unit), min(p, key=p.get)
        assert ours.best == best
        assert_allclose(ours.best_share, counts[1][best] / TOP)
        exact = stats.binomtest(int(counts[1][best]), TOP).proportion_ci(0.95, "exact")
        assert_allclose([ours.best_share_low, ours.best_share_high], [exact.low, exact.high], rtol=1e-10)
        expected = stats.hypergeom.sf(counts[1][best] - 1, len(halves[1]), sizes[1][best], TOP)
        assert_allclose(ours.best_p_value, expected, rtol=1e-10)


def test_planted_categories_are_found(result):
    assert result.best.sel(unit="dog") == "dog"
    assert (result.best_p_adjusted < 0.05).values.tolist()[::2] == [True, False]
    assert (result.purity_p_adjusted < 0.05).values.tolist()[::2] == [True, False]
    assert result.purity.sel(unit="dog") > result.purity_null > 1 / 3
    assert result.negentropy.sel(unit="dog") > result.negentropy_null > -np.log(3)


def test_tests_of_random_codes_reject_as_often_as_discrete_counts_allow():
    """P(p ≤ 0.05) is the largest probability of a tail that is at most 0.05: exact for the hypergeometric test."""
    rng = np.random.default_rng(0)
    labels = {"stimulus": [f"s{i:03d}" for i in range(160)], "unit": [f"u{i}" for i in range(1000)]}
    coords = labels | {"category": ("stimulus", NAMES[:2][np.arange(160) % 2])}
    null = enrichment(xr.DataArray(rng.normal(size=(160, 1000)), coords, ("stimulus", "unit")), "category", top=20)
    tails = stats.hypergeom.sf(np.arange(-1, 20), 160, 80, 20)
    allowed = tails[tails <= 0.05].max()
    assert abs((null.p_value <= 0.05).sel(category="cat").mean() - allowed) < 3 * np.sqrt(allowed / 1000)
    halves = stats.hypergeom.sf(np.arange(-1, 20), 80, 40, 20)
    allowed = halves[halves <= 0.05].max()
    assert abs((null.best_p_value <= 0.05).mean() - allowed) < 3 * np.sqrt(allowed / 1000)
    assert (null.purity_p_value <= 0.05).mean() < 0.07
    assert abs(null.purity.mean() - null.purity_null) < 0.01


def test_neither_the_order_of_stimuli_nor_that_of_units_matters(codes, result):
    rng = np.random.default_rng(1)
    again = enrichment(codes[rng.permutation(150), ::-1].chunk(), "category", top=TOP).reindex_like(result)
    xr.testing.assert_allclose(again, result)
    assert again.best.equals(result.best)


def test_settings_out_of_range_are_refused(codes):
    with pytest.raises(ValueError, match=r"^top must be a whole number from 2 to 37, half of the stimuli of a half"):
        enrichment(codes, "category", top=38)
    with pytest.raises(ValueError, match=r"^n_resamples must be a whole number of at least 19"):
        enrichment(codes, "category", n_resamples=3)
    with pytest.raises(ValueError, match=r"^all stimuli have the label"):
        enrichment(codes, xr.full_like(codes.category, "cat"))
