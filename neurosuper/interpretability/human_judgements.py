"""Validation of interpretability scores against human judgements (see `judgement_tables`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats
from sklearn.metrics import roc_auc_score

from neurosuper._checks import Seed, check_count, check_share, seed_or_new
from neurosuper.interpretability.human_reliability import MIN_CEILING, ceiling_of
from neurosuper.interpretability.judgement_tables import (
    NEEDED,
    UNIT,
    check_judgements,
    label_columns,
    require_columns,
    truth,
)
from neurosuper.responses import check_labels, coords_along, name_some

Measure = Callable[[pd.DataFrame], dict[str, Any]]


def validate_against_humans(
    scores: xr.DataArray,
    judgements: pd.DataFrame,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how well scores of units predict the accuracy of human judgements.

    Parameters
    ----------
    scores : DataArray (unit,)
        With the unit coords `layer` and `channel`, and also `model` if judgements are of several models. Higher is more
        interpretable.
    judgements : DataFrame
        See `read_judgements`; the dataset `imi-2023` is that of the paper.
    n_resamples : int, optional
        Number of bootstrap resamples of the units, and of random halves of their trials, at least 1.
    confidence_level : float, optional
        Confidence level of the intervals, strictly between 0 and 1.
    random_state : int, Generator, RandomState or None, optional
        Seed of the bootstrap and of the halves.

    Returns
    -------
    Dataset
        Over `unit`, for units with a score and judgements: `score`, `human_accuracy` and `n_judgements`, with the
        coords of `scores`. Over `group` (all trials, those of each layer, and those of each confidence; coords `by` and
        `value`): `n_units`, `n_trials`, and the `accuracy` of people; the correlations `pearson` and `spearman` of
        score and human accuracy over units, with percentile intervals `pearson_low`, `pearson_high`, `spearman_low` and
        `spearman_high`; the `ceiling` of `pearson` for a perfect score (see `human_ceiling`; halves of the trials of
        this group), and `pearson_ceiled`, pearson/ceiling, which may be above 1, and is NaN where the ceiling is below
        0.1; and `auc`, the probability that the unit of a correct judgement has a higher score than that of an
        incorrect one. Correlations are NaN for fewer than 3 units, or without variation. attrs: `n_units_unjudged`,
        `n_judgements_unscored`, `n_resamples`, `confidence_level` and `random_state`.

    Raises
    ------
    ValueError
        Scores that are not (unit,), have NaN, or lack coords; two units with the same coords; no unit in common (three
        of each side are shown); missing columns or values that are not allowed in the judgements.

    See Also
    --------
    read_judgements : Reads the judgements.
    human_ceiling : The reliability of the judgements, and the AUC of one person for another.
    agreement_with_humans : Agreement on single trials.

    References
    ----------
    Zimmermann, Klein, Brendel 2023, arXiv 2307.05471; Zimmermann, Klindt, Brendel 2024 (MIS), whose validation this is.

    Examples
    --------
    >>> import pandas as pd
    >>> import xarray as xr
    >>> scores = xr.DataArray([0.1, 0.2, 0.4], dims="unit", coords={"unit": list("abc"),
    ...     "layer": ("unit", ["layer1"] * 3), "channel": ("unit", [0, 1, 2])})
    >>> judgements = pd.DataFrame({"model": "net", "layer": "layer1", "channel": [0, 0, 1, 1, 2, 2], "batch": 0,
    ...     "correct": [0, 0, 0, 1, 1, 1], "confidence": [1, 2, 1, 2, 3, 3]})
    >>> result = validate_against_humans(scores, judgements)
    >>> result.human_accuracy.values.tolist(), round(float(result.spearman.sel(group="all")), 3)
    ([0.0, 0.5, 1.0], 1.0)
    """
    n_resamples = check_count("n_resamples", n_resamples)
    check_share("confidence_level", confidence_level, 0.95)
    seed = seed_or_new(random_state)
    judgements, machine = check_judgements(judgements), _score_table(scores)
    trials = _join(machine, judgements, _key(machine, judgements))
    bootstrap = partial(_interval, n_resamples=n_resamples, level=confidence_level, seed=seed)
    ceiling = partial(ceiling_of, n_resamples=n_resamples, seed=seed)
    result = _by_group(trials, partial(_validity, bootstrap=bootstrap, ceiling=ceiling))
    units = trials.groupby("unit")
    judged = scores.sel(unit=scores.indexes["unit"].isin(units.groups.keys()))
    by_unit = {
        "score": judged.reset_coords(drop=True),
        "human_accuracy": ("unit", units["correct"].mean()[judged.unit.values].to_numpy()),
        "n_judgements": ("unit", units.size()[judged.unit.values].to_numpy()),
    }
    unmatched = {"n_units_unjudged": scores.size - judged.size, "n_judgements_unscored": len(judgements) - len(trials)}
    settings = {"n_resamples": int(n_resamples), "confidence_level": confidence_level, "random_state": seed}
    return result.assign(by_unit).assign_coords(coords_along(judged, "unit")).assign_attrs(unmatched | settings)


def agreement_with_humans(
    machine_correct: xr.DataArray | pd.DataFrame, judgements: pd.DataFrame, *, confidence_level: float = 0.95
) -> xr.Dataset:
    """Return the agreement of a machine with people: the share of judgements that are both correct or both incorrect.

    Parameters
    ----------
    machine_correct : DataArray or DataFrame
        Whether the machine is correct in each trial: true or false, 1 or 0, NaN without an answer. A DataArray of any
        dims with the coords `layer`, `channel`, `batch`, and also `model` if judgements are of several models; or a
        DataFrame with such columns and `correct`.
    judgements : DataFrame
        See `read_judgements`.
    confidence_level : float, optional
        Confidence level of the interval, strictly between 0 and 1.

    Returns
    -------
    Dataset
        Over `group` (all trials, those of each layer, and those of each confidence of the person; coords `by` and
        `value`): `n_units`; `n_trials`, the number of judgements; `agreement`, with its exact binomial interval
        `agreement_low` and `agreement_high` (Clopper and Pearson 1934, for independent judgements); `machine_accuracy`
        and `human_accuracy`. attrs: `n_judgements_unanswered` and `confidence_level`.

    Raises
    ------
    ValueError
        Missing coords or columns, a trial that the machine answers twice, no trial in common (three of each side are
        shown), or values that are not allowed.

    See Also
    --------
    read_judgements : Reads the judgements.
    answer_trials : Answers of an image metric to given trials.
    validate_against_humans : Correlation of scores with the accuracy of people.

    Examples
    --------
    >>> import pandas as pd
    >>> import xarray as xr
    >>> judgements = pd.DataFrame({"model": "net", "layer": "layer1", "channel": 0, "batch": [0, 1, 1],
    ...                            "correct": [1, 1, 0], "confidence": [3, 2, 1]})
    >>> machine = xr.DataArray([[True, True]], dims=("unit", "batch"),
    ...     coords={"layer": ("unit", ["layer1"]), "channel": ("unit", [0]), "batch": [0, 1]})
    >>> round(float(agreement_with_humans(machine, judgements).agreement.sel(group="all")), 3)
    0.667
    """
    check_share("confidence_level", confidence_level, 0.95)
    judgements, machine = check_judgements(judgements), _answer_table(machine_correct)
    trials = _join(machine, judgements, [*_key(machine, judgements), "batch"])
    return _by_group(trials, partial(_agreement, level=confidence_level)).assign_attrs(
        n_judgements_unanswered=len(judgements) - len(trials), confidence_level=confidence_level
    )


def _score_table(scores: xr.DataArray) -> pd.DataFrame:
    """Return scores as a table with one row per unit."""
    if not isinstance(scores, xr.DataArray) or scores.dims != ("unit",):
        got = scores.dims if isinstance(scores, xr.DataArray) else type(scores).__name__
        raise ValueError(f"scores must be a DataArray (unit,), got {got}; select one metric")
    scores = check_labels(scores, "unit", "scores")
    if (bad := ~np.isfinite(scores.values)).any():
        raise ValueError(f"no score of unit {name_some(scores.unit.values[bad])}; drop it with scores.dropna('unit')")
    columns = {name: np.broadcast_to(scores[name].values, scores.shape) for name in UNIT if name in scores.coords}
    table = pd.DataFrame({"unit": scores.unit.values, "score": scores.values} | columns)
    return _keyed(table, [], "scores")


def _answer_table(machine: xr.DataArray | pd.DataFrame) -> pd.DataFrame:
    """Return the answers of the machine as a table with one row per trial."""
    if isinstance(machine, xr.DataArray):
        if missing := [name for name in ("layer", "channel", "batch") if name not in machine.coords]:
            raise ValueError(f"machine_correct has no coords {name_some(missing)}; add them with .assign_coords")
        machine = machine.rename("correct").to_dataframe().reset_index()
    if not isinstance(machine, pd.DataFrame):
        raise TypeError(f"machine_correct must be a DataArray or DataFrame, got {type(machine).__name__}")
    require_columns(machine, ["correct"], "machine_correct")
    answered = machine[machine["correct"].notna()]
    return _keyed(answered.assign(machine=truth(answered["correct"])), ["batch"], "machine_correct")


def _keyed(table: pd.DataFrame, more: list[str], what: str) -> pd.DataFrame:
    """Return a table whose key columns are strings, and identify each row."""
    require_columns(table, [*UNIT[1:], *more], what)
    key = [name for name in UNIT if name in table] + more
    table = table[[name for name in ("unit", "score", "machine") if name in table and name not in key]].assign(
        **label_columns(table, key)
    )
    if (twice := table.duplicated(key)).any():
        raise ValueError(f"{name_some(_names(table[twice], key))} twice in {what}; add the model, or drop one of them")
    return table


def _key(machine: pd.DataFrame, judgements: pd.DataFrame) -> list[str]:
    """Return the columns to join units by; the model is left out if there is only one."""
    models = judgements["model"].unique()
    if "model" not in machine and len(models) > 1:
        raise ValueError(
            f"judgements are of the models {name_some(models)}; select one, or add `model` to the scores or answers"
        )
    return UNIT if "model" in machine else UNIT[1:]


def _join(machine: pd.DataFrame, judgements: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Return the judgements of units or trials that the machine scored or answered."""
    trials = judgements[NEEDED].merge(machine, on=key)
    if trials.empty:
        ours, theirs = (name_some(pd.unique(_names(table, key))) for table in (machine, judgements))
        raise ValueError(
            f"nothing in common by {'/'.join(key)}: {ours} against {theirs} of the judgements; rename them"
        )
    return trials


def _names(table: pd.DataFrame, key: list[str]) -> pd.Series:
    return table[key].agg("/".join, axis=1)


def _by_group(trials: pd.DataFrame, measure: Measure) -> xr.Dataset:
    """Return measures of all trials, of those of each layer, and of those of each confidence."""
    parts = {("all", "all"): trials}
    for by in ("layer", "confidence"):
        parts |= {(by, str(value)): part for value, part in trials.groupby(by)}
    measures = [measure(part) for part in parts.values()]
    columns = {name: np.array([found[name] for found in measures]) for name in measures[0]}
    by, value = zip(*parts, strict=True)
    labels = ["all" if b == "all" else f"{b} {v}" for b, v in parts]
    coords = {"group": labels, "by": ("group", list(by)), "value": ("group", list(value))}
    return xr.Dataset({name: ("group", column) for name, column in columns.items()}, coords)


def _validity(trials: pd.DataFrame, bootstrap: Callable, ceiling: Callable) -> dict[str, Any]:
    """Return correlations of the scores of units with the accuracy of people in these trials."""
    units = trials.groupby("unit").agg(score=("score", "first"), accuracy=("correct", "mean"))
    a, b = units["score"].to_numpy(float), units["accuracy"].to_numpy(float)
    measures = {"n_units": len(units), "n_trials": len(trials), "accuracy": trials["correct"].mean()}
    is_defined = len(units) >= 3 and bool(np.ptp(a)) and bool(np.ptp(b))
    for name, correlate in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        measures[name] = correlate(a, b).statistic if is_defined else np.nan
        interval = bootstrap(a, b, ranked=name == "spearman") if is_defined else (np.nan, np.nan)
        measures[f"{name}_low"], measures[f"{name}_high"] = interval
    measures["ceiling"] = ceiling(trials)["ceiling"]
    measures["pearson_ceiled"] = (
        measures["pearson"] / measures["ceiling"] if measures["ceiling"] >= MIN_CEILING else np.nan
    )
    measures["auc"] = roc_auc_score(trials["correct"], trials["score"]) if trials["correct"].nunique() == 2 else np.nan
    return measures


def _interval(a: np.ndarray, b: np.ndarray, ranked: bool, n_resamples: int, level: float, seed: int) -> np.ndarray:
    """Return the percentile bootstrap interval of a correlation; resamples without variation are left out."""
    # Pairs (a, b) of units are resampled; Spearman's correlation is Pearson's of the ranks in each resample.
    chosen = np.random.default_rng(seed).integers(len(a), size=(n_resamples, len(a)))
    x, y = (stats.rankdata(values[chosen], axis=1) if ranked else values[chosen] for values in (a, b))
    varies = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    if not varies.any():
        return np.full(2, np.nan)
    x, y = (values[varies] - values[varies].mean(axis=1, keepdims=True) for values in (x, y))
    # r = Σ x y / √(Σ x² Σ y²), of centred x and y
    correlations = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.quantile(correlations, [(1 - level) / 2, (1 + level) / 2])


def _agreement(trials: pd.DataFrame, level: float) -> dict[str, Any]:
    """Return the share of these judgements in which machine and person agree, with its interval."""
    n_same = int((trials["machine"] == trials["correct"]).sum())
    interval = stats.binomtest(n_same, len(trials)).proportion_ci(level, method="exact")
    return {
        "n_units": len(trials.drop_duplicates(UNIT)),
        "n_trials": len(trials),
        "agreement": n_same / len(trials),
        "agreement_low": interval.low,
        "agreement_high": interval.high,
        "machine_accuracy": trials["machine"].mean(),
        "human_accuracy": trials["correct"].mean(),
    }
