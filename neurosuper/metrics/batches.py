"""Embeddings of many images, batch by batch, so that neither images nor embeddings need fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neurosuper.metrics.base import ImageMetric

__all__ = ["embed_in_batches"]

BATCH_BYTES = 2**26  # embeddings of one batch
READ_AT_ONCE = 256  # images, of a stack in memory


def embed_in_batches(images: xr.DataArray, metric: ImageMetric) -> Iterator[torch.Tensor]:
    """Embed a stack of images once, in order: one image, then as many at a time as the metric likes or 64 MiB hold.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        In memory or dask, of which each block is read once.
    metric : ImageMetric
        One without `batch_size` gets the whole stack in one call.

    Yields
    ------
    Tensor (image, feature)
        float32, on the metric's device.

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.zeros((5, 4, 4, 3), np.uint8))
    >>> [len(batch) for batch in embed_in_batches(images, Color("cpu"))]
    [1, 4]
    """
    if metric.batch_size is None:
        yield metric.embed(images)
        return
    size = 1
    n_images = images.sizes["stimulus"]
    with tqdm(total=n_images, desc=f"embedding for {metric.name}", unit="image", delay=1, leave=False) as bar:
        for block in _read(images):
            start = 0
            while start < block.sizes["stimulus"]:
                batch = metric.embed(block[start : start + size])
                yield batch
                bar.update(len(batch))
                start += size
                size = int(np.clip(BATCH_BYTES // (4 * batch.shape[1]), 1, metric.batch_size))


def _read(images: xr.DataArray) -> Iterator[xr.DataArray]:
    """Read images into memory, block by block."""
    n = images.sizes["stimulus"]
    sizes = images.chunksizes.get("stimulus") or [READ_AT_ONCE] * (n // READ_AT_ONCE + 1)
    start = 0
    for size in sizes:
        if start < n:
            yield images[start : start + size].compute()
        start += size
