"""The component that is taken off is the first principal one, however it is computed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from neurosuper.comparison import halved_systems
from neurosuper.comparison.halved_systems import first_component, reliability


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (150, 110), (110, 150)])
@pytest.mark.parametrize("shared", [0, 1])
def test_the_first_component_is_that_of_an_svd(rng, shape, shared):
    assert (min(shape) > halved_systems.MOST_EXACT) == (max(shape) == 150)  # both ways to compute it
    Z = rng.normal(size=shape) + shared * rng.normal(size=(shape[0], 1))
    Z -= Z.mean(axis=0)
    expected = np.linalg.svd(Z, full_matrices=False)[2][0]
    found = first_component(Z)
    assert_allclose(found * np.sign(found @ expected), expected, atol=1e-10)


def test_reliability_is_that_of_all_repetitions(rng):
    signal = rng.normal(size=(40_000, 1))
    one, other = (signal + rng.normal(size=signal.shape) for _ in range(2))
    assert_allclose(reliability(one, other), 2 / 3, atol=0.02)  # of the mean of both: 1/(1 + 1/2)
