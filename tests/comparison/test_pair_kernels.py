"""Compiled loops over pairs give what the slow, obvious functions give."""

import numpy as np
import pytest
from scipy import stats

from neurosuper.comparison.pair_kernels import rank, shuffled_product

RNG = np.random.default_rng(0)
VALUES = {
    "none equal": RNG.random(3000),
    "many equal": RNG.integers(0, 50, 3000) / 7,
    "one key for all but an outlier": np.append(RNG.random(3000), 1e30),
    "few digits": 1e8 + 1e-7 * RNG.random(3000),
    "all equal": np.ones(5),
    "a range beyond the largest number": np.array([1e308, -1e308, 0, 0]),
    "a range near 0": np.array([5e-324, 0, 5e-324]),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_ranks_are_those_of_scipy(values):
    np.testing.assert_array_equal(rank(values), stats.rankdata(values))


def test_a_shuffled_product_is_that_of_a_shuffled_copy():
    F, G = (each + each.T for each in RNG.normal(size=(2, 30, 30)))
    order = RNG.permutation(30)
    np.testing.assert_allclose(shuffled_product(F, G, order), (F * G[order][:, order]).sum(), rtol=1e-12)
