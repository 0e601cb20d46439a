"""Trials: the label and the other columns of each row of responses (trial, unit), and responses by repetition."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import one_line
from neurosuper._labels import as_label, name_some
from neurosuper.loaders.arrange import arrange, locate
from neurosuper.loaders.file_checks import check_file
from neurosuper.loaders.synonyms import STIMULUS_NAMES, usual_names
from neurosuper.loaders.text_tables import read_named_columns

__all__ = ["Trials", "constant_columns", "label_texts", "plain_values", "read_trials", "repeat_by_stimulus"]

RESERVED = ("stimulus", "repetition", "unit")  # dims of responses, which no column may be called


@dataclass(frozen=True)
class Trials:
    """The stimulus of each trial, and columns with one value for each."""

    labels: np.ndarray
    columns: Mapping[Any, Any] = field(default_factory=dict)


def label_texts(values: Any, what: str) -> np.ndarray:
    """Return one label per row as text: 12 and 12.0 as "12"; refuse labels that are missing.

    Parameters
    ----------
    values : sequence, array, Series or tensor
        Labels; a matrix of one row or column, as in MATLAB, is taken as a list.
    what : str
        Name of the labels in errors.

    Returns
    -------
    array of str

    Raises
    ------
    ValueError
        More than one axis, or missing labels.

    Examples
    --------
    >>> label_texts([[3.0], [12.0]], "trials").tolist()
    ['3', '12']
    """
    if hasattr(values, "detach"):  # a torch tensor, maybe on another device
        values = values.detach().cpu()
    if isinstance(values, Iterable) and not isinstance(values, Sequence) and not hasattr(values, "__array__"):
        values = list(values)  # a generator, or the keys of a dict
    labels = values.to_numpy() if isinstance(values, pd.Series | pd.Index) else np.asarray(values)
    if labels.ndim == 2 and 1 in labels.shape:
        labels = labels.ravel()
    if labels.ndim != 1:
        raise ValueError(f"{what} must be a list of labels, got an array of shape {labels.shape}")
    texts = np.array([as_label(value) for value in labels], dtype=str)
    missing = np.flatnonzero(pd.isnull(labels) | (texts == ""))
    if len(missing):
        raise ValueError(
            f"{what}: {len(missing)} of {len(labels)} labels are missing, the first in row {missing[0]} (counted from "
            "0); leave those rows out of the labels and of the values"
        )
    return texts


def read_trials(trials: Any, stimuli: str | None = None, known: Sequence[str] = ()) -> Trials:
    """Return the trials of a list of labels, of a table, or of a .csv file.

    Parameters
    ----------
    trials : sequence of labels, DataFrame, or path of a .csv or .tsv file with a header
        A label per trial, or a table with a row per trial.
    stimuli : str, optional
        Column of the table that names the stimulus. It may be left out if there is one column only, or one with a usual
        name, such as `stimulus` or `image_id`.
    known : sequence of str, optional
        Names that `trials` could have meant, for the error.

    Returns
    -------
    Trials

    Raises
    ------
    FileNotFoundError
        A text that is neither a file nor one of `known`.
    ValueError
        No such column, or several that may name the stimulus; missing labels.
    """
    if isinstance(trials, str | Path):
        trials = _read_table(Path(trials), stimuli, known)
    if isinstance(trials, pd.DataFrame):
        column = label_column(trials, stimuli)
        columns = {name: trials[name].to_numpy() for name in trials.columns if name != column}
        return Trials(label_texts(trials[column], f"trials[{column!r}]"), columns)
    return Trials(label_texts(trials, "trials"))


def label_column(table: pd.DataFrame, stimuli: Any) -> Hashable:
    """Return the column of a table that names the stimulus."""
    names = list(table.columns)
    if stimuli is not None:
        if not isinstance(stimuli, Hashable) or stimuli not in names:
            raise ValueError(f"stimuli must name a column of trials, got {stimuli!r}; it has {name_some(names, 10)}")
        return stimuli
    usual = names if len(names) == 1 else usual_names(names, STIMULUS_NAMES)
    if len(usual) != 1:
        raise ValueError(
            f"trials has the columns {name_some(names, 10)}; pass stimuli= the one that names the stimulus"
        )
    return usual[0]


def _read_table(path: Path, stimuli: str | None, known: Sequence[str]) -> pd.DataFrame:
    """Return a table of trials; labels keep their text ("007", "NA")."""
    if not path.is_file():
        others = f", and is none of {name_some(known, 10)}" if len(known) else ""
        raise FileNotFoundError(f"trials={str(path)!r} is no file{others}; check the name")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        names = list(pd.read_csv(check_file(path, "CSV"), sep=separator, nrows=0, encoding="utf-8-sig"))
        labels = [name for name in names if name == stimuli or name.lower() in STIMULUS_NAMES or len(names) == 1]
        return read_named_columns(path, names, labels, sep=separator, encoding="utf-8-sig")
    except pd.errors.ParserError as error:
        raise ValueError(f"cannot read {path} as a table: {one_line(error)}; check its separators") from error


def constant_columns(stimuli: Sequence[str], which: np.ndarray, columns: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the columns that have one value for all trials of each stimulus, as coords of the stimuli.

    Parameters
    ----------
    stimuli : sequence of str
        Labels of the stimuli.
    which : array of int (trial,)
        Position of the stimulus of each trial.
    columns : mapping
        One value per trial.

    Raises
    ------
    ValueError
        A column with the name of a dim of responses.

    Examples
    --------
    >>> import numpy as np
    >>> columns = {"category": ["pet", "bird", "pet"], "onset": [0.1, 0.2, 0.3]}
    >>> constant_columns(["cat", "owl"], np.array([0, 1, 0]), columns)["category"][1].tolist()
    ['pet', 'bird']
    """
    _, first = np.unique(which, return_index=True)
    kept = {}
    for name, values in columns.items():
        given = np.asarray(values)
        codes = pd.factorize(given, use_na_sentinel=True)[0]
        if not (codes == codes[first][which]).all():
            continue
        if str(name) in RESERVED:
            raise ValueError(f"trials has a column {str(name)!r}, which is a dim of responses; rename it, or drop it")
        kept[str(name)] = ("stimulus", plain_values(given[first]))
    return kept


def plain_values(values: Any) -> np.ndarray:
    """Return the values of a coord in a type that files can store: text as text, with "" where it is missing.

    Examples
    --------
    >>> plain_values(pd.Series(["V1", None])).tolist()
    ['V1', '']
    """
    given = np.asarray(values)
    is_missing = pd.isnull(given)
    if given.dtype.kind == "O" and all(isinstance(value, str) for value in given[~is_missing].tolist()):
        return np.where(is_missing, "", given).astype(str)
    return given


def repeat_by_stimulus(array: xr.DataArray, trials: Trials) -> xr.DataArray:
    """Return responses (stimulus, repetition, unit) from an array (trial, unit), NaN where a repetition is missing.

    A dask array stays lazy. Values in float64 keep their type, others become float32.
    """
    array = array.transpose("trial", "unit")
    stimuli, which, repetition = locate(trials.labels)
    wide = array.dtype.kind == "f" and array.dtype.itemsize >= 8
    dtype: type = np.float64 if wide or (array.dtype.kind in "iu" and array.dtype.itemsize > 2) else np.float32
    if array.chunks is None:
        values = arrange(array.values, trials.labels, dtype=dtype)[1]
    else:
        values = _arrange_lazily(array.data, len(stimuli), which, repetition, dtype)
    coords = {str(name): coord for name, coord in array.coords.items() if coord.dims in ((), ("unit",))}
    facts = constant_columns(stimuli, which, trials.columns)
    return xr.DataArray(
        values, coords | facts | {"stimulus": stimuli}, ("stimulus", "repetition", "unit"), attrs=array.attrs
    )


def _arrange_lazily(values: Any, n_stimuli: int, which: np.ndarray, repetition: np.ndarray, dtype: type) -> Any:
    """Return a dask array (trial, unit) as (stimulus, repetition, unit)."""
    import dask.array as da

    n, n_units = values.shape
    # One row of NaN is added, to which every missing repetition refers.
    rows = np.full((n_stimuli, repetition.max() + 1), n)
    rows[which, repetition] = np.arange(n)
    padded = da.concatenate([values.astype(dtype), da.full((1, n_units), np.nan, dtype, chunks=(1, values.chunks[1]))])
    return da.stack([da.take(padded, column, axis=0) for column in rows.T], axis=1)
