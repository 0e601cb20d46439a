"""Distances between images, each embedded once, for any number and size of embeddings.

E (image, feature) embeddings under a metric, rows eᵢ; a distance is ‖eᵢ − eⱼ‖, or its square if the metric is squared.
Embeddings come in slabs of features, and squared distances are sums over slabs.
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

from neurosuper._kernels import FASTMATH, njit
from neurosuper._progress import progress
from neurosuper.images import check_images
from neurosuper.metrics.base import ImageMetric, check_metric
from neurosuper.metrics.pair_distances import squares_of_pairs
from neurosuper.metrics.precomputed import Precomputed
from neurosuper.metrics.slabs import Slabs
from neurosuper.responses import coords_along

__all__ = ["Distances", "open_distances", "pairwise_distances"]

MAX_GATHERED_BYTES = 2**27  # bytes of embeddings that are copied out of a slab at once (128 MiB)
CACHED_FEATURES = 1024  # features at a time: 4 KiB of each embedding, so that those of a row of pairs stay in the cache
MAX_MATRIX_IMAGES = 8192  # images of a distance matrix in memory, at most: 256 MiB in float32
MATRIX_ROWS = 256  # rows of the upper half of a matrix that are multiplied at once
MANY_PAIRS = 0.1  # of all pairs: products of all of them take a tenth of the time per pair
CACHED_IMAGES = 128  # per side of a tile of pairs
TILE = 4096  # images per side of a tile of the matrix of all pairs: 128 MiB in float64
TILE_FEATURES = 2048  # features that are multiplied at once in a tile: two copies of 64 MiB in float64


class Distances(ABC):
    """Distances between images."""

    @abstractmethod
    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the distances `(row, A, B)` between the images at positions `a (row, A)` and `b (row, B)`."""

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Return weighted means `(row, size)` over pairs of the first n `positions (row, image)`, for n in `sizes`.

        The weight of a pair is the product of its two `weights (row, image)`.
        """
        # Three float64 matrices (image, image) per row: distances, weights of pairs, and their product.
        blocks = _blocks(len(positions), 24 * positions.shape[1] ** 2)
        return np.concatenate([self._weighted_mean(positions[rows], weights[rows], sizes) for rows in blocks])

    def _weighted_mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        # Σ_{j≠k} w_j w_k d_jk / Σ_{j≠k} w_j w_k: the zero diagonal does not count.
        pairs = weights[:, :, None] * weights[:, None, :] * ~np.eye(weights.shape[1], dtype=bool)
        weighted = pairs * self.between(positions, positions)
        return np.stack([weighted[:, :n, :n].sum((1, 2)) / pairs[:, :n, :n].sum((1, 2)) for n in sizes], axis=1)

    @abstractmethod
    def mean_of_all(self) -> float:
        """Return the mean distance over all pairs of images."""

    @abstractmethod
    def weighted_sums(self, weights: np.ndarray) -> np.ndarray:
        """Return Σ_{j≠i} w_j d_ij `(image, set)` of every image i, for sets of `weights (image, set)`."""

    def as_matrix(self) -> Distances:
        """Return a float32 distance matrix if it fits in memory, for repeated lookups, else these distances."""
        return self


class DistanceMatrix(Distances):
    """Distances in a matrix `table` (image, image)."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return entries of the matrix."""
        return self.table[a[:, :, None], b[:, None, :]]

    def mean_of_all(self) -> float:
        """Return the mean of the matrix without its diagonal, which is 0."""
        n = len(self.table)
        return float(self.table.sum(dtype=np.float64) / (n * (n - 1)))

    def weighted_sums(self, weights: np.ndarray) -> np.ndarray:
        """Return the product of the matrix with the weights, some rows at a time in float64."""
        weights, rows = weights.astype(np.float64), _blocks(len(self.table), 8 * len(self.table))
        return np.concatenate([self.table[block].astype(np.float64) @ weights for block in rows])

    def matrix(self) -> DistanceMatrix:
        """Return these distances in float32."""
        return DistanceMatrix(self.table.astype(np.float32, copy=False))

    def of_pairs(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return entries of the matrix."""
        return self.table[a, b]


class EmbeddingDistances(Distances):
    """Distances between embeddings that are stored in slabs."""

    def __init__(self, slabs: Slabs, squared: bool) -> None:
        self.slabs, self.squared = slabs, squared
        self.n_images, self.device = slabs.n_images, slabs.device

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return distances computed from differences of embeddings, slab by slab."""
        first, second = (torch.as_tensor(positions, device=self.device) for positions in (a, b))
        squares = torch.zeros(len(a), a.shape[1], b.shape[1], dtype=torch.float64, device=self.device)
        for E in self.slabs:
            for rows in _blocks(len(a), 4 * E.shape[1] * (a.shape[1] + b.shape[1])):
                squares[rows] += _squared_distances(E, first[rows], second[rows])
        return (squares if self.squared else squares.sqrt()).cpu().numpy()

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Return weighted means over pairs; means of squared distances need no single pair."""
        if not self.squared:
            return super().mean(positions, weights, sizes)
        # Σ_{j<k} w_j w_k ‖e_j − e_k‖² = Σ w Σ w ‖e‖² − ‖Σ w e‖². Norms and sums are sums over slabs.
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
        # Σ_{j<k} w_j w_k = ((Σ w)² − Σ w²) / 2.
        mean = (total * weighted - of_sums) * 2 / (total**2 - squares)
        return mean.clamp(min=0).cpu().numpy()

    def mean_of_all(self) -> float:
        """Return the mean over all pairs; that of squared distances needs no single pair."""
        if not self.squared:
            return self.matrix().mean_of_all()
        n, total = self.n_images, 0.0
        # Σ_{i<j} ‖e_i − e_j‖² = n Σ ‖e‖² − ‖Σ e‖², with embeddings centred on the first image to avoid cancellation.
        for slab in self.slabs:
            for E in slab.split(CACHED_FEATURES, dim=1):
                centred = E - E[0]
                squares = (centred**2).sum(dtype=torch.float64)
                total += float(n * squares - (centred.sum(0, dtype=torch.float64) ** 2).sum())
        return max(0.0, 2 * total / (n * (n - 1)))

    def weighted_sums(self, weights: np.ndarray) -> np.ndarray:
        """Return sums over images; those of squared distances need no single pair, others are computed in tiles."""
        if not self.squared:
            return self._sums_in_tiles(weights)
        # Σ_j w_j ‖e_i − e_j‖² = W ‖e_i‖² + Σ w ‖e‖² − 2 e_i · Σ w e, with embeddings centred on their mean.
        w = torch.as_tensor(weights, dtype=torch.float64, device=self.device)
        norms = torch.zeros(self.n_images, dtype=torch.float64, device=self.device)
        products = torch.zeros_like(w)
        for slab in self.slabs:
            for E in slab.split(CACHED_FEATURES, dim=1):
                centred = E - E.mean(0)
                norms += centred.square().sum(1)
                products += centred @ (centred.T @ w.to(E.dtype))
        return (w.sum(0) * norms[:, None] + norms @ w - 2 * products).cpu().numpy()

    def _sums_in_tiles(self, weights: np.ndarray) -> np.ndarray:
        sums, n = np.zeros(weights.shape), self.n_images
        for top, left in itertools.combinations_with_replacement(range(0, n, TILE), 2):
            rows, columns = slice(top, min(top + TILE, n)), slice(left, min(left + TILE, n))
            tile = _distances(self.slabs, rows, columns, self.squared).astype(np.float64)
            sums[rows] += tile @ weights[columns]
            if top != left:
                sums[columns] += tile.T @ weights[rows]
        return sums

    def as_matrix(self) -> Distances:
        """Return a distance matrix if there are at most 8,192 images, else these distances."""
        return self if self.n_images > MAX_MATRIX_IMAGES else self.matrix()

    def matrix(self) -> DistanceMatrix:
        """Return the matrix of all distances, by products; those of near-copies lose digits."""
        # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b, with embeddings centred on their mean to limit cancellation.
        n, device = self.n_images, self.device
        squares, norms = torch.zeros(n, n, device=device), torch.zeros(n, dtype=torch.float64, device=device)
        rows = [slice(start, min(start + MATRIX_ROWS, n)) for start in range(0, n, MATRIX_ROWS)]
        for E in self.slabs:
            centred = E - E.mean(0)
            for own in rows:  # only above the diagonal: half of the products
                squares[own, own.start :].addmm_(centred[own], centred[own.start :].T, alpha=-2)
            norms += (centred**2).sum(1)
        for own in rows:
            squares[own, own.start :].add_(norms[own.start :].float()).add_(norms[own, None].float()).clamp_(min=0)
            squares[own, own] = squares[own, own].triu() + squares[own, own].triu(1).T
            squares[own.stop :, own] = squares[own, own.stop :].T
        squares.fill_diagonal_(0)
        return DistanceMatrix((squares if self.squared else squares.sqrt_()).cpu().numpy())

    def of_pairs(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return distances computed from differences of embeddings; entries of the matrix if that takes less time."""
        if len(a) > MANY_PAIRS * self.n_images**2 / 2:
            return self.matrix().of_pairs(a, b)
        # in the order of tiles of the matrix, whose embeddings stay in the cache
        order = np.lexsort((b // CACHED_IMAGES, a // CACHED_IMAGES))
        first, second, squares = a[order], b[order], np.zeros(len(a))
        for E in self.slabs:
            squares += squares_of_pairs(E, first, second)
        found = np.empty_like(squares)
        found[order] = squares if self.squared else np.sqrt(squares)
        return found


@contextmanager
def open_distances(
    images: xr.DataArray, chosen: np.ndarray, metric: ImageMetric | Precomputed
) -> Iterator[DistanceMatrix | EmbeddingDistances]:
    """Yield the distances between the images at sorted positions `chosen`; positions in calls count from these."""
    check_metric(metric)
    if isinstance(metric, Precomputed):
        yield DistanceMatrix(metric.distances_between(images.stimulus.values[chosen]).numpy())
        return
    with tempfile.TemporaryFile() as file:
        yield EmbeddingDistances(Slabs(images, metric, file, chosen), metric.squared)


def _squared_distances(E: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return ‖e_a − e_b‖² `(row, A, B)` for each row, computed from differences."""
    if E.device.type == "cpu" and E.dtype == torch.float32:
        # The kernel takes images two by two: an odd number is padded with a copy of the last.
        first, second = (np.pad(at.numpy(), [(0, 0), (0, at.shape[1] % 2)], "edge") for at in (a, b))
        squares = np.zeros((len(a), first.shape[1], second.shape[1]))
        _add_squared_distances(E.numpy(), first, second, squares)
        return torch.from_numpy(squares[:, : a.shape[1], : b.shape[1]])
    return torch.cdist(E[a], E[b], compute_mode="donot_use_mm_for_euclid_dist").double() ** 2


@njit(parallel=True, fastmath=FASTMATH)
def _add_squared_distances(E: np.ndarray, a: np.ndarray, b: np.ndarray, squares: np.ndarray) -> None:
    """Add ‖e_a − e_b‖² to `squares` (row, A, B); A and B are even."""
    n_features = E.shape[1]
    for row in numba.prange(len(a)):
        for start in range(0, n_features, CACHED_FEATURES):
            # Some features at a time, so that all embeddings of a row stay in the cache.
            stop = min(start + CACHED_FEATURES, n_features)
            for i in range(0, a.shape[1], 2):
                p, q = E[a[row, i], start:stop], E[a[row, i + 1], start:stop]
                for j in range(0, b.shape[1], 2):
                    r, z = E[b[row, j], start:stop], E[b[row, j + 1], start:stop]
                    # Four sums for 2 × 2 pairs: each value that is loaded is used twice.
                    s, t, u, v = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
                    for k in range(stop - start):
                        x, y = p[k] - r[k], q[k] - r[k]
                        s += x * x
                        t += y * y
                        x, y = p[k] - z[k], q[k] - z[k]
                        u += x * x
                        v += y * y
                    # Sums over 1,024 features are in float32, sums of these in float64.
                    squares[row, i, j] += s
                    squares[row, i, j + 1] += u
                    squares[row, i + 1, j] += t
                    squares[row, i + 1, j + 1] += v


def _squared_lengths(E: torch.Tensor, at: torch.Tensor, weights: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Return ‖Σ w e‖² `(row, size)` over the first n images of each row, for each n in `sizes`, in ascending order."""
    if E.device.type == "cpu" and E.dtype == torch.float32:
        lengths = np.zeros((len(at), len(sizes)))
        _add_squared_lengths(E.numpy(), at.numpy(), weights.numpy(), np.array(sizes), lengths)
        return torch.from_numpy(lengths)
    # Sums for a size continue those for the size before.
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
    """Add ‖Σ w e‖² to `lengths` (row, size); see `_squared_lengths`."""
    n_features = E.shape[1]
    for row in numba.prange(len(at)):
        sums = np.empty(CACHED_FEATURES, np.float32)
        for start in range(0, n_features, CACHED_FEATURES):
            width = min(CACHED_FEATURES, n_features - start)
            # Σ w e of some features at a time, which stay in the cache; a size continues the sum of the size before.
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

    Each image is embedded once, in batches. Large embeddings are stored in a temporary file, so that memory stays below
    about 1 GiB in addition to the result.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, `Precomputed`, or any object with `embed`.

    Returns
    -------
    DataArray (stimulus, other)
        Symmetric float32, with a zero diagonal; name `distance`. For `Label`, 1 − agreement. The coords of `stimulus`
        are kept, and `other` has the same labels; attrs name the metric and the quantity.

    Raises
    ------
    TypeError, ValueError
        `images` are not images, or there is none, or the metric refuses them.

    See Also
    --------
    Precomputed : Use a matrix of distances as a metric.
    load_images : Load images.

    Notes
    -----
    The result takes 4 n² bytes for n images: 400 MB for 10,000.

    Examples
    --------
    >>> import numpy as np
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
    distances = np.empty((n := images.sizes["stimulus"], n), np.float32)
    tiles = list(itertools.combinations_with_replacement(range(0, n, TILE), 2))
    with tempfile.TemporaryFile() as file:
        slabs = Slabs(images, metric, file)
        for top, left in progress(tiles, desc=f"distances for {metric.name}", unit="tile", delay=1, leave=False):
            rows, columns = slice(top, min(top + TILE, n)), slice(left, min(left + TILE, n))
            tile = _distances(slabs, rows, columns, metric.squared)
            distances[columns, rows], distances[rows, columns] = tile.T, tile
    return distances


def _distances(slabs: Slabs, rows: slice, columns: slice, squared: bool) -> np.ndarray:
    """Return the distances of one tile (row, column) of the matrix."""
    # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b, summed over features in float64, in which near-copies keep their digits.
    tile = torch.zeros(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.float64, device=slabs.device)
    # A tile on the diagonal is symmetric, with zeros on its own: products to the right of each part of rows are enough.
    parts = range(0, len(tile), MATRIX_ROWS if rows == columns else len(tile))
    for slab in slabs:
        for E in slab.split(TILE_FEATURES, dim=1):
            a, b = E[rows].double(), E[columns].double()
            for start in parts:
                tile[start : start + parts.step, start:].addmm_(a[start : start + parts.step], b[start:].T, alpha=-2)
            tile.add_(a.square().sum(1, keepdim=True)).add_(b.square().sum(1))
    if rows == columns:
        tile = tile.triu_(1) + tile.T
    return (tile.clamp_(min=0) if squared else tile.clamp_(min=0).sqrt_()).float().cpu().numpy()
