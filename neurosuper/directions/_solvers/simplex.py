"""Mixtures on the simplex: memberships and archetypes in turn."""

from __future__ import annotations

from collections.abc import Callable

import torch

from neurosuper.directions._rows.rows import Tensors

TOL = {torch.float32: 1e-5, torch.float64: 1e-11}  # largest change of a membership or a weight at tol
MAX_MEMBERSHIP_STEPS = 500  # of memberships in an iteration, at most
MAX_WEIGHT_STEPS = 50  # of the weights that make archetypes, at most


def memberships(X: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """Return M `(row, direction)` on the simplex that minimises ‖x − m A‖² of each row by itself."""
    start = torch.full((len(X), len(A)), 1 / len(A), dtype=X.dtype, device=X.device)
    centre = A.mean(0)
    A = A - centre  # the same M, and better conditioned
    gram, products = A @ A.T, (X - centre) @ A.T
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp(min=torch.finfo(X.dtype).tiny)
    return _descend(start, lambda M: (M @ gram - products) * step, MAX_MEMBERSHIP_STEPS)


def update_weights(B: torch.Tensor, H: torch.Tensor, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Return B on the simplex that lowers ½ tr(Aᵀ G A) − tr(Aᵀ P), A = B H: what ‖X − M A‖² is, given M."""
    centre = H.mean(0)
    H, G = H - centre, gram.to(H.dtype)
    P = (cross - torch.outer(gram.sum(1), centre.double())).to(H.dtype)
    step = 1 / (torch.linalg.matrix_norm(G, 2) * torch.linalg.matrix_norm(H, 2) ** 2)
    return _descend(B, lambda B: ((G @ (B @ H) - P) @ H.T) * step, MAX_WEIGHT_STEPS)


def _descend(M: torch.Tensor, scaled_gradient: Callable[[torch.Tensor], torch.Tensor], most: int) -> torch.Tensor:
    """Return where accelerated projected gradients on the simplex come to tol; each row restarts by itself.

    Rows at tol are left alone, so that the result for a row does not depend on the other rows.
    """
    tol = TOL[M.dtype]
    extrapolated, t = M, torch.ones_like(M[:, :1])
    converged = torch.zeros_like(t, dtype=torch.bool)
    for _ in range(most):
        new = torch.where(converged, M, onto_simplex(extrapolated - scaled_gradient(extrapolated)))
        change = new - M
        overshot = ((extrapolated - new) * change).sum(1, keepdim=True) > 0
        following = torch.where(overshot, 1.0, (1 + (1 + 4 * t**2).sqrt()) / 2)
        extrapolated = new + torch.where(overshot, 0.0, (t - 1) / following) * change
        converged = converged | (change.abs().amax(1, keepdim=True) <= tol)
        M, t = new, following
        if bool(converged.all()):
            break
    return M


def onto_simplex(V: torch.Tensor) -> torch.Tensor:
    """Return the nearest point of the simplex to each row (Held, Wolfe and Crowder 1974; Duchi et al. 2008)."""
    falling = V.sort(dim=1, descending=True).values
    above = falling.cumsum(1) - 1
    place = torch.arange(1, V.shape[1] + 1, dtype=V.dtype, device=V.device)
    count = (falling * place > above).sum(1, keepdim=True)
    return (V - above.gather(1, count - 1) / count).clamp(min=0)


def membership_statistics(X: torch.Tensor, A: torch.Tensor) -> Tensors:
    """Return MᵀX, MᵀM and the squared error, summed over rows."""
    M = memberships(X, A)
    residual = ((X - M @ A) ** 2).sum(dtype=torch.float64)
    return (M.T @ X).double(), (M.T @ M).double(), residual


def extreme_rows(X: torch.Tensor, along: torch.Tensor) -> Tensors:
    """Return the largest and the smallest projection on each direction, and the rows that have them."""
    along_each = X @ along.T
    (top, at_top), (bottom, at_bottom) = along_each.max(0), along_each.min(0)
    return top, X[at_top], bottom, X[at_bottom]


def merge_extremes(a: Tensors, b: Tensors) -> Tensors:
    higher, lower = b[0] > a[0], b[2] < a[2]
    return (
        torch.where(higher, b[0], a[0]),
        torch.where(higher[:, None], b[1], a[1]),
        torch.where(lower, b[2], a[2]),
        torch.where(lower[:, None], b[3], a[3]),
    )


def furthest_sum(H: torch.Tensor, n: int) -> torch.Tensor:
    """Return B that picks `n` candidates far from all picked before (FurthestSum, Mørup and Hansen 2012)."""
    distances = torch.zeros_like(H[:, 0])
    picked = [int((H - H.mean(0)).norm(dim=1).argmax())]
    while len(picked) < n:
        distances = distances + (H - H[picked[-1]]).norm(dim=1)
        distances[picked] = -1
        picked.append(int(distances.argmax()))
    return torch.nn.functional.one_hot(torch.tensor(picked, device=H.device), len(H)).to(H.dtype)
