"""Preprocess images for a network, by a function of a batch or of one PIL image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from neurosuper._checks import one_line_with_type

# From a batch (n, 3, row, column) in [0, 1] to the input of a network, or from one PIL image to one input.
Preprocess = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class EachImage:
    """Preprocessing of a batch by a function of one PIL image, as in the transforms of torchvision, timm and CLIP.

    Parameters
    ----------
    transform : callable
        From an RGB image of PIL to a tensor (channel, row, column).

    Examples
    --------
    >>> from torchvision.transforms import ToTensor
    >>> EachImage(ToTensor())(torch.zeros(2, 3, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """

    transform: Preprocess

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the inputs of a network for images (n, 3, row, column) in [0, 1].

        Raises
        ------
        TypeError
            Something else than a tensor for an image.
        """
        made = [self.transform(picture) for picture in to_pictures(images)]
        if wrong := [each for each in made if not isinstance(each, torch.Tensor)]:
            raise TypeError(f"an image became {type(wrong[0]).__name__}, not a tensor")
        return torch.stack(made)


def to_pictures(images: torch.Tensor) -> list[Image.Image]:
    """Return images (n, 3, row, column) in [0, 1] as RGB images of PIL, of 8 bits: exact if they had 8 bits before."""
    pixels = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(np.ascontiguousarray(image)) for image in pixels.cpu().numpy()]


def preprocess_images(images: torch.Tensor, preprocess: Preprocess | None) -> torch.Tensor:
    """Return preprocessed images for a network, from images (n, 3, row, column) in [0, 1].

    A function that fails on the batch is called with each image, as an RGB image of PIL.

    Raises
    ------
    ValueError
        `preprocess` fails on both, or does not return one tensor with the same number of images.
    """
    if preprocess is None:
        return images
    takes = f"preprocess takes a tensor {tuple(images.shape)} of float32 in [0, 1]"
    try:
        batch = preprocess(images)
    except Exception as error:  # the user's own code may fail in any way
        if isinstance(preprocess, EachImage):
            raise ValueError(
                f"preprocess takes single images of PIL, and fails: {one_line_with_type(error)}"
            ) from error
        try:
            batch = EachImage(preprocess)(images)
        except Exception as other:
            raise ValueError(
                f"{takes}, or one image of PIL, and fails on the tensor: {one_line_with_type(error)}; and on an image: "
                f"{one_line_with_type(other)}"
            ) from error
    if not isinstance(batch, torch.Tensor) or batch.shape[:1] != images.shape[:1]:
        got = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise ValueError(f"{takes}, and must return a tensor of {len(images)} images, got {got}")
    return batch
