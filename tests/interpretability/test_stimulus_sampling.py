import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import norm

from neurosuper import Color, Label, Precomputed, interpretability_index, load_images
from neurosuper.interpretability import index_difference, index_interval, index_power
from neurosuper.interpretability.random_splits import draw_splits
from neurosuper.metrics import pairwise_distances


def simulate(rng, n_stimuli=200, n_items=30, shared=0.0):
    """Two sets of items tuned in a space of 6 features, those of the second more or less shared; and stimuli there."""
    features = rng.normal(size=(n_stimuli, 6))
    axes = rng.normal(size=(6, 2 * n_items))
    axes[:, n_items:] = shared * rng.normal(size=(6, 1)) + (1 - shared / 2) * axes[:, n_items:]
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


def by_hand(sets, images, metric, top, n_resamples):
    """Return the variance of the difference of means over stimuli and over the items of each set, in loops."""
    labels = np.unique(np.concatenate([codes.stimulus.values for codes in sets]))
    halves = draw_splits(labels, 2, n_resamples, np.random.default_rng(0)).values
    scored = [
        np.array([[mean_on(codes, images, metric, draw == half, labels, top) for half in (0, 1)] for draw in halves])
        for codes in sets
    ]
    over_stimuli = np.var(np.subtract(*(own.mean(2) for own in scored)), axis=1, ddof=1).mean()
    items = []
    for codes, own in zip(sets, scored, strict=True):
        n = own.shape[2]
        of_one, of_mean = own.var(1, ddof=1).mean(), own.mean(2).var(1, ddof=1).mean()
        interaction = max(0, of_one - max(0, (of_mean - of_one / n) / (1 - 1 / n)))
        items.append(
            max(0, interpretability_index(codes, images, metric, top=top).values.var(ddof=1) - interaction) / n
        )
    return over_stimuli + sum(items)


@pytest.mark.parametrize("which", ["the same stimuli", "other stimuli", "some in common"])
def test_the_standard_error_of_a_difference_is_computed_from_halves_of_the_stimuli(rng, which):
    a, b, images, metric = simulate(rng, n_stimuli=80, n_items=6)
    if which != "the same stimuli":
        a, b = a[:40], b[40:] if which == "other stimuli" else b[20:]
    result = index_difference(a, b, images, metric, top=3, n_resamples=10)
    means = [interpretability_index(codes, images, metric, top=3).mean().item() for codes in (a, b)]
    assert_allclose([result.estimate_a, result.estimate_b, result.difference], [*means, means[0] - means[1]])
    error = by_hand([a, b], images, metric, 3, 10) ** 0.5
    assert_allclose(result.standard_error, error, rtol=1e-6)
    assert_allclose(result.difference_high - result.difference_low, 2 * norm.isf(0.025) * error, rtol=1e-6)
    assert_allclose(result.p_value, 2 * norm.sf(abs(means[0] - means[1]) / error), rtol=1e-5)
    assert (result.n_a, result.n_b, result.n_stimuli) == (6, 6, 80)


@pytest.mark.parametrize("kind", [Color(device="cpu"), Label(device="cpu")], ids=lambda kind: kind.name)
def test_precomputed_distances_change_nothing(responses, images, kind):
    table = Precomputed(pairwise_distances(images, kind), name=kind.name)
    own, given = (index_interval(responses, images, metric) for metric in (kind, table))
    assert_allclose(own.standard_error, given.standard_error, rtol=1e-5)
    assert_allclose(own.interpretability, interpretability_index(responses, images, kind).mean())


def test_the_variance_of_a_mean_is_the_sum_of_its_components(rng):
    a, _, images, metric = simulate(rng)
    mean = index_interval(a, images, metric, confidence_level=0.9)
    margin = norm.isf(0.05) * mean.standard_error.item()
    assert_allclose(
        [mean.interpretability_low, mean.interpretability_high],
        [mean.interpretability.item() - margin, mean.interpretability.item() + margin],
    )
    total = mean.var_stimuli + (mean.var_interaction + mean.var_items) / mean.n_items
    assert_allclose(mean.standard_error**2, total, rtol=1e-6)
    assert (mean.n_items, mean.n_stimuli, mean.attrs["top"], mean.confidence_level) == (30, 200, 5, 0.9)


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


def test_power_of_a_study_like_the_pilot_follows_from_its_standard_error(rng):
    a, b, images, metric = simulate(rng, 160, 20)
    pilot = index_difference(a, b, images, metric)
    expected = index_power(pilot, n_stimuli=160, n_items=[20, 80], difference=3 * pilot.standard_error.item())
    assert_allclose(expected.sel(n_items=20).item(), norm.sf(norm.isf(0.025) - 3), atol=1e-4)
    assert expected.sel(n_items=80) > expected.sel(n_items=20)


def test_power_increases_with_stimuli_as_variances_decrease(rng):
    a, b, images, metric = simulate(rng)
    pilot = index_difference(a, b, images, metric)
    assert 0.5 <= pilot.fall <= 1
    pilot["fall"] = 0.5
    pilot["var_items_a"] = pilot["var_items_b"] = 0.0
    power = index_power(pilot, n_stimuli=[200, 800], n_items=[30], difference=2.0)
    error = pilot.standard_error.item() * np.array([1, 0.5])
    z = 2.0 / error
    assert_allclose(power.values[:, 0], norm.sf(1.959964 - z) + norm.cdf(-1.959964 - z), rtol=0.05)
    assert_allclose(index_power(pilot, n_stimuli=200, n_items=30, difference=0.0), 0.05)


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
    few = index_difference(a, b, images, metric, top=15)
    with pytest.raises(ValueError, match="the pilot has 40 stimuli, too few to estimate how variances decrease"):
        index_power(few, n_stimuli=40, n_items=30)
    pilot = index_difference(a, b, images, metric)
    with pytest.raises(ValueError, match=r"n_items must be whole numbers of at least 2, got \[1\]"):
        index_power(pilot, n_stimuli=40, n_items=[1])
    with pytest.raises(ValueError, match="alpha must be strictly between 0 and 1, got 5"):
        index_power(pilot, n_stimuli=40, n_items=30, alpha=5)
