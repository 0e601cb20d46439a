"""Distances between images that are embedded once, whatever the number and the size of embeddings.

E (image, feature) embeddings under a metric.
"""

from __future__ import annotations

import itertools
import tempfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Self

import numpy as np
import torch
import xarray as xr

from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.batches import embed_in_batches

SLAB_BYTES = 2**28  # embeddings held in memory at once


class Distances(AbstractContextManager):
    """Distances between images; a context, at the end of which they are gone."""

    @abstractmethod
    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the distances `(row, A, B)` between the images at positions `a (row, A)` and `b (row, B)`."""

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Return the mean distance `(row, size)` over the pairs of the first so many `positions (row, image)`.

        A pair counts as much as the product of its two `weights (row, image)`.
        """
        pairs = weights[:, :, None] * weights[:, None, :] * ~np.eye(weights.shape[1], dtype=bool)
        weighted = pairs * self.between(positions, positions)
        return np.stack([weighted[:, :n, :n].sum((1, 2)) / pairs[:, :n, :n].sum((1, 2)) for n in sizes], axis=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Tabled(Distances):
    """Distances from a table `(image, image)`."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Look them up."""
        return self.table[a[:, :, None], b[:, None, :]]


class Embedded(Distances):
    """Images embedded once, batch by batch, and read back in slabs: all images, some features.

    No slab is larger than `SLAB_BYTES`. A single one stays on the metric's device; several wait in a temporary file,
    which closes with the context.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
    chosen : array of int (image,)
        Rising positions of the images that are embedded; elsewhere, positions are those among these.
    metric : ImageMetric
    """

    def __init__(self, images: xr.DataArray, chosen: np.ndarray, metric: ImageMetric) -> None:
        self.n_images, self.squared = len(chosen), metric.squared
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        batches = embed_in_batches(images, metric, chosen)
        first = next(batches)
        self.device = first.device
        width = max(1, SLAB_BYTES // (4 * self.n_images))
        self._edges = [*range(0, first.shape[1], width), first.shape[1]]
        self._norms = torch.empty(self.n_images, dtype=torch.float64, device=self.device)
        self._whole = first.new_empty(self.n_images, first.shape[1]) if len(self._edges) == 2 else None
        self._keep_all(itertools.chain([first], batches))

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Compute them from differences, slab by slab."""
        first, second = (torch.as_tensor(positions, device=self.device) for positions in (a, b))
        squares = torch.zeros(len(a), a.shape[1], b.shape[1], dtype=torch.float64, device=self.device)
        for E in self._slabs():
            for rows in _blocks(len(a), 4 * E.shape[1] * (a.shape[1] + b.shape[1])):
                there, here = E[first[rows]], E[second[rows]]
                squares[rows] += torch.cdist(there, here, compute_mode="donot_use_mm_for_euclid_dist").double() ** 2
        return (squares if self.squared else squares.sqrt()).cpu().numpy()

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Σ w_j w_k ‖e_j − e_k‖² over pairs is Σw Σw‖e‖² − ‖Σ w e‖²: of squared distances no pair is ever formed."""
        if not self.squared:
            return super().mean(positions, weights, sizes)
        at, w = (torch.as_tensor(values, device=self.device) for values in (positions, weights))
        of_sums = torch.zeros(len(at), len(sizes), dtype=torch.float64, device=self.device)
        for E in self._slabs():
            for rows in _blocks(len(at), 4 * E.shape[1]):
                of_sums[rows] += _squared_lengths(E, at[rows], w[rows].to(E.dtype), sizes)
        last = torch.as_tensor(sizes, device=self.device) - 1
        total, squares, norms = (values.cumsum(1)[:, last] for values in (w, w**2, w * self._norms[at]))
        mean = (total * norms - of_sums) * 2 / (total**2 - squares)
        return mean.clamp(min=0).cpu().numpy()

    def _slabs(self) -> Iterator[torch.Tensor]:
        if self._whole is not None:
            yield self._whole
            return
        self._file.seek(0)
        for left, right in itertools.pairwise(self._edges):
            slab = np.fromfile(self._file, np.float32, self.n_images * (right - left))
            yield torch.from_numpy(slab.reshape(self.n_images, -1)).to(self.device)

    def _keep_all(self, batches: Iterable[torch.Tensor]) -> None:
        start = 0
        for batch in batches:
            stop = start + len(batch)
            self._norms[start:stop] = (batch**2).sum(1, dtype=torch.float64)
            self._keep(start, stop, batch)
            start = stop

    def _keep(self, start: int, stop: int, batch: torch.Tensor) -> None:
        if self._whole is not None:
            self._whole[start:stop] = batch
            return
        values = batch.cpu().numpy()
        for left, right in itertools.pairwise(self._edges):
            self._file.seek(4 * (self.n_images * left + start * (right - left)))
            self._file.write(np.ascontiguousarray(values[:, left:right], dtype=np.float32).data)


def open_distances(images: xr.DataArray, chosen: np.ndarray, metric: ImageMetric | Precomputed) -> Distances:
    """Return the distances between the images at these rising positions."""
    if isinstance(metric, Precomputed):
        return Tabled(metric.distances_between(images.stimulus.values[chosen]).numpy())
    return Embedded(images, chosen, metric)


def _squared_lengths(E: torch.Tensor, at: torch.Tensor, weights: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Return ‖Σ w e‖² `(row, size)` over the first so many images of each row."""
    sums, lengths = torch.zeros(1, dtype=E.dtype, device=E.device), []
    for start, stop in itertools.pairwise([0, *sizes]):
        bag = at[:, start:stop].contiguous(), weights[:, start:stop].contiguous()
        sums = sums + torch.nn.functional.embedding_bag(bag[0], E, mode="sum", per_sample_weights=bag[1])
        lengths.append((sums**2).sum(1, dtype=torch.float64))
    return torch.stack(lengths, dim=1)


def _blocks(n_rows: int, bytes_per_row: int) -> Iterator[slice]:
    size = max(1, SLAB_BYTES // bytes_per_row)
    return (slice(start, start + size) for start in range(0, n_rows, size))
