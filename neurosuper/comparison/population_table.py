"""Populations against populations: every measure on units, rotations of them and codes, in one table.

A, B (stimulus, item) responses or codes of two systems; s (pair, items) a measure of their similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Literal, TypeVar

import numpy as np
import xarray as xr
from tqdm import tqdm

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper._threads import blas_threads_for
from neurosuper.comparison.population_items import (
    ROTATION,
    Column,
    item_columns,
    name_finders,
    share_stimuli,
)
from neurosuper.comparison.population_measures import (
    Alignment,
    Dissimilarity,
    Encoding,
    Measure,
    Rotation,
    SoftMatching,
    Twins,
    World,
)
from neurosuper.comparison.provenance import describe_comparison
from neurosuper.comparison.shared_stimuli import shuffle_stimuli_order
from neurosuper.directions import DirectionFinder
from neurosuper.inference import adjust_p_values
from neurosuper.inference.halves import interval_of_subsets
from neurosuper.inference.null_draws import p_of_draws

__all__ = ["compare_populations"]

KINDS: dict[str, Callable[[Column, World], Measure]] = {
    "cka": Alignment,
    "rsa": Dissimilarity,
    "procrustes": Rotation,
    "encoding": Encoding,
    "encoding back": partial(Encoding, back=True),
    "twins": Twins,
    "twins back": partial(Twins, back=True),
    "soft matching": SoftMatching,
}
QUANTITIES = {
    "cka": "debiased CKA",
    "rsa": "rho-a of squared Euclidean distances",
    "procrustes": "cosine after rotation, held out",
    "encoding": "mean correlation of units of b with predictions from items of a, held out",
    "encoding back": "mean correlation of units of a with predictions from items of b, held out",
    "twins": "median correlation of items of a with their best partners in b, held out",
    "twins back": "median correlation of items of b with their best partners in a, held out",
    "soft matching": "correlation under the best soft match, held out",
}
TURN_FREE = {"cka", "rsa", "procrustes"}  # of squared distances and products, which no rotation changes
LEAST = {
    "cka": 8,
    "rsa": 8,
    "procrustes": 30,
    "encoding": 40,
    "encoding back": 40,
    "twins": 10,
    "twins back": 10,
    "soft matching": 10,
}
SCORES = ("estimate", "gain", "matched", "gain_over_matched")
CONFIDENCE_LEVEL = 0.95
Thing = TypeVar("Thing")


def compare_populations(
    systems: Mapping[str, xr.DataArray],
    finders: Sequence[DirectionFinder] | Mapping[str, DirectionFinder],
    *,
    measures: Sequence[str] = ("cka", "rsa", "encoding", "twins"),
    pairs: Iterable[tuple[str, str]] | None = None,
    remove: Literal["common", "none"] = "common",
    stimulus_groups: str | None = None,
    n_rotations: int = 5,
    n_permutations: int = 199,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how similar pairs of systems are in their units, and in the codes of directions, with the gain of these.

    Single units of populations in superposition mix features, and may be less similar than the features are. Whether
    directions undo that is the `gain` over units, on the same stimuli. Two controls say what of a gain is found, not
    given: random rotations of the units, and units brought to as many columns as there are directions.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
        Responses, averaged over repetitions, two systems or more. Only stimuli that all of them share are used; they
        are divided once: directions are found and partners chosen on one half (the coord `split`, where a system has
        it, says which), and every measure is of the other.
    finders : sequence or mapping of name to finder
        Left untouched: each system gets a fresh copy. In a sequence, a finder is named by its class. An empty one
        compares units and rotations only.
    measures : sequence of str, optional
        "cka", debiased; "rsa", rho-a of squared Euclidean distances; "procrustes"; "encoding", how well items of the
        first system of a pair predict *units* of the second (the same for all items), and "encoding back" the other way
        round; "twins", the median correlation of items of the first with their best partners among those of the second,
        and "twins back"; "soft matching", the correlation of all items under the best coupling of both systems, which
        takes minutes for thousands of items. Partners and couplings are those of the stimuli to fit on. Encoding needs
        himalaya.
    pairs : sequence of (str, str), optional
        Names of two systems. None: all pairs, in the order of systems.
    remove : {"common", "none"}, optional
        Of twins and soft matching: what is taken off the codes first (see `twins`).
    stimulus_groups : str, optional
        A stimulus coord of all systems, of stimuli that are not independent: whole groups are to fit on or to score on,
        in a fold, and in a half for intervals, and change places whole, with others of the same size, for p.
    n_rotations : int, optional
        Number of random rotations of the units of each system, and of selections or expansions of them that match the
        number of directions; measures are averaged over them.
    n_permutations : int, optional
        Number of times that the stimuli of the second system are shuffled, at least 19.
    n_resamples : int, optional
        Number of random halves of the stimuli for intervals, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split, rotations, folds, permutations and halves. Finders have their own.

    Returns
    -------
    Dataset (pair, items, measure)
        `pair` is "a | b", with the coords `system_a` and `system_b`; `items` are "units", "rotation" and the names of
        finders; `measure` has the coord `quantity`. Each of these has an interval for other stimuli (`estimate_low`,
        `estimate_high`, and so on), of the same directions and partners:

        - `estimate`, the measure;
        - `gain`, `estimate` minus that of units: on the same stimuli, and so with a smaller interval than either;
        - `matched`, the measure of as many columns as there are directions that nothing was learned for: units if the
          numbers are equal, random ones of them if there are fewer directions, and otherwise random expansions
          max(0, z W) of z-scored units z with normal weights W; and `gain_over_matched`, `estimate` minus that.

        `p_value`, one-sided, of `estimate` against shuffled stimuli, and `p_adjusted` over the table (Benjamini and
        Hochberg). `n_items_a` and `n_items_b (pair, items)`: items that vary on both halves. attrs: `method`,
        `n_stimuli` (scored), `n_fit`, `confidence_level`, `provenance` (settings of finders and versions), and the
        settings.

    Raises
    ------
    ImportError
        Encoding without himalaya; soft matching of different numbers of items without POT.
    TypeError
        Systems are not a mapping, a name is not a str, or an object is not a finder.
    ValueError
        Fewer than two systems, or pairs of other names; too few stimuli that all systems share (16 for CKA, up to 80
        for encoding), or copies of one photograph among them; responses that break the contract; a finder named "units"
        or "rotation", or all of whose directions are constant; settings out of range.

    See Also
    --------
    cka, rsa, procrustes, encode, twins : The measures, each with more settings.
    compare : Interpretability of the items, in place of similarity.
    neurosuper.superposition.soft_matching : One-to-one similarity of units, with privileged axes.

    Notes
    -----
    Responses are compared as they are: z-score units first (`normalize`) if those of large variance should not dominate
    distances and products. "cka", "rsa" and "procrustes" do not depend on axes: rotations are equal to units there.
    Rotated units and expansions are of z-scored units, as twins and encoding z-score items themselves.

    Permutations leave directions, partners and encoding models as they are, except those of "procrustes"; predictions
    of encoding are shuffled within folds. Encoding predicts units, not codes, because the codes of two finders differ
    in how well anything predicts them.

    References
    ----------
    Longon, Klindt and Khosla 2025, "Superposition disentanglement of neural representations reveals hidden alignment",
    arXiv 2510.03186.

    Examples
    --------
    >>> import neurosuper as ns
    >>> from neurosuper.demo.superposed import superposed
    >>> world = superposed(n_features=6, n_units=12, n_stimuli=200)
    >>> noisy = world.response + superposed(6, 12, 200, random_state=1).response.values  # other features are added
    >>> found = compare_populations({"a": world.response, "b": noisy}, [ns.PCA(6)], measures=["cka"], n_permutations=19)
    >>> bool(found.estimate.sel(pair="a | b", items="units", measure="cka") > 0.2), float(found.p_value.max())
    (True, 0.05)
    """
    chosen = _check_measures(measures)
    check_one_of("remove", remove, ("common", "none"))
    check_count("n_rotations", n_rotations)
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    check_count("n_resamples", n_resamples, least=0 if n_resamples == 0 else 10)
    seed, named = seed_or_new(random_state), name_finders(finders)
    populations = share_stimuli(systems, max(LEAST[each] for each in chosen), seed, stimulus_groups)
    world = World(populations, _check_pairs(pairs, list(populations)), stimulus_groups, remove, seed)
    columns = list(item_columns(populations, named, n_rotations, seed))
    n_steps = (2 + 2 * bool(n_resamples)) * len(chosen) * len(columns)
    largest = max(len(codes.score) * codes.score.shape[1] for column in columns for codes in column.codes.values())
    with progress(total=n_steps, desc="similarity", unit="step") as bar, blas_threads_for(largest):
        found = [_measure(each, columns, world, n_permutations, n_resamples, bar) for each in chosen]
    table = xr.concat(found, xr.DataArray(chosen, dims="measure", name="measure")).transpose("pair", "items", "measure")
    first, second = zip(*world.pairs, strict=True)
    table = table.assign_coords(
        pair=[f"{a} | {b}" for a, b in world.pairs],
        system_a=("pair", list(first)),
        system_b=("pair", list(second)),
        quantity=("measure", [QUANTITIES[each] for each in chosen]),
    )
    for side, names in (("a", first), ("b", second)):
        table[f"n_items_{side}"] = (("pair", "items"), [_counts(columns, name) for name in names])
    table["p_adjusted"] = adjust_p_values(table.p_value)
    some = next(iter(populations.values()))
    attrs: dict[str, Any] = {"method": "similarity of populations", "quantity": "similarity"}
    attrs |= {"n_stimuli": some.score.sizes["stimulus"], "n_fit": some.fit.sizes["stimulus"], "remove": remove}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    attrs |= {"n_rotations": int(n_rotations), "n_permutations": int(n_permutations), "n_resamples": int(n_resamples)}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "random_state": seed}
    return table.assign_attrs(attrs | {"provenance": describe_comparison(named, {})})


def _check_measures(measures: Sequence[str]) -> list[str]:
    if isinstance(measures, str) or not isinstance(measures, Sequence) or not len(measures):
        raise ValueError(f"measures must be a list of {', '.join(map(repr, KINDS))}, got {measures!r}")
    for each in measures:
        check_one_of("measures", each, KINDS)
    return list(dict.fromkeys(measures))


def _check_pairs(pairs: Iterable[tuple[str, str]] | None, names: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of systems to compare."""
    if pairs is None:
        return list(combinations(names, 2))
    checked = []
    for pair in pairs:
        known = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 and set(pair) <= set(names)
        if not known or pair[0] == pair[1]:
            raise ValueError(f"pairs must be of two of the systems {', '.join(map(repr, names))}; got {pair!r}")
        checked.append((pair[0], pair[1]))
    if not checked or len(set(checked)) < len(checked):
        raise ValueError(f"pairs must be at least one, each listed once; got {checked!r}")
    return checked


def _measure(
    measure: str, columns: Sequence[Column], world: World, n_permutations: int, n_resamples: int, bar: tqdm
) -> xr.Dataset:
    """Return scores, intervals and p of all pairs and items by one measure."""
    used = [column for column in columns if not (measure in TURN_FREE and column.items == ROTATION)]
    items = list(dict.fromkeys(column.items for column in columns))
    own, matched = _weights(used, items, False), _weights(used, items, True)
    prepared = [KINDS[measure](column, world) for column in _counted(used, bar)]

    def evaluate(members: np.ndarray) -> np.ndarray:
        """Return all of SCORES (subset, score, pair, items) of subsets of the stimuli."""
        rows = [np.flatnonzero(row) for row in members]
        values = np.stack([[each.score(part) for part in rows] for each in _counted(prepared, bar)], axis=-1)
        estimate, same_size = values @ own, values @ matched
        return np.stack([estimate, estimate - estimate[..., :1], same_size, estimate - same_size], axis=1)

    n = world.populations[world.pairs[0][0]].score.sizes["stimulus"]
    groups = world.groups(world.pairs[0][0])
    if n_resamples:
        settings: dict[str, Any] = {"n_resamples": n_resamples, "stimulus_groups": groups, "seed": world.seed}
        found = interval_of_subsets(evaluate, n, fall=0.5, confidence_level=CONFIDENCE_LEVEL, **settings)
        scores = {end: found[f"estimate{end}"].values for end in ("", "_low", "_high")}
    else:
        scores = {"": evaluate(np.ones((1, n), bool))[0]}
    rng = np.random.default_rng([world.seed, 1])
    orders = [shuffle_stimuli_order(n, groups, rng) for _ in range(n_permutations)]
    null = np.stack([each.shuffled(orders) for each in _counted(prepared, bar)], axis=-1) @ own
    values = {f"{name}{end}": of_all[i] for i, name in enumerate(SCORES) for end, of_all in scores.items()}
    values["p_value"] = p_of_draws(values["estimate"], null)
    return xr.Dataset({name: (("pair", "items"), each) for name, each in values.items()}, {"items": items})


def _weights(columns: Sequence[Column], items: Sequence[str], is_matched: bool) -> np.ndarray:
    """Return weights (column, items) that average the draws of each kind of items, or of the units that match it."""
    weights = np.zeros((len(columns), len(items)))
    for j, name in enumerate(items):
        own = np.array([column.items == name and column.is_matched == is_matched for column in columns])
        # no draws: no rotation changes the measure, or units are as many as directions
        weights[:, j] = own / own.sum() if own.any() else np.arange(len(columns)) == 0
    return weights


def _counts(columns: Sequence[Column], name: str) -> list[int]:
    """Return the number of items of each kind in a system."""
    sizes = {column.items: column.codes[name].score.shape[1] for column in columns if not column.is_matched}
    return list(sizes.values())


def _counted(things: Iterable[Thing], bar: tqdm) -> Iterator[Thing]:
    """Yield things, with a step of the bar after each."""
    for thing in things:
        yield thing
        bar.update()
