"""Summaries of a comparison: a table of medians and quartiles, and sentences."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import xarray as xr

CORRECTED = {"median_corrected": "corrected", "frequency_floor": "frequency_floor"}  # columns of a table: variables


def summarize(comparison: xr.Dataset) -> pd.DataFrame:
    """Return the median and quartiles of the index per system, finder and metric.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare`.

    Returns
    -------
    DataFrame
        Indexed by (system, finder, metric) in the order of the comparison, with the columns `median`, `lower_quartile`,
        `upper_quartile` and `n_items` (items with an index). If the comparison has a hub-corrected index, also
        `median_corrected`, and `frequency_floor`, the index of a set that picks the same images as often, but at
        random.

    See Also
    --------
    headline : The medians in sentences.
    contrast_finders, contrast_systems : Tests of differences in the mean index.

    Examples
    --------
    >>> import xarray as xr
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), [[-0.7], [-0.6], [-0.5]])},
    ...     {"system": ("item", ["V4"] * 3), "finder": ("item", ["Units", "Units", "KMeans"]), "metric": ["LPIPS"]})
    >>> int(summarize(comparison).loc[("V4", "Units", "LPIPS"), "n_items"])
    2
    """
    frame = (
        comparison[["interpretability", *(name for name in CORRECTED.values() if name in comparison)]]
        .to_dataframe()
        .reset_index()
    )
    by_set = frame.groupby(["system", "finder", "metric"], sort=False)
    groups = by_set["interpretability"]
    quartiles = groups.quantile([0.25, 0.5, 0.75]).unstack()
    table = quartiles.set_axis(["lower_quartile", "median", "upper_quartile"], axis=1)[
        ["median", "lower_quartile", "upper_quartile"]
    ]
    medians = {column: by_set[name].median() for column, name in CORRECTED.items() if name in comparison}
    return table.assign(n_items=groups.count(), **medians).reindex(groups.count().index)


def headline(comparison: xr.Dataset) -> list[str]:
    """Return the medians of a comparison by its first metric as sentences: one per system, and one across systems.

    If the comparison has a hub-corrected index, the sentences are about it, with the medians of the index itself in
    brackets. If planted directions are known, one more sentence per system reports how well they were recovered. Only
    medians are compared, without a test.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`.

    Returns
    -------
    list of str
        Sentences such as "V4: median index by LPIPS, best first: KMeans −0.500, Units −0.650.".

    See Also
    --------
    summarize : The medians and quartiles as a table.
    contrast_finders : Tests, each with a sentence for a paper.

    Examples
    --------
    >>> import xarray as xr
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), [[-0.7], [-0.6], [-0.5]])},
    ...     {"system": ("item", ["V4"] * 3), "finder": ("item", ["Units", "Units", "KMeans"]), "metric": ["LPIPS"]})
    >>> headline(comparison)
    ['V4: median index by LPIPS, best first: KMeans −0.500, Units −0.650.']
    """
    metric = comparison.metric.values[0]
    table = summarize(comparison).xs(metric, level="metric")
    raw = table["median"].unstack("finder", sort=False)
    is_corrected = "median_corrected" in table
    medians = table["median_corrected"].unstack("finder", sort=False) if is_corrected else raw
    systems = list(dict.fromkeys(comparison.system.values))
    what = "hub-corrected index (raw)" if is_corrected else "index"
    sentences = [
        f"{system}: median {what} by {metric}, best first: "
        f"{_rank(medians.loc[system], raw.loc[system] if is_corrected else None)}."
        for system in systems
    ]
    if "recovery" in comparison:
        sentences += [
            f"{system}: planted directions recovered, median of max |cosine|: {_rank(found)}."
            for system, found in _median_recovery(comparison)
        ]
    if {"Units", "KMeans"} <= set(medians.columns) and len(systems) > 1:
        above = [system for system in systems if medians.loc[system, "KMeans"] > medians.loc[system, "Units"]]
        names = f" ({', '.join(above)})" if above else ""
        corrected = " in the hub-corrected index" if is_corrected else ""
        sentences.append(
            f"By {metric}, K-means directions are above single units{corrected} in {len(above)} of {len(systems)} "
            f"systems{names}."
        )
    return sentences


def _median_recovery(comparison: xr.Dataset) -> Iterator[tuple[str, pd.Series]]:
    """Yield each system whose planted directions are known, and the median recovery by finder."""
    names = {name: comparison[f"fit_{name}"].values for name in ("system", "finder")}
    frame = pd.DataFrame(names | {"recovery": comparison.recovery.median("planted").values})
    for system, part in frame.groupby("system", sort=False):
        yield str(system), part.groupby("finder", sort=False)["recovery"].median()


def _rank(medians: pd.Series, raw: pd.Series | None = None) -> str:
    """Return the finders by decreasing median, each with its raw median in brackets if there is one."""
    ranked = medians.dropna().sort_values(ascending=False)
    brackets = {finder: "" if raw is None else f" ({raw[finder]:.3f})" for finder in ranked.index}
    entries = (f"{finder} {value:.3f}{brackets[finder]}" for finder, value in ranked.items())
    return ", ".join(entry.replace(" -", " −").replace("(-", "(−") for entry in entries)
