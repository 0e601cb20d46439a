"""Batches of images from a labelled stack, or from a dataset or loader of torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
import xarray as xr
from PIL import Image
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from neurosuper._checks import one_line_with_type
from neurosuper._preprocessing import Preprocess, preprocess_images
from neurosuper.images import check_images
from neurosuper.responses import coords_along

SHUFFLED = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
MODES = ("1", "L", "RGB")  # of PIL, that become 8-bit RGB in one way only


class ImageBatches:
    """Images, read one batch at a time.

    Parameters
    ----------
    images : DataArray, Dataset or DataLoader
        See `activations`.
    batch_size : int
        Images per batch; a loader has its own.
    preprocess : callable or None
        See `activations`.

    Raises
    ------
    TypeError
        Not images.
    ValueError
        No images; a loader that shuffles.
    """

    def __init__(self, images: xr.DataArray | Dataset | DataLoader, batch_size: int, preprocess: Preprocess | None):
        self._batch_size, self._preprocess = batch_size, preprocess
        self._images = images if isinstance(images, Dataset | DataLoader) else check_images(images)
        if isinstance(images, DataLoader) and isinstance(images.sampler, SHUFFLED):
            raise ValueError("the loader shuffles its images, which are named by their position; pass shuffle=False")
        self.n_images = _count(self._images)
        if self.n_images == 0:
            raise ValueError("images contain no stimulus; pass at least one image")

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield the preprocessed images of each batch, (n, 3, row, column)."""
        if isinstance(self._images, xr.DataArray):
            for start in range(0, self._images.sizes["stimulus"], self._batch_size):
                pixels = self._images[start : start + self._batch_size].values
                yield preprocess_images(_to_tensor(pixels), self._preprocess)
            return
        n_read, parts = 0, self._read()
        while True:
            try:
                groups = next(parts, None)
            except Exception as error:  # datasets are the user's own code, and may fail in any way
                raise ValueError(
                    f"{type(self._images).__name__} fails after {n_read} images: {one_line_with_type(error)}"
                ) from error
            if groups is None:
                return
            n_read += sum(map(len, groups))
            yield self._to_input(groups)

    def labels(self, start: int, stop: int) -> np.ndarray:
        """Return the labels of some images, for messages."""
        if isinstance(self._images, xr.DataArray):
            return self._images.stimulus.values[start:stop]
        return np.arange(start, stop).astype(str)

    def coords(self, n_images: int) -> dict[str, Any]:
        """Return the coords along stimulus: those of the stack, or the positions in a dataset."""
        if isinstance(self._images, xr.DataArray):
            return coords_along(self._images, "stimulus")
        width = len(str(n_images - 1))
        return {"stimulus": [str(i).zfill(width) for i in range(n_images)]}

    def _read(self) -> Iterator[list[torch.Tensor]]:
        """Yield batches of a dataset or loader, each in parts (n, 3, row, column) of one size."""
        if isinstance(self._images, DataLoader):
            for batch in self._images:
                yield _as_batch(batch)
            return
        if isinstance(self._images, IterableDataset):
            items = iter(self._images)
        else:
            items = (self._images[i] for i in range(len(self._images)))  # type: ignore[arg-type]
        while batch := [_as_image(item) for item in islice(items, self._batch_size)]:
            yield (
                [torch.stack(batch)] if len({image.shape for image in batch}) == 1 else [image[None] for image in batch]
            )

    def _to_input(self, groups: list[torch.Tensor]) -> torch.Tensor:
        if self._preprocess is not None:
            low, high = min(float(group.min()) for group in groups), max(float(group.max()) for group in groups)
            if low < 0 or high > 1:
                raise ValueError(
                    f"{type(self._images).__name__} gives values from {low:.3g} to {high:.3g}, but preprocess takes "
                    "images in [0, 1]; leave out the transform of the dataset, or pass a network that has no preprocess"
                )
        inputs = [preprocess_images(group, self._preprocess) for group in groups]
        if len(sizes := {tuple(each.shape[1:]) for each in inputs}) > 1:
            raise ValueError(
                f"images of one batch have several shapes, such as {' and '.join(map(str, sorted(sizes)[:2]))}; pass "
                "preprocess= that gives them one size"
            )
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs)


def _count(images: xr.DataArray | Dataset | DataLoader) -> int | None:
    """Return the number of images; None if a dataset does not say."""
    if isinstance(images, xr.DataArray):
        return images.sizes["stimulus"]
    try:
        n_images = len(images.dataset if isinstance(images, DataLoader) else images)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None
    if isinstance(images, DataLoader) and images.batch_sampler is not None:
        n_images = min(n_images, len(images.sampler))  # type: ignore[arg-type]
        dropped = n_images % (images.batch_size or 1) if images.drop_last else 0
        return n_images - dropped
    return n_images


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 images (n, row, column, 3) as (n, 3, row, column) in [0, 1]."""
    return torch.from_numpy(np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")) / 255


def _first(item: object) -> object:
    """Return the image of an (image, target) pair."""
    return item[0] if isinstance(item, tuple | list) and len(item) else item


def _as_image(item: object) -> torch.Tensor:
    """Return an item of a dataset as a tensor (channel, row, column)."""
    image = _first(item)
    if isinstance(image, Image.Image):
        if image.mode not in MODES or image.has_transparency_data:
            raise ValueError(f"an image has mode {image.mode}; convert it to RGB in the dataset")
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return _to_tensor(image)
    if isinstance(image, torch.Tensor) and image.ndim == 3:
        return _scaled(image)
    raise TypeError(
        f"its items are {_describe(item)}; they must be images of PIL, arrays (row, column, 3) of uint8 or tensors "
        "(3, row, column), or tuples that begin with one"
    )


def _as_batch(batch: object) -> list[torch.Tensor]:
    images = _first(batch)
    if isinstance(images, torch.Tensor) and images.ndim == 4:
        return [_scaled(images)]
    raise TypeError(
        f"its batches are {_describe(batch)}; they must be tensors (n, 3, row, column), or tuples that begin with one"
    )


def _scaled(images: torch.Tensor) -> torch.Tensor:
    """Return images as float32, those of 8 bits in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _describe(item: object) -> str:
    image, kind = _first(item), type(item).__name__
    shape = f" {tuple(image.shape)} {image.dtype}" if isinstance(image, torch.Tensor | np.ndarray) else ""
    return f"{type(image).__name__}{shape}" if image is item else f"{kind} of {type(image).__name__}{shape}"
