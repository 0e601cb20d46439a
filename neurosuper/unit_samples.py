"""Random units of a population, so that systems of different size are compared at equal numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper.responses import check_responses

__all__ = ["subsample_units"]


def subsample_units(responses: xr.DataArray, n: int, *, random_state: Seed = 0) -> xr.DataArray:
    """Return the responses of n random units, so that populations of different size can be compared at equal numbers.

    The same labels and `random_state` always give the same units, in any order of the units.

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
        A dask array stays lazy.
    n : int
        Number of units, at most as many as there are.
    random_state : int, Generator, RandomState or None, optional
        Seed; None draws others each time.

    Returns
    -------
    DataArray
        The same responses of fewer units, in the order that they had. attrs: `subsample`, "n of m units", and the seed
        of it, `subsample_random_state`.

    Raises
    ------
    ValueError
        `n` below 1 or above the number of units; responses that break the contract.

    See Also
    --------
    neurosuper.select_units : Units that reach a threshold, such as of reliability.
    neurosuper.comparison.compare_populations : What the numbers are made equal for.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> labels = {"stimulus": list("uvwxyz"), "unit": list("abcdef")}
    >>> r = xr.DataArray(np.eye(6), labels, ("stimulus", "unit"))
    >>> chosen = subsample_units(r, 2)
    >>> chosen.shape, chosen.attrs["subsample"]
    ((6, 2), '2 of 6 units')
    """
    responses = check_responses(responses)
    n_units = responses.sizes["unit"]
    n = check_count("n", n, most=n_units, why=", the number of units")
    seed = seed_or_new(random_state)
    in_order = np.argsort(responses.unit.values.astype(str))  # so that the order of units does not matter
    chosen = np.sort(in_order[np.random.default_rng(seed).choice(n_units, n, replace=False)])
    attrs = {"subsample": f"{n} of {n_units} units", "subsample_random_state": seed}
    return responses.isel(unit=chosen).assign_attrs(responses.attrs | attrs)
