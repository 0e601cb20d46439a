"""Sparseness: whether an item responds to few stimuli, or a stimulus is encoded by few items.

Z (stimulus, item) codes; n codes z of one item (over stimuli) or of one stimulus (over items).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import check_one_of
from neurosuper._sparsity import hoyer
from neurosuper.interpretability.ranking import check_codes
from neurosuper.responses import coords_along, name_some

Measure = Literal["treves-rolls", "hoyer", "gini", "kurtosis", "skewness", "active"]
OF_POSITIVE = ("treves-rolls", "hoyer", "gini")  # defined by ratios of sums: codes must not be negative
OF_SHAPE = ("kurtosis", "skewness")  # divided by a power of the standard deviation
RESIDUE = 1e-13  # of the largest code: what differences in float64 may be by rounding alone


def sparseness(
    codes: xr.DataArray,
    *,
    measure: Measure = "treves-rolls",
    over: Literal["stimulus", "item"] = "stimulus",
    baseline: float | Literal["min", "median"] | None = None,
) -> xr.DataArray:
    """Return how sparse the codes of each unit or direction are, or those of each stimulus.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes, without NaN.
    measure : {"treves-rolls", "hoyer", "gini", "kurtosis", "skewness", "active"}, optional
        See Notes.
    over : {"stimulus", "item"}, optional
        "stimulus": one value for each item, its sparseness over stimuli (lifetime sparseness). "item": one for each
        stimulus, over items (population sparseness).
    baseline : float, "min", "median" or None, optional
        Subtracted from the codes of each item; what is below it becomes 0. A number, or the smallest or median code of
        the item over stimuli.

    Returns
    -------
    DataArray (unit,), (direction,) or (stimulus,)
        Name `sparseness`; coords are kept. attrs: `quantity`, `over`, `baseline` if there is one.

    Raises
    ------
    ValueError
        Codes that are not (stimulus, item), or contain NaN; negative codes without a baseline, for "treves-rolls",
        "hoyer" and "gini"; items (or stimuli) without any code above 0, for these, or with equal codes, for "kurtosis"
        and "skewness"; fewer than two stimuli (items); another setting.

    See Also
    --------
    neurosuper.sweep : Hoyer's sparsity of the codes of finders.
    neurosuper.inference.halves_interval : An interval for other stimuli (see Examples).

    Notes
    -----
    "treves-rolls" is (1 − mean(z)²/mean(z²)) / (1 − 1/n): 0 if all codes are equal, 1 if only one is not zero (Vinje
    and Gallant 2000). "hoyer", (√n − Σz/√Σz²) / (√n − 1), has the same ends (Hoyer 2004). "gini" is the Gini
    coefficient, the mean difference of two codes over twice the mean: 0 to 1 − 1/n (Hurley and Rickard 2009).
    "kurtosis" is the excess over that of a normal distribution, "skewness" the third standardised moment, both without
    correction for n. "active" is the share of codes above 0, which decreases with sparseness.

    The first three depend on the zero of the codes: projections of rates on directions of `KMeans` are all positive
    and vary little, so that they are not sparse at all where units are. Compare units and directions at one `baseline`,
    or by skewness.

    References
    ----------
    Vinje and Gallant 2000, Science 287, 1273. Hoyer 2004, J. Mach. Learn. Res. 5, 1457. Hurley and Rickard 2009, IEEE
    Trans. Inf. Theory 55, 4723.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper.inference import halves_interval
    >>> z = xr.DataArray([[0., 1.], [0., 1.], [3., 1.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y", "z"], "unit": ["sparse", "constant"]})
    >>> sparseness(z).values.tolist()
    [1.0, 0.0]

    Its mean over items, with an interval for other stimuli:

    >>> z = xr.DataArray(np.random.default_rng(0).exponential(size=(80, 9)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(80).astype(str), "unit": list("abcdefghi")})
    >>> mean = halves_interval(lambda rows: sparseness(z[rows]).mean(), 80, n_resamples=20)
    >>> bool(mean.estimate_low < 0.5 < mean.estimate_high)  # of an exponential distribution
    True
    """
    check_one_of("measure", measure, get_args(Measure))
    check_one_of("over", over, ("stimulus", "item"))
    codes = check_codes(codes)
    values = _above_baseline(_finite(codes), baseline)
    item = str(codes.dims[1])
    kept, summed = (item, "stimulus") if over == "stimulus" else ("stimulus", item)
    Z = values if over == "stimulus" else values.T  # (n, kept)
    if len(Z) < 2:
        raise ValueError(f"sparseness over {summed} needs at least 2 of them, got {len(Z)}")
    _require_defined(Z, codes[kept], measure)
    size = np.abs(Z).max(0)
    Z = Z / np.where(size > 0, size, 1)  # squares of very large or small codes are out of range
    attrs: dict[str, object] = {"quantity": f"sparseness ({measure})", "over": summed}
    attrs |= {} if baseline is None else {"baseline": baseline}
    return xr.DataArray(MEASURES[measure](Z), coords_along(codes, kept), (kept,), "sparseness", codes.attrs | attrs)


def _finite(codes: xr.DataArray) -> np.ndarray:
    """Return codes in float64, or raise an error that names the items with NaN or infinite ones."""
    values = codes.values.astype(float)
    if (bad := ~np.isfinite(values).all(0)).any():
        item = codes.dims[1]
        names = name_some(codes[item].values[bad])
        raise ValueError(f"codes contain NaN or infinite values, in {item} {names}; drop those, or their stimuli")
    return values


def _above_baseline(values: np.ndarray, baseline: float | str | None) -> np.ndarray:
    """Return by how much codes (stimulus, item) are above the baseline of their item, at least 0."""
    if baseline is None:
        return values
    if isinstance(baseline, str):
        check_one_of("baseline", baseline, ("min", "median"))
        level = values.min(0) if baseline == "min" else np.median(values, axis=0)
    elif isinstance(baseline, bool) or not np.isreal(baseline) or not np.isfinite(baseline):
        raise ValueError(f"baseline must be a finite number, 'min', 'median' or None, got {baseline!r}")
    else:
        level = np.array(float(baseline))
    return np.maximum(values - level, 0)


def _require_defined(Z: np.ndarray, labels: xr.DataArray, measure: str) -> None:
    """Raise an error that names the columns of Z (n, kept) for which a measure is not defined."""
    dim = labels.dims[0]
    if measure in OF_POSITIVE and (bad := (Z < 0).any(0)).any():
        raise ValueError(
            f"{measure} is not defined for negative codes, in {dim} {name_some(labels.values[bad])}; give a baseline, "
            "such as baseline='min' or baseline=0, or use measure='kurtosis' or 'skewness'"
        )
    if measure in OF_POSITIVE and (bad := ~Z.any(0)).any():
        raise ValueError(f"no code is above 0 in {dim} {name_some(labels.values[bad])}; drop those")
    if measure in OF_SHAPE and (bad := np.ptp(Z, axis=0) <= RESIDUE * np.abs(Z).max(0)).any():
        raise ValueError(f"zero variance in {dim} {name_some(labels.values[bad])} has no {measure}; drop those")


def _treves_rolls(Z: np.ndarray) -> np.ndarray:
    return (1 - Z.mean(0) ** 2 / (Z**2).mean(0)) / (1 - 1 / len(Z))


def _hoyer(Z: np.ndarray) -> np.ndarray:
    return hoyer(Z.sum(0), np.linalg.norm(Z, axis=0), len(Z))


def _gini(Z: np.ndarray) -> np.ndarray:
    """Return Σ (2k − n − 1) z₍ₖ₎ / (n Σ z), for z sorted from k = 1: Σ_ij |zᵢ − zⱼ| / (2n² mean(z))."""
    n = len(Z)
    Z = np.sort(Z, axis=0)
    return (2 * np.arange(1, n + 1) - n - 1) @ Z / (n * Z.sum(0))


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "treves-rolls": _treves_rolls,
    "hoyer": _hoyer,
    "gini": _gini,
    "kurtosis": lambda Z: stats.kurtosis(Z, axis=0),
    "skewness": lambda Z: stats.skew(Z, axis=0),
    "active": lambda Z: (Z > 0).mean(0),
}
