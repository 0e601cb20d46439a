"""Directions of every system, fitted on one half of the stimuli, and the top stimuli of every item on the other."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurosuper._checks import Seed, check_one_of, seed_or_new
from neurosuper._joins import LEFT_OUT, join_images, left_out
from neurosuper._progress import progress
from neurosuper.comparison.baselines import add_baselines
from neurosuper.comparison.matched_finders import By, match_finders
from neurosuper.comparison.splits import ScoreOn, StimulusGroups, fit_and_score_parts, halve_scored, join_fit_on
from neurosuper.directions import DirectionFinder
from neurosuper.interpretability.group_scores import leading_stimuli
from neurosuper.interpretability.ranking import count_active, top_stimuli
from neurosuper.responses import (
    check_averaged,
    constant_items,
    coords_along,
)

RESERVED = {  # names of variables, coords and dims of a comparison, which no unit coord may have
    *("item", "metric", "system", "finder", "direction", "seed", "quantity", "interpretability", "top_stimuli"),
    *("chance_level", "chance_level_low", "chance_level_high", "difference_of_halves", "draw", "influence", "rank"),
    *("corrected", "corrected_difference_of_halves", "corrected_influence", "frequency_floor"),
    *("chance_level_sd", "corrected_chance_low", "corrected_chance_high", "corrected_chance_sd"),
    *("n_active", "baseline", "index_reliability", "corrected_reliability", "top_groups", "mean_of_halves"),
    *("has_copies", "code", "is_copy", "end"),
    # Attrs, which a coord of the same name would hide in `table.top`.
    *("top", "n_resamples", "n_stimuli", "n_stimulus_groups", "random_state", "score_on", "shared_stimuli"),
    *("stimulus_groups", "confidence_level", "provenance"),
}


class Fit(NamedTuple):
    """The directions that one finder found in one system, and the top stimuli of each.

    Parameters
    ----------
    system, finder : str
        Names, as in `fit_systems`.
    fitted : DirectionFinder
        The fitted copy of the finder.
    top_stimuli : DataArray (rank, unit) or (rank, direction)
        Labels, from `top_stimuli`, among the stimuli that were scored.
    scored : array of str (stimulus,)
        Labels of the stimuli to score on.
    halves : array (stimulus, draw) or None
        The half of each stimulus in `scored`, 0 or 1, in each random split; None if a half is smaller than `top`.
    leading : array (item, place) or None
        Positions in `scored` of the stimuli with the largest codes, as many as the top stimuli of all halves may be.
    n_stimuli : int
        Number of stimuli that were scored, with copies of one photograph counted once.
    n_active : array of int (item,)
        Number of active stimuli among those that were scored (see `compare`).
    n_constant : int
        Number of directions that are constant on the stimuli to score on, and were left out.
    baseline : str
        Name of the matched baseline of the finder; "" if it has none.
    stimulus_groups : StimulusGroups or None
        The `name` of the coord, the number of the group of each stimulus in `scored` (`of_scored`; a group has the same
        in all systems), and how many groups these are (`n`).
    n_units_left_out : int
        Number of units that are constant on the stimuli to fit on or on those to score on, and were left out.
    matched : float or None
        The share of variance, or the sparseness, that the number of directions was chosen for (see `match_finders`).

    See Also
    --------
    fit_systems : Returns one for each system and finder.
    score_fits : Scores the items of several.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper.comparison import fit_systems
    >>> from neurosuper import Units
    >>> r = xr.DataArray(np.random.default_rng(0).gamma(1, 5, (40, 3)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": [f"s{i}" for i in range(40)], "unit": list("abc")})
    >>> fit = next(fit_systems({"V4": r}, [Units()]))
    >>> fit.system, fit.finder, fit.fitted.directions_.shape
    ('V4', 'Units', (3, 3))
    """

    system: str
    finder: str
    fitted: DirectionFinder
    top_stimuli: xr.DataArray
    scored: np.ndarray
    halves: np.ndarray | None
    leading: np.ndarray | None
    n_stimuli: int
    n_active: np.ndarray
    n_constant: int = 0
    baseline: str = ""
    stimulus_groups: StimulusGroups | None = None
    n_units_left_out: int = 0
    matched: float | None = None


def fit_systems(
    systems: Mapping[str, xr.DataArray],
    finders: Sequence[DirectionFinder] | Mapping[str, DirectionFinder],
    *,
    top: int = 5,
    score_on: ScoreOn = "held-out",
    fit_on: Mapping[str, xr.DataArray] | None = None,
    baselines: bool = True,
    stimulus_groups: str | None = None,
    drop_constant_units: bool = True,
    match: By | None = None,
    random_state: Seed = 0,
) -> Iterator[Fit]:
    """Yield the directions of every system by every finder, with their top stimuli: the first half of `compare`.

    Use it with `score_fits` to keep the fitted finders, or to score the same fits several times.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
        Responses, without repetitions. Each stimulus needs an image if fits are to be scored: see `align`.
    finders : sequence or mapping of name to finder
        Left untouched: each system gets a fresh copy. In a sequence, a finder is named by its class.
    top : int, optional
        Number of top stimuli of an item.
    score_on : {"held-out", "all"}, optional
        "held-out": directions are fitted on one half of the stimuli of each system and scored on the other (by the
        coord `split`, where a system has it); a stimulus that systems share is in the same half in all of them. "all":
        both on all stimuli, as in Klindt et al. 2023.
    fit_on : mapping of name to DataArray (stimulus, unit), optional
        For systems whose directions are to be found on other stimuli, which need no images: the responses of the same
        units (matched by label) to these. Directions are fitted on all of them, and scored on all stimuli of the
        system; no stimulus may be in both. The other systems are divided as `score_on` says.
    baselines : bool, optional
        Add the matched baseline of every finder (see `compare`).
    stimulus_groups : str, optional
        A stimulus coord of all systems, of stimuli that are not independent: clusters, categories, bursts of
        frames. Whole groups are to fit on or to score on, half of them each, and whole groups are halved, so that the
        intervals of contrasts are for other groups. At least 4 to score on.
    drop_constant_units : bool, optional
        Leave out units that give the same response to all stimuli to fit on, or to all those to score on, such as
        silent units of a network: they have no top stimuli. Each `Fit` counts them. False: they are an error.
    match : {"variance", "sparseness"}, optional
        Give each finder, in each system, the number of directions with which it explains as much variance as the first
        finder does, or is as sparse: chosen on the stimuli to fit on, by `match_finders`. None: the numbers that
        finders have.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split into a half to fit on and a half to score on, and of the order of stimuli with equal codes
        (see `top_stimuli`). Finders have their own.

    Yields
    ------
    Fit
        One for each system and finder, systems first. Settings are checked, and fits are made, during the iteration.
        Directions that are constant on the stimuli to score on have no top stimuli, and are left out and counted.

    Raises
    ------
    TypeError
        Systems are not a mapping, a name is not a str, or a finder is not a `DirectionFinder`.
    ValueError
        No system or finder; systems with other dims; names that are not unique; a unit coord with a reserved name;
        units of zero variance, if they are not to be dropped, or a system of such units only; a finder all of whose
        directions are constant on the stimuli to score on; more `top` than stimuli to score on; systems that mark the
        same stimulus differently, or put it in different groups; too few groups, or a system without their coord; a
        finder with the name of a baseline that would be added; another `score_on`, `baselines` or
        `drop_constant_units`.

    See Also
    --------
    score_fits : The second half of `compare`.
    compare : Both halves in one call.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import PCA, Units
    >>> r = xr.DataArray(np.random.default_rng(0).gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": [f"s{i}" for i in range(40)], "unit": list("abcdef")})
    >>> fits = list(fit_systems({"V4": r}, [Units(), PCA(2)], top=3))
    >>> [(fit.finder, fit.baseline) for fit in fits]
    [('Units', ''), ('PCA', 'CovarianceMatched'), ('CovarianceMatched', '')]
    >>> fits[1].top_stimuli.shape, len(fits[1].scored)
    ((3, 2), 20)
    """
    finders, baseline_of = _name_finders(finders, baselines)
    _check_systems(systems)
    check_one_of("score_on", score_on, ("held-out", "all"))
    if match is not None:
        check_one_of("match", match, get_args(By))
    seed = seed_or_new(random_state)
    if not isinstance(drop_constant_units, bool | np.bool_):
        raise ValueError(f"drop_constant_units must be True or False, got {drop_constant_units!r}")
    others = join_fit_on(systems, fit_on, stimulus_groups)
    parts = fit_and_score_parts(systems, score_on, seed, stimulus_groups, drop_constant_units, others)
    _check_top(top, parts)
    halves = halve_scored({name: scored for name, (_, scored) in parts.items()}, top, stimulus_groups)
    chosen = {system: _matched(finders, part, match, seed) for system, (part, _) in parts.items()}
    pairs = [(system, finder) for system in parts for finder in finders]
    for system, finder in (bar := progress(pairs, desc="directions", unit="fit")):
        bar.set_postfix_str(f"{system}, {finder}")
        (fit_part, score_part), own = parts[system], halves[system]
        matched, value = chosen[system][finder]
        fitted = fit_finder(matched, fit_part, f"{finder!r} in {system!r}")
        codes, n_constant = _drop_constant(fitted.transform(score_part), system, finder, fit_part.sizes["unit"])
        yield Fit(
            system,
            finder,
            fitted,
            top_stimuli(codes, top=top, random_state=seed),
            codes.stimulus.values,
            own.of_scored,
            None if own.of_scored is None else leading_stimuli(codes, [own.of_scored], top, seed),
            own.n_stimuli,
            count_active(codes.values),
            n_constant,
            baseline_of.get(finder, ""),
            own.groups,
            systems[system].sizes["unit"] - fit_part.sizes["unit"],
            value,
        )


def _matched(
    finders: Mapping[str, DirectionFinder], fit_part: xr.DataArray, match: By | None, seed: int
) -> dict[str, tuple[DirectionFinder, float | None]]:
    """Return finders with the number of directions that a match gives them in a system, and the value it has there."""
    if match is None:
        return {name: (finder, None) for name, finder in finders.items()}
    found = match_finders(finders, fit_part.drop_vars("split", errors="ignore"), by=match, random_state=seed)
    rows = found.to_dataframe()
    return {
        name: (clone(finder).set_params(n_directions=int(rows.n_directions[name])), float(rows.reached[name]))
        if name in rows.index
        else (finder, None)
        for name, finder in finders.items()
    }


def fit_finder(finder: DirectionFinder, responses: xr.DataArray, name: str) -> DirectionFinder:
    """Return a fitted copy of a finder; its warnings name the system and the finder."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = clone(finder).fit(responses)
    for warning in caught:
        warnings.warn(f"{name}: {warning.message}", warning.category, stacklevel=3)
    return fitted


def _name_finders(
    finders: Sequence[DirectionFinder] | Mapping[str, DirectionFinder], baselines: bool
) -> tuple[dict[str, DirectionFinder], dict[str, str]]:
    """Return checked finders by name, with the baselines that are asked for, and the name of the baseline of each."""
    if not isinstance(baselines, bool | np.bool_):
        raise ValueError(f"baselines must be True or False, got {baselines!r}; list finders of your own in `finders`")
    named = name_each(finders, "finders", check_finder, lambda finder: type(finder).__name__)
    return add_baselines(named) if baselines else (named, {})


def _drop_constant(codes: xr.DataArray, system: str, finder: str, n_units: int) -> tuple[xr.DataArray, int]:
    """Return codes without the directions that give all stimuli the same code, and the number of these."""
    constant = constant_items(codes)
    if len(constant) == codes.shape[1]:
        why = ": a single unit has no direction but itself" if n_units == 1 else ""
        raise ValueError(
            f"no direction of {system!r} by {finder!r} varies over the {len(codes)} stimuli to score on, so none has "
            f"top stimuli{why}; fit on more units, change the settings of the finder, or leave it out"
        )
    return codes[:, ~np.isin(codes[codes.dims[1]].values, constant)] if len(constant) else codes, len(constant)


def name_each(
    values: Sequence | Mapping, parameter: str, check: Callable[[Any], object], name_of: Callable[[Any], str]
) -> dict[str, Any]:
    """Return checked finders or metrics by name: the key in a mapping, `name_of(value)` in a sequence."""
    if isinstance(values, str) or not isinstance(values, Mapping | Sequence):
        raise TypeError(
            f"{parameter} must be a list or a mapping {{name: …}}, got {type(values).__name__}; put it in a list"
        )
    if not values:
        raise ValueError(f"no {parameter} to compare; pass at least one")
    checked = list(values.values() if isinstance(values, Mapping) else values)
    for value in checked:
        check(value)
    names = list(values) if isinstance(values, Mapping) else [name_of(value) for value in checked]
    _check_names(names, parameter)
    if len(set(names)) < len(names):
        raise ValueError(f"{parameter} need different names, got {names}; pass {{name: …, name: …}} instead of a list")
    return dict(zip(names, checked, strict=True))


def check_mapping(systems: object) -> None:
    """Raise unless systems are a mapping of names."""
    if not isinstance(systems, Mapping):
        raise TypeError(f"systems must be a mapping {{name: responses, …}}, got {type(systems).__name__}")


def join_system(name: str, responses: xr.DataArray, stimuli: xr.DataArray) -> xr.DataArray:
    """Return the responses of one system to the stimuli that have an image; errors name the system."""
    try:
        return join_images(check_averaged(responses), stimuli, f"system {name!r}")
    except (TypeError, ValueError) as error:
        raise type(error)(f"system {name!r}: {error}") from error


def describe_shared(systems: Mapping[str, xr.DataArray], fit_on: Mapping[str, xr.DataArray] | None = None) -> str:
    """Return a description of how many stimuli all systems share, how many each has, and how many joins left out.

    It names the systems whose directions were found on other stimuli, those in `fit_on`.
    """
    labels = [set(responses.stimulus.values) for responses in systems.values()]
    lost = {name: left_out(responses)[LEFT_OUT] for name, responses in systems.items() if left_out(responses)}
    counts_lost = ", ".join(f"{name} {n}" for name, n in lost.items())
    losses = f"; left out, as they have no partner: {counts_lost}" if lost else ""
    others = ", ".join(f"{name} on {other.sizes['stimulus']}" for name, other in (fit_on or {}).items())
    losses += f"; directions found on other stimuli: {others}" if others else ""
    if all(of_system == labels[0] for of_system in labels):
        return f"{len(labels[0])} stimuli" + (", the same in all systems" if len(labels) > 1 else "") + losses
    counts = ", ".join(f"{name} {len(of_system)}" for name, of_system in zip(systems, labels, strict=True))
    return f"{len(set.intersection(*labels))} stimuli in common to all systems (of {counts})" + losses


def describe_match(fits: Iterable[Fit]) -> str:
    """Return the number of directions of each system and finder, and the value it was chosen for, as JSON."""
    found: dict[str, dict] = {}
    for fit in fits:
        if fit.matched is not None:
            n = fit.fitted.directions_.sizes["direction"]
            found.setdefault(fit.system, {})[fit.finder] = {"n_directions": n, "reached": fit.matched}
    return json.dumps(found)


def _check_top(top: int, parts: Mapping[str, tuple[xr.DataArray, xr.DataArray]]) -> None:
    if top < 2:
        raise ValueError(f"the index needs at least 2 top stimuli, got {top}; raise `top`")
    for name, (_, scored) in parts.items():
        if top > (n := scored.sizes["stimulus"]):
            raise ValueError(
                f"{top} top stimuli asked for, but {name!r} has only {n} stimuli to score on; "
                "lower `top`, or use score_on='all'"
            )


def _check_names(names: Iterable[object], parameter: str) -> None:
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"names of {parameter} must be str, got {wrong[0]!r}; pass {{'name': …}}")


def check_finder(finder: object) -> None:
    """Raise unless an object is a finder that was called."""
    if not isinstance(finder, DirectionFinder):
        got = f"the class {finder.__name__}, which is not called" if isinstance(finder, type) else repr(finder)[:80]
        raise TypeError(
            f"a finder must be an object such as neurosuper.Units() or neurosuper.PCA(8), got {got}; subclass "
            "neurosuper.directions.DirectionFinder for one of your own"
        )


def _check_systems(systems: Mapping[str, xr.DataArray]) -> None:
    """Raise, before hours of fits, if a table of items could not contain these systems."""
    check_mapping(systems)
    if not systems:
        raise ValueError("no system to compare; pass {'name': responses, ...}")
    _check_names(systems, "systems")
    for name, responses in systems.items():
        if not isinstance(responses, xr.DataArray) or {*responses.dims} != {"stimulus", "unit"}:
            got = responses.dims if isinstance(responses, xr.DataArray) else type(responses).__name__
            raise ValueError(
                f"system {name!r}: responses must be a DataArray with the dims stimulus and unit, got {got}; call "
                "neurosuper.average_repetitions(responses) if there are repetitions"
            )
        if taken := RESERVED & set(coords_along(responses, "unit")):
            raise ValueError(
                f"{name!r} has the unit coord {sorted(taken)[0]!r}, which is reserved for comparisons; rename it"
            )
