"""Halves of the stimuli of all systems: one to fit directions on, and one to score them on."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from neurosuper._checks import Seed, make_rng
from neurosuper._content import all_stimuli, content_of, photographs_of
from neurosuper.interpretability.group_scores import groups_of
from neurosuper.interpretability.random_splits import draw_splits, shown_to, smallest_group
from neurosuper.interpretability.sampled_sets import MIN_STIMULUS_GROUPS, N_RESAMPLES
from neurosuper.responses import (
    check_averaged,
    constant_items,
    name_some,
    part_of,
    require_varying,
    split_stimuli,
)

ScoreOn = Literal["held-out", "all"]


class StimulusGroups(NamedTuple):
    """Groups of stimuli that no split divides: the name of their coord, and what is known of the scored stimuli.

    Parameters
    ----------
    name : str
        The stimulus coord that names the group of each stimulus.
    of_scored : array of int (stimulus,)
        Number of the group of each stimulus to score on. Groups that share a photograph have one number.
    n : int
        Number of groups that the system is scored on.
    """

    name: str
    of_scored: np.ndarray
    n: int


def split_systems(
    systems: Mapping[str, xr.DataArray], random_state: Seed, stimulus_groups: str | None = None
) -> dict[str, xr.DataArray]:
    """Split the stimuli of all systems in halves; a stimulus that systems share is in the same half in all of them.

    Of systems with different stimuli, each has half of its own photographs in each half (see `draw_splits`), no matter
    what the others have. If systems have the coord `split`, its marks are kept, and apply to the other systems too.
    Copies of one photograph are in the same half, unless these marks say otherwise, which gives a warning. With
    `stimulus_groups`, each half has half of the groups, whole.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
    random_state : int, Generator, RandomState or None
    stimulus_groups : str, optional
        A stimulus coord of all systems.

    Returns
    -------
    dict of name to DataArray
        With the stimulus coord `split` (see `split_stimuli`).

    Raises
    ------
    ValueError
        Two systems mark the same stimulus differently, or put it in different groups; a system without this coord, or
        a stimulus without a group; marks that divide a group.
    """
    given, groups = _given_marks(systems), label_groups(systems, stimulus_groups)
    stimuli = all_stimuli(systems.values())
    labels, photographs = stimuli.stimulus.values.tolist(), photographs_of(stimuli).tolist()
    units = number_units(stimuli, groups)
    if given.keys() >= set(labels):
        marks = given
    else:
        split = _draw_split(systems, stimuli, units, random_state, groups is not None)
        of_unit = {unit: given[label] for label, unit in zip(labels, units.tolist(), strict=True) if label in given}
        marks = {
            label: of_unit.get(unit, mark) for label, unit, mark in zip(labels, units.tolist(), split, strict=True)
        } | given
    in_order = [marks[label] for label in labels]
    if groups is not None:
        _refuse_divided_groups(in_order, [groups[label] for label in labels], stimulus_groups)
    _warn_of_divided_copies(in_order, photographs)
    return {
        name: responses.assign_coords(split=("stimulus", [marks[label] for label in responses.stimulus.values]))
        for name, responses in systems.items()
    }


def label_groups(systems: Mapping[str, xr.DataArray], stimulus_groups: str | None) -> dict[str, object] | None:
    """Return the group of every stimulus, by label; None without groups.

    Raises
    ------
    ValueError
        A system without this coord; a stimulus without a group, or in two.
    """
    if stimulus_groups is None:
        return None
    groups: dict[str, object] = {}
    for name, responses in systems.items():
        if stimulus_groups not in responses.coords or responses[stimulus_groups].dims != ("stimulus",):
            raise ValueError(
                f"system {name!r} has no stimulus coord {stimulus_groups!r}; add it with "
                f".assign_coords({stimulus_groups}=('stimulus', labels))"
            )
        labels, own = responses.stimulus.values, responses[stimulus_groups].values
        if (missing := pd.isnull(own) | (own == "")).any():
            raise ValueError(
                f"no stimulus group for stimulus {name_some(labels[missing])} of {name!r}; give each stimulus a group, "
                "a single one its own"
            )
        for label, group in zip(labels.tolist(), own.tolist(), strict=True):
            if groups.setdefault(label, group) != group:
                raise ValueError(
                    f"{name!r} has stimulus {label!r} in the group {group!r}, another system in {groups[label]!r}; "
                    f"give both the same {stimulus_groups!r}"
                )
    return groups


def take_groups(responses: xr.DataArray, images: xr.DataArray, stimulus_groups: str | None) -> xr.DataArray:
    """Return responses with the coord of the images that names groups, unless they have it themselves."""
    if stimulus_groups is None or stimulus_groups in responses.coords or stimulus_groups not in images.coords:
        return responses
    groups = images[stimulus_groups].sel(stimulus=responses.stimulus.values).values
    return responses.assign_coords({stimulus_groups: ("stimulus", groups)})


def number_units(stimuli: xr.DataArray, groups: Mapping[str, object] | None) -> np.ndarray:
    """Return the number of what each stimulus belongs to, and no split divides, in order of first appearance.

    This is a photograph, or a group with all others that show one of its photographs.
    """
    photographs = photographs_of(stimuli)
    if groups is None:
        return photographs
    own, names = pd.factorize(np.array([groups[label] for label in stimuli.stimulus.values.tolist()]))
    n = len(names) + int(photographs.max()) + 1
    links = coo_array((np.ones(len(own), bool), (own, len(names) + photographs)), shape=(n, n))
    return pd.factorize(connected_components(links, directed=False)[1][own])[0]


def _draw_split(
    systems: Mapping[str, xr.DataArray], stimuli: xr.DataArray, units: np.ndarray, random_state: Seed, grouped: bool
) -> list[str]:
    """Return "fit" or "score" for each stimulus: half of the stimuli, or of the groups, of each system to fit on."""
    labels = stimuli.stimulus.values
    shown = shown_to(systems.values(), labels, units)
    if shown.all() and not grouped:
        return split_stimuli(stimuli, random_state=random_state).split.values.tolist()
    half = draw_splits(labels, 2, 1, make_rng(random_state), units, shown).values[0]
    return np.where(half == 1, "fit", "score").tolist()  # of an odd number, the half numbered 0 has one more


def _refuse_divided_groups(marks: list[str], groups: list[object], stimulus_groups: str | None) -> None:
    n_marks = Counter(group for group, _ in set(zip(groups, marks, strict=True)))
    if divided := [group for group, n in n_marks.items() if n > 1]:
        raise ValueError(
            f"the coord `split` divides {len(divided)} of the groups {stimulus_groups!r}, such as {divided[0]!r}; mark "
            "whole groups, or leave the split to this function with .drop_vars('split')"
        )


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
    systems: Mapping[str, xr.DataArray],
    score_on: ScoreOn,
    random_state: Seed,
    stimulus_groups: str | None = None,
    drop_constant_units: bool = True,
    fit_on: Mapping[str, xr.DataArray] | None = None,
) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Return the responses to fit on and those to score on, for every system.

    Systems in `fit_on` are fitted on these responses, and scored on all stimuli. Units that are constant in one of the
    parts are dropped from both, or refused.
    """
    fit_on = {} if fit_on is None else fit_on
    divided = {name: responses for name, responses in systems.items() if name not in fit_on}
    if score_on == "all":
        parts = {name: (responses, responses) for name, responses in divided.items()}
    else:
        marked = split_systems(divided, random_state, stimulus_groups) if divided else {}
        parts = {name: (part_of(responses, "fit"), part_of(responses, "score")) for name, responses in marked.items()}
    parts = {name: parts[name] if name in parts else (fit_on[name], systems[name]) for name in systems}
    for name, both in parts.items():
        for part, use in zip(both, ("fit", "score"), strict=True):
            if part.sizes["stimulus"] < 2:
                n = part.sizes["stimulus"]
                raise ValueError(f"{name!r} has {n} stimuli whose split is {use!r}; mark at least 2")
    if drop_constant_units:
        return {name: _drop_constant_units(name, *both) for name, both in parts.items()}
    for name, both in parts.items():
        for part, use in zip(both, ("fit", "score"), strict=True):
            require_varying(part, f" to {use} on, of {name!r}", "leave them out with drop_constant_units=True")
    return parts


def join_fit_on(
    systems: Mapping[str, xr.DataArray], fit_on: Mapping[str, xr.DataArray] | None, stimulus_groups: str | None
) -> dict[str, xr.DataArray]:
    """Return the responses to other stimuli that systems are fitted on, with the units in the order of the system.

    Raises
    ------
    TypeError
        `fit_on` is not a mapping of names to responses.
    ValueError
        A name that is no system; responses that break the contract; other units than those of the system; a system with
        marks of its own; a stimulus, photograph or group of stimuli that is in both.
    """
    if fit_on is None:
        return {}
    if not isinstance(fit_on, Mapping):
        raise TypeError(f"fit_on must be a mapping {{name of a system: responses, …}}, got {type(fit_on).__name__}")
    if unknown := fit_on.keys() - systems.keys():
        raise ValueError(f"fit_on has {name_some(sorted(map(str, unknown)))}, which are no systems; use their names")
    joined = {}
    for name, responses in fit_on.items():
        try:
            joined[name] = _join_units(check_averaged(responses), systems[name])
            _refuse_shared(joined[name], systems[name], stimulus_groups)
        except (TypeError, ValueError) as error:
            raise type(error)(f"fit_on of {name!r}: {error}") from error
    return joined


def _join_units(responses: xr.DataArray, system: xr.DataArray) -> xr.DataArray:
    """Return responses with their units in the order of a system, which has the same."""
    own, known = responses.indexes["unit"], system.indexes["unit"]
    if len(extra := own.symmetric_difference(known)):
        raise ValueError(
            f"it has {len(own)} units and the system {len(known)}; they differ in {name_some(extra)}; select the same "
            "units of both"
        )
    return responses if own.equals(known) else responses.sel(unit=known)


def _refuse_shared(responses: xr.DataArray, system: xr.DataArray, stimulus_groups: str | None) -> None:
    """Refuse a stimulus, a photograph or a group that directions would be both fitted and scored on."""
    if "split" in system.coords:
        raise ValueError(
            "the system has the coord `split`, but is scored on all its stimuli; leave one of the two out, the coord "
            "with .drop_vars('split')"
        )
    both = (responses, system)
    known = {"stimulus": [each.stimulus.values for each in both], "photograph": [content_of(each) for each in both]}
    if stimulus_groups is not None and all(stimulus_groups in each.coords for each in both):
        known[stimulus_groups] = [each[stimulus_groups].values for each in both]
    for what, (own, others) in known.items():
        if own is not None and others is not None and (shared := {*own.tolist()} & {*others.tolist()} - {""}):
            raise ValueError(
                f"directions would be fitted and scored on {what} {name_some(sorted(shared))}; leave it out of one side"
            )


def _drop_constant_units(name: str, fit: xr.DataArray, score: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return both parts without the units that are constant in one of them."""
    constant = constant_items(fit) if score is fit else np.union1d(constant_items(fit), constant_items(score))
    if not len(constant):
        return fit, score
    if len(constant) == (n := fit.sizes["unit"]):
        raise ValueError(
            f"none of the {n} units of {name!r} varies over the stimuli to fit on and over those to score on; leave "
            "this system out, or check its window and loader"
        )
    kept = ~fit.indexes["unit"].isin(constant)
    without = fit.isel(unit=kept)
    return without, without if score is fit else score.isel(unit=kept)


class Halves(NamedTuple):
    """Random halves of the stimuli that one system is scored on.

    Parameters
    ----------
    of_scored : array (stimulus, draw) or None
        The half, 0 or 1, of each stimulus; None if a half is smaller than `top`.
    groups : StimulusGroups or None
    n_stimuli : int
        Number of stimuli of the system, with copies of one photograph counted once.
    """

    of_scored: np.ndarray | None
    groups: StimulusGroups | None
    n_stimuli: int


def halve_scored(scored: Mapping[str, xr.DataArray], top: int, stimulus_groups: str | None) -> dict[str, Halves]:
    """Return random halves of the stimuli to score on, for every system.

    Raises
    ------
    ValueError
        Too few groups, or a half of them with fewer stimuli than `top`.
    """
    stimuli, groups = all_stimuli(scored.values()), label_groups(scored, stimulus_groups)
    labels, units = stimuli.stimulus.values, number_units(stimuli, groups)
    # One set of splits for all fits, always with the same seed: differences between items share their stimuli.
    shown = shown_to(scored.values(), labels, units)
    splits = draw_splits(labels, 2, N_RESAMPLES, np.random.default_rng(0), units, shown)
    numbers, halves = pd.DataFrame({"unit": units, "photograph": photographs_of(stimuli)}, labels), {}
    for name, part in scored.items():
        own, least, in_groups = numbers.loc[part.stimulus.values], smallest_group(part, splits), None
        if stimulus_groups is not None:
            in_groups = StimulusGroups(stimulus_groups, own.unit.values, own.unit.nunique())
            _check_groups(name, in_groups, least, top)
        of_scored = groups_of(part, splits, top) if least >= top else None
        halves[name] = Halves(of_scored, in_groups, own.photograph.nunique())
    return halves


def _check_groups(name: str, groups: StimulusGroups, least: int, top: int) -> None:
    """Raise unless the groups of a system can be halved, with at least `top` stimuli in the smallest half."""
    if groups.n < MIN_STIMULUS_GROUPS:
        raise ValueError(
            f"{name!r} has {groups.n} stimulus groups to score on, too few to halve; use at least "
            f"{MIN_STIMULUS_GROUPS} (twice as many, or score_on='all', if directions are fitted on others), or leave "
            "out `stimulus_groups` and restrict conclusions to these groups"
        )
    if least < top:
        raise ValueError(
            f"{least} stimuli are in one of the random halves of the groups of {name!r}, and an index needs {top}; "
            "lower `top`, or use smaller groups"
        )
