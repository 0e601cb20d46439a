"""Results of one measure by name, as plot functions take them: of systems, or of finders in systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import xarray as xr

__all__ = ["Named", "Results", "check_results", "group_by_system"]

SEPARATOR = " · "  # between the names of a system and a finder
Results = xr.Dataset | Mapping[str, xr.Dataset]


class Named(NamedTuple):
    """A result with the name that a user gave it, and the system and finder in this name.

    A name without a finder is both the system and the finder.
    """

    name: str
    system: str
    finder: str
    values: xr.Dataset


def check_results(result: Results, source: str, needed: Sequence[str]) -> list[Named]:
    """Return results with their names; a single result has the name "".

    Parameters
    ----------
    result : Dataset, or mapping of name to Dataset
    source : str
        The public function that returns such results.
    needed : sequence of str
        Variables that each of them must have.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one that lacks a variable.
    """
    results = {"": result} if isinstance(result, xr.Dataset) else result
    if not isinstance(results, Mapping) or not all(isinstance(value, xr.Dataset) for value in results.values()):
        raise TypeError(f"result must be a Dataset from {source}, or {{name: Dataset, …}}; got {type(result).__name__}")
    if not results:
        raise ValueError(f"result is empty; pass {{name: {source}(…), …}}")
    named = []
    for name, values in results.items():
        if missing := [each for each in needed if each not in values]:
            whose = f"the result of {name!r}" if name else "result"
            raise ValueError(f"{whose} lacks {', '.join(missing)}; pass what {source} returns")
        system, separator, finder = str(name).rpartition(SEPARATOR)
        named.append(Named(str(name), system if separator else str(name), finder, values))
    return named


def group_by_system(named: Sequence[Named]) -> dict[str, list[Named]]:
    """Return results by the names of systems; those whose names have no finder are together, of the system ""."""
    with_finders = any(each.system != each.finder for each in named)
    groups: dict[str, list[Named]] = {}
    for each in named:
        groups.setdefault(each.system if with_finders else "", []).append(each)
    return groups
