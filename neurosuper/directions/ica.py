"""Independent components: directions whose codes are as independent and as non-Gaussian as possible.

R (stimulus, unit) responses, D (direction, unit) directions, Z (stimulus, direction) codes, R ≈ Z D + mean;
Y (stimulus, component) whitened responses, W (direction, component) orthogonal, S = Y Wᵀ sources of unit variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from neurosuper.directions._rows.moments import sign_rows, skew_signs
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.ica_search import (
    GAUSSIAN,
    PrincipalSpace,
    WhitenedRows,
    maximise_contrast,
    nearest_orthogonal,
    principal_space,
    whiten,
)
from neurosuper.directions._solvers.steps import Step
from neurosuper.directions.hooks import Learned
from neurosuper.directions.iterative import IterativeFinder


@dataclass(kw_only=True, eq=False, repr=False)
class ICA(IterativeFinder):
    """Independent component analysis, symmetric FastICA with a quasi-Newton search.

    Responses are centred and whitened to their first principal components. An orthogonal W is sought there that
    maximises

        Σᵢ tᵢ (E[G(ν)] − E[G(sᵢ)]),    s = W y,  ν standard normal,

    where G is log cosh or −exp(−u²/2), and tᵢ = ±1 if the source has heavier or lighter tails than a Gaussian: the
    likelihood of independent sources. Its stationary points are those of FastICA (Hyvärinen and Oja 2000, section 6),
    whose fixed-point step is a step by an approximate Hessian. The first 40 steps are FastICA's, enough to leave
    saddle points at which two sources are equally mixed; from the best of them, that Hessian preconditions an L-BFGS
    search over orthogonal matrices (Ablin, Cardoso and Gramfort 2018, "Faster ICA under orthogonal constraint"), which
    needs fewer passes if sources are close to Gaussian. Other seeds may find other optima, of nearly the same
    likelihood.

    Each iteration passes over the responses once (twice if a step must be shortened) and costs 4 n_stimuli
    n_directions² operations. Memory, in addition to the responses: n_stimuli × n_directions numbers for an array in
    memory, which is whitened once (a dask array is streamed, and whitened in each pass); and units² numbers in float64.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number or a multiple of the units such as "0.5x", at most the rank of the responses; or None for the rank.
    contrast : {"logcosh", "exp"}, optional
        The function G; "exp" is better for very heavy tails and outliers.
    normalize : bool, optional
        Scale response vectors to unit length first, as in every finder.
    max_iter : int, optional
        Largest number of iterations.
    tol : float or None, optional
        Stop when a fixed-point step of FastICA would turn no row of W by more: 1 − |cosine|. None runs all of
        `max_iter`.
    random_state : int, Generator, RandomState or None, optional
        Seed of the first W.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Mixing patterns: the contribution of each source to the units. By falling variance of the codes, each with the
        sign that skews the codes of the stimuli (of 4,096, evenly spread, if there are more) to the right.
    filters_ : DataArray (direction, unit)
        Unmixing: codes are (R − mean) filtersᵀ, and Z D + mean is the projection of responses on the principal
        components.
    mean_ : DataArray (unit,)
        Mean response of each unit.
    negentropy_ : DataArray (direction,)
        (E[G(s)] − E[G(ν)])²: how non-Gaussian the codes of each direction are (Hyvärinen and Oja 2000, eq. 25).
    objective_, learning_curve_, n_iter_
        As in every finder that iterates; the objective is the sum above, which rises.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached first.

    See Also
    --------
    PCA : Directions with uncorrelated codes.

    Examples
    --------
    >>> import numpy as np
    >>> sources = np.random.default_rng(0).laplace(size=(2000, 2))
    >>> finder = ICA(2, dtype="float64").fit(sources @ [[0.6, 0.8], [1, 0]])
    >>> sorted(np.abs(finder.directions_.values).round(1).tolist())
    [[0.6, 0.8], [1.0, 0.0]]
    """

    contrast: Literal["logcosh", "exp"] = "logcosh"
    normalize: bool = False
    max_iter: int = 200
    tol: float | None = 1e-4

    center = True  # always, tile by tile: not a setting

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the stimuli that decide the signs."""
        return sign_rows(rows)

    unit_powers: ClassVar = {"objective": 0}

    def choose_preparation(self, rows: Rows, scale: float) -> Preparation:
        """Return no centring: the mean is subtracted tile by tile, without a centred copy of the responses."""
        return Preparation(self.normalize, scale=scale)

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the sources, scaled to directions of unit length."""
        return X @ self.tensor("filters_").T

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return Z D."""
        return Z @ self.tensor("directions_")

    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the rotation after each step of the search."""
        if self.contrast not in GAUSSIAN:
            raise ValueError(f"contrast must be 'logcosh' or 'exp', got {self.contrast!r}")
        space = principal_space(rows, None if self.n_directions is None else n_directions)
        if self.n_directions is not None:
            rank = len(space.variance)  # if it is smaller than n_directions
            limit = f"these responses vary along {rank} (the rank of {rows.n_rows} stimuli × {rows.n_columns} units)"
            advice = "ask for fewer, or use KMeans or SparseAutoencoder, which give more directions than units"
            self.at_most(n_directions, rank, limit, advice)
        whitened = WhitenedRows(space, rows, whiten(rows.whole, space.mean, space.K) if rows.in_memory else None)
        tol = -1.0 if self.tol is None else self.tol
        for point, best in maximise_contrast(whitened, self._first_rotation(space), self.contrast, tol):
            yield Step(point.W, float(best.objective), (whitened, best))
            if best.turn <= tol:
                return

    def _first_rotation(self, space: PrincipalSpace) -> torch.Tensor:
        """Return a random W, which does not depend on the basis of the components."""
        M = torch.randn(space.K.T.shape, generator=self.generator(), dtype=torch.float64)
        return nearest_orthogonal(M.to(space.K.device) @ (space.K * space.variance.sqrt()))

    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return mixing patterns and filters, sorted by decreasing variance of the codes."""
        whitened, point = step.state
        space, W = whitened.space, point.W
        mean, K = space.mean.to(rows.dtype), space.K.to(rows.dtype)
        # Signs: the codes of each source are skewed to the right.
        W = W * skew_signs(rows.take(sign_rows(rows)), mean, W.to(rows.dtype) @ K.T)
        # Length of each mixing pattern, which is the standard deviation of its codes: largest first.
        length, order = (W * space.variance.sqrt()).norm(dim=1).sort(descending=True)
        W = W[order]
        # X − mean = S W (K diag(variance))ᵀ: patterns are scaled to unit length, and codes by their lengths.
        D = W @ (space.K * space.variance).T / length[:, None]
        filters = length[:, None] * (W @ space.K.T)
        return {
            "directions": (("direction", "unit"), torch.nn.functional.normalize(D, dim=1).to(rows.dtype)),
            "filters": (("direction", "unit"), filters.to(rows.dtype)),
            "mean": (("unit",), space.mean.to(rows.dtype)),
            "negentropy": (("direction",), point.gain[order] ** 2),
        }
