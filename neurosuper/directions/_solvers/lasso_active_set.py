"""The lasso by an active set, compiled for the CPU: one row after another, exactly but for rounding.

C (row, direction) correlations X Dᵀ, G (direction, direction) Gram matrix D Dᵀ, Z (row, direction) codes. Of one row:
c, z, and q = c − z G, the correlations of atoms with what is left of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import torch_threads

RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of an atom's squared length left by other atoms
MAX_ROUNDS_PER_ATOM = 10  # at most, for each atom
ENTRY_SHARE = 0.92  # of the strongest correlation: atoms above it enter the active set together,
MAX_ENTRIES = 8  # so many at most
N_PEAKS = 16  # in which the strongest correlation is sought
N_TILES = 64  # of rows, for threads to take

compiled = njit(fastmath=FASTMATH)


class Workspace(NamedTuple):
    """What is at hand for the row in work; all but `q` and `peaks` by position in its active set."""

    q: np.ndarray  # correlations of all atoms with what is left of the row
    peaks: np.ndarray  # strongest correlations of every 16th atom
    active: np.ndarray  # atoms that have a code
    u: np.ndarray  # their codes, as they are to be
    sign: np.ndarray  # and the signs of those
    slope: np.ndarray  # what the conditions of an optimum are missed by
    step: np.ndarray
    L: np.ndarray  # Cholesky factor of their Gram matrix: rows of a lower triangle, the diagonal inverted


def active_set(
    C: torch.Tensor, G: torch.Tensor, alpha: float, positive: bool, tol: float
) -> tuple[torch.Tensor, float]:
    """Return lasso codes, and by how much the conditions of an optimum are missed where that is more than `tol`.

    Atoms enter a row's active set where they violate the conditions, the strongest first; then comes a step to the
    exact optimum of the signs at hand. Where a code would cross zero on the way, its atom leaves (feature-sign search;
    Lee, Battle, Raina and Ng 2007). On as many threads as torch has.
    """
    Z, one = torch.zeros_like(C), C.numpy().dtype.type
    with torch_threads():
        missed = _code_rows(
            C.numpy(), G.numpy(), Z.numpy(), one(alpha), positive, one(tol), one(RANK_TOLERANCE[C.dtype])
        )
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
    """Write the codes of a row into `z`, zero before; return what is missed by, of its largest correlation."""
    work.q[:] = c
    _find_peaks(work, False)
    largest = _highest(work.peaks, len(c))
    slack, off, n = tol * largest, largest * 0, 0
    for _ in range(MAX_ROUNDS_PER_ATOM * (len(c) + MAX_ROUNDS_PER_ATOM)):
        _find_peaks(work, positive)
        strongest = _highest(work.peaks, len(c))
        if strongest <= alpha + slack and off <= slack:
            return largest * 0
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
    """Write the strongest correlation of atoms j, j + 16, j + 32, … into `peaks`, by folding: no loop has to wait."""
    q, peaks, half = work.q, work.peaks, 1
    while 2 * half <= len(q):
        half *= 2
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
    """Let atoms whose correlation reaches the bar into the active set, which grows to n."""
    q, most = work.q, min(len(z), n + MAX_ENTRIES)
    n_peaks = _count_peaks(len(q))
    for k in range(n_peaks):
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
    """Go to the optimum of the signs at hand; atoms whose code becomes zero on the way leave, and n are residual.

    Where active atoms are linearly dependent there is no such point: one of them is traded for the others. The first
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
        for i in range(n):
            work.slope[i] *= 1 if dependent else 1 - share
        _drop_atom(G, z, work, first, n)
        known, n = first, n - 1
    return n


@compiled
def _take_step(work: Workspace, is_null_step: bool, n: int) -> tuple[Any, int]:
    """Take the step, or the share of it after which a code is zero; return that share, and which code it is or −1."""
    u, step, sign = work.u, work.step, work.sign
    share, first = u[0] * 0 + 1, -1
    least = share
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
    """Take the i-th of n atoms out of the active set, with what it has contributed."""
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
    """Take over the codes of active atoms, and correct the correlations of all."""
    q = work.q
    for i in range(n):
        j = work.active[i]
        change = work.u[i] - z[j]
        for k in range(len(q)):
            q[k] -= change * G[j, k]
        z[j] = work.u[i]


@compiled
def _update_gradient(alpha: Any, work: Workspace, n: int) -> Any:
    """Renew the slopes of active codes, and return how steep the steepest is."""
    steepest = work.q[0] * 0
    for i in range(n):
        slope = work.q[work.active[i]] - alpha * work.sign[i]
        steepest = max(steepest, abs(slope))
        work.slope[i] = slope
    return steepest


@compiled
def _factor(G: np.ndarray, rank_tolerance: Any, work: Workspace, known: int, n: int) -> int:
    """Extend L from the `known` rows to n by Cholesky's method, and return how many are of full rank."""
    L, active = work.L, work.active
    for i in range(known, n):
        g, at = G[active[i]], 0
        row = L[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]
        square = g[active[i]]
        for j in range(i):
            residual = g[active[j]]
            for k in range(j):
                residual -= L[at + k] * row[k]
            row[j] = residual * L[at + j]
            square -= row[j] * row[j]
            at += j + 1
        if square <= rank_tolerance * g[active[i]]:
            return i
        row[i] = 1 / np.sqrt(square)
    return n


@compiled
def _solve(work: Workspace, n: int) -> None:
    """Find the step H⁻¹ slope, H the Gram matrix of active atoms."""
    L, step, at = work.L, work.step, 0
    for i in range(n):
        residual = work.slope[i]
        for k in range(i):
            residual -= L[at + k] * step[k]
        step[i] = residual * L[at + i]
        at += i + 1
    _solve_back(L, step, n)


@compiled
def _solve_back(L: np.ndarray, v: np.ndarray, n: int) -> None:
    """Turn the first n entries of v into L⁻ᵀ v."""
    for i in range(n - 1, -1, -1):
        at = i * (i + 1) // 2
        value = v[i] * L[at + i]
        v[i] = value
        for k in range(i):
            v[k] -= value * L[at + k]


@compiled
def _find_null_step(work: Workspace, i: int, n: int) -> None:
    """Find how atoms before the i-th make up for it, in the direction in which codes become smaller."""
    L, step, at = work.L, work.step, i * (i + 1) // 2
    step[:n] = 0
    for k in range(i):
        step[k] = -L[at + k]
    _solve_back(L, step, i)
    step[i] = 1
    cost = (work.sign[:n] * step[:n]).sum()
    if cost > 0:
        step[:n] *= -1
