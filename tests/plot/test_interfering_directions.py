import numpy as np
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.plot import plot_interference
from neurosuper.superposition import interference


def test_points_are_the_root_mean_square_cosines_and_lines_those_of_all_and_the_welch_bound():
    D = np.random.default_rng(0).normal(size=(12, 5))
    names = {"direction": np.arange(12).astype(str), "unit": list("abcde")}
    found = interference(xr.DataArray(D, names, ("direction", "unit")))
    axes = plot_interference({"V4 · KMeans": found}).axes[0]
    G = np.corrcoef(D)  # by another way: cosines of the rows
    G = (D @ D.T) / np.outer(*[np.linalg.norm(D, axis=1)] * 2)
    others = G[~np.eye(12, dtype=bool)].reshape(12, 11)
    (points,) = [line for line in axes.lines if line.get_marker() == "."]
    assert_allclose(points.get_ydata(), np.sqrt((others**2).mean(1)))
    (marker,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert_allclose(marker.get_ydata(), np.sqrt((others**2).mean()))
    heights = [float(each.get_segments()[0][0, 1]) for each in axes.collections if hasattr(each, "get_segments")]
    assert_allclose(sorted(heights)[0], np.sqrt(7 / (5 * 11)))  # (K − d) / (d (K − 1))
    assert axes.get_ylim()[0] == 0


def test_a_result_without_a_name_has_that_of_its_finder(superposition_results):
    one = superposition_results()["interference"]["V4 · KMeans"]
    assert plot_interference(one).legends[0].get_texts()[0].get_text() == "KMeans"
