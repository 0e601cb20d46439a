"""The interpretability index of every item of several fits, by every metric, with the chance level."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.comparison.fitting import Fit, name_each
from neurosuper.comparison.provenance import describe_comparison
from neurosuper.comparison.variable_attrs import add_attrs
from neurosuper.directions import DirectionFinder, Units
from neurosuper.images import check_images
from neurosuper.interpretability.corrections import ShiftedDistances, hub_shifts
from neurosuper.interpretability.disjoint_stimuli import MIN_ITEMS, correlate_sets
from neurosuper.interpretability.floors import balance_picks, floor_distances
from neurosuper.interpretability.group_scores import sample_index
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.random_splits import index_of_sets
from neurosuper.interpretability.ranking import warn_of_copies
from neurosuper.interpretability.sampled_sets import N_RESAMPLES
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.base import check_metric
from neurosuper.metrics.distances import Distances, open_distances
from neurosuper.responses import name_some

N_RANDOM_SETS = 200  # random sets of stimuli per system: their s.d. then has a standard error of 5 %
CONFIDENCE_LEVEL = 0.95  # share of random sets between `chance_level_low` and `chance_level_high`
ITEM = ("item", "metric")
CORRECTED = ("corrected", "frequency_floor")
CHANCE = (  # of random sets of the stimuli of a system: the mean index, quantiles and s.d. between sets
    *("chance_level", "chance_level_low", "chance_level_high", "chance_level_sd"),
    *("corrected_chance_low", "corrected_chance_high", "corrected_chance_sd"),
)
ON_HALVES: dict[str, tuple[str, ...]] = {  # variables from the index on halves of the stimuli, and their last dim
    "difference_of_halves": ("draw",),
    "influence": ("rank",),
    "index_reliability": (),
    "corrected_difference_of_halves": ("draw",),
    "corrected_influence": ("rank",),
    "corrected_reliability": (),
}
UNITS_LEFT_OUT = "units that give all stimuli to fit on, or all those to score on, the same response"
TAILS = (0.025, 0.975)  # the quantiles of these two
Metrics = Sequence[ImageMetric | Precomputed] | Mapping[str, ImageMetric | Precomputed]
logger = logging.getLogger(__name__)


def score_fits(fits: Sequence[Fit], images: xr.DataArray, metrics: Metrics) -> xr.Dataset:
    """Return the interpretability of every item of every fit, by every metric: the second half of `compare`.

    Each image that was scored is embedded once per metric.

    Parameters
    ----------
    fits : sequence of Fit
        From `fit_systems`, all with the same number of top stimuli.
    images : DataArray (stimulus, row, column, channel)
        Images of at least the stimuli that the fits were scored on.
    metrics : sequence or mapping of name to metric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, `Precomputed` distances, or any object with `embed`.

    Returns
    -------
    Dataset (item, metric)
        As from `compare`, without the attrs that describe the systems and the split.

    Raises
    ------
    TypeError
        Not a metric, or a name that is not a str.
    ValueError
        No fit or metric; metrics whose names are not unique; a stimulus without an image.

    See Also
    --------
    fit_systems : The first half of `compare`.
    compare : Both halves in one call.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, Units, load_images
    >>> from neurosuper.comparison import fit_systems
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcdef")})
    >>> fits = list(fit_systems({"V4": r}, [Units()], top=3))
    >>> scores = score_fits(fits, images, [Color()])
    >>> scores.sizes["item"], bool((scores.chance_level_low < scores.chance_level).all())
    (6, True)
    """
    images, metrics = check_images(images), name_metrics(metrics)
    _check_fits(fits, images)
    groups, about_groups = _describe_groups(fits)
    top = np.concatenate([fit.top_stimuli.values for fit in fits], axis=1)
    n_items, coords, random = top.shape[1], _item_coords(fits), _draw_random_sets(fits, len(top))
    every = np.concatenate([top, *random], axis=1).T
    scored = [_score(fits, every, images, metric) for metric in metrics.values()]
    scores = np.stack([index for index, _ in scored], axis=1)
    columns = {"interpretability": scores[:n_items]}
    n_of_fits = [fit.top_stimuli.shape[1] for fit in fits]
    of_item = np.repeat(_find_shared(fits)[1], n_of_fits)
    columns |= {name: np.stack([values[name][of_item] for _, values in scored], axis=1) for name in CHANCE}
    others = {
        name: ((*ITEM, *dims), np.stack([values[name] for _, values in scored], axis=1))
        for name, dims in (dict.fromkeys(CORRECTED, ()) | ON_HALVES).items()
    }
    has_copies = np.concatenate([_has_copies(fit.top_stimuli) for fit in fits])
    if has_copies.any():
        warn_of_copies(int(has_copies.sum()), n_items, len(top))
    quantities = {name: index_label(metric) for name, metric in metrics.items()}
    table = xr.Dataset(
        {name: (("item", "metric"), values) for name, values in columns.items()}
        | {"n_active": ("item", np.concatenate([fit.n_active for fit in fits]))}
        | {"top_stimuli": (("item", "rank"), top.T)}
        | others
        | groups
        | ({"has_copies": ("item", has_copies)} if has_copies.any() else {}),
        coords=coords
        | {
            "item": np.arange(n_items),
            "metric": list(metrics),
            "quantity": ("metric", list(quantities.values())),
        },
        attrs={"top": len(top), "n_resamples": N_RANDOM_SETS, "confidence_level": CONFIDENCE_LEVEL}
        | {"n_stimuli": max(fit.n_stimuli for fit in fits)}
        | about_groups
        | _warn_of_constant(fits)
        | _warn_of_units_left_out(fits)
        | {"provenance": describe_comparison({fit.finder: fit.fitted for fit in fits}, quantities)},
    )
    return add_attrs(table)


def name_metrics(metrics: Metrics) -> dict[str, ImageMetric | Precomputed]:
    """Return the metrics of a comparison by name, after checking them (see `compare`)."""
    return name_each(metrics, "metrics", check_metric, lambda metric: metric.name)


def _check_fits(fits: Sequence[Fit], images: xr.DataArray) -> None:
    if not fits:
        raise ValueError("no fits to score; pass list(neurosuper.comparison.fit_systems(systems, finders))")
    scored = np.unique(np.concatenate([fit.scored for fit in fits]))
    if len(missing := scored[images.get_index("stimulus").get_indexer(scored) < 0]):
        raise ValueError(
            f"no image for stimulus {name_some(missing)}; join each system with neurosuper.align(responses, images) "
            "before it is fitted"
        )


def _score(
    fits: Sequence[Fit], every: np.ndarray, images: xr.DataArray, metric: ImageMetric | Precomputed
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the index of sets `(set, rank)` of stimuli, and by name the other scores.

    They are those of all items `(item, …)`, and those of random sets, one for all fits of a system and a split.
    """
    index = images.get_index("stimulus")
    sets, scored = index.get_indexer(every.ravel()).reshape(every.shape), [index.get_indexer(f.scored) for f in fits]
    chosen = np.unique(np.concatenate([sets.ravel(), *scored]))
    sets, scored = np.searchsorted(chosen, sets), [np.searchsorted(chosen, places) for places in scored]
    ends = np.cumsum([fit.top_stimuli.shape[1] for fit in fits])
    own = np.split(sets[: ends[-1]], ends[:-1])
    logger.info("scoring %s items by %s on %s images", f"{ends[-1]:,}", metric.name, f"{len(chosen):,}")
    with open_distances(images, chosen, metric) as distances:
        of_sets = index_of_sets(distances, sets, metric.self_similarity)
        as_matrix = distances.as_matrix()
        shifts, floors = _shifts_and_floors(distances if metric.squared else as_matrix, scored, own)
        parts = []
        for fit, places, of_fit in zip(fits, scored, shifts.T, strict=True):
            raw = _on_halves(fit, places, as_matrix, metric.self_similarity)
            corrected = _on_halves(fit, places, ShiftedDistances(as_matrix, of_fit), 0)
            parts.append(dict(zip(ON_HALVES, (*raw, *corrected), strict=True)))
    first, _ = _find_shared(fits)
    chance = [
        _chance_of(index, best, shifts[:, i], scored[i], metric.self_similarity)
        for i, index, best in zip(
            first, np.split(of_sets[ends[-1] :], len(first)), np.split(sets[ends[-1] :], len(first)), strict=True
        )
    ]
    # The mean of d_jk − s_j − s_k over the pairs of a set is that of d_jk less twice the mean of s.
    corrected_index = [
        raw - metric.self_similarity + 2 * of_fit[best].mean(-1)
        for raw, of_fit, best in zip(np.split(of_sets[: ends[-1]], ends[:-1]), shifts.T, own, strict=True)
    ]
    scores = {
        "corrected": np.concatenate(corrected_index),
        "frequency_floor": np.repeat(metric.self_similarity - floors, np.diff(ends, prepend=0)),
    }
    scores |= {name: np.array([of_stimuli[name] for of_stimuli in chance]) for name in CHANCE}
    return of_sets, scores | {name: np.concatenate([part[name] for part in parts]) for name in ON_HALVES}


def _chance_of(
    index: np.ndarray, sets: np.ndarray, shifts: np.ndarray, scored: np.ndarray, self_similarity: float
) -> dict[str, float]:
    """Return what random `sets (set, rank)` of the `scored` images of a system score; `index (set,)` is that of each.

    The corrected index of a random set has the mean 0.
    """
    corrected = index - self_similarity + 2 * shifts[sets].mean(-1)
    # A random set has every pair of images with the same probability: its mean index is that of all pairs. The terms
    # of the hub correction have half the mean distance of all pairs as their mean.
    numbers = [self_similarity - 2 * shifts[scored].mean()]
    for values in (index, corrected):
        numbers += [*np.quantile(values, TAILS), values.std(ddof=1)]
    return dict(zip(CHANCE, numbers, strict=True))


def _on_halves(
    fit: Fit, places: np.ndarray, distances: Distances, self_similarity: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return differences of the index between halves `(item, draw)`, influences of top stimuli `(item, rank)`.

    And the reliability `(item,)`, of all items together.
    """
    top, n_items = fit.top_stimuli.shape
    if fit.leading is None or fit.halves is None:
        draws, ranks = (np.full((n_items, n), np.nan, np.float32) for n in (N_RESAMPLES, top))
        return draws, ranks, np.full(n_items, np.nan)
    sampled = sample_index(distances, places[fit.leading], fit.leading, [fit.halves], top, self_similarity)
    of_halves = sampled.of_groups[0]
    r = correlate_sets(of_halves) if n_items >= MIN_ITEMS else np.nan
    return (of_halves[:, 0] - of_halves[:, 1]).T, sampled.influence.astype(np.float32), np.full(n_items, r)


def _shifts_and_floors(
    distances: Distances, scored: list[np.ndarray], own: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms `(image, fit)` of the hub correction over the scored stimuli, and the frequency floors `(fit,)`.

    `own (item, rank)` are the top stimuli of the items of each fit.
    """
    n_images = max(places.max() for places in scored) + 1
    among = np.stack([np.bincount(places, minlength=n_images) for places in scored], axis=1)
    picks = balance_picks(np.stack([np.bincount(best.ravel(), minlength=n_images) for best in own], axis=1))
    sets, of_fit = np.unique(among, axis=1, return_inverse=True)  # fits of one system share their stimuli
    sums = distances.weighted_sums(np.concatenate([sets, picks], axis=1))
    shifts = [hub_shifts(sums[:, i], sets[:, i] > 0) for i in range(sets.shape[1])]
    return np.stack(shifts, axis=1)[:, of_fit], floor_distances(sums[:, sets.shape[1] :], picks)


def _draw_random_sets(fits: Sequence[Fit], top: int) -> list[np.ndarray]:
    """Return random sets `(rank, set)` of the stimuli that each system was scored on, of each split of it."""
    rng, (first, _) = np.random.default_rng(0), _find_shared(fits)
    return [
        np.stack([rng.choice(fits[i].scored, top, replace=False) for _ in range(N_RANDOM_SETS)], axis=1) for i in first
    ]


def _find_shared(fits: Sequence[Fit]) -> tuple[list[int], np.ndarray]:
    """Return the first fit of each system and set of scored stimuli, and the number of the set of every fit.

    The fits of one system and one seed share their stimuli; those of another seed may have others.
    """
    numbers, _ = pd.factorize(pd.Series([(fit.system, *fit.scored.tolist()) for fit in fits], dtype=object))
    return np.unique(numbers, return_index=True)[1].tolist(), numbers


def _item_coords(fits: Sequence[Fit]) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Return the coords of all items: system, finder, direction, baseline, and the unit coords of any system."""
    frames = []
    for fit in fits:
        labels = fit.top_stimuli[fit.top_stimuli.dims[1]].values
        names = {"system": fit.system, "finder": fit.finder, "direction": labels.astype(str), "baseline": fit.baseline}
        frames.append(names | _unit_coords(fit.fitted, labels))
    return {
        name: ("item", _concatenate(frames, name), _attrs_of_unit_coord(fits, name))
        for name in dict.fromkeys(key for frame in frames for key in frame)
    }


def _attrs_of_unit_coord(fits: Sequence[Fit], name: str) -> dict[str, str]:
    """Return the attrs `long_name` and `units` of a unit coord, those in which all systems agree."""
    own = [fit.fitted.mean_[name].attrs for fit in fits if name in fit.fitted.mean_.coords]
    attrs = {"long_name": f"{name} of the unit"} if own else {}
    for key in ("long_name", "units"):
        stated = {str(each.get(key)) for each in own}
        if len(stated) == 1 and isinstance(own[0].get(key), str):
            attrs[key] = stated.pop()
    return attrs


def _unit_coords(fitted: DirectionFinder, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return unit coords for the items of a fit, by label; a direction has the value that all units share, or none."""
    coords = {str(name): coord.values for name, coord in fitted.mean_.coords.items() if name != "unit"}
    if isinstance(fitted, Units):
        kept = fitted.direction_index.get_indexer(labels)  # some may be left out, as constant
        return {name: values[kept] for name, values in coords.items()}
    shared = {}
    for name, values in coords.items():
        empty = np.nan if values.dtype.kind in "iufb" else ""
        shared[name] = np.repeat(values[0] if (values == values[0]).all() else empty, len(labels))
    return shared


def _concatenate(frames: Sequence[Mapping], name: str) -> np.ndarray:
    """Return one coord over all items; NaN or an empty text for the items of systems without it."""
    numeric = all(np.asarray(frame[name]).dtype.kind in "iufb" for frame in frames if name in frame)
    empty, dtype = (np.nan, float) if numeric else ("", str)
    columns = [np.broadcast_to(frame.get(name, empty), len(frame["direction"])) for frame in frames]
    return np.concatenate([np.where(pd.isnull(column), empty, column.astype(dtype)) for column in columns])


def _warn_of_constant(fits: Sequence[Fit]) -> dict[str, list[int]]:
    """Warn of directions that were left out because they are constant, and return the attr with their numbers."""
    if not any(counts := [fit.n_constant for fit in fits]):
        return {}
    parts = [
        f"{fit.n_constant} of {fit.n_constant + fit.top_stimuli.shape[1]} by {fit.finder!r} in {fit.system!r}"
        for fit in fits
        if fit.n_constant
    ]
    warnings.warn(
        "directions that give all stimuli to score on the same code have no top stimuli, and were left out: "
        f"{', '.join(parts)}; attrs['n_constant'] counts them",
        stacklevel=3,
    )
    return {"n_constant": counts}


def _warn_of_units_left_out(fits: Sequence[Fit]) -> dict[str, list[int]]:
    """Warn of units that were left out because they do not vary, and return the attr with their numbers."""
    most: dict[str, tuple[int, int]] = {}  # by system, the largest numbers left out and left in that any seed had
    for fit in fits:
        n = fit.n_units_left_out
        most[fit.system] = max(most.get(fit.system, (0, 0)), (n, n + fit.fitted.mean_.sizes["unit"]))
    if not any(n for n, _ in most.values()):
        return {}
    parts = [f"{n} of {total} of {system!r}" for system, (n, total) in most.items() if n]
    warnings.warn(
        f"{UNITS_LEFT_OUT} have no top stimuli, and were left out: {', '.join(parts)}; attrs['n_units_left_out'] "
        "counts them, drop_constant_units=False refuses them",
        stacklevel=3,
    )
    return {"n_units_left_out": [n for n, _ in most.values()]}


def _describe_groups(fits: Sequence[Fit]) -> tuple[dict[str, tuple], dict]:
    """Return the group of each top stimulus as a variable, and the attrs of groups; empty without groups."""
    n_top = len(fits[0].top_stimuli)
    known = [fit.stimulus_groups for fit in fits if fit.stimulus_groups is not None]
    if not known:
        return {}, {}
    if len(known) < len(fits) or len({groups.name for groups in known}) > 1:
        raise ValueError("fits have different stimulus groups; fit all systems with the same `stimulus_groups`")
    of_top = [
        pd.Series(groups.of_scored, fit.scored)[fit.top_stimuli.values.T.ravel()].values.reshape(-1, n_top)
        for fit, groups in zip(fits, known, strict=True)
    ]
    attrs: dict = {"stimulus_groups": known[0].name, "n_stimulus_groups": max(groups.n for groups in known)}
    return {"top_groups": (("item", "rank"), np.concatenate(of_top))}, attrs


def _has_copies(top: xr.DataArray) -> np.ndarray:
    """Return which items have two copies of a photograph among their top stimuli."""
    return top.is_copy.any("rank").values if "is_copy" in top.coords else np.zeros(top.shape[1], bool)
