"""Conditions on columns of a table, which select units or presentations."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from numbers import Real
from typing import cast

import numpy as np

from neurosuper._labels import as_label
from neurosuper.loaders.nwb.records import MISSING, listing
from neurosuper.responses import name_some

__all__ = ["rows_that_meet"]

OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def rows_that_meet(
    where: Mapping[str, object], values_of: Callable[[str], np.ndarray], n_rows: int, *, setting: str, what: str
) -> np.ndarray:
    """Return a mask of the rows that meet all conditions; if no row does, the error says what the columns contain.

    Parameters
    ----------
    where : mapping of column to condition
        A value, a list of allowed values, `(operator, number)`, or a list of such pairs, which must all hold.
    values_of : function
        Returns the values of a column.
    n_rows : int
        Number of rows of the table.
    setting, what : str
        Name of the setting, and of what a row is, in errors.

    Returns
    -------
    array of bool (row,)

    Raises
    ------
    ValueError
        No row is left, not a condition, or not a mapping.

    Examples
    --------
    >>> import numpy as np
    >>> table = {"snr": np.array([1.0, 2.5, 9.0])}
    >>> where = {"snr": [(">", 2), ("<", 5)]}
    >>> rows_that_meet(where, table.get, 3, setting="units_where", what="unit").tolist()
    [False, True, False]
    """
    if not isinstance(where, Mapping):
        raise ValueError(f"{setting} must map columns to conditions, such as {{'correct': True}}, got {where!r}")
    columns = {name: values_of(name) for name in where}
    passed = {name: _meets(columns[name], wanted, f"{setting}[{name!r}]") for name, wanted in where.items()}
    kept = np.logical_and.reduce([np.ones(n_rows, bool), *passed.values()])
    if not kept.any():
        reason = ", ".join(_describe(name, columns[name], mask) for name, mask in passed.items())
        raise ValueError(f"no {what} left of {n_rows}: {reason or 'the table is empty'}; loosen {setting}")
    return kept


def _describe(name: str, values: np.ndarray, mask: np.ndarray) -> str:
    if mask.any() or not len(values):
        return f"{name} keeps {mask.sum()}"
    return f"{name} keeps 0 (it has {name_some([as_label(value) for value in np.unique(values).tolist()])})"


def _is_comparison(wanted: object) -> bool:
    """Return whether a condition is (operator, number); a study file has lists in place of tuples."""
    is_pair = isinstance(wanted, list | tuple) and len(wanted) == 2
    return is_pair and isinstance(cast(tuple, wanted)[0], str) and cast(tuple, wanted)[0] in OPERATORS


def _meets(values: np.ndarray, wanted: object, setting: str) -> np.ndarray:
    if isinstance(wanted, list | tuple) and len(wanted) and all(map(_is_comparison, wanted)):
        return np.logical_and.reduce([_meets(values, each, setting) for each in wanted])
    if not _is_comparison(wanted):
        if isinstance(wanted, tuple):
            raise ValueError(
                f"{setting} is {wanted!r}; a condition is a value, a list of values, or (operator, number) with one of "
                f"{' '.join(OPERATORS)} (or a list of such pairs, which must all hold)"
            )
        allowed = listing(wanted)
        numbers = [float(value) for value in allowed if isinstance(value, Real)]
        passed = np.array([value in allowed for value in values.tolist()], dtype=bool)
        return passed | np.isin(_as_numbers(values), numbers) if numbers and values.dtype.kind == "U" else passed
    sign, number = cast(tuple[str, object], wanted)
    values = _as_numbers(values)
    if values.dtype.kind not in "biuf" or not isinstance(number, Real):
        raise ValueError(
            f"{setting} compares {values.dtype} with {number!r}; operators compare numbers, pass a value or a list of "
            "values instead"
        )
    return OPERATORS[sign](values, number)


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """Return numbers that were written as text as numbers, NaN where there is none; other values as they are."""
    if values.dtype.kind == "U":
        with suppress(ValueError):
            return np.array([np.nan if value.lower() in MISSING else float(value) for value in values.tolist()])
    return values
