import numpy as np
import xarray as xr
from matplotlib.markers import CARETLEFT
from numpy.testing import assert_allclose

from neurosuper.plot import plot_disentanglement


def test_every_measure_has_a_row_with_marker_interval_and_null():
    scores = xr.Dataset({"mig": 0.3, "mig_low": 0.2, "mig_high": 0.4, "mig_null": 0.1, "sap": np.nan, "infoe": 0.9})
    axes = plot_disentanglement({"V4 · KMeans": scores}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["MIG", "InfoE"]  # SAP has no value
    null, markers = axes.lines[:2]
    assert_allclose(markers.get_xdata(), [0.3, 0.9])
    assert_allclose(markers.get_ydata(), [0, 1])
    assert_allclose(null.get_xdata(), [0.1, np.nan])
    assert_allclose(axes.collections[0].get_segments()[0][:, 0], [0.2, 0.4])


def test_scores_far_below_0_are_carets_at_the_edge_and_do_not_widen_the_axis():
    scores = xr.Dataset({"mig": 0.3, "infoe": -7.0, "infoe_null": -0.2, "infoe_low": -9.0, "infoe_high": -5.0})
    axes = plot_disentanglement(scores).axes[0]
    (caret,) = [line for line in axes.lines if line.get_marker() == CARETLEFT]
    assert (caret.get_xdata(), caret.get_ydata()) == (-0.3, 1)
    assert_allclose(axes.get_xlim(), (-0.33, 1.03))
    near = plot_disentanglement(scores.drop_vars(["infoe", "infoe_null"])).axes[0]
    assert_allclose(near.get_xlim(), (-0.03, 1.03))


def test_finders_of_a_row_are_below_one_another_and_do_not_reach_the_next(superposition_results):
    axes = plot_disentanglement(superposition_results()["disentanglement"]).axes[0]
    heights = np.array([line.get_ydata() for line in axes.lines if line.get_marker() in "oD"])
    assert len(heights) == 2
    assert (heights[0] < heights[1]).all()
    assert_allclose(heights.mean(0), [0, 1])
    assert np.ptp(heights[:, 0]) < 0.7
    assert axes.get_ylim() == (1.5, -0.5)  # the first measure is on top
