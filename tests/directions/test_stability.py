"""What stands out is found again in other stimuli; what is noise is not."""

import itertools

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from neurosuper import PCA, KMeans, Random, Units
from neurosuper.directions import direction_stability
from neurosuper.directions.stability import matched_cosines


@pytest.fixture
def graded(rng, make_responses):
    """600 stimuli × 12 units: three directions of well separated variance, and equal noise in all others."""
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    return make_responses(rng.normal(size=(600, 12)) * np.r_[16, 8, 4, np.ones(9)] @ axes)


def unit_rows(rng, n, width):
    rows = rng.normal(size=(n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**31), width=st.integers(2, 6))
def test_the_match_is_the_best_of_all_permutations(seed, width):
    rng = np.random.default_rng(seed)
    a, b = unit_rows(rng, 3, width), unit_rows(rng, 3, width)
    cosines = np.abs(a @ b.T)
    best = max(itertools.permutations(range(3)), key=lambda order: cosines[range(3), order].sum())
    assert_allclose(matched_cosines(a, b), cosines[range(3), best])


def test_order_and_sign_do_not_matter(rng):
    rows = unit_rows(rng, 5, 8)
    assert_allclose(matched_cosines(rows, -rows[::-1]), 1)


def test_directions_that_stand_out_are_stable_and_directions_of_noise_are_not(graded):
    stability = direction_stability(PCA(12), graded)
    assert (stability[:3] > 0.99).all()
    assert stability[3:].mean() < 0.75
    assert stability[3:].max() < 0.9
    assert ((stability.stability_low <= stability) & (stability <= stability.stability_high)).all()
    assert (
        (stability.stability_high - stability.stability_low)[:3].max()
        < 0.02
        < (stability.stability_high - stability.stability_low)[3:].min()
    )


def test_it_is_the_mean_over_refits_that_a_user_would_make(graded):
    """Oracle: a loop that draws stimuli, fits, and matches over permutations of three directions."""
    finder, rng, found = PCA(3), np.random.default_rng(4), []
    reference = PCA(3).fit(graded).directions_.values
    for _ in range(5):
        sample = graded.values[np.sort(rng.integers(600, size=600))]
        cosines = np.abs(reference @ PCA(3).fit(sample).directions_.values.T)
        found.append(cosines[range(3), max(itertools.permutations(range(3)), key=lambda p: cosines[range(3), p].sum())])
    stability = direction_stability(finder, graded, n_resamples=5, random_state=4)
    assert_allclose(stability, np.mean(found, axis=0), rtol=1e-5)
    assert_allclose(stability.stability_low, np.quantile(found, 0.025, axis=0), rtol=1e-5)
    assert_allclose(stability.stability_high, np.quantile(found, 0.975, axis=0), rtol=1e-5)
    assert not hasattr(finder, "directions_")


def test_over_seeds_only_the_seed_changes(graded):
    assert_allclose(direction_stability(PCA(12), graded, over="seeds", n_resamples=3), 1, rtol=1e-5)
    assert (direction_stability(Random(3), graded, over="seeds") < 0.8).all()
    assert_allclose(direction_stability(Random(3), graded), 1, rtol=1e-5, err_msg="the finder keeps its seed")
    seeds = np.random.default_rng(2).integers(2**31, size=1)
    ours, other = (KMeans(4, random_state=int(seed)).fit(graded).directions_.values for seed in (0, seeds[0]))
    stability = direction_stability(KMeans(4), graded, over="seeds", n_resamples=1, random_state=2)
    assert_allclose(stability, matched_cosines(ours, other), rtol=1e-5)


def test_refits_have_as_many_directions_as_the_fit_on_all_stimuli(rng, make_responses):
    """Of 40 stimuli, a sample has about 25, for which "2x" alone would mean 12 clusters."""
    few = make_responses(rng.gamma(1, 5, (40, 9)))
    of_multiple, of_number = (direction_stability(KMeans(n), few, n_resamples=2) for n in ("2x", 18))
    assert of_multiple.sizes["direction"] == 18
    assert_allclose(of_multiple, of_number)


def test_labels_are_those_of_the_directions_and_attrs_say_how(graded):
    stability = direction_stability(Units(), graded, n_resamples=2)
    assert stability.direction.values.tolist() == graded.unit.values.tolist()
    assert stability.name == "stability"
    assert_allclose(stability, 1)
    assert stability.attrs == {
        "confidence_level": 0.95,
        "comment": "mean |cosine| with the matched direction of 2 refits, to bootstrap samples of stimuli",
        "over": "stimuli",
        "n_resamples": 2,
        "random_state": 0,
        "finder": "Units()",
    }
    assert stability.identical(direction_stability(Units(), graded, n_resamples=2))


@pytest.fixture
def rates(rng, make_responses):
    """400 stimuli × 24 units, which respond independently of one another, by up to twice the rate of the lowest."""
    return make_responses(rng.gamma(2, np.linspace(5, 10, 24), size=(400, 24)))


@pytest.fixture
def clustered(rng, rates):
    """The same, in which each of eight groups of stimuli also drives three of the units."""
    drive = np.repeat(np.eye(8), 3, axis=1)[rng.integers(8, size=400)]
    return rates + 4 * drive * rates.values.std(axis=0)


@pytest.mark.parametrize("over", ["stimuli", "seeds"])
def test_planted_clusters_are_above_the_chance_level_and_independent_units_are_not(rates, clustered, over):
    finder, settings = KMeans(8, center=True), {"over": over, "n_resamples": 5, "null": True}
    planted, nothing = (direction_stability(finder, responses, **settings) for responses in (clustered, rates))
    assert (planted > 0.98).all()
    assert planted.chance_level < 0.92
    assert (planted > planted.chance_level_high).all()
    assert nothing.mean() < nothing.chance_level + 0.1
    assert nothing.chance_level_low < nothing.chance_level < nothing.chance_level_high


def test_without_centring_the_mean_response_alone_is_stable(rates):
    """K-means of independent units finds nothing, and nearly the same each time: the chance level says so."""
    found = direction_stability(KMeans(4), rates, over="seeds", n_resamples=5, null=True)
    assert found.mean() > 0.9
    assert found.chance_level > 0.9
    assert abs(found.mean() - found.chance_level) < 0.05


def test_the_chance_level_is_that_of_units_permuted_independently(clustered):
    """Oracle: the same function on responses that are permuted in a loop; nothing else changes."""
    finder, settings = PCA(3), {"n_resamples": 4, "random_state": 5}
    found = direction_stability(finder, clustered, null=True, **settings)
    assert found.drop_vars(["chance_level", "chance_level_low", "chance_level_high"]).identical(
        direction_stability(finder, clustered, **settings)
    )
    permuted = clustered.copy()
    for i in range(24):
        permuted[:, i] = clustered.values[np.random.default_rng([5, i]).permutation(400), i]
    assert abs(np.corrcoef(permuted.values.T) - np.eye(24)).max() < 0.25 < np.corrcoef(clustered.values.T)[0, 1]
    rng = np.random.default_rng(5)
    rng.integers(400, size=(4, 400))  # the draws of the four refits before
    reference = PCA(3).fit(permuted).directions_.values
    refits = [PCA(3).fit(permuted.values[np.sort(rng.integers(400, size=400))]).directions_.values for _ in range(4)]
    expected = np.stack([matched_cosines(reference, refit) for refit in refits])
    assert_allclose(found.chance_level, expected.mean(), rtol=1e-5)
    assert_allclose(found.chance_level_high, np.quantile(expected.mean(0), 0.975), rtol=1e-5)


def test_dask_and_plain_arrays_give_the_same(graded):
    expected = direction_stability(PCA(3), graded, n_resamples=3, null=True)
    lazy = graded.copy(data=da.from_array(graded.values, chunks=(200, 5)))
    found = direction_stability(PCA(3), lazy, n_resamples=3, null=True)
    assert_allclose(found, expected, rtol=1e-5)
    assert_allclose(found.chance_level, expected.chance_level, rtol=1e-5)
    assert_allclose(direction_stability(PCA(3), graded.values, n_resamples=3), expected)


def test_bad_input_is_told_in_one_line(graded):
    with pytest.raises(ValueError, match="over must be 'stimuli' or 'seeds', got 'units'"):
        direction_stability(PCA(), graded, over="units")
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 1, got 0"):
        direction_stability(PCA(), graded, n_resamples=0)
    rare = graded.copy()
    rare[1:, 0] = rare[1, 0]
    with pytest.raises(
        ValueError, match="^in a bootstrap sample of stimuli: zero variance over stimuli in unit 'u000'"
    ):
        direction_stability(PCA(3), rare)
