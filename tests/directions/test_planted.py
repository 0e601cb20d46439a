import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from neurosuper.directions import recovery


def directions(values: np.ndarray, prefix: str) -> xr.DataArray:
    coords = {
        "direction": [f"{prefix} {i}" for i in range(len(values))],
        "unit": [f"u{i}" for i in range(values.shape[1])],
    }
    return xr.DataArray(values, dims=("direction", "unit"), coords=coords)


def test_equals_scipys_cosine(rng):
    found, planted = rng.normal(size=(7, 4)), rng.normal(size=(5, 4))
    recovered = recovery(directions(found, "found"), directions(planted, "planted"))
    cosine = np.abs(1 - cdist(planted, found, "cosine"))
    assert_allclose(recovered, cosine.max(1))
    assert recovered.match.values.tolist() == [f"found {i}" for i in cosine.argmax(1)]


def test_sign_length_and_order_of_units_do_not_matter(rng):
    planted = directions(rng.normal(size=(3, 4)), "planted")
    assert_allclose(recovery(-2 * planted[:, ::-1], planted), 1)


def test_bad_input_is_told(rng):
    planted = directions(rng.normal(size=(3, 4)), "planted")
    with pytest.raises(ValueError, match="different units, such as 'u3'"):
        recovery(planted[:, :3], planted)
    with pytest.raises(ValueError, match="direction 'planted 1' has length zero"):
        recovery(planted, planted.where(planted.direction != "planted 1", 0))
