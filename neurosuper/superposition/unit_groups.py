"""Groups of units that a combination is made of: pairs, or the units with a weight in a direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._memory import memory_of_machine
from neurosuper.directions.projection import check_directions
from neurosuper.responses import name_some

MAX_UNITS = 32  # of a direction: with more, shuffled units would outweigh all else in time and memory
BYTES_PER_PAIR = 600  # leading stimuli (240, twice while they are joined), labels and scores of a pair
Pairs = Literal["all"] | Sequence[tuple[str, str]] | xr.DataArray


class UnitGroups(NamedTuple):
    """Units of each combination.

    Parameters
    ----------
    labels : array of str (group,)
    members : array of int (group, member)
        Positions of units, the one with the largest weight first; smaller groups repeat their first unit.
    weights : array (group, member)
        Of responses divided by their standard deviation; 0 where a unit is repeated.
    """

    labels: np.ndarray
    members: np.ndarray
    weights: np.ndarray

    def take(self, positions: np.ndarray | slice) -> UnitGroups:
        """Return the groups at these positions."""
        return UnitGroups(*(each[positions] for each in self))


def read_groups(pairs: Pairs, units: pd.Index, scale: np.ndarray) -> UnitGroups:
    """Return the groups that a user asks for.

    Parameters
    ----------
    pairs : "all", sequence of (str, str), or DataArray (direction, unit)
    units : Index
        Labels of the units that vary, in order.
    scale : array (unit,)
        Their standard deviations.

    Raises
    ------
    ValueError
        Unknown, equal or repeated units; fewer than two units; directions with fewer than two weights, or with many.
    """
    if isinstance(pairs, xr.DataArray):
        return _of_directions(check_directions(pairs), units, scale)
    at = _of_pairs(pairs, units)
    labels = np.array([f"{a} & {b}" for a, b in np.asarray(units, str)[at].tolist()])
    return UnitGroups(labels, at, np.ones(at.shape))


def _of_pairs(pairs: Literal["all"] | Sequence[tuple[str, str]], units: pd.Index) -> np.ndarray:
    """Return the positions of the two units of each pair `(pair, 2)`."""
    if isinstance(pairs, str) and pairs == "all":
        if len(units) < 2:
            raise ValueError("synergy needs at least 2 units that vary, got 1; record or select more")
        n_pairs = len(units) * (len(units) - 1) // 2
        if (n_bytes := BYTES_PER_PAIR * n_pairs) > memory_of_machine() / 2:
            raise ValueError(
                f"all {n_pairs} pairs of {len(units)} units take {n_bytes / 1e9:.3g} GB, more than half of this "
                "machine's memory; select fewer units, or name the pairs"
            )
        return np.stack(np.triu_indices(len(units), 1), axis=1)
    labels = [tuple(pair) for pair in pairs] if not isinstance(pairs, str) else []
    if not labels or any(len(pair) != 2 or pair[0] == pair[1] for pair in labels):
        raise ValueError(
            f"pairs must be 'all', directions, or pairs of two different units, such as [('a', 'b')], got {pairs!r:.60}"
        )
    at = units.get_indexer(np.ravel(labels)).reshape(-1, 2)
    if (at < 0).any():
        unknown = np.array(labels)[at < 0]
        raise ValueError(f"pairs name unit {name_some(unknown)}, but the units that vary are {name_some(units)}")
    if len({frozenset(pair) for pair in labels}) < len(labels):
        raise ValueError("pairs must contain each pair of units once; leave out those that are repeated")
    return at


def _of_directions(directions: xr.DataArray, units: pd.Index, scale: np.ndarray) -> UnitGroups:
    """Return the units with a weight in each direction, the largest first."""
    weighted = directions.unit.values[(directions.values != 0).any(0)]
    if len(unknown := np.setdiff1d(weighted, units)):
        raise ValueError(
            f"directions have weights of unit {name_some(unknown)}, which does not vary or has no responses; "
            "leave these weights out"
        )
    D = directions.reindex(unit=units, fill_value=0).values.astype(float)
    counts = (D != 0).sum(1)
    if (bad := (counts < 2) | (counts > MAX_UNITS)).any():
        names = name_some(directions.direction.values[bad])
        raise ValueError(
            f"direction {names} has {counts[bad][0]} weights that are not 0, and synergy is for 2 to {MAX_UNITS} "
            "units; keep the largest with sparsify(directions, 3)[0]"
        )
    members = np.argsort(-np.abs(D), axis=1, kind="stable")[:, : counts.max()]
    # A weight of responses is one of responses divided by their standard deviation, times this.
    weights = np.take_along_axis(D * scale, members, axis=1)
    return UnitGroups(directions.direction.values, np.where(weights != 0, members, members[:, :1]), weights)
