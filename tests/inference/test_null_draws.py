"""Tests of any statistic against a null model are exact, and count as a loop does."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import kstest

from neurosuper.inference import compare_with_null


def normal(x, /, *, random_state):
    return np.random.default_rng(random_state).normal(size=np.shape(x))


def test_p_counts_the_draws_at_least_as_extreme(rng):
    x = rng.normal(size=20) + 0.5
    means = np.array([normal(x, random_state=8 + i).mean() for i in range(99)])
    above, below = ((1 + (sign * means >= sign * x.mean()).sum()) / 100 for sign in (1, -1))
    for alternative, expected in {"greater": above, "less": below, "two-sided": 2 * min(above, below)}.items():
        found = compare_with_null(np.mean, x, normal, alternative=alternative, n_resamples=99, random_state=7)
        assert_allclose(found.p_value, min(1, expected))
        assert_allclose(found.null, means)
        assert_allclose(found.estimate, x.mean())
    assert found.attrs == {"alternative": "two-sided", "n_resamples": 99, "random_state": 7}


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_p_is_uniform_under_the_null(rng, alternative):
    p = [
        compare_with_null(
            np.mean, rng.normal(size=4), normal, alternative=alternative, n_resamples=39, random_state=100 * i
        ).p_value
        for i in range(400)
    ]
    jittered = np.array(p) - rng.uniform(0, (2 if alternative == "two-sided" else 1) / 40, 400)
    assert kstest(jittered, "uniform").pvalue > 0.01


def test_labelled_statistics_have_a_p_value_each():
    data = xr.DataArray([[5.0, 0, 0], [6, 0, 1], [7, 0, 0]], {"unit": list("abc")}, ("stimulus", "unit"))

    def noise(data, /, *, random_state):
        return data.copy(data=np.random.default_rng(random_state).normal(size=data.shape))

    found = compare_with_null(lambda values: values.mean("stimulus"), data, noise, n_resamples=19)
    assert found.p_value.dims == ("unit",)
    assert found.null.dims == ("draw", "unit")
    assert found.p_value.sel(unit="a") == 0.05
    assert found.p_value.sel(unit="b") > 0.05


@pytest.mark.parametrize(
    ("statistic", "settings", "message"),
    [
        (np.mean, {"n_resamples": 18}, "n_resamples must be a whole number of at least 19, which allow p = 0.05"),
        (np.mean, {"alternative": "larger"}, "alternative must be one of 'greater', 'less', 'two-sided'; got 'larger'"),
        (lambda x: np.nan, {}, "the statistic of the data or of a draw is not finite"),
        (lambda x: x[x > 0], {}, r"a statistic of shape \(9,\) has another shape under the null"),
    ],
)
def test_bad_input_is_refused(statistic, settings, message):
    with pytest.raises(ValueError, match=message):
        compare_with_null(statistic, np.ones(9), normal, **settings)
