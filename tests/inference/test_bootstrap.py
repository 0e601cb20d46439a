"""Intervals equal those of scipy and of all draws of groups, and cover the true value as often as they should."""

from itertools import product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from neurosuper.inference import bootstrap_interval
from neurosuper.inference.bootstrap import _draw_groups, _row_median

unhurried = settings(deadline=None, max_examples=40)
SUBJECTS = np.repeat([f"s{i}" for i in range(8)], 5)


@pytest.fixture
def skewed(rng, make_scores) -> xr.DataArray:
    """Scores of 30 units under three metrics."""
    metric = ["color", "label", "pixel"]
    return make_scores(rng.gamma(1, 1, (3, 30)), ("metric", "unit"), metric=metric, area=("unit", ["V4"] * 30))


def make_studies(make_scores, sizes, spread, n_studies):
    """Studies of subjects with these numbers of units; s.d. `spread` between subjects and 1 within; true value 0."""
    rng, subject = np.random.default_rng(0), np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
    between = np.repeat(rng.normal(0, spread, (n_studies, len(sizes))), sizes, axis=1)
    values = between + rng.normal(size=(n_studies, sum(sizes)))
    return make_scores(values, ("study", "unit"), subject=("unit", subject), study=range(n_studies))


def covers(interval: xr.Dataset, true_value: float) -> float:
    """Return the share of intervals that cover the true value."""
    return float(((interval.estimate_low <= true_value) & (true_value <= interval.estimate_high)).mean())


def width(interval: xr.Dataset) -> xr.DataArray:
    return interval.estimate_high - interval.estimate_low


@pytest.mark.parametrize(("statistic", "method"), [("mean", "BCa"), ("median", "percentile")])
def test_intervals_are_those_of_scipy(skewed, statistic, method):
    interval = bootstrap_interval(skewed, "unit", statistic=statistic, n_resamples=999, random_state=3)
    center = getattr(np, statistic)
    for metric in skewed.metric.values:
        x = skewed.sel(metric=metric).values
        theirs = stats.bootstrap((x,), center, n_resamples=999, method=method, rng=np.random.default_rng(3))
        ours = interval.sel(metric=metric)
        assert_allclose([ours.estimate_low, ours.estimate_high], theirs.confidence_interval, rtol=1e-12)
        assert_allclose(ours.estimate, center(x))


@pytest.mark.parametrize("n", [2, 8, 29])
def test_a_mean_of_fewer_than_30_items_has_a_t_interval(rng, make_scores, n):
    x = make_scores(rng.gamma(1, 1, (3, n)), ("metric", "unit"))
    interval = bootstrap_interval(x, "unit", confidence_level=0.9)
    theirs = stats.ttest_1samp(x.values, 0, axis=1).confidence_interval(0.9)
    assert_allclose([interval.estimate_low, interval.estimate_high], theirs)
    assert interval.method == "t interval over items"
    assert bootstrap_interval(x, "unit", statistic="median").method == "percentile bootstrap over items"


@pytest.mark.parametrize("n", [8, 12, 20])
def test_an_interval_covers_the_mean_of_few_normal_scores_as_often_as_it_should(rng, make_scores, n):
    studies = make_scores(rng.normal(size=(2000, n)), ("study", "unit"))
    assert 0.93 < covers(bootstrap_interval(studies, "unit"), 0) < 0.97


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_grouped_intervals_have_the_spread_of_all_draws_of_groups(skewed, statistic):
    """Groups of 3, 7, 8 and 12 items; to the precision of 20,000 resamples."""
    x, subject = skewed.sel(metric="color"), np.repeat(list("abcd"), [3, 7, 8, 12])
    members, center = [x.values[subject == name] for name in "abcd"], getattr(np, statistic)
    draws = [center(np.concatenate([members[k] for k in drawn])) for drawn in product(range(4), repeat=4)]
    margin = stats.t.ppf(0.975, 3) * np.sqrt(4 / 3) * np.std(draws)
    interval = bootstrap_interval(
        x.assign_coords(subject=("unit", subject)), "unit", groups="subject", statistic=statistic, n_resamples=20000
    )
    assert_allclose(
        [interval.estimate_low, interval.estimate_high],
        center(x.values) + margin * np.array([-1, 1]),
        atol=0.03 * margin,
    )
    assert interval.method == "t interval with bootstrap standard error over subject"


@pytest.mark.parametrize("confidence_level", [0.5, 0.95])
def test_of_equal_groups_the_interval_is_the_t_interval_of_their_means(skewed, confidence_level):
    x = skewed.sel(metric="color").assign_coords(subject=("unit", np.arange(30) % 6))
    theirs = stats.ttest_1samp([x[x.subject == k].mean() for k in range(6)], 0).confidence_interval(confidence_level)
    ours = bootstrap_interval(x, "unit", groups="subject", confidence_level=confidence_level, n_resamples=20000)
    assert_allclose([ours.estimate_low, ours.estimate_high], theirs, atol=0.03 * (theirs.high - theirs.low))


@unhurried
@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(0, 1000))
def test_as_many_groups_are_drawn_as_there_are_each_with_all_its_items(sizes, seed):
    g = np.repeat(np.arange(len(sizes)), sizes)
    W = _draw_groups(g, 20, np.random.default_rng(seed))
    first = np.cumsum([0, *sizes[:-1]])
    assert_array_equal(W, W[:, first][:, g])
    assert_array_equal(W[:, first].sum(axis=1), len(sizes))


@unhurried
@given(arrays(float, 6, elements=st.floats(-5, 5)), arrays(int, (4, 6), elements=st.integers(0, 3)))
def test_weighted_median_is_that_of_repeated_scores(x, W):
    W[:, 0] += 1  # at least one score
    assert_array_equal(_row_median(x, W), [np.median(np.repeat(x, row)) for row in W])


@unhurried
@given(st.floats(0.1, 50), st.floats(-100, 100), st.sampled_from([None, "subject"]))
def test_another_unit_of_measurement_gives_the_same_interval(make_scores, factor, shift, groups):
    x = make_scores(np.random.default_rng(0).gamma(1, 1, 40), subject=("unit", SUBJECTS))
    ours, theirs = (
        bootstrap_interval(scores, "unit", groups=groups, n_resamples=200) for scores in (x, factor * x + shift)
    )
    for name in ours:
        assert_allclose(theirs[name], factor * ours[name] + shift, rtol=1e-9, atol=1e-9)


def test_an_interval_covers_a_normal_mean_as_often_as_it_should(rng, make_scores):
    studies = make_scores(rng.normal(2, 1, (2000, 40)), ("study", "unit"))
    interval = bootstrap_interval(studies, "unit", n_resamples=999)
    assert 0.92 <= covers(interval, 2) <= 0.97
    assert covers(bootstrap_interval(studies, "unit", confidence_level=0.5, n_resamples=999), 2) < 0.6


@pytest.mark.parametrize("spread", [1, 0])
@pytest.mark.parametrize("sizes", [[5] * 2, [5] * 8, [5] * 20, [2, 4, 6, 8, 10, 12, 14, 16]], ids=str)
@pytest.mark.parametrize(("statistic", "n_studies"), [("mean", 2000), ("median", 500)])
def test_grouped_intervals_cover_the_true_value_as_often_as_they_should(
    make_scores, sizes, spread, statistic, n_studies
):
    studies = make_studies(make_scores, sizes, spread, n_studies)
    interval = bootstrap_interval(studies, "unit", groups="subject", statistic=statistic, n_resamples=499)
    assert 0.92 <= covers(interval, 0) <= 0.97


def test_if_subjects_differ_an_interval_without_groups_is_too_narrow(make_scores):
    studies = make_studies(make_scores, [5] * 8, 1, 500)
    flat, grouped = (bootstrap_interval(studies, "unit", groups=by, n_resamples=999) for by in (None, "subject"))
    assert (width(grouped) > width(flat)).mean() > 0.95
    assert covers(flat, 0) < 0.75


def test_if_subjects_do_not_differ_grouping_changes_little(make_scores):
    equal = make_studies(make_scores, [5] * 8, 0, 200)
    flat, grouped = (bootstrap_interval(equal, "unit", groups=by, n_resamples=999) for by in (None, "subject"))
    assert 1 < (width(grouped) / width(flat)).mean() < 1.3


@pytest.mark.parametrize("groups", [None, "subject"])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_scores_that_are_all_equal_have_an_interval_without_width(make_scores, groups, statistic):
    values = np.stack([np.full(40, 0.1), np.arange(40)])
    scores = make_scores(values, ("metric", "unit"), subject=("unit", SUBJECTS))
    interval = bootstrap_interval(scores, "unit", groups=groups, statistic=statistic, n_resamples=200)
    assert interval.estimate_low[0] == interval.estimate[0] == interval.estimate_high[0]
    assert interval.estimate[0] == pytest.approx(0.1)
    assert interval.estimate_low[1] < interval.estimate[1] < interval.estimate_high[1]


@pytest.mark.parametrize("tied", [[0, 0, 0, 1], [0] * 30 + [1], [1, 1, 2, 2, 2]])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_ties_give_no_nan(make_scores, tied, statistic):
    interval = bootstrap_interval(make_scores(tied), "unit", statistic=statistic)
    assert interval.estimate_low <= interval.estimate <= interval.estimate_high


def test_other_dims_their_coords_and_settings_survive_in_a_file(skewed, tmp_path):
    interval = bootstrap_interval(skewed.assign_coords(system="brain"), "unit", n_resamples=200, random_state=None)
    interval.to_netcdf(tmp_path / "interval.nc")
    reread = xr.load_dataset(tmp_path / "interval.nc")
    xr.testing.assert_identical(reread, interval)
    assert reread.estimate_low.dims == ("metric",)
    assert set(reread.coords) == {"metric", "system"}
    assert reread.attrs["n_items"] == 30
    assert reread.attrs["method"] == "BCa bootstrap over items"


def test_a_seed_gives_the_same_interval_and_leaves_global_state_alone(skewed):
    before = np.random.get_state()[1].copy()
    first, second = (bootstrap_interval(skewed, "unit", n_resamples=200) for _ in range(2))
    xr.testing.assert_identical(first, second)
    assert_array_equal(np.random.get_state()[1], before)
    assert not first.equals(bootstrap_interval(skewed, "unit", n_resamples=200, random_state=1))


def test_bad_input_is_refused_with_a_reason(make_scores, skewed):
    one = make_scores(np.arange(4.0), subject=("unit", ["a"] * 4))
    with pytest.raises(ValueError, match="all items have the subject 'a', .*; record at least 2, or leave out groups"):
        bootstrap_interval(one, "unit", groups="subject")
    with pytest.raises(ValueError, match="no coord 'animal' along 'unit'; they have 'unit', 'subject'; add it with"):
        bootstrap_interval(one, "unit", groups="animal")
    with pytest.raises(ValueError, match="no subject for unit 'u002', 'u003'; leave out items that belong to no group"):
        bootstrap_interval(one.assign_coords(subject=("unit", ["a", "b", "", None])), "unit", groups="subject")
    with pytest.raises(ValueError, match="values contain NaN or infinite values at unit 'u001'; drop these items with"):
        bootstrap_interval(skewed.where(skewed.unit != "u001"), "unit")
    with pytest.raises(ValueError, match=r"values have no dim 'direction'; their dims are \('metric', 'unit'\)"):
        bootstrap_interval(skewed, "direction")
    with pytest.raises(ValueError, match="at least 2 items along 'unit', got 1"):
        bootstrap_interval(one[:1], "unit")
    with pytest.raises(ValueError, match="statistic must be one of 'mean', 'median'; got 'mode'"):
        bootstrap_interval(one, "unit", statistic="mode")
    with pytest.raises(ValueError, match="confidence_level must be strictly between 0 and 1, such as 0.95; got 95"):
        bootstrap_interval(one, "unit", confidence_level=95)
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 100, got 10"):
        bootstrap_interval(one, "unit", n_resamples=10)
    with pytest.raises(TypeError, match="values must be an xarray.DataArray, got ndarray"):
        bootstrap_interval(one.values, "unit")
    with pytest.raises(TypeError, match="values must be real numbers, got dtype <U4"):
        bootstrap_interval(one.unit, "unit")
