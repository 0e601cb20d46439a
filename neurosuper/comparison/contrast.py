"""Tests between finders within each system, and between systems by each finder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import Seed
from neurosuper.comparison.variable_attrs import add_attrs
from neurosuper.inference import adjust_p_values, test_sentence
from neurosuper.inference.permutation import compare_means
from neurosuper.interpretability.sampled_sets import warn_of_few
from neurosuper.interpretability.stimulus_sampling import compare_mean_index
from neurosuper.interpretability.variance_components import ItemScores

Varied = Literal["finder", "system"]
References = Mapping[tuple[str, str], Sequence[str]]  # by system and finder, what these items are tested against
KEPT: dict[Varied, Varied] = {"finder": "system", "system": "finder"}  # the coord that is the same in both sets
VARIABLES = {  # of a comparison, by the correction: the index, its difference between halves, influence of top stimuli
    "none": ("interpretability", "difference_of_halves", "influence"),
    "hub": ("corrected", "corrected_difference_of_halves", "corrected_influence"),
}
CONFIDENCE_LEVEL = 0.95
TESTED = (
    *("difference", "difference_low", "difference_high", "p_value", "p_items", "cohens_d", "superiority"),
    *("estimate_a", "estimate_b", "n_a", "n_b", "n_inactive_a", "n_inactive_b"),
)


class NothingToTestError(ValueError):
    """A comparison has no pair of sets to test: a report then has no section of tests, and all other errors pass."""


def contrast_finders(
    comparison: xr.Dataset,
    *,
    against: str | Sequence[str] | None = None,
    include_inactive: bool = False,
    n_resamples: int = 9999,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return tests of the difference in mean index between finders, for every system and metric.

    Each finder is tested against single units, and against its matched baseline: Gaussian directions with the mean and
    covariance of the same prepared responses, which score above units without having found anything (see `compare`).
    Only a finder that scores above both gives evidence of features that it found.

    Intervals and p-values generalise to new stimuli and new items of the same kind: the variance over stimuli is
    estimated from random halves of them (see `index_difference`), with directions held fixed; if the comparison has
    `stimulus_groups`, from halves of these, for new groups. Conclusions are about these recordings only. p-values are
    adjusted over all tests (Benjamini and Hochberg 1995). With several seeds, only the first is tested, because seeds
    share units and stimuli.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`. Items without an index are left out.
    against : str or sequence of str, optional
        One or more finders that all others are tested against, each pair once. None: "Units", if the comparison has
        them, and, for each finder alone, its matched baseline (the coord `baseline`).
    include_inactive : bool, optional
        Test also the items with fewer active stimuli than `top`, which have top stimuli drawn at random (see `n_active`
        of `compare`), and score near the chance level.
    n_resamples : int, optional
        Number of permutations for `p_items`, at least 100.
    random_state : int, Generator, RandomState or None, optional
        Seed of the permutations.

    Returns
    -------
    Dataset (test,)
        Coords `system`, `finder`, `against`, `metric` and `correction`: "none" tests the index itself, "hub" the
        hub-corrected index (see `interpretability_index`), if the comparison has it. `difference` of means
        (finder − `against`), with `difference_low` and `difference_high`; `p_value` and `p_adjusted`; `p_items`, of the
        permutation test over items, which treats the stimuli as fixed and is therefore too small if the same images
        drive many items; `cohens_d` and `superiority`; `estimate_a` and `estimate_b` (the means), `n_a` and `n_b`
        (numbers of items), `n_inactive_a` and `n_inactive_b` (items left out, as they have fewer active stimuli than
        `top`); and `sentence`, ready for a paper, which claims a direction if the adjusted p is below 0.05, and with
        "hub" mentions the difference of the index itself. If a comparison has no index on halves (fewer stimuli than
        twice `top`, or written by an earlier development version), the interval is NaN, and `p_value` is `p_items`.
        Systems with fewer than two items of either finder are left out. attrs: `n_tests`, `adjustment`,
        `confidence_level`.

    Raises
    ------
    ValueError
        No such finder in the comparison, or nothing to test it against.

    Warns
    -----
    UserWarning
        Fewer stimuli were scored on than 8 times `top`: intervals may be too narrow (see `index_interval`).

    See Also
    --------
    contrast_systems : Systems against one another.
    neurosuper.interpretability.index_difference : One such test, from codes and images.
    neurosuper.inference.permutation_test : The test of `p_items`.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> index = np.concatenate([np.linspace(-0.8, -0.6, 30), np.linspace(-0.6, -0.4, 30)])
    >>> finders = np.repeat(["Units", "KMeans"], 30)
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), index[:, None])},
    ...     {"system": ("item", ["V4"] * 60), "finder": ("item", finders), "metric": ["LPIPS"]})
    >>> tests = contrast_finders(comparison)
    >>> tests.finder.item(), tests.against.item(), bool(tests.p_adjusted[0] < 0.001)
    ('KMeans', 'Units', True)
    """
    references = _units_and_baselines(comparison) if against is None else _named(comparison, "finder", against)
    return contrast_pairs(comparison, "finder", references, include_inactive, n_resamples, random_state)


def contrast_systems(
    comparison: xr.Dataset,
    *,
    against: str | Sequence[str] | None = None,
    include_inactive: bool = False,
    n_resamples: int = 9999,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return tests of the difference in mean index between systems, for every finder and metric.

    The index of two systems is comparable only if both were shown the same images (see `comparison.shared_stimuli`):
    among more images, or among images that are more similar, the top stimuli may be more similar too, in any system.
    The tests are those of `contrast_finders`; conclusions are about these recordings and networks only.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`. Items without an index are left out.
    against : str or sequence of str, optional
        One or more systems that all others are tested against, each pair once. None: the first.
    include_inactive : bool, optional
        Test also the items with fewer active stimuli than `top`, which have top stimuli drawn at random (see `n_active`
        of `compare`), and score near the chance level.
    n_resamples : int, optional
        Number of permutations for `p_items`, at least 100.
    random_state : int, Generator, RandomState or None, optional
        Seed of the permutations.

    Returns
    -------
    Dataset (test,)
        As from `contrast_finders`; `difference` is that of means (system − `against`). Finders with fewer than two
        items in either system are left out.

    Raises
    ------
    ValueError
        No such system in the comparison, or nothing to test it against.

    Warns
    -----
    UserWarning
        As for `contrast_finders`.

    See Also
    --------
    contrast_finders : Finders against one another.
    compare : Returns the comparison.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> index = np.concatenate([np.linspace(-0.8, -0.6, 30), np.linspace(-0.6, -0.4, 30)])
    >>> systems = np.repeat(["V4", "net"], 30)
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), index[:, None])},
    ...     {"system": ("item", systems), "finder": ("item", ["KMeans"] * 60), "metric": ["LPIPS"]})
    >>> contrast_systems(comparison, n_resamples=999).sentence.item()[:75]
    'KMeans: net (n = 30, mean −0.50) scored higher in interpretability by LPIPS'
    """
    references = _named(comparison, "system", str(comparison.system.values[0]) if against is None else against)
    return contrast_pairs(comparison, "system", references, include_inactive, n_resamples, random_state)


def _names(comparison: xr.Dataset, varied: Varied) -> list[str]:
    return list(dict.fromkeys(comparison[varied].values.tolist()))


def _named(comparison: xr.Dataset, varied: Varied, against: str | Sequence[str]) -> References:
    """Return what each finder (or system) is tested against, in every system (or with every finder): those named."""
    named, known = [against] if isinstance(against, str) else list(dict.fromkeys(against)), _names(comparison, varied)
    if not named:
        raise ValueError(f"nothing to test against; name one or more of the {varied}s {', '.join(known)}")
    if missing := [name for name in named if name not in known]:
        raise ValueError(f"no {varied} {missing[0]!r} in the comparison; it has {', '.join(known)}")
    # Of two that are both named, the one that is named first is what the other is tested against.
    others = {name: named[: named.index(name)] if name in named else named for name in known}
    keys = product(_names(comparison, "system"), _names(comparison, "finder"))
    return {(system, finder): others[system if varied == "system" else finder] for system, finder in keys}


def _units_and_baselines(comparison: xr.Dataset) -> References:
    """Return what each finder is tested against by default, in each system: units, and its matched baseline."""
    known = _names(comparison, "finder")
    keys = list(zip(*(comparison[name].values.tolist() for name in ("system", "finder")), strict=True))
    of_items = comparison.baseline.values.tolist() if "baseline" in comparison.coords else [""] * len(keys)
    baselines = dict(zip(keys, of_items, strict=True))
    references = {
        key: [name for name in dict.fromkeys(["Units", baseline]) if name in known and name != key[1]]
        for key, baseline in baselines.items()
    }
    if not {"Units", *baselines.values()} & set(known):
        raise NothingToTestError(
            f"neither units nor a matched baseline to test against in the comparison; name one of {', '.join(known)} "
            "as `against`"
        )
    return references


def contrast_pairs(
    comparison: xr.Dataset,
    varied: Varied,
    references: References,
    include_inactive: bool = False,
    n_resamples: int = 9999,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Test each finder (or system) against its references, with the system (or finder) and the metric the same."""
    if {"n_stimuli", "top"} <= comparison.attrs.keys():
        warn_of_few(comparison.n_stimuli, comparison.top)
    kept, n_inactive = _items_to_test(comparison, include_inactive)
    scores = {
        correction: _scores_by_name(comparison, kept, *variables)
        for correction, variables in VARIABLES.items()
        if variables[0] in comparison
    }
    keys, pairs = [], []
    names = (_names(comparison, "system"), comparison.metric.values.tolist(), _names(comparison, "finder"))
    for system, metric, finder in product(*names):
        for against, correction in product(references.get((system, finder), []), scores):
            key = {"system": system, "finder": finder, "metric": metric}
            a, b = (scores[correction].get(tuple(of_set.values())) for of_set in (key, key | {varied: against}))
            if a and b and min(a.n, b.n) > 1:
                keys.append(key | {"against": against, "correction": correction})
                pairs.append((a, b))
    if not pairs:
        raise NothingToTestError(
            f"nothing to test: no {KEPT[varied]} has two items each of two {varied}s that are to be compared"
        )
    by_items = compare_means(
        [(a.scores, b.scores) for a, b in pairs], n_resamples=n_resamples, random_state=random_state
    )
    tests = [_test(a, b, of_items) for (a, b), of_items in zip(pairs, by_items, strict=True)]
    grouped = {name: comparison.attrs[name] for name in ("n_stimulus_groups",) if name in comparison.attrs}
    tests = [
        test.assign_attrs(grouped).assign(
            n_inactive_a=_count(n_inactive, key), n_inactive_b=_count(n_inactive, key | {varied: key["against"]})
        )
        for test, key in zip(tests, keys, strict=True)
    ]
    return _as_table(keys, tests, varied)


def _items_to_test(comparison: xr.Dataset, include_inactive: bool) -> tuple[np.ndarray, dict[tuple[str, str], int]]:
    """Return the positions of items of the first seed that are active, and how many are not, by system and finder."""
    kept = np.arange(comparison.sizes["item"])
    if "seed" in comparison.coords:
        kept = np.flatnonzero((comparison.seed == comparison.seed[0]).values)
    if include_inactive or "n_active" not in comparison:
        return kept, {}
    active = comparison.n_active.values[kept] >= comparison.top
    names = zip(*(comparison[name].values[kept[~active]].tolist() for name in ("system", "finder")), strict=True)
    return kept[active], Counter(names)


def _count(n_inactive: dict[tuple[str, str], int], key: dict[str, str]) -> int:
    return n_inactive.get((key["system"], key["finder"]), 0)


def _scores_by_name(
    comparison: xr.Dataset, kept: np.ndarray, index_name: str, halves_name: str, influence_name: str
) -> dict[tuple[str, ...], ItemScores]:
    """Return the scores of items that are kept and have an index, by system, finder and metric."""
    systems, finders = (comparison[name].values for name in ("system", "finder"))
    index = comparison[index_name].transpose("item", "metric").values
    halves, influence = (
        comparison[name].transpose("metric", ..., "item").values if name in comparison else None
        for name in (halves_name, influence_name)
    )
    stimuli, n_stimuli = _number_top_stimuli(comparison) if influence is not None else (None, 0)
    scores: dict[tuple[str, ...], ItemScores] = {}
    for (system, finder), rows in pd.Series(kept).groupby([systems[kept], finders[kept]], sort=False):
        for i, metric in enumerate(comparison.metric.values.tolist()):
            items = rows.values[np.isfinite(index[rows, i])]
            if halves is None or influence is None or stimuli is None:
                scores[system, finder, metric] = ItemScores(index[items, i], np.full((1, 2, len(items)), np.nan))
                continue
            # Only the difference between two halves matters: each is put as far from 0 as the other.
            of_halves = np.stack([halves[i][:, items] / 2, -halves[i][:, items] / 2], axis=1)
            u = np.bincount(stimuli[items].ravel(), influence[i][:, items].T.ravel(), n_stimuli) / max(1, len(items))
            scores[system, finder, metric] = ItemScores(index[items, i], of_halves, influence=u)
    return scores


def _number_top_stimuli(comparison: xr.Dataset) -> tuple[np.ndarray, int]:
    """Return the number of each top stimulus or its group (item, rank), and how many of these were scored on."""
    if "top_groups" in comparison:
        return comparison.top_groups.transpose("item", "rank").values, comparison.n_stimulus_groups
    labels = comparison.top_stimuli.transpose("item", "rank").values
    numbers, names = pd.factorize(labels.ravel())
    return numbers.reshape(labels.shape), max(len(names), comparison.attrs.get("n_stimuli", 0))


def _test(a: ItemScores, b: ItemScores, by_items: xr.Dataset) -> xr.Dataset:
    """Return the test over stimuli and items, or that over items alone without an index on halves."""
    if np.isnan(a.of_halves).any() or np.isnan(b.of_halves).any():
        return by_items.assign(p_items=by_items.p_value, difference_low=np.nan, difference_high=np.nan)
    sizes = {name: by_items[name] for name in ("cohens_d", "superiority")}
    return compare_mean_index(a, b, CONFIDENCE_LEVEL).assign(sizes | {"p_items": by_items.p_value})


def _as_table(keys: list[dict[str, str]], tests: list[xr.Dataset], varied: Varied) -> xr.Dataset:
    """Return all tests as one Dataset `(test,)`, with adjusted p-values and a sentence for each."""
    columns = {name: np.array([test[name].item() for test in tests]) for name in TESTED}
    adjusted = adjust_p_values(xr.DataArray(columns["p_value"], dims="test"))
    sentences, raw = [], ""
    for key, test, p in zip(keys, tests, adjusted, strict=True):
        name, against, is_raw = key[varied], key["against"], key["correction"] == "none"
        quantity = f"{'' if is_raw else 'hub-corrected '}interpretability by {key['metric']}"
        sentence = test_sentence(test.assign(p_value=p), name, against, quantity)
        sentences.append(f"{key[KEPT[varied]]}: {sentence}{'' if is_raw else raw}{_name_inactive(test, name, against)}")
        # Tests of one pair follow one another, the raw one first; the corrected one mentions it.
        raw = f" Not corrected: difference {float(test.difference):+.3f}, p {_p(float(p))}.".replace(" -", " −")
    attrs = {"n_tests": len(tests), "adjustment": "Benjamini-Hochberg"}
    table = xr.Dataset(
        {name: ("test", values) for name, values in columns.items()}
        | {"p_adjusted": ("test", adjusted.values), "sentence": ("test", sentences)},
        coords={name: ("test", [key[name] for key in keys]) for name in keys[0]},
        attrs=attrs | {"confidence_level": CONFIDENCE_LEVEL},
    )
    return add_attrs(table)


def _name_inactive(test: xr.Dataset, name: str, against: str) -> str:
    """Return a sentence with the numbers of items that were left out, or nothing."""
    n_a, n_b = int(test.n_inactive_a), int(test.n_inactive_b)
    if not n_a + n_b:
        return ""
    return f" Items with too few active stimuli were left out: {n_a} of {name}, {n_b} of {against}."


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
