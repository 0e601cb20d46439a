"""Sparse autoencoders: directions are the rows of a linear decoder, codes the output of a one-layer encoder.

X (stimulus, unit) prepared responses, D (direction, unit) atoms, Z (stimulus, direction) codes ≥ 0,
Z = activation((X − bias) encoderᵀ + encoder_bias), X ≈ Z D + bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from neurosuper._checks import check_count
from neurosuper.directions._rows.minibatches import count_minibatches, shuffled_minibatches
from neurosuper.directions._rows.rows import Rows, Tensors
from neurosuper.directions._solvers.sae_checkpoint import (
    digest_rows,
    prepare_place,
    read_checkpoint,
    write_checkpoint,
)
from neurosuper.directions._solvers.sae_codes import Activation, Kind, Weights, encode
from neurosuper.directions._solvers.sae_training import (
    COOL_DOWN,
    REVIVAL_ROWS,
    Epoch,
    Training,
    fill_reservoir,
    first_rows,
    first_weights,
)
from neurosuper.directions._solvers.steps import Step
from neurosuper.directions.hooks import Learned
from neurosuper.directions.iterative import IterativeFinder, largest_turn
from neurosuper.directions.settings import count_directions

KINDS = ("topk", "batchtopk", "relu", "jumprelu")
BATCH_ROWS = 256  # stimuli of a mini-batch by default
LEAST_BATCHES = 16  # mini-batches of an epoch at least: with few stimuli they are made smaller


@dataclass(eq=False, repr=False)
class SparseAutoencoder(IterativeFinder):
    """Atoms of a sparse autoencoder: an encoder of one layer, trained to reconstruct responses from few active codes.

    Minimises, by Adam (β₁ = 0.5, β₂ = 0.999), the mean over stimuli of ‖x − x̂‖² + l1 × penalty, where

        z = activation((x − bias) encoderᵀ + encoder_bias),  x̂ = z D + bias,  ‖D_k‖ = 1,

    and responses are scaled so that their mean squared distance from their mean is one: the objective is then the share
    of variance not explained, plus the penalty, and settings mean the same in every unit. All that is learned is scaled
    back. The four activations:

    - "topk" keeps the `n_active` largest codes of each stimulus (Makhzani and Frey 2013; Gao et al. 2024).
    - "batchtopk" keeps `n_active` codes per stimulus on average over a mini-batch (Bussmann et al. 2024); `transform`
      keeps the codes that exceed a running mean of the smallest code kept.
    - "relu" keeps all codes above zero and penalises their sum (Bricken et al. 2023).
    - "jumprelu" keeps the codes that exceed a threshold of each direction, learned by straight-through gradients, and
      penalises their number (Rajamanoharan et al. 2024).

    Atoms start at responses minus their mean, and the encoder at the atoms, scaled down to reconstruct best. The
    gradient along an atom is removed, and its length restored after each step. The learning rate rises over the first
    5 % of all steps and falls to zero over the last half. Until it has fallen by half, atoms that no stimulus of an
    epoch activated restart at residuals of badly reconstructed stimuli (after Bricken et al. 2023).

    An epoch costs 2·stimuli·units·directions multiplications for the encoder, and, on the CPU with topk or batchtopk,
    little more: compiled loops pass over active atoms only. A dask array is streamed in one pass per epoch: chunks are
    shuffled, and stimuli within each chunk, in this process even if a cluster stores them, so that the size of chunks
    changes the result as another seed would. Two passes before compute the ranges of units, collecting the stimuli at
    which atoms start, and the scale. Peak memory, streamed: about five chunks, 8,192 stimuli, a dozen matrices
    (direction, unit), and a few (stimulus of a mini-batch, direction).

    With many more directions than the stimuli support, atoms become single stimuli: compute `explained_variance` of
    held-out stimuli, and ask for fewer directions or active codes if it is far below `r2_`.

    Parameters
    ----------
    n_directions : int, str or None, optional
        Number of atoms, a multiple of the units such as "8x", or None for as many as units.
    activation : {"topk", "batchtopk", "relu", "jumprelu"}, optional
        See above.
    n_active : int, optional
        Number of non-zero codes per stimulus: the maximum for topk, the average for batchtopk; for relu and jumprelu it
        only sets the start and the default of `l1`.
    l1 : float, optional
        Weight of the penalty on the sum of codes (relu) or on their number (jumprelu), in scaled responses. None takes
        0.4 / √n_active and 0.15 / n_active, at which about `n_active` codes stay active.
    learning_rate : float, optional
        Step size of Adam, times √units: about the largest angle, in radians, by which a step turns an atom.
    batch_size : int, optional
        Stimuli per step. None takes 256, or a sixteenth of all stimuli if that is less. With more, an epoch is faster
        and learns less.
    normalize, center, whiten : bool, optional
        As in every finder. Centring only changes where `bias` starts.
    max_iter : int, optional
        Epochs.
    tol : float, optional
        As in every finder that iterates; None runs all epochs, until the learning rate has fallen to zero.
    checkpoint : str, optional
        File written after each epoch, whole or not at all. A fit with the same settings to the same responses continues
        from it and, on the CPU, gives the same bits as a fit that was not interrupted; a fit to other responses, or to
        the same ones in another order, is refused. This takes one more pass over a dask array.
    random_state : int, Generator, RandomState or None, optional
        Seed; None draws a new one at every fit.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Atoms D, the rows of the decoder; signs are never touched.
    encoder_ : DataArray (direction, unit)
    encoder_bias_ : DataArray (direction,)
        In the unit of the responses.
    bias_ : DataArray (unit,)
        Prepared response if no code is active; starts at the mean.
    mean_ : DataArray (unit,)
        Zero, unless `center` or `whiten`.
    thresholds_ : DataArray (direction,)
        Smallest codes that are kept; only of batchtopk and jumprelu.
    r2_ : float
        Share of variance explained in the last epoch, each mini-batch before its step.
    dead_fraction_ : float
        Share of atoms that no stimulus of the last epoch activated.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates: means over an epoch, each mini-batch before its step.

    Raises
    ------
    ValueError
        More active codes than directions; a checkpoint that is damaged, or of another fit or responses.
    FileNotFoundError
        The folder of the checkpoint does not exist.

    See Also
    --------
    DictionaryLearning : Sparse codes that are the exact optimum for each stimulus.

    Notes
    -----
    Atoms are recovered if they have any sign, and not if none is negative, as tuning of firing rates: such atoms are
    all similar. Share of 64 planted atoms in 32 units that a direction matches at a cosine above .9 (8,000 stimuli,
    three active atoms each, codes not negative), for atoms of any sign and for non-negative ones: this finder .94 and
    .00, `NMF` .08 and .00, but `KMeans` 1.00 and 1.00, and `DictionaryLearning` with ``positive=True`` 1.00 and 1.00.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> features = rng.exponential(size=(400, 6)) * (rng.random((400, 6)) < 0.2)
    >>> r = xr.DataArray(features @ rng.random((6, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(400).astype(str), "unit": list("abcd")})
    >>> codes = SparseAutoencoder("2x", n_active=2, max_iter=20).fit_transform(r)
    >>> codes.sizes["direction"], int((codes > 0).sum("direction").max())
    (8, 2)
    """

    n_directions: int | str | None = "8x"
    _: KW_ONLY
    activation: Kind = "topk"
    n_active: int = 32
    l1: float | None = None
    learning_rate: float = 0.07
    batch_size: int | None = None
    normalize: bool = False
    center: bool = False
    whiten: bool = False
    max_iter: int = 50
    tol: float | None = None
    checkpoint: str | None = None

    unit_powers: ClassVar = {"objective": 0, "encoder_bias": 1, "bias": 1, "thresholds": 1}

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the codes of the encoder."""
        weights = {name: self.tensor(f"{name}_") for name in ("encoder", "encoder_bias", "bias")}
        thresholds = self.tensor("thresholds_") if self.activation in ("batchtopk", "jumprelu") else None
        return self._activation()(encode(X, weights), thresholds)

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return Z D + bias."""
        return torch.addmm(self.tensor("bias_"), Z, self.tensor("directions_"))

    def _activation(self) -> Activation:
        l1 = 0.4 / self.n_active**0.5 if self.activation == "relu" else 0.15 / self.n_active
        return Activation(self.activation, self.n_active, l1 if self.l1 is None else self.l1)

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the stimuli at which atoms start."""
        return first_rows(rows.n_rows, count_directions(self.n_directions, rows.n_columns), self.generator())[0]

    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the weights after each epoch."""
        self._check(n_directions)
        generator, scale = self.generator(), _scale(rows)
        size = min(BATCH_ROWS, -(-rows.n_rows // LEAST_BATCHES)) if self.batch_size is None else self.batch_size
        weights = first_weights(rows, n_directions, scale, self._activation(), generator)
        n_steps = self.max_iter * count_minibatches(rows.n_rows, size)
        training = Training(weights, self._activation(), self.learning_rate / rows.n_columns**0.5, n_steps)
        fit = {} if self.checkpoint is None else self._fingerprint(rows, n_directions)
        progress, is_saved = self._resume(fit, training, generator), self.checkpoint is not None
        yield from _replay(progress, training, scale)
        learned = training.learned()
        aside = weights["bias"].new_empty(min(REVIVAL_ROWS, rows.n_rows), rows.n_columns)
        while not progress.rested:
            scaled = (X / scale for X in shuffled_minibatches(rows, size, generator))
            epoch = training.epoch(fill_reservoir(scaled, rows.n_rows, aside))
            rested = self.tol is not None and largest_turn(learned["directions"], weights["directions"]) <= self.tol
            progress = progress.after(epoch, rested)
            if epoch.dead.any() and training.steps_done <= (1 - COOL_DOWN / 2) * n_steps:
                training.revive(epoch.dead, aside, generator)
            is_saved = is_saved and self._save(fit, training, generator, progress)
            learned = training.learned()
            yield Step(learned["directions"], epoch.objective, _Learned(learned, scale, progress))

    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return encoder and decoder in the unit of the responses."""
        learned, scale, progress = step.state
        self.r2_, self.dead_fraction_ = 1 - progress.error, progress.dead_fraction
        found: Learned = {
            "directions": (("direction", "unit"), step.D),
            "encoder": (("direction", "unit"), learned["encoder"]),
            "encoder_bias": (("direction",), learned["encoder_bias"] * scale),
            "bias": (("unit",), learned["bias"] * scale),
        }
        if "thresholds" in learned:
            found["thresholds"] = ("direction",), learned["thresholds"] * scale
        return found

    def _check(self, n_directions: int) -> None:
        if self.activation not in KINDS:
            raise ValueError(f"activation must be {', '.join(map(repr, KINDS))}, got {self.activation!r}")
        check_count(
            "n_active",
            self.n_active,
            most=n_directions,
            why=", the number of directions (set n_active or n_directions)",
        )
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size, why=", or None")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        if self.l1 is not None and not self.l1 >= 0:
            raise ValueError(f"l1 must be a number of at least 0, or None, got {self.l1!r}")

    def _fingerprint(self, rows: Rows, n_directions: int) -> dict[str, Any]:
        """Return what identifies the fit of a checkpoint: settings, and the shape and digest of the responses."""
        settings = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
            if name not in ("checkpoint", "device")
        }
        shape = {"number of stimuli": rows.n_rows, "number of units": rows.n_columns}
        return settings | shape | {"n_directions": n_directions, "responses": digest_rows(rows)}

    def _resume(self, fit: dict[str, Any], training: Training, generator: torch.Generator) -> _Progress:
        """Return the progress stored in a checkpoint, and load its weights."""
        if self.checkpoint is None:
            return _Progress()
        prepare_place(self.checkpoint)
        saved = read_checkpoint(self.checkpoint, fit)
        if saved is None:
            return _Progress()
        training.restore(saved["tensors"], saved["steps_done"])
        generator.set_state(saved["generator"])
        return _Progress(*saved["progress"])

    def _save(self, fit: dict[str, Any], training: Training, generator: torch.Generator, progress: _Progress) -> bool:
        """Write a checkpoint, and return whether it was written: no more is tried after the first warning."""
        state = {
            "fit": fit,
            "tensors": training.tensors(),
            "steps_done": training.steps_done,
            "generator": generator.get_state(),
            "progress": list(progress),
        }
        return write_checkpoint(str(self.checkpoint), state)


class _Progress(NamedTuple):
    """Progress of a fit: the objective of each epoch, error and dead atoms of the last, whether directions rest."""

    curve: tuple[float, ...] = ()
    error: float = 1.0
    dead_fraction: float = 0.0
    rested: bool = False

    def after(self, epoch: Epoch, rested: bool) -> _Progress:
        return _Progress((*self.curve, epoch.objective), epoch.error, float(epoch.dead.float().mean()), rested)


class _Learned(NamedTuple):
    """State of a step from which the fit can be finished: copies of weights, in responses divided by `scale`."""

    weights: Weights
    scale: float
    progress: _Progress


def _replay(progress: _Progress, training: Training, scale: float) -> Iterator[Step]:
    """Yield the epochs of a checkpoint again; directions are NaN except in the last, since only those are stored."""
    learned = training.learned()
    lost = torch.full_like(learned["directions"][:1, :1], torch.nan).expand_as(learned["directions"])
    for i, objective in enumerate(progress.curve):
        D = learned["directions"] if i == len(progress.curve) - 1 else lost
        yield Step(D, objective, _Learned(learned, scale, progress))


def _scale(rows: Rows) -> float:
    """Return the root mean squared distance of rows from their mean."""
    (total,) = rows.sum(_squared_distances, rows.mean())
    return float((total / rows.n_rows).sqrt())


def _squared_distances(part: torch.Tensor, mean: torch.Tensor) -> Tensors:
    return (((part - mean) ** 2).sum(dtype=torch.float64),)
