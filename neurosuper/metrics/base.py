"""The protocol of an image metric, and the conversion of images to pixel tensors.

The distance between two images is the Euclidean distance between their embeddings, or its square if the metric is
`squared`. So each image is embedded only once, and no pair of images is computed twice.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr

from neurosuper._torch import pick_device
from neurosuper.images import check_images

__all__ = ["ImageMetric", "check_metric", "pixels"]

Images = xr.DataArray | torch.Tensor | np.ndarray


@runtime_checkable
class ImageMetric(Protocol):
    """Members of an image metric: the distance between images is the (squared) distance between their embeddings.

    Any object with these members is a metric; nothing needs to be inherited or registered. A class that inherits from
    `ImageMetric` lets type checkers see a list of different metrics as a list of metrics.

    See Also
    --------
    LPIPS, Features, Color, Pixel, Label, Precomputed : the metrics of this package.
    neurosuper.metrics.cached : keep the embeddings of any metric on disk.

    Examples
    --------
    >>> from neurosuper.metrics import Color
    >>> isinstance(Color(), ImageMetric)
    True
    """

    @property
    def name(self) -> str:
        """Short name, for tables: `"LPIPS-alex"`."""

    @property
    def quantity(self) -> str:
        """The measured quantity, as text for an axis label."""

    @property
    def squared(self) -> bool:
        """Whether the distance is the squared Euclidean distance between embeddings, not the distance itself."""

    @property
    def self_similarity(self) -> float:
        """Similarity of an image with itself: the index is `self_similarity` − mean distance."""

    @property
    def batch_size(self) -> int | None:
        """Number of images to embed at a time; None: all at once."""

    def embed(self, images: Images) -> torch.Tensor:
        """Return the embedding of each image, which depends on no other image.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            Labelled images are uint8 (see `load_images`), others floating point in [0, 1].

        Returns
        -------
        Tensor (image, feature)
            In float32, on the metric's device.
        """


def check_metric(metric: object) -> ImageMetric:
    """Return an image metric, or raise an error if the object is not one.

    Raises
    ------
    TypeError
        A name, a class that was not called, a function, or any other object without the members of `ImageMetric`.

    See Also
    --------
    ImageMetric : the members of a metric.

    Examples
    --------
    >>> check_metric("LPIPS")
    Traceback (most recent call last):
    TypeError: a metric must be an object such as neurosuper.LPIPS() or neurosuper.Color(), got 'LPIPS'
    """
    if isinstance(metric, type) or not isinstance(metric, ImageMetric):
        got = (
            "the class " + metric.__name__ + ", which is not called" if isinstance(metric, type) else repr(metric)[:80]
        )
        raise TypeError(f"a metric must be an object such as neurosuper.LPIPS() or neurosuper.Color(), got {got}")
    return metric


def pixels(images: Images, device: str | torch.device | None = None) -> torch.Tensor:
    """Return images as RGB in [0, 1].

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
        Labelled images are uint8 (see `load_images`), others floating point in [0, 1].
    device : str or torch.device, optional
        None is the GPU if there is one.

    Returns
    -------
    Tensor (image, 3, row, column)
        In float32 and [0, 1], on the device.

    Raises
    ------
    TypeError
        Neither DataArray, tensor nor ndarray; integers that are not a labelled stack.
    ValueError
        No image, another shape, or values outside [0, 1]: images in [−1, 1], or normalised by mean and standard
        deviation, would give wrong scores.

    See Also
    --------
    neurosuper.load_images : load images as a labelled stack.

    Examples
    --------
    >>> from neurosuper.images import load_images
    >>> pixels(load_images(np.full((1, 2, 2, 3), 255, np.uint8)), "cpu").shape
    torch.Size([1, 3, 2, 2])
    """
    chosen = pick_device(device)
    if isinstance(images, xr.DataArray):
        values = np.require(check_images(images).values, requirements=["C", "W"])  # torch takes no other array
        stack = _check_shape(torch.from_numpy(values).to(chosen).permute(0, 3, 1, 2))
        return stack.to(torch.float32, memory_format=torch.contiguous_format).div_(255)  # transposed and cast in one
    return _check_range(_check_shape(_as_tensor(images)).to(chosen, torch.float32))


def _as_tensor(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        return torch.from_numpy(images.astype(np.float32, order="C"))
    if isinstance(images, torch.Tensor) and images.is_floating_point():
        return images.detach()
    if isinstance(images, torch.Tensor | np.ndarray):
        raise TypeError(f"images must be floating point in [0, 1], got {images.dtype}; divide 0–255 by 255")
    raise TypeError(f"images must be a DataArray, tensor or ndarray, got {type(images).__name__}; see load_images")


def _check_shape(images: torch.Tensor) -> torch.Tensor:
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(
            f"images must be (image, 3, row, column) with at least one image, got shape {tuple(images.shape)}; "
            "permute them, or pass a labelled stack (see load_images)"
        )
    return images


def _check_range(images: torch.Tensor) -> torch.Tensor:
    low, high = (value.item() for value in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images must be in [0, 1], got [{low:.3g}, {high:.3g}]; undo their scaling: x / 255 for 0–255, "
            "(x + 1) / 2 for −1–1, x * std + mean where mean and std were normalised"
        )
    return images
