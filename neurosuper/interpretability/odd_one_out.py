"""Intrusion: whether an image metric finds the image that does not drive a unit among those that do."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.inference import adjust_p_values
from neurosuper.interpretability.labelled_stimuli import open_codes
from neurosuper.interpretability.ranking import check_codes
from neurosuper.interpretability.ties import TieOrder, rank_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import coords_along

CONFIDENCE_LEVEL = 0.95
ROUNDING = 1e-6  # of the largest distance: equal ones may differ by less, as embeddings are in float32


def intrusion(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    n_images: int = 5,
    n_trials: int = 20,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how often an image metric finds the odd one out of several images, for each unit or direction.

    A trial shows `n_images` − 1 top images of an item and an intruder, an image that drives it little. The image with
    the largest mean distance to the others is the answer. No two trials of an item share a stimulus.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, without NaN. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        The observer: `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    n_images : int, optional
        Number of images of a trial, the intruder included; at least 3.
    n_trials : int, optional
        Number of trials of an item. They take its `n_trials` × (`n_images` − 1) top stimuli, at most half of all, and
        `n_trials` of the other half.
    random_state : int, Generator, RandomState or None, optional
        Seed of the intruders, and of the order of stimuli with equal codes.

    Returns
    -------
    Dataset (unit,) or (direction,)
        `accuracy`, the share of trials with the right answer (of several equally distant images, the share that is the
        intruder), with its exact interval `accuracy_low` and `accuracy_high` (Clopper and Pearson, for independent
        trials); `p_value`, one-sided, against chance, and `p_adjusted` (Benjamini and Hochberg) over items; and the
        scalar `chance_level`, 1/`n_images`. attrs: `method`, `quantity`, `metric`, `n_images`, `n_trials`,
        `confidence_level`, `random_state`.

    Raises
    ------
    ValueError
        Codes and images share no stimulus; codes with NaN, or constant ones; too few stimuli; settings out of range.

    See Also
    --------
    psychophysics : A task with two queries, and references of both ends.
    interpretability_index : The mean distance of the top images.

    Notes
    -----
    Each trial has one of the highest of the top stimuli, one of the next, and so on, so that all are equally hard;
    intruders are drawn from the lower half of the stimuli. If codes have nothing to do with the images, all images of a
    trial have the same chance to be the answer, and the accuracy is binomial.

    An item that prefers plain images, which are near to all others, has a high accuracy though these share nothing
    else; one that prefers unusual images has one below chance. Compare it with a matched baseline.

    References
    ----------
    Chang, Gerrish, Wang, Boyd-Graber, Blei 2009, "Reading tea leaves" (word intrusion). Klindt et al. 2025, "From
    superposition to sparse codes", arXiv 2503.01824.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> grey = np.arange(40, dtype=np.uint8)[:, None, None, None]
    >>> images = load_images(6 * grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> codes = xr.DataArray(np.arange(40.)[:, None], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["bright"]})
    >>> result = intrusion(codes, images, Color(), n_images=3, n_trials=5)
    >>> result.accuracy.values.tolist(), round(result.chance_level.item(), 2)
    ([1.0], 0.33)
    """
    images, seed = check_images(images), seed_or_new(random_state)
    codes = open_codes(join_images(check_codes(codes), images))
    n_images = check_count("n_images", n_images, least=3)
    n_trials = check_count("n_trials", n_trials)
    item, n = str(codes.dims[1]), codes.sizes["stimulus"]
    if (needed := 2 * n_trials * (n_images - 1)) > n:
        raise ValueError(
            f"{n_trials} trials of {n_images} images need {needed} stimuli, twice the top ones that are shown, got "
            f"{n}; lower n_trials or n_images, or use more stimuli"
        )
    shown = _arrange(codes, n_images, n_trials, seed)
    places = images.get_index("stimulus").get_indexer(codes.stimulus.values)
    chosen, at = np.unique(places[shown], return_inverse=True)
    with open_distances(images, chosen, metric) as distances:
        flat = at.reshape(-1, n_images)
        far = distances.between(flat, flat).sum(2).reshape(shown.shape)  # of each image to the others of its trial
    farthest = far >= (1 - ROUNDING) * far.max(2, keepdims=True)
    right = (farthest[:, :, -1] / farthest.sum(2)).sum(1)
    tail, wrong = (1 - CONFIDENCE_LEVEL) / 2, n_trials - right
    columns = {
        "accuracy": right / n_trials,
        # Clopper and Pearson: B(α/2; k, n − k + 1) and B(1 − α/2; k + 1, n − k), quantiles of beta distributions
        "accuracy_low": np.where(right > 0, stats.beta.ppf(tail, np.maximum(right, 1e-9), wrong + 1), 0),
        "accuracy_high": np.where(wrong > 0, stats.beta.isf(tail, right + 1, np.maximum(wrong, 1e-9)), 1),
        # of ties, whole right answers count
        "p_value": stats.binom.sf(np.floor(right + 1e-9) - 1, n_trials, 1 / n_images),
    }
    attrs: dict = {"method": "odd one out", "quantity": "accuracy", "metric": metric.name, "n_images": n_images}
    attrs |= {"n_trials": n_trials, "confidence_level": CONFIDENCE_LEVEL, "random_state": seed} | left_out(codes)
    variables: dict = {name: (item, values) for name, values in columns.items()} | {"chance_level": 1 / n_images}
    result = xr.Dataset(variables, coords_along(codes, item), attrs)
    return result.assign(p_adjusted=adjust_p_values(result.p_value))


def _arrange(codes: xr.DataArray, n_images: int, n_trials: int, seed: int) -> np.ndarray:
    """Return positions of the stimuli of each trial, `(item, trial, image)`, the intruder last."""
    ties = TieOrder(codes.stimulus.values.astype(str), codes[codes.dims[1]].values, seed)
    order, n = rank_stimuli(codes.values, ties), codes.sizes["stimulus"]
    top = order[:, : n_trials * (n_images - 1)].reshape(len(order), n_images - 1, n_trials).transpose(0, 2, 1)
    # The same places of the lower half for all items, so that a trial does not depend on which items there are.
    places = n - 1 - np.random.default_rng(seed).permutation(n // 2)[:n_trials]
    return np.concatenate([top, order[:, places][:, :, None]], axis=2)
