import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from neurosuper.directions import KMeans, Random, Units, recovery
from neurosuper.directions._rows import shared_passes as together
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._rows.tiles import TILE_ENTRIES
from neurosuper.directions._solvers.center_exchange import exchange
from neurosuper.directions._solvers.center_search import find_centers, halve, pair, plus_plus, split_clusters
from neurosuper.directions._solvers.nearest_centers import (
    Screen,
    best,
    best_screened,
    nearest,
    nearest_of_each,
    sum_by_center,
)
from neurosuper.directions.kmeans import _farthest


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


def few_rows(kind):
    """Rows and a number of clusters for which Lloyd's algorithm depends on its start."""
    rng = np.random.default_rng(0)
    if kind == "clustered":
        return (rng.normal(0, 4, (50, 1, 50)) + rng.normal(0, 0.3, (50, 100, 50))).reshape(-1, 50), 40
    if kind == "clustered, few":
        return (rng.normal(0, 4, (50, 1, 10)) + rng.normal(0, 0.3, (50, 20, 10))).reshape(-1, 10), 40
    if kind == "distinct":
        return rng.gamma(1, 1, (60, 20)), 50
    return (np.repeat(rng.gamma(1, 1, (60, 20)), 3, 0), 50) if kind == "repeated" else (rng.gamma(1, 1, (60, 200)), 30)


@pytest.mark.filterwarnings("ignore:.*many directions are single stimuli")
@pytest.mark.parametrize("kind", ["clustered, few", "clustered", "distinct", "repeated", "more units than rows"])
def test_one_fit_of_few_rows_is_no_worse_than_the_best_of_ten_by_scikit_learn(kind, make_responses):
    X, k = few_rows(kind)
    ours = [KMeans(k, normalize=False, random_state=seed).fit(make_responses(X)).inertia_ for seed in range(4)]
    theirs = [SklearnKMeans(k, n_init=10, random_state=seed).fit(X).inertia_ for seed in range(2)]
    single = [SklearnKMeans(k, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(10)]
    assert np.mean(ours) <= np.mean(theirs)
    assert max(ours) < 0.99 * np.mean(single)


def test_exchange_gives_the_inertia_of_its_centres_which_no_single_move_lowers(rng):
    X = np.repeat(rng.gamma(1, 1, (40, 5)), rng.integers(1, 4, 40), axis=0)
    C, inertia = exchange(torch.from_numpy(X), torch.from_numpy(X[:12]))
    label = ((X[:, None] - C.numpy()) ** 2).sum(2).argmin(1)

    def sum_of_squares(label):
        return sum(((X[label == k] - X[label == k].mean(0)) ** 2).sum() for k in np.unique(label))

    assert_allclose(inertia, sum_of_squares(label), rtol=1e-9)
    rows, which = np.unique(X, axis=0, return_inverse=True)
    for i in range(len(rows)):
        for k in range(12):
            assert sum_of_squares(np.where(which == i, k, label)) > inertia - 1e-6


def test_more_searches_give_the_one_of_smallest_inertia(superposition, monkeypatch):
    monkeypatch.setattr("neurosuper.directions._solvers.center_exchange.FEW_PRODUCTS", 0)
    R, _ = superposition
    fits = [KMeans(30, n_init=n, random_state=seed).fit(R).inertia_ for n in (1, 8) for seed in range(4)]
    assert max(fits[4:]) < np.mean(fits[:4])
    with pytest.raises(ValueError, match="n_init must be a whole number of at least 1, got 0"):
        KMeans(30, n_init=0).fit(R)


def test_recovers_planted_features_in_superposition(superposition):
    """48 sparse features in 24 units (seed 0): K-means finds them better than units are, or random directions."""
    R, planted = superposition
    recovered = {
        finder: recovery(finder.fit(R).directions_, planted).median().item()
        for finder in (KMeans("2x"), Units(), Random("2x"))
    }
    kmeans, units, random = recovered.values()
    assert kmeans > 0.95
    assert units < 0.75
    assert random < 0.70


def test_codes_are_cosines_of_responses_with_the_directions(responses):
    finder = KMeans(5).fit(responses)
    expected = normalize(responses.values) @ finder.directions_.values.T
    assert_allclose(finder.transform(responses), expected, rtol=1e-5)


def test_distance_codes_are_minus_the_distance_to_the_centres(responses):
    finder = KMeans(5, encoding="distance").fit(responses)
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
    with pytest.raises(ValueError, match="cannot give 26 directions: only 25 stimuli have a response"):
        KMeans(26).fit(make_responses(silent))


def test_a_centre_at_the_origin_has_no_direction(make_responses):
    R = make_responses(np.repeat([[0.0, 0.0], [5.0, 1.0]], 10, axis=0))
    with pytest.raises(ValueError, match="centre is at the origin"):
        KMeans(2, normalize=False).fit(R)
    assert KMeans(2, normalize=False, encoding="distance").fit_transform(R).notnull().all()


def test_seeding_is_not_spoiled_by_a_far_mean(superposition):
    R, _ = superposition
    near, far = (KMeans(30, normalize=False).fit(X).inertia_ for X in (R, R + 10_000))
    assert far < 1.05 * near


def test_stopping_early_warns_by_how_much(responses):
    with pytest.warns(
        ConvergenceWarning, match="a direction still turned by .* in one, more than tol=.*; raise max_iter or tol"
    ):
        KMeans(8, max_iter=1).fit(responses)


@pytest.mark.parametrize(
    ("finder", "message"),
    [
        (KMeans(200), "cannot give 200 directions: only 120 stimuli have a response, and each cluster needs one"),
        (KMeans(200, init=np.ones((200, 8))), "cannot make 200 clusters of 120 stimuli; give fewer centres"),
        (KMeans(5, init="units"), "gives centres of shape \\(8, 8\\), but 5 directions"),
        (KMeans(5, init=np.eye(3)), "gives centres of shape \\(3, 3\\)"),
        (KMeans(5, init="random"), "init must be"),
        (KMeans(5, encoding="both"), "encoding must be"),
        (KMeans(5, normalize="no"), "normalize must be True or False"),
        (KMeans(5, max_iter=0), "max_iter must be a whole number of at least 1"),
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


@pytest.fixture
def many_rows():
    """3,000 rows of 96 units, far from the origin, around 80 centres."""
    generator = torch.Generator().manual_seed(0)
    C = 3 + torch.randn(80, 96, generator=generator)
    X = C[torch.randint(80, (3000,), generator=generator)] + 1.5 * torch.randn(3000, 96, generator=generator)
    return X, C


def test_the_screen_in_bfloat16_never_changes_which_centre_is_nearest(many_rows):
    X, C = many_rows
    for scale in (1e-3, 1, 1e3):
        label, first, second = best_screened(scale * X, Screen(scale * C), 2)
        expected_label, expected_first, expected_second = best(scale * X.double(), scale * C.double(), 2)
        assert (label == expected_label).all()
        assert_allclose(first / scale**2, expected_first / scale**2, atol=2e-3)
        assert_allclose(second / scale**2, expected_second / scale**2, atol=2e-3)
        assert (best_screened(scale * X, Screen(scale * C), 1)[0] == expected_label).all()


def test_the_screen_keeps_centres_that_bfloat16_cannot_distinguish(many_rows):
    X, C = many_rows
    close = torch.cat([C, C + 1e-3 * torch.randn(C.shape, generator=torch.Generator().manual_seed(1))])
    label = best_screened(X, Screen(close), 1)[0]
    scores = X.double() @ close.double().T - (close.double() ** 2).sum(1) / 2
    lost = scores.max(1).values - scores.gather(1, label[:, None])[:, 0]
    assert lost.max() < 1e-3


def test_distances_are_those_of_scikit_learn(many_rows):
    X, C = many_rows
    label, distance, second = nearest(X, C, X.mean(0), 2)
    expected = np.sort(SklearnKMeans(80, init=C.numpy(), n_init=1, max_iter=1).fit(C.numpy()).transform(X.numpy()))
    assert_allclose(distance.sqrt(), expected[:, 0], rtol=1e-4)
    assert_allclose(second.sqrt(), expected[:, 1], rtol=1e-4)
    assert (label == nearest(X.double(), C.double(), X.mean(0).double())[0]).all()


@pytest.mark.parametrize("n_nearest", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_of_several_fits_at_once_are_those_of_each(n_nearest, dtype, many_rows, monkeypatch):
    """In parts of 700 rows; fits of 80, 3 and 17 centres, some of them rows, and each with an origin of its own."""
    X, C = (values.to(dtype) for values in many_rows)
    centers = [C, X[:3], X[50:67]]
    origins = [group.mean(0) for group in centers]
    expected = [nearest(X, *fit, n_nearest) for fit in zip(centers, origins, strict=True)]
    monkeypatch.setattr(together, "STACKING_DEVICES", ("cpu",))
    monkeypatch.setitem(TILE_ENTRIES, "cpu", 100 * 700)
    found = nearest_of_each(X, centers, origins, n_nearest)
    for columns, (label, *distances) in zip(found, expected, strict=True):
        assert (columns[0] == label).all()
        for column, distance in zip(columns[1:], distances, strict=True):
            assert_allclose(column, distance, rtol=1e-5, atol=2e-3 if dtype == torch.float32 else 1e-12)


def test_a_fit_of_one_cluster_among_others_has_no_second_nearest(many_rows, monkeypatch):
    X, C = many_rows
    monkeypatch.setattr(together, "STACKING_DEVICES", ("cpu",))
    (_, _, second), (label, *_) = nearest_of_each(X, [C[:1], C], [X.mean(0)] * 2, 2)
    assert second.isinf().all()
    assert (label == nearest(X, C, X.mean(0))[0]).all()


def test_compiled_sums_by_centre_are_those_of_torch(many_rows):
    X, C = many_rows
    label = nearest(X, C, X.mean(0))[0]
    sums = torch.zeros_like(C, dtype=torch.float64)
    sum_by_center(X, (label, sums))
    assert_allclose(sums, torch.zeros_like(sums).index_add_(0, label, X.double()), rtol=1e-12)


def halve_one(P):
    """The two halves of one cluster along its axis of largest variance, from the singular value decomposition."""
    centred = P - P.mean(0)
    above = torch.linalg.svd(centred, full_matrices=False)[2][0] @ centred.T > 0
    means = torch.stack([P[above].mean(0), P[~above].mean(0)])
    gain = (centred**2).sum() - sum(((P[side] - P[side].mean(0)) ** 2).sum() for side in (above, ~above))
    return means, gain


def test_halves_in_torch_are_those_of_the_axis_of_largest_variance(rng):
    """60 rows around each of three centres, spread along one axis more than along the others, seed 0."""
    spread = rng.normal(size=(180, 5)) * [9, 1, 1, 1, 1] + np.repeat([[0], [100], [-300]], 60, axis=0)
    X, label = torch.tensor(spread)[torch.arange(180).view(3, 60).T.flatten()], torch.arange(180) % 3
    halves, gain = halve(X, label, torch.zeros(3, 5, dtype=X.dtype))
    for cluster in range(3):
        means, expected = halve_one(X[label == cluster])
        assert_allclose(halves[cluster][halves[cluster][:, 0].argsort()], means[means[:, 0].argsort()], rtol=1e-9)
        assert_allclose(gain[cluster], expected, rtol=1e-9)


def test_compiled_halves_of_clusters_are_those_of_torch(many_rows, monkeypatch):
    X, C = (values.double() for values in many_rows)
    C = torch.cat([C, C[:1] + 1e3])
    label = nearest(X, C, X.mean(0))[0]
    monkeypatch.setitem(TILE_ENTRIES, "cpu", 96 * 700)
    for compiled, in_torch in zip(split_clusters(X, label, C), halve(X, label, C), strict=True):
        assert_allclose(compiled, in_torch, rtol=1e-9)


def test_halves_of_a_cluster_of_two_are_the_two():
    P = torch.tensor([[0.0, 0.0], [0.0, 1.0], [10.0, 0.0], [10.0, 1.0]], dtype=torch.float64)
    (means,), gain = halve(P, torch.zeros(4, dtype=torch.long), P[:1])
    assert_allclose(means[means[:, 0].argsort()], [[0, 0.5], [10, 0.5]], atol=1e-12)
    assert_allclose(gain, 100.0)


@pytest.mark.parametrize("rows", [torch.ones(5, 3), torch.eye(3), torch.eye(3)[:0]], ids=["equal", "few", "none"])
def test_what_cannot_be_halved_gains_nothing(rows):
    X = torch.cat([rows, torch.arange(12.0).view(4, 3)])
    C = torch.ones(2, 3)
    halves, gain = halve(X, torch.tensor([0] * len(rows) + [1] * 4), C)
    assert (halves[0] == C).all()
    assert gain[0] == 0 < gain[1]


def test_swaps_pair_the_highest_gains_with_the_least_losses_each_cluster_once():
    assert pair([9.0, 5.0, 1.0], [0, 1, 2], [0.5, 2.0, 8.0], [2, 3, 0]) == [(0, 2), (1, 3)]
    assert pair([9.0, 5.0], [0, 1], [9.0, 9.5], [2, 3]) == []


def test_the_search_beats_scikit_learn(many_rows):
    X = many_rows[0]
    ours = KMeans(80, normalize=False).fit(X.numpy()).inertia_
    theirs = SklearnKMeans(80, n_init=1, random_state=0).fit(X.numpy()).inertia_
    assert ours < 1.001 * theirs


def test_first_centres_are_distinct_rows(many_rows):
    X = many_rows[0]
    C = plus_plus(X, 50, X.mean(0), torch.Generator().manual_seed(0))
    assert len(C.unique(dim=0)) == 50
    assert torch.cdist(C, X, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max() == 0


def test_one_cluster_is_the_mean(many_rows):
    X = many_rows[0].double()
    assert_allclose(find_centers(X, 1, torch.Generator())[0], X.mean(0), atol=1e-12)


@pytest.mark.parametrize("rows_of_a_block", [1, 2, 7, 30])
def test_empty_clusters_restart_at_the_farthest_rows_of_all_blocks(rows_of_a_block, rng, make_responses):
    responses = make_responses(rng.normal(size=(30, 3)))
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(rows_of_a_block, -1)))
    C = torch.tensor(responses.values[:1])
    found = _farthest(Rows(lazy, "cpu", "float64"), C, torch.zeros(3, dtype=torch.float64), False, 5)
    distance = ((responses.values - responses.values[0]) ** 2).sum(1)
    assert_allclose(found, responses.values[np.argsort(-distance)[:5]])


@pytest.mark.parametrize("n", [3, 10])
def test_default_tolerance_leaves_centres_at_rest(n, v4):
    """Centres of few clusters move slowly: at tol=5e-3 the inertia is 0.7 % higher."""
    for seed in range(5):
        by_default, to_the_end = (KMeans(n, random_state=seed, **options).fit(v4) for options in ({}, {"tol": 0}))
        assert_allclose(by_default.inertia_, to_the_end.inertia_, rtol=1e-3)
