"""Repetitions: which there are, and halves of them that share the stimuli but not the noise."""

import numpy as np
import xarray as xr

from neurosuper.responses import average_repetitions, check_responses, name_some

__all__ = ["split_repetitions"]


def split_repetitions(responses: xr.DataArray, *, random_state: int | None = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Average two random halves of every stimulus' repetitions, such as one to fit directions on and one to score.

    Both halves have all the stimuli, and noise of their own. Of an odd number of repetitions, the one left over joins
    either half at random. Units that have the same repetitions are split alike.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing.
    random_state : int, optional
        The same labels and `random_state` give the same halves, whatever the order of the stimuli.

    Returns
    -------
    tuple of two DataArrays (stimulus, unit)
        As `average_repetitions` returns them.

    Raises
    ------
    ValueError
        No dim `repetition`; a stimulus of which some unit has fewer than two repetitions; responses not in memory.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[[1.], [3.]], [[5.], [9.]]], dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a"]})
    >>> a, b = split_repetitions(r)
    >>> (a + b).values.ravel().tolist()
    [4.0, 14.0]
    """
    responses = check_responses(responses)
    present = require_repetitions(responses, 2, "split_repetitions")
    first = first_half(present, rank_labels(responses), np.random.default_rng(random_state))
    a, b = (
        average_repetitions(responses.where(np.broadcast_to(half, responses.shape)))
        for half in (first, present & ~first)
    )
    return a, b


def require_repetitions(responses: xr.DataArray, least: int, what: str) -> np.ndarray:
    """Return which repetitions are there (see `present_repetitions`), or name the stimuli that have too few."""
    if "repetition" not in responses.dims:
        raise ValueError(f"{what} needs the dim 'repetition', got {responses.dims}; use responses before averaging")
    present = present_repetitions(responses, what)
    if (few := (present.sum(axis=1) < least).any(axis=1)).any():
        raise ValueError(
            f"{what} needs at least {least} repetitions; a unit has fewer of stimulus "
            f"{name_some(responses.stimulus.values[few])}; drop those with responses.sel("
            f"stimulus=(responses.count('repetition') >= {least}).all('unit'))"
        )
    return present


def present_repetitions(responses: xr.DataArray, what: str) -> np.ndarray:
    """Return which repetitions are there: (stimulus, repetition, unit), of one unit where all agree."""
    if responses.chunks is not None:
        raise ValueError(f"{what} does not stream; bring the responses into memory with responses.compute() first")
    present = responses.notnull().values
    return present[..., :1].copy() if (present == present[..., :1]).all() else present


def rank_labels(responses: xr.DataArray) -> np.ndarray:
    """Return (stimulus,): the place of each stimulus among sorted labels."""
    return responses.stimulus.values.astype(str).argsort().argsort()


def first_half(valid: np.ndarray, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which repetitions fall in the first half: every other one that a unit has, in random order."""
    order = rng.random(valid.shape[:2])[position].argsort(axis=1)[..., None]
    coin = rng.random(len(valid))[position, None, None] < 0.5
    every_other = np.logical_xor.accumulate(np.take_along_axis(valid, order, axis=1), axis=1) ^ coin
    return np.take_along_axis(every_other, order.argsort(axis=1), axis=1) & valid
