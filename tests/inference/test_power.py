"""Power is that of published tables, of the noncentral F distribution, and of simulated t-tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from neurosuper.inference import items_needed, statistical_power


@pytest.mark.parametrize(
    ("d", "paired", "n"), [(0.5, False, 64), (0.8, False, 26), (1.0, False, 17), (0.5, True, 34), (0.8, True, 15)]
)
def test_items_needed_for_a_power_of_80_percent(d, paired, n):
    """Cohen 1988, table 2.4.1 (two sets); G*Power (pairs)."""
    assert items_needed(d, sd=1, paired=paired) == n
    assert items_needed(-3 * d, sd=3, paired=paired) == n


def test_power_of_published_tables():
    """Cohen 1988, table 2.3.5: two-sided at 5 %, in percent."""
    assert_allclose(100 * statistical_power(0.5, sd=1, n=[20, 30, 40, 50, 100]), [33, 47, 60, 70, 94], atol=1)
    assert_allclose(100 * statistical_power(0.2, sd=1, n=[20, 100, 200]), [9, 29, 51], atol=1)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_power_is_that_of_noncentral_f(paired, alpha):
    """t² is noncentral F."""
    n = np.array([2, 3, 5, 20, 100, 1000])
    freedom, weight = (n - 1, n) if paired else (2 * n - 2, n / 2)
    expected = stats.ncf.sf(stats.f.isf(alpha, 1, freedom), 1, freedom, 0.3**2 * weight)
    assert_allclose(statistical_power(0.6, sd=2, n=n.tolist(), alpha=alpha, paired=paired), expected, rtol=1e-6)


@pytest.mark.parametrize(("paired", "n_b"), [(False, None), (False, 40), (True, None)])
def test_power_is_the_share_of_simulated_studies_that_find_the_difference(rng, paired, n_b):
    a = rng.normal(0.7, 1, (4000, 15))
    if paired:
        p = stats.ttest_1samp(a, 0, axis=1).pvalue
    else:
        p = stats.ttest_ind(a, rng.normal(0, 1, (4000, n_b or 15)), axis=1).pvalue
    found, power = np.mean(p <= 0.05), statistical_power(0.7, sd=1, n=15, paired=paired, n_b=n_b).item()
    assert abs(found - power) < 4 * np.sqrt(power * (1 - power) / 4000)


@pytest.mark.parametrize("paired", [False, True])
def test_without_a_difference_power_is_the_level(paired):
    assert_allclose(statistical_power(0, sd=1, n=[2, 10, 500], alpha=0.03, paired=paired), 0.03, rtol=1e-9)


def test_power_increases_to_one_with_the_difference():
    """Also far out in the tails, where scipy's noncentral t is NaN."""
    for d in (0.01, 0.3, 3, 50):
        power = statistical_power(d, sd=1, n=[2**k for k in range(1, 24)]).values
        assert np.isfinite(power).all()
        assert (np.diff(power) > -1e-9).all()
        assert power[-1] > 0.999


@settings(deadline=None, max_examples=40)
@given(st.floats(0.02, 5), st.floats(0.1, 0.99), st.floats(0.001, 0.2), st.booleans())
def test_one_item_fewer_is_too_few(d, power, alpha, paired):
    n = items_needed(d, sd=1, power=power, alpha=alpha, paired=paired)
    achieved = statistical_power(d, sd=1, n=[max(n - 1, 2), n], alpha=alpha, paired=paired).values
    assert achieved[1] >= power
    assert achieved[0] < power or n == 2


def test_power_has_its_settings_in_attrs():
    power = statistical_power(0.5, sd=2, n=[20, 64], n_b=30)
    assert power.dims == ("n",)
    assert power.n.values.tolist() == [20, 64]
    assert power.name == "power"
    assert power.attrs == {"difference": 0.5, "sd": 2, "alpha": 0.05, "paired": 0, "n_b": 30}
    assert statistical_power(0.5, sd=2, n=20).sizes == {"n": 1}


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="sd must be above 0, got 0; take it from scores"):
        statistical_power(1, sd=0, n=10)
    with pytest.raises(ValueError, match="n must be whole numbers of at least 2, got 1"):
        statistical_power(1, sd=1, n=1)
    with pytest.raises(ValueError, match=r"n must be whole numbers of at least 2, got \[10, 2.5\]"):
        statistical_power(1, sd=1, n=[10, 2.5])
    with pytest.raises(ValueError, match="n_b must be whole numbers of at least 2, got 0"):
        statistical_power(1, sd=1, n=10, n_b=0)
    with pytest.raises(ValueError, match="paired sets have equally many items, got n_b=20; leave out n_b"):
        statistical_power(1, sd=1, n=10, n_b=20, paired=True)
    with pytest.raises(ValueError, match="alpha must be strictly between 0 and 1, such as 0.05; got 5"):
        statistical_power(1, sd=1, n=10, alpha=5)
    with pytest.raises(ValueError, match="power must be strictly between 0 and 1, such as 0.8; got 80"):
        items_needed(1, sd=1, power=80)
    with pytest.raises(ValueError, match="no number of items shows a difference of 0 with an sd of 1"):
        items_needed(0, sd=1)
    with pytest.raises(ValueError, match="difference must be a finite number, in the unit of the scores; got nan"):
        items_needed(np.nan, sd=1)
