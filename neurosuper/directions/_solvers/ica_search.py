"""Search for the rotation of whitened responses that makes codes most non-Gaussian.

X (row, unit) prepared responses, Y (row, component) whitened ones, W (direction, component) a rotation, s = W y
sources. Symmetric FastICA (Hyvärinen 1999), then preconditioned L-BFGS on rotations (Picard-O; Ablin, Cardoso and
Gramfort 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from neurosuper.directions._rows.lost_digits import warn_of_dropped
from neurosuper.directions._rows.moments import moments
from neurosuper.directions._rows.rows import Kernel, Rows, Tensors
from neurosuper.directions._rows.tiles import SOURCE_ROWS
from neurosuper.directions._solvers.ica_contrasts import NONLINEARITIES

RANK_TOLERANCE = 1e-10  # of the largest variance: less is rounding
GAUSSIAN = {"logcosh": 0.37456720749, "exp": -(0.5**0.5)}  # E[G(ν)], ν standard normal
N_REMEMBERED_STEPS = 10  # past steps from which L-BFGS estimates the curvature
MIN_CURVATURE = 1e-2  # lower bound on the approximate Hessian, which is near zero between two Gaussian sources
MAX_FIXED_POINT_STEPS = 40  # of FastICA before L-BFGS, which alone would stop where two sources are mixed half and half
STEP_LENGTHS = (1.0, 0.3, 0.1)  # of a line search, tried in turn


class PrincipalSpace(NamedTuple):
    """Principal components, in float64: y = (x − mean) K is white; `variance` is that of components before scaling."""

    mean: torch.Tensor
    K: torch.Tensor
    variance: torch.Tensor


def principal_space(rows: Rows, n_directions: int | None) -> PrincipalSpace:
    """Return the first `n_directions` components, or as many as there are; one pass over the blocks."""
    if rows.in_memory and rows.n_columns > rows.n_rows:
        # Fewer stimuli than units: a singular value decomposition of X is cheaper than the covariance of units.
        X = rows.whole.double()
        mean = X.mean(0)  # in float64: what is lost in float32 would be one more component
        singular, V = torch.linalg.svd(X - mean, full_matrices=False)[1:]
        variance, V = singular**2 / rows.n_rows, V.T
    else:
        mean, scatter = moments(rows)
        variance, V = torch.linalg.eigh(scatter / rows.n_rows)
        variance, V = variance.flip(0), V.flip(1)
    rank = int((variance > RANK_TOLERANCE * variance[0]).sum())
    if n_directions is None:
        warn_of_dropped("ICA", rows, mean, variance, V, RANK_TOLERANCE)
    variance = variance[:n_directions][:rank]
    return PrincipalSpace(mean, V[:, : len(variance)] / variance.sqrt(), variance)


def whiten(X: torch.Tensor, mean: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Return Y = (X − mean) K `(row, component)`, computed tile by tile."""
    mean, K = mean.to(X.dtype), K.to(X.dtype)
    Y = X.new_empty(len(X), K.shape[1])
    size = SOURCE_ROWS[X.device.type]
    for tile, out in zip(X.split(size), Y.split(size), strict=True):
        torch.mm(tile - mean, K, out=out)
    return Y


class WhitenedRows(NamedTuple):
    """Whitened rows: in memory, or whitened each time they are read."""

    space: PrincipalSpace
    rows: Rows
    whole: torch.Tensor | None

    def sum(self, kernel: Kernel, *state: Any) -> Tensors:
        """Return the sum over rows that `kernel(Y, *state)` computes for a block."""
        if self.whole is not None:
            return kernel(self.whole, *state)
        mean, K, _ = self.space
        return self.rows.sum(_on_whitened, kernel, mean, K, *state, width=K.shape[1])

    @property
    def n_rows(self) -> int:
        return self.rows.n_rows if self.whole is None else len(self.whole)


def _on_whitened(tile: torch.Tensor, kernel: Kernel, mean: torch.Tensor, K: torch.Tensor, *state: Any) -> Tensors:
    return kernel(whiten(tile, mean, K), *state)


def _statistics(Y: torch.Tensor, W: torch.Tensor, fun: str) -> Tensors:
    """Return Σ g(s) yᵀ (direction, component), Σ g'(s) and Σ G(s) (direction,), in float64."""
    cross, slope, contrast = (W.new_zeros(shape, dtype=torch.float64) for shape in (W.shape, len(W), len(W)))
    for y in Y.split(SOURCE_ROWS[Y.device.type]):
        S, slopes, contrasts = NONLINEARITIES[fun](y @ W.T)
        cross += S.T @ y
        slope += slopes
        contrast += contrasts
    return cross, slope, contrast


class Rotation(NamedTuple):
    """A rotation W and its objective and derivatives; changes are W ← W + E W with E antisymmetric."""

    W: torch.Tensor
    gain: torch.Tensor  # E[G(ν)] − E[G(s)] (direction,)
    tilt: torch.Tensor  # ±1 (direction,): heavier or lighter tails than a Gaussian
    gradient: torch.Tensor  # of the loss, antisymmetric (direction, direction)
    curvature: torch.Tensor  # its approximate Hessian, diagonal (direction, direction)
    turn: float  # largest 1 − |cosine| of a fixed-point step of FastICA
    fixed_step: torch.Tensor  # W after it

    @property
    def objective(self) -> torch.Tensor:
        return (self.tilt * self.gain).sum()


def _evaluate(whitened: WhitenedRows, W: torch.Tensor, fun: str) -> Rotation:
    """Return the objective at W, its derivatives, and a fixed-point step; one pass."""
    dtype = whitened.rows.dtype
    cross, slope, contrast = (total / whitened.n_rows for total in whitened.sum(_statistics, W.to(dtype), fun))
    # cross_ij = E[g(s_i) s_j]. bend_i = E[g'(s_i)] − E[g(s_i) s_i] is positive for heavier tails than a Gaussian's.
    cross = cross @ W.T
    bend = slope - cross.diagonal()
    tilt = torch.where(bend < 0, -1.0, 1.0).to(bend)
    # On rotations, the gradient is the antisymmetric part of tilt_i E[g(s_i) s_j]; the Hessian is approximated by its
    # diagonal for independent sources, (|bend_i| + |bend_j|) / 2 (Ablin et al. 2018).
    tilted = tilt[:, None] * cross
    # FastICA: w_i ← E[g(s_i) y] − E[g'(s_i)] w_i, then symmetric decorrelation; here in the coordinates of W.
    fixed_point = nearest_orthogonal(cross - slope.diag())
    return Rotation(
        W,
        GAUSSIAN[fun] - contrast,
        tilt,
        (tilted - tilted.T) / 2,
        ((bend.abs()[:, None] + bend.abs()) / 2).clamp(min=MIN_CURVATURE),
        float((1 - fixed_point.diagonal().abs()).max()),
        fixed_point @ W,
    )


def maximise_contrast(
    whitened: WhitenedRows, W: torch.Tensor, fun: str, tol: float
) -> Iterator[tuple[Rotation, Rotation]]:
    """Yield pairs of the current rotation and the best one so far.

    Steps of FastICA, which may lower the objective; then, from the best of them, preconditioned L-BFGS.
    """
    point = best = _evaluate(whitened, W, fun)
    yield point, best
    for _ in range(MAX_FIXED_POINT_STEPS):
        point = _evaluate(whitened, point.fixed_step, fun)
        if point.objective > best.objective - _rounding(whitened, point):
            best = point
        elif point.turn <= tol:  # converged, to a lower maximum
            break
        yield point, best
    point = best
    learned: list[tuple[torch.Tensor, torch.Tensor]] = []
    while True:
        # A direction that is not downhill (the loss is minus the objective) is replaced by a preconditioned gradient.
        E = _direction(point, learned)
        if (E * point.gradient).sum() >= 0:
            learned, E = [], -point.gradient / point.curvature
        following, length = _search(whitened, point, E, fun)
        change, bend = length * E, following.gradient - point.gradient
        # Past steps describe one smooth function only: forget them if a source changed its kind, or the curvature is
        # negative.
        if bool((following.tilt != point.tilt).any()) or (change * bend).sum() <= 0:
            learned = []
        else:
            learned = [*learned[1 - N_REMEMBERED_STEPS :], (change, bend)]
        point = following
        yield point, point


def _search(whitened: WhitenedRows, point: Rotation, E: torch.Tensor, fun: str) -> tuple[Rotation, float]:
    """Return the result and length of the longest step along E that lowers the loss enough, else of the shortest."""
    expected = (E * point.gradient).sum()
    rounding = _rounding(whitened, point)
    for length in STEP_LENGTHS:
        following = _evaluate(whitened, nearest_orthogonal(point.W + length * E @ point.W), fun)
        rise = (point.tilt * following.gain).sum() - point.objective
        # Armijo: the objective rises by at least 1e-4 of what its slope predicts, apart from rounding.
        if rise >= -1e-4 * length * expected - rounding:
            break
    return following, length


def _rounding(whitened: WhitenedRows, point: Rotation) -> float:
    """Return the size of differences between objectives that rounding explains."""
    return float(torch.finfo(whitened.rows.dtype).eps * point.gain.numel())


def _direction(point: Rotation, learned: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return −H⁻¹ gradient by the two loops of L-BFGS (Nocedal and Wright 2006, algorithm 7.4).

    H is the diagonal approximate Hessian, corrected by past pairs of a step and its change of gradient.
    """
    E, weights = point.gradient, []
    for change, bend in reversed(learned):
        weights.append((change * E).sum() / (change * bend).sum())
        E = E - weights[-1] * bend
    E = E / point.curvature
    for (change, bend), weight in zip(learned, reversed(weights), strict=True):
        E = E + (weight - (bend * E).sum() / (change * bend).sum()) * change
    return -E


def nearest_orthogonal(M: torch.Tensor) -> torch.Tensor:
    """Return U Vᵀ of M = U S Vᵀ, the orthogonal matrix nearest to M: FastICA's symmetric decorrelation.

    Also for a singular M, where (M Mᵀ)^(−½) M is not orthogonal: a nearly Gaussian source makes M singular.
    """
    U, _, V = torch.linalg.svd(M)
    return U @ V
