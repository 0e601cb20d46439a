"""Noise lowers the index of selective units; extrapolation to infinitely many repetitions restores it."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import Color, Label, average_repetitions, interpretability_index
from neurosuper.interpretability import extrapolate_index
from neurosuper.interpretability.extrapolation import _intercept_weights


class Counted(Color):
    """Count the images that are embedded."""

    n = 0

    def embed(self, images):
        self.n += len(images)
        return super().embed(images)


def selective(rng, images, n_units=60) -> xr.DataArray:
    """Noise-free responses (stimulus, unit): high to one category, the same to none of the others."""
    categories = np.unique(images.category)
    wanted = images.category.values[:, None] == categories[np.arange(n_units) % len(categories)]
    values = rng.uniform(1, 4, n_units) * wanted + rng.random((len(images), n_units))
    labels = {"stimulus": images.stimulus.values, "unit": [f"u{i:03d}" for i in range(n_units)]}
    return xr.DataArray(values, labels, dims=("stimulus", "unit"), name="response")


def repeat(values: np.ndarray, like: xr.DataArray) -> xr.DataArray:
    """Label (stimulus, repetition, unit)."""
    labels = {"stimulus": like.stimulus.values, "unit": like.unit.values}
    return xr.DataArray(values, labels, dims=("stimulus", "repetition", "unit"), name="response")


@pytest.fixture
def signal(rng, images):
    return selective(rng, images)


@pytest.fixture
def noisy(rng, signal):
    """Five repetitions, with Gaussian noise."""
    return repeat(signal.values[:, None] + rng.normal(size=(120, 5, 60)), signal)


@pytest.fixture
def patches(rng) -> xr.DataArray:
    """120 images of 4 × 4, each of one colour."""
    pixels = rng.integers(0, 256, (120, 1, 1, 3), dtype=np.uint8) * np.ones((1, 4, 4, 1), np.uint8)
    labels = {"stimulus": [f"s{i:04d}" for i in range(120)]}
    return xr.DataArray(pixels, labels, dims=("stimulus", "row", "column", "channel"))


def tuned(rng, patches, n_units=80) -> xr.DataArray:
    """Noise-free responses (stimulus, unit) to colour: zero up to the mean, then increasing along an axis."""
    colour = patches.values[:, 0, 0].astype(float)
    axes = rng.normal(size=(3, n_units))
    along = (colour - colour.mean(0)) / colour.std(0) @ (axes / np.linalg.norm(axes, axis=0))
    labels = {"stimulus": patches.stimulus.values, "unit": [f"u{i:03d}" for i in range(n_units)]}
    return xr.DataArray(np.maximum(along, 0) ** 1.5, labels, dims=("stimulus", "unit"))


@pytest.mark.parametrize("n_repetitions", [3, 5, 10])
@pytest.mark.parametrize("noise", ["gauss", "poisson"])
def test_the_extrapolated_index_is_closer_to_that_without_noise(noise, n_repetitions, patches, rng):
    """The mean over units tuned to colour is corrected; single units lose little, and the standard error is correct."""
    signal = tuned(rng, patches)
    shown = np.repeat(signal.values[:, None], n_repetitions, axis=1)
    values = shown + rng.normal(size=shown.shape) if noise == "gauss" else rng.poisson(2 * shown)
    scores = extrapolate_index(repeat(values, signal), patches, Color(), n_resamples=20)
    error = scores - interpretability_index(signal, patches, Color())
    assert error["interpretability"].mean() < 0
    assert abs(error.extrapolated.mean()) < 0.8 * abs(error["interpretability"].mean())
    assert abs(error.extrapolated).mean() < 1.2 * abs(error["interpretability"]).mean()
    spread = error.extrapolated.std() / (scores.standard_error**2).mean() ** 0.5
    assert 0.6 < spread < 1.7


def test_the_index_is_that_of_the_average_and_is_the_last_of_the_curve(noisy, images):
    scores = extrapolate_index(noisy, images, Color(), n_resamples=3)
    expected = interpretability_index(average_repetitions(noisy), images, Color())
    assert_allclose(scores["interpretability"], expected)
    assert_allclose(scores.curve.sel(repetitions=5), expected)
    assert scores.curve.dims == ("unit", "repetitions")
    assert scores.repetitions.values.tolist() == [1, 2, 3, 4, 5]
    assert scores.attrs == expected.attrs | {"end": "top", "n_resamples": 3, "random_state": "0"}


def test_curve_fit_and_error_equal_a_loop(noisy, images):
    """Oracle: repetitions in the same orders, scores one after another, and numpy's polyfit over 1/r."""
    rng, r = np.random.default_rng(7), np.arange(1, 6)
    curves = []
    for _ in range(4):
        order = rng.random((120, 5)).argsort(axis=1)
        rng.permutation(120)  # for ties, which do not occur
        drawn = np.take_along_axis(noisy.values, order[:, :, None], axis=1)
        averages = [noisy[:, 0].copy(data=drawn[:, :n].mean(axis=1)) for n in r]
        curves.append([interpretability_index(average, images, Color()).values for average in averages])
    fits = [np.polyfit(1 / r, curve, 1, w=np.sqrt(r))[1] for curve in curves]
    scores = extrapolate_index(noisy, images, Color(), n_resamples=4, random_state=7)
    assert_allclose(scores.curve, np.mean(curves, axis=0).T, rtol=1e-6)
    assert_allclose(scores.extrapolated, np.mean(fits, axis=0), rtol=1e-6)
    variance = np.var(fits, axis=0, ddof=1) + np.var(np.array(curves)[:, 1], axis=0, ddof=1) * 2 / 3  # two of five
    assert_allclose(scores.standard_error, np.sqrt(variance), rtol=1e-5)


def test_a_curve_of_a_plus_b_over_r_is_extrapolated_exactly():
    r = np.arange(1, 7)
    assert_allclose(_intercept_weights(r) @ (-2 + 0.7 / r), -2)


def test_without_noise_nothing_changes(signal, images):
    same = repeat(np.repeat(signal.values[:, None], 4, axis=1), signal)
    scores = extrapolate_index(same, images, Color())
    assert_allclose(scores.extrapolated, scores["interpretability"])
    assert_allclose(scores.standard_error, 0, atol=1e-6)


def test_each_image_is_embedded_once(noisy, images):
    metric = Counted()
    extrapolate_index(noisy, images, metric, n_resamples=5)
    assert 0 < metric.n <= 120


def test_silent_presentations_do_not_favour_labels_that_sort_first(rng, images):
    """Almost all averages tie at zero: labels in the order of categories must not make units look selective."""
    images = images.sortby("category").assign_coords(stimulus=images.stimulus.values)
    counts = rng.poisson(0.02, (120, 4, 60))
    counts[rng.integers(120, size=60), 0, np.arange(60)] = 1  # none is silent throughout
    responses = repeat(counts, selective(rng, images))
    chance = 29 / 119
    assert extrapolate_index(responses, images, Label()).curve[:, 0].mean() < chance + 0.05


def test_missing_repetitions_and_the_order_of_stimuli_do_not_matter(noisy, images):
    padded = noisy.pad(repetition=(0, 2))
    padded[7, 3:] = np.nan  # fewer of one stimulus
    scores = extrapolate_index(padded, images, Color(), n_resamples=3)
    assert scores.sizes["repetitions"] == 3
    assert_allclose(scores["interpretability"], interpretability_index(average_repetitions(padded), images, Color()))
    xr.testing.assert_allclose(scores, extrapolate_index(padded[::-1], images, Color(), n_resamples=3))


def test_labels_are_kept_and_both_ends_are_scored(noisy, images):
    noisy = noisy.assign_coords(area=("unit", ["V1", "V4"] * 30))
    both = extrapolate_index(noisy, images, Color(), end="both", n_resamples=3)
    bottom = extrapolate_index(noisy, images, Color(), end="bottom", n_resamples=3)
    assert both.curve.dims == ("end", "unit", "repetitions")
    assert_array_equal(both.area, noisy.area)
    assert_allclose(both.extrapolated.sel(end="bottom"), bottom.extrapolated)


def test_bad_input_is_refused_with_a_reason(noisy, images):
    few = noisy.copy()
    few[4, 2:] = np.nan
    with pytest.raises(ValueError, match="^extrapolate_index needs the dim 'repetition', got .*; use responses before"):
        extrapolate_index(noisy[:, 0], images, Color())
    with pytest.raises(ValueError, match="at least 3 repetitions; a unit has fewer of stimulus 's0004'; drop those"):
        extrapolate_index(few, images, Color())
    with pytest.raises(ValueError, match="at least 3 repetitions; a unit has fewer of stimulus 's0000', 's0001'"):
        extrapolate_index(noisy[:, :2], images, Color())
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 2, got 1"):
        extrapolate_index(noisy, images, Color(), n_resamples=1)
    with pytest.raises(ValueError, match=r"^extrapolate_index does not stream; .* responses\.compute\(\) first$"):
        extrapolate_index(noisy.copy(data=da.from_array(noisy.values)), images, Color())
    with pytest.raises(ValueError, match="zero variance over stimuli in unit 'u000'"):
        extrapolate_index(noisy.where(noisy.unit != "u000", 1.0), images, Color())
    with pytest.raises(ValueError, match="end must be 'top', 'bottom' or 'both', got 'middle'"):
        extrapolate_index(noisy, images, Color(), end="middle")
