import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import Color, load_images, psychophysics
from neurosuper.inference import bootstrap_interval
from neurosuper.plot import plot_difficulty

QUANTILES = [0, 0.1, 0.3]


@pytest.fixture
def sweeps(rng):
    """Results of psychophysics for two sets: 12 units that prefer bright images, and 8 directions of noise."""
    grey = np.arange(0, 240, 2, dtype=np.uint8)[:, None, None, None]
    images = load_images(grey * np.ones((1, 2, 2, 3), np.uint8))

    def answer(values, item):
        labels = {"stimulus": images.stimulus, item: [f"i{i}" for i in range(values.shape[1])]}
        codes = xr.DataArray(values, dims=("stimulus", item), coords=labels)
        return psychophysics(codes, images, Color(), design="mis", n_references=3, quantiles=QUANTILES)

    bright = np.arange(120)[:, None] + rng.normal(0, 40, (120, 12))
    return {"Units": answer(bright, "unit"), "KMeans": answer(rng.normal(size=(120, 8)), "direction")}


def labels_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_curve_is_the_mean_over_items_with_the_band_of_its_interval(sweeps):
    figure = plot_difficulty(sweeps)
    axes = figure.axes[0]
    assert labels_of(figure) == ["Units (n = 12)", "KMeans (n = 8)", "chance"]
    for line, band, result in zip(axes.lines, axes.collections, sweeps.values(), strict=False):
        item = next(dim for dim in result.accuracy.dims if dim != "quantile")
        interval = bootstrap_interval(result.accuracy, item)
        assert_allclose(line.get_xdata(), QUANTILES)
        assert_allclose(line.get_ydata(), result.accuracy.mean(item))
        corners = band.get_paths()[0].vertices
        for x, low, high in zip(QUANTILES, interval.estimate_low.values, interval.estimate_high.values, strict=True):
            at = corners[corners[:, 0] == x, 1]
            assert_allclose([at.min(), at.max()], [low, high])
    assert len({line.get_color() for line in axes.lines[:2]}) == 2


def test_axes_say_what_they_show_and_where_chance_is(sweeps):
    axes = plot_difficulty(sweeps).axes[0]
    assert axes.get_xlabel() == "share of stimuli left out at each side (harder →)"
    assert axes.get_ylabel() == "share of correct trials\nmean over items, with its 95 % interval"
    assert_allclose(axes.get_xticks(), QUANTILES)
    assert_allclose(axes.lines[-1].get_ydata(), 0.5)
    assert axes.get_ylim()[0] < 0.5 < axes.get_ylim()[1]


def test_one_result_needs_no_name(sweeps):
    assert labels_of(plot_difficulty(sweeps["KMeans"])) == ["n = 8", "chance"]


def test_quantiles_without_a_trial_are_left_out(sweeps):
    sweeps["Units"]["accuracy"][:, 2] = np.nan
    lines = plot_difficulty(sweeps).axes[0].lines
    assert [len(line.get_xdata()) for line in lines[:2]] == [2, 3]


def test_items_with_full_accuracy_have_a_band_without_width(sweeps):
    sweeps["Units"]["accuracy"][:] = 1
    axes = plot_difficulty(sweeps["Units"]).axes[0]
    assert_allclose(axes.collections[0].get_paths()[0].vertices[:, 1], 1)


def test_what_is_not_a_sweep_is_refused_with_a_reason(sweeps):
    units = sweeps["Units"]
    with pytest.raises(TypeError, match="must be a Dataset from neurosuper.psychophysics, .*; got DataArray"):
        plot_difficulty(units.accuracy)
    with pytest.raises(TypeError, match="or {name: Dataset, …}; got dict"):
        plot_difficulty({"Units": units.accuracy})
    with pytest.raises(ValueError, match=r"the sweep of 'Units' needs accuracy .*, got dims \('unit',\)"):
        plot_difficulty({"Units": units.isel(quantile=0)})
    with pytest.raises(ValueError, match="a sweep needs at least 2 quantiles that leave stimuli .*, got 1; call"):
        plot_difficulty(units.isel(quantile=[0]))
    with pytest.raises(ValueError, match="result is empty; pass"):
        plot_difficulty({})
