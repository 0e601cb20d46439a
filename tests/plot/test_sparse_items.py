import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose

from neurosuper.plot import plot_sparseness


def test_each_system_has_a_panel_and_each_finder_its_colour_in_all(superposition_results):
    figure = plot_sparseness(superposition_results()["sparseness"])
    assert [axes.get_title() for axes in figure.axes] == ["V4", "layer3"]
    points = [[line for line in axes.lines if len(line.get_xdata()) == 50] for axes in figure.axes]
    colors = [[to_hex(line.get_color()) for line in of_panel] for of_panel in points]
    assert colors[0] == colors[1]
    assert len(set(colors[0])) == 2
    assert figure.axes[0].get_ylabel() == "interpretability index: −LPIPS distance"


def test_the_line_joins_means_of_fifths_and_items_without_a_value_are_left_out():
    x = np.random.default_rng(0).permutation(51).astype(float)
    y = 2 * x
    y[x == 50] = np.nan
    items = xr.Dataset({"sparseness": ("item", x), "interpretability": ("item", y)})
    points, _, line = plot_sparseness(items).axes[0].lines[:3]
    assert_allclose(points.get_xdata(), np.arange(50))
    assert_allclose(line.get_xdata(), [4.5, 14.5, 24.5, 34.5, 44.5])
    assert_allclose(line.get_ydata(), 2 * line.get_xdata())
    few = plot_sparseness(items.isel(item=slice(39))).axes[0].lines
    assert not [line for line in few if len(line.get_xdata()) == 5]


def test_several_dims_are_refused():
    items = xr.Dataset({"sparseness": ("unit", [0.1]), "interpretability": (("unit", "metric"), [[0.1]])})
    with pytest.raises(ValueError, match=r"must have the same one dim, \(item,\); got \('unit',\)"):
        plot_sparseness(items)
