import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.plot import plot_recovery


@pytest.fixture
def recovery(rng) -> xr.DataArray:
    """Two fits (seeds) of K-means and one of the units, against 12 planted directions."""
    return xr.DataArray(
        rng.uniform(0.2, 1, (3, 12)),
        dims=("fit", "planted"),
        coords={"fit_system": ("fit", ["simulated"] * 3), "fit_finder": ("fit", ["Units", "KMeans", "KMeans"])},
    )


def test_every_planted_direction_is_a_point_under_its_finder(recovery):
    axes = plot_recovery(recovery).axes[0]
    units, kmeans = (line.get_ydata() for line in axes.lines if line.get_marker() == ".")
    assert_allclose(units, recovery.values[0])
    assert_allclose(kmeans, recovery.values[1:].ravel())


def test_the_axis_spans_the_range_of_a_cosine(recovery):
    axes = plot_recovery(recovery).axes[0]
    assert axes.get_ylabel() == "max |cosine| with a planted direction"
    lower, upper = axes.get_ylim()
    assert lower == 0
    assert 1 <= upper < 1.1


def test_order_of_dims_does_not_matter(recovery):
    heights = [plot_recovery(r).axes[0].lines[0].get_ydata() for r in (recovery, recovery.transpose())]
    assert_allclose(*heights)
