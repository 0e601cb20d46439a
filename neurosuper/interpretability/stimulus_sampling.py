"""Intervals, tests and power for mean indices, treating both stimuli and items as random samples.

v(n) variance of a mean index over samples of n stimuli, for given items (see `variance_components`). S, I and J are its
components `var_stimuli`, `var_interaction` and `var_items`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from neurosuper._checks import check_count, check_counts, check_share
from neurosuper._content import all_stimuli, photographs_of
from neurosuper._joins import LEFT_OUT, join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.corrections import Correction, check_correction, correct_each, describe_correction
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.random_splits import draw_splits, index_of_sets, smallest_group, top_in_groups
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.interpretability.variance_components import ItemScores, variances_of
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import require_varying

N_RESAMPLES = 50  # random splits; were they independent, a variance of halves would have a relative s.e. of √(2/50)


def index_interval(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    n_resamples: int = N_RESAMPLES,
    confidence_level: float = 0.95,
    random_state: int | None = 0,
    correction: Literal["hub"] | None = None,
) -> xr.Dataset:
    """Return the mean interpretability index, with a confidence interval over stimuli and items.

    The interval is for other stimuli and other items of the same kind. All items have their top stimuli among the same
    images, so an interval over items alone (`bootstrap_interval`) is too narrow for any claim beyond these images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Without NaN, for at least twice as many stimuli as `top`. Stimuli without an image are left out. Directions are
        taken as given: fit them on other stimuli.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    top : int, optional
        Number of top stimuli.
    n_resamples : int, optional
        Number of random splits of the stimuli, at least 10.
    confidence_level : float, optional
        Strictly between 0 and 1.
    random_state : int, optional
        Seed of the random splits.
    correction : {"hub"}, optional
        "hub": the hub-corrected index (see `interpretability_index`), over the stimuli that have codes and images. The
        same correction is used for all splits.

    Returns
    -------
    Dataset
        Scalars: `interpretability`, the mean index, with `interpretability_low` and `interpretability_high`, and its
        `standard_error`; the variance components `var_stimuli` (over stimuli, shared by all items), `var_interaction`
        (over stimuli, of a single item, beyond the shared part) and `var_items` (over items, of a single item); and
        `fall`, the factor by which doubling the stimuli lowers the first two components (NaN with fewer than
        four times as many stimuli as `top`). attrs: `n_items`, `n_stimuli`, `confidence_level`, and the settings.

    Raises
    ------
    ValueError
        Too few stimuli; fewer than two items; NaN or constant codes; settings out of range.

    See Also
    --------
    index_difference : Interval and test of the difference between two mean indices.
    neurosuper.inference.bootstrap_interval : Interval over items or groups of items, for given stimuli.
    neurosuper.interpretability_index : The index of each item.

    Notes
    -----
    The variance over stimuli is estimated by the variance between random halves, averaged over splits. A half has half
    as many stimuli, so the estimate is too large, but by less than the factor of two that it would be for a mean over
    stimuli: only a few images drive an item, and with more images these are more extreme. A bootstrap of stimuli would
    be wrong: it draws some of them twice, and two copies of an image are more similar than any two images. The variance
    over items is added as in a crossed design, and the interval is normal. The interval is too narrow if a few images
    of extreme contrast drive all items. `make validate` measures its coverage.

    References
    ----------
    Wolter 2007, Introduction to Variance Estimation, chapter 2 (random groups).
    Owen 2007, Ann. Appl. Stat. 1, 386-411 (crossed random effects).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 256, (80, 1, 1, 3), dtype=np.uint8))
    >>> codes = xr.DataArray(rng.normal(size=(80, 20)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]})
    >>> mean = index_interval(codes, images, Color())
    >>> bool(mean.interpretability_low < mean.interpretability < mean.interpretability_high)
    True
    >>> mean.n_items, mean.n_stimuli
    (20, 80)
    """
    _check_settings(n_resamples, confidence_level)
    (items,), attrs = _score_sets([codes], images, metric, top, n_resamples, random_state, correction)
    variances, mean = variances_of([items]), float(items.scores.mean())
    numbers = {"interpretability": mean}
    numbers |= _interval("interpretability", mean, variances.total([items.n]), confidence_level)
    numbers |= variances.summary([items.n])
    return xr.Dataset(numbers, attrs={"n_items": items.n, **attrs, "confidence_level": confidence_level})


def index_difference(
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    n_resamples: int = N_RESAMPLES,
    confidence_level: float = 0.95,
    random_state: int | None = 0,
    correction: Literal["hub"] | None = None,
) -> xr.Dataset:
    """Return the difference between two mean indices, with a confidence interval and a test over stimuli and items.

    Compare two finders or two systems, on the same stimuli, on different ones, or on partly the same. In contrast,
    `permutation_test` treats the stimuli as fixed, and its p is too small if the same images drive many items of a set.

    Parameters
    ----------
    a, b : DataArray (stimulus, unit) or (stimulus, direction)
        As for `index_interval`, each.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    top : int, optional
        Number of top stimuli.
    n_resamples : int, optional
        Number of random splits of the stimuli, at least 10.
    confidence_level : float, optional
        Strictly between 0 and 1.
    random_state : int, optional
        Seed of the random splits.
    correction : {"hub"}, optional
        "hub": the hub-corrected index, of each set over its own stimuli.

    Returns
    -------
    Dataset
        Scalars: `difference` of means (a − b), with `difference_low`, `difference_high` and `standard_error`; the
        two-sided `p_value`; `estimate_a` and `estimate_b` (the means), `n_a` and `n_b` (numbers of items); variance
        components as from `index_interval`, those of single items with `_a` and `_b`. attrs: `n_stimuli` of both sets
        together, `confidence_level`, and the settings.

    Raises
    ------
    ValueError
        Too few stimuli; fewer than two items; NaN or constant codes; settings out of range.

    See Also
    --------
    index_interval : Interval of one mean index; its Notes describe the method.
    index_power : Power of this test with other numbers of stimuli and items.
    neurosuper.inference.permutation_test : Test over items alone.
    neurosuper.inference.test_sentence : The result as a sentence for a paper.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.arange(240, dtype=np.uint8).reshape(80, 1, 1, 3))
    >>> noise = xr.DataArray(np.random.default_rng(0).normal(size=(80, 20)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]})
    >>> tuned = noise + xr.DataArray(np.arange(80.), dims="stimulus")
    >>> result = index_difference(tuned, noise, images, Color())
    >>> bool(result.difference > 0), bool(result.p_value < 0.001)
    (True, True)
    """
    _check_settings(n_resamples, confidence_level)
    (first, second), attrs = _score_sets([a, b], images, metric, top, n_resamples, random_state, correction)
    return compare_mean_index(first, second, confidence_level).assign_attrs(attrs)


def index_power(
    pilot: xr.Dataset,
    *,
    n_stimuli: int | Sequence[int],
    n_items: int | Sequence[int],
    difference: float | None = None,
    alpha: float = 0.05,
) -> xr.DataArray:
    """Return the power of `index_difference` with other numbers of stimuli and items.

    Parameters
    ----------
    pilot : Dataset
        From `index_difference`.
    n_stimuli : int or sequence of int
        Numbers of stimuli to score on.
    n_items : int or sequence of int
        Numbers of items in each of the two sets, such as units and equally many directions.
    difference : float, optional
        The true difference of means, in the unit of the index. None: that of the pilot, which gives too high a power if
        the pilot was chosen because its difference is large.
    alpha : float, optional
        Significance level of the test.

    Returns
    -------
    DataArray (n_stimuli, n_items)
        Name `power`, from `alpha` to 1.

    Raises
    ------
    TypeError
        Not a Dataset from `index_difference`.
    ValueError
        A pilot with too few stimuli to estimate how variances decrease; numbers below 2; `alpha` not between 0 and 1.

    See Also
    --------
    index_difference : The test, which also gives the pilot.
    neurosuper.inference.statistical_power : Power over items alone, for given stimuli.

    Notes
    -----
    The difference is assumed not to depend on the number of stimuli, and variances over stimuli to decrease at the rate
    seen from quarters to halves of the pilot. The farther from the pilot's number of stimuli, the less certain this is.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper.interpretability import index_difference
    >>> from neurosuper import Color, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 256, (80, 1, 1, 3), dtype=np.uint8))
    >>> a, b = (xr.DataArray(rng.normal(size=(80, 20)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]}) for _ in "ab")
    >>> pilot = index_difference(a, b, images, Color())
    >>> power = index_power(pilot, n_stimuli=[80, 320], n_items=[20, 80], difference=0.1)
    >>> power.dims, bool((power.diff("n_items") > 0).all())
    (('n_stimuli', 'n_items'), True)
    """
    if not isinstance(pilot, xr.Dataset) or not {"difference", "var_items_b", "fall"} <= set(pilot):
        raise TypeError(f"pilot must be a Dataset from index_difference, got {type(pilot).__name__}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be strictly between 0 and 1, got {alpha!r}; 0.05 is usual")
    if np.isnan(pilot.fall):
        raise ValueError(
            f"the pilot has {pilot.n_stimuli} stimuli, too few to estimate how variances decrease with their number; "
            "lower its `top`, or use at least 4 × `top` stimuli, shown to both sets"
        )
    stimuli, items = (
        xr.DataArray(counts, dims=name, coords={name: counts})
        for name, counts in (
            ("n_stimuli", check_counts("n_stimuli", n_stimuli)),
            ("n_items", check_counts("n_items", n_items)),
        )
    )
    sums = {name: float(pilot[f"{name}_a"] + pilot[f"{name}_b"]) for name in ("var_interaction", "var_items")}
    # v(n) = v(n₀) fall^log₂(n/n₀): each doubling of the stimuli multiplies the variance over them by `fall`
    falls = pilot.fall ** np.log2(stimuli / pilot.n_stimuli)
    # Var(difference) = (S + I/k) v(n)/v(n₀) + J/k, with k items in each set
    error = np.sqrt((pilot.var_stimuli + sums["var_interaction"] / items) * falls + sums["var_items"] / items)
    effect = abs(float(pilot.difference) if difference is None else difference) / error
    critical = stats.norm.isf(alpha / 2)
    # power = P(|Z + effect| > critical), Z standard normal
    power = xr.apply_ufunc(lambda z: stats.norm.sf(critical - z) + stats.norm.cdf(-critical - z), effect)
    return power.transpose("n_stimuli", "n_items").rename("power").assign_attrs(alpha=alpha)


def compare_mean_index(a: ItemScores, b: ItemScores, confidence_level: float = 0.95) -> xr.Dataset:
    """Return the result of `index_difference` for items scored on the same splits."""
    variances, counts = variances_of([a, b]), (a.n, b.n)
    difference = float(a.scores.mean() - b.scores.mean())
    interval = _interval("difference", difference, variances.total(counts), confidence_level)
    if (error := interval["standard_error"]) > 0:
        p = float(2 * stats.norm.sf(abs(difference) / error))
    else:
        p = 0.0 if difference else 1.0
    numbers = {"difference": difference} | interval | {"p_value": p}
    numbers |= {"estimate_a": a.scores.mean(), "estimate_b": b.scores.mean(), "n_a": a.n, "n_b": b.n}
    attrs = {"statistic": "mean", "alternative": "two-sided", "confidence_level": confidence_level}
    return xr.Dataset(numbers | variances.summary(counts), attrs=attrs)


def _interval(name: str, center: float, variance: float, confidence_level: float) -> dict[str, float]:
    """Return center ± z √variance, z the normal quantile."""
    error = float(np.sqrt(variance))
    margin = stats.norm.isf((1 - confidence_level) / 2) * error
    return {"standard_error": error, f"{name}_low": center - margin, f"{name}_high": center + margin}


def _score_sets(
    sets: Sequence[xr.DataArray],
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    top: int,
    n_resamples: int,
    random_state: int | None,
    correction: Correction,
) -> tuple[list[ItemScores], dict]:
    """Return the scores of every set of items, on all stimuli and on the same random splits, and the attrs."""
    check_correction(correction, None)
    images = check_images(images)
    sets = [_check_set(codes, images) for codes in sets]
    stimuli = all_stimuli(sets)
    rng, index = np.random.default_rng(random_state), images.get_index("stimulus")
    labels, photographs = stimuli.stimulus.values, photographs_of(stimuli)
    splits = [draw_splits(labels, n_groups, n_resamples, rng, photographs) for n_groups in (2, 4)]
    if min(smallest_group(codes, splits[1]) for codes in sets) < top:
        del splits[1]
    tops = [top_stimuli(codes, top=top) for codes in sets]
    shown = [_images_to_score(codes, best, index, splits, top) for codes, best in zip(sets, tops, strict=True)]
    # A correction is over all images that were scored; without one, only top images are embedded.
    scored = [index.get_indexer(codes.stimulus.values) for codes in sets]
    needed = [places.ravel() for of_set in shown for places in of_set] if correction is None else scored
    chosen, (ending, about) = np.unique(np.concatenate(needed)), describe_correction(correction, None)
    with open_distances(images, chosen, metric) as distances:
        similarity = metric.self_similarity if correction is None else 0.0
        own = [np.searchsorted(chosen, places) for places in scored]
        sources = correct_each(distances, distances.as_matrix(), own, correction)
        scores = [
            [
                index_of_sets(source, np.searchsorted(chosen, places), similarity)
                for source, places in zip([direct, *[as_matrix] * len(splits)], of_set, strict=True)
            ]
            for (direct, as_matrix), of_set in zip(sources, shown, strict=True)
        ]
    attrs = {"n_stimuli": len(labels), "top": int(top), "metric": metric.name, "quantity": index_label(metric) + ending}
    attrs |= about
    for key, of_sets in ((LEFT_OUT, map(left_out, sets)), ("n_items_with_copies", map(copies_among, tops))):
        if any(counts := [of_set.get(key, 0) for of_set in of_sets]):
            attrs[key] = counts if len(counts) > 1 else counts[0]
    attrs |= {"n_resamples": int(n_resamples), "random_state": -1 if random_state is None else random_state}
    return [ItemScores(*of_set) for of_set in scores], attrs


def _images_to_score(
    codes: xr.DataArray, chosen: xr.DataArray, index: pd.Index, splits: Sequence[xr.DataArray], top: int
) -> list[np.ndarray]:
    """Return positions of images: `(item, rank)` of all stimuli, and `(draw, group, item, rank)` of each split."""
    places = index.get_indexer(codes.stimulus.values)
    whole = index.get_indexer(chosen.values.T.ravel()).reshape(-1, top)
    return [whole, *(places[top_in_groups(codes, split, top)] for split in splits)]


def _check_set(codes: xr.DataArray, images: xr.DataArray) -> xr.DataArray:
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    if codes.shape[1] < 2:
        raise ValueError(
            f"the variance over items needs at least 2 items, got {codes.shape[1]}; score more units or directions"
        )
    return codes


def _check_settings(n_resamples: int, confidence_level: float) -> None:
    check_count("n_resamples", n_resamples, least=10)
    check_share("confidence_level", confidence_level, 0.95)
