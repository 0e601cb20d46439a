import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from neurosuper.directions import Random, random


@pytest.mark.parametrize("n", [3, 8])
def test_up_to_the_number_of_units_directions_are_orthonormal(n, responses):
    D = Random(n).fit(responses).directions_.values
    assert_allclose(D @ D.T, np.eye(n), atol=1e-5)


def test_more_directions_than_units_are_uniform_on_the_sphere(responses):
    D = Random(2000, random_state=1).fit(responses).directions_.values
    assert D.shape == (2000, 8)
    alignment = D[:1000] @ D[1000:].T
    squared_cosines = np.random.default_rng(0).choice(alignment.ravel() ** 2, 1000, replace=False)
    assert stats.kstest(squared_cosines, stats.beta(0.5, 3.5).cdf).pvalue > 0.01


def test_seeds_differ(responses):
    first, second = (Random(random_state=seed).fit(responses).directions_.values for seed in (0, 1))
    assert np.abs(first - second).max() > 0.1


def test_rotations_are_uniform_but_for_signs_which_skew_codes_to_the_right(responses):
    """The square of each entry of a random unit vector in 8 dimensions is Beta(1/2, 7/2); squares know no sign."""
    rotations = np.stack([Random(random_state=seed).fit(responses).directions_.values for seed in range(60)])
    for row in (0, 7):
        for column in (0, 7):
            assert stats.kstest(rotations[:, row, column] ** 2, stats.beta(0.5, 3.5).cdf).pvalue > 0.01
    codes = np.einsum("su,rdu->rds", responses.values - responses.values.mean(0), rotations)
    assert (stats.skew(codes, axis=2) > 0).all()


@pytest.mark.parametrize("n", [1, 5, 16, 31, 33, 65, 100])
def test_numbers_drawn_a_few_rows_at_a_time_are_those_of_the_whole_matrix(n, monkeypatch):
    monkeypatch.setattr(random, "DRAWN", 512)
    whole = torch.randn(n, n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for n_columns in {1, n}:
        drawn = random._draw(n, n_columns, torch.Generator().manual_seed(3))
        np.testing.assert_array_equal(drawn, whole[:, :n_columns])
