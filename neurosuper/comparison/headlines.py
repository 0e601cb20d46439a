"""What the tests of a comparison say, in a few sentences: effect, interval and verdict in each system."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._rounding import decimals_for, format_interval, format_number
from neurosuper.comparison.contrast import (
    BASELINE,
    NothingToTestError,
    contrast_pairs,
    kind_of_reference,
    units_and_baselines,
)
from neurosuper.comparison.selections import whole_comparison
from neurosuper.comparison.table import SUFFIX, describe_left_out, describe_units_left_out, summarize

MAX_IN_FULL = 4  # finders with sentences of their own: the others share one per reference
MAX_LISTED = 6  # detectable differences that are listed with intervals; of more, only names or counts, and the range
MAX_UNDETECTED = 2  # of those that are not detectable
METHOD = (
    "Differences of the mean index{seed}, with 95 % intervals, not adjusted, for other stimuli and other items. "
    "Detectable: p below 0.05, {adjusted}. A difference that is not detectable may still exist, within its "
    "interval.{others}"
)
ADJUSTED = "adjusted (Benjamini–Hochberg) over the {} tests of each system and kind of reference{}"
ONE_TEST = "not adjusted, because there is one test of each system and kind of reference{}"
OF_BASELINES = ", those of matched baselines apart"
OTHERS = " Only {} is tested here; tests by {} are in contrast_finders and in the report."
NO_INTERVAL = (
    "Without an interval{systems}, stimuli are taken as fixed, and p may be too small: halves of the stimuli have no "
    "index."
)
FAMILIES = ("finders", "baselines")  # the first words of the families of tests of finders
UNTESTED = "Nothing was tested: the comparison has no two finders, with single units or a matched baseline among them."


def headline(comparison: xr.Dataset, tests: xr.Dataset | None = None) -> list[str]:
    """Return what the tests of a comparison by its first metric say: effect, interval and verdict in each system.

    A sentence for each finder and what it is tested against, K-means first: single units, and its matched baseline (see
    `contrast_finders`): a gain over units that the baseline shares is no evidence of features that were found. If the
    comparison has a hub-corrected index, the sentences are about it. Further sentences report how the tests were made,
    how well planted directions were recovered, where these are known, and what was left out (unless the note of a study
    does so).

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`.
    tests : Dataset (test,), optional
        From `contrast_finders`. None: its tests by the first metric, without `p_items`, which takes less time. Warnings
        of these tests become sentences.

    Returns
    -------
    list of str
        Sentences such as "KMeans above Units by LPIPS (hub-corrected): V4 +0.050 [0.029, 0.070]; not detectable in 5 of
        6 systems (intervals from −0.031 to 0.044)." Numbers are rounded to two digits of their standard error. With
        more than 4 finders, those after the first share a sentence. If there is nothing to test, the mean index of each
        finder.

    Raises
    ------
    ValueError
        `tests` without a test by the first metric.

    See Also
    --------
    summarize : The means as a table.
    contrast_finders : The tests, each with a sentence for a paper.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> index, finders = np.linspace(-0.8, -0.4, 60)[:, None], ["Units"] * 30 + ["KMeans"] * 30
    >>> comparison = xr.Dataset({"interpretability": (("item", "metric"), index)}, {
    ...     "system": ("item", ["V4"] * 60), "finder": ("item", finders), "metric": ["LPIPS"]})
    >>> headline(comparison)[0]
    'KMeans above Units by LPIPS: V4 +0.203 (no interval).'
    """
    comparison = whole_comparison(comparison)
    cautions: list[str] = []
    try:
        if tests is None:
            tests, cautions = _test_first_metric(comparison)
        sentences = _describe_tests(comparison, tests)
    except NothingToTestError:
        sentences = [*_describe_means(comparison), UNTESTED]
    if "recovery" in comparison:
        sentences += [
            f"{system}: planted directions recovered, mean of max |cosine|: {found}."
            for system, found in _mean_recovery(comparison)
        ]
    note = comparison.attrs.get("note", "")
    left_out = [each for each in describe_left_out(comparison) if each not in note]
    if "format_version" not in comparison.attrs and (units := describe_units_left_out(comparison)):
        left_out.append(units)  # the note of a study says it, with other words
    return [*sentences, *cautions, *left_out]


def _test_first_metric(comparison: xr.Dataset) -> tuple[xr.Dataset, list[str]]:
    """Return the tests of finders by the first metric, and their warnings as sentences."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tests = contrast_pairs(comparison.isel(metric=[0]), "finder", units_and_baselines(comparison))
    return tests, list(dict.fromkeys(f"{str(each.message).removesuffix('.')}." for each in caught))


def _describe_tests(comparison: xr.Dataset, tests: xr.Dataset) -> list[str]:
    """Return a sentence per finder and reference, one of all other finders per reference, and how they were tested."""
    metric = str(comparison.metric.values[0])
    correction = "hub" if (tests.correction == "hub").any() else "none"
    table = tests.drop_vars("sentence").to_dataframe()
    table = table[(table.metric == metric) & (table.correction == correction) & table.family.str.startswith(FAMILIES)]
    if table.empty:
        raise ValueError(f"no test of finders by {metric!r}, the first metric; pass contrast_finders(comparison)")
    kinds = map(kind_of_reference, table.against, table.family)
    references = [f"its {kind}" if kind != name else name for kind, name in zip(kinds, table.against, strict=True)]
    table = table.assign(reference=references, label=table.system)
    by = f"by {metric}{' (hub-corrected)' if correction == 'hub' else ''}"
    finders, sentences = _in_order(comparison, table), []
    n_in_full = len(finders) if len(finders) <= MAX_IN_FULL else max(1, sum(map(_is_kmeans, finders)))
    for finder in finders[:n_in_full]:
        for reference, rows in table[table.finder == finder].groupby("reference", sort=False):
            missing = _untested(comparison, finder, rows)
            untested = f"; not tested in {', '.join(missing)}" if missing else ""
            sentences.append(f"{_verdict(finder, f'{reference} {by}', rows, 'systems')}{untested}.")
    for reference, rows in table[table.finder.isin(finders[n_in_full:])].groupby("reference", sort=False):
        rows = rows.assign(label=rows.finder + " in " + rows.system)
        names = ", ".join(dict.fromkeys(rows.finder))
        is_matched = reference != rows.against.iloc[0]
        of_each = f"their {BASELINE}s" if is_matched else reference
        missing = [
            f"{name} in {system}" for name, own in rows.groupby("finder") for system in _untested(comparison, name, own)
        ]
        untested = f"; not tested: {', '.join(missing)}" if missing else ""
        sentences.append(f"{_verdict(names, f'{of_each} {by}', rows, 'tests')}{untested}.")
    known = {*table.finder, *table.against}
    if never := [name for name in dict.fromkeys(comparison.finder.values.tolist()) if name not in known]:
        sentences.append(f"Not tested: {', '.join(never)}.")
    return [*sentences, _method(comparison, table)]


def _is_kmeans(finder: str) -> bool:
    return finder.startswith("KMeans")


def _in_order(comparison: xr.Dataset, table: pd.DataFrame) -> list[str]:
    """Return the tested finders: K-means, then the others, then baselines."""
    baselines = set(comparison.baseline.values.tolist()) if "baseline" in comparison.coords else set()
    return sorted(dict.fromkeys(table.finder), key=lambda name: (not _is_kmeans(name), name in baselines))


def _verdict(subject: str, reference: str, rows: pd.DataFrame, noun: str) -> str:
    """Return in which systems (or tests) the subject is above, below, and not detectably different."""
    above, below = (rows[rows.detectable & (sign * rows.difference > 0)] for sign in (1, -1))
    undetected, within = rows[~rows.detectable], "in" if noun == "systems" else "for"
    parts = {"above": above, "below": below}
    found = {word: part for word, part in parts.items() if len(part)}
    if len(found) == 1 and noun == "systems":
        (word,) = found
        texts, start = [_list(found[word], len(rows), noun, "")], f"{subject} {word} {reference}"
    else:
        texts = [f"{word} {_list(part, len(rows), noun, f'{within} ')}" for word, part in found.items()]
        start = f"{subject} against {reference}"
    if len(undetected):
        what = "not detectable" if found else "difference not detectable"
        texts.append(f"{what} {_list_undetected(undetected, len(rows), noun, within)}")
    return f"{start}: {'; '.join(texts)}"


def _list(rows: pd.DataFrame, n: int, noun: str, within: str) -> str:
    """Return the differences with their intervals, or, if there are many, names or counts, and the range."""
    if len(rows) <= MAX_LISTED:
        return within + ", ".join(map(_effect, rows.itertuples()))
    ends = (rows.loc[position] for position in (rows.difference.idxmin(), rows.difference.idxmax()))
    least, most = (format_number(row.difference, _decimals(row), sign=True) for row in ends)
    names = (
        rows.system
        if noun == "systems"
        else [f"{name} in {k}" for name, k in rows.groupby("finder", sort=False).size().items()]
    )
    return f"in {len(rows)} of {n} {noun} ({', '.join(names)}), by {least} to {most}"


def _list_undetected(rows: pd.DataFrame, n: int, noun: str, within: str) -> str:
    if len(rows) <= MAX_UNDETECTED:
        excludes_0 = (rows.difference_low * rows.difference_high > 0).any()
        caution = " (intervals are not adjusted)" if excludes_0 else ""
        return f"{within} {', '.join(map(_effect, rows.itertuples()))}{caution}"
    reach = ""
    if rows.difference_low.notna().any():
        low, high = rows.loc[rows.difference_low.idxmin()], rows.loc[rows.difference_high.idxmax()]
        low_text = format_number(low.difference_low, _decimals(low))
        reach = f" (intervals from {low_text} to {format_number(high.difference_high, _decimals(high))})"
    return f"in {len(rows)} of {n} {noun}{reach}"


def _effect(row: Any) -> str:
    """Return a difference with its interval, to two digits of the standard error."""
    decimals = _decimals(row)
    interval = "(no interval)"
    if np.isfinite(row.difference_low):
        interval = format_interval(row.difference_low, row.difference_high, decimals)
    return f"{row.label} {format_number(row.difference, decimals, sign=True)} {interval}"


def _decimals(row: Any) -> int:
    """Return the decimals of two digits of the standard error; if it is 0, of two digits of the difference."""
    return decimals_for(row.standard_error, row.difference)


def _untested(comparison: xr.Dataset, finder: str, rows: pd.DataFrame) -> list[str]:
    """Return the systems in which a finder has items, but too few of them or of the reference to be tested."""
    systems = dict.fromkeys(comparison.system.values[(comparison.finder == finder).values].tolist())
    return [system for system in systems if system not in set(rows.system)]


def _method(comparison: xr.Dataset, table: pd.DataFrame) -> str:
    """Return how the tests were made."""
    sizes = sorted({int(table.n_family.min()), int(table.n_family.max())})
    apart = OF_BASELINES if table.family.str.startswith(FAMILIES[1]).any() else ""
    adjusted = ONE_TEST.format(apart) if sizes[-1] == 1 else ADJUSTED.format(" to ".join(map(str, sizes)), apart)
    first, *others = comparison.metric.values.tolist()
    has_seeds = "seed" in comparison.coords and len(np.unique(comparison.seed)) > 1
    seed = f" over the items of seed {comparison.seed.values[0]}" if has_seeds else ""
    lacking, without = table.difference_low.isna(), ""
    if lacking.any():
        systems = "" if lacking.all() else f" (in {', '.join(dict.fromkeys(table.system[lacking]))})"
        without = f" {NO_INTERVAL.format(systems=systems)}"
    listed = OTHERS.format(first, ", ".join(others)) if others else ""
    return METHOD.format(seed=seed, adjusted=adjusted, others=listed) + without


def _describe_means(comparison: xr.Dataset) -> list[str]:
    """Return the mean index of each finder in each system, by the first metric."""
    metric = str(comparison.metric.values[0])
    table = summarize(comparison).xs(metric, level="metric")
    suffix = SUFFIX["hub" if "corrected" in comparison else "none"]
    what = f"{'hub-corrected ' if suffix else ''}index by {metric}"
    columns = [f"mean{suffix}", f"mean{suffix}_low", f"mean{suffix}_high", f"standard_error{suffix}"]
    sentences = []
    for system, part in table.groupby(level="system", sort=False):
        finders, rows = part.index.get_level_values("finder"), part[columns].to_numpy()
        means = (_mean(finder, *row) for finder, row in zip(finders, rows.tolist(), strict=True))
        sentences.append(f"{system}: mean {what}: {', '.join(means)}.")
    return sentences


def _mean(finder: str, mean: float, low: float, high: float, error: float) -> str:
    decimals = decimals_for(error)
    interval = f" {format_interval(low, high, decimals)}" if np.isfinite(low) else ""
    return f"{finder} {format_number(mean, decimals)}{interval}"


def _mean_recovery(comparison: xr.Dataset) -> Iterator[tuple[str, str]]:
    """Yield each system whose planted directions are known, and the mean recovery by finder, best first."""
    names = {name: comparison[f"fit_{name}"].values for name in ("system", "finder")}
    frame = pd.DataFrame(names | {"recovery": comparison.recovery.mean("planted").values})
    for system, part in frame.groupby("system", sort=False):
        means = part.groupby("finder", sort=False)["recovery"].mean().sort_values(ascending=False)
        yield str(system), ", ".join(f"{finder} {format_number(value, 2)}" for finder, value in means.items())
