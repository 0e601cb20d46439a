"""Selectivity: how well the codes of a unit or direction distinguish the stimuli of one category from all others."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, seed_or_new
from neurosuper._joins import left_out
from neurosuper.inference import adjust_p_values
from neurosuper.interpretability.labelled_stimuli import Labels, halve, read_labels
from neurosuper.interpretability.rank_sums import (
    CONFIDENCE_LEVEL,
    area_interval,
    areas,
    p_of_rank_sums,
    rank_sums,
)
from neurosuper.responses import coords_along

MAX_SQUARED = 2**21  # codes whose squares are in memory at once: about 64 MiB with copies in float64
RESIDUE = 1e-13  # of the largest code: what is left of equal codes, less their mean, by rounding alone


def selectivity(codes: xr.DataArray, labels: Labels, *, random_state: Seed = 0) -> xr.Dataset:
    """Return how selective each unit or direction is for each category of stimuli: AUC, d′, and tests.

    The category that an item is most selective for is chosen on one half of the stimuli, and its AUC is computed on the
    other.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, without NaN. With the coord `split`, the best category is chosen on the stimuli marked
        "fit", and scored on the others; otherwise half of each category is drawn. A dask array is computed.
    labels : DataArray (stimulus,) or str
        The category of each stimulus, or the name of a stimulus coord of the codes, such as "category". At least two
        categories, of at least 5 stimuli each.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves.

    Returns
    -------
    Dataset (unit, category) or (direction, category)
        - `auc`: the probability that a stimulus of the category has a larger code than another stimulus, ties counting
          as ½; `auc_low` and `auc_high`, its interval for other stimuli; `p_value`, two-sided, and `p_adjusted`
          (Benjamini and Hochberg) over all items and categories;
        - `d_prime`, (μ_c − μ_rest) / √(½ (σ²_c + σ²_rest)), infinite if the codes of neither vary;
        - of each item: `best`, the category with the largest AUC on one half of the stimuli (`best_auc_found`);
          `best_auc` on the other half, with `best_auc_low` and `best_auc_high`; `best_p_value`, one-sided, and
          `best_p_adjusted` over items;
        - `n_stimuli (category,)`.

        attrs: `method`, `quantity`, `confidence_level`, `n_stimuli_found` (of the half that `best` is chosen on) and
        `random_state`.

    Raises
    ------
    TypeError
        Labels of another type.
    ValueError
        Codes with NaN, or constant ones; codes and labels that share no stimulus; a stimulus without a label; one
        category, or a category of too few stimuli.

    See Also
    --------
    enrichment : The categories of the top stimuli alone.
    name_items : Names from affinities between images and texts, without labels.

    Notes
    -----
    AUC is Mann and Whitney's U / (n_c n_rest), from one sort of each item's codes; the sums of ranks of all categories
    are whole numbers, so it is exact. The p-value is that of U by the normal approximation with corrections for ties
    and continuity; the interval is by Newcombe. Variances are unbiased (ddof=1). About 64 MiB are used in addition to
    the codes and the result.

    `auc` of the category with the largest one is too large, as it was chosen for this: report `best_auc`. Tests treat
    stimuli as independent, so a category should not contain series of similar pictures (frames of a film, or crops).

    References
    ----------
    Mann and Whitney 1947, Ann. Math. Stat. 18, 50. Newcombe 2006, Stat. Med. 25, 559 (method 5).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> category = np.repeat(["animal", "car", "tree"], 20)
    >>> values = np.random.default_rng(0).normal(size=(60, 2)) + 4 * (category == "car")[:, None] * [1, 0]
    >>> codes = xr.DataArray(values, dims=("stimulus", "unit"), coords={"unit": ["car cell", "noise"],
    ...                      "stimulus": np.arange(60).astype(str), "category": ("stimulus", category)})
    >>> result = selectivity(codes, "category")
    >>> result.auc.sel(unit="car cell").values.round(1).tolist(), result.best[0].item()
    ([0.2, 1.0, 0.3], 'car')
    >>> (result.best_p_adjusted < 0.05).values.tolist()
    [True, False]
    """
    codes, categories, numbers = read_labels(codes, labels)
    seed = seed_or_new(random_state)
    to_fit = halve(codes, seed, numbers)
    # One sort of each item ranks all stimuli, and each half among itself.
    partitions = np.stack([numbers, np.where(to_fit, numbers, -1), np.where(to_fit, -1, numbers)])
    sums, ties = rank_sums(codes.values, partitions, len(categories))
    n_in = np.stack([np.bincount(part[part >= 0], minlength=len(categories)) for part in partitions])
    n_out = n_in.sum(1, keepdims=True) - n_in
    item = str(codes.dims[1])
    columns = {"auc": areas(sums[0], n_in[0], n_out[0]), "d_prime": _d_prime(codes.values, numbers, n_in[0])}
    columns["auc_low"], columns["auc_high"] = area_interval(columns["auc"], n_in[0], n_out[0])
    columns["p_value"] = p_of_rank_sums(sums[0], n_in[0], n_out[0], ties[0][:, None], "two-sided")
    best = _best(sums[1:], ties[2], n_in[1:], n_out[1:])
    variables: dict = {name: ((item, "category"), values) for name, values in columns.items()}
    variables |= {name: (item, values) for name, values in best.items()}
    variables |= {"best": (item, categories[best["best"]]), "n_stimuli": ("category", n_in[0])}
    attrs: dict = {"method": "Mann-Whitney U", "quantity": "AUC", "confidence_level": CONFIDENCE_LEVEL}
    attrs |= {"n_stimuli_found": int(to_fit.sum()), "random_state": seed}
    result = xr.Dataset(variables, coords_along(codes, item) | {"category": categories}, attrs | left_out(codes))
    return result.assign(
        p_adjusted=adjust_p_values(result.p_value), best_p_adjusted=adjust_p_values(result.best_p_value)
    )


def _best(sums: np.ndarray, ties: np.ndarray, n_in: np.ndarray, n_out: np.ndarray) -> dict[str, np.ndarray]:
    """Return the number of the category that is best on the first half, and its scores `(item,)` on both halves."""
    found = areas(sums[0], n_in[0], n_out[0])
    best = found.argmax(1)
    chosen = np.take_along_axis(sums[1], best[:, None], 1)[:, 0], n_in[1][best], n_out[1][best]
    auc = areas(*chosen)
    low, high = area_interval(auc, *chosen[1:])
    scores = {"best": best, "best_auc_found": found.max(1), "best_auc": auc, "best_auc_low": low, "best_auc_high": high}
    return scores | {"best_p_value": p_of_rank_sums(*chosen, ties, "greater")}


def _d_prime(values: np.ndarray, numbers: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (μ_c − μ_rest) / √(½ (σ²_c + σ²_rest)) of each category c, `(item, category)`, some items at a time."""
    n = len(values)
    by_category, starts = np.argsort(numbers, kind="stable"), np.append(0, sizes.cumsum()[:-1])
    ratios, width = np.empty((values.shape[1], len(sizes))), max(1, MAX_SQUARED // max(n, len(sizes) ** 2))
    for start in range(0, values.shape[1], width):
        Z = values[by_category, start : start + width].T.astype(float)
        Z -= Z.mean(1, keepdims=True)
        Z /= np.abs(Z).max(1, keepdims=True)  # squares of very small or large codes are out of range
        means = np.add.reduceat(Z, starts, axis=1) / sizes
        Z -= np.repeat(means, sizes, axis=1)
        squares = np.add.reduceat(Z**2, starts, axis=1)  # Σ (z − μ_c)² over the category
        rest = -means * sizes / (n - sizes)  # μ_rest, as all codes have mean 0
        # Σ (z − μ_rest)² over the others: Σ_{k ≠ c} [Σ (z − μ_k)² + n_k (μ_k − μ_rest)²], without differences of sums
        between = ((means[:, None, :] - rest[:, :, None]) ** 2 * sizes * ~np.eye(len(sizes), dtype=bool)).sum(2)
        within = squares @ ~np.eye(len(sizes), dtype=bool)
        variance = (squares / (sizes - 1) + (within + between) / (n - sizes - 1)) / 2
        variance[variance < RESIDUE**2] = 0
        with np.errstate(divide="ignore"):
            ratios[start : start + width] = (means - rest) / np.sqrt(variance)
    return ratios
