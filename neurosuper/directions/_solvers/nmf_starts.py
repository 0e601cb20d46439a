"""What NMF starts from: the stimuli of its first fit, and first directions, singular or drawn.

X (stimulus, unit) prepared responses, D (direction, unit) directions.
"""

from __future__ import annotations

import numpy as np
import torch

SAMPLE = 12_000, 100  # stimuli that the fit starts on: so many, or so many times the directions


def draw_positions(n_rows: int, n_directions: int, generator: torch.Generator) -> np.ndarray:
    """Return the positions of all stimuli, or, of over twice as many as the fit needs to start on, of that many."""
    n = max(SAMPLE[0], SAMPLE[1] * n_directions)
    if n_rows <= 2 * n:
        return np.arange(n_rows)
    return torch.randperm(n_rows, generator=generator)[:n].sort().values.numpy()


def singular_parts(X: torch.Tensor, n: int, signed: bool) -> torch.Tensor:
    """Return for each singular vector its stronger part, positive or negative, of unit length; as many as the rank.

    The strength of a part is ‖that part of v‖ · ‖the same part of u‖ (Boutsidis and Gallopoulos 2008, algorithm 2). The
    left vectors u are X v, so that the Gram matrix of the units is enough, or of the stimuli where they are fewer.
    """
    is_wide = len(X) < X.shape[1]
    variance, V = torch.linalg.eigh((X @ X.T if is_wide else X.T @ X).double())
    kept = variance > 1e-7 * variance[-1]
    V = V[:, kept].flip(1)[:, :n].to(X.dtype)
    V = torch.nn.functional.normalize(X.T @ V, dim=0) if is_wide else V
    U = X @ V
    strength = [(sign * V).clamp(min=0).norm(dim=0) * (sign * U).clamp(min=0).norm(dim=0) for sign in (1, -1)]
    V = torch.where(strength[0] >= strength[1], V, -V)
    return torch.nn.functional.normalize(V if signed else V.clamp(min=0), dim=0).T.contiguous()


def draw_directions(X: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return response vectors of unit length, drawn without replacement while there are any."""
    alive = X.any(1).nonzero()[:, 0]
    order = alive[torch.randperm(len(alive), generator=generator).to(X.device)]
    return torch.nn.functional.normalize(X[order[torch.arange(n, device=X.device) % len(alive)]], dim=1)
