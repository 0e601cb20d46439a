import colorsys

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal, stats
from scipy.spatial.distance import cdist

from neurosuper import Color, Label, Pixel, load_images
from neurosuper.interpretability import image_statistics
from neurosuper.interpretability import low_level_statistics as low_level

NAMES = ["luminance", "rms_contrast", "saturation", "edge_energy", "spectral_slope", "entropy", "plainness"]


def flat(*colors, size=16):
    """Images of one colour each."""
    return load_images(np.array(colors, np.uint8)[:, None, None] * np.ones((1, size, size, 1), np.uint8))


@pytest.fixture
def textures(rng):
    """Smooth and rough images in colour, of 20 × 27 pixels."""
    smooth = rng.integers(0, 256, (7, 20, 27, 3)).cumsum(1).cumsum(2)
    return load_images((smooth / smooth.max() * rng.integers(100, 256, (7, 1, 1, 3))).astype(np.uint8))


def one_by_one(image):
    """Oracle: definitions in loops over pixels and rings, by colorsys and scipy."""
    rgb = image.astype(float) / 255
    Y = 0.2126 * rgb[..., 0] + 0.7152 * rgb[..., 1] + 0.0722 * rgb[..., 2]
    n, m = Y.shape
    gradient = []
    for i in range(n):
        for j in range(m):
            up, down, left, right = max(i - 1, 0), min(i + 1, n - 1), max(j - 1, 0), min(j + 1, m - 1)
            dy, dx = (Y[down, j] - Y[up, j]) / (down - up), (Y[i, right] - Y[i, left]) / (right - left)
            gradient.append((dx**2 + dy**2) ** 0.5)
    window = np.outer(signal.windows.hann(n, sym=False), signal.windows.hann(m, sym=False))
    power = np.abs(np.fft.fft2(window * (Y - np.average(Y, weights=window)))) ** 2
    rings = {}
    for i, fy in enumerate(np.fft.fftfreq(n)):
        for j, fx in enumerate(np.fft.fftfreq(m)):
            rings.setdefault(round((fx**2 + fy**2) ** 0.5 * min(n, m)), []).append(power[i, j])
    used = range(3, min(n, m) // 2)
    return {
        "luminance": Y.mean(),
        "rms_contrast": np.sqrt(((Y - Y.mean()) ** 2).mean()),
        "saturation": np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in rgb.reshape(-1, 3)]),
        "edge_energy": np.mean(gradient),
        "spectral_slope": stats.linregress(np.log(used), [np.log(np.mean(rings[k])) for k in used]).slope,
        "entropy": stats.entropy(np.unique(np.rint(Y * 255), return_counts=True)[1], base=2),
    }


@pytest.mark.parametrize("batch_bytes", [2**24, 1], ids=["one batch", "one image at a time"])
def test_equals_the_definitions_one_image_at_a_time(textures, batch_bytes, monkeypatch):
    monkeypatch.setattr(low_level, "BATCH_BYTES", batch_bytes)
    ours = image_statistics(textures)
    assert list(ours.data_vars) == NAMES
    for i, image in enumerate(textures.values):
        for name, expected in one_by_one(image).items():
            assert_allclose(ours[name][i], expected, rtol=1e-9, err_msg=name)
    turned = image_statistics(load_images(textures.values.transpose(0, 2, 1, 3)))
    for name in NAMES:
        assert_allclose(turned[name], ours[name], rtol=1e-6, err_msg=f"{name} of images on their side")


@pytest.mark.parametrize("metric", [Pixel(), Color(), Label()], ids=lambda metric: metric.name)
def test_plainness_is_minus_the_mean_distance_to_all_other_images(textures, metric):
    textures = textures.assign_coords(category=("stimulus", list("aaabbbb")))
    embedded = metric.embed(textures).double()
    distance = cdist(embedded, embedded, "sqeuclidean" if metric.squared else "euclidean")
    expected = [metric.self_similarity - np.delete(distance[i], i).mean() for i in range(7)]
    ours = image_statistics(textures, metric=metric)
    assert_allclose(ours.plainness, expected, rtol=1e-5)
    assert ours.plainness.attrs["metric"] == metric.name


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_the_planted_slope_of_noise_is_recovered(exponent, rng):
    f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128))
    f[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(12, 128, 128))) * f ** (-exponent / 2)).real
    noise = 128 + 30 * (noise / noise.std((1, 2), keepdims=True)).clip(-4, 4)
    images = load_images(np.repeat(noise.round().astype(np.uint8)[..., None], 3, axis=3))
    slope = image_statistics(images).spectral_slope
    assert_allclose(slope.mean(), -exponent, atol=0.1)


def test_images_of_one_color_have_its_luminance_and_saturation_and_nothing_else():
    ours = image_statistics(flat((0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 200, 100)))
    assert_allclose(ours.luminance, [0, 1, 128 / 255, 0.2126, (0.7152 * 200 + 0.0722 * 100) / 255])
    assert_allclose(ours.saturation, [0, 0, 0, 1, 1])
    for name in ("rms_contrast", "edge_energy", "entropy"):
        assert_allclose(ours[name], 0, atol=1e-12, err_msg=name)
    assert ours.spectral_slope.isnull().all(), "a constant image has no spectrum"


def test_a_checkerboard_has_one_bit_and_a_contrast_of_a_half():
    board = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    ours = image_statistics(load_images(np.stack([board] * 2)[..., None].repeat(3, axis=3)))
    assert_allclose(ours.entropy, 1)
    assert_allclose(ours.rms_contrast, 0.5)
    step = np.array([1] + [0] * 14 + [1])  # only one-sided differences, in the outermost pixels, are not 0
    assert_allclose(ours.edge_energy, np.hypot(step, step[:, None]).mean())


def test_grey_images_in_the_middle_are_plain_and_black_and_white_are_not():
    ours = image_statistics(flat(*[(v, v, v) for v in (0, 100, 128, 150, 255)]))
    assert ours.plainness.values.argmax() == 2
    assert_array_equal(np.sort(ours.plainness.values.argsort()[:2]), [0, 4])


def test_coords_are_kept_and_variables_have_a_name_and_a_unit(textures):
    ours = image_statistics(textures.assign_coords(category=("stimulus", list("abcdefg"))))
    assert ours.category.values.tolist() == list("abcdefg")
    for name in NAMES:
        assert ours[name].dims == ("stimulus",)
        assert ours[name].attrs["long_name"]
        assert ours[name].attrs["units"]


def test_a_lazy_stack_has_the_same_statistics(textures):
    xr.testing.assert_identical(image_statistics(textures.chunk(stimulus=2)), image_statistics(textures))


def test_one_image_and_small_images_are_refused(textures):
    with pytest.raises(ValueError, match="needs at least two images of at least 16 × 16 pixels, got 1 of 20 × 27"):
        image_statistics(textures[:1])
    with pytest.raises(ValueError, match="got 7 of 15 × 27; load more or larger ones"):
        image_statistics(textures[:, :15])
