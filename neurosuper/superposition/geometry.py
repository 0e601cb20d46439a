"""Interference: how much directions point the same way, as they must if there are more of them than units.

D (direction, unit) directions with rows of unit length; G = D Dᵀ their cosines; K directions, d units;
Z (stimulus, direction) codes.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import xarray as xr
from scipy.sparse import csr_array

from neurosuper._checks import Seed, seed_or_new
from neurosuper._progress import progress
from neurosuper.directions.projection import check_directions
from neurosuper.inference import halves_interval
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import coords_along, name_some
from neurosuper.superposition.halved_stimuli import undivided

BLOCK_ENTRIES = 2**22  # cosines computed at a time: 16 MiB in float32, which stay in the cache
MOST_INTERFERING = 0.05  # share of pairs whose co-firing is measured
MOST_PAIRS = 2**24  # pairs whose cosines are held at once for co-firing: with their indices, about 0.6 GiB


def interference(
    directions: xr.DataArray,
    *,
    codes: xr.DataArray | None = None,
    stimulus_groups: str | None = None,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return how much each direction interferes with the others, from the cosines between directions.

    Parameters
    ----------
    directions : DataArray (direction, unit)
        At least two, such as `finder.directions_`; rows of any length but zero. Find them with `center=True`: the
        mean response, which uncentred directions share, makes all of them nearly parallel.
    codes : DataArray (stimulus, direction), optional
        Codes of these directions, of stimuli that did not serve to find them, for `cofiring`.
    stimulus_groups : str, optional
        A stimulus coord of the codes, such as bursts of frames: whole groups are halved, and intervals are for other
        groups.
    n_resamples : int, optional
        Number of random halves of the stimuli for the interval of `cofiring`.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves.

    Returns
    -------
    Dataset (direction)
        `interference`, the sum of the squared cosines with all others; `dimensions`, 1/(1 + `interference`): 1 for a
        direction that is orthogonal to all others, ½ for one of a pair ±d (Elhage et al. 2022); `nearest`, the largest
        absolute cosine, and `nearest_direction`, its label. Scalars: `coherence`, the largest absolute cosine of all,
        and `welch`, its smallest possible value for this number of directions and units; `rms` of the cosines;
        `frame_potential`, the sum of all squared cosines × units/directions²: at least 1, and 1 for a tight frame, in
        which the directions, at least as many as units, cover all units evenly; `rank`; `features_per_dimension`, the
        number of directions over the participation ratio of their spectrum. With codes, `cofiring` with `cofiring_low`
        and `cofiring_high` (see Notes).

    Raises
    ------
    TypeError
        Not DataArrays of real numbers.
    ValueError
        Fewer than two directions; directions or labels that break the contract; codes of other directions, NaN, or
        codes that are never above 0; too many pairs for `cofiring`.

    See Also
    --------
    axis_alignment : Whether directions are the units.
    neurosuper.inference.compare_with_null : Test any of these values against random directions.
    neurosuper.directions.CovarianceMatched : Random directions with the covariance of the responses.

    Notes
    -----
    Two nulls answer different questions. `Random` directions of the same number have a mean squared cosine of 1/units
    (but up to the number of units they are a rotation, whose interference is 0). `CovarianceMatched(center=True)` has
    in addition the covariance of the responses: where few axes have most of the variance, directions of any finder are
    nearly parallel without any superposition. Report both.

    `cofiring` is the mean, over the 5 % of pairs with the largest absolute cosines, of
    mean(max(zᵢ, 0) max(zⱼ, 0)) / (mean(max(zᵢ, 0)) mean(max(zⱼ, 0))): 1 if both are active independently of each other.
    Superposition costs little where features that interfere seldom occur together, below 1.

    Time grows with directions² × units. Cosines are computed in blocks; `cofiring` needs all of them at once.

    References
    ----------
    Elhage et al. 2022, "Toy models of superposition", section 3 (dimensions of a feature).
    Welch 1974, IEEE Trans. Inf. Theory 20, 397. Benedetto and Fickus 2003, Adv. Comput. Math. 18, 357.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> angles = np.deg2rad([90, 210, 330])
    >>> D = xr.DataArray(np.stack([np.cos(angles), np.sin(angles)], 1), dims=("direction", "unit"),
    ...                  coords={"direction": ["f", "g", "h"], "unit": ["a", "b"]})
    >>> found = interference(D)  # three vectors at 120°: no three directions of two units interfere less
    >>> found.dimensions.values.round(3).tolist(), round(float(found.coherence), 3), round(float(found.welch), 3)
    ([0.667, 0.667, 0.667], 0.5, 0.5)
    """
    directions = check_directions(directions)
    D = unit_rows(directions)
    K, d = D.shape
    if K < 2:
        raise ValueError(f"interference is between directions; got {K}, give at least 2")
    squares, nearest, at = _sums_of_cosines(D)
    spectrum = np.linalg.eigvalsh(_gram(D))
    columns = {
        "interference": ("direction", squares),
        "dimensions": ("direction", 1 / (1 + squares)),
        "nearest": ("direction", nearest),
        "nearest_direction": ("direction", directions.direction.values[at]),
        "coherence": nearest.max(),
        "welch": np.sqrt(max(K - d, 0) / (d * (K - 1))),
        "rms": np.sqrt(squares.mean() / (K - 1)),
        # ΣG² is the sum of squared eigenvalues, of G or, but for zeros, of DᵀD
        "frame_potential": (spectrum**2).sum() * d / K**2,
        "rank": _rank(spectrum, D),
        "features_per_dimension": K * (spectrum**2).sum() / spectrum.sum() ** 2,
    }
    attrs = {"method": directions.attrs.get("method", "directions"), "quantity": "squared cosine"}
    result = xr.Dataset(columns, coords_along(directions, "direction"), attrs)
    if codes is None:
        return result
    codes = _codes_of(codes, directions)
    settings: dict = {"stimulus_groups": undivided(codes, stimulus_groups), "n_resamples": n_resamples}
    found = _cofiring(D, codes.values, settings | {"random_state": seed_or_new(random_state)})
    named = {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return result.assign(found.data_vars).assign_attrs(found.attrs | named)


def unit_rows(directions: xr.DataArray) -> np.ndarray:
    """Return directions (direction, unit) that were checked, with rows of unit length, in float32 or float64."""
    D = directions.values.astype(np.result_type(directions.dtype, np.float32))  # a copy, which is scaled in place
    # divided by the largest weight first: squares of very large or small weights are out of range
    D /= np.maximum(D.max(axis=1, keepdims=True), -D.min(axis=1, keepdims=True))
    D /= np.sqrt(np.einsum("ij,ij->i", D, D, dtype=np.float64)).astype(D.dtype)[:, None]
    return D


def _sums_of_cosines(D: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Σ G²ᵢⱼ over j ≠ i, the largest |Gᵢⱼ|, and its j, for each i, from one tile of G at a time.

    G is symmetric: tiles below the diagonal are not computed, and each of the others serves its rows and its columns.
    """
    K = len(D)
    sums, largest, at = np.zeros(K), np.full(K, -1.0), np.zeros(K, int)
    size = max(1, int(BLOCK_ENTRIES**0.5))
    starts = range(0, K, size)
    tiles = list(combinations_with_replacement((slice(start, min(start + size, K)) for start in starts), 2))
    for rows, columns in progress(tiles, desc="interference", unit="tile", leave=False):
        G = D[rows] @ D[columns].T
        if rows == columns:
            np.fill_diagonal(G, 0)  # the cosine of a direction with itself
        G *= G
        for squares, own, other in ((G, rows, columns), (G.T, columns, rows))[: 1 if rows == columns else 2]:
            sums[own] += squares @ np.ones(squares.shape[1], G.dtype)
            most = squares.max(axis=1)
            larger = np.flatnonzero(most > largest[own])
            largest[own][larger] = most[larger]
            at[own][larger] = squares[larger].argmax(axis=1) + other.start
    return sums, np.sqrt(largest).clip(max=1), at


def _gram(D: np.ndarray) -> np.ndarray:
    """Return DDᵀ or DᵀD, whichever is smaller, in float64; both have the same eigenvalues but for zeros."""
    if len(D) <= D.shape[1]:
        D = D.astype(float)
        return D @ D.T
    size = max(1, BLOCK_ENTRIES // D.shape[1])
    blocks = (D[start : start + size].astype(float) for start in range(0, len(D), size))
    return sum(block.T @ block for block in blocks)


def _rank(spectrum: np.ndarray, D: np.ndarray) -> int:
    """Return the number of eigenvalues that are not zero up to the rounding of D and of its Gram matrix."""
    tolerance = (max(D.shape) * np.finfo(D.dtype).eps) ** 2 + max(D.shape) * np.finfo(float).eps
    return int((spectrum > tolerance * spectrum[-1]).sum())


def _codes_of(codes: xr.DataArray, directions: xr.DataArray) -> xr.DataArray:
    """Return the positive parts (stimulus, direction) of codes of these directions, with stimuli in order."""
    codes = check_codes(codes)
    if "direction" not in codes.dims:
        raise ValueError(f"codes must have the dims stimulus and direction, got {codes.dims}; see `project`")
    if len(extra := codes.indexes["direction"].symmetric_difference(directions.indexes["direction"])):
        raise ValueError(f"codes and directions differ in direction {name_some(extra)}; give codes of the same ones")
    codes = codes.sel(direction=directions.direction.values).sortby("stimulus")
    values = codes.values.astype(float)
    if (bad := ~np.isfinite(values).all(0)).any():
        names = name_some(codes.direction.values[bad])
        raise ValueError(f"codes contain NaN or infinite values, in direction {names}; drop those, or their stimuli")
    if (silent := (values <= 0).all(0)).any():
        names = name_some(codes.direction.values[silent])
        raise ValueError(f"codes of direction {names} are never above 0; leave out such directions")
    return codes.copy(data=np.maximum(values, 0))


def _cofiring(D: np.ndarray, Z: np.ndarray, settings: dict) -> xr.Dataset:
    """Return the co-firing of the most interfering pairs, with its interval over stimuli."""
    K = len(D)
    n_pairs = K * (K - 1) // 2
    if n_pairs > MOST_PAIRS:
        raise ValueError(
            f"cofiring needs the cosines of {n_pairs:,} pairs at once, {n_pairs * 40 / 2**30:.1f} GiB; select at most "
            f"{int((2 * MOST_PAIRS) ** 0.5):,} directions, or leave out `codes`"
        )
    first, second = np.triu_indices(K, 1)
    cosines = np.abs(D @ D.T)[first, second]
    n_chosen = max(1, round(MOST_INTERFERING * n_pairs))
    chosen = np.argpartition(-cosines, n_chosen - 1)[:n_chosen]
    pairs = csr_array((np.ones(n_chosen), (first[chosen], second[chosen])), shape=(K, K))

    def cofiring(rows: np.ndarray) -> float:
        with np.errstate(invalid="ignore", divide="ignore"):  # a direction may be silent in a half: NaN
            relative = Z[rows] / Z[rows].mean(axis=0)
        return float(((relative @ pairs) * relative).sum() / (len(rows) * n_chosen))

    found = halves_interval(cofiring, len(Z), **settings)
    names = {"estimate": "cofiring", "estimate_low": "cofiring_low", "estimate_high": "cofiring_high"}
    attrs = {"n_pairs": n_chosen} | {
        name: found.attrs[name] for name in ("n_stimuli", "n_resamples", "confidence_level", "random_state")
    }
    return xr.Dataset(found[list(names)].rename(names).data_vars, attrs=attrs)
