"""Squared distances between given pairs of embeddings, far fewer than all pairs."""

from __future__ import annotations

import numba
import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit

__all__ = ["squares_of_pairs"]

PAIRS_AT_ONCE = 2048  # pairs of near images share embeddings, which stay in the cache: about 500 rows of 1 KiB
FEATURES_AT_ONCE = 256
MAX_GATHERED_BYTES = 2**27  # bytes of embeddings that are copied at once, if not on a CPU (128 MiB)


def squares_of_pairs(E: torch.Tensor, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ‖e_a − e_b‖² `(pair,)`, computed from differences of rows of E (image, feature)."""
    if E.device.type == "cpu" and E.dtype == torch.float32:
        squares = np.zeros(len(a))
        _add_squares_of_pairs(E.numpy(), a, b, squares)
        return squares
    size = max(1, MAX_GATHERED_BYTES // (12 * E.shape[1]))
    parts = [(torch.as_tensor(x[i : i + size], device=E.device) for x in (a, b)) for i in range(0, len(a), size)]
    found = [((E[first] - E[second]) ** 2).sum(1, dtype=torch.float64) for first, second in parts]
    return np.asarray(torch.cat(found).cpu().numpy())


@njit(parallel=True, fastmath=FASTMATH)
def _add_squares_of_pairs(E: np.ndarray, a: np.ndarray, b: np.ndarray, squares: np.ndarray) -> None:
    """Add ‖e_a − e_b‖² to `squares` (pair,)."""
    n_features = E.shape[1]
    for part in numba.prange((len(a) + PAIRS_AT_ONCE - 1) // PAIRS_AT_ONCE):
        for start in range(0, n_features, FEATURES_AT_ONCE):
            stop = min(start + FEATURES_AT_ONCE, n_features)
            for pair in range(part * PAIRS_AT_ONCE, min((part + 1) * PAIRS_AT_ONCE, len(a))):
                p, q = E[a[pair], start:stop], E[b[pair], start:stop]
                total = np.float32(0)
                for k in range(stop - start):
                    total += (p[k] - q[k]) * (p[k] - q[k])
                # Sums over 256 features are in float32, sums of these in float64.
                squares[pair] += total
