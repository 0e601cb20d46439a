"""The scores of items of a comparison, of the first seed and active, as tests and tables of means need them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.interpretability.variance_components import ItemScores

VARIABLES = {  # of a comparison, by the correction: the index, its difference between halves, influence of top stimuli,
    # and the level around which halves are put, which only the log scale of an interval depends on
    "none": ("interpretability", "difference_of_halves", "influence", "mean_of_halves"),
    "hub": ("corrected", "corrected_difference_of_halves", "corrected_influence", "corrected"),
}


def scores_of_items(
    comparison: xr.Dataset, include_inactive: bool
) -> tuple[dict[str, dict[tuple[str, ...], ItemScores]], dict[tuple[str, str], int]]:
    """Return the scores of the items to test, by correction and then by system, finder and metric.

    And how many items are left out as inactive, by system and finder. Only items of the first seed are tested.
    """
    kept, n_inactive = _items_to_test(comparison, include_inactive)
    scores = {
        correction: _scores_by_name(comparison, kept, *variables)
        for correction, variables in VARIABLES.items()
        if variables[0] in comparison
    }
    return scores, n_inactive


def has_halves(*sets: ItemScores) -> bool:
    """Return whether the index on halves of the stimuli is known of all items."""
    return not any(np.isnan(items.of_halves).any() for items in sets)


def of_first_seed(comparison: xr.Dataset) -> np.ndarray:
    """Return the positions of the items of the first seed."""
    if "seed" not in comparison.coords:
        return np.arange(comparison.sizes["item"])
    return np.flatnonzero((comparison.seed == comparison.seed[0]).values)


def _items_to_test(comparison: xr.Dataset, include_inactive: bool) -> tuple[np.ndarray, dict[tuple[str, str], int]]:
    """Return the positions of items of the first seed that are active, and how many are not, by system and finder."""
    kept = of_first_seed(comparison)
    if include_inactive or "n_active" not in comparison:
        return kept, {}
    active = comparison.n_active.values[kept] >= comparison.top
    names = zip(*(comparison[name].values[kept[~active]].tolist() for name in ("system", "finder")), strict=True)
    return kept[active], Counter(names)


def _scores_by_name(
    comparison: xr.Dataset, kept: np.ndarray, index_name: str, halves_name: str, influence_name: str, level_name: str
) -> dict[tuple[str, ...], ItemScores]:
    """Return the scores of items that are kept and have an index, by system, finder and metric."""
    systems, finders = (comparison[name].values for name in ("system", "finder"))
    index = comparison[index_name].transpose("item", "metric").values
    halves, influence = (
        comparison[name].transpose("metric", ..., "item").values if name in comparison else None
        for name in (halves_name, influence_name)
    )
    levels = comparison[level_name if level_name in comparison else index_name].transpose("item", "metric").values
    stimuli = _number_top_stimuli(comparison) if influence is not None else None
    counts = count_scored(comparison)
    scores: dict[tuple[str, ...], ItemScores] = {}
    for (system, finder), rows in pd.Series(kept).groupby([systems[kept], finders[kept]], sort=False):
        for i, metric in enumerate(comparison.metric.values.tolist()):
            items = rows.values[np.isfinite(index[rows, i])]
            if halves is None or influence is None or stimuli is None:
                scores[system, finder, metric] = ItemScores(index[items, i], np.full((1, 2, len(items)), np.nan))
                continue
            # Of two halves, only the difference is known: each is put as far from the mean of all halves as the other.
            half = halves[i][:, items] / 2
            of_halves = np.stack([half, -half], axis=1) + levels[items, i].astype(half.dtype)
            of_top = influence[i][:, items].T.ravel()
            u = np.bincount(stimuli[items].ravel(), of_top, stimuli.max() + 1) / max(1, len(items))
            n_stimuli = counts.get(system)
            scores[system, finder, metric] = ItemScores(index[items, i], of_halves, influence=u, n_stimuli=n_stimuli)
    return scores


def _number_top_stimuli(comparison: xr.Dataset) -> np.ndarray:
    """Return the number of each top stimulus, or of its group (item, rank)."""
    if "top_groups" in comparison:
        return comparison.top_groups.transpose("item", "rank").values
    labels = comparison.top_stimuli.transpose("item", "rank").values
    return pd.factorize(labels.ravel())[0].reshape(labels.shape)


def count_scored(comparison: xr.Dataset, *, groups: bool = True) -> dict[str, int]:
    """Return how many stimuli, or groups of them if there are any, the items of the first seed were scored on.

    By system; empty if the comparison does not say.
    """
    name = "n_stimulus_groups" if groups and "n_stimulus_groups" in comparison else "n_stimuli"
    if name not in comparison:
        return {}
    first = of_first_seed(comparison)
    counts = pd.Series(comparison[name].values[first]).groupby(comparison.system.values[first], sort=False).max()
    return {str(system): int(n) for system, n in counts.items()}
