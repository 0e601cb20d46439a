"""Codes of a sparse autoencoder, what they cost, and the gradients, written by hand.

X (row, unit) responses, scaled, D (direction, unit) atoms, Z (row, direction) codes ≥ 0,
Z = activation((X − bias) encoderᵀ + encoder_bias), X ≈ Z D + bias.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from neurosuper._threads import torch_threads
from neurosuper.directions._solvers import sae_kernels

Kind = Literal["topk", "batchtopk", "relu", "jumprelu"]
Weights = dict[str, torch.Tensor]

BANDWIDTH = 0.15  # in which codes move a threshold; of the typical code, 1/√n_active where the mean ‖x − mean‖² is 1


class BatchStatistics(NamedTuple):
    """What a batch gave: objective, its tile that is the error, how many rows each atom is active in, least code."""

    objective: torch.Tensor
    error: torch.Tensor
    n_active: torch.Tensor
    least: torch.Tensor


class Activation(NamedTuple):
    """What makes codes of the encoder's output P `(row, direction)`, and what the objective charges for them."""

    kind: Kind
    n_active: int
    alpha: float

    def __call__(self, P: torch.Tensor, threshold: torch.Tensor | None = None) -> torch.Tensor:
        """Return codes; where a `threshold` is given, all that exceeds it."""
        if threshold is not None:
            return torch.where(threshold < P, P, 0)
        return scatter(*self.select(P), P.shape[1]) if self.is_sparse else P.clamp(min=0)

    @property
    def is_sparse(self) -> bool:
        """Whether codes come as lists of few active atoms."""
        return self.kind in ("topk", "batchtopk")

    def select(self, P: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the active atoms, row by row: where each row starts, the atoms, and their codes, all above zero."""
        if self.kind == "topk":
            atoms, codes = largest(P, self.n_active)
            active = codes > 0
            return _starts(active.sum(1)), atoms[active], codes[active]
        n_active = min(self.n_active, P.shape[1]) * len(P)
        least = kth_largest(P.flatten(), n_active)
        active = (least <= P) & (P > 0)
        return _starts(active.sum(1)), active.nonzero()[:, 1], P[active]


def _starts(counts: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def largest(P: torch.Tensor, n_active: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return atoms and values `(row, n_active)` of the largest entries of each row; those below zero as zero."""
    if P.device.type == "cpu":
        with torch_threads():
            found = sae_kernels.largest(P.numpy(), n_active)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])
    values, atoms = P.topk(n_active, dim=1, sorted=False)
    return atoms, values.clamp(min=0)


def kth_largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the kth largest of values `(entry,)`."""
    if values.device.type == "cpu":  # several times faster than torch's
        return torch.as_tensor(np.partition(values.numpy(), len(values) - k)[len(values) - k])
    return values.topk(k, sorted=False).values.min()


def scatter(starts: torch.Tensor, atoms: torch.Tensor, codes: torch.Tensor, n_atoms: int) -> torch.Tensor:
    """Return codes `(row, direction)` from lists of active atoms."""
    Z = codes.new_zeros(len(starts) - 1, n_atoms)
    rows = torch.repeat_interleave(torch.arange(len(Z), device=codes.device), starts.diff())
    Z[rows, atoms] = codes
    return Z


def encode(X: torch.Tensor, weights: Weights) -> torch.Tensor:
    """Return the encoder's output `(row, direction)`, before its activation."""
    return torch.addmm(weights["encoder_bias"], X - weights["bias"], weights["encoder"].T)


def threshold_of(weights: Weights) -> torch.Tensor | None:
    """Return what codes must exceed in training, where that is learned."""
    return weights["log_threshold"].exp() if "log_threshold" in weights else None


def gradients(X: torch.Tensor, weights: Weights, activation: Activation) -> tuple[Weights, BatchStatistics]:
    """Return the objective's gradients, and what the batch gave.

    The objective is the mean over rows of ‖x − x̂‖² + alpha × (Σ z for relu, the number of z > 0 for jumprelu). The
    gradient of a threshold is the straight-through one of Rajamanoharan et al. (2024), with a rectangular kernel.
    """
    n, D = len(X), weights["directions"]
    P = encode(X, weights)
    threshold = threshold_of(weights)
    Z = activation(P, threshold)
    active, E = Z > 0, torch.addmm(weights["bias"], Z, D) - X
    slopes, charge = (2 / n) * (E @ D.T), activation.alpha / n
    error, found = (E**2).sum() / n, Weights()
    objective = error
    if threshold is not None:
        bandwidth = BANDWIDTH / activation.n_active**0.5
        near = ((P - threshold).abs() < bandwidth / 2) / bandwidth
        found["log_threshold"] = -threshold * (near * (slopes * threshold + charge)).sum(0)
        objective = error + charge * active.sum()
    elif activation.kind == "relu":
        slopes += charge
        objective = error + charge * Z.sum()
    slopes *= active
    found["directions"] = (2 / n) * (Z.T @ E)
    found["encoder"] = slopes.T @ (X - weights["bias"])
    found["encoder_bias"] = slopes.sum(0)
    found["bias"] = (2 / n) * E.sum(0) - found["encoder_bias"] @ weights["encoder"]
    least = torch.where(active, Z, torch.inf).min()
    return found, BatchStatistics(objective, error, active.sum(0), torch.where(least.isfinite(), least, 0))
