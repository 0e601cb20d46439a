"""The derivatives g = G' of the two contrasts G of ICA, and their sums over stimuli.

S (row, direction) sources; each function returns g(s), which may overwrite S, Σ g'(s) and Σ G(s) `(direction,)`.
Contrasts are those of Hyvärinen (1999): G(s) = log cosh s and G(s) = −exp(−s²/2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np
import torch

from neurosuper._kernels import FASTMATH, njit
from neurosuper._threads import torch_threads
from neurosuper.directions._rows.rows import Tensors

HALF, ONE = np.float32(0.5), np.float32(1)
MAX_EXPONENT = np.float32(120)  # m in 2^(−m): below 127 it is a normal float32; tanh rounds to 1 from m = 26 on
TWO_OVER_LOG2 = np.float32(2 / math.log(2))
A1, A2, A3, A4, A5, A6, A7 = (np.float32(math.log(2) ** i / math.factorial(i)) for i in range(1, 8))


def _logcosh(S: torch.Tensor) -> Tensors:
    """Return tanh s, written over S, Σ (1 − tanh² s) and Σ log cosh s."""
    if S.device.type == "cpu" and S.dtype == torch.float32:
        return _logcosh_compiled(S)
    # log cosh s = |s| − log(1 + tanh |s|), because cosh s = e^|s| / (1 + tanh |s|): no overflow for large |s|.
    length = S.abs().sum(0)
    S.tanh_()
    return S, len(S) - (S * S).sum(0), length - S.abs().add_(1).log_().sum(0)


def _logcosh_compiled(S: torch.Tensor) -> Tensors:
    """Return the same as `_logcosh`, nine times as fast as torch."""
    with torch_threads():
        totals = np.zeros((numba.get_num_threads(), 2, S.shape[1]))
        _tanh_in_place(S.numpy(), totals)
    squares, contrast = torch.from_numpy(totals.sum(0))
    return S, len(S) - squares, contrast


@njit(parallel=True, fastmath=FASTMATH)
def _tanh_in_place(S: np.ndarray, totals: np.ndarray) -> None:
    """Write tanh s over float32 s, and add Σ tanh² s and Σ log cosh s to `totals` (thread, 2, direction)."""
    n_rows, n_columns = S.shape
    n_threads = len(totals)
    for thread in numba.prange(n_threads):
        power, bits = np.empty(n_columns, np.float32), np.empty(n_columns, np.int32)
        scale = bits.view(np.float32)
        squares, length = np.zeros(n_columns, np.float32), np.zeros(n_columns, np.float32)
        product = np.ones(n_columns, np.float32)
        start, stop = n_rows * thread // n_threads, n_rows * (thread + 1) // n_threads
        for i in range(start, stop):
            for j in range(n_columns):
                # e = exp(−2 |s|) = 2^(−m) · 2^f, with m the integer nearest to 2 |s| / log 2, and |f| ≤ ½.
                size = abs(S[i, j])
                length[j] += size
                exponent = min(size * TWO_OVER_LOG2, MAX_EXPONENT)
                m = np.int32(exponent + HALF)
                f = np.float32(m) - exponent
                # 2^(−m): the bits of a float32 whose exponent field is 127 − m. 2^f: Taylor series of order 7.
                bits[j] = (np.int32(127) - m) << 23
                power[j] = ONE + f * (A1 + f * (A2 + f * (A3 + f * (A4 + f * (A5 + f * (A6 + f * A7))))))
            for j in range(n_columns):
                # tanh |s| = (1 − e) / (1 + e); the sign is that of s.
                e = power[j] * scale[j]
                t = (ONE - e) / (ONE + e)
                squares[j] += t * t
                product[j] *= ONE + t
                S[i, j] = math.copysign(t, S[i, j])
            # Σ log(1 + tanh |s|) of 64 rows is the logarithm of one product, at most 2^64, which float32 can represent.
            if i % 64 == 63 or i == stop - 1:
                for j in range(n_columns):
                    totals[thread, 0, j] += squares[j]
                    totals[thread, 1, j] += length[j] - np.log(product[j])
                    squares[j], length[j], product[j] = 0, 0, 1


def _bell(S: torch.Tensor) -> Tensors:
    """Return s e with e = exp(−s²/2), Σ (1 − s²) e and Σ −e."""
    bell = (S * S).mul_(-0.5).exp_()
    g = S * bell
    total = bell.sum(0)
    return g, total - (S * g).sum(0), -total


NONLINEARITIES: dict[str, Callable[[torch.Tensor], Tensors]] = {"logcosh": _logcosh, "exp": _bell}
