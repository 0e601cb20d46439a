"""Linear maps from the units of each subject to codes that all subjects share, from products of responses alone.

Xᵢ (stimulus, unit) centred responses of subject i, divided by their norm, so that ‖Xᵢ‖ = 1; Tᵢ = Xᵢ Vᵢ
(stimulus, component) their principal components, Vᵢ (unit, component); C = TᵀT of all subjects side by side;
Wᵢ (component, direction) the map of subject i; S (stimulus, direction) shared codes, S = Σᵢ Tᵢ Wᵢ / number of subjects.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from neurosuper.directions import Rows
from neurosuper.directions._rows.moments import RANK_TOLERANCE, moments

PENALTIES = np.logspace(-6, 3, 37)  # to choose from, of the mean variance of components: from none to nothing left


class Products(NamedTuple):
    """The principal components of each subject, and the products of all of them."""

    mean: torch.Tensor  # (unit,) of all subjects
    norm: list[float]  # ‖responses − mean‖ of each subject
    basis: list[torch.Tensor]  # Vᵢ (unit of the subject, component), by decreasing variance
    C: torch.Tensor  # (component, component) of all subjects side by side, in float64

    @property
    def slices(self) -> list[slice]:
        """Places of the components of each subject."""
        ends = np.cumsum([0, *(each.shape[1] for each in self.basis)]).tolist()
        return [slice(*pair) for pair in pairwise(ends)]

    def reduced(self, n: int) -> Products:
        """Return the same with the first `n` components of each subject only."""
        places = [place for part in self.slices for place in range(part.start, part.start + n)]
        return self._replace(basis=[each[:, :n] for each in self.basis], C=self.C[places][:, places])


class Maps(NamedTuple):
    """The map Wᵢ of each subject, and the share of variance that is left after each iteration."""

    W: list[torch.Tensor]
    curve: list[float]
    has_converged: bool


def products_of(rows: Rows, subjects: list[np.ndarray]) -> Products:
    """Return the principal components of each subject, at positions of units, and their products.

    One pass over streamed responses, if they have more stimuli than units; otherwise they are read whole, which takes
    less memory than their scatter.
    """
    if rows.n_rows > rows.n_columns:
        mean, scatter = moments(rows)
        roots = [torch.linalg.eigh(scatter[part][:, part]) for part in subjects]
        parts = [_largest(variance.flip(0), V.flip(1)) for variance, V in roots]
        V = torch.zeros(rows.n_columns, sum(each.shape[1] for _, each in parts), dtype=torch.float64).to(scatter)
        start = 0
        for (norm, basis), part in zip(parts, subjects, strict=True):
            V[part, start : start + basis.shape[1]] = basis / norm
            start += basis.shape[1]
        C = V.T @ scatter @ V
    else:
        R = rows.take(np.arange(rows.n_rows)).double()
        mean = R.mean(0)
        solved = [torch.linalg.svd((R - mean)[:, part], full_matrices=False) for part in subjects]
        parts = [_largest(s**2, Vt.T) for _, s, Vt in solved]
        T = [
            U[:, : basis.shape[1]] * (s[: basis.shape[1]] / norm)
            for (U, s, _), (norm, basis) in zip(solved, parts, strict=True)
        ]
        C = torch.cat(T, 1).T @ torch.cat(T, 1)
    return Products(mean, [norm for norm, _ in parts], [basis for _, basis in parts], C)


def _largest(variance: torch.Tensor, V: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Return the norm of responses, and their principal components without those that rounding alone makes."""
    kept = variance > RANK_TOLERANCE[torch.float64] * variance[0]
    return float(variance[kept].sum().sqrt()), V[:, kept]


def align_maps(products: Products, n: int, max_iter: int, tol: float | None) -> Maps:
    """Return orthonormal maps, Wᵢᵀ Wᵢ = 1, and S of least Σᵢ ‖Tᵢ − S Wᵢᵀ‖² (Chen et al. 2015, eq. 1).

    With as many components as directions the Wᵢ are rotations, and this is generalised Procrustes analysis, as then
    ‖Tᵢ − S Wᵢᵀ‖ = ‖Tᵢ Wᵢ − S‖ (Gower 1975).
    """
    C, parts = products.C, products.slices
    # It starts from the first principal components of all subjects side by side, S = T E: Tᵢᵀ S = Cᵢ E.
    cross = C @ torch.linalg.eigh(C)[1][:, -n:]
    W, curve = [_polar(cross[part]) for part in parts], []
    for _ in range(max_iter):
        # Tᵢᵀ S = Σⱼ Cᵢⱼ Wⱼ / m.
        cross = C @ torch.cat(W) / len(parts)
        curve.append(_left(C, torch.cat(W), len(parts)))
        if tol is not None and len(curve) > 1 and curve[-2] - curve[-1] <= tol:
            return Maps(W, curve, True)
        # For a given S, tr(Wᵢᵀ Tᵢᵀ S) is largest at the polar factor of Tᵢᵀ S; then S is the mean of Tᵢ Wᵢ.
        W = [_polar(cross[part]) for part in parts]
    return Maps(W, curve, tol is None)


def _left(C: torch.Tensor, W: torch.Tensor, m: int) -> float:
    """Return Σᵢ ‖Tᵢ − S Wᵢᵀ‖² / Σᵢ ‖Tᵢ‖² = 1 − m ‖S‖² / tr C, for S = T W / m."""
    return float(1 - (W * (C @ W)).sum() / (m * C.trace()))


def _polar(X: torch.Tensor) -> torch.Tensor:
    """Return U Vᵀ of X = U S Vᵀ: the orthonormal columns nearest to X."""
    U, _, V = torch.linalg.svd(X, full_matrices=False)  # V (component, column)
    return U @ V


def regress_maps(products: Products, n: int, reference: int, n_stimuli: int, penalty: float | None) -> Maps:
    """Return the ridge regressions of the first principal components of one subject on those of each.

    W = (Cᵢᵢ + p l 1)⁻¹ Cᵢᵣ, where l is the mean of the variances, the diagonal of Cᵢᵢ, and Cᵢᵣ are products with the
    first `n` components of the reference. Without a penalty p, it is that of the least error by generalised
    cross-validation (Golub, Heath and Wahba 1979, eq. 2.3).
    """
    C, parts = products.C, products.slices
    target = slice(parts[reference].start, parts[reference].start + n)
    total, W = float(C[target, target].trace()), []
    for i, part in enumerate(parts):
        variance, cross = C[part, part].diagonal(), C[part, target]
        if i == reference:
            W.append(torch.eye(len(variance), n, dtype=C.dtype, device=C.device))  # its own components, exactly
            continue
        p = penalty if penalty is not None else _choose_penalty(variance, cross, total, n_stimuli)
        W.append(cross / (variance + p * variance.mean())[:, None])
    stacked = torch.cat(W)
    # ‖S_r − S‖² of the target S_r and the mean S of predictions, relative to ‖S_r‖².
    products_with_target = float((C[:, target] * stacked).sum()) / len(parts)
    squared = float((stacked * (C @ stacked)).sum()) / len(parts) ** 2
    return Maps(W, [(total - 2 * products_with_target + squared) / total], True)


def _choose_penalty(variance: torch.Tensor, cross: torch.Tensor, total: float, n_stimuli: int) -> float:
    """Return the penalty of the least RSS / (n − 1 − df)², where df is the trace of the smoother."""
    errors, explained = [], (cross**2).sum(1) / variance
    rest = max(0.0, total - float(explained.sum()))
    for p in PENALTIES:
        # What shrinkage leaves of each component, and so RSS = ‖S‖² − Σ c²/λ + Σ c²/λ left².
        left = p * variance.mean() / (variance + p * variance.mean())
        rss = rest + float((explained * left**2).sum())
        # df = Σ (1 − left), and one more for the mean.
        errors.append(rss / (n_stimuli - 1 - len(left) + float(left.sum())) ** 2)
    return float(PENALTIES[int(np.argmin(errors))])


def principal_maps(products: Products, W: list[torch.Tensor]) -> torch.Tensor:
    """Return maps from responses of all subjects (unit in order of subjects, direction), on principal axes of S.

    S is free up to a rotation, which is fixed to make its columns uncorrelated, by decreasing variance.
    """
    stacked = torch.cat(W)
    axes = torch.linalg.eigh(stacked.T @ products.C @ stacked)[1].flip(1)
    maps = zip(products.basis, W, products.norm, strict=True)
    return torch.cat([basis @ each @ axes / norm for basis, each, norm in maps])
