"""Initial values for NMF: the stimuli of its first fit, and directions from singular vectors or drawn stimuli.

X (stimulus, unit) prepared responses, D (direction, unit) directions.
"""

from __future__ import annotations

import numpy as np
import torch

SAMPLE = 12_000, 100  # stimuli of the first fit: this many, or this many per direction if that is more


def draw_positions(n_rows: int, n_directions: int, generator: torch.Generator) -> np.ndarray:
    """Return the positions of the stimuli of the first fit: a sample, or all if they are at most twice as many."""
    n = max(SAMPLE[0], SAMPLE[1] * n_directions)
    if n_rows <= 2 * n:
        return np.arange(n_rows)
    return torch.randperm(n_rows, generator=generator)[:n].sort().values.numpy()


def singular_directions(X: torch.Tensor, n: int, signed: bool) -> torch.Tensor:
    """Return the stronger of the positive and the negative part of each singular vector, of unit length (NNDSVD).

    As many as the rank, at most `n`. Boutsidis and Gallopoulos (2008, algorithm 2).
    """
    # Singular vectors come from the smaller Gram matrix, XᵀX of units or XXᵀ of stimuli.
    is_wide = len(X) < X.shape[1]
    variance, V = torch.linalg.eigh((X @ X.T if is_wide else X.T @ X).double())
    kept = variance > 1e-7 * variance[-1]  # squared singular values; less is rounding of products in float32
    V = V[:, kept].flip(1)[:, :n].to(X.dtype)
    V = torch.nn.functional.normalize(X.T @ V, dim=0) if is_wide else V
    # u = X v up to its length. The strength of a sign ± is ‖v^±‖ ‖u^±‖, where v^± = max(0, ±v).
    U = X @ V
    strength = [(sign * V).clamp(min=0).norm(dim=0) * (sign * U).clamp(min=0).norm(dim=0) for sign in (1, -1)]
    V = torch.where(strength[0] >= strength[1], V, -V)
    return torch.nn.functional.normalize(V if signed else V.clamp(min=0), dim=0).T.contiguous()


def draw_directions(X: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return response vectors of unit length, drawn at random; each is used once before any is used again."""
    alive = X.any(1).nonzero()[:, 0]
    order = alive[torch.randperm(len(alive), generator=generator).to(X.device)]
    return torch.nn.functional.normalize(X[order[torch.arange(n, device=X.device) % len(alive)]], dim=1)
