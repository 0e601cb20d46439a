"""Intervals from halves equal a loop over them, and cover planted values as often as they should."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import t

from neurosuper.inference import degrees_of_freedom, halves_interval


def test_the_error_of_a_mean_is_that_of_its_formula(rng):
    """Over all halves, the variance of halves of a mean is 2 s²/n; 4,000 draws give it to within a few percent."""
    x = rng.gamma(2, 1, 60)
    result = halves_interval(lambda rows: x[rows].mean(), 60, n_resamples=4000)
    assert_allclose(result.standard_error, x.std(ddof=1) / 60**0.5, rtol=0.03)
    assert_allclose(result.estimate, x.mean())
    margin = t.isf(0.025, result.degrees_of_freedom) * result.standard_error
    assert_allclose([result.estimate_low, result.estimate_high], [x.mean() - margin, x.mean() + margin])


def test_half_of_4_stimuli_is_one_of_three_pairs():
    x = np.array([0.0, 1.0, 3.0, 10.0])
    result = halves_interval(lambda rows: x[rows].mean(), 4, n_resamples=30000, fall=1.0)
    pairs = [(x[[0, i]].mean() - x[[j for j in (1, 2, 3) if j != i]].mean()) ** 2 / 2 for i in (1, 2, 3)]
    assert_allclose(result.standard_error, np.mean(pairs) ** 0.5, rtol=0.01)
    u = np.array([np.delete(x, i).mean() for i in range(4)])
    assert_allclose(result.degrees_of_freedom, max(1, degrees_of_freedom.of_influence(u)))


def test_degrees_of_freedom_are_those_of_a_variance_with_normal_values(rng):
    u = rng.normal(size=(2000, 40))
    found = np.array([degrees_of_freedom.of_influence(own) for own in u])
    assert 36 < np.median(found) < 46
    heavy = np.median([degrees_of_freedom.of_influence(own) for own in rng.standard_t(2, (500, 40))])
    assert heavy < 20
    assert degrees_of_freedom.of_influence(np.array([1.0, -1.0] * 5)) == 9  # all squares are equal
    assert degrees_of_freedom.of_influence(np.array([1.0] + [0.0] * 99)) < 2.1  # one of them decides
    assert degrees_of_freedom.of_influence(np.zeros(5)) == 4


def test_degrees_of_freedom_of_a_sum_are_those_of_welch():
    v, n = np.array([2.0, 5.0]) / [10, 20], np.array([10, 20])
    assert_allclose(degrees_of_freedom.of_sum(v, n - 1), v.sum() ** 2 / (v**2 / (n - 1)).sum())
    assert degrees_of_freedom.of_sum([0.0, 0.0], [3, 4]) == np.inf


@pytest.mark.parametrize("name", ["mean", "variance", "correlation"])
def test_an_interval_covers_a_planted_value_as_often_as_it_should(name):
    statistics = {
        "mean": (lambda x, y: x.mean(), 0),
        "variance": (lambda x, y: x.var(ddof=1), 1),
        "correlation": (lambda x, y: np.corrcoef(x, x + y)[0, 1], 0.5**0.5),
    }
    statistic, truth = statistics[name]
    covered = []
    for study in range(200):
        x, y = np.random.default_rng(study).normal(size=(2, 60))
        result = halves_interval(lambda rows, x=x, y=y: statistic(x[rows], y[rows]), 60, n_resamples=60)
        covered.append(result.estimate_low < truth < result.estimate_high)
    assert 0.9 < np.mean(covered) < 0.99


def test_whole_groups_are_halved(rng):
    """Eight clusters of stimuli that are all alike: the error is that of a mean of eight."""
    centre = rng.normal(size=8)
    groups = np.repeat(np.arange(8), 10)
    x = centre[groups]
    of_groups = halves_interval(lambda rows: x[rows].mean(), 80, stimulus_groups=groups, n_resamples=2000)
    alone = halves_interval(lambda rows: x[rows].mean(), 80)
    assert_allclose(of_groups.standard_error, centre.std(ddof=1) / 8**0.5, rtol=0.03)
    assert of_groups.standard_error > 2.5 * alone.standard_error
    assert of_groups.n_stimulus_groups == 8
    seen = set()
    halves_interval(
        lambda rows: seen.add(tuple(np.bincount(groups[rows], minlength=8))) or 0.0,
        80,
        stimulus_groups=groups.astype(str),
        n_resamples=10,
    )
    assert {size for sizes in seen for size in sizes} == {0, 10}


def test_a_statistic_with_dims_keeps_them(rng):
    x = xr.DataArray(rng.normal(size=(40, 3)), dims=("stimulus", "unit"), coords={"unit": list("abc")})
    result = halves_interval(lambda rows: x.isel(stimulus=rows).mean("stimulus"), 40, n_resamples=200)
    one = halves_interval(lambda rows: x[rows, 1].mean().item(), 40, n_resamples=200)
    assert result.unit.values.tolist() == list("abc")
    for name in result:
        assert_allclose(result[name].sel(unit="b"), one[name])


def test_the_monte_carlo_error_is_the_spread_over_seeds(rng):
    x = rng.normal(size=40)
    results = [halves_interval(lambda rows: x[rows].mean(), 40, n_resamples=50, random_state=i) for i in range(60)]
    spread = np.std([result.standard_error for result in results], ddof=1)
    assert_allclose(np.mean([result.monte_carlo_error for result in results]), spread, rtol=0.3)


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="n_stimuli must be a whole number of at least 4, got 3"):
        halves_interval(np.mean, 3)
    with pytest.raises(ValueError, match="2 stimulus groups are too few to halve; use at least 4"):
        halves_interval(np.mean, 10, stimulus_groups=np.arange(10) % 2)
    with pytest.raises(ValueError, match=r"one label for each of 10 stimuli, got shape \(9,\) with 0 missing"):
        halves_interval(np.mean, 10, stimulus_groups=np.arange(9))
    with pytest.raises(ValueError, match="fall must be above 0 and at most 1, got 2"):
        halves_interval(np.mean, 10, fall=2)
    with pytest.raises(ValueError, match="the statistic of 5 of 10 stimuli is not finite"):
        halves_interval(lambda rows: np.nan if len(rows) < 8 else 1.0, 10)
