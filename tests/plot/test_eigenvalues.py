import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.plot import plot_spectrum
from neurosuper.plot.eigenvalues import power_law
from neurosuper.superposition import spectrum


def test_shares_are_drawn_and_the_power_law_where_it_was_fitted(superposition_results):
    result = superposition_results()["spectrum"]["V4"]
    shares, fitted, critical, _ = plot_spectrum({"V4": result}).axes[0].lines
    assert_allclose(shares.get_ydata(), result.variance / result.variance.sum())
    assert fitted.get_xdata().tolist() == [3, 30]
    assert_allclose(fitted.get_ydata(), shares.get_ydata()[[2, 29]])  # the spectrum is the law itself
    x, y = critical.get_xdata(), critical.get_ydata()
    assert_allclose(np.diff(np.log(y)) / np.diff(np.log(x)), -1.5)
    assert critical.get_label() == "critical α = 1.5"


def test_the_power_law_is_the_weighted_regression_that_alpha_is_of():
    rng = np.random.default_rng(0)
    names = {"stimulus": np.arange(90).astype(str), "unit": np.arange(20).astype(str)}
    found = spectrum(xr.DataArray(rng.normal(size=(90, 20)), names, ("stimulus", "unit")), fit=(2, 15), n_resamples=0)
    n, share = np.arange(2, 16), (found.variance / found.variance.sum()).values[1:15]
    slope, intercept = np.polyfit(np.log(n), np.log(share), 1, w=n**-0.5)  # polyfit squares its weights
    assert_allclose(float(found.alpha), -slope)
    ends, fitted = power_law(found)
    assert_allclose(fitted, np.exp(intercept + slope * np.log(ends)))


def test_variances_that_are_not_above_0_are_left_out(superposition_results):
    result = superposition_results()["spectrum"]["V4"]
    result.variance[4] = -1e-3
    drawn = plot_spectrum(result).axes[0].lines[0]
    assert 5 not in drawn.get_xdata()
    assert len(drawn.get_xdata()) == 39


def test_variances_that_sum_to_nothing_are_refused(superposition_results):
    result = superposition_results()["spectrum"]["V4"]
    result.variance[:] = -1
    with pytest.raises(ValueError, match="the variances of 'V4' sum to -40, and have no shares; average more repet"):
        plot_spectrum({"V4": result})


def test_without_interval_and_critical_exponent_none_is_written(superposition_results):
    result = superposition_results()["spectrum"]["V4"].drop_vars(["alpha_low", "alpha_high", "alpha_critical"])
    texts = [text.get_text() for text in plot_spectrum({"V4": result}).legends[0].get_texts()]
    assert texts == ["V4: α = 1.02", "power law, where it was fitted"]
