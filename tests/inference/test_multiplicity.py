"""Adjusted p-values are those of the definitions and of a published example, and keep false discoveries rare."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from neurosuper.inference import adjust_p_values

METHODS = ["benjamini-hochberg", "bonferroni"]
# Benjamini & Hochberg 1995, section 3.2
PUBLISHED = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240]
PUBLISHED += [0.4262, 0.5719, 0.6528, 0.7590, 1.0]


def family(p: object) -> xr.DataArray:
    return xr.DataArray(np.asarray(p, dtype=float), dims="metric", name="p_value")


def test_the_published_example():
    """Four hypotheses are rejected by Benjamini and Hochberg, three by Bonferroni."""
    assert [(adjust_p_values(family(PUBLISHED), method=method) <= 0.05).sum().item() for method in METHODS] == [4, 3]


@settings(deadline=None)
@given(arrays(float, st.integers(1, 12), elements=st.floats(0, 1)))
def test_definitions(p):
    """Benjamini-Hochberg: the smallest m p / r over ranks r or higher, of m. Bonferroni: m p."""
    m, sorted_p = len(p), np.sort(p)
    naive = [
        min(1, *(m * sorted_p[r] / (r + 1) for r in range(m) if sorted_p[r] >= x), m * sorted_p[-1] / m) for x in p
    ]
    assert_allclose(adjust_p_values(family(p)), naive)
    assert_allclose(adjust_p_values(family(p), method="bonferroni"), np.minimum(m * p, 1))


def test_false_discoveries_are_as_rare_as_promised(rng):
    """400 families of 40 true null hypotheses and 10 shifted by three standard deviations."""
    z = rng.normal(size=(400, 50)) + 3 * (np.arange(50) >= 40)
    false = {method: [] for method in METHODS}
    for p in stats.norm.sf(z):
        for method in METHODS:
            found = adjust_p_values(family(p), method=method).values <= 0.05
            false[method].append((found[:40].sum(), found.sum()))
    wrong, found = np.array(false["benjamini-hochberg"]).T
    assert 0.03 < np.mean(wrong / np.maximum(found, 1)) < 0.05  # 0.05 times the share of null hypotheses
    assert found.mean() > 7
    wrong, _ = np.array(false["bonferroni"]).T
    assert 0.01 < np.mean(wrong > 0) < 0.06


@pytest.mark.parametrize("method", METHODS)
def test_missing_tests_stay_missing_and_do_not_count(method):
    p = xr.DataArray(
        [[0.01, np.nan], [0.04, 0.2]], {"system": ["brain", "net"], "metric": ["a", "b"]}, ("system", "metric"), "p"
    )
    adjusted = adjust_p_values(p, method=method)
    assert_array_equal(adjusted.isnull(), p.isnull())
    assert_allclose(adjusted.values[~np.isnan(p.values)], adjust_p_values(family([0.01, 0.04, 0.2]), method=method))
    assert adjusted.attrs == {"adjusted": method, "n_tests": 3}
    xr.testing.assert_identical(adjusted.coords.to_dataset(), p.coords.to_dataset())
    assert adjust_p_values(p.where(False), method=method).isnull().all()
    assert p[0, 0] == 0.01


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match=r"p-values must be between 0 and 1, got -2.3; pass p, not its logarithm"):
        adjust_p_values(family([0.1, -2.3]))
    with pytest.raises(ValueError, match="method must be one of 'benjamini-hochberg', 'bonferroni'; got 'holm'"):
        adjust_p_values(family([0.1]), method="holm")
    with pytest.raises(TypeError, match="p must be an xarray.DataArray of p-values, got list"):
        adjust_p_values([0.1])
