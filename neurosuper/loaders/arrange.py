"""Presentations: arrange them by stimulus and repetition, and find what is suspicious about them."""

from __future__ import annotations

import numpy as np

from neurosuper._labels import clean_labels

OFTEN = 20  # times as many presentations as the median of the other stimuli: more likely a blank than a stimulus
BLOCK = 256  # presentations per read: 10 MB for 10,000 units in float32


def arrange(
    values: np.ndarray, labels: np.ndarray, order: np.ndarray | None = None, dtype: type = np.float32
) -> tuple[list[str], np.ndarray]:
    """Return sorted stimuli, and responses arranged by stimulus and repetition.

    Parameters
    ----------
    values : array (presentation, unit)
        An array, or a dataset that is indexed like one; it is read in blocks of rows, and not copied as a whole.
    labels : array of str (presentation,)
        Stimulus of each presentation.
    order : array (presentation,), optional
        Times by which the repetitions are sorted; by default they keep their order.
    dtype : optional
        Data type of the result, which can represent NaN.

    Returns
    -------
    stimuli : list of str
        In Unicode form NFC, without padding; sorted as numbers if all labels are numbers, else as text.
    arranged : array (stimulus, repetition, unit)
        NaN if a stimulus has fewer repetitions than another.

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
    stimuli, which, repetition = locate(labels, order)
    arranged = np.full((len(stimuli), repetition.max() + 1, n_units), np.nan, dtype)
    for block in (slice(i, i + BLOCK) for i in range(0, n, BLOCK)):
        arranged[which[block], repetition[block]] = values[block]
    return stimuli, arranged


def locate(labels: np.ndarray, order: np.ndarray | None = None) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return sorted stimuli, and for every presentation the position of its stimulus and its repetition.

    The parameters are those of `arrange`.
    """
    # Labels are cleaned once per distinct text; two texts may become the same label.
    texts, which = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    distinct, merged = np.unique(clean_labels(texts.tolist()), return_inverse=True)
    by_number = _number_order(distinct)
    which = np.argsort(by_number)[merged[which]]
    return distinct[by_number].tolist(), which, number_repetitions(which, order)


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


def select_presentations(
    onsets: np.ndarray, labels: np.ndarray, blank: np.ndarray, meets: np.ndarray, where: str, argument: str
) -> tuple[np.ndarray, dict[str, int]]:
    """Return a mask of the presentations to keep, and the counts of kept, excluded, blank and missing ones."""
    missing = ~np.isfinite(onsets) | (labels == "")
    kept = meets & ~(missing | blank)
    n_blanks, n_missing = int((meets & blank & ~missing).sum()), int((meets & missing).sum())
    if not kept.any():
        raise ValueError(
            f"no presentation left of {meets.sum()} in {where}: {n_blanks} blank, {n_missing} without label or onset; "
            f"check {argument} and blanks"
        )
    n_kept, n_excluded = int(kept.sum()), int((~meets).sum())
    return kept, {"n_presentations": n_kept, "n_excluded": n_excluded, "n_blanks": n_blanks, "n_missing": n_missing}


def presentation_concerns(onsets: np.ndarray, labels: np.ndarray, where: str) -> list[str]:
    """Return warnings about presentations: onsets that may never have been written, and a blank that was not named."""
    found = []
    times, n_at = np.unique(onsets, return_counts=True)
    if n_at.max() > 1 and (len(times) == 1 or n_at.max() > 2 * np.median(n_at)):
        found.append(
            f"{n_at.max()} of {len(onsets)} presentations in {where} have the onset {times[n_at.argmax()]:g} s; check "
            "the onsets"
        )
    names, n_of = np.unique(labels, return_counts=True)
    most = n_of.argmax()
    others = np.delete(n_of, most)
    if len(others) and n_of[most] >= OFTEN * np.median(others) and np.sum(others >= OFTEN * np.median(others)) <= 1:
        found.append(
            f"stimulus {str(names[most])!r} was presented {n_of[most]} times in {where}, the others "
            f"{np.median(others):g} times (median); if it is a blank, name it in blanks="
        )
    return found


def _number_order(labels: np.ndarray) -> np.ndarray:
    """Return the positions that sort labels as numbers; if not all labels are numbers, leave them in their order."""
    try:
        return np.argsort(labels.astype(float), kind="stable")
    except ValueError:
        return np.arange(len(labels))
