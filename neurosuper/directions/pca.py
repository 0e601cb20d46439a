"""Principal components: orthonormal directions of largest variance.

X (row, unit) prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes, Z = (X − mean) Dᵀ.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
import xarray as xr

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
from neurosuper.directions.base import DirectionFinder, Learned, as_learned
from neurosuper.directions.settings import count_directions

CONSTANT_UNIT_RTOL = 1e-4  # of the squared mean: a variance above is surely none that rounding makes of a constant unit
EXACT_STREAM = 4096  # the same of units, where responses are streamed and a pass costs most
FEW = 25  # randomized pays where the smaller of stimuli and units is more than this many times the directions


class PCA(DirectionFinder):
    """Principal component analysis.

    The orthonormal D that maximise Σ ‖(x − mean) Dᵀ‖², by one of two solvers:

    "exact"
        Eigenvectors of the covariance of units, or, where responses in memory have fewer stimuli than units, of the
        Gram matrix of stimuli. Products are of float64; but of float32, accumulated in float64, where `dtype` is
        float32, a number of directions is asked for, and there are over 2³¹ products. These are done again in float64
        where a variance of less than 10⁻⁴ of the largest is asked for. Memory beside the responses: a few times
        min(stimuli, units)² numbers (streamed: units²) in float64. Passes over a dask array: one; one more where
        products are done again or responses are normalized.
    "randomized"
        Rayleigh-Ritz on a block Krylov space (Musco and Musco 2015) of the covariance, which is never formed. In memory
        the space is seeded by the same method on an eighth of the stimuli, where they are more than twice as many as
        units. Directions are near to the exact ones where the spectrum falls; the explained variance is a little less.
        Memory: some ten times directions × units numbers. Passes over a dask array: five, one of them to look for
        constant units.

    "auto" is randomized where both stimuli and units are over 25 times the directions asked for, and float32 responses
    in memory have over 1,000 of both, or streamed ones over 4,096 units; also where streamed responses have over 4,096
    units, and more than stimuli. Else it is exact; and in memory it becomes so where the last variance is less than
    10⁻⁴ of the largest. Responses are never copied to be centred.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "0.5x", or None for all along which the responses vary: their rank.
    normalize, center : bool, optional
        As in every finder. Without `center`, directions are those of the largest second moment about zero, and so are
        the "variances".
    solver : {"auto", "exact", "randomized"}, optional
    random_state : int, optional
        Seed of the randomized solver.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Orthonormal, by falling variance, each with the sign that skews the codes of the stimuli (of up to 4,096,
        evenly spread, where there are more) to the right.
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

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        normalize: bool = False,
        center: bool = True,
        solver: Literal["auto", "exact", "randomized"] = "auto",
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            n_directions, normalize=normalize, center=center, random_state=random_state, device=device, dtype=dtype
        )
        self.solver = solver

    _powers: ClassVar = {"explained_variance": 2}

    def _rows_to_keep(self, rows: Rows) -> np.ndarray:
        return sign_rows(rows)

    def _check_units(self, responses: xr.DataArray, rows: Rows) -> torch.Tensor:
        """Look for constant units only where the covariance, which is summed first, leaves a doubt."""
        if not self.normalize and not self._is_randomized(rows) and not uses_gram(rows):
            mean, scatter = moments(rows, self.n_directions is None)
            variance = scatter.diagonal() / rows.n_rows
            if bool(((CONSTANT_UNIT_RTOL * mean**2 < variance) & (variance < torch.inf)).all()):
                return (variance + mean**2).sqrt()
        return super()._check_units(responses, rows)

    def _prepare(self, rows: Rows, scale: float) -> Preparation:
        """Return no centring: the mean is taken off chunk by chunk, without a centred copy of the responses."""
        return Preparation(self.normalize, scale=scale)

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        return Z @ self._tensor("directions_")

    def _fit(self, rows: Rows, n_directions: int) -> Learned:
        wanted = None if self.n_directions is None else n_directions
        mean, found = self._solve(rows, wanted)
        tolerance = RANK_TOLERANCE[torch.float64]
        rank = int((found.variance > tolerance * found.variance[0]).sum())
        if wanted is not None and wanted > rank:
            raise ValueError(
                f"these responses vary along {rank} directions (the rank of {rows.n_rows} stimuli × {rows.n_columns} "
                f"units), not {wanted}; ask for fewer, or use KMeans, which gives more directions than units"
            )
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
        """Return the mean, and as many principal components as are wanted and there are."""
        if self._is_randomized(rows):
            mean = rows.mean() if self.center else torch.zeros_like(rows.mean())
            found = randomized_spectrum(rows, mean, wanted or min(rows.n_rows, rows.n_columns), self._generator())
            if self.solver == "randomized" or not rows.in_memory or is_accurate(found):
                return mean, found
        if self.solver == "auto" and not rows.in_memory and rows.n_columns > max(EXACT_STREAM, rows.n_rows):
            raise ValueError(
                f"PCA cannot stream all directions of more units ({rows.n_columns}) than stimuli ({rows.n_rows}); give "
                "n_directions, or call responses.compute() first"
            )
        return exact_spectrum(rows, wanted, self.center)


# Exact.


# Randomized.
