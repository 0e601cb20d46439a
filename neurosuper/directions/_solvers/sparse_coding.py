"""Sparse codes of responses, given a dictionary: the lasso, and orthogonal matching pursuit.

X (row, unit) responses, D (direction, unit) atoms, Z (row, direction) codes, X ≈ Z D. Codes depend on responses and
atoms only through C = X Dᵀ (row, direction) and G = D Dᵀ (direction, direction).
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

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of a row's largest correlation: near rounding
FISTA_ITERATIONS = 5000  # steps, after which a ConvergenceWarning says what codes miss
FISTA_CHECK = 10  # steps between checks for rows that are done

_shortfalls: ContextVar[list[float] | None] = ContextVar("shortfalls", default=None)  # collected by `one_warning`


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

    On the CPU by an active set, exact up to rounding; elsewhere by FISTA. `alpha` is that of scikit-learn's
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
        Precomputed D Dᵀ; computed if omitted.
    tol : float, optional
        How much the conditions of an optimum (Karush, Kuhn and Tucker) may be violated, relative to the largest
        correlation |x · d| of each row. None: 1e-5 in float32, 1e-10 in float64.

    Returns
    -------
    Tensor (row, direction)

    Warns
    -----
    ConvergenceWarning
        Codes are less accurate than `tol`, because of rounding or because 5,000 steps of FISTA are too few; once for
        all calls within `one_warning`.

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
    """Return X Dᵀ; on the CPU by oneDNN, which takes half the time of torch's usual product on AMD processors."""
    if X.device.type == "cpu" and X.dtype == torch.float32 and torch.backends.mkldnn.is_available() and len(X):
        return torch.nn.functional.linear(X.to_mkldnn(), D.to_mkldnn()).to_dense()
    return X @ D.T


@contextmanager
def one_warning() -> Iterator[None]:
    """Combine the warnings of all calls of `lasso_codes` in the context into one."""
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

    Each step adds the atom that correlates most with the residual of the row (Pati, Rezaiifar and Krishnaprasad 1993).
    All rows advance together. A row gets fewer atoms if these already explain it.

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
    return torch.cat([_pursue(tile @ D.T, G, n_active) for tile in into_tiles(X, n_active * len(D))])


def _pursue(C: torch.Tensor, G: torch.Tensor, n_active: int) -> torch.Tensor:
    # Gram–Schmidt on correlations: the chosen atoms span an orthonormal basis b_1, b_2, …; units are never needed.
    (n_rows, n_atoms), tolerance = C.shape, RANK_TOLERANCE[C.dtype]
    residual, taken = C.clone(), torch.zeros_like(C, dtype=torch.bool)
    chosen = torch.zeros(n_rows, n_active, dtype=torch.long, device=C.device)
    basis = C.new_zeros(n_rows, n_active, n_atoms)  # basis[i, t] = D b_t: correlations of all atoms
    along = C.new_zeros(n_rows, n_active)  # along[i, t] = x · b_t
    enough = tolerance * C.abs().amax(1, keepdim=True)
    for t in range(n_active):
        atom = residual.abs().masked_fill_(taken, -1).argmax(1, keepdim=True)
        # b_t ∝ d − Σ_s (d·b_s) b_s; its correlations with atoms are G_d − Σ_s (d·b_s) D b_s, its squared length
        # `square`.
        before = basis[:, :t].take_along_dim(atom[:, None], dim=2)
        new = G[atom[:, 0]] - (before * basis[:, :t]).sum(1)
        square, strength = new.gather(1, atom), residual.gather(1, atom)
        # A dependent atom, or one that adds nothing, is not used: its code stays zero.
        useful = (square > tolerance * G.diagonal()[atom]) & (strength.abs() > enough)
        new = torch.where(useful, new * square.clamp(min=tolerance**2).rsqrt(), 0)
        coordinate = torch.where(useful, strength * square.clamp(min=tolerance**2).rsqrt(), 0)
        residual = residual - coordinate * new
        basis[:, t], along[:, t], chosen[:, t] = new, coordinate[:, 0], atom[:, 0]
        taken.scatter_(1, atom, True)
    # x ≈ Σ_t along_t b_t = Σ z_s d_s: the codes solve an upper triangular system, mixing_ts = b_t · d_s.
    mixing = basis.take_along_dim(chosen[:, None], dim=2).triu_()
    mixing.diagonal(dim1=1, dim2=2).masked_fill_(along == 0, 1)
    codes = torch.linalg.solve_triangular(mixing, along[..., None], upper=True)[..., 0]
    return torch.zeros_like(C).scatter_(1, chosen, codes)


def fista(C: torch.Tensor, G: torch.Tensor, alpha: float, positive: bool, tol: float) -> tuple[torch.Tensor, float]:
    """Return lasso codes by FISTA (Beck and Teboulle 2009), and by how much the conditions of an optimum are missed.

    On any device. The second number is zero if it is at most `tol`. The momentum of a row restarts where it points
    uphill (O'Donoghue and Candès 2015). At most 5,000 steps.
    """
    # Step 1/L, where L is the largest eigenvalue of G.
    length = 1 / bound_eigenvalue(G)
    codes = torch.zeros_like(C)
    rows, largest = torch.arange(len(C), device=C.device), C.abs().amax(1)
    Z, Y, t = codes, codes, torch.ones_like(C[:, :1])
    for i in range(FISTA_ITERATIONS + 1):
        # Z ← shrink(Y + (C − Y G) / L, alpha / L).
        slope = C - Y @ G
        new = shrink(Y + length * slope, length * alpha, positive)
        if i % FISTA_CHECK == 0:
            # With a step of 1, an optimum is a fixed point: the change is what the conditions miss. Rows that are done
            # leave the loop.
            missed = (shrink(Y + slope, alpha, positive) - Y).abs().amax(1)
            codes[rows] = new
            unfinished = missed > tol * largest
            rows, C, Z, Y, new, t, largest, missed = (
                values[unfinished] for values in (rows, C, Z, Y, new, t, largest, missed)
            )
            if len(rows) == 0:
                return codes, 0.0
        t = torch.where(((Y - new) * (new - Z)).sum(1, keepdim=True) > 0, 1, t)
        # t ← (1 + √(1 + 4 t²)) / 2,  Y ← Z + (t_old − 1) / t · (Z − Z_old).
        following = (1 + (1 + 4 * t**2).sqrt()) / 2
        Z, Y, t = new, new + (t - 1) / following * (new - Z), following
    return codes, float((missed / largest).max())


def shrink(values: torch.Tensor, alpha: float | torch.Tensor, positive: bool) -> torch.Tensor:
    """Return values moved towards zero by alpha, and zero if closer to zero than that, or negative and `positive`."""
    if positive:
        return (values - alpha).clamp(min=0)
    return values.sign() * (values.abs() - alpha).clamp(min=0)


def bound_eigenvalue(G: torch.Tensor, n_squarings: int = 5) -> torch.Tensor:
    """Return an upper bound on the largest eigenvalue of a positive semi-definite matrix, ‖G^p‖^(1/p) with p = 32.

    It is too large by at most the factor K^(1/64), for a Frobenius norm and K rows.
    """
    # Repeated squaring; the norm is divided out, and its logarithm accumulated, so that nothing overflows.
    scale, power = torch.zeros_like(G[0, 0]), G
    for _ in range(n_squarings):
        norm = power.norm()
        scale = 2 * (scale + norm.log())
        power = (power / norm) @ (power / norm)
    return ((scale + power.norm().log()) / 2**n_squarings).exp()
