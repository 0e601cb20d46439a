"""All distances at once, against scipy on the embeddings; small tiles and slabs give the same as large ones."""

import numpy as np
import pytest
import torch
import torchvision
from scipy.spatial.distance import cdist
from torch import nn

from neurosuper.metrics import LPIPS, Color, Features, Label, Pixel, Precomputed, distances, pairwise_distances, slabs
from neurosuper.metrics import embedding as batches


def squeeze(folder) -> LPIPS:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), folder / "squeezenet.pth")
    return LPIPS("squeeze", weights=folder / "squeezenet.pth", device="cpu")


def features(_folder) -> Features:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Features(nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.Tanh()), "1", device="cpu")


METRICS = {
    "pixel": lambda _: Pixel(device="cpu"),
    "color": lambda _: Color(device="cpu"),
    "label": lambda _: Label(device="cpu"),
    "features": features,
    "LPIPS": squeeze,
}


@pytest.fixture(params=METRICS)
def metric(request, tmp_path):
    return METRICS[request.param](tmp_path)


@pytest.fixture
def with_small_tiles(monkeypatch):
    """Many tiles and slabs, of unequal size, in a file; batches of few images."""
    monkeypatch.setattr(distances, "TILE", 5)
    monkeypatch.setattr(distances, "TILE_FEATURES", 20)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 20 * 4 * 12)
    monkeypatch.setattr(batches, "BATCH_BYTES", 20_000)
    monkeypatch.setattr(batches, "READ_AT_ONCE", 7)


def expected_distances(images, metric) -> np.ndarray:
    embedding = metric.embed(images).numpy().astype(float)
    return cdist(embedding, embedding, "sqeuclidean" if metric.squared else "euclidean")


def enlarge(images):
    return images.pad({"row": 8, "column": 8}, mode="edge")


def test_distances_equal_those_between_embeddings(images, metric):
    images = enlarge(images[:12])
    ours = pairwise_distances(images, metric)
    np.testing.assert_allclose(ours, expected_distances(images, metric), rtol=1e-5, atol=1e-7)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, ours.T)
    assert not ours.values.diagonal().any()


@pytest.mark.usefixtures("with_small_tiles")
@pytest.mark.parametrize("chunked", [False, True])
def test_tiles_and_slabs_make_no_difference(images, metric, chunked):
    images = enlarge(images[:12])
    given = images.chunk(stimulus=5).transpose("channel", ...) if chunked else images
    ours = pairwise_distances(given, metric)
    np.testing.assert_allclose(ours, expected_distances(images, metric), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(ours, ours.T)


def test_near_copies_have_a_distance(images):
    """One value of one pixel differs by one step: float32 sums of squares would lose it."""
    pair = images[[0, 0]].assign_coords(stimulus=["one", "other"]).copy()
    pair[1, 3, 4, 0] = pair[0, 3, 4, 0] + 1
    assert pairwise_distances(pair, Pixel(device="cpu"))[0, 1].item() == pytest.approx(1 / 255, rel=1e-5)


def test_agreement_of_labels_is_one_minus_distance(images):
    same = images.category.values[:, None] == images.category.values
    ours = pairwise_distances(images, Label(device="cpu"))
    np.testing.assert_allclose(1 - ours, same, atol=1e-6)
    assert ours.quantity == "1 − label agreement"


def test_labels_coords_and_attrs(images):
    ours = pairwise_distances(images[3:8], Color(device="cpu"))
    assert (ours.dims, ours.name) == (("stimulus", "other"), "distance")
    assert ours.stimulus.equals(images.stimulus[3:8])
    assert ours.other.values.tolist() == images.stimulus.values[3:8].tolist()
    assert ours.attrs == {"metric": "color", "quantity": "color distance (mean RGB, 0–1)"}


@pytest.mark.usefixtures("with_small_tiles")
def test_each_image_is_embedded_once(images):
    class Counting(Pixel):
        seen = ()

        def embed(self, images):
            self.seen += tuple(images.stimulus.values)
            return super().embed(images)

    metric = Counting(device="cpu")
    pairwise_distances(images, metric)
    assert metric.seen == tuple(images.stimulus.values)


def test_computed_distances_are_a_metric_in_turn(images):
    ours = pairwise_distances(images[:20], Color(device="cpu"))
    metric = Precomputed(ours)
    np.testing.assert_array_equal(metric.distances_between(ours.stimulus.values), ours)
    again = pairwise_distances(images[5:15], metric)
    np.testing.assert_array_equal(again, ours[5:15, 5:15])
    assert again.attrs == ours.attrs


def test_one_image_and_none(images):
    assert pairwise_distances(images[:1], Color(device="cpu")).values.tolist() == [[0]]
    with pytest.raises(ValueError, match="pairwise_distances needs at least one image, got none; see load_images"):
        pairwise_distances(images[:0], Color(device="cpu"))


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(images):
    np.testing.assert_allclose(
        pairwise_distances(images, Pixel(device="cuda")), pairwise_distances(images, Pixel(device="cpu")), rtol=1e-5
    )
