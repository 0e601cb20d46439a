"""Stated hypotheses are tested as they were stated, and adjusted over themselves alone."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import false_discovery_control

from neurosuper.comparison import contrast_finders, contrast_hypotheses

STATED = {"system": "V4", "finder": "KMeans", "metric": "LPIPS", "against": "Units"}
STATED |= {"correction": "none", "alternative": "greater"}


@pytest.fixture
def comparison(rng):
    """Three finders of 20 items in two systems; those of K-means score higher."""
    finders = np.tile(np.repeat(["Units", "KMeans", "PCA"], 20), 2)
    index = rng.normal(-0.6, 0.1, (120, 2)) + 0.05 * (finders == "KMeans")[:, None]
    systems = np.repeat(["V4", "IT"], 60)
    coords = {"system": ("item", systems), "finder": ("item", finders), "metric": ["LPIPS", "Color"]}
    return xr.Dataset({"interpretability": (("item", "metric"), index)}, coords)


def test_each_is_the_contrast_that_it_states(comparison):
    stated = [STATED | {"alternative": "two-sided"}, STATED | {"system": "IT", "finder": "Units", "against": "PCA"}]
    found = contrast_hypotheses(comparison, stated)
    first = contrast_finders(comparison)
    first = first.isel(test=((first.system == "V4") & (first.finder == "KMeans") & (first.metric == "LPIPS")).values)
    assert_allclose(found.difference[0], first.difference)
    assert_allclose(found.p_value[0], first.p_value)
    means = comparison.interpretability.sel(metric="LPIPS").groupby(["system", "finder"]).mean()
    assert_allclose(found.difference[1], means.sel(system="IT", finder="Units") - means.sel(system="IT", finder="PCA"))


def test_one_sided_p_values_add_to_one(comparison):
    found = contrast_hypotheses(comparison, [STATED, STATED | {"alternative": "less"}])
    assert_allclose(found.p_value.sum(), 1)
    assert found.p_value[0] < found.p_value[1]
    assert found.supported.values.tolist() == [True, False]


def test_one_hypothesis_is_not_called_adjusted(comparison):
    found = contrast_hypotheses(comparison, [STATED])
    assert found.p_adjusted.item() == found.p_value.item()
    assert found.sentence.item().endswith(", not adjusted: one hypothesis).")
    two = contrast_hypotheses(comparison, [STATED, STATED | {"system": "IT"}])
    assert all("adjusted p" in text and "(family of 2))." in text for text in two.sentence.values)


def test_p_is_adjusted_over_the_stated_hypotheses_alone(comparison):
    found = contrast_hypotheses(comparison, [STATED, STATED | {"system": "IT"}, STATED | {"finder": "PCA"}])
    assert_allclose(found.p_adjusted, false_discovery_control(found.p_value))
    assert found.n_tests == 3


def test_what_cannot_be_tested_is_refused(comparison):
    with pytest.raises(ValueError, match="no hypotheses"):
        contrast_hypotheses(comparison, [])
    with pytest.raises(ValueError, match="no corrected index; score it again"):
        contrast_hypotheses(comparison, [STATED | {"correction": "hub"}])
    with pytest.raises(ValueError, match="a hypothesis has the system 'V1'; the comparison has V4, IT"):
        contrast_hypotheses(comparison, [STATED | {"system": "V1"}])
    with pytest.raises(ValueError, match="a hypothesis has the against 'NMF'; the comparison has Units, KMeans, PCA"):
        contrast_hypotheses(comparison, [STATED, STATED | {"against": "NMF"}])


@pytest.mark.parametrize("others", [[], [STATED | {"system": "IT"}, STATED | {"finder": "PCA"}]])
def test_one_about_a_single_item_is_not_tested_and_the_others_are(others, comparison):
    lone = comparison.isel(item=np.r_[0:21, 40:120])  # one item of K-means in V4
    found = contrast_hypotheses(lone, [STATED, *others])
    assert found.sentence.values[0] == (
        "V4: KMeans above Units by LPIPS, not corrected: not tested, as KMeans or Units has fewer than two active "
        "items."
    )
    assert np.isnan([found[name][0] for name in ("difference", "difference_low", "p_value", "p_adjusted")]).all()
    assert not found.supported[0]
    assert found.n_tests == len(others)
    if others:
        xr.testing.assert_identical(found.isel(test=slice(1, None)), contrast_hypotheses(lone, others))


def test_a_finder_may_be_tested_against_several_in_either_direction(comparison):
    stated = [STATED, STATED | {"against": "PCA"}, STATED | {"finder": "Units", "against": "KMeans"}]
    found = contrast_hypotheses(comparison, stated)
    tests = [contrast_finders(comparison.sel(metric=["LPIPS"]), against=name) for name in ("Units", "PCA", "KMeans")]
    names = ["KMeans", "KMeans", "Units"]
    expected = [
        of_name.difference[((of_name.finder == name) & (of_name.system == "V4")).values].item()
        for of_name, name in zip(tests, names, strict=True)
    ]
    assert_allclose(found.difference, expected)
    assert found.difference[2] == -found.difference[0]


def test_few_stimuli_give_one_warning_for_all_hypotheses(comparison):
    counts = np.full(comparison.sizes["item"], 30)
    few = comparison.assign(n_stimuli=("item", counts)).assign_attrs(top=5)
    with pytest.warns(UserWarning, match="30 stimuli of V4 are fewer than 8 × top = 40") as caught:
        contrast_hypotheses(few, [STATED, STATED | {"against": "PCA"}])
    assert len(caught) == 1
