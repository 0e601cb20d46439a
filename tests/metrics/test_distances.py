import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist, squareform

from neurosuper import Pixel
from neurosuper.metrics import distances as embedded
from neurosuper.metrics import slabs
from neurosuper.metrics.distances import CACHED_FEATURES, _squared_distances, _squared_lengths, open_distances


class SquaredPixel(Pixel):
    """A squared metric, as LPIPS is one."""

    squared = True


@pytest.fixture
def embeddings(rng):
    return torch.tensor(rng.normal(size=(30, 2 * CACHED_FEATURES + 7)), dtype=torch.float32)


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


@pytest.mark.parametrize("kind", [Pixel, SquaredPixel], ids=["distances", "squared distances"])
@pytest.mark.parametrize("slab_bytes", [2**25, 2**10], ids=["one slab", "slabs in a file"])
def test_a_matrix_and_its_mean_are_those_of_all_pairs(images, monkeypatch, kind, slab_bytes):
    metric = kind(device="cpu")
    monkeypatch.setattr(slabs, "SLAB_BYTES", slab_bytes)
    expected = pdist(metric.embed(images).double(), "sqeuclidean" if metric.squared else "euclidean")
    with open_distances(images, np.arange(len(images)), metric) as distances:
        as_matrix = distances.as_matrix()
        assert_allclose(as_matrix.table, squareform(expected), rtol=1e-4, atol=1e-4)
        assert_allclose([distances.mean_of_all(), as_matrix.mean_of_all()], expected.mean(), rtol=1e-5)
        i, j = np.triu_indices(len(images), 1)
        for few in (slice(None, None, 50), slice(None)):  # from differences, and from the matrix
            assert_allclose(distances.of_pairs(i[few], j[few]), expected[few], rtol=1e-4)


def test_a_matrix_of_tiles_is_symmetric_and_that_of_all_pairs(images, monkeypatch):
    monkeypatch.setattr(embedded, "MATRIX_ROWS", 7)
    metric = SquaredPixel(device="cpu")
    with open_distances(images, np.arange(len(images)), metric) as distances:
        table = distances.matrix().table
    assert_allclose(table, squareform(pdist(metric.embed(images).double(), "sqeuclidean")), rtol=1e-4, atol=1e-4)
    assert (table == table.T).all()
    assert (np.diag(table) == 0).all()


def test_distances_of_too_many_images_are_computed_each_time(images, monkeypatch):
    monkeypatch.setattr(embedded, "MAX_MATRIX_IMAGES", len(images) - 1)
    with open_distances(images, np.arange(len(images)), Pixel(device="cpu")) as distances:
        assert distances.as_matrix() is distances


class FarFromOrigin(SquaredPixel):
    """A squared metric whose embeddings have an offset that is a multiple of their standard deviation."""

    def __init__(self, offset, batch_size):
        super().__init__(device="cpu")
        self.offset, self.batch_size = offset, batch_size

    def embed(self, images):
        near = super().embed(images)
        return near + self.offset * 0.3  # the standard deviation of pixels is about 0.3


@pytest.mark.parametrize("offset", [0, 1e3, 1e4])
@pytest.mark.parametrize("slab_bytes", [2**25, 2**10], ids=["one slab", "slabs in a file"])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_an_offset_of_the_embeddings_does_not_change_means_of_squared_distances(
    images, monkeypatch, rng, offset, slab_bytes, batch_size
):
    """Oracle: every pair, in float64, from the same float32 embeddings."""
    metric = FarFromOrigin(offset, batch_size)
    monkeypatch.setattr(slabs, "SLAB_BYTES", slab_bytes)
    embedded_alone = metric.embed(images).double().numpy()
    positions, weights = rng.permuted(np.tile(np.arange(len(images)), (7, 1)), axis=1)[:, :6], rng.random((7, 6))
    i, j = np.triu_indices(6, 1)
    expected = []
    for row, w in zip(positions, weights, strict=True):
        squares = pdist(embedded_alone[row], "sqeuclidean")
        expected.append((w[i] * w[j] * squares).sum() / (w[i] * w[j]).sum())
    with open_distances(images, np.arange(len(images)), metric) as distances:
        assert_allclose(distances.mean(positions, weights, [6])[:, 0], expected, rtol=1e-5)
        assert_allclose(distances.mean_of_all(), pdist(embedded_alone, "sqeuclidean").mean(), rtol=1e-5)
        assert_allclose(distances.as_matrix().table, squareform(pdist(embedded_alone, "sqeuclidean")), atol=1e-3)
