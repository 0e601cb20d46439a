"""One partner is enough for a planted twin, and three for a mean of three; a rotation of the partners needs more."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neurosuper import split_stimuli
from neurosuper.comparison import twins, twins_from
from neurosuper.comparison.mixture_weights import pursue, regress

PLAIN = {"remove": "none", "n_rotations": 0, "n_permutations": 19}


def system(values, prefix: str) -> xr.DataArray:
    coords = {
        "stimulus": [f"s{i:04d}" for i in range(len(values))],
        "unit": [f"{prefix}{i:02d}" for i in range(values.shape[-1])],
    }
    return xr.DataArray(
        values, coords, ("stimulus", "unit") if values.ndim == 2 else ("stimulus", "repetition", "unit")
    )


@pytest.fixture(scope="module")
def planted():
    """Return two systems: 10 items of `a` are one of `b`, 10 are the mean of three, 10 are their own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 30))
    one, three = x[:, :10], np.stack([x[:, i : i + 3].mean(axis=1) for i in range(10)], axis=1) * 3**0.5
    own = rng.normal(size=(600, 10))
    signals = np.concatenate([one, three, own], axis=1) + 0.3 * rng.normal(size=(600, 30))
    return system(signals, "a"), system(x, "b")


@pytest.fixture(scope="module")
def found(planted):
    return twins_from(*planted, remove="none", n_permutations=99, n_rotations=19)


def test_one_is_enough_for_a_twin_and_three_for_a_mean_of_three(found):
    one, three, own = (found.isel(item_a=slice(i, i + 10)) for i in (0, 10, 20))
    best = 1 / np.sqrt(1 + 0.3**2)
    assert abs(one.r.sel(n_partners="1").mean() - best) < 0.02
    assert abs(three.r.sel(n_partners="1").mean() - best / 3**0.5) < 0.06
    assert abs(three.r.sel(n_partners="3").mean() - best) < 0.02
    assert (one.n_needed == 1).sum() >= 9
    assert (three.n_needed == 3).sum() >= 9
    assert (own.n_needed == 0).sum() >= 8
    assert one.partner[0].values.tolist() == [f"b{i:02d}" for i in range(10)]
    for i in range(10):
        assert sorted(three.partner[:3, i].values) == [f"b{i + j:02d}" for j in range(3)]
    np.testing.assert_allclose(three.weight.sel(n_partners="3")[:3].mean(), best * 3**-0.5, rtol=0.05)
    assert (found.p_adjusted.sel(n_partners="1")[:20] < 0.05).all()
    np.testing.assert_allclose(one.r_needed, one.r.sel(n_partners="1"), atol=0.05)


def test_axes_of_a_rotation_are_mixtures(found):
    of_one, of_all = (found.sel(n_partners=number) for number in ("1", "all"))
    assert of_one.p_rotated == 0.05
    assert of_one.rotated.max() < of_one.median_r - 0.1
    assert of_all.p_rotated == 1  # a ridge regression is the same after a rotation
    # more partners help against it
    assert (found.rotated.mean("rotation").diff("n_partners") > 0).all()


def test_r_and_interval_are_those_of_single_correlations(planted, found):
    a, b = planted
    is_fit = (split_stimuli(a, random_state=0).split == "fit").values
    A, B = ((each.values - each.values[is_fit].mean(0)) / each.values[is_fit].std(0) for each in (a, b))
    few, ridge = pursue(A[is_fit], B[is_fit], 5, signed=False), regress(A[is_fit], B[is_fit])
    for i, number in ((3, 1), (12, 2), (25, 5), (14, "all")):
        mixture = ridge.predict(B)[:, i] if number == "all" else few.predict(B)[number - 1, :, i]
        expected = stats.pearsonr(A[~is_fit, i], mixture[~is_fit])
        own = found.isel(item_a=i).sel(n_partners=str(number))
        interval = expected.confidence_interval(0.95)
        np.testing.assert_allclose([own.r, own.r_low, own.r_high], [expected.statistic, *interval], rtol=1e-6)
        np.testing.assert_allclose(own.r_matched, np.corrcoef(A[is_fit, i], mixture[is_fit])[0, 1], rtol=1e-6)


def test_one_partner_is_that_of_twins(planted):
    a, b = planted
    one, best = twins_from(a, b, n_partners=1, **PLAIN), twins(a, b, **PLAIN)
    assert one.partner[0].values.tolist() == best.partner.values.tolist()
    np.testing.assert_allclose(one.r[0], best.r)
    signed = twins_from(a, -b, n_partners=[1], signed=True, **PLAIN)
    np.testing.assert_allclose(signed.r[0, :20], best.r[:20])
    assert (signed.weight[0, 0, :20] < 0).all()


def test_ceilings_are_those_of_the_reliabilities_of_items_and_mixtures():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 1, 12))
    signal = np.concatenate([x[..., :4], (x[..., :4] + x[..., 4:8] + x[..., 8:]) / 3**0.5], axis=2)
    a, b = (each + np.sqrt(4 / 3) * rng.normal(size=(800, 4, each.shape[2])) for each in (signal, x))
    found = twins_from(system(a, "a"), system(b, "b"), n_partners=(1, 3), **PLAIN)
    # the average of 4 repetitions has the reliability 0.75, and so has a mixture of such averages
    assert abs(found.ceiling - 0.75).mean() < 0.03
    assert abs(found.r_ceiled.sel(n_partners="3") - 1).mean() < 0.04
    assert abs(found.r_ceiled.sel(n_partners="1")[4:] - 3**-0.5).mean() < 0.05
    alone = twins_from(system(a, "a").mean("repetition"), system(b, "b"), n_partners=3, **PLAIN)
    assert abs(alone.ceiling - 0.75**0.5).mean() < 0.03


def test_p_is_uniform_for_mixtures_of_independent_systems():
    rng, p = np.random.default_rng(0), []
    for seed in range(10):
        a, b = (system(rng.normal(size=(60, 15)), prefix) for prefix in "ab")
        settings = {"n_partners": [3], "remove": "none", "n_rotations": 0, "n_permutations": 99}
        found = twins_from(a, b, **settings, random_state=seed)
        p += found.p_value.values.ravel().tolist()
        assert (found.n_needed > 0).mean() < 0.4
    assert stats.kstest(np.array(p) - rng.uniform(0, 1 / 100, len(p)), "uniform").pvalue > 0.01


def test_order_is_irrelevant_dask_is_memory_and_coords_of_items_stay(planted):
    a, b = (each[:200] for each in planted)
    a = a.assign_coords(area=("unit", ["V4"] * 30))
    settings = {"n_partners": (1, 2, "all"), "n_permutations": 19, "n_rotations": 2}
    found = twins_from(a, b, **settings)
    order = np.random.default_rng(1).permutation(200)
    shuffled = twins_from(a[order, ::-1], b[::-1, ::-1].chunk(stimulus=50), **settings)
    xr.testing.assert_allclose(shuffled.sel(item_a=found.item_a.values), found)
    assert found.area.values[0] == "V4"
    assert found.n_partners.values.tolist() == ["1", "2", "all"]


def test_items_that_nothing_helps_are_nan():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    b = x[:, :2] + 0.1 * rng.normal(size=(100, 2))
    a = np.stack([x[:, 0], -x[:, 0] - x[:, 1]], axis=1)
    found = twins_from(system(a, "a"), system(b, "b"), n_partners=(1, 2), **PLAIN)
    assert found.partner.values[:, 1].tolist() == ["", ""]
    assert np.isnan(found[["r", "r_low", "p_value", "r_matched"]].isel(item_a=1).to_array()).all()
    assert found.n_needed.values.tolist() == [1, 0]
    assert np.isnan(found.r_needed[1])
    np.testing.assert_allclose(found.median_r[0], found.r[0, 0] / 2)  # nothing counts as 0


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(60, 5)), "a"), system(rng.normal(size=(60, 4)), "b")
    with pytest.raises(ValueError, match="n_partners must be a whole number from 1 to 4, the number of items of b, or"):
        twins_from(a, b)
    for wrong in ([1, 1], [], "every"):
        with pytest.raises(ValueError, match="n_partners must be"):
            twins_from(a, b, n_partners=wrong)
    with pytest.raises(ValueError, match="12 common stimuli are too few; use at least 20"):
        twins_from(a[:12], b[:12], n_partners=2)
    with pytest.raises(ValueError, match="remove must be one of 'common', 'none'"):
        twins_from(a, b, n_partners=2, remove="all")
    flat = b.copy(data=np.where(np.arange(4) == 2, 0.0, b.values))
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'b02'"):
        twins_from(a, flat, n_partners=2)
