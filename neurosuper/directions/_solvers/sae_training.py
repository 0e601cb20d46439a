"""Training of a sparse autoencoder: mini-batches, Adam, and the revival of dead atoms.

X (row, unit) responses, scaled, D (direction, unit) atoms, Z (row, direction) codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._rows.tiles import RESIDUAL_ROWS
from neurosuper.directions._solvers import sae_kernels
from neurosuper.directions._solvers.sae_codes import (
    Activation,
    BatchStatistics,
    Weights,
    encode,
    gradients,
    kth_largest,
    threshold_of,
)

BETA1, BETA2, EPSILON = 0.5, 0.999, 1e-10  # of Adam; β₁ = 0.9 and β₁ = 0 learn less in one epoch
THRESHOLD_MOMENTUM = 0.02  # weight of the latest mini-batch in the running mean of the threshold: a mean over about 50
WARM_UP, COOL_DOWN = 0.05, 0.5  # first and last share of all steps, in which the learning rate rises and falls linearly
INIT_NOISE = 0.1  # length of the noise that is added to initial atoms of unit length: atoms at one stimulus must differ
SCALE_ROWS = 1024  # rows that the length of the initial encoder is fitted to
REVIVAL_ROWS = 8192  # rows among which dead atoms look for a large residual


class Epoch(NamedTuple):
    """Means over the mini-batches of an epoch, each before its step, and the atoms that no row activated."""

    objective: float
    error: float
    dead: torch.Tensor


class Training:
    """The weights of an autoencoder and Adam's moments, updated mini-batch by mini-batch.

    Parameters
    ----------
    weights : dict of tensors
        `directions`, `encoder` (direction, unit), `encoder_bias` (direction,), `bias` (unit,), and for jumprelu
        `log_threshold` (direction,). They are updated in place.
    activation : Activation
    learning_rate : float
        Largest learning rate of Adam, after the warm-up.
    n_steps : int
        Number of steps of the whole training, which determines when the learning rate falls.
    """

    def __init__(self, weights: Weights, activation: Activation, learning_rate: float, n_steps: int) -> None:
        self.weights, self.activation = weights, activation
        self.first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.running = {"threshold": torch.zeros_like(weights["bias"][0])}
        self.learning_rate, self.n_steps, self.steps_done = learning_rate, n_steps, 0

    def tensors(self) -> dict[str, Weights]:
        """Return everything that changes except the number of steps; not copied."""
        return {"weights": self.weights, "first": self.first, "second": self.second, "running": self.running}

    def restore(self, saved: dict[str, Weights], steps_done: int) -> None:
        """Continue from saved `tensors`."""
        for group, tensors in self.tensors().items():
            for name, tensor in tensors.items():
                tensor.copy_(saved[group][name])
        self.steps_done = steps_done

    def learned(self) -> Weights:
        """Return copies of the weights, and of the `thresholds` (direction,) that codes must exceed, if any."""
        learned = {name: weight.clone() for name, weight in self.weights.items()}
        if (threshold := self.threshold) is not None:
            learned["thresholds"] = threshold.expand(len(learned["encoder_bias"])).clone()
        return learned

    @property
    def threshold(self) -> torch.Tensor | None:
        """The threshold that codes must exceed outside training, or None."""
        return self.running["threshold"] if self.activation.kind == "batchtopk" else threshold_of(self.weights)

    def epoch(self, minibatches: Iterator[torch.Tensor]) -> Epoch:
        """Take a step on each mini-batch, and return means over them."""
        bias = self.weights["encoder_bias"]
        total, active = bias.new_zeros(2, dtype=torch.float64), torch.zeros_like(bias, dtype=torch.long)
        n = 0
        # Added up at once: small results between large temporary arrays would keep memory from being reused.
        for X in minibatches:
            statistics = self.step(X)
            total += torch.stack([statistics.objective, statistics.error])
            active += statistics.n_active
            n += 1
        objective, error = (total / n).tolist()
        return Epoch(objective, error, active == 0)

    def step(self, X: torch.Tensor) -> BatchStatistics:
        """Take one step, and return statistics of the mini-batch before it."""
        self.steps_done += 1
        if self.activation.is_sparse and X.device.type == "cpu":
            found, statistics = self._move_compiled(X)
        else:
            found, statistics = gradients(X, self.weights, self.activation)
            # Atoms stay on the unit sphere: remove the component of the gradient along each atom.
            D = self.weights["directions"]
            found["directions"] -= (found["directions"] * D).sum(1, keepdim=True) * D
        for name, gradient in found.items():
            self._adam(name, gradient)
        if "directions" in found:
            D /= D.norm(dim=1, keepdim=True)
        # Running mean of the smallest active code; an ordinary mean over the first 50 steps.
        self.running["threshold"].lerp_(statistics.least, max(THRESHOLD_MOMENTUM, 1 / self.steps_done))
        return statistics

    def _move_compiled(self, X: torch.Tensor) -> tuple[Weights, BatchStatistics]:
        """Update directions and encoder; return the gradients of the biases, and statistics of the mini-batch.

        Without torch, whose threads would keep the cores busy, waiting, that compiled loops need.
        """
        names = ("directions", "encoder", "encoder_bias", "bias")
        D, encoder, encoder_bias, bias = _arrays(*(self.weights[name] for name in names))
        moments, encoder_moments = (_arrays(self.first[name], self.second[name]) for name in names[:2])
        with sae_kernels.threads():
            centred = X.numpy() - bias
            P = sae_kernels.encode(centred, encoder, encoder_bias)
            starts, atoms, codes = _arrays(*self.activation.select(torch.from_numpy(P)))
            E, slopes = sae_kernels.decode(starts, atoms, codes, D, centred)
            # The objective is (1/n) Σ ‖e‖², so that gradients have the factor 2/n.
            error = np.vdot(E, E) / len(X)
            E *= 2 / len(X)
            slopes *= 2 / len(X)
            # ∂L/∂encoder_bias = Σ slopes per atom; ∂L/∂bias = Σ e − encoderᵀ (∂L/∂encoder_bias).
            bias_gradient = np.bincount(atoms, slopes, len(D)).astype(E.dtype)
            decoder_bias_gradient = E.sum(0) - bias_gradient @ encoder
            groups = sae_kernels.by_atom(starts, atoms, len(D))
            rates = np.array(self._rates(), E.dtype)
            sae_kernels.update(groups, codes, slopes, E, centred, D, encoder, moments, encoder_moments, rates)
        found = {"encoder_bias": torch.from_numpy(bias_gradient), "bias": torch.from_numpy(decoder_bias_gradient)}
        least = codes.min() if len(codes) else 0
        error, least = (torch.as_tensor(value, dtype=X.dtype) for value in (error, least))
        return found, BatchStatistics(error, error, torch.from_numpy(np.diff(groups[0])), least)

    def _adam(self, name: str, gradient: torch.Tensor) -> None:
        # m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  w ← w − step · m / (√v + ε)  (Kingma and Ba 2015).
        beta1, beta2, step, epsilon = self._rates()
        first, second = self.first[name], self.second[name]
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        self.weights[name].addcdiv_(first, second.sqrt().add_(epsilon), value=-step)

    def _rates(self) -> tuple[float, float, float, float]:
        """Return β₁, β₂, the step and ε of Adam, the last two with the bias correction."""
        # m / (1 − β₁ᵗ) over √(v / (1 − β₂ᵗ)) + ε equals step · m / (√v + ε √(1 − β₂ᵗ)), step = √(1 − β₂ᵗ) / (1 − β₁ᵗ).
        done, remaining = self.steps_done / self.n_steps, (self.n_steps + 1 - self.steps_done) / self.n_steps
        rate = self.learning_rate * min(1, done / WARM_UP, remaining / COOL_DOWN)
        correction = (1 - BETA2**self.steps_done) ** 0.5
        return BETA1, BETA2, rate * correction / (1 - BETA1**self.steps_done), EPSILON * correction

    def revive(self, dead: torch.Tensor, X: torch.Tensor, generator: torch.Generator) -> None:
        """Restart dead atoms at residuals of rows, drawn with probability proportional to the squared residual.

        Their encoder rows point the same way; norm and bias are the average of the live atoms.
        """
        chances = torch.cat([(E**2).sum(1) for E in self._residuals(X)]).double().cpu()
        at = dead.nonzero().flatten()[: int((chances > 0).sum())]
        if len(at) == 0 or bool(dead.all()):
            return
        rows = torch.multinomial(chances, len(at), generator=generator).to(X.device)
        D = torch.nn.functional.normalize(torch.cat([*self._residuals(X[rows])]), dim=1)
        length = self.weights["encoder"][~dead].norm(dim=1).mean()
        for name in self.weights.keys() - {"bias"}:
            restart = {"directions": D, "encoder": length * D}.get(name, self.weights[name][~dead].mean())
            self.weights[name][at] = restart
            self.first[name][at], self.second[name][at] = 0, 0

    def _residuals(self, X: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the residuals X − X̂ of rows, tile by tile."""
        for tile in X.split(RESIDUAL_ROWS):
            Z = self.activation(encode(tile, self.weights), self.threshold)
            yield tile - torch.addmm(self.weights["bias"], Z, self.weights["directions"])


def _arrays(*tensors: torch.Tensor) -> Any:
    return tuple(tensor.numpy() for tensor in tensors)


def first_weights(
    rows: Rows, n_directions: int, scale: float, activation: Activation, generator: torch.Generator
) -> Weights:
    """Return initial weights: atoms at responses minus their mean, and an encoder parallel to them.

    The encoder is scaled to reconstruct a sample of rows best. For activations that do not fix the number of active
    atoms, biases or thresholds are chosen so that `n_active` atoms are active on average.
    """
    bias = rows.mean() / scale
    positions, at_atoms, at_sample = first_rows(rows.n_rows, n_directions, generator)
    taken = rows.take(positions) / scale
    D = torch.nn.functional.normalize(taken[at_atoms] - bias, dim=1)
    noise = torch.randn(D.shape, generator=generator, dtype=D.dtype).to(D.device)
    D = torch.nn.functional.normalize(D + INIT_NOISE * torch.nn.functional.normalize(noise, dim=1), dim=1)
    weights = {"directions": D, "encoder": D.clone(), "encoder_bias": torch.zeros_like(D[:, 0]), "bias": bias}
    X = taken[at_sample]
    P = encode(X, weights)
    if not activation.is_sparse:
        # The threshold that n_active codes per row exceed on average; as a bias for relu.
        threshold = kth_largest(P.flatten(), min(activation.n_active, n_directions) * len(P)).clamp(min=1e-3)
        if activation.kind == "jumprelu":
            weights["log_threshold"] = threshold.log().expand(n_directions).clone()
        else:
            weights["encoder_bias"] -= threshold
    # Least squares for the scale s of codes: s = ⟨Z D, X − bias⟩ / ‖Z D‖².
    guess = activation(encode(X, weights), threshold_of(weights)) @ D
    shrink = ((guess * (X - bias)).sum() / (guess**2).sum().clamp(min=1e-12)).clamp(min=1e-3)
    weights["encoder"] *= shrink
    weights["encoder_bias"] *= shrink
    if "log_threshold" in weights:
        weights["log_threshold"] += shrink.log()
    return weights


def first_rows(
    n_rows: int, n_directions: int, generator: torch.Generator
) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """Return positions of rows drawn at random, and which of these are for initial atoms and for the encoder."""
    repeats = -(-n_directions // n_rows)
    atoms = torch.cat([torch.randperm(n_rows, generator=generator) for _ in range(repeats)])[:n_directions]
    fitted = torch.randperm(n_rows, generator=generator)[:SCALE_ROWS]
    positions, at = torch.cat([atoms.sort().values, fitted]).unique(return_inverse=True)
    return positions.numpy(), at[:n_directions], at[n_directions:]


def fill_reservoir(batches: Iterator[torch.Tensor], n_rows: int, reservoir: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield mini-batches, `n_rows` rows in total, and fill `reservoir` with an equal share of each."""
    seen = 0
    for X in batches:
        start, seen = seen * len(reservoir) // n_rows, seen + len(X)
        stop = seen * len(reservoir) // n_rows
        reservoir[start:stop] = X[: stop - start]
        yield X
