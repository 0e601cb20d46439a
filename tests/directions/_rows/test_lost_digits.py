"""No dimension and no digit of the responses is lost without a warning that names the unit."""

import dask.array as da
import numpy as np
import pytest

from neurosuper.directions import ICA, PCA, KMeans, Random


@pytest.fixture
def two_units(make_responses, rng):
    """Make independent responses of two units with these standard deviations, to 500 stimuli."""
    return lambda *sds: make_responses(rng.laplace(size=(500, 2)) * sds)


@pytest.mark.parametrize("chunks", [None, (100, 1)])
def test_whitening_names_the_unit_that_it_drops_in_float32_and_keeps_it_in_float64(chunks, two_units):
    R = two_units(1, 9e-4)
    R = R if chunks is None else R.copy(data=da.from_array(R.values, chunks=chunks))
    message = (
        r"whitening drops 1 of 2 dimensions, mainly of unit 'u001': their variance is at most 1e-06 of the largest; to "
        r"keep them, use dtype='float64', or bring all units to one scale: neurosuper.normalize\(responses, 'zscore'\)"
    )
    with pytest.warns(UserWarning, match=message):
        codes = Random(whiten=True).fit(R)
    assert np.linalg.matrix_rank(codes.whitening_) == 1
    whitened = KMeans(2, normalize=False, whiten=True, dtype="float64").fit(R)
    X = (R.values - R.values.mean(0)) @ whitened.whitening_.values
    np.testing.assert_allclose(np.cov(X.T), np.eye(2), atol=1e-8)


@pytest.mark.parametrize("finder", [PCA(), ICA(), PCA(dtype="float64")], ids=repr)
def test_components_that_are_dropped_are_named(finder, two_units):
    with pytest.warns(UserWarning, match=f"{type(finder).__name__} drops 1 of 2 dimensions, mainly of unit 'u001'"):
        fitted = finder.fit(two_units(1, 9e-6))
    assert fitted.directions_.sizes["direction"] == 1
    assert finder.fit(two_units(1, 9e-5)).directions_.sizes["direction"] == 2


def test_dropped_components_of_more_units_than_stimuli_are_named(make_responses, rng):
    R = make_responses(rng.normal(size=(5, 8)) * [1, 1, 1, 0, 0, 0, 0, 0] + 1e-6 * rng.normal(size=(5, 8)))
    with pytest.warns(UserWarning, match="PCA drops 1 of 8 dimensions"):
        assert PCA(dtype="float64").fit(R).directions_.sizes["direction"] == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_stimuli", [6, 100], ids=["fewer stimuli than units", "a unit is the sum of others"])
@pytest.mark.parametrize("offset", [0, 300])
def test_dimensions_that_do_not_exist_are_dropped_without_a_warning(n_stimuli, offset, dtype, make_responses, rng):
    """Warnings are errors in these tests."""
    R = rng.normal(size=(n_stimuli, 8)) + offset
    R[:, 7] = R[:, 0] + 0.3 * R[:, 1]
    R = make_responses(R)
    rank = min(n_stimuli - 1, 7)
    for finder in (PCA(dtype=dtype), Random(whiten=True, dtype=dtype), ICA(dtype=dtype, max_iter=3, tol=None)):
        fitted = finder.fit(R)
        if not isinstance(finder, Random):
            assert fitted.directions_.sizes["direction"] == rank
        else:
            assert np.linalg.matrix_rank(fitted.whitening_, tol=1e-2) == rank


@pytest.mark.parametrize("chunks", [None, (100, 1)])
def test_units_far_from_zero_are_named_in_float32_and_exact_in_float64(chunks, make_responses, rng):
    R = make_responses(rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)))
    expected = PCA(dtype="float64").fit(R).directions_
    far = R + np.array([0, 1e6, 0])
    far = far if chunks is None else far.copy(data=da.from_array(far.values, chunks=chunks))
    message = (
        r"responses of unit 'u001' are over 10000 times as large as their range, so that float32 loses digits of how "
        r"they vary; use dtype='float64', or subtract their mean first"
    )
    with pytest.warns(UserWarning, match=message):
        PCA().fit(far)
    np.testing.assert_allclose(PCA(dtype="float64").fit(far).directions_, expected, atol=1e-8)
    PCA().fit(far.astype("float32"))  # what is lost was lost before
