"""The section of a report on twins: for each pair of systems, how good they are, and a few as rows of images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurosuper._rounding import ALPHA, format_interval, format_number, format_p
from neurosuper.report.examples import Item, describe_items
from neurosuper.report.numbers import digits_of, unique_names

N_SHOWN = 3  # twins of each pair and kind of items
FEWEST_ROTATIONS = 19  # that allow p = 0.05
UNITS, UNITS_FINDER = "units", "Units"
SPACE_ONLY = (
    "Rotations at random have twins as good: the systems share a space, and nothing says that they share these axes."
)
TOO_FEW = "Whether rotations at random do as well is not known: this needs at least 19 rotations."
INTRO = (
    "The twin of an item is the item of the other system that responds to the same stimuli: it is chosen on one part "
    "of the stimuli, and r is their correlation on the rest. {removed} Random rotations of the first system, with "
    "twins of their own, say what r is worth. Shown are the {n} items with the largest correlation where twins were "
    "chosen; r, and its interval, are of other stimuli, so that they are not large because these items are shown."
)
REMOVED = "What all items of a system share, such as contrast, is taken off first."
NOT_REMOVED = "What all items of a system share, such as contrast, is not taken off, and makes twins of any two items."
METHOD = (
    "Twins were matched ({match}) by their correlation on {n_fit} stimuli and scored on {n_stimuli} others, by "
    "{n_permutations} permutations (Benjamini and Hochberg over items) and {n_rotations} random rotations of the first "
    "system; its codes and those of the second {removed}."
)


class Shown(NamedTuple):
    """A twin to show: how similar it is, and both items."""

    caption: str
    both: list[Item]


class TwinsOfItems(NamedTuple):
    """Twins of a pair of systems by one kind of items: sentences, and those to show."""

    items: str
    sentences: list[str]
    shown: list[Shown]


class Twins(NamedTuple):
    """The section: an introduction, results by pair, what was left out, a sentence of methods."""

    introduction: str
    pairs: dict[str, list[TwinsOfItems]]
    left_out: list[str]
    method: str

    @property
    def labels(self) -> set[str]:
        """Labels of all stimuli that are shown."""
        every = [shown for results in self.pairs.values() for each in results for shown in each.shown]
        return {label for shown in every for item in shown.both for label in item.labels}


def describe_twins(tree: xr.DataTree | None, comparison: xr.Dataset) -> Twins | None:
    """Return the sentences on twins, and those to show, of all pairs of systems in a tree; None without one.

    Raises
    ------
    TypeError
        Not a DataTree.
    ValueError
        Results of something else, or of systems that are not in the comparison.
    """
    if tree is None:
        return None
    nodes = list(_read(tree, comparison))
    if not nodes:
        return None
    attrs, pairs = nodes[0].attrs, dict[str, list[TwinsOfItems]]()
    for found in nodes:
        results = pairs.setdefault(f"{found.attrs['system_a']} | {found.attrs['system_b']}", [])
        results.append(TwinsOfItems(found.attrs["items"], _sentences(found), list(_choose(found, comparison))))
    is_off = attrs["remove"] == "common"
    introduction = INTRO.format(removed=REMOVED if is_off else NOT_REMOVED, n=N_SHOWN)
    method = METHOD.format(
        **{name: attrs[name] for name in ("match", "n_fit", "n_stimuli", "n_permutations", "n_rotations")},
        removed="were compared without their first principal component" if is_off else "were compared as they are",
    )
    return Twins(introduction, pairs, str(tree.attrs.get("left_out", "")).splitlines(), method)


def _read(tree: xr.DataTree, comparison: xr.Dataset) -> Iterator[xr.Dataset]:
    """Yield the results of a tree."""
    if not isinstance(tree, xr.DataTree):
        raise TypeError(
            f"twins must be a DataTree, as neurosuper.study.read_twins returns it, got {type(tree).__name__}; put "
            "results of neurosuper.comparison.twins at pair/items of one, with the attrs system_a, system_b and items"
        )
    known = unique_names(comparison.system)
    for node in tree.leaves:
        if not node.has_data:
            continue
        found = node.to_dataset()
        if "r_matched" not in found or not {"system_a", "system_b", "items"} <= found.attrs.keys():
            raise ValueError(f"twins has other results at {node.path}; pass what neurosuper.study.read_twins returns")
        if others := {found.attrs["system_a"], found.attrs["system_b"]} - {*known}:
            raise ValueError(
                f"twins are of {', '.join(sorted(others))}, and the comparison of {', '.join(known)}; pass both of the "
                "same study"
            )
        yield found


def _sentences(found: xr.Dataset) -> list[str]:
    """Return how good the twins of a pair are, next to those of rotations, and what may not be claimed."""
    n = found.sizes["item_a"]
    if not (found.partner != "").any():
        return [f"None of {n:,} items has a twin."]
    has_rotations = "rotated" in found
    median = f"The median r is {format_number(float(found.median_r), 2)}"
    if has_rotations:
        low, high = (format_number(float(getattr(found.rotated, end)()), 2) for end in ("min", "max"))
        median += f"; that of {found.sizes['rotation']} random rotations is {low} to {high} "
        median += f"(p {format_p(float(found.p_rotated))})"
    n_sure = int((found.p_adjusted < ALPHA).sum())
    sentences = [f"{median}. {n_sure:,} of {n:,} items respond as their twins do (adjusted p < {ALPHA})."]
    if "ceiling" in found and bool(found.ceiling.notnull().any()):
        least, most = (format_number(float(getattr(found.ceiling, end)()), 2) for end in ("min", "max"))
        sentences[0] += f" Their reliabilities allow r of {least} to {most}."
    if not has_rotations or found.sizes["rotation"] < FEWEST_ROTATIONS:
        sentences.append(TOO_FEW)
    elif not float(found.p_rotated) < ALPHA:
        sentences.append(SPACE_ONLY)
    return sentences


def _choose(found: xr.Dataset, comparison: xr.Dataset) -> Iterator[Shown]:
    """Yield the twins to show: those with the largest correlation on the stimuli where partners were chosen."""
    finder = _finder_of(str(found.attrs["items"]), comparison)
    own, other = (_items_of(comparison, str(found.attrs[f"system_{side}"]), finder) for side in "ab")
    order = np.argsort(-found.r_matched.values, kind="stable")  # NaN, of items without a partner, is last
    n = 0
    for twin in (found.isel(item_a=place) for place in order):
        a, b = str(twin.item_a.item()), str(twin.partner.item())
        if n < N_SHOWN and a in own and b in other:  # an item that does not vary where it was scored is not there
            yield Shown(_caption(twin), [own[a], other[b]])
            n += 1


def _finder_of(items: str, comparison: xr.Dataset) -> str:
    """Return the name in the comparison of the finder of some items."""
    if items != UNITS:
        return items
    finders = json.loads(comparison.attrs.get("provenance", "{}")).get("finders", {})
    return next((name for name, about in finders.items() if about.get("finder") == UNITS_FINDER), UNITS_FINDER)


def _items_of(comparison: xr.Dataset, system: str, finder: str) -> dict[str, Item]:
    """Return the items of a system and finder by label, of the first seed."""
    own = (comparison.system == system) & (comparison.finder == finder)
    if "seed" in comparison.coords:
        own &= comparison.seed == comparison.seed[0]
    if not own.any():
        return {}
    digits = digits_of(comparison.interpretability.isel(metric=0).values)
    items: Iterable[Item] = describe_items(comparison.isel(item=own.values), digits)
    return {item.name: item for item in items}


def _caption(twin: xr.Dataset) -> str:
    """Return how similar two items are."""
    r, low, high = (float(twin[name]) for name in ("r", "r_low", "r_high"))
    text = f"r = {format_number(r, 2)} {format_interval(low, high, 2)}"
    if "ceiling" in twin and np.isfinite(float(twin.ceiling)):
        text += f", ceiling {format_number(float(twin.ceiling), 2)}"
    return f"{text}, p {format_p(float(twin.p_adjusted))}"
