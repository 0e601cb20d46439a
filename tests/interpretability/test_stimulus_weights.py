import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from neurosuper import Color, Features, Pixel, interpretability_index, load_images
from neurosuper.interpretability import image_statistics, shuffle_stimuli, stimulus_weights


@pytest.fixture
def few(images) -> xr.DataArray:
    return images[:40]


@pytest.fixture
def codes(few, make_responses) -> xr.DataArray:
    """Codes of three units in another order than the images: skewed, normal, and zero but for some."""
    rng = np.random.default_rng(1)
    values = np.stack([rng.gamma(1, 5, 40), rng.normal(size=40), rng.gamma(1, 5, 40)], axis=1)
    values[rng.random(40) < 0.5, 2] = 0
    return make_responses(values).assign_coords(stimulus=few.stimulus.values)[::-1]


def distances_of(metric, images, labels):
    chosen = metric.embed(images)[images.get_index("stimulus").get_indexer(labels)].double()
    return cdist(chosen, chosen, "sqeuclidean" if metric.squared else "euclidean")


def minmax(z):
    return (z - z.min()) / (z.max() - z.min())


def mean_of_pairs(w, distance):
    """Return the weighted mean over pairs, in a loop."""
    pairs = list(itertools.combinations(range(len(w)), 2))
    return sum(w[i] * w[j] * distance[i, j] for i, j in pairs) / sum(w[i] * w[j] for i, j in pairs)


@pytest.mark.parametrize("weights", ["minmax", "activation"])
def test_the_index_of_all_stimuli_is_that_of_a_loop_over_pairs(metric, weights, codes, few, monkeypatch):
    monkeypatch.setattr(stimulus_weights, "MAX_WEIGHTS", 80)  # two items at a time
    ours = interpretability_index(codes, few, metric, top="all", weights=weights, end="both")
    distance = distances_of(metric, few, codes.stimulus.values)
    for unit in codes.unit.values:
        z = codes.sel(unit=unit).values
        for end, sign in (("top", 1), ("bottom", -1)):
            w = minmax(sign * z) if weights == "minmax" else np.maximum(sign * (z - z.mean()), 0)
            expected = metric.self_similarity - mean_of_pairs(w, distance)
            assert_allclose(ours.sel(unit=unit, end=end), expected, rtol=2e-6, atol=1e-6)
    assert ours.attrs["top"] == "all"
    assert ours.attrs["weights"] == weights


def test_of_unit_embeddings_it_is_the_monosemanticity_score_less_one(features, codes, few):
    """By the closed form of the score, (‖Σ w e‖² − Σ w²) / ((Σ w)² − Σ w²), which is that of its O(n²) loop."""
    e = torch.nn.functional.normalize(features.embed(few.sel(stimulus=codes.stimulus.values)).double(), dim=1).numpy()
    ours = interpretability_index(codes, few, features, top="all", weights="minmax")
    for unit in codes.unit.values:
        w = minmax(codes.sel(unit=unit).values)
        score = (((w @ e) ** 2).sum() - (w**2).sum()) / (w.sum() ** 2 - (w**2).sum())
        assert_allclose(score, mean_of_pairs(w, e @ e.T), rtol=1e-12)
        assert_allclose(ours.sel(unit=unit) + 1, score, atol=1e-6)


def test_of_other_squared_distances_it_is_minus_twice_the_weighted_variance(codes, few):
    class Squared(Color):
        squared = True

    ours = interpretability_index(codes, few, Squared(), top="all", weights="minmax")
    e = Color().embed(few.sel(stimulus=codes.stimulus.values)).double().numpy()
    for unit in codes.unit.values:
        variance = np.cov(e.T, aweights=minmax(codes.sel(unit=unit).values)).trace()
        assert_allclose(ours.sel(unit=unit), -2 * variance, rtol=1e-5)


@pytest.mark.parametrize("change", [{"correction": "hub"}, {"covariates": ["luminance"]}], ids=str)
def test_corrections_are_those_of_all_pairs(change, codes, few):
    """Oracle: the index of as many top stimuli as there are stimuli, with the same weights."""
    if "covariates" in change:
        change = {"covariates": image_statistics(few)[change["covariates"]]}
    settings = {"weights": "minmax", "spread": True} | change
    ours = interpretability_index(codes, few, Pixel(), top="all", **settings)
    expected = interpretability_index(codes, few, Pixel(), top=40, **settings).drop_vars("n_active")
    xr.testing.assert_allclose(ours, expected, rtol=1e-4, atol=3e-6)  # differences of distances in float32, near 0
    assert ours.attrs["correction"] == "hub" or ours.attrs["covariates"] == ["luminance"]


def test_spread_is_the_jackknife_over_all_stimuli(codes, few):
    ours = interpretability_index(codes, few, Color(), top="all", weights="minmax", spread=True)
    distance = distances_of(Color(), few, codes.stimulus.values)
    for unit in codes.unit.values:
        w = minmax(codes.sel(unit=unit).values)
        kept = [np.delete(np.arange(40), i) for i in range(40)]
        expected = np.sqrt(39 * np.var([mean_of_pairs(w[rows], distance[np.ix_(rows, rows)]) for rows in kept]))
        assert_allclose(ours.spread.sel(unit=unit), expected, rtol=1e-4)


def test_weights_of_top_stimuli_are_relative_to_all_codes(metric, codes, few):
    ours = interpretability_index(codes, few, metric, top=6, weights="minmax")
    distance = distances_of(metric, few, codes.stimulus.values)
    for unit in codes.unit.values:
        z = codes.sel(unit=unit).values
        at = np.argsort(-z)[:6]
        expected = metric.self_similarity - mean_of_pairs(minmax(z)[at], distance[np.ix_(at, at)])
        assert_allclose(ours.sel(unit=unit), expected, rtol=1e-5, atol=1e-6)


def test_a_stimulus_without_a_code_has_no_weight_and_units_of_measurement_do_not_matter(codes, few):
    settings = {"top": "all", "weights": "minmax"}
    missing = codes.where(codes.stimulus != codes.stimulus[3])
    left_out = interpretability_index(codes.drop_isel(stimulus=3), few, Color(), **settings)
    xr.testing.assert_allclose(interpretability_index(missing, few, Color(), **settings), left_out)
    scaled = interpretability_index((codes * 1e30 - 5e30).astype(np.float32), few, Color(), **settings)
    xr.testing.assert_allclose(scaled, interpretability_index(codes, few, Color(), **settings), rtol=1e-5)


def test_an_item_that_follows_a_feature_scores_higher_and_shuffled_stimuli_score_the_mean_of_all_pairs(images):
    bright = images.mean(("row", "column", "channel"))
    rng = np.random.default_rng(0)
    values = np.stack([(images.category == "red").values + 0.1 * rng.random(120), rng.random(120)], axis=1)
    codes = xr.DataArray(values, {"stimulus": bright.stimulus, "unit": ["red", "noise"]}, ("stimulus", "unit"))
    red, noise = interpretability_index(codes, images, Color(), top="all", weights="minmax").values
    distance = distances_of(Color(), images, images.stimulus.values)
    chance = -distance[np.triu_indices(120, 1)].mean()
    assert red - chance > 0.2
    assert abs(noise - chance) < 0.05
    shuffled = [
        interpretability_index(shuffle_stimuli(codes, random_state=i), images, Color(), top="all", weights="minmax")[0]
        for i in range(20)
    ]
    assert abs(np.mean(shuffled) - chance) < 3 * np.std(shuffled) / np.sqrt(20)


def test_several_metrics_and_dask_arrays_give_the_same(codes, few):
    settings = {"top": "all", "weights": "minmax"}
    both = interpretability_index(codes.chunk({"stimulus": 7}), few, [Color(), Pixel()], **settings)
    for metric in (Color(), Pixel()):
        one = interpretability_index(codes, few, metric, **settings)
        assert_allclose(both.sel(metric=metric.name), one, rtol=1e-6)
        assert both.sel(metric=metric.name).quantity == one.attrs["quantity"]


def test_copies_of_a_photograph_are_flagged():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 2, 2, 3), dtype=np.uint8)
    pixels[7] = pixels[2]
    images = load_images(pixels)
    coords = {"stimulus": images.stimulus, "unit": ["a", "b"]}
    codes = xr.DataArray(np.random.default_rng(1).random((12, 2)), coords, ("stimulus", "unit"))
    with pytest.warns(UserWarning, match="2 of 2 items have copies of one photograph"):
        index = interpretability_index(codes, images, Color(), top="all", weights="minmax")
    assert index.has_copies.all()
    assert index.attrs["n_items_with_copies"] == 2


def test_settings_that_do_not_go_together_are_refused(codes, few):
    refused = [
        ({"top": "all"}, r"^top='all' needs weights='minmax' or 'activation': without, all items"),
        ({"top": "most", "weights": "minmax"}, r"^top must be one of 'all'; got 'most'"),
        ({"top": "all", "weights": "minmax", "end": "left"}, r"^end must be one of 'top', 'bottom', 'both'; got"),
        ({"weights": "rank"}, r"^weights must be 'activation', 'minmax' or None, got 'rank'"),
    ]
    for settings, message in refused:
        with pytest.raises(ValueError, match=message):
            interpretability_index(codes, few, Color(), **settings)
    one = codes.copy(data=np.eye(40, 3))
    with pytest.raises(ValueError, match=r"^fewer than two stimuli of unit u000 are beyond the code at the other end"):
        interpretability_index(one, few, Color(), top="all", weights="minmax")


def test_features_of_a_small_network_are_scored_by_their_cosine():
    """The docstring's claim in numbers: two images with orthogonal features, one pair alike."""
    pixels = np.zeros((3, 2, 2, 3), np.uint8)
    pixels[0, ..., 0] = pixels[1, ..., 0] = pixels[2, ..., 2] = 255
    images = load_images(pixels)
    metric = Features(torch.nn.Sequential(torch.nn.AvgPool2d(2)), "0", device="cpu")
    codes = xr.DataArray([[2.0], [1.0], [0.0]], {"stimulus": images.stimulus, "unit": ["a"]}, ("stimulus", "unit"))
    with pytest.warns(UserWarning, match="copies"):
        index = interpretability_index(codes, images, metric, top="all", weights="minmax")
    assert_allclose(index, 0, atol=1e-6)
