"""Tests as forest plots: a row per system and finder, with difference, interval and verdict, and sentences for a paper.

The rows are a table whose bars are drawn by the page (`templates/forest.html`), so that on a phone and on paper they
are as wide as there is room, and their numbers remain text.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator

from neurosuper._rounding import decimals_for, format_interval, format_number, format_p
from neurosuper.comparison.contrast import NothingToTestError, contrast_finders, contrast_systems
from neurosuper.report.numbers import unique_names

MARGIN = 0.04  # of the range of values: space on both sides of an axis
LEGEND = (
    "Difference in the mean {index}index, with 95 % intervals{not_adjusted}. Filled and bold: detectable, {p} below "
    "0.05. Hollow: not detectable, which is no evidence that there is no difference."
)
NOT_ADJUSTED = ", which are not adjusted for the number of tests as p is: one may exclude 0 without being detectable"
BASELINE = (
    "The matched baseline of a finder draws random directions: Gaussian vectors with the mean and covariance of the "
    "responses, prepared as for the finder. A gain over single units that the baseline shares is no evidence of "
    "features that were found: the mean response and the axes of large variance are enough for it."
)
VARIANCE_FROM_HALVES = (
    "Intervals and p-values are for other stimuli{groups} and other units or directions of the same kind in these "
    "systems; the variance over stimuli is estimated from random half-splits, with directions held fixed."
)
ITEMS_INDEPENDENT = (
    "Items are treated as independent, because there is no index on halves of the stimuli: there is no interval, and "
    "as items share stimuli, p may be too small."
)
SOME_INDEPENDENT = (
    "Rows without an interval ({names}) treat items as independent, because there is no index on halves of the "
    "stimuli: p may be too small."
)
FIRST_SEED = "Only items of the first of {n} seeds are tested."
QUOTED = "Sentences on the hub-corrected index quote the test of the index itself."
FAMILY = "p is adjusted (Benjamini–Hochberg) within each family of tests: {what}; {sizes}."
ONE_TEST = "p is not adjusted: each family of tests ({what}) is one test; {n}."
OF_FINDERS = "the finders{baselines} with the same system, metric, correction and kind of reference"
OR_BASELINES = ", or the matched baselines,"
OF_SYSTEMS = "the systems with the same finder, metric and correction"
SHARED = "Compare indices between systems only if they share images: {}."


class Row(NamedTuple):
    """One test: its numbers as text, and where they are on the axis, in percent of its width."""

    name: str
    estimate: str
    interval: str
    p: str
    is_detectable: bool
    at: float
    ends: tuple[float, float] | None


class Panel(NamedTuple):
    """The tests against one kind of reference, grouped by system (or, for tests of systems, by finder)."""

    heading: str
    p_name: str
    groups: dict[str, list[Row]]
    zero: float
    ticks: list[tuple[float, str]]


class Forest(NamedTuple):
    """The tests by one metric."""

    metric: str
    quantity: str
    legend: str
    panels: list[Panel]
    sentences: list[str]


class TestSection(NamedTuple):
    """A section of tests: what the reader must know at once, forests, and how the tests were made."""

    id: str
    heading: str
    cautions: list[str]
    forests: list[Forest]
    method: list[str]


def finder_tests(comparison: xr.Dataset) -> tuple[xr.Dataset | None, list[str]]:
    """Return the tests of finders, None if there is nothing to test, and their warnings as sentences."""
    return _contrast(contrast_finders, comparison)


def sections_of_tests(comparison: xr.Dataset, tests: xr.Dataset | None, cautions: list[str]) -> list[TestSection]:
    """Return the sections of the tests of finders (`tests`, with their warnings) and of systems, if there are any."""
    sections = []
    if tests is not None:
        method = [_describe_families(tests, families_of_finders(tests)), *_assumptions(comparison, tests)]
        forests = _forests(comparison, tests, "finder")
        if any("baseline" in panel.heading for forest in forests for panel in forest.panels):
            method.insert(0, BASELINE)
        sections.append(TestSection("tests", "Tests of finders", cautions, forests, method))
    of_systems, of_these = _contrast(contrast_systems, comparison)
    if of_systems is not None:
        shared = comparison.attrs.get("shared_stimuli", "the comparison does not say which")
        method = [_describe_families(of_systems, OF_SYSTEMS), *_assumptions(comparison, of_systems)]
        forests = _forests(comparison, of_systems, "system")
        cautions = [SHARED.format(shared), *of_these]
        sections.append(TestSection("system-tests", "Tests of systems", cautions, forests, method))
    return sections


def _contrast(
    contrast: Callable[[xr.Dataset], xr.Dataset], comparison: xr.Dataset
) -> tuple[xr.Dataset | None, list[str]]:
    try:
        tests, cautions = with_cautions(lambda: contrast(comparison))
    except NothingToTestError:  # no single units or matched baseline, or nothing else; one system
        return None, []
    return tests, cautions


def with_cautions(test: Callable[[], xr.Dataset]) -> tuple[xr.Dataset, list[str]]:
    """Return the result of a test and its warnings as sentences, which the page shows in their place."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tests = test()
    return tests, list(dict.fromkeys(f"{str(each.message).removesuffix('.')}." for each in caught))


def families_of_finders(tests: xr.Dataset) -> str:
    """Return what the families of tests of finders are, in words."""
    of_baselines = any(family.startswith("baselines") for family in tests.family.values.tolist())
    return OF_FINDERS.format(baselines=OR_BASELINES if of_baselines else "")


def _describe_families(tests: xr.Dataset, what: str) -> str:
    """Return what p is adjusted over, and how many tests the families have."""
    both = " (of the raw and of the corrected index)" if (tests.correction == "hub").any() else ""
    in_all = f"{tests.sizes['test']} in all{both}"
    smallest, largest = int(tests.n_family.min()), int(tests.n_family.max())
    counts = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    if largest == 1:
        return ONE_TEST.format(what=what, n=in_all)
    return FAMILY.format(what=what, sizes=f"{counts} tests each, {in_all}")


def _assumptions(comparison: xr.Dataset, tests: xr.Dataset) -> list[str]:
    """Return to what the tests generalise."""
    has_interval = np.isfinite(tests.difference_low.values)
    groups = f" (whole groups: {comparison.stimulus_groups})" if "stimulus_groups" in comparison.attrs else ""
    assumptions = [VARIANCE_FROM_HALVES.format(groups=groups)] if has_interval.any() else [ITEMS_INDEPENDENT]
    if has_interval.any() and not has_interval.all():
        assumptions.append(SOME_INDEPENDENT.format(names=_name_rows(tests, ~has_interval)))
    if "seed" in comparison.coords and (n := len(np.unique(comparison.seed))) > 1:
        assumptions.append(FIRST_SEED.format(n=n))
    return [*assumptions, QUOTED] if (tests.correction == "hub").any() else assumptions


def _name_rows(tests: xr.Dataset, chosen: np.ndarray) -> str:
    """Return the systems of the chosen tests; with the finders, of a system with other tests, too."""
    systems, finders = (tests[name].values.astype(str) for name in ("system", "finder"))
    names = []
    for system in dict.fromkeys(systems[chosen].tolist()):
        own = systems == system
        some = "" if chosen[own].all() else f" · {', '.join(dict.fromkeys(finders[own & chosen].tolist()))}"
        names.append(f"{system}{some}")
    return "; ".join(names)


def main_tests(tests: xr.Dataset) -> xr.Dataset:
    """Return the tests to show: of the corrected index where there is one, whose sentences quote the raw test."""
    names = ("system", "finder", "against", "metric")
    keys = list(zip(*(tests[name].values.tolist() for name in names), strict=True))
    corrected = {key for key, name in zip(keys, tests.correction.values.tolist(), strict=True) if name == "hub"}
    is_quoted = [key in corrected for key in keys] & (tests.correction.values == "none")
    return tests.isel(test=~is_quoted)


def _forests(comparison: xr.Dataset, tests: xr.Dataset, varied: str) -> list[Forest]:
    """Return a forest per metric; `varied` is what is tested: "finder" or "system"."""
    forests, shown = [], main_tests(tests)
    for metric, quantity in zip(comparison.metric.values.tolist(), comparison.quantity.values.tolist(), strict=True):
        by_metric = shown.isel(test=(shown.metric == metric).values)
        if not by_metric.sizes["test"]:
            continue
        references = [_reference(comparison, against) for against in by_metric.against.values.tolist()]
        ends = _axis(by_metric)
        panels = [
            _panel(f"Against {name}", by_metric.isel(test=[each == name for each in references]), varied, ends)
            for name in dict.fromkeys(references)
        ]
        is_corrected = (by_metric.correction == "hub").any()
        is_adjusted = (by_metric.n_family > 1).any()
        legend = LEGEND.format(
            index="hub-corrected " if is_corrected else "",
            not_adjusted=NOT_ADJUSTED if is_adjusted else "",
            p="p adjusted within its family" if is_adjusted else "p",
        )
        forests.append(Forest(metric, quantity, legend, panels, by_metric.sentence.values.tolist()))
    return forests


def _reference(comparison: xr.Dataset, against: str) -> str:
    """Return the kind of what was tested against, in words."""
    if against == "Units":
        return "single units"
    baselines = comparison.baseline.values if "baseline" in comparison.coords else []
    return "the matched baseline" if against in baselines else against


def _axis(tests: xr.Dataset) -> tuple[float, float]:
    """Return the ends of an axis that contains 0, all differences and all intervals."""
    values = np.concatenate([tests[name].values for name in ("difference", "difference_low", "difference_high")])
    values = np.append(values[np.isfinite(values)], 0)
    low, high = values.min(), values.max()
    margin = MARGIN * (high - low) or 1
    return low - margin, high + margin


def _panel(heading: str, tests: xr.Dataset, varied: str, ends: tuple[float, float]) -> Panel:
    def place(value: float) -> float:
        return round(100 * (value - ends[0]) / (ends[1] - ends[0]), 2)

    kept = "system" if varied == "finder" else "finder"
    groups: dict[str, list[Row]] = {name: [] for name in unique_names(tests[kept])}
    for i in range(tests.sizes["test"]):
        test = tests.isel(test=i)
        low, at, high = (float(test[f"difference{end}"]) for end in ("_low", "", "_high"))
        decimals, has_interval = decimals_for(float(test.standard_error), at), np.isfinite(low)
        row = Row(
            str(test[varied].item()),
            format_number(at, decimals, sign=True),
            format_interval(low, high, decimals) if has_interval else "",
            f"p {format_p(float(test.p_adjusted))}",
            bool(test.detectable),
            place(at),
            (place(low), place(high)) if has_interval else None,
        )
        groups[str(test[kept].item())].append(row)
    ticks = [tick for tick in MaxNLocator(4).tick_values(*ends) if ends[0] <= tick <= ends[1]]
    step = min(np.diff(ticks), default=1)
    decimals = next(n for n in range(16) if n == 15 or np.isclose(round(step, n), step))  # 1, 2, 2.5 or 5 × 10^k
    p_name = "adjusted p" if (tests.n_family > 1).any() else "p"
    return Panel(heading, p_name, groups, place(0), [(place(tick), format_number(tick, decimals)) for tick in ticks])
