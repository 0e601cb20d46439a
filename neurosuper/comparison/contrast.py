"""Tests between finders within each system, and between systems by each finder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._checks import Seed
from neurosuper._rounding import decimals_for, format_number, format_p
from neurosuper.comparison.item_scores import count_scored, has_halves, scores_of_items
from neurosuper.comparison.selections import whole_comparison
from neurosuper.comparison.variable_attrs import add_attrs
from neurosuper.inference import adjust_p_values, test_sentence
from neurosuper.inference.effect import standardized_difference, superiority
from neurosuper.inference.permutation import ALPHA, compare_means
from neurosuper.interpretability.sampled_sets import warn_of_few
from neurosuper.interpretability.stimulus_sampling import compare_mean_index
from neurosuper.interpretability.variance_components import ItemScores

Varied = Literal["finder", "system"]
# By system and finder: the names of what these items are tested against, and the kind of reference that each is.
References = Mapping[tuple[str, str], Mapping[str, str]]
BASELINE = "matched baseline"  # a kind of reference; of any other, the kind is its name
KEPT: dict[Varied, Varied] = {"finder": "system", "system": "finder"}  # the coord that is the same in both sets
CORRECTIONS = {"none": "not corrected", "hub": "hub-corrected"}
CONFIDENCE_LEVEL = 0.95
N_RESAMPLES = 9999
TESTED = (
    *("difference", "difference_low", "difference_high", "standard_error", "p_value", "p_items"),
    *("cohens_d", "superiority"),
    *("estimate_a", "estimate_b", "n_a", "n_b", "n_inactive_a", "n_inactive_b"),
)


class NothingToTestError(ValueError):
    """A comparison has no pair of sets to test: a report then has no section of tests, and all other errors pass."""


def contrast_finders(
    comparison: xr.Dataset,
    *,
    against: str | Sequence[str] | None = None,
    include_inactive: bool = False,
    n_resamples: int = N_RESAMPLES,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return tests of the difference in mean index between finders, for every system and metric.

    Each finder is tested against single units, and against its matched baseline: Gaussian directions with the mean and
    covariance of the same prepared responses, which score above units without having found anything (see `compare`).
    Only a finder that scores above both gives evidence of features that it found.

    Intervals and p-values generalise to new stimuli and new items of the same kind: the variance over stimuli is
    estimated from random halves of them (see `index_difference`), with directions held fixed; if the comparison has
    `stimulus_groups`, from halves of these, for new groups. Conclusions are about these recordings only. With several
    seeds, only the first is tested, because seeds share units and stimuli.

    p-values are adjusted (Benjamini and Hochberg 1995) within families: all finders of one system, by one metric and
    one correction, against the same kind of reference: single units, or the matched baselines of the finders. Tests of
    the baselines themselves are families of their own, so that p of a finder does not depend on whether `compare` added
    them. A family is one question, "which finders are above single units in this system by this metric?", and at most
    5 % of its detected differences are expected to be false. They are not adjusted over the systems, metrics,
    corrections and kinds of reference that were also looked at: state beforehand which of these a claim is about (see
    `contrast_hypotheses`), or adjust `p_value` over all tests with `adjust_p_values`.

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
        Coords `system`, `finder`, `against`, `metric`, `correction` ("none" tests the index itself, "hub" the
        hub-corrected index, see `interpretability_index`, if the comparison has it) and `family`, a description of the
        family. `difference` of means (finder − `against`), with `difference_low`, `difference_high` and
        `standard_error`; `p_value` and `p_adjusted`; `detectable`, whether `p_adjusted` is below 0.05, and `n_family`,
        the number of tests that it is adjusted over; `p_items`, of the permutation test over items, which treats the
        stimuli as fixed and is therefore too small if the same images drive many items; `cohens_d` and `superiority`;
        `estimate_a` and `estimate_b` (the means), `n_a` and `n_b` (numbers of items), `n_inactive_a` and `n_inactive_b`
        (items left out, as they have fewer active stimuli than `top`); and `sentence`, ready for a paper, which claims
        a direction if the difference is detectable, and with "hub" mentions the difference of the index itself. If a
        comparison has no index on halves (fewer stimuli than twice `top`, or written by an earlier development
        version), the interval is NaN, the standard error is over items alone, and `p_value` is `p_items`. Systems with
        fewer than two items of either finder are left out. attrs: `n_tests`, `n_families`, `adjustment`,
        `confidence_level`.

    Raises
    ------
    ValueError
        No such finder in the comparison, or nothing to test it against.

    Warns
    -----
    UserWarning
        The system with the fewest stimuli was scored on fewer than 8 times `top`: its intervals may be too narrow (see
        `index_interval`).

    See Also
    --------
    contrast_systems : Systems against one another.
    neurosuper.interpretability.index_difference : One such test, from codes and images.
    neurosuper.inference.permutation_test : The test of `p_items`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> index, finders = np.linspace(-0.8, -0.4, 60)[:, None], ["Units"] * 30 + ["KMeans"] * 30
    >>> comparison = xr.Dataset({"interpretability": (("item", "metric"), index)}, {
    ...     "system": ("item", ["V4"] * 60), "finder": ("item", finders), "metric": ["LPIPS"]})
    >>> tests = contrast_finders(comparison)
    >>> tests.finder.item(), tests.against.item(), bool(tests.p_adjusted[0] < 0.001)
    ('KMeans', 'Units', True)
    """
    comparison = whole_comparison(comparison)
    references = _references(comparison, "finder", against)
    return contrast_pairs(comparison, "finder", references, include_inactive, n_resamples, random_state)


def contrast_systems(
    comparison: xr.Dataset,
    *,
    against: str | Sequence[str] | None = None,
    include_inactive: bool = False,
    n_resamples: int = N_RESAMPLES,
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
        As from `contrast_finders`; `difference` is that of means (system − `against`). A family is all systems with one
        finder, by one metric and one correction, against the same system. Finders with fewer than two items in either
        system are left out.

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
    >>> import numpy as np, xarray as xr
    >>> index, systems = np.linspace(-0.8, -0.4, 60)[:, None], ["V4"] * 30 + ["net"] * 30
    >>> comparison = xr.Dataset({"interpretability": (("item", "metric"), index)}, {
    ...     "system": ("item", systems), "finder": ("item", ["KMeans"] * 60), "metric": ["LPIPS"]})
    >>> contrast_systems(comparison, n_resamples=999).sentence.item()[:76]
    'KMeans: net (n = 30, mean −0.498) scored higher in interpretability by LPIPS'
    """
    comparison = whole_comparison(comparison)
    references = _references(comparison, "system", against)
    return contrast_pairs(comparison, "system", references, include_inactive, n_resamples, random_state)


def name_contrasts(comparison: xr.Dataset, varied: Varied) -> list[dict[str, str]]:
    """Return what `contrast_finders` (or `contrast_systems`) tests: finder, system, reference and more of each."""
    comparison = whole_comparison(comparison)
    scores, _ = scores_of_items(comparison, False)
    return _pairs_to_test(comparison, varied, _references(comparison, varied, None), scores)[0]


def _references(comparison: xr.Dataset, varied: Varied, against: str | Sequence[str] | None) -> References:
    """Return what each finder (or system) is tested against: those named, or the default."""
    if against is not None:
        return _named(comparison, varied, against)
    if varied == "finder":
        return units_and_baselines(comparison)
    return _named(comparison, varied, str(comparison.system.values[0]))


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
    return {key: {name: name for name in others[key[0] if varied == "system" else key[1]]} for key in keys}


def units_and_baselines(comparison: xr.Dataset) -> References:
    """Return what each finder is tested against by default, in each system: units, and its matched baseline."""
    known = _names(comparison, "finder")
    keys = list(zip(*(comparison[name].values.tolist() for name in ("system", "finder")), strict=True))
    of_items = comparison.baseline.values.tolist() if "baseline" in comparison.coords else [""] * len(keys)
    baselines = dict(zip(keys, of_items, strict=True))
    references = {
        key: {name: kind for name, kind in kinds.items() if name in known and name != key[1]}
        for key, kinds in ((key, {"Units": "Units", name: BASELINE}) for key, name in baselines.items())
    }
    if not {"Units", *baselines.values()} & set(known):
        raise NothingToTestError(
            f"neither units nor a matched baseline to test against in the comparison; name one of {', '.join(known)} "
            "as `against`"
        )
    return references


def kind_of_reference(against: str, family: str) -> str:
    """Return the kind of the reference of a test of finders: "matched baseline", or the name of the reference."""
    return against if family.endswith(f", against {against}") else BASELINE


def contrast_pairs(
    comparison: xr.Dataset,
    varied: Varied,
    references: References,
    include_inactive: bool = False,
    n_resamples: int | None = None,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Test each finder (or system) against its references, with the system (or finder) and the metric the same.

    Without `n_resamples`, `p_items` is NaN where stimuli are a sample too: permutations take most of the time.
    """
    scores, n_inactive = scores_of_items(comparison, include_inactive)
    keys, pairs = _pairs_to_test(comparison, varied, references, scores)
    if counts := _count_tested(comparison, keys, varied):
        smallest = min(counts, key=lambda system: counts[system])
        warn_of_few(counts[smallest], comparison.top, smallest)
    tests = _test_all(pairs, n_resamples, random_state)
    grouped = {"n_stimulus_groups": pairs[0][0].n_stimuli} if "stimulus_groups" in comparison.attrs else {}
    tests = [
        test.assign_attrs(grouped).assign(
            n_inactive_a=_count(n_inactive, key), n_inactive_b=_count(n_inactive, key | {varied: key["against"]})
        )
        for test, key in zip(tests, keys, strict=True)
    ]
    return _as_table(keys, tests, varied)


def _pairs_to_test(
    comparison: xr.Dataset,
    varied: Varied,
    references: References,
    scores: Mapping[str, Mapping[tuple[str, ...], ItemScores]],
) -> tuple[list[dict[str, str]], list[tuple[ItemScores, ItemScores]]]:
    """Return which tests there are, with the family of each, and the two sets of scores of each."""
    keys, pairs, baselines = [], [], _matched_baselines(comparison)
    names = (_names(comparison, "system"), comparison.metric.values.tolist(), _names(comparison, "finder"))
    for system, metric, finder in product(*names):
        for (against, kind), correction in product(references.get((system, finder), {}).items(), scores):
            key = {"system": system, "finder": finder, "metric": metric}
            a, b = (scores[correction].get(tuple(of_set.values())) for of_set in (key, key | {varied: against}))
            if a and b and min(a.n, b.n) > 1:
                subject = "baseline" if varied == "finder" and (system, finder) in baselines else varied
                within = f"{'in' if varied == 'finder' else 'with'} {key[KEPT[varied]]} by {metric}"
                family = f"{subject}s {within}, {CORRECTIONS[correction]}, against {kind}"
                keys.append(key | {"against": against, "correction": correction, "family": family})
                pairs.append((a, b))
    if not pairs:
        raise NothingToTestError(
            f"nothing to test: no {KEPT[varied]} has two items each of two {varied}s that are to be compared"
        )
    return keys, pairs


def _count_tested(comparison: xr.Dataset, keys: Sequence[Mapping[str, str]], varied: Varied) -> dict[str, int]:
    """Return how many stimuli each tested system was scored on, as far as the comparison says so."""
    tested = {key["system"] for key in keys} | ({key["against"] for key in keys} if varied == "system" else set())
    known = count_scored(comparison, groups=False) if "top" in comparison.attrs else {}
    return {system: n for system, n in known.items() if system in tested}


def _matched_baselines(comparison: xr.Dataset) -> set[tuple[str, str]]:
    """Return the finders that are the matched baseline of another, with the system."""
    if "baseline" not in comparison.coords:
        return set()
    names = zip(comparison.system.values.tolist(), comparison.baseline.values.tolist(), strict=True)
    return {(system, name) for system, name in names if name}


def _count(n_inactive: dict[tuple[str, str], int], key: dict[str, str]) -> int:
    return n_inactive.get((key["system"], key["finder"]), 0)


def _test_all(
    pairs: Sequence[tuple[ItemScores, ItemScores]], n_resamples: int | None, random_state: Seed
) -> list[xr.Dataset]:
    """Return tests over stimuli and items, with `p_items` as their p where the index on halves is not known."""
    permuted = [i for i, pair in enumerate(pairs) if n_resamples is not None or not has_halves(*pair)]
    scores = [(pairs[i][0].scores, pairs[i][1].scores) for i in permuted]
    n_resamples = N_RESAMPLES if n_resamples is None else n_resamples
    found = compare_means(scores, n_resamples=n_resamples, random_state=random_state)
    by_items = dict(zip(permuted, found, strict=True))
    tests = []
    for i, (a, b) in enumerate(pairs):
        p_items = by_items[i].p_value if i in by_items else np.nan
        if has_halves(a, b):
            test = compare_mean_index(a, b, CONFIDENCE_LEVEL)
        else:
            test = by_items[i].assign(difference_low=np.nan, difference_high=np.nan)
        x, y = a.scores, b.scores
        sizes = {"cohens_d": standardized_difference(x, y, False), "superiority": superiority(x, y, False)}
        tests.append(test.assign(sizes | {"p_items": p_items}))
    return tests


def _adjust(p_values: np.ndarray, families: np.ndarray) -> list[xr.DataArray]:
    """Return p adjusted within each family, in the order of `p_values`; the attrs of each have the number of tests."""
    adjusted = [xr.DataArray(np.nan)] * len(p_values)
    for name in np.unique(families):
        positions = np.flatnonzero(families == name)
        of_family = adjust_p_values(xr.DataArray(p_values[positions], dims="test"))
        for i, p in zip(positions, of_family, strict=True):
            adjusted[i] = p
    return adjusted


def _as_table(keys: list[dict[str, str]], tests: list[xr.Dataset], varied: Varied) -> xr.Dataset:
    """Return all tests as one Dataset `(test,)`, with p-values adjusted within families and a sentence for each."""
    columns = {name: np.array([test[name].item() for test in tests]) for name in TESTED}
    families = np.array([key["family"] for key in keys])
    adjusted = _adjust(columns["p_value"], families)
    p_adjusted = np.array([p.item() for p in adjusted])
    columns |= {"p_adjusted": p_adjusted, "detectable": p_adjusted < ALPHA}
    columns |= {"n_family": np.array([p.attrs["n_tests"] for p in adjusted])}
    sentences, raw = [], ""
    for key, test, p in zip(keys, tests, adjusted, strict=True):
        name, against, is_raw = key[varied], key["against"], key["correction"] == "none"
        quantity = f"{'' if is_raw else 'hub-corrected '}interpretability by {key['metric']}"
        sentence = test_sentence(test.assign(p_value=p), name, against, quantity)
        sentences.append(f"{key[KEPT[varied]]}: {sentence}{'' if is_raw else raw}{_name_inactive(test, name, against)}")
        # Tests of one pair follow one another, the raw one first; the corrected one mentions it.
        difference = test.difference.item()
        decimals = decimals_for(test.standard_error.item(), difference)
        raw = f" Not corrected: difference {format_number(difference, decimals, sign=True)}, "
        raw += f"{'adjusted ' if p.attrs['n_tests'] > 1 else ''}p {format_p(p.item())}."
    attrs: dict = {"n_tests": len(tests), "n_families": len(np.unique(families))}
    attrs |= {"adjustment": "Benjamini-Hochberg within each family", "confidence_level": CONFIDENCE_LEVEL}
    table = xr.Dataset(
        {name: ("test", values) for name, values in columns.items()} | {"sentence": ("test", sentences)},
        coords={name: ("test", [key[name] for key in keys]) for name in keys[0]},
        attrs=attrs,
    )
    return add_attrs(table)


def _name_inactive(test: xr.Dataset, name: str, against: str) -> str:
    """Return a sentence with the numbers of items that were left out, or nothing."""
    n_a, n_b = int(test.n_inactive_a), int(test.n_inactive_b)
    if not n_a + n_b:
        return ""
    return f" Items with too few active stimuli were left out: {n_a} of {name}, {n_b} of {against}."
