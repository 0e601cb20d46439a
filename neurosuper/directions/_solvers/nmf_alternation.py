"""Alternating updates of nonnegative codes and directions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from neurosuper.directions._rows.rows import Rows, Tensors
from neurosuper.directions._rows.tiles import CODE_ROWS
from neurosuper.directions._solvers.hals import nonnegative_codes
from neurosuper.directions._solvers.sparse_coding import correlate
from neurosuper.directions._solvers.steps import Step, largest_turn

SAMPLE_TOL = 1e-4  # relative fall of the objective in an iteration on the sample: less, and all stimuli take over
MAX_SAMPLE_ITERATIONS = 100  # of iterations on the sample, at most
FIRST_TOL = 0.05  # how exactly codes are found while directions still turn; see `nonnegative_codes`
INNER_TOL = {torch.float32: 1e-5, torch.float64: 1e-12}  # how exactly codes are found in the end
MOMENTUM = 0.9  # share of the last step that is taken once more, at first
MAX_RESEEDINGS = 10  # iterations in which dead directions start anew, at most
MIN_RESIDUAL = {torch.float32: 1e-6, torch.float64: 1e-12}  # share of a response that is not worth a direction


class Penalties(NamedTuple):
    """Weights of Σ|Z|, ½‖Z‖², Σ|D| and ½‖D‖²."""

    l1_codes: float = 0.0
    l2_codes: float = 0.0
    l1_directions: float = 0.0
    l2_directions: float = 0.0


Sums = Tensors  # Zᵀ X, Zᵀ Z, Σ Z, ‖X‖²


def best_codes(X: torch.Tensor, D: torch.Tensor, penalties: Penalties, tol: float) -> torch.Tensor:
    """Return the best codes of rows."""
    gram = D @ D.T + penalties.l2_codes * torch.eye(len(D), dtype=D.dtype, device=D.device)
    return nonnegative_codes(gram, correlate(X, D) - penalties.l1_codes, tol=tol)


def code_statistics(part: torch.Tensor, D: torch.Tensor, penalties: Penalties, tol: float) -> Sums:
    """Return all that the next directions and the objective depend on, from the best codes of rows."""
    n = len(D)
    cross, gram = D.new_zeros(D.shape, dtype=torch.float64), D.new_zeros((n, n), dtype=torch.float64)
    total, squares = D.new_zeros(n, dtype=torch.float64), D.new_zeros((), dtype=torch.float64)
    for X in part.split(CODE_ROWS if part.device.type == "cpu" else len(part)):
        Z = best_codes(X, D, penalties, tol)
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
    squared_error = (squares - 2 * (cross * D).sum() + (gram * (D @ D.T)).sum()).clamp(min=0)
    of_codes = penalties.l1_codes * total.sum() + penalties.l2_codes * gram.trace() / 2
    of_directions = penalties.l1_directions * D.abs().sum() + penalties.l2_directions * (D**2).sum() / 2
    return float(squared_error / 2 + of_codes + of_directions)


def alternate(
    sums_of: Callable[..., Sums], D: torch.Tensor, penalties: Penalties, signed: bool, sample: torch.Tensor
) -> Iterator[Step]:
    """Yield directions after each pass: the best for the codes that are best for the extrapolated ones before."""
    extrapolated, momentum, ceiling, before = D, MOMENTUM, 1.0, math.inf
    tol, reseedings = FIRST_TOL, MAX_RESEEDINGS
    while True:
        sums = sums_of(extrapolated, penalties, tol)
        has_risen = (now := _objective(sums, extrapolated, penalties)) > before
        new = _best_directions(sums, extrapolated, penalties, signed, tol)
        objective = _objective(sums, new, penalties)
        new = _rescale(sums, new, penalties)
        if reseedings and (dead := sums[1].diagonal() <= 0).any():
            new, reseedings, has_risen = _reseed(new, dead, sample, penalties, signed), reseedings - 1, True
        yield Step(new, objective)
        tol = tol / 3 if has_risen else min(tol, 0.3 * math.sqrt(largest_turn(D, new)))
        tol = max(tol, INNER_TOL[D.dtype])
        momentum, ceiling = (
            (momentum / 2, momentum) if has_risen else (min(ceiling, 1.05 * momentum), min(1, 1.01 * ceiling))
        )
        extrapolated = new if has_risen else _extrapolate(D, new, momentum, signed)
        D, before = new, now


def _best_directions(
    sums: Sums, extrapolated: torch.Tensor, penalties: Penalties, signed: bool, tol: float
) -> torch.Tensor:
    """Return the best directions for codes of which only sums are known; one that no code uses, or wants, stays."""
    cross, gram = sums[0] - penalties.l1_directions, sums[1]
    used = gram.diagonal() > 0
    gram = gram + penalties.l2_directions * torch.diag(used.double())
    if signed:
        D = (torch.linalg.pinv(gram, hermitian=True) @ cross).to(extrapolated.dtype)
    else:
        gram, products = gram.to(extrapolated.dtype), cross.T.to(extrapolated.dtype)
        D = nonnegative_codes(gram, products, extrapolated.T, tol=tol / 10).T.contiguous()
    return torch.where((used & D.any(1))[:, None], D, extrapolated)


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
    residual = sample - best_codes(sample, D, penalties, FIRST_TOL) @ D
    residual = residual if signed else residual.clamp(min=0)
    length = residual.norm(dim=1)
    worst = length.topk(min(int(dead.sum()), len(sample))).indices
    worst = worst[length[worst] > MIN_RESIDUAL[D.dtype] * sample.norm(dim=1).max()]
    D, at = D.clone(), dead.nonzero()[: len(worst), 0]
    D[at] = torch.nn.functional.normalize(residual[worst], dim=1)
    return D


def converge(steps: Iterator[Step]) -> torch.Tensor:
    """Return directions once the objective hardly falls any more."""
    before = math.inf
    for step, _ in zip(steps, range(MAX_SAMPLE_ITERATIONS), strict=False):
        if before - step.objective <= SAMPLE_TOL * step.objective:
            break
        before = step.objective
    return step.D


def multiplicative_updates(rows: Rows, D: torch.Tensor, penalties: Penalties) -> Iterator[Step]:
    """Yield directions after each multiplicative update of codes, which are kept, and directions."""
    level = float((rows.mean().mean() / len(D)).sqrt())
    codes: dict[int, torch.Tensor] = {}
    while True:
        sums: Tensors = ()
        for i, X in enumerate(rows.tiles(len(D))):
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
