"""The distances between all pairs of images under a metric.

E (image, feature) embeddings, G = E Eᵀ: squared distances are ‖eᵢ‖² + ‖eⱼ‖² − 2 Gᵢⱼ, summed over slabs of features,
tile by tile, in double precision.
"""

from __future__ import annotations

import itertools
import tempfile

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neurosuper.images import check_images
from neurosuper.metrics.base import ImageMetric, check_metric
from neurosuper.metrics.precomputed import Precomputed
from neurosuper.metrics.slabs import Slabs
from neurosuper.responses import coords_along

__all__ = ["pairwise_distances"]

TILE = 4096  # images a side
FEATURES = 2048  # multiplied at once


def pairwise_distances(images: xr.DataArray, metric: ImageMetric | Precomputed) -> xr.DataArray:
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
    >>> pairwise_distances(images, Color()).values.round(3)
    array([[0.   , 0.   , 1.732],
           [0.   , 0.   , 1.732],
           [1.732, 1.732, 0.   ]], dtype=float32)
    """
    images = check_images(images)
    if not images.sizes["stimulus"]:
        raise ValueError("pairwise_distances needs at least one image, got none; see load_images")
    check_metric(metric)
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
    with tempfile.TemporaryFile() as file:
        slabs = Slabs(images, metric, file)
        for top, left in tqdm(tiles, desc=f"distances for {metric.name}", unit="tile", delay=1, leave=False):
            rows, columns = slice(top, min(top + TILE, n)), slice(left, min(left + TILE, n))
            tile = _distances(slabs, rows, columns, metric.squared)
            distances[columns, rows] = tile.T
            distances[rows, columns] = tile
    return distances


def _distances(slabs: Slabs, rows: slice, columns: slice, squared: bool) -> np.ndarray:
    """Return the distances of one tile, (rows, columns)."""
    tile = torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.float64, device=slabs.device)
    for slab in slabs:
        for E in slab.split(FEATURES, dim=1):
            a, b = E[rows].double(), E[columns].double()
            tile.addmm_(a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True)).add_(b.square().sum(1))
    tile.clamp_(min=0)
    if rows == columns:
        tile = torch.minimum(tile, tile.T).fill_diagonal_(0)
    return (tile if squared else tile.sqrt_()).float().cpu().numpy()
