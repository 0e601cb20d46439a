"""Factors: what is known of each stimulus besides its image, as labels or numbers, and as levels to count.

f (stimulus,) one factor; its levels are the values that it takes, or bins of equal counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._labels import as_label, check_labels, name_some

MIN_PER_LEVEL = 5  # stimuli of each level and, on average, of each bin: estimates of information are biased upward
MIN_OTHERS = 15  # scored stimuli outside the most frequent level: all are in one half in one of 10⁴ draws
Factors = xr.Dataset | Sequence[str]


class Factor(NamedTuple):
    """One factor of the stimuli."""

    name: str
    levels: np.ndarray  # (stimulus,) number of the level of each stimulus, from 0
    names: list[str]  # of the levels
    values: np.ndarray | None  # (stimulus,) the numbers; None for labels

    def take(self, rows: np.ndarray) -> Factor:
        """Return the factor of some stimuli."""
        return self._replace(levels=self.levels[rows], values=None if self.values is None else self.values[rows])


def read_factors(codes: xr.DataArray, factors: Factors, bins: int, is_fit: np.ndarray) -> list[Factor]:
    """Return the factors of the stimuli of codes, in their order.

    Text and truth values are labels. Numbers with at most `bins` values, each of at least 5 stimuli, have these as
    levels; others are divided into at most `bins` levels with equally many stimuli. Each level has stimuli to fit on
    and others to score on.

    Raises
    ------
    TypeError
        Not a Dataset or names of coords; a factor that is neither labels nor numbers.
    ValueError
        Fewer than two factors; a stimulus without factors; missing or infinite values; a factor with one level, with a
        level of fewer than 5 stimuli, or with none of it to fit or to score on.
    """
    table = _table_of(codes, factors)
    if len(table) < 2:
        raise ValueError(f"measures of disentanglement need at least 2 factors, got {name_some(list(table)) or 'none'}")
    return [_read(str(name), table[name], bins, is_fit) for name in table]


def _table_of(codes: xr.DataArray, factors: Factors) -> xr.Dataset:
    """Return the factors of the stimuli of codes as a Dataset (stimulus)."""
    if isinstance(factors, xr.Dataset):
        factors = check_labels(factors, "stimulus", "factors")
        if odd := [str(name) for name, column in factors.data_vars.items() if column.dims != ("stimulus",)]:
            raise ValueError(f"each factor must have the dim stimulus alone; {name_some(odd)} has others; select first")
        missing = codes.indexes["stimulus"].difference(factors.indexes["stimulus"])
        if len(missing):
            raise ValueError(
                f"factors lack {len(missing)} of {codes.sizes['stimulus']} stimuli of the codes: {name_some(missing)}; "
                "add them, or keep the shared stimuli with neurosuper.align(codes, factors)"
            )
        return factors.sel(stimulus=codes.stimulus.values).reset_coords(drop=True)
    if isinstance(factors, str) or not isinstance(factors, Sequence) or not all(isinstance(n, str) for n in factors):
        raise TypeError(
            "factors must be a Dataset with the dim stimulus, or a list of names of stimulus coords of the codes, got "
            f"{factors if isinstance(factors, str) else type(factors).__name__!r}"
        )
    own = [str(name) for name, coord in codes.coords.items() if coord.dims == ("stimulus",) and name != "stimulus"]
    if unknown := [name for name in factors if name not in own]:
        raise ValueError(f"codes have no stimulus coord {name_some(unknown)}; they have {name_some(own, 20) or 'none'}")
    return xr.Dataset({name: codes[name].drop_vars(own) for name in factors})


def _read(name: str, column: xr.DataArray, bins: int, is_fit: np.ndarray) -> Factor:
    values = np.asarray(column.values)
    missing = pd.isnull(values) | (values == "" if values.dtype.kind in "OUS" else False)
    if missing.any():
        labels = name_some(column.stimulus.values[missing])
        raise ValueError(
            f"factor {name!r} is missing for {int(missing.sum())} of {len(values)} stimuli: {labels}; leave them out"
        )
    if values.dtype.kind in "iuf" or (values.dtype.kind == "O" and all(_is_number(v) for v in values.tolist())):
        return _of_numbers(name, values.astype(float), bins, is_fit)
    if values.dtype.kind not in "bOUS":
        raise TypeError(f"factor {name!r} must be labels or numbers, got dtype {values.dtype}; convert it first")
    levels, names = pd.factorize(np.array([as_label(value) for value in values.tolist()], dtype=str), sort=True)
    factor = Factor(name, levels, [str(n) for n in names], None)
    return _checked(factor, is_fit, "drop them, or give them the label of another")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def _of_numbers(name: str, values: np.ndarray, bins: int, is_fit: np.ndarray) -> Factor:
    if not np.isfinite(values).all():
        raise ValueError(f"factor {name!r} has {int((~np.isfinite(values)).sum())} infinite values; leave them out")
    found, levels = np.unique(values, return_inverse=True)
    names = [as_label(value) for value in found.tolist()]
    if len(found) > bins or (len(found) > 2 and not _serve(_counts(levels, is_fit)).all()):
        # inner quantiles; those that are equal make one level, so that ties are never divided
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        levels = _merge_small(np.searchsorted(edges, values, side="left"), is_fit)
        names = [f"bin {level + 1}" for level in range(levels.max() + 1)]
    return _checked(Factor(name, levels, names, values), is_fit, "lower `bins`, or transform this factor")


def _counts(levels: np.ndarray, is_fit: np.ndarray) -> np.ndarray:
    """Return the numbers of stimuli of each level to fit and to score on (level, 2)."""
    n = int(levels.max()) + 1
    return np.stack([np.bincount(levels[is_fit], minlength=n), np.bincount(levels[~is_fit], minlength=n)], 1)


def _serve(counts: np.ndarray) -> np.ndarray:
    """Return which counts (…, 2) are enough for a level."""
    return np.asarray((counts.sum(-1) >= MIN_PER_LEVEL) & (counts.min(-1) > 0))


def _merge_small(levels: np.ndarray, is_fit: np.ndarray) -> np.ndarray:
    """Merge levels that have too few stimuli, because of ties or the split, with the next ones."""
    counts = _counts(levels, is_fit)
    merged, current, size = np.zeros(len(counts), int), 0, np.zeros(2, int)
    for level, count in enumerate(counts):
        merged[level], size = current, size + count
        if _serve(size):
            current, size = current + 1, np.zeros(2, int)
    if size.any() and current:
        merged[merged == current] = current - 1
    return np.asarray(merged[levels])


def _checked(factor: Factor, is_fit: np.ndarray, remedy: str) -> Factor:
    counts = _counts(factor.levels, is_fit)
    if len(counts) < 2:
        raise ValueError(
            f"factor {factor.name!r} has one level of at least {MIN_PER_LEVEL} stimuli, {factor.names[0]!r}; leave it "
            "out"
        )
    if (few := counts.sum(1) < MIN_PER_LEVEL).any():
        raise ValueError(
            f"factor {factor.name!r} has fewer than {MIN_PER_LEVEL} stimuli of the level "
            f"{name_some(np.array(factor.names)[few])}; {remedy}"
        )
    for side, use in enumerate(("fit", "score")):
        if (none := counts[:, side] == 0).any():
            raise ValueError(
                f"factor {factor.name!r} has no stimulus to {use} on of the level "
                f"{name_some(np.array(factor.names)[none])}; {remedy}, or mark some of each level in the coord `split`"
            )
    return factor


def require_levels_in_halves(factors: Sequence[Factor]) -> None:
    """Raise an error for factors that may have a single level in a random half of the scored stimuli."""
    for factor in factors:
        if (others := len(factor.levels) - int(np.bincount(factor.levels).max())) < MIN_OTHERS:
            raise ValueError(
                f"all but {others} of {len(factor.levels)} stimuli to score on have one level of factor "
                f"{factor.name!r}, and intervals need {MIN_OTHERS} others; leave it out, or pass n_resamples=0"
            )
