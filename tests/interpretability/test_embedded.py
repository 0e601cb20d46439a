import pytest
import torch
from numpy.testing import assert_allclose

from neurosuper.interpretability.embedded import FEATURES, _squared_distances, _squared_lengths


@pytest.fixture
def embeddings(rng):
    return torch.tensor(rng.normal(size=(30, 2 * FEATURES + 7)), dtype=torch.float32)


def test_compiled_distances_equal_those_of_torch(embeddings, rng):
    a, b = torch.tensor(rng.integers(0, 30, (11, 2))), torch.tensor(rng.integers(0, 30, (11, 5)))
    compiled, plain = _squared_distances(embeddings, a, b), _squared_distances(embeddings.double(), a, b)
    assert_allclose(compiled, plain, rtol=1e-6)


def test_compiled_lengths_equal_those_of_torch(embeddings, rng):
    at, weights = torch.tensor(rng.integers(0, 30, (11, 8))), torch.tensor(rng.random((11, 8)))
    compiled = _squared_lengths(embeddings, at, weights.float(), [2, 3, 8])
    plain = _squared_lengths(embeddings.double(), at, weights, [2, 3, 8])
    assert_allclose(compiled, plain, rtol=1e-5)
    sums = (weights[:, :3, None] * embeddings.double()[at[:, :3]]).sum(1)
    assert_allclose(plain[:, 1], (sums**2).sum(1), rtol=1e-12)
