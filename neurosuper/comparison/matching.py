"""Twins: the items of one system that respond to the same stimuli as items of another.

A, B (stimulus, item) z-scored responses or codes of two systems; C (item of A, item of B) their correlations over the
stimuli to match on. r is the correlation of an item with its partner over other stimuli.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, check_one_of, check_share, seed_or_new
from neurosuper.comparison.couplings import check_pairs
from neurosuper.comparison.halved_systems import MIN_STIMULI, Half, Prepared, Remove, ceilings, fit_stimuli, reliability
from neurosuper.comparison.pairings import COUPLED, Match, Pairing, correlate, correlate_columns
from neurosuper.comparison.partner_tests import p_of_partners, rotate_partners
from neurosuper.comparison.shared_stimuli import common_systems, groups_of, labels_of_items
from neurosuper.inference import adjust_p_values
from neurosuper.inference.null_draws import p_of_draws

__all__ = ["twins"]

CONFIDENCE_LEVEL = 0.95


def twins(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    match: Match = "best",
    mass: float | None = None,
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
    match : {"best", "one-to-one", "mutual", "soft", "partial"}, optional
        "best": the partner with the largest correlation; several items may share it. "one-to-one": no two items share
        one, and the mean correlation is as large as it can be. "mutual": only items that are each other's best.
        "soft": each item of `a` distributes the same weight, and each of `b` receives the same, so that the mean
        correlation is as large as it can be; a partner is the weighted mean of z-scored items. For equal numbers of
        items this is one to one. "partial": the same for a share of the weight; some items then have no partner.
    mass : float, optional
        Share of the weight that "partial" matches, above 0 and below 1; no other match has it.
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
          of the next best item; `n_sharing`, the number of items with this partner; by "soft" and "partial", `partner`
          is the item with the largest weight, r that of the weighted mean, and `coupling (item_a, item_b)` the weights,
          which sum to 1 or `mass`;
        - with repetitions: `ceiling`, the largest r that the reliabilities of both allow, and `r_ceiled`, r divided by
          it (NaN where the ceiling is below 0.1; it may exceed 1);
        - `p_value`, one-sided, and `p_adjusted` (Benjamini and Hochberg);
        - scalars: `median_r`; `rotated (rotation)`, the median of each rotation; `p_rotated`, the share of medians at
          least as large as `median_r`, counting it as one; `p_any`, the test of the largest r.

    Raises
    ------
    ImportError
        POT is not installed, and the match is "soft" for different numbers of items, or "partial".
    ValueError
        Fewer than 20 common stimuli, or copies of one photograph among them; NaN; items that do not vary on one of the
        halves; a system of one item, with `remove="common"`; too many pairs of items for a coupling; settings out of
        range.

    See Also
    --------
    neurosuper.superposition.soft_matching : One score for all items, by soft matches.
    cka : Similarity of the systems as wholes.

    Notes
    -----
    The ceiling of two items is √(ρ₁ ρ₂), where ρ is the correlation of two halves of the repetitions on the stimuli to
    score, r', corrected by Spearman and Brown, 2r'/(1 + r'); that of an item without repetitions is 1, and that of a
    weighted mean of items is its own. The permutation test is exact for items that are independent of their partners
    on the stimuli to score. A coupling minimises Σ T (1 − C), with `signed` Σ T (1 − |C|), under the constraints of
    `superposition.soft_matching`; what is removed is taken off z-scored items before their weighted mean.

    References
    ----------
    Khosla and Williams 2024, "Soft matching distance", arXiv 2311.09466. Kapoor, Williams and Khosla 2026, "Partial
    soft-matching distance", arXiv 2602.19331.

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
    _check_mass(match, mass)
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.05")
    check_count("n_rotations", n_rotations, least=0)
    seed = seed_or_new(random_state)
    # in order of labels, so that the order of stimuli does not matter for what is drawn at random
    a, b = (each.sortby("stimulus") for each in common_systems(a, b, 2 * MIN_STIMULI, repeated=True))
    if match in COUPLED:
        check_pairs(a.shape[-1], b.shape[-1])
    is_fit = fit_stimuli(a, seed)
    A, B = (Prepared.of(each, is_fit, remove, seed) for each in (a, b))
    C = correlate(A.half.fit, B.half.fit)
    pairing = Pairing.of(C, match, signed, mass)
    columns = _columns(A, B, pairing, pairing.next_best(C, signed))
    r, label_b, theirs = columns["r"], b[b.dims[-1]].values, pairing.courses(B.half.score)
    groups = None if blocks is None else groups_of(a, blocks)[~is_fit]
    p, p_any = p_of_partners(A.half.score, theirs, r, groups, n_permutations, seed)
    columns = {"partner": np.where(pairing.has, label_b[pairing.partner], ""), **columns, "p_value": p}
    table = xr.Dataset({name: ("item_a", values) for name, values in columns.items()}, labels_of_items(a))
    table["p_adjusted"] = adjust_p_values(table.p_value)
    if pairing.coupling is not None:
        table["coupling"] = xr.DataArray(pairing.coupling, {"item_b": label_b}, ("item_a", "item_b"))
    scalars: dict[str, Any] = {"p_any": p_any, "median_r": np.nanmedian(r) if pairing.has.any() else np.nan}
    if n_rotations:
        order = np.argsort(a[a.dims[-1]].values.astype(str))  # that of items does not matter either
        turned = Half(*(part[:, order] for part in A.half))
        rotated = rotate_partners(turned, B.half, match, signed, mass, n_rotations, seed)
        scalars |= {"rotated": ("rotation", rotated)}
        scalars["p_rotated"] = float(p_of_draws(scalars["median_r"], rotated)) if pairing.has.any() else np.nan
    attrs: dict[str, object] = {"method": f"twins, {match}", "quantity": "correlation", "match": match}
    attrs |= {} if mass is None else {"mass": float(mass)}
    attrs |= {"remove": remove, "signed": int(signed), "n_fit": int(is_fit.sum()), "n_stimuli": int((~is_fit).sum())}
    attrs |= {} if blocks is None else {"blocks": blocks}
    attrs |= {"n_permutations": int(n_permutations), "n_rotations": int(n_rotations)}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "random_state": seed}
    return table.assign(scalars).assign_attrs(attrs)


def _check_mass(match: str, mass: float | None) -> None:
    """Raise an error if the share of the weight that is matched is missing, or has no use."""
    if match == "partial":
        if mass is None:
            raise ValueError("match='partial' needs mass, the share of the weight that is matched, such as mass=0.5")
        check_share("mass", mass, 0.5)
    elif mass is not None:
        raise ValueError(f"mass={mass!r} has no use with match={match!r}; leave it out, or use match='partial'")


def _columns(A: Prepared, B: Prepared, pairing: Pairing, second: Pairing) -> dict[str, np.ndarray]:
    """Return r of each item and its partner with interval and, with repetitions, ceiling, and what it is next to."""
    r, r_matched, r_second = (
        np.where(chosen.has, correlate_columns(own, chosen.courses(theirs)), np.nan)
        for own, theirs, chosen in (
            (A.half.score, B.half.score, pairing),
            (A.half.fit, B.half.fit, pairing),
            (A.half.score, B.half.score, second),
        )
    )
    z, margin = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)), stats.norm.isf(0.025) / np.sqrt(len(A.half.score) - 3)
    columns = {"r": r, "r_low": np.tanh(z - margin), "r_high": np.tanh(z + margin), "r_matched": r_matched}
    columns |= {"second": r_second, "n_sharing": pairing.n_sharing()}
    if A.repeats is None and B.repeats is None:
        return columns
    of_b = None if B.repeats is None else reliability(*(pairing.courses(half) for half in B.repeats))
    columns["ceiling"], columns["r_ceiled"] = ceilings(A.reliability, of_b, r)
    return columns
