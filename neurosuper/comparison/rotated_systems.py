"""Procrustes: how similar two systems are after the rotation that brings one nearest to the other.

A, B (stimulus, item) responses or codes, centred by item; Q (item of A, item of B) the rotation: the smaller system
is treated as if it had further items that are always 0.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy import linalg

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.shared_stimuli import common_systems, groups_of, number_folds, shuffle_stimuli_order
from neurosuper.inference import halves_interval
from neurosuper.inference.null_draws import p_of_draws

__all__ = ["procrustes"]

ScoreOn = Literal["held-out", "all"]
MIN_STIMULI = 6  # of a fold


class _Fold(NamedTuple):
    """A rotation, the systems that it is learned from, and the stimuli to score it on."""

    scored: np.ndarray  # (stimulus,) of bool
    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray

    def score(self, rows: np.ndarray) -> float:
        """Return the cosine between A Q and B over some stimuli, both centred on these."""
        A, B = (X[rows] - X[rows].mean(axis=0) for X in (self.A, self.B))
        # the length of A, not of A Q: what a smaller B has no items for counts as a difference
        return float(((A @ self.Q) * B).sum() / (np.linalg.norm(A) * np.linalg.norm(B)))


def procrustes(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    alpha: float = 1.0,
    score_on: ScoreOn = "held-out",
    stimulus_groups: str | None = None,
    n_folds: int = 5,
    n_permutations: int = 199,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how similar two systems are after the best rotation, learned on other stimuli, with interval and test.

    Unlike CKA it is a metric (of angles), and it does not square the part of the dimensions with the largest variance.

    Parameters
    ----------
    a, b : DataArray (stimulus, item)
        Responses or codes; stimuli are matched by label. The numbers of items may differ.
    alpha : float, optional
        From 1, rotations only, to 0, in which all dimensions have the same variance first (canonical correlation);
        between them, a mean of both.
    score_on : {"held-out", "all"}, optional
        "held-out": the rotation of each fold is learned on the other folds. "all": learned and scored on all stimuli,
        as published; independent systems with many units then score near 1.
    stimulus_groups : str, optional
        A stimulus coord of `a`, such as "burst", whose groups of dependent stimuli are never divided, between folds nor
        between the halves of the interval; for p they change places whole, with others of the same size.
    n_folds : int, optional
        Number of folds of the stimuli, at least 2.
    n_permutations : int, optional
        Number of times that the stimuli of `b` are shuffled, at least 19; the rotation is learned again each time.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed of folds, permutations and halves.

    Returns
    -------
    Dataset
        `estimate`, the cosine between the systems after rotation, with `estimate_low` and `estimate_high` for other
        stimuli, of these rotations; `angle`, its arc cosine in radians, the angular shape distance; `p_value`,
        one-sided. attrs: `method`, `quantity`, `n_stimuli`, and the settings.

    Raises
    ------
    ValueError
        Too few common stimuli, or copies of one photograph among them; NaN; constant items; settings out of range.

    See Also
    --------
    cka : Similarity of products, without a rotation.
    neurosuper.superposition.soft_matching : Permutations in place of rotations.
    scipy.linalg.orthogonal_procrustes : The rotation.

    Notes
    -----
    With Aᵀ B = U S Vᵀ of the stimuli that it is learned on, Q = U Vᵀ maximises tr(Qᵀ Aᵀ B) / (‖A‖ ‖B‖), which on the
    same stimuli is the sum of S, divided by both norms (Williams et al. 2021, section 2). `alpha` below 1 replaces each
    system by X (α + (1 − α) (Xᵀ X)^{-½}) first.

    References
    ----------
    Williams, Kunz, Kornblith and Linderman 2021, "Generalized shape metrics on neural representations", NeurIPS.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.random.default_rng(0).normal(size=(60, 3)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(60).astype(str), "unit": ["u", "v", "w"]})
    >>> turned = r @ xr.DataArray(np.linalg.qr(np.eye(3) + 1)[0], dims=("unit", "new"))
    >>> found = procrustes(r, turned.rename(new="unit").assign_coords(unit=["x", "y", "z"]), n_permutations=19)
    >>> round(float(found.estimate), 6)
    1.0
    """
    check_one_of("score_on", score_on, ("held-out", "all"))
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    check_count("n_folds", n_folds, least=2)
    if not isinstance(alpha, Real) or isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 (whitened) to 1 (rotations only), got {alpha!r}")
    seed = seed_or_new(random_state)
    a, b = common_systems(a, b, MIN_STIMULI * (n_folds if score_on == "held-out" else 2))
    groups = None if stimulus_groups is None else groups_of(a, stimulus_groups)
    fold = np.full(len(a), -1) if score_on == "all" else number_folds(a, groups, n_folds, seed)
    A, B = (each.values.astype(float) for each in (a, b))
    folds = learn_rotations(A, B, fold, alpha)
    every = np.arange(len(A))
    estimate = score_rotations(folds, every)
    columns: dict[str, Any] = {"estimate": estimate}
    if n_resamples:
        found = halves_interval(
            lambda rows: score_rotations(folds, rows),
            len(A),
            n_resamples=n_resamples,
            stimulus_groups=groups,
            random_state=seed,
        )
        columns |= {f"estimate_{end}": float(found[f"estimate_{end}"]) for end in ("low", "high")}
    columns["angle"] = np.arccos(np.clip(estimate, -1, 1))
    rng = np.random.default_rng([seed, 1])
    bar = progress(range(n_permutations), desc="permutations", unit="draw", leave=False)
    draws = [
        score_rotations(learn_rotations(A, B[shuffle_stimuli_order(len(B), groups, rng)], fold, alpha), every)
        for _ in bar
    ]
    columns["p_value"] = p_of_draws(estimate, np.array(draws))
    attrs = {"method": "Procrustes", "quantity": "cosine after rotation", "alpha": float(alpha), "score_on": score_on}
    attrs |= {"n_stimuli": len(A), "n_folds": len(folds), "n_permutations": int(n_permutations)}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return xr.Dataset(columns, attrs=attrs | {"n_resamples": int(n_resamples), "random_state": seed})


def learn_rotations(A: np.ndarray, B: np.ndarray, fold: np.ndarray, alpha: float) -> list[_Fold]:
    """Return the rotation of each fold, learned on the others; fold −1 learns and scores on all."""
    folds = []
    for k in np.unique(fold):
        scored = fold == k
        fit = scored if k < 0 else ~scored
        first, second = (_whitened(X, fit, alpha) for X in (A, B))
        U, V = _axes(first[fit].T @ second[fit])
        folds.append(_Fold(scored, first, second, U @ V))
    return folds


def _axes(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the singular vectors U (item of A, component) and V (component, item of B)."""
    try:
        U, _, V = np.linalg.svd(products, full_matrices=False)
    except np.linalg.LinAlgError:
        # divide and conquer can fail for matrices of low rank, as of more codes than units; QR iteration takes longer
        U, _, V = linalg.svd(products, full_matrices=False, lapack_driver="gesvd")
    return U, V


def score_rotations(folds: list[_Fold], rows: np.ndarray) -> float:
    """Return the mean over folds of their score on those of their stimuli that are in `rows`, by number."""
    own = [rows[fold.scored[rows]] for fold in folds]
    used = [(fold.score(part), len(part) - 1) for fold, part in zip(folds, own, strict=True) if len(part) > 1]
    scores, weights = zip(*used, strict=True)
    return float(np.average(scores, weights=weights))


def _whitened(X: np.ndarray, fit: np.ndarray, alpha: float) -> np.ndarray:
    """Return X (α + (1 − α) (Xᵀ X)^{-½}), centred and whitened as some of the stimuli are."""
    X = X - X[fit].mean(axis=0)
    if alpha == 1:
        return X
    _, S, V = np.linalg.svd(X[fit], full_matrices=False)
    varies = S / S[0] > 1e-10  # dimensions in which these stimuli do not vary cannot be whitened
    V = V[varies]
    return alpha * X + (1 - alpha) * (X @ V.T / S[varies]) @ V
