"""Principal components: orthonormal directions of largest variance.

X (row, unit) prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes, Z = (X − mean) Dᵀ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import xarray as xr

from neurosuper.directions._rows.lost_digits import warn_of_dropped
from neurosuper.directions._rows.moments import (
    RANK_TOLERANCE,
    moments,
    sign_rows,
    skew_signs,
)
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.spectrum import (
    EXACT_SIDE,
    Spectrum,
    exact_spectrum,
    is_accurate,
    randomized_spectrum,
    uses_gram,
)
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned, as_learned
from neurosuper.directions.settings import count_directions

CONSTANT_UNIT_RTOL = 1e-4  # variance / mean²; smaller ratios may be rounding of a constant unit
EXACT_STREAM = 4096  # units up to which streamed responses are solved exactly: their covariance takes 128 MiB
FEW = 25  # min(stimuli, units) / directions above which the randomized solver is faster


@dataclass(kw_only=True, eq=False, repr=False)
class PCA(DirectionFinder):
    """Principal component analysis.

    The orthonormal D that maximise Σ ‖(x − mean) Dᵀ‖², by one of two solvers:

    "exact"
        Eigenvectors of the covariance of units, or, where responses in memory have fewer stimuli than units, of the
        Gram matrix of stimuli. Products are computed in float64; but in float32, and accumulated in float64, if `dtype`
        is float32, a number of directions is asked for, and there are over 2³¹ products. They are repeated in float64
        if a variance of less than 10⁻⁴ of the largest is asked for. Memory, in addition to the responses: a few times
        min(stimuli, units)² numbers (streamed: units²) in float64. Passes over a dask array: one; one more if products
        are repeated or responses are normalised.
    "randomized"
        Rayleigh-Ritz on a block Krylov space (Musco and Musco 2015) of the covariance, which is never formed. In memory
        the space starts from the same method on an eighth of the stimuli, if there are more than twice as many stimuli
        as units. Directions are close to the exact ones if the spectrum falls; they explain a little less variance.
        Memory: about ten times directions × units numbers. Passes over a dask array: five, one of them to find
        constant units.

    "auto" is randomized if both stimuli and units are over 25 times the directions asked for, and float32 responses in
    memory have over 1,000 of both, or streamed ones over 4,096 units; also if streamed responses have over 4,096 units,
    and more units than stimuli. Otherwise it is exact; and in memory it switches to exact if the last variance is less
    than 10⁻⁴ of the largest. Responses are never copied to be centred.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "0.5x", or None for the rank of the responses.
    normalize, center : bool, optional
        As in every finder. Without `center`, directions have the largest second moment about zero, and "variances" are
        second moments.
    solver : {"auto", "exact", "randomized"}, optional
    random_state : int, Generator, RandomState or None, optional
        Seed of the randomized solver.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Orthonormal, sorted by decreasing variance, each with the sign that skews the codes of the stimuli (of 4,096,
        evenly spread, if there are more) to the right.
    mean_ : DataArray (unit,)
        Mean response of each unit.
    explained_variance_, explained_variance_ratio_ : DataArray (direction,)
        Variance of the codes (ddof=1), and its share of the total.

    See Also
    --------
    ICA : Directions with independent codes.
    Random : Directions that any finder should do better than.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.outer(np.arange(5.) ** 2, [3, 4]), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("vwxyz"), "unit": list("ab")})
    >>> PCA(1, dtype="float64").fit(r).directions_.values.round(3).tolist()
    [[0.6, 0.8]]
    """

    normalize: bool = False
    center: bool = True
    solver: Literal["auto", "exact", "randomized"] = "auto"

    unit_powers: ClassVar = {"explained_variance": 2}

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the stimuli that decide the signs."""
        return sign_rows(rows)

    def check_units(self, responses: xr.DataArray, rows: Rows) -> torch.Tensor:
        """Return the size of each unit; search for constant units only if the covariance leaves room for one."""
        if not self.normalize and not self._is_randomized(rows) and not uses_gram(rows):
            mean, scatter = moments(rows, self.n_directions is None)
            variance = scatter.diagonal() / rows.n_rows
            if bool(((CONSTANT_UNIT_RTOL * mean**2 < variance) & (variance < torch.inf)).all()):
                return (variance + mean**2).sqrt()
        return super().check_units(responses, rows)

    def choose_preparation(self, rows: Rows, scale: float) -> Preparation:
        """Return no centring: the mean is subtracted tile by tile, without a centred copy of the responses."""
        return Preparation(self.normalize, scale=scale)

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return Z D."""
        return Z @ self.tensor("directions_")

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the principal components and their variances."""
        wanted = None if self.n_directions is None else n_directions
        mean, found = self._solve(rows, wanted)
        tolerance = RANK_TOLERANCE[torch.float64]
        rank = int((found.variance > tolerance * found.variance[0]).sum())
        if wanted is not None:
            limit = f"these responses vary along {rank} (the rank of {rows.n_rows} stimuli × {rows.n_columns} units)"
            self.at_most(wanted, rank, limit, "ask for fewer, or use KMeans, which gives more directions than units")
        else:
            warn_of_dropped("PCA", rows, mean, found.variance, found.D.T, tolerance)
        variance, D = found.variance[:rank], found.D[:rank].to(rows.dtype)
        mean = mean.to(rows.dtype)
        signs = skew_signs(rows.take(sign_rows(rows)), mean if self.center else rows.mean(), D)
        return as_learned(signs * D) | {
            "mean": (("unit",), mean),
            "explained_variance": (("direction",), variance),
            "explained_variance_ratio": (("direction",), variance / found.total),
        }

    def _is_randomized(self, rows: Rows) -> bool:
        if self.solver not in ("auto", "exact", "randomized"):
            raise ValueError(f"solver must be 'auto', 'exact' or 'randomized', got {self.solver!r}")
        if self.solver != "auto" or self.n_directions is None:
            return self.solver == "randomized"
        smaller = min(rows.n_rows, rows.n_columns)
        are_few = FEW * count_directions(self.n_directions, rows.n_columns) < smaller
        if rows.in_memory:
            return are_few and smaller > EXACT_SIDE and rows.dtype == torch.float32
        return rows.n_columns > EXACT_STREAM and (are_few or rows.n_columns > rows.n_rows)

    def _solve(self, rows: Rows, wanted: int | None) -> tuple[torch.Tensor, Spectrum]:
        """Return the mean, and the principal components: as many as are wanted, or as exist."""
        if self._is_randomized(rows):
            mean = rows.mean() if self.center else torch.zeros_like(rows.mean())
            found = randomized_spectrum(rows, mean, wanted or min(rows.n_rows, rows.n_columns), self.generator())
            if self.solver == "randomized" or not rows.in_memory or is_accurate(found):
                return mean, found
        if self.solver == "auto" and not rows.in_memory and rows.n_columns > max(EXACT_STREAM, rows.n_rows):
            raise ValueError(
                f"PCA cannot stream all directions of more units ({rows.n_columns}) than stimuli ({rows.n_rows}); give "
                "n_directions, or call responses.compute() first"
            )
        return exact_spectrum(rows, wanted, self.center)
