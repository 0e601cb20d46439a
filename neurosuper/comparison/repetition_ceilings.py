"""Noise ceilings of dissimilarities from random halves of the repetitions.

r the similarity of two halves' dissimilarities; ρ that of all repetitions with as many others; k the variance of noise
in the dissimilarities of a half over that in those of all repetitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from neurosuper._checks import make_rng
from neurosuper.comparison.distance_matrices import dissimilarities
from neurosuper.repetitions import first_half, rank_labels, require_repetitions, split_repetitions
from neurosuper.responses import average_repetitions, check_responses, name_some

N_SPLITS = 20  # over seeds, ceilings of 100 stimuli then have a standard deviation of 0.003
# k is 2 where noise is small, as products of signal and noise dominate; where products of noise dominate, it is 4 of
# averages, and up to 6.7 of crossnobis (5 repetitions)
LEAST_K, MOST_K = 2.0, {False: 4.0, True: 7.0}
COSINES = ("cosine", "whitened-cosine")


def split_half_ceilings(
    a: xr.DataArray,
    repeated: xr.DataArray,
    shared: np.ndarray,
    mean_similarity: Callable[[np.ndarray, np.ndarray], float],
    similarity: str,
    seed: int,
) -> tuple[float, float]:
    """Return the similarity to be expected with a second measurement of the system, and with it without noise.

    Parameters
    ----------
    a : DataArray (stimulus, other)
        From `dissimilarities`, with its attrs.
    repeated : DataArray (stimulus, repetition, unit)
        The responses that these were computed from.
    shared : array (stimulus,)
        Labels of the stimuli to use.
    mean_similarity : callable
        `mean_similarity(A, B)` of A (subject, stimulus, other) and B (stimulus, other).
    similarity : str
        Its name.
    seed : int
        Seed of the splits.
    """
    is_crossed = a.attrs.get("distance") == "crossnobis"
    repeated = _check(repeated, a.attrs, shared, similarity)
    settings: dict[str, Any] = {name: a.attrs[name] for name in ("distance", "noise") if name in a.attrs}
    r, own, across = [], [], []
    for i in range(N_SPLITS):
        halves = _split(repeated, is_crossed, (seed + i) % 2**64)
        first, second = (dissimilarities(half, **settings).values for half in halves)
        r.append(mean_similarity(first[None], second))
        f, g = (
            _scale(half, settings["distance"]) * _deviations(d, similarity)
            for half, d in zip(halves, (first, second), strict=True)
        )
        own.append((f @ f + g @ g) / 2)
        across.append(f @ g)
    whole = _deviations(a.sel(stimulus=shared, other=shared).values.astype(float), similarity)
    whole *= _scale(repeated if is_crossed else average_repetitions(repeated), settings["distance"])
    # products of the two halves are without noise, on average
    signal = np.mean(across)
    k = np.clip(
        (np.mean(own) - signal) / max(whole @ whole - signal, np.finfo(float).tiny), LEAST_K, MOST_K[is_crossed]
    )
    return _extrapolate(max(float(np.mean(r)), 0.0), float(k), similarity)


def _scale(responses: xr.DataArray, distance: str) -> float:
    """Return the mean squared length that a distance divides by: it contains noise, and so differs between halves."""
    if distance not in ("correlation", "cosine"):
        return 1.0
    X = responses.values.astype(float)
    if distance == "correlation":
        X = X - X.mean(axis=1, keepdims=True)
    return float((X**2).sum(axis=1).mean())


def _deviations(d: np.ndarray, similarity: str) -> np.ndarray:
    """Return the vector that a similarity compares, before ranks and lengths."""
    if similarity == "whitened-cosine":
        return (d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()).ravel()
    pairs = d[~np.tri(len(d), dtype=bool)]
    return pairs if similarity == "cosine" else pairs - pairs.mean()


def _extrapolate(r: float, k: float, similarity: str) -> tuple[float, float]:
    """Return ρ and its root, from the similarity of halves (Spearman and Brown, where k is 2)."""
    if similarity == "tau-a":
        r = np.sin(np.pi / 2 * r)  # the correlation of normal variables with this tau
    rho = k * r / (1 + (k - 1) * r)
    ends = np.array([rho, np.sqrt(rho)])
    low, high = 2 / np.pi * np.arcsin(ends) if similarity == "tau-a" else ends
    return float(low), float(high)


def _check(repeated: xr.DataArray, attrs: Mapping[str, object], shared: np.ndarray, similarity: str) -> xr.DataArray:
    """Return these stimuli of responses, or raise an error that says why they have no ceiling."""
    distance = attrs.get("distance")
    if distance is None:
        raise ValueError("a has no attrs['distance'], so repeated has no ceiling; pass what dissimilarities returns")
    if similarity in COSINES and distance != "crossnobis":
        raise ValueError(
            f"noise makes {distance!r} larger, and {similarity!r} of halves with it; use distance='crossnobis', or a "
            "similarity that is a correlation"
        )
    repeated = check_responses(repeated)
    if repeated.sizes["unit"] != attrs.get("n_units"):
        raise ValueError(
            f"repeated has {repeated.sizes['unit']} units, and a is of {attrs.get('n_units')}; pass the responses that "
            "a was computed from"
        )
    if len(missing := np.setdiff1d(shared, repeated.stimulus.values)):
        raise ValueError(f"repeated lacks stimulus {name_some(missing)}; pass the responses that a was computed from")
    repeated = repeated.sel(stimulus=shared)
    require_repetitions(repeated, 4 if distance == "crossnobis" else 2, "repeated")
    return repeated


def _split(repeated: xr.DataArray, keep: bool, seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two halves of the repetitions: averages, or, to `keep` them, repetitions with NaN for all others."""
    if not keep:
        return split_repetitions(repeated, random_state=seed)
    present = require_repetitions(repeated, 4, "repeated")
    first = first_half(present, rank_labels(repeated), make_rng(seed))
    a, b = (repeated.where(np.broadcast_to(half, repeated.shape)) for half in (first, present & ~first))
    return a, b
