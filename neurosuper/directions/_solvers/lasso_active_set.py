"""Compiled lasso by an active set, for the CPU: one row after another, exact up to rounding.

C (row, direction) correlations X Dᵀ, G (direction, direction) Gram matrix D Dᵀ, Z (row, direction) codes. For one row:
c, z, and q = c − z G, the correlations of atoms with its residual. z minimises ½ z G zᵀ − c zᵀ + alpha ‖z‖₁ if and only
if qⱼ = alpha sign(zⱼ) where zⱼ ≠ 0, and |qⱼ| ≤ alpha elsewhere (the conditions of Karush, Kuhn and Tucker).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange

from neurosuper._kernels import FASTMATH, njit

RANK_TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-10,
}  # of an atom's squared length, which is residual
MAX_ROUNDS_PER_ATOM = 10  # rounds per atom: a safeguard where rounding keeps atoms entering and leaving
ENTRY_SHARE = 0.92  # of the strongest correlation: atoms above this share enter the active set in the same round
MAX_ENTRIES = 8  # atoms that may enter per round: a wrong one costs a step to leave again
N_PEAKS = 16  # running maxima of |q|: a power of two that fills a vector register of 512 bits in float32
N_TILES = 64  # tiles of rows that threads take in turn: many more than cores, because rows differ in cost

compiled = njit(fastmath=FASTMATH)


class Workspace(NamedTuple):
    """Memory for one row, reused for the next; all but `q` and `peaks` are indexed by position in the active set."""

    q: np.ndarray  # correlations of all atoms with the residual of the row
    peaks: np.ndarray  # strongest correlations of every 16th atom
    active: np.ndarray  # indices of the active atoms
    u: np.ndarray  # their new codes, before these are written to z
    sign: np.ndarray  # signs of these codes
    slope: np.ndarray  # q − alpha · sign: by how much the conditions of an optimum are missed
    step: np.ndarray  # change of u that is tried next
    L: np.ndarray  # Cholesky factor of their Gram matrix: rows of a lower triangle, the diagonal inverted


def active_set(
    C: torch.Tensor, G: torch.Tensor, alpha: float, positive: bool, tol: float
) -> tuple[torch.Tensor, float]:
    """Return lasso codes, and by how much the conditions of an optimum are missed where that exceeds `tol`.

    Feature-sign search (Lee, Battle, Raina and Ng 2007, algorithm 1): atoms that violate the conditions enter a row's
    active set, the strongest first, and a step goes to the exact optimum for the current signs. An atom whose code
    would cross zero on the way leaves the active set. Uses as many threads as torch.
    """
    Z, one = torch.zeros_like(C), C.numpy().dtype.type
    missed = _code_rows(C.numpy(), G.numpy(), Z.numpy(), one(alpha), positive, one(tol), one(RANK_TOLERANCE[C.dtype]))
    return Z, float(missed.max(initial=0))


@njit(parallel=True, fastmath=FASTMATH)
def _code_rows(
    C: np.ndarray, G: np.ndarray, Z: np.ndarray, alpha: float, positive: bool, tol: float, rank_tolerance: float
) -> np.ndarray:
    n_rows, n = C.shape
    n_tiles = min(n_rows, N_TILES)
    missed = np.zeros(n_tiles, C.dtype)
    for tile in prange(n_tiles):
        v = np.empty((6, n), C.dtype)
        L = np.empty(n * (n + 1) // 2, C.dtype)
        work = Workspace(v[0], v[1], np.empty(n, np.int64), v[2], v[3], v[4], v[5], L)
        for i in range(tile * n_rows // n_tiles, (tile + 1) * n_rows // n_tiles):
            residual = _code_row(C[i], G, Z[i], alpha, positive, tol, rank_tolerance, work)
            missed[tile] = max(missed[tile], residual)
    return missed


@compiled
def _code_row(
    c: np.ndarray,
    G: np.ndarray,
    z: np.ndarray,
    alpha: Any,
    positive: bool,
    tol: Any,
    rank_tolerance: Any,
    work: Workspace,
) -> Any:
    """Write the codes of a row into `z`, which is zero; return what they miss as a share of its largest correlation."""
    # With z = 0, q = c. Tolerances are relative to max |c|, so that they do not depend on the unit of responses.
    work.q[:] = c
    _find_peaks(work, False)
    largest = _highest(work.peaks, len(c))
    slack, off, n = tol * largest, largest * 0, 0
    for _ in range(MAX_ROUNDS_PER_ATOM * (len(c) + MAX_ROUNDS_PER_ATOM)):
        _find_peaks(work, positive)
        strongest = _highest(work.peaks, len(c))
        # Stop: |q| ≤ alpha for all atoms, and q = alpha · sign for active ones, both to within the tolerance.
        if strongest <= alpha + slack and off <= slack:
            return largest * 0
        # Rows of the factor that belong to atoms before the new ones remain valid.
        known = n
        if strongest > alpha + slack:
            n = _add_atoms(z, max(alpha + slack, ENTRY_SHARE * strongest), alpha, positive, work, n)
        n = _solve_active_set(G, z, rank_tolerance, work, known, n)
        _commit_codes(G, z, work, n)
        off = _update_gradient(alpha, work, n)
    _find_peaks(work, positive)
    return max(_highest(work.peaks, len(c)) - alpha, off) / largest


@compiled
def _count_peaks(n: int) -> int:
    n_peaks = 1
    while 2 * n_peaks <= n and n_peaks < N_PEAKS:
        n_peaks *= 2
    return n_peaks


@compiled
def _find_peaks(work: Workspace, positive: bool) -> None:
    """Write the strongest correlation of atoms j, j + 16, j + 32, … into `peaks`."""
    q, peaks, half = work.q, work.peaks, 1
    while 2 * half <= len(q):
        half *= 2
    # |q| = max(q, −q); if codes must be positive, max(q, 0). The upper half is folded onto the lower one until 16
    # maxima are left: the steps of such a loop do not depend on each other, so that it runs in vector registers.
    mirror = q[0] * 0 - (0 if positive else 1)
    for k in range(half):
        peaks[k] = max(q[k], mirror * q[k])
    for k in range(len(q) - half):
        peaks[k] = max(peaks[k], max(q[half + k], mirror * q[half + k]))
    while half > N_PEAKS:
        half //= 2
        for k in range(half):
            peaks[k] = max(peaks[k], peaks[half + k])


@compiled
def _highest(peaks: np.ndarray, n: int) -> Any:
    highest = peaks[0]
    for k in range(_count_peaks(n)):
        highest = max(highest, peaks[k])
    return highest


@compiled
def _add_atoms(z: np.ndarray, bar: Any, alpha: Any, positive: bool, work: Workspace, n: int) -> int:
    """Add atoms whose correlation reaches the bar to the active set, and return its new size."""
    q, most = work.q, min(len(z), n + MAX_ENTRIES)
    n_peaks = _count_peaks(len(q))
    for k in range(n_peaks):
        # None of the atoms k, k + 16, … can reach the bar if the strongest of them does not.
        if work.peaks[k] < bar:
            continue
        for j in range(k, len(q), n_peaks):
            strength = q[j] if positive else abs(q[j])
            if strength >= bar and z[j] == 0 and n < most:
                work.active[n], work.u[n], work.sign[n] = j, 0, np.sign(q[j])
                work.slope[n] = q[j] - alpha * work.sign[n]
                n += 1
    return n


@compiled
def _solve_active_set(G: np.ndarray, z: np.ndarray, rank_tolerance: Any, work: Workspace, known: int, n: int) -> int:
    """Move to the optimum for the current signs; return the new size of the active set.

    Atoms whose code reaches zero on the way leave the active set. Linearly dependent atoms have no unique optimum:
    codes then move along a direction that leaves the reconstruction unchanged until one of them is zero. The first
    `known` rows of L are up to date.
    """
    while n > 0:
        rank = _factor(G, rank_tolerance, work, known, n)
        dependent = rank < n
        if dependent:
            _find_null_step(work, rank, n)
        else:
            _solve(work, n)
        share, first = _take_step(work, dependent, n)
        if first < 0:
            break
        # After a share s of a Newton step the gradient is (1 − s) times the old one; a null step leaves it unchanged.
        for i in range(n):
            work.slope[i] *= 1 if dependent else 1 - share
        _drop_atom(G, z, work, first, n)
        known, n = first, n - 1
    return n


@compiled
def _take_step(work: Workspace, is_null_step: bool, n: int) -> tuple[Any, int]:
    """Take the step up to the first code that becomes zero; return the share taken, and that code's position or −1.

    A null step has no natural length: it is taken up to the first zero, or not at all.
    """
    u, step, sign = work.u, work.step, work.sign
    share, first = u[0] * 0 + 1, -1
    least = share
    # Only if a code changes its sign (or the step has no end) is the place of the first zero needed: u + s · step = 0.
    for i in range(n):
        least = min(least, (u[i] + step[i]) * sign[i])
    if least < 0 or is_null_step:
        for i in range(n):
            if step[i] * sign[i] < 0 and (first < 0 or -u[i] / step[i] < share):
                share, first = -u[i] / step[i], i
    if first < 0 and is_null_step:
        return share, first
    for i in range(n):
        u[i] += share * step[i]
    return share, first


@compiled
def _drop_atom(G: np.ndarray, z: np.ndarray, work: Workspace, i: int, n: int) -> None:
    """Remove the i-th of n atoms from the active set, and its contribution to the reconstruction."""
    j = work.active[i]
    if z[j] != 0:
        for k in range(len(z)):
            work.q[k] += z[j] * G[j, k]
        z[j] = 0
    for values in (work.u, work.sign, work.slope):
        for k in range(i, n - 1):
            values[k] = values[k + 1]
    for k in range(i, n - 1):
        work.active[k] = work.active[k + 1]


@compiled
def _commit_codes(G: np.ndarray, z: np.ndarray, work: Workspace, n: int) -> None:
    """Write the codes of active atoms to `z`, and update the correlations of all atoms."""
    # q = c − z G, so that a change of zⱼ by δ changes q by −δ Gⱼ.
    q = work.q
    for i in range(n):
        j = work.active[i]
        change = work.u[i] - z[j]
        for k in range(len(q)):
            q[k] -= change * G[j, k]
        z[j] = work.u[i]


@compiled
def _update_gradient(alpha: Any, work: Workspace, n: int) -> Any:
    """Update the slopes q − alpha · sign of active codes, and return the largest |slope|."""
    steepest = work.q[0] * 0
    for i in range(n):
        slope = work.q[work.active[i]] - alpha * work.sign[i]
        steepest = max(steepest, abs(slope))
        work.slope[i] = slope
    return steepest


@compiled
def _factor(G: np.ndarray, rank_tolerance: Any, work: Workspace, known: int, n: int) -> int:
    """Extend the Cholesky factor L from `known` rows to n; return the number of rows that are linearly independent."""
    L, active = work.L, work.active
    for i in range(known, n):
        g, at = G[active[i]], 0
        row = L[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]
        square = g[active[i]]
        for j in range(i):
            # Lᵢⱼ = (Gᵢⱼ − Σ_{k<j} Lᵢₖ Lⱼₖ) / Lⱼⱼ; the diagonal of L is stored as 1 / Lⱼⱼ.
            entry = g[active[j]]
            for k in range(j):
                entry -= L[at + k] * row[k]
            row[j] = entry * L[at + j]
            square -= row[j] * row[j]
            at += j + 1
        # Lᵢᵢ² = Gᵢᵢ − Σ Lᵢⱼ²: the squared length of the atom that no atom before it explains.
        if square <= rank_tolerance * g[active[i]]:
            return i
        row[i] = 1 / np.sqrt(square)
    return n


@compiled
def _solve(work: Workspace, n: int) -> None:
    """Write the Newton step H⁻¹ slope to `step`; H = L Lᵀ is the Gram matrix of active atoms."""
    # Forward substitution, L y = slope, then back substitution, Lᵀ step = y.
    L, step, at = work.L, work.step, 0
    for i in range(n):
        entry = work.slope[i]
        for k in range(i):
            entry -= L[at + k] * step[k]
        step[i] = entry * L[at + i]
        at += i + 1
    _solve_back(L, step, n)


@compiled
def _solve_back(L: np.ndarray, v: np.ndarray, n: int) -> None:
    """Replace the first n entries of v by L⁻ᵀ v."""
    # Column by column from the last: each solved entry is subtracted from those before it.
    for i in range(n - 1, -1, -1):
        at = i * (i + 1) // 2
        value = v[i] * L[at + i]
        v[i] = value
        for k in range(i):
            v[k] -= value * L[at + k]


@compiled
def _find_null_step(work: Workspace, i: int, n: int) -> None:
    """Write the change of codes that replaces atom i by the atoms before it, and does not raise ‖u‖₁."""
    # Atom i is a combination w of the atoms before it, L Lᵀ w = Gᵢ. L w' = Gᵢ was solved by `_factor`, in row i of L,
    # so that w = L⁻ᵀ row, and (−w, 1) leaves the reconstruction unchanged.
    L, step, at = work.L, work.step, i * (i + 1) // 2
    step[:n] = 0
    for k in range(i):
        step[k] = -L[at + k]
    _solve_back(L, step, i)
    step[i] = 1
    # To first order, ‖u‖₁ changes by sign · step: choose the sense in which it falls.
    cost = (work.sign[:n] * step[:n]).sum()
    if cost > 0:
        step[:n] *= -1
