"""Linear CKA: how similar two systems are in the products of their responses to any two stimuli.

A (stimulus, item) responses or codes of a system, K = A Aᵀ (stimulus, stimulus) with or without its diagonal, K̃.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.shared_stimuli import common_systems, groups_of
from neurosuper.inference import halves_interval
from neurosuper.inference.null_draws import p_of_draws

__all__ = ["cka"]

Debias = Literal["stimuli", "none"]
MIN_STIMULI = 8  # halves of 4, the least that the unbiased estimate needs


class _System(NamedTuple):
    """Repetitions of a system (one, if it has none): A (repetition, stimulus, item), centred by item."""

    A: np.ndarray

    def rows(self, positions: np.ndarray) -> _System:
        part = self.A[:, positions]
        return _System(part - part.mean(axis=1, keepdims=True))


def cka(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    debias: Debias = "stimuli",
    stimulus_groups: str | None = None,
    n_permutations: int = 999,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the linear CKA (centred kernel alignment) of two systems, with interval and test.

    It is 1 if the systems are rotations of each other, up to one scale, and, debiased, 0 on average if they are
    independent; without, independent systems with many units score near 1.

    Parameters
    ----------
    a, b : DataArray (stimulus, item), or (stimulus, repetition, item)
        Responses or codes; stimuli are matched by label. With repetitions (none may be missing), the products of
        different repetitions estimate how large a system's own is without noise: noise then does not lower the result,
        which may exceed 1.
    debias : {"stimuli", "none"}, optional
        "stimuli": the unbiased estimate of Song et al. 2012. "none": as published in Kornblith et al. 2019.
    stimulus_groups : str, optional
        A stimulus coord of `a`, such as "burst", whose groups of dependent stimuli are halved whole for the interval.
    n_permutations : int, optional
        Number of times that the stimuli of `b` are shuffled, at least 19.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed.

    Returns
    -------
    Dataset
        `estimate`, with `estimate_low` and `estimate_high` for other stimuli, and `p_value`, one-sided. attrs:
        `method`, `quantity`, `n_stimuli`, and the settings.

    Raises
    ------
    ValueError
        Fewer than 8 common stimuli, or copies of one photograph among them; NaN, also of missing repetitions; a system
        whose responses share nothing between repetitions; settings out of range.

    See Also
    --------
    rsa : The same question by dissimilarities.
    procrustes : Whether one system is a rotation of the other.
    neurosuper.superposition.soft_matching : Whether single units correspond, which this cannot show.

    Notes
    -----
    HSIC = (tr K̃ L̃ + 1ᵀK̃1 1ᵀL̃1 / ((n − 1)(n − 2)) − 2 1ᵀK̃L̃1 / (n − 2)) / (n (n − 3)), and CKA = HSIC(K, L) / √(HSIC(K,
    K) HSIC(L, L)). All terms are computed from products of items or of stimuli, whichever are fewer. As a ratio the
    result has a small bias left where one of the terms below the root is uncertain.

    References
    ----------
    Kornblith, Norouzi, Lee and Hinton 2019, "Similarity of neural network representations revisited", ICML, eq. 3 to 5.
    Song et al. 2012, "Feature selection via dependence maximization", JMLR 13, eq. 5. Murphy, Zylberberg and Fyshe
    2024, arXiv 2405.01012.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> def system(values):
    ...     names = {"stimulus": np.arange(60).astype(str), "unit": np.arange(values.shape[1]).astype(str)}
    ...     return xr.DataArray(values, names, ("stimulus", "unit"))
    >>> a, b = (system(rng.normal(size=(60, 500))) for _ in range(2))
    >>> found = cka(a, b, n_permutations=19)
    >>> bool(abs(found.estimate) < 0.1), bool(cka(a, b, debias="none", n_permutations=19).estimate > 0.8)
    (True, True)
    """
    check_one_of("debias", debias, get_args(Debias))
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    seed = seed_or_new(random_state)
    a, b = common_systems(a, b, MIN_STIMULI, repeated=True)
    n = a.sizes["stimulus"]
    every = np.arange(n)
    A, B = (_System(_repetitions_first(each)).rows(every) for each in (a, b))

    def statistic(rows: np.ndarray) -> float:
        first, second = (A, B) if len(rows) == n else (A.rows(rows), B.rows(rows))
        own = _own(first, debias) * _own(second, debias)
        return float(_across(first, second, debias) / np.sqrt(own)) if own > 0 else np.nan

    estimate = statistic(every)
    if not np.isfinite(estimate):
        raise ValueError("the repetitions of a system share no signal, so CKA is not defined; select reliable units")
    columns: dict[str, Any] = {"estimate": estimate}
    if n_resamples:
        groups = None if stimulus_groups is None else groups_of(a, stimulus_groups)
        found = halves_interval(statistic, n, n_resamples=n_resamples, stimulus_groups=groups, random_state=seed)
        columns |= {f"estimate_{end}": float(found[f"estimate_{end}"]) for end in ("low", "high")}
    # shuffled stimuli change only the numerator
    rng, scale = np.random.default_rng([seed, 1]), np.sqrt(_own(A, debias) * _own(B, debias))
    bar = progress(range(n_permutations), desc="permutations", unit="draw", leave=False)
    draws = [_across(A, _System(B.A[:, rng.permutation(n)]), debias) / scale for _ in bar]
    columns["p_value"] = p_of_draws(estimate, np.array(draws))
    attrs = {"method": "linear CKA", "quantity": "CKA", "debias": debias, "n_stimuli": n}
    attrs |= {"n_repetitions_a": len(A.A), "n_repetitions_b": len(B.A)}
    attrs |= {"n_permutations": int(n_permutations), "n_resamples": int(n_resamples), "random_state": seed}
    return xr.Dataset(columns, attrs=attrs)


def _repetitions_first(system: xr.DataArray) -> np.ndarray:
    values = system.values.astype(float)
    return values[None] if values.ndim == 2 else np.moveaxis(values, 1, 0)


def _own(system: _System, debias: str) -> float:
    """Return HSIC(K, K); of different repetitions, if there are several: their noise is independent."""
    m = len(system.A)
    if m == 1:
        return _hsic(system.A[0], system.A[0], debias)
    return float(np.mean([_hsic(system.A[i], system.A[j], debias) for i in range(m) for j in range(i)]))


def _across(a: _System, b: _System, debias: str) -> float:
    """Return the mean HSIC of the repetitions of two systems."""
    return float(np.mean([_hsic(A, B, debias) for A in a.A for B in b.A]))


def _hsic(A: np.ndarray, B: np.ndarray, debias: str) -> float:
    """Return the dependence of two systems (stimulus, item) with products of their items or stimuli."""
    n = len(A)
    products = A.shape[1] * B.shape[1] < n * n
    trace = ((A.T @ B) ** 2).sum() if products else ((A @ A.T) * (B @ B.T)).sum()
    if debias == "none":
        return float(trace) / (n - 1) ** 2
    diagonal_a, diagonal_b = (np.einsum("si,si->s", X, X) for X in (A, B))
    trace -= diagonal_a @ diagonal_b
    sum_a, sum_b = A @ A.sum(axis=0) - diagonal_a, B @ B.sum(axis=0) - diagonal_b  # K̃ 1 and L̃ 1
    both = sum_a.sum() * sum_b.sum() / ((n - 1) * (n - 2))
    return float(trace + both - 2 * (sum_a @ sum_b) / (n - 2)) / (n * (n - 3))
