"""The items that populations are compared by: units, rotations of them, codes of finders, and units as many as codes.

R (stimulus, unit) responses, Z (stimulus, item) codes; each is kept on the stimuli to fit on and on those to score on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper.comparison.fitting import check_finder, check_mapping, fit_finder, name_each
from neurosuper.comparison.shared_stimuli import refuse_copies
from neurosuper.comparison.splits import fit_and_score_parts
from neurosuper.directions import DirectionFinder
from neurosuper.responses import check_averaged

UNITS, ROTATION = "units", "rotation"


class Codes(NamedTuple):
    """Codes of one system on both halves of the stimuli, without those that are constant on one of them."""

    fit: np.ndarray  # (stimulus, item)
    score: np.ndarray


class Column(NamedTuple):
    """Codes of all systems by one kind of items: one of several draws, if items are drawn."""

    items: str  # "units", "rotation", or the name of a finder
    is_matched: bool  # units, as many as the finder has directions
    codes: dict[str, Codes]


class Population(NamedTuple):
    """Responses of a system to the stimuli that all systems share, in order of labels."""

    fit: xr.DataArray  # (stimulus, unit)
    score: xr.DataArray


def share_stimuli(
    systems: Mapping[str, xr.DataArray], least: int, seed: int, stimulus_groups: str | None
) -> dict[str, Population]:
    """Return the responses of all systems to the stimuli that all share, divided in the same halves.

    Stimuli and units are in order of their labels, so that no result depends on their order.

    Raises
    ------
    ValueError
        Fewer than two systems; fewer than `least` common stimuli in a half; copies of one photograph; any error of the
        contract, which names the system.
    """
    check_mapping(systems)
    if len(systems) < 2:
        raise ValueError(f"{len(systems)} systems are too few to compare; pass {{name: responses, name: responses}}")
    checked: dict[str, xr.DataArray] = {}
    for name, responses in systems.items():
        try:
            checked[name] = check_averaged(responses)
        except (TypeError, ValueError) as error:
            raise type(error)(f"system {name!r}: {error}") from error
    shared = set.intersection(*(set(each.stimulus.values.tolist()) for each in checked.values()))
    counts = ", ".join(f"{name} {len(each)}" for name, each in checked.items())
    if len(shared) < 2 * least:
        raise ValueError(
            f"{len(shared)} stimuli are common to all systems (of {counts}); these measures need at least {2 * least}, "
            f"{least} to fit on and {least} to score on"
        )
    checked = {name: each.sel(stimulus=sorted(shared)).sortby("unit").compute() for name, each in checked.items()}
    for each in checked.values():
        refuse_copies(each)
    parts = fit_and_score_parts(checked, "held-out", seed, stimulus_groups)
    for part, n in zip(("fit", "score"), (len(half) for half in next(iter(parts.values()))), strict=True):
        if n < least:
            raise ValueError(f"{n} common stimuli have the split {part!r}; these measures need at least {least}")
    return {name: Population(*halves) for name, halves in parts.items()}


def name_finders(finders: object) -> dict[str, DirectionFinder]:
    """Return checked finders by name; none are allowed."""
    if isinstance(finders, list | tuple | Mapping) and not finders:
        return {}
    named = name_each(finders, "finders", check_finder, lambda finder: type(finder).__name__)  # type: ignore[arg-type]
    if taken := {UNITS, ROTATION} & named.keys():
        raise ValueError(f"{sorted(taken)[0]!r} is the name of items that are always compared; rename this finder")
    return named


def item_columns(
    populations: Mapping[str, Population], finders: Mapping[str, DirectionFinder], n_rotations: int, seed: int
) -> Iterator[Column]:
    """Yield units, rotations, and the codes of each finder, each followed by units as many as its directions."""
    units = {name: Codes(*(part.values.astype(float) for part in each)) for name, each in populations.items()}
    yield Column(UNITS, False, units)
    for draw in range(n_rotations):
        yield Column(ROTATION, False, {name: rotate(each, _rng(seed, 0, draw, name)) for name, each in units.items()})
    for number, (label, finder) in enumerate(finders.items(), start=1):
        codes = {name: _codes_of(finder, each, label, name) for name, each in populations.items()}
        yield Column(label, False, codes)
        sizes = {name: each.score.shape[1] for name, each in codes.items()}
        if all(sizes[name] == each.score.shape[1] for name, each in units.items()):
            continue  # as many directions as units: these are the match
        for draw in range(n_rotations):
            drawn = {name: resize(units[name], n, _rng(seed, number, draw, name)) for name, n in sizes.items()}
            yield Column(label, True, drawn)


def rotate(units: Codes, rng: np.random.Generator) -> Codes:
    """Return z-scored units on random orthogonal axes, uniform over all."""
    fit, score = _zscore(units)
    n = fit.shape[1]
    Q = stats.ortho_group.rvs(n, random_state=rng) if n > 1 else np.ones((1, 1))
    return Codes(fit @ Q, score @ Q)


def resize(units: Codes, n: int, rng: np.random.Generator) -> Codes:
    """Return n columns made of units without learning: some of the units, or a random expansion of all of them.

    An expansion is max(0, z W) of z-scored units z, with independent normal weights W. Without the rectification it
    would stay in the space of the units, and add nothing to a linear model: what more directions gain by being more,
    and by not being linear in the units, would be counted as found.
    """
    n_units = units.fit.shape[1]
    if n <= n_units:
        chosen = np.sort(rng.choice(n_units, n, replace=False))
        return Codes(units.fit[:, chosen], units.score[:, chosen])
    W = rng.normal(size=(n_units, n)) / np.sqrt(n_units)
    return Codes(*(np.maximum(z @ W, 0) for z in _zscore(units)))


def _zscore(units: Codes) -> Codes:
    """Return units of mean 0 and standard deviation 1 on the stimuli to fit on."""
    mean, scale = units.fit.mean(axis=0), units.fit.std(axis=0)
    return Codes((units.fit - mean) / scale, (units.score - mean) / scale)


def _codes_of(finder: DirectionFinder, population: Population, label: str, name: str) -> Codes:
    """Return the codes by a finder that is fitted on the stimuli to fit on."""
    fitted = fit_finder(finder, population.fit, f"{label!r} in {name!r}")
    fit, score = (fitted.transform(part).values.astype(float) for part in population)
    varies = np.ptp(fit, axis=0) > 0
    varies &= np.ptp(score, axis=0) > 0
    if not varies.any():
        raise ValueError(
            f"no direction of {name!r} by {label!r} varies over both halves of the stimuli; use more stimuli, change "
            "the settings of the finder, or leave it out"
        )
    return Codes(fit[:, varies], score[:, varies])


def _rng(seed: int, number: int, draw: int, name: str) -> np.random.Generator:
    """Return a generator for one draw in one system.

    It depends on the name of the system: two systems with the same rotation of as many units would stay matched.
    """
    return np.random.default_rng([seed, number, draw, crc32(name.encode())])
