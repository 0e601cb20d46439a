"""Read a comparison: its table of medians, and what it says in sentences."""

from __future__ import annotations

import pandas as pd
import xarray as xr


def summarize(comparison: xr.Dataset) -> pd.DataFrame:
    """Return median and quartiles of the index per system, finder and metric.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare`.

    Returns
    -------
    DataFrame
        Indexed by (system, finder, metric) in the order of the comparison; columns `median`, `lower` and `upper`
        (quartiles), and `n` (items scored).
    """
    frame = comparison["interpretability"].to_dataframe().reset_index()
    groups = frame.groupby(["system", "finder", "metric"], sort=False)["interpretability"]
    quartiles = groups.quantile([0.25, 0.5, 0.75]).unstack()
    table = quartiles.set_axis(["lower", "median", "upper"], axis=1)[["median", "lower", "upper"]]
    return table.assign(n=groups.count()).reindex(groups.count().index)


def headline(comparison: xr.Dataset) -> list[str]:
    """Return what a comparison says under its first metric, a sentence per system and one across systems.

    Medians are compared; nothing is claimed about chance.
    """
    metric = comparison.metric.values[0]
    medians = summarize(comparison)["median"].xs(metric, level="metric").unstack("finder", sort=False)
    systems = list(dict.fromkeys(comparison.system.values))
    sentences = [_sentence(system, medians.loc[system], metric) for system in systems]
    if {"Units", "KMeans"} <= set(medians.columns) and len(systems) > 1:
        above = [system for system in systems if medians.loc[system, "KMeans"] > medians.loc[system, "Units"]]
        names = f" ({', '.join(above)})" if above else ""
        sentences.append(
            f"By {metric}, K-means directions are above single units in {len(above)} of {len(systems)} systems{names}."
        )
    return sentences


def _sentence(system: str, medians: pd.Series, metric: str) -> str:
    ranked = medians.dropna().sort_values(ascending=False)
    told = ", ".join(f"{finder} {value:.3f}".replace(" -", " −") for finder, value in ranked.items())
    return f"{system}: median index by {metric}, best first: {told}."
