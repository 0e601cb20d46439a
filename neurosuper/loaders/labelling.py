"""Labels of responses: of stimuli from a list, an array or a folder of images, of units from names or positions."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurosuper._content import CONTENT, content_of
from neurosuper._labels import as_label, check_labels, name_some
from neurosuper.images import image_labels
from neurosuper.loaders.axes import NO_LABELS
from neurosuper.loaders.trials import label_texts

__all__ = ["Stimuli", "add_unit_coords", "name_labels", "stimulus_coords"]

NUMBER = re.compile(r"(\d+)")
Stimuli = Sequence[str] | np.ndarray | xr.DataArray | str | Path


def stimulus_coords(stimuli: Any) -> dict[str, Any]:
    """Return the labels of the stimuli, and the content of their images if it is known.

    Parameters
    ----------
    stimuli : labels, labelled array, or path of the images
        As in `neurosuper.load_array`.

    Returns
    -------
    dict
        Coords `stimulus` and maybe `content`.
    """
    if isinstance(stimuli, str | Path):
        labels = image_labels(stimuli)
        _warn_of_text_order(labels, str(stimuli))
        return {"stimulus": np.array(labels)}
    if not isinstance(stimuli, xr.DataArray):
        return {"stimulus": label_texts(stimuli, "stimuli")}
    stimuli = check_labels(stimuli, "stimulus", "stimuli")
    _warn_of_text_order(stimuli.stimulus.values.tolist(), "the array passed as stimuli")
    content = content_of(stimuli)
    return {"stimulus": stimuli.stimulus.values} | ({} if content is None else {CONTENT: content})


def _warn_of_text_order(labels: list[str], source: str) -> None:
    """Warn if labels that differ by a number are sorted as text, which puts 10 before 2."""
    if labels != sorted(labels):
        return  # the order was chosen
    same_text: dict[tuple[str, ...], dict[str, list[int]]] = {}  # numbers of the labels that share their other text
    for label in labels:
        pieces = NUMBER.split(label)  # text, number, text, …
        same_text.setdefault(tuple(pieces[::2]), {})[label] = [int(number) for number in pieces[1::2]]
    for numbers in same_text.values():
        by_number = sorted(numbers, key=numbers.__getitem__)
        if by_number != list(numbers):
            warnings.warn(
                f"{source}: labels with numbers of different length are sorted as text: {', '.join([*numbers][:3])}, "
                f"…; if responses are in order of number ({', '.join(by_number[:3])}, …), pass stimuli= a list of the "
                "labels in that order; a list of labels is used as given, without this warning",
                stacklevel=7,  # the caller of as_responses or load_array
            )
            return


def add_unit_coords(array: xr.DataArray, coords: Mapping[str, Any], what: str) -> xr.DataArray:
    """Return an array with coords of its units; refuse those that do not have one value per unit."""
    fitted = {}
    for name, values in coords.items():
        if name in ("stimulus", "repetition", "trial"):
            raise ValueError(f"coords of units cannot be called {name!r}; labels of stimuli are passed as stimuli=")
        values = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
        if values.shape != (array.sizes["unit"],):
            raise ValueError(
                f"{what} has length {array.sizes['unit']} along 'unit', but values of shape {values.shape} were given "
                f"for {name!r}; check dims and their order"
            )
        fitted[name] = ("unit", values)
    return array.assign_coords(fitted)


def name_labels(array: xr.DataArray, what: str) -> xr.DataArray:
    """Return an array with text labels; units without labels are named by their position.

    Raises
    ------
    ValueError
        Stimuli without labels, or labels that repeat.
    """
    if "stimulus" not in array.coords:
        raise ValueError(f"{what} {NO_LABELS}")
    if "unit" not in array.coords:
        digits = len(str(array.sizes["unit"] - 1))
        array = array.assign_coords(unit=[f"{i:0{digits}d}" for i in range(array.sizes["unit"])])
    texts = {dim: [as_label(value) for value in array[dim].values] for dim in ("stimulus", "unit")}
    if twice := [label for label, n in Counter(texts["stimulus"]).items() if n > 1]:
        raise ValueError(
            f"{what} has duplicate stimulus labels {name_some(twice)}; if each row is a trial, pass the labels as "
            "trials="
        )
    return array.assign_coords(texts)
