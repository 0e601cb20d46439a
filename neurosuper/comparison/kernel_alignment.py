"""Linear CKA: how similar two systems are in the products of their responses to any two stimuli.

A (stimulus, item) centred responses or codes of a system, K = A Aᵀ (stimulus, stimulus), K̃ the same without its
diagonal. n stimuli, p items.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.kernel_products import Items, Stimuli
from neurosuper.comparison.shared_stimuli import groups_of, join_systems, shuffle_stimuli_order
from neurosuper.inference import halves_interval
from neurosuper.inference.null_draws import p_of_draws

__all__ = ["cka"]

Debias = Literal["stimuli", "both", "none"]
MIN_STIMULI = 8  # halves of 4, the least that the unbiased estimate needs
# Products of stimuli are used if they have fewer numbers than MOST_NUMBERS × a system, and take less time: by both ways
# permutations take the same time where p q = 6 n, and halves where p q = 90 n (600 stimuli, one core).
MOST_NUMBERS, SPEED = 2, 32


class _System(NamedTuple):
    """Products of a system, their diagonals, and for `debias="both"` its items, of the same stimuli."""

    products: Items | Stimuli
    d: np.ndarray  # (repetition, stimulus), the diagonals of K
    items: Items | None

    @classmethod
    def of(cls, products: Items | Stimuli, items: Items | None) -> _System:
        return cls(products, products.diagonals(), items)

    def rows(self, positions: np.ndarray) -> _System:
        return self.of(self.products.rows(positions), None if self.items is None else self.items.rows(positions))

    def mean(self) -> _System:
        """Return what has the same mean HSIC with another system as all repetitions, and fewer of them if it can."""
        if isinstance(self.products, Items):
            return self
        return _System(self.products.mean(), self.d.mean(axis=0, keepdims=True), self.items)


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
    debias : {"stimuli", "both", "none"}, optional
        "stimuli": the unbiased estimate of Song et al. 2012. "both": units, too, are a sample, and the result is for
        the populations that they were sampled from: few units make these look less similar than they are. It is for
        two separate samples, not for a system with itself or with its own codes. "none": as published in Kornblith et
        al. 2019.
    stimulus_groups : str, optional
        A stimulus coord of `a`, such as "burst", whose groups of dependent stimuli are halved whole for the interval,
        and change places whole, with others of the same size, for p.
    n_permutations : int, optional
        Number of times that the stimuli of `b` are shuffled, at least 19; 0 computes no p.
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
        whose responses share nothing between repetitions, or, with `debias="both"`, between items, or with one item;
        settings out of range.

    See Also
    --------
    rsa : The same question by dissimilarities.
    procrustes : Whether one system is a rotation of the other.
    neurosuper.superposition.soft_matching : Whether single units correspond, which this cannot show.

    Notes
    -----
    HSIC = (tr K̃ L̃ + 1ᵀK̃1 1ᵀL̃1 / ((n − 1)(n − 2)) − 2 1ᵀK̃L̃1 / (n − 2)) / (n (n − 3)), and CKA = HSIC(K, L) / √(HSIC(K,
    K) HSIC(L, L)). With "both", K is a mean over items, and HSIC(K, K) leaves out the products of each item with
    itself, as the unbiased estimate of a squared mean does. As a ratio the result has a small bias left where one of
    the terms below the root is uncertain.

    All terms are computed from products of items or of stimuli, whichever take less. Products of stimuli are added up
    over blocks of items, which are read one after the other; products of items need the systems in memory, in their own
    dtype. So 10,000 stimuli × 2,048 units in dask arrays need less than 1 GiB on top of
    imports (`make bench`).

    References
    ----------
    Kornblith, Norouzi, Lee and Hinton 2019, "Similarity of neural network representations revisited", ICML, eq. 3 to 5.
    Song et al. 2012, "Feature selection via dependence maximization", JMLR 13, eq. 5. Murphy, Zylberberg and Fyshe
    2024, arXiv 2405.01012. Chun, Canatar, Chung and Lee 2025, arXiv 2502.15104 (samples of units).

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
    if n_permutations != 0:
        check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05; 0 computes none")
    seed = seed_or_new(random_state)
    a, b = join_systems(a, b, MIN_STIMULI, repeated=True)
    n = a.sizes["stimulus"]
    A, B = _read(a, b, debias)

    def statistic(rows: np.ndarray) -> float:
        first, second = (A, B) if len(rows) == n else (A.rows(rows), B.rows(rows))
        own = _own(first, debias), _own(second, debias)
        return float(_across(first, second, debias) / np.sqrt(own[0] * own[1])) if min(own) > 0 else np.nan

    estimate = statistic(np.arange(n))
    if not np.isfinite(estimate):
        between = "repetitions" if debias != "both" else "items"
        raise ValueError(f"the {between} of a system share no signal, so CKA is not defined; select reliable units")
    columns: dict[str, Any] = {"estimate": estimate}
    groups = None if stimulus_groups is None else groups_of(a, stimulus_groups)
    if n_resamples:
        found = halves_interval(statistic, n, n_resamples=n_resamples, stimulus_groups=groups, random_state=seed)
        columns |= {f"estimate_{end}": float(found[f"estimate_{end}"]) for end in ("low", "high")}
    if n_permutations:
        # shuffled stimuli change only the numerator
        rng, scale = np.random.default_rng([seed, 1]), np.sqrt(_own(A, debias) * _own(B, debias))
        bar = progress(range(n_permutations), desc="permutations", unit="draw", leave=False)
        first, second = A.mean(), B.mean()
        draws = [_across(first, second, debias, shuffle_stimuli_order(n, groups, rng)) / scale for _ in bar]
        columns["p_value"] = p_of_draws(estimate, np.array(draws))
    attrs = {"method": "linear CKA", "quantity": "CKA", "debias": debias, "n_stimuli": n}
    attrs |= {"n_repetitions_a": len(A.d), "n_repetitions_b": len(B.d)}
    attrs |= {"n_permutations": int(n_permutations), "n_resamples": int(n_resamples), "random_state": seed}
    return xr.Dataset(columns, attrs=attrs)


def _read(a: xr.DataArray, b: xr.DataArray, debias: str) -> tuple[_System, _System]:
    """Return the products of two systems: of items, or of stimuli, where these are small and take less time."""
    n, p, q = len(a), a.shape[-1], b.shape[-1]
    if debias == "both" and min(p, q) < 2:
        raise ValueError("debias='both' needs at least 2 items in each system; use 'stimuli'")
    of_items = n > MOST_NUMBERS * max(p, q) or SPEED * n > p * q

    def read(system: xr.DataArray) -> _System:
        items = Items.read(system) if of_items or debias == "both" else None
        products = items if of_items and items is not None else Stimuli.read(system)
        return _System.of(products, items if debias == "both" else None)

    return read(a), read(b)


def _own(system: _System, debias: str) -> float:
    """Return HSIC(K, K); of different repetitions, if there are several: their noise is independent."""
    m = len(system.d)
    pairs = [(i, j) for i in range(m) for j in range(i)] or [(0, 0)]
    found = [_hsic(system, i, system, j, debias) for i, j in pairs]
    if system.items is not None:
        # K / p = Σ x xᵀ / p, over p items x, estimates κ, the mean of x xᵀ over the population. HSIC is bilinear, so
        # HSIC(K, K) is the sum of HSIC(x xᵀ, y yᵀ) over all pairs of items, and that of two different items is
        # HSIC(κ, κ) on average: HSIC(κ, κ) = (HSIC(K, K) − Σ HSIC(x xᵀ, x xᵀ)) / (p (p − 1)). Here it is multiplied by
        # p², as HSIC(K, K) is.
        p = system.items.A.shape[2]
        found = [(h - _hsic_of_items(system.items, *pair)) * p / (p - 1) for h, pair in zip(found, pairs, strict=True)]
    return float(np.mean(found))


def _across(a: _System, b: _System, debias: str, order: np.ndarray | None = None) -> float:
    """Return the mean HSIC of the repetitions of two systems, the stimuli of the second in any order."""
    pairs = [(i, j) for i in range(len(a.d)) for j in range(len(b.d))]
    return float(np.mean([_hsic(a, i, b, j, debias, order) for i, j in pairs]))


def _hsic(a: _System, i: int, b: _System, j: int, debias: str, order: np.ndarray | None = None) -> float:
    """Return the dependence of repetition i of a system on j of another."""
    n = a.d.shape[1]
    trace = a.products.trace(i, b.products, j, order)  # type: ignore[arg-type]
    if debias == "none":
        return trace / (n - 1) ** 2
    d, e = a.d[i], b.d[j] if order is None else b.d[j][order]
    return float(unbiased_hsic(trace, d.sum() * e.sum(), d @ e, n))


def unbiased_hsic(trace: Any, sums: Any, common: Any, n: int) -> Any:
    """Return HSIC from tr K L, tr K tr L and the product of the diagonals of K and L.

    Responses are centred, so that the rows of K have the sum 0, and K̃ 1 is minus its diagonal.
    """
    return (trace - common + sums / ((n - 1) * (n - 2)) - 2 * common / (n - 2)) / (n * (n - 3))


def _hsic_of_items(items: Items, i: int, j: int) -> float:
    """Return Σ HSIC(x xᵀ, y yᵀ) over items, x of one repetition and y the same item of another."""
    across, common, first, second = np.zeros((4, items.A.shape[2]))
    for X, Y in zip(items.blocks(i, items.step()), items.blocks(j, items.step()), strict=True):
        across += np.einsum("si,si->i", X, Y)
        X, Y = X**2, Y**2
        common += np.einsum("si,si->i", X, Y)
        first += X.sum(axis=0)
        second += Y.sum(axis=0)
    return float(unbiased_hsic(across**2, first * second, common, items.A.shape[1]).sum())
