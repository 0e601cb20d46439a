import numpy as np
import pytest
from numpy.testing import assert_allclose

from neurosuper import KMeans, sweep
from neurosuper.plot import plot_sweep


@pytest.fixture
def table(responses):
    return sweep(KMeans(), responses, n_directions=[2, 4], seeds=[0, 1])


def test_the_line_is_the_mean_over_seeds_and_each_seed_is_a_dot(table):
    figure = plot_sweep(table)
    assert [axes.get_ylabel() for axes in figure.axes][:2] == ["explained variance", "sparsity of codes"]
    axes = figure.axes[0]
    assert_allclose(axes.lines[0].get_ydata(), table.explained_variance.sel(seed=0))
    assert_allclose(axes.lines[-1].get_ydata(), table.explained_variance.mean("seed"))
    assert axes.get_xlabel() == "number of directions"


def test_a_measure_without_values_has_no_panel(responses):
    table = sweep(KMeans(), responses, n_directions=[2], seeds=[0])
    assert np.isnan(table.stability).all()
    assert "stability over seeds" not in [axes.get_ylabel() for axes in plot_sweep(table).axes]


def test_what_is_not_a_sweep_is_refused(table):
    with pytest.raises(ValueError, match="dims n_directions and seed, got \\('n_directions',\\); see neurosuper.sweep"):
        plot_sweep(table.isel(seed=0))
