from itertools import combinations

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

from neurosuper import Color, Label, Pixel, interpretability_index, load_images
from neurosuper.interpretability import chance_level, random_sets
from neurosuper.interpretability.random_sets import sd_of_sets


class SquaredColor(Color):
    """A squared metric, as LPIPS is one."""

    squared = True


METRICS = [Color(), Pixel(), Label(), SquaredColor()]
metrics = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)


@metrics
def test_the_chance_level_is_the_mean_over_all_pairs(metric, images):
    """Oracle: every pair from the embeddings, by scipy."""
    distances = pdist(metric.embed(images).double(), "sqeuclidean" if metric.squared else "euclidean")
    chance = chance_level(images, metric, n_resamples=2)
    assert_allclose(chance.interpretability, metric.self_similarity - distances.mean(), rtol=1e-6)


@metrics
def test_sampled_sets_scatter_about_the_chance_level(metric, images):
    chance = chance_level(images, metric, top=4, n_resamples=500, random_state=1)
    assert abs(chance.sampled_mean - chance.interpretability) < 4 * chance.sampled_sd / 500**0.5
    assert chance.interpretability_low < chance.sampled_mean < chance.interpretability_high
    assert set(chance.coords) == set()


def test_sampled_sets_are_drawn_without_replacement(images):
    """All images in every set leave nothing to chance."""
    chance = chance_level(images[:6], Pixel(), top=6, n_resamples=5)
    assert_allclose(chance.sampled_sd, 0, atol=1e-6)
    assert_allclose(chance.sampled_mean, chance.interpretability, rtol=1e-6)


@metrics
def test_identical_images_score_what_an_image_scores_with_itself(metric, images):
    same = images.isel(stimulus=[0] * 30).assign_coords(stimulus=images.stimulus.values[:30])
    chance = chance_level(same, metric, n_resamples=5)
    assert_allclose(chance.interpretability, metric.self_similarity, atol=1e-6)
    assert_allclose(chance.sampled_mean, metric.self_similarity, atol=1e-6)


def test_the_chance_level_has_its_settings_in_attrs(images):
    chance = chance_level(images, Color(), top=3, n_resamples=7, random_state=5)
    score = interpretability_index(images.category.copy(data=np.arange(120.0)).expand_dims(unit=["a"]), images, Color())
    assert chance.attrs == {
        "metric": "color",
        "quantity": score.attrs["quantity"],
        "top": 3,
        "n_images": 120,
        "n_resamples": 7,
        "random_state": 5,
        "null": "random sets of images",
        "confidence_level": 0.95,
    }
    assert chance.identical(chance_level(images, Color(), top=3, n_resamples=7, random_state=5))


@metrics
def test_lazy_images_have_the_same_chance_level(metric, images):
    lazy = images.copy(data=da.from_array(images.values, chunks=(7, -1, -1, -1)))
    assert_allclose(
        chance_level(lazy, metric, n_resamples=5).interpretability,
        chance_level(images, metric, n_resamples=5).interpretability,
    )


@pytest.mark.slow
def test_random_sets_of_v4_images_have_the_known_chance_level_by_lpips(real_data):
    """V4 201025, LPIPS-Alex, top 5: about −0.667, below its units at −0.648."""
    from neurosuper import LPIPS, load_images

    images = load_images(real_data / "v4" / "images_201025.zip")
    metric = LPIPS("alex", weights=real_data / "nets" / "alexnet_features_fp16.npz")
    chance = chance_level(images, metric, n_resamples=500)
    assert abs(chance.interpretability + 0.667) < 2 * chance.sampled_sd / 89**0.5, "known from 89 sets"
    assert abs(chance.sampled_mean - chance.interpretability) < 4 * chance.sampled_sd / 500**0.5


def test_95_of_100_sets_are_within_the_quantiles(rng):
    """Of 4,000 sets, the standard error of the share outside is 0.3 %."""
    grey = np.sort(rng.normal(128, 20, 400)).clip(0, 255).astype(np.uint8)
    photos = load_images(np.repeat(grey, 3).reshape(400, 1, 1, 3))
    chance = chance_level(photos, Color(device="cpu"), n_resamples=4000, random_state=0)
    low, high = chance.interpretability_low.item(), chance.interpretability_high.item()
    points = Color(device="cpu").embed(photos).numpy()
    sets = np.stack([rng.choice(400, 5, replace=False) for _ in range(4000)])
    index = np.array([-pdist(points[own]).mean() for own in sets])
    assert abs(np.mean(index < low) - 0.025) < 0.008
    assert abs(np.mean(index > high) - 0.025) < 0.008


def test_bad_sizes_are_refused(images):
    with pytest.raises(ValueError, match="top must be a whole number from 2 to 120, the number of images, got 121"):
        chance_level(images, Color(), top=121)
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 2, got 1"):
        chance_level(images, Color(), n_resamples=1)


@pytest.mark.parametrize("top", [2, 3, 5, 8])
def test_the_deviation_between_sets_is_that_of_all_sets(rng, top):
    """By brute force over all sets of 8 of 11 images, of distances and of these less a term of each image."""
    table = squareform(rng.exponential(size=55))
    images = np.array([10, 2, 0, 5, 7, 3, 9, 1])
    own = table[np.ix_(images, images)]
    mean = own.sum() / 56
    terms = rng.normal(size=8)
    for s in (np.full(8, mean / 2), terms - terms.mean() + mean / 2):
        delta = own - s[:, None] - s
        means = [np.mean([delta[i, j] for i, j in combinations(best, 2)]) for best in combinations(range(8), top)]
        assert_allclose(sd_of_sets(table, images, s, top), np.std(means), atol=1e-12)


def test_the_deviation_between_sets_does_not_depend_on_the_size_of_blocks(rng, monkeypatch):
    table = squareform(rng.exponential(size=55)).astype(np.float32)
    arguments = (table, np.arange(11), np.full(11, table.sum() / 220), 4)
    whole = sd_of_sets(*arguments)
    monkeypatch.setattr(random_sets, "MAX_BLOCK", 25)
    assert_allclose(sd_of_sets(*arguments), whole, rtol=1e-12)


def test_labels_of_two_kinds_have_the_deviation_of_the_hypergeometric_distribution():
    """Of 3 among 6 + 6 labels, all agree in 2 × 20 of 220 sets, and one pair of three in the others."""
    same = np.arange(12) // 6
    table = (same[:, None] != same).astype(float)
    share = 40 / 220
    mean = 1 - (share + (1 - share) / 3)
    expected = (share * mean**2 + (1 - share) * (2 / 3 - mean) ** 2) ** 0.5
    assert_allclose(sd_of_sets(table, np.arange(12), np.full(12, mean / 2), 3), expected, rtol=1e-12)
