"""Systems for twins: on their common stimuli, z-scored, without what all items share, with halves of repetitions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from neurosuper.comparison.matching import MIN_CEILING, MIN_STIMULI, _correlate_columns, _fit_stimuli, _learn
from neurosuper.comparison.shared_stimuli import common_systems
from neurosuper.repetitions import split_repetitions


class PreparedSystem(NamedTuple):
    """A system without what is removed.

    Parameters
    ----------
    averages : DataArray (stimulus, item)
        As given, averaged over repetitions.
    Z : array (stimulus, item)
        In units of the stimuli to fit.
    halves : tuple of two arrays, or None
        The same of two halves of the repetitions; None without repetitions.
    """

    averages: xr.DataArray
    Z: np.ndarray
    halves: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, system: xr.DataArray, is_fit: np.ndarray, remove: str, seed: int) -> PreparedSystem:
        """Return a system, prepared on the stimuli to fit."""
        has_repetitions = "repetition" in system.dims
        averages = system.mean("repetition") if has_repetitions else system
        learned = _learn(averages, is_fit, remove)
        halves = None
        if has_repetitions:
            first, second = split_repetitions(system, random_state=seed)
            halves = learned.apply(first.values.astype(float)), learned.apply(second.values.astype(float))
        return cls(averages, learned.apply(averages.values.astype(float)), halves)


def prepare_pair(
    a: xr.DataArray, b: xr.DataArray, remove: str, seed: int
) -> tuple[PreparedSystem, PreparedSystem, np.ndarray]:
    """Return two systems on their common stimuli, in order of labels, and which of these are to fit.

    In order of labels, so that no other order matters for what is drawn at random; items of `a` keep their order.
    """
    a, b = common_systems(a, b, 2 * MIN_STIMULI, repeated=True)
    a, b = a.sortby("stimulus"), b.sortby(["stimulus", b.dims[-1]])
    is_fit = _fit_stimuli(a, seed)
    first, second = (PreparedSystem.of(each, is_fit, remove, seed) for each in (a, b))
    return first, second, is_fit


def reliability(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the reliability of all repetitions, 2r/(1 + r), from halves `(stimulus, item)` (Spearman and Brown)."""
    r = _correlate_columns(first, second)
    return 2 * r / (1 + r)


def ceilings(of_a: np.ndarray | None, of_b: np.ndarray | None, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return √(ρ₁ ρ₂), and r divided by it, NaN if it is below 0.1; the reliability None is that of no repetitions."""
    ones = np.ones(r.shape)
    rho_a, rho_b = (ones if each is None else each * ones for each in (of_a, of_b))
    # noise alone can make a reliability negative, which leaves nothing to explain
    ceiling = np.sqrt(np.maximum(rho_a, 0) * np.maximum(rho_b, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return ceiling, np.where(ceiling >= MIN_CEILING, r / ceiling, np.nan)
