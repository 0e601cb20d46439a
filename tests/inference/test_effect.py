"""Effect sizes equal those of scipy's statistics and of loops, and planted effects are recovered."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from neurosuper.inference import cohens_d, probability_of_superiority

unhurried = settings(deadline=None, max_examples=60)
few_values = arrays(float, st.integers(2, 7), elements=st.integers(0, 4).map(float))


def test_cohens_d_follows_from_t(rng, make_scores):
    x, y = rng.normal(1, 2, 30), rng.normal(0, 3, 18)
    t = stats.ttest_ind(x, y).statistic
    assert cohens_d(make_scores(x), make_scores(y)) == pytest.approx(t * np.sqrt(1 / 30 + 1 / 18))
    t = stats.ttest_rel(x[:18], y).statistic
    assert cohens_d(make_scores(x[:18]), make_scores(y), paired=True) == pytest.approx(t / np.sqrt(18))


def test_superiority_follows_from_mann_whitney(rng, make_scores):
    x, y = rng.integers(0, 9, 30), rng.integers(0, 7, 18)
    u = stats.mannwhitneyu(x, y).statistic
    assert probability_of_superiority(make_scores(x), make_scores(y)) == pytest.approx(u / (30 * 18))


@unhurried
@given(few_values, few_values)
def test_superiority_is_counted_over_all_pairs(make_scores, x, y):
    def won(pairs):
        return np.mean([(i > j) + (i == j) / 2 for i, j in pairs])

    assert probability_of_superiority(make_scores(x), make_scores(y)) == pytest.approx(won(itertools.product(x, y)))
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]
    paired = probability_of_superiority(make_scores(x), make_scores(y), paired=True)
    assert paired == pytest.approx(won(zip(x, y, strict=True)))


def test_planted_effects_come_back(rng, make_scores):
    a, b = make_scores(rng.normal(0.8, 1, 4000)), make_scores(rng.normal(0, 1, 4000))
    assert cohens_d(a, b) == pytest.approx(0.8, abs=0.07)
    assert probability_of_superiority(a, b) == pytest.approx(stats.norm.cdf(0.8 / np.sqrt(2)), abs=0.02)
    assert cohens_d(a, b, paired=True) == pytest.approx(0.8 / np.sqrt(2), abs=0.05)
    assert probability_of_superiority(a, b, paired=True) == pytest.approx(stats.norm.cdf(0.8 / np.sqrt(2)), abs=0.03)


@pytest.mark.parametrize("paired", [False, True])
def test_scores_without_spread(make_scores, paired):
    low, high = make_scores([0.1] * 3), make_scores([0.3] * 3)
    assert cohens_d(high, low, paired=paired) == math.inf
    assert cohens_d(low, high, paired=paired) == -math.inf
    assert cohens_d(low, low, paired=paired) == 0
    assert probability_of_superiority(high, low, paired=paired) == 1
    assert probability_of_superiority(low, low, paired=paired) == 0.5


def test_differences_that_are_equal_up_to_rounding_have_no_spread(make_scores):
    a = make_scores([0.3, 0.4, 0.7])
    assert cohens_d(a, make_scores([0.2, 0.3, 0.6]), paired=True) == math.inf


def test_bad_input_is_refused_with_a_reason(make_scores):
    a = make_scores([1.0, 2.0])
    for effect in (cohens_d, probability_of_superiority):
        with pytest.raises(ValueError, match="a contain NaN or infinite values at unit 'u001'"):
            effect(make_scores([1, np.inf]), a)
        with pytest.raises(ValueError, match="same labels in a and b, but only one has 'u002'"):
            effect(a, make_scores([1.0, 2.0, 3.0]), paired=True)
