"""Two systems on the stimuli that partners are chosen on, and on those that they are scored on.

What all items of a system share, such as contrast, is learned on the former and taken off both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh

from neurosuper.comparison.pairings import correlate_columns
from neurosuper.repetitions import split_repetitions
from neurosuper.responses import name_some, split_stimuli

Remove = Literal["common", "none"]
MIN_STIMULI = 10  # of each half
MIN_CEILING = 0.1  # below, r divided by it is noise
MOST_EXACT = 100  # rows whose eigenvectors are all computed; Lanczos iterations find one of more, to rounding


class Half(NamedTuple):
    """A system on the stimuli to match on, and on those to score."""

    fit: np.ndarray  # (stimulus, item)
    score: np.ndarray


class Learned(NamedTuple):
    """What is taken off the codes of a system, learned on the stimuli to match on."""

    mean: np.ndarray  # (item,)
    scale: np.ndarray
    common: np.ndarray | None  # (item,), of unit length

    @classmethod
    def of(cls, averages: xr.DataArray, is_fit: np.ndarray, remove: str) -> Learned:
        """Return mean, scale and first principal component of the stimuli to match on."""
        item, X = averages.dims[-1], averages.values.astype(float)
        for part in (is_fit, ~is_fit):
            if (flat := X[part].min(axis=0) == X[part].max(axis=0)).any():
                names = name_some(averages[item].values[flat])
                raise ValueError(
                    f"{item} {names} does not vary on one half of the stimuli; mark the halves by split_stimuli and "
                    "drop those by drop_constant_units, or use another split"
                )
        mean, scale = X[is_fit].mean(axis=0), X[is_fit].std(axis=0)
        if remove == "none":
            return cls(mean, scale, None)
        if X.shape[1] < 2:
            raise ValueError(f"remove='common' leaves nothing of one {item}; use remove='none'")
        return cls(mean, scale, first_component((X[is_fit] - mean) / scale))

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Return z-scored codes without the component."""
        Z = (X - self.mean) / self.scale
        return Z if self.common is None else Z - np.outer(Z @ self.common, self.common)


class Prepared(NamedTuple):
    """A system without what is removed; with repetitions, also the averages over halves of them, to score."""

    half: Half
    repeats: tuple[np.ndarray, np.ndarray] | None  # (stimulus, item) each

    @classmethod
    def of(cls, system: xr.DataArray, is_fit: np.ndarray, remove: str, seed: int) -> Prepared:
        """Return a system of `common_systems`."""
        has_repetitions = "repetition" in system.dims
        averages = system.mean("repetition") if has_repetitions else system
        learned = Learned.of(averages, is_fit, remove)
        Z = learned.apply(averages.values.astype(float))
        repeats = None
        if has_repetitions:
            halves = split_repetitions(system.rename({system.dims[-1]: "unit"}), random_state=seed)
            one, other = (learned.apply(half.values[~is_fit].astype(float)) for half in halves)
            repeats = one, other
        return cls(Half(Z[is_fit], Z[~is_fit]), repeats)

    @property
    def reliability(self) -> np.ndarray | None:
        """That of each item on the stimuli to score, if there are repetitions."""
        return None if self.repeats is None else reliability(*self.repeats)


def reliability(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return that of all repetitions, from the correlation of two halves of them (Spearman and Brown)."""
    r = correlate_columns(one, other)
    with np.errstate(divide="ignore"):
        return 2 * r / (1 + r)


def ceilings(of_a: np.ndarray | None, of_b: np.ndarray | None, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return √(ρ₁ ρ₂), the largest r that two reliabilities allow, None that of no repetitions, and r divided by it.

    NaN where there is no r, and r divided by it also where it is below 0.1.
    """
    rho_a, rho_b = (np.ones(r.shape) if each is None else np.maximum(each, 0) for each in (of_a, of_b))
    ceiling = np.where(np.isfinite(r), np.sqrt(rho_a * rho_b), np.nan)  # noise alone can make one negative
    with np.errstate(divide="ignore", invalid="ignore"):
        return ceiling, np.where(ceiling >= MIN_CEILING, r / ceiling, np.nan)


def fit_stimuli(a: xr.DataArray, seed: int) -> np.ndarray:
    """Return which stimuli partners are chosen on."""
    marked = a if "split" in a.coords else split_stimuli(a, random_state=seed)
    is_fit, is_score = (marked.split.values == part for part in ("fit", "score"))
    if not (is_fit | is_score).all() or min(is_fit.sum(), is_score.sum()) < MIN_STIMULI:
        raise ValueError(
            f"{is_fit.sum()} common stimuli to match on ('fit') and {is_score.sum()} to score ('score') of {len(a)}: "
            f"mark all in the coord `split`, at least {MIN_STIMULI} each, or remove it with .drop_vars('split')"
        )
    return np.asarray(is_fit)


def first_component(Z: np.ndarray) -> np.ndarray:
    """Return the first principal component of centred columns, of unit length: (item,)."""
    is_wide = Z.shape[0] < Z.shape[1]
    # the eigenvector u of the smaller of Z Zᵀ and Zᵀ Z; the first right singular vector is Zᵀ u, or u itself
    products = Z @ Z.T if is_wide else Z.T @ Z
    if len(products) <= MOST_EXACT:
        u = eigh(products)[1][:, -1]
    else:
        u = eigsh(products, k=1, v0=np.random.default_rng(0).normal(size=len(products)))[1][:, 0]
    component = Z.T @ u if is_wide else u
    return component / np.linalg.norm(component)
