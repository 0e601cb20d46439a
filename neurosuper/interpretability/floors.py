"""The frequency floor: the interpretability index of items that pick the same images as often, but at random."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label
from neurosuper.interpretability.ranking import check_codes, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import require_varying

N_ITERATIONS = 200  # of the weights of picks, at most: they are right to 1e-6 unless one image is in nearly every pair
TOLERANCE = 1e-12  # largest relative change of a weight in the last iteration; 40 reach it where images are in few sets


def frequency_floor(
    codes: xr.DataArray, images: xr.DataArray, metric: ImageMetric | Precomputed, *, top: int = 5
) -> xr.DataArray:
    """Return the frequency floor of a set of items: their mean index if they shared out their top stimuli at random.

    Every image remains as often among the top stimuli of the set as it is. A mean index above it is therefore
    not explained by a preference of the set for certain images, such as plain ones or bright ones. It says
    nothing if all items pick the same images: it then equals their index.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes of the set. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    top : int, optional
        Number of top stimuli of an item, at least 2.

    Returns
    -------
    DataArray ()
        Name `frequency_floor`, in the unit of the raw index. attrs: `metric`, `quantity`, `top`, `n_items`, and
        `n_stimuli_left_out` if stimuli had no image.

    Raises
    ------
    ValueError
        Codes and images share no stimulus, `top` below 2 or above the number of stimuli, or constant codes.

    See Also
    --------
    index_interval : With `correction="floor"`, an interval of how far a set is above its frequency floor.
    interpretability_index : The index, and with `correction="hub"` the one that single images do not explain.
    chance_level : The index of random sets of all images.

    Notes
    -----
    It is the mean over all ways to give every item `top` = M different images that keep f_i, the number of items
    that have image i among their top stimuli. It is computed as −Σ_{i≠j} x_i x_j d_ij / ((Σx)² − Σx²), with d_ij the
    distance of two images (for `Label`: 1 − agreement, and 1 is added), and x the solution of x_i Σ_{j≠i} x_j =
    f_i (M − 1): every image is in as many pairs as in the set. In simulations (`make validate`) it is off by 0.3 % if
    some images are picked by most items, otherwise by 0.05 %; with f in place of x, by 2.2 % and 0.6 %.

    References
    ----------
    Strona et al. 2014, Nature Communications 5, 4114 (random sets with given frequencies).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, interpretability_index, load_images
    >>> grey = np.array([0, 1, 254, 255, 127], np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> codes = xr.DataArray([[2., 0.], [1., 0.], [0., 2.], [0., 1.], [0., 0.]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["dark", "bright"]})
    >>> interpretability_index(codes, images, Color(), top=2).values.round(2).tolist()
    [-0.01, -0.01]
    >>> round(float(frequency_floor(codes, images, Color(), top=2)), 2)  # −√3 in 4 of 6 pairs
    -1.15
    """
    images = check_images(images)
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    if top < 2:
        raise ValueError(f"the index needs at least 2 top stimuli, got {top}; raise `top`")
    chosen = top_stimuli(codes, top=top)
    places, counts = np.unique(images.get_index("stimulus").get_indexer(chosen.values.ravel()), return_counts=True)
    picks = balance_picks(counts[:, None])
    with open_distances(images, places, metric) as distances:
        distance = floor_distances(distances.weighted_sums(picks), picks)[0]
    about = {"metric": metric.name, "quantity": index_label(metric), "top": int(top), "n_items": codes.shape[1]}
    return xr.DataArray(metric.self_similarity - distance, name="frequency_floor", attrs=about | left_out(codes))


def balance_picks(counts: np.ndarray) -> np.ndarray:
    """Return weights x `(image, set)` with x_i Σ_{j≠i} x_j ∝ f_i, for `counts` f of picks `(image, set)`."""
    picks = counts / np.sqrt(counts.sum(0))
    for _ in range(N_ITERATIONS):
        # Half a step on the logarithms: a whole one overshoots where one image has most of the picks.
        before, picks = picks, np.sqrt(picks * counts / (picks.sum(0) - picks))
        if (abs(picks - before) <= TOLERANCE * picks).all():
            break
    return picks


def floor_distances(sums: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Return the mean distance `(set,)` of pairs of different images, weighted by their `picks (image, set)`.

    `sums (image, set)` are the distances of each image to all others, weighted likewise.
    """
    # Σ_{i≠j} x_i x_j d_ij / ((Σx)² − Σx²)
    mean: np.ndarray = (picks * sums).sum(0) / (picks.sum(0) ** 2 - (picks**2).sum(0))
    return mean
