"""Sparsified directions: how many units a direction needs to keep its clusters and its interpretability.

X (stimulus, unit) prepared responses; D (direction, unit) directions; C (direction, unit) centres of clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import clone

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import left_out
from neurosuper.directions import DirectionFinder
from neurosuper.directions._solvers.sparse_coding import omp_codes
from neurosuper.directions.projection import check_directions
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import coords_along
from neurosuper.superposition.halved_stimuli import halve_stimuli, undivided
from neurosuper.superposition.index_tables import check_top, leading_places, open_table, places_for
from neurosuper.superposition.intervals import CONFIDENCE_LEVEL, intervals_of

Keep = float | Sequence[float]
N_RANDOM = 4  # random sets of units for each direction: enough, as their mean over directions is what is tested


def sparsify(directions: xr.DataArray, keep: Keep) -> xr.DataArray:
    """Return directions that keep only their largest weights; all others are 0.

    Parameters
    ----------
    directions : DataArray (direction, unit)
        Such as `finder.directions_`, of any length.
    keep : float or sequence of float
        How many weights each direction keeps: up to 1, the share of the units (rounded, at least one unit); above 1, a
        whole number of units.

    Returns
    -------
    DataArray (keep, direction, unit)
        The weights that are kept have their values, and are not scaled. Of equal weights, those of the units whose
        labels sort first are kept. The coord `n_units (keep,)` is the number of units.

    Raises
    ------
    TypeError
        Not a DataArray of real numbers.
    ValueError
        Directions without labels, with other dims, or with weights that are not finite or all 0; `keep` that is not
        positive, above the number of units, or given twice.

    See Also
    --------
    sparsity_curve : How interpretability depends on the number of units.

    Examples
    --------
    >>> import xarray as xr
    >>> d = xr.DataArray([[0.8, -0.6, 0.1]], dims=("direction", "unit"),
    ...                  coords={"direction": ["d"], "unit": list("abc")})
    >>> sparsify(d, [1, 2]).sel(direction="d").values.tolist()
    [[0.8, -0.6, 0.1], [0.8, -0.6, 0.0]]
    """
    directions = check_directions(directions)
    shares: list = list(keep) if np.ndim(keep) else [keep]  # type: ignore[arg-type]
    counts = np.array([_count_units(share, directions.sizes["unit"]) for share in shares])
    if not shares or len(set(shares)) < len(shares):
        raise ValueError(f"keep must be at least one number and no duplicates, got {keep!r}")
    D = directions.values
    # Rank of each weight in its direction: the largest |d| is first, of equal ones that of the first label.
    first = np.argsort(directions.unit.values.astype(str)).argsort()
    ranks = np.lexsort((np.broadcast_to(first, D.shape), -np.abs(D)), axis=1).argsort(axis=1)
    sparse = np.where(ranks < counts[:, None, None], D, 0)
    coords = {"keep": shares, "n_units": ("keep", counts)} | dict(directions.coords)
    return xr.DataArray(sparse, coords, ("keep", "direction", "unit"), "directions", directions.attrs)


def sparsity_curve(
    finder: DirectionFinder,
    responses: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    keep: Keep = (1, 0.5, 0.25, 0.1, 0.03),
    top: int = 5,
    stimulus_groups: str | None = None,
    n_resamples: int = 500,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how interpretable directions are if they keep only their largest weights.

    Directions are found on one half of the stimuli, sparsified, and scored on the other half. They are compared with
    the same directions restricted to as many random units, and with the best approximation of their codes by as many
    units, chosen by orthogonal matching pursuit on the first half.

    Parameters
    ----------
    finder : DirectionFinder
        Not changed.
    responses : DataArray (stimulus, unit)
        With the coord `split`, on whose "fit" stimuli directions are found; otherwise a random half. Stimuli without an
        image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    keep : float or sequence of float, optional
        As for `sparsify`.
    top : int, optional
        Number of top stimuli, at most half of the stimuli to score on.
    stimulus_groups : str, optional
        A stimulus coord of responses or images, such as bursts of frames: no split or half divides a group, and
        intervals are for other groups.
    n_resamples : int, optional
        Number of random halves of the scored stimuli, for intervals; at least 10.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split, the random units, the halves, and the order of stimuli with equal codes.

    Returns
    -------
    Dataset (keep, direction)
        - `interpretability (keep, direction)`, `interpretability_omp` and `interpretability_random`, the mean of 4
          random sets of units; `cosine` with the whole direction; and the coord `n_units (keep,)`;
        - `mean (keep,)`, the mean index over directions; `change`, that minus the mean of whole directions;
          `above_random`, that minus the mean with random units; and `omp_gain`, the mean of the approximations by
          orthogonal matching pursuit minus it; each with `_low` and `_high`, an interval for other stimuli, and the
          `p_value` of `above_random` (NaN where all units are kept);
        - `same_cluster (keep,)`, for finders with centres, such as `KMeans`: the share of the scored stimuli whose
          nearest centre is the same after the centres (not their unit vectors) are sparsified.

        attrs: `metric`, `quantity`, `top`, `n_stimuli` (scored), `finder`, `confidence_level`, `n_resamples`,
        `random_state`.

    Raises
    ------
    TypeError
        Not a DataArray, a finder or a metric.
    ValueError
        Responses that break the contract; too few stimuli; settings out of range.

    Warns
    -----
    UserWarning
        Units that do not vary over both halves of the stimuli are left out.

    See Also
    --------
    sparsify : Sets the smallest weights to 0.
    neurosuper.interpretability_index : The index.

    Notes
    -----
    Codes are projections of the responses, prepared as in the fit, on the sparsified directions, for every finder, also
    for one whose own codes are others. Weights that are 0 change codes less than they seem to: a direction of K-means
    that keeps a tenth of its weights may keep most of its clusters. In ResNet-20, with 50,000 photographs of
    CIFAR-10, the index of K-means directions with a tenth of their weights was −0.190 instead of −0.202 in layer1,
    −0.195 instead of −0.189 in layer2, and −0.175 instead of −0.179 in layer3 (`benchmarks/superposition_claims.py`).

    References
    ----------
    Klindt, Sanborn, Acosta, Poitevin, Miolane 2023, arXiv 2310.11431.
    Pati, Rezaiifar, Krishnaprasad 1993, Proc. 27th Asilomar Conf., 40-44 (orthogonal matching pursuit).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, KMeans, load_images
    >>> from neurosuper.superposition import sparsity_curve
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (80, 8)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcdefgh")})
    >>> curve = sparsity_curve(KMeans(4), r, images, Color(), keep=(1, 0.5, 0.25), n_resamples=20)
    >>> curve.n_units.values.tolist(), float(curve.same_cluster[0])
    ([8, 4, 2], 1.0)
    """
    check_count("n_resamples", n_resamples, least=10)
    images, seed = check_images(images), seed_or_new(random_state)
    fit, score = halve_stimuli(responses, images, "held-out", seed, stimulus_groups)
    check_top(top, score.sizes["stimulus"])
    fitted = clone(finder).fit(fit)
    sparse = sparsify(fitted.directions_, keep)
    X, of_fit, D = _prepare(fitted, score), _prepare(fitted, fit), fitted.directions_.values
    counts = sparse.n_units.values.tolist()
    weights = np.stack([_alternatives(D, *each, of_fit, seed) for each in zip(sparse.values, counts, strict=True)])
    blocks = [D, *weights.reshape(-1, *D.shape)]
    codes = (_project(X, each, score, fitted.directions_) for each in blocks)
    leading = leading_places(codes, places_for(top), seed)
    table = open_table(score.stimulus.values, images, metric, [leading])

    def index(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = table.scores_of_subsets(leading, top, members).reshape(len(members), len(blocks), -1)
        return scores[:, 0], scores[:, 1:].reshape(len(members), *weights.shape[:2], -1)

    scored = _summarize(index, len(X), undivided(score, stimulus_groups), n_resamples, seed)
    found = xr.Dataset(scored, sparse.isel(unit=0, drop=True).coords)
    found["p_value"] = found.p_value.where(found.n_units < D.shape[1])  # all units: there are no others to compare with
    norms = np.linalg.norm(sparse.values, axis=2)
    found["cosine"] = (("keep", "direction"), norms / np.linalg.norm(D, axis=1))
    if hasattr(fitted, "centers_"):
        found["same_cluster"] = ("keep", _same_cluster(X, fitted.centers_.values, sparse.values != 0))
    attrs: dict = {
        "method": "largest weights of each direction",
        "quantity": index_label(metric),
        "metric": metric.name,
    }
    attrs |= {"top": int(top), "n_stimuli": len(X), "finder": repr(finder), "confidence_level": CONFIDENCE_LEVEL}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return found.assign_attrs(**attrs, n_resamples=int(n_resamples), random_state=seed, **left_out(score))


def _count_units(share: Any, n_units: int) -> int:
    """Return the number of units to keep, of a share of them or a number."""
    is_number = isinstance(share, float | int | np.number) and not isinstance(share, bool)
    if is_number and 0 < share <= 1:
        return max(1, round(float(share) * n_units))
    if is_number and share <= n_units and float(share).is_integer() and share > 1:
        return int(share)
    raise ValueError(
        f"keep must be shares of the units, above 0 and at most 1, or numbers of units from 2 to {n_units}; "
        f"got {share!r}"
    )


def _prepare(fitted: DirectionFinder, responses: xr.DataArray) -> np.ndarray:
    """Return responses (stimulus, unit) as the finder prepares them, in the unit of its directions and centres."""
    rows = fitted.rows_of(responses).prepared(fitted.preparation())
    blocks = [block.cpu().double() for block in rows]
    return np.asarray(torch.cat(blocks).numpy() / fitted.prepared_scale)


def _project(X: np.ndarray, D: np.ndarray, score: xr.DataArray, directions: xr.DataArray) -> xr.DataArray:
    coords = coords_along(score, "stimulus") | {"direction": directions.direction.values}
    return xr.DataArray(X @ D.T, coords, ("stimulus", "direction"))


def _alternatives(D: np.ndarray, sparse: np.ndarray, n_units: int, X: np.ndarray, seed: int) -> np.ndarray:
    """Return sparse directions and others with as many units, `(kind, direction, unit)`, of whole directions D.

    The others are the best for the codes of X (stimulus, unit), by orthogonal matching pursuit, and with random units.
    """
    rng = np.random.default_rng(seed)
    ranks = rng.permuted(np.broadcast_to(np.arange(D.shape[1]), (N_RANDOM, *D.shape)), axis=2)
    random = np.where(ranks < n_units, D, 0)
    if n_units == D.shape[1]:
        return np.stack([sparse, D, *random])
    # Codes z (direction, stimulus) ≈ Σ_u w_u x_u of centred units: a constant changes no rank.
    atoms = torch.from_numpy(X - X.mean(0)).T
    lengths = atoms.norm(dim=1, keepdim=True)
    targets = torch.from_numpy(D.astype(float)) @ atoms
    omp = omp_codes(targets, atoms / lengths, n_units) / lengths.T
    return np.stack([sparse, omp.numpy(), *random])


def _same_cluster(X: np.ndarray, C: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the share of rows with the same nearest centre after weights that are not `kept` are set to 0 (keep,)."""

    def nearest(centers: np.ndarray) -> np.ndarray:
        # argmin ‖x − c‖² = argmax x·c − ½‖c‖²
        return np.asarray((X @ centers.T - 0.5 * (centers**2).sum(1)).argmax(1))

    whole = nearest(C)
    return np.array([(nearest(C * mask) == whole).mean() for mask in kept])


def _summarize(
    index: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    n_stimuli: int,
    groups: np.ndarray | None,
    n_resamples: int,
    seed: int,
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the index of each direction and the statistics of their means, from `index(members)`.

    That returns the index of whole directions (subset, direction), and of the alternatives (subset, keep, kind,
    direction).
    """

    def statistics(members: np.ndarray) -> dict[str, np.ndarray]:
        whole, others = index(members)
        sparse, omp, random = others[:, :, 0].mean(-1), others[:, :, 1].mean(-1), others[:, :, 2:].mean((2, 3))
        return {
            "mean": sparse,
            "change": sparse - whole.mean(-1, keepdims=True),
            "above_random": sparse - random,
            "omp_gain": omp - sparse,
        }

    others = index(np.ones((1, n_stimuli), bool))[1][0]
    per_item: dict = {"": others[:, 0], "_omp": others[:, 1], "_random": others[:, 2:].mean(1)}
    found: dict = {f"interpretability{kind}": (("keep", "direction"), values) for kind, values in per_item.items()}
    settings: dict = {"groups": groups, "n_resamples": n_resamples, "seed": seed}
    return found | intervals_of(statistics, n_stimuli, dims=("keep",), tested="above_random", **settings)
