"""The contract of responses, and what is done to them before directions are sought."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.preprocessing
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from neurosuper import align, average_repetitions, check_responses, drop_constant_units, normalize, split_stimuli
from neurosuper.responses import name_some


def repeated(values: np.ndarray) -> xr.DataArray:
    """Label values `(stimulus, repetition, unit)`."""
    coords = {"stimulus": [f"s{i}" for i in range(len(values))], "unit": [f"u{i}" for i in range(values.shape[2])]}
    return xr.DataArray(values, dims=("stimulus", "repetition", "unit"), coords=coords, attrs={"units": "spike count"})


def lazy(responses: xr.DataArray) -> xr.DataArray:
    """The same responses as a dask array that must not be computed."""

    def fail() -> np.ndarray:
        raise RuntimeError("computed")

    unread = da.from_delayed(dask_delayed(fail)(), responses.shape, responses.dtype)
    return responses.copy(data=unread)


def dask_delayed(function):
    import dask

    return dask.delayed(function)


class TestCheckResponses:
    @pytest.mark.parametrize("dims", [("stimulus", "unit"), ("unit", "stimulus")])
    def test_dims_come_in_any_order_and_leave_in_that_of_the_contract(self, responses, dims):
        checked = check_responses(responses.transpose(*dims).rename("rates"))
        xr.testing.assert_identical(checked, responses)
        assert checked.name == "response"
        assert checked.dims == ("stimulus", "unit")
