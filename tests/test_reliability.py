"""Measures equal a brute-force reading of their definitions; planted signal and noise come back from repetitions."""

import itertools
import re
import tracemalloc
from functools import partial

import neuralpredictors.measures.np_functions as peer
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from neurosuper import average_repetitions, select_units
from neurosuper.reliability import (
    explainable_variance,
    ncsnr,
    noise_ceiling,
    oracle_correlation,
    split_half_reliability,
)
from neurosuper.repetitions import first_half

conservative = partial(oracle_correlation, method="conservative")
halves = partial(split_half_reliability, n_resamples=5, spearman_brown=False)
EXACT = [oracle_correlation, conservative, explainable_variance, ncsnr]  # nothing random in them
ALL = [halves, *EXACT]
SIGNAL, NOISE = 2.0, 3.0  # s.d.
unhurried = settings(deadline=None, max_examples=60)


def label(values: np.ndarray) -> xr.DataArray:
    """Label (stimulus, repetition, unit)."""
    labels = {"stimulus": [f"s{i:04d}" for i in range(len(values))], "unit": [f"u{i}" for i in range(values.shape[2])]}
    return xr.DataArray(values, labels, dims=("stimulus", "repetition", "unit"), name="response")


def plant(rng, counts, n_stimuli=3000, n_units=20) -> tuple[xr.DataArray, np.ndarray]:
    """Return responses of known signal and noise, and how often each stimulus was repeated."""
    n = np.resize(counts, n_stimuli)
    values = SIGNAL * rng.normal(size=(n_stimuli, 1, n_units)) + NOISE * rng.normal(size=(n_stimuli, max(n), n_units))
    values[np.arange(max(n)) >= n[:, None]] = np.nan
    return label(values), n


@pytest.fixture
def patchy(rng) -> xr.DataArray:
    """40 stimuli × up to 6 repetitions × 5 units, float32: each unit lacks others; some stimuli once or not."""
    values = 1000 + 2 * rng.normal(size=(40, 1, 5)) + rng.normal(size=(40, 6, 5))
    values[rng.random(values.shape) < 0.4] = np.nan
    values[0, 1:] = np.nan
    values[1] = np.nan
    return label(values.astype(np.float32))


def brute_jackknife(repeats, _):
    pairs = [(x, np.mean(row[:k] + row[k + 1 :])) for row in repeats for k, x in enumerate(row)]
    return np.corrcoef(np.transpose(pairs))[0, 1]


def brute_conservative(repeats, _):
    signal = np.var([np.mean(row) for row in repeats])
    return signal / np.sqrt(signal * (signal + np.mean([np.var(row) for row in repeats])))


def brute_explainable(repeats, _):
    total = np.var(np.concatenate(repeats), ddof=1)
    return (total - np.mean([np.var(row, ddof=1) for row in repeats])) / total


def brute_ncsnr(repeats, presentations):
    noise = np.mean([np.var(row, ddof=1) for row in repeats])
    return np.sqrt(np.var(presentations, ddof=1) - noise) / np.sqrt(noise)


BRUTE = [brute_jackknife, brute_conservative, brute_explainable, brute_ncsnr]


@pytest.mark.parametrize(("measure", "brute"), list(zip(EXACT, BRUTE, strict=True)))
def test_measures_equal_brute_force(patchy, measure, brute):
    expected = []
    for unit in patchy.unit.values:
        rows = [[float(x) for x in row if not np.isnan(x)] for row in patchy.sel(unit=unit).values]
        expected.append(brute([row for row in rows if len(row) > 1], np.concatenate(rows)))
    assert_allclose(measure(patchy), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("counts", [[4], [2, 3, 4, 7, 10]], ids=["equal", "unequal"])
def test_measures_equal_those_of_neuralpredictors(rng, counts):
    """To 1e-8, up to the 1e-8 and 1e-9 that it adds to standard deviations and variances."""
    responses, _ = plant(rng, counts, n_stimuli=200)
    repeats = [part[~np.isnan(part).any(axis=1)] for part in responses.values]
    assert_allclose(oracle_correlation(responses), peer.oracle_corr_jackknife(repeats), atol=1e-8)
    assert_allclose(
        oracle_correlation(responses, method="conservative"), peer.oracle_corr_conservative(repeats), atol=1e-8
    )
    if len(counts) == 1:
        explainable = peer.explainable_var(repeats, eps=0)
        assert_allclose(explainable_variance(responses), explainable, atol=1e-8)


def test_ncsnr_of_zscored_betas_is_that_of_nsd(rng):
    betas, _ = plant(rng, [3], n_stimuli=200, n_units=4)
    betas = (betas - betas.mean(["stimulus", "repetition"])) / betas.std(["stimulus", "repetition"], ddof=1)
    noise = np.sqrt(np.mean(np.std(betas.values, axis=1, ddof=1) ** 2, axis=0))
    assert_allclose(ncsnr(betas), np.sqrt(1 - noise**2) / noise, rtol=1e-10)


def test_split_half_equals_brute_force(patchy):
    there = patchy.notnull().values
    there &= there.sum(axis=1, keepdims=True) >= 2
    rng, expected = np.random.default_rng(3), []
    for first in [first_half(there, np.arange(40), rng) for _ in range(5)]:
        for unit, (row, one, every) in enumerate(zip(patchy.values.T, first.T, there.T, strict=True)):
            shown = [s for s in range(40) if every[:, s].any()]
            means = [[row[half[:, s], s].mean(dtype=float) for s in shown] for half in (one, every & ~one)]
            expected.append((unit, np.corrcoef(means)[0, 1]))
    r = split_half_reliability(patchy, n_resamples=5, spearman_brown=False, random_state=3)
    for unit in range(5):
        assert r[unit].item() == pytest.approx(np.mean([x for u, x in expected if u == unit]), abs=1e-10)


def test_split_half_is_the_mean_over_all_splits_that_there_are(rng):
    values = np.arange(4)[:, None] + 2 * rng.normal(size=(4, 3))
    halves = [[0], [1], [2], [0, 1], [0, 2], [1, 2]]
    means = [[(np.mean(row[half]), np.mean(np.delete(row, half))) for half in halves] for row in values]
    every = [np.corrcoef(np.transpose(split))[0, 1] for split in itertools.product(*means)]
    r = split_half_reliability(label(values[..., None]), n_resamples=5000, spearman_brown=False).item()
    assert abs(r - np.mean(every)) < 4 * np.std(every) / np.sqrt(5000)


@unhurried
@given(arrays(bool, (5, 6, 2)), st.integers(0, 1000))
def test_halves_share_out_what_there_is(there, seed):
    first = first_half(there, np.arange(5), np.random.default_rng(seed))
    one, other = first.sum(axis=1), (there & ~first).sum(axis=1)
    assert not (first & ~there).any()
    assert np.abs(one - other).max() <= 1
    np.testing.assert_array_equal(one + other, there.sum(axis=1))


@pytest.mark.parametrize("counts", [[4], [2, 3, 4, 7, 10]], ids=["equal", "unequal"])
def test_planted_signal_and_noise_come_back(rng, counts):
    responses, n = plant(rng, counts)
    signal, noise = SIGNAL**2, NOISE**2
    r = signal / (signal + noise * np.mean([1 / (n // 2), 1 / (n - n // 2)]))
    others = noise * np.average(1 / (n - 1), weights=n)
    expected = {
        halves: r,
        split_half_reliability: 2 * r / (1 + r),
        ncsnr: SIGNAL / NOISE,
        explainable_variance: signal / (signal + noise),
        oracle_correlation: signal / np.sqrt((signal + noise) * (signal + others)),
        conservative: np.sqrt((signal + noise * np.mean(1 / n)) / (signal + noise)),
        lambda x: noise_ceiling(ncsnr(x), x): signal / (signal + noise * np.mean(1 / n)),
    }
    for measure, value in expected.items():
        assert measure(responses).mean().item() == pytest.approx(value, abs=0.01), measure
    assert_allclose(noise_ceiling(ncsnr(responses), 1), explainable_variance(responses))


def shift(responses: xr.DataArray) -> xr.DataArray:
    """Shift each repetition by one stimulus against the one before."""
    values = np.moveaxis(responses.values, 1, 0)
    return responses.copy(data=np.stack([np.roll(row, k, axis=0) for k, row in enumerate(values)], axis=1))


def test_repetitions_that_are_shifted_by_a_stimulus_are_unreliable(rng):
    responses, _ = plant(rng, [4])
    for measure in (split_half_reliability, oracle_correlation, explainable_variance):
        assert measure(responses).mean() > 0.25
        assert abs(measure(shift(responses)).mean()) < 0.02


@st.composite
def small_responses(draw):
    """Whole numbers, 5 stimuli × 4 repetitions × 3 units; any of them may be missing."""
    values = draw(arrays(float, (5, 4, 3), elements=st.integers(-3, 3), fill=st.nothing()))
    values[draw(arrays(bool, (5, 4, 3), fill=st.nothing()))] = np.nan
    assume(((~np.isnan(values)).sum(axis=1) >= 2).sum(axis=0).max() >= 3)
    return label(values)


def assert_same(one, other):
    """Compare squares, since the root in `ncsnr` makes much of rounding next to 0."""
    assert_allclose(one**2, other**2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("measure", EXACT)
@unhurried
@given(responses=small_responses(), seed=st.integers(0, 1000), where=st.integers(0, 4))
def test_order_of_repetitions_and_places_of_missing_ones_do_not_matter(measure, responses, seed, where):
    shuffled = np.random.default_rng(seed).permuted(responses.values, axis=1)
    assert_same(measure(responses), measure(label(np.insert(shuffled, where, np.nan, axis=1))))


@pytest.mark.parametrize("measure", ALL)
@unhurried
@given(responses=small_responses(), order=st.permutations(range(5)), unit=st.integers(0, 2))
def test_order_of_stimuli_and_company_of_units_do_not_matter(measure, responses, order, unit):
    alone = responses.isel(unit=[unit])
    assume((alone.count("repetition") >= 2).sum() >= 3)
    assert_same(measure(responses)[[unit]], measure(alone))
    assert_same(measure(responses), measure(responses.isel(stimulus=order)))


@pytest.mark.parametrize("measure", ALL)
@unhurried
@given(responses=small_responses())
def test_measures_are_bounded_and_nan_only_where_there_is_too_little(measure, responses):
    enough = responses.where(responses.count("repetition") >= 2)
    varies = enough.max(["stimulus", "repetition"]) > enough.min(["stimulus", "repetition"])
    sound = varies & ((responses.count("repetition") >= 2).sum("stimulus") >= 3)
    numbers = measure(responses)
    np.testing.assert_array_equal(numbers.isnull(), ~sound.values)
    assert measure is ncsnr or not (numbers > 1 + 1e-12).any()


@pytest.mark.parametrize("measure", [split_half_reliability, *EXACT])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])  # sums of the latter two are rounded
def test_units_that_do_not_vary_or_hardly_repeat_are_nan(rng, measure, value):
    values = rng.normal(size=(7, 3, 4))
    values[..., 1] = value
    values[:6, :, 2] = value  # the rest is one repetition of one stimulus
    values[6, 1:, 2] = np.nan
    values[:5, 1:, 3] = np.nan  # two stimuli are left
    assert measure(label(values)).isnull().values.tolist() == [False, True, True, True]


def test_a_half_that_does_not_vary_correlates_at_zero():
    values = np.zeros((20, 6, 3))
    values[3, 0, 0] = 1
    values[..., 1] = 0.1
    values[3, 0, 1] = 0.2
    values[..., 2] = np.arange(20)[:, None]
    values[::2, 5] = np.nan  # means of two and of three 0.1 differ by rounding
    assert_allclose(split_half_reliability(label(values)), [0, 0, 1], atol=1e-12)


def test_large_offsets_and_whole_numbers_lose_nothing(rng):
    counts = rng.poisson(5, (50, 1, 3)) + rng.poisson(5, (50, 4, 3))
    for measure in ALL:
        expected = measure(label(counts.astype(float)))
        assert_allclose(measure(label(counts)), expected, rtol=1e-12)
        assert_allclose(measure(label(counts.astype(np.int16))), expected, rtol=1e-12)
        assert_allclose(measure(label((counts + 1e6).astype(np.float32))), expected, rtol=1e-6)


def test_reliability_is_a_coord_that_says_its_rule(patchy, tmp_path):
    patchy = patchy.assign_coords(area=("unit", list("VVVII")), split=("stimulus", ["fit"] * 40))
    rated = patchy.assign_coords(reliability=split_half_reliability(patchy), ncsnr=ncsnr(patchy))
    averaged = average_repetitions(rated).dropna("stimulus").sel(unit=["u1", "u3"])
    averaged.to_netcdf(tmp_path / "averaged.nc")
    stored = xr.load_dataarray(tmp_path / "averaged.nc")
    n = int((patchy.count("repetition") >= 2).sum("stimulus").max())
    assert stored.ncsnr.attrs == {"rule": "ncsnr from repetitions", "n_stimuli": n, "n_stimuli_left_out": 40 - n}
    how = {"rule": "split-half correlation, Spearman–Brown", "n_resamples": 100, "random_state": 0}
    assert stored.reliability.attrs == how | {"n_stimuli": n, "n_stimuli_left_out": 40 - n}
    again = split_half_reliability(rated)
    np.testing.assert_array_equal(stored.reliability, again[[1, 3]])
    assert set(again.coords) == {"unit", "area", "ncsnr"}
    assert (abs(split_half_reliability(patchy, random_state=1) - again) > 1e-6).all()


@pytest.mark.parametrize("measure", [split_half_reliability, *EXACT])
def test_one_repetition_says_why_not(patchy, measure):
    why = r"needs at least 2 repetitions of at least 3 stimuli; 0 of 40 have that many \(most: 1\); use responses from"
    for once in (patchy.fillna(0).isel(repetition=0), patchy.isel(repetition=[0])):
        with pytest.raises(ValueError, match=why):
            measure(once)


def test_what_cannot_be_measured_is_refused(patchy):
    with pytest.raises(ValueError, match=r"^ncsnr does not stream; .* memory with responses.compute\(\) first"):
        ncsnr(patchy.chunk(stimulus=10))
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 1, got 0"):
        split_half_reliability(patchy, n_resamples=0)
    with pytest.raises(ValueError, match="method must be 'jackknife' or 'conservative', got 'loo'"):
        oracle_correlation(patchy, method="loo")


def ratios(*values: float) -> xr.DataArray:
    labels = {"unit": [f"u{i}" for i in range(len(values))]}
    return xr.DataArray(list(values), dims="unit", coords=labels, name="ncsnr", attrs={"rule": "as NSD gives it"})


def test_noise_ceiling_of_unequal_repetitions_is_that_of_nsd():
    values = np.zeros((10, 3, 2))
    values[:5, 2] = values[:1, 1] = values[9] = np.nan  # 4 stimuli of 3, 4 of 2, 1 of 1 and 1 without
    inverse = (4 / 3 + 4 / 2 + 1) / (4 + 4 + 1)
    expected = [0.25 / (0.25 + inverse), 4 / (4 + inverse)]
    for responses in (label(values), average_repetitions(label(values)[:9])):
        assert_allclose(noise_ceiling(ratios(0.5, 2.0), responses), expected)
    values[:, 1:, 1] = np.nan
    assert_allclose(noise_ceiling(ratios(0.5, 2.0), label(values)), [expected[0], 4 / (4 + 1)])
    assert_allclose(noise_ceiling(ratios(0.5, 2.0)[1:], label(values)), [4 / (4 + 1)])


def test_noise_ceiling_reaches_0_and_1_and_passes_nan_on():
    ceiling = noise_ceiling(ratios(0, 1, np.inf, np.nan), 3)
    np.testing.assert_array_equal(ceiling, [0, 0.75, 1, np.nan])
    assert ceiling.attrs["rule"] == "ncsnr² / (ncsnr² + 1/n), n = 3; as NSD gives it"


def test_noise_ceiling_may_be_taken_from_a_coord_and_computed_twice(patchy):
    patchy = patchy.assign_coords(ncsnr=ncsnr(patchy[2:]))
    once = patchy.assign_coords(noise_ceiling=noise_ceiling(patchy.ncsnr, 1))
    twice = once.assign_coords(noise_ceiling=noise_ceiling(once.ncsnr, once))
    np.testing.assert_array_equal(twice.noise_ceiling, noise_ceiling(ncsnr(patchy[2:]), patchy))
    assert twice.noise_ceiling.attrs["rule"].endswith("n of each stimulus; ncsnr from repetitions")


def test_noise_ceiling_refuses_what_has_no_meaning(patchy):
    refused = {
        "ncsnr must be a DataArray over unit, not below 0, as ncsnr() gives; got '1', '-1'": (ratios(1, -1), 3),
        "ncsnr must be a DataArray over unit": (np.ones(2), 3),
        "repetitions must be a whole number of at least 1, or responses, got 0": (ratios(1), 0),
        "repetitions must be a whole number of at least 1, or responses, got -2": (ratios(1), -2),
        "responses need the dim repetition or the coord n_repe": (ratios(1), patchy.fillna(0).isel(repetition=0)),
        "the responses lack unit 'u5' of ncsnr": (ratios(*range(6)), patchy),
        "noise_ceiling does not stream": (ratios(1), patchy.chunk()),
    }
    for message, given_ in refused.items():
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            noise_ceiling(*given_)


@pytest.fixture
def rated(make_responses, rng) -> xr.DataArray:
    """Averaged responses of four units with three coords."""
    reliability = xr.DataArray([0.2, 0.3, 0.9, np.nan], dims="unit", attrs={"rule": "split-half correlation"})
    responses = make_responses(rng.random((6, 4)), area=("unit", list("VVII")), n_spikes=("unit", [9, 0, 5, 7]))
    return responses.assign_coords(reliability=reliability)


def test_units_at_the_threshold_are_kept_and_nan_fails(rated):
    for responses in (rated, rated.chunk(), rated.assign_coords(reliability=rated.reliability.astype(np.float32))):
        kept = select_units(responses, reliability=0.3)
        xr.testing.assert_equal(kept, responses.isel(unit=[1, 2]))
        assert kept.attrs["selected_units"] == "2 of 4 with reliability >= 0.3 (split-half correlation)"
        assert (kept.chunks is None) == (responses.chunks is None)


def test_thresholds_join(rated):
    kept = select_units(rated, reliability=0.25, n_spikes=1)
    assert kept.unit.values.tolist() == ["u002"]
    assert kept.attrs["selected_units"].endswith(
        "reliability >= 0.25 (split-half correlation) and n_spikes >= 1 (as given)"
    )
    twice = select_units(select_units(rated, n_spikes=1), reliability=0.25)
    xr.testing.assert_equal(twice, kept)
    assert re.match("3 of 4 with .*; then 1 of 3 with", twice.attrs["selected_units"])


def test_reliability_is_computed_where_it_is_missing(rng):
    responses, _ = plant(rng, [4], n_stimuli=200, n_units=3)
    responses[..., 1] = rng.normal(size=(200, 4))
    kept = select_units(responses, reliability=0.4)
    xr.testing.assert_identical(kept.reliability.drop_vars("reliability"), split_half_reliability(responses)[[0, 2]])
    xr.testing.assert_equal(kept.drop_vars("reliability"), responses.isel(unit=[0, 2]))
    assert kept.attrs["selected_units"] == "2 of 3 with reliability >= 0.4 (split-half correlation, Spearman–Brown)"


REFUSED = {
    "select_units needs a threshold, such as select_units(responses, reliability=0.3)": {},
    "none of 4 units has reliability >= 1 (split-half correlation); the best has reliability 0.9;": {"reliability": 1},
    "none of 4 units has n_spikes >= 6 (as given) and reliability >= 0.9": {"n_spikes": 6, "reliability": 0.9},
    "responses have no coord 'ncsnr' over unit; they have area, n_spikes, reliability; add": {"ncsnr": 0.2},
    "responses have no coord 'stimulus' over unit": {"stimulus": 0.2},
    "area is <U1 and its threshold 0.2; both must be numbers": {"area": 0.2},
    "reliability is float64 and its threshold '0.2'; both must be numbers": {"reliability": "0.2"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_selection_that_cannot_be_says_why(rated, message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}"):
        select_units(rated, **REFUSED[message])


def test_units_without_any_reliability_are_refused(rated):
    with pytest.raises(ValueError, match="the best has reliability nan"):
        select_units(rated.isel(unit=[3]), reliability=0)
    with pytest.raises(
        ValueError, match=r"split_half_reliability needs at least 2 repetitions .* from before average_repetitions"
    ):
        select_units(rated.drop_vars("reliability"), reliability=0.3)


@pytest.mark.parametrize("measure", [halves, *EXACT])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_memory_is_about_three_times_the_responses(rng, measure, missing):
    responses = label(rng.normal(size=(500, 3, 400)).astype(np.float32))
    responses.values[rng.random(responses.shape) < missing] = np.nan
    tracemalloc.start()
    measure(responses)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.6 * responses.nbytes


def test_v4_gives_its_published_figures(real_data):
    v4 = label(np.load(real_data / "v4" / "responses_raw_210325.npy").transpose(1, 2, 0))
    r, reliability = split_half_reliability(v4, spearman_brown=False), split_half_reliability(v4)
    assert r.mean().item() == pytest.approx(0.604, abs=0.003)
    assert reliability.mean().item() == pytest.approx(0.743, abs=0.003)
    assert (reliability.min().item(), reliability.max().item()) == pytest.approx((0.53, 0.93), abs=0.005)
    fano = v4.var("repetition", ddof=1).mean("stimulus") / v4.mean("repetition").mean("stimulus")
    assert fano.median().item() == pytest.approx(0.91, abs=0.005)
    averaged = average_repetitions(v4).transpose("unit", "stimulus")
    np.testing.assert_array_equal(averaged, np.load(real_data / "v4" / "responses_avg_210325.npy"))

    assert_allclose(noise_ceiling(ncsnr(v4), v4), reliability, atol=0.01)
    assert split_half_reliability(shift(v4)).mean() < 0.2  # neighbours are somewhat similar: 0.12


def test_spearman_brown_of_a_negative_correlation_is_its_formula(rng):
    """Units whose second repetition falls where the first rises: r of about −0.5 becomes 2r / (1 + r), below −1."""
    first = rng.normal(size=(200, 1, 3))
    second = -first + np.array([0.5, 1.5, 3.0]) * rng.normal(size=(200, 1, 3))
    values = label(np.concatenate([first, second], axis=1))
    r = split_half_reliability(values, spearman_brown=False).values
    assert (r < -0.1).all()
    assert_allclose(split_half_reliability(values), 2 * r / (1 + r), rtol=1e-12)
    opposite = label(np.concatenate([first, -first], axis=1))
    assert (split_half_reliability(opposite) < -1e6).all(), "−∞ but for rounding"
