"""Sparse codes of responses, given a dictionary: the lasso, and orthogonal matching pursuit.

X (row, unit) responses, D (direction, unit) atoms, Z (row, direction) codes, X ≈ Z D. After two products, C = X Dᵀ
(row, direction) and G = D Dᵀ (direction, direction), no unit is looked at again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from sklearn.exceptions import ConvergenceWarning

from neurosuper.directions._rows.tiles import into_tiles
from neurosuper.directions._solvers.lasso_active_set import RANK_TOLERANCE, active_set

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of a row's largest correlation: less is rounding
FISTA_ITERATIONS, FISTA_CHECK = 5000, 10  # at most; between looks at which rows are done

_shortfalls: ContextVar[list[float] | None] = ContextVar("shortfalls", default=None)  # while they are put together


def lasso_codes(
    X: torch.Tensor,
    D: torch.Tensor,
    alpha: float,
    *,
    positive: bool = False,
    gram: torch.Tensor | None = None,
    tol: float | None = None,
) -> torch.Tensor:
    """Return the codes that minimise ½‖x − z D‖² + alpha ‖z‖₁ for each row x.

    On the CPU by an active set, exactly but for rounding; elsewhere by FISTA. `alpha` is scikit-learn's, in
    ``sparse_encode(algorithm="lasso_cd")``.

    Parameters
    ----------
    X : Tensor (row, unit)
    D : Tensor (direction, unit)
    alpha : float
        Positive, in units of a response times a length of an atom.
    positive : bool, optional
        Whether codes must not be negative.
    gram : Tensor (direction, direction), optional
        D Dᵀ, where it is at hand.
    tol : float, optional
        What the conditions of an optimum (Karush, Kuhn and Tucker) may be missed by, relative to the largest
        correlation |x · d| of each row. None: 1e-5 in float32, 1e-10 in float64.

    Returns
    -------
    Tensor (row, direction)

    Warns
    -----
    ConvergenceWarning
        Where codes are not as accurate as `tol` asks, because rounding forbids it or 5,000 steps of FISTA are too few;
        once for all calls within `one_warning`.

    Examples
    --------
    >>> lasso_codes(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0).round(decimals=5).tolist()
    [[2.0, 0.0]]
    """
    tol = TOLERANCE[X.dtype] if tol is None else tol
    solve = active_set if X.device.type == "cpu" else fista
    codes, missed = solve(correlate(X, D), correlate(D, D) if gram is None else gram, alpha, positive, tol)
    if missed > 0:
        _warn_of_shortfall(missed)
    return codes


def correlate(X: torch.Tensor, D: torch.Tensor) -> torch.Tensor:
    """Return X Dᵀ; on the CPU by oneDNN, which takes half the time of torch's usual product on processors of AMD."""
    if X.device.type == "cpu" and X.dtype == torch.float32 and torch.backends.mkldnn.is_available() and len(X):
        return torch.nn.functional.linear(X.to_mkldnn(), D.to_mkldnn()).to_dense()
    return X @ D.T


@contextmanager
def one_warning() -> Iterator[None]:
    """Put together, in one, the warnings of all calls of `lasso_codes` within."""
    shortfalls: list[float] = []
    token = _shortfalls.set(shortfalls)
    try:
        yield
    finally:
        _shortfalls.reset(token)
    if shortfalls:
        _warn_of_shortfall(max(shortfalls))


def _warn_of_shortfall(missed: float) -> None:
    shortfalls = _shortfalls.get()
    if shortfalls is not None:
        shortfalls.append(missed)
        return
    warnings.warn(
        f"lasso codes stopped while they still missed an optimum's conditions by {missed:.2g} of a response's largest "
        "correlation with an atom; raise alpha, or use dtype='float64'",
        ConvergenceWarning,
        stacklevel=5,
    )


def omp_codes(X: torch.Tensor, D: torch.Tensor, n_active: int) -> torch.Tensor:
    """Return codes by orthogonal matching pursuit: least squares on atoms that are chosen one by one.

    Each time the atom that correlates most with what is left of the row (Pati, Rezaiifar and Krishnaprasad 1993). All
    rows advance together, by Gram–Schmidt steps on correlations. Fewer atoms where they already explain the row.

    Parameters
    ----------
    X : Tensor (row, unit)
    D : Tensor (direction, unit)
        Rows of unit length.
    n_active : int
        Atoms per row; at most as many as units and as atoms.

    Returns
    -------
    Tensor (row, direction)

    Examples
    --------
    >>> omp_codes(torch.tensor([[3.0, -4.0]]), torch.eye(2), n_active=1).tolist()
    [[0.0, -4.0]]
    """
    G = D @ D.T
    return torch.cat([_pursue(part @ D.T, G, n_active) for part in into_tiles(X, n_active * len(D))])


def _pursue(C: torch.Tensor, G: torch.Tensor, n_active: int) -> torch.Tensor:
    (n_rows, n_atoms), tolerance = C.shape, RANK_TOLERANCE[C.dtype]
    residual, taken = C.clone(), torch.zeros_like(C, dtype=torch.bool)
    chosen = torch.zeros(n_rows, n_active, dtype=torch.long, device=C.device)
    basis = C.new_zeros(n_rows, n_active, n_atoms)  # correlations of atoms with an orthonormal basis of those chosen
    along = C.new_zeros(n_rows, n_active)  # the row's coordinates in that basis
    enough = tolerance * C.abs().amax(1, keepdim=True)
    for t in range(n_active):
        atom = residual.abs().masked_fill_(taken, -1).argmax(1, keepdim=True)
        before = basis[:, :t].take_along_dim(atom[:, None], dim=2)
        new = G[atom[:, 0]] - (before * basis[:, :t]).sum(1)
        square, strength = new.gather(1, atom), residual.gather(1, atom)
        useful = (square > tolerance * G.diagonal()[atom]) & (strength.abs() > enough)
        new = torch.where(useful, new * square.clamp(min=tolerance**2).rsqrt(), 0)
        coordinate = torch.where(useful, strength * square.clamp(min=tolerance**2).rsqrt(), 0)
        residual = residual - coordinate * new
        basis[:, t], along[:, t], chosen[:, t] = new, coordinate[:, 0], atom[:, 0]
        taken.scatter_(1, atom, True)
    mixing = basis.take_along_dim(chosen[:, None], dim=2).triu_()
    mixing.diagonal(dim1=1, dim2=2).masked_fill_(along == 0, 1)
    codes = torch.linalg.solve_triangular(mixing, along[..., None], upper=True)[..., 0]
    return torch.zeros_like(C).scatter_(1, chosen, codes)


def fista(C: torch.Tensor, G: torch.Tensor, alpha: float, positive: bool, tol: float) -> tuple[torch.Tensor, float]:
    """Return lasso codes by accelerated proximal gradient steps (Beck and Teboulle 2009), on any device.

    And by how much the conditions of an optimum are missed, where that is more than `tol`. The momentum of a row
    restarts where it points uphill (O'Donoghue and Candès 2015). Rows that are done are set aside. At most 5,000 steps.
    """
    length = 1 / bound_eigenvalue(G)
    codes = torch.zeros_like(C)
    rows, largest = torch.arange(len(C), device=C.device), C.abs().amax(1)
    Z, Y, t = codes, codes, torch.ones_like(C[:, :1])
    for i in range(FISTA_ITERATIONS + 1):
        slope = C - Y @ G
        new = shrink(Y + length * slope, length * alpha, positive)
        if i % FISTA_CHECK == 0:
            missed = (shrink(Y + slope, alpha, positive) - Y).abs().amax(1)
            codes[rows] = new
            unfinished = missed > tol * largest
            rows, C, Z, Y, new, t, largest, missed = (
                values[unfinished] for values in (rows, C, Z, Y, new, t, largest, missed)
            )
            if len(rows) == 0:
                return codes, 0.0
        t = torch.where(((Y - new) * (new - Z)).sum(1, keepdim=True) > 0, 1, t)
        following = (1 + (1 + 4 * t**2).sqrt()) / 2
        Z, Y, t = new, new + (t - 1) / following * (new - Z), following
    return codes, float((missed / largest).max())


def shrink(values: torch.Tensor, alpha: float | torch.Tensor, positive: bool) -> torch.Tensor:
    """Return values moved towards zero by alpha, those nearer to it set to zero; negative ones too if `positive`."""
    if positive:
        return (values - alpha).clamp(min=0)
    return values.sign() * (values.abs() - alpha).clamp(min=0)


def bound_eigenvalue(G: torch.Tensor, n_squarings: int = 5) -> torch.Tensor:
    """Return a number just above the largest eigenvalue of a positive matrix: the root of the norm of a power of it.

    ‖G^p‖^(1/p), p = 32, exceeds it by at most the factor K^(1/64).
    """
    scale, power = torch.zeros_like(G[0, 0]), G
    for _ in range(n_squarings):
        norm = power.norm()
        scale = 2 * (scale + norm.log())
        power = (power / norm) @ (power / norm)
    return ((scale + power.norm().log()) / 2**n_squarings).exp()
