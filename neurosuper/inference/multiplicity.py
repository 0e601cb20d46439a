"""Many tests at once: p-values that allow for how many there were."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import check_one_of


def adjust_p_values(
    p: xr.DataArray, *, method: Literal["benjamini-hochberg", "bonferroni"] = "benjamini-hochberg"
) -> xr.DataArray:
    """Adjust the p-values of many tests, all of which are one family.

    Parameters
    ----------
    p : DataArray
        Of any dims, such as (system, metric); NaN where no test was made, which does not count.
    method : {"benjamini-hochberg", "bonferroni"}, optional
        "benjamini-hochberg": of the tests whose adjusted p is at most 0.05, 5 % are expected to be false. "bonferroni":
        the chance that even one of them is false is at most 5 %.

    Returns
    -------
    DataArray
        As `p`, with its NaN; attrs `adjusted` (the method) and `n_tests`.

    Raises
    ------
    TypeError
        Not a DataArray of real numbers.
    ValueError
        Another method, or values outside [0, 1].

    References
    ----------
    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57, 289–300, eq. 1.

    Examples
    --------
    >>> adjust_p_values(xr.DataArray([0.01, 0.03, 0.5], dims="metric")).values.round(3).tolist()
    [0.03, 0.045, 0.5]
    """
    check_one_of("method", method, ("benjamini-hochberg", "bonferroni"))
    if not isinstance(p, xr.DataArray) or p.dtype.kind not in "iuf":
        raise TypeError(f"p must be an xarray.DataArray of p-values, got {getattr(p, 'dtype', type(p).__name__)}")
    adjusted = p.values.astype(float)
    tested = ~np.isnan(adjusted)
    values = adjusted[tested]
    if (outside := (values < 0) | (values > 1)).any():
        raise ValueError(f"p-values must lie in [0, 1], got {values[outside][0]:g}; pass p, not its logarithm")
    if method == "bonferroni":
        adjusted[tested] = np.minimum(values * len(values), 1)
    else:
        adjusted[tested] = stats.false_discovery_control(values, method="bh")
    return p.copy(data=adjusted).assign_attrs(adjusted=method, n_tests=len(values))
