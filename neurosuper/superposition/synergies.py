"""Synergy: pairs of units whose combination is more interpretable than either unit alone.

R (stimulus, unit) responses, each divided by its standard deviation; z (stimulus, pair) combinations of two units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper.comparison.splits import ScoreOn, fit_and_score_parts
from neurosuper.images import check_images
from neurosuper.inference import adjust_p_values
from neurosuper.interpretability.index import index_label
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import check_averaged, coords_along, name_some
from neurosuper.superposition.index_tables import (
    BLOCK,
    LEADING_PER_TOP,
    IndexTable,
    check_top,
    copies_of,
    leading_places,
    open_table,
)
from neurosuper.superposition.intervals import CONFIDENCE_LEVEL, intervals_of

Combine = Literal["sum", "difference", "product", "and"]
Against = Literal["best", "mean"]
COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "sum": np.add,
    "difference": np.subtract,
    "product": lambda a, b: np.maximum(a, 0) * np.maximum(b, 0),
    "and": np.minimum,
}
REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "best": np.maximum,
    "mean": lambda a, b: (a + b) / 2,
}
N_HALVES = 500  # random halves for intervals: the standard error then varies by about 3 % with the seed
BEST_SHARE = 0.05  # of pairs, by the synergy that was found: the pairs that one would report


class _Leading(NamedTuple):
    """Leading stimuli of units, of pairs of them, and of pairs in which the second unit's stimuli are shuffled."""

    units: np.ndarray
    pairs: np.ndarray
    null_at: np.ndarray  # (draw, 2) positions of the units of shuffled pairs
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
    pairs: Literal["all"] | Sequence[tuple[str, str]] = "all",
    combine: Combine = "sum",
    against: Against = "best",
    top: int = 5,
    score_on: ScoreOn = "held-out",
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
    pairs : "all" or sequence of (str, str), optional
        Labels of units; "all" is each pair once.
    combine : {"sum", "difference", "product", "and"}, optional
        The combination of responses a and b, each divided by its standard deviation: a + b, a − b, max(a, 0) max(b, 0),
        or min(a, b). The last two depend on where 0 is: subtract baselines first.
    against : {"best", "mean"}, optional
        Synergy is the index of the combination minus the larger index of the two units, or minus their mean.
    top : int, optional
        Number of top stimuli, at most half of the stimuli to score on.
    score_on : {"held-out", "all"}, optional
        "all": find and score on all stimuli. Never report the best pairs of such a result (see Notes).
    n_resamples : int, optional
        Number of pairs with shuffled stimuli, for p-values; at least 19.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split, the shuffled pairs, the halves, and the order of stimuli with equal codes.

    Returns
    -------
    Dataset (pair,)
        - `synergy (pair,)`, of the scored stimuli, and `synergy_found`, of the others ("held-out" only);
          `interpretability`, of the combination, `interpretability_a` and `interpretability_b`, of the two units, whose
          labels are the coords `unit_a` and `unit_b`;
        - `p_value (pair,)`, one-sided, against pairs in which the stimuli of one unit are shuffled, and `p_adjusted`
          (Benjamini and Hochberg);
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
        units; too few stimuli; settings out of range.

    See Also
    --------
    between_directions : The index between two directions.
    neurosuper.interpretability_index : The index of each unit.

    Notes
    -----
    Synergy and the index of the units that it is computed from are negatively correlated by arithmetic: an index that
    is low by chance is subtracted. The best pairs where synergy was found are the best by chance: in ResNet-20 the best
    5 % have +0.096, +0.067 and +0.067 in three layers where they are chosen, and +0.016, −0.014 and −0.007 on the other
    half of the stimuli; the correlation with the units' index is −0.46 to −0.49 on the same half, and −0.30, −0.11 and
    +0.02 with that of the other. Report `synergy`, not `synergy_found`.

    In the null model one unit's stimuli are permuted, which keeps the distribution of its responses, and removes what
    it has to do with the images and with the other unit. Null pairs are drawn from all pairs and pooled. A pair with a
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
    check_one_of("against", against, REFERENCES)
    check_one_of("score_on", score_on, ("held-out", "all"))
    check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    images, seed = check_images(images), seed_or_new(random_state)
    # In order of labels, so that neither the order of stimuli nor that of units matters.
    joined = join_images(check_averaged(responses), images).compute().sortby(["stimulus", "unit"])
    fit, score = fit_and_score_parts({"responses": joined}, score_on, seed)["responses"]
    check_top(top, score.sizes["stimulus"])
    at = _positions_of(pairs, score)
    scale = fit.values.std(0, dtype=float)
    settings: dict = {"combine": combine, "top": top, "seed": seed}
    leading = _rank(score, scale, at, n_resamples=n_resamples, **settings)
    table = open_table(score.stimulus.values, images, metric, leading.places())
    found = None
    if score_on == "held-out":
        where_found = _rank(fit, scale, at, n_resamples=0, **settings)
        of_fit = open_table(fit.stimulus.values, images, metric, where_found.places())
        found = _scores(of_fit, where_found, at, against, top)
    result = _summarize(table, leading, at, found, against, top, copies_of(score), seed)
    names = score.unit.values[at]
    coords = {"pair": _name(names), "unit_a": ("pair", names[:, 0]), "unit_b": ("pair", names[:, 1])}
    attrs: dict = {"method": f"{combine} of two units", "metric": metric.name, "quantity": index_label(metric)}
    attrs |= {"combine": combine, "against": against, "top": int(top), "score_on": score_on, "n_stimuli": len(score)}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "n_resamples": int(n_resamples), "random_state": seed}
    labelled = xr.Dataset(result, coords, attrs | left_out(joined))
    return labelled.assign(p_adjusted=adjust_p_values(labelled.p_value))


def _positions_of(pairs: Literal["all"] | Sequence[tuple[str, str]], responses: xr.DataArray) -> np.ndarray:
    """Return the positions of the two units of each pair `(pair, 2)`; those of all pairs in the order of labels."""
    units = responses.get_index("unit")
    if isinstance(pairs, str) and pairs == "all":
        if len(units) < 2:
            raise ValueError("synergy needs at least 2 units that vary, got 1; record or select more")
        return np.stack(np.triu_indices(len(units), 1), axis=1)
    labels = [tuple(pair) for pair in pairs] if not isinstance(pairs, str) else []
    if not labels or any(len(pair) != 2 or pair[0] == pair[1] for pair in labels):
        raise ValueError(
            f"pairs must be 'all' or pairs of two different units, such as [('a', 'b')], got {pairs!r:.80}"
        )
    at = units.get_indexer(np.ravel(labels)).reshape(-1, 2)
    if (at < 0).any():
        unknown = np.array(labels)[at < 0]
        raise ValueError(f"pairs name unit {name_some(unknown)}, but the units that vary are {name_some(units)}")
    if len({frozenset(pair) for pair in labels}) < len(labels):
        raise ValueError("pairs must contain each pair of units once; leave out those that are repeated")
    return at


def _name(pairs: np.ndarray) -> np.ndarray:
    return np.array([f"{a} & {b}" for a, b in pairs.tolist()])


def _rank(
    responses: xr.DataArray,
    scale: np.ndarray,
    at: np.ndarray,
    *,
    combine: str,
    top: int,
    seed: int,
    n_resamples: int,
) -> _Leading:
    """Return the leading stimuli of units and pairs, and the top stimuli of shuffled pairs, if any."""
    n_places = LEADING_PER_TOP * top if n_resamples else top
    scaled = responses / xr.DataArray(scale, dims="unit")
    rows, names = np.ascontiguousarray(scaled.values.T), scaled.unit.values  # (unit, stimulus): units are picked fast
    stimuli, join = coords_along(responses, "stimulus"), COMBINATIONS[combine]

    def block_of(codes: np.ndarray, labels: np.ndarray) -> xr.DataArray:
        return xr.DataArray(codes.T, stimuli | {"pair": labels}, ("stimulus", "pair"))

    def combined() -> Iterator[xr.DataArray]:
        for part in _blocks(at):
            yield block_of(join(rows[part[:, 0]], rows[part[:, 1]]), _name(names[part]))

    units, pairs = leading_places([scaled], n_places, seed), leading_places(combined(), n_places, seed)
    if not n_resamples:
        return _Leading(units, pairs, at[:0], pairs[:0], pairs[:0])
    rng, shuffled_units, shuffled_pairs = np.random.default_rng(seed), [], []
    # Pairs to shuffle: all of them equally often, or as many as there are draws.
    null_at = at[np.resize(rng.permutation(len(at)), n_resamples)]
    for part in _blocks(null_at):
        shuffled = rng.permuted(rows[part[:, 1]], axis=1)
        labels = np.arange(len(part)).astype(str)
        shuffled_units.append(leading_places([block_of(shuffled, labels)], top, seed))
        shuffled_pairs.append(leading_places([block_of(join(rows[part[:, 0]], shuffled), labels)], top, seed))
    return _Leading(units, pairs, null_at, np.concatenate(shuffled_units), np.concatenate(shuffled_pairs))


def _blocks(at: np.ndarray) -> Iterator[np.ndarray]:
    return (at[start : start + BLOCK] for start in range(0, len(at), BLOCK))


class _Scores(NamedTuple):
    """Synergy of pairs, and the index of each combination and of its two units `(pair,)`."""

    synergy: np.ndarray
    pair: np.ndarray
    a: np.ndarray
    b: np.ndarray


def _scores(
    table: IndexTable, leading: _Leading, at: np.ndarray, against: str, top: int, positions: np.ndarray | None = None
) -> _Scores:
    """Return the scores of pairs on the stimuli at some positions."""
    of_units, of_pairs = (table.scores(each, top, positions) for each in (leading.units, leading.pairs))
    a, b = of_units[at].T
    return _Scores(of_pairs - REFERENCES[against](a, b), of_pairs, a, b)


def _null_synergy(table: IndexTable, leading: _Leading, against: str, top: int) -> np.ndarray:
    """Return the synergy of pairs in which the stimuli of the second unit are shuffled, in increasing order."""
    a, b = table.scores(leading.units, top)[leading.null_at[:, 0]], table.scores(leading.shuffled_units, top)
    return np.sort(table.scores(leading.shuffled_pairs, top) - REFERENCES[against](a, b))


def _summarize(
    table: IndexTable,
    leading: _Leading,
    at: np.ndarray,
    found: _Scores | None,
    against: str,
    top: int,
    copies: np.ndarray | None,
    seed: int,
) -> dict[str, tuple]:
    """Return the variables of the result."""
    scores = _scores(table, leading, at, against, top)
    null, n_resamples = _null_synergy(table, leading, against, top), len(leading.null_at)
    # p = (1 + number of draws ≥ synergy) / (1 + number of draws); sums of the same distances differ by rounding
    reached = n_resamples - np.searchsorted(null, scores.synergy - 1e-7 * np.abs(null).max())
    columns = {"synergy": scores.synergy, "interpretability": scores.pair}
    columns |= {"interpretability_a": scores.a, "interpretability_b": scores.b}
    columns |= {"p_value": (1 + reached) / (1 + n_resamples)}
    numbers = {"share_above_null": (null > 0).mean(), "correlation": _correlation(scores)}
    best = None
    if found is not None:
        columns["synergy_found"] = found.synergy
        best = np.argsort(-found.synergy, kind="stable")[: int(np.ceil(BEST_SHARE * len(at)))]
        numbers |= {"found_of_best": found.synergy[best].mean(), "correlation_found": _correlation(found)}

    def statistics(positions: np.ndarray) -> dict[str, float]:
        own = _scores(table, leading, at, against, top, positions).synergy
        means = {"mean_synergy": own.mean(), "share_above": (own > 0).mean()}
        if best is None:
            return means
        return means | {"synergy_of_best": own[best].mean(), "share_above_of_best": (own[best] > 0).mean()}

    settings: dict = {"copies": copies, "n_resamples": N_HALVES, "seed": seed}
    intervals = intervals_of(statistics, len(table.rows), **settings)
    intervals = {
        name: (dims, np.clip(x, 0, 1) if name.startswith("share") else x) for name, (dims, x) in intervals.items()
    }
    return {name: ("pair", values) for name, values in columns.items()} | intervals | numbers


def _correlation(scores: _Scores) -> float:
    """Return the correlation of synergy with the index of the better unit, over pairs."""
    x, y = scores.synergy, np.maximum(scores.a, scores.b)
    return float(np.corrcoef(x, y)[0, 1]) if len(x) > 2 and x.std() > 0 and y.std() > 0 else np.nan
