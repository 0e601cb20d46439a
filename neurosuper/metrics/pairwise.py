"""The distances between all pairs of images under a metric.

E (image, feature) embeddings, G = E Eᵀ: squared distances are ‖eᵢ‖² + ‖eⱼ‖² − 2 Gᵢⱼ. Embeddings lie in a file in slabs
of features, one after the other; G is summed over slabs, tile by tile, in double precision.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neurosuper.images import check_images
from neurosuper.metrics.base import ImageMetric
from neurosuper.metrics.batches import embed_in_batches
from neurosuper.metrics.precomputed import Precomputed
from neurosuper.responses import coords_along

__all__ = ["pairwise"]

TILE = 4096  # images a side
SLAB = 2048  # features
IN_MEMORY = 2**28  # bytes of embeddings that need no file


def pairwise(images: xr.DataArray, metric: ImageMetric | Precomputed) -> xr.DataArray:
    """Return the distances between all pairs of images.

    Each image is embedded once, in batches; where embeddings are large they wait in a temporary file, so that memory
    stays below about 1 GiB beside the result, whatever their size.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, `Precomputed`, or any object with `embed`.

    Returns
    -------
    DataArray (stimulus, other)
        float32, symmetric, with a zero diagonal; name `distance`. For `Label`, 1 − agreement. The coords of `stimulus`
        are kept, and `other` bears the same labels; attrs name the metric and the quantity.

    Raises
    ------
    TypeError, ValueError
        Not images, or no image; whatever the metric refuses.

    Notes
    -----
    The result takes 4 n² bytes for n images: 400 MB for 10,000.

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> grey = np.array([0, 0, 255], np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> pairwise(images, Color()).values.round(3)
    array([[0.   , 0.   , 1.732],
           [0.   , 0.   , 1.732],
           [1.732, 1.732, 0.   ]], dtype=float32)
    """
    images = check_images(images)
    if not images.sizes["stimulus"]:
        raise ValueError("pairwise needs at least one image, got none; see load_images")
    if isinstance(metric, Precomputed):
        distances = metric.distances_between(images.stimulus.values).numpy().astype(np.float32)
    else:
        distances = _between_embeddings(images, metric)
    agreement = f"{metric.self_similarity:g} − " if metric.self_similarity else ""
    return xr.DataArray(
        distances,
        dims=("stimulus", "other"),
        coords=coords_along(images, "stimulus") | {"other": images.stimulus.values},
        name="distance",
        attrs={"metric": metric.name, "quantity": agreement + metric.quantity},
    )


def _between_embeddings(images: xr.DataArray, metric: ImageMetric) -> np.ndarray:
    n = images.sizes["stimulus"]
    distances = np.empty((n, n), np.float32)
    tiles = list(itertools.combinations_with_replacement(range(0, n, TILE), 2))
    with tempfile.SpooledTemporaryFile() as file:
        slabs = _Slabs(images, metric, file)
        for top, left in tqdm(tiles, desc=f"distances for {metric.name}", unit="tile", delay=1, leave=False):
            rows, columns = slice(top, min(top + TILE, n)), slice(left, min(left + TILE, n))
            tile = _distances(slabs, rows, columns, metric.squared)
            distances[columns, rows] = tile.T
            distances[rows, columns] = tile
    return distances


def _distances(slabs: _Slabs, rows: slice, columns: slice, squared: bool) -> np.ndarray:
    """Return the distances of one tile, (rows, columns)."""
    norms = slabs.norms[rows, None], slabs.norms[None, columns]
    tile = torch.zeros(len(norms[0]), norms[1].shape[1], dtype=torch.float64, device=slabs.device)
    for left, right in slabs.read(rows, columns):
        tile.addmm_(left.double(), right.double().T, alpha=-2)
    tile.add_(norms[0]).add_(norms[1]).clamp_(min=0)
    if rows == columns:
        tile = torch.minimum(tile, tile.T).fill_diagonal_(0)
    return (tile if squared else tile.sqrt_()).float().cpu().numpy()


class _Slabs:
    """Embeddings of images, made once, image by image, and given back in slabs (image, some features)."""

    def __init__(self, images: xr.DataArray, metric: ImageMetric, file: tempfile.SpooledTemporaryFile[bytes]) -> None:
        batches = embed_in_batches(images, metric)
        first = next(batches)
        self.n_images, self.file, self.device = images.sizes["stimulus"], file, first.device
        self.edges = [*range(0, first.shape[1], SLAB), first.shape[1]]
        if 4 * self.n_images * first.shape[1] > IN_MEMORY:
            file.rollover()
        self.norms = torch.empty(self.n_images, dtype=torch.float64, device=self.device)
        start = 0
        for batch in itertools.chain([first], batches):
            self.norms[start : start + len(batch)] = batch.double().square().sum(1)
            self._keep(start, batch.cpu().numpy())
            start += len(batch)

    def _keep(self, start: int, batch: np.ndarray) -> None:
        for left, right in itertools.pairwise(self.edges):
            self.file.seek(self._place(start, left, right))
            self.file.write(np.ascontiguousarray(batch[:, left:right], dtype=np.float32).data)

    def _place(self, image: int, left: int, right: int) -> int:
        """Return where in the file the features left:right of an image lie."""
        return 4 * (self.n_images * left + image * (right - left))

    def read(self, *parts: slice) -> Iterator[list[torch.Tensor]]:
        """Yield, slab by slab, the embeddings of each of these parts of the images."""
        for left, right in itertools.pairwise(self.edges):
            yield [self._read(part, left, right) for part in parts]

    def _read(self, part: slice, left: int, right: int) -> torch.Tensor:
        self.file.seek(self._place(part.start, left, right))
        slab = np.empty((part.stop - part.start, right - left), np.float32)
        self.file.readinto(slab.data)
        return torch.from_numpy(slab).to(self.device)
