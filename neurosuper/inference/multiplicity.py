"""Adjustment of p-values for the number of tests."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._checks import check_one_of


def adjust_p_values(
    p: xr.DataArray, *, method: Literal["benjamini-hochberg", "bonferroni"] = "benjamini-hochberg"
) -> xr.DataArray:
    """Return p-values adjusted for the number of tests, as one family.

    Parameters
    ----------
    p : DataArray
        Of any dims, such as (system, metric); NaN means that no test was made, and is not counted.
    method : {"benjamini-hochberg", "bonferroni"}, optional
        "benjamini-hochberg" controls the false discovery rate: at most 5 % of the tests with an adjusted p of at most
        0.05 are expected to be false positives. "bonferroni" controls the family-wise error rate: the probability of
        any false positive among them is at most 5 %.

    Returns
    -------
    DataArray
        Like `p`, with its NaN; attrs: `adjusted` (the method) and `n_tests`.

    Raises
    ------
    TypeError
        Not a DataArray of real numbers.
    ValueError
        Another method, or values outside [0, 1].

    See Also
    --------
    permutation_test : Returns the p-value of one test.
    neurosuper.contrast_finders : Tests between finders, with adjusted p-values.

    References
    ----------
    Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57, 289–300, eq. 1.

    Examples
    --------
    >>> import xarray as xr
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
        raise ValueError(f"p-values must be between 0 and 1, got {values[outside][0]:g}; pass p, not its logarithm")
    if method == "bonferroni":
        adjusted[tested] = np.minimum(values * len(values), 1)
    else:
        adjusted[tested] = stats.false_discovery_control(values, method="bh")
    return p.copy(data=adjusted).assign_attrs(adjusted=method, n_tests=len(values))
