"""Reliability of the index of single items: whether those with a high index on some stimuli have it on others.

x, y (draw, item) index on two sets of stimuli with none in common; r their correlation over items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import Seed, check_count, check_counts, check_share, seed_or_new
from neurosuper._content import photographs_of
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label, index_of_top
from neurosuper.interpretability.random_splits import index_of_sets, top_in_groups
from neurosuper.interpretability.ranking import check_codes, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import require_varying

RELIABLE_ENOUGH = 0.5  # below, more than half of the variance between items is due to the stimuli that were shown
MIN_ITEMS = 4  # to leave one out and correlate the others
STIMULI_PER_TOP = 4  # of the smallest set by default, for each top stimulus


def index_reliability(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    sizes: int | Sequence[int] | None = None,
    top: int = 5,
    n_resamples: int = 100,
    confidence_level: float = 0.95,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the reliability of the index of single items: its correlation between sets of stimuli, over items.

    It limits every claim about single items, such as "this unit is interpretable", and every correlation of the index
    with another property of items, which is at most the square root of the reliability. Means over items, as in
    `index_interval`, may be precise all the same.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Without NaN, of at least 4 items. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    sizes : int or sequence of int, optional
        Numbers of stimuli in each of two sets, from `top` to half of all, in increasing order. None: half of all
        stimuli, a quarter, and so on, as long as that is 4 for each top stimulus.
    top : int, optional
        Number of top stimuli.
    n_resamples : int, optional
        Number of random pairs of sets of each size, at least 10.
    confidence_level : float, optional
        Strictly between 0 and 1.
    random_state : int, Generator, RandomState or None, optional
        Seed of the sets.

    Returns
    -------
    Dataset (size,)
        `reliability`, the correlation over items of the index between two sets of `size` stimuli with none in common,
        averaged over draws; `spearman_brown`, that expected between sets of twice this size, 2r/(1 + r): for the
        largest size, that of the index on all stimuli; both with `_low` and `_high`, an interval for other items and
        the same stimuli; `with_all`, the correlation with the index on all stimuli; and `reliable_enough`, whether
        `spearman_brown` is at least 0.5. attrs: `n_items`, `n_stimuli`, `confidence_level`, and the settings.

    Raises
    ------
    TypeError
        `random_state` is of another type.
    ValueError
        Too few stimuli or items; sizes that are too small or too large; NaN or constant codes; all items with the same
        index; settings out of range.

    See Also
    --------
    index_interval : Interval of the mean index.
    neurosuper.reliability.split_half_reliability : Reliability of responses, over repetitions.

    Notes
    -----
    The interval is that of the jackknife over items, for Fisher's z = arctanh r. The Spearman–Brown formula is exact
    for sums over stimuli. The index is none: in simulations, the formula predicted up to 0.2 too little where items
    follow categories, and up to 0.2 too much where squared distances between extreme stimuli decide. So compare
    `spearman_brown` of one size with `reliability` of twice the size.

    References
    ----------
    Spearman 1910, Br. J. Psychol. 3, 271-295; Brown 1910, Br. J. Psychol. 3, 296-322.
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 11 (jackknife).

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> from neurosuper.interpretability import index_reliability
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 256, (400, 1, 1, 3), dtype=np.uint8))
    >>> red = images.values[:, 0, 0, :1] / 64
    >>> tuned = np.linspace(0, 3, 20) * red + rng.normal(size=(400, 20))
    >>> codes = xr.DataArray(tuned, dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]})
    >>> of_sizes = index_reliability(codes, images, Color())
    >>> of_sizes["size"].values.tolist(), bool(of_sizes.reliable_enough[-1])
    ([25, 50, 100, 200], True)
    """
    check_share("confidence_level", confidence_level, 0.95)
    check_count("n_resamples", n_resamples, least=10)
    seed = seed_or_new(random_state)
    rng = np.random.default_rng(seed)
    images = check_images(images)
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    if (n_items := codes.shape[1]) < MIN_ITEMS:
        raise ValueError(f"a correlation over items needs at least {MIN_ITEMS}, got {n_items}; score more items")
    photographs = photographs_of(codes)
    sizes = _check_sizes(sizes, int(photographs.max()) + 1, top)
    splits = [_draw_pairs(codes, photographs, size, n_resamples, rng) for size in sizes]
    index = images.get_index("stimulus").get_indexer(codes.stimulus.values)
    places = [index[top_in_groups(codes, split, top, seed)] for split in splits]
    chosen = np.unique(np.concatenate([each.ravel() for each in places]))
    with open_distances(images, chosen, metric) as distances:
        table = distances.as_matrix()
        scores = [index_of_sets(table, np.searchsorted(chosen, each), metric.self_similarity) for each in places]
    on_all = index_of_top(top_stimuli(codes, top=top, random_state=seed), images, metric).values
    rows = [_summarize(both, on_all, confidence_level) for both in scores]
    attrs: dict = {"n_items": n_items, "n_stimuli": codes.sizes["stimulus"], **left_out(codes), "top": int(top)}
    attrs |= {"metric": metric.name, "quantity": index_label(metric), "confidence_level": confidence_level}
    attrs |= {"method": "correlation over items between disjoint sets of stimuli", "n_resamples": int(n_resamples)}
    attrs |= {"random_state": seed}
    columns = {name: ("size", np.array([row[name] for row in rows])) for name in rows[0]}
    return xr.Dataset(columns, {"size": sizes}, attrs)


def _check_sizes(sizes: int | Sequence[int] | None, n: int, top: int) -> list[int]:
    """Return sizes of sets of n stimuli (copies of a photograph counted once), in increasing order."""
    check_count("top", top, least=2, most=n // 2, why=f", half of the {n} stimuli")
    if sizes is None:
        halvings = [n // 2**i for i in range(1, n.bit_length()) if n // 2**i >= STIMULI_PER_TOP * top]
        return sorted(halvings) or [n // 2]
    checked = check_counts("sizes", sizes).tolist()
    if sorted(set(checked)) != checked or checked[0] < top or checked[-1] > n // 2:
        raise ValueError(
            f"sizes must increase from at least top = {top} to at most {n // 2}, half of the stimuli; got {sizes!r}"
        )
    return checked


def _draw_pairs(
    codes: xr.DataArray, photographs: np.ndarray, size: int, n_resamples: int, rng: np.random.Generator
) -> xr.DataArray:
    """Return whether each stimulus is in the first set (0), the second (1) or neither (2) in each draw."""
    marks = np.full(photographs.max() + 1, 2, np.int8)
    marks[:size], marks[size : 2 * size] = 0, 1
    drawn = rng.permuted(np.broadcast_to(marks, (n_resamples, len(marks))), axis=1)[:, photographs]
    coords = {"stimulus": codes.stimulus.values}
    return xr.DataArray(drawn, coords, ("draw", "stimulus"), attrs={"n_groups": 2})


def _summarize(both: np.ndarray, on_all: np.ndarray, confidence_level: float) -> dict[str, float]:
    """Return the reliability and its interval, from the index on two sets (draw, set, item) and on all (item,)."""
    n, r = both.shape[2], correlate_sets(both)
    without = np.array([correlate_sets(np.delete(both, i, axis=2)) for i in range(n)])
    if not np.isfinite([r, *without]).all():
        raise ValueError(
            "all items have the same index on some set of stimuli, and no correlation; use larger `sizes`, or a metric "
            "with more than a few values"
        )
    z, of_jackknife = np.arctanh(min(r, 1 - 1e-15)), np.arctanh(np.minimum(without, 1 - 1e-15))
    error = np.sqrt((n - 1) / n * ((of_jackknife - of_jackknife.mean()) ** 2).sum())
    margin = stats.t.isf((1 - confidence_level) / 2, n - 1) * error
    of_r = {"": r, "_low": float(np.tanh(z - margin)), "_high": float(np.tanh(z + margin))}
    doubled = {side: 2 * value / (1 + value) for side, value in of_r.items()}
    return (
        {f"reliability{side}": value for side, value in of_r.items()}
        | {f"spearman_brown{side}": value for side, value in doubled.items()}
        | {"with_all": float(_correlate(both, on_all).mean()), "reliable_enough": doubled[""] >= RELIABLE_ENOUGH}
    )


def correlate_sets(both: np.ndarray) -> float:
    """Return the correlation over items of the index `(draw, set, item)` on two sets, averaged over draws.

    NaN if all items have the same index on some set.
    """
    return float(_correlate(*both.astype(float).transpose(1, 0, 2)).mean())


def _correlate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return correlations over the last axis; NaN without variance."""
    x, y = (values - values.mean(-1, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
