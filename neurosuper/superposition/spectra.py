"""Spectra: how much variance of the responses each dimension has, and how many dimensions that makes.

X (stimulus, unit) responses; A, B (stimulus, unit) means over two halves of their repetitions, with the same stimuli
and independent noise; λ (component,) variances along principal components u of A.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy import linalg, special

from neurosuper._checks import Seed, check_count, check_one_of, seed_or_new
from neurosuper._progress import progress
from neurosuper.inference import halves_interval
from neurosuper.repetitions import first_half, rank_labels, require_repetitions
from neurosuper.responses import average_repetitions, check_responses, require_varying
from neurosuper.superposition.halved_stimuli import undivided

MIN_RANKS = 5  # components of the regression of alpha
SCALARS = ("alpha", "participation_ratio", "effective_rank")
ROUNDING = 1e-13  # of the largest variance, and of the number of components: eigenvalues that are zero


class _Products(NamedTuple):
    """What spectra are computed from, in the smaller of two forms: XXᵀ of stimuli, or the responses themselves."""

    first: np.ndarray  # A Aᵀ (stimulus, stimulus), or A (stimulus, unit)
    second: np.ndarray | None  # B Aᵀ, or B; None for the variance of A itself
    of_stimuli: bool
    units: np.ndarray | None = None  # A, for the unbiased participation ratio

    @classmethod
    def of(cls, A: np.ndarray, B: np.ndarray | None) -> _Products:
        """Return the products of responses, or the responses if they have no more units than stimuli."""
        if A.shape[1] <= len(A):
            return cls(A, B, False)
        return cls(A @ A.T, None if B is None else B @ A.T, True)

    def take(self, rows: np.ndarray) -> _Products:
        """Return the products of some stimuli."""
        at = np.ix_(rows, rows) if self.of_stimuli else rows
        second = None if self.second is None else self.second[at]
        return _Products(self.first[at], second, self.of_stimuli, None if self.units is None else self.units[rows])


def spectrum(
    responses: xr.DataArray,
    *,
    method: Literal["auto", "pca", "cvpca"] = "auto",
    fit: tuple[int, int] = (11, 500),
    correlation: bool = False,
    center: Literal["unit", "stimulus"] = "unit",
    stimulus_dim: float | None = None,
    unbiased: bool = False,
    stimulus_groups: str | None = None,
    n_splits: int = 10,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the variance of responses along their principal components, its power law, and its number of dimensions.

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
        NaN where a repetition is missing. A dask array is loaded into memory.
    method : {"auto", "pca", "cvpca"}, optional
        "pca": eigenvalues of the covariance of the responses, averaged over repetitions: of signal and noise.
        "cvpca", cross-validated PCA (Stringer et al. 2019): the covariance of the two halves of the repetitions along
        the principal components of the first, an estimate for the signal alone. "auto" is "cvpca" with repetitions.
    fit : (int, int), optional
        First and last component, from 1, of the power law; the last is lowered to the number of components.
    correlation : bool, optional
        Divide each unit by its standard deviation over stimuli (of its average over repetitions).
    center : {"unit", "stimulus"}, optional
        Subtract the mean of each unit, as in PCA; or that of each stimulus over units, as the code of Stringer et al.
    stimulus_dim : float, optional
        Dimension of the stimuli, for `alpha_critical`.
    unbiased : bool, optional
        Estimate the participation ratio for all stimuli and all units that these were drawn from, however many ("pca"
        only).
    stimulus_groups : str, optional
        A stimulus coord, such as bursts of frames: whole groups are halved, and intervals are for other groups.
    n_splits : int, optional
        Number of random splits of the repetitions, for "cvpca", whose spectra are averaged.
    n_resamples : int, optional
        Number of random halves of the stimuli for the intervals, at least 10; 0 computes none.
    random_state : int, Generator, RandomState or None, optional
        Seed: split i of the repetitions has the seed `random_state` + i, from 0, in `split_repetitions`.

    Returns
    -------
    Dataset (component)
        `variance` along each component (ddof=1), which "cvpca" may estimate below 0. Scalars, each with `…_low` and
        `…_high`: `alpha`, the exponent of variance ∝ component^(−alpha); `participation_ratio`, (Σλ)²/Σλ²;
        `effective_rank`, exp(−Σ p ln p) for p = λ/Σλ (Roy and Vetterli 2007); both are NaN if Σλ is not above 0. With
        `stimulus_dim`, `alpha_critical` = 1 + 2/`stimulus_dim`: below it, a code of such stimuli is not smooth.

    Raises
    ------
    ValueError
        Responses that break the contract; repetitions that are missing for "cvpca"; fewer than 5 components with
        variance in `fit`; with `correlation`, constant units; `unbiased` with "cvpca"; settings out of range.

    See Also
    --------
    PCA : The components themselves.
    neurosuper.split_repetitions : The halves of the repetitions.

    Notes
    -----
    `alpha` is the slope of a regression of ln λ on ln component, with the weight 1/component; variances that are not
    above 0 are left out, but they count in all sums. Participation ratio and effective rank are at most the numbers of
    units and of stimuli − 1, and grow with both: compare systems at the same numbers, or participation ratios with
    `unbiased`. That is Σ C_ii C_jj / Σ C_ij² over pairs of units i ≠ j, with estimates of these products that are
    unbiased over stimuli (U-statistics); noise that is independent between units still adds to it. Intervals, by halves
    of the stimuli, do not show a bias; those of "cvpca" are for a single split, and so a little wide.

    Each split takes one product and one eigendecomposition of a matrix (stimulus, stimulus) or (unit, unit), whichever
    is smaller; intervals take as long as about 50 + `n_resamples`/4 splits.

    References
    ----------
    Stringer, Pachitariu, Steinmetz, Carandini and Harris 2019, Nature 571, 361. Roy and Vetterli 2007, "The effective
    rank", EUSIPCO. Song, Smola, Gretton, Bedo and Borgwardt 2012, J. Mach. Learn. Res. 13, 1393.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = np.random.default_rng(0).normal(size=(400, 30)) / np.arange(1, 31) ** 0.5  # variances 1, 1/2, 1/3, …
    >>> r = xr.DataArray(r, dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(400).astype(str), "unit": np.arange(30).astype(str)})
    >>> found = spectrum(r, fit=(1, 20), n_resamples=10)
    >>> bool(found.alpha_low < 1 < found.alpha_high)
    True
    """
    check_one_of("method", method, ("auto", "pca", "cvpca"))
    check_one_of("center", center, ("unit", "stimulus"))
    first, last = _check_fit(fit)
    check_count("n_splits", n_splits)
    if n_resamples != 0:
        check_count("n_resamples", n_resamples, least=10, why=" (or 0 for no intervals)")
    if stimulus_dim is not None and not 0 < stimulus_dim < np.inf:
        raise ValueError(f"stimulus_dim must be above 0, got {stimulus_dim!r}")
    responses, seed = check_responses(responses).compute(), seed_or_new(random_state)
    if method == "auto":
        method = "cvpca" if "repetition" in responses.dims else "pca"
    if unbiased and (method == "cvpca" or center == "stimulus"):
        raise ValueError("unbiased is for method='pca' with center='unit'; leave it out, or change those")
    by_unit, n = center == "unit", responses.sizes["stimulus"]
    splits = _products(responses, method, correlation, by_unit, unbiased, n_splits, seed)
    one = next(splits)
    spectra = [_variances(one, by_unit), *(_variances(split, by_unit) for split in splits)]
    # components beyond the rank of centred responses have no variance
    variance = np.mean(spectra, axis=0)[: min(n - 1 if by_unit else n, responses.sizes["unit"] - (not by_unit))]
    scalars = dict(zip(SCALARS, _summarize(variance, first, last), strict=True))
    _require_power_law(variance, scalars["alpha"], first, last)
    if one.units is not None:
        scalars["participation_ratio"] = _unbiased_ratio(one.units)
    columns = {"variance": ("component", variance)} | scalars
    if n_resamples:
        order = responses.indexes["stimulus"].argsort()
        groups = undivided(responses.stimulus[order], stimulus_groups)
        settings: dict = {"stimulus_groups": groups, "n_resamples": n_resamples}
        columns |= _intervals(one, by_unit, scalars, (first, last), order, settings | {"random_state": seed})
    if stimulus_dim is not None:
        columns["alpha_critical"] = 1 + 2 / stimulus_dim
    attrs: dict[str, object] = {"method": method, "quantity": "variance", "fit": [first, min(last, len(variance))]}
    attrs |= {"center": center, "correlation": int(correlation), "unbiased": int(unbiased), "n_stimuli": n}
    attrs |= {"n_resamples": int(n_resamples), "random_state": seed}
    attrs |= {"n_splits": int(n_splits)} if method == "cvpca" else {}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return xr.Dataset(columns, {"component": np.arange(1, len(variance) + 1)}, attrs)


def _check_fit(fit: tuple[int, int]) -> tuple[int, int]:
    if np.shape(fit) != (2,):
        raise ValueError(f"fit must be the first and the last component, such as (11, 500); got {fit!r}")
    first = check_count("the first component of fit", fit[0])
    return first, check_count("the last component of fit", fit[1], least=first + MIN_RANKS - 1)


def _require_power_law(variance: np.ndarray, alpha: float, first: int, last: int) -> None:
    if np.isnan(alpha):
        n = int((variance[first - 1 : last] > 0).sum())
        raise ValueError(
            f"a power law needs at least {MIN_RANKS} components with variance from {first} to {last}; {n} of "
            f"{len(variance)} have any there; lower the first, such as fit=(1, 20), or use more units and stimuli"
        )


def _products(
    responses: xr.DataArray, method: str, correlation: bool, by_unit: bool, unbiased: bool, n_splits: int, seed: int
) -> Iterator[_Products]:
    """Yield what the spectrum of each split of the repetitions is computed from."""
    average = average_repetitions(responses).astype(float)
    if correlation:
        require_varying(average)
    scale, middle = average.std("stimulus", ddof=1).values if correlation else 1.0, average.values.mean(axis=0)

    def prepared(values: np.ndarray) -> np.ndarray:
        scaled = values / scale if correlation else values
        # the mean over all stimuli is subtracted from units first, so that products do not lose digits
        return scaled - (middle / scale if by_unit else scaled.mean(axis=-1, keepdims=True))

    if method == "pca":
        A = prepared(average.values)
        yield _Products.of(A, None)._replace(units=A if unbiased else None)
        return
    present = require_repetitions(responses, 2, "cvpca")
    values, place, n = responses.values.astype(float), rank_labels(responses), len(responses)
    halves = (
        first_half(present, place, np.random.default_rng((seed + i) % 2**64))
        for i in progress(range(n_splits), desc="cvPCA", unit="split", leave=False)
    )
    if values.shape[1] == 2 and present.shape[2] == 1 and n < values.shape[2]:
        # two repetitions are exchanged, not averaged: the products of all of them contain those of every split
        Y = prepared(values).transpose(1, 0, 2).reshape(2 * n, -1)
        K = Y @ Y.T
        for half in halves:
            a = np.arange(n) + n * ~half[:, 0, 0]
            b = (a + n) % (2 * n)
            yield _Products(K[np.ix_(a, a)], K[np.ix_(b, a)], True)
        return
    for half in halves:
        A, B = (prepared(_mean_of(values, chosen)) for chosen in (half, present & ~half))
        yield _Products.of(A, B)


def _mean_of(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return means (stimulus, unit) over the chosen repetitions."""
    chosen = np.broadcast_to(chosen, values.shape)
    return values.sum(axis=1, where=chosen) / chosen.sum(axis=1)


def _variances(products: _Products, by_unit: bool) -> np.ndarray:
    """Return λ of all components, in decreasing order of the variance of the first half."""
    n, M, L = len(products.first), products.first, products.second
    if products.of_stimuli:
        # principal components u of A are Aᵀw/s for eigenvectors w of A Aᵀ, with eigenvalues s²: codes of A are s w,
        # those of B are B Aᵀ w / s, and Σ (codes of A) (codes of B) = wᵀ B Aᵀ w
        M = _center_both(M) if by_unit else M
        L = L if L is None or not by_unit else _center_both(L)
    else:
        A = M - M.mean(0) if by_unit else M
        M, L = A.T @ A, None if L is None else A.T @ L  # Σ (codes of A) (codes of B) = uᵀ Aᵀ B u
    if L is None:
        return linalg.eigvalsh(M, check_finite=False)[::-1].clip(min=0) / (n - 1)
    # M is symmetric: its transpose is in the order of LAPACK, which may overwrite what was computed here
    is_own = by_unit or not products.of_stimuli
    W = linalg.eigh(M.T, check_finite=False, driver="evd", overwrite_a=is_own)[1]
    # wᵀ L w = wᵀ T w for the triangle T of L + Lᵀ with half of its diagonal: the product T W has half of the operations
    T = L + L.T
    np.fill_diagonal(T, L.diagonal())
    return np.vecdot(W.T, linalg.blas.dtrmm(1.0, T.T, W, lower=1).T)[::-1] / (n - 1)


def _center_both(K: np.ndarray) -> np.ndarray:
    """Return products of stimuli after the mean over stimuli is subtracted from each unit: H K H, H = I − 1/n."""
    K = K - K.mean(axis=0)
    K -= K.mean(axis=1, keepdims=True)
    return K


def _summarize(variance: np.ndarray, first: int, last: int) -> tuple[float, float, float]:
    """Return alpha (or NaN: fewer than 5 components), participation ratio, effective rank (or NaN: no variance)."""
    rank = np.arange(1, len(variance) + 1)
    used = (rank >= first) & (rank <= last) & (variance > ROUNDING * variance.max())
    alpha = np.nan
    if used.sum() >= MIN_RANKS:
        # weighted regression of y = ln λ on x = ln rank, with weights 1/rank
        x, y, w = np.log(rank[used]), np.log(variance[used]), 1 / rank[used]
        x, y = x - np.average(x, weights=w), y - np.average(y, weights=w)
        alpha = -(w * x * y).sum() / (w * x * x).sum()
    total = variance.sum()
    if total <= 0:
        return float(alpha), np.nan, np.nan
    effective = np.exp(special.entr(variance[variance > 0] / total).sum())
    return float(alpha), float(total**2 / (variance**2).sum()), float(effective)


def _unbiased_ratio(X: np.ndarray) -> float:
    """Return Σ C_ii C_jj / Σ C_ij² over units i ≠ j, both sums without bias; NaN if one is not above 0."""
    X = X - X.mean(axis=0)
    n, squares = len(X), X**2
    K = X @ X.T if n < X.shape[1] else X.T @ X

    # Sums over four different stimuli s, t, u, v of products of pairs, ½(x_s − x_t)² · ½(y_u − y_v)² for variances and
    # (Song et al. 2012, eq. 5) for squared covariances, reduce to T = Σ r, Q = Σ r² and F = ‖XXᵀ‖² for r = |x_s|². They
    # are bilinear in XXᵀ = Σ x_i x_iᵀ: those of all pairs of units, less those of each unit with itself.
    def variances(T: np.ndarray, Q: np.ndarray, F: np.ndarray) -> np.ndarray:
        return (T**2 * (n * n - 3 * n + 1) - Q * n * (n - 1) + 2 * F) / (n * (n - 1) * (n - 2) * (n - 3))

    def covariances(T: np.ndarray, Q: np.ndarray, F: np.ndarray) -> np.ndarray:
        return (F - Q + T**2 / ((n - 1) * (n - 2)) - 2 * Q / (n - 2)) / (n * (n - 3))

    r = squares.sum(axis=1)
    whole = r.sum(), (r**2).sum(), (K**2).sum()
    each = squares.sum(axis=0), (squares**2).sum(axis=0), squares.sum(axis=0) ** 2
    above, below = (float(part(*whole) - part(*each).sum()) for part in (variances, covariances))
    return above / below if min(above, below) > 0 else np.nan


def _intervals(
    products: _Products,
    by_unit: bool,
    scalars: dict[str, float],
    fit: tuple[int, int],
    order: np.ndarray,
    settings: dict,
) -> dict[str, float]:
    """Return the limits of each scalar, from halves of the stimuli and one split of the repetitions."""

    def statistic(at: np.ndarray) -> np.ndarray:
        rows = order[at]  # positions in order of labels, so that the order of stimuli does not matter
        some = products.take(rows)
        alpha, ratio, effective = _summarize(_variances(some, by_unit)[: len(rows) - by_unit], *fit)
        return np.array([alpha, ratio if some.units is None else _unbiased_ratio(some.units), effective])

    found = halves_interval(statistic, len(products.first), **settings)
    margins = ((found.estimate_high - found.estimate_low) / 2).values
    return {
        f"{name}_{end}": value + sign * margin
        for (name, value), margin in zip(scalars.items(), margins, strict=True)
        for end, sign in (("low", -1), ("high", 1))
    }
