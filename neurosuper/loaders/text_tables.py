"""Tables in text files, with or without a line of names."""

from __future__ import annotations

import csv
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from neurosuper.loaders.request import Request

__all__ = ["read_named_columns", "read_text_table"]

MISSING = ("", "NaN", "nan", "NA", "<NA>", "N/A", "n/a", "#N/A", "NULL", "null", "None", "-nan")  # no numbers
UNNAMED = "Unnamed: 0"  # what pandas calls a first column without a name: the index of a table that it wrote


def read_text_table(path: Path, request: Request) -> pd.DataFrame:
    r"""Return the table of a text file; a column of labels keeps its text ("007").

    If the first line has numbers only, it is a line of names only if the labels that the user gave are one fewer than
    the lines.

    Parameters
    ----------
    path : Path
        Values separated by commas, tabs, semicolons or spaces, the same in all lines.
    request : Request
        Names of columns, or labels, of the stimuli or trials.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.csv")
    >>> _ = path.write_text("image,u1\n007,0.5\n")
    >>> read_text_table(path, Request(stimuli="image")).image.tolist()
    ['007']
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        separator = _separator(file.readline())
        file.seek(0)
        lines = csv.reader(file, delimiter=separator, skipinitialspace=separator == " ")
        first = next(lines, [])
        n_lines = 1 + sum(1 for line in lines if line)
    has_names = not all(map(_is_number, first)) or _n_labels(request) == n_lines - 1
    texts = [name for name in (request.stimuli, request.trials) if isinstance(name, str) and name in first]
    options = {"sep": separator if separator != " " else r"\s+", "encoding": "utf-8-sig"}
    if not has_names:
        table = pd.read_csv(path, header=None, **options)
        return table.set_axis(pd.RangeIndex(table.shape[1]), axis=1)
    table = read_named_columns(path, first, [*texts, UNNAMED], **options)
    if UNNAMED in table.columns[:1]:
        index = table.pop(UNNAMED)
        if index.tolist() != [str(i) for i in range(len(table))]:  # else it only numbers the rows
            table.index = pd.Index(index.to_numpy(), name=None)
    return table


def read_named_columns(path: Path, names: Sequence[str], texts: Sequence[str], **options: Any) -> pd.DataFrame:
    """Return a table in which some columns are text as it is written, also "007" and "NA".

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        All columns.
    texts : sequence of str
        Columns of text; those that the table lacks are ignored.
    **options
        Passed to `pandas.read_csv`.
    """
    others = {name: MISSING for name in names if name not in texts}
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str), na_values=others, keep_default_na=False, **options)


def _separator(line: str) -> str:
    """Return what separates the values of a line: commas, else tabs, semicolons, or spaces."""
    return next((separator for separator in ",\t;" if separator in line), " " if " " in line.strip() else ",")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _n_labels(request: Request) -> int | None:
    """Return the number of labels that the user gave, None if it is not known."""
    for given in (request.trials, request.stimuli):
        if isinstance(given, xr.DataArray):
            return given.sizes.get("stimulus")
        if isinstance(given, Sized) and not isinstance(given, str):
            return len(given)
    return None
