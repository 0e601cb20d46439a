"""Soft matching: how well the items of two systems pair up.

A, B (stimulus, item) responses or codes of two systems; r (item of A, item of B) their correlations over stimuli;
T (item of A, item of B) ≥ 0 a coupling, whose rows and columns sum to 1/(number of rows) and 1/(number of columns).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper.comparison.couplings import check_pairs, couple
from neurosuper.comparison.splits import take_groups
from neurosuper.inference import halves_interval
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import align, name_some, require_varying
from neurosuper.superposition.halved_stimuli import undivided

MIN_STIMULI = 6  # of a fold: its halves, for the interval, still have a correlation
CONSTANT = 1e-12  # of the mean square: variances that are rounding
ScoreOn = Literal["held-out", "all"]


class Moments(NamedTuple):
    """Sums of products over some stimuli, from which the correlations of any rotation of A with B are computed."""

    of_a: np.ndarray  # AᵀA of centred A
    across: np.ndarray  # AᵀB
    of_b: np.ndarray  # diagonal of BᵀB
    n: int  # stimuli

    @classmethod
    def of(cls, A: np.ndarray, B: np.ndarray) -> Moments:
        """Return the moments of responses to the same stimuli."""
        A, B = A - A.mean(axis=0), B - B.mean(axis=0)
        return cls(A.T @ A, A.T @ B, np.einsum("sj,sj->j", B, B), len(A))

    def correlations(self, Q: np.ndarray | None = None) -> np.ndarray:
        """Return the correlations of A Q with B; 0 for an item that does not vary."""
        across = self.across if Q is None else Q.T @ self.across
        of_a = self.of_a.diagonal() if Q is None else np.einsum("ij,ij->j", Q, self.of_a @ Q)
        with np.errstate(divide="ignore"):
            root_a, root_b = (
                np.where(each > CONSTANT * max(each.max(), np.finfo(float).tiny), each, np.inf) ** -0.5
                for each in (of_a, self.of_b)
            )
        return root_a[:, None] * across * root_b

    def differences(self) -> np.ndarray:
        """Return the mean squared differences between centred responses: (|a|² + |b|² − 2 a·b)/n."""
        return ((self.of_a.diagonal()[:, None] + self.of_b - 2 * self.across) / self.n).clip(min=0)


class Fold(NamedTuple):
    """One fold: the stimuli that its coupling is scored on, and the moments that choose and score it."""

    scored: np.ndarray  # (stimulus,)
    chosen_from: Moments
    scored_from: Moments


class Pair(NamedTuple):
    """Two systems on their common stimuli, in order of labels.

    Parameters
    ----------
    A, B : array (stimulus, item)
    items : dict of str to array
        Labels of the items.
    folds : list of Fold
    groups : array of int (stimulus,), or None
        What no fold or half divides.
    attrs : dict
    """

    A: np.ndarray
    B: np.ndarray
    items: dict[str, np.ndarray]
    folds: list[Fold]
    groups: np.ndarray | None
    attrs: dict[str, object]

    def score(self, couplings: list[np.ndarray], rows: np.ndarray, values: Callable[[Moments], np.ndarray]) -> float:
        """Return the mean of values such as correlations, of couplings that are fixed, over some of the stimuli."""
        scores, weights = [], []
        for fold, T in zip(self.folds, couplings, strict=True):
            own = rows[fold.scored[rows]]
            if len(own) >= 3:  # of two stimuli, all correlations are 1 or −1
                scores.append((T * values(Moments.of(self.A[own], self.B[own]))).sum() / T.sum())
                weights.append(len(own) - 1)
        return float(np.average(scores, weights=weights)) if scores else np.nan

    def intervals(
        self, estimates: dict[str, float], statistic: Callable[[np.ndarray], ArrayLike], n_resamples: int, seed: int
    ) -> dict[str, float]:
        """Return the limits of estimates, with the margins of a statistic of as many values; none without resamples."""
        if n_resamples == 0:
            return {}
        settings: dict = {"stimulus_groups": self.groups, "n_resamples": n_resamples, "random_state": seed}
        found = halves_interval(lambda rows: np.ravel(statistic(rows)), len(self.A), **settings)
        margins = (found.estimate_high - found.estimate_low).values / 2
        sides = (("low", -1), ("high", 1))
        each = zip(estimates.items(), margins, strict=True)
        return {f"{name}_{side}": value + sign * margin for (name, value), margin in each for side, sign in sides}


def soft_matching(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    correlation: bool = True,
    score_on: ScoreOn = "held-out",
    mass: float = 1.0,
    n_folds: int = 5,
    stimulus_groups: str | None = None,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how well the units or directions of two systems can be matched to each other, one to one or softly.

    Each item of `a` has the same weight to distribute over items of `b`, and each of `b` receives the same; the
    distribution with the largest mean correlation is chosen on some stimuli, and its correlations are scored on
    others. For equal numbers it is a permutation. Unlike a regression, it asks whether single items correspond.

    Parameters
    ----------
    a, b : DataArray (stimulus, item)
        Responses or codes of two systems; stimuli are matched by label.
    correlation : bool, optional
        False: match and score by distance, which depends on the scale of items: in the same units of measurement in
        both systems, or z-scored (see `normalize`).
    score_on : {"held-out", "all"}, optional
        "held-out": the coupling of each fold is chosen on the other folds. "all": chosen and scored on all stimuli, as
        published; independent items then score above 0.
    mass : float, optional
        Share of the weight that is matched, above 0 and at most 1; the items that fit worst are left unmatched.
    n_folds : int, optional
        Number of folds of the stimuli, at least 2. Copies of a photograph are in the same fold.
    stimulus_groups : str, optional
        A stimulus coord of one of the systems, such as bursts of frames: no fold or half divides a group, and intervals
        are for other groups.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed of folds and halves.

    Returns
    -------
    Dataset
        `score`, the mean correlation over the matched weight, with `score_low` and `score_high` for other stimuli, of
        these couplings; `coupling (item_a, item_b)`, averaged over folds, which sums to `mass`; `r (item_a)`, the
        correlation of each item of `a` with its partners, NaN for one that is never matched. Without `correlation`:
        `distance`, the root of the mean squared difference between centred responses over stimuli and the matched
        weight, with `distance_low` and `distance_high`, and `item_distance (item_a)`.

    Raises
    ------
    ImportError
        POT is not installed, and the systems have different numbers of items, or `mass` is below 1.
    ValueError
        No common stimuli; too few of them, or of their groups; NaN; constant items; too many pairs of items; settings
        out of range.

    See Also
    --------
    privileged_axes : Whether this is more than rotated axes of the same responses have.

    Notes
    -----
    T minimises Σ T (1 − r), or without `correlation` Σ T |a − b|²/n, under the constraints on rows and columns (Khosla
    and Williams 2024), or with `mass` below 1 of them as upper limits (Kapoor et al. 2026). An item that does not vary
    in a fold has the correlation 0 in it. The score of units decreases with noise: compare it with that of two halves
    of the repetitions of one system. `inference.compare_with_null` tests it against `shuffle_stimuli` of one system.

    References
    ----------
    Khosla and Williams 2024, "Soft matching distance", arXiv 2311.09466. Kapoor, Williams and Khosla 2026, "Partial
    soft-matching distance", arXiv 2602.19331.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> a = xr.DataArray(np.random.default_rng(0).normal(size=(60, 3)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(60).astype(str), "unit": ["u", "v", "w"]})
    >>> found = soft_matching(a, a[:, ::-1] ** 3, n_resamples=10)
    >>> (3 * found.coupling).round(6).values.tolist(), bool(found.score > 0.6)
    ([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], True)
    """
    check_one_of("score_on", score_on, ("held-out", "all"))
    if not 0 < mass <= 1:
        raise ValueError(f"mass must be above 0 and at most 1, got {mass!r}")
    seed = seed_or_new(random_state)
    pair = prepare(a, b, n_folds, stimulus_groups, seed, score_on)

    def values(moments: Moments) -> np.ndarray:
        return moments.correlations() if correlation else moments.differences()

    # 1 − r, or mean squared differences, are the costs of the coupling; the root of the latter is the distance
    couplings = [couple(1 - values(each) if correlation else values(each), mass) for _, each, _ in pair.folds]
    by_fold = [values(fold.scored_from) for fold in pair.folds]
    mean = float(np.mean([(T * v).sum() / T.sum() for T, v in zip(couplings, by_fold, strict=True)]))
    coupling = np.mean(couplings, axis=0)
    weighted = np.mean([(T * v).sum(axis=1) for T, v in zip(couplings, by_fold, strict=True)], axis=0)
    with np.errstate(invalid="ignore"):
        of_items = weighted / coupling.sum(axis=1)
    name, of_item = ("score", "r") if correlation else ("distance", "item_distance")
    power = 1 if correlation else 0.5
    columns: dict[str, Any] = {name: mean**power}
    columns |= pair.intervals(columns, lambda rows: pair.score(couplings, rows, values) ** power, n_resamples, seed)
    columns |= {"coupling": (("item_a", "item_b"), coupling), of_item: ("item_a", of_items**power)}
    attrs: dict[str, object] = {"method": "soft matching", "score_on": score_on}
    attrs |= {"quantity": "correlation" if correlation else "distance"}
    attrs |= {"mass": float(mass)} | pair.attrs | {"n_resamples": int(n_resamples), "random_state": seed}
    return xr.Dataset(columns, pair.items, attrs)


def prepare(
    a: xr.DataArray, b: xr.DataArray, n_folds: int, stimulus_groups: str | None, seed: int, score_on: str = "held-out"
) -> Pair:
    """Return two systems on their common stimuli, with the folds to match and score them on."""
    check_count("n_folds", n_folds, least=2)
    a, b = align(check_codes(a), check_codes(b))
    check_pairs(a.shape[1], b.shape[1])
    if len(a) < MIN_STIMULI * n_folds:
        raise ValueError(
            f"{len(a)} common stimuli are too few for {n_folds} folds of at least {MIN_STIMULI}; lower n_folds, or use "
            "more stimuli"
        )
    # In order of labels, so that the order of stimuli does not matter for what is drawn at random.
    a, b = take_groups(a, b, stimulus_groups).sortby("stimulus"), b.sortby("stimulus")
    groups = undivided(a, stimulus_groups)
    A, B = (_finite(system) for system in (a, b))
    attrs: dict[str, object] = {"n_stimuli": len(A)}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    if score_on == "all":
        moments = Moments.of(A, B)
        folds = [Fold(np.ones(len(A), bool), moments, moments)]
    else:
        number = number_folds(np.arange(len(A)) if groups is None else groups, n_folds, seed)
        folds = [
            Fold(number == k, Moments.of(A[number != k], B[number != k]), Moments.of(A[number == k], B[number == k]))
            for k in range(n_folds)
        ]
    items = {"item_a": a[a.dims[1]].values, "item_b": b[b.dims[1]].values}
    return Pair(A, B, items, folds, groups, attrs | {"n_folds": len(folds)})


def _finite(codes: xr.DataArray) -> np.ndarray:
    """Return codes in float64, or raise an error that names the items with NaN, or without variance."""
    codes = codes.compute()
    values = codes.values.astype(float)
    if (bad := ~np.isfinite(values).all(0)).any():
        names = name_some(codes[codes.dims[1]].values[bad])
        raise ValueError(f"NaN or infinite values in {codes.dims[1]} {names}; drop those, or their stimuli")
    require_varying(codes)
    return values


def number_folds(groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each stimulus: random, with groups `(stimulus,)`, numbered from 0, in one."""
    number = np.random.default_rng([seed, 0]).permutation(groups.max() + 1)[groups] % n_folds
    if (least := np.bincount(number, minlength=n_folds).min()) < MIN_STIMULI:
        raise ValueError(
            f"{groups.max() + 1} groups of stimuli (or photographs) leave {least} stimuli in one of {n_folds} folds, "
            f"which needs {MIN_STIMULI}; lower n_folds, or use smaller groups"
        )
    return number
