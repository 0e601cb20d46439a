"""Machine psychophysics: an image metric answers, from reference images, which of two images drives a unit more.

Δ evidence: s(q⁺, E⁺) − s(q⁻, E⁺) − s(q⁺, E⁻) + s(q⁻, E⁻), with queries q and references E from the top (⁺) and the
bottom (⁻), and s the similarity (minus distance) of a query, pooled over references. A trial is correct if Δ > 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from scipy.special import expit
from scipy.stats import beta

from neurosuper._checks import Seed, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper._labels import clean_labels
from neurosuper.images import check_images
from neurosuper.interpretability.ranking import check_codes
from neurosuper.interpretability.trials import (
    DESIGNS,
    NONE,
    DesignName,
    Query,
    Trials,
    choose_trials,
    warn_of_copies_in_trials,
)
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import coords_along, name_some

Pool = Literal["mean", "max"]
POOLS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "max": np.max}
CONFIDENCE_LEVEL = 0.95  # of the interval of the accuracy
LONG_NAMES = {
    "accuracy": "share of correct trials",
    "accuracy_low": "lower limit of the 95 % interval",
    "accuracy_high": "upper limit of the 95 % interval",
    "score": "mean σ(α Δ)",
}


def psychophysics(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    design: DesignName = "imi",
    n_references: int = 9,
    n_trials: int = 20,
    query: Query | None = None,
    quantiles: Sequence[float] | None = None,
    pool: Pool | None = None,
    zscore: bool | None = None,
    slope: float | None = None,
    random_state: Seed = 0,
    evidence: bool = False,
) -> xr.Dataset:
    """Return the accuracy of an image metric in the two-alternative task of human studies, for each unit or direction.

    A trial shows reference images from the top and the bottom of the codes of an item, and asks which of two queries
    belongs to the top; the image metric takes the place of a person. Each image is embedded once.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        The observer: `LPIPS`, `Features`, … or `Precomputed` distances.
    design : {"imi", "scripts", "mis", "paper"}, optional
        How the images of a trial are chosen; see `make_trials`.
    n_references : int, optional
        Number of reference images from the top, and from the bottom.
    n_trials : int, optional
        Number of trials of each quantile; fewer if there are too few stimuli.
    query : {"extreme", "least-extreme"}, optional
        Whether a query is more extreme than the references of its side, or less. None: as in the design.
    quantiles : sequence of float, optional
        Shares of the stimuli, from 0 to below 0.5, to leave out at the top and at the bottom. None: 0 and 0.25 with
        "scripts", otherwise 0.
    pool : {"mean", "max"}, optional
        How similarities to the references of one side are combined. None: "max" with design "paper", otherwise "mean".
    zscore : bool, optional
        Whether the similarities of a trial are scaled to mean 0 and variance 1 first. None: with "imi" and "scripts".
    slope : float, optional
        Slope α of the score, mean σ(α Δ). None: 0.16 with "mis", otherwise 1.
    random_state : int, Generator, RandomState or None, optional
        Seed of the trials.
    evidence : bool, optional
        Also return `evidence`, Δ of each trial.

    Returns
    -------
    Dataset (unit, quantile) or (direction, quantile)
        `accuracy`, the share of correct trials (a trial with Δ = 0 counts as half), with its exact interval
        `accuracy_low` and `accuracy_high` (Clopper and Pearson 1934, for independent trials); `score`; and `n_trials
        (quantile,)`, less than requested if there are too few stimuli. NaN at quantiles without trials. attrs:
        `confidence_level`, `design`, `random_state`, `metric`, `pool`, `zscore`, `slope`, and, if trials show
        copies of one photograph (see `find_copies`), `n_trials_with_copies`, which also gives a warning.

    Raises
    ------
    ValueError
        Codes and images share no stimulus, too few for one trial, NaN or constant codes, unknown settings.

    See Also
    --------
    neurosuper.interpretability.make_trials : The trials alone.
    neurosuper.interpretability.answer_trials : Answers to given trials.
    neurosuper.interpretability.agreement_with_humans : Comparison with the answers of people.
    neurosuper.plot.plot_difficulty : A figure of the accuracy against the quantiles.

    References
    ----------
    Zimmermann, Klein, Brendel 2023, arXiv 2307.05471 (task); Klindt et al. 2023, arXiv 2310.11431, eq. 2–3 and code;
    Zimmermann, Klindt, Brendel 2024 (score, with α = 0.16).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> grey = np.arange(40, dtype=np.uint8)[:, None, None, None]
    >>> images = load_images(6 * grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> codes = xr.DataArray(np.arange(40.)[:, None], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["bright"]})
    >>> result = psychophysics(codes, images, Color(), n_references=3, n_trials=5)
    >>> result.accuracy.values.tolist(), result.accuracy_low.values.round(2).tolist()
    ([[1.0]], [[0.48]])
    """
    images, seed = check_images(images), seed_or_new(random_state)
    codes = join_images(check_codes(codes), images)
    chosen = choose_trials(codes, design, n_references, n_trials, query, quantiles, seed)
    places = np.append(images.get_index("stimulus").get_indexer(codes.stimulus.values), NONE)
    shown = chosen._replace(query=places[chosen.query], reference=places[chosen.reference])
    given = {name: value for name, value in (("pool", pool), ("zscore", zscore), ("slope", slope)) if value is not None}
    result = _answer(shown, images, metric, evidence=evidence, **(DESIGNS[design].observer | given))
    item = str(codes.dims[1])
    attrs = {"design": design, "random_state": seed} | left_out(codes) | warn_of_copies_in_trials(codes, chosen)
    return result.rename(item=item).assign_coords(coords_along(codes, item)).assign_attrs(attrs)


def answer_trials(
    trials: xr.Dataset,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    pool: Pool = "mean",
    zscore: bool = True,
    slope: float = 1.0,
    evidence: bool = False,
) -> xr.Dataset:
    """Return the accuracy of an image metric in given trials, such as those of a human study.

    Parameters
    ----------
    trials : Dataset
        Labels of stimuli as from `make_trials`: `queries (unit, quantile, trial, end)` and `references (unit, quantile,
        trial, reference_end, reference)`; empty labels mean that there is no trial.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    pool : {"mean", "max"}, optional
        How similarities to the references of one side are combined.
    zscore : bool, optional
        Whether the similarities of a trial are scaled to mean 0 and variance 1 first.
    slope : float, optional
        Slope α of the score, mean σ(α Δ).
    evidence : bool, optional
        Also return `evidence`, Δ of each trial.

    Returns
    -------
    Dataset (unit, quantile)
        As from `psychophysics`.

    Raises
    ------
    ValueError
        A stimulus without an image, or unknown settings.

    See Also
    --------
    psychophysics : Makes trials and answers them.
    make_trials : Makes trials.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> from neurosuper.interpretability import make_trials
    >>> grey = np.arange(0, 240, 20, dtype=np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 2, 2, 3), np.uint8))
    >>> codes = xr.DataArray(np.arange(12.)[:, None], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["bright"]})
    >>> answer_trials(make_trials(codes, n_references=2, n_trials=2), images, Color()).accuracy.item()
    1.0
    """
    images = check_images(images)
    item = str(trials["queries"].dims[0])
    labels = [trials[name].transpose(item, "quantile", "trial", ...).values for name in ("queries", "references")]
    labels = [np.array(clean_labels(values.ravel().tolist())).reshape(values.shape) for values in labels]
    index = images.get_index("stimulus")
    positions = [index.get_indexer(values.ravel()).reshape(values.shape) for values in labels]
    missing = [values[(at < 0) & (values != "")] for values, at in zip(labels, positions, strict=True)]
    if len(unknown := np.unique(np.concatenate(missing))):
        raise ValueError(f"no image for stimulus {name_some(unknown)}; images have {name_some(index)}")
    n_trials = (positions[0][0, :, :, 0] != NONE).sum(-1).tolist()
    shown = Trials(positions[0], positions[1], n_trials, trials["quantile"].values.tolist())
    result = _answer(shown, images, metric, pool=pool, zscore=zscore, slope=slope, evidence=evidence)
    return result.rename(item=item).assign_coords(coords_along(trials["queries"], item))


def _answer(
    shown: Trials,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    pool: str,
    zscore: bool,
    slope: float,
    evidence: bool,
) -> xr.Dataset:
    """Return accuracy and score `(item, quantile)` of trials given as positions of images."""
    if pool not in POOLS:
        raise ValueError(f"pool must be 'mean' or 'max', got {pool!r}")
    delta = np.full(shown.query.shape[:-1], np.nan)
    valid = shown.query[..., 0] != NONE
    delta[valid] = _evidence(shown.query[valid], shown.reference[valid], images, metric, pool, zscore)
    n_trials = valid.sum(-1)
    with np.errstate(invalid="ignore"):  # NaN without trials
        # correct = Σ (sign Δ + 1)/2, score = mean σ(α Δ)
        right, total = ((np.sign(delta) + 1) / 2).sum(-1, where=valid), expit(slope * delta).sum(-1, where=valid)
        columns = {"accuracy": right / n_trials, "score": total / n_trials}
    columns |= dict(zip(("accuracy_low", "accuracy_high"), _exact_interval(right, n_trials), strict=True))
    dims = ("item", "quantile")
    result = xr.Dataset(
        {name: (dims, values, {"long_name": LONG_NAMES[name]}) for name, values in columns.items()},
        coords={"quantile": ("quantile", shown.quantiles, {"long_name": "share of stimuli left out at each side"})},
        attrs={
            "confidence_level": CONFIDENCE_LEVEL,
            "metric": metric.name,
            "pool": pool,
            "zscore": int(zscore),
            "slope": slope,
        },
    ).assign(n_trials=("quantile", shown.n_trials))
    return result.assign(evidence=((*dims, "trial"), delta)) if evidence else result


def _evidence(
    query: np.ndarray,
    reference: np.ndarray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    pool: str,
    zscore: bool,
) -> np.ndarray:
    """Return Δ of each trial, from positions `query (trial, end)` and `reference (trial, end, image)`."""
    shown = np.concatenate([query, reference.reshape(len(query), -1)], axis=1)
    chosen, at = np.unique(shown, return_inverse=True)
    at = at.reshape(shown.shape)
    with open_distances(images, chosen, metric) as distances:
        similarity = -distances.between(at[:, :2], at[:, 2:])
    if zscore:  # s ← (s − mean)/sd over all queries and references of a trial
        similarity -= similarity.mean((1, 2), keepdims=True)
        spread = similarity.std((1, 2), keepdims=True)
        similarity /= np.where(spread > 0, spread, 1)
    pooled = POOLS[pool](
        similarity.reshape(len(query), 2, *reference.shape[1:]), axis=3
    )  # (trial, query, reference end)
    to_top, to_bottom = pooled[:, :, 0], pooled[:, :, 1:].sum(2)  # 0 if there are no references from the bottom
    # Δ = s(q⁺, E⁺) − s(q⁺, E⁻) − [s(q⁻, E⁺) − s(q⁻, E⁻)]
    return (to_top - to_bottom) @ [1, -1]


def _exact_interval(right: np.ndarray, n_trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of Clopper and Pearson 1934; NaN without trials."""
    tail = (1 - CONFIDENCE_LEVEL) / 2
    wrong = n_trials - right
    # low = B(α/2; k, n − k + 1), high = B(1 − α/2; k + 1, n − k), quantiles of beta distributions
    low, high = beta.ppf(tail, right, wrong + 1), beta.ppf(1 - tail, right + 1, wrong)
    some = n_trials > 0
    return np.where(right > 0, low, np.where(some, 0, np.nan)), np.where(wrong > 0, high, np.where(some, 1, np.nan))
