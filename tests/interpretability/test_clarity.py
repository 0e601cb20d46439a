import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.cluster import KMeans

from neurosuper import Color, Features, Precomputed, interpretability_index, load_images, top_stimuli
from neurosuper.interpretability import polysemanticity
from neurosuper.interpretability.clarity import _cluster, _draw_starts
from neurosuper.metrics import pairwise_distances

TOP, SMALL = 8, {"top": 8, "n_resamples": 50}


@pytest.fixture(scope="module")
def images() -> xr.DataArray:
    """160 images of random colors."""
    return load_images(np.random.default_rng(0).integers(1, 255, (160, 2, 2, 3), dtype=np.uint8))


def codes_of(values: np.ndarray, images: xr.DataArray) -> xr.DataArray:
    coords = {"stimulus": images.stimulus, "unit": [f"u{i:03d}" for i in range(values.shape[1])]}
    return xr.DataArray(values, coords, ("stimulus", "unit"))


@pytest.fixture(scope="module")
def codes(images) -> xr.DataArray:
    return codes_of(np.random.default_rng(1).normal(size=(160, 5)), images)


@pytest.fixture(scope="module")
def metric():
    """Cosine distance of smaller images."""
    return Features(torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten()), "1", device="cpu")


@pytest.fixture(scope="module")
def result(codes, images, metric) -> xr.Dataset:
    return polysemanticity(codes, images, metric, **SMALL)


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def test_clarity_is_the_mean_cosine_of_pairs_and_one_plus_the_index_of_features(codes, images, metric, result):
    expected = 1 + interpretability_index(codes, images, metric, top=TOP)
    assert_allclose(result.clarity, expected, atol=1e-5)
    for each in (metric, Color()):
        ours = polysemanticity(codes, images, each, **SMALL)
        for unit, labels in top_stimuli(codes, top=TOP).transpose("unit", "rank").groupby("unit"):
            X = each.embed(images.sel(stimulus=labels.values.ravel())).double().numpy()
            pairs = [cosine(X[i], X[j]) for i in range(TOP) for j in range(i)]
            assert_allclose(ours.clarity.sel(unit=unit), np.mean(pairs), rtol=1e-6)


def semanticlens(X):
    """Return the polysemanticity of one item by the formula of semanticlens, with scikit-learn's k-means."""
    fit = KMeans(2, n_init=20, random_state=0).fit(X)
    if min(np.bincount(fit.labels_, minlength=2)) < 2:
        return 1 - np.mean([cosine(X.mean(0), x) for x in X[:10]])
    return 1 - cosine(*fit.cluster_centers_)


def test_polysemanticity_and_redundancy_are_those_of_semanticlens(images):
    """Formulas of semanticlens.scores; redundancy is the mean over items of ours there."""
    codes = codes_of(np.random.default_rng(2).normal(size=(160, 25)), images)
    ours, means, n_single = polysemanticity(codes, images, Color(), **SMALL), [], 0
    for unit, labels in top_stimuli(codes, top=TOP).transpose("unit", "rank").groupby("unit"):
        X = Color().embed(images.sel(stimulus=labels.values.ravel())).double().numpy()
        assert_allclose(ours.polysemanticity.sel(unit=unit), semanticlens(X), rtol=1e-6)
        means.append(X.mean(0))
        n_single += min(np.bincount(KMeans(2, n_init=20, random_state=0).fit_predict(X))) < 2
    assert n_single > 0
    for i, mean in enumerate(means):
        others = [cosine(mean, other) if i != j else -1 for j, other in enumerate(means)]
        assert_allclose(ours.redundancy[i], max(others), rtol=1e-6)
        assert ours.redundant_with[i] == codes.unit[int(np.argmax(others))]


@pytest.mark.parametrize("n_clusters", [2, 3])
def test_clusters_are_as_good_as_those_of_scikit_learn(n_clusters):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 20, 4))
    shares = _cluster(X @ X.transpose(0, 2, 1), _draw_starts(20, n_clusters, rng))
    for x, share in zip(X, shares, strict=True):
        inertia = sum(((x[own > 0] - own @ x) ** 2).sum() for own in share.T)
        assert inertia < 1.02 * KMeans(n_clusters, n_init=20, random_state=0).fit(x).inertia_


def test_units_of_one_color_and_of_two_are_told_apart_from_noise(metric):
    """Orthogonal features: clarity 1 and (M/2 − 1)/(M − 1), polysemanticity 0 and 1."""
    rng = np.random.default_rng(0)
    colors = 255 * np.eye(3, dtype=np.uint8)[np.arange(120) % 3]
    images = load_images(np.broadcast_to(colors[:, None, None], (120, 2, 2, 3)).copy())
    images = images.drop_vars("content", errors="ignore")
    one, two = colors[:, 0] / 255, colors[:, :2].max(1) / 255
    # of each pair of a red and a green image, both have the same code, so that both are top stimuli
    codes = codes_of(
        np.column_stack([one + rng.random(120), 2 * two - np.arange(120) // 3 / 40, rng.random(120)]), images
    )
    result = polysemanticity(codes, images, metric, **SMALL)
    assert_allclose(result.clarity[:2], [1, 3 / 7], atol=1e-6)
    assert_allclose(result.polysemanticity[:2], [0, 1], atol=1e-6)
    assert (result.clarity_p_value < 0.05).values.tolist()[::2] == [True, False]
    assert_allclose(result.clarity_null, (120 / 3 - 1) / 119, atol=0.03)


def test_p_values_of_codes_that_ignore_the_images_are_uniform(images):
    null = polysemanticity(
        codes_of(np.random.default_rng(4).normal(size=(160, 500)), images), images, Color(), top=5, n_resamples=999
    )
    assert stats.kstest(null.clarity_p_value.values, "uniform").pvalue > 0.01
    assert 0.03 < (null.clarity_p_value <= 0.05).mean() < 0.07
    assert abs(null.polysemanticity.mean() - null.polysemanticity_null) < 0.01


def test_neither_the_order_of_stimuli_nor_that_of_units_matters(codes, images, metric, result):
    mixed = codes[np.random.default_rng(5).permutation(160), ::-1]
    again = polysemanticity(mixed.chunk(), images[::-1], metric, **SMALL).reindex_like(result)
    xr.testing.assert_allclose(again, result)
    assert again.redundant_with.equals(result.redundant_with)


def test_a_single_item_has_no_redundancy(codes, images):
    alone = polysemanticity(codes[:, :1], images, Color(), **SMALL)
    assert np.isnan(alone.redundancy).all()
    assert alone.redundant_with.values.tolist() == [""]


def test_what_has_no_cosine_or_too_few_images_is_refused_in_one_line(codes, images, monkeypatch):
    refused = [
        ({"top": 2}, r"top must be a whole number from 3 to 160, the number of stimuli, got 2"),
        ({"n_clusters": 5, "top": 8}, r"n_clusters must be a whole number from 2 to 4, half of `top`, got 5"),
        ({"n_resamples": 3}, r"n_resamples must be a whole number of at least 19"),
    ]
    for settings, message in refused:
        with pytest.raises(ValueError, match=f"^{message}"):
            polysemanticity(codes, images, Color(), **settings)
    with pytest.raises(TypeError, match=r"^precomputed gives distances, and clusters need embeddings; use Features"):
        polysemanticity(codes, images, Precomputed(pairwise_distances(images, Color()).rename("d"), name="precomputed"))
    with pytest.raises(ValueError, match=r"^the embedding by color of image .* is zero, so it has no cosine"):
        polysemanticity(codes, images * np.uint8(0), Color())
    monkeypatch.setattr("neurosuper.interpretability.clarity.memory_of_machine", lambda: 100)
    with pytest.raises(ValueError, match=r"^embeddings of \d+ images take .* GB, more than half of this machine's mem"):
        polysemanticity(codes, images, Color())
