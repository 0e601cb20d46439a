"""A rank correlation of sharing and index is found where it is planted, and not where sparseness explains both."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neurosuper as ns
from neurosuper.comparison import shared_and_interpretable, twins
from neurosuper.comparison.interpretable_twins import correlate_ranks

COLOR = ns.Color(device="cpu")
QUICK = {"remove": "none", "n_permutations": 39, "n_resamples": 0}
N_ITEMS = 24


def system(values, prefix: str) -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:04d}" for i in range(len(values))],
        "unit": [f"{prefix}{i:02d}" for i in range(values.shape[-1])],
    }
    return xr.DataArray(
        values, coords, ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    )


def draw_world(n: int, seed: int, n_items: int = N_ITEMS):
    """Return images of random colours, and items that follow colours from not at all to closely (stimulus, item)."""
    rng = np.random.default_rng(seed)
    colors = rng.integers(0, 256, (n, 1, 1, 3), dtype=np.uint8)
    directions = rng.normal(size=(3, n_items))
    tuning = rng.permutation(np.linspace(0, 3, n_items))
    z = (colors[:, 0, 0] / 75 - 1.7) @ (directions / np.linalg.norm(directions, axis=0))
    images = ns.load_images(colors).assign_coords(stimulus=[f"s{i:04d}" for i in range(n)])
    A = (tuning * z + rng.normal(size=z.shape)) / np.sqrt(tuning**2 + 1)
    return images, A, tuning, rng


@pytest.fixture(scope="module")
def planted():
    """Return images and two systems of four repetitions that share the items that follow colours."""
    images, A, tuning, rng = draw_world(400, 0)
    B = tuning / 2 * A + rng.normal(size=A.shape)
    a, b = (signal[:, None] + 0.5 * rng.normal(size=(400, 4, N_ITEMS)) for signal in (A, B))
    return images, system(a, "a").assign_coords(area=("unit", ["V4"] * N_ITEMS)), system(b, "b")


@pytest.fixture(scope="module")
def found(planted):
    images, a, b = planted
    return shared_and_interpretable(a, b, images, COLOR, top=10, n_permutations=99, n_resamples=30)


def test_interpretable_items_that_are_shared_are_found(found):
    assert found.rho > 0.4  # 1 but for the noise of the index
    assert found.p_value == 0.02  # 2 / 100
    assert 0 < found.rho_low < found.rho < found.rho_high <= 1
    assert found.attrs["covariates"] == ["sparseness", "variance", "plainness", "reliability"]
    assert found.rho_partial_low < found.rho_partial < found.rho_partial_high


def test_each_number_is_that_of_its_own_function(planted, found):
    images, a, b = planted
    same = twins(a, b, n_permutations=19, n_rotations=0)
    for name in ("partner", "r", "ceiling", "r_ceiled"):
        xr.testing.assert_allclose(found[name], same[name])
    is_fit = (ns.split_stimuli(a, random_state=0).split == "fit").values
    half = a.mean("repetition")[is_fit]
    index = ns.interpretability_index(half, images, COLOR, top=10)
    np.testing.assert_allclose(found.interpretability, index, rtol=1e-5)
    np.testing.assert_allclose(found.sparseness, stats.skew(half.values), rtol=1e-10)
    np.testing.assert_allclose(found.variance, half.var("stimulus"), rtol=1e-10)
    of_fit = images.sel(stimulus=half.stimulus.values)
    far = ns.metrics.pairwise_distances(of_fit, COLOR)
    plain = -far.sum(far.dims[1]) / (len(half) - 1)
    chosen = ns.top_stimuli(half, top=10)
    expected = [plain.sel({plain.dims[0]: chosen[:, i].values}).mean() for i in range(N_ITEMS)]
    np.testing.assert_allclose(found.plainness, expected, rtol=1e-5)
    one, other = ns.split_repetitions(a[is_fit], random_state=0)
    r = np.array([np.corrcoef(one[:, i], other[:, i])[0, 1] for i in range(N_ITEMS)])
    np.testing.assert_allclose(found.reliability, 2 * r / (1 + r), rtol=1e-10)


def test_rho_is_that_of_scipy_and_partial_rho_that_of_residual_ranks(found):
    r, index = found.r_ceiled.values, found.interpretability.values
    np.testing.assert_allclose(found.rho, stats.spearmanr(r, index).statistic, rtol=1e-10)
    ranks = [stats.rankdata(each) for each in (r, index, *(found[name] for name in found.attrs["covariates"]))]
    design = np.stack([np.ones(N_ITEMS), *ranks[2:]], axis=1)
    residuals = [y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in ranks[:2]]
    np.testing.assert_allclose(found.rho_partial, stats.pearsonr(*residuals).statistic, rtol=1e-10)
    # the same by the inverse of the correlations of ranks
    precision = np.linalg.inv(np.corrcoef(ranks))
    by_inverse = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    np.testing.assert_allclose(found.rho_partial, by_inverse, rtol=1e-10)


def test_sparseness_alone_makes_items_shared_and_interpretable():
    images, _, _, rng = draw_world(400, 1)
    n_items, level = 60, np.linspace(0, 1, 60)
    directions = rng.normal(size=(3, n_items))
    z = (images.values[:, 0, 0] / 75 - 1.7) @ (directions / np.linalg.norm(directions, axis=0))
    # sparse items follow colours, and are shared; of items that are equally sparse, neither goes with the other
    follows, shared = (np.clip(level + 0.1 * rng.normal(size=n_items), 0, 1) for _ in range(2))
    A = np.exp((0.3 + level) * (follows * z + np.sqrt(1 - follows**2) * rng.normal(size=z.shape)))
    Z = (A - A.mean(0)) / A.std(0)
    a, b = system(A, "a"), system(shared * Z + 0.7 * rng.normal(size=Z.shape), "b")
    planted = xr.Dataset({"level": ("unit", level)}, {"unit": a.unit.values})
    exact = shared_and_interpretable(a, b, images, COLOR, covariates=planted, top=10, **QUICK)
    estimated = shared_and_interpretable(a, b, images, COLOR, covariates="sparseness", top=10, **QUICK)
    assert exact.rho > 0.5
    assert exact.p_value == 2 / 40
    assert abs(exact.rho_partial) < 0.25
    assert exact.p_partial > 0.05
    assert 0 < estimated.rho_partial < estimated.rho - 0.1  # skewness has noise of its own
    np.testing.assert_allclose(exact.level, level)


def test_p_is_uniform_where_sharing_has_nothing_to_do_with_the_index():
    p = []
    settings = {**QUICK, "covariates": ["variance", "sparseness"], "top": 3}
    for seed in range(15):  # 500 are in benchmarks/validate_populations.py
        images, A, _, rng = draw_world(60, seed, 12)
        share = rng.permutation(np.linspace(0, 2, 12))
        a, b = system(A * rng.uniform(1, 2, 12), "a"), system(share * A + rng.normal(size=A.shape), "b")
        found = shared_and_interpretable(a, b, images, COLOR, **settings, random_state=seed)
        p.append([found.p_value.item(), found.p_partial.item()])
    for each in np.array(p).T:
        assert stats.kstest(each - rng.uniform(0, 2 / 40, 15), "uniform").pvalue > 0.01


def test_order_is_irrelevant_dask_is_memory_and_coords_of_items_stay(planted, found):
    images, a, b = planted
    order = np.random.default_rng(1).permutation(400)
    settings = {"top": 10, "n_permutations": 99, "n_resamples": 30}
    shuffled = shared_and_interpretable(a[order, :, ::-1].chunk(stimulus=100), b[..., ::-1], images, COLOR, **settings)
    xr.testing.assert_allclose(shuffled.sel(item_a=found.item_a.values), found)
    assert found.area.values[0] == "V4"


def test_averages_have_no_ceiling_and_covariates_that_do_not_vary_are_left_out(planted):
    images, a, b = planted
    a, b = a.mean("repetition"), b.mean("repetition")
    found = shared_and_interpretable(a, b, images, COLOR, **QUICK)
    assert found.attrs["covariates"] == ["sparseness", "variance", "plainness"]
    assert "r_ceiled" not in found
    np.testing.assert_allclose(found.rho, stats.spearmanr(found.r, found.interpretability).statistic)
    assert not {"rho_low", "reliability"} & set(found.data_vars)
    is_fit = (ns.split_stimuli(a, random_state=0).split == "fit").values
    unit = (a - a[is_fit].mean("stimulus")) / a[is_fit].std("stimulus")
    assert shared_and_interpretable(unit, b, images, COLOR, **QUICK).attrs["covariates"] == ["sparseness", "plainness"]
    alone = shared_and_interpretable(a, b, images, COLOR, covariates=(), match="one-to-one", **QUICK)
    assert "rho_partial" not in alone
    assert len(set(alone.partner.values)) == N_ITEMS


def test_items_without_ceiling_are_left_out(planted):
    images, a, b = planted
    noisy = a.copy(data=a.values)
    noisy[:, :, :6] = np.random.default_rng(0).normal(size=(400, 4, 6))
    found = shared_and_interpretable(noisy, b, images, COLOR, covariates=["variance"], **QUICK)
    has = np.isfinite(found.r_ceiled.values)
    assert found.attrs["n_items"] == has.sum() < N_ITEMS
    expected = stats.spearmanr(found.r_ceiled.values[has], found.interpretability.values[has]).statistic
    np.testing.assert_allclose(found.rho, expected)


def test_nothing_is_left_given_the_index_itself():
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    assert correlate_ranks(x, y, y[:, None])[1] == 0
    assert np.isnan(correlate_ranks(np.where(np.arange(20) < 3, x, np.nan), y, y[:, None])).all()


def test_bad_input_is_named(planted):
    images, a, b = planted
    a, b = a.mean("repetition"), b.mean("repetition")

    def refused(message, a=a, b=b, **settings):
        with pytest.raises(ValueError, match=message):
            shared_and_interpretable(a, b, images, COLOR, **{**QUICK, **settings})

    refused("match must be one of 'best', 'one-to-one'", match="mutual")
    refused("covariates must be one of 'sparseness', .*; got 'size'", covariates=["size"])
    refused("'reliability' needs the dim repetition of a", covariates="reliability")
    refused("30 stimuli to match on are too few for the index of 5 top stimuli; use at least 40", a=a[:60], b=b[:60])
    refused("7 of 7 items .* too few for a correlation given 3 covariates; use at least 8", a=a[:, :7])
    of_items = xr.Dataset({"size": ("unit", np.arange(24.0))}, {"unit": a.unit.values})
    refused("covariates have no unit 'a00', 'a01'", covariates=of_items[{"unit": slice(2, None)}])
    refused("covariate 'size' has the same value for all items", covariates=of_items * 0)
    refused("covariate 'size' is NaN or infinite", covariates=of_items.where(of_items["size"] > 2))
    refused("covariate 'r' has the name of a variable", covariates=of_items.rename(size="r"))
    refused(r"covariate 'size' must be numbers \(unit,\)", covariates=of_items.astype(str))


def test_codes_with_repetitions_give_the_same_as_units(planted):
    images, a, b = planted
    few = {"top": 10, "n_permutations": 19, "n_resamples": 0}
    units, codes = (shared_and_interpretable(each, b, images, COLOR, **few) for each in (a, a.rename(unit="direction")))
    for name in ("r_ceiled", "reliability", "rho_partial", "p_value"):
        np.testing.assert_array_equal(units[name], codes[name])
