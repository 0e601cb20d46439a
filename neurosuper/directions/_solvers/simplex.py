"""Convex combinations: memberships M of stimuli in archetypes, and weights B that make archetypes of candidates.

X (row, unit) prepared responses, H (candidate, unit) candidate stimuli, A = B H (direction, unit) archetypes, X ≈ M A.
Rows of M and B are non-negative and sum to one (the simplex). Mørup and Hansen (2012).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from neurosuper.directions._rows.rows import Tensors

TOL = {torch.float32: 1e-5, torch.float64: 1e-11}  # change of a membership or a weight below which a row is done
MAX_MEMBERSHIP_STEPS = 500  # gradient steps of memberships, at most
MAX_WEIGHT_STEPS = 50  # gradient steps of the weights per iteration, which need not be exact before the next one


def memberships(X: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """Return M `(row, direction)` on the simplex that minimises ‖x − m A‖² of each row by itself."""
    start = torch.full((len(X), len(A)), 1 / len(A), dtype=X.dtype, device=X.device)
    # Because rows of M sum to one, a shift of X and A changes no M; about the mean the problem is better conditioned.
    centre = A.mean(0)
    A = A - centre
    gram, products = A @ A.T, (X - centre) @ A.T
    # Gradient M A Aᵀ − X Aᵀ, and step 1/L with L = ‖A Aᵀ‖₂, its Lipschitz constant.
    step = 1 / torch.linalg.matrix_norm(gram, 2).clamp(min=torch.finfo(X.dtype).tiny)
    return _descend(start, lambda M: (M @ gram - products) * step, MAX_MEMBERSHIP_STEPS)


def update_weights(B: torch.Tensor, H: torch.Tensor, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Return B on the simplex that lowers ‖X − M A‖², A = B H, for given `gram` = MᵀM and `cross` = MᵀX."""
    # Up to a constant, ½‖X − M A‖² = ½ tr(Aᵀ G A) − tr(Aᵀ P), G = MᵀM, P = MᵀX; H is centred as A is above.
    centre = H.mean(0)
    H, G = H - centre, gram.to(H.dtype)
    P = (cross - torch.outer(gram.sum(1), centre.double())).to(H.dtype)
    # Gradient (G B H − P) Hᵀ, with Lipschitz constant at most ‖G‖₂ ‖H‖₂².
    step = 1 / (torch.linalg.matrix_norm(G, 2) * torch.linalg.matrix_norm(H, 2) ** 2)
    return _descend(B, lambda B: ((G @ (B @ H) - P) @ H.T) * step, MAX_WEIGHT_STEPS)


def _descend(M: torch.Tensor, scaled_gradient: Callable[[torch.Tensor], torch.Tensor], most: int) -> torch.Tensor:
    """Return the result of accelerated projected gradient steps on the simplex (FISTA; Beck and Teboulle 2009).

    Each row restarts and stops by itself, so that its result does not depend on other rows.
    """
    tol = TOL[M.dtype]
    extrapolated, t = M, torch.ones_like(M[:, :1])
    converged = torch.zeros_like(t, dtype=torch.bool)
    for _ in range(most):
        new = torch.where(converged, M, onto_simplex(extrapolated - scaled_gradient(extrapolated)))
        change = new - M
        # Restart where momentum points uphill (O'Donoghue and Candès 2015), else t ← (1 + √(1 + 4 t²)) / 2.
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
    # max(0, v − θ), where θ = (Σ of the k largest − 1) / k for the largest k whose k-th value exceeds θ.
    falling = V.sort(dim=1, descending=True).values
    above = falling.cumsum(1) - 1
    place = torch.arange(1, V.shape[1] + 1, dtype=V.dtype, device=V.device)
    count = (falling * place > above).sum(1, keepdim=True)
    return (V - above.gather(1, count - 1) / count).clamp(min=0)


def membership_statistics(X: torch.Tensor, A: torch.Tensor) -> Tensors:
    """Return MᵀX, MᵀM and ‖X − M A‖², summed over rows."""
    M = memberships(X, A)
    residual = ((X - M @ A) ** 2).sum(dtype=torch.float64)
    return (M.T @ X).double(), (M.T @ M).double(), residual


def extreme_rows(X: torch.Tensor, along: torch.Tensor) -> Tensors:
    """Return the largest and the smallest projection on each direction, and the rows that have them."""
    along_each = X @ along.T
    (top, at_top), (bottom, at_bottom) = along_each.max(0), along_each.min(0)
    return top, X[at_top], bottom, X[at_bottom]


def merge_extremes(a: Tensors, b: Tensors) -> Tensors:
    """Return the extremes of two tiles together, given those of each (see `extreme_rows`)."""
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
