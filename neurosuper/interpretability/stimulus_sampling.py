"""How sure is a mean index, and a difference between two: stimuli are a sample, and so are units or directions.

v(n) is the variance of a mean index over stimuli, of which there are n, the items being given. Two random halves,
without a stimulus in common, tell v(n/2), which is at least v(n); quarters tell v(n/4), and so how fast v falls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from neurosuper._checks import check_count, check_counts, check_share
from neurosuper._content import all_stimuli, photographs_of
from neurosuper._joins import LEFT_OUT, join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.random_splits import draw_parts, fewest_in_part, index_of_parts, top_of_parts
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import require_varying

N_DRAWS = 50
FALL = (0.5, 1.0)  # of v, from n to 2n: that of a mean over stimuli, and none


def index_interval(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    n_resamples: int = N_DRAWS,
    confidence_level: float = 0.95,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return the mean interpretability index, with an interval for other stimuli and other items of the same kind.

    All items choose from the same images, so an interval over items alone (`bootstrap_interval`) is too narrow for any
    claim that goes beyond these images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Without NaN, on at least twice as many stimuli as `top`. Stimuli without an image are left out. Directions are
        taken as given: let them be found on other stimuli.
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric or Precomputed
    top : int, optional
        Number of top stimuli.
    n_resamples : int, optional
        How often stimuli are divided at random, at least 10.
    confidence_level : float, optional
        Strictly between 0 and 1.
    random_state : int, optional

    Returns
    -------
    Dataset
        Numbers: `interpretability`, the mean index; its `standard_error`, `interpretability_low` and
        `interpretability_high`; the variances that this is made of: `var_stimuli`, shared by all items, and, of a
        single item, `var_interaction` (over stimuli, beyond what items share) and `var_items` (among items, whatever
        the stimuli); `fall`, the factor by which twice as many stimuli lower the first two (NaN of fewer than four
        times as many stimuli as `top`). attrs: `n` items, `n_stimuli`, and how it was done.

    Raises
    ------
    ValueError
        Too few stimuli; fewer than two items; NaN or constant codes; settings out of range.

    Notes
    -----
    The variance over stimuli is that between random halves of them, averaged over draws: of half as many stimuli, so
    that it is rather too large, though not by the factor of two that a mean over stimuli would give. Few images drive
    an item, and the more there are, the more extreme are those that do. A bootstrap of stimuli would not do: it draws
    some twice, and two copies of an image are more alike than any two images. The scatter of items is added as in a
    crossed design, and the interval is that of the normal distribution. Where few images of extreme contrast drive all
    items it is too narrow. `make validate` says how often it holds the truth.

    References
    ----------
    Wolter 2007, Introduction to Variance Estimation, chapter 2 (random groups).
    Owen 2007, Ann. Appl. Stat. 1, 386-411 (crossed random effects).

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 256, (80, 1, 1, 3), dtype=np.uint8))
    >>> codes = xr.DataArray(rng.normal(size=(80, 20)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]})
    >>> mean = index_interval(codes, images, Color())
    >>> bool(mean.interpretability_low < mean.interpretability < mean.interpretability_high), mean.n, mean.n_stimuli
    (True, 20, 80)
    """
    _check_settings(n_resamples, confidence_level)
    (sample,), about = _sample([codes], images, metric, top, n_resamples, random_state)
    variances, estimate = variances_of([sample]), float(sample.scores.mean())
    numbers = {"interpretability": estimate} | _interval(
        "interpretability", estimate, variances.total([sample.n]), confidence_level
    )
    numbers |= variances.told([sample.n])
    return xr.Dataset(numbers, attrs={"n": sample.n, **about, "confidence_level": confidence_level})


def index_difference(
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    top: int = 5,
    n_resamples: int = N_DRAWS,
    confidence_level: float = 0.95,
    random_state: int | None = 0,
) -> xr.Dataset:
    """Return by how much two mean indices differ, with an interval and a test for other stimuli and other items.

    For finder against finder and for system against system, on the same stimuli, on others, or on some in common. To
    `permutation_test` stimuli are no sample, and its p is too small where the same images drive many items of a set.

    Parameters
    ----------
    a, b : DataArray (stimulus, unit) or (stimulus, direction)
        As for `index_interval`, each.
    images, metric, top, n_resamples, confidence_level, random_state
        As for `index_interval`.

    Returns
    -------
    Dataset
        Numbers: `difference` of means (a − b), `standard_error`, `difference_low`, `difference_high`, and `p_value`,
        two-sided; `estimate_a`, `estimate_b`, `n_a`, `n_b`; variances as from `index_interval`, of single items with
        `_a` and `_b`. attrs: `n_stimuli` of both together, and how it was done.

    Raises
    ------
    ValueError
        As `index_interval`.

    Examples
    --------
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
    (first, second), about = _sample([a, b], images, metric, top, n_resamples, random_state)
    return compare_samples(first, second, confidence_level).assign_attrs(about)


def index_power(
    pilot: xr.Dataset,
    *,
    n_stimuli: int | Sequence[int],
    n_items: int | Sequence[int],
    difference: float | None = None,
    alpha: float = 0.05,
) -> xr.DataArray:
    """Return the probability that `index_difference` finds a difference, of so many stimuli and items.

    Parameters
    ----------
    pilot : Dataset
        From `index_difference`.
    n_stimuli : int or sequence of int
        Stimuli to score on.
    n_items : int or sequence of int
        Items of each of the two sets, such as units and as many directions.
    difference : float, optional
        The true difference of means, in the unit of the index; None: that of the pilot, which flatters where it was
        chosen for being large.
    alpha : float, optional
        Level of the test.

    Returns
    -------
    DataArray (n_stimuli, n_items)
        Name `power`, from `alpha` to 1.

    Raises
    ------
    TypeError
        Not a Dataset from `index_difference`.
    ValueError
        A pilot of too few stimuli to tell how variances fall; numbers below 2; `alpha` not between 0 and 1.

    Notes
    -----
    The difference is taken to be the same whatever the number of stimuli, and the fall of variances over stimuli to go
    on as from quarters to halves of the pilot: the farther from its number of stimuli, the more this is a guess.

    Examples
    --------
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
            f"the pilot has {pilot.n_stimuli} stimuli, too few to tell how variances fall with their number; lower its "
            "`top`, or take at least 4 × `top`, shown to both sets"
        )
    stimuli, items = (_counts(n, name) for n, name in ((n_stimuli, "n_stimuli"), (n_items, "n_items")))
    sums = {name: float(pilot[f"{name}_a"] + pilot[f"{name}_b"]) for name in ("var_interaction", "var_items")}
    falls = pilot.fall ** np.log2(stimuli / pilot.n_stimuli)
    error = np.sqrt((pilot.var_stimuli + sums["var_interaction"] / items) * falls + sums["var_items"] / items)
    sought = abs(float(pilot.difference) if difference is None else difference) / error
    critical = stats.norm.isf(alpha / 2)
    power = xr.apply_ufunc(lambda z: stats.norm.sf(critical - z) + stats.norm.cdf(-critical - z), sought)
    return power.transpose("n_stimuli", "n_items").rename("power").assign_attrs(alpha=alpha)


def _counts(n: int | Sequence[int], name: str) -> xr.DataArray:
    counts = check_counts(name, n)
    return xr.DataArray(counts, dims=name, coords={name: counts})


class Sample(NamedTuple):
    """The index of each item `(item,)`, and on halves and quarters of the stimuli `(draw, part, item)`."""

    scores: np.ndarray
    halves: np.ndarray
    quarters: np.ndarray | None = None  # where there are enough stimuli

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.scores)


class Variances(NamedTuple):
    """Variances of a mean index, or of the difference of two; those of single items for each of the sets of items."""

    over_stimuli: float  # the items being given
    interaction: Sequence[float]
    items: Sequence[float]
    fall: float

    def total(self, counts: Sequence[int]) -> float:
        """Return the variance over stimuli and so many items."""
        return self.over_stimuli + sum(own / n for own, n in zip(self.items, counts, strict=True))

    def told(self, counts: Sequence[int]) -> dict[str, float]:
        """Return what a Dataset tells of them."""
        sides = [""] if len(counts) == 1 else ["_a", "_b"]
        shared = self.over_stimuli - sum(own / n for own, n in zip(self.interaction, counts, strict=True))
        single = {"var_interaction": self.interaction, "var_items": self.items}
        of_items = {name + side: own for name, both in single.items() for side, own in zip(sides, both, strict=True)}
        return {"var_stimuli": max(0.0, shared)} | of_items | {"fall": self.fall}


def variances_of(samples: Sequence[Sample]) -> Variances:
    """Return the variances of the mean index of one set of items, or of the difference between two."""
    of_halves = _variance_over_parts(_difference([sample.halves for sample in samples]))
    interaction, items = zip(*map(_of_single_items, samples), strict=True)
    return Variances(of_halves, interaction, items, _fall(of_halves, [sample.quarters for sample in samples]))


def _fall(of_halves: float, quarters: Sequence[np.ndarray | None]) -> float:
    known = [own for own in quarters if own is not None]
    of_quarters = _variance_over_parts(_difference(known)) if len(known) == len(quarters) else 0
    return float(np.clip(of_halves / of_quarters, *FALL)) if of_quarters else np.nan


def _difference(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over items `(draw, part)`, of two sets its difference."""
    first, *other = (own.mean(-1) for own in parts)
    return first - sum(other)


def _of_single_items(sample: Sample) -> tuple[float, float]:
    """Return the variance of one item over stimuli, beyond what items share, and that among items beside it.

    Items share S; an item varies by S + I over stimuli, the mean of k items by S + I/k, and items among each other, on
    given stimuli, by I + J.
    """
    of_mean, of_one = _variance_over_parts(sample.halves.mean(-1)), _variance_over_parts(sample.halves)
    shared = max(0.0, (of_mean - of_one / sample.n) / (1 - 1 / sample.n))
    interaction = max(0.0, of_one - shared)
    return interaction, max(0.0, float(sample.scores.var(ddof=1)) - interaction)


def _variance_over_parts(values: np.ndarray) -> float:
    """Return the variance of values on parts `(draw, part, …)`, averaged over draws and items."""
    return float(values.var(axis=1, ddof=1).mean())


def compare_samples(a: Sample, b: Sample, confidence_level: float = 0.95) -> xr.Dataset:
    """Return the numbers of `index_difference`, from samples on the same parts."""
    variances, counts = variances_of([a, b]), (a.n, b.n)
    difference = float(a.scores.mean() - b.scores.mean())
    interval = _interval("difference", difference, variances.total(counts), confidence_level)
    numbers = {"difference": difference} | interval | {"p_value": _two_sided_p(difference, interval["standard_error"])}
    numbers |= {"estimate_a": a.scores.mean(), "estimate_b": b.scores.mean(), "n_a": a.n, "n_b": b.n}
    about = {"statistic": "mean", "alternative": "two-sided", "confidence_level": confidence_level}
    return xr.Dataset(numbers | variances.told(counts), attrs=about)


def _two_sided_p(difference: float, error: float) -> float:
    if error > 0:
        return float(2 * stats.norm.sf(abs(difference) / error))
    return 0.0 if difference else 1.0


def _interval(name: str, center: float, variance: float, confidence_level: float) -> dict[str, float]:
    error = float(np.sqrt(variance))
    margin = stats.norm.isf((1 - confidence_level) / 2) * error
    return {"standard_error": error, f"{name}_low": center - margin, f"{name}_high": center + margin}


def _sample(
    sets: Sequence[xr.DataArray],
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    top: int,
    n_resamples: int,
    random_state: int | None,
) -> tuple[list[Sample], dict]:
    """Return the index of every set of items, on all stimuli and on the same parts, and what there is to say of it."""
    images = check_images(images)
    sets = [_check_set(codes, images) for codes in sets]
    stimuli = all_stimuli(sets)
    rng, index = np.random.default_rng(random_state), images.get_index("stimulus")
    labels, photographs = stimuli.stimulus.values, photographs_of(stimuli)
    divided = [draw_parts(labels, n_parts, n_resamples, rng, photographs) for n_parts in (2, 4)]
    if min(fewest_in_part(codes, divided[1]) for codes in sets) < top:
        del divided[1]
    tops = [top_stimuli(codes, top=top) for codes in sets]
    shown = [_shown(codes, chosen, index, divided, top) for codes, chosen in zip(sets, tops, strict=True)]
    chosen = np.unique(np.concatenate([places.ravel() for own in shown for places in own]))
    with open_distances(images, chosen, metric) as distances:
        sources = [distances] + [distances.as_matrix()] * len(divided)
        scored = [
            [
                index_of_parts(source, np.searchsorted(chosen, places), metric.self_similarity)
                for source, places in zip(sources, own, strict=True)
            ]
            for own in shown
        ]
    samples = [Sample(whole[0, 0], *parts) for whole, *parts in scored]
    about = {"n_stimuli": len(labels), "top": int(top), "metric": metric.name, "quantity": index_label(metric)}
    for key, told in ((LEFT_OUT, map(left_out, sets)), ("n_items_with_copies", map(copies_among, tops))):
        if any(counts := [of_set.get(key, 0) for of_set in told]):
            about[key] = counts if len(counts) > 1 else counts[0]
    return samples, about | {
        "n_resamples": int(n_resamples),
        "random_state": -1 if random_state is None else random_state,
    }


def _shown(
    codes: xr.DataArray, chosen: xr.DataArray, index: pd.Index, divided: Sequence[xr.DataArray], top: int
) -> list[np.ndarray]:
    """Return positions of images `(draw, part, item, rank)`: the top of all stimuli, and of each division of them."""
    places = index.get_indexer(codes.stimulus.values)
    whole = index.get_indexer(chosen.values.T.ravel()).reshape(1, 1, -1, top)
    return [whole, *(places[top_of_parts(codes, parts, top)] for parts in divided)]


def _check_set(codes: xr.DataArray, images: xr.DataArray) -> xr.DataArray:
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    if codes.shape[1] < 2:
        raise ValueError(
            f"how items scatter takes at least 2 to tell, got {codes.shape[1]}; score more units or directions"
        )
    return codes


def _check_settings(n_resamples: int, confidence_level: float) -> None:
    check_count("n_resamples", n_resamples, least=10)
    check_share("confidence_level", confidence_level, 0.95)
