"""Summary of a comparison: a table of means with intervals, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.comparison.item_scores import count_scored, has_halves, of_first_seed, scores_of_items
from neurosuper.comparison.selections import whole_comparison
from neurosuper.interpretability.random_sets import chance_of_mean
from neurosuper.interpretability.stimulus_sampling import interval_of_mean
from neurosuper.interpretability.variance_components import ItemScores

SETS = ["system", "finder", "metric"]
SUFFIX = {"none": "", "hub": "_corrected"}  # of the columns of a mean index, by its correction
CHANCE_SD = {"none": "chance_level_sd", "hub": "corrected_chance_sd"}
OF_SET = ("chance_level", *CHANCE_SD.values(), "frequency_floor")  # with one value for all items of a set
COLUMNS = (
    *("mean", "mean_low", "mean_high", "standard_error", "n_items", "n_inactive"),
    *("mean_corrected", "mean_corrected_low", "mean_corrected_high", "standard_error_corrected"),
    *("chance_level", "chance_of_mean_low", "chance_of_mean_high"),
    *("chance_of_mean_corrected_low", "chance_of_mean_corrected_high", "frequency_floor", "reliability"),
)


def summarize(comparison: xr.Dataset, *, include_inactive: bool = False) -> pd.DataFrame:
    """Return the mean index per system, finder and metric, with confidence intervals and the chance level.

    The means are those that `contrast_finders` compares: of the items of the first seed, without inactive ones.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`.
    include_inactive : bool, optional
        Include in the means items with fewer active stimuli than `top` (see `n_active` of `compare`): in part, their
        top stimuli are drawn at random. They are left out by default, as in `contrast_finders`.

    Returns
    -------
    DataFrame
        Indexed by (system, finder, metric) in the order of the comparison, with the columns `mean`, `mean_low` and
        `mean_high` (95 %, for other stimuli and other items of the same kind, see `index_interval`), `standard_error`
        of the mean, and `n_items` (items with an index, inactive ones included). The limits are NaN, and the standard
        error is over items alone, of a set of one item, and if the comparison has no index on halves (fewer stimuli
        than twice `top`). Further columns if the comparison has what they need: `mean_corrected`, `mean_corrected_low`,
        `mean_corrected_high` and `standard_error_corrected`, of the hub-corrected index, whose chance level is 0;
        `n_inactive`, the number of inactive items among `n_items`; `chance_level`, the mean index of random sets of
        stimuli, and `chance_of_mean_low` and `chance_of_mean_high`, between which is the mean of as many random sets
        in 95 % of draws (`chance_of_mean_corrected_low` and `…_high` for the corrected index); `frequency_floor`, the
        index of a set that picks the same images as often as the active items do, but at random; and `reliability`, the
        correlation r of the index over active items between disjoint sets of stimuli (of the corrected index, if there
        is one; of several seeds the smallest). Below 1/3, less than 0.5 is expected on all stimuli, 2r/(1 + r): make no
        claims about single items (see `index_reliability`).

    See Also
    --------
    headline : What the tests say, in a few sentences.
    contrast_finders, contrast_systems : Tests of differences in the mean index. Two intervals may overlap although the
        difference is detectable: both sets were scored on the same stimuli.
    neurosuper.interpretability.index_reliability : The reliability of the index of single items.

    Notes
    -----
    The intervals are those of `index_interval`. That of an index of distances is symmetric for the log of the mean
    distance. For it, the two halves of a split are put at half their difference from the mean over all halves, as only
    the difference is stored: in simulations of 8 and 40 units, with `top` 2 to 25 % of the stimuli, the width differs
    from that of `index_interval` by 0.2 % on average, and by at most 3 % in a single study.

    The chance band of a mean is for items that ignore the images and one another. Real items that share an input pick
    the same images, by which their mean varies more, so a mean outside the band is no test.

    Examples
    --------
    >>> import xarray as xr
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), [[-0.7], [-0.6], [-0.5]])},
    ...     {"system": ("item", ["V4"] * 3), "finder": ("item", ["Units", "Units", "KMeans"]), "metric": ["LPIPS"]})
    >>> summarize(comparison).loc[("V4", "Units", "LPIPS"), ["mean", "n_items"]].round(3).tolist()
    [-0.65, 2.0]
    """
    comparison = whole_comparison(comparison)
    reliability = "corrected_reliability" if "corrected" in comparison else "index_reliability"
    of_seed = comparison.isel(item=of_first_seed(comparison))
    names = [name for name in OF_SET if name in comparison]
    frame = of_seed[["interpretability", *names]].assign(is_inactive=("item", inactive_items(of_seed)))
    frame = frame.to_dataframe().reset_index()
    by_set = frame.groupby(SETS, sort=False)
    table = by_set["interpretability"].count().to_frame("n_items")
    if "n_active" in comparison:
        inactive = (frame.is_inactive & frame.interpretability.notna()).rename("n_inactive")
        table["n_inactive"] = inactive.groupby([frame[name] for name in SETS], sort=False).sum()
    table[names] = by_set[names].first()
    if reliability in comparison:
        every = comparison[reliability].to_dataframe().reset_index()
        table["reliability"] = every.groupby(SETS, sort=False)[reliability].min()
    scores, _ = scores_of_items(comparison, include_inactive)
    is_log = "stimulus_groups" not in comparison.attrs  # as in `index_interval`
    for correction, by_name in scores.items():
        rows = [
            _describe_mean(by_name.get(key), row, correction, is_log and correction == "none")
            for key, row in zip(table.index, table.to_dict("records"), strict=True)
        ]
        table = table.join(pd.DataFrame(rows, table.index))
    return table[[name for name in COLUMNS if name in table]]


def _describe_mean(
    items: ItemScores | None, about: Mapping[str, float], correction: str, log: bool
) -> dict[str, float]:
    """Return the columns of the mean index of a set, with the chance band of as many random sets where it is known."""
    n, suffix, nan = 0 if items is None else items.n, SUFFIX[correction], float("nan")
    mean, low, high, error = nan, nan, nan, nan
    if items is not None and n:
        mean = float(items.scores.mean())
    if items is not None and n > 1:
        error = float(items.scores.std(ddof=1)) / np.sqrt(n)
        if has_halves(items):
            found = interval_of_mean(items, log=log)
            low, high = found.interpretability_low.item(), found.interpretability_high.item()
            error = found.standard_error.item()
    columns = {f"mean{suffix}": mean, f"mean{suffix}_low": low, f"mean{suffix}_high": high}
    columns |= {f"standard_error{suffix}": error}
    if (sd := about.get(CHANCE_SD[correction])) is not None:
        centre = about["chance_level"] if correction == "none" else 0.0
        limits = chance_of_mean(centre, sd, n)
        columns |= dict(zip((f"chance_of_mean{suffix}_low", f"chance_of_mean{suffix}_high"), limits, strict=True))
    return columns


def inactive_items(comparison: xr.Dataset) -> np.ndarray:
    """Return whether each item has fewer active stimuli than `top`; of none, if the comparison did not count them."""
    if "n_active" not in comparison:
        return np.zeros(comparison.sizes["item"], bool)
    return comparison.n_active.values < comparison.top


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
    if _constant_by_fit(comparison) is None and (n := count_constant(comparison)):
        sentences.append(f"Left out: directions that are constant on the stimuli to score on ({n}).")
    return sentences


def describe_units_left_out(comparison: xr.Dataset) -> str:
    """Return a sentence that counts the units that were left out because they do not vary; empty if there are none."""
    systems = list(dict.fromkeys(comparison.system.values.tolist()))
    counts = np.ravel(comparison.attrs.get("n_units_left_out", 0)).tolist()
    if not any(counts):
        return ""
    named = ", ".join(f"{n} of {system}" for system, n in zip(systems, counts, strict=False) if n)
    if len(counts) != len(systems):  # of a part of a comparison
        named = f"{sum(counts)} in all systems that were compared"
    return f"Units that do not vary over the stimuli were left out: {named}."


def describe_scored(comparison: xr.Dataset, *, groups: bool = False) -> str:
    """Return how many stimuli (or groups) each system was scored on, such as "40" or "V4 40, net 60"; "" if unknown."""
    counts = count_scored(comparison, groups=groups)
    if len(set(counts.values())) == 1:
        return f"{min(counts.values()):,}"
    return ", ".join(f"{system} {n:,}" for system, n in counts.items())


def count_left_out(comparison: xr.Dataset) -> pd.DataFrame:
    """Return `n_items`, `n_inactive` and `n_constant` (not among the items) of the first seed by system and finder."""
    of_seed = comparison.isel(item=of_first_seed(comparison))
    names = [pd.Series(of_seed[name].values.astype(str), name=name) for name in ("system", "finder")]
    counts = pd.Series(inactive_items(of_seed)).groupby(names, sort=False).agg(["size", "sum"])
    counts.columns = ["n_items", "n_inactive"]
    constant = _constant_by_fit(comparison) or {}
    return counts.assign(n_constant=[constant.get(pair, 0) for pair in counts.index])


def count_constant(comparison: xr.Dataset) -> int:
    """Return how many directions of the first seed were left out as constant; of all seeds, if this is not known."""
    known = _constant_by_fit(comparison)
    return int(np.sum(comparison.attrs.get("n_constant", 0))) if known is None else sum(known.values())


def _constant_by_fit(comparison: xr.Dataset) -> dict[tuple[str, str], int] | None:
    """Return how many directions of the first seed were left out as constant, by system and finder.

    None if this is not known, as in a part of a comparison.
    """
    counts = np.ravel(comparison.attrs.get("n_constant", []))
    names = [comparison[name].values.astype(str) for name in ("seed", "system", "finder") if name in comparison.coords]
    fits = list(dict.fromkeys(zip(*names, strict=True)))  # in the order of fits, as are the counts
    if len(fits) != len(counts):
        return None
    # The fits of the first seed come first, and each system and finder is among them once.
    of_first = [fit for fit in fits if fit[:-2] == fits[0][:-2]]
    return {(system, finder): n for (*_, system, finder), n in zip(of_first, counts.tolist(), strict=False)}
