"""The leading stimuli of combinations of units, such as the sums of all pairs, ranked one at a time in the cache.

z (stimulus,) the code of a combination. It is computed in float32 to leave out nearly all stimuli, and in float64 of
those that are left, so that the result is that of float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Literal, NamedTuple

import numba
import numpy as np
import xarray as xr

from neurosuper._kernels import njit
from neurosuper.superposition.index_tables import leading_places
from neurosuper.superposition.unit_groups import UnitGroups

Combine = Literal["sum", "difference", "product", "and"]
COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "sum": np.add,
    "difference": np.subtract,
    "product": lambda a, b: np.maximum(a, 0) * np.maximum(b, 0),
    "and": np.minimum,
}
SUM, PRODUCT, MINIMUM = 0, 1, 2
KINDS = {"sum": SUM, "difference": SUM, "product": PRODUCT, "and": MINIMUM}
GROUPS_AT_ONCE = 64  # which share the working memory of a thread
MOST_SORTED = 512  # codes that may be among the largest; with more, sorting by insertion would take too long
LANES = 128  # whose largest codes give the threshold: at least as many as places, twice as many leave out most stimuli


class Rows(NamedTuple):
    """Responses (unit, stimulus) in float64 and float32, and the largest absolute response of each unit."""

    exact: np.ndarray
    rounded: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, exact: np.ndarray) -> Rows:
        """Return responses in both precisions."""
        return cls(exact, exact.astype(np.float32), np.abs(exact).max(axis=1))


def leading_of_combinations(
    first: Rows, others: Rows, groups: UnitGroups, combine: str, n_places: int, stimuli: dict, seed: int
) -> np.ndarray:
    """Return positions `(group, place)` of the stimuli with the largest codes, as `leading_places` does.

    Parameters
    ----------
    first, others : Rows
        The first member of a group is a row of `first`, its other members are rows of `others`.
    groups : UnitGroups
        Combinations, whose labels rank stimuli with equal codes.
    combine : str
        One of `COMBINATIONS`.
    n_places : int
    stimuli : dict
        Coords of the stimuli.
    seed : int
        Of the order of stimuli with equal codes.
    """
    n_stimuli, weights = first.exact.shape[1], groups.weights.astype(float)
    if combine == "difference":
        weights = weights * [1, -1]  # a − b = 1 a + (−1) b, to the last digit
    leading = np.empty((len(weights), min(n_places, n_stimuli)), np.int32)
    is_decided = np.empty(len(leading), bool)
    # scaled so that no product is out of the range of float32; the order of codes stays
    scaled = weights / np.abs(weights).max(axis=1, keepdims=True)
    sizes = np.abs(scaled) * np.hstack([first.largest[groups.members[:, :1]], others.largest[groups.members[:, 1:]]])
    size = sizes.prod(axis=1) if combine == "product" else sizes.sum(axis=1)
    # Rounding of m responses, weights, products and m − 1 sums: less than 4 m eps / 2 of the largest possible code.
    # A code that is rounded down may be compared with one that is rounded up: twice that.
    slack = 4 * weights.shape[1] * np.finfo(np.float32).eps * size
    arrays = first.exact, first.rounded, others.exact, others.rounded
    _lead_combinations(
        *arrays, groups.members, weights, scaled.astype(np.float32), slack, KINDS[combine], leading, is_decided
    )
    if not is_decided.all():  # ranked in full, by the numbers that decide between equal codes
        some = groups.take(~is_decided)
        parts = [first.exact[some.members[:, 0]], *(others.exact[at] for at in some.members.T[1:])]
        weighted = (w[:, None] * part for w, part in zip(some.weights.T, parts, strict=True))
        codes = xr.DataArray(
            reduce(COMBINATIONS[combine], weighted).T, stimuli | {"pair": some.labels}, ("stimulus", "pair")
        )
        leading[~is_decided] = leading_places([codes], n_places, seed)
    return leading


@njit(parallel=True)
def _lead_combinations(
    first: np.ndarray,
    first_rounded: np.ndarray,
    others: np.ndarray,
    others_rounded: np.ndarray,
    members: np.ndarray,
    weights: np.ndarray,
    scaled_weights: np.ndarray,
    slack: np.ndarray,
    kind: int,
    leading: np.ndarray,
    is_decided: np.ndarray,
) -> None:
    """Write positions of the stimuli with the largest codes to `leading` (group, place), the largest code first.

    `is_decided` (group,): whether all of these codes are different, and few others are as large up to rounding.
    """
    n_stimuli, n_places = first.shape[1], leading.shape[1]
    n_lanes = LANES * ((2 * n_places + LANES - 1) // LANES)
    for part in numba.prange((len(members) + GROUPS_AT_ONCE - 1) // GROUPS_AT_ONCE):
        z, bests = np.empty(n_stimuli, np.float32), np.empty(n_lanes, np.float32)
        codes, stimuli = np.empty(MOST_SORTED), np.empty(n_stimuli, np.int32)
        for group in range(part * GROUPS_AT_ONCE, min((part + 1) * GROUPS_AT_ONCE, len(members))):
            at, w = members[group], weights[group]
            _combine(first_rounded[at[0]], others_rounded, at, scaled_weights[group], kind, z)
            n = _at_least(z, _threshold(z, bests, n_places) - slack[group], stimuli)
            is_decided[group] = n <= MOST_SORTED
            if n > MOST_SORTED:
                continue
            for i in range(n):
                codes[i] = w[0] * first[at[0], stimuli[i]]
                for k in range(1, len(at)):
                    codes[i] = _join(codes[i], w[k] * others[at[k], stimuli[i]], kind)
            _sort(codes[:n], stimuli[:n])
            for place in range(n_places):
                leading[group, place] = stimuli[place]
                is_decided[group] &= place + 1 == n or codes[place] > codes[place + 1]


@njit(inline="always")
def _join(a: float, b: float, kind: int) -> float:
    """Return the combination of two numbers."""
    if kind == SUM:
        return a + b
    if kind == PRODUCT:
        return max(a, 0.0) * max(b, 0.0)
    return min(a, b)


@njit()
def _combine(
    first: np.ndarray, others: np.ndarray, members: np.ndarray, weights: np.ndarray, kind: int, z: np.ndarray
) -> None:
    """Write the code of a combination to z (stimulus,), in float32."""
    w = weights[0]
    for s in range(len(z)):
        z[s] = w * first[s]
    for k in range(1, len(members)):
        b, w = others[members[k]], weights[k]
        if kind == SUM:
            for s in range(len(z)):
                z[s] += w * b[s]
        elif kind == PRODUCT:
            for s in range(len(z)):
                z[s] = max(z[s], np.float32(0)) * max(w * b[s], np.float32(0))
        else:
            for s in range(len(z)):
                z[s] = min(z[s], w * b[s])


@njit()
def _threshold(z: np.ndarray, bests: np.ndarray, n: int) -> float:
    """Return a code that at least n of z are equal to or above; `bests` are at least n numbers, which are changed."""
    # Lane i contains z[i], z[i + n_lanes], …: the largest codes of n lanes are at least the n-th largest of all lanes.
    bests[:] = -np.inf
    for start in range(0, len(z), len(bests)):
        part = z[start : start + len(bests)]
        for i in range(len(part)):
            code, best = part[i], bests[i]
            bests[i] = code if code > best else best
    return _nth_largest(bests, n)


@njit()
def _at_least(z: np.ndarray, least: float, stimuli: np.ndarray) -> int:
    """Write positions of codes that are at least as large to `stimuli`, and return how many these are."""
    n, rounded = 0, np.float32(least)
    for s in range(len(z)):
        if z[s] >= rounded:
            stimuli[n] = s
            n += 1
    return n


@njit()
def _nth_largest(values: np.ndarray, n: int) -> float:
    """Return the n-th largest value, from 1; values are reordered (quickselect, Hoare 1961)."""
    left, right = 0, len(values) - 1
    while left < right:
        pivot, i, j = values[(left + right) // 2], left, right
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if n - 1 <= j:
            right = j
        elif n - 1 >= i:
            left = i
        else:
            break
    return values[n - 1]


@njit()
def _sort(codes: np.ndarray, stimuli: np.ndarray) -> None:
    """Sort codes in decreasing order, by insertion, which is fast for about a hundred; stimuli follow."""
    for i in range(1, len(codes)):
        code, stimulus, at = codes[i], stimuli[i], i
        while at > 0 and codes[at - 1] < code:
            codes[at], stimuli[at] = codes[at - 1], stimuli[at - 1]
            at -= 1
        codes[at], stimuli[at] = code, stimulus
