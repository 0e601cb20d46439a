"""What the directions of all other animals predict in one that was left out.

Z (stimulus, item) codes of the others by their directions; Ẑ (stimulus, item) their predictions from the units of the
animal left out, by ridge regression on the stimuli to fit. All scores are of the stimuli to score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats
from sklearn.linear_model import RidgeCV

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import join_images
from neurosuper._progress import progress
from neurosuper.comparison.encoding import ALPHAS, check_penalties
from neurosuper.comparison.fitting import check_finder, fit_finder
from neurosuper.comparison.halved_systems import ceilings, reliability
from neurosuper.comparison.pairings import correlate_columns, standardize
from neurosuper.comparison.populations import concatenate_systems, on_common_stimuli
from neurosuper.comparison.shared_stimuli import refuse_copies
from neurosuper.directions import DirectionFinder
from neurosuper.inference import adjust_p_values, halves_interval
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability import chance_level, interpretability_index, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.repetitions import split_repetitions
from neurosuper.responses import average_repetitions, coords_along, name_some, part_of, split_stimuli

__all__ = ["transfer_top"]

MIN_STIMULI = 10  # of each half
CONFIDENCE_LEVEL = 0.95


class _Animal(NamedTuple):
    """Averages over repetitions, and over halves of them: the averages again where there are no repetitions."""

    average: xr.DataArray  # (stimulus, unit)
    halves: tuple[xr.DataArray, xr.DataArray]
    has_repetitions: bool


class _Transfer(NamedTuple):
    """The codes of the others and their predictions, on the stimuli to score."""

    Z: xr.DataArray  # (stimulus, direction)
    predicted: np.ndarray
    varies: np.ndarray  # (direction,): whether both do
    alpha: np.ndarray  # (direction,)
    reliabilities: tuple[np.ndarray | None, np.ndarray | None]  # (direction,) of both codes; None: no repetitions

    def varying(self) -> tuple[xr.DataArray, np.ndarray]:
        """Return both codes of the directions where these vary."""
        return self.Z[:, self.varies], self.predicted[:, self.varies]


def transfer_top(
    systems: Mapping[str, xr.DataArray],
    finder: DirectionFinder,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    alphas: Sequence[float] = ALPHAS,
    n_permutations: int = 999,
    n_resamples: int = 200,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return, for each animal, how well its units predict the directions that were found in all other animals.

    Leave-one-animal-out: directions are found in the units of the others, side by side; a ridge regression predicts
    their codes from the units of the animal left out. Both are fitted on one half of the stimuli, and scored on the
    other: by correlation, by where the others' top stimuli come in the animal left out, and by how interpretable the
    top stimuli of its own predicted codes are.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit), or (stimulus, repetition, unit)
        Responses of each animal, at least two. They are compared on the stimuli that all have and that have an image.
        With repetitions there is a ceiling. The coord `split` marks stimuli to fit on ("fit") and to score ("score");
        without it, halves are drawn. Bring systems to one scale first (`normalize`) if the finder does not.
    finder : DirectionFinder
        A copy is fitted to each set of others. `SharedSpace` finds what they share, and needs three animals.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        For the interpretability index.
    top : int, optional
        Number of top stimuli of an item, at least 2.
    alphas : sequence of float, optional
        Penalties for z-scored units, above 0; for each item, leave-one-out cross-validation within the stimuli to fit
        chooses one.
    n_permutations : int, optional
        Number of times that the stimuli to score of the animal left out are shuffled, at least 19.
    n_resamples : int, optional
        Number of random halves of the stimuli to score, for intervals, at least 10.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves, of permutations, and of the order of equal codes. The finder has its own.

    Returns
    -------
    Dataset (held_out, item)
        - `r`, the correlation of predictions with the others' codes, with `r_low` and `r_high`; `p_value`, one-sided,
          and `p_adjusted` (Benjamini and Hochberg, over the whole table);
        - `percentile`, the mean percentile of the others' top stimuli among the predicted codes, from 0 to 100 (chance
          is 50), with `percentile_low`, `percentile_high`, `percentile_p_value` and `percentile_p_adjusted`;
        - `interpretability` of the top stimuli of predicted codes, and `interpretability_others` of the others' own;
          `chance_level`, that of random images, with `chance_level_low` and `chance_level_high`, between which 95 % of
          random sets are;
        - with repetitions: `ceiling`, the largest r that the reliabilities of both codes allow, and `r_ceiled`, r
          divided by it (NaN where the ceiling is below 0.1; it may exceed 1);
        - `alpha`, the penalty; the coord `direction (held_out, item)`, the label of the direction.

        Items of one number are other directions for each animal left out; where there are fewer, and for codes that do
        not vary over the stimuli to score, values are NaN. attrs: `n_animals`, the number of systems: there is no p
        over animals, which are too few for one.

    Raises
    ------
    TypeError
        Systems are not a mapping; the finder is not one.
    ValueError
        Fewer than two systems; no common stimuli, or too few of them to halve; copies of one photograph; NaN; units
        that do not vary on one of the halves; settings out of range.

    See Also
    --------
    twins : One item for each item, between two systems.
    encode : Predicts units, not directions.
    SharedSpace : Directions that subjects share.

    Notes
    -----
    The ceiling is √(ρ₁ ρ₂), with ρ the correlation r' of codes of two halves of the repetitions, corrected by Spearman
    and Brown, 2r'/(1 + r'); that of animals without repetitions is 1. The same with `Random` in place of the finder
    says whether these directions are shared more than any others in their space.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, PCA, load_images
    >>> from neurosuper.comparison import transfer_top
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> signal = rng.gamma(1, size=(80, 2))
    >>> def animal():
    ...     values = signal @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(80, 6))
    ...     names = {"stimulus": images.stimulus.values, "unit": list("abcdef")}
    ...     return xr.DataArray(values, names, ("stimulus", "unit"))
    >>> animals = {"M1": animal(), "M2": animal()}
    >>> found = transfer_top(animals, PCA(2), images, Color(device="cpu"), n_permutations=99, n_resamples=10)
    >>> dict(found.r.sizes), bool((found.r > 0.9).all()), bool((found.percentile > 80).all())
    ({'held_out': 2, 'item': 2}, True, True)
    """
    check_finder(finder)
    check_count("top", top, least=2)
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    check_count("n_resamples", n_resamples, least=10)
    penalties, seed = check_penalties(alphas), seed_or_new(random_state)
    animals = _prepare(systems, images, top, seed)
    transfers, tables = {}, {}
    for name in (bar := progress(animals, desc="animals left out", unit="animal", leave=False)):
        bar.set_postfix_str(name)
        transfers[name] = _leave_out(name, animals, finder, penalties)
        tables[name] = _score(transfers[name], top, n_permutations, n_resamples, seed)
    table = _join(transfers, tables)
    for kind in ("", "percentile_"):
        table[f"{kind}p_adjusted"] = adjust_p_values(table[f"{kind}p_value"])
    table = table.assign(_interpretability(transfers, images, metric, top, seed))
    marks = next(iter(animals.values())).average.split.values
    attrs: dict[str, object] = {"method": "leave one animal out, ridge", "quantity": "correlation"}
    attrs |= {"finder": repr(finder), "metric": metric.name, "top": int(top), "n_animals": len(animals)}
    attrs |= {"n_fit": int((marks == "fit").sum()), "n_stimuli": int((marks == "score").sum())}
    attrs |= {"n_permutations": int(n_permutations), "n_resamples": int(n_resamples)}
    return table.assign_attrs(attrs | {"confidence_level": CONFIDENCE_LEVEL, "random_state": seed})


def _prepare(systems: Mapping[str, xr.DataArray], images: xr.DataArray, top: int, seed: int) -> dict[str, _Animal]:
    """Return all systems on their common stimuli, in order of label, which are marked to fit or to score."""
    if isinstance(systems, Mapping) and len(systems) < 2:
        raise ValueError(
            f"at least 2 systems are needed, one to leave out and another to find directions in, got {len(systems)}; "
            "divide an array of several subjects by neurosuper.by_subject"
        )
    systems = on_common_stimuli(systems, repeated=True)
    common = join_images(next(iter(systems.values())), images, "the common stimuli")
    refuse_copies(common)
    common = common.sortby("stimulus")
    least = max(MIN_STIMULI, top)
    if len(common) < 2 * least:
        raise ValueError(
            f"{len(common)} common stimuli with images are too few for a half to fit on and one to score; use at least "
            f"{2 * least}" + (", or lower `top`" if top > MIN_STIMULI else "")
        )
    marks = _marks(systems, common, seed)
    is_fit, is_score = marks == "fit", marks == "score"
    if not (is_fit | is_score).all() or min(is_fit.sum(), is_score.sum()) < least:
        raise ValueError(
            f"{is_fit.sum()} common stimuli to fit on ('fit') and {is_score.sum()} to score ('score') of "
            f"{len(common)}: mark all in the coord `split`, at least {least} each, or remove it by .drop_vars('split')"
        )
    return {
        name: _prepare_one(name, each.sel(stimulus=common.stimulus.values), marks, seed)
        for name, each in systems.items()
    }


def _marks(systems: Mapping[str, xr.DataArray], common: xr.DataArray, seed: int) -> np.ndarray:
    """Return the coord `split` of systems on the common stimuli, or random halves if none has it."""
    known = [
        each.split.sel(stimulus=common.stimulus.values).values.astype(str)
        for each in systems.values()
        if "split" in coords_along(each, "stimulus")
    ]
    if not known:
        return split_stimuli(common.drop_vars("split", errors="ignore"), random_state=seed).split.values
    if any((marks != known[0]).any() for marks in known):
        raise ValueError("systems mark the same stimulus differently in the coord `split`; remove it from all but one")
    return known[0]


def _prepare_one(name: str, responses: xr.DataArray, marks: np.ndarray, seed: int) -> _Animal:
    """Return averages over repetitions, with marks; refuse NaN, and units that do not vary in one half."""
    responses = responses.compute()
    responses = responses.drop_vars([*(coords_along(responses, "stimulus").keys() - {"stimulus"})])
    has_repetitions = "repetition" in responses.dims
    average = average_repetitions(responses)
    halves = split_repetitions(responses, random_state=seed) if has_repetitions else (average, average)
    average, first, second = (
        each.assign_coords(split=("stimulus", marks)).drop_vars("n_repetitions", errors="ignore")
        for each in (average, *halves)
    )
    values = average.values
    if (bad := ~np.isfinite(values).all(axis=0)).any():
        raise ValueError(
            f"system {name!r}: NaN or infinite values in unit {name_some(average.unit.values[bad])}; drop it"
        )
    for part in ("fit", "score"):
        half = values[marks == part]
        if (flat := half.min(axis=0) == half.max(axis=0)).any():
            raise ValueError(
                f"system {name!r}: unit {name_some(average.unit.values[flat])} does not vary over the stimuli to "
                f"{part}; drop it, as neurosuper.responses.drop_constant_units does, or use another split"
            )
    return _Animal(average, (first, second), has_repetitions)


def _leave_out(name: str, animals: Mapping[str, _Animal], finder: DirectionFinder, alphas: np.ndarray) -> _Transfer:
    """Return the codes of all others, by directions found in them, and their predictions from the animal left out."""
    own, others = animals[name], {other: each for other, each in animals.items() if other != name}
    both = concatenate_systems({other: each.average for other, each in others.items()})
    fitted = fit_finder(finder, part_of(both, "fit"), f"the animals other than {name!r}")
    R = part_of(own.average, "fit").values.astype(float)
    mean, scale = R.mean(axis=0), R.std(axis=0)
    target = fitted.transform(part_of(both, "fit")).values.astype(float)
    model = RidgeCV(alphas=alphas, alpha_per_target=True).fit((R - mean) / scale, target)

    def predict(responses: xr.DataArray) -> np.ndarray:
        return model.predict((part_of(responses, "score").values - mean) / scale).reshape(-1, target.shape[1])

    def code(part: int) -> np.ndarray:
        halves = concatenate_systems({other: each.halves[part] for other, each in others.items()})
        return fitted.transform(part_of(halves, "score")).values.astype(float)

    Z = fitted.transform(part_of(both, "score"))
    of_others = reliability(code(0), code(1)) if any(each.has_repetitions for each in others.values()) else None
    of_own = reliability(*map(predict, own.halves)) if own.has_repetitions else None
    predicted, alpha = predict(own.average), np.broadcast_to(model.alpha_, Z.shape[1])
    varies = (np.ptp(Z.values, axis=0) > 0) & (np.ptp(target, axis=0) > 0)
    if not varies.any():
        raise ValueError(f"no direction of the animals other than {name!r} varies over the stimuli; change the finder")
    return _Transfer(Z.astype(float).rename({Z.dims[1]: "direction"}), predicted, varies, alpha, (of_others, of_own))


def _score(transfer: _Transfer, top: int, n_permutations: int, n_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return all scores but those by images, of each item; NaN where codes do not vary."""
    codes, predicted = transfer.varying()
    Z, n, items = codes.values, len(codes), np.arange(codes.shape[1])
    labels = top_stimuli(codes, top=top, random_state=seed).values
    chosen = codes.indexes["stimulus"].get_indexer(labels.ravel()).reshape(labels.shape)
    percentiles = _percentiles(predicted)
    observed = np.stack([correlate_columns(predicted, Z), percentiles[chosen, items].mean(axis=0)])

    def of_some(rows: np.ndarray) -> np.ndarray:
        # of a half, the same share are top stimuli
        first = np.argsort(-Z[rows], axis=0, kind="stable")[: max(1, round(top * len(rows) / n))]
        own = predicted[rows]
        return np.stack([correlate_columns(own, Z[rows]), _percentiles(own)[first, items].mean(axis=0)])

    found = halves_interval(of_some, n, n_resamples=n_resamples, random_state=seed)
    margin = (found.estimate_high - found.estimate_low).values / 2
    rng, own, theirs = np.random.default_rng([seed, 1]), standardize(predicted), standardize(Z)
    draws = []
    for _ in progress(range(n_permutations), desc="permutations", unit="draw", leave=False):
        order = rng.permutation(n)
        draws.append([np.einsum("si,si->i", own[order], theirs), percentiles[order[chosen], items].mean(axis=0)])
    p = p_of_draws(observed, np.array(draws))
    columns = {"r": observed[0], "p_value": p[0], "percentile": observed[1], "percentile_p_value": p[1]}
    for row, (name, least, most) in enumerate((("r", -1, 1), ("percentile", 0, 100))):
        columns[f"{name}_low"] = np.maximum(observed[row] - margin[row], least)
        columns[f"{name}_high"] = np.minimum(observed[row] + margin[row], most)
    columns["alpha"] = transfer.alpha[transfer.varies]
    if any(each is not None for each in transfer.reliabilities):
        of_others, of_own = (None if each is None else each[transfer.varies] for each in transfer.reliabilities)
        columns["ceiling"], columns["r_ceiled"] = ceilings(of_others, of_own, observed[0])
    return columns


def _percentiles(codes: np.ndarray) -> np.ndarray:
    """Return the percentile of each code among those of its item, from 0 to 100 with a mean of 50."""
    return 100 * (stats.rankdata(codes, axis=0) - 0.5) / len(codes)


def _join(transfers: Mapping[str, _Transfer], tables: Mapping[str, dict[str, np.ndarray]]) -> xr.Dataset:
    """Return the scores of all animals, with NaN for items that some do not have, and the labels of directions."""
    shape = len(transfers), max(each.Z.shape[1] for each in transfers.values())
    labels = np.full(shape, "", object)
    columns = {name: np.full(shape, np.nan) for table in tables.values() for name in table}
    for row, (transfer, table) in enumerate(zip(transfers.values(), tables.values(), strict=True)):
        labels[row, : transfer.Z.shape[1]] = transfer.Z.direction.values
        for name, values in table.items():
            columns[name][row, np.flatnonzero(transfer.varies)] = values
    dims = ("held_out", "item")
    coords = {"held_out": list(transfers), "item": np.arange(shape[1]), "direction": (dims, labels.astype(str))}
    return xr.Dataset({name: (dims, values) for name, values in columns.items()}, coords)


def _interpretability(
    transfers: Mapping[str, _Transfer],
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    top: int,
    seed: int,
) -> dict[str, Any]:
    """Return the index of the top stimuli of both codes of all items, from one pass over the images, and chance."""
    names = ("interpretability", "interpretability_others")
    parts = []
    for name, transfer in transfers.items():
        codes, predicted = transfer.varying()
        for kind, values in zip(names, (predicted, codes.values), strict=True):
            labels = [f"{kind} {name} {label}" for label in codes.direction.values]
            parts.append(xr.DataArray(values, {"stimulus": codes.stimulus.values, "direction": labels}))
    scores = interpretability_index(xr.concat(parts, "direction"), images, metric, top=top, random_state=seed).values
    shape = len(transfers), max(each.Z.shape[1] for each in transfers.values())
    columns = {name: np.full(shape, np.nan) for name in names}
    start = 0
    for row, transfer in enumerate(transfers.values()):
        places = np.flatnonzero(transfer.varies)
        for name in names:
            columns[name][row, places] = scores[start : start + len(places)]
            start += len(places)
    scored = images.sel(stimulus=parts[0].stimulus.values)
    chance = chance_level(scored, metric, top=top, random_state=seed)
    ends = {f"chance_level{end}": float(chance[f"interpretability{end}"]) for end in ("", "_low", "_high")}
    return {name: (("held_out", "item"), values) for name, values in columns.items()} | ends
