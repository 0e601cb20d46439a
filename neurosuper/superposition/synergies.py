"""Synergy: pairs of units whose combination is more interpretable than either unit alone.

R (stimulus, unit) responses, each divided by its standard deviation; z (stimulus, pair) combinations of two units.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._joins import left_out
from neurosuper.comparison.splits import ScoreOn
from neurosuper.images import check_images
from neurosuper.inference import adjust_p_values
from neurosuper.interpretability.index import index_label
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import coords_along
from neurosuper.superposition.combinations import COMBINATIONS, Combine, Rows, leading_of_combinations
from neurosuper.superposition.halved_stimuli import halve_stimuli, undivided
from neurosuper.superposition.index_tables import (
    IndexTable,
    check_top,
    index_of_top,
    leading_places,
    open_table,
    places_for,
)
from neurosuper.superposition.intervals import CONFIDENCE_LEVEL, intervals_of
from neurosuper.superposition.unit_groups import Pairs, UnitGroups, read_groups

Against = Literal["best", "mean"]
BLOCK = 2048  # pairs whose shuffled responses are in memory at once
PAIRS_SCORED = 1024  # pairs that are scored in all halves at once: 4 MB of scores
N_HALVES = 200  # random halves for intervals: the standard error then varies by about 5 % with the seed
BEST_SHARE = 0.05  # of pairs, by the synergy that was found: the pairs that one would report


class _Leading(NamedTuple):
    """Leading stimuli of units, of combinations of them, and of those in which units but the first are shuffled."""

    units: np.ndarray
    pairs: np.ndarray
    null: UnitGroups  # of shuffled combinations
    shuffled_units: np.ndarray
    shuffled_pairs: np.ndarray

    def places(self) -> list[np.ndarray]:
        """Return the leading stimuli of all items."""
        return [self.units, self.pairs, self.shuffled_units, self.shuffled_pairs]


def synergy(
    responses: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    pairs: Pairs = "all",
    combine: Combine = "sum",
    against: Against = "best",
    top: int = 5,
    score_on: ScoreOn = "held-out",
    stimulus_groups: str | None = None,
    n_resamples: int = 9999,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the synergy of pairs of units: how much more interpretable their combination is than either unit.

    Synergy is found on one half of the stimuli, and scored on the other. Two units that each respond to several things
    may together respond to one ("pairs of uninterpretable neurons work together to encode interpretable features").

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        At least two units that vary. With the coord `split`, whose "fit" stimuli are those to find synergy on. Stimuli
        without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    pairs : "all", sequence of (str, str), or DataArray (direction, unit), optional
        Labels of units; "all" is each pair once. Or directions with 2 to 32 weights that are not 0, such as
        `sparsify(directions, 3)[0]`: their codes are compared with the units that have a weight.
    combine : {"sum", "difference", "product", "and"}, optional
        The combination of responses a and b, each divided by its standard deviation: a + b, a − b, max(a, 0) max(b, 0),
        or min(a, b). The last two depend on where 0 is: subtract baselines first.
    against : {"best", "mean"}, optional
        Synergy is the index of the combination minus the largest index of its units, or minus their mean.
    top : int, optional
        Number of top stimuli, at most half of the stimuli to score on.
    score_on : {"held-out", "all"}, optional
        "all": find and score on all stimuli. Never report the best pairs of such a result (see Notes).
    stimulus_groups : str, optional
        A stimulus coord of responses or images, such as bursts of frames: no split or half divides a group, and
        intervals are for other groups.
    n_resamples : int, optional
        Number of pairs with shuffled stimuli, for p-values; at least 19.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split, the shuffled pairs, the halves, and the order of stimuli with equal codes.

    Returns
    -------
    Dataset (pair,)
        - `synergy (pair,)`, of the scored stimuli, and `synergy_found`, of the others ("held-out" only);
          `interpretability`, of the combination; `interpretability_best`, of its best unit; and of pairs also
          `interpretability_a` and `interpretability_b`, of the units in the coords `unit_a` and `unit_b` (of
          directions: the coord `n_units`);
        - `p_value (pair,)`, one-sided, against pairs in which the stimuli of the second unit are shuffled, and
          `p_adjusted` (Benjamini and Hochberg);
        - scalars: `mean_synergy`; `share_above`, the share of pairs with synergy above 0, and `share_above_null`, that
          of shuffled pairs; and `correlation`, over pairs, of synergy with the index of the better unit (NaN below 3
          pairs);
        - scalars of "held-out": `correlation_found`; and of the 5 % of pairs with the largest `synergy_found`,
          `synergy_of_best`, their mean on the scored stimuli, `share_above_of_best`, and `found_of_best`, the mean
          where they were found.

        `mean_synergy`, `share_above`, `synergy_of_best` and `share_above_of_best` have `_low` and `_high`, an interval
        for other stimuli. attrs: `metric`, `quantity`, `n_stimuli` (scored), and the settings.

    Raises
    ------
    TypeError
        Not a DataArray, or not a metric.
    ValueError
        Responses that break the contract or do not vary; fewer than two units; pairs of unknown, equal or repeated
        units; directions with one weight, or many; too few stimuli; settings out of range.

    Warns
    -----
    UserWarning
        Units that do not vary over both halves of the stimuli are left out.

    See Also
    --------
    between_directions : The index between two directions.
    neurosuper.interpretability_index : The index of each unit.

    Notes
    -----
    Synergy and the index of the units that it is computed from are negatively correlated by arithmetic: an index that
    is low by chance is subtracted. The best pairs where synergy was found are the best by chance: in three
    layers of ResNet-20, with 50,000 photographs of CIFAR-10, the best 5 % had 0.067, 0.070 and 0.073 where they were
    chosen, and 0.000, −0.011 and −0.011 on the other half of the stimuli; the correlation with the better unit's index
    was −0.35 to −0.55 where it was found (`benchmarks/superposition_claims.py`). Report `synergy`, not `synergy_found`.

    In the null model the stimuli of the second unit are permuted (of a direction: those of each unit but the one with
    the largest weight), which keeps the distribution of its responses, and removes what it has to do with the images
    and with other units. Null pairs are drawn from all pairs and pooled. A pair with a
    small p is not synergetic if its synergy is below 0: two units that are each interpretable also lose less by being
    combined than shuffled ones.

    References
    ----------
    Klindt, Sanborn, Acosta, Poitevin, Miolane 2023, arXiv 2310.11431 (figure 8; its formula is not public).
    Phipson, Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39 (p-values of random draws).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> from neurosuper.superposition import synergy
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (80, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcd")})
    >>> result = synergy(r, images, Color(), n_resamples=99)
    >>> result.pair.values.tolist()[:3], bool(result.p_adjusted.min() > 0.05)
    (['a & b', 'a & c', 'a & d'], True)
    """
    check_one_of("combine", combine, COMBINATIONS)
    check_one_of("against", against, ("best", "mean"))
    check_one_of("score_on", score_on, ("held-out", "all"))
    check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    images, seed = check_images(images), seed_or_new(random_state)
    fit, score = halve_stimuli(responses, images, score_on, seed, stimulus_groups)
    check_top(top, score.sizes["stimulus"])
    scale = fit.values.std(0, dtype=float)
    groups = read_groups(pairs, score.get_index("unit"), scale)
    are_pairs = not isinstance(pairs, xr.DataArray)
    if not are_pairs and combine != "sum":
        raise ValueError(f"directions are weighted sums, got combine={combine!r}; leave it out, or pass pairs of units")
    settings: dict = {"combine": combine, "top": top, "seed": seed}
    leading = _rank(score, scale, groups, n_resamples=n_resamples, **settings)
    table = open_table(score.stimulus.values, images, metric, leading.places())
    found = None
    if score_on == "held-out":
        where_found = _rank(fit, scale, groups, n_resamples=0, **settings)
        both = np.concatenate([where_found.units, where_found.pairs])
        index = index_of_top(fit.stimulus.values, images, metric, both)
        n_units = len(where_found.units)
        found = _scores(index[:n_units], index[n_units:], groups, against)
    undivided_stimuli = undivided(score, stimulus_groups)
    result = _summarize(table, leading, groups, found, against, top, undivided_stimuli, seed, are_pairs)
    coords = _describe(groups, score.unit.values, are_pairs)
    attrs: dict = {"method": f"{combine} of units", "metric": metric.name, "quantity": index_label(metric)}
    attrs |= {"combine": combine, "against": against, "top": int(top), "score_on": score_on, "n_stimuli": len(score)}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "n_resamples": int(n_resamples), "random_state": seed}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    labelled = xr.Dataset(result, coords, attrs | left_out(score))
    return labelled.assign(p_adjusted=adjust_p_values(labelled.p_value))


def _rank(
    responses: xr.DataArray,
    scale: np.ndarray,
    groups: UnitGroups,
    *,
    combine: str,
    top: int,
    seed: int,
    n_resamples: int,
) -> _Leading:
    """Return the leading stimuli of units and combinations, and the top stimuli of shuffled ones, if any."""
    n_places, stimuli = places_for(top) if n_resamples else top, coords_along(responses, "stimulus")
    scaled = responses / xr.DataArray(scale, dims="unit")
    rows = Rows.of(np.ascontiguousarray(scaled.values.T, dtype=float))  # (unit, stimulus)
    ranked: dict = {"stimuli": stimuli, "seed": seed}
    units = leading_places([scaled], n_places, seed)
    pairs = leading_of_combinations(rows, rows, groups, combine, n_places, **ranked)
    # Combinations to shuffle: all of them equally often, or as many as there are draws.
    rng, shuffled_units, shuffled_pairs = np.random.default_rng(seed), [pairs[:0, :top]], [pairs[:0, :top]]
    null = groups.take(np.resize(rng.permutation(len(groups.labels)), n_resamples))
    n_others = groups.members.shape[1] - 1
    size = max(1, BLOCK // n_others)
    for start in range(0, n_resamples, size):
        part = null.take(slice(start, start + size))
        labels, at = np.arange(len(part.labels)).astype(str), part.members.T[1:]
        shuffled = Rows.of(np.concatenate([rng.permuted(rows.exact[own], axis=1) for own in at]))
        own = np.arange(at.size).reshape(at.shape).T  # (group, member): rows of `shuffled`
        alone = UnitGroups(np.repeat(labels, n_others), own.reshape(-1, 1), np.ones((at.size, 1)))
        shuffled_units.append(leading_of_combinations(shuffled, shuffled, alone, "sum", top, **ranked))
        together = UnitGroups(labels, np.hstack([part.members[:, :1], own]), part.weights)
        shuffled_pairs.append(leading_of_combinations(rows, shuffled, together, combine, top, **ranked))
    return _Leading(units, pairs, null, np.concatenate(shuffled_units), np.concatenate(shuffled_pairs))


class _Scores(NamedTuple):
    """Synergy of combinations, their index `(pair,)`, and that of their units `(pair, member)`."""

    synergy: np.ndarray
    pair: np.ndarray
    units: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """Index of the best unit of each combination."""
        return np.asarray(self.units.max(1))


def _scores(of_units: np.ndarray, of_pairs: np.ndarray, groups: UnitGroups, against: str) -> _Scores:
    """Return the scores of combinations from the index of units (unit,) and of combinations (pair,)."""
    members = of_units[groups.members]
    return _Scores(of_pairs - _reference(members, groups, against), of_pairs, members)


def _null_synergy(table: IndexTable, leading: _Leading, against: str, top: int) -> np.ndarray:
    """Return the synergy of combinations in which all units but the first are shuffled, in increasing order."""
    null = leading.null
    first = table.scores(leading.units, top)[null.members[:, :1]]
    others = table.scores(leading.shuffled_units, top).reshape(len(first), -1)
    # A unit that is only repeated counts as the first, which it repeats.
    members = np.where(null.weights != 0, np.hstack([first, others]), first)
    return np.sort(table.scores(leading.shuffled_pairs, top) - _reference(members, null, against))


def _reference(members: np.ndarray, groups: UnitGroups, against: str) -> np.ndarray:
    """Return the index of the best unit, or the mean index of units (…, pair), of that of each `(…, pair, member)`."""
    if against == "best":
        return np.asarray(members.max(-1))
    n_members = (groups.weights != 0).sum(-1)
    return np.asarray((members * (groups.weights != 0)).sum(-1) / n_members)


def _summarize(
    table: IndexTable,
    leading: _Leading,
    groups: UnitGroups,
    found: _Scores | None,
    against: str,
    top: int,
    stimulus_groups: np.ndarray | None,
    seed: int,
    are_pairs: bool,
) -> dict[str, tuple]:
    """Return the variables of the result."""
    scores = _scores(table.scores(leading.units, top), table.scores(leading.pairs, top), groups, against)
    null = _null_synergy(table, leading, against, top)
    # p = (1 + number of draws ≥ synergy) / (1 + number of draws); sums of the same distances differ by rounding
    reached = len(null) - np.searchsorted(null, scores.synergy - 1e-7 * np.abs(null).max())
    columns = {"synergy": scores.synergy, "interpretability": scores.pair, "interpretability_best": scores.best}
    columns |= {"p_value": (1 + reached) / (1 + len(null))}
    if are_pairs:
        columns |= {"interpretability_a": scores.units[:, 0], "interpretability_b": scores.units[:, 1]}
    numbers = {"share_above_null": (null > 0).mean(), "correlation": _correlation(scores)}
    best, is_best = None, np.zeros(len(scores.pair), bool)
    if found is not None:
        columns["synergy_found"] = found.synergy
        best = np.argsort(-found.synergy, kind="stable")[: int(np.ceil(BEST_SHARE * len(groups.labels)))]
        numbers |= {"found_of_best": found.synergy[best].mean(), "correlation_found": _correlation(found)}
        is_best[best] = True

    def statistics(members: np.ndarray) -> dict[str, np.ndarray]:
        of_units, parts = table.scores_of_subsets(leading.units, top, members), []
        for start in range(0, len(is_best), PAIRS_SCORED):  # sums over some pairs at a time
            part = slice(start, start + PAIRS_SCORED)
            some = groups.take(part)
            own = table.scores_of_subsets(leading.pairs[part], top, members)
            own -= _reference(of_units[:, some.members], some, against)
            own_best = own[:, is_best[part]]
            parts.append([own.sum(1), (own > 0).sum(1), own_best.sum(1), (own_best > 0).sum(1)])
        total, above, total_best, above_best = np.sum(parts, axis=0)
        means = {"mean_synergy": total / len(is_best), "share_above": above / len(is_best)}
        of_best = {"synergy_of_best": total_best, "share_above_of_best": above_best}
        return means | ({} if best is None else {name: total / len(best) for name, total in of_best.items()})

    intervals = intervals_of(statistics, len(table.rows), groups=stimulus_groups, n_resamples=N_HALVES, seed=seed)
    for name, (dims, values) in intervals.items():
        intervals[name] = dims, np.clip(values, 0, 1) if name.startswith("share") else values
    return {name: ("pair", values) for name, values in columns.items()} | intervals | numbers


def _describe(groups: UnitGroups, units: np.ndarray, are_pairs: bool) -> dict[str, object]:
    """Return the coords of combinations."""
    sizes = ("pair", (groups.weights != 0).sum(1))
    if not are_pairs:
        return {"pair": groups.labels, "n_units": sizes}
    a, b = (("pair", units[at]) for at in groups.members.T)
    return {"pair": groups.labels, "unit_a": a, "unit_b": b}


def _correlation(scores: _Scores) -> float:
    """Return the correlation of synergy with the index of the better unit, over pairs."""
    x, y = scores.synergy, scores.best
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 2 and x.std() > 0 and y.std() > 0 else np.nan
