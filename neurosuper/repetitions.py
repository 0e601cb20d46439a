"""Repetitions of stimuli: which are present, and random halves with the same stimuli but independent noise."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, make_rng
from neurosuper.responses import average_repetitions, check_responses, name_some

__all__ = ["split_repetitions"]

MIN_STIMULI = 3  # repeated stimuli per unit: over two stimuli, every correlation is 1 or −1


def split_repetitions(responses: xr.DataArray, *, random_state: Seed = 0) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the averages over two random halves of each stimulus' repetitions.

    Both halves have all stimuli, and their noise is independent; fit directions on one and score them on the other, for
    example. If the number of repetitions is odd, the remaining one is added to either half at random. Units with the
    same repetitions are split in the same way.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit)
        NaN where a repetition is missing.
    random_state : int, Generator, RandomState or None, optional
        The same labels and `random_state` give the same halves, in any order of the stimuli.

    Returns
    -------
    tuple of two DataArrays (stimulus, unit)
        As `average_repetitions` returns them.

    Raises
    ------
    ValueError
        No dim `repetition`; a stimulus with fewer than two repetitions in some unit; responses that are not in memory.

    See Also
    --------
    neurosuper.split_stimuli : split the stimuli, not their repetitions.
    neurosuper.average_repetitions : the average over all repetitions.

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
    first = first_half(present, rank_labels(responses), make_rng(random_state))
    a, b = (
        average_repetitions(responses.where(np.broadcast_to(half, responses.shape)))
        for half in (first, present & ~first)
    )
    return a, b


def require_repetitions(responses: xr.DataArray, least: int, what: str) -> np.ndarray:
    """Return which repetitions are present, or raise an error that names the stimuli with too few."""
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
    """Return which repetitions are present: (stimulus, repetition, unit), with one unit if all units have the same."""
    if responses.chunks is not None:
        raise ValueError(f"{what} does not stream; load the responses into memory with responses.compute() first")
    present = responses.notnull().values
    return present[..., :1].copy() if (present == present[..., :1]).all() else present


def rank_labels(responses: xr.DataArray) -> np.ndarray:
    """Return the position of each stimulus among the sorted labels: (stimulus,)."""
    return responses.stimulus.values.astype(str).argsort().argsort()


def first_half(valid: np.ndarray, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which repetitions are in the first half: every other one that a unit has, in random order."""
    # draw by sorted label, so that the order of the stimuli does not matter
    order = rng.random(valid.shape[:2])[position].argsort(axis=1)[..., None]
    coin = rng.random(len(valid))[position, None, None] < 0.5
    # in random order, every other valid repetition; the coin gives the odd one to either half
    every_other = np.logical_xor.accumulate(np.take_along_axis(valid, order, axis=1), axis=1) ^ coin
    return np.take_along_axis(every_other, order.argsort(axis=1), axis=1) & valid


class Repeats(NamedTuple):
    """Responses of all repetitions, and which of them a reliability can be computed from."""

    like: xr.DataArray  # the responses, with all labels
    values: np.ndarray  # (stimulus, repetition, unit)
    present: np.ndarray  # the same shape, or one unit if all units have the same repetitions
    valid: np.ndarray  # present, and of a stimulus with at least two repetitions
    sound: np.ndarray  # (unit,): enough repeated stimuli, and not the same response to all


def find_repeats(responses: xr.DataArray, measure: str) -> Repeats:
    """Return repetitions and which are valid, or raise an error that says why there is no reliability."""
    responses = check_responses(responses)
    if "repetition" not in responses.dims:
        responses = responses.expand_dims("repetition", axis=1)
    present = present_repetitions(responses, measure)
    n = present.sum(axis=1, dtype=np.int32)
    enough = (n >= 2).sum(axis=0)
    if enough.max() < MIN_STIMULI:
        raise ValueError(
            f"{measure} needs at least 2 repetitions of at least {MIN_STIMULI} stimuli; {enough.max()} of {len(n)} "
            f"have that many (most: {n.max()}); use responses from before average_repetitions, or a dataset with "
            "repetitions"
        )
    values = responses.values if responses.dtype.kind == "f" else responses.values.astype(float)
    valid = present & (n >= 2)[:, None]
    highest = np.max(values, axis=(0, 1), where=valid, initial=-np.inf)
    sound = (values < highest).any(axis=(0, 1), where=valid) & (enough >= MIN_STIMULI)
    return Repeats(responses, values, present, valid, sound)


def mean_inverse(repetitions: int | xr.DataArray, units: list[str]) -> np.ndarray:
    """Return the mean of 1/n over stimuli: one value per unit, or one for all units."""
    if isinstance(repetitions, Integral) and repetitions > 0:
        return np.array([1 / repetitions])
    if not isinstance(repetitions, xr.DataArray):
        raise ValueError(f"repetitions must be a whole number of at least 1, or responses, got {repetitions!r}")
    if missing := sorted(set(units) - set(check_responses(repetitions).unit.values.tolist())):
        raise ValueError(f"the responses lack unit {name_some(missing)} of ncsnr; take both from the same dataset")
    if "repetition" in repetitions.dims:
        n = present_repetitions(check_responses(repetitions).sel(unit=units), "noise_ceiling").sum(axis=1)
    elif "n_repetitions" in repetitions.coords:
        n = repetitions.n_repetitions.values[:, None]
    else:
        raise ValueError("responses need the dim repetition or the coord n_repetitions; or give a whole number instead")
    return np.divide(1, n, out=np.zeros(n.shape), where=n > 0).sum(axis=0) / np.maximum((n > 0).sum(axis=0), 1)
