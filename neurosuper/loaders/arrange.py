"""Presentations arranged by stimulus and repetition."""

from __future__ import annotations

import numpy as np

from neurosuper._labels import clean_labels

BLOCK = 256  # presentations per read: 10 MB for 10,000 units in float32


def arrange(values: np.ndarray, labels: np.ndarray, order: np.ndarray | None = None) -> tuple[list[str], np.ndarray]:
    """Return sorted stimuli, and responses arranged by stimulus and repetition.

    Parameters
    ----------
    values : array (presentation, unit)
        An array, or a dataset that is indexed like one; it is read in blocks of rows, and not copied as a whole.
    labels : array of str (presentation,)
        Stimulus of each presentation.
    order : array (presentation,), optional
        Times by which the repetitions are sorted; by default they keep their order.

    Returns
    -------
    stimuli : list of str
        In Unicode form NFC, without padding; sorted as numbers if all labels are numbers, else as text.
    arranged : array (stimulus, repetition, unit)
        In float32; NaN if a stimulus has fewer repetitions than another.

    Raises
    ------
    ValueError
        Not one label per presentation.

    Examples
    --------
    >>> import numpy as np
    >>> stimuli, arranged = arrange(np.array([[1.0], [2.0], [3.0]]), np.array(["10", "9", "10"]))
    >>> stimuli, arranged[..., 0].tolist()
    (['9', '10'], [[2.0, nan], [1.0, 3.0]])
    """
    n, n_units = values.shape
    if not n or len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} presentations; give one label for each, and at least one")
    # `which[i]` is the position in `stimuli` of the stimulus of presentation i. Labels are cleaned once per distinct
    # text; two texts may become the same label.
    texts, which = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    distinct, merged = np.unique(clean_labels(texts.tolist()), return_inverse=True)
    by_number = _number_order(distinct)
    stimuli = distinct[by_number]
    which = np.argsort(by_number)[merged[which]]
    repetition = number_repetitions(which, order)
    arranged = np.full((len(stimuli), repetition.max() + 1, n_units), np.nan, np.float32)
    for block in (slice(i, i + BLOCK) for i in range(0, n, BLOCK)):
        arranged[which[block], repetition[block]] = values[block]
    return stimuli.tolist(), arranged


def number_repetitions(which: np.ndarray, order: np.ndarray | None = None) -> np.ndarray:
    """Return the number of earlier presentations of the same stimulus, for every presentation.

    Parameters
    ----------
    which : array of int (presentation,)
        Position of the stimulus of each presentation among all stimuli.
    order : array (presentation,), optional
        Times of the presentations; by default they are in order of time.
    """
    # Sort presentations by stimulus, then by time: the repetition is the distance from the first one of its stimulus.
    n, repeats = len(which), np.bincount(which)
    by_time = np.lexsort((np.arange(n) if order is None else order, which))
    repetition = np.empty(n, int)
    repetition[by_time] = np.arange(n) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return repetition


def _number_order(labels: np.ndarray) -> np.ndarray:
    """Return the positions that sort labels as numbers; if not all labels are numbers, leave them in their order."""
    try:
        return np.argsort(labels.astype(float), kind="stable")
    except ValueError:
        return np.arange(len(labels))
