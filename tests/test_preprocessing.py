"""Images reach a network through a function of a batch or of single PIL images, and errors say what each takes."""

import numpy as np
import pytest
import torch
from torchvision import transforms

from neurosuper._preprocessing import EachImage, preprocess_images, to_pictures


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Four images of 8 bits, as (n, 3, row, column) in [0, 1]."""
    return torch.randint(256, (4, 3, 8, 12), generator=torch.Generator().manual_seed(0)) / 255


def refuse(message: str, images: torch.Tensor, preprocess: object) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        preprocess_images(images, preprocess)
    assert "\n" not in str(caught.value)


def test_images_of_8_bits_are_the_same_as_pictures(images):
    for image, picture in zip(images, to_pictures(images), strict=True):
        assert picture.mode == "RGB"
        assert picture.size == (12, 8)
        np.testing.assert_array_equal(np.asarray(picture), (image.permute(1, 2, 0).double() * 255).round().numpy())


def test_without_preprocess_images_are_unchanged(images):
    assert preprocess_images(images, None) is images


def test_a_function_of_a_batch_sees_the_batch(images):
    seen = []
    torch.testing.assert_close(preprocess_images(images, lambda x: seen.append(x.shape) or 1 - x), 1 - images)
    assert seen == [(4, 3, 8, 12)]


CLIP = [transforms.Resize(6), transforms.CenterCrop(6), lambda picture: picture.convert("RGB"), transforms.ToTensor()]


@pytest.mark.parametrize("steps", [CLIP, CLIP[3:]], ids=["CLIP", "ToTensor"])
def test_transforms_of_pictures_see_one_picture_each(images, steps):
    preprocess = transforms.Compose(steps)
    expected = torch.stack([preprocess(picture) for picture in to_pictures(images)])
    assert torch.equal(preprocess_images(images, preprocess), expected)
    assert torch.equal(preprocess_images(images, EachImage(preprocess)), expected)


def test_pictures_are_never_given_to_a_function_that_takes_the_batch(images):
    both = transforms.Compose([transforms.Resize(4, antialias=True)])
    torch.testing.assert_close(preprocess_images(images, both), both(images))


def test_a_function_that_fails_on_both_names_both_errors(images):
    message = (
        r"takes a tensor \(4, 3, 8, 12\) .*, or one image of PIL, and fails on the tensor: .*convert.*; and on an image"
    )
    refuse(message, images, lambda x: x.convert("RGB").no_such_method())
    refuse("ZeroDivisionError", images, lambda x: 1 / 0)


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (lambda x: x[0], r"must return a tensor of 4 images, got \(3, 8, 12\)"),
        (lambda x: x.numpy(), "must return a tensor of 4 images, got ndarray"),
        (
            EachImage(lambda picture: picture),
            "preprocess takes single images of PIL, and fails: TypeError: an image became Image",
        ),
        (EachImage(lambda picture: 1 / 0), "preprocess takes single images of PIL, and fails: ZeroDivisionError"),
    ],
)
def test_other_results_are_refused(images, preprocess, message):
    refuse(message, images, preprocess)
