import itertools

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from neurosuper import Color, Pixel, Precomputed, interpretability_index, top_stimuli
from neurosuper.interpretability import corrections, index_difference, index_interval, index_of_top
from neurosuper.interpretability.corrections import ShiftedDistances
from neurosuper.metrics import distances as embedded
from neurosuper.metrics import slabs
from neurosuper.metrics.distances import DistanceMatrix


def table_of(metric, images):
    """Return the distances `(image, image)` of all images under a metric, by scipy."""
    E = metric.embed(images).double()
    return cdist(E, E, "sqeuclidean" if metric.squared else "euclidean")


def hub_corrected(d):
    """Return d_jk − μ − a_j − a_k in loops."""
    n = len(d)
    h = [sum(d[i, j] for j in range(n) if j != i) / (n - 1) for i in range(n)]
    a = [(each - np.mean(h)) * (n - 1) / (n - 2) for each in h]
    return np.array([[d[j, k] - np.mean(h) - a[j] - a[k] for k in range(n)] for j in range(n)])


def index_of(corrected, images, labels):
    """Return minus the mean over the pairs i < j of some images."""
    at = images.get_index("stimulus").get_indexer(labels)
    return -np.mean([corrected[j, k] for j, k in itertools.combinations(at, 2)])


@pytest.fixture(params=[2**25, 1000], ids=["one slab", "many slabs"])
def slab_bytes(request, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB_BYTES", request.param)
    monkeypatch.setattr(embedded, "MAX_GATHERED_BYTES", request.param)
    monkeypatch.setattr(embedded, "TILE", 50)


def test_the_hub_corrected_index_is_that_of_loops(metric, slab_bytes, responses, images):
    corrected = hub_corrected(table_of(metric, images))
    ours = interpretability_index(responses, images, metric, top=[2, 6], correction="hub")
    for unit, n in itertools.product(responses.unit.values, (2, 6)):
        expected = index_of(corrected, images, top_stimuli(responses, top=n).sel(unit=unit).values)
        assert_allclose(ours.sel(unit=unit, top=n), expected, rtol=1e-4, atol=1e-5)
    assert ours.attrs["correction"] == "hub"
    assert ours.attrs["quantity"].endswith(", hub-corrected")


def test_the_hub_corrected_index_of_given_distances_is_that_of_loops(responses, images, rng):
    table = np.abs(rng.normal(size=(len(images), len(images))))
    table = np.triu(table, 1) + np.triu(table, 1).T
    labels = images.stimulus.values
    given = xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other"))
    ours = interpretability_index(responses, images, Precomputed(given), top=4, correction="hub")
    for unit, chosen in top_stimuli(responses, top=4).groupby("unit"):
        assert_allclose(ours.sel(unit=unit), index_of(hub_corrected(table), images, chosen.values.ravel()), atol=1e-10)


def test_the_mean_over_all_sets_of_images_is_exactly_zero(metric, responses, images):
    few = images[:7]
    every = np.array(list(itertools.combinations(few.stimulus.values, 3))).T
    chosen = xr.DataArray(every, dims=("rank", "unit"), coords={"unit": np.arange(every.shape[1])})
    index = index_of_top(chosen, few, metric, correction="hub")
    raw = index_of_top(chosen, few, metric)
    assert_allclose(index.mean(), 0, atol=1e-6)
    assert abs(raw.mean()) > 0.01


def test_a_correction_is_over_the_stimuli_that_have_a_code_and_an_image(responses, images):
    some = responses[:70]
    ours = interpretability_index(some, images, Color(), correction="hub")
    expected = interpretability_index(some, images.sel(stimulus=some.stimulus), Color(), correction="hub")
    assert_allclose(ours, expected, atol=1e-6)
    every = index_of_top(top_stimuli(some, top=5), images, Color(), correction="hub")
    assert not np.allclose(ours, every)
    among = index_of_top(top_stimuli(some, top=5), images, Color(), correction="hub", among=some.stimulus.values)
    assert_allclose(ours, among, atol=1e-6)


def test_the_order_of_stimuli_does_not_matter(responses, images):
    mixed = interpretability_index(responses[::-1], images[::-1], Color(), correction="hub")
    assert_allclose(mixed, interpretability_index(responses, images, Color(), correction="hub"), atol=1e-5)


def test_weights_spread_ends_and_metrics_are_those_of_the_corrected_distances(responses, images):
    corrected = hub_corrected(table_of(Color(), images))
    options = {"top": 6, "weights": "activation", "spread": True, "end": "both"}
    ours = interpretability_index(responses, images, [Color(), Pixel()], correction="hub", **options)
    assert ours.dims == ("end", "unit", "metric")
    assert ours.attrs["correction"] == "hub"
    # The same from the matrix: corrected distances are shifted to be positive, which changes neither spread nor order.
    labels, shift = images.stimulus.values, 10.0
    table = (corrected + shift) * ~np.eye(len(images), dtype=bool)
    given = Precomputed(xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    expected = interpretability_index(responses, images, given, **options)
    assert_allclose(ours.isel(metric=0), expected + shift, atol=1e-4)
    assert_allclose(ours.spread.isel(metric=0), expected.spread, atol=1e-4)


def test_shifted_distances_are_those_of_a_shifted_matrix(rng):
    table = np.abs(rng.normal(size=(9, 9)))
    table = np.triu(table, 1) + np.triu(table, 1).T
    s, weights = rng.normal(size=9), rng.random((9, 2))
    shifted = (table - s[:, None] - s) * ~np.eye(9, dtype=bool)
    ours = ShiftedDistances(DistanceMatrix(table), s)
    assert_allclose(ours.weighted_sums(weights), shifted @ weights, atol=1e-12)
    assert_allclose(ours.mean_of_all(), shifted.sum() / 72)
    a, b = np.array([[0, 1]]), np.array([[4, 8, 3]])
    assert_allclose(ours.as_matrix().between(a, b)[0], shifted[np.ix_(a[0], b[0])])
    w = rng.random((1, 4))
    at, sizes = np.array([[5, 2, 7, 0]]), [2, 4]
    expected = DistanceMatrix(shifted).mean(at, w, sizes)
    assert_allclose(ours.mean(at, w, sizes), expected)


def partial(d, x, k):
    """Return d less the mean distance of the images that are nearest in the covariates, in loops."""
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    gaps = cdist(x, x) + np.diag(np.full(len(d), np.inf))
    like = np.argsort(gaps, axis=1)[:, :k]
    out = np.zeros_like(d)
    for i, j in itertools.permutations(range(len(d)), 2):
        pairs = [d[a, b] for a in like[i] for b in like[j] if a != b]
        out[i, j] = d[i, j] - np.mean(pairs)
    return out


@pytest.fixture
def covariates(images, rng):
    """A covariate of each image, another, and one that does not vary."""
    n = len(images)
    columns = {"luminance": images.mean(("row", "column", "channel")).values, "noise": rng.normal(size=n)}
    return xr.Dataset(
        {name: ("stimulus", values) for name, values in (columns | {"constant": np.ones(n)}).items()},
        coords={"stimulus": images.stimulus.values},
    )


@pytest.mark.parametrize("n_neighbors", [4, 500], ids=["few", "all others"])
def test_the_partial_index_is_that_of_loops(metric, responses, images, covariates, n_neighbors, monkeypatch):
    monkeypatch.setattr(corrections, "N_NEIGHBORS", n_neighbors)
    some = responses[:40]
    shown = images.sel(stimulus=some.stimulus)
    x = covariates.sel(stimulus=shown.stimulus).to_dataarray().values.T
    expected = partial(table_of(metric, shown), x, min(n_neighbors, 39))
    ours = interpretability_index(some, images, metric, covariates=covariates[["noise", "constant", "luminance"]])
    for unit, chosen in top_stimuli(some, top=5).groupby("unit"):
        assert_allclose(ours.sel(unit=unit), index_of(expected, shown, chosen.values.ravel()), rtol=1e-3, atol=1e-4)
    assert ours.attrs["correction"] == "covariates"
    assert ours.attrs["covariates"] == ["noise", "constant", "luminance"]


def test_units_that_only_pick_images_of_one_luminance_have_no_index_given_luminance(make_responses, rng):
    """Images are alike only in their luminance, and every unit prefers one luminance."""
    luminance = rng.normal(size=800)
    E = np.column_stack([2 * luminance, rng.normal(size=(800, 4))])
    gaps = np.abs(luminance[:, None] - np.linspace(-1, 1, 30))
    codes = make_responses(-gaps + 0.05 * rng.normal(size=gaps.shape))
    labels = codes.stimulus.values
    given = Precomputed(xr.DataArray(cdist(E, E), {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    blank = xr.DataArray(
        np.zeros((800, 1, 1, 3), np.uint8), {"stimulus": labels}, ("stimulus", "row", "column", "channel")
    )
    covariates = xr.Dataset({"luminance": ("stimulus", luminance)}, {"stimulus": labels})
    hub = interpretability_index(codes, blank, given, top=10, correction="hub")
    ours = interpretability_index(codes, blank, given, top=10, covariates=covariates)
    assert hub.mean() > 0.5
    assert abs(ours.mean()) < 0.05


def test_bad_corrections_are_refused_with_a_reason(responses, images, covariates, monkeypatch):
    def refused(message, kind=ValueError, codes=responses, **options):
        with pytest.raises(kind, match=message) as error:
            interpretability_index(codes, images, Color(), **({"top": 2} | options))
        assert "\n" not in str(error.value)

    refused("correction must be 'hub' or None, got 'yes'", correction="yes")
    refused("at least 3 images, got 2", codes=responses[:2], correction="hub")
    refused("at least 3 images, got 2", codes=responses[:2], covariates=covariates)
    refused("one of them at a time", correction="hub", covariates=covariates)
    refused("must be an xarray.Dataset", TypeError, covariates=covariates.luminance)
    refused("variables over 'stimulus' alone, got none", covariates=covariates[[]])
    refused("no covariates for stimulus 's0110'", covariates=covariates.drop_sel(stimulus="s0110"))
    refused("'noise' is not finite", covariates=covariates.assign(noise=covariates.noise / 0))
    refused("'luminance' must be numbers", TypeError, covariates=covariates.astype(str))
    monkeypatch.setattr(embedded, "MAX_MATRIX_IMAGES", 100)
    refused("covariates need the distances of all pairs in memory", covariates=covariates)


def test_intervals_and_differences_take_the_corrected_index(metric, responses, images):
    corrected = interpretability_index(responses, images, metric, correction="hub")
    interval = index_interval(responses, images, metric, correction="hub")
    assert_allclose(interval.interpretability, corrected.mean(), atol=1e-5)
    assert interval.attrs["correction"] == "hub"
    assert interval.interpretability_low < interval.interpretability < interval.interpretability_high
    # Each set is corrected over its own stimuli.
    a, b = responses[:70, :4], responses[40:, 4:]
    difference = index_difference(a, b, images, metric, correction="hub")
    means = [interpretability_index(codes, images, metric, correction="hub").mean() for codes in (a, b)]
    assert_allclose(difference.difference, means[0] - means[1], atol=1e-5)
    with pytest.raises(ValueError, match="correction must be 'hub', 'floor' or None"):
        index_interval(responses, images, metric, correction="none")


def test_the_variance_of_the_corrected_index_is_that_of_a_matrix_of_corrected_distances(responses, images):
    corrected = (hub_corrected(table_of(Color(), images)) + 10) * ~np.eye(len(images), dtype=bool)
    labels = images.stimulus.values
    given = Precomputed(xr.DataArray(corrected, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    ours = index_interval(responses, images, Color(), correction="hub")
    expected = index_interval(responses, images, given)
    for name in ("var_stimuli", "var_interaction", "var_items"):
        assert_allclose(ours[name], expected[name], rtol=1e-3, atol=1e-7)
