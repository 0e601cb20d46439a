import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from neurosuper.compare import match_directions
from neurosuper.directions import KMeans, Random, Units


@pytest.mark.parametrize("rows", [None, normalize], ids=["plain", "unit length"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_scikit_learn_from_the_same_start(rows, dtype, superposition):
    R, _ = superposition
    X = R.values if rows is None else rows(R.values)
    ours = KMeans(30, normalize=rows is not None, init=X[:30], tol=0, dtype=dtype).fit(R)
    theirs = SklearnKMeans(30, init=X[:30], n_init=1, algorithm="lloyd", tol=0).fit(X)
    assert adjusted_rand_score(ours.labels_, theirs.labels_) == 1
    assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-6)
    assert_allclose(ours.centers_, theirs.cluster_centers_, atol=1e-5)


def test_seeding_is_as_good_as_scikit_learns(superposition):
    R, _ = superposition
    X = normalize(R.values)
    ours = np.mean([KMeans(30, random_state=seed).fit(R).inertia_ for seed in range(5)])
    theirs = np.mean([SklearnKMeans(30, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(5)])
    assert ours < 1.02 * theirs


def test_recovers_planted_features_in_superposition(superposition):
    """48 sparse features in 24 units (seed 0): K-means finds them better than units are, or random directions."""
    R, planted = superposition
    recovery = {
        finder: match_directions(finder.fit(R).directions_, planted).median().item()
        for finder in (KMeans("2x"), Units(), Random("2x"))
    }
    kmeans, units, random = recovery.values()
    assert kmeans > 0.95
    assert units < 0.75
    assert random < 0.70


def test_codes_are_cosines_of_responses_with_the_directions(responses):
    finder = KMeans(5).fit(responses)
    expected = normalize(responses.values) @ finder.directions_.values.T
    assert_allclose(finder.transform(responses), expected, rtol=1e-5)


def test_distance_codes_are_minus_the_distance_to_the_centres(responses):
    finder = KMeans(5, codes="distance").fit(responses)
    theirs = SklearnKMeans(5, init=finder.centers_.values, n_init=1, max_iter=1).fit(finder.centers_.values)
    assert_allclose(finder.transform(responses), -theirs.transform(normalize(responses.values)), atol=1e-5)
    assert (finder.transform(responses).values.argmax(1) == finder.labels_.values).all()


def test_started_on_the_units_an_empty_cluster_stays_on_its_unit(make_responses, rng):
    R = rng.gamma(1, 1, (50, 4)) * [1, 1, 1, 0.01]
    finder = KMeans(init="units").fit(make_responses(R))
    assert not (finder.labels_ == 3).any()
    assert_allclose(finder.directions_[3], [0, 0, 0, 1])


def test_clusters_on_the_units_axes_stay_there(make_responses, rng):
    R = np.repeat(np.eye(6), 20, axis=0) + 0.02 * rng.random((120, 6))
    D = KMeans(init="units").fit(make_responses(R)).directions_.values
    assert (np.diag(D) > 0.99).all()


def test_empty_clusters_restart_at_far_stimuli(responses):
    start = np.vstack([responses.values[:3], np.full((2, 8), 1e3)])
    finder = KMeans(5, init=start, normalize=False).fit(responses)
    assert len(np.unique(finder.labels_)) == 5


def test_more_clusters_than_distinct_stimuli_still_gives_finite_directions(make_responses):
    R = make_responses(np.tile(np.eye(3) + 0.1, (4, 1)))
    assert np.isfinite(KMeans(5).fit(R).directions_).all()


def test_stimuli_without_response_take_no_part_in_the_fit(make_responses, rng):
    R = rng.gamma(1, 1, (30, 4))
    silent = R.copy()
    silent[:5] = 0
    start = normalize(R[-8:])
    with_them, without = (KMeans(8, init=start).fit(make_responses(X)) for X in (silent, silent[5:]))
    assert_allclose(with_them.directions_, without.directions_, atol=1e-5)
    assert_allclose(with_them.inertia_, without.inertia_, rtol=1e-5)
    assert (with_them.transform(make_responses(silent))[:5] == 0).all()
    with pytest.raises(ValueError, match="26 clusters of 25 stimuli that have a response"):
        KMeans(26).fit(make_responses(silent))


def test_a_centre_at_the_origin_has_no_direction(make_responses):
    R = make_responses(np.repeat([[0.0, 0.0], [5.0, 1.0]], 10, axis=0))
    with pytest.raises(ValueError, match="centre lies at the origin"):
        KMeans(2, normalize=False).fit(R)
    assert KMeans(2, normalize=False, codes="distance").fit_transform(R).notnull().all()


def test_seeding_is_not_spoiled_by_a_far_mean(superposition):
    R, _ = superposition
    near, far = (KMeans(30, normalize=False).fit(X).inertia_ for X in (R, R + 10_000))
    assert far < 1.05 * near


def test_stopping_early_warns_by_how_much(responses):
    with pytest.warns(ConvergenceWarning, match="above the tolerance .*; raise max_iter or tol"):
        KMeans(8, max_iter=1).fit(responses)


@pytest.mark.parametrize(
    ("finder", "message"),
    [
        (KMeans(200), "cannot make 200 clusters of 120 stimuli"),
        (KMeans(5, init="units"), "gives centres of shape \\(8, 8\\), but 5 directions"),
        (KMeans(5, init=np.eye(3)), "gives centres of shape \\(3, 3\\)"),
        (KMeans(5, init="random"), "init must be"),
        (KMeans(5, codes="both"), "codes must be"),
        (KMeans(5, normalize="no"), "normalize must be a bool"),
        (KMeans(5, max_iter=0), "max_iter at least 1"),
    ],
)
def test_bad_settings_are_refused(finder, message, responses):
    with pytest.raises(ValueError, match=message):
        finder.fit(responses)


def test_clusters_of_single_stimuli_are_warned_of(responses):
    with pytest.warns(UserWarning, match="70 clusters of 120 stimuli: many directions are single stimuli"):
        KMeans(70).fit(responses)


def test_labels_and_centres_are_labelled(responses):
    finder = KMeans(5).fit(responses)
    xr.testing.assert_equal(finder.labels_.stimulus, responses.stimulus)
    assert finder.centers_.dims == ("direction", "unit")
