"""Mixtures: how many items of one system it takes to make an item of another.

A, B (stimulus, item) codes of two systems, z-scored; Â the mixture of items of B that is nearest to A on the stimuli to
fit; r the correlation of A and Â over other stimuli.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.halved_systems import MIN_STIMULI, Half, Prepared, Remove, ceilings, fit_stimuli, reliability
from neurosuper.comparison.mixture_weights import Pursuit, Ridge, pursue, regress
from neurosuper.comparison.pairings import correlate_columns, standardize
from neurosuper.comparison.partner_tests import p_of_partners
from neurosuper.comparison.shared_stimuli import common_systems, labels_of_items, number_folds
from neurosuper.inference import adjust_p_values
from neurosuper.inference.null_draws import p_of_draws

__all__ = ["twins_from"]

ALL = "all"
N_FOLDS = 5  # of the stimuli to fit, to choose the number of partners
CONFIDENCE_LEVEL = 0.95
LEVEL = 0.05  # of the test of whether more partners are better, over all larger numbers


class _Mixtures(NamedTuple):
    """Mixtures of each number of items of B."""

    numbers: list[int]
    few: Pursuit | None
    all: Ridge | None

    @classmethod
    def of(cls, A: np.ndarray, B: np.ndarray, numbers: Sequence[int | str], signed: bool) -> _Mixtures:
        """Return the mixtures that are nearest to A on these stimuli."""
        steps = [number for number in numbers if isinstance(number, int)]
        few = pursue(A, B, max(steps), signed) if steps else None
        return cls(steps, few, regress(A, B) if ALL in numbers else None)

    def predict(self, B: np.ndarray) -> np.ndarray:
        """Return the mixtures (number, stimulus, item of A)."""
        parts = []
        if self.few is not None:
            parts.append(self.few.predict(B)[np.array(self.numbers) - 1])
        if self.all is not None:
            parts.append(self.all.predict(B)[None])
        return np.concatenate(parts)


def twins_from(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    n_partners: int | Literal["all"] | Sequence[int | Literal["all"]] = (1, 2, 3, 4, 5, "all"),
    remove: Remove = "common",
    signed: bool = False,
    n_permutations: int = 999,
    n_rotations: int = 20,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how well each item of a system is made of one item of another, of two, …, or of all.

    If one is enough, the systems share this axis; if it takes many, they share a subspace in which each has its own
    axes. Mixtures are chosen and weighted on one half of the stimuli, and scored on the other.

    Parameters
    ----------
    a, b : DataArray (stimulus, item), or (stimulus, repetition, item)
        Responses or codes; stimuli are matched by label. With repetitions (none may be missing) there is a ceiling.
        The coord `split` of `a` marks stimuli to choose on ("fit") and to score ("score"); without it, halves are
        drawn.
    n_partners : int, "all", or sequence of these, optional
        Numbers of items of `b`, each at most as many as there are. "all": a ridge regression on all, with weights of
        both signs, whose penalty is chosen for each item of `a` by leaving out stimuli to fit in turn.
    remove : {"common", "none"}, optional
        "common": the first principal component of the z-scored codes of each system is taken off, as in `twins`.
    signed : bool, optional
        Allow negative weights of few items, too.
    n_permutations : int, optional
        Number of times that the stimuli to score of `b` are shuffled, at least 19; mixtures stay.
    n_rotations : int, optional
        Number of random rotations of `b`, at least 1, each with mixtures of its own; 0 draws none.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves, folds, permutations and rotations.

    Returns
    -------
    Dataset (n_partners, item_a)
        The coord `n_partners` has strings, such as "1" and "all".

        - `r`, the correlation with the mixture on the stimuli to score, with `r_low` and `r_high` (Fisher's z), and
          `r_matched`, that on the others; NaN where no item of `b` helps;
        - `p_value`, one-sided, and `p_adjusted` (Benjamini and Hochberg, over items, for each number);
        - with repetitions: `ceiling`, the largest r that the reliabilities of item and mixture allow, and `r_ceiled`, r
          divided by it (NaN where the ceiling is below 0.1);
        - `partner (rank, item_a)`, the labels of the items of `b` in the order in which they were chosen ("" for none),
          and `weight (n_partners, rank, item_a)`, their weights in z-scored codes (NaN for "all");
        - `n_needed (item_a)`, the number of items that is enough: the smallest, from 0, for which no larger one has a
          larger r (see Notes); for "all", the number of items of `b`; and `r_needed`, r of this number, NaN for 0;
        - `median_r (n_partners)`, over items; `rotated (rotation, n_partners)`, that of each rotation; and `p_rotated`,
          the share of rotations whose median is at least as large, counting `median_r` as one.

    Raises
    ------
    ValueError
        Fewer than 20 common stimuli, or copies of one photograph among them; NaN; items that do not vary on one of the
        halves; a system of one item, with `remove="common"`; more partners than items; settings out of range.

    See Also
    --------
    twins : The one partner of each item.
    encode : Ridge regression on all, over folds of all stimuli.

    Notes
    -----
    Few items are chosen by orthogonal matching pursuit: each step adds the item with the largest correlation with the
    residual, and finds all weights again by least squares, under x ≥ 0 unless `signed` (Yaghoobi, Wu and Davies 2015).
    The mean over other systems of r of "all" is the universality of a dimension of Chen and Bonner 2025.

    `n_needed` is chosen on the stimuli to fit, by predictions in five folds: a larger number is better if its r is
    larger by more than t · SE, where SE is that of the difference of two correlations with the same item, by their
    influence functions, and t is one-sided, at 5 % divided by the number of larger numbers. So with few stimuli it is
    too small: one enough of 100 stimuli may not be of 1,000.

    For a rotation of `b` each of its axes is a mixture, and so r of one item is lower if the axes are shared; r of all
    does not change. The ceiling is √(ρ₁ ρ₂), as in `twins`, with the reliability of the mixture for that of a partner.

    References
    ----------
    Yaghoobi, Wu and Davies 2015, "Fast non-negative orthogonal matching pursuit", IEEE Signal Processing Letters 22,
    1229. Chen and Bonner 2025, "Universal dimensions of visual representation", Science Advances 11.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> def system(values, units):
    ...     names = {"stimulus": np.arange(120).astype(str), "unit": list(units)}
    ...     return xr.DataArray(values, names, ("stimulus", "unit"))
    >>> x = rng.normal(size=(120, 6))
    >>> mixed = np.stack([x[:, 1], x[:, 2:5].mean(axis=1)], axis=1) + 0.1 * rng.normal(size=(120, 2))
    >>> a, b = system(mixed, ["one", "three"]), system(x, "uvwxyz")
    >>> found = twins_from(a, b, n_partners=(1, 2, 3, "all"), remove="none", n_permutations=19, n_rotations=0)
    >>> found.n_needed.values.tolist(), sorted(found.partner.sel(item_a="three").values.tolist())
    ([1, 3], ['w', 'x', 'y'])
    """
    check_one_of("remove", remove, get_args(Remove))
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    check_count("n_rotations", n_rotations, least=0)
    seed = seed_or_new(random_state)
    a, b = common_systems(a, b, 2 * MIN_STIMULI, repeated=True)
    # in order of labels, so that no other order matters for what is drawn at random
    a, b = a.sortby("stimulus"), b.sortby(["stimulus", b.dims[-1]])
    numbers = _check_numbers(n_partners, b.shape[-1])
    is_fit = fit_stimuli(a, seed)
    of_a, of_b = (Prepared.of(each, is_fit, remove, seed) for each in (a, b))
    A, B = of_a.half, of_b.half
    mixtures = _Mixtures.of(A.fit, B.fit, numbers, signed)
    columns = _scores(of_a, of_b, mixtures)
    r = columns["r"]
    columns["p_value"] = _p_values(A.score, mixtures.predict(B.score), r, n_permutations, seed)
    table = xr.Dataset({name: (("n_partners", "item_a"), values) for name, values in columns.items()})
    table = table.assign_coords(labels_of_items(a) | {"n_partners": [str(number) for number in numbers]})
    table["p_adjusted"] = table.p_value.copy(data=np.stack([adjust_p_values(each) for each in table.p_value]))
    fold = number_folds(a[is_fit], None, N_FOLDS, seed)
    place = _choose_number(A.fit, _predict_folds(A.fit, B.fit, fold, numbers, signed))
    table = table.assign(_needed(place, numbers, r, B.fit.shape[1]))
    table = table.assign(_partners(mixtures, b[b.dims[-1]].values, len(numbers)))
    table["median_r"] = ("n_partners", _medians(r))
    if n_rotations:
        rotated = _rotate(A, B, numbers, signed, table.median_r.values, n_rotations, seed)
        table["rotated"] = (("rotation", "n_partners"), rotated)
        table["p_rotated"] = ("n_partners", p_of_draws(table.median_r.values, rotated))
    attrs: dict[str, object] = {"method": "mixtures of twins", "quantity": "correlation", "remove": remove}
    attrs |= {"signed": int(signed), "n_fit": len(A.fit), "n_stimuli": len(A.score)}
    attrs |= {"n_items_b": b.shape[-1], "n_permutations": int(n_permutations), "n_rotations": int(n_rotations)}
    return table.assign_attrs(attrs | {"confidence_level": CONFIDENCE_LEVEL, "random_state": seed})


def _check_numbers(n_partners: int | str | Sequence[int | str], n_items: int) -> list[int | str]:
    """Return different numbers of partners in increasing order, "all" last."""
    given = [n_partners] if isinstance(n_partners, str | int | np.integer) else list(n_partners)
    few = [each for each in given if each != ALL]
    why = f", the number of items of b, or {ALL!r}"
    checked = sorted(check_count("n_partners", each, most=n_items, why=why) for each in few)
    if not given or len(set(given)) < len(given):
        raise ValueError(f"n_partners must be different numbers of items of b, or {ALL!r}, got {n_partners!r}")
    return [*checked, *[ALL] * (ALL in given)]


def _scores(of_a: Prepared, of_b: Prepared, mixtures: _Mixtures) -> dict[str, np.ndarray]:
    """Return r of each mixture and item, its interval, and its ceiling."""
    A, B = of_a.half, of_b.half
    r = _correlate_with_each(A.score, mixtures.predict(B.score))
    z, margin = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)), stats.norm.isf(0.025) / np.sqrt(len(A.score) - 3)
    columns = {"r": r, "r_low": np.tanh(z - margin), "r_high": np.tanh(z + margin)}
    columns["r_matched"] = _correlate_with_each(A.fit, mixtures.predict(B.fit))
    if of_a.repeats is None and of_b.repeats is None:
        return columns
    rho_b = None
    if of_b.repeats is not None:
        one, other = (mixtures.predict(half) for half in of_b.repeats)
        rho_b = np.stack([reliability(*both) for both in zip(one, other, strict=True)])
    columns["ceiling"], columns["r_ceiled"] = ceilings(of_a.reliability, rho_b, r)
    return columns


def _correlate_with_each(A: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return r (number, item) of items with mixtures (number, stimulus, item); NaN for mixtures of nothing."""
    r = np.stack([correlate_columns(A, each) for each in predicted])
    return np.where(np.abs(predicted).max(axis=1) > 0, r, np.nan)


def _p_values(A: np.ndarray, predicted: np.ndarray, r: np.ndarray, n_permutations: int, seed: int) -> np.ndarray:
    """Return p (number, item), from permutations of the stimuli of mixtures."""
    n_numbers, n_stimuli, _ = predicted.shape
    theirs = predicted.transpose(1, 0, 2).reshape(n_stimuli, -1)
    return p_of_partners(np.tile(A, n_numbers), theirs, r.ravel(), None, n_permutations, seed)[0].reshape(r.shape)


def _predict_folds(
    A: np.ndarray, B: np.ndarray, fold: np.ndarray, numbers: list[int | str], signed: bool
) -> np.ndarray:
    """Return mixtures (number, stimulus, item), those of each fold chosen and weighted on the others."""
    predicted = np.empty((len(numbers), *A.shape))
    for k in progress(range(N_FOLDS), desc="folds", unit="fold", leave=False):
        fit = fold != k
        center = B[fit].mean(axis=0)
        predicted[:, ~fit] = _Mixtures.of(A[fit], B[fit], numbers, signed).predict(B[~fit] - center)
    return predicted


def _choose_number(A: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the place of the smallest number of items for which no larger one is better; −1 if none helps."""
    n = len(A)
    a = standardize(A) * np.sqrt(n)
    r, influence = [np.zeros(A.shape[1])], [np.zeros(A.shape)]  # of no item at all
    for each in predicted:
        p = standardize(each) * np.sqrt(n)
        r.append((a * p).mean(axis=0))
        # the influence of a stimulus on a correlation of z-scored values: ap − r (a² + p²)/2
        influence.append(a * p - r[-1] / 2 * (a**2 + p**2))
    place = np.full(A.shape[1], len(predicted))
    for k in reversed(range(len(predicted))):
        larger = range(k + 1, len(r))
        t = stats.t.isf(LEVEL / len(larger), n - 1)
        errors = (np.sqrt(((influence[h] - influence[k]) ** 2).sum(axis=0)) / n for h in larger)
        is_better = [r[h] - r[k] > t * error for h, error in zip(larger, errors, strict=True)]
        place[~np.any(is_better, axis=0)] = k
    return place - 1


def _needed(place: np.ndarray, numbers: list[int | str], r: np.ndarray, n_items: int) -> dict[str, Any]:
    """Return the number of items that is enough, and its r on other stimuli than those that chose it."""
    counts = np.array([n_items if number == ALL else number for number in numbers])
    none, place = place < 0, np.maximum(place, 0)
    r_needed = np.where(none, np.nan, r[place, np.arange(r.shape[1])])
    return {"n_needed": ("item_a", np.where(none, 0, counts[place])), "r_needed": ("item_a", r_needed)}


def _partners(mixtures: _Mixtures, labels: np.ndarray, n_numbers: int) -> dict[str, Any]:
    """Return labels of the items of few, in order of choice, and their weights for each number."""
    if mixtures.few is None:
        return {}
    chosen, weights = mixtures.few.chosen, mixtures.few.weights
    of_numbers = np.full((n_numbers, *chosen.shape), np.nan)
    of_numbers[: len(mixtures.numbers)] = weights[np.array(mixtures.numbers) - 1]
    return {
        "rank": np.arange(1, len(chosen) + 1),
        "partner": (("rank", "item_a"), np.where(chosen >= 0, labels[chosen], "")),
        "weight": (("n_partners", "rank", "item_a"), of_numbers),
    }


def _medians(r: np.ndarray) -> np.ndarray:
    """Return the median over items of r (number, item), which is 0 for a mixture of nothing."""
    return np.median(np.nan_to_num(r), axis=1)


def _rotate(
    A: Half, B: Half, numbers: list[int | str], signed: bool, medians: np.ndarray, n_rotations: int, seed: int
) -> np.ndarray:
    """Return the median r (rotation, number) with random rotations of B; that of all items is the same."""
    few = [number for number in numbers if number != ALL]
    drawn = np.tile(medians, (n_rotations, 1))
    rng, n_items = np.random.default_rng([seed, 2]), B.fit.shape[1]
    for i in progress(range(n_rotations if few else 0), desc="rotations", unit="rotation", leave=False):
        Q = stats.ortho_group.rvs(n_items, random_state=rng) if n_items > 1 else np.ones((1, 1))
        mixtures = _Mixtures.of(A.fit, B.fit @ Q, few, signed)
        drawn[i, : len(few)] = _medians(_correlate_with_each(A.score, mixtures.predict(B.score @ Q)))
    return drawn
