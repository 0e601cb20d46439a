"""Summaries of a comparison: a table of medians and quartiles, and sentences."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import xarray as xr


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
        `upper_quartile` and `n_items` (items with an index).

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
    frame = comparison["interpretability"].to_dataframe().reset_index()
    groups = frame.groupby(["system", "finder", "metric"], sort=False)["interpretability"]
    quartiles = groups.quantile([0.25, 0.5, 0.75]).unstack()
    table = quartiles.set_axis(["lower_quartile", "median", "upper_quartile"], axis=1)[
        ["median", "lower_quartile", "upper_quartile"]
    ]
    return table.assign(n_items=groups.count()).reindex(groups.count().index)


def headline(comparison: xr.Dataset) -> list[str]:
    """Return the medians of a comparison by its first metric as sentences: one per system, and one across systems.

    If planted directions are known, one more sentence per system reports how well they were recovered. Only medians are
    compared, without a test.

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
    medians = summarize(comparison)["median"].xs(metric, level="metric").unstack("finder", sort=False)
    systems = list(dict.fromkeys(comparison.system.values))
    sentences = [f"{system}: median index by {metric}, best first: {_rank(medians.loc[system])}." for system in systems]
    if "recovery" in comparison:
        sentences += [
            f"{system}: planted directions recovered, median of max |cosine|: {_rank(found)}."
            for system, found in _median_recovery(comparison)
        ]
    if {"Units", "KMeans"} <= set(medians.columns) and len(systems) > 1:
        above = [system for system in systems if medians.loc[system, "KMeans"] > medians.loc[system, "Units"]]
        names = f" ({', '.join(above)})" if above else ""
        sentences.append(
            f"By {metric}, K-means directions are above single units in {len(above)} of {len(systems)} systems{names}."
        )
    return sentences


def _median_recovery(comparison: xr.Dataset) -> Iterator[tuple[str, pd.Series]]:
    """Yield each system whose planted directions are known, and the median recovery by finder."""
    names = {name: comparison[f"fit_{name}"].values for name in ("system", "finder")}
    frame = pd.DataFrame(names | {"recovery": comparison.recovery.median("planted").values})
    for system, part in frame.groupby("system", sort=False):
        yield str(system), part.groupby("finder", sort=False)["recovery"].median()


def _rank(medians: pd.Series) -> str:
    ranked = medians.dropna().sort_values(ascending=False)
    return ", ".join(f"{finder} {value:.3f}".replace(" -", " −") for finder, value in ranked.items())
