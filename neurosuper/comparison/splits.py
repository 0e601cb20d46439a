"""Halves of the stimuli of all systems: one to fit directions on, and one to score them on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import xarray as xr

from neurosuper._checks import Seed
from neurosuper._content import all_stimuli, photographs_of
from neurosuper.responses import DROP_THEM, part_of, require_varying, split_stimuli

ScoreOn = Literal["held-out", "all"]


def split_systems(systems: Mapping[str, xr.DataArray], random_state: Seed) -> dict[str, xr.DataArray]:
    """Split the stimuli of all systems in halves; a stimulus that systems share is in the same half in all of them.

    If systems have the coord `split`, its marks are kept, and apply to the other systems too. Copies of one photograph
    are in the same half, unless these marks say otherwise, which gives a warning.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
    random_state : int, Generator, RandomState or None

    Returns
    -------
    dict of name to DataArray
        With the stimulus coord `split` (see `split_stimuli`).

    Raises
    ------
    ValueError
        Two systems mark the same stimulus differently.
    """
    given = _given_marks(systems)
    stimuli = all_stimuli(systems.values())
    labels, photographs = stimuli.stimulus.values.tolist(), photographs_of(stimuli).tolist()
    if given.keys() >= set(labels):
        marks = given
    else:
        split = split_stimuli(stimuli, random_state=random_state).split.values.tolist()
        of_copies = {number: given[label] for label, number in zip(labels, photographs, strict=True) if label in given}
        marks = {
            label: of_copies.get(number, mark) for label, number, mark in zip(labels, photographs, split, strict=True)
        } | given
    _warn_of_divided_copies([marks[label] for label in labels], photographs)
    return {
        name: responses.assign_coords(split=("stimulus", [marks[label] for label in responses.stimulus.values]))
        for name, responses in systems.items()
    }


def _given_marks(systems: Mapping[str, xr.DataArray]) -> dict[str, str]:
    """Return the split of every stimulus that some system marks."""
    given: dict[str, str] = {}
    for name, responses in systems.items():
        if "split" in responses.coords:
            for label, mark in zip(responses.stimulus.values.tolist(), responses.split.values.tolist(), strict=True):
                if given.setdefault(label, mark) != mark:
                    raise ValueError(
                        f"{name!r} marks stimulus {label!r} {mark!r}, another system {given[label]!r}; give both the "
                        "same mark"
                    )
    return given


def _warn_of_divided_copies(marks: list[str], photographs: list[int]) -> None:
    """Warn where copies of one photograph are marked differently: directions are scored on what they were fitted on."""
    n_divided = len(set(zip(photographs, marks, strict=True))) - len(set(photographs))
    if n_divided:
        warnings.warn(
            f"{n_divided} photographs are on both sides of the split, as copies under several labels; give copies the "
            "same mark (neurosuper.split_stimuli does), or average them with "
            "neurosuper.copies.average_copies(responses, images)",
            stacklevel=4,
        )


def fit_and_score_parts(
    systems: Mapping[str, xr.DataArray], score_on: ScoreOn, random_state: Seed
) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Return the responses to fit on and those to score on, for every system."""
    if score_on == "all":
        parts = {name: (responses, responses) for name, responses in systems.items()}
    else:
        systems = split_systems(systems, random_state)
        parts = {name: (part_of(responses, "fit"), part_of(responses, "score")) for name, responses in systems.items()}
    remedy = DROP_THEM if score_on == "all" else f"mark the halves with neurosuper.split_stimuli, then {DROP_THEM}"
    for name, both in parts.items():
        for part, use in zip(both, ("fit", "score"), strict=True):
            if part.sizes["stimulus"] < 2:
                n = part.sizes["stimulus"]
                raise ValueError(f"{name!r} has {n} stimuli whose split is {use!r}; mark at least 2")
            require_varying(part, f" to {use} on, of {name!r}", remedy)
    return parts
