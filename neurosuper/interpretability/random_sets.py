"""The chance level of the interpretability index: random sets of images."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.random_splits import index_of_sets
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances

CONFIDENCE_LEVEL = 0.95  # share of random sets between `interpretability_low` and `interpretability_high`
MAX_BLOCK = 2**23  # distances in float64 that are in memory at once: 64 MiB
LOW, HIGH = (1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2


def chance_level(
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    n_resamples: int = 1000,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the interpretability index of random sets of images: the score of a unit that ignores the images.

    The mean over all sets equals the mean over all pairs of images. It is exact: computed in closed form if the metric
    is a squared distance, otherwise from the matrix of all distances (400 MB for 10,000 images). The distribution of
    single sets is sampled.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    top : int, optional
        Number of images in a set: the number of top stimuli of the scores that are compared with the chance level.
    n_resamples : int, optional
        Number of random sets, each drawn without replacement, at least 2.
    random_state : int, Generator, RandomState or None, optional
        Seed; that of the sets is stored in the attrs.

    Returns
    -------
    Dataset
        In the unit of the index: `interpretability`, the exact mean over all sets; `interpretability_low` and
        `interpretability_high`, between which are 95 % of the sampled sets; `sampled_mean` and `sampled_sd` (ddof=1) of
        these sets. attrs: `confidence_level`, `metric`, `quantity`, `top`, `n_images`, `n_resamples`, `null` and
        `random_state`.

    Raises
    ------
    ValueError
        `top` below 2 or above the number of images; fewer than 2 sets.

    See Also
    --------
    null_test : Test against null models that keep more of the codes.
    interpretability_index : The index to compare with the chance level.

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper import Color, load_images
    >>> grey = np.array([0, 0, 255, 255], np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> chance = chance_level(images, Color(device="cpu"), top=2)
    >>> round(float(chance.interpretability), 4)  # −√3 in 4 of 6 pairs
    -1.1547
    """
    images, seed = check_images(images), seed_or_new(random_state)
    n_images = images.sizes["stimulus"]
    top = check_count("top", top, least=2, most=n_images, why=", the number of images")
    n_resamples = check_count("n_resamples", n_resamples, least=2)
    rng = np.random.default_rng(seed)
    sets = np.stack([rng.choice(n_images, top, replace=False) for _ in range(n_resamples)])
    with open_distances(images, np.arange(n_images), metric) as distances:
        mean = metric.self_similarity - distances.mean_of_all()
        index = index_of_sets(distances, sets, metric.self_similarity)
    sampled = xr.DataArray(index, dims="set")
    about = {"metric": metric.name, "quantity": index_label(metric), "top": int(top), "n_images": n_images}
    return xr.Dataset(
        {
            "interpretability": mean,
            "interpretability_low": sampled.quantile(LOW, "set", keep_attrs=False).drop_vars("quantile"),
            "interpretability_high": sampled.quantile(HIGH, "set", keep_attrs=False).drop_vars("quantile"),
            "sampled_mean": sampled.mean("set"),
            "sampled_sd": sampled.std("set", ddof=1),
        },
        attrs=about
        | {
            "n_resamples": int(n_resamples),
            "confidence_level": CONFIDENCE_LEVEL,
            "null": "random sets of images",
            "random_state": seed,
        },
    )


def sd_of_sets(table: np.ndarray, images: np.ndarray, terms: np.ndarray, top: int) -> float:
    """Return the standard deviation, over all sets of `top` images, of the mean of d_jk − s_j − s_k over their pairs.

    Parameters
    ----------
    table : array (image, image)
        Distances d.
    images : array (image,)
        Positions in `table` of the images that sets are of.
    terms : array (image,)
        Terms s of these images; twice their mean is the mean of d over all pairs.
    top : int

    Examples
    --------
    >>> distances = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])
    >>> round(sd_of_sets(distances, np.arange(3), np.ones(3), top=2) ** 2, 6)  # of 1, 2 and 3
    0.666667
    """
    n, squares, of_image, step = len(images), 0.0, np.empty(len(images)), max(1, MAX_BLOCK // len(images))
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        delta = table[images[rows]][:, images].astype(float) - terms[rows, None] - terms  # δ_jk
        delta[np.arange(len(rows)), rows] = 0
        squares += float((delta**2).sum())
        of_image[rows] = delta.sum(1)
    # The mean over K pairs has the variance Σ δ_jk δ_lm P(j, k, l, m in a set) / K². Of ordered pairs of pairs, those
    # that are the same pair sum to A, those that share one image to B, and the others to −A − B, as Σ δ = 0.
    A = squares / 2
    B = float((of_image**2).sum()) - squares
    # The probability that 1, 2, 3 and 4 given images are in a set; 0 if there are not as many.
    _, p2, p3, p4 = np.cumprod([(top - i) / max(1, n - i) for i in range(4)])
    K = top * (top - 1) / 2
    return float(np.sqrt(max(0.0, A * p2 + B * p3 - (A + B) * p4)) / K)


def chance_of_mean(
    mean: float, sd: float, n_items: int, confidence_level: float = CONFIDENCE_LEVEL
) -> tuple[float, float]:
    """Return the limits between which the mean index of random sets is, of as many sets as there are items.

    The sets are drawn independently from the same images, so that the variance of their mean is `sd`² / `n_items` for
    these images, and its distribution close to normal. Items of a population often pick the same images, and their mean
    then varies more than this: the band is no test of a mean index (see `index_interval`, `contrast_finders`).

    Parameters
    ----------
    mean, sd : float
        Mean and standard deviation of the index of single random sets.
    n_items : int
        Number of sets.
    confidence_level : float
        Share of means between the limits.

    Returns
    -------
    low : float
        NaN without items, as `high`.
    high : float

    Examples
    --------
    >>> [round(limit, 3) for limit in chance_of_mean(-0.66, 0.04, 100)]
    [-0.668, -0.652]
    """
    if not n_items:
        return np.nan, np.nan
    margin = float(stats.norm.isf((1 - confidence_level) / 2) * sd / np.sqrt(n_items))
    return mean - margin, mean + margin
