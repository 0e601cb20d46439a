"""Units are split by an index of other stimuli; the parts differ elsewhere if units do, and not by luck."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import PCA, interpretability_index, split_stimuli
from neurosuper.comparison import contrast_systems
from neurosuper.superposition import clustered_apart, split_units


@pytest.fixture(scope="module")
def half_tuned(label_world):
    """Units 0 to 5 follow a feature each, on which distances depend; 6 to 11 are noise."""
    rng = np.random.default_rng(0)
    features = rng.integers(0, 6, 400)
    values = rng.normal(size=(400, 12))
    values[:, :6] += 3 * (features[:, None] == np.arange(6))
    return label_world(values, features)


def test_units_are_split_as_a_sort_splits_them(half_tuned):
    responses, _, _ = half_tuned
    values = np.round(np.random.default_rng(1).random(12), 1)
    index = xr.DataArray(values, {"unit": responses.unit}, attrs={"stimuli": ["another"]})
    parts = split_units(responses, index[::-1], share=0.3)
    order = sorted(range(12), key=lambda u: (-values[u], responses.unit.values[u]))
    for name, chosen in (("more", sorted(order[:4])), ("less", sorted(order[4:]))):
        assert_array_equal(parts[name].unit, responses.unit.values[chosen])
        assert_array_equal(parts[name].values, responses.values[:, chosen])
        assert_allclose(parts[name].selection_index, values[chosen])


def test_units_that_differ_are_apart_on_other_stimuli_too(half_tuned):
    table = clustered_apart(*half_tuned, finder=PCA())
    units = table.isel(item=(table.finder == "Units").values)
    assert sorted(units.direction.values[units.system == "more"]) == [f"u{i:03d}" for i in range(6)]
    test = contrast_systems(table).sel(test=0)
    assert (test.system, test.against, test.finder) == ("less", "more", "Units")
    assert test.difference_high < -0.3
    assert set(table.finder.values) == {"Units", "PCA", "CovarianceMatched"}
    responses, images, metric = half_tuned
    marked = split_stimuli(responses, random_state=0)
    where_chosen = interpretability_index(marked[marked.split == "fit"], images, metric)
    assert_allclose(units.selection_index, where_chosen.sel(unit=units.direction.values))
    elsewhere = interpretability_index(marked[marked.split == "score"], images, metric)
    assert_allclose(units.interpretability[:, 0], elsewhere.sel(unit=units.direction.values), atol=1e-6)


def test_units_of_noise_are_apart_only_where_they_were_chosen(label_world):
    rng = np.random.default_rng(2)
    table = clustered_apart(*label_world(rng.normal(size=(300, 24)), rng.integers(0, 6, 300)), finder=PCA(4))
    units = table.isel(item=(table.finder == "Units").values)
    means = units.selection_index.groupby(units.system).mean()
    assert means.sel(system="more") - means.sel(system="less") > 0.15
    test = contrast_systems(table).sel(test=0)
    assert test.difference_low < 0 < test.difference_high


def test_an_index_of_the_stimuli_that_are_scored_is_refused(half_tuned):
    responses, _, _ = half_tuned
    index = xr.DataArray(np.arange(12.0), {"unit": responses.unit})
    with pytest.raises(
        ValueError, match=r"^index does not name the stimuli that it was computed from.*assign_attrs\(st"
    ):
        split_units(responses, index)
    seen = index.assign_attrs(stimuli=responses.stimulus.values[:200])
    with pytest.raises(ValueError, match="^index was computed from stimuli that are to be scored, 's0000', 's0001'"):
        split_units(responses, seen)
    marks = np.where(np.arange(400) < 200, "fit", "score")
    assert split_units(responses.assign_coords(split=("stimulus", marks)), seen)["less"].shape == (400, 6)
    other = index.assign_attrs(stimuli=["another"])
    with pytest.raises(
        ValueError, match="^index and responses have different units: only one has 'u000'; select the s"
    ):
        split_units(responses, other[1:])
    with pytest.raises(ValueError, match="^index is NaN for unit 'u000'; leave it out"):
        split_units(responses, other.where(other > 0))
    with pytest.raises(
        TypeError, match=r"^index must be a DataArray \(unit,\), from interpretability_index, got ndarray"
    ):
        split_units(responses, other.values)
    with pytest.raises(ValueError, match=r"^share=0\.01 of 12 units leaves none on one side; use another share"):
        split_units(responses, other, share=0.01)
