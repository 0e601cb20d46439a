"""Exact p-values are counted by hand; under the null hypothesis p is uniform; sentences claim no more than that."""

import itertools
from fractions import Fraction
from statistics import mean, median

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from scipy import stats

from neurosuper.inference import adjust_p_values, cohens_d, permutation_test, probability_of_superiority, test_sentence
from neurosuper.inference.permutation import compare_means

CENTERS = {"mean": mean, "median": median}
ALTERNATIVES = ["two-sided", "greater", "less"]
unhurried = settings(deadline=None, max_examples=40)
tenths = arrays(np.int64, 5, elements=st.integers(-20, 20))


def share(permuted: list[Fraction], observed: Fraction, alternative: str) -> float:
    """Return p as a share of all permutations."""
    greater, less = (Fraction(sum(sign * (x - observed) >= 0 for x in permuted), len(permuted)) for sign in (1, -1))
    return float({"greater": greater, "less": less, "two-sided": min(1, 2 * min(greater, less))}[alternative])


def count_unpaired(a: list[Fraction], b: list[Fraction], statistic: str, alternative: str) -> float:
    center, pool = CENTERS[statistic], [*a, *b]
    permuted = []
    for chosen in itertools.combinations(range(len(pool)), len(a)):
        rest = [pool[i] for i in range(len(pool)) if i not in chosen]
        permuted.append(center([pool[i] for i in chosen]) - center(rest))
    return share(permuted, center(a) - center(b), alternative)


def count_paired(a: list[Fraction], b: list[Fraction], statistic: str, alternative: str) -> float:
    center, differences = CENTERS[statistic], [x - y for x, y in zip(a, b, strict=True)]
    signs = itertools.product([1, -1], repeat=len(a))
    permuted = [center([sign * d for sign, d in zip(row, differences, strict=True)]) for row in signs]
    return share(permuted, center(differences), alternative)


@unhurried
@given(
    tenths,
    tenths,
    st.sampled_from(["mean", "median"]),
    st.sampled_from(ALTERNATIVES),
    st.sampled_from([False, True]),
    st.sampled_from([0, 3, 1000]),
)
def test_exact_p_is_counted_by_hand(make_scores, a, b, statistic, alternative, paired, shift):
    """Tenths, so that many permuted differences are equal, though not in floating point."""
    count = count_paired if paired else count_unpaired
    by_hand = count(*([Fraction(int(x), 10) for x in values] for values in (a, b)), statistic, alternative)
    test = permutation_test(
        *(make_scores(values / 10 + shift) for values in (a, b)),
        paired=paired,
        statistic=statistic,
        alternative=alternative,
    )
    assert test.p_value.item() == pytest.approx(by_hand, abs=1e-12)
    assert test.attrs["exact"] == 1
    assert test.attrs["n_permutations"] == (32 if paired else 252)


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 6), (8, 3), (7, 6)])
def test_exact_p_of_unequal_sets(rng, make_scores, n_a, n_b):
    a, b = rng.normal(0.5, 1, n_a), rng.normal(0, 1, n_b)
    by_hand = count_unpaired(*([Fraction(x) for x in values] for values in (a, b)), "mean", "greater")
    assert permutation_test(make_scores(a), make_scores(b), alternative="greater").p_value == pytest.approx(by_hand)


def test_differences_equal_up_to_rounding_count_as_equal(make_scores):
    """Three times tenths far from 0: scipy alone misses permutations as extreme as the observed."""
    a, b = make_scores(1000 + np.array([0.1, 0.2, 0.6])), make_scores(1000 + np.array([0.3, 0.4, 0.2, 0.1]))
    tenths = [Fraction(k, 10) for k in (1, 2, 6, 3, 4, 2, 1)]
    by_hand = count_unpaired(tenths[:3], tenths[3:], "mean", "greater")
    scipys = stats.permutation_test(
        (a.values, b.values), lambda x, y, axis: x.mean(axis) - y.mean(axis), alternative="greater", vectorized=True
    )
    assert scipys.pvalue < by_hand
    assert permutation_test(a, b, alternative="greater").p_value == pytest.approx(by_hand)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_random_p_is_near_the_exact_one(rng, make_scores, paired, statistic):
    n = 11 if paired else 7
    a, b = make_scores(rng.normal(0.7, 1, n)), make_scores(rng.normal(0, 1, n))
    exact = permutation_test(a, b, paired=paired, statistic=statistic)
    random = permutation_test(a, b, paired=paired, statistic=statistic, n_resamples=1000)
    assert (exact.attrs["exact"], random.attrs["exact"]) == (1, 0)
    assert random.attrs["n_permutations"] == 1000
    p = exact.p_value.item()
    assert abs(random.p_value - p) < 5 * np.sqrt(p / 1000)


@pytest.mark.parametrize("paired", [False, True])
def test_under_the_null_p_is_uniform(rng, make_scores, paired):
    """200 studies of 12 skewed scores per set; the scores of a pair share a random term."""
    p = []
    for _ in range(200):
        item = paired * rng.normal(size=12)
        a, b = (make_scores(item + rng.gamma(1, 1, 12)) for _ in range(2))
        p.append(permutation_test(a, b, paired=paired, n_resamples=499).p_value.item())
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.015 < np.mean(np.array(p) <= 0.05) < 0.1


def test_a_planted_difference_is_found_and_pairs_show_what_is_hidden_between_items(rng, make_scores):
    item = rng.normal(0, 5, 40)
    a, b = make_scores(item + 1 + rng.normal(0, 0.5, 40)), make_scores(item + rng.normal(0, 0.5, 40))
    paired, unpaired = permutation_test(a, b, paired=True), permutation_test(a, b)
    assert paired.difference.item() == pytest.approx(1, abs=0.3)
    assert paired.difference.item() == pytest.approx(unpaired.difference.item())
    assert paired.p_value == pytest.approx(2 / 10_000)
    assert unpaired.p_value > 0.1


def test_effect_sizes_are_those_of_their_own_functions(rng, make_scores):
    a, b = make_scores(rng.normal(size=9)), make_scores(rng.normal(size=9))
    for paired in (False, True):
        test = permutation_test(a, b, paired=paired, statistic="median")
        assert test.cohens_d == cohens_d(a, b, paired=paired)
        assert test.superiority == probability_of_superiority(a, b, paired=paired)
        assert test.estimate_a == np.median(a)
        assert test.estimate_b == np.median(b)
        expected = np.median(a - b) if paired else np.median(a) - np.median(b)
        assert test.difference == pytest.approx(expected)
        assert (test.n_a, test.n_b) == (9, 9)


@unhurried
@given(tenths, tenths, st.sampled_from([False, True]))
def test_swapping_the_sets_turns_the_difference_round_and_keeps_p(make_scores, a, b, paired):
    one, other = (
        permutation_test(make_scores(x / 10), make_scores(y / 10), paired=paired) for x, y in ((a, b), (b, a))
    )
    assert one.p_value == pytest.approx(other.p_value.item())
    assert one.difference == pytest.approx(-other.difference.item())
    assert one.cohens_d == pytest.approx(-other.cohens_d.item(), nan_ok=True)
    assert one.superiority == pytest.approx(1 - other.superiority.item())


def test_pairs_are_joined_by_label(rng, make_scores):
    a, b = make_scores(rng.normal(size=20)), make_scores(rng.normal(size=20))
    shuffled = b[rng.permutation(20)].rename(unit="direction")
    xr.testing.assert_identical(permutation_test(a, shuffled, paired=True), permutation_test(a, b, paired=True))


def test_a_test_survives_in_a_file_and_leaves_global_state_alone(rng, make_scores, tmp_path):
    a, b = make_scores(rng.normal(size=30)), make_scores(rng.normal(size=25))
    before = np.random.get_state()[1].copy()
    test = permutation_test(a, b, random_state=None)
    assert_array_equal(np.random.get_state()[1], before)
    test.to_netcdf(tmp_path / "test.nc")
    assert test_sentence(xr.load_dataset(tmp_path / "test.nc"), "a", "b", "x") == test_sentence(test, "a", "b", "x")
    assert not permutation_test(a, b, random_state=1).equals(permutation_test(a, b, random_state=2))


def made_up(**changes: object) -> xr.Dataset:
    """Return a test result as a paper might report it."""
    numbers = {
        "difference": 0.0112,
        "standard_error": 0.0038,
        "p_value": 0.0034,
        "cohens_d": 0.31,
        "superiority": 0.588,
    }
    numbers |= {"estimate_a": -0.637, "estimate_b": -0.6482, "n_a": 89, "n_b": 89}
    attrs = {"paired": 0, "statistic": "mean", "alternative": "two-sided", "n_permutations": 9999, "exact": 0}
    return xr.Dataset(
        {name: changes.get(name, value) for name, value in numbers.items()},
        attrs={name: changes.get(name, value) for name, value in attrs.items()},
    )


def test_a_sentence_contains_every_number():
    assert test_sentence(made_up(), "KMeans", "units", "interpretability") == (
        "KMeans (n = 89, mean −0.6370) scored higher in interpretability than units (n = 89, mean −0.6482), by 0.0112 "
        "(two-sided unpaired permutation test, p = 0.0034, 9,999 permutations; d = 0.31, probability of superiority "
        "0.59)."
    )


def test_no_direction_is_claimed_where_p_is_not_small():
    sentence = test_sentence(made_up(p_value=0.05), "KMeans", "units", "interpretability")
    assert sentence.startswith(
        "KMeans (n = 89, mean −0.6370) and units (n = 89, mean −0.6482) did not differ detectably in interpretability "
        "(difference 0.0112; two-sided unpaired permutation test, p = 0.050, "
    )
    assert "higher" not in sentence
    one_sided = test_sentence(made_up(p_value=0.4, alternative="less"), "KMeans", "units", "purity")
    assert "did not score detectably lower in purity than units" in one_sided
    wrong_side = test_sentence(made_up(p_value=0.01, alternative="less"), "KMeans", "units", "purity")
    assert "did not score detectably lower" in wrong_side


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"p_value": 0.002, "n_permutations": 999}, "p ≤ 0.0020, 999 permutations"),
        ({"p_value": 0.004, "n_permutations": 999}, "p = 0.0040"),
        (
            {"p_value": 0.001, "n_permutations": 999, "alternative": "greater"},
            "one-sided unpaired permutation test, p ≤ ",
        ),
        ({"p_value": 2e-5, "n_permutations": 99_999}, "p < 0.001, 99,999 permutations"),
        ({"p_value": 0.0079, "n_permutations": 252, "exact": 1}, "p = 0.0079, all 252 permutations"),
        ({"p_value": 0.03, "difference": -0.0112, "cohens_d": -0.31}, "scored lower in"),
        ({"cohens_d": -np.inf}, "d = −∞"),
        ({"standard_error": 25.3, "estimate_a": 1234.5, "estimate_b": 1209.2}, "(n = 89, mean 1234) scored"),
        ({"standard_error": 0.0, "difference": 0.0, "p_value": 1.0}, "(difference 0.000; "),
        ({"paired": 1, "statistic": "median"}, "paired permutation test of the median difference"),
        ({"statistic": "median"}, "median −0.6370) scored higher"),
    ],
)
def test_sentences_suit_what_was_done(changes, sentence):
    assert sentence in test_sentence(made_up(**changes), "KMeans", "units", "interpretability")


def test_a_sentence_with_an_adjusted_p_names_the_size_of_its_family():
    p = adjust_p_values(xr.DataArray([0.001, 0.02, 0.5], dims="test"))
    sentence = test_sentence(made_up().assign(p_value=p[1]), "KMeans", "units", "interpretability")
    assert "permutation test, adjusted p = 0.030 (family of 3), 9,999 permutations" in sentence


def test_a_p_that_is_alone_in_its_family_is_not_called_adjusted():
    p = adjust_p_values(xr.DataArray([0.02], dims="test"))
    sentence = test_sentence(made_up().assign(p_value=p[0]), "KMeans", "units", "interpretability")
    assert "permutation test, p = 0.020 (not adjusted: one test), 9,999 permutations" in sentence


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_the_standard_error_is_the_spread_of_the_difference_over_samples_of_items(rng, make_scores, paired, statistic):
    """Over 400 samples of normal scores of different spread; its own standard error is 4 %."""
    tests = [
        permutation_test(
            *(make_scores(rng.normal(0, spread, 101)) for spread in (1.0, 2.0)),
            paired=paired,
            statistic=statistic,
            n_resamples=100,
        )
        for _ in range(400)
    ]
    spread = np.std([test.difference for test in tests], ddof=1)
    assert abs(np.mean([test.standard_error for test in tests]) / spread - 1) < 0.12


def test_bad_input_is_refused_with_a_reason(make_scores):
    a, b = make_scores(np.arange(4.0)), make_scores(np.arange(5.0))
    with pytest.raises(
        ValueError, match="same labels in a and b, but only one has 'u004'; select the labels that both"
    ):
        permutation_test(a, b, paired=True)
    with pytest.raises(ValueError, match="paired scores need labels on 'unit'"):
        permutation_test(a.drop_vars("unit"), a, paired=True)
    with pytest.raises(ValueError, match=r"b must have one dim, that of its items, got \('metric', 'unit'\)"):
        permutation_test(a, b.expand_dims("metric"))
    with pytest.raises(ValueError, match="b contain NaN or infinite values at unit 'u000'; drop these items with"):
        permutation_test(a, b.where(b > 0))
    with pytest.raises(ValueError, match="a need at least 2 items along 'unit', got 1"):
        permutation_test(a[:1], b)
    with pytest.raises(ValueError, match="alternative must be one of 'two-sided', 'greater', 'less'; got 'higher'"):
        permutation_test(a, b, alternative="higher")
    with pytest.raises(ValueError, match="statistic must be one of 'mean', 'median'; got 'max'"):
        permutation_test(a, b, statistic="max")
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 100, got 0"):
        permutation_test(a, b, n_resamples=0)
    with pytest.raises(TypeError, match="a must be an xarray.DataArray, got list"):
        permutation_test([1, 2], b)
    with pytest.raises(TypeError, match="result must be a Dataset from permutation_test or index_diff.*, got float"):
        test_sentence(0.03, "a", "b", "x")


def test_many_tests_at_once_are_those_of_each_alone():
    """Equal and unequal sizes, few enough scores for all permutations, ties, and scores without variance."""
    rng = np.random.default_rng(4)
    sizes = [(30, 20), (30, 20), (20, 30), (3, 4), (40, 2), (30, 20)]
    pairs = [(rng.normal(0.3, 1, n), rng.normal(0, 1, m).round(i % 2)) for i, (n, m) in enumerate(sizes)]
    pairs += [(np.ones(30, np.float32), np.ones(20, np.float32)), (np.arange(30), np.arange(20) % 3)]
    together = compare_means(pairs, n_resamples=500, random_state=3)
    for (x, y), test in zip(pairs, together, strict=True):
        alone = permutation_test(*(xr.DataArray(own, dims="unit") for own in (x, y)), n_resamples=500, random_state=3)
        xr.testing.assert_identical(test, alone)
    assert len({test.p_value.item() for test in together}) > 4
