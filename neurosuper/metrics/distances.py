"""Distances between images, each embedded once, for any number and size of embeddings.

E (image, feature) embeddings under a metric, G = E Eᵀ: squared distances are ‖eᵢ‖² + ‖eⱼ‖² − 2 Gᵢⱼ. All pairs are
summed over slabs of features, tile by tile, in double precision.
"""

from __future__ import annotations

import itertools
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import torch_threads
from neurosuper.images import check_images
from neurosuper.metrics.base import ImageMetric, check_metric
from neurosuper.metrics.precomputed import Precomputed
from neurosuper.metrics.slabs import Slabs
from neurosuper.responses import coords_along

__all__ = ["Distances", "open_distances", "pairwise_distances"]

MAX_GATHERED_BYTES = 2**27  # of embeddings, for the rows that are reckoned at once
CACHED_FEATURES = 1024  # summed at once
MAX_MATRIX_IMAGES = 8192  # a side of a table of distances, at most: 256 MiB
TILE = 4096  # images per side of a tile of the table of all pairs
TILE_FEATURES = 2048  # multiplied at once in a tile


class Distances(ABC):
    """Distances between images."""

    @abstractmethod
    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the distances `(row, A, B)` between the images at positions `a (row, A)` and `b (row, B)`."""

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Return the mean distance `(row, size)` over the pairs of the first so many `positions (row, image)`.

        A pair counts as much as the product of its two `weights (row, image)`.
        """
        blocks = _blocks(len(positions), 24 * positions.shape[1] ** 2)
        return np.concatenate([self._weighted_mean(positions[rows], weights[rows], sizes) for rows in blocks])

    def _weighted_mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        pairs = weights[:, :, None] * weights[:, None, :] * ~np.eye(weights.shape[1], dtype=bool)
        weighted = pairs * self.between(positions, positions)
        return np.stack([weighted[:, :n, :n].sum((1, 2)) / pairs[:, :n, :n].sum((1, 2)) for n in sizes], axis=1)

    @abstractmethod
    def mean_of_all(self) -> float:
        """Return the mean distance over all pairs of images."""

    def as_matrix(self) -> Distances:
        """Return the same distances for many questions: from a table, to single precision, if there is room for one."""
        return self


class DistanceMatrix(Distances):
    """Distances from a table `(image, image)`."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Look them up."""
        return self.table[a[:, :, None], b[:, None, :]]

    def mean_of_all(self) -> float:
        """Add up the table, whose diagonal is 0."""
        n = len(self.table)
        return float(self.table.sum(dtype=np.float64) / (n * (n - 1)))


class EmbeddingDistances(Distances):
    """Distances between embeddings that lie in slabs."""

    def __init__(self, slabs: Slabs, squared: bool) -> None:
        self.slabs, self.squared = slabs, squared
        self.n_images, self.device = slabs.n_images, slabs.device

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Compute them from differences, slab by slab."""
        first, second = (torch.as_tensor(positions, device=self.device) for positions in (a, b))
        squares = torch.zeros(len(a), a.shape[1], b.shape[1], dtype=torch.float64, device=self.device)
        for E in self.slabs:
            for rows in _blocks(len(a), 4 * E.shape[1] * (a.shape[1] + b.shape[1])):
                squares[rows] += _squared_distances(E, first[rows], second[rows])
        return (squares if self.squared else squares.sqrt()).cpu().numpy()

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Σ w_j w_k ‖e_j − e_k‖² over pairs is Σw Σw‖e‖² − ‖Σ w e‖²: of squared distances no pair is ever formed."""
        if not self.squared:
            return super().mean(positions, weights, sizes)
        at, w = (torch.as_tensor(values, device=self.device) for values in (positions, weights))
        alone = torch.arange(self.n_images, device=self.device)[:, None]
        norms = torch.zeros(self.n_images, dtype=torch.float64, device=self.device)
        of_sums = torch.zeros(len(at), len(sizes), dtype=torch.float64, device=self.device)
        for E in self.slabs:
            norms += _squared_lengths(E, alone, torch.ones_like(alone, dtype=E.dtype), [1])[:, 0]
            for rows in _blocks(len(at), 4 * E.shape[1]):
                of_sums[rows] += _squared_lengths(E, at[rows], w[rows].to(E.dtype), sizes)
        last = torch.as_tensor(sizes, device=self.device) - 1
        total, squares, weighted = (values.cumsum(1)[:, last] for values in (w, w**2, w * norms[at]))
        mean = (total * weighted - of_sums) * 2 / (total**2 - squares)
        return mean.clamp(min=0).cpu().numpy()

    def mean_of_all(self) -> float:
        """Σ_{i<j} ‖e_i − e_j‖² is n Σ‖e‖² − ‖Σe‖², e reckoned from one of them, so that no digits are lost."""
        if not self.squared:
            return self._matrix().mean_of_all()
        n, total = self.n_images, 0.0
        for slab in self.slabs:
            for E in slab.split(CACHED_FEATURES, dim=1):
                centred = E - E[0]
                squares = (centred**2).sum(dtype=torch.float64)
                total += float(n * squares - (centred.sum(0, dtype=torch.float64) ** 2).sum())
        return max(0.0, 2 * total / (n * (n - 1)))

    def as_matrix(self) -> Distances:
        """Make a table, of at most 8,192 images."""
        return self if self.n_images > MAX_MATRIX_IMAGES else self._matrix()

    def _matrix(self) -> DistanceMatrix:
        """Multiply embeddings, ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b, about their mean; a near-copy loses digits."""
        squares = torch.zeros(self.n_images, self.n_images, device=self.device)
        norms = torch.zeros(self.n_images, dtype=torch.float64, device=self.device)
        for E in self.slabs:
            centred = E - E.mean(0)
            squares.addmm_(centred, centred.T, alpha=-2)
            norms += (centred**2).sum(1)
        squares.add_(norms.float()).add_(norms[:, None].float()).clamp_(min=0).fill_diagonal_(0)
        return DistanceMatrix((squares if self.squared else squares.sqrt_()).cpu().numpy())


@contextmanager
def open_distances(images: xr.DataArray, chosen: np.ndarray, metric: ImageMetric | Precomputed) -> Iterator[Distances]:
    """Give the distances between the images at these rising positions; positions asked for are among them."""
    check_metric(metric)
    if isinstance(metric, Precomputed):
        yield DistanceMatrix(metric.distances_between(images.stimulus.values[chosen]).numpy())
        return
    with tempfile.TemporaryFile() as file:
        yield EmbeddingDistances(Slabs(images, metric, file, chosen), metric.squared)


def _squared_distances(E: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ‖e_a − e_b‖² `(row, A, B)` of each row, from the differences themselves."""
    if E.device.type == "cpu" and E.dtype == torch.float32:
        first, second = (np.pad(at.numpy(), [(0, 0), (0, at.shape[1] % 2)], "edge") for at in (a, b))
        squares = np.zeros((len(a), first.shape[1], second.shape[1]))
        with torch_threads():
            _add_squared_distances(E.numpy(), first, second, squares)
        return torch.from_numpy(squares[:, : a.shape[1], : b.shape[1]])
    return torch.cdist(E[a], E[b], compute_mode="donot_use_mm_for_euclid_dist").double() ** 2


@njit(parallel=True, fastmath=FASTMATH)
def _add_squared_distances(E: np.ndarray, a: np.ndarray, b: np.ndarray, squares: np.ndarray) -> None:
    """Add what `_squared_distances` returns: two by two, so that each embedding is read once for two; A and B are even.

    Of a few features at a time, which stay in the cache.
    """
    n_features = E.shape[1]
    for row in numba.prange(len(a)):
        for start in range(0, n_features, CACHED_FEATURES):
            stop = min(start + CACHED_FEATURES, n_features)
            for i in range(0, a.shape[1], 2):
                p, q = E[a[row, i], start:stop], E[a[row, i + 1], start:stop]
                for j in range(0, b.shape[1], 2):
                    r, z = E[b[row, j], start:stop], E[b[row, j + 1], start:stop]
                    s, t, u, v = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                    for k in range(stop - start):
                        x, y = p[k] - r[k], q[k] - r[k]
                        s += x * x
                        t += y * y
                        x, y = p[k] - z[k], q[k] - z[k]
                        u += x * x
                        v += y * y
                    squares[row, i, j] += s
                    squares[row, i, j + 1] += u
                    squares[row, i + 1, j] += t
                    squares[row, i + 1, j + 1] += v


def _squared_lengths(E: torch.Tensor, at: torch.Tensor, weights: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Return ‖Σ w e‖² `(row, size)` over the first so many images of each row."""
    if E.device.type == "cpu" and E.dtype == torch.float32:
        lengths = np.zeros((len(at), len(sizes)))
        with torch_threads():
            _add_squared_lengths(E.numpy(), at.numpy(), weights.numpy(), np.array(sizes), lengths)
        return torch.from_numpy(lengths)
    sums, columns = torch.zeros(1, dtype=E.dtype, device=E.device), []
    for start, stop in itertools.pairwise([0, *sizes]):
        bag = at[:, start:stop].contiguous(), weights[:, start:stop].contiguous()
        sums = sums + torch.nn.functional.embedding_bag(bag[0], E, mode="sum", per_sample_weights=bag[1])
        columns.append((sums**2).sum(1, dtype=torch.float64))
    return torch.stack(columns, dim=1)


@njit(parallel=True, fastmath=FASTMATH)
def _add_squared_lengths(
    E: np.ndarray, at: np.ndarray, weights: np.ndarray, sizes: np.ndarray, lengths: np.ndarray
) -> None:
    """Add what `_squared_lengths` returns: sums of a few features at a time, which stay in the cache."""
    n_features = E.shape[1]
    for row in numba.prange(len(at)):
        sums = np.empty(CACHED_FEATURES, np.float32)
        for start in range(0, n_features, CACHED_FEATURES):
            width = min(CACHED_FEATURES, n_features - start)
            sums[:width] = 0
            first = 0
            for i in range(len(sizes)):
                for k in range(first, sizes[i]):
                    e, w = E[at[row, k]], weights[row, k]
                    for j in range(width):
                        sums[j] += w * e[start + j]
                total = np.float32(0)
                for j in range(width):
                    total += sums[j] * sums[j]
                lengths[row, i] += total
                first = sizes[i]


def _blocks(n_rows: int, bytes_per_row: int) -> Iterator[slice]:
    size = max(1, MAX_GATHERED_BYTES // bytes_per_row)
    return (slice(start, start + size) for start in range(0, n_rows, size))


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
        for E in slab.split(TILE_FEATURES, dim=1):
            a, b = E[rows].double(), E[columns].double()
            tile.addmm_(a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True)).add_(b.square().sum(1))
    tile.clamp_(min=0)
    if rows == columns:
        tile = torch.minimum(tile, tile.T).fill_diagonal_(0)
    return (tile if squared else tile.sqrt_()).float().cpu().numpy()
