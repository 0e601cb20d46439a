"""The lasso by an active set, compiled for the CPU: one row after another, exactly but for rounding.

C (row, direction) correlations X Dᵀ, G (direction, direction) Gram matrix D Dᵀ, Z (row, direction) codes. Of one row:
c, z, and q = c − z G, the correlations of atoms with what is left of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange

from neurosuper._kernels import njit
from neurosuper._threads import torch_threads

RANK_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # of an atom's squared length left by other atoms
ROUNDS = 10  # at most, for each atom
ENTER = 0.92  # of the strongest correlation: atoms above it enter the active set together,
TOGETHER = 8  # so many at most
LANES = 16  # in which the strongest correlation is sought
CHUNKS = 64  # of rows, for threads to take

compiled = njit(fastmath=True)


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


@njit(parallel=True, fastmath=True)
def _code_rows(
    C: np.ndarray, G: np.ndarray, Z: np.ndarray, alpha: float, positive: bool, tol: float, rank_tolerance: float
) -> np.ndarray:
    n_rows, n = C.shape
    n_chunks = min(n_rows, CHUNKS)
    missed = np.zeros(n_chunks, C.dtype)
    for chunk in prange(n_chunks):
        v = np.empty((6, n), C.dtype)
        L = np.empty(n * (n + 1) // 2, C.dtype)
        desk = Workspace(v[0], v[1], np.empty(n, np.int64), v[2], v[3], v[4], v[5], L)
        for i in range(chunk * n_rows // n_chunks, (chunk + 1) * n_rows // n_chunks):
            left = _code_row(C[i], G, Z[i], alpha, positive, tol, rank_tolerance, desk)
            missed[chunk] = max(missed[chunk], left)
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
    desk: Workspace,
) -> Any:
    """Write the codes of a row into `z`, zero before; return what is missed by, of its largest correlation."""
    desk.q[:] = c
    _find_peaks(desk, False)
    largest = _highest(desk.peaks, len(c))
    slack, off, n = tol * largest, largest * 0, 0
    for _ in range(ROUNDS * (len(c) + ROUNDS)):
        _find_peaks(desk, positive)
        strongest = _highest(desk.peaks, len(c))
        if strongest <= alpha + slack and off <= slack:
            return largest * 0
        known = n
        if strongest > alpha + slack:
            n = _enter(z, max(alpha + slack, ENTER * strongest), alpha, positive, desk, n)
        n = _solve_active_set(G, z, rank_tolerance, desk, known, n)
        _commit_codes(G, z, desk, n)
        off = _update_gradient(alpha, desk, n)
    _find_peaks(desk, positive)
    return max(_highest(desk.peaks, len(c)) - alpha, off) / largest


@compiled
def _lanes(n: int) -> int:
    lanes = 1
    while 2 * lanes <= n and lanes < LANES:
        lanes *= 2
    return lanes


@compiled
def _find_peaks(desk: Workspace, positive: bool) -> None:
    """Write the strongest correlation of atoms j, j + 16, j + 32, … into `peaks`, by folding: no loop has to wait."""
    q, peaks, half = desk.q, desk.peaks, 1
    while 2 * half <= len(q):
        half *= 2
    mirror = q[0] * 0 - (0 if positive else 1)
    for k in range(half):
        peaks[k] = max(q[k], mirror * q[k])
    for k in range(len(q) - half):
        peaks[k] = max(peaks[k], max(q[half + k], mirror * q[half + k]))
    while half > LANES:
        half //= 2
        for k in range(half):
            peaks[k] = max(peaks[k], peaks[half + k])


@compiled
def _highest(peaks: np.ndarray, n: int) -> Any:
    highest = peaks[0]
    for k in range(_lanes(n)):
        highest = max(highest, peaks[k])
    return highest


@compiled
def _enter(z: np.ndarray, bar: Any, alpha: Any, positive: bool, desk: Workspace, n: int) -> int:
    """Let atoms whose correlation reaches the bar into the active set, which grows to n."""
    q, most = desk.q, min(len(z), n + TOGETHER)
    lanes = _lanes(len(q))
    for lane in range(lanes):
        if desk.peaks[lane] < bar:
            continue
        for j in range(lane, len(q), lanes):
            strength = q[j] if positive else abs(q[j])
            if strength >= bar and z[j] == 0 and n < most:
                desk.active[n], desk.u[n], desk.sign[n] = j, 0, np.sign(q[j])
                desk.slope[n] = q[j] - alpha * desk.sign[n]
                n += 1
    return n


@compiled
def _solve_active_set(G: np.ndarray, z: np.ndarray, rank_tolerance: Any, desk: Workspace, known: int, n: int) -> int:
    """Go to the optimum of the signs at hand; atoms whose code becomes zero on the way leave, and n are left.

    Where active atoms are linearly dependent there is no such point: one of them is traded for the others. The first
    `known` rows of L are up to date.
    """
    while n > 0:
        rank = _factor(G, rank_tolerance, desk, known, n)
        dependent = rank < n
        if dependent:
            _find_null_step(desk, rank, n)
        else:
            _solve(desk, n)
        share, first = _walk(desk, dependent, n)
        if first < 0:
            break
        for i in range(n):
            desk.slope[i] *= 1 if dependent else 1 - share
        _drop_atom(G, z, desk, first, n)
        known, n = first, n - 1
    return n


@compiled
def _walk(desk: Workspace, endless: bool, n: int) -> tuple[Any, int]:
    """Take the step, or the share of it after which a code is zero; return that share, and which code it is or −1."""
    u, step, sign = desk.u, desk.step, desk.sign
    share, first = u[0] * 0 + 1, -1
    least = share
    for i in range(n):
        least = min(least, (u[i] + step[i]) * sign[i])
    if least < 0 or endless:
        for i in range(n):
            if step[i] * sign[i] < 0 and (first < 0 or -u[i] / step[i] < share):
                share, first = -u[i] / step[i], i
    if first < 0 and endless:
        return share, first
    for i in range(n):
        u[i] += share * step[i]
    return share, first


@compiled
def _drop_atom(G: np.ndarray, z: np.ndarray, desk: Workspace, i: int, n: int) -> None:
    """Take the i-th of n atoms out of the active set, with what it has contributed."""
    j = desk.active[i]
    if z[j] != 0:
        for k in range(len(z)):
            desk.q[k] += z[j] * G[j, k]
        z[j] = 0
    for values in (desk.u, desk.sign, desk.slope):
        for k in range(i, n - 1):
            values[k] = values[k + 1]
    for k in range(i, n - 1):
        desk.active[k] = desk.active[k + 1]


@compiled
def _commit_codes(G: np.ndarray, z: np.ndarray, desk: Workspace, n: int) -> None:
    """Take over the codes of active atoms, and correct the correlations of all."""
    q = desk.q
    for i in range(n):
        j = desk.active[i]
        change = desk.u[i] - z[j]
        for k in range(len(q)):
            q[k] -= change * G[j, k]
        z[j] = desk.u[i]


@compiled
def _update_gradient(alpha: Any, desk: Workspace, n: int) -> Any:
    """Renew the slopes of active codes, and return how steep the steepest is."""
    steepest = desk.q[0] * 0
    for i in range(n):
        slope = desk.q[desk.active[i]] - alpha * desk.sign[i]
        steepest = max(steepest, abs(slope))
        desk.slope[i] = slope
    return steepest


@compiled
def _factor(G: np.ndarray, rank_tolerance: Any, desk: Workspace, known: int, n: int) -> int:
    """Extend L from the `known` rows to n by Cholesky's method, and return how many are of full rank."""
    L, active = desk.L, desk.active
    for i in range(known, n):
        g, at = G[active[i]], 0
        row = L[i * (i + 1) // 2 : (i + 1) * (i + 2) // 2]
        square = g[active[i]]
        for j in range(i):
            left = g[active[j]]
            for k in range(j):
                left -= L[at + k] * row[k]
            row[j] = left * L[at + j]
            square -= row[j] * row[j]
            at += j + 1
        if square <= rank_tolerance * g[active[i]]:
            return i
        row[i] = 1 / np.sqrt(square)
    return n


@compiled
def _solve(desk: Workspace, n: int) -> None:
    """Find the step H⁻¹ slope, H the Gram matrix of active atoms."""
    L, step, at = desk.L, desk.step, 0
    for i in range(n):
        left = desk.slope[i]
        for k in range(i):
            left -= L[at + k] * step[k]
        step[i] = left * L[at + i]
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
def _find_null_step(desk: Workspace, i: int, n: int) -> None:
    """Find how atoms before the i-th make up for it, in the direction in which codes become smaller."""
    L, step, at = desk.L, desk.step, i * (i + 1) // 2
    step[:n] = 0
    for k in range(i):
        step[k] = -L[at + k]
    _solve_back(L, step, i)
    step[i] = 1
    cost = (desk.sign[:n] * step[:n]).sum()
    if cost > 0:
        step[:n] *= -1
