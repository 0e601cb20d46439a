"""The table of means of a report, and what K-means finds with and without the mean response."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._rounding import decimals_for, format_interval, format_number
from neurosuper.comparison.table import count_constant, count_left_out, summarize
from neurosuper.interpretability.disjoint_stimuli import RELIABLE_ENOUGH
from neurosuper.report.forest import main_tests
from neurosuper.report.numbers import describe_reliability

MEANS = (
    "Mean {index}index with 95 % interval, and the number n of units or directions{over_seeds}. Higher is more "
    "interpretable. {bold}"
)
BOLD = "Bold: detectably above both single units and the matched baseline of the finder."
NONE_BOLD = " Here, none is."
NEVER_BOLD = "Nothing is bold, because no finder was tested against both single units and a matched baseline."
CORRECTED = (
    "Hub-corrected: the index less what the nearness of single images to all others explains; chance is 0. Raw floor: "
    "the index of a set that picks the same images as often, but at random."
)
CHANCE = (
    "Chance: 95 % of means over as many random sets of stimuli are in the band; those of single random sets are in "
    "the row of each system."
)
INACTIVE = "Inactive: items with fewer than {top} active stimuli, which are left out of means, intervals and n."
CONSTANT = "Constant: directions with the same code for all stimuli to score on, which were left out."
RELIABILITY = (
    "Reliability: correlation r of the {corrected}index over items between sets of different stimuli, each half of "
    "all. Where the reliability expected on all stimuli, 2r/(1 + r), is below {least}, the order of items says more "
    "about the stimuli shown than about the items."
)
AS_IN_PAPER = (
    "{name}: K-means as in the paper, which does not subtract the mean response. Where responses to all stimuli are "
    "similar, all its directions are close to the mean response, and codes measure above all how close a response is "
    "to it."
)
CENTERED = "{name}: K-means with center=True, whose directions are deviations from the mean response."
CENTER_IT = (
    "KMeans(center=True), which is not in this comparison, finds deviations from the mean response; report both."
)


class Cell(NamedTuple):
    """What the table says of a finder by one metric: the mean with its interval, and smaller lines below it."""

    metric: str
    mean: str
    interval: str
    is_detectable: bool
    details: list[str]


class Row(NamedTuple):
    """A finder: how many items were left out and why, and a cell per metric."""

    finder: str
    left_out: str
    cells: list[Cell]


class Means(NamedTuple):
    """The table of means: rows and the chance level of single sets by system, and notes about them.

    `notes` explain the smaller numbers.
    """

    caption: str
    notes: list[str]
    metrics: list[tuple[str, str]]
    systems: dict[str, list[Row]]
    chance: dict[str, list[tuple[str, str]]]
    is_corrected: bool
    about_k_means: str


def describe_means(comparison: xr.Dataset, tests: xr.Dataset | None) -> Means:
    """Return the table of means of each system and finder, and what K-means with and without the mean finds."""
    summary, left_out = summarize(comparison), count_left_out(comparison)
    metrics = comparison.metric.values.tolist()
    detectable = _detectable_in_both(comparison, tests)
    systems: dict[str, list[Row]] = {}
    for system, finder in dict.fromkeys(zip(*(summary.index.get_level_values(i) for i in (0, 1)), strict=True)):
        cells = [
            _cell(metric, summary.loc[(system, finder, metric)], detectable.get((system, finder, metric), False))
            for metric in metrics
        ]
        systems.setdefault(system, []).append(Row(finder, _left_out(left_out.loc[system, finder]), cells))
    chance = {system: _chance_of_sets(comparison, system) for system in systems} if "chance_level" in comparison else {}
    quantities = comparison.quantity.values.tolist()
    return Means(
        _caption(comparison, summary, _explain_bold(detectable.values())),
        _notes(comparison, summary),
        list(zip(metrics, quantities, strict=True)),
        systems,
        chance,
        "mean_corrected" in summary,
        _about_k_means(comparison),
    )


def _detectable_in_both(comparison: xr.Dataset, tests: xr.Dataset | None) -> dict[tuple[str, str, str], bool]:
    """Return whether each system, finder and metric is detectably above units and above the matched baseline.

    Only those that were tested against both: a gain over units alone may be that of random directions, and the matched
    baselines themselves have none.
    """
    if tests is None or "baseline" not in comparison.coords:
        return {}
    baselines = set(zip(*(comparison[name].values.tolist() for name in ("system", "finder", "baseline")), strict=True))
    shown = main_tests(tests)
    columns = [shown[name].values.tolist() for name in ("system", "finder", "metric", "against")]
    above: dict[tuple[str, str, str], dict[str, bool]] = {}
    detectable = (shown.detectable & (shown.difference > 0)).values.tolist()
    for system, finder, metric, against, is_above in zip(*columns, detectable, strict=True):
        if against == "Units" or (system, finder, against) in baselines:
            above.setdefault((system, finder, metric), {})[against] = is_above
    return {key: all(of.values()) for key, of in above.items() if "Units" in of and len(of) > 1}


def _explain_bold(detectable: Collection[bool]) -> str:
    """Return what is bold, or why nothing is."""
    if not detectable:
        return NEVER_BOLD
    return BOLD if any(detectable) else BOLD + NONE_BOLD


def _caption(comparison: xr.Dataset, summary: pd.DataFrame, bold: str) -> str:
    n_seeds = len(np.unique(comparison.seed)) if "seed" in comparison.coords else 1
    return MEANS.format(
        index="hub-corrected " if "mean_corrected" in summary else "",
        over_seeds=f" (of the first of {n_seeds} seeds)" if n_seeds > 1 else "",
        bold=bold,
    )


def _notes(comparison: xr.Dataset, summary: pd.DataFrame) -> list[str]:
    is_corrected = "mean_corrected" in summary
    notes = {
        CORRECTED: is_corrected,
        CHANCE: "chance_level" in comparison,
        INACTIVE.format(top=comparison.top): "n_inactive" in summary and summary.n_inactive.any(),
        CONSTANT: count_constant(comparison) > 0,
        RELIABILITY.format(corrected="corrected " * is_corrected, least=RELIABLE_ENOUGH): "reliability" in summary,
    }
    return [note for note, applies in notes.items() if applies]


def _left_out(counts: pd.Series) -> str:
    """Return how many items of a finder were left out, and why; empty if none were."""
    return ", ".join(
        f"{n} {name}" for name, n in (("inactive", counts.n_inactive), ("constant", counts.n_constant)) if n
    )


def _cell(metric: str, row: pd.Series, is_detectable: bool) -> Cell:
    """Return the corrected mean, if there is one, with the raw one below it; else the raw one."""
    n = int(row["n_items"] - row.get("n_inactive", 0))
    if not n:
        return Cell(metric, "–", "", False, ["n 0"])
    details = [f"n {n}"]
    mean, interval, chance = _describe_mean(row, "")
    if "mean_corrected" in row:
        raw = f"raw {mean} {interval}".rstrip()
        floor = format_number(row["frequency_floor"], decimals_for(row["standard_error"]))
        mean, interval, of_corrected = _describe_mean(row, "_corrected")
        details += [*of_corrected, raw, *(f"raw {band}" for band in chance), f"raw floor {floor}"]
    else:
        details += chance
    if "reliability" in row:
        details.append(f"reliability {describe_reliability(row['reliability'])}")
    return Cell(metric, mean, interval, is_detectable, details)


def _describe_mean(row: pd.Series, suffix: str) -> tuple[str, str, list[str]]:
    """Return a mean, its interval, and the chance band of a mean (if known), to two digits of the standard error."""
    decimals = decimals_for(row[f"standard_error{suffix}"])
    low, high = row[f"mean{suffix}_low"], row[f"mean{suffix}_high"]
    interval = format_interval(low, high, decimals) if np.isfinite(low) else ""
    band = [format_number(row.get(f"chance_of_mean{suffix}_{end}", np.nan), decimals) for end in ("low", "high")]
    chance = [f"chance {' to '.join(band)}"] if np.isfinite(row.get(f"chance_of_mean{suffix}_low", np.nan)) else []
    return format_number(row[f"mean{suffix}"], decimals), interval, chance


def _chance_of_sets(comparison: xr.Dataset, system: str) -> list[tuple[str, str]]:
    """Return, for each metric, the chance level of a system, with the band of single random sets."""
    first = comparison.isel(item=int(np.flatnonzero((comparison.system == system).values)[0]))
    cells = []
    for metric in comparison.metric.values.tolist():
        low, level, high = (float(first[f"chance_level{end}"].sel(metric=metric)) for end in ("_low", "", "_high"))
        decimals = decimals_for((high - low) / 4)  # about the s.d. of single sets
        texts = [format_number(value, decimals) for value in (level, low, high)]
        cells.append((metric, "{}; single sets {} to {}".format(*texts)))
    return cells


def _about_k_means(comparison: xr.Dataset) -> str:
    """Return what directions of K-means with and without the mean response are; empty if no finder is K-means."""
    finders = json.loads(comparison.attrs.get("provenance", "{}")).get("finders", {})
    k_means = {name: settings for name, settings in finders.items() if settings["finder"] == "KMeans"}
    centered = [name for name, settings in k_means.items() if settings.get("center") or settings.get("whiten")]
    as_in_paper = [name for name in k_means if name not in centered]
    sentences = [AS_IN_PAPER.format(name=", ".join(as_in_paper))] if as_in_paper else []
    if centered:
        sentences.append(CENTERED.format(name=", ".join(centered)))
    elif as_in_paper:
        sentences.append(CENTER_IT)
    return " ".join(sentences)
