"""Stimuli divided at random into parts, again and again, and the index on each part."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper.metrics.distances import Distances
from neurosuper.responses import name_some

DEEPER = 8  # times as many stimuli as `top` are ranked first


def draw_parts(
    labels: np.ndarray, n_parts: int, n_resamples: int, rng: np.random.Generator, photographs: np.ndarray | None = None
) -> xr.DataArray:
    """Return to which part each stimulus belongs, (draw, stimulus); parts are equal in size, up to one.

    Where stimuli are told by the number of their photograph (see `photographs_of`), copies of one belong to the same
    part, and it is photographs of which parts have equally many.
    """
    photographs = np.arange(len(labels)) if photographs is None else photographs
    parts = np.arange(photographs.max() + 1) % n_parts
    drawn = rng.permuted(np.broadcast_to(parts, (n_resamples, len(parts))), axis=1)[:, photographs]
    return xr.DataArray(drawn, dims=("draw", "stimulus"), coords={"stimulus": labels}, attrs={"n_parts": n_parts})


def top_of_parts(codes: xr.DataArray, parts: xr.DataArray, top: int) -> np.ndarray:
    """Return positions `(draw, part, item, rank)` of the top stimuli of each part, among the stimuli of `codes`.

    Of stimuli with equal codes, those that come first.

    Raises
    ------
    ValueError
        NaN, or fewer stimuli in a part than `top`.
    """
    if (missing := codes.isnull().values.any(1)).any():
        raise ValueError(f"no code for stimulus {name_some(codes.stimulus.values[missing])}; leave it out")
    marks, n_parts = parts.sel(stimulus=codes.stimulus.values).values, parts.n_parts
    if (least := fewest_in_part(codes, parts)) < top:
        raise ValueError(
            f"{codes.sizes['stimulus']} stimuli are few: one of {n_parts} random parts holds {least}, and an index "
            f"takes {top}; lower `top`, or score on more stimuli"
        )
    order = np.argsort(-codes.values.T, axis=1, kind="stable").astype(np.int32)
    return np.stack([_top_of_draw(order, row, n_parts, top) for row in marks])


def fewest_in_part(codes: xr.DataArray, parts: xr.DataArray) -> int:
    """Return the least number of stimuli of these codes in a part of any draw."""
    marks = parts.sel(stimulus=codes.stimulus.values).values
    return min(int(np.bincount(row, minlength=parts.n_parts).min()) for row in marks)


def _top_of_draw(order: np.ndarray, marks: np.ndarray, n_parts: int, top: int) -> np.ndarray:
    """Return positions `(part, item, rank)`, from stimuli `(item, place)` by falling code, and the part of each."""
    first = order[:, : DEEPER * n_parts * top]
    inside = marks[first] == np.arange(n_parts)[:, None, None]
    if inside.sum(2).min() < top:
        first, inside = order, marks[order] == np.arange(n_parts)[:, None, None]
    chosen = inside & (inside.cumsum(2) <= top)
    return np.broadcast_to(first, chosen.shape)[chosen].reshape(n_parts, len(order), top)


def index_of_parts(distances: Distances, positions: np.ndarray, self_similarity: float) -> np.ndarray:
    """Return the index `(draw, part, item)` of positions `(draw, part, item, rank)`, those of images."""
    rows = positions.reshape(-1, positions.shape[-1])
    means = distances.mean(rows, np.ones(rows.shape), [rows.shape[1]])
    return (self_similarity - means).reshape(positions.shape[:-1])
