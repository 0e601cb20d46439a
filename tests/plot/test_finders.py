import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.plot import plot_finders


@pytest.fixture
def table():
    """Two systems × three finders × two seeds; K-means has no stability."""
    values = np.arange(12.0).reshape(2, 3, 2)
    stability = xr.DataArray(values[..., 0].copy(), dims=("system", "finder"), attrs={"long_name": "|cosine| of seeds"})
    stability[:, 2] = np.nan
    sparsity = xr.DataArray(values, dims=("system", "finder", "seed"))
    coords = {"system": ["V4", "net"], "finder": ["Units", "PCA", "KMeans"]}
    return xr.Dataset({"sparsity": sparsity, "stability": stability}, coords=coords)


def test_each_measure_has_a_panel_each_finder_a_row_and_each_system_a_marker(table):
    figure = plot_finders(table)
    sparsity, stability = figure.axes
    assert [label.get_text() for label in sparsity.get_yticklabels()] == ["Units", "PCA", "KMeans"]
    assert (sparsity.get_xlabel(), stability.get_xlabel()) == ("sparsity", "|cosine| of seeds")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["V4", "net"]


def test_seeds_are_drawn_as_their_mean_and_range(table):
    axes = plot_finders(table).axes[0]
    assert_allclose(axes.lines[1].get_xdata(), [6.5, 8.5, 10.5])
    assert_allclose([segment[:, 0] for segment in axes.collections[1].get_segments()], [[6, 7], [8, 9], [10, 11]])


def test_a_missing_measure_is_left_out(table):
    assert np.isnan(plot_finders(table).axes[1].lines[0].get_xdata()[2])


def test_one_system_needs_no_legend(table):
    assert not plot_finders(table.isel(system=0, drop=True)).legends


def test_a_table_without_finders_is_refused(table):
    with pytest.raises(ValueError, match="needs a dim 'finder' and a measure"):
        plot_finders(table.isel(finder=0))
