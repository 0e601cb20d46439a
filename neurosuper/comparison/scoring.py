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
from neurosuper.interpretability.random_sets import sd_of_sets
from neurosuper.interpretability.random_splits import index_of_sets
from neurosuper.interpretability.ranking import warn_of_copies
from neurosuper.interpretability.sampled_sets import N_RESAMPLES
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.base import check_metric
from neurosuper.metrics.distances import DistanceMatrix, Distances, open_distances
from neurosuper.responses import name_some

N_RANDOM_SETS = 200  # random sets of stimuli per system: 5 of them are then expected beyond each end of 95 %
CONFIDENCE_LEVEL = 0.95  # share of random sets between `chance_level_low` and `chance_level_high`
ITEM = ("item", "metric")
CHANCE = (  # of random sets of the stimuli of a system: the mean index, quantiles and s.d. between sets
    *("chance_level", "chance_level_low", "chance_level_high", "chance_level_sd"),
    *("corrected_chance_low", "corrected_chance_high", "corrected_chance_sd"),
)
ON_HALVES: dict[str, tuple[str, ...]] = {  # variables from the index on halves of the stimuli, and their last dim
    "difference_of_halves": ("draw",),
    "influence": ("rank",),
    "index_reliability": (),
    "mean_of_halves": (),
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
    top, of_items = np.concatenate([fit.top_stimuli.values for fit in fits], axis=1), _describe_items(fits)
    n_items, random = top.shape[1], _draw_random_sets(fits, len(top))
    every = np.concatenate([top, *random], axis=1).T
    scored = [_score(fits, every, images, metric) for metric in metrics.values()]
    scores = {
        name: ((*ITEM, *ON_HALVES.get(name, ())), np.stack([values[name] for values in scored], axis=1))
        for name in scored[0]
    }
    if "has_copies" in of_items:
        warn_of_copies(int(of_items["has_copies"][1].sum()), n_items, len(top))
    quantities = {name: index_label(metric) for name, metric in metrics.items()}
    of_metrics = {"metric": list(metrics), "quantity": ("metric", list(quantities.values()))}
    table = xr.Dataset(
        scores | of_items | {"top_stimuli": (("item", "rank"), top.T)},
        coords=_item_coords(fits) | {"item": np.arange(n_items)} | of_metrics,
        attrs={"top": len(top), "n_resamples": N_RANDOM_SETS, "confidence_level": CONFIDENCE_LEVEL}
        | ({} if fits[0].stimulus_groups is None else {"stimulus_groups": fits[0].stimulus_groups.name})
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
) -> dict[str, np.ndarray]:
    """Return all scores of all items `(item, …)` by one metric, by name.

    `every (set, rank)` are labels of stimuli: the top stimuli of all items, and then random sets, those that all fits
    of a system and a split share.
    """
    index = images.get_index("stimulus")
    sets, scored = index.get_indexer(every.ravel()).reshape(every.shape), [index.get_indexer(f.scored) for f in fits]
    chosen = np.unique(np.concatenate([sets.ravel(), *scored]))
    sets, scored = np.searchsorted(chosen, sets), [np.searchsorted(chosen, places) for places in scored]
    n_of_fits = [fit.top_stimuli.shape[1] for fit in fits]
    of_items, random = np.split(sets, [n_items := sum(n_of_fits)])
    own = np.split(of_items, np.cumsum(n_of_fits)[:-1])
    logger.info("scoring %s items by %s on %s images", f"{n_items:,}", metric.name, f"{len(chosen):,}")
    with open_distances(images, chosen, metric) as distances:
        of_sets = index_of_sets(distances, sets, metric.self_similarity)
        as_matrix = distances.as_matrix()
        shifts, floors = _shifts_and_floors(distances if metric.squared else as_matrix, fits, scored, own)
        parts = []
        for fit, places, of_fit in zip(fits, scored, shifts.T, strict=True):
            raw = _on_halves(fit, places, as_matrix, metric.self_similarity)
            corrected = _on_halves(fit, places, ShiftedDistances(as_matrix, of_fit), 0)
            parts.append(dict(zip(ON_HALVES, (*raw, *corrected[:-1]), strict=True)))
    first, shared = _find_shared(fits)
    deviations = _deviations(as_matrix, [scored[i] for i in first], shifts[:, first], len(fits[0].top_stimuli))
    of_random = (np.split(values, len(first)) for values in (of_sets[n_items:], random))
    chance = [
        _chance_of(values, best, shifts[:, i], scored[i], metric.self_similarity, sds)
        for i, values, best, sds in zip(first, *of_random, deviations, strict=True)
    ]
    # The mean of d_jk − s_j − s_k over the pairs of a set is that of d_jk less twice the mean of s.
    terms = [2 * of_fit[best].mean(-1) for of_fit, best in zip(shifts.T, own, strict=True)]
    return (
        {"interpretability": of_sets[:n_items]}
        | {name: np.array([of_stimuli[name] for of_stimuli in chance])[np.repeat(shared, n_of_fits)] for name in CHANCE}
        | {"corrected": of_sets[:n_items] - metric.self_similarity + np.concatenate(terms)}
        | {"frequency_floor": np.repeat(metric.self_similarity - floors, n_of_fits)}
        | {name: np.concatenate([part[name] for part in parts]) for name in ON_HALVES}
    )


def _deviations(
    distances: Distances, scored: list[np.ndarray], shifts: np.ndarray, top: int
) -> list[tuple[float, float] | None]:
    """Return the standard deviations of the index and of the corrected index over all sets of the `scored` images.

    For each of `scored`, with the terms `shifts (image, scored)`; None if the distances of all pairs are not in memory.
    """
    if not isinstance(distances, DistanceMatrix):
        return [None] * len(scored)
    found: dict[bytes, tuple[float, float]] = {}  # systems that share their stimuli share these
    for places, of_image in zip(scored, shifts.T, strict=True):
        if (key := places.tobytes()) not in found:
            terms = of_image[places]
            both = (np.full(len(terms), terms.mean()), terms)
            raw, corrected = (sd_of_sets(distances.table, places, each, top) for each in both)
            found[key] = raw, corrected
    return [found[places.tobytes()] for places in scored]


def _chance_of(
    index: np.ndarray,
    sets: np.ndarray,
    shifts: np.ndarray,
    scored: np.ndarray,
    self_similarity: float,
    deviations: tuple[float, float] | None,
) -> dict[str, float]:
    """Return what random `sets (set, rank)` of the `scored` images of a system score; `index (set,)` is that of each.

    The corrected index of a random set has the mean 0. Standard deviations that are not known are those of these sets.
    """
    corrected = index - self_similarity + 2 * shifts[sets].mean(-1)
    sds = (index.std(ddof=1), corrected.std(ddof=1)) if deviations is None else deviations
    # A random set has every pair of images with the same probability: its mean index is that of all pairs. The terms
    # of the hub correction have half the mean distance of all pairs as their mean.
    numbers = [self_similarity - 2 * shifts[scored].mean()]
    for values, sd in zip((index, corrected), sds, strict=True):
        numbers += [*np.quantile(values, TAILS), sd]
    return dict(zip(CHANCE, numbers, strict=True))


def _on_halves(
    fit: Fit, places: np.ndarray, distances: Distances, self_similarity: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return differences of the index between halves `(item, draw)`, influences of top stimuli `(item, rank)`.

    And the reliability `(item,)`, the same for all items, over the active ones, and the mean index on halves `(item,)`.
    """
    top, n_items = fit.top_stimuli.shape
    if fit.leading is None or fit.halves is None:
        draws, ranks = (np.full((n_items, n), np.nan, np.float32) for n in (N_RESAMPLES, top))
        return draws, ranks, np.full(n_items, np.nan), np.full(n_items, np.nan)
    sampled = sample_index(distances, places[fit.leading], fit.leading, [fit.halves], top, self_similarity)
    of_halves, active = sampled.of_groups[0], _active(fit)
    r = correlate_sets(of_halves[..., active]) if active.sum() >= MIN_ITEMS else np.nan
    influence, level = sampled.influence.astype(np.float32), of_halves.mean((0, 1), dtype=float)
    return (of_halves[:, 0] - of_halves[:, 1]).T, influence, np.full(n_items, r), level


def _active(fit: Fit) -> np.ndarray:
    """Return which items of a fit have at least as many active stimuli as top stimuli."""
    return fit.n_active >= len(fit.top_stimuli)


def _shifts_and_floors(
    distances: Distances, fits: Sequence[Fit], scored: list[np.ndarray], own: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms `(image, fit)` of the hub correction over the scored stimuli, and the frequency floors `(fit,)`.

    `own (item, rank)` are the top stimuli of the items of each fit. A floor is that of its active items; NaN without.
    """
    n_images = max(places.max() for places in scored) + 1
    among = np.stack([np.bincount(places, minlength=n_images) for places in scored], axis=1)
    active = [best[_active(fit)].ravel() for fit, best in zip(fits, own, strict=True)]
    counts = np.stack([np.bincount(best, minlength=n_images) for best in active], axis=1)
    picks = balance_picks(counts[:, has_active := counts.any(0)])
    sets, of_fit = np.unique(among, axis=1, return_inverse=True)  # fits of one system share their stimuli
    sums = distances.weighted_sums(np.concatenate([sets, picks], axis=1))
    shifts = [hub_shifts(sums[:, i], sets[:, i] > 0) for i in range(sets.shape[1])]
    floors = np.full(len(fits), np.nan)
    floors[has_active] = floor_distances(sums[:, sets.shape[1] :], picks)
    return np.stack(shifts, axis=1)[:, of_fit], floors


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


def _describe_items(fits: Sequence[Fit]) -> dict[str, tuple]:
    """Return the variables of items that no metric changes, except the top stimuli.

    Counts of active and of scored stimuli; with groups, those of groups, and the group of each top stimulus; if any
    item has two copies of a photograph among its top stimuli, which do.
    """
    n_of_fits = [fit.top_stimuli.shape[1] for fit in fits]
    columns: dict[str, tuple] = {
        "n_active": ("item", np.concatenate([fit.n_active for fit in fits])),
        "n_stimuli": ("item", np.repeat([fit.n_stimuli for fit in fits], n_of_fits)),
    }
    groups = [fit.stimulus_groups for fit in fits if fit.stimulus_groups is not None]
    if groups:
        if len(groups) < len(fits) or len({own.name for own in groups}) > 1:
            raise ValueError("fits have different stimulus groups; fit all systems with the same `stimulus_groups`")
        of_top = [
            pd.Series(own.of_scored, fit.scored)[fit.top_stimuli.values.T.ravel()].values.reshape(n, -1)
            for fit, own, n in zip(fits, groups, n_of_fits, strict=True)
        ]
        columns["n_stimulus_groups"] = ("item", np.repeat([own.n for own in groups], n_of_fits))
        columns["top_groups"] = (("item", "rank"), np.concatenate(of_top))
    has_copies = np.concatenate([_has_copies(fit.top_stimuli) for fit in fits])
    return columns | ({"has_copies": ("item", has_copies)} if has_copies.any() else {})


def _has_copies(top: xr.DataArray) -> np.ndarray:
    """Return which items have two copies of a photograph among their top stimuli."""
    return top.is_copy.any("rank").values if "is_copy" in top.coords else np.zeros(top.shape[1], bool)
