"""Halves of the stimuli: one to find something on, and one to score it on."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from neurosuper._joins import join_images
from neurosuper.comparison.splits import ScoreOn, fit_and_score_parts, label_groups, number_units, take_groups
from neurosuper.responses import check_averaged, name_some


def halve_stimuli(
    responses: xr.DataArray, images: xr.DataArray, score_on: ScoreOn, seed: int, stimulus_groups: str | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the responses to find something on and those to score it on, with stimuli and units in order of labels.

    So neither the order of stimuli nor that of units matters for what is drawn at random. Both are in memory. Stimuli
    without an image, and units that are constant in one of the halves, are left out, the latter with a warning.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        With the coord `split`, or it is drawn.
    images : DataArray (stimulus, row, column, channel)
    score_on : {"held-out", "all"}
        "all": the two are the same.
    seed : int
        Of the split.
    stimulus_groups : str, optional
        A stimulus coord of the responses, or of the images; groups are not divided.
    """
    joined = take_groups(join_images(check_averaged(responses), images), images, stimulus_groups)
    joined = joined.compute().sortby(["stimulus", "unit"])
    fit, score = fit_and_score_parts({"responses": joined}, score_on, seed, stimulus_groups)["responses"]
    constant = joined.indexes["unit"].difference(score.indexes["unit"])
    if len(constant):
        warnings.warn(
            f"{len(constant)} of {joined.sizes['unit']} units do not vary over both halves of the stimuli, and are "
            f"left out: {name_some(constant)}",
            stacklevel=3,
        )
    return fit, score


def undivided(responses: xr.DataArray, stimulus_groups: str | None) -> np.ndarray | None:
    """Return the number of what each stimulus belongs to, and no half divides: its photograph, or a group of these.

    None if each stimulus is on its own.
    """
    numbers = number_units(responses, label_groups({"responses": responses}, stimulus_groups))
    return numbers if numbers.max() + 1 < len(numbers) else None
