"""Archetypes: extreme mixtures of stimuli; every response is close to a mixture of archetypes.

X (stimulus, unit) prepared responses, A (direction, unit) archetypes, M (stimulus, direction) memberships on the
simplex, X ≈ M A; A = B H, H (candidate, unit) stimuli on the convex hull, B (direction, candidate) on the simplex.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.simplex import (
    extreme_rows,
    furthest_sum,
    membership_statistics,
    memberships,
    merge_extremes,
    update_weights,
)
from neurosuper.directions._solvers.steps import Step
from neurosuper.directions.hooks import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder

CANDIDATES = 2048  # random directions, each with two extreme stimuli: archetypes mix at most twice that many stimuli
ORIGIN = 1e-4  # length / longest length; a shorter archetype is at the origin but for rounding and has no direction


@dataclass(kw_only=True, eq=False, repr=False)
class Archetypal(IterativeFinder):
    """Archetypal analysis (Cutler and Breiman 1994): directions towards the corners of the cloud of responses.

    Minimises ‖X − M A‖² where every archetype is a mixture of stimuli (A = B X) and every response is a mixture of
    archetypes; the weights of a mixture are not negative and sum to one. Alternates accelerated projected gradients
    for M and for B (Mørup and Hansen 2012; restarts of O'Donoghue and Candès 2015). Only stimuli on the convex hull can
    be part of an archetype: up to 2,048 stimuli, all are candidates; of more, the stimuli that are extreme along 2,048
    random directions (Thurau, Kersting, Wahabzada and Bauckhage 2011).

    Each iteration is one pass over the responses, so that a dask array is streamed; two passes before compute the
    ranges of units and find the candidates. Cost of an iteration: stimuli × units × directions, and up to 500 times
    stimuli × directions². Peak memory, streamed: a few chunks and, during the search for candidates, about four times
    4,096 response vectors.

    Parameters
    ----------
    n_directions : int, str or None, optional
        Number of archetypes, a multiple of the units, or None for as many as units.
    normalize, center, whiten : bool, optional
        As in every finder.
    max_iter : int, optional
        Largest number of iterations.
    tol : float or None, optional
        As in every finder that iterates.
    random_state : int, Generator, RandomState or None, optional
        Seed of the random directions along which candidates are extreme, if there are more than 2,048 stimuli.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Archetypes scaled to unit length; a code is a membership times the length of its archetype.
    archetypes_ : DataArray (direction, unit)
        The archetypes themselves, in the space of prepared responses.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates; the objective is ‖X − M A‖² before each iteration's new archetypes.

    See Also
    --------
    KMeans : Directions towards the centres of clusters, rather than to extremes.
    NMF : Sums rather than mixtures.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> corners = np.array([[4., 1.], [1., 5.], [1., 1.]])
    >>> mixed = np.random.default_rng(0).dirichlet([1, 1, 1], 40) @ corners
    >>> fitted = Archetypal(3).fit(np.vstack([mixed, corners]))
    >>> np.sort(fitted.archetypes_.values.round(2), axis=0).tolist()
    [[1.0, 1.0], [1.0, 1.0], [4.0, 5.0]]
    """

    normalize: bool = False
    center: bool = False
    whiten: bool = False
    max_iter: int = 300
    tol: float | None = 1e-6

    unit_powers: ClassVar = {"objective": 2, "archetypes": 1}

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the membership of each archetype times its length."""
        A = self.tensor("archetypes_")
        return memberships(X, A) * A.norm(dim=1)

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return Z D."""
        return Z @ self.tensor("directions_")

    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the archetypes after each update of memberships and mixtures."""
        H = self._candidates(rows)
        limit = f"{len(H)} stimuli are on the hull of {rows.n_rows}, and an archetype needs one"
        n_directions = self.at_most(n_directions, len(H), limit)
        B = furthest_sum(H, n_directions)
        while True:
            cross, gram, residual = rows.sum(membership_statistics, B @ H, width=n_directions)
            B = update_weights(B, H, gram, cross)
            yield Step(B @ H, float(residual))

    def _candidates(self, rows: Rows) -> torch.Tensor:
        """Return the stimuli that may be part of an archetype: all, or the ones extreme along random directions."""
        if rows.n_rows <= CANDIDATES:
            return torch.cat(list(rows))
        along = torch.randn(CANDIDATES, rows.n_columns, generator=self.generator(), dtype=torch.float64)
        along = along.to(rows.device, rows.dtype)
        _, top, _, bottom = rows.reduce(extreme_rows, merge_extremes, along, width=2 * CANDIDATES)
        return torch.cat([top, bottom]).unique(dim=0)

    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return the archetypes, and the same scaled to unit length."""
        length = step.D.norm(dim=1)
        if bool((length <= ORIGIN * length.max()).any()):
            raise ValueError(
                "an archetype is at the origin (stimuli without any response) and has no direction; drop those "
                "stimuli, or use center=True"
            )
        return as_learned(torch.nn.functional.normalize(step.D, dim=1)) | {
            "archetypes": (("direction", "unit"), step.D)
        }
