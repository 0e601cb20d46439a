"""Training of a sparse autoencoder: batches, Adam, and the revival of dead atoms.

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

BETA1, BETA2, EPSILON = 0.5, 0.999, 1e-10  # Adam's β₁, β₂ and ε; 0.9 and 0 learn less in one epoch
THRESHOLD_MOMENTUM = 0.02  # weight of the latest batch in the running threshold
WARM_UP, COOL_DOWN = 0.05, 0.5  # shares of the training in which the learning rate rises, and falls to zero
INIT_NOISE = 0.1  # length of the noise on first atoms, which are of length one
SCALE_ROWS, REVIVAL_ROWS = 1024, 8192  # that the first encoder is fitted to; among which bad ones are sought


class Epoch(NamedTuple):
    """Means over the batches of an epoch, each before its step, and the atoms that no row activated."""

    objective: float
    error: float
    dead: torch.Tensor


class Training:
    """The weights, Adam's moments of them, and one step after another.

    Parameters
    ----------
    weights : dict of tensors
        `directions`, `encoder` (direction, unit), `encoder_bias` (direction,), `bias` (unit,), and for jumprelu
        `log_threshold` (direction,). They are changed in place.
    activation : Activation
    learning_rate : float
        Adam's, at its highest.
    n_steps : int
        Steps in all, which fixes when the learning rate falls.
    """

    def __init__(self, weights: Weights, activation: Activation, learning_rate: float, n_steps: int) -> None:
        self.weights, self.activation = weights, activation
        self.first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.running = {"threshold": torch.zeros_like(weights["bias"][0])}
        self.learning_rate, self.n_steps, self.steps_done = learning_rate, n_steps, 0

    def tensors(self) -> dict[str, Weights]:
        """Return all that changes, but the number of steps; not copied."""
        return {"weights": self.weights, "first": self.first, "second": self.second, "running": self.running}

    def restore(self, saved: dict[str, Weights], steps_done: int) -> None:
        """Go on from saved `tensors`."""
        for group, tensors in self.tensors().items():
            for name, tensor in tensors.items():
                tensor.copy_(saved[group][name])
        self.steps_done = steps_done

    def learned(self) -> Weights:
        """Return copies of the weights, and of `thresholds` (direction,), what codes must exceed, where learned."""
        learned = {name: weight.clone() for name, weight in self.weights.items()}
        if (threshold := self.threshold) is not None:
            learned["thresholds"] = threshold.expand(len(learned["encoder_bias"])).clone()
        return learned

    @property
    def threshold(self) -> torch.Tensor | None:
        """What codes must exceed, outside training."""
        return self.running["threshold"] if self.activation.kind == "batchtopk" else threshold_of(self.weights)

    def epoch(self, minibatches: Iterator[torch.Tensor]) -> Epoch:
        """Take a step on each batch; what each gives is added up at once: small results would beta1 memory in use."""
        bias = self.weights["encoder_bias"]
        total, active = bias.new_zeros(2, dtype=torch.float64), torch.zeros_like(bias, dtype=torch.long)
        n = 0
        for X in minibatches:
            statistics = self.step(X)
            total += torch.stack([statistics.objective, statistics.error])
            active += statistics.n_active
            n += 1
        objective, error = (total / n).tolist()
        return Epoch(objective, error, active == 0)

    def step(self, X: torch.Tensor) -> BatchStatistics:
        """Take one step; what is returned was so before it."""
        self.steps_done += 1
        if self.activation.is_sparse and X.device.type == "cpu":
            found, statistics = self._move_compiled(X)
        else:
            found, statistics = gradients(X, self.weights, self.activation)
            D = self.weights["directions"]
            found["directions"] -= (found["directions"] * D).sum(1, keepdim=True) * D
        for name, gradient in found.items():
            self._adam(name, gradient)
        if "directions" in found:
            D /= D.norm(dim=1, keepdim=True)
        self.running["threshold"].lerp_(statistics.least, max(THRESHOLD_MOMENTUM, 1 / self.steps_done))
        return statistics

    def _move_compiled(self, X: torch.Tensor) -> tuple[Weights, BatchStatistics]:
        """Move directions and encoder, and return the gradients of the rest, and what the batch gave.

        Without torch, whose threads would wait busily on the cores that compiled loops need.
        """
        names = ("directions", "encoder", "encoder_bias", "bias")
        D, encoder, encoder_bias, bias = _arrays(*(self.weights[name] for name in names))
        moments, encoder_moments = (_arrays(self.first[name], self.second[name]) for name in names[:2])
        with sae_kernels.threads():
            centred = X.numpy() - bias
            P = sae_kernels.encode(centred, encoder, encoder_bias)
            starts, atoms, codes = _arrays(*self.activation.select(torch.from_numpy(P)))
            E, slopes = sae_kernels.decode(starts, atoms, codes, D, centred)
            error = np.vdot(E, E) / len(X)
            E *= 2 / len(X)
            slopes *= 2 / len(X)
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
        beta1, beta2, step, epsilon = self._rates()
        first, second = self.first[name], self.second[name]
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        self.weights[name].addcdiv_(first, second.sqrt().add_(epsilon), value=-step)

    def _rates(self) -> tuple[float, float, float, float]:
        """Return β₁, β₂, the step and ε of Adam, the last two corrected for moments that started at zero."""
        done, remaining = self.steps_done / self.n_steps, (self.n_steps + 1 - self.steps_done) / self.n_steps
        rate = self.learning_rate * min(1, done / WARM_UP, remaining / COOL_DOWN)
        correction = (1 - BETA2**self.steps_done) ** 0.5
        return BETA1, BETA2, rate * correction / (1 - BETA1**self.steps_done), EPSILON * correction

    def revive(self, dead: torch.Tensor, X: torch.Tensor, generator: torch.Generator) -> None:
        """Restart dead atoms at what is left of rows, drawn as often as their squared errors are large.

        Their encoders look the same way, and are as long and as ready as the average of those alive.
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
        """Yield what is not reconstructed of rows, tile by tile."""
        for tile in X.split(RESIDUAL_ROWS):
            Z = self.activation(encode(tile, self.weights), self.threshold)
            yield tile - torch.addmm(self.weights["bias"], Z, self.weights["directions"])


def _arrays(*tensors: torch.Tensor) -> Any:
    return tuple(tensor.numpy() for tensor in tensors)


def first_weights(
    rows: Rows, n_directions: int, scale: float, activation: Activation, generator: torch.Generator
) -> Weights:
    """Return weights to start from: atoms at responses less their mean, the encoder tied to them.

    The encoder is shorter than the atoms by the factor that reconstructs a sample of rows best. Of kinds that do not
    count their active atoms, biases or thresholds are such that `n_active` of them are active on average.
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
        threshold = kth_largest(P.flatten(), min(activation.n_active, n_directions) * len(P)).clamp(min=1e-3)
        if activation.kind == "jumprelu":
            weights["log_threshold"] = threshold.log().expand(n_directions).clone()
        else:
            weights["encoder_bias"] -= threshold
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
    """Return positions of rows, drawn at random, and which of them atoms start at, and the encoder is fitted to."""
    repeats = -(-n_directions // n_rows)
    atoms = torch.cat([torch.randperm(n_rows, generator=generator) for _ in range(repeats)])[:n_directions]
    fitted = torch.randperm(n_rows, generator=generator)[:SCALE_ROWS]
    positions, at = torch.cat([atoms.sort().values, fitted]).unique(return_inverse=True)
    return positions.numpy(), at[:n_directions], at[n_directions:]


def fill_reservoir(batches: Iterator[torch.Tensor], n_rows: int, reservoir: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield batches, of so many rows in all, and fill `reservoir` with the first rows of each, in equal shares."""
    seen = 0
    for X in batches:
        start, seen = seen * len(reservoir) // n_rows, seen + len(X)
        stop = seen * len(reservoir) // n_rows
        reservoir[start:stop] = X[: stop - start]
        yield X
