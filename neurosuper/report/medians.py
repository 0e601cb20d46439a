"""The table of medians of a report, and what K-means finds with and without the mean response."""

from __future__ import annotations

import json
from html import escape

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.comparison.table import count_left_out, inactive_items, summarize
from neurosuper.interpretability.disjoint_stimuli import RELIABLE_ENOUGH
from neurosuper.report.numbers import describe_reliability, digits_of, format_number, unique_names

CORRECTED = (
    " Corrected: the index less what the nearness of single images to all others explains; chance is 0. Floor: the "
    "index of a set that picks the same images as often, but at random."
)
INACTIVE = " Inactive: items with fewer than {top} active stimuli, which are left out of means, intervals and n."
CONSTANT = " Constant: directions with the same code for all stimuli to score on, which were left out."
RELIABILITY = (
    " Reliability: correlation r of the {corrected}index over items between sets of different stimuli, each half of "
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


def section_of_medians(comparison: xr.Dataset, pairs: list[tuple[str, str]]) -> str:
    """Return the table of medians of each system and finder, and what K-means with and without the mean finds."""
    summary = summarize(comparison)
    metrics = comparison.metric.values.tolist()
    digits = {metric: digits_of(summary.xs(metric, level="metric")["mean"].to_numpy()) for metric in metrics}
    heads = "".join(
        f'<th scope="col">{escape(metric)}<small>{escape(quantity)}</small></th>'
        for metric, quantity in zip(metrics, comparison.quantity.values.tolist(), strict=True)
    )
    left_out = count_left_out(comparison)
    groups = "".join(
        _table_group(
            system,
            {finder: left_out.loc[system, finder] for owner, finder in pairs if owner == system},
            summary.loc[system],
            digits,
        )
        for system in unique_names(comparison.system)
    )
    return (
        f'<section id="table"><h2>Means</h2>\n<table class="summary"><caption>{_caption(comparison, summary)}'
        f'</caption>\n<thead><tr><th scope="col">System</th><th scope="col">Finder</th>{heads}</tr>'
        f"</thead>{groups}</table>{_about_k_means(comparison)}</section>"
    )


def _caption(comparison: xr.Dataset, summary: pd.DataFrame) -> str:
    n_seeds = len(np.unique(comparison.seed))
    over_seeds = f" (of the first of {n_seeds} seeds)" if n_seeds > 1 else ""
    is_corrected = "mean_corrected" in summary
    parts = [
        f"Mean interpretability index, with 95 % intervals and the number n of units or directions{over_seeds}. Higher "
        "is more interpretable; bold: the highest mean of each system.",
        CORRECTED if is_corrected else "",
        INACTIVE.format(top=comparison.top) if inactive_items(comparison).any() else "",
        CONSTANT if np.any(comparison.attrs.get("n_constant", 0)) else "",
    ]
    if "reliability" in summary:
        parts.append(RELIABILITY.format(corrected="corrected " if is_corrected else "", least=RELIABLE_ENOUGH))
    return escape("".join(parts))


def _table_group(system: str, finders: dict[str, pd.Series], summary: pd.DataFrame, digits: dict[str, int]) -> str:
    best = {metric: summary.xs(metric, level="metric").max() for metric in digits}
    rows = []
    for finder, counts in finders.items():
        cells = [(metric, _cell(summary.loc[(finder, metric)], best[metric], digits[metric])) for metric in digits]
        rows.append(
            f'<th scope="row">{escape(finder)}{_left_out(counts)}</th>'
            + "".join(f'<td data-metric="{escape(metric)}">{cell}</td>' for metric, cell in cells)
        )
    head = f'<th scope="rowgroup" rowspan="{len(rows)}">{escape(system)}</th>'
    return f"\n<tbody><tr>{head}" + "</tr>\n<tr>".join(rows) + "</tr></tbody>"


def _left_out(counts: pd.Series) -> str:
    """Return how many items of a finder were left out, and why; empty if none were."""
    parts = [f"{n} {name}" for name, n in (("inactive", counts.n_inactive), ("constant", counts.n_constant)) if n]
    return f"<small>{', '.join(parts)}</small>" if parts else ""


def _cell(row: pd.Series, best: pd.Series, digits: int) -> str:
    n = int(row["n_items"] - row.get("n_inactive", 0))
    if not n:
        return "– <small>n 0</small>"
    lower, upper = (format_number(row[name], digits).replace("nan", "–") for name in ("mean_low", "mean_high"))
    cell = f"{_median(row, best, 'mean', digits)} <small>{lower} to {upper} · n {n}</small>"
    if "mean_corrected" in row:
        floor = format_number(row["frequency_floor"], digits)
        cell += f"<br>{_median(row, best, 'mean_corrected', digits)} <small>corrected · floor {floor}</small>"
    if "reliability" in row:
        cell += f"<br><small>reliability {describe_reliability(row['reliability'])}</small>"
    return cell


def _median(row: pd.Series, best: pd.Series, column: str, digits: int) -> str:
    text = format_number(row[column], digits)
    return f"<b>{text}</b>" if row[column] == best[column] else text


def _about_k_means(comparison: xr.Dataset) -> str:
    """Return what directions of K-means with and without the mean response are; empty if no finder is K-means."""
    finders = json.loads(comparison.provenance).get("finders", {})
    k_means = {name: settings for name, settings in finders.items() if settings["finder"] == "KMeans"}
    centered = [name for name, settings in k_means.items() if settings.get("center") or settings.get("whiten")]
    as_in_paper = [name for name in k_means if name not in centered]
    sentences = [AS_IN_PAPER.format(name=", ".join(as_in_paper))] if as_in_paper else []
    if centered:
        sentences.append(CENTERED.format(name=", ".join(centered)))
    elif as_in_paper:
        sentences.append(CENTER_IT)
    return f"<p>{escape(' '.join(sentences))}</p>" if sentences else ""
