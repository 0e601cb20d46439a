"""Compiled training step: sparse codes of a mini-batch, and Adam on the weights of atoms that are active in it.

X (row, unit) responses, D (direction, unit) atoms, Z (row, direction) codes, stored as lists of the active atoms of
each row: entries `starts[i]` to `starts[i + 1]` of `atoms` and `codes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numba import prange

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import one_blas_thread, torch_threads

ATOMS_PER_TASK = 256  # atoms that a thread multiplies responses with at a time

Array = np.ndarray


@contextmanager
def threads() -> Iterator[None]:
    """Run compiled loops on as many threads as torch uses, and BLAS on one thread within each."""
    with torch_threads(), one_blas_thread():
        yield


@njit(parallel=True)
def encode(X: Array, encoder: Array, bias: Array) -> Array:
    """Return X encoderᵀ + bias `(row, direction)`; call it within `threads()`."""
    P = np.empty((len(X), len(encoder)), X.dtype)
    for task in prange(-(-len(encoder) // ATOMS_PER_TASK)):
        start = task * ATOMS_PER_TASK
        product = np.dot(X, encoder[start : start + ATOMS_PER_TASK].T)
        for i in range(len(X)):
            for j in range(product.shape[1]):
                P[i, start + j] = product[i, j] + bias[start + j]
    return P


@njit(inline="always")
def _sift_down(values: Array, atoms: Array) -> None:
    """Restore a heap, smallest entry on top, after its first entry was replaced."""
    # Move the entry down as long as one of its children, 2 i + 1 and 2 i + 2, is smaller.
    at, n = 0, len(values)
    value, atom = values[0], atoms[0]
    child = 1
    while child < n:
        if child + 1 < n and values[child + 1] < values[child]:
            child += 1
        if values[child] >= value:
            break
        values[at], atoms[at] = values[child], atoms[child]
        at, child = child, 2 * child + 1
    values[at], atoms[at] = value, atom


@njit(parallel=True)
def largest(P: Array, n_active: int) -> tuple[Array, Array]:
    """Return atoms and values `(row, n_active)` of the largest positive entries in each row of P (row, direction).

    If fewer entries are positive, the remaining values are zero.
    """
    atoms = np.zeros((len(P), n_active), np.int32)
    values = np.zeros((len(P), n_active), P.dtype)
    for i in prange(len(P)):
        # One pass: a heap contains the largest entries so far, and an entry that exceeds the smallest replaces it.
        for j in range(P.shape[1]):
            if P[i, j] > values[i, 0]:
                values[i, 0], atoms[i, 0] = P[i, j], j
                _sift_down(values[i], atoms[i])
    return atoms, values


@njit(fastmath=FASTMATH, inline="always")
def _dot(a: Array, b: Array) -> float:
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(parallel=True, fastmath=FASTMATH)
def decode(starts: Array, atoms: Array, codes: Array, D: Array, X: Array) -> tuple[Array, Array]:
    """Return the error E = Z D − X `(row, unit)`, and d·e `(entry,)` for each active code."""
    E, slopes = np.empty_like(X), np.empty_like(codes)
    for i in prange(len(X)):
        error = E[i]
        for unit in range(len(error)):
            error[unit] = -X[i, unit]
        # e = z D − x, over the active atoms only.
        for entry in range(starts[i], starts[i + 1]):
            code, atom = codes[entry], D[atoms[entry]]
            for unit in range(len(error)):
                error[unit] += code * atom[unit]
        # ½ ∂‖e‖²/∂z_k = d_k·e; the caller multiplies by 2 / n.
        for entry in range(starts[i], starts[i + 1]):
            slopes[entry] = _dot(D[atoms[entry]], error)
    return E, slopes


@njit()
def by_atom(starts: Array, atoms: Array, n_atoms: int) -> tuple[Array, Array, Array]:
    """Return the entries grouped by atom: the start of each atom's group, the entries, and their rows."""
    # A counting sort by atom: count, cumulate, then place each entry at the next free position of its atom.
    first = np.zeros(n_atoms + 1, np.int64)
    for atom in atoms:
        first[atom + 1] += 1
    first = np.cumsum(first)
    free = first[:-1].copy()
    entries, rows = np.empty(len(atoms), np.int64), np.empty(len(atoms), np.int64)
    for i in range(len(starts) - 1):
        for entry in range(starts[i], starts[i + 1]):
            at = free[atoms[entry]]
            entries[at], rows[at] = entry, i
            free[atoms[entry]] += 1
    return first, entries, rows


@njit(fastmath=FASTMATH, inline="always")
def _adam(weights: Array, first: Array, second: Array, gradient: Array, rates: Array) -> None:
    """Take one step of Adam (Kingma and Ba 2015, algorithm 1), in place.

    `rates` are β₁, β₂, the step and ε in the dtype of the weights; the last two include the bias correction.
    """
    beta1, beta2, step, epsilon = rates
    for i in range(len(weights)):
        # m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  w ← w − step · m / (√v + ε).
        slope = gradient[i]
        first[i] = slope + beta1 * (first[i] - slope)
        second[i] = slope * slope + beta2 * (second[i] - slope * slope)
        weights[i] -= step * first[i] / (np.sqrt(second[i]) + epsilon)


@njit(parallel=True, fastmath=FASTMATH)
def update(
    groups: tuple[Array, Array, Array],
    codes: Array,
    slopes: Array,
    E: Array,
    X: Array,
    D: Array,
    encoder: Array,
    moments: tuple[Array, Array],
    encoder_moments: tuple[Array, Array],
    rates: Array,
) -> None:
    """Update atoms and encoder rows, in place, by Adam, from the rows in which each atom is active.

    One atom after another, so that its gradients stay in the cache.
    """
    starts, entries, rows = groups
    for k in prange(len(D)):
        gradient, encoder_gradient = np.zeros_like(D[k]), np.zeros_like(D[k])
        # ∂L/∂d_k = Σ z_ik e_i and ∂L/∂encoder_k = Σ slope_ik x_i, over the rows i that use atom k.
        for at in range(starts[k], starts[k + 1]):
            code, slope, error, x = codes[entries[at]], slopes[entries[at]], E[rows[at]], X[rows[at]]
            for unit in range(len(x)):
                gradient[unit] += code * error[unit]
                encoder_gradient[unit] += slope * x[unit]
        # Atoms have unit length: remove the component along the atom, and normalise after the step.
        along = _dot(gradient, D[k])
        for unit in range(len(gradient)):
            gradient[unit] -= along * D[k, unit]
        _adam(D[k], moments[0][k], moments[1][k], gradient, rates)
        _adam(encoder[k], encoder_moments[0][k], encoder_moments[1][k], encoder_gradient, rates)
        scale = 1 / np.sqrt(_dot(D[k], D[k]))
        for unit in range(len(gradient)):
            D[k, unit] *= scale
