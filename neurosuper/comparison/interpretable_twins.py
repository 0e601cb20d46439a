"""Whether the interpretable items of a system are those that it shares with another.

r (item,) the correlation of each item with its twin on the stimuli to score; I (item,) its index on the others;
X (item, covariate) what may explain both; ρ the rank correlation of r and I over items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper._progress import progress
from neurosuper.comparison.halved_systems import MIN_STIMULI, Half, Prepared, Remove, ceilings, fit_stimuli, reliability
from neurosuper.comparison.item_properties import (
    ItemProperties,
    check_covariates,
    check_names,
    open_properties,
    refuse_constant,
    varies,
)
from neurosuper.comparison.pairings import Pairing, correlate, correlate_columns
from neurosuper.comparison.shared_stimuli import common_systems, labels_of_items
from neurosuper.images import check_images
from neurosuper.inference.halves import interval_of_subsets
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.index import index_label
from neurosuper.metrics import ImageMetric, Precomputed

__all__ = ["shared_and_interpretable"]

Match = Literal["best", "one-to-one"]
STIMULI_PER_TOP = 8  # to match on: a random half of them has the top stimuli
MIN_ITEMS = 5  # more than there are covariates
MIN_LEFT = 3  # the same for a random half of the stimuli: a partial correlation with one degree of freedom
ROUNDING = 1e-9  # of ranks: residuals of less are 0
CONFIDENCE_LEVEL = 0.95
RESULTS = (
    *("partner", "r", "ceiling", "r_ceiled", "interpretability", "p_value", "p_partial"),
    *(f"rho{part}{side}" for part in ("", "_partial") for side in ("", "_low", "_high")),
)


class _Sharing(NamedTuple):
    """How well each item is shared, on the stimuli of the halves."""

    pairing: Pairing
    r: np.ndarray  # (item,)
    ceiling: np.ndarray | None
    r_ceiled: np.ndarray | None

    @classmethod
    def of(cls, A: Prepared, B: Prepared, match: str, signed: bool) -> _Sharing:
        """Choose partners on the stimuli to match on, and score them on the others."""
        pairing = Pairing.of(correlate(A.half.fit, B.half.fit), match, signed)
        r = np.where(pairing.has, correlate_columns(A.half.score, pairing.courses(B.half.score)), np.nan)
        if A.repeats is None and B.repeats is None:
            return cls(pairing, r, None, None)
        of_b = None if B.repeats is None else reliability(*(pairing.courses(half) for half in B.repeats))
        return cls(pairing, r, *ceilings(A.reliability, of_b, r))

    @property
    def value(self) -> np.ndarray:
        """That is correlated with the index: r relative to its ceiling, if there is one."""
        return self.r if self.r_ceiled is None else self.r_ceiled


class _Study(NamedTuple):
    """Two systems on the stimuli to match on and to score, and the properties of items of the first."""

    A: Prepared
    B: Prepared
    is_fit: np.ndarray
    properties: ItemProperties
    names: list[str]  # of covariates
    given: np.ndarray | None  # (item, covariate): those of the user
    top: int
    match: str
    signed: bool

    def share(self, fit: np.ndarray, score: np.ndarray, fit_b: np.ndarray, score_b: np.ndarray) -> _Sharing:
        """Return how well items are shared, in subsets of the stimuli of each system, by position or mask."""
        return _Sharing.of(_take(self.A, fit, score), _take(self.B, fit_b, score_b), self.match, self.signed)

    def of_items(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the index (item,) and covariates (item, name) in a subset of the stimuli to match on, a mask."""
        index, chosen = self.properties.index_and_top(rows, self.top)
        if self.given is not None:
            return index, self.given
        return index, self.properties.covariates(self.names, rows, chosen)

    def of_subsets(self, members: np.ndarray) -> np.ndarray:
        """Return ρ and partial ρ (subset, 2) in subsets of all stimuli, rows of a mask."""
        found = []
        for row in progress(members, desc="halves", unit="subset", leave=False):
            fit, score = row[self.is_fit], row[~self.is_fit]
            found.append(correlate_ranks(self.share(fit, score, fit, score).value, *self.of_items(fit)))
        return np.array(found)

    def of_shuffled(self, n_permutations: int, seed: int) -> np.ndarray:
        """Return ρ and partial ρ (draw, 2) with twins in the other system, its stimuli shuffled within the halves."""
        rng, found = np.random.default_rng([seed, 1]), []
        fit, score = (np.arange(len(part)) for part in self.A.half)
        items = self.of_items(np.ones(len(fit), bool))
        for _ in progress(range(n_permutations), desc="permutations", unit="draw", leave=False):
            sharing = self.share(fit, score, rng.permutation(fit), rng.permutation(score))
            found.append(correlate_ranks(sharing.value, *items))
        if not np.isfinite(found).all():
            raise ValueError(
                "with shuffled stimuli, too few items have twins with a ceiling; drop unreliable items of b, or "
                "average it over repetitions"
            )
        return np.array(found)


def shared_and_interpretable(
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    covariates: xr.Dataset | str | Sequence[str] | None = None,
    top: int = 5,
    match: Match = "best",
    remove: Remove = "common",
    signed: bool = False,
    n_permutations: int = 199,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return whether the more interpretable items of a system are those that another system shares.

    Each item has a twin in the other system, chosen on one half of the stimuli; how well it is shared is its
    correlation with that on the other half, and how interpretable it is, its index on the first: no stimulus is in
    both. Their rank correlation over items is given alone, and for items that are equal in other respects.

    Parameters
    ----------
    a, b : DataArray (stimulus, item), or (stimulus, repetition, item)
        Responses or codes; stimuli are matched by label. With repetitions (none may be missing) correlations are
        relative to their ceilings. The coord `split` of `a` marks stimuli to match on, which are those of the index
        ("fit"), and to score ("score"); without it, halves are drawn. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    covariates : Dataset (item,), str, sequence of str, or None, optional
        What is held constant in `rho_partial`: numbers for each item of `a`, or names among "sparseness", "variance",
        "plainness" and "reliability" (with repetitions of `a`), which are computed from the stimuli of the index. None:
        all of these that differ between items.
    top : int, optional
        Number of top stimuli.
    match : {"best", "one-to-one"}, optional
        As in `twins`.
    remove : {"common", "none"}, optional
        As in `twins`; the index is that of the codes as they are.
    signed : bool, optional
        As in `twins`.
    n_permutations : int, optional
        Number of times that the stimuli of `b` are shuffled, at least 19; partners are chosen again each time.
    n_resamples : int, optional
        Number of random halves of the stimuli for the intervals, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves, permutations and resamples.

    Returns
    -------
    Dataset (item_a)
        - `rho`, the rank correlation (Spearman) over items of `r_ceiled`, or of `r` without repetitions, with
          `interpretability`; `rho_low` and `rho_high` for other stimuli and the same items; `p_value`, two-sided;
        - `rho_partial`, the same given the covariates, with `rho_partial_low`, `rho_partial_high` and `p_partial`;
        - per item: `partner`, `r`, `interpretability`, each covariate that is used, and with repetitions `ceiling` and
          `r_ceiled`, as in `twins`. Items without it are left out of `rho`; attrs: `n_items` counts the others.

    Raises
    ------
    ValueError
        Fewer than 20 common stimuli, or than 8 for each top stimulus to match on; copies of one photograph among them;
        NaN; items that do not vary; too few items for the covariates; covariates that are missing, unknown or constant;
        an index that is the same for all items; settings out of range.

    See Also
    --------
    twins : The partners.
    interpretability_index : The index.
    neurosuper.interpretability.index_reliability : Which limits this correlation.

    Notes
    -----
    A partial rank correlation is that of what is left of the ranks of r and of the index after linear regression on the
    ranks of the covariates. "sparseness" is the skewness of codes, "variance" their variance, "plainness" the mean over
    the top stimuli of minus the mean distance of an image to all others, and "reliability" that of two halves of the
    repetitions, corrected by Spearman and Brown. Sparse items have extreme top stimuli and distinct time courses, so
    that both r and the index may be high without any feature in common.

    The index of single items is noisy, and this makes ρ smaller: √(reliability of r × reliability of the index) is the
    most to be expected. Intervals are from random halves of the stimuli in which all is done again but the removal of
    what is common, with the variance that is safe for top stimuli (`fall=1` of `halves_interval`). The test is exact
    if the systems are independent. It is not one over items: for other items of the same system, an item counts as one
    observation, and ρ has a standard error of about 1/√(n − 1).

    References
    ----------
    Kim 2015, "ppcor: an R package for a fast calculation to semi-partial correlation coefficients", Communications
    for Statistical Applications and Methods 22, 665.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> rng = np.random.default_rng(0)
    >>> grey = rng.permutation(200).astype(np.uint8)[:, None, None, None]
    >>> images, noise = load_images(np.repeat(grey, 3, axis=3)), rng.normal(size=(2, 200, 12))
    >>> def system(values):
    ...     names = {"stimulus": images.stimulus.values, "unit": list("abcdefghijkl")}
    ...     return xr.DataArray(values, names, ("stimulus", "unit"))
    >>> tuned = np.linspace(0, 3, 12) * grey[:, 0, 0] / 75
    >>> a, b = system(tuned + noise[0]), system(tuned + noise[1])
    >>> settings = {"covariates": ["variance"], "remove": "none", "n_permutations": 19, "n_resamples": 10}
    >>> found = shared_and_interpretable(a, b, images, Color(), **settings)
    >>> bool(found.rho > 0.7), float(found.p_value)
    (True, 0.1)
    """
    check_one_of("match", match, get_args(Match))
    check_one_of("remove", remove, get_args(Remove))
    check_count("n_permutations", n_permutations, least=19, why=", which allow p = 0.1")
    seed, images = seed_or_new(random_state), check_images(images)
    a, b = common_systems(join_images(a, images), b, 2 * MIN_STIMULI, repeated=True)
    # in order of labels, so that no other order matters for what is drawn at random
    a, b = a.sortby("stimulus"), b.sortby(["stimulus", b.dims[-1]])
    is_fit = fit_stimuli(a, seed)
    _check_top(top, int(is_fit.sum()))
    has_repetitions = "repetition" in a.dims
    names = [] if isinstance(covariates, xr.Dataset) else check_names(covariates, has_repetitions)
    A, B = (Prepared.of(each, is_fit, remove, seed) for each in (a, b))
    with open_properties(a[is_fit], images, metric, names, seed) as properties:
        study = _Study(A, B, is_fit, properties, names, None, top, match, signed)
        study = _with_covariates(study, covariates, a)
        columns, scalars = _answer(study, b[b.dims[-1]].values, n_permutations, n_resamples, seed)
    table = xr.Dataset({name: ("item_a", values) for name, values in columns.items()}, labels_of_items(a))
    attrs: dict[str, object] = {"method": "rank correlation over items", "quantity": "Spearman's rho", "match": match}
    attrs |= {"remove": remove, "signed": int(signed), "top": int(top), "metric": metric.name}
    attrs |= {"index_quantity": index_label(metric), "covariates": study.names, **left_out(a)}
    attrs |= {"n_items": int(np.isfinite(columns.get("r_ceiled", columns["r"])).sum()), "n_fit": int(is_fit.sum())}
    attrs |= {"n_stimuli": int((~is_fit).sum()), "n_permutations": int(n_permutations)}
    attrs |= {"n_resamples": int(n_resamples), "confidence_level": CONFIDENCE_LEVEL, "random_state": seed}
    return table.assign(scalars).assign_attrs(attrs)


def _check_top(top: int, n_fit: int) -> None:
    """Raise an error if random halves of the stimuli to match on may have too few top stimuli."""
    check_count("top", top, least=2)
    if n_fit < STIMULI_PER_TOP * top:
        raise ValueError(
            f"{n_fit} stimuli to match on are too few for the index of {top} top stimuli; use at least "
            f"{STIMULI_PER_TOP * top}, or lower top"
        )


def _with_covariates(study: _Study, covariates: xr.Dataset | str | Sequence[str] | None, a: xr.DataArray) -> _Study:
    """Return the study with the covariates of the user, or those that can be computed and vary."""
    if isinstance(covariates, xr.Dataset):
        given = check_covariates(covariates, a[a.dims[-1]], {*RESULTS, *labels_of_items(a)})
        return study._replace(given=given, names=[str(name) for name in covariates.data_vars])
    _, X = study.of_items(np.ones(len(study.A.half.fit), bool))
    if covariates is not None:
        refuse_constant(X, study.names)
    return study._replace(names=[name for name, has in zip(study.names, varies(X), strict=True) if has])


def _answer(
    study: _Study, labels: np.ndarray, n_permutations: int, n_resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return what there is of each item, and the correlations over items with their tests and limits."""
    fit, score = (np.arange(len(part)) for part in study.A.half)
    sharing = study.share(fit, score, fit, score)
    index, X = study.of_items(np.ones(len(fit), bool))
    columns = {"partner": np.where(sharing.pairing.has, labels[sharing.pairing.partner], ""), "r": sharing.r}
    if sharing.ceiling is not None and sharing.r_ceiled is not None:
        columns |= {"ceiling": sharing.ceiling, "r_ceiled": sharing.r_ceiled}
    columns |= {"interpretability": index, **dict(zip(study.names, X.T, strict=True))}
    _check_items(sharing.value, index, len(study.names))
    rho = correlate_ranks(sharing.value, index, X)
    p = p_of_draws(rho, study.of_shuffled(n_permutations, seed), "two-sided")
    found: dict[str, np.ndarray] = {"": rho}
    if n_resamples:
        limits = interval_of_subsets(
            study.of_subsets,
            len(study.is_fit),
            n_resamples=n_resamples,
            stimulus_groups=None,
            fall=1.0,
            confidence_level=CONFIDENCE_LEVEL,
            seed=seed,
        )
        found |= {f"_{end}": limits[f"estimate_{end}"].values.clip(-1, 1) for end in ("low", "high")}
    scalars = {f"rho{side}": float(values[0]) for side, values in found.items()} | {"p_value": float(p[0])}
    if study.names:
        scalars |= {f"rho_partial{side}": float(values[1]) for side, values in found.items()}
        scalars["p_partial"] = float(p[1])
    return columns, scalars


def _check_items(shared: np.ndarray, index: np.ndarray, n_covariates: int) -> None:
    """Raise an error if there are too few items, or all have the same index."""
    has = np.isfinite(shared)
    if has.sum() < MIN_ITEMS + n_covariates:
        raise ValueError(
            f"{has.sum()} of {len(has)} items with a twin and a ceiling are too few for a correlation given "
            f"{n_covariates} covariates; use at least {MIN_ITEMS + n_covariates}, or fewer covariates"
        )
    if np.ptp(index[has]) == 0:
        raise ValueError("all items have the same index; use another top, or a metric with more than a few values")


def _take(system: Prepared, fit: np.ndarray, score: np.ndarray) -> Prepared:
    """Return a system with some of the stimuli of each half, by position or mask."""
    half = Half(system.half.fit[fit], system.half.score[score])
    return Prepared(half, None if system.repeats is None else (system.repeats[0][score], system.repeats[1][score]))


def correlate_ranks(x: np.ndarray, y: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return the rank correlation of x and y (item,) over items with an x, and that given X (item, covariate).

    NaN if there are too few items with an x for these covariates.
    """
    has = np.isfinite(x)
    if has.sum() < X.shape[1] + MIN_LEFT:
        return np.full(2, np.nan)
    ranks = stats.rankdata(np.column_stack([x, y, X])[has], axis=0)
    both, design = ranks[:, :2], np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    # what is left of ranks after regression on the ranks of covariates, and on a constant
    residual = both - design @ np.linalg.lstsq(design, both, rcond=None)[0]
    residual[:, np.linalg.norm(residual, axis=0) < ROUNDING * np.linalg.norm(both, axis=0)] = 0
    return np.array([correlate_columns(each[:, :1], each[:, 1:])[0] for each in (both, residual)])
