"""Gaussian vectors with the mean and covariance of the responses: a baseline for directions that follow both.

X (stimulus, unit) prepared responses with mean m and covariance C = V Λ Vᵀ; G (direction, unit) draws from N(m, C);
D (direction, unit) = G with rows of unit length.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.spectrum import Spectrum, exact_spectrum
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned, as_learned

MANY = 1000  # draws by default: the s.e. of their mean index is then 3 % of the s.d. between them


@dataclass(kw_only=True, eq=False, repr=False)
class CovarianceMatched(DirectionFinder):
    """Gaussian vectors with the mean and the covariance of the responses, as directions: a baseline for all finders.

    Each direction is an independent draw from the normal distribution that has the mean and the covariance (ddof=1) of
    the (prepared) responses, scaled to unit length. Directions that score no better than these have found no more than
    the mean response and the axes of large variance. Give it the preparation of the finder that it is compared with:
    ``CovarianceMatched(normalize=True)`` is the baseline of ``KMeans()``, and with ``center=True`` that of
    ``KMeans(center=True)``.

    A dask array is passed over twice: for the ranges of units, and for the covariance; once more with `whiten`.
    Memory, in addition to the responses: a few times min(stimuli, units)² numbers (streamed: units²) in float64.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units, but at most 1,000: draws are
        independent, so that more of them change their mean index little.
    normalize, center, whiten : bool, optional
        As in every finder. With `whiten`, directions are uniform on the sphere.
    random_state : int, Generator, RandomState or None, optional
        Seed; None draws a new one at every fit.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation but the covariance, which is computed in float64.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Rows of unit length; signs are those of the draws.
    mean_ : DataArray (unit,)
        Zero, unless `center` or `whiten`.

    See Also
    --------
    Exemplars : A baseline with all structure of single responses.
    Random, Units : Baselines that do not depend on the responses.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.outer(np.arange(5.) - 2, [3, 4]), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("vwxyz"), "unit": list("ab")})
    >>> D = CovarianceMatched(1, dtype="float64").fit(r).directions_.values  # all responses are on one axis
    >>> np.abs(D).round(3).tolist()
    [[0.6, 0.8]]
    """

    normalize: bool = False
    center: bool = False
    whiten: bool = False

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return draws from the normal distribution with the mean and covariance of the rows."""
        if self.n_directions is None:
            n_directions = min(n_directions, MANY)
        mean, spectrum = exact_spectrum(rows, None, center=True)
        G = draw_normal(mean, spectrum, n_directions, self.generator())
        return as_learned(torch.nn.functional.normalize(G, dim=1).to(rows.dtype))


def draw_normal(mean: torch.Tensor, spectrum: Spectrum, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return `n` draws `(draw, unit)` from N(m, C), in float64, for the mean m and the spectrum of the covariance C."""
    V, variance = spectrum.D.double(), spectrum.variance.double().clamp(min=0)
    E = torch.randn(n, V.shape[1], generator=generator, dtype=torch.float64).to(V.device)
    # g = m + C^(½) ε with the symmetric root C^(½) = V Λ^(½) Vᵀ: it does not depend on the signs of eigenvectors, nor
    # on their order where variances are equal, so that streamed responses give the same draws.
    return mean.double() + (E @ V.T * variance.sqrt()) @ V
