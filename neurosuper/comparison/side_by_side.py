"""Units against directions, brain against network: every item scored by every metric, in one table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone
from tqdm import tqdm

from neurosuper._content import all_stimuli, photographs_of
from neurosuper._joins import LEFT_OUT, join_images, left_out
from neurosuper.directions import DirectionFinder, Units
from neurosuper.images import check_images
from neurosuper.interpretability.index import describe
from neurosuper.interpretability.random_splits import draw_parts, fewest_in_part, index_of_parts, top_of_parts
from neurosuper.interpretability.ranking import top_stimuli, warn_of_copies
from neurosuper.interpretability.stimulus_sampling import N_DRAWS
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.base import check_metric
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import (
    DROP_THEM,
    check_averaged,
    coords_along,
    name_some,
    part_of,
    require_varying,
    split_stimuli,
)

N_SETS = 200  # random sets of stimuli that tell what an index is by chance
SEPARATOR = " | "  # between labels in `top_stimuli`
RESERVED = {
    *("item", "metric", "system", "finder", "direction", "seed", "quantity", "interpretability", "top_stimuli"),
    *("floor", "floor_low", "floor_high", "index_of_halves", "draw", "half"),
}
ScoreOn = Literal["held-out", "all"]
Metrics = Sequence[ImageMetric | Precomputed] | Mapping[str, ImageMetric | Precomputed]


def compare(
    systems: Mapping[str, xr.DataArray],
    images: xr.DataArray,
    finders: Sequence[DirectionFinder] | Mapping[str, DirectionFinder],
    metrics: Metrics,
    top: int = 5,
    score_on: ScoreOn = "held-out",
    random_state: int | None = 0,
) -> xr.Dataset:
    """Find directions in every system, and score every unit and direction by every metric.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
        Brain and network. They need not have seen the same images.
    images : DataArray (stimulus, row, column, channel)
        All the images; stimuli of a system that have none are left out.
    finders : sequence or mapping of name to finder
        Left untouched: each system gets a fresh copy. In a sequence, a finder is named by its class.
    metrics : sequence or mapping of name to metric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, `Precomputed` distances, or any object with `embed`.
    top : int, optional
        Number of top stimuli of an item.
    score_on : {"held-out", "all"}, optional
        "held-out": directions are fitted on one half of the stimuli and scored on the other (by the coord `split`,
        where a system has it). "all": both on all stimuli, as in Klindt et al. 2023.
    random_state : int, optional
        Of the halves. Finders have their own.

    Returns
    -------
    Dataset (item, metric)
        An item is one unit or direction: coords `system`, `finder`, `direction`, and the unit coords (of a direction:
        the value that all units share, else empty). Variables `interpretability (item, metric)` and
        `top_stimuli (item)`, labels joined by " | ". What chance gives: `floor (item, metric)`, the mean index of 200
        random sets of as many of the stimuli that the item's system was scored on, and `floor_low` and `floor_high`,
        between which 95 % of these sets lie. What other stimuli would give: `index_of_halves (item, metric, draw,
        half)`, on random halves of the stimuli, the same for all items, from which `contrast_finders` tells how sure
        differences are; NaN where a half has fewer stimuli than `top`. `attrs` say how many stimuli the systems share,
        and, where any were left out for want of an image, how many of each system: `n_stimuli_left_out`. Where an item
        has two copies of one photograph among its top stimuli, `has_copies (item)` marks it (see `find_copies`).
        `drop_dims("draw").to_dataframe()` is the table without halves.

    Raises
    ------
    ValueError
        No system, finder or metric; names that are not unique; no image in common; units of zero variance; more `top`
        than stimuli to score on.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, KMeans, Units, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> brain = xr.DataArray(rng.gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": list("abcdef")})
    >>> table = compare({"V4": brain}, images, [Units(), KMeans(4)], [Color()], score_on="all")
    >>> dict(table.interpretability.sizes)
    {'item': 10, 'metric': 1}
    """
    if not isinstance(systems, Mapping):
        raise TypeError(f"systems must be a mapping {{name: responses, …}}, got {type(systems).__name__}")
    images = check_images(images)
    systems = {name: meet_images(name, responses, images.stimulus) for name, responses in systems.items()}
    metrics = name_metrics(metrics)  # before hours of fits
    fits = list(fit_systems(systems, finders, top, score_on, random_state))
    lost = [left_out(responses).get(LEFT_OUT, 0) for responses in systems.values()]
    return score_fits(fits, images, metrics).assign_attrs(
        score_on=score_on,
        random_state=-1 if random_state is None else random_state,
        shared_stimuli=describe_shared(systems),
        **({LEFT_OUT: lost} if any(lost) else {}),
    )


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
    finders = _named(finders, "finders", _check_finder, lambda finder: type(finder).__name__)
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
        yield Fit(system, finder, fitted, top_stimuli(codes, top), codes.stimulus.values, of_halves)


def score_fits(fits: Sequence[Fit], images: xr.DataArray, metrics: Metrics) -> xr.Dataset:
    """Score all items of all fits, embedding each image once per metric (see `compare`)."""
    metrics = name_metrics(metrics)
    top = np.concatenate([fit.top.values for fit in fits], axis=1)
    n_items, coords, random = top.shape[1], _item_coords(fits), _draw_sets(fits, len(top))
    every = np.concatenate([top, *random.values()], axis=1).T
    scored = [_score(fits, every, images, metric) for metric in metrics.values()]
    scores = np.stack([index for index, _ in scored], axis=1)
    by_chance = scores[n_items:].reshape(len(random), N_SETS, -1)  # (system, set, metric)
    floors = np.stack([by_chance.mean(1), *np.quantile(by_chance, (0.025, 0.975), axis=1)])
    of_items = floors[:, pd.Index(list(random)).get_indexer(coords["system"][1])]
    columns = {"interpretability": scores[:n_items]} | dict(
        zip(("floor", "floor_low", "floor_high"), of_items, strict=True)
    )
    of_halves = np.stack([halves for _, halves in scored], axis=1)
    has_copies = np.concatenate([_has_copies(fit.top) for fit in fits])
    if has_copies.any():
        warn_of_copies(int(has_copies.sum()), n_items, len(top))
    return xr.Dataset(
        {name: (("item", "metric"), values) for name, values in columns.items()}
        | {"top_stimuli": ("item", np.array([SEPARATOR.join(labels) for labels in top.T.tolist()]))}
        | {"index_of_halves": (("item", "metric", "draw", "half"), of_halves)}
        | ({"has_copies": ("item", has_copies)} if has_copies.any() else {}),
        coords=coords
        | {
            "item": np.arange(n_items),
            "metric": list(metrics),
            "quantity": ("metric", [describe(metric) for metric in metrics.values()]),
        },
        attrs={"top": len(top), "floor_sets": N_SETS},
    )


def _score(
    fits: Sequence[Fit], every: np.ndarray, images: xr.DataArray, metric: ImageMetric | Precomputed
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of sets `(set, rank)` of stimuli, and that of all items on halves `(item, draw, half)`."""
    index = images.get_index("stimulus")
    sets = index.get_indexer(every.ravel()).reshape(1, 1, *every.shape)
    halves = [None if fit.top_of_halves is None else index.get_indexer(fit.scored)[fit.top_of_halves] for fit in fits]
    chosen = np.unique(np.concatenate([sets.ravel(), *(own.ravel() for own in halves if own is not None)]))
    of_halves = [np.full((N_DRAWS, 2, fit.top.shape[1]), np.nan, np.float32) for fit in fits]
    with open_distances(images, chosen, metric) as distances:
        of_sets = index_of_parts(distances, np.searchsorted(chosen, sets), metric.self_similarity)
        looked_up = distances.looked_up()
        for values, own in zip(of_halves, halves, strict=True):
            if own is not None:
                values[:] = index_of_parts(looked_up, np.searchsorted(chosen, own), metric.self_similarity)
    return of_sets[0, 0], np.moveaxis(np.concatenate(of_halves, axis=2), 2, 0)


def _has_copies(top: xr.DataArray) -> np.ndarray:
    """Return which items have two copies of a photograph among their top stimuli."""
    return top.is_copy.any("rank").values if "is_copy" in top.coords else np.zeros(top.shape[1], bool)


def _draw_sets(fits: Sequence[Fit], top: int) -> dict[str, np.ndarray]:
    """Return random sets `(rank, set)` of the stimuli that each system was first scored on."""
    rng, first = np.random.default_rng(0), {fit.system: fit.scored for fit in reversed(fits)}
    return {
        system: np.stack([rng.choice(first[system], top, replace=False) for _ in range(N_SETS)], axis=1)
        for system in dict.fromkeys(fit.system for fit in fits)
    }


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


def _warn_of_copies_apart(marks: list[str], photographs: list[int]) -> None:
    """Warn where copies of one photograph are marked differently: directions are scored on what they were fitted on."""
    apart = len(set(zip(photographs, marks, strict=True))) - len(set(photographs))
    if apart:
        warnings.warn(
            f"{apart} photographs are on both sides of the split, as copies under several labels; mark copies alike "
            "(neurosuper.split_stimuli does), or average them with neurosuper.copies.average_copies(responses, images)",
            stacklevel=4,
        )


def _given_marks(systems: Mapping[str, xr.DataArray]) -> dict[str, str]:
    """Return the split of every stimulus that some system marks."""
    given: dict[str, str] = {}
    for name, responses in systems.items():
        if "split" in responses.coords:
            for label, mark in zip(responses.stimulus.values.tolist(), responses.split.values.tolist(), strict=True):
                if given.setdefault(label, mark) != mark:
                    raise ValueError(f"{name!r} marks stimulus {label!r} {mark!r}, another system {given[label]!r}")
    return given


def name_metrics(metrics: Metrics) -> dict[str, ImageMetric | Precomputed]:
    """Return the metrics of a comparison by their names, or say what is wrong with them (see `compare`)."""
    return _named(metrics, "metrics", check_metric, lambda metric: metric.name)


def _named(
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


def _carry(fitted: DirectionFinder) -> dict[str, np.ndarray]:
    """Return unit coords for the directions: a unit's own, or what all units share, else empty."""
    coords = {name: coord.values for name, coord in fitted.mean_.coords.items() if name != "unit"}
    if isinstance(fitted, Units):
        return coords
    n = fitted.directions_.sizes["direction"]
    return {name: np.repeat(_shared_value(values), n) for name, values in coords.items()}


def _shared_value(values: np.ndarray) -> Any:
    empty = np.nan if values.dtype.kind in "iufb" else ""
    return values[0] if (values == values[0]).all() else empty


def _item_coords(fits: Sequence[Fit]) -> dict[str, tuple[str, np.ndarray]]:
    frames = []
    for fit in fits:
        labels = fit.fitted.directions_.direction.values
        own = {"system": fit.system, "finder": fit.finder, "direction": labels.astype(str)}
        frames.append(own | _carry(fit.fitted))
    return {name: ("item", _join(frames, name)) for name in dict.fromkeys(key for frame in frames for key in frame)}


def _join(frames: Sequence[Mapping], name: str) -> np.ndarray:
    """Return one coord over all items: NaN, or empty text, where a system does not have it."""
    numeric = all(np.asarray(frame[name]).dtype.kind in "iufb" for frame in frames if name in frame)
    empty, dtype = (np.nan, float) if numeric else ("", str)
    columns = [np.broadcast_to(frame.get(name, empty), len(frame["direction"])) for frame in frames]
    return np.concatenate([np.where(pd.isnull(column), empty, column.astype(dtype)) for column in columns])
