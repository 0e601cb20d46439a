"""Comparisons of the systems of a study in pairs: `populations.nc` and `twins.nc`.

`populations.nc` contains the Dataset of `neurosuper.comparison.compare_populations`. `twins.nc` contains a tree with a
group for each pair and kind of items, `<a> | <b>/<items>`, from `neurosuper.comparison.twins`. The attr `provenance` of
either is that of the `study.nc` next to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurosuper.comparison import Fit, compare_populations, twins
from neurosuper.comparison.splits import split_systems
from neurosuper.directions import DirectionFinder, Units
from neurosuper.study.analyses import Twins
from neurosuper.study.build import System
from neurosuper.study.file import Study

POPULATIONS, TWINS = "populations.nc", "twins.nc"
TWINS_METHOD = "twins of a study"  # attr `method` of `twins.nc`
UNITS = "units"  # the name of units among items
SEPARATOR = " | "  # between the names of a pair


def check_pairs(study: Study, names: Sequence[str]) -> None:
    """Refuse pairs of systems that a study does not have, and comparisons of one system, before the first fit."""
    for key, table in (("populations", study.populations), ("twins", study.twins)):
        if table is None:
            continue
        if len(names) < 2:
            raise ValueError(f"[{key}] compares systems, and the study has only {names[0]!r}; add one, or remove it")
        for name in [name for pair in table.pairs or [] for name in pair]:
            if name not in names:
                raise ValueError(f"{key}.pairs has {name!r}; the systems are {', '.join(map(repr, names))}")


def describe_pairs(study: Study) -> list[str]:
    """Return what a study compares in pairs of systems, each in a line."""
    lines = []
    if (asked := study.populations) is not None:
        items = ", ".join(["units", "rotations", *finders_of(study, asked.finders)])
        lines.append(f"populations: {', '.join(asked.measures)}; of {items}; {_describe_choice(asked.pairs)}")
    if (table := study.twins) is not None:
        items = ", ".join(["units", *finders_of(study, table.finders)])
        lines.append(f"twins: {table.match}, of {items}; {_describe_choice(table.pairs)}")
    return lines


def _describe_choice(pairs: Sequence[tuple[str, str]] | None) -> str:
    return "all pairs of systems" if pairs is None else f"pairs: {'; '.join(SEPARATOR.join(pair) for pair in pairs)}"


def finders_of(study: Study, asked: Sequence[str] | None) -> list[str]:
    """Return the names of the finders whose codes are compared: those asked for, or all but units."""
    if asked is not None:
        return list(asked)
    return [name for name, table in study.finders.items() if table.get("finder", name) != Units.__name__]


def compare_study(study: Study, systems: Sequence[System], finders: Mapping[str, DirectionFinder]) -> xr.Dataset | None:
    """Return the similarity of the systems of a study; None if it does not ask for it."""
    table = study.populations
    if table is None:
        return None
    named = {system.name: system.responses for system in systems}
    if table.pairs is not None:
        named = {name: named[name] for name in named if any(name in pair for pair in table.pairs)}
    seed = study.seeds[0]
    chosen = {name: clone(finders[name]).set_params(random_state=seed) for name in finders_of(study, table.finders)}
    options = table.model_dump(exclude={"finders"}) | {"stimulus_groups": study.stimulus_groups, "random_state": seed}
    return compare_populations(named, chosen, **options)


def match_study(study: Study, systems: Sequence[System], fits: Sequence[Fit]) -> xr.DataTree | None:
    """Return the twins of the systems of a study, by the fits of one seed; None if it does not ask for them."""
    table = study.twins
    if table is None:
        return None
    kinds = [UNITS, *finders_of(study, table.finders)]
    by_name = {(each.system, each.items): each for each in _codes_of(study, systems, fits, kinds[1:])}
    found: dict[str, xr.Dataset] = {}
    left_out = [
        f"ceilings of {system.name}: repetitions are missing for some stimuli"
        for system in systems
        if system.repeated is not None and not _has_all_repetitions(system.repeated)
    ]
    for a, b in table.pairs or combinations([system.name for system in systems], 2):
        for items in kinds:
            try:
                one = _twins_of(study, table, by_name[a, items], by_name[b, items])
            except ValueError as error:
                what = f"twins of {a}{SEPARATOR}{b} by {items}: {error}"
                if table.pairs is not None:
                    raise ValueError(what) from error
                left_out.append(what)
                warnings.warn(f"left out, {what}", UserWarning, stacklevel=2)
            else:
                place = [name.replace("/", "_") for name in ("", f"{a}{SEPARATOR}{b}", items)]
                found["/".join(place)] = one.assign_attrs(system_a=a, system_b=b, items=items)
    if not found:
        raise ValueError(f"no pair of systems has twins: {left_out[-1]}")
    attrs = {"method": TWINS_METHOD, "match": table.match, "remove": table.remove, "left_out": "\n".join(left_out)}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs)} | found)


class _Codes(NamedTuple):
    """Codes of a system on all its stimuli, and the stimuli that its directions were found on."""

    system: str
    items: str
    values: xr.DataArray  # (stimulus, item) or (stimulus, repetition, item)
    fit: frozenset[str]  # labels; empty if directions were found on others, or on all


def _codes_of(study: Study, systems: Sequence[System], fits: Sequence[Fit], finders: Sequence[str]) -> Iterator[_Codes]:
    """Yield the units of each system, and the codes of each finder that was asked for."""
    by_name = {(fit.system, fit.finder): fit for fit in fits}
    for system in systems:
        one = next(fit for fit in fits if fit.system == system.name)
        responses = system.responses
        if system.repeated is not None and _has_all_repetitions(system.repeated):
            responses = system.repeated
        responses = responses.sel(unit=one.fitted.mean_.unit.values).compute()
        fit: frozenset[str] = frozenset()
        if study.score_on == "held-out" and system.fit_on is None:
            fit = frozenset(responses.stimulus.values.tolist()) - {*one.scored.tolist()}
        yield _Codes(system.name, UNITS, responses, fit)
        for finder in finders:
            yield _Codes(system.name, finder, _transform(by_name[system.name, finder].fitted, responses), fit)


def _has_all_repetitions(responses: xr.DataArray) -> bool:
    """Return whether reliabilities are known: none of several repetitions is missing."""
    return responses.sizes["repetition"] > 1 and not bool(responses.isnull().any())


def _transform(finder: DirectionFinder, responses: xr.DataArray) -> xr.DataArray:
    """Return the codes of responses, of each repetition if there are several."""
    if "repetition" not in responses.dims:
        return finder.transform(responses)
    codes = [finder.transform(responses.isel(repetition=i)) for i in range(responses.sizes["repetition"])]
    return xr.concat(codes, "repetition").transpose("stimulus", "repetition", ...)


def _twins_of(study: Study, table: Twins, a: _Codes, b: _Codes) -> xr.Dataset:
    """Return the twins of two systems, on the halves that their directions were found and scored on."""
    common = np.intersect1d(a.values.stimulus.values, b.values.stimulus.values)
    if len(common) == 0:
        raise ValueError("they have no stimulus in common")
    pair = {each.system: each.values.sel(stimulus=common) for each in (a, b)}
    if fit := a.fit | b.fit:  # a stimulus that both have is in the same half of both
        marks = np.where([label in fit for label in common], "fit", "score")
    else:
        averages = {name: _average(codes) for name, codes in pair.items()}
        marks = split_systems(averages, study.seeds[0], study.stimulus_groups)[a.system].split.values
    first, second = (_varying(codes, marks) for codes in pair.values())
    options = table.model_dump(exclude={"pairs", "finders"}) | {"random_state": study.seeds[0]}
    found = twins(first.assign_coords(split=("stimulus", marks)), second.drop_vars("split", errors="ignore"), **options)
    n_left_out = [codes.shape[-1] - each.shape[-1] for codes, each in zip(pair.values(), (first, second), strict=True)]
    return found.assign_attrs(n_left_out=np.array(n_left_out))


def _average(codes: xr.DataArray) -> xr.DataArray:
    return codes.mean("repetition") if "repetition" in codes.dims else codes


def _varying(codes: xr.DataArray, marks: np.ndarray) -> xr.DataArray:
    """Return the items that vary on both halves of the stimuli."""
    X, item = _average(codes).values, str(codes.dims[-1])
    varies = np.ones(X.shape[1], bool)
    for part in ("fit", "score"):
        half = X[marks == part]
        varies &= (half != half[:1]).any(axis=0)
    if not varies.any():
        raise ValueError(f"no {item} varies on both halves of their {len(X)} common stimuli; use more stimuli")
    return codes.isel({item: varies})
