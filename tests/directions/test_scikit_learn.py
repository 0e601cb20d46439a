"""Finders keep to what scikit-learn expects of a transformer."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from neurosuper.directions import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    CovarianceMatched,
    DictionaryLearning,
    Exemplars,
    KMeans,
    Random,
    SparseAutoencoder,
    Units,
)

SMALL = [
    Units(),
    Random(2),
    Exemplars(2),
    CovarianceMatched(2),
    PCA(2),
    ICA(2, max_iter=20),
    NMF(2, max_iter=20),
    NMF(2, signed=True, max_iter=20),
    KMeans(2, max_iter=20),
    DictionaryLearning(2, max_iter=2),
    SparseAutoencoder(2, n_active=1, max_iter=2),
    Archetypal(2, max_iter=5),
]


def expected_failures(finder):
    """Return the checks that a finder does not pass, and why."""
    if isinstance(finder, PCA | ICA):
        reason = "one unit has one direction: two are refused, in words of our own that say what to do"
        return {"check_fit2d_1feature": reason}
    return {}


@pytest.mark.filterwarnings("ignore")  # few stimuli, and few iterations, on purpose
@parametrize_with_checks(SMALL, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


finders = pytest.mark.parametrize("finder", SMALL, ids=repr)
pytestmark = pytest.mark.filterwarnings("ignore:.*stopped after")


@finders
def test_set_output_is_for_plain_arrays_and_data_frames(finder, responses):
    frame = pd.DataFrame(responses.values, index=range(5, 125), columns=responses.unit.values)
    finder = clone(finder).set_output(transform="pandas").fit(frame)
    codes = finder.transform(frame)
    assert_array_equal(codes.index, frame.index)
    assert_array_equal(codes.columns, finder.directions_.direction)
    assert isinstance(clone(finder).fit_transform(responses.values), pd.DataFrame)
    labelled = finder.transform(responses)
    assert isinstance(labelled, xr.DataArray)
    assert_allclose(labelled, codes, rtol=1e-6)
    assert_allclose(finder.inverse_transform(codes), finder.inverse_transform(labelled), rtol=1e-5)


@finders
def test_features_are_units_by_name(finder, responses):
    fitted = clone(finder).fit(responses)
    assert fitted.n_features_in_ == 8
    assert fitted.feature_names_in_.tolist() == responses.unit.values.tolist()
    assert fitted.get_feature_names_out().tolist() == fitted.directions_.direction.values.tolist()
    plain = clone(finder).fit(responses.values)
    assert plain.n_features_in_ == 8
    assert not hasattr(plain, "feature_names_in_")
    with pytest.raises(ValueError, match="X has 7 features, but .* is expecting 8 features as input: the units of the"):
        plain.transform(responses.values[:, 1:])


@finders
def test_score_is_the_explained_variance(finder, responses):
    fitted = clone(finder).fit(responses)
    assert fitted.score(responses) == fitted.explained_variance(responses)


@finders
def test_before_a_fit_methods_raise_the_error_of_scikit_learn(finder, responses):
    finder = clone(finder)
    for method in ("transform", "inverse_transform", "explained_variance", "score"):
        with pytest.raises(NotFittedError, match=r"has no directions yet; call \.fit\(responses\) first"):
            getattr(finder, method)(responses)


def test_number_of_directions_is_found_by_grid_search(rng):
    planted = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 8)) + 0.01 * rng.normal(size=(200, 8))
    search = GridSearchCV(make_pipeline(StandardScaler(), PCA()), {"pca__n_directions": [1, 3]}, cv=3).fit(planted)
    assert search.best_params_ == {"pca__n_directions": 3}
    assert search.best_score_ > 0.99


def test_columns_of_a_table_are_coded_by_different_finders(responses):
    frame = pd.DataFrame(responses.values, columns=responses.unit.values)
    both = ColumnTransformer([("pca", PCA(2), frame.columns[:4]), ("units", Units(), frame.columns[4:])])
    codes = both.set_output(transform="pandas").fit_transform(frame)
    expected = ["pca__PCA 0", "pca__PCA 1", *(f"units__{name}" for name in frame.columns[4:])]
    assert codes.columns.tolist() == expected
    assert_allclose(codes[expected[0]], PCA(2).fit_transform(responses[:, :4])[:, 0], rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"normalize": False}, {"encoding": "distance"}], ids=repr)
def test_kmeans_predicts_the_nearest_centre(settings, responses, rng):
    fitted = KMeans(4, **settings).fit(responses)
    xr.testing.assert_identical(fitted.predict(responses), fitted.labels_)
    assert_array_equal(fitted.predict(responses.values), fitted.labels_)
    assert_array_equal(fitted.predict(responses.chunk(stimulus=50)), fitted.labels_)
    assert_array_equal(fitted.predict(responses[7:8]), fitted.labels_[7:8])
    new = rng.gamma(1.0, 5.0, (300, 8))
    rows = new / np.linalg.norm(new, axis=1, keepdims=True) if fitted.normalize else new
    distances = ((rows[:, None] - fitted.centers_.values) ** 2).sum(2)
    assert_array_equal(fitted.predict(new), distances.argmin(1))
    assert len(set(fitted.predict(new))) == 4
