"""Sparse codes of responses, given a dictionary: the lasso, and orthogonal matching pursuit.

X (row, unit) responses, D (direction, unit) atoms, Z (row, direction) codes, X ≈ Z D. After two products, C = X Dᵀ
(row, direction) and G = D Dᵀ (direction, direction), no unit is looked at again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange

from neurosuper.directions.blocks import split
from neurosuper.directions.compiled import torch_threads

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of a row's largest correlation: less is rounding
RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of an atom's squared length left by other atoms
FISTA_ITERATIONS, FISTA_CHECK = 5000, 10  # at most; between looks at which rows are done
MAX_ROUNDS = 1000  # of the active set, for a row
ENTER = 0.95  # of the strongest correlation: atoms above it enter the active set together
SWEEPS = 4  # of coordinate descent between entries
CHUNKS = 64  # of rows, for threads to take

compiled = njit(fastmath=True, cache=True, error_model="numpy")


def lasso_codes(
    X: torch.Tensor,
    D: torch.Tensor,
    alpha: float,
    *,
    positive: bool = False,
    start: torch.Tensor | None = None,
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
    start : Tensor (row, direction), optional
        Codes near those sought; they change how long it takes, and nothing else.
    tol : float, optional
        What the conditions of an optimum (Karush, Kuhn and Tucker) may be missed by, relative to the largest
        correlation |x · d| of each row. None: 1e-5 in float32, 1e-10 in float64.

    Returns
    -------
    Tensor (row, direction)

    Examples
    --------
    >>> lasso_codes(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0).tolist()
    [[2.0, 0.0]]
    """
    tol = TOLERANCE[X.dtype] if tol is None else tol
    solve = active_set if X.device.type == "cpu" else fista
    return solve(X @ D.T, D @ D.T, alpha, positive, start, tol)


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
    return torch.cat([_pursue(part @ D.T, G, n_active) for part in split(X, n_active * len(D))])


def _pursue(C: torch.Tensor, G: torch.Tensor, n_active: int) -> torch.Tensor:
    (n_rows, n_atoms), tolerance = C.shape, RANK_TOLERANCE[C.dtype]
    left, taken = C.clone(), torch.zeros_like(C, dtype=torch.bool)
    chosen = torch.zeros(n_rows, n_active, dtype=torch.long, device=C.device)
    basis = C.new_zeros(n_rows, n_active, n_atoms)  # correlations of atoms with an orthonormal basis of those chosen
    along = C.new_zeros(n_rows, n_active)  # the row's coordinates in that basis
    enough = tolerance * C.abs().amax(1, keepdim=True)
    for t in range(n_active):
        atom = left.abs().masked_fill_(taken, -1).argmax(1, keepdim=True)
        before = basis[:, :t].take_along_dim(atom[:, None], dim=2)
        new = G[atom[:, 0]] - (before * basis[:, :t]).sum(1)
        square, strength = new.gather(1, atom), left.gather(1, atom)
        useful = (square > tolerance * G.diagonal()[atom]) & (strength.abs() > enough)
        new = torch.where(useful, new * square.clamp(min=tolerance**2).rsqrt(), 0)
        coordinate = torch.where(useful, strength * square.clamp(min=tolerance**2).rsqrt(), 0)
        left = left - coordinate * new
        basis[:, t], along[:, t], chosen[:, t] = new, coordinate[:, 0], atom[:, 0]
        taken.scatter_(1, atom, True)
    mixing = basis.take_along_dim(chosen[:, None], dim=2).triu_()
    mixing.diagonal(dim1=1, dim2=2).masked_fill_(along == 0, 1)
    codes = torch.linalg.solve_triangular(mixing, along[..., None], upper=True)[..., 0]
    return torch.zeros_like(C).scatter_(1, chosen, codes)


def fista(
    C: torch.Tensor, G: torch.Tensor, alpha: float, positive: bool, start: torch.Tensor | None, tol: float
) -> torch.Tensor:
    """Return lasso codes by accelerated proximal gradient steps (Beck and Teboulle 2009), on any device.

    The momentum of a row restarts where it points uphill (O'Donoghue and Candès 2015). Rows that are done are set
    aside. At most 5,000 steps.
    """
    length = 1 / bound_eigenvalue(G)
    codes = torch.zeros_like(C) if start is None else start.clone()
    rows, enough = torch.arange(len(C), device=C.device), tol * C.abs().amax(1)
    Z, Y, t = codes, codes, torch.ones_like(C[:, :1])
    for i in range(FISTA_ITERATIONS):
        slope = C - Y @ G
        new = shrink(Y + length * slope, length * alpha, positive)
        if i % FISTA_CHECK == 0:
            missed = (shrink(Y + slope, alpha, positive) - Y).abs().amax(1)
            codes[rows] = new
            going = missed > enough
            rows, C, Z, Y, new, t, enough = (values[going] for values in (rows, C, Z, Y, new, t, enough))
            if len(rows) == 0:
                return codes
        t = torch.where(((Y - new) * (new - Z)).sum(1, keepdim=True) > 0, 1, t)
        following = (1 + (1 + 4 * t**2).sqrt()) / 2
        Z, Y, t = new, new + (t - 1) / following * (new - Z), following
    codes[rows] = Z
    return codes


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


def active_set(
    C: torch.Tensor, G: torch.Tensor, alpha: float, positive: bool, start: torch.Tensor | None, tol: float
) -> torch.Tensor:
    """Return lasso codes by compiled loops on the CPU: exact, one row after another, on as many threads as torch has.

    Atoms enter a row's active set where they violate the conditions of an optimum, the strongest first. In the set, a
    few sweeps of coordinate descent; once no atom is left to enter, a step to the exact optimum of the signs at hand,
    or to the first code on that way to become zero (feature-sign search; Lee, Battle, Raina and Ng 2007).
    """
    Z = torch.zeros_like(C) if start is None else start.clone()
    one = C.numpy().dtype.type
    with torch_threads():
        _code_rows(C.numpy(), G.numpy(), Z.numpy(), one(alpha), positive, one(tol), one(RANK_TOLERANCE[C.dtype]))
    return Z


@njit(parallel=True, fastmath=True, cache=True, error_model="numpy")
def _code_rows(
    C: np.ndarray, G: np.ndarray, Z: np.ndarray, alpha: float, positive: bool, tol: float, rank_tolerance: float
) -> None:
    n_rows, n_atoms = C.shape
    n_chunks = min(n_rows, CHUNKS)
    for chunk in prange(n_chunks):
        q, vectors = np.empty(n_atoms, C.dtype), np.empty((3, n_atoms), C.dtype)
        matrices, active = np.empty((2, n_atoms * n_atoms), C.dtype), np.empty(n_atoms, np.int64)
        for i in range(chunk * n_rows // n_chunks, (chunk + 1) * n_rows // n_chunks):
            _code_row(C[i], G, Z[i], alpha, positive, tol, rank_tolerance, q, vectors, matrices, active)


@compiled
def _code_row(
    c: np.ndarray,
    G: np.ndarray,
    z: np.ndarray,
    alpha: float,
    positive: bool,
    tol: float,
    rank_tolerance: float,
    q: np.ndarray,
    vectors: np.ndarray,
    matrices: np.ndarray,
    active: np.ndarray,
) -> None:
    """Write the codes of a row into `z`; `q` follows the correlations of atoms with what is left of the row."""
    slack = tol * _largest(c)
    n, done = _begin(c, G, z, q, active), False
    for _ in range(MAX_ROUNDS):
        strongest = _strongest_outside(q, z, positive)
        settled = strongest <= alpha + slack
        if settled and done:
            break
        n = _keep_nonzero(z, active, n)
        if not settled:
            n = _enter(q, z, max(alpha + slack, ENTER * strongest), positive, active, n)
        if n == 0:
            break
        u, r, step = vectors[0, :n], vectors[1, :n], vectors[2, :n]
        H, L = matrices[0, : n * n].reshape(n, n), matrices[1, : n * n].reshape(n, n)
        _gather(G, q, z, active, H, r, u)
        if settled:
            done = _go_to_optimum(H, L, r, u, step, alpha, rank_tolerance)
        else:
            _descend(H, r, u, alpha, positive, slack, SWEEPS)
            done = False
        _take_over(u, G, q, z, active)


@compiled
def _largest(values: np.ndarray) -> Any:
    largest = values[0] * 0
    for value in values:
        largest = max(largest, abs(value))
    return largest


@compiled
def _begin(c: np.ndarray, G: np.ndarray, z: np.ndarray, q: np.ndarray, active: np.ndarray) -> int:
    n = 0
    q[:] = c
    for j in range(len(z)):
        if z[j] != 0:
            for k in range(len(q)):
                q[k] -= z[j] * G[j, k]
            active[n] = j
            n += 1
    return n


@compiled
def _strongest_outside(q: np.ndarray, z: np.ndarray, positive: bool) -> Any:
    strongest = q[0] * 0
    for j in range(len(q)):
        strength = q[j] if positive else abs(q[j])
        strongest = max(strongest, strength if z[j] == 0 else strongest)
    return strongest


@compiled
def _keep_nonzero(z: np.ndarray, active: np.ndarray, n: int) -> int:
    kept = 0
    for i in range(n):
        if z[active[i]] != 0:
            active[kept] = active[i]
            kept += 1
    return kept


@compiled
def _enter(q: np.ndarray, z: np.ndarray, bar: float, positive: bool, active: np.ndarray, n: int) -> int:
    for j in range(len(q)):
        strength = q[j] if positive else abs(q[j])
        if strength >= bar and z[j] == 0:
            active[n] = j
            n += 1
    return n


@compiled
def _gather(
    G: np.ndarray, q: np.ndarray, z: np.ndarray, active: np.ndarray, H: np.ndarray, r: np.ndarray, u: np.ndarray
) -> None:
    for i in range(len(u)):
        atom = active[i]
        u[i], r[i] = z[atom], q[atom]
        for j in range(len(u)):
            H[i, j] = G[atom, active[j]]


@compiled
def _take_over(u: np.ndarray, G: np.ndarray, q: np.ndarray, z: np.ndarray, active: np.ndarray) -> None:
    """Take over the codes of active atoms, and correct the correlations of all."""
    for i in range(len(u)):
        j = active[i]
        change = u[i] - z[j]
        if change != 0:
            for k in range(len(q)):
                q[k] -= change * G[j, k]
            z[j] = u[i]


@compiled
def _shrink(value: Any, alpha: Any, positive: bool) -> Any:
    if value > alpha:
        return value - alpha
    return value + alpha if value < -alpha and not positive else value * 0


@compiled
def _descend(
    H: np.ndarray, r: np.ndarray, u: np.ndarray, alpha: float, positive: bool, slack: float, n_sweeps: int
) -> bool:
    """Sweep over the active atoms, and return whether they have come to rest."""
    for _ in range(n_sweeps):
        largest = r[0] * 0
        for i in range(len(u)):
            g = H[i, i]
            goal = _shrink(r[i] + g * u[i], alpha, positive) / g
            change = goal - u[i]
            if change != 0:
                u[i] = goal
                for k in range(len(u)):
                    r[k] -= change * H[i, k]
                largest = max(largest, abs(change) * g)
        if largest <= slack:
            return True
    return False


@compiled
def _go_to_optimum(
    H: np.ndarray,
    L: np.ndarray,
    r: np.ndarray,
    u: np.ndarray,
    step: np.ndarray,
    alpha: float,
    rank_tolerance: float,
) -> bool:
    """Go to the optimum of the signs at hand, as far as they stay so; return whether it was reached.

    Where active atoms are linearly dependent there is no such point: one of them is traded for the others.
    """
    for i in range(len(u)):
        step[i] = r[i] - alpha if u[i] > 0 else r[i] + alpha
    share, first = u[0] * 0 + 1, -1
    if not _solve(H, L, step, rank_tolerance):
        cost = (np.sign(u) * step).sum()
        step *= -1 if cost > 0 else 1
        share = share * np.inf
    for i in range(len(u)):
        if step[i] * u[i] < 0 and -u[i] / step[i] <= share:
            share, first = -u[i] / step[i], i
    if first < 0 and share > 1:
        return False
    for i in range(len(u)):
        u[i] += share * step[i]
    if first >= 0:
        u[first] = 0
    return first < 0


@compiled
def _solve(H: np.ndarray, L: np.ndarray, b: np.ndarray, rank_tolerance: float) -> bool:
    """Turn b into H⁻¹ b by Cholesky's method, or into v, H v = 0, and return False where H is not of full rank.

    The diagonal of L holds inverses.
    """
    n = len(b)
    for i in range(n):
        for j in range(i):
            left = H[i, j]
            for k in range(j):
                left -= L[i, k] * L[j, k]
            L[i, j] = left * L[j, j]
        square, value = H[i, i], b[i]
        for k in range(i):
            square -= L[i, k] * L[i, k]
            value -= L[i, k] * b[k]
        if square <= rank_tolerance * H[i, i]:
            _null_direction(L, b, i)
            return False
        L[i, i] = 1 / np.sqrt(square)
        b[i] = value * L[i, i]
    for i in range(n - 1, -1, -1):
        b[i] *= L[i, i]
        value = b[i]
        for k in range(i):
            b[k] -= value * L[i, k]
    return True


@compiled
def _null_direction(L: np.ndarray, v: np.ndarray, i: int) -> None:
    """Write into v how the atoms before the i-th make up for it."""
    v[:] = 0
    v[i] = 1
    v[:i] = -L[i, :i]
    for j in range(i - 1, -1, -1):
        v[j] *= L[j, j]
        for k in range(j):
            v[k] -= v[j] * L[j, k]
