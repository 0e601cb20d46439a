"""Hoyer's sparsity is that of the paper, in NumPy and in torch."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from neurosuper._sparsity import hoyer


@pytest.mark.parametrize(
    ("row", "expected"),
    [([0, 0, 3.0], 1), ([2.0, 2, 2], 0), ([3.0, 0, -4], (3**0.5 - 7 / 5) / (3**0.5 - 1)), ([-2.0], 1)],
)
def test_hoyer_is_one_for_a_single_active_code_and_zero_for_equal_ones(row, expected):
    for z in (np.array([row]), torch.tensor([row])):
        assert_allclose(hoyer(abs(z).sum(1), (z**2).sum(1) ** 0.5, len(row)), expected, atol=1e-6)
