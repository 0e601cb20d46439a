"""Alternating updates of non-negative codes and directions.

X (row, unit) prepared responses, Z (row, direction) codes ≥ 0, D (direction, unit) directions (≥ 0 unless signed);
½‖X − Z D‖² plus penalties falls in turn over Z and over D.
"""

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

SAMPLE_TOL = 1e-4  # relative fall of the objective per iteration: below this, the fit on the sample ends
MAX_SAMPLE_ITERATIONS = 100  # iterations on the sample: a bound on a start that need not be exact
FIRST_TOL = 0.05  # tolerance of codes while directions still change much; see `tol` of `nonnegative_codes`
INNER_TOL = {torch.float32: 1e-5, torch.float64: 1e-12}  # tolerance of codes in the last passes
MOMENTUM = 0.9  # initial share of the last step that is extrapolated
MAX_RESEEDINGS = 10  # iterations that may restart dead directions: so that a fit ends if they die again and again
MIN_RESIDUAL = {torch.float32: 1e-6, torch.float64: 1e-12}  # of the largest response: a smaller residual is rounding


class Penalties(NamedTuple):
    """Weights of Σ|Z|, ½‖Z‖², Σ|D| and ½‖D‖²."""

    l1_codes: float = 0.0
    l2_codes: float = 0.0
    l1_directions: float = 0.0
    l2_directions: float = 0.0


Sums = Tensors  # Zᵀ X, Zᵀ Z, Σ Z, ‖X‖²


def best_codes(X: torch.Tensor, D: torch.Tensor, penalties: Penalties, tol: float) -> torch.Tensor:
    """Return the codes Z ≥ 0 that minimise the objective for each row, given D."""
    # Penalties l1 Σ z + ½ l2 ‖z‖² change the products by −l1, and add l2 to the diagonal of D Dᵀ.
    gram = D @ D.T + penalties.l2_codes * torch.eye(len(D), dtype=D.dtype, device=D.device)
    return nonnegative_codes(gram, correlate(X, D) - penalties.l1_codes, tol=tol)


def code_statistics(block: torch.Tensor, D: torch.Tensor, penalties: Penalties, tol: float) -> Sums:
    """Return ZᵀX, ZᵀZ, Σ Z and ‖X‖² for the best codes of rows: all that directions and objective depend on."""
    n = len(D)
    cross, gram = D.new_zeros(D.shape, dtype=torch.float64), D.new_zeros((n, n), dtype=torch.float64)
    total, squares = D.new_zeros(n, dtype=torch.float64), D.new_zeros((), dtype=torch.float64)
    for X in block.split(CODE_ROWS if block.device.type == "cpu" else len(block)):
        Z = best_codes(X, D, penalties, tol)
        cross += Z.T @ X
        gram += Z.T @ Z
        total += Z.sum(0)
        squares += _squares(X)
    return cross, gram, total, squares


def _squares(X: torch.Tensor) -> torch.Tensor:
    """Return ‖X‖², summed over rows in float64."""
    return (torch.linalg.vector_norm(X, dim=1).double() ** 2).sum()


def _objective(sums: Sums, D: torch.Tensor, penalties: Penalties) -> float:
    (cross, gram, total, squares), D = sums, D.double()
    # ‖X − Z D‖² = ‖X‖² − 2 ⟨ZᵀX, D⟩ + ⟨ZᵀZ, D Dᵀ⟩.
    squared_error = (squares - 2 * (cross * D).sum() + (gram * (D @ D.T)).sum()).clamp(min=0)
    of_codes = penalties.l1_codes * total.sum() + penalties.l2_codes * gram.trace() / 2
    of_directions = penalties.l1_directions * D.abs().sum() + penalties.l2_directions * (D**2).sum() / 2
    return float(squared_error / 2 + of_codes + of_directions)


def alternate(
    sums_of: Callable[..., Sums], D: torch.Tensor, penalties: Penalties, signed: bool, sample: torch.Tensor
) -> Iterator[Step]:
    """Yield directions after each pass: the best directions for the best codes of the extrapolated directions."""
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
        # Codes are found more exactly as directions change less: the turn is a squared angle, its root an angle.
        tol = tol / 3 if has_risen else min(tol, 0.3 * math.sqrt(largest_turn(D, new)))
        tol = max(tol, INNER_TOL[D.dtype])
        # If the objective rose, restart from the new directions with half the momentum, and the old one as its ceiling;
        # else both grow slowly.
        momentum, ceiling = (
            (momentum / 2, momentum) if has_risen else (min(ceiling, 1.05 * momentum), min(1, 1.01 * ceiling))
        )
        extrapolated = new if has_risen else new + momentum * (new - D)
        extrapolated = extrapolated if signed else extrapolated.clamp(min=0)
        D, before = new, now


def _best_directions(
    sums: Sums, extrapolated: torch.Tensor, penalties: Penalties, signed: bool, tol: float
) -> torch.Tensor:
    """Return the best directions given the sums over codes; a direction that no code uses, or that becomes 0, stays."""
    # With codes fixed, D solves (ZᵀZ + l2 I) D = ZᵀX − l1: in closed form if signed, else with D ≥ 0.
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
    """Return directions of unit length, or, with penalties, of the length that minimises the penalties.

    A direction s times as long needs codes 1/s times as large, and reconstructs the same.
    """
    if not any(penalties):
        return torch.nn.functional.normalize(D, dim=1)
    _, gram, total, _ = sums
    a, b = penalties.l1_codes * total, penalties.l2_codes * gram.diagonal() / 2
    c, d = penalties.l1_directions * D.double().abs().sum(1), penalties.l2_directions * (D.double() ** 2).sum(1) / 2
    # Penalties are a/s + b/s² + c s + d s², convex in log s: 30 steps of Newton's method, each limited to a factor e.
    log = torch.zeros_like(a)
    for _ in range(30):
        terms = torch.stack([a / log.exp(), 2 * b / (2 * log).exp(), c * log.exp(), 2 * d * (2 * log).exp()])
        slope = terms[2:].sum(0) - terms[:2].sum(0)
        curvature = terms[0] + terms[2] + 2 * (terms[1] + terms[3])
        log -= (slope / curvature).clamp(-1, 1)
    return torch.where((a + b > 0)[:, None], D * log.exp()[:, None], D).to(D.dtype)


def _reseed(
    D: torch.Tensor, dead: torch.Tensor, sample: torch.Tensor, penalties: Penalties, signed: bool
) -> torch.Tensor:
    """Return directions in which dead ones are replaced by the residuals of the worst reconstructed stimuli."""
    residual = sample - best_codes(sample, D, penalties, FIRST_TOL) @ D
    residual = residual if signed else residual.clamp(min=0)
    length = residual.norm(dim=1)
    worst = length.topk(min(int(dead.sum()), len(sample))).indices
    worst = worst[length[worst] > MIN_RESIDUAL[D.dtype] * sample.norm(dim=1).max()]
    D, at = D.clone(), dead.nonzero()[: len(worst), 0]
    D[at] = torch.nn.functional.normalize(residual[worst], dim=1)
    return D


def converge(steps: Iterator[Step]) -> torch.Tensor:
    """Return directions once the objective falls by less than `SAMPLE_TOL` per iteration."""
    before = math.inf
    for step, _ in zip(steps, range(MAX_SAMPLE_ITERATIONS), strict=False):
        if before - step.objective <= SAMPLE_TOL * step.objective:
            break
        before = step.objective
    return step.D


def multiplicative_updates(rows: Rows, D: torch.Tensor, penalties: Penalties) -> Iterator[Step]:
    """Yield directions after each multiplicative update of all codes, which stay in memory, and of directions."""
    # Codes start at one value, √(mean(X) / K): with directions of that size, Z D has the mean of X.
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
