"""Polysemanticity: whether the top images of a unit or direction are of one kind or of several, in an embedding.

X (image, feature) embeddings of the top images of an item, G = X Xᵀ their products; a cluster is a mean of rows of X.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper._memory import memory_of_machine
from neurosuper.images import check_images
from neurosuper.inference import adjust_p_values
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.ranking import check_codes, copies_among, top_stimuli
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.base import check_metric
from neurosuper.metrics.embedding import embed_in_batches
from neurosuper.responses import coords_along, name_some, require_varying

N_STARTS = 64  # of k-means for each item: the best is kept
MAX_PASSES = 100  # of k-means; of 20 images, it ends after about five
N_AROUND_MEAN = 10  # images that stand for clusters if one has a single image, as in semanticlens
MAX_BLOCK = 2**23  # numbers in float64 that are in memory at once: 64 MiB


def polysemanticity(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric,
    *,
    top: int = 20,
    n_clusters: int = 2,
    n_resamples: int = 200,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the clarity, polysemanticity and redundancy of each unit or direction, from embeddings of its top images.

    Clarity is high if all top images are similar; polysemanticity is high if they form clusters that differ; redundancy
    is high if another item has similar top images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric
        The embedding, such as `Features` of CLIP; `Precomputed` distances have none. All embeddings of the images that
        are shown are in memory.
    top : int, optional
        Number of top stimuli, at least 3.
    n_clusters : int, optional
        Number of clusters, from 2 to half of `top`.
    n_resamples : int, optional
        Number of random sets of images, for p-values; at least 19.
    random_state : int, Generator, RandomState or None, optional
        Seed of random sets, of the starts of k-means, and of the order of stimuli with equal codes.

    Returns
    -------
    Dataset (unit,) or (direction,)
        `clarity`, the mean cosine of two top images; `clarity_p_value`, one-sided, against random sets of images, and
        `clarity_p_adjusted` (Benjamini and Hochberg) over items; `polysemanticity`, 1 minus the mean cosine of two
        cluster centres; `redundancy`, the largest cosine between the mean embedding of the top images and that of
        another item, `redundant_with` (NaN and "" for a single item); and the scalars `clarity_null` and
        `polysemanticity_null`, the means of random sets. attrs: `method`, `quantity`, `metric`, `top`, `n_clusters`,
        `n_resamples`, `random_state`, and, if an item has copies of one photograph among its top stimuli,
        `n_items_with_copies`.

    Raises
    ------
    TypeError
        `Precomputed` distances.
    ValueError
        Codes and images share no stimulus; constant codes; too few stimuli; an embedding of zero length; more
        embeddings than memory; settings out of range.

    See Also
    --------
    interpretability_index : For `Features`, clarity is 1 plus the index.
    index_interval : An interval for its mean.
    intrusion : Whether a metric finds an image that does not belong.

    Notes
    -----
    With ê of unit length, clarity is (‖Σ ê‖² − M)/(M² − M) of M top images. Clusters are those of k-means, the best of
    64 random starts. If one of them has a single image, polysemanticity is 1 minus the mean cosine of each of the ten
    highest top images with the mean of all, so that one image that does not belong is no meaning of its own.

    Two centres differ for any images, also of one kind: compare polysemanticity with `polysemanticity_null`, and at
    similar clarity. It is a description of top images; an item may have further meanings at lower codes. Redundancy
    rises with the number of items: compare sets of equal size.

    References
    ----------
    Dreyer, Berend, Labarta, Vielhaben, Wiegand, Lapuschkin, Samek 2025, Nat. Mach. Intell. 7, 1572, arXiv 2501.05398
    (clarity, polysemanticity, redundancy).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> colors = np.repeat([[255, 0, 0], [0, 255, 0], [0, 0, 255]], 10, axis=0).astype(np.uint8)
    >>> images = load_images(colors[:, None, None] * np.ones((1, 2, 2, 1), np.uint8))
    >>> red, green, blue = (colors / 255).T
    >>> codes = xr.DataArray(np.stack([red, red + green], axis=1), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["red", "red or green"]})
    >>> result = polysemanticity(codes, images, Color(), top=10)
    >>> result.clarity.values.round(1).tolist(), result.polysemanticity.values.round(1).tolist()
    ([1.0, 0.4], [0.0, 1.0])
    """
    images, seed = check_images(images), seed_or_new(random_state)
    if isinstance(check_metric(metric), Precomputed):
        raise TypeError(f"{metric.name} gives distances, and clusters need embeddings; use Features or another metric")
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    n, item = codes.sizes["stimulus"], str(codes.dims[1])
    top = check_count("top", top, least=3, most=n, why=", the number of stimuli")
    n_clusters = check_count("n_clusters", n_clusters, least=2, most=max(2, top // 2), why=", half of `top`")
    n_resamples = check_count("n_resamples", n_resamples, least=19, why=", which allow p = 0.05")
    chosen = top_stimuli(codes, top=top, random_state=seed)
    rng = np.random.default_rng(seed)
    # Random sets are drawn in order of labels, so that the order of stimuli does not matter.
    drawn = np.argsort(rng.random((n_resamples, n)), axis=1)[:, :top]
    labels = np.concatenate([chosen.values.T, np.sort(codes.stimulus.values.astype(str))[drawn]])
    used, sets = np.unique(images.get_index("stimulus").get_indexer(labels.ravel()), return_inverse=True)
    E, sets = _embed(images, metric, used), sets.reshape(labels.shape)
    clarity, several = _score_sets(E, sets, n_clusters, rng)
    n_items = codes.shape[1]
    redundancy, other = _redundancy(np.stack([E[at].mean(0) for at in sets[:n_items]]), codes[item].values)
    columns: dict = {"clarity": clarity[:n_items], "polysemanticity": several[:n_items], "redundancy": redundancy}
    columns |= {"redundant_with": other, "clarity_p_value": p_of_draws(clarity[:n_items], clarity[n_items:, None])}
    variables: dict = {name: (item, values) for name, values in columns.items()}
    variables |= {"clarity_null": clarity[n_items:].mean(), "polysemanticity_null": several[n_items:].mean()}
    attrs: dict = {"method": "k-means of embeddings", "quantity": "cosine", "metric": metric.name, "top": top}
    attrs |= {"n_clusters": n_clusters, "n_resamples": n_resamples, "random_state": seed}
    result = xr.Dataset(variables, coords_along(codes, item), attrs | copies_among(chosen) | left_out(codes))
    return result.assign(clarity_p_adjusted=adjust_p_values(result.clarity_p_value))


def _embed(images: xr.DataArray, metric: ImageMetric, used: np.ndarray) -> np.ndarray:
    """Return the embeddings `(image, feature)` of the images at these positions."""
    batches = []
    for batch in embed_in_batches(images, metric, used):
        batches.append(batch.detach().cpu().numpy())
        if (n_bytes := 4 * len(used) * batch.shape[1]) > memory_of_machine() / 2:
            raise ValueError(
                f"embeddings of {len(used)} images take {n_bytes / 1e9:.3g} GB, more than half of this machine's "
                "memory; use a smaller layer, or lower top or n_resamples"
            )
    E = np.concatenate(batches)
    if (zero := ~E.any(1)).any():
        names = name_some(images.stimulus.values[used[zero]])
        raise ValueError(f"the embedding by {metric.name} of image {names} is zero, so it has no cosine; use another")
    return E


def _score_sets(
    E: np.ndarray, sets: np.ndarray, n_clusters: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the clarity and the polysemanticity of sets of images `(set, image)`."""
    clarity, several, top = np.empty(len(sets)), np.empty(len(sets)), sets.shape[1]
    starts = _draw_starts(top, n_clusters, rng)
    width = max(1, MAX_BLOCK // (top * max(E.shape[1], len(starts) * n_clusters)))
    for block in (slice(start, start + width) for start in range(0, len(sets), width)):
        X = E[sets[block]].astype(float)
        G = X @ X.transpose(0, 2, 1)
        clarity[block] = _mean_cosine(G)
        shares = _cluster(G, starts)
        single = (np.count_nonzero(shares, axis=1) < 2).any(1)  # or none, if all images are the same
        own, products = shares[~single], G[~single]
        around = G.mean(2) / np.sqrt(np.einsum("sii->si", G) * G.mean((1, 2))[:, None])
        spread = 1 - around[:, :N_AROUND_MEAN].mean(1)
        spread[~single] = 1 - _mean_cosine(own.transpose(0, 2, 1) @ products @ own)
        several[block] = spread
    return clarity, several


def _draw_starts(top: int, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Return ranks of the images that clusters start from, `(start, cluster)`, the same for all sets."""
    if math.comb(top, n_clusters) <= N_STARTS:
        return np.array(list(itertools.combinations(range(top), n_clusters)))
    return np.argsort(rng.random((N_STARTS, top)), axis=1)[:, :n_clusters]


def _mean_cosine(G: np.ndarray) -> np.ndarray:
    """Return the mean cosine over pairs of vectors, given their products `(set, vector, vector)`."""
    lengths = np.sqrt(np.einsum("sii->si", G))
    cosines = G / (lengths[:, :, None] * lengths[:, None, :])
    n = G.shape[1]
    return np.asarray((cosines.sum((1, 2)) - n) / (n * (n - 1)))


def _cluster(G: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the clusters of k-means, best of all starts, as `(set, image, cluster)`: the share of an image in a mean.

    Lloyd's algorithm, on products alone: with a the shares of a cluster's images in its mean c, ‖x_i − c‖² is
    G_ii − 2 (G a)_i + aᵀ G a.
    """
    n_rows, top = G.shape[:2]
    n_starts, n_clusters = starts.shape
    labels = np.full((n_rows, top, n_starts), -1)
    shares = np.zeros((n_rows, top, n_starts, n_clusters))
    shares[:, starts, np.arange(n_starts)[:, None], np.arange(n_clusters)] = 1
    for _ in range(MAX_PASSES):
        products = (G @ shares.reshape(n_rows, top, -1)).reshape(shares.shape)
        # Without G_ii, which is the same for all clusters; an empty cluster stays empty.
        far = (shares * products).sum(1, keepdims=True) - 2 * products
        far = np.where(shares.any(1, keepdims=True), far, np.inf)
        moved = far.argmin(3)
        if (moved == labels).all():
            break
        labels = moved
        members = labels[..., None] == np.arange(n_clusters)
        shares = members / np.maximum(members.sum(1, keepdims=True), 1)
    # Σ_i ‖x_i − c‖², of each start, less Σ_i G_ii
    best = far.min(3).sum(1).argmin(1)
    return np.take_along_axis(shares, best[:, None, None, None], 2)[:, :, 0]


def _redundancy(means: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest cosine of each item's mean embedding with that of another, and the label of that item."""
    if len(means) < 2:
        return np.full(len(means), np.nan), np.full(len(means), "")
    unit = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-300)
    largest, other = np.empty(len(unit)), np.empty(len(unit), int)
    width = max(1, MAX_BLOCK // len(unit))
    for start in range(0, len(unit), width):
        cosines = unit[start : start + width] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        largest[start : start + width], other[start : start + width] = cosines.max(1), cosines.argmax(1)
    return largest, labels[other]
