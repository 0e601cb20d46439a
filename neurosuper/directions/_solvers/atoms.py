"""Atoms of a dictionary: first draws, statistics of their use, and their update."""

from __future__ import annotations

import numpy as np
import torch
from numba import prange

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import torch_threads
from neurosuper.directions._rows.rows import Rows, Tensors

FORGETTING_EXPONENT = 0.7  # batch t weighs as much as t^0.7 batches before it have residual
ATOMS_PER_PRODUCT = 64  # atoms that are updated after one product
ATOMS_PER_TASK = 16  # atoms that a thread takes at a time
IDLE_STIMULI = 10  # stimuli an atom, after which an atom that none of them used is dead


class Atoms:
    """Atoms D (direction, unit), and the statistics that they follow: A = ZᵀZ and B = ZᵀX, where older batches fade."""

    def __init__(self, D: torch.Tensor) -> None:
        n = len(D)
        self.D, self.A, self.B = D, D.new_zeros(n, n), torch.zeros_like(D)
        self.n_batches, self.idle = 0, torch.zeros(n, dtype=torch.long, device=D.device)

    def learn(self, X: torch.Tensor, Z: torch.Tensor, G: torch.Tensor, alpha: float) -> torch.Tensor:
        """Update the atoms on a batch, and return its summed objective before that: ½‖x − z D‖² + alpha ‖z‖₁.

        G (direction, direction) is D Dᵀ.
        """
        (A, B), D = count_uses(X, Z), self.D
        misfit = (X**2).sum() - 2 * (B * D).sum() + (A * G).sum()
        self.n_batches += 1
        kept = 1 - self.n_batches**-FORGETTING_EXPONENT
        self.A.mul_(kept).add_(A)
        self.B.mul_(kept).add_(B)
        self.idle += len(X)
        self.idle[A.diagonal() > 0] = 0
        update_atoms(D, self.A, self.B)
        return misfit.double() / 2 + alpha * Z.abs().sum(dtype=torch.float64)

    def revive(self, X: torch.Tensor, Z: torch.Tensor, generator: torch.Generator) -> None:
        """Restart dead atoms at what is residual of rows, drawn as often as their squared errors are large."""
        dead = (self.idle >= IDLE_STIMULI * len(self.D)).nonzero().flatten()
        if len(dead) == 0:
            return
        E = X - Z @ self.D
        chances = (E**2).sum(1).double().cpu()
        dead = dead[: int((chances > 0).sum())]
        if len(dead) == 0:
            return
        drawn = torch.multinomial(chances, len(dead), generator=generator).to(X.device)
        self.D[dead] = torch.nn.functional.normalize(E[drawn], dim=1)
        self.A[dead], self.A[:, dead], self.B[dead], self.idle[dead] = 0, 0, 0, 0


def first_atoms(rows: Rows, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return stimuli drawn at random, scaled to unit length; where one has no response, a random direction."""
    D = rows.take(draw_positions(rows.n_rows, n, generator)).clone()
    silent = ~D.any(1)
    D[silent] = torch.randn(n, D.shape[1], generator=generator).to(D)[silent]
    return torch.nn.functional.normalize(D, dim=1)


def draw_positions(n_rows: int, n: int, generator: torch.Generator) -> np.ndarray:
    """Return the positions of `n` stimuli, drawn at random."""
    return torch.randperm(n_rows, generator=generator)[:n].sort().values.numpy()


def count_uses(X: torch.Tensor, Z: torch.Tensor) -> Tensors:
    """Return the statistics ZᵀZ and ZᵀX; on the CPU by compiled loops over codes that are not zero."""
    if X.device.type != "cpu":
        return Z.T @ Z, Z.T @ X
    A, B = Z.new_zeros(Z.shape[1], Z.shape[1]), X.new_zeros(Z.shape[1], X.shape[1])
    with torch_threads():
        _add_uses(X.numpy(), Z.numpy(), A.numpy(), B.numpy())
    return A, B


@njit(parallel=True, fastmath=FASTMATH)
def _add_uses(X: np.ndarray, Z: np.ndarray, A: np.ndarray, B: np.ndarray) -> None:
    for part in prange((len(A) + ATOMS_PER_TASK - 1) // ATOMS_PER_TASK):
        for i in range(len(X)):
            for j in range(part * ATOMS_PER_TASK, min((part + 1) * ATOMS_PER_TASK, len(A))):
                code = Z[i, j]
                if code != 0:
                    for k in range(len(A)):
                        A[j, k] += code * Z[i, k]
                    for unit in range(X.shape[1]):
                        B[j, unit] += code * X[i, unit]


def update_atoms(D: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> None:
    """Set one atom after another, in place, to the one of unit length that is best for these statistics.

    Each is the direction of B_j − Σ_{i≠j} A_ji d_i; those that no code used stay as they are. One product for a block
    of atoms, which is corrected as they change.
    """
    turn = turn_compiled if D.device.type == "cpu" else turn_atoms
    for start in range(0, len(D), ATOMS_PER_PRODUCT):
        block = slice(start, start + ATOMS_PER_PRODUCT)
        turn(D[block], A[block, block], B[block] - A[block] @ D)


def turn_atoms(D: torch.Tensor, A: torch.Tensor, residual: torch.Tensor) -> None:
    """Turn atoms one after another, given what is `residual` for each, B − A D over all atoms, which is written to."""
    for j in range(len(D)):
        goal = residual[j] + A[j, j] * D[j]
        length = goal.norm()
        change = torch.where((length > 0) & (A[j, j] > 0), goal / length, D[j]) - D[j]
        residual[j + 1 :] -= A[j + 1 :, j, None] * change
        D[j] += change


def turn_compiled(D: torch.Tensor, A: torch.Tensor, residual: torch.Tensor) -> None:
    """Do the same in compiled loops on the CPU."""
    _turn_atoms(D.numpy(), A.numpy(), residual.numpy())


@njit(fastmath=FASTMATH)
def _turn_atoms(D: np.ndarray, A: np.ndarray, residual: np.ndarray) -> None:
    (n, n_units), change = D.shape, np.empty_like(D[0])
    for j in range(n):
        goal, square = residual[j], residual[j, 0] * 0
        for unit in range(n_units):
            goal[unit] += A[j, j] * D[j, unit]
            square += goal[unit] * goal[unit]
        if A[j, j] <= 0 or square <= 0:
            continue
        scale = 1 / np.sqrt(square)
        for unit in range(n_units):
            new = goal[unit] * scale
            change[unit] = new - D[j, unit]
            D[j, unit] = new
        for i in range(j + 1, n):
            weight = A[i, j]
            for unit in range(n_units):
                residual[i, unit] -= weight * change[unit]


def squared_length(part: torch.Tensor) -> Tensors:
    return ((part**2).sum(dtype=torch.float64),)
