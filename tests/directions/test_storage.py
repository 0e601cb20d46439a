"""Finders as Datasets."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import PCA, KMeans, Units
from neurosuper.directions import DirectionFinder


def test_settings_are_restored_even_where_they_are_arrays(responses):
    init = np.eye(3, 8)
    fitted = KMeans(3, init=init, random_state=None).fit(responses)
    restored = KMeans.from_dataset(fitted.to_dataset())
    np.testing.assert_array_equal(restored.init, init)
    assert restored.random_state is None
    assert restored.inertia_ == fitted.inertia_


def test_a_restored_finder_can_be_fitted_anew(responses):
    restored = PCA.from_dataset(PCA(2).fit(responses).to_dataset())
    assert restored.fit(responses[:50]).transform(responses).shape == (120, 2)


def test_only_a_fitted_finder_is_written():
    with pytest.raises(ValueError, match=r"has no directions yet; call \.fit"):
        PCA().to_dataset()


def test_the_class_must_be_one_that_was_written(responses):
    dataset = KMeans(2).fit(responses).to_dataset()
    assert isinstance(DirectionFinder.from_dataset(dataset), KMeans)
    with pytest.raises(ValueError, match="written by to_dataset of PCA is needed, got one of 'KMeans'"):
        PCA.from_dataset(dataset)
    with pytest.raises(ValueError, match="got one of None with no variables"):
        DirectionFinder.from_dataset(xr.Dataset())
    with pytest.raises(ValueError, match="Units"):
        Units.from_dataset(dataset.drop_vars("directions").assign_attrs(finder="Units"))


def test_unit_coord_named_like_a_learned_array_is_refused_by_name(responses):
    fitted = PCA(2).fit(responses.assign_coords(mean=("unit", np.arange(8.0))))
    with pytest.raises(ValueError, match=r"units have a coord 'mean', the name of a learned array; rename it"):
        fitted.to_dataset()
