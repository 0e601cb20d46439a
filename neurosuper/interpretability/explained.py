"""How much of codes is explained by statistics of the images, and what is left of them.

Z (stimulus, item) codes, X (stimulus, statistic) statistics; Z ≈ X B + mean, fitted on other stimuli than predicted.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._content import photographs_of
from neurosuper._joins import join, left_out
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import coords_along, name_some, require_varying


def explained_by(
    codes: xr.DataArray, statistics: xr.Dataset, *, n_splits: int = 5, random_state: Seed = 0
) -> xr.Dataset:
    """Return the share of every unit's or direction's codes that statistics of the images explain.

    Codes are predicted from the statistics by linear regression: each fold of the stimuli by a fit to the others.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, without NaN.
    statistics : Dataset (stimulus,)
        Numbers, such as from `image_statistics`. Stimuli of only one side are left out.
    n_splits : int, optional
        Number of folds, at least 2. Copies of one photograph are in the same fold, if codes or statistics have the
        coord `content`.
    random_state : int, Generator, RandomState or None, optional
        Seed of the folds.

    Returns
    -------
    Dataset
        `r2 (item,)`, the cross-validated share of variance, 1 − Σ(z − ẑ)²/Σ(z − mean z)²: 1 is all; statistics that
        explain nothing give 0 or less. `residual (stimulus, item)`, z − ẑ with ẑ predicted from the other folds:
        its interpretability index is that of the codes with the statistics partialled out. attrs: `statistics`,
        `n_splits`, `random_state`.

    Raises
    ------
    ValueError
        NaN in codes or statistics (named), constant codes, no stimulus in common, or too few photographs: fits need
        more of them than there are statistics.

    See Also
    --------
    image_statistics : Luminance, contrast, saturation, plainness and others.
    interpretability_index : The index of codes or of their residual.

    Notes
    -----
    Only what is linear in the statistics is removed. Add nonlinear terms as variables:
    `statistics.assign(squared=statistics.luminance**2)`.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> labels = {"stimulus": [f"s{i:02d}" for i in range(40)]}
    >>> luminance, noise = np.random.default_rng(0).normal(size=(2, 40))
    >>> codes = xr.DataArray(np.stack([3 * luminance, noise], 1), dims=("stimulus", "unit"),
    ...                      coords=labels | {"unit": ["bright", "noise"]})
    >>> statistics = xr.Dataset({"luminance": ("stimulus", luminance)}, coords=labels)
    >>> explained_by(codes, statistics).r2.values.round(1).tolist()
    [1.0, -0.1]
    """
    n_splits, seed = check_count("n_splits", n_splits, least=2), seed_or_new(random_state)
    if not isinstance(statistics, xr.Dataset) or not statistics.data_vars:
        raise ValueError(f"statistics must be a Dataset with a variable, got {statistics!r:.80}; see image_statistics")
    codes, statistics = join(check_codes(codes), statistics, names=("the codes", "the statistics"), images="b")
    require_varying(codes)
    Z, X = _without_gaps(codes), _matrix(statistics)
    fold = _folds(photographs_of(codes), n_splits, X.shape[1], seed)
    predicted = np.empty_like(Z)
    for k in range(n_splits):
        fit = fold != k
        predicted[~fit] = _predict(X[fit], Z[fit], X[~fit])
    residual = Z - predicted
    r2 = 1 - (residual**2).sum(0) / ((Z - Z.mean(0)) ** 2).sum(0)
    item = str(codes.dims[1])
    return xr.Dataset(
        {
            "r2": (item, r2, {"long_name": "cross-validated share of variance explained by statistics"}),
            "residual": (("stimulus", item), residual, {"long_name": "codes less their prediction from statistics"}),
        },
        coords=coords_along(codes, item) | coords_along(codes, "stimulus"),
        attrs={"statistics": [str(name) for name in statistics.data_vars], "n_splits": n_splits}
        | {"random_state": seed}
        | left_out(codes),
    )


def _predict(X: np.ndarray, Z: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return predictions for new rows by least squares, with an intercept; what is constant here predicts nothing."""
    mean, sd = X.mean(0), X.std(0)
    scale = np.where(np.ptp(X, axis=0) > 0, sd, np.inf)
    B = np.linalg.lstsq((X - mean) / scale, Z - Z.mean(0), rcond=None)[0]
    return (new - mean) / scale @ B + Z.mean(0)


def _folds(photographs: np.ndarray, n_splits: int, n_statistics: int, seed: int) -> np.ndarray:
    """Return the fold of each stimulus: random, of equal size, with copies together."""
    n = int(photographs.max()) + 1
    if n < n_splits or n - -(-n // n_splits) < n_statistics + 2:
        raise ValueError(
            f"{n} photographs are too few for {n_splits} folds and {n_statistics} statistics; pass more stimuli, or "
            "fewer statistics, such as statistics[['luminance', 'rms_contrast']]"
        )
    fold_of = np.random.default_rng(seed).permutation(n) % n_splits
    return fold_of[photographs]


def _without_gaps(codes: xr.DataArray) -> np.ndarray:
    values = np.asarray(codes.values, float)
    if not (finite := np.isfinite(values)).all():
        stimuli = codes.stimulus.values[~finite.all(axis=1)]
        raise ValueError(
            f"codes of stimulus {name_some(stimuli)} are NaN or infinite; leave them out with codes.dropna('stimulus')"
        )
    return values


def _matrix(statistics: xr.Dataset) -> np.ndarray:
    """Return statistics as a matrix (stimulus, statistic)."""
    for name, values in statistics.data_vars.items():
        if values.dims != ("stimulus",) or values.dtype.kind not in "fiub":
            raise ValueError(
                f"statistic {name!r} must be numbers (stimulus,), got {values.dtype} {values.dims}; drop it"
            )
        if not (finite := np.isfinite(values.values.astype(float))).all():
            raise ValueError(
                f"statistic {name!r} is NaN or infinite for stimulus {name_some(statistics.stimulus.values[~finite])}; "
                f"drop the statistic with .drop_vars({str(name)!r}), or the stimuli with .dropna('stimulus')"
            )
    return np.stack([values.values.astype(float) for values in statistics.data_vars.values()], axis=1)
