"""Soft matching: how well the items of two systems pair up, and whether a rotation of one system spoils it.

A, B (stimulus, item) responses or codes of two systems; r (item of A, item of B) their correlations over stimuli;
T (item of A, item of B) ≥ 0 a coupling, whose rows and columns sum to 1/(number of rows) and 1/(number of columns).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import linear_sum_assignment

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._content import photographs_of
from neurosuper._optional import require
from neurosuper._progress import progress
from neurosuper.inference import halves_interval
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import align, name_some, require_varying
from neurosuper.superposition.axes import random_rotation

MOST_PAIRS = 25_000_000  # entries of a coupling: 0.2 GiB each for correlations, costs and the coupling
MIN_STIMULI = 6  # of a fold: its halves, for the interval, still have a correlation
MOST_ITERATIONS = 10_000_000  # of the solver of the transport problem, which warns if it needs more
N_FOR_INTERVAL = 10  # rotations whose mean is subtracted in each half of the stimuli
CONSTANT = 1e-12  # of the mean square: variances that are rounding
ScoreOn = Literal["held-out", "all"]


class _Moments(NamedTuple):
    """Sums of products over some stimuli, from which the correlations of any rotation of A with B are computed."""

    of_a: np.ndarray  # AᵀA of centred A
    across: np.ndarray  # AᵀB
    of_b: np.ndarray  # diagonal of BᵀB

    @classmethod
    def of(cls, A: np.ndarray, B: np.ndarray) -> _Moments:
        A, B = A - A.mean(axis=0), B - B.mean(axis=0)
        return cls(A.T @ A, A.T @ B, np.einsum("sj,sj->j", B, B))

    def correlations(self, Q: np.ndarray | None = None) -> np.ndarray:
        """Return the correlations of A Q with B; 0 for an item that does not vary."""
        across = self.across if Q is None else Q.T @ self.across
        of_a = self.of_a.diagonal() if Q is None else np.einsum("ij,ij->j", Q, self.of_a @ Q)
        with np.errstate(divide="ignore"):
            root_a, root_b = (
                np.where(each > CONSTANT * max(each.max(), np.finfo(float).tiny), each, np.inf) ** -0.5
                for each in (of_a, self.of_b)
            )
        return root_a[:, None] * across * root_b


class _Fold(NamedTuple):
    """One fold: the stimuli that its coupling is scored on, and the moments that choose and score it."""

    scored: np.ndarray  # (stimulus,)
    chosen_from: _Moments
    scored_from: _Moments


def soft_matching(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    score_on: ScoreOn = "held-out",
    mass: float = 1.0,
    n_folds: int = 5,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how well the units or directions of two systems can be matched to each other, one to one or softly.

    Each item of `a` has the same weight to distribute over items of `b`, and each of `b` receives the same; the
    distribution with the largest mean correlation is chosen on some stimuli, and its correlations are scored on
    others. For equal numbers it is a permutation. Unlike a regression, it asks whether single items correspond.

    Parameters
    ----------
    a, b : DataArray (stimulus, item)
        Responses or codes of two systems; stimuli are matched by label.
    score_on : {"held-out", "all"}, optional
        "held-out": the coupling of each fold is chosen on the other folds. "all": chosen and scored on all stimuli, as
        published; independent items then score above 0.
    mass : float, optional
        Share of the weight that is matched, above 0 and at most 1; the items that fit worst are left unmatched.
    n_folds : int, optional
        Number of folds of the stimuli, at least 2. Copies of a photograph are in the same fold.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed of folds and halves.

    Returns
    -------
    Dataset
        `score`, the mean correlation over the matched weight, with `score_low` and `score_high` for other stimuli, of
        these couplings; `coupling (item_a, item_b)`, averaged over folds, which sums to `mass`; `r (item_a)`, the
        correlation of each item of `a` with its partners, NaN for one that is never matched.

    Raises
    ------
    ImportError
        POT is not installed, and the systems have different numbers of items, or `mass` is below 1.
    ValueError
        No common stimuli; too few of them; NaN; constant items; too many pairs of items; settings out of range.

    See Also
    --------
    privileged_axes : Whether this is more than rotated axes of the same responses have.

    Notes
    -----
    T minimises Σ T (1 − r) under the constraints on rows and columns (Khosla and Williams 2024), or with `mass` below 1
    of them as upper limits (Kapoor et al. 2026). An item that does not vary in a fold has the correlation 0 in it.
    The score of units decreases with noise: compare it with that of two halves of the repetitions of one system.

    References
    ----------
    Khosla and Williams 2024, "Soft matching distance", arXiv 2311.09466. Kapoor, Williams and Khosla 2026, "Partial
    soft-matching distance", arXiv 2602.19331.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> a = xr.DataArray(np.random.default_rng(0).normal(size=(60, 3)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(60).astype(str), "unit": ["u", "v", "w"]})
    >>> found = soft_matching(a, a[:, ::-1] ** 3, n_resamples=10)
    >>> (3 * found.coupling).round(6).values.tolist(), bool(found.score > 0.6)
    ([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], True)
    """
    seed = seed_or_new(random_state)
    A, B, labels, folds = _prepare(a, b, score_on, mass, n_folds, seed)
    couplings = [_couple(1 - fold.chosen_from.correlations(), mass) for fold in folds]
    by_fold = [fold.scored_from.correlations() for fold in folds]
    score = np.mean([(T * r).sum() / T.sum() for T, r in zip(couplings, by_fold, strict=True)])
    coupling = np.mean(couplings, axis=0)
    weighted = np.mean([(T * r).sum(axis=1) for T, r in zip(couplings, by_fold, strict=True)], axis=0)
    with np.errstate(invalid="ignore"):
        of_items = weighted / coupling.sum(axis=1)

    def statistic(rows: np.ndarray) -> float:
        return _score(A, B, folds, couplings, rows)

    columns: dict[str, Any] = {"score": score}
    columns |= _interval("score", statistic, float(score), len(A), n_resamples, seed)
    columns |= {"coupling": (("item_a", "item_b"), coupling), "r": ("item_a", of_items)}
    attrs = {"method": "soft matching", "quantity": "correlation", "score_on": score_on, "mass": float(mass)}
    attrs |= {"n_stimuli": len(A), "n_folds": len(folds), "n_resamples": int(n_resamples), "random_state": seed}
    return xr.Dataset(columns, labels, attrs)


def privileged_axes(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    n_rotations: int = 100,
    n_folds: int = 5,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a test of whether the axes of two systems match better than rotated axes of the same responses do.

    A rotation keeps all distances between response vectors, and so everything that representational similarity or a
    regression sees. If units match better than their rotations, the units themselves are shared (Khosla et al. 2024).

    Parameters
    ----------
    a, b : DataArray (stimulus, item)
        Responses or codes of two systems. `a` is rotated: z-score its units first (see `normalize`), as a rotation
        mixes those of large variance into all others.
    n_rotations : int, optional
        Number of random rotations, at least 19.
    n_folds, n_resamples, random_state : optional
        As in `soft_matching`.

    Returns
    -------
    Dataset (rotation)
        `native`, the held-out score of `soft_matching`; `rotated (rotation)`, that of each rotation of `a`, with a
        coupling of its own; `p_value`, the share of scores at least as large as `native`, counting it as one;
        `difference`, `native` minus the mean of `rotated`, with `difference_low` and `difference_high` for other
        stimuli, of these couplings (and of at most 10 of the rotations).

    Raises
    ------
    ImportError, ValueError
        As in `soft_matching`; fewer than two items of `a`.

    See Also
    --------
    soft_matching : The score.
    rotate_units : A rotation of responses, by any amount.

    Notes
    -----
    The test is exact if the distribution of `a` given `b` is the same for all rotations of `a`, as in Gaussian
    responses without privileged axes.

    References
    ----------
    Khosla, Williams, McDermott and Kanwisher 2024, "Privileged representational axes in biological and artificial
    neural networks", bioRxiv 2024.06.20.599957.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> a = xr.DataArray(np.random.default_rng(0).laplace(size=(80, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(80).astype(str), "unit": list("abcd")})
    >>> test = privileged_axes(a, a[:, ::-1], n_rotations=19, n_resamples=10)
    >>> round(float(test.native), 6), float(test.p_value)
    (1.0, 0.05)
    """
    check_count("n_rotations", n_rotations, least=19, why=", which allow p = 0.05")
    seed = seed_or_new(random_state)
    A, B, _, folds = _prepare(a, b, "held-out", 1.0, n_folds, seed)
    if A.shape[1] < 2:
        raise ValueError("a rotation needs at least 2 items of the first system, got 1")
    rng = np.random.default_rng([seed, 1])
    bar = progress(range(n_rotations), desc="rotations", unit="rotation", leave=False)
    rotations = [None, *(random_rotation(A.shape[1], rng) for _ in bar)]
    fits = [[_couple(1 - fold.chosen_from.correlations(Q), 1.0) for fold in folds] for Q in rotations]
    native, *rotated = (
        np.mean([(T * fold.scored_from.correlations(Q)).sum() for T, fold in zip(fit, folds, strict=True)])
        for Q, fit in zip(rotations, fits, strict=True)
    )

    def statistic(rows: np.ndarray) -> float:
        scores = [
            _score(A, B, folds, fit, rows, Q)
            for Q, fit in zip(rotations[: N_FOR_INTERVAL + 1], fits[: N_FOR_INTERVAL + 1], strict=True)
        ]
        return scores[0] - float(np.mean(scores[1:]))

    difference = native - np.mean(rotated)
    columns: dict[str, Any] = {"native": native, "rotated": ("rotation", np.array(rotated))}
    columns |= {"p_value": p_of_draws(native, np.array(rotated))}
    columns |= {"difference": difference}
    columns |= _interval("difference", statistic, float(difference), len(A), n_resamples, seed)
    attrs = {"method": "soft matching", "quantity": "correlation", "n_stimuli": len(A), "n_folds": len(folds)}
    attrs |= {"n_rotations": int(n_rotations), "n_resamples": int(n_resamples), "random_state": seed}
    return xr.Dataset(columns, attrs=attrs)


def _prepare(
    a: xr.DataArray, b: xr.DataArray, score_on: str, mass: float, n_folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], list[_Fold]]:
    """Return both systems on their common stimuli, the labels of their items, and the folds."""
    check_one_of("score_on", score_on, ("held-out", "all"))
    if not 0 < mass <= 1:
        raise ValueError(f"mass must be above 0 and at most 1, got {mass!r}")
    check_count("n_folds", n_folds, least=2)
    a, b = align(check_codes(a), check_codes(b))
    n_pairs = a.shape[1] * b.shape[1]
    if n_pairs > MOST_PAIRS:
        raise ValueError(
            f"a coupling of {a.shape[1]:,} × {b.shape[1]:,} items takes {n_pairs * 8 / 2**30:.1f} GiB, several times; "
            f"select items, so that there are at most {MOST_PAIRS:,} pairs"
        )
    if len(a) < MIN_STIMULI * n_folds:
        raise ValueError(
            f"{len(a)} common stimuli are too few for {n_folds} folds of at least {MIN_STIMULI}; lower n_folds, or use "
            "more stimuli"
        )
    A, B = (_finite(system) for system in (a, b))
    labels = {"item_a": a[a.dims[1]].values, "item_b": b[b.dims[1]].values}
    if score_on == "all":
        moments = _Moments.of(A, B)
        return A, B, labels, [_Fold(np.ones(len(A), bool), moments, moments)]
    number = _number_folds(a, n_folds, seed)
    folds = [
        _Fold(number == k, _Moments.of(A[number != k], B[number != k]), _Moments.of(A[number == k], B[number == k]))
        for k in range(n_folds)
    ]
    return A, B, labels, folds


def _finite(codes: xr.DataArray) -> np.ndarray:
    """Return codes in float64, or raise an error that names the items with NaN, or without variance."""
    codes = codes.compute()
    values = codes.values.astype(float)
    if (bad := ~np.isfinite(values).all(0)).any():
        names = name_some(codes[codes.dims[1]].values[bad])
        raise ValueError(f"NaN or infinite values in {codes.dims[1]} {names}; drop those, or their stimuli")
    require_varying(codes)
    return values


def _number_folds(a: xr.DataArray, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each stimulus: random, with copies of a photograph in one, in any order of the stimuli."""
    order = np.argsort(a.stimulus.values.astype(str))
    photographs = pd.factorize(photographs_of(a)[order])[0]  # numbered in order of label
    drawn = np.random.default_rng([seed, 0]).permutation(photographs.max() + 1)
    number = np.empty(len(order), int)
    number[order] = drawn[photographs] % n_folds
    return number


def _couple(cost: np.ndarray, mass: float) -> np.ndarray:
    """Return the coupling T of the smallest Σ T · cost, with weights 1/n of items, that matches this mass."""
    n_a, n_b = cost.shape
    if n_a == n_b and mass == 1:
        # a permutation is optimal (Birkhoff and von Neumann)
        T = np.zeros_like(cost)
        T[linear_sum_assignment(cost)] = 1 / n_a
        return T
    ot = require("ot", "transport")
    weights = np.full(n_a, 1 / n_a), np.full(n_b, 1 / n_b)
    if mass == 1:
        return ot.emd(*weights, cost, numItermax=MOST_ITERATIONS)
    return ot.partial.partial_wasserstein(*weights, cost, m=float(mass), numItermax=MOST_ITERATIONS)


def _score(
    A: np.ndarray,
    B: np.ndarray,
    folds: list[_Fold],
    couplings: list[np.ndarray],
    rows: np.ndarray,
    Q: np.ndarray | None = None,
) -> float:
    """Return the mean correlation, of couplings that are fixed, over those stimuli of each fold that are in `rows`."""
    scores, weights = [], []
    for fold, T in zip(folds, couplings, strict=True):
        own = rows[fold.scored[rows]]
        if len(own) >= 3:  # of two stimuli, all correlations are 1 or −1
            scores.append((T * _Moments.of(A[own], B[own]).correlations(Q)).sum() / T.sum())
            weights.append(len(own) - 1)
    return float(np.average(scores, weights=weights)) if scores else np.nan


def _interval(
    name: str, statistic: Callable[[np.ndarray], float], estimate: float, n: int, n_resamples: int, seed: int
) -> dict[str, Any]:
    """Return the limits of an estimate, with the margin of this statistic; none without resamples."""
    if n_resamples == 0:
        return {}
    found = halves_interval(statistic, n, n_resamples=n_resamples, random_state=seed)
    margin = float(found.estimate_high - found.estimate_low) / 2
    return {f"{name}_low": estimate - margin, f"{name}_high": estimate + margin}
