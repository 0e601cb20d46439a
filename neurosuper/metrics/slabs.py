"""Embeddings of images in slabs of all images and some features, so that only one slab need be in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
import torch
import xarray as xr

from neurosuper.metrics.base import ImageMetric
from neurosuper.metrics.embedding import embed_in_batches

__all__ = ["Slabs"]

SLAB_BYTES = 2**25  # bytes of a slab (32 MiB): rows are gathered faster from it than from larger ones
IN_MEMORY = 4  # slabs: embeddings of at most this size stay in memory, without a file


class Slabs:
    """Images embedded once, batch by batch, and read back slab by slab.

    Small embeddings stay in one slab, on the metric's device; others are stored in a file, in slabs of at most 32 MiB.
    Embeddings of squared metrics are stored less that of a typical image: means of their distances come from norms and
    sums, which would lose the digits of embeddings far from 0.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric
    file : binary file
        Open for reading and writing while slabs are read.
    chosen : array of int (image,), optional
        Sorted positions of the images to embed; None: all.

    Examples
    --------
    >>> import tempfile
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.zeros((5, 4, 4, 3), np.uint8))
    >>> with tempfile.TemporaryFile() as file:
    ...     [tuple(E.shape) for E in Slabs(images, Color(device="cpu"), file)]
    [(5, 3)]
    """

    def __init__(
        self, images: xr.DataArray, metric: ImageMetric, file: BinaryIO, chosen: np.ndarray | None = None
    ) -> None:
        self.n_images, self._file = images.sizes["stimulus"] if chosen is None else len(chosen), file
        batches = embed_in_batches(images, metric, chosen)
        start = list(itertools.islice(batches, 2))  # one image, and a batch of them
        first = start[0]
        self.device = first.device
        # Differences e_a − e_b, of other metrics, are exact without a centre.
        self._center = _typical(torch.cat(start)) if metric.squared else None
        width = max(1, SLAB_BYTES // (4 * self.n_images))
        self._edges = [*range(0, first.shape[1], width), first.shape[1]]
        is_small = first.shape[1] <= IN_MEMORY * width
        self._whole = first.new_empty(self.n_images, first.shape[1]) if is_small else None
        self._keep_all(itertools.chain(start, batches))

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield slabs `(image, feature)`, on the device."""
        if self._whole is not None:
            yield self._whole
            return
        self._file.flush()
        for left, right in itertools.pairwise(self._edges):
            shape, offset = (self.n_images, right - left), 4 * self.n_images * left
            yield torch.from_numpy(np.memmap(self._file, np.float32, "c", offset, shape)).to(self.device)

    def _keep_all(self, batches: Iterable[torch.Tensor]) -> None:
        """Store embeddings, each batch while the next is computed."""
        start = 0
        with ThreadPoolExecutor(1, "neurosuper-slab") as pool:
            keeping: Future[None] | None = None
            for batch in (each.detach() for each in batches):
                if keeping is not None:
                    keeping.result()
                keeping = pool.submit(self._keep, start, batch)
                start += len(batch)
            if keeping is not None:
                keeping.result()

    def _keep(self, start: int, batch: torch.Tensor) -> None:
        batch = batch if self._center is None else batch - self._center
        if self._whole is not None:
            self._whole[start : start + len(batch)] = batch
            return
        # A slab is contiguous in the file, so that a batch of rows is written in one piece per slab.
        values = batch.cpu().numpy()
        for left, right in itertools.pairwise(self._edges):
            self._file.seek(4 * (self.n_images * left + start * (right - left)))
            self._file.write(np.ascontiguousarray(values[:, left:right], dtype=np.float32).data)


def _typical(E: torch.Tensor) -> torch.Tensor:
    """Return the embedding that is nearest to the mean of some.

    e − c has the same distances as e, for any c; near the mean, what is left of an offset is of the order of the spread
    of embeddings. With an embedding as c, differences of one-hot embeddings are exact.
    """
    mean = E.mean(0, dtype=torch.float64).to(E.dtype)
    return E[(E - mean).square().sum(1).argmin()]
