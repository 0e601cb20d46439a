"""Every item scored by every metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.comparison.fitting import SEPARATOR, Fit, name_each
from neurosuper.directions import DirectionFinder, Units
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.random_splits import index_of_parts
from neurosuper.interpretability.ranking import warn_of_copies
from neurosuper.interpretability.stimulus_sampling import N_DRAWS
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.base import check_metric
from neurosuper.metrics.distances import open_distances

N_SETS = 200  # random sets of stimuli that tell what an index is by chance
Metrics = Sequence[ImageMetric | Precomputed] | Mapping[str, ImageMetric | Precomputed]


def score_fits(fits: Sequence[Fit], images: xr.DataArray, metrics: Metrics) -> xr.Dataset:
    """Score all items of all fits, embedding each image once per metric (see `compare`)."""
    metrics = name_metrics(metrics)
    top = np.concatenate([fit.top.values for fit in fits], axis=1)
    n_items, coords, random = top.shape[1], _item_coords(fits), _draw_sets(fits, len(top))
    every = np.concatenate([top, *random.values()], axis=1).T
    scored = [_score(fits, every, images, metric) for metric in metrics.values()]
    scores = np.stack([index for index, _ in scored], axis=1)
    by_chance = scores[n_items:].reshape(len(random), N_SETS, -1)  # (system, set, metric)
    chance_levels = np.stack([by_chance.mean(1), *np.quantile(by_chance, (0.025, 0.975), axis=1)])
    of_items = chance_levels[:, pd.Index(list(random)).get_indexer(coords["system"][1])]
    columns = {"interpretability": scores[:n_items]} | dict(
        zip(("chance_level", "chance_level_low", "chance_level_high"), of_items, strict=True)
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
            "quantity": ("metric", [index_label(metric) for metric in metrics.values()]),
        },
        attrs={"top": len(top), "n_chance_sets": N_SETS},
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
        as_matrix = distances.as_matrix()
        for values, own in zip(of_halves, halves, strict=True):
            if own is not None:
                values[:] = index_of_parts(as_matrix, np.searchsorted(chosen, own), metric.self_similarity)
    return of_sets[0, 0], np.moveaxis(np.concatenate(of_halves, axis=2), 2, 0)


def _draw_sets(fits: Sequence[Fit], top: int) -> dict[str, np.ndarray]:
    """Return random sets `(rank, set)` of the stimuli that each system was first scored on."""
    rng, first = np.random.default_rng(0), {fit.system: fit.scored for fit in reversed(fits)}
    return {
        system: np.stack([rng.choice(first[system], top, replace=False) for _ in range(N_SETS)], axis=1)
        for system in dict.fromkeys(fit.system for fit in fits)
    }


def _carry(fitted: DirectionFinder) -> dict[str, np.ndarray]:
    """Return unit coords for the directions: a unit's own, or what all units share, else empty."""
    coords = {str(name): coord.values for name, coord in fitted.mean_.coords.items() if name != "unit"}
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


def _has_copies(top: xr.DataArray) -> np.ndarray:
    """Return which items have two copies of a photograph among their top stimuli."""
    return top.is_copy.any("rank").values if "is_copy" in top.coords else np.zeros(top.shape[1], bool)


def name_metrics(metrics: Metrics) -> dict[str, ImageMetric | Precomputed]:
    """Return the metrics of a comparison by their names, or say what is wrong with them (see `compare`)."""
    return name_each(metrics, "metrics", check_metric, lambda metric: metric.name)
