"""The top stimuli of some units and directions of a report."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._rounding import format_number
from neurosuper.comparison.table import inactive_items, summarize
from neurosuper.interpretability.disjoint_stimuli import RELIABLE_ENOUGH
from neurosuper.report.numbers import describe_reliability, digits_of, is_unreliable

SHOWN = ("interpretability", "corrected", "top_stimuli")  # variables; those on halves of the stimuli are large
N_SHOWN = 3  # items per group: most, middle and least interpretable
INTRO = (
    "Top {top} stimuli, strongest first, of some items of each finder: the most, middle and least interpretable ones "
    "by {metric}; the number after a name is {index}. Where the reliability r of single items is so low that "
    "2r/(1 + r) is below {least}, the order of items is not reliable: these are examples, at equal steps through the "
    "list of items, without a claim about any of them.{active}"
)


class Examples(NamedTuple):
    """Some items of a system and finder: by group, and the reliability of single items."""

    groups: dict[str, xr.Dataset]
    reliability: float

    @property
    def are_ranked(self) -> bool:
        """Whether items were chosen by their index."""
        return not is_unreliable(self.reliability)


def choose_examples(comparison: xr.Dataset) -> dict[tuple[str, str], Examples]:
    """Return the items to show of each system and finder: of those that are active and have an index."""
    summary = summarize(comparison).xs(comparison.metric.values[0], level="metric")
    known = summary["reliability"] if "reliability" in summary else pd.Series(np.nan, summary.index)
    chosen = {}
    for pair, items in _by_finder(comparison):
        reliability = float(known[pair])
        groups = _spread(items) if is_unreliable(reliability) else _rank(items)
        chosen[pair] = Examples(groups, reliability)
    return chosen


def labels_of(chosen: Iterable[Examples]) -> set[str]:
    """Return the labels of all stimuli to show."""
    shown = itertools.chain.from_iterable(each.groups.values() for each in chosen)
    return {label for items in shown for label in items.top_stimuli.values.ravel().tolist()}


def _by_finder(comparison: xr.Dataset) -> Iterator[tuple[tuple[str, str], xr.Dataset]]:
    """Yield each system and finder with its items that are active and have an index, in the order of the comparison."""
    shown = comparison[[name for name in SHOWN if name in comparison]]
    usable = np.isfinite(_index(comparison)) & ~inactive_items(comparison)
    names = [comparison[name].values.astype(str) for name in ("system", "finder")]
    places = pd.Series(np.arange(len(names[0]))).groupby(names, sort=False).indices
    for pair in itertools.product(*(dict.fromkeys(own.tolist()) for own in names)):
        if pair in places:
            own = np.sort(places[pair])
            yield pair, shown.isel(item=own[usable[own]])


def _index(items: xr.Dataset) -> np.ndarray:
    """Return the index that orders items: by the first metric, the corrected one if there is one."""
    return items["corrected" if "corrected" in items else "interpretability"].isel(metric=0).values


def _rank(items: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the most, middle and least interpretable items, without overlap."""
    order = np.argsort(-_index(items), kind="stable")
    most, rest = order[:N_SHOWN], order[N_SHOWN:]
    middle, least = rest[:-N_SHOWN], rest[-N_SHOWN:]
    start = max(0, (len(middle) - N_SHOWN) // 2)
    groups = {"most": most, "middle": middle[start : start + N_SHOWN], "least": least}
    return {f"{name} interpretable": items.isel(item=chosen) for name, chosen in groups.items() if len(chosen)}


def _spread(items: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return as many items, at equal steps through their list, in groups of the same size."""
    n_items = items.sizes["item"]
    places = np.unique(np.linspace(0, n_items - 1, min(3 * N_SHOWN, n_items)).round().astype(int))
    parts = [places[start : start + N_SHOWN] for start in range(0, len(places), N_SHOWN)]
    return {f"examples {i}": items.isel(item=part) for i, part in enumerate(parts, 1)}


class Item(NamedTuple):
    """A unit or direction to show: its name, its score as text (none, if items are not ranked), its top stimuli."""

    name: str
    score: str
    raw: str
    labels: list[str]


class ExamplesOfFinder(NamedTuple):
    """What is shown of a finder: a sentence on the reliability of its items, and items by group."""

    finder: str
    about: str
    groups: dict[str, list[Item]]


def describe_examples(
    comparison: xr.Dataset, chosen: dict[tuple[str, str], Examples]
) -> dict[str, list[ExamplesOfFinder]]:
    """Return the items to show, by system."""
    digits = digits_of(comparison.interpretability.isel(metric=0).values)
    shown: dict[str, list[ExamplesOfFinder]] = {}
    for (system, finder), examples in chosen.items():
        groups = {
            caption: describe_items(items, digits if examples.are_ranked else None)
            for caption, items in examples.groups.items()
        }
        shown.setdefault(system, []).append(ExamplesOfFinder(finder, _about(examples), groups))
    return shown


def introduce_examples(comparison: xr.Dataset) -> str:
    """Return how the items were chosen."""
    return INTRO.format(
        top=comparison.top,
        least=RELIABLE_ENOUGH,
        metric=comparison.metric.values[0],
        index="its corrected index, with the raw one" if "corrected" in comparison else "its index",
        active=" Inactive items are not shown." if inactive_items(comparison).any() else "",
    )


def _about(examples: Examples) -> str:
    reliability = describe_reliability(examples.reliability)
    if examples.are_ranked:
        return f"Reliability of single items: {reliability}."
    return f"The order of items is not reliable (r = {reliability}): examples, not the most or least interpretable."


def describe_items(items: xr.Dataset, digits: int | None) -> list[Item]:
    """Return the top stimuli of some items; with their scores, if `digits` are given."""
    seeds = items.seed.values if "seed" in items.coords else np.zeros(items.sizes["item"])
    several, shown = len(np.unique(seeds)) > 1, []
    columns = (items.direction.values, seeds, items.interpretability.isel(metric=0).values, _index(items))
    top = items.top_stimuli.transpose("item", "rank").values.tolist()
    for direction, seed, value, ordered, labels in zip(*columns, top, strict=True):
        name = f"{direction} (seed {seed})" if several else str(direction)
        score = "" if digits is None else format_number(ordered, digits)
        raw = "" if digits is None or "corrected" not in items else format_number(value, digits)
        shown.append(Item(name, score, raw, labels))
    return shown
