"""Weights of stimuli by their codes, and the index of all stimuli with such weights, in closed form.

W (stimulus, item) weights, d_ij distances: the mean over pairs is Σ_{i≠j} w_i w_j d_ij / ((Σw)² − Σw²).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper.interpretability.corrections import correct_distances
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances

Weights = Literal["activation", "minmax"] | None
BEYOND = {"activation": "beyond its mean code", "minmax": "beyond the code at the other end"}
MAX_WEIGHTS = 2**24  # weights of items that are in memory at once: 128 MiB in float64


def weigh(values: xr.DataArray, codes: xr.DataArray, weights: Weights, end: str) -> xr.DataArray:
    """Return the weights of some codes, which are not negative, among all codes `(stimulus, item)` of their items.

    Parameters
    ----------
    values : DataArray (…, item)
        With a dim `end` if both ends are weighed.
    codes : DataArray (stimulus, item)
    weights : {"activation", "minmax"}
        How far a code is beyond the mean code, max(z − mean z, 0), or from 0 for the code at the other end to 1.
    end : {"top", "bottom", "both"}

    Raises
    ------
    ValueError
        Other weights.
    """
    if weights not in BEYOND:
        raise ValueError(f"weights must be 'activation', 'minmax' or None, got {weights!r}")
    side = xr.DataArray([1, -1], coords={"end": ["top", "bottom"]}) if end == "both" else 1 if end == "top" else -1
    if weights == "activation":
        return ((values - codes.mean("stimulus").compute()) * side).clip(min=0)
    low, high = (extreme.compute().astype(float) for extreme in (codes.min("stimulus"), codes.max("stimulus")))
    # (z − min)/(max − min) at the top, (max − z)/(max − min) at the bottom
    return (values * side - xr.where(side == 1, low, -high)) / (high - low)


def weigh_top(chosen: xr.DataArray, codes: xr.DataArray, weights: Weights, end: str) -> xr.DataArray:
    """Return the weights of top stimuli `(rank, item)`, if at least two of each item have one above 0."""
    far = weigh(chosen.code, codes, weights, end).transpose(*chosen.dims)
    if ((far > 0).sum("rank") < 2).any():
        raise ValueError(
            f"fewer than two top stimuli of a unit are {BEYOND[str(weights)]}; raise `top`, or use weights=None"
        )
    return far


def index_of_all(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    ends: Sequence[str],
    weights: Weights,
    correction: Literal["hub"] | None,
    covariates: xr.Dataset | None,
    spread: bool,
) -> dict[str, np.ndarray]:
    """Return the index `(end, item)` of all stimuli with weights, and its `spread` by the jackknife if it is asked for.

    Time is proportional to the number of stimuli for squared distances, and to its square for others.

    Raises
    ------
    ValueError
        No weights; fewer than two stimuli of an item have a weight.
    """
    if weights is None:
        raise ValueError("top='all' needs weights='minmax' or 'activation': without, all items have the same index")
    places = images.get_index("stimulus").get_indexer(codes.stimulus.values)
    codes = codes[np.argsort(places)].compute()
    embedded, n_items = np.sort(places), codes.shape[1]
    means, errors = np.empty((2, len(ends), n_items))
    width = max(1, MAX_WEIGHTS // len(codes))
    with open_distances(images, embedded, metric) as raw:
        distances = correct_distances(raw, images.stimulus.values[embedded], correction, covariates)
        distances = distances if metric.squared else distances.as_matrix()
        for start in range(0, n_items, width):
            block = codes[:, start : start + width]
            for row, end in enumerate(ends):
                W = weigh(block, block, weights, end).values
                has_code = ~np.isnan(W)
                W[~has_code] = 0
                if (few := (W > 0).sum(0) < 2).any():
                    item = codes.dims[1]
                    raise ValueError(
                        f"fewer than two stimuli of {item} {block[item].values[few][0]!s} are "
                        f"{BEYOND[str(weights)]}; leave it out, or use a number of top stimuli"
                    )
                items = slice(start, start + width)
                means[row, items], errors[row, items] = _mean_of_pairs(W, distances.weighted_sums(W), has_code)
    scores = {"interpretability": (0.0 if correction or covariates is not None else metric.self_similarity) - means}
    return scores | ({"spread": errors} if spread else {})


def _mean_of_pairs(W: np.ndarray, sums: np.ndarray, has_code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean distance of each item, and its jackknife s.e., given sums s_i = Σ_{j≠i} w_j d_ij."""
    # Σ_{i≠j} w_i w_j d_ij = Σ w_i s_i, and Σ_{i≠j} w_i w_j = Σ w_i (Σw − w_i). Without stimulus i, twice its own terms
    # are missing.
    own, pairs = W * sums, W * (W.sum(0) - W)
    total, norm = own.sum(0), pairs.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):  # no pair is left of two
        left_out = (total - 2 * own) / (norm - 2 * pairs)
        return total / norm, np.sqrt((has_code.sum(0) - 1) * left_out.var(0, where=has_code))
