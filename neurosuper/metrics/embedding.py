"""Embeddings of many images, batch by batch, so that neither images nor embeddings need to fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr

from neurosuper._progress import progress
from neurosuper.metrics.base import ImageMetric

__all__ = ["embed_in_batches"]

BATCH_BYTES = 2**26  # bytes of the embeddings of one batch, at most (64 MiB)
READ_AT_ONCE = 256  # images per block, if the stack is not a dask array with blocks of its own


def embed_in_batches(
    images: xr.DataArray, metric: ImageMetric, chosen: np.ndarray | None = None
) -> Iterator[torch.Tensor]:
    """Yield embeddings of a stack of images, in order, each image embedded once.

    The first batch is one image, which gives the size of an embedding; others have the `batch_size` of the metric, or
    as many images as have 64 MiB of embeddings.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        In memory, or a dask array whose blocks are read once.
    metric : ImageMetric
        If its `batch_size` is None, the whole stack is embedded in one call.
    chosen : array of int (image,), optional
        Sorted positions of the images to embed; None: all.

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
    with progress(total=len(chosen), desc=f"embedding for {metric.name}", unit="image", delay=1, leave=False) as bar:
        for block in _read(images, chosen):
            start = 0
            while start < block.sizes["stimulus"]:
                batch = metric.embed(block[start : start + size])
                yield batch
                bar.update(len(batch))
                start += size
                size = int(np.clip(BATCH_BYTES // (4 * batch.shape[1]), 1, metric.batch_size))


def _read(images: xr.DataArray, chosen: np.ndarray) -> Iterator[xr.DataArray]:
    """Yield the images at these sorted positions, read into memory block by block."""
    n = images.sizes["stimulus"]
    sizes = images.variable.chunksizes.get("stimulus") or [READ_AT_ONCE] * (n // READ_AT_ONCE + 1)
    for own in np.split(chosen, np.searchsorted(chosen, np.cumsum(sizes))):
        if len(own):
            yield images.isel(stimulus=own).compute()
