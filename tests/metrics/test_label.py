"""Label agreement: 1 − squared distance, against direct comparison; images without labels are refused by name."""

import numpy as np
import pytest
import torch

from neurosuper.metrics import Label


@pytest.mark.parametrize("dtype", [str, object, int])
def test_agreement_is_equality_of_labels(images, dtype):
    labels = np.arange(120) % 7 if dtype is int else images.category.values.astype(dtype)
    metric = Label("kind", device="cpu")
    embedding = metric.embed(images.assign_coords(kind=("stimulus", labels)))
    agreement = metric.self_similarity - torch.cdist(embedding, embedding).square()
    np.testing.assert_allclose(agreement, labels[:, None] == labels, atol=1e-6)


def test_mean_agreement_is_the_closed_form(images):
    """(M·Σp² − 1)/(M − 1) for label shares p among M images."""
    metric, some = Label(device="cpu"), images[:10]
    embedding = metric.embed(some)
    mean_distance = 2 / 90 * (10 * embedding.square().sum() - embedding.sum(0).square().sum())
    shares = np.unique(some.category, return_counts=True)[1] / 10
    assert metric.self_similarity - mean_distance.item() == pytest.approx((10 * (shares**2).sum() - 1) / 9, abs=1e-6)


def test_pixels_are_never_read(images):
    def fail(block):
        raise RuntimeError("pixels were read")

    lazy = images.chunk(stimulus=10)
    lazy.data = lazy.data.map_blocks(fail, dtype=np.uint8, meta=np.zeros((0, 0, 0, 0), np.uint8))
    assert Label(device="cpu").embed(lazy).shape == (120, 4)


def test_name_contains_the_coord():
    assert (Label().name, Label("animacy").name) == ("label", "label:animacy")


@pytest.mark.parametrize("missing", [None, np.nan, "", "  "])
def test_stimuli_without_label_are_named(images, missing):
    labels = images.category.values.astype(object)
    labels[[3, 7]] = missing
    with pytest.raises(ValueError, match="no category for stimulus 's0003', 's0007'; add it with load_images"):
        Label().embed(images.assign_coords(category=("stimulus", labels)))


def test_images_without_labels_are_refused(images):
    with pytest.raises(ValueError, match="images have no stimulus coord 'animacy'; add it"):
        Label("animacy").embed(images)
    with pytest.raises(ValueError, match="images have no stimulus coord 'channel'"):
        Label("channel").embed(images)
    with pytest.raises(TypeError, match="needs an images DataArray, got Tensor"):
        Label().embed(torch.zeros(2, 3, 8, 8))
