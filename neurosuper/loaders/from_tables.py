"""Responses from a table of pandas: rows are stimuli or trials, columns are units, and maybe labels and other facts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from neurosuper._labels import name_some
from neurosuper.loaders.labelling import stimulus_coords
from neurosuper.loaders.request import Request
from neurosuper.loaders.synonyms import UNIT_NAMES, usual_names
from neurosuper.loaders.trials import Trials, constant_columns, label_texts, plain_values, read_trials

__all__ = ["from_table"]


def from_table(table: pd.DataFrame, request: Request) -> tuple[xr.DataArray, Trials | None]:
    """Return an array (stimulus, unit), or (trial, unit) and its trials, with labels as coords.

    Parameters
    ----------
    table : DataFrame
        A row per stimulus or trial, and a column per unit.
    request : Request
        The names and labels that the user gave.

    Returns
    -------
    DataArray, Trials or None
        The array has coords `stimulus` (without trials) and `unit`.

    Raises
    ------
    ValueError
        Columns that are neither named nor numbers, or rows without labels.

    Examples
    --------
    >>> table = pd.DataFrame({"image": ["cat", "owl"], "u1": [1.0, 2.0]})
    >>> from_table(table, Request(stimuli="image"))[0].stimulus.values.tolist()
    ['cat', 'owl']
    """
    if request.dims is not None:
        table = _upright(table, tuple(request.dims), request)
    labels, table = _take_labels(table, request)
    units = _unit_columns(table, request)
    responses = table if units == list(table.columns) else table[units]
    others = {name: table[name].to_numpy() for name in table.columns.difference(responses.columns, sort=False)}
    row = "trial" if isinstance(labels, Trials) else "stimulus"
    array = xr.DataArray(_numbers(responses), dims=(row, "unit"), coords=_unit_coords(responses.columns, request))
    if isinstance(labels, Trials):
        return array, Trials(labels.labels, others | dict(labels.columns))
    array = array.assign_coords({name: ("stimulus", values) for name, values in labels.items()})
    return array.assign_coords(constant_columns([], np.arange(len(table)), others)), None


def _upright(table: pd.DataFrame, dims: tuple[str, ...], request: Request) -> pd.DataFrame:
    """Return a table with units as columns, whose dims the user gave."""
    row = "stimulus" if request.trials is None else "trial"
    if dims not in ((row, "unit"), ("unit", row)):
        raise ValueError(f"{request.what} is a table; dims must be {(row, 'unit')} or {('unit', row)}, got {dims}")
    return table if dims[1] == "unit" else table.T


def _take_labels(table: pd.DataFrame, request: Request) -> tuple[Trials | Mapping[str, Any], pd.DataFrame]:
    """Return the trials, or the coords of the stimuli, and the table without their columns."""
    stimuli, trials = request.stimuli, request.trials
    are_in_table = trials is None or _names_column(table, trials) or _names_level(table, trials)
    for given in (stimuli, trials) if are_in_table else ():
        if _names_column(table, given) or _names_level(table, given):
            texts = label_texts(_column(table, given), f"{given!r} of {request.what}")
            rest = table.drop(columns=[given]) if _names_column(table, given) else table
            if trials is not None:
                return Trials(texts, _other_levels(table, given)), rest
            return {"stimulus": texts} | _other_levels(table, given), rest
    known = [*map(str, table.columns), *(str(name) for name in table.index.names if name is not None)]
    if trials is not None:
        _check_number(found := read_trials(trials, stimuli, known), len(table), request)
        return found, table
    if stimuli is None:
        return _index_labels(table, request), table
    if isinstance(stimuli, str) and not Path(stimuli).exists():
        raise ValueError(
            f"stimuli={stimuli!r} is no column of {request.what} (which has {name_some(known, 10)}), nor a folder or "
            "zip file of images; pass a name, or a list of labels"
        )
    coords = stimulus_coords(stimuli)
    _check_number(Trials(coords["stimulus"]), len(table), request)
    return coords, table


def _names_column(table: pd.DataFrame, given: Any) -> bool:
    return isinstance(given, str) and table.columns.nlevels == 1 and given in table.columns


def _names_level(table: pd.DataFrame, given: Any) -> bool:
    return isinstance(given, str) and given in table.index.names


def _column(table: pd.DataFrame, name: str) -> pd.Series | pd.Index:
    return table[name] if _names_column(table, name) else table.index.get_level_values(name)


def _other_levels(table: pd.DataFrame, label: str) -> dict[str, Any]:
    """Return the named levels of the index except one; an index of one level without a name only numbers the rows."""
    return {
        str(name): plain_values(table.index.get_level_values(name))
        for name in table.index.names
        if name is not None and name != label
    }


def _check_number(trials: Trials, n_rows: int, request: Request) -> None:
    if len(trials.labels) != n_rows:
        raise ValueError(
            f"{request.what} has {n_rows} rows, but {len(trials.labels)} labels were given; give one for each row"
        )


def _index_labels(table: pd.DataFrame, request: Request) -> dict[str, Any]:
    """Return the labels of the index as coords of stimuli; rows that are only numbered have none."""
    index = table.index
    if index.nlevels > 1:
        raise ValueError(
            f"the rows of {request.what} have the levels {name_some(list(index.names), 10)}; pass stimuli= (or "
            "trials=, if rows are trials) the one that names the stimulus"
        )
    if isinstance(index, pd.RangeIndex) and index.name is None:
        texts = [name for name, dtype in table.dtypes.items() if not is_numeric_dtype(dtype)]
        such = f", such as {name_some(texts)}" if texts else ""
        raise ValueError(
            f"the rows of {request.what} have no stimulus labels; pass stimuli= the name of a column{such}, or a list "
            "of labels (or trials=, if rows are trials)"
        )
    return {"stimulus": label_texts(index, f"rows of {request.what}")}


def _unit_columns(table: pd.DataFrame, request: Request) -> list[Hashable]:
    """Return the columns of units: those that the user names, else all, which must then contain numbers."""
    names = list(table.columns)
    if len(set(names)) < len(names):
        raise ValueError(
            f"{request.what} has several columns called {name_some(table.columns[table.columns.duplicated()])}"
        )
    if request.units is not None and not isinstance(request.units, str):
        units = list(request.units)
        if missing := [unit for unit in units if unit not in names]:
            raise ValueError(
                f"units= must name columns of {request.what}, which has no {name_some(missing)}; it has "
                f"{name_some(names, 10)}"
            )
        return units
    texts = [name for name, dtype in table.dtypes.items() if not is_numeric_dtype(dtype)]
    if long := usual_names(names, UNIT_NAMES):
        raise ValueError(
            f"{request.what} has a column {str(long[0])!r}, as if each row were one response of one unit; make a "
            f"column per unit first, by table.pivot_table(index=…, columns={str(long[0])!r}, values=…), or pass "
            "units= a list"
        )
    if texts:
        raise ValueError(
            f"column {name_some(texts)} of {request.what} is not numbers; pass stimuli= or trials= the column that "
            "names the stimulus, and units= the list of the columns of units, if others describe rows"
        )
    if isinstance(request.units, str) and request.units not in table.columns.names:
        raise ValueError(
            f"units={request.units!r} is no level of the columns; units= is a list of columns, or the name of a level, "
            "and measured_in= is the unit of measurement"
        )
    return names


def _unit_coords(columns: pd.Index, request: Request) -> dict[str, Any]:
    """Return the labels of the columns as coords of the units; columns that are only numbered have none."""
    if columns.nlevels == 1:
        is_numbered = isinstance(columns, pd.RangeIndex) and columns.name is None
        return {} if is_numbered else {"unit": ("unit", label_texts(columns, f"columns of {request.what}"))}
    names = list(columns.names)
    label = [request.units] if isinstance(request.units, str) else usual_names(names, UNIT_NAMES)
    if len(label) != 1 or None in names:
        raise ValueError(
            f"the columns of {request.what} have the levels {name_some(names, 10)}; name all of them, and pass units= "
            "the one that labels the units"
        )
    return {
        "unit" if name == label[0] else str(name): ("unit", plain_values(columns.get_level_values(name)))
        for name in names
    }


def _numbers(table: pd.DataFrame) -> np.ndarray:
    """Return a table as a matrix; missing values of pandas' own types become NaN."""
    if any(not isinstance(dtype, np.dtype) for dtype in table.dtypes):
        return table.to_numpy(dtype=float, na_value=np.nan)
    return table.to_numpy(dtype=bool if all(map(is_bool_dtype, table.dtypes)) else None)
