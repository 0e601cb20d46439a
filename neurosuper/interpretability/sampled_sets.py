"""Scores of sets of items, on all stimuli and on the same random halves and quarters of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import Seed, seed_or_new
from neurosuper._content import all_stimuli, photographs_of
from neurosuper._joins import LEFT_OUT, join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.corrections import correct_each, describe_correction
from neurosuper.interpretability.group_scores import SampledIndex, groups_of, leading_stimuli, sample_index
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.random_splits import draw_splits, index_of_sets, shown_to, smallest_group
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.interpretability.sampled_floors import floors_of_groups, floors_of_sets
from neurosuper.interpretability.variance_components import ItemScores
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import Distances, open_distances
from neurosuper.responses import name_some, require_varying

N_RESAMPLES = 500  # random halves: the standard error then varies by about 3 % with the seed
STIMULI_PER_TOP = 8  # with fewer stimuli for each top stimulus, v(n/2) may be below v(n), and intervals too narrow
MIN_STIMULUS_GROUPS = 4  # whole groups, two in each half
FLOOR_ENDING = ", above the frequency floor"  # of the axis label
StimulusGroups = str | xr.DataArray | None
SetCorrection = Literal["hub", "floor"] | None


class _Drawn(NamedTuple):
    """Leading stimuli of one set of items, its groups in each draw, and the images to look up."""

    splits: list[np.ndarray]  # (stimulus, draw) each, for halves and quarters
    leading: np.ndarray  # (item, place) positions among the stimuli of the set
    images: np.ndarray  # (item, place) positions of their images
    top: np.ndarray  # (item, rank) positions of the images of its top stimuli


def score_sets(
    sets: Sequence[xr.DataArray],
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int,
    n_resamples: int,
    stimulus_groups: StimulusGroups,
    random_state: Seed,
    correction: SetCorrection = None,
) -> tuple[list[ItemScores], dict]:
    """Return the scores of every set of items, on all stimuli and on the same random splits, and the attrs."""
    if correction not in (None, "hub", "floor"):
        raise ValueError(f"correction must be 'hub', 'floor' or None, got {correction!r}")
    images, seed = check_images(images), seed_or_new(random_state)
    sets = [_check_set(codes, images) for codes in sets]
    stimuli = all_stimuli(sets)
    units, grouped = _number_units(stimuli, stimulus_groups, [*sets, images])
    rng, index = np.random.default_rng(seed), images.get_index("stimulus")
    labels = stimuli.stimulus.values
    shown = shown_to(sets, labels, units)
    splits = [draw_splits(labels, n, n_resamples, rng, units, shown) for n in (2, 4)]
    if units.max() < 7 or min(smallest_group(codes, splits[1]) for codes in sets) < top:
        del splits[1]  # a quarter needs two units of two, and `top` stimuli
    tops = [top_stimuli(codes, top=top, random_state=seed) for codes in sets]
    drawn = [_draw(codes, best, index, splits, top, seed) for codes, best in zip(sets, tops, strict=True)]
    warn_of_few(min(codes.sizes["stimulus"] for codes in sets), top)
    unit_of = pd.Series(units, labels)
    with_units = [(of_set, unit_of[codes.stimulus.values].values) for of_set, codes in zip(drawn, sets, strict=True)]
    scored = [index.get_indexer(codes.stimulus.values) for codes in sets]
    scores = _score(with_units, int(units.max()) + 1, scored, images, metric, top, correction)
    ending, about = describe_correction(None if correction == "floor" else correction, None)
    attrs: dict = {"n_stimuli": len(units)} | ({"n_stimulus_groups": int(units.max()) + 1} if grouped else {})
    attrs |= {"top": int(top), "metric": metric.name, "quantity": index_label(metric) + ending} | about
    if correction == "floor":
        attrs |= {"quantity": index_label(metric) + FLOOR_ENDING, "correction": "floor"}
    for key, of_sets in ((LEFT_OUT, map(left_out, sets)), ("n_items_with_copies", map(copies_among, tops))):
        if any(counts := [of_set.get(key, 0) for of_set in of_sets]):
            attrs[key] = counts if len(counts) > 1 else counts[0]
    attrs |= {"n_resamples": int(n_resamples), "random_state": seed}
    return scores, attrs


def mean_influence(influence: np.ndarray, leading: np.ndarray, units: np.ndarray, n_units: int) -> np.ndarray:
    """Return the change of the mean index `(unit,)` without each unit, from those of items without a top stimulus.

    Parameters
    ----------
    influence : array (item, rank)
        From `sample_index`.
    leading : array (item, place)
        From `leading_stimuli`.
    units : array (stimulus,)
        The number of each stimulus's unit: itself, or its group.
    n_units : int
        Number of units.
    """
    top = leading[:, : influence.shape[1]]
    return np.bincount(units[top.ravel()], influence.ravel(), n_units) / len(influence)


def _draw(
    codes: xr.DataArray, best: xr.DataArray, index: pd.Index, splits: Sequence[xr.DataArray], top: int, seed: int
) -> _Drawn:
    groups = [groups_of(codes, split, top) for split in splits]
    leading = leading_stimuli(codes, groups, top, seed)
    whole = index.get_indexer(best.values.T.ravel()).reshape(-1, top)
    return _Drawn(groups, leading, index.get_indexer(codes.stimulus.values)[leading], whole)


def _score(
    sets: Sequence[tuple[_Drawn, np.ndarray]],
    n_units: int,
    scored: Sequence[np.ndarray],
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    top: int,
    correction: SetCorrection,
) -> list[ItemScores]:
    """Return the scores of each set; `scored` are the positions of all its images."""
    # A hub correction is over all images that were scored; otherwise, only leading images are embedded.
    shown_images = [places.ravel() for drawn, _ in sets for places in (drawn.images, drawn.top)]
    chosen = np.unique(np.concatenate(scored if correction == "hub" else shown_images))
    similarity, found = metric.self_similarity if correction is None else 0.0, []
    with open_distances(images, chosen, metric) as distances:
        own = [np.searchsorted(chosen, places) for places in scored]
        sources = correct_each(distances, distances.as_matrix(), own, "hub" if correction == "hub" else None)
        for (drawn, units), places, (direct, as_matrix) in zip(sets, own, sources, strict=True):
            scores = index_of_sets(direct, np.searchsorted(chosen, drawn.top), similarity)
            shown = np.searchsorted(chosen, drawn.images)
            sampled = sample_index(as_matrix, shown, drawn.leading, drawn.splits, top, similarity)
            if correction == "floor":
                scores, sampled = _subtract_floors(scores, sampled, drawn, places, (direct, as_matrix), len(chosen))
            halves, *quarters = sampled.of_groups
            u = mean_influence(sampled.influence, drawn.leading, units, n_units)
            found.append(ItemScores(scores, halves, quarters[0].mean(-1, dtype=float) if quarters else None, u))
    return found


def _subtract_floors(
    scores: np.ndarray,
    sampled: SampledIndex,
    drawn: _Drawn,
    places: np.ndarray,
    distances: tuple[Distances, Distances],
    n_images: int,
) -> tuple[np.ndarray, SampledIndex]:
    """Return the index less the frequency floor of the same set, on all stimuli and on every group of them.

    `places (stimulus,)` are the positions of images in `distances`, given in both forms.
    """
    direct, as_matrix = distances
    top = drawn.top.shape[1]
    shown = places[drawn.leading[:, : top + 1]]
    floors, terms = floors_of_sets(direct, shown[None, :, :top], n_images)
    of_groups = [
        of_split - floors_of_groups(as_matrix, places, drawn.leading, groups, top, n_images)
        for of_split, groups in zip(sampled.of_groups, drawn.splits, strict=True)
    ]
    # The frequency floor of an item is minus twice the mean of its terms. Without a top stimulus, the next replaces it.
    s = terms[shown, 0]
    return scores - floors[0], SampledIndex(of_groups, sampled.influence + 2 * (s[:, top:] - s[:, :top]) / top)


def _check_set(codes: xr.DataArray, images: xr.DataArray) -> xr.DataArray:
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    if codes.shape[1] < 2:
        raise ValueError(
            f"the variance over items needs at least 2 items, got {codes.shape[1]}; score more units or directions"
        )
    return codes


def _number_units(
    stimuli: xr.DataArray, stimulus_groups: StimulusGroups, arrays: Sequence[xr.DataArray]
) -> tuple[np.ndarray, bool]:
    """Return the number of the unit that each stimulus belongs to, and whether units are groups that the user gave.

    A unit is never divided by a split: a group, or else the stimuli that show one photograph.
    """
    if stimulus_groups is None:
        return photographs_of(stimuli), False
    labels = _labels_of_groups(stimulus_groups, arrays).reindex(stimuli.stimulus.values)
    missing = labels.isna() | (labels.astype(str) == "")
    if missing.any():
        raise ValueError(
            f"no stimulus group for stimulus {name_some(labels.index[missing])}; give each stimulus a group, a single "
            "one its own"
        )
    units, names = pd.factorize(labels)
    if len(names) < MIN_STIMULUS_GROUPS:
        raise ValueError(
            f"{len(names)} stimulus groups are too few to halve; use at least {MIN_STIMULUS_GROUPS}, or leave out "
            "`stimulus_groups` and restrict conclusions to these groups"
        )
    return units, True


def _labels_of_groups(stimulus_groups: str | xr.DataArray, arrays: Sequence[xr.DataArray]) -> pd.Series:
    """Return the label of the group of each stimulus."""
    if isinstance(stimulus_groups, str):
        found = [
            array[stimulus_groups]
            for array in arrays
            if stimulus_groups in array.coords and array[stimulus_groups].dims == ("stimulus",)
        ]
        if not found:
            raise ValueError(
                f"neither codes nor images have a stimulus coord {stimulus_groups!r}; add it with "
                f".assign_coords({stimulus_groups}=('stimulus', labels))"
            )
    elif isinstance(stimulus_groups, xr.DataArray) and stimulus_groups.dims == ("stimulus",):
        found = [stimulus_groups]
    else:
        got = getattr(stimulus_groups, "dims", type(stimulus_groups).__name__)
        raise TypeError(f"stimulus_groups must be the name of a stimulus coord, or a DataArray (stimulus,), got {got}")
    every = pd.concat([pd.Series(each.values, each.stimulus.values.astype(str)) for each in found])
    return every[~every.index.duplicated()]


def warn_of_few(n_stimuli: int, top: int, system: str = "") -> None:
    """Warn if intervals may be too narrow, because the top stimuli are many of all (of a system, if it has a name)."""
    if n_stimuli < STIMULI_PER_TOP * top:
        warnings.warn(
            f"{n_stimuli} stimuli{f' of {system}' if system else ''} are fewer than {STIMULI_PER_TOP} × top = "
            f"{STIMULI_PER_TOP * top}: the interval may be too narrow; lower `top` to at most "
            f"{max(2, n_stimuli // STIMULI_PER_TOP)}, or score on more stimuli",
            stacklevel=4,
        )
