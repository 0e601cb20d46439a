from itertools import product

import matplotlib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose

from neurosuper import Color, KMeans, Units, compare, summarize
from neurosuper.plot import plot_distributions
from neurosuper.plot.distributions import draw_groups


def draw(values, systems, finders, **chance):
    """Draw columns of values with their means, and the same chance levels for all."""
    means = pd.Series(values).groupby([systems, finders]).mean()
    return draw_groups(values, systems, finders, label="index (a.u.)", marks=pd.DataFrame({"mean": means, **chance}))


def tick_labels(figure, minor):
    return [text.get_text() for text in figure.axes[0].get_xticklabels(minor=minor)]


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(figure):
    return [line for line in figure.axes[0].lines if line.get_marker() == "."]


def mean_bars(figure):
    segments = [line.get_segments()[0] for line in figure.axes[0].collections if isinstance(line, LineCollection)]
    return [segment for segment in segments if segment[0, 1] == segment[1, 1]]


def test_axes_are_labelled_with_quantity_systems_and_counts(comparison):
    figure = plot_distributions(comparison, "LPIPS-alex")
    assert figure.axes[0].get_ylabel() == "interpretability index: −LPIPS distance (AlexNet)"
    assert tick_labels(figure, minor=False) == ["V4", "SqueezeNet fire8"]
    assert tick_labels(figure, minor=True) == ["29", "30", "30", "30", "30", "30"]  # NaN is not counted
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*("Units", "PCA", "KMeans", "mean")]


def test_every_item_is_a_point_at_its_index(comparison):
    drawn = np.concatenate([line.get_ydata() for line in points(plot_distributions(comparison, "LPIPS-alex"))])
    assert_allclose(drawn, comparison.interpretability.values[1:, 0])


def test_bars_are_at_the_means(comparison):
    heights = [bar[0, 1] for bar in mean_bars(plot_distributions(comparison, "LPIPS-alex"))]
    frame = comparison.to_dataframe().groupby(["system", "finder"], sort=False).interpretability.mean()
    assert_allclose(heights, frame.values)


def test_a_finder_has_one_colour_in_all_systems(comparison):
    colors = [to_hex(line.get_color()) for line in points(plot_distributions(comparison, "LPIPS-alex"))]
    assert colors[:3] == colors[3:]
    assert len(set(colors)) == 3


def test_there_is_a_gap_between_systems(comparison):
    x = [bar[:, 0].mean() for bar in mean_bars(plot_distributions(comparison, "LPIPS-alex"))]
    steps = np.diff(x)
    assert steps[2] > 1.5 * max(steps[[0, 1, 3, 4]])


def test_long_names_of_systems_are_wrapped():
    systems = np.repeat(["a system with a name as long as this one", "B"], 2)
    figure = draw(np.arange(4.0), systems, np.array(["Units", "PCA"] * 2))
    assert "\n" in tick_labels(figure, minor=False)[0]


@pytest.mark.parametrize("values", [[0.5] * 5, [0.5], [np.nan] * 5], ids=["constant", "single", "all NaN"])
def test_columns_without_a_density_are_drawn(values):
    names = np.full(len(values), "Units")
    figure = draw(np.array(values), np.full(len(values), "V4"), names)
    figure.draw_without_rendering()
    assert tick_labels(figure, minor=True) == [str(int(np.isfinite(values).sum()))]


def test_drawing_is_repeatable_and_leaves_global_state_alone(comparison):
    before = np.random.get_state()[1].copy(), dict(matplotlib.rcParams)
    first, second = (plot_distributions(comparison, "LPIPS-alex") for _ in range(2))
    assert_allclose(points(first)[0].get_xdata(), points(second)[0].get_xdata())
    assert (np.random.get_state()[1] == before[0]).all()
    assert dict(matplotlib.rcParams) == before[1]


def test_unknown_metric_is_named(comparison):
    with pytest.raises(ValueError, match="no metric 'color' in the comparison; it has LPIPS-alex"):
        plot_distributions(comparison, "color")


def test_a_chance_level_is_drawn_behind_the_columns(comparison):
    chance = comparison.interpretability * 0 - xr.where(comparison.system == "V4", 0.7, 0.6)
    known = comparison.assign(chance_level=chance, chance_level_low=chance - 0.1, chance_level_high=chance + 0.1)
    figure = plot_distributions(known.isel(item=slice(1, None)), "LPIPS-alex")
    dashed = [
        line for line in figure.axes[0].collections if isinstance(line, LineCollection) and line.get_dashes()[0][1]
    ]
    assert [line.get_segments()[0][0, 1] for line in dashed] == [-0.7] * 3 + [-0.6] * 3
    of_chance = ["chance level", "95 % of random sets"]
    assert legend_of(figure)[-2:] == of_chance
    assert not set(legend_of(plot_distributions(comparison, "LPIPS-alex"))) & set(of_chance)


def test_the_corrected_index_is_drawn_with_chance_at_zero(comparison):
    corrected = comparison.assign(corrected=0.5 - comparison.interpretability)
    figure = plot_distributions(corrected, "LPIPS-alex", correction="hub")
    assert figure.axes[0].get_ylabel() == "hub-corrected index: −LPIPS distance (AlexNet)"
    drawn = np.concatenate([line.get_ydata() for line in points(figure)])
    assert_allclose(drawn, 0.5 - comparison.interpretability.values[1:, 0])
    dashed = [c for c in figure.axes[0].collections if isinstance(c, LineCollection) and c.get_linestyle()[0][1]]
    assert [line.get_segments()[0][0, 1] for line in dashed] == [0] * 6
    assert legend_of(figure)[-1] == "chance level"
    with pytest.raises(ValueError, match="no corrected index; score it again"):
        plot_distributions(comparison, "LPIPS-alex", correction="hub")
    with pytest.raises(ValueError, match="correction must be"):
        plot_distributions(corrected, "LPIPS-alex", correction="floor")


def test_inactive_items_are_left_out_and_not_counted(comparison):
    n_active = np.where(np.arange(comparison.sizes["item"]) % 30 < 10, 2, 50)
    n_active[-30:] = 0
    figure = plot_distributions(comparison.assign(n_active=("item", n_active)).assign_attrs(top=5), "LPIPS-alex")
    assert tick_labels(figure, minor=True) == ["20"] * 5 + ["0"]
    drawn = np.concatenate([line.get_ydata() for line in points(figure)])
    assert_allclose(drawn, comparison.interpretability.values[n_active == 50, 0])


@pytest.mark.parametrize("n_systems", [1, 4])
@pytest.mark.parametrize(
    "chance", [{}, {"chance_level": 0.0, "chance_level_low": -0.2}], ids=["without chance", "with chance"]
)
def test_the_legend_is_inside_the_figure_and_hides_no_label(rng, n_systems, chance):
    names = ["Units", "KMeans centred", "CovarianceMatched (center)", "CovarianceMatched (center, normalize)", "PCA"]
    pairs = list(product([f"system {i}" for i in range(n_systems)], names))
    systems, finders = np.repeat(pairs, 5, axis=0).T
    figure = draw(rng.normal(size=len(systems)), systems, finders, **chance)
    figure.axes[0].set_ylabel("interpretability index: −color distance (mean RGB, 0–1)", wrap=True)
    figure.draw_without_rendering()
    legend, of_label = (each.get_window_extent() for each in (figure.legends[0], figure.axes[0].yaxis.label))
    assert legend.x0 >= 0
    assert legend.x1 <= figure.bbox.x1
    assert not legend.overlaps(of_label)


def test_the_interval_of_the_mean_and_both_bands_of_chance_are_drawn_where_they_are_known():
    marks = {"mean": [2.0, 3.0], "mean_low": [1.5, np.nan], "mean_high": [2.5, np.nan], "chance_level": 1.0}
    bands = {"chance_level_low": 0.0, "chance_level_high": 2.0, "chance_of_mean_low": 0.8, "chance_of_mean_high": 1.2}
    index = pd.MultiIndex.from_tuples([("V4", "Units"), ("V4", "PCA")])
    names = np.array(["Units", "PCA"]).repeat(3)
    values, systems = np.array([1.0, 2, 3, 2, 3, 4]), np.array(["V4"] * 6)
    figure = draw_groups(values, systems, names, label="a", marks=pd.DataFrame(marks | bands, index=index))
    segments = [c.get_segments()[0] for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    vertical = [segment[:, 1].tolist() for segment in segments if segment[0, 0] == segment[1, 0]]
    assert vertical == [[1.5, 2.5]]
    drawn = [c.get_paths()[0].get_extents() for c in figure.axes[0].collections if not isinstance(c, LineCollection)]
    assert [(box.y0, box.y1) for box in drawn if box.width == 1] == [(0, 2), (0.8, 1.2)] * 2


def test_of_several_seeds_the_items_of_the_first_are_drawn(comparison):
    seeds = comparison.assign_coords(seed=("item", np.arange(180) % 2))
    figure = plot_distributions(seeds.isel(item=slice(1, None)), "LPIPS-alex")  # item 0 has no index
    assert tick_labels(figure, minor=True) == ["15"] * 6
    drawn = np.concatenate([line.get_ydata() for line in points(figure)])
    assert_allclose(drawn, comparison.interpretability.values[1::2, 0])


@pytest.mark.parametrize(("correction", "suffix"), [("none", ""), ("hub", "_corrected")])
def test_a_comparison_is_drawn_with_the_means_and_the_chance_of_summarize(responses, images, correction, suffix):
    table = compare({"V4": responses}, images, [Units(), KMeans(4)], [Color()], top=3)
    figure, summary = plot_distributions(table, "color", correction=correction), summarize(table)
    segments = [c.get_segments()[0] for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    vertical = [segment[:, 1] for segment in segments if segment[0, 0] == segment[1, 0]]
    assert_allclose(vertical, summary[[f"mean{suffix}_low", f"mean{suffix}_high"]])
    assert_allclose([bar[0, 1] for bar in mean_bars(figure)][1::2], summary[f"mean{suffix}"])  # after that of chance
    boxes = [c.get_paths()[0].get_extents() for c in figure.axes[0].collections if not isinstance(c, LineCollection)]
    bands = [(box.y0, box.y1) for box in boxes if np.isclose(box.width, 1)]
    of_mean = summary[[f"chance_of_mean{suffix}_low", f"chance_of_mean{suffix}_high"]]
    assert_allclose(bands if suffix else bands[1::2], of_mean)
    assert legend_of(figure)[-1] == "95 % of means of n sets"
