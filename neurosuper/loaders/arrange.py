"""Presentations arranged by stimulus and repetition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurosuper._labels import clean_labels

if TYPE_CHECKING:
    pass

BLOCK = 256  # rows that are read at once


def arrange(values: np.ndarray, labels: np.ndarray, order: np.ndarray | None = None) -> tuple[list[str], np.ndarray]:
    """Return stimuli in order, and responses arranged by stimulus and repetition.

    Parameters
    ----------
    values : array (presentation, unit)
        Anything that is indexed like numpy; it is read in blocks of rows, and not copied as a whole.
    labels : array of str (presentation,)
    order : array (presentation,), optional
        Times by which the repetitions are sorted; by default as they come.

    Returns
    -------
    stimuli : list of str
        In Unicode form NFC, without padding; in order of number where all labels are numbers, else of text.
    arranged : array (stimulus, repetition, unit)
        float32; NaN where a stimulus has fewer repetitions than another.

    Raises
    ------
    ValueError
        Not one label for each presentation.

    Examples
    --------
    >>> import numpy as np
    >>> stimuli, arranged = arrange(np.array([[1.0], [2.0], [3.0]]), np.array(["10", "9", "10"]))
    >>> stimuli, arranged[..., 0].tolist()
    (['9', '10'], [[2.0, nan], [1.0, 3.0]])
    """
    n, n_units = values.shape
    if not n or len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} presentations; give one label for each of at least one")
    found, which = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    found, again = np.unique(clean_labels(found.tolist()), return_inverse=True)
    which = again[which]
    stimuli = found[_number_order(found)]
    which = np.argsort(_number_order(found))[which]
    repeats = np.bincount(which)
    by_time = np.lexsort((np.arange(n) if order is None else order, which))
    repetition = np.empty(n, int)
    repetition[by_time] = np.arange(n) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    arranged = np.full((len(stimuli), repeats.max(), n_units), np.nan, np.float32)
    for block in (slice(i, i + BLOCK) for i in range(0, n, BLOCK)):
        arranged[which[block], repetition[block]] = values[block]
    return stimuli.tolist(), arranged


def _number_order(labels: np.ndarray) -> np.ndarray:
    """Return the order by number where all labels are numbers, else as they are."""
    try:
        return np.argsort(labels.astype(float), kind="stable")
    except ValueError:
        return np.arange(len(labels))
