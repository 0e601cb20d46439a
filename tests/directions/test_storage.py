"""Finders as Datasets."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from sklearn.base import clone

from neurosuper import ICA, PCA, DictionaryLearning, KMeans, SparseAutoencoder, Units
from neurosuper.directions import DirectionFinder


def test_settings_are_restored_even_where_they_are_arrays(responses):
    init = np.eye(3, 8)
    fitted = KMeans(3, init=init, random_state=None).fit(responses)
    restored = KMeans.from_dataset(fitted.to_dataset())
    np.testing.assert_array_equal(restored.init, init)
    assert restored.random_state is None
    assert restored.inertia_ == fitted.inertia_


def test_a_finder_is_read_before_its_module_is_imported(responses, tmp_path):
    fitted = PCA(2).fit(responses)
    fitted.to_dataset().to_netcdf(tmp_path / "pca.nc")
    code = (
        "import sys, xarray; from neurosuper.directions import DirectionFinder\n"
        "print(DirectionFinder.from_dataset(xarray.load_dataset(sys.argv[1])))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pca.nc"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == repr(clone(fitted))


def test_a_restored_finder_can_be_fitted_again(responses):
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


OLD = [  # finder, and the settings and learned arrays that had other names before 0.1.0
    (KMeans(3, encoding="distance"), {"encoding": "codes"}),
    (DictionaryLearning(3, max_iter=2), {"encoding": "codes", "l1": "alpha"}),
    (ICA(3), {"contrast": "fun"}),
    (SparseAutoencoder(3, n_active=2, max_iter=2), {"activation": "kind", "l1": "alpha"}),
    (PCA(3), {}),
]


@pytest.mark.parametrize(("finder", "names"), OLD, ids=lambda value: type(value).__name__)
def test_files_of_the_old_layout_are_read(finder, names, responses, tmp_path):
    fitted = clone(finder).fit(responses)
    dataset = fitted.to_dataset()
    settings = {names.get(key, key): value for key, value in json.loads(dataset.attrs["settings"]).items()}
    del dataset.attrs["format_version"]
    dataset = dataset.rename({new: old for new, old in names.items() if new in dataset})
    assert ("alpha" in dataset) == isinstance(finder, DictionaryLearning)
    dataset.assign_attrs(settings=json.dumps(settings)).to_netcdf(tmp_path / "old.nc")
    restored = DirectionFinder.from_dataset(xr.load_dataset(tmp_path / "old.nc"))
    assert restored.get_params() == finder.get_params()
    xr.testing.assert_identical(restored.transform(responses), fitted.transform(responses))
    assert restored.to_dataset().attrs["format_version"] == 1


def test_files_of_a_later_layout_are_refused(responses):
    dataset = PCA(2).fit(responses).to_dataset().assign_attrs(format_version=2)
    with pytest.raises(ValueError, match="format version 2, .* reads version 1; install a newer neurosuper"):
        PCA.from_dataset(dataset)


def test_unit_coord_named_like_a_learned_array_is_refused_by_name(responses):
    fitted = PCA(2).fit(responses.assign_coords(mean=("unit", np.arange(8.0))))
    with pytest.raises(ValueError, match=r"units have a coord 'mean', the name of a learned array; rename it"):
        fitted.to_dataset()
