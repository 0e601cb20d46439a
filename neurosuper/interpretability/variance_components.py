"""Variance components of a mean index: over stimuli, over items, and their interaction, from random splits of stimuli.

v(n) variance of a mean index over samples of n stimuli, for given items. Two random halves, with no stimulus in common,
estimate v(n/2), which is at least v(n); quarters estimate v(n/4), and so how fast v decreases with n.
S shared by all items, I of a single item beyond S, both over stimuli; J of a single item over items. k number of items.
u change of a mean index without one stimulus (or group of stimuli).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neurosuper.inference import degrees_of_freedom

FALL_LIMITS = (0.5, 1.0)  # of v(2n) / v(n): 1/2 for a mean over stimuli, 1 if v does not depend on n


class ItemScores(NamedTuple):
    """The index of each item `(item,)`, on halves of the stimuli `(draw, half, item)`, and without each stimulus."""

    scores: np.ndarray
    of_halves: np.ndarray
    mean_of_quarters: np.ndarray | None = None  # (draw, quarter), mean over items; None with too few stimuli
    influence: np.ndarray | None = None  # u (stimulus,), in one order for all sets; None: infinite degrees of freedom
    n_stimuli: int | None = None  # of the set, if `influence` is of the top stimuli of several sets; None: its length

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.scores)


class Variances(NamedTuple):
    """Variances of a mean index or of a difference of two; `interaction` and `items` of single items, for each set."""

    over_stimuli: float  # for given items
    monte_carlo_error: float  # of `over_stimuli`: its standard deviation over other draws of the splits
    interaction: Sequence[float]
    items: Sequence[float]
    fall: float
    stimulus_df: float  # degrees of freedom of `over_stimuli`

    def total(self, counts: Sequence[int]) -> float:
        """Return the variance over stimuli and items, for these numbers of items in each set."""
        return self.over_stimuli + sum(self._over_items(counts))

    def degrees_of_freedom(self, counts: Sequence[int]) -> float:
        """Return the degrees of freedom of `total`."""
        return degrees_of_freedom.of_sum(
            [self.over_stimuli, *self._over_items(counts)], [self.stimulus_df, *(n - 1 for n in counts)]
        )

    def summary(self, counts: Sequence[int]) -> dict[str, float]:
        """Return the variance components as variables of a Dataset."""
        sides = [""] if len(counts) == 1 else ["_a", "_b"]
        # over_stimuli = S + Σ I/k over the sets, so S = over_stimuli − Σ I/k
        shared = self.over_stimuli - sum(of_item / n for of_item, n in zip(self.interaction, counts, strict=True))
        components = {"var_interaction": self.interaction, "var_items": self.items}
        of_items = {
            name + side: of_item
            for name, of_sets in components.items()
            for side, of_item in zip(sides, of_sets, strict=True)
        }
        return {"var_stimuli": max(0.0, shared)} | of_items | {"fall": self.fall}

    def _over_items(self, counts: Sequence[int]) -> list[float]:
        """Return J/k of each set."""
        return [of_item / n for of_item, n in zip(self.items, counts, strict=True)]


def variances_of(sets: Sequence[ItemScores]) -> Variances:
    """Return the variances of the mean index of one set of items, or of the difference between two."""
    by_draw = _mean_or_difference([items.of_halves.mean(-1, dtype=float) for items in sets]).var(axis=1, ddof=1)
    over_stimuli = float(by_draw.mean())
    error = float(by_draw.std(ddof=1) / np.sqrt(len(by_draw))) if len(by_draw) > 1 else np.nan
    interaction, of_items = zip(*map(_components_of_one_item, sets), strict=True)
    fall = _fall(over_stimuli, [items.mean_of_quarters for items in sets])
    return Variances(over_stimuli, error, interaction, of_items, fall, _stimulus_df(sets))


def log_variance(items: ItemScores) -> float:
    """Return the variance over stimuli of the log of the mean distance, of an index that is minus a mean distance."""
    return _variance_between_groups(np.log(-items.of_halves.mean(-1, dtype=float)))


def by_subject(items: ItemScores, subjects: np.ndarray) -> ItemScores:
    """Return the scores of subjects, as if each were an item, from those of their items; the means do not change.

    Parameters
    ----------
    items : ItemScores
    subjects : array (item,)
        The number of each item's subject, from 0.
    """
    sizes = np.bincount(subjects)
    members = (subjects == np.arange(len(sizes))[:, None]) / sizes[:, None]  # (subject, item)

    # The mean over items is Σ w_a y_a, with y_a the mean of subject a and w_a its share of the items. It is also the
    # mean over A subjects of ȳ + A w_a (y_a − ȳ), whose differences from ȳ are the linear terms of a weighted mean.
    def of_subjects(values: np.ndarray) -> np.ndarray:
        mean = values.mean(-1, keepdims=True, dtype=float)
        return mean + len(sizes) * sizes / sizes.sum() * (values @ members.T - mean)

    return items._replace(scores=of_subjects(items.scores), of_halves=of_subjects(items.of_halves))


def paired_difference(a: ItemScores, b: ItemScores) -> ItemScores:
    """Return the differences between two sets of scores of the same subjects, in the same order."""
    of_both = zip(a[:-1], b[:-1], strict=True)
    return ItemScores(*(None if x is None or y is None else x - y for x, y in of_both))  # type: ignore[arg-type]


def _components_of_one_item(items: ItemScores) -> tuple[float, float]:
    """Return the variance components I (item × stimuli) and J (items) of a single item.

    S is shared by all items. Over stimuli, one item has the variance S + I and the mean of k items S + I/k; over items,
    for given stimuli, single items have the variance I + J.
    """
    of_mean = _variance_between_groups(items.of_halves.mean(-1, dtype=float))  # S + I/k
    of_one = _variance_between_groups(items.of_halves)  # S + I
    # S = (of_mean − of_one/k) / (1 − 1/k); negative estimates of a variance are set to 0
    shared = max(0.0, (of_mean - of_one / items.n) / (1 - 1 / items.n))
    interaction = max(0.0, of_one - shared)
    return interaction, max(0.0, float(items.scores.var(ddof=1)) - interaction)


def _stimulus_df(sets: Sequence[ItemScores]) -> float:
    """Return the degrees of freedom of the variance over stimuli, infinite if the influence of these is not known."""
    known = [items.influence for items in sets if items.influence is not None]
    if len(known) < len(sets):
        return np.inf
    u, counts = _mean_or_difference(known), [items.n_stimuli for items in sets if items.n_stimuli is not None]
    if counts:
        # u is 0 for stimuli that no item has among its top ones. Two sets with different stimuli have at least as many
        # together as the larger one, and at least those that have an influence.
        u = u[np.any([each != 0 for each in known], axis=0)]
        u = np.pad(u, (0, max(0, max(counts) - len(u))))
    return degrees_of_freedom.of_influence(u)


def _fall(of_halves: float, quarters: Sequence[np.ndarray | None]) -> float:
    """Return v(n/2) / v(n/4), within its theoretical limits; NaN if any set has no quarters."""
    known = [of_set for of_set in quarters if of_set is not None]
    of_quarters = _variance_between_groups(_mean_or_difference(known)) if len(known) == len(quarters) else 0
    return float(np.clip(of_halves / of_quarters, *FALL_LIMITS)) if of_quarters else np.nan


def _mean_or_difference(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the values of one set, or the difference between those of two."""
    first, *second = sets
    return first - sum(second)


def _variance_between_groups(values: np.ndarray) -> float:
    """Return the variance between the groups of a split `(draw, group, …)`, averaged over splits and items."""
    if values.shape[1] == 2:  # of two values, (x₁ − x₂)²/2: a tenth of the time
        difference = np.subtract(values[:, 0], values[:, 1], dtype=float)
        return float(np.square(difference, out=difference).mean() / 2)
    return float(values.var(axis=1, ddof=1, dtype=float).mean())
