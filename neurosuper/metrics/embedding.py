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


def embed_in_batches(
    images: xr.DataArray, metric: ImageMetric, chosen: np.ndarray | None = None
) -> Iterator[torch.Tensor]:
    """Embed a stack of images once, in order: one image, then as many at a time as the metric likes or 64 MiB hold.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        In memory or dask, of which each block is read once.
    metric : ImageMetric
        One without `batch_size` gets the whole stack in one call.
    chosen : array of int (image,), optional
        Rising positions of those that are embedded; None: all.

    Yields
    ------
    Tensor (image, feature)
        float32, on the metric's device.

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.zeros((5, 4, 4, 3), np.uint8))
    >>> [len(batch) for batch in embed_in_batches(images, Color(device="cpu"))]
    [1, 4]
    """
    chosen = np.arange(images.sizes["stimulus"]) if chosen is None else chosen
    if metric.batch_size is None:
        yield metric.embed(images.isel(stimulus=chosen))
        return
    size = 1
    with tqdm(total=len(chosen), desc=f"embedding for {metric.name}", unit="image", delay=1, leave=False) as bar:
        for block in _read(images, chosen):
            start = 0
            while start < block.sizes["stimulus"]:
                batch = metric.embed(block[start : start + size])
                yield batch
                bar.update(len(batch))
                start += size
                size = int(np.clip(BATCH_BYTES // (4 * batch.shape[1]), 1, metric.batch_size))


def _read(images: xr.DataArray, chosen: np.ndarray) -> Iterator[xr.DataArray]:
    """Read the images at these rising positions into memory, block by block."""
    n = images.sizes["stimulus"]
    sizes = images.variable.chunksizes.get("stimulus") or [READ_AT_ONCE] * (n // READ_AT_ONCE + 1)
    for own in np.split(chosen, np.searchsorted(chosen, np.cumsum(sizes))):
        if len(own):
            yield images.isel(stimulus=own).compute()
