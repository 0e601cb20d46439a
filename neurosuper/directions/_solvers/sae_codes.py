"""Codes of a sparse autoencoder, its objective, and the gradients, derived by hand.

X (row, unit) responses, scaled, D (direction, unit) atoms, Z (row, direction) codes ≥ 0,
Z = activation((X − bias) encoderᵀ + encoder_bias), X ≈ Z D + bias.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch

from neurosuper.directions._solvers import sae_kernels

Kind = Literal["topk", "batchtopk", "relu", "jumprelu"]
Weights = dict[str, torch.Tensor]

BANDWIDTH = 0.15  # width of the kernel around a threshold, in units of a typical code, 1/√n_active if E‖x − mean‖² = 1


class BatchStatistics(NamedTuple):
    """Of a mini-batch: objective, squared error, number of rows that use each atom, smallest non-zero code."""

    objective: torch.Tensor
    error: torch.Tensor
    n_active: torch.Tensor
    least: torch.Tensor


class Activation(NamedTuple):
    """The function from the encoder's output P `(row, direction)` to codes, and the penalty on codes."""

    kind: Kind
    n_active: int
    alpha: float

    def __call__(self, P: torch.Tensor, threshold: torch.Tensor | None = None) -> torch.Tensor:
        """Return codes; if a `threshold` is given, all entries that exceed it."""
        if threshold is not None:
            return torch.where(threshold < P, P, 0)
        return scatter(*self.select(P), P.shape[1]) if self.is_sparse else P.clamp(min=0)

    @property
    def is_sparse(self) -> bool:
        """Whether codes are stored as lists of the few active atoms."""
        return self.kind in ("topk", "batchtopk")

    def select(self, P: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the active atoms, row by row: the start of each row, the atoms, and their codes, all above zero."""
        if self.kind == "topk":
            atoms, codes = largest(P, self.n_active)
            active = codes > 0
            return _starts(active.sum(1)), atoms[active], codes[active]
        # Batch top-k (Bussmann, Leask and Nanda 2024): n_active per row on average, the largest of the whole
        # mini-batch.
        n_active = min(self.n_active, P.shape[1]) * len(P)
        least = kth_largest(P.flatten(), n_active)
        active = (least <= P) & (P > 0)
        return _starts(active.sum(1)), active.nonzero()[:, 1], P[active]


def _starts(counts: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0))


def largest(P: torch.Tensor, n_active: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return atoms and values `(row, n_active)` of the largest entries in each row; negative values become zero."""
    if P.device.type == "cpu":
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
    """Return the learned thresholds that codes must exceed, or None if the activation has none."""
    return weights["log_threshold"].exp() if "log_threshold" in weights else None


def gradients(X: torch.Tensor, weights: Weights, activation: Activation) -> tuple[Weights, BatchStatistics]:
    """Return the gradients of the objective, and statistics of the mini-batch.

    The objective is the mean over rows of ‖x − x̂‖² + alpha × (Σ z for relu, the number of z > 0 for jumprelu). The
    gradient of a threshold is the straight-through one of Rajamanoharan et al. (2024), with a rectangular kernel.
    """
    n, D = len(X), weights["directions"]
    P = encode(X, weights)
    threshold = threshold_of(weights)
    Z = activation(P, threshold)
    active, E = Z > 0, torch.addmm(weights["bias"], Z, D) - X
    # ∂/∂Z of the mean squared error, with E = Z D + bias − X: (2/n) E Dᵀ.
    slopes, charge = (2 / n) * (E @ D.T), activation.alpha / n
    error, found = (E**2).sum() / n, Weights()
    objective = error
    if threshold is not None:
        bandwidth = BANDWIDTH / activation.n_active**0.5
        # Straight-through gradient of a threshold θ: −(θ · ∂L/∂z + penalty) / bandwidth for P within half a bandwidth
        # of θ; times θ, because log θ is learned.
        near = ((P - threshold).abs() < bandwidth / 2) / bandwidth
        found["log_threshold"] = -threshold * (near * (slopes * threshold + charge)).sum(0)
        objective = error + charge * active.sum()
    elif activation.kind == "relu":
        slopes += charge
        objective = error + charge * Z.sum()
    # Only active codes pass gradients on, to the encoder: P = (X − bias) encoderᵀ + encoder_bias.
    slopes *= active
    found["directions"] = (2 / n) * (Z.T @ E)
    found["encoder"] = slopes.T @ (X - weights["bias"])
    found["encoder_bias"] = slopes.sum(0)
    # The bias is added to the reconstruction and subtracted from the input.
    found["bias"] = (2 / n) * E.sum(0) - found["encoder_bias"] @ weights["encoder"]
    least = torch.where(active, Z, torch.inf).min()
    return found, BatchStatistics(objective, error, active.sum(0), torch.where(least.isfinite(), least, 0))
