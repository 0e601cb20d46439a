import numpy as np
from numpy.testing import assert_allclose

from neurosuper.plot import plot_synergy


def test_histograms_are_of_all_pairs_in_percent(superposition_results):
    pairs = superposition_results()["synergy"]["V4"]
    axes = plot_synergy({"V4": pairs}).axes[0]
    found, scored = (patch.get_data() for patch in axes.patches)
    for drawn, name in ((found, "synergy_found"), (scored, "synergy")):
        counts = np.histogram(pairs[name], drawn.edges)[0]
        assert counts.sum() == 300
        assert_allclose(drawn.values, counts / 3)


def test_the_best_pairs_are_marked_where_found_and_on_other_stimuli_with_the_interval(superposition_results):
    axes = plot_synergy(superposition_results()["synergy"]["V4"]).axes[0]
    marks = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    assert_allclose(np.ravel(marks), [0.06, -0.02])
    assert any(np.array_equal(line.get_xdata(), [-0.03, -0.01]) for line in axes.lines)
    assert axes.get_ylim()[1] > max(axes.patches[1].get_data().values)


def test_synergy_of_all_stimuli_has_one_histogram_and_no_best_pairs(superposition_results):
    pairs = superposition_results()["synergy"]["V4"]
    pairs = pairs.drop_vars(["synergy_found", *(name for name in pairs if "of_best" in name)])
    figure = plot_synergy(pairs.assign_attrs(against="mean"))
    assert len(figure.axes[0].patches) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["pairs"]
    assert figure.axes[0].get_xlabel().endswith("mean of its units")


def test_pairs_of_equal_synergy_are_drawn(superposition_results):
    pairs = superposition_results()["synergy"]["V4"]
    pairs.synergy[:] = pairs.synergy_found[:] = 0
    assert plot_synergy(pairs).axes[0].patches[1].get_data().values.max() == 100
