import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import chi2, norm, t

from neurosuper import Color, Label, Precomputed, interpretability_index, load_images
from neurosuper.interpretability import index_difference, index_interval, index_power
from neurosuper.interpretability.random_splits import draw_splits
from neurosuper.metrics import pairwise_distances


def simulate(rng, n_stimuli=200, n_items=30, shared=0.0, n_features=6):
    """Two sets of items tuned in a space of features, those of the second more or less shared; and stimuli there."""
    features = rng.normal(size=(n_stimuli, n_features))
    axes = rng.normal(size=(n_features, 2 * n_items))
    axes[:, n_items:] = shared * rng.normal(size=(n_features, 1)) + (1 - shared / 2) * axes[:, n_items:]
    values = features @ (axes / np.linalg.norm(axes, axis=0)) + 0.5 * rng.normal(size=(n_stimuli, 2 * n_items))
    labels = [f"s{i:03d}" for i in range(n_stimuli)]
    squares = ((features[:, None] - features) ** 2).sum(2)
    metric = Precomputed(xr.DataArray(squares, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    blank = np.zeros((n_stimuli, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    units = [f"u{i}" for i in range(2 * n_items)]
    codes = xr.DataArray(values, {"stimulus": labels, "unit": units}, ("stimulus", "unit"))
    return codes[:, :n_items], codes[:, n_items:], images, metric


def mean_on(codes, images, metric, group, labels, top):
    """Return the mean index on one group of the stimuli."""
    members = codes.stimulus.isin(labels[group])
    return interpretability_index(codes.sel(stimulus=members), images, metric, top=top).values


def score_halves(codes, images, metric, labels, top, n_resamples, groups=None, shown=None):
    """Return the index (draw, half, item) on random halves of all stimuli, or of whole groups of them."""
    halves = draw_splits(labels, 2, n_resamples, np.random.default_rng(0), groups, shown).values
    return np.array([[mean_on(codes, images, metric, draw == half, labels, top) for half in (0, 1)] for draw in halves])


def without_each(codes, images, metric, labels, top):
    """Return the change of the mean index if each stimulus is left out."""
    mean = interpretability_index(codes, images, metric, top=top).mean().item()
    kept = (codes.sel(stimulus=codes.stimulus != label) for label in labels)
    return np.array([interpretability_index(own, images, metric, top=top).mean().item() - mean for own in kept])


def variance_over_items(codes, halves, images, metric, top):
    """Return the variance over items of a mean, J/k."""
    n = halves.shape[2]
    of_one, of_mean = halves.var(1, ddof=1).mean(), halves.mean(2).var(1, ddof=1).mean()
    interaction = max(0, of_one - max(0, (of_mean - of_one / n) / (1 - 1 / n)))
    return max(0, interpretability_index(codes, images, metric, top=top).values.var(ddof=1) - interaction) / n


def degrees_of_freedom(u, over_stimuli, over_items, counts):
    """Return ν: of the variance over stimuli 2(Σu²)²/(Σu⁴ − (Σu²)²/n), u centred, then by Satterthwaite."""
    u = u - u.mean()
    of_stimuli = 2 * (u**2).sum() ** 2 / ((u**4).sum() - (u**2).sum() ** 2 / len(u))
    total = over_stimuli + sum(over_items)
    terms = [over_stimuli**2 / of_stimuli, *(v**2 / (n - 1) for v, n in zip(over_items, counts, strict=True))]
    return total**2 / sum(terms)


@pytest.mark.parametrize("which", ["the same stimuli", "other stimuli", "some in common"])
def test_a_difference_has_the_error_of_halves_and_the_degrees_of_freedom_of_influences(rng, which):
    a, b, images, metric = simulate(rng, n_stimuli=80, n_items=6)
    if which != "the same stimuli":
        a, b = a[:40], b[40:] if which == "other stimuli" else b[20:]
    result = index_difference(a, b, images, metric, top=3, n_resamples=10)
    means = [interpretability_index(codes, images, metric, top=3).mean().item() for codes in (a, b)]
    assert_allclose([result.estimate_a, result.estimate_b, result.difference], [*means, means[0] - means[1]])
    labels = np.unique(np.concatenate([codes.stimulus.values for codes in (a, b)]))
    shown = np.stack([np.isin(labels, codes.stimulus) for codes in (a, b)], axis=1)
    halves = [score_halves(codes, images, metric, labels, 3, 10, None, shown) for codes in (a, b)]
    over_stimuli = np.var(np.subtract(*(own.mean(2) for own in halves)), axis=1, ddof=1)
    over_items = [variance_over_items(codes, own, images, metric, 3) for codes, own in zip((a, b), halves, strict=True)]
    error = (over_stimuli.mean() + sum(over_items)) ** 0.5
    assert_allclose(result.standard_error, error, rtol=1e-5)
    assert_allclose(result.monte_carlo_error, over_stimuli.std(ddof=1) / 10**0.5 / (2 * error), rtol=1e-5)
    u = np.subtract(*(without_each(codes, images, metric, labels, 3) for codes in (a, b)))
    df = degrees_of_freedom(u, over_stimuli.mean(), over_items, (6, 6))
    assert_allclose(result.degrees_of_freedom, df, rtol=1e-5)
    assert_allclose(result.difference_high - result.difference_low, 2 * t.isf(0.025, df) * error, rtol=1e-5)
    assert_allclose(result.p_value, 2 * t.sf(abs(means[0] - means[1]) / error, df), rtol=1e-4)
    assert (result.n_a, result.n_b, result.n_stimuli) == (6, 6, 80)


def test_an_interval_of_distances_is_that_of_their_log(rng):
    a, _, images, metric = simulate(rng, n_stimuli=80, n_items=6)
    result = index_interval(a, images, metric, top=3, n_resamples=10, confidence_level=0.9)
    labels = a.stimulus.values
    halves = score_halves(a, images, metric, labels, 3, 10)
    mean = interpretability_index(a, images, metric, top=3).mean().item()
    of_log = np.log(-halves.mean(2)).var(1, ddof=1).mean()
    over_items = variance_over_items(a, halves, images, metric, 3)
    over_stimuli = halves.mean(2).var(1, ddof=1).mean()
    df = degrees_of_freedom(without_each(a, images, metric, labels, 3), over_stimuli, [over_items], [6])
    error = (of_log + over_items / mean**2) ** 0.5
    margin = np.exp(t.isf(0.05, df) * error)
    assert_allclose([result.interpretability_low, result.interpretability_high], [mean * margin, mean / margin], 1e-5)
    assert_allclose(result.standard_error, -mean * error, rtol=1e-5)
    assert (result.scale, result.n_items, result.n_stimuli, result.confidence_level) == ("log", 6, 80, 0.9)


def test_an_agreement_has_a_linear_interval(responses, images):
    result = index_interval(responses, images, Label(device="cpu"))
    margin = t.isf(0.025, result.degrees_of_freedom) * result.standard_error
    assert result.scale == "linear"
    assert_allclose(result.interpretability_high - result.interpretability, margin)
    assert_allclose(result.interpretability - result.interpretability_low, margin)


def test_the_variance_of_a_difference_is_the_sum_of_its_components(rng):
    a, b, images, metric = simulate(rng, shared=1.0)
    result = index_difference(a, b, images, metric)
    of_items = sum(result[f"{name}_{side}"] for name in ("var_interaction", "var_items") for side in "ab")
    assert_allclose(result.standard_error**2, result.var_stimuli + of_items / 30, rtol=1e-6)


def test_whole_groups_of_stimuli_are_halved_and_their_influences_summed(rng):
    a, b, images, metric = simulate(rng, n_stimuli=80, n_items=6)
    cluster = rng.integers(0, 12, 80)
    a = a.assign_coords(cluster=("stimulus", [f"c{i}" for i in cluster]))
    result = index_difference(a, b, images, metric, top=3, n_resamples=10, stimulus_groups="cluster")
    labels = a.stimulus.values
    numbers = pd.factorize(cluster)[0]
    halves = [score_halves(codes, images, metric, labels, 3, 10, numbers) for codes in (a, b)]
    over_stimuli = np.var(np.subtract(*(own.mean(2) for own in halves)), axis=1, ddof=1).mean()
    over_items = [variance_over_items(codes, own, images, metric, 3) for codes, own in zip((a, b), halves, strict=True)]
    u = np.subtract(*(without_each(codes, images, metric, labels, 3) for codes in (a, b)))
    u = np.array([u[numbers == group].sum() for group in range(12)])
    assert_allclose(result.standard_error, (over_stimuli + sum(over_items)) ** 0.5, rtol=1e-5)
    assert_allclose(result.degrees_of_freedom, degrees_of_freedom(u, over_stimuli, over_items, (6, 6)), rtol=1e-5)
    assert result.n_stimulus_groups == 12
    given = index_difference(
        a, b, images, metric, top=3, n_resamples=10, stimulus_groups=a.cluster.drop_vars("cluster")
    )
    xr.testing.assert_identical(given, result)
    assert index_interval(a, images, metric, top=3, stimulus_groups="cluster").scale == "linear"


def test_groups_of_single_stimuli_change_nothing_but_the_scale(rng):
    a, b, images, metric = simulate(rng, n_stimuli=80, n_items=6)
    alone = xr.DataArray(np.arange(80), dims="stimulus", coords={"stimulus": a.stimulus})
    plain, grouped = (index_difference(a, b, images, metric, stimulus_groups=groups) for groups in (None, alone))
    xr.testing.assert_equal(plain, grouped)


def test_the_monte_carlo_error_is_the_spread_of_standard_errors_over_seeds(rng):
    a, b, images, metric = simulate(rng, n_stimuli=120, n_items=10)
    results = [index_difference(a, b, images, metric, n_resamples=50, random_state=seed) for seed in range(40)]
    errors = np.array([result.standard_error.item() for result in results])
    assert_allclose(np.mean([result.monte_carlo_error for result in results]), errors.std(ddof=1), rtol=0.3)
    many = index_difference(a, b, images, metric)
    assert many.monte_carlo_error < 0.03 * many.standard_error


def label_subjects(codes, n):
    return codes.assign_coords(subject=("unit", [f"m{i % n}" for i in range(codes.sizes["unit"])]))


def test_subjects_take_the_place_of_items(rng):
    a, _, images, metric = simulate(rng, n_stimuli=120, n_items=12)
    a = label_subjects(a, 3)
    result = index_interval(a, images, metric, subjects="subject", n_resamples=10)
    index = interpretability_index(a, images, metric)
    halves = score_halves(a, images, metric, a.stimulus.values, 5, 10)
    of_subjects = np.stack([halves[..., i::3].mean(-1) for i in range(3)], axis=-1)
    of_one, of_mean = of_subjects.var(1, ddof=1).mean(), of_subjects.mean(2).var(1, ddof=1).mean()
    interaction = max(0, of_one - max(0, (of_mean - of_one / 3) / (1 - 1 / 3)))
    between = max(0, np.var([index[i::3].mean() for i in range(3)], ddof=1) - interaction) / 3
    assert_allclose(result.interpretability, index.mean())
    assert_allclose(result.standard_error, (of_mean + between) ** 0.5, rtol=1e-5)
    u = without_each(a, images, metric, a.stimulus.values, 5)
    assert_allclose(result.degrees_of_freedom, degrees_of_freedom(u, of_mean, [between], [3]), rtol=1e-5)
    assert (result.n_subjects, result.scale) == (3, "linear")


def test_a_difference_within_the_same_subjects_is_that_of_pairs(rng):
    """Subjects who differ alike in both sets add less variance to a difference than sets of other subjects do."""
    a, b, images, metric = simulate(rng, n_stimuli=160, n_items=12, shared=0.3)
    noise = np.array([0.1, 1.0, 3.0, 6.0])[np.arange(12) % 4]
    a, b = (label_subjects(codes + noise * rng.normal(size=codes.shape), 4) for codes in (a, b))
    pairs = index_difference(a, b, images, metric, subjects="subject")
    strangers = b.assign_coords(subject=("unit", [f"other {name}" for name in b.subject.values]))
    apart = index_difference(a, strangers, images, metric, subjects="subject")
    assert pairs.standard_error < 0.85 * apart.standard_error
    assert (pairs.n_subjects, apart.n_subjects) == (4, [4, 4])
    assert_allclose(pairs.difference, apart.difference)


@pytest.mark.parametrize("kind", [Color(device="cpu"), Label(device="cpu")], ids=lambda kind: kind.name)
def test_precomputed_distances_change_nothing(responses, images, kind):
    table = Precomputed(pairwise_distances(images, kind), name=kind.name)
    own, given = (index_interval(responses, images, metric) for metric in (kind, table))
    for name in ("var_items", "var_interaction", "degrees_of_freedom"):
        assert_allclose(own[name], given[name], rtol=1e-4)
    # Embeddings and tables are in float32: 1/√2, the embedding of a label, is rounded by 2e-8 of itself.
    assert_allclose(own.interpretability, interpretability_index(responses, images, kind).mean(), rtol=1e-6)


@pytest.mark.parametrize("shared", [0.0, 1.0], ids=["independent items", "correlated items"])
def test_without_a_difference_p_is_uniform_and_intervals_cover_the_true_value(shared):
    """Of 60 studies 3 are expected at 5 %, and 9 or more, or none missed by 12, would be rare."""
    results, means = [], []
    for study in range(60):
        a, b, images, metric = simulate(np.random.default_rng(study), 120, 20, shared)
        results.append(index_difference(a, b, images, metric, n_resamples=20).p_value.item())
        means.append(index_interval(b, images, metric, n_resamples=20))
    truth = np.mean([mean.interpretability for mean in means])
    covered = np.mean([mean.interpretability_low < truth < mean.interpretability_high for mean in means])
    assert np.mean(np.array(results) < 0.05) <= 8 / 60
    assert 0.2 < np.mean(np.array(results) < 0.5) < 0.75
    assert covered > 0.85


def test_correlated_items_have_a_larger_standard_error_than_independent_ones(rng):
    _, b, images, metric = simulate(rng, shared=1.5)
    index = interpretability_index(b, images, metric)
    as_if_independent = index.std(ddof=1) / len(index) ** 0.5
    assert index_interval(b, images, metric).standard_error > 2 * as_if_independent


def test_a_planted_difference_is_found(rng, make_responses):
    images = load_images(np.repeat(rng.integers(0, 256, 200, dtype=np.uint8), 3).reshape(200, 1, 1, 3))
    brightness = images.values[:, 0, 0, 0] / 64
    tuned, blind = (
        make_responses(strength * brightness[:, None] + rng.normal(size=(200, 20))).assign_coords(
            stimulus=images.stimulus.values
        )
        for strength in (1, 0)
    )
    assert index_difference(tuned, blind, images, Color(device="cpu")).p_value < 1e-4
    assert index_difference(blind, tuned, images, Color(device="cpu")).difference_high < 0


def power_of_noncentral_t(noncentrality, df):
    """By draws of chi-squared in place of scipy's noncentral t."""
    scale = np.sqrt(chi2.ppf((np.arange(20_000) + 0.5) / 20_000, df) / df)
    critical = t.isf(0.025, df) * scale
    return np.mean(norm.sf(critical - noncentrality) + norm.cdf(-critical - noncentrality))


def test_power_of_a_study_like_the_pilot_is_that_of_its_test(rng):
    a, b, images, metric = simulate(rng, 160, 8)
    pilot = index_difference(a, b, images, metric)
    expected = index_power(pilot, n_stimuli=160, n_items=[8, 80], difference=3 * pilot.standard_error.item())
    assert_allclose(expected.sel(n_items=8).item(), power_of_noncentral_t(3, pilot.degrees_of_freedom.item()), 1e-4)
    assert pilot.degrees_of_freedom < 60
    assert expected.sel(n_items=80) > expected.sel(n_items=8)


def test_power_increases_with_stimuli_as_variances_decrease(rng):
    a, b, images, metric = simulate(rng)
    pilot = index_difference(a, b, images, metric)
    assert 0.5 <= pilot.fall <= 1
    pilot["fall"] = 0.5
    pilot["var_items_a"] = pilot["var_items_b"] = 0.0
    power = index_power(pilot, n_stimuli=[200, 800], n_items=[30], difference=2.0)
    over_stimuli = float(pilot.var_stimuli + (pilot.var_interaction_a + pilot.var_interaction_b) / 30)
    df = float(pilot.degrees_of_freedom)  # with no variance over items, that of stimuli alone
    expected = [power_of_noncentral_t(2 / (over_stimuli * fall) ** 0.5, df) for fall in (1, 0.25)]
    assert_allclose(power.values[:, 0], expected, rtol=0.05)
    assert_allclose(index_power(pilot, n_stimuli=200, n_items=30, difference=0.0), 0.05)


def test_degrees_of_freedom_of_items_follow_their_number(rng):
    """With a variance over items alone, those of Welch's test of two sets."""
    a, b, images, metric = simulate(rng, 160, 8)
    pilot = index_difference(a, b, images, metric)
    for name in ("var_stimuli", "var_interaction_a", "var_interaction_b"):
        pilot[name] = 0.0
    pilot["var_items_a"], pilot["var_items_b"] = 1.0, 4.0
    pilot["standard_error"], pilot["degrees_of_freedom"] = (5 / 8) ** 0.5, 7 * 25 / 17
    power = index_power(pilot, n_stimuli=500, n_items=[3, 5], difference=2.0)
    expected = [power_of_noncentral_t(2 / (5 / n) ** 0.5, (n - 1) * 25 / 17) for n in (3, 5)]
    assert_allclose(power.values[0], expected, rtol=1e-4)


@pytest.mark.slow
def test_the_predicted_power_is_the_share_of_studies_that_find_a_difference():
    """Of 120 studies with a true difference; the prediction is the mean over their own pilots."""
    found, differences, pilots = [], [], []
    for seed in range(120):
        a, b, images, metric = simulate(np.random.default_rng(seed), 120, 15, n_features=2)
        noisy = b + 2.5 * np.random.default_rng([seed, 1]).normal(size=b.shape)
        pilots.append(index_difference(a, noisy, images, metric, n_resamples=50))
        found.append(float(pilots[-1].p_value) < 0.05)
        differences.append(float(pilots[-1].difference))
    settings = {"n_stimuli": 120, "n_items": 15, "difference": np.mean(differences)}
    predicted = np.mean([index_power(pilot, **settings).item() for pilot in pilots])
    assert 0.2 < predicted < 0.95
    assert abs(np.mean(found) - predicted) < 0.12


def test_few_stimuli_for_the_number_of_top_stimuli_give_a_warning(rng):
    a, b, images, metric = simulate(rng, n_stimuli=39, n_items=6)
    with pytest.warns(UserWarning, match="39 stimuli are fewer than 8 × top = 40.* lower `top` to at most 4"):
        index_interval(a, images, metric)
    with pytest.warns(UserWarning, match="39 stimuli are fewer than 8 × top = 40"):
        index_difference(a, b, images, metric)
    index_interval(a, images, metric, top=4)


def test_bad_groups_and_subjects_are_refused_with_a_reason(rng):
    a, b, images, metric = simulate(rng, n_stimuli=40, n_items=4)
    with pytest.raises(ValueError, match="3 stimulus groups are too few to halve; use at least 4"):
        index_interval(a.assign_coords(g=("stimulus", np.arange(40) % 3)), images, metric, stimulus_groups="g")
    with pytest.raises(ValueError, match="neither codes nor images have a stimulus coord 'g'; add it with"):
        index_interval(a, images, metric, stimulus_groups="g")
    with pytest.raises(ValueError, match="no stimulus group for stimulus 's030', 's031'"):
        index_interval(a, images, metric, stimulus_groups=a.stimulus[:30])
    with pytest.raises(TypeError, match="stimulus_groups must be the name of a stimulus coord, or a DataArray"):
        index_interval(a, images, metric, stimulus_groups=list(range(40)))
    with pytest.raises(ValueError, match="codes have no coord 'subject' along 'unit'; add it with"):
        index_interval(a, images, metric, subjects="subject")
    with pytest.raises(ValueError, match="all items have the subject 'm0', and no interval for others follows"):
        index_interval(label_subjects(a, 1), images, metric, subjects="subject")
    with pytest.raises(ValueError, match="no subject for unit 'u1'"):
        index_interval(a.assign_coords(subject=("unit", ["x", "", "y", "y"])), images, metric, subjects="subject")
    with pytest.raises(ValueError, match="both sets have the subject 'm0', 'm1', but others are in only one"):
        index_difference(label_subjects(a, 2), label_subjects(b, 3), images, metric, subjects="subject")


def test_bad_input_is_refused_with_a_reason(rng):
    a, b, images, metric = simulate(rng, n_stimuli=40)
    with pytest.raises(ValueError, match="stimuli are few: one of 2 random groups has 20, and an index needs 30"):
        index_interval(a, images, metric, top=30)
    with pytest.raises(ValueError, match="no code for stimulus 's003'; leave it out"):
        index_interval(a.where(a.stimulus != "s003"), images, metric)
    with pytest.raises(ValueError, match="the variance over items needs at least 2 items, got 1"):
        index_difference(a, b[:, :1], images, metric)
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 10, got 3"):
        index_interval(a, images, metric, n_resamples=3)
    with pytest.raises(ValueError, match="confidence_level must be strictly between 0 and 1, such as 0.95; got 95"):
        index_interval(a, images, metric, confidence_level=95)
    with pytest.raises(TypeError, match="pilot must be a Dataset from index_difference, got Dataset"):
        index_power(index_interval(a, images, metric), n_stimuli=40, n_items=30)
    with pytest.warns(UserWarning, match="40 stimuli are fewer than 8 × top = 120"):
        few = index_difference(a, b, images, metric, top=15)
    with pytest.raises(ValueError, match="the pilot has 40 stimuli, too few to estimate how variances decrease"):
        index_power(few, n_stimuli=40, n_items=30)
    pilot = index_difference(a, b, images, metric)
    with pytest.raises(ValueError, match=r"n_items must be whole numbers of at least 2, got \[1\]"):
        index_power(pilot, n_stimuli=40, n_items=[1])
    with pytest.raises(ValueError, match="alpha must be strictly between 0 and 1, got 5"):
        index_power(pilot, n_stimuli=40, n_items=30, alpha=5)
