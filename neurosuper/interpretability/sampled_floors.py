"""Frequency floors of sets of items on random groups of the stimuli, shared out over their items.

f_i number of items with image i among their M top stimuli; x_i weights with x_i (X − x_i) = f_i, X = Σx (see `floors`);
F = −Σ_{i≠j} x_i x_j d_ij / Σf the frequency floor of a set; g_i = Σ_j x_j d_ij.
"""

from __future__ import annotations

import numpy as np

from neurosuper.interpretability.floors import balance_picks, floor_distances
from neurosuper.interpretability.random_splits import top_in_split
from neurosuper.metrics.distances import Distances

MAX_BLOCK_BYTES = 2**26  # bytes of one matrix (image, set) in float64 (64 MiB); about six are in memory at once
LEAST_MARGIN = 1e-9  # of X − 2x relative to X: at 0, where one image is in two thirds of the pairs, terms have a limit


def floors_of_groups(
    distances: Distances, places: np.ndarray, leading: np.ndarray, groups: np.ndarray, top: int, n_images: int
) -> np.ndarray:
    """Return the frequency floor of each item on each group of each draw, `(draw, group, item)` in float32.

    Parameters
    ----------
    distances : Distances
    places : array (stimulus,)
        Position of the image of each stimulus in `distances`; any number if no item leads to it.
    leading : array (item, place)
        From `leading_stimuli`.
    groups : array (stimulus, draw)
        From `groups_of`.
    top : int
        Number of top stimuli of a group.
    n_images : int
        Number of images of `distances`.
    """
    n_groups, n_resamples = int(groups.max()) + 1, groups.shape[1]
    size = max(1, MAX_BLOCK_BYTES // (8 * n_groups * max(n_images, len(leading) * top)))
    floors = np.empty((n_resamples, n_groups, len(leading)), np.float32)
    for start in range(0, n_resamples, size):
        block = groups.T[start : start + size]
        tops = places[np.stack([top_in_split(leading, row, n_groups, top) for row in block])]
        of_sets, _ = floors_of_sets(distances, tops.reshape(-1, *tops.shape[2:]), n_images)
        floors[start : start + size] = of_sets.reshape(tops.shape[:3])
    return floors


def floors_of_sets(distances: Distances, tops: np.ndarray, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequency floor of each item of sets `(set, item)`, and the term of each image `(image, set)`.

    The mean over the items of a set is its frequency floor F. That of an item is F plus the change of F, to first
    order, if the set had more of this item: the index of items less that of each then varies over items as the
    difference of the means does.

    Parameters
    ----------
    distances : Distances
    tops : array (set, item, rank)
        Positions of images.
    n_images : int
        Number of images of `distances`.
    """
    n_columns = len(tops)
    columns = tops.reshape(n_columns, -1) + n_images * np.arange(n_columns)[:, None]
    counts = np.bincount(columns.ravel(), minlength=n_images * n_columns).reshape(n_columns, n_images).T
    x = balance_picks(counts)
    g = distances.weighted_sums(x)
    # x_i (X − x_i) = f_i gives dx_i = w_i (df_i − x_i dX), w_i = 1/(X − 2x_i), and dX = Σ w df / (1 + Σ w x). With
    # M df_i for each top image of an item, F + dF is −2 Σ g dx / M: minus twice the mean of its terms w_i (g_i − C).
    total = x.sum(0)
    margin = total - 2 * x
    w = 1 / np.where(abs(margin) < LEAST_MARGIN * total, LEAST_MARGIN * total, margin)
    terms = w * (g - (w * g * x).sum(0) / (1 + (w * x).sum(0)))
    of_items = -2 * terms.T[np.arange(n_columns)[:, None, None], tops].mean(2)
    # The weights are right to first order only if an image is in nearly every pair: the mean is set to F.
    return of_items - of_items.mean(1, keepdims=True) - floor_distances(g, x)[:, None], terms
