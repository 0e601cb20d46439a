"""Disentanglement: whether each item encodes one factor, and each factor is encoded by one item.

Z (stimulus, item) codes; B (item, factor) their mutual information with factors in bits, N its share of a factor's
entropy; P (item, factor) importances of items in the prediction of factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._content import photographs_of
from neurosuper._progress import progress
from neurosuper.inference import halves_interval
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import coords_along, require_varying
from neurosuper.superposition import factor_information as info
from neurosuper.superposition import factor_predictions as prediction
from neurosuper.superposition.factor_information import Estimator
from neurosuper.superposition.factor_predictions import Importance, Importances, Readout
from neurosuper.superposition.factor_tables import (
    MIN_PER_LEVEL,
    Factor,
    Factors,
    read_factors,
    require_levels_in_halves,
)
from neurosuper.superposition.finite_codes import check_resamples, sorted_codes, stimuli_to_fit

OF_ALL = ("mig", "dci_disentanglement", "dci_completeness", "modularity", "infom", "infoc")
HELD_OUT = ("sap", "dci_informativeness", "explicitness", "infoe")


class _Settings(NamedTuple):
    bins: int
    estimator: Estimator
    importance: Importance
    seed: int


class _Measured(NamedTuple):
    """What is computed once from codes and factors."""

    information: np.ndarray  # (item, factor)
    normalized: np.ndarray
    importances: Importances
    readouts: list[Readout]
    scores: dict[str, float]


def disentanglement(
    codes: xr.DataArray,
    factors: Factors,
    *,
    bins: int = 20,
    estimator: Estimator = "histogram",
    importance: Importance = "lasso",
    n_permutations: int = 10,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how well single units or directions correspond to single factors of the stimuli, by ten measures.

    Factors are what is known of each stimulus, such as its object, pose, position or hue. Compare units with the
    directions of a finder on the same stimuli and factors: are directions more disentangled?

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, at least two items. Their coord `split`, if they have one, marks the stimuli to fit readouts
        on ("fit") and to score them on ("score"); without it, halves are drawn.
    factors : Dataset (stimulus) or list of str
        One variable for each factor, at least two, for all stimuli of the codes; or names of stimulus coords of the
        codes. Text is labels, and numbers are numbers: make ids that are numbers text first. A circular number, such as
        an orientation, needs two factors, its sine and cosine, or labels.
    bins : int, optional
        Number of bins of equal width for each item, and of bins of equal counts for numbers that have more values.
    estimator : {"histogram", "ksg"}, optional
        Of mutual information: by counts in bins, or by the 10 nearest neighbours (Ross 2014), which needs no bins for
        codes but takes some 50 times as long.
    importance : {"lasso", "gbt"}, optional
        Importances for DCI: absolute weights of a lasso on z-scored codes, with a penalty chosen by cross-validation;
        or those of gradient-boosted trees, which see any dependence, and take minutes for hundreds of items.
    n_permutations : int, optional
        Number of random permutations of the factors over stimuli, for the null means; 0 computes none.
    n_resamples : int, optional
        Number of random halves of the stimuli for intervals, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split, permutations, halves and trees.

    Returns
    -------
    Dataset (item, factor)
        The dim of items has the name that it has in codes. Scalars, with the intervals `…_low` and `…_high`, and
        `…_null`, the mean with permuted factors (see Notes): `mig`, `sap`, `dci_disentanglement`, `dci_completeness`,
        `dci_informativeness`, `modularity`, `explicitness`, `infom`, `infoc`, `infoe`. For each item and factor:
        `mutual_information` in bits, `normalized`, its share of the factor's entropy, and `importance`. For each item:
        `item_disentanglement`, 1 minus the normalised entropy of its row of `normalized` (1: it encodes one factor, 0:
        equal shares), and `item_factor`, the factor with the largest share. Coords of items are kept.

    Raises
    ------
    TypeError
        Factors of another type.
    ValueError
        Codes that are not (stimulus, item), contain NaN, or have constant items; fewer than two items or factors; fewer
        than 5 stimuli per bin, or of a level; factors with one level, missing values, or not for all stimuli; settings
        out of range.

    See Also
    --------
    replicate_disentanglement : The same question for two fits or animals, without factors.
    alignment : Whether single neurons correspond to single directions of a network.
    neurosuper.inference.compare_with_null : Test a measure, as in the page on disentanglement.

    Notes
    -----
    - `mig`: gap between the two items with the most information about a factor, over its entropy (Chen 2018).
    - `sap`: gap between the two best accuracies of a linear classifier of single items, or squared correlations with
      a number, on scored stimuli (Kumar 2018).
    - `dci_disentanglement`, `dci_completeness`: 1 minus the normalised entropy of importances over factors, or over
      items, weighted by importance; `dci_informativeness`: accuracy, or R² of numbers, on scored stimuli (Eastwood and
      Williams 2018).
    - `modularity`: 1 if each item has information about one factor; `explicitness`: area under the ROC curve of
      logistic regression on all items, on scored stimuli (Ridgeway and Mozer 2018).
    - `infom`, `infoc`: largest share of an item's information over factors, or of a factor's over items, rescaled by
      chance; items with less than a twentieth of the largest range are left out of both. `infoe`: share of a factor's
      entropy that logistic regression removes on scored stimuli, below 0 if it overfits (Hsu 2023).

    With more items than factors, the normal case, `mig`, `sap`, `dci_completeness` and `infoc` punish redundancy: two
    copies of a perfect item have a gap of 0. Information from few stimuli is too large, the more the finer the bins:
    compare each measure with its null mean, and systems at the same number of stimuli, and of items for these four.

    Intervals are for other stimuli: penalties of the lasso, and all models behind `sap`, `dci_informativeness`,
    `explicitness` and `infoe`, are held as fitted. Each permutation fits all of them again.

    References
    ----------
    Chen, Li, Grosse and Duvenaud 2018, arXiv 1802.04942. Kumar, Sattigeri and Balakrishnan 2018, arXiv 1711.00848.
    Eastwood and Williams 2018, ICLR. Ridgeway and Mozer 2018, arXiv 1802.05312. Hsu, Dorrell, Whittington, Wu and Finn
    2023, arXiv 2305.18378. Ross 2014, PLoS ONE 9, e87357.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> names = {"stimulus": np.arange(400).astype(str), "unit": ["a", "b"]}
    >>> hue, size = rng.integers(4, size=(2, 400))
    >>> codes = xr.DataArray(np.stack([hue, size], 1) + 0.1 * rng.normal(size=(400, 2)), names, ("stimulus", "unit"))
    >>> factors = xr.Dataset({"hue": ("stimulus", hue), "size": ("stimulus", size)}, {"stimulus": codes.stimulus})
    >>> pure = disentanglement(codes, factors, n_permutations=2, n_resamples=10)
    >>> mixed = disentanglement(codes @ codes.T.rename(stimulus="s")[:, :2].rename(s="direction"), factors,
    ...                         n_permutations=0, n_resamples=0)
    >>> bool(pure.mig > 0.9), bool(pure.mig_null < 0.1), bool(mixed.mig < 0.5)
    (True, True, True)
    """
    settings = _check_settings(bins, estimator, importance, n_permutations, n_resamples, random_state)
    given, codes = check_codes(codes), sorted_codes(codes)
    item = str(given.dims[1])
    Z = _values(codes, settings)
    is_fit = stimuli_to_fit(codes, settings.seed)
    table = read_factors(codes, factors, settings.bins, is_fit)
    active = _active(Z, item)
    found = _measure(Z, table, is_fit, active, settings)
    variables: dict[str, object] = dict(found.scores)
    if n_resamples:
        variables |= _intervals(Z, table, is_fit, active, found, settings, photographs_of(codes), n_resamples)
    if n_permutations:
        variables |= _null_means(Z, table, is_fit, active, settings, found.importances.penalties, n_permutations)
    for name, values in (
        ("mutual_information", found.information),
        ("normalized", found.normalized),
        ("importance", found.importances.table),
    ):
        variables[name] = ((item, "factor"), values)
    names = np.array([factor.name for factor in table])
    variables["item_disentanglement"] = (item, 1 - info.evenness(found.normalized))
    variables["item_factor"] = (item, names[found.normalized.argmax(1)])
    coords = coords_along(codes, item) | {
        "factor": names,
        "kind": ("factor", ["labels" if factor.values is None else "numbers" for factor in table]),
        "n_levels": ("factor", [len(factor.names) for factor in table]),
    }
    attrs = {"method": given.attrs.get("method", item), "quantity": "disentanglement", "n_stimuli": len(Z)}
    attrs |= {"n_fit": int(is_fit.sum()), "bins": settings.bins, "estimator": estimator, "importance": importance}
    attrs |= {"n_active": int(active.sum()), "n_permutations": n_permutations, "n_resamples": n_resamples}
    result = xr.Dataset(variables, coords, attrs | {"random_state": settings.seed})
    return result.sel({item: given[item].values})


def _check_settings(
    bins: int, estimator: str, importance: str, n_permutations: int, n_resamples: int, random_state: Seed
) -> _Settings:
    check_count("bins", bins, least=2, most=1000)
    check_one_of("estimator", estimator, get_args(Estimator))
    check_one_of("importance", importance, get_args(Importance))
    check_count("n_permutations", n_permutations, least=0)
    check_resamples(n_resamples)
    return _Settings(int(bins), estimator, importance, seed_or_new(random_state))  # type: ignore[arg-type]


def _values(codes: xr.DataArray, settings: _Settings) -> np.ndarray:
    """Return the values of codes, or raise an error that names what is wrong with them."""
    values = codes.values
    if values.shape[1] < 2:
        raise ValueError(f"measures of disentanglement need at least 2 items, got {values.shape[1]}")
    if len(values) < (least := MIN_PER_LEVEL * settings.bins):
        raise ValueError(
            f"bins={settings.bins} need at least {least} stimuli, {MIN_PER_LEVEL} per bin, got {len(values)}; lower "
            "`bins`, or use more stimuli"
        )
    require_varying(codes)
    return values


def _active(Z: np.ndarray, item: str) -> np.ndarray:
    active = info.active_items(Z)
    if active.sum() < 2:
        raise ValueError(
            f"the range of one {item} is over 20 times that of all others, which InfoM and InfoC then leave out; "
            "z-score codes first"
        )
    return active


def _measure(
    Z: np.ndarray,
    factors: Sequence[Factor],
    is_fit: np.ndarray,
    active: np.ndarray,
    settings: _Settings,
    penalties: np.ndarray | None = None,
) -> _Measured:
    """Return all measures of some codes and factors."""
    X = prediction.zscored(Z, is_fit)
    information = info.information(Z, factors, settings.bins, settings.estimator, settings.seed)
    normalized = information / info.entropies(factors)
    importances = prediction.importances(X, factors, is_fit, settings.importance, settings.seed, penalties)
    readouts = [
        prediction.read_out(X, factor, is_fit, predicted)
        for factor, predicted in zip(factors, importances.predicted, strict=True)
    ]
    scores = _scores_of_tables(information, normalized, importances.table, active)
    scores |= prediction.held_out_scores(readouts, np.arange(int((~is_fit).sum())))
    return _Measured(information, normalized, importances, readouts, scores)


def _scores_of_tables(B: np.ndarray, N: np.ndarray, P: np.ndarray, active: np.ndarray) -> dict[str, float]:
    return {
        "mig": info.mean_gap(N),
        "dci_disentanglement": info.weighted_concentration(P),
        "dci_completeness": info.weighted_concentration(P.T),
        "modularity": info.modularity(B),
        "infom": info.concentration(N[active]),
        "infoc": info.concentration(N[active].T),
    }


def _intervals(
    Z: np.ndarray,
    factors: Sequence[Factor],
    is_fit: np.ndarray,
    active: np.ndarray,
    found: _Measured,
    settings: _Settings,
    photographs: np.ndarray,
    n_resamples: int,
) -> dict[str, float]:
    """Return the limits of each measure: by halves of all stimuli, and of the scored ones with readouts as fitted."""
    require_levels_in_halves([factor.take(~is_fit) for factor in factors])
    bar = progress(total=2 * n_resamples + 51, desc="halves of the stimuli", unit="half", leave=False)

    def of_tables(rows: np.ndarray) -> list[float]:
        bar.update()
        some, fit, part = Z[rows], is_fit[rows], [factor.take(rows) for factor in factors]
        B = info.information(some, part, settings.bins, settings.estimator, settings.seed)
        penalties = found.importances.penalties
        X = prediction.zscored(some, fit)
        P = prediction.importances(X, part, fit, settings.importance, settings.seed, penalties).table
        scores = _scores_of_tables(B, B / info.entropies(part), P, active)
        return [scores[name] for name in OF_ALL]

    def held_out(rows: np.ndarray) -> list[float]:
        scores = prediction.held_out_scores(found.readouts, rows)
        return [scores[name] for name in HELD_OUT]

    limits: dict[str, float] = {}
    with bar:
        for names, statistic, groups in (
            (OF_ALL, of_tables, photographs),
            (HELD_OUT, held_out, photographs[~is_fit]),
        ):
            interval = halves_interval(
                statistic, len(groups), n_resamples=n_resamples, stimulus_groups=groups, random_state=settings.seed
            )
            margins = ((interval.estimate_high - interval.estimate_low) / 2).values
            for name, margin in zip(names, margins, strict=True):
                limits |= {f"{name}_low": found.scores[name] - margin, f"{name}_high": found.scores[name] + margin}
    return limits


def _null_means(
    Z: np.ndarray,
    factors: Sequence[Factor],
    is_fit: np.ndarray,
    active: np.ndarray,
    settings: _Settings,
    penalties: np.ndarray | None,
    n_permutations: int,
) -> dict[str, float]:
    """Return the mean of each measure over permutations of all factors together, which keep how factors correlate."""
    rng = np.random.default_rng([settings.seed, 1])
    drawn: list[dict[str, float]] = []
    for _ in progress(range(n_permutations), desc="permuted factors", unit="draw", leave=False):
        # within stimuli to fit and to score on, so that each side keeps all levels
        order = np.arange(len(Z))
        order[is_fit], order[~is_fit] = rng.permutation(order[is_fit]), rng.permutation(order[~is_fit])
        permuted = [factor.take(order) for factor in factors]
        # chosen again, penalties would leave a weight or none to each item, which looks disentangled
        drawn.append(_measure(Z, permuted, is_fit, active, settings, penalties).scores)
    return {f"{name}_null": float(np.mean([scores[name] for scores in drawn])) for name in (*OF_ALL, *HELD_OUT)}
