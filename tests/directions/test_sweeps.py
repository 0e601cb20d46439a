"""A family of fits."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone

from neurosuper import ICA, NMF, PCA, KMeans, Random, sweep
from neurosuper.directions import kmeans
from neurosuper.directions._rows import shared_passes as together
from neurosuper.directions._rows.rows import Rows


@pytest.fixture
def table(responses):
    return sweep(KMeans(), responses, n_directions=[2, "1x"], seeds=[3, 5, 7])


def test_each_fit_is_the_one_that_a_user_would_make(table, responses):
    for n in (2, 8):
        for seed in (3, 5, 7):
            alone, cell = KMeans(n, random_state=seed).fit(responses), table.sel(n_directions=n, seed=seed)
            assert cell.objective == alone.objective_
            assert cell.n_iter == alone.n_iter_
            assert_allclose(cell.explained_variance, alone.explained_variance(responses))
            assert_allclose(cell.n_active, (alone.transform(responses) != 0).sum("direction").mean())


def test_stability_is_the_mean_matched_cosine_over_other_seeds(table, responses):
    found = [KMeans(8, random_state=seed).fit(responses).directions_.values for seed in (3, 5, 7)]

    def cosines(a, b):
        cosine = np.abs(a @ b.T)
        return cosine[linear_sum_assignment(-cosine)].mean()

    expected = (cosines(found[0], found[1]) + cosines(found[0], found[2])) / 2
    assert_allclose(table.stability.sel(n_directions=8, seed=3), expected, rtol=1e-6)
    assert np.isnan(sweep(PCA(), responses, n_directions=[2]).stability).all(), "one seed says nothing"


def test_stability_of_what_does_not_depend_on_the_seed_is_one(responses):
    assert_allclose(sweep(PCA(), responses, n_directions=[3], seeds=[0, 1]).stability, 1, rtol=1e-5)


@pytest.mark.parametrize("finder", [PCA(), ICA(), NMF(), KMeans(whiten=True)], ids=repr)
def test_explained_variance_is_that_of_the_finder(finder, responses):
    table = sweep(finder, responses, n_directions=[3])
    alone = clone(finder).set_params(n_directions=3).fit(responses)
    assert_allclose(table.explained_variance.item(), alone.explained_variance(responses), rtol=1e-5)
    if isinstance(finder, PCA):
        assert_allclose(table.explained_variance.item(), alone.explained_variance_ratio_.sum(), rtol=1e-5)
    if isinstance(finder, NMF):
        assert table.explained_variance <= PCA(3).fit(responses).explained_variance(responses)


def test_the_table_is_labelled_and_can_be_written(table, tmp_path):
    assert table.explained_variance.dims == ("n_directions", "seed")
    assert table.n_directions.values.tolist() == [2, 8]
    assert all({"long_name", "comment"} <= set(variable.attrs) for variable in table.values())
    table.to_netcdf(tmp_path / "sweep.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "sweep.nc"), table)


def test_responses_are_uploaded_and_surveyed_once(responses, monkeypatch):
    loads = []
    load = Rows._load
    monkeypatch.setattr(Rows, "_load", lambda self, values: loads.append(1) or load(self, values))
    sweep(Random(whiten=True), responses, n_directions=[2, 4], seeds=[0, 1])
    assert len(loads) == 1


FAMILY = {"n_directions": [2, 4], "seeds": [0, 1, 2]}


@pytest.mark.parametrize(
    "finder",
    [PCA(), PCA(normalize=True), KMeans(), KMeans(whiten=True), NMF(), NMF(solver="mu"), ICA(), Random(center=True)],
    ids=repr,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_streamed_family_is_that_of_responses_in_memory(finder, responses):
    finder = clone(finder).set_params(dtype="float64")
    streamed, whole = (sweep(finder, R, **FAMILY) for R in (responses.chunk(stimulus=50), responses))
    xr.testing.assert_allclose(streamed, whole, rtol=1e-6)


def test_streamed_fits_share_their_passes(responses, count_reads):
    """Range and sample, as many passes as the longest fit has, labels, measures."""
    lazy, reads = count_reads(responses, 40)
    table = sweep(KMeans(normalize=False), lazy, **FAMILY)
    assert table.n_iter.sum() > 2 * table.n_iter.max()
    assert set(reads.values()) == {1 + int(table.n_iter.max()) + 2}


@pytest.fixture
def batched(monkeypatch):
    """Batch fits on a CPU too, as on a GPU; return the number of fits of each product with centres."""
    sizes = []
    monkeypatch.setattr(together, "STACKING_DEVICES", ("cpu", "cuda"))
    answer = kmeans.nearest_of_each
    monkeypatch.setattr(kmeans, "nearest_of_each", lambda X, C, *args: sizes.append(len(C)) or answer(X, C, *args))
    return sizes


KINDS = [KMeans(), KMeans(normalize=False), KMeans(whiten=True), KMeans(init="units")]


@pytest.mark.parametrize("settings", [{"tol": 5e-3}, {"dtype": "float64"}], ids=["few iterations", "to the end"])
@pytest.mark.parametrize("chunk", [None, 1000], ids=["in memory", "streamed"])
@pytest.mark.parametrize("finder", KINDS, ids=repr)
def test_batched_fits_are_those_made_alone(finder, chunk, settings, superposition, batched):
    """To the end in float64 only: over many iterations the rounding of float32 grows."""
    R = superposition[0].chunk(stimulus=chunk) if chunk else superposition[0]
    n_directions = [24] if isinstance(finder.init, str) and finder.init == "units" else [1, 24, 30]
    finder = clone(finder).set_params(**settings)
    family = [clone(finder).set_params(n_directions=n, random_state=s) for n, s in product(n_directions, range(3))]
    alone = [clone(one).fit(R) for one in family]
    assert set(batched) == {1}
    rows = finder.prepare_rows(R)
    fitted = together.fit_together([partial(one.fit_rows, R) for one in family], rows)
    assert max(batched) == len(family)
    for one, other in zip(fitted, alone, strict=True):
        assert (one.labels_ == other.labels_).all()
        assert one.n_iter_ == other.n_iter_
        assert_allclose(one.inertia_, other.inertia_, rtol=1e-5)
        assert_allclose(one.directions_, other.directions_, atol=1e-5)


@pytest.mark.parametrize("finder", KINDS[:3], ids=repr)
def test_batched_family_in_memory_is_that_of_fits_in_turn(finder, responses, monkeypatch, batched):
    together_ = sweep(finder, responses, **FAMILY)
    assert max(batched) == 6
    monkeypatch.setattr(together, "STACKING_DEVICES", ())
    xr.testing.assert_allclose(together_, sweep(finder, responses, **FAMILY), rtol=1e-5)


def test_stimuli_without_response_take_no_part_in_batched_fits(make_responses, rng, batched):
    R = rng.gamma(1, 1, (60, 4))
    R[:5] = 0
    table = sweep(KMeans(), make_responses(R), **FAMILY)
    for n, seed in product([2, 4], range(3)):
        alone = KMeans(n, random_state=seed).fit(make_responses(R))
        assert_allclose(table.objective.sel(n_directions=n, seed=seed), alone.objective_, rtol=1e-5)


@pytest.mark.parametrize("call", [0, 3], ids=["search", "iterations"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_goes_wrong_in_a_batch_ends_the_sweep(error, call, responses, monkeypatch, batched):
    answer = kmeans.nearest_of_each

    def fails(*args):
        if len(batched) == call:
            raise error("the device is gone")
        return answer(*args)

    monkeypatch.setattr(kmeans, "nearest_of_each", fails)
    with pytest.raises(error, match="the device is gone"):
        sweep(KMeans(), responses, **FAMILY)
    assert len(batched) == call


@pytest.mark.gpu
@pytest.mark.parametrize("finder", KINDS[:3], ids=repr)
def test_gpu_family_is_that_of_fits_made_alone(finder, superposition):
    R = superposition[0]
    table = sweep(clone(finder).set_params(device="cuda"), R, n_directions=[24, 30], seeds=range(4))
    for n, seed in product([24, 30], range(4)):
        alone = clone(finder).set_params(n_directions=n, random_state=seed, device="cuda").fit(R)
        cell = table.sel(n_directions=n, seed=seed)
        assert_allclose(cell.objective, alone.objective_, rtol=1e-5)
        assert_allclose(cell.explained_variance, alone.explained_variance(R), rtol=1e-5)


def test_streamed_family_ends_with_what_went_wrong(responses):
    with pytest.raises(ValueError, match="ICA cannot give 9 directions: these responses vary along 8 "):
        sweep(ICA(), responses.chunk(stimulus=50), n_directions=[2, 9])


def test_the_finder_itself_is_left_alone(responses):
    finder = PCA(5)
    sweep(finder, responses, n_directions=[2])
    assert not hasattr(finder, "directions_")
    assert finder.get_params() == clone(PCA(5)).get_params()


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"n_directions": []}, "n_directions must contain at least one number and no duplicates, got \\[\\]"),
        ({"n_directions": [8, "1x"]}, "no duplicates, got \\[8, 8\\]"),
        ({"n_directions": [2], "seeds": [1, 1]}, "seeds must contain at least one number and no duplicates"),
        ({"n_directions": ["many"]}, "a multiple of the units such as '2x'"),
    ],
)
def test_bad_families_are_refused(family, message, responses):
    with pytest.raises(ValueError, match=message):
        sweep(KMeans(), responses, **family)
