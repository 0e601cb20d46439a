"""Copies: stimuli with different labels that show the same photograph."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._content import CONTENT, content_of, digests_of, photographs_of, without_later
from neurosuper._joins import is_images, join_images
from neurosuper._labels import check_labels
from neurosuper.images import check_images
from neurosuper.responses import check_averaged

__all__ = ["average_copies", "find_copies"]


def find_copies(images: xr.DataArray) -> xr.DataArray:
    """Return, for each stimulus, the label of the first stimulus that shows the same photograph.

    Photographs are the same if all their pixels are equal. Two copies among the top stimuli of an item make it look
    more interpretable than it is, and copies on both sides of a split mean that directions are scored on photographs
    that they were fitted on.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        From `load_images`; or responses with its coord `content`, which `align` and `load_array(stimuli=images)` pass
        on. Images without `content` are read block by block. Where there is a `content`, pixels are not read again: if
        you have replaced the pixels, as in `images.copy(data=…)`, first remove it with `.drop_vars("content")`.

    Returns
    -------
    DataArray (stimulus,)
        Name `copy_of`: the label of the first stimulus that shows the photograph; a stimulus that is the first or only
        one has its own label. Coord `content`, for `images.assign_coords(content=…)`. attrs: `n_copies` (number of
        stimuli that are not the first to show their photograph) and `n_photographs`.

    Raises
    ------
    TypeError, ValueError
        Neither images nor an array with the coord `content`.

    See Also
    --------
    average_copies : average the responses to all copies of a photograph.
    neurosuper.align : join responses and images, by label or content.

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper import load_images
    >>> pixels = np.zeros((3, 4, 4, 3), np.uint8)
    >>> pixels[1] = 255
    >>> copies = find_copies(load_images(pixels))
    >>> copies.values.tolist(), copies.n_copies
    (['0', '1', '0'], 1)
    """
    if not isinstance(images, xr.DataArray):
        raise TypeError(f"images must be an xarray.DataArray, got {type(images).__name__}; see load_images")
    images = check_images(images) if is_images(images) else check_labels(images, "stimulus", "responses")
    content = content_of(images)
    if content is not None and (content == "").any() and is_images(images):
        content = None  # some are known, but copies among the others would be missed
    if content is None and not is_images(images):
        raise ValueError(
            "responses without the coord 'content' do not say which photographs were shown; pass the images, or the "
            "responses that neurosuper.align(responses, images) returns"
        )
    labels = images.stimulus.values
    stimuli = xr.DataArray(
        labels,
        dims="stimulus",
        coords={"stimulus": labels, CONTENT: ("stimulus", digests_of(images) if content is None else content)},
        name="copy_of",
    )
    numbers = photographs_of(stimuli)
    first = without_later(numbers)
    copy_of = stimuli.copy(data=labels[np.flatnonzero(first)[numbers]])
    return copy_of.assign_attrs(n_copies=int((~first).sum()), n_photographs=int(first.sum()))


def average_copies(responses: xr.DataArray, images: xr.DataArray | None = None) -> xr.DataArray:
    """Return responses averaged over all copies of a photograph: one stimulus per photograph.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        If they have the coord `n_repetitions` (see `average_repetitions`), copies are weighted by it.
    images : DataArray (stimulus, row, column, channel), optional
        What was shown; None uses the responses' own coord `content`. Responses without an image are left out, with a
        warning.

    Returns
    -------
    DataArray (stimulus, unit)
        One row per photograph, with the label and coords of the first stimulus that shows it; `n_repetitions` are
        summed. `attrs["n_copies_averaged"]` counts the stimuli that were merged into others.

    Raises
    ------
    ValueError
        Repetitions that were not averaged; no coord `content` and no images; responses that are not in memory.

    See Also
    --------
    find_copies : find these stimuli.
    neurosuper.average_repetitions : average over repetitions of the same stimulus.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import load_images
    >>> images = load_images(np.zeros((3, 4, 4, 3), np.uint8))
    >>> r = xr.DataArray([[1.], [5.], [6.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus.values, "unit": ["a"]})
    >>> average_copies(r, images).values.tolist()
    [[4.0]]
    """
    responses = check_averaged(responses)
    if responses.chunks is not None:
        raise ValueError("average_copies does not stream; load the responses into memory with responses.compute()")
    if images is not None:
        copies = find_copies(images)
        responses = join_images(responses.drop_vars(CONTENT, errors="ignore"), copies)
    photographs = pd.factorize(find_copies(responses).values)[0]
    first = np.flatnonzero(without_later(photographs))
    weight = responses.n_repetitions.values if "n_repetitions" in responses.coords else np.ones(len(photographs))
    # for each photograph, the weighted mean Σ w r / Σ w over its copies
    total = np.zeros((len(first), responses.sizes["unit"]))
    np.add.at(total, photographs, responses.values * weight[:, None])
    weights = np.bincount(photographs, weight)
    kind = responses.dtype if responses.dtype.kind == "f" else float
    averaged = responses.isel(stimulus=first).copy(data=(total / weights[:, None]).astype(kind))
    if "n_repetitions" in responses.coords:
        averaged = averaged.assign_coords(n_repetitions=("stimulus", weights.astype(weight.dtype)))
    n_before = int(responses.attrs.get("n_copies_averaged", 0))
    return averaged.assign_attrs(n_copies_averaged=n_before + len(photographs) - len(first))
