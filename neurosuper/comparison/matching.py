"""Twins: the items of one system that respond to the same stimuli as items of another.

A, B (stimulus, item) z-scored responses or codes of two systems; C (item of A, item of B) their correlations over the
stimuli to match on. r is the correlation of an item with its partner over other stimuli.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from scipy import stats
from scipy.optimize import linear_sum_assignment

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.shared_stimuli import common_systems, groups_of
from neurosuper.inference import adjust_p_values
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.repetitions import split_repetitions
from neurosuper.responses import coords_along, name_some, split_stimuli

__all__ = ["twins"]

Match = Literal["best", "one-to-one", "mutual"]
Remove = Literal["common", "none"]
MIN_STIMULI = 10  # of each half
MIN_CEILING = 0.1  # below, r divided by it is noise
CONFIDENCE_LEVEL = 0.95


class _Half(NamedTuple):
    """A system on the stimuli to match on, and on those to score."""

    fit: np.ndarray  # (stimulus, item)
    score: np.ndarray


class _Learned(NamedTuple):
    """What is taken off the codes of a system, learned on the stimuli to match on."""

    mean: np.ndarray  # (item,)
    scale: np.ndarray
    common: np.ndarray | None  # (item,), of unit length

    def apply(self, X: np.ndarray) -> np.ndarray:
        Z = (X - self.mean) / self.scale
        return Z if self.common is None else Z - np.outer(Z @ self.common, self.common)


def twins(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    match: Match = "best",
    remove: Remove = "common",
    signed: bool = False,
    blocks: str | None = None,
    n_permutations: int = 999,
    n_rotations: int = 20,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return, for each item of a system, the item of another that responds to the same stimuli, and how well it does.

    Partners are chosen on one half of the stimuli, and scored on the other. Two controls are part of the result: what
    all items of a system share, such as contrast, is taken off first, and the same is done with random rotations of
    `a`. Without them every brain has twins in every network.

    Parameters
    ----------
    a, b : DataArray (stimulus, item), or (stimulus, repetition, item)
        Responses or codes; stimuli are matched by label. With repetitions (none may be missing) there is a ceiling.
        The coord `split` of `a` marks stimuli to match on ("fit") and to score ("score"); without it, halves are drawn.
    match : {"best", "one-to-one", "mutual"}, optional
        "best": the partner with the largest correlation; several items may share it. "one-to-one": no two items share
        one, and the mean correlation is as large as it can be. "mutual": only items that are each other's best.
    remove : {"common", "none"}, optional
        "common": the first principal component of the z-scored codes of each system is taken off.
    signed : bool, optional
        Match by the absolute correlation; `r` is positive if the sign is the same on both halves.
    blocks : str, optional
        A stimulus coord of `a`, such as "category": stimuli are shuffled within it, and so p is for what a partner
        shares beyond categories.
    n_permutations : int, optional
        Number of times that the stimuli to score of `b` are shuffled, at least 19; partners stay.
    n_rotations : int, optional
        Number of random rotations of `a`, at least 1, each with partners of its own; 0 draws none.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves, permutations and rotations.

    Returns
    -------
    Dataset (item_a)
        - `partner`, the label of an item of `b` ("" for none: the other variables are then NaN); `r`, their correlation
          on the stimuli to score, with `r_low` and `r_high` (Fisher's z); `r_matched`, that on the others; `second`, r
          of the next best item; `n_sharing`, the number of items with this partner;
        - with repetitions: `ceiling`, the largest r that the reliabilities of both allow, and `r_ceiled`, r divided by
          it (NaN where the ceiling is below 0.1; it may exceed 1);
        - `p_value`, one-sided, and `p_adjusted` (Benjamini and Hochberg);
        - scalars: `median_r`; `rotated (rotation)`, the median of each rotation; `p_rotated`, the share of medians at
          least as large as `median_r`, counting it as one; `p_any`, the test of the largest r.

    Raises
    ------
    ValueError
        Fewer than 20 common stimuli, or copies of one photograph among them; NaN; items that do not vary on one of the
        halves; a system of one item, with `remove="common"`; settings out of range.

    See Also
    --------
    neurosuper.superposition.soft_matching : One score for all items, by soft matches.
    cka : Similarity of the systems as wholes.

    Notes
    -----
    The ceiling of two items is √(ρ₁ ρ₂), where ρ is the correlation of two halves of the repetitions on the stimuli to
    score, r', corrected by Spearman and Brown, 2r'/(1 + r'); that of an item without repetitions is 1. The
    permutation test is exact for items that are independent of their partners on the stimuli to score.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> a = xr.DataArray(rng.normal(size=(80, 5)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(80).astype(str), "unit": list("abcde")})
    >>> b = a[:, ::-1].assign_coords(unit=list("vwxyz")) + 0.3 * rng.normal(size=(80, 5))
    >>> found = twins(a, b, n_permutations=99, n_rotations=19)
    >>> found.partner.values.tolist(), bool((found.p_adjusted < 0.05).all()), float(found.p_rotated)
    (['z', 'y', 'x', 'w', 'v'], True, 0.05)
    """
    check_one_of("match", match, get_args(Match))
    check_one_of("remove", remove, get_args(Remove))
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    check_count("n_rotations", n_rotations, least=0)
    seed = seed_or_new(random_state)
    a, b = common_systems(a, b, 2 * MIN_STIMULI, repeated=True)
    is_fit = _fit_stimuli(a, seed)
    systems = [_Prepared.of(each, is_fit, remove, seed) for each in (a, b)]
    A, B = (each.half for each in systems)
    C = _correlate(A.fit, B.fit)
    partner, second = _choose(np.abs(C) if signed else C, match)
    sign = np.where(signed & (C[np.arange(len(C)), partner] < 0), -1.0, 1.0)
    has, rows = partner >= 0, np.arange(len(C))
    own, theirs = A.score * sign, B.score[:, partner]
    r = np.where(has, _correlate_columns(own, theirs), np.nan)
    columns: dict[str, Any] = {"partner": np.where(has, b[b.dims[-1]].values[partner], ""), "r": r}
    z, margin = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)), stats.norm.isf(0.025) / np.sqrt(len(own) - 3)
    columns |= {"r_low": np.tanh(z - margin), "r_high": np.tanh(z + margin)}
    columns["r_matched"] = np.where(has, C[rows, partner] * sign, np.nan)
    columns["second"] = _second(A, B, C, second, has, signed)
    columns["n_sharing"] = np.where(has, (partner[:, None] == partner).sum(axis=1), 0)
    if any(each.reliability is not None for each in systems):
        columns |= _ceilings(systems, partner, r)
    groups = None if blocks is None else groups_of(a, blocks)[~is_fit]
    p, p_any = _test(own, theirs, r, groups, n_permutations, seed)
    columns["p_value"] = p
    table = xr.Dataset({name: ("item_a", values) for name, values in columns.items()}, _labels(a))
    table["p_adjusted"] = adjust_p_values(table.p_value)
    scalars: dict[str, Any] = {"p_any": p_any, "median_r": np.nanmedian(r) if has.any() else np.nan}
    if n_rotations:
        rotated = _rotate(A, B, match, signed, n_rotations, seed)
        scalars |= {"rotated": ("rotation", rotated)}
        scalars["p_rotated"] = float(p_of_draws(scalars["median_r"], rotated)) if has.any() else np.nan
    attrs: dict[str, object] = {
        "method": f"twins, {match}",
        "quantity": "correlation",
        "match": match,
        "remove": remove,
    }
    attrs |= {"signed": int(signed), "n_fit": int(is_fit.sum()), "n_stimuli": int((~is_fit).sum())}
    attrs |= {} if blocks is None else {"blocks": blocks}
    attrs |= {"n_permutations": int(n_permutations), "n_rotations": int(n_rotations)}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "random_state": seed}
    return table.assign(scalars).assign_attrs(attrs)


class _Prepared(NamedTuple):
    """A system without what is removed, and the reliability of its items on the stimuli to score, if it is known."""

    half: _Half
    reliability: np.ndarray | None

    @classmethod
    def of(cls, system: xr.DataArray, is_fit: np.ndarray, remove: str, seed: int) -> _Prepared:
        has_repetitions = "repetition" in system.dims
        averages = system.mean("repetition") if has_repetitions else system
        learned = _learn(averages, is_fit, remove)
        Z = learned.apply(averages.values.astype(float))
        reliability = None
        if has_repetitions:
            halves = (learned.apply(half.values.astype(float)) for half in split_repetitions(system, random_state=seed))
            r = _correlate_columns(*(half[~is_fit] for half in halves))
            reliability = 2 * r / (1 + r)  # Spearman and Brown: of all repetitions, from that of halves
        return cls(_Half(Z[is_fit], Z[~is_fit]), reliability)


def _fit_stimuli(a: xr.DataArray, seed: int) -> np.ndarray:
    """Return which stimuli partners are chosen on."""
    marked = a if "split" in a.coords else split_stimuli(a, random_state=seed)
    is_fit, is_score = (marked.split.values == part for part in ("fit", "score"))
    if not (is_fit | is_score).all() or min(is_fit.sum(), is_score.sum()) < MIN_STIMULI:
        raise ValueError(
            f"{is_fit.sum()} common stimuli to match on ('fit') and {is_score.sum()} to score ('score') of {len(a)}: "
            f"mark all in the coord `split`, at least {MIN_STIMULI} each, or remove it with .drop_vars('split')"
        )
    return np.asarray(is_fit)


def _learn(averages: xr.DataArray, is_fit: np.ndarray, remove: str) -> _Learned:
    """Return mean, scale and first principal component of the stimuli to match on."""
    item, X = averages.dims[-1], averages.values.astype(float)
    for part in (is_fit, ~is_fit):
        if (flat := X[part].min(axis=0) == X[part].max(axis=0)).any():
            names = name_some(averages[item].values[flat])
            raise ValueError(
                f"{item} {names} does not vary on one half of the stimuli; drop those, or use another split"
            )
    mean, scale = X[is_fit].mean(axis=0), X[is_fit].std(axis=0)
    if remove == "none":
        return _Learned(mean, scale, None)
    if X.shape[1] < 2:
        raise ValueError(f"remove='common' leaves nothing of one {item}; use remove='none'")
    Z = (X[is_fit] - mean) / scale
    return _Learned(mean, scale, np.linalg.svd(Z, full_matrices=False)[2][0])


def _standardize(Z: np.ndarray) -> np.ndarray:
    """Return columns of mean 0 and length 1; 0 where they do not vary."""
    Z = Z - Z.mean(axis=0)
    length = np.linalg.norm(Z, axis=0)
    return Z / np.where(length > 1e-12 * max(length.max(initial=0), np.finfo(float).tiny), length, np.inf)


def _correlate(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the correlation of each column of A with each of B."""
    return _standardize(A).T @ _standardize(B)


def _correlate_columns(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return the correlation of each column of A with the same column of B."""
    return np.einsum("si,si->i", _standardize(A), _standardize(B))


def _choose(C: np.ndarray, match: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the partner of each item, −1 for none, and the next best item, −1 if there is no other."""
    if match == "one-to-one":
        partner = np.full(len(C), -1)
        rows, columns = linear_sum_assignment(C, maximize=True)
        partner[rows] = columns
    else:
        partner = C.argmax(axis=1)
    if match == "mutual":
        partner = np.where(C.argmax(axis=0)[partner] == np.arange(len(C)), partner, -1)
    if C.shape[1] < 2:
        return partner, np.full(len(C), -1)
    others = C.copy()
    others[np.arange(len(C)), partner] = -np.inf  # of an item without partner, the last column: it is left out below
    return partner, others.argmax(axis=1)


def _second(A: _Half, B: _Half, C: np.ndarray, second: np.ndarray, has: np.ndarray, signed: bool) -> np.ndarray:
    """Return r of the next best item of B."""
    sign = np.where(signed & (C[np.arange(len(C)), second] < 0), -1.0, 1.0)
    return np.where(has & (second >= 0), _correlate_columns(A.score * sign, B.score[:, second]), np.nan)


def _ceilings(systems: list[_Prepared], partner: np.ndarray, r: np.ndarray) -> dict[str, np.ndarray]:
    of_a, of_b = (each.reliability for each in systems)
    product = (1.0 if of_a is None else of_a) * (1.0 if of_b is None else of_b[partner])
    ceiling = np.where(partner >= 0, np.sqrt(np.maximum(product, 0)), np.nan)  # noise alone can make it negative
    if of_a is not None and of_b is not None:
        ceiling[(of_a < 0) & (of_b[partner] < 0)] = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"ceiling": ceiling, "r_ceiled": np.where(ceiling >= MIN_CEILING, r / ceiling, np.nan)}


def _test(
    own: np.ndarray, theirs: np.ndarray, r: np.ndarray, groups: np.ndarray | None, n_permutations: int, seed: int
) -> tuple[np.ndarray, float]:
    """Return p of each item, and of the largest r, from permutations of the stimuli of partners, which stay."""
    has = np.isfinite(r)
    p = np.full(len(r), np.nan)
    if not has.any():
        return p, np.nan
    rng = np.random.default_rng([seed, 1])
    own, theirs = _standardize(own[:, has]), _standardize(theirs[:, has])
    bar = progress(range(n_permutations), desc="permutations", unit="draw", leave=False)
    draws = np.stack([np.einsum("si,si->i", own, theirs[_shuffled(len(own), groups, rng)]) for _ in bar])
    p[has] = p_of_draws(r[has], draws)
    return p, float(p_of_draws(r[has].max(), draws.max(axis=1)))


def _shuffled(n: int, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return a random order of stimuli, in which each stays among those of its group."""
    if groups is None:
        return rng.permutation(n)
    order = np.arange(n)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order[members] = rng.permutation(members)
    return order


def _rotate(A: _Half, B: _Half, match: str, signed: bool, n_rotations: int, seed: int) -> np.ndarray:
    """Return the median r of random rotations of A, with partners of their own."""
    rng, medians = np.random.default_rng([seed, 2]), []
    for _ in progress(range(n_rotations), desc="rotations", unit="rotation", leave=False):
        Q = stats.ortho_group.rvs(A.fit.shape[1], random_state=rng) if A.fit.shape[1] > 1 else np.ones((1, 1))
        fit, score = A.fit @ Q, A.score @ Q
        C = _correlate(fit, B.fit)
        partner, _ = _choose(np.abs(C) if signed else C, match)
        sign = np.where(signed & (C[np.arange(len(C)), partner] < 0), -1.0, 1.0)
        r = _correlate_columns(score * sign, B.score[:, partner])[partner >= 0]
        medians.append(np.median(r) if len(r) else 0.0)
    return np.array(medians)


def _labels(a: xr.DataArray) -> dict[str, Any]:
    """Return the coords of the items of `a`, along `item_a`."""
    item = str(a.dims[-1])
    coords = {name: ("item_a", coord.values) for name, coord in coords_along(a, item).items() if name != item}
    return coords | {"item_a": a[item].values}
