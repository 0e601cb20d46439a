"""Names of units and directions, from affinities between images and texts.

Z (stimulus, item) codes, A (stimulus, concept) affinities. The top stimuli of an item are those with its largest codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy import special, stats

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._joins import join, left_out
from neurosuper._labels import check_labels
from neurosuper.inference import adjust_p_values
from neurosuper.interpretability.labelled_stimuli import halve, open_codes
from neurosuper.interpretability.rank_sums import CONFIDENCE_LEVEL, area_interval, areas, p_of_rank_sums
from neurosuper.interpretability.ranking import top_stimuli
from neurosuper.responses import coords_along, name_some, require_varying

Method = Literal["soft-wpmi", "cosine-cubed", "auc"]
UNNAMED, LEVEL = "unnamed", 0.05  # adjusted p above which an item has no name
# CLIP-Dissect's settings of soft WPMI: the factor of cosines in the softmax; the probability that a top stimulus
# belongs to the concept, of the first and after the last; and what is added before the logarithm.
SHARPNESS, FIRST, AFTER_LAST, LEAST = 10, 0.998, 0.97, 1e-7


def name_items(
    codes: xr.DataArray,
    affinities: xr.DataArray,
    *,
    method: Method = "soft-wpmi",
    top: int = 100,
    n_names: int = 5,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return names of units and directions: the concepts whose texts have the highest affinity to their top stimuli.

    Names are chosen on one half of the stimuli, and tested on the other. No network is included: you bring the
    affinities, such as cosines between images and texts of CLIP or SigLIP (`docs/how-to/name-directions.md`).

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, without NaN. With the coord `split`, names are chosen on the stimuli marked "fit", and
        tested on the others; otherwise half of the stimuli is drawn. A dask array is computed.
    affinities : DataArray (stimulus, concept)
        How well each concept fits each image; labels of concepts are the names. Stimuli without affinities are left
        out.
    method : {"soft-wpmi", "cosine-cubed", "auc"}, optional
        How names are chosen; see Notes. "soft-wpmi" needs cosines, and at least two items, as it prefers concepts that
        fit an item better than other items.
    top : int, optional
        Number of top stimuli, at most half of the stimuli of a half.
    n_names : int, optional
        Number of names for each item, or all concepts if these are fewer.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves, and of the order of stimuli with equal codes.

    Returns
    -------
    Dataset (unit, rank) or (direction, rank)
        `name`, of rank 1, 2, …, and its `score` by the method, where it was chosen; on the other half, `auc`, the
        probability that a top stimulus has a higher affinity to the name than another stimulus, with `auc_low` and
        `auc_high`, its interval for other stimuli, and the one-sided `p_value` and `p_adjusted` (Benjamini and
        Hochberg) over items and ranks. `label (item,)` is the name of rank 1 if its adjusted p is at most 0.05,
        otherwise "unnamed". attrs: `method`, `quantity`, `top`, `confidence_level`, `n_stimuli_found` (of the half that
        names are chosen on) and `random_state`.

    Raises
    ------
    TypeError
        Affinities that are not a DataArray of numbers.
    ValueError
        Codes with NaN, or constant ones; affinities of other stimuli, with other dims, with NaN, or that are the same
        for all stimuli; for "soft-wpmi", affinities outside [−1, 1], or a single item; settings out of range.

    Warns
    -----
    UserWarning
        Stimuli without affinities are left out.

    See Also
    --------
    selectivity : Categories of stimuli instead of concepts.
    top_stimuli : The images to look at.

    Notes
    -----
    "soft-wpmi" is the soft weighted pointwise mutual information of CLIP-Dissect, Σ_k ln(1 + p_k (s_k − 1) + 10⁻⁷) less
    the logarithm of the mean over items of its exponential, where s_k is the softmax over concepts of 10 times the
    affinities of the k-th top stimulus, and p_k falls from 0.998 to 0.97. "cosine-cubed" is the cosine between the
    third powers of centred codes and of centred affinities, over all stimuli. "auc" is the area that is tested, where
    names are chosen.

    Under the null hypothesis, which stimuli are the top ones has nothing to do with the images, as after shuffling
    stimuli; the sum of the ranks of their affinities then is Mann and Whitney's, by the normal approximation. A name
    that passes fits the images better than chance: it need not be the best of all names, nor does the item respond to
    all images that it fits.

    References
    ----------
    Oikarinen and Weng 2023, "CLIP-Dissect", arXiv 2204.10965 (soft WPMI, cosine cubed).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> coords = {"stimulus": np.arange(200).astype(str), "concept": ["dog", "sky", "wheel"]}
    >>> affinities = xr.DataArray(rng.uniform(0, 0.3, (200, 3)), coords, ("stimulus", "concept"))
    >>> values = np.stack([affinities.sel(concept="sky"), rng.random(200)], axis=1)
    >>> codes = xr.DataArray(values, {"stimulus": affinities.stimulus, "unit": ["a", "noise"]}, ("stimulus", "unit"))
    >>> name_items(codes, affinities, top=20).label.values.tolist()
    ['sky', 'unnamed']
    """
    check_one_of("method", method, get_args(Method))
    codes, affinities = _join_affinities(codes, affinities, method)
    seed, concepts = seed_or_new(random_state), affinities.concept.values
    n_names = min(check_count("n_names", n_names), len(concepts))
    to_fit = halve(codes, seed)
    most = int(min(to_fit.sum(), (~to_fit).sum()) // 2)
    top = check_count("top", top, most=most, why=", half of the stimuli of a half")
    places = [_top_places(codes[part], top, seed) for part in (to_fit, ~to_fit)]
    scores = SCORES[method](codes[to_fit], affinities.values[to_fit], places[0])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :n_names]
    item, n_in, n_out = str(codes.dims[1]), top, int((~to_fit).sum()) - top
    sums, ties = _ranks_of_best(affinities.values[~to_fit], places[1], best)
    auc = areas(sums, n_in, n_out)
    low, high = area_interval(auc, n_in, n_out)
    columns = {"name": concepts[best], "score": np.take_along_axis(scores, best, 1), "auc": auc}
    columns |= {"auc_low": low, "auc_high": high, "p_value": p_of_rank_sums(sums, n_in, n_out, ties, "greater")}
    attrs: dict = {"method": method, "quantity": "AUC of affinities", "top": top, "confidence_level": CONFIDENCE_LEVEL}
    attrs |= {"n_stimuli_found": int(to_fit.sum()), "random_state": seed} | left_out(codes)
    coords = coords_along(codes, item) | {"rank": np.arange(1, n_names + 1)}
    result = xr.Dataset({name: ((item, "rank"), values) for name, values in columns.items()}, coords, attrs)
    result = result.assign(p_adjusted=adjust_p_values(result.p_value))
    label = np.where(result.p_adjusted[:, 0] <= LEVEL, result.name[:, 0], UNNAMED)
    return result.assign(label=(item, label))


def _join_affinities(codes: xr.DataArray, affinities: xr.DataArray, method: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return codes and affinities (stimulus, concept) of the same stimuli, after checking them."""
    if not isinstance(affinities, xr.DataArray) or affinities.dtype.kind not in "iuf":
        got = affinities.dtype if isinstance(affinities, xr.DataArray) else type(affinities).__name__
        raise TypeError(f"affinities must be a DataArray (stimulus, concept) of numbers, got {got}")
    if set(affinities.dims) != {"stimulus", "concept"}:
        raise ValueError(f"affinities must have the dims stimulus and concept, got {affinities.dims}; rename them")
    affinities = check_labels(affinities.transpose("stimulus", "concept"), "concept", "affinities").astype(float)
    codes, affinities = join(codes, affinities.compute(), names=("the codes", "the affinities"))
    codes = open_codes(codes)
    if (bad := ~np.isfinite(affinities.values).all(0)).any():
        names = name_some(affinities.concept.values[bad])
        raise ValueError(f"affinities contain NaN or infinite values, of concept {names}; drop those, or their stimuli")
    require_varying(affinities, remedy="leave it out")
    if method == "soft-wpmi" and (largest := np.abs(affinities.values).max()) > 1:
        raise ValueError(
            f"soft-wpmi needs affinities that are cosines, from -1 to 1, got {largest:.3g}; divide logits by the "
            "network's scale, or use method='auc'"
        )
    if method == "soft-wpmi" and codes.shape[1] < 2:
        raise ValueError("soft-wpmi compares items, got 1; pass more items, or use method='auc'")
    return codes, affinities


def _top_places(codes: xr.DataArray, top: int, seed: int) -> np.ndarray:
    """Return the positions `(item, rank)` of top stimuli."""
    chosen = top_stimuli(codes, top=top, random_state=seed)
    places = codes.get_index("stimulus").get_indexer(chosen.values.ravel())
    return np.ascontiguousarray(places.reshape(chosen.shape).T)


def _soft_wpmi(codes: xr.DataArray, A: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return ln P(concept | top stimuli) − ln P(concept), `(item, concept)`."""
    n_items, top = places.shape
    s = special.softmax(SHARPNESS * A, axis=1)
    p = (FIRST - np.arange(top) / top * (FIRST - AFTER_LAST))[:, None]
    # ln P(c | e) = Σ_k ln(1 + p_k (s_k − 1)); ln P(c) = ln mean_e P(c | e)
    given = np.stack([np.log(1 + p * (s[at] - 1) + LEAST).sum(0) for at in places])
    return np.asarray(given - (special.logsumexp(given, axis=0) - np.log(n_items)))


def _cosine_cubed(codes: xr.DataArray, A: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the cosine of the third powers of centred codes and affinities, `(item, concept)`."""
    cubes = []
    for values in (codes.values.astype(float), A):
        centred = values - values.mean(0)
        size = np.abs(centred).max(0)
        cubed = (centred / np.where(size > 0, size, 1)) ** 3
        cubes.append(cubed / np.maximum(np.linalg.norm(cubed, axis=0), 1e-300))
    return np.asarray(cubes[0].T @ cubes[1])


def _area(codes: xr.DataArray, A: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the AUC of the affinities of top stimuli against others, `(item, concept)`."""
    every = np.broadcast_to(np.arange(A.shape[1]), (len(places), A.shape[1]))
    return areas(_ranks_of_best(A, places, every)[0], places.shape[1], len(A) - places.shape[1])


SCORES: dict[str, Callable[[xr.DataArray, np.ndarray, np.ndarray], np.ndarray]] = {
    "soft-wpmi": _soft_wpmi,
    "cosine-cubed": _cosine_cubed,
    "auc": _area,
}


def _ranks_of_best(A: np.ndarray, places: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return twice the sums of the ranks of top stimuli in the affinities to concepts `best (item, rank)`, and ties."""
    used, column = np.unique(best, return_inverse=True)
    column = column.reshape(best.shape)
    doubled = np.rint(2 * stats.rankdata(A[:, used], axis=0)).astype(np.int64)
    counts = [np.unique(ranks, return_counts=True)[1].astype(float) for ranks in doubled.T]
    ties = np.array([(t**3 - t).sum() for t in counts])
    sums = np.stack([doubled[at][:, own].sum(0) for at, own in zip(places, column, strict=True)])
    return sums, ties[column]
