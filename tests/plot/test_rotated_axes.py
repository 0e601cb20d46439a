from numpy.testing import assert_allclose

from neurosuper.plot import plot_rotation


def test_the_mean_of_rotations_is_drawn_with_its_interval_and_each_rotation(superposition_results):
    curve = superposition_results()["rotation"]["V4"]
    axes = plot_rotation({"V4": curve}).axes[0]
    assert_allclose([line.get_ydata() for line in axes.lines[:19]], curve.difference.values.T)
    (bars,) = axes.containers
    assert_allclose(bars[0].get_ydata(), curve.mean_difference)
    ends = [segment[:, 1] for segment in bars[2][0].get_segments()]
    assert_allclose(ends, list(zip(curve.mean_difference_low, curve.mean_difference_high, strict=True)))
    assert bars.get_label() == "V4 (p = 0.05)"  # of the largest amount


def test_intervals_of_two_systems_do_not_hide_each_other(superposition_results):
    first, second = plot_rotation(superposition_results()["rotation"]).axes[0].containers
    assert_allclose(second[0].get_xdata() - first[0].get_xdata(), 0.012)
