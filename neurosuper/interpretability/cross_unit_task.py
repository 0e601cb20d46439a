"""The cross-unit task: can an image metric distinguish the images that drive one unit from those of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._checks import check_one_of
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.machine_psychophysics import POOLS, Pool
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed, pairwise_distances
from neurosuper.responses import coords_along, require_varying

BLOCK_ENTRIES = 2**24  # of evidence (unit, trial, unit) in memory at once: 128 MiB per array


def separability(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    n_references: int = 9,
    n_trials: int = 20,
    queries: Literal["alone", "together"] = "alone",
    pool: Pool = "max",
) -> xr.Dataset:
    """Return how well an image metric distinguishes the top images of every pair of units or directions.

    Half of the reference images are the top stimuli of A, half those of B; one query is among the next stimuli of A and
    one among those of B. Each query is sorted to the unit with the more similar references: a is correct if
    s(a, A) > s(a, B), b if s(b, B) > s(b, A), with s the similarity of a query to references, pooled (by default, to
    the nearest), and a trial counts by its share of correct queries. This is the paper's task. With
    `queries="together"`, one of the two queries is known to be of A and the other of B, so that a trial is correct if
    s(a, A) + s(b, B) > s(a, B) + s(b, A). That is easier: what both queries have in common cancels. Shares of the two
    rules must not be compared with each other. Trials that would show an image twice are left out.

    The distances between all images that are shown are in memory at once: images² × 4 bytes.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    n_references : int, optional
        Number of reference images of each of the two units.
    n_trials : int, optional
        Number of trials of a pair: each unit's query is the next of its top stimuli.
    queries : {"alone", "together"}, optional
        Sort each query by itself, or the two of a trial together.
    pool : {"max", "mean"}, optional
        Similarity to the nearest reference of a unit, or the mean over its references.

    Returns
    -------
    Dataset
        `separability (unit, other)`, the share of correct trials, symmetric, NaN on the diagonal and for pairs without
        trials; `n_trials (unit, other)`; `distinctness (unit,)`, the mean over the other units. attrs: `n_references`,
        `n_trials`, `metric`, `queries`, `pool`.

    Raises
    ------
    ValueError
        Fewer than two units, fewer stimuli than references and trials, NaN or constant codes.

    See Also
    --------
    psychophysics : The task within one unit, between its top and bottom images.
    top_stimuli : The images that are shown.

    References
    ----------
    Klindt et al. 2023, arXiv 2310.11431, appendix D.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> grey = np.repeat(np.array([0, 255], np.uint8), 6)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 2, 2, 3), np.uint8))
    >>> bright = np.repeat([0., 1.], 6)
    >>> codes = xr.DataArray(np.stack([bright, 1 - bright], 1), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["bright", "dark"]})
    >>> separability(codes, images, Color(), n_references=3, n_trials=3).distinctness.values.tolist()
    [1.0, 1.0]
    """
    images = check_images(images)
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    check_one_of("queries", queries, ("alone", "together"))
    check_one_of("pool", pool, POOLS)
    item = str(codes.dims[1])
    if codes.sizes[item] < 2:
        raise ValueError(f"separability compares units with one another; got {codes.sizes[item]}, pass at least 2")
    chosen = top_stimuli(codes, top=n_references + n_trials)
    places = images.get_index("stimulus").get_indexer(chosen.values.ravel())
    used, at = np.unique(places, return_inverse=True)
    at = at.reshape(n_references + n_trials, -1).T
    similarity = -pairwise_distances(images.isel(stimulus=used), metric).values
    reference, query = at[:, :n_references], at[:, n_references:]
    right, n_answered = _right_trials(similarity, reference, query, POOLS[pool], queries == "alone")
    with np.errstate(invalid="ignore"):  # NaN without trials
        share = right / n_answered
    np.fill_diagonal(share, np.nan)
    other = {"other": ("other", codes[item].values)}
    return xr.Dataset(
        {
            "separability": ((item, "other"), share, {"long_name": "share of correct trials"}),
            "n_trials": ((item, "other"), n_answered),
            "distinctness": (item, xr.DataArray(share, dims=(item, "other")).mean("other").values),
        },
        coords=coords_along(codes, item) | other,
        attrs={
            "metric": metric.name,
            "n_references": n_references,
            "n_trials": n_trials,
            "queries": queries,
            "pool": pool,
        }
        | left_out(codes)
        | copies_among(chosen),
    )


def _right_trials(
    similarity: np.ndarray, reference: np.ndarray, query: np.ndarray, pool: Callable[..., np.ndarray], alone: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of correct trials of each pair (a tie counts as half), and the number of trials.

    If queries are sorted `alone`, a trial with one correct query counts as half.
    """
    n_items, n_trials = query.shape
    pooled = np.stack([pool(similarity[:, shown], axis=1) for shown in reference], axis=1)  # (image, unit)
    shown = np.zeros(pooled.shape, bool)
    shown[reference, np.arange(n_items)[:, None]] = True
    matched = np.take_along_axis(pooled, query.T, axis=0).T  # s(a, A) (unit, trial)
    right, valid = np.zeros((n_items, n_items)), np.zeros((n_items, n_items), int)
    size = max(1, BLOCK_ENTRIES // (n_items * n_trials))
    for start in range(0, n_items, size):
        rows = slice(start, start + size)
        of_a, of_b = pooled[query[rows]], pooled[:, rows][query]  # s(a, B) (A, trial, B) and s(b, A) (B, trial, A)
        # Δ_a = s(a, A) − s(a, B), Δ_b = s(b, B) − s(b, A)
        delta_a, delta_b = matched[rows, :, None] - of_a, matched.T - of_b.transpose(2, 1, 0)
        sign = (np.sign(delta_a) + np.sign(delta_b)) / 2 if alone else np.sign(delta_a + delta_b)
        twice = shown[query[rows]] | shown[:, rows][query].transpose(2, 1, 0) | (query[rows, :, None] == query.T)
        right[rows] = ((sign + 1) / 2 * ~twice).sum(1)
        valid[rows] = (~twice).sum(1)
    return right, valid
