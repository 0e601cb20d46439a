"""Directions of every system found on one half of the stimuli, with the top stimuli of every item on the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from sklearn.base import clone
from tqdm import tqdm

from neurosuper._content import all_stimuli, photographs_of
from neurosuper._joins import LEFT_OUT, join_images, left_out
from neurosuper.directions import DirectionFinder
from neurosuper.interpretability.random_splits import draw_parts, fewest_in_part, top_of_parts
from neurosuper.interpretability.ranking import top_stimuli
from neurosuper.interpretability.stimulus_sampling import N_DRAWS
from neurosuper.responses import (
    DROP_THEM,
    check_averaged,
    coords_along,
    name_some,
    part_of,
    require_varying,
    split_stimuli,
)

SEPARATOR = " | "  # between labels in `top_stimuli`
RESERVED = {
    *("item", "metric", "system", "finder", "direction", "seed", "quantity", "interpretability", "top_stimuli"),
    *("chance_level", "chance_level_low", "chance_level_high", "index_of_halves", "draw", "half"),
}
ScoreOn = Literal["held-out", "all"]


class Fit(NamedTuple):
    """Directions found in one system by one finder, and what drives them."""

    system: str
    finder: str
    fitted: DirectionFinder
    top: xr.DataArray
    scored: np.ndarray  # labels of the stimuli that it was scored on
    top_of_halves: np.ndarray | None  # positions among these (draw, half, item, rank); of too few stimuli, none


def fit_systems(
    systems: Mapping[str, xr.DataArray],
    finders: Sequence[DirectionFinder] | Mapping[str, DirectionFinder],
    top: int,
    score_on: ScoreOn,
    random_state: int | None,
) -> Iterator[Fit]:
    """Find directions in every system by every finder, and their top stimuli (see `compare`, `meet_images`)."""
    finders = name_each(finders, "finders", _check_finder, lambda finder: type(finder).__name__)
    _check_systems(systems)
    if score_on not in ("held-out", "all"):
        raise ValueError(f"score_on must be 'held-out' or 'all', got {score_on!r}")
    halves = _halves(systems, score_on, random_state)
    if top < 2:
        raise ValueError(f"the index needs at least 2 top stimuli, got {top}; raise `top`")
    for name, (_, scored) in halves.items():
        if top > (n := scored.sizes["stimulus"]):
            raise ValueError(
                f"{top} top stimuli asked for, but {name!r} has only {n} stimuli to score on; "
                "lower `top`, or use score_on='all'"
            )
    scored_on = all_stimuli(scored for _, scored in halves.values())
    drawn = draw_parts(scored_on.stimulus.values, 2, N_DRAWS, np.random.default_rng(0), photographs_of(scored_on))
    pairs = [(system, finder) for system in halves for finder in finders]
    for system, finder in (bar := tqdm(pairs, desc="directions", unit="fit", delay=2)):
        bar.set_postfix_str(f"{system}, {finder}")
        fit_part, score_part = halves[system]
        fitted = clone(finders[finder]).fit(fit_part)
        codes = fitted.transform(score_part)
        require_varying(codes, f" of {system!r} by {finder!r}")
        of_halves = top_of_parts(codes, drawn, top) if fewest_in_part(codes, drawn) >= top else None
        yield Fit(system, finder, fitted, top_stimuli(codes, top=top), codes.stimulus.values, of_halves)


def describe_shared(systems: Mapping[str, xr.DataArray]) -> str:
    """Say how many stimuli all systems share, how many each has, and how many of it joins left out."""
    labels = [set(responses.stimulus.values) for responses in systems.values()]
    lost = {name: left_out(responses)[LEFT_OUT] for name, responses in systems.items() if left_out(responses)}
    counts_lost = ", ".join(f"{name} {n}" for name, n in lost.items())
    said = f"; left out, as they have no partner: {counts_lost}" if lost else ""
    if all(own == labels[0] for own in labels):
        return f"{len(labels[0])} stimuli" + (", the same in all systems" if len(labels) > 1 else "") + said
    counts = ", ".join(f"{name} {len(own)}" for name, own in zip(systems, labels, strict=True))
    return f"{len(set.intersection(*labels))} stimuli in common to all systems (of {counts})" + said


def split_alike(systems: Mapping[str, xr.DataArray], random_state: int | None) -> dict[str, xr.DataArray]:
    """Split the stimuli of all systems in halves, so that one that systems share falls on the same side in all.

    Where systems bring a `split` of their own, its marks are kept, and hold for the others too. Copies of one
    photograph fall on the same side, unless these marks say otherwise, which is a warning.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
    random_state : int or None

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
    _warn_of_copies_apart([marks[label] for label in labels], photographs)
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
                    raise ValueError(f"{name!r} marks stimulus {label!r} {mark!r}, another system {given[label]!r}")
    return given


def name_each(
    things: Sequence | Mapping, what: str, check: Callable[[Any], object], name_of: Callable[[Any], str]
) -> dict[str, Any]:
    """Return things by their names: those of a mapping, else their own."""
    if isinstance(things, str) or not isinstance(things, Mapping | Sequence):
        raise TypeError(
            f"{what} must be a list or a mapping {{name: …}}, got {type(things).__name__}; put it in a list"
        )
    if not things:
        raise ValueError(f"no {what} to compare; pass at least one")
    values = list(things.values() if isinstance(things, Mapping) else things)
    for thing in values:
        check(thing)
    names = list(things) if isinstance(things, Mapping) else [name_of(thing) for thing in values]
    _check_names(names, what)
    if len(set(names)) < len(names):
        raise ValueError(f"{what} need different names, got {names}; pass {{name: …, name: …}} instead of a list")
    return dict(zip(names, values, strict=True))


def meet_images(name: str, responses: xr.DataArray, stimuli: xr.DataArray) -> xr.DataArray:
    """Return the responses of one system to the images that there are, or say which system meets none."""
    try:
        return join_images(check_averaged(responses), stimuli, f"system {name!r}")
    except (TypeError, ValueError) as error:
        raise type(error)(f"system {name!r}: {error}") from error


def _halves(
    systems: Mapping[str, xr.DataArray], score_on: ScoreOn, random_state: int | None
) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Return the stimuli to fit on and those to score on, of every system."""
    if score_on == "all":
        parts = {name: (responses, responses) for name, responses in systems.items()}
    else:
        systems = split_alike(systems, random_state)
        parts = {name: (part_of(responses, "fit"), part_of(responses, "score")) for name, responses in systems.items()}
    remedy = DROP_THEM if score_on == "all" else f"mark the halves with neurosuper.split_stimuli, then {DROP_THEM}"
    for name, both in parts.items():
        for part, use in zip(both, ("fit", "score"), strict=True):
            if part.sizes["stimulus"] < 2:
                n = part.sizes["stimulus"]
                raise ValueError(f"{name!r} has {n} stimuli whose split is {use!r}; mark at least 2")
            require_varying(part, f" to {use} on, of {name!r}", remedy)
    return parts


def _warn_of_copies_apart(marks: list[str], photographs: list[int]) -> None:
    """Warn where copies of one photograph are marked differently: directions are scored on what they were fitted on."""
    apart = len(set(zip(photographs, marks, strict=True))) - len(set(photographs))
    if apart:
        warnings.warn(
            f"{apart} photographs are on both sides of the split, as copies under several labels; mark copies alike "
            "(neurosuper.split_stimuli does), or average them with neurosuper.copies.average_copies(responses, images)",
            stacklevel=4,
        )


def _check_names(names: Iterable[object], what: str) -> None:
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"names of {what} must be str, got {wrong[0]!r}; pass {{'name': …}}")


def _check_finder(finder: object) -> None:
    if not isinstance(finder, DirectionFinder):
        got = f"the class {finder.__name__}, which is not called" if isinstance(finder, type) else repr(finder)[:80]
        raise TypeError(
            f"a finder must be an object such as neurosuper.Units() or neurosuper.PCA(8), got {got}; subclass "
            "neurosuper.directions.DirectionFinder for one of your own"
        )


def _check_systems(systems: Mapping[str, xr.DataArray]) -> None:
    """Refuse, before hours of fits, what a table of items cannot contain."""
    if not systems:
        raise ValueError("no system to compare; pass {'name': responses, ...}")
    _check_names(systems, "systems")
    for name, responses in systems.items():
        if taken := RESERVED & set(coords_along(responses, "unit")):
            raise ValueError(
                f"{name!r} has the unit coord {sorted(taken)[0]!r}, a name that a comparison needs; rename it"
            )
        if bad := [label for label in responses.stimulus.values.tolist() if SEPARATOR in label]:
            raise ValueError(
                f"stimulus labels must not contain {SEPARATOR!r}, which joins them; relabel {name_some(bad)}"
            )
