"""Codes of stimuli with labels of a category, and their halves: one to choose something on, and one to score it on."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._content import photographs_of
from neurosuper._joins import join
from neurosuper._labels import as_label
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import name_some, require_varying

Labels = xr.DataArray | str
MIN_IN_CATEGORY = 5  # stimuli: the normal approximation of a test of n ranks has p ≥ 2 Φ(−√(3n)), 1e-4 for 5


def open_codes(codes: xr.DataArray) -> xr.DataArray:
    """Return codes (stimulus, item) in memory, as floating point, after checking that they are finite and vary."""
    codes = check_codes(codes).compute()
    codes = codes if codes.dtype in (np.float32, np.float64) else codes.astype(float)
    if (bad := ~np.isfinite(codes.values).all(0)).any():
        item = codes.dims[1]
        raise ValueError(
            f"codes contain NaN or infinite values, in {item} {name_some(codes[item].values[bad])}; drop those, or "
            "their stimuli"
        )
    require_varying(codes)
    return codes


def read_labels(codes: xr.DataArray, labels: Labels) -> tuple[xr.DataArray, np.ndarray, np.ndarray]:
    """Return the codes of stimuli with a label, the categories in order, and the number of the category of each.

    Raises
    ------
    TypeError
        Labels that are neither a DataArray nor the name of a coord.
    ValueError
        No such coord; a stimulus without a label; a single category, or one of too few stimuli.
    """
    codes = open_codes(codes)
    if isinstance(labels, str):
        if labels not in codes.coords or codes[labels].dims != ("stimulus",):
            raise ValueError(
                f"codes have no stimulus coord {labels!r}; add it with .assign_coords({labels}=('stimulus', labels)), "
                "or pass the labels as a DataArray (stimulus,)"
            )
        given = codes[labels].values
    elif isinstance(labels, xr.DataArray) and labels.dims == ("stimulus",):
        codes, of_stimuli = join(codes, labels, names=("the codes", "the labels"))
        given = of_stimuli.values
    else:
        got = f"dims {labels.dims}" if isinstance(labels, xr.DataArray) else type(labels).__name__
        raise TypeError(f"labels must be a DataArray (stimulus,) or the name of a stimulus coord of codes, got {got}")
    names = np.array([as_label(each) for each in given.tolist()])
    if (missing := pd.isnull(given) | (names == "")).any():
        raise ValueError(
            f"no label for stimulus {name_some(codes.stimulus.values[missing])}; label all stimuli, or leave these out"
        )
    categories, numbers = np.unique(names, return_inverse=True)
    _check_sizes(categories, np.bincount(numbers))
    return codes, categories, numbers


def _check_sizes(categories: np.ndarray, sizes: np.ndarray) -> None:
    if len(categories) < 2:
        raise ValueError(f"all stimuli have the label {str(categories[0])!r}; at least 2 categories are compared")
    if (few := sizes < MIN_IN_CATEGORY).any():
        raise ValueError(
            f"a category needs at least {MIN_IN_CATEGORY} stimuli, got {sizes[few].min()} in "
            f"{name_some(categories[few])}; leave its stimuli out, or join small categories"
        )


def halve(codes: xr.DataArray, seed: int, numbers: np.ndarray | None = None) -> np.ndarray:
    """Return which stimuli are to choose on; the others are to score on.

    The coord `split`, if there is one, decides. Otherwise photographs are halved at random, those of each category by
    themselves; this depends neither on the order of stimuli nor on that of items.

    Parameters
    ----------
    codes : DataArray (stimulus, item)
    seed : int
    numbers : array of int (stimulus,), optional
        The category of each stimulus; a photograph has that of its first copy.

    Raises
    ------
    ValueError
        A half, or its part of a category, has fewer than two stimuli.
    """
    numbers = np.zeros(codes.sizes["stimulus"], int) if numbers is None else numbers
    if "split" in codes.coords:
        to_fit = np.asarray(codes["split"].values == "fit")
    else:
        labels = codes.stimulus.values.astype(str)
        order = np.argsort(labels)
        photographs, first = np.unique(photographs_of(codes)[order], return_index=True)
        category = numbers[order][first]
        rng = np.random.default_rng(seed)
        # In order of labels: each photograph draws a key, each category the half that has one more of an odd number.
        keys, odd = rng.random(len(labels))[first], rng.integers(2, size=numbers.max() + 1)
        shuffled = np.lexsort((keys, category))
        place = np.empty(len(shuffled), int)
        place[shuffled] = np.arange(len(shuffled)) - np.searchsorted(category[shuffled], category[shuffled])
        to_fit = np.isin(photographs_of(codes), photographs[(place + odd[category]) % 2 == 0])
    sizes = np.stack([np.bincount(numbers[part], minlength=numbers.max() + 1) for part in (to_fit, ~to_fit)])
    if sizes.min() < 2:
        raise ValueError(
            f"a half of the stimuli has {sizes.min()} of a category, and needs 2; use more stimuli, fewer copies, or "
            "another coord `split`"
        )
    return to_fit
