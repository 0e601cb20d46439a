"""Principal components: orthonormal directions of largest variance."""

from __future__ import annotations

import torch

from neurosuper.directions.base import DirectionFinder, Learned, as_learned, skew_positively
from neurosuper.directions.blocks import Blocks

RANK_TOLERANCE = 1e-10  # of the largest variance: less is rounding


class PCA(DirectionFinder):
    """Principal component analysis.

    From the covariance of the units, accumulated in float64 over blocks; where an array in memory has more units than
    stimuli, from its singular value decomposition. Memory beside the responses: a few times units² numbers in
    float64, and 256 MiB.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "0.5x", or None for all along which the responses vary: their rank.
    random_state : int, optional
        Not used: the result is exact.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Orthonormal, by falling variance, each with the sign that skews its codes to the right.
    mean_ : DataArray (unit,)
        Mean response of each unit.
    explained_variance_, explained_variance_ratio_ : DataArray (direction,)
        Variance of the codes (ddof=1), and its share of the total.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.outer(np.arange(5.) ** 2, [3, 4]), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("vwxyz"), "unit": list("ab")})
    >>> PCA(1, dtype="float64").fit(r).directions_.values.round(3).tolist()
    [[0.6, 0.8]]
    """

    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
        mean = rows.mean()
        wide = rows.n_columns > rows.n_rows
        if wide and not rows.in_memory:
            raise ValueError(
                f"PCA streams only where stimuli ({rows.n_rows}) outnumber units ({rows.n_columns}); call "
                "responses.compute() first, or use Random or KMeans, which stream"
            )
        variance, D, total = (_from_svd if wide else _from_covariance)(rows, mean)
        rank = int((variance > RANK_TOLERANCE * variance[0]).sum())
        if self.n_directions is None:
            n_directions = rank
        if n_directions > rank:
            raise ValueError(
                f"these responses vary along {rank} directions (the rank of {rows.n_rows} stimuli × {rows.n_columns} "
                f"units), not {n_directions}; ask for fewer, or use KMeans, which gives more directions than units"
            )
        variance = variance[:n_directions]
        return as_learned(skew_positively(D[:n_directions].to(rows.dtype), rows), mean) | {
            "explained_variance": (("direction",), variance),
            "explained_variance_ratio": (("direction",), variance / total),
        }


def _from_covariance(rows: Blocks, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return variances and directions by falling variance, and the total variance; one pass over the blocks."""

    def moments(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        centred = (part - mean).double()
        return centred.T @ centred, centred.sum(0)

    gram, rest = rows.sum(moments)
    covariance = (gram - torch.outer(rest, rest) / rows.n_rows) / (rows.n_rows - 1)
    variance, vectors = torch.linalg.eigh(covariance)
    return variance.flip(0), vectors.flip(1).T.contiguous(), covariance.trace()


def _from_svd(rows: Blocks, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the same from the centred responses themselves, all in memory."""
    (block,) = rows
    singular, D = torch.linalg.svd((block - mean).double(), full_matrices=False)[1:]
    variance = singular**2 / (rows.n_rows - 1)
    return variance, D, variance.sum()
