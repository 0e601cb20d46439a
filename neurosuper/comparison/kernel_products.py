"""Products of responses that CKA needs, of items or of stimuli, from systems that may be read block by block.

A (repetition, stimulus, item) responses; K = A Aᵀ (repetition, stimulus, stimulus), centred over rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurosuper._progress import progress
from neurosuper.comparison.pair_kernels import shuffled_product
from neurosuper.comparison.shared_stimuli import load_sound

BLOCK = 2**21  # numbers in float64 of a block of stimuli: 16 MiB
READ = 2**24  # numbers that are read at once: 128 MiB in float64


class Items(NamedTuple):
    """Responses as they are stored, whose products are computed by blocks of stimuli, in float64."""

    A: np.ndarray  # (repetition, stimulus, item)
    mean: np.ndarray  # (repetition, item)

    @classmethod
    def of(cls, A: np.ndarray) -> Items:
        """Return responses with their means."""
        return cls(A, A.mean(axis=1, dtype=float))

    @classmethod
    def read(cls, system: xr.DataArray) -> Items:
        """Return responses (stimulus, item) or (stimulus, repetition, item) in memory."""
        values = load_sound(system).values
        return cls.of(values[None] if values.ndim == 2 else np.moveaxis(values, 1, 0))

    def rows(self, positions: np.ndarray) -> Items:
        """Return some of the stimuli, centred on their own means."""
        return self.of(self.A[:, positions])

    def blocks(self, r: int, step: int, order: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Return centred responses of repetition r, some stimuli at a time, in any order of the stimuli."""
        for start in range(0, self.A.shape[1], step):
            part = slice(start, start + step) if order is None else order[start : start + step]
            yield self.A[r, part] - self.mean[r]

    def step(self) -> int:
        """Return the number of stimuli of a block."""
        return max(1, BLOCK // self.A.shape[2])

    def diagonals(self) -> np.ndarray:
        """Return the diagonal of K (repetition, stimulus)."""
        return np.stack(
            [
                np.concatenate([np.einsum("si,si->s", X, X) for X in self.blocks(r, self.step())])
                for r in range(len(self.A))
            ]
        )

    def trace(self, r: int, other: Items, s: int, order: np.ndarray | None = None) -> float:
        """Return tr K L = ‖Aᵀ B‖² of repetitions of two systems, the stimuli of the second in any order."""
        step, across = min(self.step(), other.step()), np.zeros((self.A.shape[2], other.A.shape[2]))
        if other is self and r == s and order is None:
            for X in self.blocks(r, step):
                across += X.T @ X  # takes half the time if both are the same array
        else:
            for X, Y in zip(self.blocks(r, step), other.blocks(s, step, order), strict=True):
                across += X.T @ Y
        return float(np.vdot(across, across))


class Stimuli(NamedTuple):
    """Products of the responses to any two stimuli."""

    K: np.ndarray  # (repetition, stimulus, stimulus)

    @classmethod
    def of(cls, K: np.ndarray) -> Stimuli:
        """Return products that are centred, in place."""
        across = K.mean(axis=2, keepdims=True)
        K -= across
        K -= K.mean(axis=1, keepdims=True)
        return cls(K)

    @classmethod
    def read(cls, system: xr.DataArray) -> Stimuli:
        """Return products of responses (stimulus, item) or (stimulus, repetition, item), read by blocks of items."""
        n, n_items = len(system), system.shape[-1]
        step = max(1, READ // (system.size // n_items))
        K = np.zeros((system.shape[1] if system.ndim == 3 else 1, n, n))
        for start in progress(range(0, n_items, step), desc="items", unit="block", leave=False):
            block = Items.read(system[..., start : start + step])
            for r, mean in enumerate(block.mean):
                X = block.A[r] - mean
                K[r] += X @ X.T
        return cls.of(K)

    def rows(self, positions: np.ndarray) -> Stimuli:
        """Return some of the stimuli, centred on their own means."""
        return self.of(self.K.take(positions, axis=1).take(positions, axis=2))

    def mean(self) -> Stimuli:
        """Return the mean over repetitions, whose product with another is the mean of theirs."""
        return self if len(self.K) == 1 else Stimuli(self.K.mean(axis=0, keepdims=True))

    def diagonals(self) -> np.ndarray:
        """Return the diagonal of K (repetition, stimulus)."""
        return np.diagonal(self.K, axis1=1, axis2=2)

    def trace(self, r: int, other: Stimuli, s: int, order: np.ndarray | None = None) -> float:
        """Return tr K L of repetitions of two systems, the stimuli of the second in any order."""
        if order is None:
            return float(np.vdot(self.K[r], other.K[s]))
        return float(shuffled_product(self.K[r], other.K[s], order))
