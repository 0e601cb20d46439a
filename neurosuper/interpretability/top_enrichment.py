"""Enrichment: which categories the top stimuli of a unit or direction have more often than random stimuli do."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import left_out
from neurosuper.inference import adjust_p_values
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.labelled_stimuli import Labels, halve, read_labels
from neurosuper.interpretability.ranking import copies_among, top_stimuli
from neurosuper.responses import coords_along

CONFIDENCE_LEVEL = 0.95


def enrichment(
    codes: xr.DataArray, labels: Labels, *, top: int = 20, n_resamples: int = 999, random_state: Seed = 0
) -> xr.Dataset:
    """Return how often each category is among the top stimuli of each unit or direction, with tests and purity.

    The category that is most enriched is chosen on one half of the stimuli, and its share of the top stimuli is
    computed on the other.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, without NaN. With the coord `split`, the best category is chosen on the stimuli marked
        "fit", and scored on the others; otherwise half of each category is drawn. A dask array is computed.
    labels : DataArray (stimulus,) or str
        The category of each stimulus, or the name of a stimulus coord of the codes, such as "category". At least two
        categories, of at least 5 stimuli each.
    top : int, optional
        Number of top stimuli, at most half of the stimuli of a half.
    n_resamples : int, optional
        Number of random sets of stimuli for the null distribution of purity, at least 19.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves, of random sets, and of the order of stimuli with equal codes.

    Returns
    -------
    Dataset (unit, category) or (direction, category)
        - `n_top`, the number of top stimuli of the category; `p_value`, the probability of as many in a random set of
          stimuli (hypergeometric), and `p_adjusted` (Benjamini and Hochberg) over all items and categories;
        - of each item: `purity`, the largest share of a category among the top stimuli, with `purity_p_value` and
          `purity_p_adjusted` against random sets; `negentropy`, Σ p ln p over the shares p, from −ln(number of
          categories) to 0; and scalars `purity_null` and `negentropy_null`, the means of random sets;
        - of each item: `best`, the category with the smallest p on one half of the stimuli; `best_share` of the top
          stimuli of the other half, with its exact interval `best_share_low` and `best_share_high`; `best_p_value` and
          `best_p_adjusted`;
        - `n_stimuli (category,)`.

        attrs: `method`, `quantity`, `top`, `confidence_level`, `n_resamples`, `random_state`, and, if an item has
        copies of one photograph among its top stimuli, `n_items_with_copies`.

    Raises
    ------
    TypeError
        Labels of another type.
    ValueError
        Codes with NaN, or constant ones; codes and labels that share no stimulus; a stimulus without a label; one
        category, or a category of too few stimuli; settings out of range.

    See Also
    --------
    selectivity : All stimuli, not only the top ones.
    neurosuper.metrics.Label : The index of labels, the probability that two top stimuli have the same label.

    Notes
    -----
    Purity and negentropy depend on the number of categories and on their sizes: compare them with `purity_null` and
    `negentropy_null`. p-values of counts are conservative, as counts are discrete. The interval of `best_share` is that
    of Clopper and Pearson for independent stimuli. Tests treat stimuli as independent.

    References
    ----------
    Fisher 1935, J. R. Stat. Soc. 98, 39 (exact test). Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> category = np.repeat(["animal", "car", "tree"], 40)
    >>> values = np.random.default_rng(0).normal(size=(120, 2)) + 4 * (category == "car")[:, None] * [1, 0]
    >>> codes = xr.DataArray(values, dims=("stimulus", "unit"), coords={"unit": ["car cell", "noise"],
    ...                      "stimulus": np.arange(120).astype(str), "category": ("stimulus", category)})
    >>> result = enrichment(codes, "category", top=10)
    >>> result.n_top.sel(unit="car cell").values.tolist(), result.best[0].item(), result.best_share[0].item()
    ([0, 10, 0], 'car', 1.0)
    """
    codes, categories, numbers = read_labels(codes, labels)
    n_resamples = check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    seed = seed_or_new(random_state)
    to_fit = halve(codes, seed, numbers)
    most = min(to_fit.sum(), (~to_fit).sum()) // 2
    top = check_count("top", top, least=2, most=int(most), why=", half of the stimuli of a half")
    sizes, item = np.bincount(numbers), str(codes.dims[1])
    chosen = top_stimuli(codes, top=top, random_state=seed)
    counts = _count(codes, chosen, numbers, len(sizes))
    variables: dict = {"n_top": ((item, "category"), counts), "n_stimuli": ("category", sizes)}
    variables["p_value"] = (item, "category"), _p_of_counts(counts, sizes, top)
    random_sets = np.random.default_rng(seed).multivariate_hypergeometric(sizes, top, size=n_resamples)
    for name, measure in {"purity": _purity, "negentropy": _negentropy}.items():
        variables |= {name: (item, measure(counts)), f"{name}_null": measure(random_sets).mean()}
    variables["purity_p_value"] = item, p_of_draws(_purity(counts), _purity(random_sets)[:, None])
    best = _best([codes[to_fit], codes[~to_fit]], [numbers[to_fit], numbers[~to_fit]], len(sizes), top, seed)
    variables |= {name: (item, values) for name, values in best.items()}
    variables["best"] = item, categories[best["best"]]
    attrs: dict = {"method": "hypergeometric", "quantity": "share of top stimuli", "top": top}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "n_resamples": n_resamples, "random_state": seed}
    attrs |= copies_among(chosen) | left_out(codes)
    result = xr.Dataset(variables, coords_along(codes, item) | {"category": categories}, attrs)
    tests = {"p_adjusted": "p_value", "purity_p_adjusted": "purity_p_value", "best_p_adjusted": "best_p_value"}
    return result.assign({adjusted: adjust_p_values(result[name]) for adjusted, name in tests.items()})


def _best(halves: list[xr.DataArray], numbers: list[np.ndarray], n: int, top: int, seed: int) -> dict[str, np.ndarray]:
    """Return the number of the category with the smallest p on one half, and its scores `(item,)` on the other."""
    tops = [top_stimuli(half, top=top, random_state=seed) for half in halves]
    found, counts = (_count(*each, n) for each in zip(halves, tops, numbers, strict=True))
    sizes = [np.bincount(each, minlength=n) for each in numbers]
    # Of categories with the same p, the one with the larger share.
    best = np.lexsort((-found, _p_of_counts(found, sizes[0], top)), axis=1)[:, 0]
    own = np.take_along_axis(counts, best[:, None], 1)[:, 0]
    p = np.take_along_axis(_p_of_counts(counts, sizes[1], top), best[:, None], 1)[:, 0]
    tail = (1 - CONFIDENCE_LEVEL) / 2
    low = np.where(own > 0, stats.beta.ppf(tail, np.maximum(own, 1), top - own + 1), 0)
    high = np.where(own < top, stats.beta.isf(tail, own + 1, np.maximum(top - own, 1)), 1)
    return {"best": best, "best_share": own / top, "best_share_low": low, "best_share_high": high, "best_p_value": p}


def _count(codes: xr.DataArray, chosen: xr.DataArray, numbers: np.ndarray, n_categories: int) -> np.ndarray:
    """Return the number of top stimuli of each category, `(item, category)`."""
    positions = codes.get_index("stimulus").get_indexer(chosen.values.ravel()).reshape(chosen.shape)
    return np.stack([np.bincount(numbers[at], minlength=n_categories) for at in positions.T])


def _p_of_counts(counts: np.ndarray, sizes: np.ndarray, top: int) -> np.ndarray:
    """Return P(at least as many of each category in a random set), `(item, category)`, by a table of all counts."""
    table = stats.hypergeom.sf(np.arange(-1, top)[:, None], sizes.sum(), sizes, top)  # (count, category)
    return np.asarray(np.take_along_axis(table, counts, axis=0))


def _purity(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts.max(1) / counts.sum(1))


def _negentropy(counts: np.ndarray) -> np.ndarray:
    return -stats.entropy(counts, axis=1)
