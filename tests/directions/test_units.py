import pickle

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper.directions import DirectionFinder, Units


def test_codes_are_the_responses(responses):
    codes = Units().fit_transform(responses)
    assert_allclose(codes, responses, rtol=1e-6)
    assert codes.direction.values.tolist() == responses.unit.values.tolist()


def test_another_number_of_directions_is_refused(responses):
    with pytest.raises(ValueError, match="Units gives one direction per unit, 8 here, not 3; use None"):
        Units(3).fit(responses)


def test_directions_are_the_identity(responses):
    fitted = Units().fit(responses.assign_coords(area=("unit", ["V1", "V4"] * 4)))
    np.testing.assert_array_equal(fitted.directions_, np.eye(8))
    assert fitted.directions_.dtype == np.float32
    assert fitted.directions_.unit.values.tolist() == fitted.directions_.direction.values.tolist()
    assert fitted.directions_.area.dims == ("unit",)
    assert not hasattr(Units(), "directions_")


def test_identity_takes_no_matrix_in_memory_pickles_or_files():
    """Of 200,000 units it would be one of 160 GB."""
    n = 200_000
    responses = np.random.default_rng(0).random((3, n), np.float32)
    fitted = Units().fit(responses)
    identity = fitted.directions_
    assert identity.shape == (n, n)
    assert identity[5, 4:7].values.tolist() == [0, 1, 0]
    assert len(pickle.dumps(fitted)) < 20 * n * 8
    codes = fitted.transform(responses)
    assert_allclose(codes, responses)
    assert_allclose(fitted.inverse_transform(codes), responses)
    assert fitted.explained_variance(responses) == pytest.approx(1)
    written = fitted.to_dataset()
    assert "directions" not in written
    xr.testing.assert_equal(DirectionFinder.from_dataset(written).directions_[:3], identity[:3])
