"""Variance components of a mean index: over stimuli, over items, and their interaction, from random splits of stimuli.

v(n) variance of a mean index over samples of n stimuli, for given items. Two random halves, with no stimulus in common,
estimate v(n/2), which is at least v(n); quarters estimate v(n/4), and so how fast v decreases with n.
S shared by all items, I of a single item beyond S, both over stimuli; J of a single item over items. k number of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FALL_LIMITS = (0.5, 1.0)  # of v(2n) / v(n): 1/2 for a mean over stimuli, 1 if v does not depend on n


class ItemScores(NamedTuple):
    """The index of each item `(item,)`, and on halves and quarters of the stimuli `(draw, group, item)`."""

    scores: np.ndarray
    scores_of_halves: np.ndarray
    scores_of_quarters: np.ndarray | None = None  # None with too few stimuli

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.scores)


class Variances(NamedTuple):
    """Variances of a mean index or of a difference of two; `interaction` and `items` of single items, for each set."""

    over_stimuli: float  # for given items
    interaction: Sequence[float]
    items: Sequence[float]
    fall: float

    def total(self, counts: Sequence[int]) -> float:
        """Return the variance over stimuli and items, for these numbers of items in each set."""
        return self.over_stimuli + sum(of_item / n for of_item, n in zip(self.items, counts, strict=True))

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


def variances_of(sets: Sequence[ItemScores]) -> Variances:
    """Return the variances of the mean index of one set of items, or of the difference between two."""
    of_halves = _variance_between_groups(_mean_or_difference([items.scores_of_halves for items in sets]))
    interaction, of_items = zip(*map(_components_of_one_item, sets), strict=True)
    return Variances(of_halves, interaction, of_items, _fall(of_halves, [items.scores_of_quarters for items in sets]))


def _components_of_one_item(items: ItemScores) -> tuple[float, float]:
    """Return the variance components I (item × stimuli) and J (items) of a single item.

    S is shared by all items. Over stimuli, one item has the variance S + I and the mean of k items S + I/k; over items,
    for given stimuli, single items have the variance I + J.
    """
    of_mean = _variance_between_groups(items.scores_of_halves.mean(-1))  # S + I/k
    of_one = _variance_between_groups(items.scores_of_halves)  # S + I
    # S = (of_mean − of_one/k) / (1 − 1/k); negative estimates of a variance are set to 0
    shared = max(0.0, (of_mean - of_one / items.n) / (1 - 1 / items.n))
    interaction = max(0.0, of_one - shared)
    return interaction, max(0.0, float(items.scores.var(ddof=1)) - interaction)


def _fall(of_halves: float, quarters: Sequence[np.ndarray | None]) -> float:
    """Return v(n/2) / v(n/4), within its theoretical limits; NaN if any set has no quarters."""
    known = [of_set for of_set in quarters if of_set is not None]
    of_quarters = _variance_between_groups(_mean_or_difference(known)) if len(known) == len(quarters) else 0
    return float(np.clip(of_halves / of_quarters, *FALL_LIMITS)) if of_quarters else np.nan


def _mean_or_difference(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over items `(draw, group)` of one set, or the difference between the means of two."""
    first, *second = (of_set.mean(-1) for of_set in sets)
    return first - sum(second)


def _variance_between_groups(values: np.ndarray) -> float:
    """Return the variance between the groups of a split `(draw, group, …)`, averaged over splits and items."""
    return float(values.var(axis=1, ddof=1).mean())
