"""Dissimilarities between the responses to any two stimuli, without the bias of noise where there are repetitions.

X (stimulus, unit) responses, P (unit, unit) the inverse of the covariance of noise, d (stimulus, other).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy.linalg import solve_triangular

from neurosuper._checks import check_one_of
from neurosuper._memory import memory_of_machine
from neurosuper.repetitions import present_repetitions
from neurosuper.responses import check_averaged, check_responses, coords_along, name_some

__all__ = ["dissimilarities"]

Distance = Literal["crossnobis", "sqeuclidean", "correlation", "cosine", "poisson"]
Noise = Literal["shrinkage", "diagonal", "none"]
PRIOR_RATE, PRIOR_WEIGHT = 1.0, 0.1  # of rates, which keep logarithms finite, as in rsatoolbox
QUANTITY = {
    "crossnobis": "squared Mahalanobis distance per unit, cross-validated",
    "sqeuclidean": "squared Euclidean distance per unit",
    "correlation": "1 − correlation",
    "cosine": "1 − cosine",
    "poisson": "symmetric Kullback-Leibler divergence of Poisson rates per unit",
}


def dissimilarities(
    responses: xr.DataArray, *, distance: Distance = "crossnobis", noise: Noise = "shrinkage"
) -> xr.DataArray:
    """Return the dissimilarity of the responses to each two stimuli (a representational dissimilarity matrix).

    The default is the cross-validated Mahalanobis distance ("crossnobis"): noise alone does not make it larger (see
    Notes), where any other distance is larger the more noise there is.

    Parameters
    ----------
    responses : DataArray (stimulus, repetition, unit), or (stimulus, unit)
        "crossnobis" needs repetitions, whose noise is independent; NaN where one is missing. All others need averages.
        Codes have the dim `direction` in place of `unit`.
    distance : {"crossnobis", "sqeuclidean", "correlation", "cosine", "poisson"}, optional
        "sqeuclidean" and "poisson" are divided by the number of units, as "crossnobis" is; "poisson" is for rates.
    noise : {"shrinkage", "diagonal", "none"}, optional
        Of "crossnobis": the covariance of units over repetitions that distances are relative to: estimated, with
        covariances shrunk toward 0; variances alone; or none, the squared Euclidean distance, cross-validated.

    Returns
    -------
    DataArray (stimulus, other)
        Symmetric, 0 on the diagonal; `other` has the labels of `stimulus`, whose coords stay. "crossnobis" may be
        negative. attrs: `distance`, `quantity`, `noise`, `n_units`.

    Raises
    ------
    ValueError
        Repetitions with a distance that needs averages, or none with "crossnobis"; two stimuli without two different
        repetitions; units without noise; negative rates; responses that are 0 ("cosine") or do not vary over units
        ("correlation"); a matrix larger than the memory.

    See Also
    --------
    rsa : Compare two systems by their dissimilarities.
    neurosuper.average_repetitions : Averages, for the other distances.

    Notes
    -----
    For repetitions m of stimulus i and n of j, d = K(i, i) + K(j, j) − 2 K(i, j), where K is the mean of x(i, m)ᵀ P
    x(j, n) over all m ≠ n, divided by the number of units; for as many repetitions of all stimuli that is the mean of
    (x(i, m) − x(j, m))ᵀ P (x(i, n) − x(j, n)) (Walther et al. 2016, eq. 5). P is estimated from the same repetitions,
    whose covariances are shrunk by the analytical amount of Schäfer and Strimmer. Of stimuli with the same expected
    response, d is 0 on average with `noise="none"`. With P estimated for p units from f degrees of freedom (all
    repetitions minus stimuli), M repetitions of each stimulus, it is up to 2 / M · (p + 1) / (f − p − 1) above, as P
    fits the noise of the same repetitions: use few units, or "diagonal", if f is not large.

    References
    ----------
    Walther et al. 2016, "Reliability of dissimilarity measures for multi-voxel pattern analysis", NeuroImage 137.
    Schäfer and Strimmer 2005, Stat. Appl. Genet. Mol. Biol. 4, 32. Schütt et al. 2023, eLife 12, e82566 ("poisson").

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> noise = np.random.default_rng(0).normal(size=(20, 4, 10))
    >>> r = xr.DataArray(noise, dims=("stimulus", "repetition", "unit"),
    ...                  coords={"stimulus": np.arange(20).astype(str), "unit": np.arange(10).astype(str)})
    >>> d = dissimilarities(r)
    >>> bool(abs(d.mean()) < 0.1), bool(dissimilarities(r.mean("repetition"), distance="sqeuclidean").mean() > 0.4)
    (True, True)
    """
    check_one_of("distance", distance, get_args(Distance))
    check_one_of("noise", noise, get_args(Noise))
    if isinstance(responses, xr.DataArray) and "direction" in responses.dims and "unit" not in responses.dims:
        responses = responses.rename(direction="unit")
    if distance == "crossnobis":
        responses = check_responses(responses)
        if "repetition" not in responses.dims:
            others = ", ".join(map(repr, get_args(Distance)[1:]))
            raise ValueError(f"'crossnobis' needs the dim repetition; pass repetitions, or distance={others}")
    else:
        responses = check_averaged(responses)
    _check_memory(responses.sizes["stimulus"])
    responses = responses.compute()
    d = _crossnobis(responses, noise) if distance == "crossnobis" else _of_averages(responses, distance)
    np.fill_diagonal(d, 0)
    labels = responses.stimulus.values
    coords = coords_along(responses, "stimulus") | {"stimulus": labels, "other": labels}
    attrs = {"distance": distance, "quantity": QUANTITY[distance], "n_units": responses.sizes["unit"]}
    attrs |= {"noise": noise} if distance == "crossnobis" else {}
    return xr.DataArray(d, coords, ("stimulus", "other"), "dissimilarity", attrs)


def _check_memory(n_stimuli: int) -> None:
    needed = 3 * 8 * n_stimuli**2  # the matrix, and two while it is computed
    if needed > memory_of_machine():
        raise ValueError(
            f"dissimilarities of {n_stimuli:,} stimuli take {needed / 2**30:.0f} GiB, more than this machine has; "
            "select fewer stimuli"
        )


def _of_averages(responses: xr.DataArray, distance: str) -> np.ndarray:
    """Return a dissimilarity of averages."""
    X = responses.values.astype(float)
    if distance == "poisson":
        if (X < 0).any():
            raise ValueError("'poisson' needs rates or counts of at least 0, got negative responses; choose another")
        rate = (X + PRIOR_RATE * PRIOR_WEIGHT) / (1 + PRIOR_WEIGHT)
        # Σ (λ − μ)(log λ − log μ), expanded into sums over λ log λ and products
        across = rate @ np.log(rate).T
        own = across.diagonal()
        return (own[:, None] + own - (across + across.T)) / X.shape[1]
    if distance == "correlation":
        X = X - X.mean(axis=1, keepdims=True)
    if distance in ("correlation", "cosine"):
        length = np.linalg.norm(X, axis=1, keepdims=True)
        if (flat := length[:, 0] <= 1e-12 * np.abs(responses.values).max(axis=1)).any():
            kind = "are 0" if distance == "cosine" else "are the same in all units"
            names = name_some(responses.stimulus.values[flat])
            raise ValueError(f"responses to {names} {kind}, so {distance!r} is not defined; drop these stimuli")
        X = X / length
        d = X @ X.T
        np.clip(d, -1, 1, out=d)
        return np.subtract(1, d, out=d)
    return squared_distances(X @ X.T) / X.shape[1]


def squared_distances(K: np.ndarray) -> np.ndarray:
    """Return ‖x_i − x_j‖² of rows x, from their products K, which are overwritten."""
    own = K.diagonal()
    # d = K(i, i) + K(j, j) − 2 K(i, j)
    d = own[:, None] + own
    K *= 2
    d -= K
    return d


def _crossnobis(responses: xr.DataArray, noise: str) -> np.ndarray:
    present = present_repetitions(responses, "dissimilarities")
    if (present != present[..., :1]).any():
        raise ValueError("units lack different repetitions; use those in which all units were recorded")
    present = present[..., 0]
    X = np.where(present[..., None], responses.values.astype(float), 0)
    n = present.sum(axis=1)
    if (once := n < 2).any():
        names = name_some(responses.stimulus.values[once])
        raise ValueError(f"stimulus {names} has fewer than 2 repetitions; drop those")
    if noise != "none":
        X = _whiten(X, present, responses.unit.values, noise)
    # pairs of different repetitions = all pairs − pairs of the same; M² − M if none is missing
    total, flat = X.sum(axis=1), X.reshape(len(X), -1)
    K = total @ total.T
    K -= flat @ flat.T
    n_pairs = n[0] * (n[0] - 1) if present.all() else np.outer(n, n) - present @ present.T.astype(float)
    K /= n_pairs * X.shape[2]
    return squared_distances(K)


def _whiten(X: np.ndarray, present: np.ndarray, units: np.ndarray, noise: str) -> np.ndarray:
    """Return X (stimulus, repetition, unit) in units of the noise, so that products are relative to its covariance."""
    mean = X.sum(axis=1, keepdims=True) / present.sum(axis=1)[:, None, None]
    residuals = (X - mean)[present]
    dof = len(residuals) - len(X)
    variance = (residuals**2).sum(axis=0) / dof
    if (silent := variance <= 1e-24 * (X**2).max(axis=(0, 1))).any():
        raise ValueError(f"unit {name_some(units[silent])} has no noise over repetitions; drop those, or noise='none'")
    scaled = X / np.sqrt(variance)
    if noise == "diagonal":
        return scaled
    correlation = _shrink(residuals / np.sqrt(variance), dof)
    flat = scaled.reshape(-1, X.shape[2])
    # C = L Lᵀ, so xᵀ C⁻¹ y is the product of L⁻¹ x and L⁻¹ y
    return solve_triangular(np.linalg.cholesky(correlation), flat.T, lower=True).T.reshape(X.shape)


def _shrink(scaled: np.ndarray, dof: int) -> np.ndarray:
    """Return the correlation of residuals of variance 1, shrunk toward 0 (Schäfer and Strimmer 2005, table 2, D)."""
    n, p = scaled.shape
    products = scaled.T @ scaled
    mean, mean_square = products / (n - 1), (scaled**2).T @ (scaled**2) / (n - 1)
    off = ~np.eye(p, dtype=bool)
    spread = n / dof**2 * (mean_square - mean**2)
    square = (mean[off] ** 2).sum()
    share = np.clip(spread[off].sum() / square, 0, 1) if square > 0 else 1.0
    correlation = products / dof * (1 - share)
    np.fill_diagonal(correlation, 1)
    return correlation
