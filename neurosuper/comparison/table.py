"""Summaries of a comparison: a table of medians and quartiles, and sentences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

UNTESTED = "These are medians without a test; see the contrasts."
CORRECTED = {"median_corrected": "corrected", "frequency_floor": "frequency_floor"}  # columns of a table: variables
QUARTILES = {"median": 0.5, "lower_quartile": 0.25, "upper_quartile": 0.75}
SETS = ["system", "finder", "metric"]


def summarize(comparison: xr.Dataset, *, include_inactive: bool = False) -> pd.DataFrame:
    """Return the median and quartiles of the index per system, finder and metric.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare`.
    include_inactive : bool, optional
        Include, in medians and quartiles, items with fewer active stimuli than `top` (see `n_active` of `compare`): in
        part, their top stimuli are drawn at random. They are left out by default, as in `contrast_finders`.

    Returns
    -------
    DataFrame
        Indexed by (system, finder, metric) in the order of the comparison, with the columns `median`, `lower_quartile`,
        `upper_quartile` and `n_items` (items with an index, inactive ones included). Further columns if the comparison
        has what they need: `n_inactive`, the number of these items that are inactive; `median_corrected`, of the
        hub-corrected index; `frequency_floor`, the index of a set that picks the same images as often, but at random;
        and `reliability`, the correlation r of the index over items between disjoint sets of stimuli (of the corrected
        index, if there is one; of several seeds the smallest). Below 1/3, less than 0.5 is expected on all stimuli,
        2r/(1 + r): make no claims about single items (see `index_reliability`).

    See Also
    --------
    headline : The medians in sentences.
    contrast_finders, contrast_systems : Tests of differences in the mean index.
    neurosuper.interpretability.index_reliability : The reliability of the index of single items.

    Examples
    --------
    >>> import xarray as xr
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), [[-0.7], [-0.6], [-0.5]])},
    ...     {"system": ("item", ["V4"] * 3), "finder": ("item", ["Units", "Units", "KMeans"]), "metric": ["LPIPS"]})
    >>> int(summarize(comparison).loc[("V4", "Units", "LPIPS"), "n_items"])
    2
    """
    reliability = "corrected_reliability" if "corrected" in comparison else "index_reliability"
    names = [name for name in (*CORRECTED.values(), reliability) if name in comparison]
    inactive = inactive_items(comparison)
    frame = comparison[["interpretability", *names]].assign(is_inactive=("item", inactive)).to_dataframe().reset_index()
    by_set = frame.groupby(SETS, sort=False)
    scored = frame if include_inactive else frame[~frame.is_inactive]
    of_index = scored.groupby(SETS, sort=False)["interpretability"]
    columns = {name: of_index.quantile(share) for name, share in QUARTILES.items()}
    columns["n_items"] = by_set["interpretability"].count()
    if "n_active" in comparison:
        columns["n_inactive"] = frame[frame.interpretability.notna()].groupby(SETS, sort=False)["is_inactive"].sum()
    for column, name in CORRECTED.items():
        if name in comparison:
            columns[column] = (by_set if name == "frequency_floor" else scored.groupby(SETS, sort=False))[name].median()
    if reliability in comparison:
        columns["reliability"] = by_set[reliability].min()
    table = pd.DataFrame(columns).reindex(columns["n_items"].index)
    return table.fillna({"n_inactive": 0}).astype({"n_inactive": int}) if "n_inactive" in table else table


def inactive_items(comparison: xr.Dataset) -> np.ndarray:
    """Return whether each item has fewer active stimuli than `top`; of none, if the comparison did not count them."""
    if "n_active" not in comparison:
        return np.zeros(comparison.sizes["item"], bool)
    return comparison.n_active.values < comparison.top


def headline(comparison: xr.Dataset) -> list[str]:
    """Return the medians of a comparison by its first metric as sentences: one per system, and one across systems.

    If the comparison has a hub-corrected index, the sentences are about it, with the medians of the index itself in
    brackets. The sentence across systems counts where the median of K-means directions is above that of single units,
    and, if known, that of their matched baseline (see `compare`): a gain over units that the baseline shares is no
    evidence of features that were found. Inactive items (fewer active stimuli than `top`) are left out; a sentence per
    system counts them, and the directions that were left out as constant (unless the note of a study does so). If
    planted directions are known, another sentence per system reports how well they were recovered. Only medians are
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
        corrected = " in the hub-corrected index" if is_corrected else ""
        sentence = f"By {metric}, the median of K-means directions is above that of single units{corrected} in "
        sentence += _where_above(medians, systems, "Units")
        if (baseline := _baseline_of(comparison, "KMeans")) in medians:
            matched = _where_above(medians, systems, baseline)
            sentence += f", and above that of their matched baseline, {baseline}, in {matched}"
        sentences.append(f"{sentence}. {UNTESTED}")
    note = comparison.attrs.get("note", "")
    return sentences + [sentence for sentence in describe_left_out(comparison) if sentence not in note]


def describe_left_out(comparison: xr.Dataset) -> list[str]:
    """Return one sentence per system that counts inactive items and constant directions by finder, if there are any."""
    counts, sentences = count_left_out(comparison), []
    for system in dict.fromkeys(counts.index.get_level_values("system")):
        of_system = counts.loc[system].itertuples()
        few = [f"{row.n_inactive} of {row.n_items} by {row.Index}" for row in of_system if row.n_inactive]
        same = [f"{row.n_constant} by {row.Index}" for row in counts.loc[system].itertuples() if row.n_constant]
        reasons = [f"items with fewer than {comparison.attrs.get('top')} active stimuli ({', '.join(few)})"] * bool(few)
        reasons += [f"directions that are constant on the stimuli to score on ({', '.join(same)})"] * bool(same)
        if reasons:
            sentences.append(f"Left out in {system}: {'; '.join(reasons)}.")
    n_constant = int(np.sum(comparison.attrs.get("n_constant", 0)))
    if n_constant > counts.n_constant.sum():  # of a part of a comparison, whose finders are not known
        sentences.append(f"Left out: directions that are constant on the stimuli to score on ({n_constant}).")
    return sentences


def count_left_out(comparison: xr.Dataset) -> pd.DataFrame:
    """Return the columns `n_items`, `n_inactive` and `n_constant` (not among the items) by system and finder."""
    names = [pd.Series(comparison[name].values.astype(str), name=name) for name in ("system", "finder")]
    counts = pd.Series(inactive_items(comparison)).groupby(names, sort=False).agg(["size", "sum"])
    counts.columns = ["n_items", "n_inactive"]
    constant = _count_constant(comparison)
    return counts.assign(n_constant=[constant.get(pair, 0) for pair in counts.index])


def _count_constant(comparison: xr.Dataset) -> dict[tuple[str, str], int]:
    """Return how many directions were left out as constant, by system and finder; of a part of a comparison, none."""
    counts = np.ravel(comparison.attrs.get("n_constant", []))
    names = [comparison[name].values.astype(str) for name in ("seed", "system", "finder") if name in comparison.coords]
    fits = list(dict.fromkeys(zip(*names, strict=True)))  # in the order of fits, as are the counts
    if len(fits) != len(counts):
        return {}
    found: dict[tuple[str, str], int] = {}
    for (*_, system, finder), n in zip(fits, counts.tolist(), strict=True):
        found[system, finder] = found.get((system, finder), 0) + n
    return found


def _baseline_of(comparison: xr.Dataset, finder: str) -> str:
    """Return the name of the matched baseline of a finder; empty if the comparison does not know it."""
    if "baseline" not in comparison.coords:
        return ""
    return next(iter(comparison.baseline.values[(comparison.finder == finder).values].tolist()), "")


def _where_above(medians: pd.DataFrame, systems: list[str], against: str) -> str:
    """Return in how many systems, and in which, the median of K-means is above that of another finder."""
    above = [system for system in systems if medians.loc[system, "KMeans"] > medians.loc[system, against]]
    return f"{len(above)} of {len(systems)} systems" + (f" ({', '.join(above)})" if above else "")


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
    return ", ".join(entry.replace(" -", " −").replace("(-", "(−") for entry in entries) or "no index"
