"""Lengths of penalised directions, against a search by SciPy."""

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from neurosuper.directions._solvers.nmf_alternation import Penalties, _rescale


def test_directions_have_the_length_that_minimises_the_penalties(rng):
    Z, D = rng.gamma(1, size=(30, 4)), rng.gamma(1, size=(4, 6))
    Z[:, 3] = 0  # a direction without codes keeps its length
    penalties = Penalties(0.3, 0.2, 0.5, 0.1)
    sums = tuple(torch.from_numpy(each) for each in (Z.T @ Z, Z.T @ Z, Z.sum(0), Z.sum(0)))
    found = _rescale(sums, torch.from_numpy(D), penalties).numpy()
    for k in range(3):

        def total(log, k=k):
            z, d = Z[:, k] / np.exp(log), D[k] * np.exp(log)
            lengths = penalties.l1_codes * z.sum() + penalties.l2_codes * (z**2).sum() / 2
            return lengths + penalties.l1_directions * d.sum() + penalties.l2_directions * (d**2).sum() / 2

        best = np.exp(minimize_scalar(total, bounds=(-8, 8), method="bounded", options={"xatol": 1e-10}).x)
        np.testing.assert_allclose(found[k], best * D[k], rtol=1e-5)
    np.testing.assert_array_equal(found[3], D[3])
