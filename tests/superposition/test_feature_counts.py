"""The number of features is the planted one, 0 where there are none, and that of a loop over splits."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment

from neurosuper import PCA, DictionaryLearning, Exemplars, KMeans, split_stimuli
from neurosuper.demo.superposed import superposed
from neurosuper.interpretability import shuffle_units
from neurosuper.superposition import count_features
from neurosuper.superposition.feature_counts import _drop_duplicates


def test_it_is_that_of_a_loop_over_splits(make_responses, rng):
    responses = make_responses(rng.normal(size=(80, 6)) * [6, 5, 4, 1, 1, 1] + rng.normal(size=(80, 1)))
    result = count_features(PCA(), responses, n_directions=[2, 5], stable=0.7, n_resamples=3, random_state=4)
    seeds = np.random.default_rng(4).integers(2**31, size=(3, 2)).tolist()

    def matched(R, split_seed, n):
        marks = split_stimuli(R, random_state=split_seed).split.values
        fits = [PCA(n).fit(R[marks == part]) for part in ("fit", "score")]
        cosine = np.abs(fits[0].directions_.values @ fits[1].directions_.values.T)
        explained = [fits[0].score(R[marks == "score"]), fits[1].score(R[marks == "fit"])]
        return (cosine[linear_sum_assignment(-cosine)] >= 0.7).sum(), np.mean(explained)

    for n in (2, 5):
        found = [matched(responses, a, n) for a, _ in seeds]
        null = [matched(shuffle_units(responses, random_state=b), a, n)[0] for a, b in seeds]
        part = result.sel(n_directions=n)
        each = np.maximum([m - other for (m, _), other in zip(found, null, strict=True)], 0)
        assert_allclose(part.n_stable, each.mean())
        assert_allclose([part.n_stable_low, part.n_stable_high], np.quantile(each, [0.025, 0.975]))
        assert_allclose((part.n_matched, part.n_matched_null), (np.mean([m for m, _ in found]), np.mean(null)))
        assert_allclose(part.held_out_variance, np.mean([v for _, v in found]))
    variances = np.linalg.eigvalsh(np.cov(responses.values.T))
    assert_allclose(result.participation_ratio, variances.sum() ** 2 / (variances**2).sum())
    assert_allclose(result.overcompleteness, result.n_stable / result.participation_ratio)


@pytest.mark.parametrize(
    "finder",
    [KMeans(normalize=True), pytest.param(DictionaryLearning(positive=True, dtype="float64"), marks=pytest.mark.slow)],
)
def test_twice_as_many_features_as_units_are_counted(finder):
    world = superposed(n_features=40, n_units=20, n_stimuli=2000, active=0.05, random_state=0)
    found = count_features(finder, world.response, n_directions=40, n_resamples=2)
    assert abs(found.n_stable.item() - 40) <= 4
    assert found.overcompleteness > 2


def test_gaussian_responses_have_no_features(make_responses, rng):
    noise = make_responses(rng.normal(size=(800, 20)))
    assert count_features(KMeans(normalize=True), noise, n_directions=40, n_resamples=2).n_stable <= 0.5


def test_copies_of_a_direction_count_once():
    D = np.eye(3)[[0, 0, 1, 2]]
    D[1] = [-0.99, np.sqrt(1 - 0.99**2), 0]
    assert _drop_duplicates(D, 0.8).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_directions_near_a_common_mean_are_not_many_features(make_responses, rng):
    """Exemplars of rates are all near the mean response: one matches any other, in the other half too."""
    rates = make_responses(5 + 0.1 * rng.normal(size=(400, 20)))
    found = count_features(Exemplars(), rates, n_directions=30, n_resamples=2)
    assert (found.n_matched, found.n_duplicates) == (1, 29)
    assert found.n_stable == 0  # as many as without features


def test_order_and_dask_do_not_matter(make_responses, rng):
    responses = make_responses(rng.gamma(2, 1, (200, 6)) * np.arange(1, 7))
    first = count_features(PCA(), responses, n_directions=3, n_resamples=2)
    lazy = count_features(PCA(), responses.chunk(stimulus=50), n_directions=3, n_resamples=2)
    xr.testing.assert_allclose(first, lazy)
    turned = count_features(PCA(), responses[::-1], n_directions=3, n_resamples=2)
    assert_allclose(turned.n_matched, first.n_matched)
    assert_allclose(turned.held_out_variance, first.held_out_variance, rtol=1e-5)


def test_bad_input_is_refused_with_a_reason(make_responses, rng):
    responses = make_responses(rng.normal(size=(40, 4)))
    with pytest.raises(
        ValueError, match=r"^n_directions must be at least one number and no duplicates, got \[4, None\]"
    ):
        count_features(PCA(), responses, n_directions=[4, None])
    with pytest.raises(ValueError, match="^stable must be strictly between 0 and 1, such as 0.8; got 1"):
        count_features(PCA(), responses, n_directions=2, stable=1)
    silent = responses.copy()
    silent[1:, 0] = 0
    silent[0, 0] = 1
    with pytest.raises(
        ValueError, match="^zero variance over stimuli of a random half in unit 'u000'; drop such units"
    ):
        count_features(PCA(), silent, n_directions=2)
    with pytest.raises(ValueError, match="^n_resamples must be a whole number of at least 2, got 1"):
        count_features(PCA(), responses, n_directions=2, n_resamples=1)
