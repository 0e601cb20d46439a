"""Codes in memory and in order of labels, so that nothing that is drawn depends on the order of stimuli or items."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._checks import check_count
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import align, name_some, split_stimuli

LEAST_PER_SIDE = 10  # stimuli to fit on, and to score on


def sorted_codes(codes: xr.DataArray) -> xr.DataArray:
    """Return codes (stimulus, item) in float64; raise an error that names the items with values that are not finite."""
    codes = check_codes(codes)
    item = str(codes.dims[1])
    codes = codes.compute().sortby(["stimulus", item]).astype(float)
    if (bad := ~np.isfinite(codes.values).all(0)).any():
        names = name_some(codes[item].values[bad])
        raise ValueError(f"codes contain NaN or infinite values, in {item} {names}; drop those, or their stimuli")
    return codes


def sorted_pair(a: xr.DataArray, b: xr.DataArray, least: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the codes of two systems on their common stimuli, at least `least`."""
    a, b = align(sorted_codes(a), sorted_codes(b))
    if len(a) < least:
        raise ValueError(f"{len(a)} common stimuli are too few; use at least {least}")
    return a, b


def stimuli_to_fit(codes: xr.DataArray, seed: int) -> np.ndarray:
    """Return which stimuli the coord `split` marks to fit on, or a random half; the others are to score on."""
    split = (codes if "split" in codes.coords else split_stimuli(codes, random_state=seed)).split.values
    n_fit, n_score = int((split == "fit").sum()), int((split == "score").sum())
    if n_fit + n_score < len(split) or min(n_fit, n_score) < LEAST_PER_SIDE:
        raise ValueError(
            f"of {len(split)} stimuli, {n_fit} are to fit on and {n_score} to score on; mark all of them in the coord "
            f"`split`, at least {LEAST_PER_SIDE} for each, or leave the split to this function with .drop_vars('split')"
        )
    return np.asarray(split == "fit")


def check_resamples(n_resamples: int) -> int:
    """Return the number of halves for intervals: 0, or at least 10."""
    if n_resamples == 0:
        return 0
    return check_count("n_resamples", n_resamples, least=10, why=" (or 0 for no intervals)")
