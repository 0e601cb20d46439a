"""Archetypes: extreme mixtures of stimuli between which all responses lie.

X (stimulus, unit) prepared responses, A (direction, unit) archetypes, M (stimulus, direction) memberships on the
simplex, X ≈ M A; A = B H, H (candidate, unit) stimuli on the convex hull, B (direction, candidate) on the simplex.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch

from neurosuper.directions._rows.rows import Blocks, Tensors
from neurosuper.directions.base import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder, Step

CANDIDATES = 2048  # stimuli of which archetypes are mixed, at most twice as many
REST = {torch.float32: 1e-5, torch.float64: 1e-11}  # largest change of a membership or a weight at rest
ORIGIN = 1e-4  # an archetype that is so much shorter than the longest has no direction
MOVES = 500  # of memberships in an iteration, at most
REMIXES = 50  # of the weights that make archetypes, at most


class Archetypal(IterativeFinder):
    """Archetypal analysis (Cutler and Breiman 1994): directions towards the corners of the cloud of responses.

    Minimises ‖X − M A‖² where every archetype is a mixture of stimuli (A = B X) and every response is a mixture of
    archetypes; the weights of a mixture are not negative and sum to one. Alternates accelerated projected gradients
    for M and for B (Mørup and Hansen 2012; restarts of O'Donoghue and Candès 2015). Only stimuli on the convex hull can
    be part of an archetype: up to 2,048 stimuli all take part, of more those that are extreme along 2,048 random
    directions (Thurau, Kersting, Wahabzada and Bauckhage 2011).

    Each iteration is one pass over the responses, and two passes before look at their range and find the candidates,
    so that a dask array is streamed; cost of an iteration: stimuli × units × directions, and up to 500 times stimuli ×
    directions². Peak memory, streamed: a few chunks and, while candidates are sought, some four times 4,096 response
    vectors.

    Parameters
    ----------
    n_directions : int, str or None, optional
        Number of archetypes, a multiple of the units, or None for as many as units.
    normalize, center, whiten : bool, optional
        As in every finder.
    max_iter : int, optional
    tol : float or None, optional
        As in every finder that iterates.
    random_state : int, optional
        Draws the directions along which candidates are extreme, where there are more than 2,048 stimuli.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Archetypes scaled to unit length; a code is a membership times the length of its archetype.
    archetypes_ : DataArray (direction, unit)
        The archetypes themselves, in the space of prepared responses.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates; the objective is ‖X − M A‖² before each iteration's new archetypes.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> corners = np.array([[4., 1.], [1., 5.], [1., 1.]])
    >>> mixed = np.random.default_rng(0).dirichlet([1, 1, 1], 40) @ corners
    >>> fitted = Archetypal(3).fit(np.vstack([mixed, corners]))
    >>> np.sort(fitted.archetypes_.values.round(2), axis=0).tolist()
    [[1.0, 1.0], [1.0, 1.0], [4.0, 5.0]]
    """

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        normalize: bool = False,
        center: bool = False,
        whiten: bool = False,
        max_iter: int = 300,
        tol: float | None = 1e-6,
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            n_directions,
            normalize=normalize,
            center=center,
            whiten=whiten,
            random_state=random_state,
            device=device,
            dtype=dtype,
        )
        self.max_iter = max_iter
        self.tol = tol

    _powers: ClassVar = {"objective": 2, "archetypes": 1}

    def _encode(self, X: torch.Tensor) -> torch.Tensor:
        A = self._tensor("archetypes_")
        return memberships(X, A) * A.norm(dim=1)

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        return Z @ self._tensor("directions_")

    def _steps(self, rows: Blocks, n_directions: int) -> Iterator[Step]:
        H = self._candidates(rows)
        if n_directions > len(H):
            raise ValueError(
                f"Archetypal cannot make {n_directions} archetypes of {len(H)} stimuli on the hull of {rows.n_rows}; "
                "ask for fewer directions"
            )
        B = _furthest(H, n_directions)
        while True:
            cross, gram, residual = rows.sum(_statistics, B @ H, width=n_directions)
            B = _remix(B, H, gram, cross)
            yield Step(B @ H, float(residual))

    def _candidates(self, rows: Blocks) -> torch.Tensor:
        """Return the stimuli that may be part of an archetype: all, or those extreme along random directions."""
        if rows.n_rows <= CANDIDATES:
            return torch.cat(list(rows))
        along = torch.randn(CANDIDATES, rows.n_columns, generator=self._generator(), dtype=torch.float64)
        along = along.to(rows.device, rows.dtype)
        _, top, _, bottom = rows.reduce(_extremes, _more_extreme, along, width=2 * CANDIDATES)
        return torch.cat([top, bottom]).unique(dim=0)

    def _finish(self, rows: Blocks, step: Step) -> Learned:
        length = step.D.norm(dim=1)
        if bool((length <= ORIGIN * length.max()).any()):
            raise ValueError(
                "an archetype lies at the origin (stimuli without any response) and has no direction; drop those "
                "stimuli, or use center=True"
            )
        return as_learned(torch.nn.functional.normalize(step.D, dim=1)) | {
            "archetypes": (("direction", "unit"), step.D)
        }


def memberships(X: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """Return M `(row, direction)` on the simplex that minimises ‖x − m A‖² of each row by itself."""
    start = torch.full((len(X), len(A)), 1 / len(A), dtype=X.dtype, device=X.device)
    centre = A.mean(0)
    A = A - centre  # the same M, and better conditioned
    gram, products = A @ A.T, (X - centre) @ A.T
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp(min=torch.finfo(X.dtype).tiny)
    return _descend(start, lambda M: (M @ gram - products) * step, MOVES)


def _remix(B: torch.Tensor, H: torch.Tensor, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Return B on the simplex that lowers ½ tr(Aᵀ G A) − tr(Aᵀ P), A = B H: what ‖X − M A‖² is, given M."""
    centre = H.mean(0)
    H, G = H - centre, gram.to(H.dtype)
    P = (cross - torch.outer(gram.sum(1), centre.double())).to(H.dtype)
    step = 1 / (torch.linalg.matrix_norm(G, 2) * torch.linalg.matrix_norm(H, 2) ** 2)
    return _descend(B, lambda B: ((G @ (B @ H) - P) @ H.T) * step, REMIXES)


def _descend(M: torch.Tensor, scaled_gradient: Callable[[torch.Tensor], torch.Tensor], most: int) -> torch.Tensor:
    """Return where accelerated projected gradients on the simplex come to rest; each row restarts by itself.

    Rows at rest are left alone, so that the result for a row does not depend on the other rows.
    """
    rest = REST[M.dtype]
    ahead, t = M, torch.ones_like(M[:, :1])
    resting = torch.zeros_like(t, dtype=torch.bool)
    for _ in range(most):
        new = torch.where(resting, M, onto_simplex(ahead - scaled_gradient(ahead)))
        change = new - M
        overshot = ((ahead - new) * change).sum(1, keepdim=True) > 0
        following = torch.where(overshot, 1.0, (1 + (1 + 4 * t**2).sqrt()) / 2)
        ahead = new + torch.where(overshot, 0.0, (t - 1) / following) * change
        resting = resting | (change.abs().amax(1, keepdim=True) <= rest)
        M, t = new, following
        if bool(resting.all()):
            break
    return M


def onto_simplex(V: torch.Tensor) -> torch.Tensor:
    """Return the nearest point of the simplex to each row (Held, Wolfe and Crowder 1974; Duchi et al. 2008)."""
    falling = V.sort(dim=1, descending=True).values
    above = falling.cumsum(1) - 1
    place = torch.arange(1, V.shape[1] + 1, dtype=V.dtype, device=V.device)
    count = (falling * place > above).sum(1, keepdim=True)
    return (V - above.gather(1, count - 1) / count).clamp(min=0)


def _statistics(X: torch.Tensor, A: torch.Tensor) -> Tensors:
    """Return MᵀX, MᵀM and the squared error, summed over rows."""
    M = memberships(X, A)
    residual = ((X - M @ A) ** 2).sum(dtype=torch.float64)
    return (M.T @ X).double(), (M.T @ M).double(), residual


def _extremes(X: torch.Tensor, along: torch.Tensor) -> Tensors:
    """Return the largest and the smallest projection on each direction, and the rows that have them."""
    along_each = X @ along.T
    (top, at_top), (bottom, at_bottom) = along_each.max(0), along_each.min(0)
    return top, X[at_top], bottom, X[at_bottom]


def _more_extreme(a: Tensors, b: Tensors) -> Tensors:
    higher, lower = b[0] > a[0], b[2] < a[2]
    return (
        torch.where(higher, b[0], a[0]),
        torch.where(higher[:, None], b[1], a[1]),
        torch.where(lower, b[2], a[2]),
        torch.where(lower[:, None], b[3], a[3]),
    )


def _furthest(H: torch.Tensor, n: int) -> torch.Tensor:
    """Return B that picks `n` candidates far from all picked before (FurthestSum, Mørup and Hansen 2012)."""
    distances = torch.zeros_like(H[:, 0])
    picked = [int((H - H.mean(0)).norm(dim=1).argmax())]
    while len(picked) < n:
        distances = distances + (H - H[picked[-1]]).norm(dim=1)
        distances[picked] = -1
        picked.append(int(distances.argmax()))
    return torch.nn.functional.one_hot(torch.tensor(picked, device=H.device), len(H)).to(H.dtype)
