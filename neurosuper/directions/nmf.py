"""Non-negative matrix factorisation: directions as parts, of which responses are sums without cancelling.

X (stimulus, unit) prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes ≥ 0, X ≈ Z D.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
import xarray as xr

from neurosuper.directions._rows.rows import Blocks, Tensors
from neurosuper.directions._solvers.hals import nonnegative_codes
from neurosuper.directions._solvers.nmf_starts import draw_directions, draw_positions, singular_parts
from neurosuper.directions._solvers.sparse_coding import correlate
from neurosuper.directions.base import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder, Step, largest_turn
from neurosuper.directions.settings import count_directions
from neurosuper.responses import name_some

SETTLED = 1e-4  # relative fall of the objective in an iteration on the sample: less, and all stimuli take over
ROUNDS = 100  # of iterations on the sample, at most
TILE = 4096  # rows whose codes are found at once on the CPU, while they lie in its cache
FIRST_REST = 0.05  # how exactly codes are found while directions still turn; see `nonnegative_codes`
REST = {torch.float32: 1e-5, torch.float64: 1e-12}  # how exactly codes are found in the end
MOMENTUM = 0.9  # share of the last step that is taken once more, at first
RESEEDINGS = 10  # iterations in which dead directions start anew, at most
TINY = {torch.float32: 1e-6, torch.float64: 1e-12}  # share of a response that is not worth a direction


class Penalties(NamedTuple):
    """Weights of Σ|Z|, ½‖Z‖², Σ|D| and ½‖D‖²."""

    l1_codes: float = 0.0
    l2_codes: float = 0.0
    l1_directions: float = 0.0
    l2_directions: float = 0.0


Sums = Tensors  # Zᵀ X, Zᵀ Z, Σ Z, ‖X‖²


class NMF(IterativeFinder):
    """Directions as parts: responses are sums of non-negative directions with non-negative codes (Lee and Seung 1999).

    Minimises, over Z ≥ 0 and D ≥ 0 (with `signed`, D of any sign: semi-NMF, Ding, Li and Jordan 2010),

    ½‖X − Z D‖² + units · (l1_codes Σ Z + ½ l2_codes ‖Z‖²) + stimuli · (l1_directions Σ D + ½ l2_directions ‖D‖²),

    which is scikit-learn's objective with alpha_W = l1_codes + l2_codes, alpha_H = l1_directions + l2_directions and
    l1_ratio = l1 / (l1 + l2) of each. Each iteration finds the best codes of every stimulus from D alone (hierarchical
    alternating least squares on Gram matrices; Cichocki and Phan 2009, Gillis and Glineur 2012), then the best D from
    Zᵀ X and Zᵀ Z, then goes on a little in the direction in which D moved, less after a rise (Ang and Gillis 2019). Of
    over 24,000 stimuli (or 200 times the directions), half that many are drawn for the fit to start on.

    Each iteration is one pass over the responses, so that a dask array is streamed, or reduced on the workers of a
    cluster; one pass before puts the drawn ones aside. Cost of an iteration: stimuli × units × directions, and some
    times stimuli × directions². Peak memory, streamed: the drawn stimuli, or all of at most twice as many, and a few
    chunks. `solver="mu"` keeps all codes too, and a cluster's blocks come to this machine.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units.
    signed : bool, optional
        Let directions, and so responses, have any sign. Without penalties many such directions explain responses alike:
        all whose cone holds them; penalties choose the narrowest.
    solver : {"hals", "mu"}, optional
        As above, or multiplicative updates of Lee and Seung (2001), which are slow, of codes that start all alike.
    init : {"nndsvd", "random"} or array (direction, unit), optional
        Non-negative parts of singular vectors (Boutsidis and Gallopoulos 2008; with `signed`, the vectors themselves),
        then, beyond the rank, drawn response vectors; drawn ones only; or given directions.
    l1_codes, l2_codes, l1_directions, l2_directions : float, optional
        Weights of the penalties. Codes and directions are penalised together or not at all: else, one grows without
        bound as the other shrinks.
    normalize, center, whiten : bool, optional
        As in every finder; the latter two only with `signed`.
    max_iter : int, optional
    tol : float or None, optional
        As in every finder that iterates.
    random_state : int, optional
        Draws stimuli.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Scaled to unit length; codes are those that go with it.
    mean_ : DataArray (unit,)
        Zero.
    lengths_ : DataArray (direction,)
        Of the directions before they were scaled: what penalties apply to is `directions_ · lengths_`, and codes /
        `lengths_`.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates.

    Raises
    ------
    ValueError
        Negative responses without `signed`; only codes or only directions penalised.

    Examples
    --------
    >>> import numpy as np
    >>> parts = np.array([[4.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    >>> responses = np.random.default_rng(0).exponential(size=(50, 2)) @ parts
    >>> np.sort(NMF(2, dtype="float64").fit(responses).directions_.values, axis=0).round(3).tolist()
    [[0.0, 0.0, 0.0], [0.8, 0.6, 1.0]]
    """

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        signed: bool = False,
        solver: Literal["hals", "mu"] = "hals",
        init: str | np.ndarray = "nndsvd",
        l1_codes: float = 0.0,
        l2_codes: float = 0.0,
        l1_directions: float = 0.0,
        l2_directions: float = 0.0,
        normalize: bool = False,
        center: bool = False,
        whiten: bool = False,
        max_iter: int = 200,
        tol: float | None = 1e-5,
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            n_directions,
            normalize=normalize,
            center=center,
            whiten=whiten,
            random_state=random_state,
            device=device,
            dtype=dtype,
        )
        self.signed = signed
        self.solver = solver
        self.init = init
        self.l1_codes = l1_codes
        self.l2_codes = l2_codes
        self.l1_directions = l1_directions
        self.l2_directions = l2_directions
        self.max_iter = max_iter
        self.tol = tol

    def _rows_to_keep(self, rows: Blocks) -> np.ndarray:
        return draw_positions(rows.n_rows, count_directions(self.n_directions, rows.n_columns), self._generator())

    def _check_units(self, responses: xr.DataArray, rows: Blocks) -> torch.Tensor:
        sizes = super()._check_units(responses, rows)
        if not self.signed and (self.center or self.whiten):
            raise ValueError("centred or whitened responses have negative values; NMF takes them with signed=True")
        negative = (rows.survey.least < 0).cpu().numpy()
        if not self.signed and negative.any():
            raise ValueError(
                f"negative responses in unit {name_some(responses.unit.values[negative])}; NMF takes them with "
                "signed=True, or clip them at zero"
            )
        return sizes

    def _check_settings(self) -> None:
        if self.solver not in ("hals", "mu") or (self.solver == "mu" and self.signed):
            raise ValueError(
                f"solver must be 'hals', or 'mu' without signed, got {self.solver!r}, signed={self.signed}"
            )
        weights = {name: getattr(self, name) for name in Penalties._fields}
        if any(not 0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"weights of penalties must be finite and not negative, got {weights}")
        if self.signed and self.l1_directions:
            raise ValueError("l1_directions is for directions that are not negative; use l2_directions with signed")
        if (self.l1_codes + self.l2_codes > 0) != (self.l1_directions + self.l2_directions > 0):
            raise ValueError(f"codes and directions are penalised together or not at all, got {weights}")

    def _penalties(self, n_stimuli: int, n_units: int) -> Penalties:
        """Return the weights, times the units or stimuli, for responses times `_unit`: codes grow with them, D not."""
        unit = self._unit
        codes, directions = (unit * self.l1_codes, self.l2_codes), (self.l1_directions, self.l2_directions)
        return Penalties(*(n_units * w for w in codes), *(unit**2 * n_stimuli * w for w in directions))

    def _encode(self, X: torch.Tensor) -> torch.Tensor:
        D, lengths = self._tensor("directions_"), self._tensor("lengths_")
        penalties = self._penalties(1, D.shape[1])
        return _codes(X, D * lengths[:, None], penalties, REST[X.dtype]) * lengths

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        return Z @ self._tensor("directions_")

    def _steps(self, rows: Blocks, n_directions: int) -> Iterator[Step]:
        self._check_settings()
        generator = self._generator()
        drawn = draw_positions(rows.n_rows, n_directions, generator)
        sample = rows.whole if rows.in_memory and len(drawn) == rows.n_rows else rows.take(drawn)
        D = self._first_directions(sample, n_directions, generator)
        penalties = self._penalties(rows.n_rows, rows.n_columns)
        if self.solver == "mu":
            yield from _multiply(rows, D, penalties)
            return
        if len(sample) < rows.n_rows:
            on_sample = self._penalties(len(sample), rows.n_columns)
            D = _settle(_alternate(partial(_statistics, sample), D, on_sample, self.signed, sample))
        yield from _alternate(partial(rows.sum, _statistics, width=None), D, penalties, self.signed, sample)

    def _first_directions(self, sample: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
        if not isinstance(self.init, str):
            return self._given_directions(sample, n)
        if self.init not in ("nndsvd", "random"):
            raise ValueError(f"init must be 'nndsvd', 'random' or an array of directions, got {self.init!r}")
        parts = singular_parts(sample, n, self.signed) if self.init == "nndsvd" else sample[:0]
        D = torch.cat([parts, draw_directions(sample, n - len(parts), generator)])
        return D + D.mean() if self.solver == "mu" else D

    def _given_directions(self, sample: torch.Tensor, n: int) -> torch.Tensor:
        D = torch.as_tensor(np.array(self.init), dtype=sample.dtype, device=sample.device)
        if D.shape != (n, sample.shape[1]):
            raise ValueError(
                f"init gives directions of shape {tuple(D.shape)}, but {n} directions of {sample.shape[1]} units are "
                f"asked for; set n_directions={len(D)}"
            )
        if not D.isfinite().all() or not D.any(1).all() or (not self.signed and (D < 0).any()):
            raise ValueError("init must hold finite directions, none of them all zero or, without signed, negative")
        return D

    def _finish(self, rows: Blocks, step: Step) -> Learned:
        lengths = step.D.norm(dim=1)
        D = torch.nn.functional.normalize(torch.where(lengths[:, None] > 0, step.D, 1), dim=1)
        penalised = any(self._penalties(1, 1))
        return as_learned(D) | {"lengths": (("direction",), lengths if penalised else torch.ones_like(lengths))}


def _codes(X: torch.Tensor, D: torch.Tensor, penalties: Penalties, rest: float) -> torch.Tensor:
    """Return the best codes of rows."""
    gram = D @ D.T + penalties.l2_codes * torch.eye(len(D), dtype=D.dtype, device=D.device)
    return nonnegative_codes(gram, correlate(X, D) - penalties.l1_codes, tol=rest)


def _statistics(part: torch.Tensor, D: torch.Tensor, penalties: Penalties, rest: float) -> Sums:
    """Return all that the next directions and the objective depend on, from the best codes of rows."""
    n = len(D)
    cross, gram = D.new_zeros(D.shape, dtype=torch.float64), D.new_zeros((n, n), dtype=torch.float64)
    total, squares = D.new_zeros(n, dtype=torch.float64), D.new_zeros((), dtype=torch.float64)
    for X in part.split(TILE if part.device.type == "cpu" else len(part)):
        Z = _codes(X, D, penalties, rest)
        cross += Z.T @ X
        gram += Z.T @ Z
        total += Z.sum(0)
        squares += _squares(X)
    return cross, gram, total, squares


def _squares(X: torch.Tensor) -> torch.Tensor:
    """Return ‖X‖²; single precision would not do for a sum over many rows."""
    return (torch.linalg.vector_norm(X, dim=1).double() ** 2).sum()


def _objective(sums: Sums, D: torch.Tensor, penalties: Penalties) -> float:
    (cross, gram, total, squares), D = sums, D.double()
    residual = (squares - 2 * (cross * D).sum() + (gram * (D @ D.T)).sum()).clamp(min=0)
    of_codes = penalties.l1_codes * total.sum() + penalties.l2_codes * gram.trace() / 2
    of_directions = penalties.l1_directions * D.abs().sum() + penalties.l2_directions * (D**2).sum() / 2
    return float(residual / 2 + of_codes + of_directions)


def _alternate(
    sums_of: Callable[..., Sums], D: torch.Tensor, penalties: Penalties, signed: bool, sample: torch.Tensor
) -> Iterator[Step]:
    """Yield directions after each pass: the best for the codes that are best for the extrapolated ones before."""
    ahead, momentum, ceiling, before = D, MOMENTUM, 1.0, math.inf
    rest, reseedings = FIRST_REST, RESEEDINGS
    while True:
        sums = sums_of(ahead, penalties, rest)
        risen = (now := _objective(sums, ahead, penalties)) > before
        new = _best_directions(sums, ahead, penalties, signed, rest)
        objective = _objective(sums, new, penalties)
        new = _rescale(sums, new, penalties)
        if reseedings and (dead := sums[1].diagonal() <= 0).any():
            new, reseedings, risen = _reseed(new, dead, sample, penalties, signed), reseedings - 1, True
        yield Step(new, objective)
        rest = rest / 3 if risen else min(rest, 0.3 * math.sqrt(largest_turn(D, new)))
        rest = max(rest, REST[D.dtype])
        momentum, ceiling = (
            (momentum / 2, momentum) if risen else (min(ceiling, 1.05 * momentum), min(1, 1.01 * ceiling))
        )
        ahead = new if risen else _extrapolate(D, new, momentum, signed)
        D, before = new, now


def _best_directions(sums: Sums, ahead: torch.Tensor, penalties: Penalties, signed: bool, rest: float) -> torch.Tensor:
    """Return the best directions for codes of which only sums are known; one that no code uses, or wants, stays."""
    cross, gram = sums[0] - penalties.l1_directions, sums[1]
    used = gram.diagonal() > 0
    gram = gram + penalties.l2_directions * torch.diag(used.double())
    if signed:
        D = (torch.linalg.pinv(gram, hermitian=True) @ cross).to(ahead.dtype)
    else:
        gram, products = gram.to(ahead.dtype), cross.T.to(ahead.dtype)
        D = nonnegative_codes(gram, products, ahead.T, tol=rest / 10).T.contiguous()
    return torch.where((used & D.any(1))[:, None], D, ahead)


def _rescale(sums: Sums, D: torch.Tensor, penalties: Penalties) -> torch.Tensor:
    """Return directions of unit length, or, with penalties, of that at which these are least as codes shrink for it.

    That is at the s that minimises a/s + b/s² + c s + d s², which is convex in log s: Newton's steps.
    """
    if not any(penalties):
        return torch.nn.functional.normalize(D, dim=1)
    _, gram, total, _ = sums
    a, b = penalties.l1_codes * total, penalties.l2_codes * gram.diagonal() / 2
    c, d = penalties.l1_directions * D.double().abs().sum(1), penalties.l2_directions * (D.double() ** 2).sum(1) / 2
    log = torch.zeros_like(a)
    for _ in range(30):
        terms = torch.stack([a / log.exp(), 2 * b / (2 * log).exp(), c * log.exp(), 2 * d * (2 * log).exp()])
        slope = terms[2:].sum(0) - terms[:2].sum(0)
        curvature = terms[0] + terms[2] + 2 * (terms[1] + terms[3])
        log -= (slope / curvature).clamp(-1, 1)
    return torch.where((a + b > 0)[:, None], D * log.exp()[:, None], D).to(D.dtype)


def _extrapolate(D: torch.Tensor, new: torch.Tensor, momentum: float, signed: bool) -> torch.Tensor:
    further = new + momentum * (new - D)
    return further if signed else further.clamp(min=0)


def _reseed(
    D: torch.Tensor, dead: torch.Tensor, sample: torch.Tensor, penalties: Penalties, signed: bool
) -> torch.Tensor:
    """Return directions of which dead ones are what remains of the drawn stimuli that are explained worst."""
    left = sample - _codes(sample, D, penalties, FIRST_REST) @ D
    left = left if signed else left.clamp(min=0)
    length = left.norm(dim=1)
    worst = length.topk(min(int(dead.sum()), len(sample))).indices
    worst = worst[length[worst] > TINY[D.dtype] * sample.norm(dim=1).max()]
    D, at = D.clone(), dead.nonzero()[: len(worst), 0]
    D[at] = torch.nn.functional.normalize(left[worst], dim=1)
    return D


def _settle(steps: Iterator[Step]) -> torch.Tensor:
    """Return directions once the objective hardly falls any more."""
    before = math.inf
    for step, _ in zip(steps, range(ROUNDS), strict=False):
        if before - step.objective <= SETTLED * step.objective:
            break
        before = step.objective
    return step.D


def _multiply(rows: Blocks, D: torch.Tensor, penalties: Penalties) -> Iterator[Step]:
    """Yield directions after each multiplicative update of codes, which are kept, and directions."""
    level = float((rows.mean().mean() / len(D)).sqrt())
    codes: dict[int, torch.Tensor] = {}
    while True:
        sums: Tensors = ()
        for i, X in enumerate(rows.parts(len(D))):
            Z = codes.get(i, torch.full((len(X), len(D)), level, dtype=D.dtype, device=D.device))
            codes[i] = Z = _multiplied(Z, X @ D.T, D @ D.T, penalties.l1_codes, penalties.l2_codes)
            terms = (Z.T @ X).double(), (Z.T @ Z).double(), Z.sum(0).double(), _squares(X)
            sums = tuple(a + b for a, b in zip(sums, terms, strict=True)) if sums else terms
        cross, gram = sums[0].T.to(D.dtype), sums[1].to(D.dtype)
        D = _multiplied(D.T, cross, gram, penalties.l1_directions, penalties.l2_directions).T.contiguous()
        yield Step(D, _objective(sums, D, penalties))


def _multiplied(Z: torch.Tensor, products: torch.Tensor, gram: torch.Tensor, l1: float, l2: float) -> torch.Tensor:
    """Return Z after one multiplicative update (Lee and Seung 2001, equation 4)."""
    below = Z @ gram + l1 + l2 * Z
    return Z * products / torch.where(below == 0, torch.finfo(torch.float32).eps, below)
