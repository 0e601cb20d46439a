"""Scores with labels."""

import numpy as np
import pytest
import xarray as xr


@pytest.fixture(scope="session")
def make_scores():
    """Make labelled scores `(…, unit)` from an array."""

    def make(values: object, dims: tuple[str, ...] = ("unit",), **coords: object) -> xr.DataArray:
        values = np.asarray(values)
        return xr.DataArray(values, {"unit": [f"u{i:03d}" for i in range(values.shape[-1])]} | coords, dims)

    return make
