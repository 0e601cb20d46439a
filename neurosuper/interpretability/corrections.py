"""Distances corrected for images that are near to all others (hubs), or for given properties of single images.

d_jk distance of images j and k, n the number of images that it is corrected over: all that were scored. A corrected
index is minus the mean of corrected distances. Random sets of images have the expectation 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from neurosuper.metrics.distances import MAX_MATRIX_IMAGES, DistanceMatrix, Distances
from neurosuper.responses import name_some

Correction = Literal["hub"] | None

N_NEIGHBORS = 30  # images that stand for an image: the nearest in the covariates
MIN_IMAGES = 3  # with two, the mean distance of an image to the others is their only distance


class ShiftedDistances(Distances):
    """Distances less a term of each of the two images, d_jk − s_j − s_k, for any images j ≠ k."""

    def __init__(self, distances: Distances, shifts: np.ndarray) -> None:
        self.distances, self.shifts = distances, shifts

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return distances less the terms of both images; that of an image from itself has no meaning."""
        return self.distances.between(a, b) - self.shifts[a][:, :, None] - self.shifts[b][:, None, :]

    def mean(self, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
        """Return the weighted means of the distances, less those of the terms."""
        # Σ_{j≠k} w_j w_k (s_j + s_k) / Σ_{j≠k} w_j w_k = 2 (Σw Σws − Σw²s) / ((Σw)² − Σw²)
        s, last = self.shifts[positions], np.asarray(sizes) - 1
        total, squares, once, twice = (
            values.cumsum(1)[:, last] for values in (weights, weights**2, weights * s, weights**2 * s)
        )
        return self.distances.mean(positions, weights, sizes) - 2 * (total * once - twice) / (total**2 - squares)

    def mean_of_all(self) -> float:
        """Return the mean distance over all pairs, less twice the mean term."""
        return self.distances.mean_of_all() - 2 * float(self.shifts.mean())

    def weighted_sums(self, weights: np.ndarray) -> np.ndarray:
        """Return the weighted sums of the distances, less those of the terms."""
        s = self.shifts[:, None]
        others = weights.sum(0) - weights
        return self.distances.weighted_sums(weights) - s * others - ((weights * s).sum(0) - weights * s)

    def as_matrix(self) -> Distances:
        """Return the same with a distance matrix, if it fits in memory."""
        return ShiftedDistances(self.distances.as_matrix(), self.shifts)


def hub_shifts(sums: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the term `(image,)` of each image in the hub correction; NaN for images that are not scored.

    Parameters
    ----------
    sums : array (image,)
        Sum of the distances of each image to all scored images.
    among : array of bool (image,)
        The scored images.

    Raises
    ------
    ValueError
        Fewer than three scored images.
    """
    n = int(among.sum())
    if n < MIN_IMAGES:
        raise ValueError(
            f"the hub correction needs at least {MIN_IMAGES} images, got {n}; score on more stimuli, or pass "
            "correction=None"
        )
    # h_i mean distance to the other images, μ = mean h, a_i = (h_i − μ)(n − 1)/(n − 2); d_jk − μ − a_j − a_k
    h = np.where(among, sums / (n - 1), np.nan)
    mean = np.nanmean(h)
    return mean / 2 + (h - mean) * (n - 1) / (n - 2)


def correct_each(
    distances: Distances, as_matrix: Distances, scored: Sequence[np.ndarray], correction: Correction
) -> list[tuple[Distances, Distances]]:
    """Return both forms of the distances for each set of items, corrected over the images it was scored on.

    `scored (image,)` are the positions of these images; every image is in at least one set.
    """
    if correction is None:
        return [(distances, as_matrix)] * len(scored)
    n_images = 1 + max(places.max() for places in scored)
    among = np.stack([np.bincount(places, minlength=n_images) for places in scored], axis=1)
    sums = distances.weighted_sums(among)
    shifts = [hub_shifts(of_set, is_scored > 0) for of_set, is_scored in zip(sums.T, among.T, strict=True)]
    return [(ShiftedDistances(distances, s), ShiftedDistances(as_matrix, s)) for s in shifts]


def correct_distances(
    distances: Distances, labels: np.ndarray, correction: Correction, covariates: xr.Dataset | None
) -> Distances:
    """Return distances corrected over all their images, which have these `labels`; unchanged without a correction."""
    if correction == "hub":
        every = np.ones(len(labels), bool)
        return ShiftedDistances(distances, hub_shifts(distances.weighted_sums(every[:, None])[:, 0], every))
    return distances if covariates is None else _partial_distances(distances, _covariates_of(covariates, labels))


def check_correction(correction: object, covariates: object) -> None:
    """Raise an error unless at most one known correction is asked for."""
    if correction not in (None, "hub"):
        raise ValueError(f"correction must be 'hub' or None, got {correction!r}")
    if covariates is None:
        return
    if not isinstance(covariates, xr.Dataset):
        raise TypeError(
            f"covariates must be an xarray.Dataset of variables over 'stimulus', got {type(covariates).__name__}"
        )
    if correction is not None:
        raise ValueError("correction='hub' and covariates are two corrections; pass one of them at a time")


def describe_correction(correction: Correction, covariates: xr.Dataset | None) -> tuple[str, dict[str, object]]:
    """Return the end of an axis label of a corrected index, and its attrs."""
    if covariates is not None:
        names = [str(name) for name in covariates.data_vars]
        return f", given {', '.join(names)}", {"correction": "covariates", "covariates": names}
    return (", hub-corrected", {"correction": "hub"}) if correction == "hub" else ("", {"correction": "none"})


def _covariates_of(covariates: xr.Dataset, labels: np.ndarray) -> np.ndarray:
    """Return z-scored covariates `(image, covariate)` of the images; one that is constant is 0."""
    if not covariates.data_vars or any(each.dims != ("stimulus",) for each in covariates.data_vars.values()):
        got = {str(name): each.dims for name, each in covariates.data_vars.items()}
        raise ValueError(f"covariates must be variables over 'stimulus' alone, got {got or 'none'}; select others")
    places = covariates.get_index("stimulus").get_indexer(labels)
    if (places < 0).any():
        raise ValueError(f"no covariates for stimulus {name_some(labels[places < 0])}; add them, or leave it out")
    columns = []
    for name, each in covariates.isel(stimulus=places).data_vars.items():
        if each.dtype.kind not in "iufb":
            raise TypeError(f"covariate {name!r} must be numbers, got dtype {each.dtype}; drop it or convert it")
        values = each.values.astype(np.float64)
        if (wrong := ~np.isfinite(values)).any():
            raise ValueError(f"covariate {name!r} is not finite for stimulus {name_some(labels[wrong])}; leave it out")
        columns.append((values - values.mean()) / (values.std() or 1.0))
    return np.stack(columns, axis=1)


def _partial_distances(distances: Distances, covariates: np.ndarray) -> DistanceMatrix:
    """Return each distance less the mean distance of images that are like the two in their covariates."""
    n = len(covariates)
    if n < MIN_IMAGES:
        raise ValueError(f"covariates need at least {MIN_IMAGES} images, got {n}; score on more stimuli")
    matrix = distances.as_matrix()
    if not isinstance(matrix, DistanceMatrix):
        raise ValueError(
            f"covariates need the distances of all pairs in memory, of at most {MAX_MATRIX_IMAGES} images, got {n}; "
            "score on fewer stimuli, or pass correction='hub'"
        )
    n_neighbors = min(N_NEIGHBORS, n - 1)
    nearest = NearestNeighbors(n_neighbors=n_neighbors).fit(covariates).kneighbors(return_distance=False)
    # P (image, image) uniform on the nearest others: (P D Pᵀ)_jk is the mean distance of an image like j to one like k,
    # pairs of the same image, of share (P Pᵀ)_jk, included; their distance is 0.
    starts = np.arange(0, n * n_neighbors + 1, n_neighbors)
    P = sparse.csr_array((np.full(nearest.size, 1 / n_neighbors, matrix.table.dtype), nearest.ravel(), starts), (n, n))
    expected = P @ (P @ matrix.table).T
    shared = (P @ P.T).tocoo()
    expected[shared.row, shared.col] /= 1 - shared.data
    partial = matrix.table - expected
    np.fill_diagonal(partial, 0)
    return DistanceMatrix(partial)
