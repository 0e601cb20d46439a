"""Presentations of stimuli in a table in memory: onsets, labels, and which of them to use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._labels import as_label, name_some
from neurosuper.loaders.arrange import presentation_concerns, select_presentations
from neurosuper.loaders.trials import Trials

__all__ = ["PresentationTable", "read_presentation_table"]

WHERE = "presentations"


@dataclass(frozen=True)
class PresentationTable:
    """Presentations to use, in order of time: onsets (s), trials, counts of all, and warnings."""

    onsets: np.ndarray
    trials: Trials
    counts: dict[str, int]
    concerns: list[str]


def read_presentation_table(
    presentations: Any, stimulus_column: str, onset_column: str, blanks: Collection[object] | str | float = ()
) -> PresentationTable:
    """Return the presentations of a table that are no blanks, and have a label and an onset.

    Parameters
    ----------
    presentations : DataFrame, Dataset, or pair (onsets, labels)
        As in `neurosuper.count_spikes`.
    stimulus_column, onset_column : str
        Columns of the table; the others are columns of the trials.
    blanks : value or collection of values, optional
        Stimuli to leave out.

    Returns
    -------
    PresentationTable

    Raises
    ------
    TypeError, ValueError
        As in `neurosuper.count_spikes`.

    Examples
    --------
    >>> read_presentation_table(([2.0, 1.0], ["owl", "cat"]), "stimulus", "onset").trials.labels.tolist()
    ['cat', 'owl']
    """
    table = _as_table(presentations, stimulus_column, onset_column)
    onsets, given = _onsets(table, onset_column), table[stimulus_column]
    labels = np.where(given.isna(), "", np.array([as_label(value) for value in given.to_numpy()], dtype=str))
    named = list(blanks) if isinstance(blanks, Collection) and not isinstance(blanks, str) else [blanks]
    is_blank = np.isin(labels, [as_label(blank) for blank in named])
    kept, counts = select_presentations(onsets, labels, is_blank, WHERE, "stimulus_column")
    order = np.flatnonzero(kept)[np.argsort(onsets[kept], kind="stable")]
    others = table.columns.drop([stimulus_column, onset_column])
    trials = Trials(labels[order], {name: table[name].to_numpy()[order] for name in others})
    return PresentationTable(onsets[order], trials, counts, presentation_concerns(onsets[order], labels[order], WHERE))


def _as_table(presentations: Any, stimulus_column: str, onset_column: str) -> pd.DataFrame:
    """Return presentations as a table that has both columns."""
    if isinstance(presentations, xr.Dataset):
        presentations = presentations.to_dataframe()
    if isinstance(presentations, tuple | list) and len(presentations) == 2:
        onsets, labels = (np.asarray(values) for values in presentations)
        if onsets.shape != labels.shape or onsets.ndim != 1:
            raise ValueError(
                f"presentations must be (onsets, labels) of the same length, got shapes {onsets.shape} and "
                f"{labels.shape}"
            )
        presentations = pd.DataFrame({onset_column: onsets, stimulus_column: labels})
    if not isinstance(presentations, pd.DataFrame):
        raise TypeError(
            f"presentations must be a DataFrame, or a pair (onsets, labels), got {type(presentations).__name__}"
        )
    for setting, name in {"stimulus_column": stimulus_column, "onset_column": onset_column}.items():
        if name not in presentations:
            raise ValueError(
                f"presentations has no column {name!r}; it has {name_some(list(presentations), 20)}: pass {setting}="
            )
    return presentations


def _onsets(table: pd.DataFrame, column: str) -> np.ndarray:
    try:
        return table[column].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise ValueError(
            f"column {column!r} of presentations must contain onsets in seconds, got {table[column].iloc[0]!r}; "
            "convert them"
        ) from None
