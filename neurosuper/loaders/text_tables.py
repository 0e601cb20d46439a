"""Tables in text files, .csv and .tsv, with or without a line of names."""

from __future__ import annotations

import csv
from collections.abc import Sized
from pathlib import Path

import pandas as pd
import xarray as xr

from neurosuper.loaders.request import Request

__all__ = ["read_text_table"]

UNNAMED = "Unnamed: 0"  # what pandas calls a first column without a name: the index of a table that it wrote


def read_text_table(path: Path, request: Request) -> pd.DataFrame:
    r"""Return the table of a text file; a column of labels keeps its text ("007").

    If the first line has numbers only, it is a line of names only if the labels that the user gave are one fewer than
    the lines.

    Parameters
    ----------
    path : Path
        Values separated by commas, or by tabs in a .tsv.
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
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=separator)
        first = next(lines, [])
        n_lines = 1 + sum(1 for line in lines if line)
    has_names = not all(map(_is_number, first)) or _n_labels(request) == n_lines - 1
    texts = [name for name in (request.stimuli, request.trials) if isinstance(name, str)]
    table = pd.read_csv(
        path,
        sep=separator,
        encoding="utf-8-sig",
        header=0 if has_names else None,
        dtype=dict.fromkeys([*texts, UNNAMED], str),
    )
    if not has_names:
        return table.set_axis(pd.RangeIndex(table.shape[1]), axis=1)
    if UNNAMED in table.columns[:1]:
        index = table.pop(UNNAMED)
        if index.tolist() != [str(i) for i in range(len(table))]:  # else it only numbers the rows
            table.index = pd.Index(index.to_numpy(), name=None)
    return table


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
