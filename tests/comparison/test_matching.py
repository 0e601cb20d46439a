"""Twins that were planted are found with the right partner, up to their ceiling; independent systems have none."""

import sys

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.optimize import linear_sum_assignment

from neurosuper import split_repetitions, split_stimuli
from neurosuper.comparison import couplings, twins

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
    """Return two systems of 40 items, of which the first 12 of `a` are the last 12 of `b`, with reliability 0.75."""
    rng = np.random.default_rng(0)
    shared, own, other = (rng.normal(size=(800, 1, n)) for n in (12, 28, 28))
    signals = np.concatenate([shared, own], axis=2), np.concatenate([other, shared[..., ::-1]], axis=2)
    # the average of 4 repetitions has the reliability 1 / (1 + σ²/4) = 0.75
    a, b = (signal + np.sqrt(4 / 3) * rng.normal(size=(800, 4, 40)) for signal in signals)
    return system(a, "a"), system(b, "b")


def halves(a, found):
    is_fit = (split_stimuli(a, random_state=found.attrs["random_state"]).split == "fit").values
    return is_fit, ~is_fit


@pytest.mark.parametrize("match", ["best", "one-to-one", "mutual", "soft", "partial"])
def test_planted_twins_are_found_at_their_ceiling(planted, match):
    mass = None
    if match == "partial":
        pytest.importorskip("ot", reason="POT is not installed")
        mass = 0.3  # 12 of 40
    found = twins(*planted, match=match, mass=mass, remove="none", n_permutations=199, n_rotations=3)
    expected = [f"b{39 - i:02d}" for i in range(12)]
    assert found.partner.values[:12].tolist() == expected
    shared, rest = found.isel(item_a=slice(12)), found.isel(item_a=slice(12, None))
    assert abs(shared.r.mean() - 0.75) < 0.03
    assert abs(shared.ceiling.mean() - 0.75) < 0.03
    assert abs(shared.r_ceiled.mean() - 1) < 0.05
    assert (shared.p_adjusted < 0.05).all()
    assert ((rest.p_adjusted < 0.05).sum() <= 3).item()
    assert (shared.r > shared.second + 0.5).all()
    assert found.p_any == 1 / 200
    assert found.rotated.max() < 0.35 < found.r[:12].min()
    if match == "partial":
        assert (rest.partner == "").all()
        assert found.coupling.sum().item() == pytest.approx(0.3)


@pytest.mark.parametrize(("match", "mass"), [("soft", None), ("partial", 0.4)])
@pytest.mark.parametrize("signed", [False, True])
def test_weighted_partners_are_those_of_an_optimal_coupling(planted, match, mass, signed):
    ot = pytest.importorskip("ot", reason="POT is not installed")
    a, b = planted[0][:200], planted[1][:200, :, 5:35]
    b = b * np.where(np.arange(30) % 3 == 0, -1, 1)
    found = twins(a, b, match=match, mass=mass, signed=signed, **PLAIN)
    fit, score = halves(a, found)
    A, B = (each.mean("repetition").values for each in (a, b))
    C = np.corrcoef(A[fit].T, B[fit].T)[:40, 40:]
    cost = 1 - (np.abs(C) if signed else C)
    ones = np.full(40, 1 / 40), np.full(30, 1 / 30)
    T = ot.emd(*ones, cost) if mass is None else ot.partial.partial_wasserstein(*ones, cost, m=mass)
    np.testing.assert_allclose(found.coupling, T, atol=1e-12)
    parts = split_repetitions(b, random_state=found.attrs["random_state"])
    of_a = split_repetitions(a, random_state=found.attrs["random_state"])
    for i in range(40):
        if T[i].sum() < 1e-12:
            assert found.partner[i] == ""
            assert np.isnan(found.r[i])
            continue
        w = T[i] * (np.sign(C[i]) if signed else 1) / T[i].sum()
        mean, scale = B[fit].mean(0), B[fit].std(0)
        theirs = (B - mean) / scale @ w
        assert found.partner[i] == b.unit[T[i].argmax()]
        np.testing.assert_allclose(found.r[i], stats.pearsonr(A[score, i], theirs[score]).statistic)
        np.testing.assert_allclose(found.r_matched[i], stats.pearsonr(A[fit, i], theirs[fit]).statistic)
        repeats = (
            [((half.values - mean) / scale @ w)[score] for half in parts],
            [half.values[score, i] for half in of_a],
        )
        r = np.array([stats.pearsonr(*pair).statistic for pair in repeats])
        np.testing.assert_allclose(found.ceiling[i], np.sqrt(np.prod(2 * r / (1 + r))))


def test_items_that_share_one_of_fewer_have_weights_of_it():
    pytest.importorskip("ot", reason="POT is not installed")
    rng = np.random.default_rng(0)
    b = rng.normal(size=(200, 2))
    a = np.repeat(b, 2, axis=1) + 0.3 * rng.normal(size=(200, 4))
    found = twins(system(a, "a"), system(b, "b"), match="soft", **PLAIN)
    assert found.partner.values.tolist() == ["b00", "b00", "b01", "b01"]
    np.testing.assert_allclose(found.coupling, np.repeat(np.eye(2), 2, axis=0) / 4, atol=1e-12)
    assert (found.n_sharing == 2).all()
    assert (found.r > 0.9).all()


def test_soft_matching_of_equal_numbers_is_one_to_one(planted):
    a, b = (each.mean("repetition")[:100] for each in planted)
    soft, one = (twins(a, b, match=match, n_rotations=2, n_permutations=19) for match in ("soft", "one-to-one"))
    xr.testing.assert_allclose(soft.drop_vars(["coupling", "item_b"]), one)


def test_partners_and_r_are_those_of_a_loop(planted):
    a, b = (each.mean("repetition") for each in planted)
    found = twins(a, b, **PLAIN)
    fit, score = halves(a, found)
    C = np.corrcoef(a.values[fit].T, b.values[fit].T)[:40, 40:]
    assert found.partner.values.tolist() == b.unit.values[C.argmax(1)].tolist()
    for i, j in enumerate(C.argmax(1)):
        expected = stats.pearsonr(a.values[score][:, i], b.values[score][:, j])
        np.testing.assert_allclose(found.r[i], expected.statistic)
        interval = expected.confidence_interval(0.95)
        np.testing.assert_allclose([found.r_low[i], found.r_high[i]], interval, rtol=1e-8)
    np.testing.assert_allclose(found.r_matched, C.max(1))
    assert found.n_sharing[0] == (C.argmax(1) == C.argmax(1)[0]).sum()
    one = twins(a, b, match="one-to-one", **PLAIN)
    assert one.partner.values.tolist() == b.unit.values[linear_sum_assignment(-C)[1]].tolist()


def test_what_all_items_share_makes_twins_unless_it_is_removed():
    rng = np.random.default_rng(0)
    drive = rng.gamma(2, 1, (400, 1))
    a, b = (system(drive * rng.uniform(0.8, 1.2, 20) + rng.normal(size=(400, 20)), p) for p in "ab")
    naive = twins(a, b, remove="none", n_rotations=0, n_permutations=99)
    controlled = twins(a, b, n_rotations=19, n_permutations=99)
    assert naive.median_r > 0.4
    assert (naive.p_adjusted < 0.05).mean() > 0.9
    assert abs(controlled.median_r) < 0.1
    assert (controlled.p_adjusted < 0.05).mean() < 0.1


def test_a_rotation_shares_the_space_and_not_the_axes():
    rng = np.random.default_rng(0)
    a = rng.laplace(size=(400, 10))
    turned = a @ stats.ortho_group.rvs(10, random_state=1)
    rotated = twins(system(a, "a"), system(turned, "b"), remove="none", n_rotations=19, n_permutations=99)
    same = twins(system(a, "a"), system(a[:, ::-1], "b"), remove="none", n_rotations=19, n_permutations=19)
    assert (rotated.p_adjusted < 0.05).mean() >= 0.9  # nearly all have twins, as any directions have
    assert rotated.p_rotated > 0.05
    assert same.p_rotated == 0.05
    np.testing.assert_allclose(same.r, 1)


def test_signs_are_fixed_where_partners_are_chosen():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(100, 3))
    b = -a[:, ::-1] + 0.1 * rng.normal(size=(100, 3))
    positive, signed = (twins(system(a, "a"), system(b, "b"), signed=flag, **PLAIN) for flag in (False, True))
    assert (signed.r > 0.9).all()
    assert signed.partner.values.tolist() == ["b02", "b01", "b00"]
    assert (positive.r < 0.5).all()


def test_p_is_uniform_without_twins():
    rng, p = np.random.default_rng(0), []
    for seed in range(12):
        a, b = (system(rng.normal(size=(60, 20)), prefix) for prefix in "ab")
        p += twins(a, b, remove="none", n_rotations=0, n_permutations=199, random_state=seed).p_value.values.tolist()
    assert stats.kstest(np.array(p) - rng.uniform(0, 1 / 200, len(p)), "uniform").pvalue > 0.01
    assert 0.02 < (np.array(p) <= 0.05).mean() < 0.09


def test_within_categories_only_what_is_shared_beyond_them_counts():
    rng = np.random.default_rng(0)
    category = np.repeat(np.arange(10), 40)
    means = rng.normal(size=(10, 6))
    a, b = (system(means[category] + rng.normal(size=(400, 6)), prefix) for prefix in "ab")
    a = a.assign_coords(category=("stimulus", category))
    plain, within = (twins(a, b, blocks=name, **{**PLAIN, "n_permutations": 199}) for name in (None, "category"))
    assert (plain.p_value <= 0.01).all()
    assert (within.p_value > 0.05).mean() > 0.5


def test_order_is_irrelevant_and_coords_of_items_stay(planted):
    a, b = (each.mean("repetition")[:200] for each in planted)
    a = a.assign_coords(area=("unit", ["V4"] * 40))
    settings = {"n_permutations": 19, "n_rotations": 2}
    found = twins(a, b, **settings)
    order = np.random.default_rng(1).permutation(200)
    shuffled = twins(a[order, ::-1], b[:, ::-1], **settings).sel(item_a=found.item_a.values)
    xr.testing.assert_allclose(shuffled, found)
    xr.testing.assert_allclose(twins(a.chunk(stimulus=30), b.chunk(unit=7), **settings), found)
    assert found.area.values[0] == "V4"


def test_items_without_partner_are_nan():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(60, 5)), "a"), system(rng.normal(size=(60, 2)), "b")
    found = twins(a, b, match="one-to-one", **PLAIN)
    without = found.partner.values == ""
    assert without.sum() == 3
    assert np.isnan(found[["r", "p_value", "second", "r_low"]].to_array().values[:, without]).all()
    assert np.isfinite(found.p_value.values[~without]).all()


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(60, 5)), "a"), system(rng.normal(size=(60, 2)), "b")
    with pytest.raises(ValueError, match="match must be one of 'best', 'one-to-one', 'mutual', 'soft', 'partial'; got"):
        twins(a, b, match="weak")
    with pytest.raises(
        ValueError, match="match='partial' needs mass, the share of the weight that is matched, such as"
    ):
        twins(a, b, match="partial")
    with pytest.raises(ValueError, match=r"mass must be strictly between 0 and 1, such as 0\.5; got 1"):
        twins(a, b, match="partial", mass=1)
    with pytest.raises(
        ValueError, match=r"mass=0\.5 has no use with match='soft'; leave it out, or use match='partial'"
    ):
        twins(a, b, match="soft", mass=0.5)
    with pytest.raises(ValueError, match="12 common stimuli are too few; use at least 20"):
        twins(a[:12], b[:12])
    with pytest.raises(ValueError, match="remove='common' leaves nothing of one unit"):
        twins(a, b[:, :1])
    marked = a.assign_coords(split=("stimulus", ["fit"] * 55 + ["score"] * 5))
    with pytest.raises(ValueError, match=r"55 common stimuli to match on \('fit'\) and 5 to score"):
        twins(marked, b)
    step = b.copy(data=np.where(marked.split == "fit", 0.0, 1.0)[:, None] * b.values)
    marked = a.assign_coords(split=("stimulus", ["fit"] * 30 + ["score"] * 30))
    with pytest.raises(ValueError, match="'b00', 'b01' does not vary on one half"):
        twins(marked, step)


def test_couplings_that_do_not_fit_into_memory_or_have_no_solver_are_refused(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = system(rng.normal(size=(60, 5)), "a"), system(rng.normal(size=(60, 2)), "b")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "ot", None)
        with pytest.raises(ImportError, match=r"ot is not installed; run: pip install 'neurosuper\[transport\]'"):
            twins(a, b, match="soft")
    monkeypatch.setattr(couplings, "MOST_PAIRS", 8)
    with pytest.raises(ValueError, match=r"a coupling of 5 × 2 items takes 0\.0 GiB, several times; select items"):
        twins(a, b, match="soft")
