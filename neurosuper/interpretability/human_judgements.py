"""Validation of interpretability scores against human judgements.

A judgement is the answer of one person to one trial of the two-alternative task of IMI: given nine references from the
top and nine from the bottom, which of two queries drives the unit more? A unit is identified by `model`, `layer` and
`channel`, and each of its trials by `batch`; some trials have several judgements.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats
from sklearn.metrics import roc_auc_score

from neurosuper._checks import check_count, check_share, one_line
from neurosuper.responses import check_labels, coords_along, name_some

UNIT = ["model", "layer", "channel"]
NEEDED = [*UNIT, "batch", "correct", "confidence"]
LEFT_OUT = ("is_demo", "catch_trial")  # columns that mark demonstrations and checks of attention
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
MAX_BYTES = 2**28  # of an unpacked table: five times that of IMI; a larger file is refused before it fills memory
Measure = Callable[[pd.DataFrame], dict[str, Any]]


def read_judgements(path: str | Path) -> pd.DataFrame:
    r"""Return a table of human judgements, one answer per row, from a file as published by IMI.

    In their archive (Zenodo 8131197) it is `responses_main.csv`.

    Parameters
    ----------
    path : str or Path
        A .csv or .csv.gz file with the columns `model`, `layer`, `channel`, `batch`, `correct` (true or false, 1 or 0)
        and `confidence` (1, 2 or 3). `neurosuper.datasets.info("imi-2023")` says where to get that of IMI, and
        `neurosuper.datasets.fetch("imi-2023")` returns its path.

    Returns
    -------
    DataFrame
        Without demonstrations and catch trials, where columns `is_demo` and `catch_trial` mark them. Labels are
        strings, `correct` is bool, `confidence` int; further columns are unchanged. To select a condition, index the
        table: `judgements[judgements["mode"] == "natural"]`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Another kind of file, missing columns, or values that are not allowed.

    See Also
    --------
    validate_against_humans : How well scores predict these judgements.
    agreement_with_humans : How often a machine gives the same answers.

    References
    ----------
    Zimmermann, Klein, Brendel 2023, "Scale alone does not improve mechanistic interpretability in vision models",
    arXiv 2307.05471.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> table = "model,layer,channel,batch,correct,confidence\nresnet50,layer1,7,0,True,3\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "judgements.csv")
    ...     written = path.write_text(table)
    ...     read_judgements(path).loc[0, "channel"]
    '7'
    """
    path = Path(path)
    if not path.name.endswith((".csv", ".csv.gz")):
        raise ValueError(f"judgements are a .csv or .csv.gz file, got {path.name}; write one with DataFrame.to_csv")
    if not path.is_file():
        raise FileNotFoundError(f"no judgements at {path}; check the path")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES / 1e6:.0f} MB")
        table = pd.read_csv(io.BytesIO(content), low_memory=False)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        reason = one_line(error)
        raise ValueError(f"{path.name} is not a readable table ({reason}); fetch it again") from error
    return _check_judgements(table)


def validate_against_humans(
    scores: xr.DataArray,
    judgements: pd.DataFrame,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | None = 0,
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
        Number of bootstrap resamples of the units, at least 1.
    confidence_level : float, optional
        Confidence level of the intervals, strictly between 0 and 1.
    random_state : int, optional
        Seed of the bootstrap.

    Returns
    -------
    Dataset
        Over `unit`, for units with a score and judgements: `score`, `human_accuracy` and `n_judgements`, with the
        coords of `scores`. Over `group` (all trials, those of each layer, and those of each confidence; coords `by` and
        `value`): `n_units`, `n_trials`, and the `accuracy` of people; the correlations `pearson` and `spearman` of
        score and human accuracy over units, with percentile intervals `pearson_low`, `pearson_high`, `spearman_low` and
        `spearman_high`; and `auc`, the probability that the unit of a correct judgement has a higher score than that of
        an incorrect one. Correlations are NaN for fewer than 3 units, or without variation. attrs: `n_units_unjudged`,
        `n_judgements_unscored`, `n_resamples` and `confidence_level`.

    Raises
    ------
    ValueError
        Scores that are not (unit,), have NaN, or lack coords; two units with the same coords; no unit in common (three
        of each side are shown); missing columns or values that are not allowed in the judgements.

    See Also
    --------
    read_judgements : Reads the judgements.
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
    judgements, machine = _check_judgements(judgements), _score_table(scores)
    trials = _join(machine, judgements, _key(machine, judgements))
    bootstrap = partial(_interval, n_resamples=n_resamples, level=confidence_level, random_state=random_state)
    result = _by_group(trials, partial(_validity, bootstrap=bootstrap))
    units = trials.groupby("unit")
    judged = scores.sel(unit=scores.indexes["unit"].isin(units.groups.keys()))
    by_unit = {
        "score": judged.reset_coords(drop=True),
        "human_accuracy": ("unit", units["correct"].mean()[judged.unit.values].to_numpy()),
        "n_judgements": ("unit", units.size()[judged.unit.values].to_numpy()),
    }
    unmatched = {"n_units_unjudged": scores.size - judged.size, "n_judgements_unscored": len(judgements) - len(trials)}
    settings = {"n_resamples": int(n_resamples), "confidence_level": confidence_level}
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
    judgements, machine = _check_judgements(judgements), _answer_table(machine_correct)
    trials = _join(machine, judgements, [*_key(machine, judgements), "batch"])
    return _by_group(trials, partial(_agreement, level=confidence_level)).assign_attrs(
        n_judgements_unanswered=len(judgements) - len(trials), confidence_level=confidence_level
    )


def _check_judgements(judgements: pd.DataFrame) -> pd.DataFrame:
    """Return judgements with checked and converted columns, without demonstrations and catch trials."""
    if not isinstance(judgements, pd.DataFrame):
        raise TypeError(f"judgements must be a DataFrame, got {type(judgements).__name__}; see read_judgements")
    _require_columns(judgements, NEEDED, "judgements")
    for mark in LEFT_OUT:
        if mark in judgements:
            marks = judgements[mark]
            judgements = judgements[~_truth(marks.astype(object).where(marks.notna(), False))]
    if judgements.empty:
        raise ValueError("judgements have only demonstrations and catch trials; check the table")
    confidence = pd.to_numeric(judgements["confidence"], errors="coerce")
    if (wrong := ~confidence.isin([1, 2, 3])).any():
        raise ValueError(f"confidence must be 1, 2 or 3, got {name_some(judgements['confidence'][wrong].unique())}")
    checked = {"correct": _truth(judgements["correct"]), "confidence": confidence.astype(int)}
    return judgements.assign(**_labels(judgements, [*UNIT, "batch"]), **checked).reset_index(drop=True)


def _require_columns(table: pd.DataFrame, names: list[str], what: str) -> None:
    if missing := [name for name in names if name not in table]:
        has = name_some(table.columns, 12)
        raise ValueError(
            f"no column {name_some(missing, len(NEEDED))} in {what}, which has {has}; rename or add columns"
        )


def _truth(values: pd.Series) -> pd.Series:
    """Return values as bool, from any spelling in `TRUTH`."""
    truth = values.astype(str).str.lower().map(TRUTH)
    if (wrong := truth.isna()).any():
        raise ValueError(f"{values.name} must be true or false, or 1 or 0, got {name_some(values[wrong].unique())}")
    return truth.astype(bool)


def _labels(table: pd.DataFrame, names: list[str]) -> dict[str, pd.Series]:
    """Return columns of labels as strings; a channel or batch 7 is read as 7.0 if its column had gaps."""
    labels = {name: table[name].astype(str) for name in names}
    for name in names:
        if (missing := table[name].isna()).any():
            raise ValueError(f"no {name} in {int(missing.sum())} rows; drop them with .dropna(subset=[{name!r}])")
        if name in ("channel", "batch"):
            labels[name] = labels[name].str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
    return labels


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
    _require_columns(machine, ["correct"], "machine_correct")
    answered = machine[machine["correct"].notna()]
    return _keyed(answered.assign(machine=_truth(answered["correct"])), ["batch"], "machine_correct")


def _keyed(table: pd.DataFrame, more: list[str], what: str) -> pd.DataFrame:
    """Return a table whose key columns are strings, and identify each row."""
    _require_columns(table, [*UNIT[1:], *more], what)
    key = [name for name in UNIT if name in table] + more
    table = table[[name for name in ("unit", "score", "machine") if name in table and name not in key]].assign(
        **_labels(table, key)
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


def _validity(trials: pd.DataFrame, bootstrap: Callable) -> dict[str, Any]:
    """Return correlations of the scores of units with the accuracy of people in these trials."""
    units = trials.groupby("unit").agg(score=("score", "first"), accuracy=("correct", "mean"))
    a, b = units["score"].to_numpy(float), units["accuracy"].to_numpy(float)
    measures = {"n_units": len(units), "n_trials": len(trials), "accuracy": trials["correct"].mean()}
    is_defined = len(units) >= 3 and bool(np.ptp(a)) and bool(np.ptp(b))
    for name, correlate in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        measures[name] = correlate(a, b).statistic if is_defined else np.nan
        interval = bootstrap(a, b, ranked=name == "spearman") if is_defined else (np.nan, np.nan)
        measures[f"{name}_low"], measures[f"{name}_high"] = interval
    measures["auc"] = roc_auc_score(trials["correct"], trials["score"]) if trials["correct"].nunique() == 2 else np.nan
    return measures


def _interval(
    a: np.ndarray, b: np.ndarray, ranked: bool, n_resamples: int, level: float, random_state: int | None
) -> np.ndarray:
    """Return the percentile bootstrap interval of a correlation; resamples without variation are left out."""
    # Pairs (a, b) of units are resampled; Spearman's correlation is Pearson's of the ranks in each resample.
    chosen = np.random.default_rng(random_state).integers(len(a), size=(n_resamples, len(a)))
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
