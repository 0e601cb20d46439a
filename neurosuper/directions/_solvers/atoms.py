"""Atoms of a dictionary: initial draws, statistics of their use, and their update (online dictionary learning).

X (row, unit) responses of a mini-batch, Z (row, direction) their codes, D (direction, unit) atoms, X ≈ Z D.
A = ZᵀZ (direction, direction) and B = ZᵀX (direction, unit) are all that an update of D needs
(Mairal, Bach, Ponce and Sapiro 2010).
"""

from __future__ import annotations

import numpy as np
import torch
from numba import prange

from neurosuper._kernels import FASTMATH, njit
from neurosuper.directions._rows.rows import Rows, Tensors

FORGETTING_EXPONENT = 0.7  # after mini-batch t, older statistics are multiplied by 1 − t^(−0.7)
ATOMS_PER_PRODUCT = 64  # atoms whose residuals come from one matrix product, then corrected as they change
ATOMS_PER_TASK = 16  # atoms whose statistics a thread adds up at a time
IDLE_STIMULI = 10  # stimuli per atom: an atom that the last 10 × n_atoms stimuli did not use is dead, and restarts


class Atoms:
    """Atoms D, and the statistics A = ZᵀZ and B = ZᵀX that determine them, in which older mini-batches fade."""

    def __init__(self, D: torch.Tensor) -> None:
        n = len(D)
        self.D, self.A, self.B = D, D.new_zeros(n, n), torch.zeros_like(D)
        self.n_batches, self.idle = 0, torch.zeros(n, dtype=torch.long, device=D.device)

    def learn(self, X: torch.Tensor, Z: torch.Tensor, G: torch.Tensor, alpha: float) -> torch.Tensor:
        """Update the atoms on a mini-batch; return its summed objective before the update, ½‖x − z D‖² + alpha ‖z‖₁.

        G (direction, direction) is D Dᵀ.
        """
        # ‖X − Z D‖² = ‖X‖² − 2 ⟨ZᵀX, D⟩ + ⟨ZᵀZ, D Dᵀ⟩.
        (A, B), D = count_uses(X, Z), self.D
        misfit = (X**2).sum() - 2 * (B * D).sum() + (A * G).sum()
        # Forget: A ← (1 − t^(−0.7)) A + ZᵀZ, and B likewise.
        self.n_batches += 1
        kept = 1 - self.n_batches**-FORGETTING_EXPONENT
        self.A.mul_(kept).add_(A)
        self.B.mul_(kept).add_(B)
        self.idle += len(X)
        self.idle[A.diagonal() > 0] = 0
        update_atoms(D, self.A, self.B)
        return misfit.double() / 2 + alpha * Z.abs().sum(dtype=torch.float64)

    def revive(self, X: torch.Tensor, Z: torch.Tensor, generator: torch.Generator) -> None:
        """Restart dead atoms at residuals of rows, drawn with probability proportional to the squared residual."""
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
    """Return initial atoms: stimuli drawn at random, scaled to unit length (a random direction where all are zero)."""
    D = rows.take(draw_positions(rows.n_rows, n, generator)).clone()
    silent = ~D.any(1)
    D[silent] = torch.randn(n, D.shape[1], generator=generator).to(D)[silent]
    return torch.nn.functional.normalize(D, dim=1)


def draw_positions(n_rows: int, n: int, generator: torch.Generator) -> np.ndarray:
    """Return the positions of `n` stimuli, drawn at random."""
    return torch.randperm(n_rows, generator=generator)[:n].sort().values.numpy()


def count_uses(X: torch.Tensor, Z: torch.Tensor) -> Tensors:
    """Return the statistics ZᵀZ and ZᵀX; compiled on the CPU, where only non-zero codes cost time."""
    if X.device.type != "cpu":
        return Z.T @ Z, Z.T @ X
    A, B = Z.new_zeros(Z.shape[1], Z.shape[1]), X.new_zeros(Z.shape[1], X.shape[1])
    _add_uses(X.numpy(), Z.numpy(), A.numpy(), B.numpy())
    return A, B


@njit(parallel=True, fastmath=FASTMATH)
def _add_uses(X: np.ndarray, Z: np.ndarray, A: np.ndarray, B: np.ndarray) -> None:
    # A thread owns rows j of A and B, so that no two threads write to the same entry.
    for task in prange((len(A) + ATOMS_PER_TASK - 1) // ATOMS_PER_TASK):
        for i in range(len(X)):
            for j in range(task * ATOMS_PER_TASK, min((task + 1) * ATOMS_PER_TASK, len(A))):
                # A_j += z_j z and B_j += z_j x: nothing to add for the many codes that are zero.
                code = Z[i, j]
                if code != 0:
                    for k in range(len(A)):
                        A[j, k] += code * Z[i, k]
                    for unit in range(X.shape[1]):
                        B[j, unit] += code * X[i, unit]


def update_atoms(D: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> None:
    """Set each atom in turn, in place, to the unit vector that minimises the squared error for these statistics.

    Block coordinate descent (Mairal et al. 2010, algorithm 2): d_j is the direction of B_j − Σ_{i≠j} A_ji d_i. Atoms
    that no code used do not change.
    """
    # The residuals B − A D of 64 atoms come from one product, and are corrected as each of these atoms changes.
    turn = turn_compiled if D.device.type == "cpu" else turn_atoms
    for start in range(0, len(D), ATOMS_PER_PRODUCT):
        block = slice(start, start + ATOMS_PER_PRODUCT)
        turn(D[block], A[block, block], B[block] - A[block] @ D)


def turn_atoms(D: torch.Tensor, A: torch.Tensor, residual: torch.Tensor) -> None:
    """Update atoms in turn, given the residual B − A D over all atoms, which is overwritten."""
    for j in range(len(D)):
        # B_j − Σ_{i≠j} A_ji d_i is the residual plus the contribution of atom j itself.
        goal = residual[j] + A[j, j] * D[j]
        length = goal.norm()
        change = torch.where((length > 0) & (A[j, j] > 0), goal / length, D[j]) - D[j]
        # d_j changed by δ, so that the residuals of the atoms after it change by −A_ij δ.
        residual[j + 1 :] -= A[j + 1 :, j, None] * change
        D[j] += change


def turn_compiled(D: torch.Tensor, A: torch.Tensor, residual: torch.Tensor) -> None:
    """Update atoms as `turn_atoms` does, in compiled loops on the CPU."""
    _turn_atoms(D.numpy(), A.numpy(), residual.numpy())


@njit(fastmath=FASTMATH)
def _turn_atoms(D: np.ndarray, A: np.ndarray, residual: np.ndarray) -> None:
    (n, n_units), change = D.shape, np.empty_like(D[0])
    for j in range(n):
        goal, square = residual[j], residual[j, 0] * 0
        for unit in range(n_units):
            goal[unit] += A[j, j] * D[j, unit]
            square += goal[unit] * goal[unit]
        # An unused atom, or one that nothing is left for, stays as it is.
        if A[j, j] <= 0 or square <= 0:
            continue
        scale = 1 / np.sqrt(square)
        for unit in range(n_units):
            new = goal[unit] * scale
            change[unit] = new - D[j, unit]
            D[j, unit] = new
        # Residuals of the atoms after it: −A_ij δ.
        for i in range(j + 1, n):
            weight = A[i, j]
            for unit in range(n_units):
                residual[i, unit] -= weight * change[unit]


def squared_length(X: torch.Tensor) -> Tensors:
    """Return Σ ‖x‖² over rows, in float64."""
    return ((X**2).sum(dtype=torch.float64),)
