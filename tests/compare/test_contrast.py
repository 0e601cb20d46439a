import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.stats import false_discovery_control

from neurosuper import contrast_finders, permutation_test


def make_comparison(rng, shift, n=40):
    """Two systems; in the brain, K-means lies higher by `shift` in both metrics."""
    names = [(system, finder) for system in ("brain", "net") for finder in ("Units", "KMeans", "PCA")]
    center = {("brain", "KMeans"): shift}
    values = np.concatenate([rng.normal(center.get(name, 0), 1, (n, 2)) for name in names])
    own = np.repeat(names, n, axis=0)
    coords = {"metric": ["color", "pixel"], "system": ("item", own[:, 0]), "finder": ("item", own[:, 1])}
    return xr.Dataset({"interpretability": (("item", "metric"), values)}, coords=coords)


def test_every_finder_is_tested_against_units_in_every_system_by_every_metric(rng):
    comparison = make_comparison(rng, 2.0)
    tests = contrast_finders(comparison, n_resamples=999)
    assert tests.sizes == {"test": 8}
    assert tests.n_tests == 8
    assert_allclose(tests.p_adjusted, false_discovery_control(tests.p_value))
    for i in range(8):
        test = tests.isel(test=i)
        a, b = (
            comparison.interpretability.sel(metric=test.metric)[
                ((comparison.system == test.system) & (comparison.finder == finder)).values
            ].reset_coords(drop=True)
            for finder in (test.finder, "Units")
        )
        alone = permutation_test(a, b, statistic="median", n_resamples=999)
        assert_allclose(
            [test.difference, test.p_value, test.cohens_d], [alone.difference, alone.p_value, alone.cohens_d]
        )
        assert_allclose(test.estimate_a, a.median())


def test_planted_difference_is_claimed_and_no_other(rng):
    tests = contrast_finders(make_comparison(rng, 2.0), n_resamples=999)
    found = (tests.p_adjusted < 0.05).values
    assert found.tolist() == ((tests.system == "brain") & (tests.finder == "KMeans")).values.tolist()
    for claimed, sentence in zip(found, tests.sentence.values, strict=True):
        assert ("scored higher in interpretability by" in sentence) == claimed
        assert ("did not differ detectably" in sentence) == (not claimed)


def test_items_without_an_index_and_other_seeds_are_left_out(rng):
    comparison = make_comparison(rng, 0.0).assign_coords(seed=("item", np.arange(240) % 2))
    comparison["interpretability"][0] = np.nan
    tests = contrast_finders(comparison, n_resamples=200).sel(test=0)
    assert (tests.n_a, tests.n_b) == (20, 19)


def test_what_cannot_be_tested_is_told(rng):
    comparison = make_comparison(rng, 0.0)
    with pytest.raises(ValueError, match="no finder 'ICA' in the comparison; it has Units, KMeans, PCA"):
        contrast_finders(comparison, against="ICA")
    with pytest.raises(ValueError, match="nothing to test 'Units' against: no system has two items of it"):
        contrast_finders(comparison.isel(item=(comparison.finder == "Units").values))
