import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats
from scipy.spatial.distance import cdist

from neurosuper import Color, Label, load_images
from neurosuper.interpretability import intrusion
from neurosuper.interpretability.odd_one_out import _arrange

N_IMAGES, N_TRIALS = 4, 12


@pytest.fixture(scope="module")
def images() -> xr.DataArray:
    """200 small images of random colors."""
    pixels = np.random.default_rng(0).integers(0, 255, (200, 1, 1, 3), dtype=np.uint8)
    images = load_images(pixels)
    return images.assign_coords(category=("stimulus", np.where(pixels[:, 0, 0, 0] > 127, "red", "not")))


def codes_of(values: np.ndarray, images: xr.DataArray) -> xr.DataArray:
    coords = {"stimulus": images.stimulus, "unit": [f"u{i:03d}" for i in range(values.shape[1])]}
    return xr.DataArray(values, coords, ("stimulus", "unit"))


@pytest.fixture(scope="module")
def codes(images) -> xr.DataArray:
    """Codes of a unit for red, one for green, and one that ignores the images."""
    colors = images.values[:, 0, 0].astype(float)
    return codes_of(np.column_stack([colors[:, :2], np.random.default_rng(1).normal(size=200)]), images)


@pytest.mark.parametrize("metric", [Color(), Label()], ids=["color", "label, with ties"])
def test_accuracy_interval_and_p_are_those_of_a_loop_over_trials(metric, codes, images):
    result = intrusion(codes, images, metric, n_images=N_IMAGES, n_trials=N_TRIALS)
    embedded = metric.embed(images).numpy()
    for i, trials in enumerate(_arrange(codes, N_IMAGES, N_TRIALS, 0)):
        right = 0
        for shown in trials:
            distance = cdist(embedded[shown], embedded[shown], "sqeuclidean" if metric.squared else "euclidean").round(
                6
            )
            far = distance.mean(1).round(9)
            right += (far[-1] == far.max()) / (far == far.max()).sum()
        assert_allclose(result.accuracy[i], right / N_TRIALS)
        assert_allclose(result.p_value[i], stats.binomtest(int(right + 1e-9), N_TRIALS, 0.25, "greater").pvalue)
        if right == int(right):
            exact = stats.binomtest(int(right), N_TRIALS).proportion_ci(0.95, "exact")
            assert_allclose([result.accuracy_low[i], result.accuracy_high[i]], [exact.low, exact.high], atol=1e-8)
    assert result.chance_level == 0.25


def test_trials_share_no_stimulus_and_intruders_are_of_the_lower_half(codes):
    trials = _arrange(codes, N_IMAGES, N_TRIALS, 0)
    for z, shown in zip(codes.values.T, trials, strict=True):
        assert len(np.unique(shown)) == shown.size
        top = np.argsort(-z)[: N_TRIALS * (N_IMAGES - 1)]
        assert set(shown[:, :-1].ravel()) == set(top)
        assert (z[shown[:, -1]] <= np.median(z)).all()
        assert np.ptp(z[shown[:, 0]]) <= np.ptp(z[top])  # one of the highest in each trial
        assert set(shown[:, 0]) == set(top[:N_TRIALS])


def test_planted_colors_are_found_and_noise_is_at_chance(codes, images):
    result = intrusion(codes, images, Color(), n_images=N_IMAGES, n_trials=30)
    assert (result.p_adjusted < 0.01).values.tolist() == [True, True, False]
    assert result.accuracy_low[2] < 0.25 < result.accuracy_high[2]


def test_p_values_of_codes_that_ignore_the_images_are_those_of_a_binomial(images):
    null = intrusion(codes_of(np.random.default_rng(2).normal(size=(200, 600)), images), images, Color())
    assert abs(null.accuracy.mean() - 0.2) < 3 * np.sqrt(0.2 * 0.8 / 20 / 600)
    tails = stats.binom.sf(np.arange(-1, 20), 20, 0.2)
    allowed = tails[tails <= 0.05].max()
    assert abs((null.p_value <= 0.05).mean() - allowed) < 3 * np.sqrt(allowed / 600)
    assert ((null.accuracy_low <= 0.2) & (null.accuracy_high >= 0.2)).mean() > 0.95


def test_neither_the_order_of_stimuli_nor_that_of_units_matters(codes, images):
    result = intrusion(codes, images, Color(), n_trials=10)
    mixed = codes[np.random.default_rng(3).permutation(200), ::-1]
    again = intrusion(mixed.chunk(), images[::-1], Color(), n_trials=10).reindex_like(result)
    xr.testing.assert_allclose(again, result)


def test_too_few_stimuli_and_other_bad_input_are_refused_in_one_line(codes, images):
    refused = [
        (
            {"n_trials": 26},
            r"26 trials of 5 images need 208 stimuli, twice the top ones that are shown, got 200",
        ),
        ({"n_images": 2}, r"n_images must be a whole number of at least 3, got 2"),
        ({"n_trials": 0}, r"n_trials must be a whole number of at least 1, got 0"),
    ]
    for settings, message in refused:
        with pytest.raises(ValueError, match=f"^{message}"):
            intrusion(codes, images, Color(), **settings)
    with pytest.raises(ValueError, match=r"^zero variance over stimuli in unit 'u001'"):
        intrusion(codes * [1, 0, 1], images, Color())
    with pytest.raises(ValueError, match=r"^codes contain NaN or infinite values, in unit 'u002'"):
        intrusion(codes.where(codes.unit != "u002"), images, Color())
