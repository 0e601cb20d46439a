"""Every metric has the members of the protocol, takes pixels, and is a distance."""

import copy

import numpy as np
import pytest
import torch
import torchvision
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from neurosuper.metrics import LPIPS, Color, Features, ImageMetric, Label, Pixel
from neurosuper.metrics.base import check_metric, pixels

NAMES = ("LPIPS-squeeze", "pixel", "color", "label", "features:0")


def make_metric(name: str, weights, device: str | None = "cpu") -> ImageMetric:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), nn.Tanh())
    made = (
        LPIPS("squeeze", weights=weights, device=device),
        Pixel(device=device),
        Color(device=device),
        Label(device=device),
        Features(model, "0", device=device),
    )
    return next(metric for metric in made if metric.name == name)


@pytest.fixture(scope="module")
def squeeze_weights(tmp_path_factory):
    """A file of random SqueezeNet weights."""
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module", params=NAMES)
def metric(request, squeeze_weights):
    return make_metric(request.param, squeeze_weights)


def label_images(stack: np.ndarray, categories: list[str]) -> xr.DataArray:
    return xr.DataArray(
        stack,
        dims=("stimulus", "row", "column", "channel"),
        coords={"stimulus": [f"s{i}" for i in range(len(stack))], "category": ("stimulus", categories)},
    )


def distances(metric: ImageMetric, embedding: torch.Tensor) -> torch.Tensor:
    apart = torch.cdist(embedding, embedding, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.square() if metric.squared else apart


def test_every_metric_meets_the_contract(metric, images):
    embedding = metric.embed(images[:3].pad({"row": 8, "column": 8}, mode="edge"))
    assert isinstance(metric, ImageMetric)
    assert embedding.dtype == torch.float32
    assert embedding.ndim == 2
    assert len(embedding) == 3
    assert repr(metric).startswith(type(metric).__name__ + "(")


def test_an_image_agrees_with_itself_or_is_at_no_distance(metric, rng):
    images = label_images(np.repeat(rng.integers(0, 256, (1, 32, 32, 3), np.uint8), 2, axis=0), ["cat", "cat"])
    same = distances(metric, metric.embed(images))[0, 1]
    assert metric.self_similarity - same == pytest.approx(1 if metric.name == "label" else 0, abs=1e-6)


def test_metrics_of_one_kind_are_distinguished(metric):
    """They may be keys, as every object may, and are equal to themselves alone."""
    assert len({metric, copy.copy(metric)}) == 2


stacks = arrays(np.uint8, (3, 32, 32, 3))
categories = st.lists(st.sampled_from(["cat", "dog", "owl"]), min_size=3, max_size=3)


@settings(max_examples=10, deadline=None)
@given(stack=stacks, categories=categories, order=st.permutations(range(4)))
def test_distance_laws(metric, stack, categories, order):
    stack, categories = np.concatenate([stack, stack[:1]]), [*categories, categories[0]]
    embedding = metric.embed(label_images(stack, categories))
    apart = distances(metric, embedding)
    assert (apart >= 0).all()
    torch.testing.assert_close(apart, apart.T)
    assert apart[0, 3] == pytest.approx(0, abs=1e-6), "the fourth image is the first one again"
    permuted = metric.embed(label_images(stack[order], [categories[i] for i in order]))
    torch.testing.assert_close(permuted, embedding[list(order)], rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_gpu_agrees_with_cpu(name, squeeze_weights, rng, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    images = label_images(rng.integers(0, 256, (4, 40, 40, 3), np.uint8), list("abca"))
    there, here = (make_metric(name, squeeze_weights, device) for device in ("cuda", "cpu"))
    on_gpu = there.embed(images)
    assert on_gpu.device.type == "cuda"
    torch.testing.assert_close(
        distances(there, on_gpu).cpu(), distances(here, here.embed(images)), rtol=1e-4, atol=1e-6
    )


def test_pixels_of_a_labelled_stack_are_its_values_over_255(images):
    ours = pixels(images[:5], "cpu").numpy()
    np.testing.assert_allclose(ours, images[:5].transpose("stimulus", "channel", "row", "column") / 255, rtol=1e-6)


@pytest.mark.parametrize("chunked", [False, True])
def test_pixels_are_the_same_however_images_come(images, chunked):
    expected = pixels(images[:5], "cpu")
    stack = images[:5].chunk(stimulus=2) if chunked else images[:5]
    torch.testing.assert_close(pixels(stack.transpose("channel", ...), "cpu"), expected, rtol=0, atol=0)
    torch.testing.assert_close(pixels(expected.double(), "cpu"), expected, rtol=0, atol=0)
    torch.testing.assert_close(pixels(expected.numpy()[::-1], "cpu"), expected.flip(0), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (torch.full((1, 3, 4, 4), -1.0), ValueError, r"\[0, 1\], got \[-1, -1\].*\(x \+ 1\) / 2"),
        (torch.full((1, 3, 4, 4), 2.64), ValueError, r"got \[2.64, 2.64\].*x \* std \+ mean"),
        (np.full((1, 3, 4, 4), 255.0), ValueError, r"got \[255, 255\].*x / 255"),
        (torch.full((1, 3, 4, 4), torch.nan), ValueError, r"got \[nan, nan\]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), TypeError, "got torch.uint8; divide"),
        (np.zeros((1, 3, 4, 4), int), TypeError, "got int64; divide"),
        (torch.zeros(1, 4, 4, 3), ValueError, r"got shape \(1, 4, 4, 3\); permute"),
        (torch.zeros(3, 4, 4), ValueError, r"got shape \(3, 4, 4\)"),
        (torch.zeros(0, 3, 4, 4), ValueError, "at least one image"),
        ([[0.5]], TypeError, "got list; see load_images"),
        (xr.DataArray(np.zeros((2, 4, 4, 3))), ValueError, "images need the dims"),
    ],
)
def test_wrong_images_are_refused_with_the_remedy(wrong, error, message):
    with pytest.raises(error, match=message) as caught:
        pixels(wrong, "cpu")
    assert "\n" not in str(caught.value)


def test_images_without_a_dim_of_rows_are_refused():
    with pytest.raises(ValueError, match=r"images must be \(image, 3, row, column\).*got shape \(2, 3, 4\)"):
        pixels(torch.zeros(2, 3, 4), "cpu")


def test_a_class_in_place_of_a_metric_is_named():
    with pytest.raises(TypeError, match="got the class Color, which is not called"):
        check_metric(Color)


@pytest.mark.parametrize("view", [lambda x: x[::-1], lambda x: x[:, ::2], lambda x: x.copy()], ids=["back", "2nd", "w"])
def test_pixels_of_a_view_or_of_memory_that_must_not_be_written_are_those_of_a_copy(view):
    values = view(np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8))
    values.flags.writeable = False
    images = xr.DataArray(values, dims=("stimulus", "row", "column", "channel"), coords={"stimulus": list("abc")})
    before = values.copy()
    np.testing.assert_array_equal(pixels(images, "cpu").numpy(), before.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.testing.assert_array_equal(values, before)
