"""Units themselves as directions: the baseline of every other finder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neurosuper._torch import pick_device
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned


@dataclass(kw_only=True, eq=False, repr=False)
class Units(DirectionFinder):
    """The units themselves: D is the identity, and codes are the responses.

    Parameters
    ----------
    n_directions : None, optional
        Only None (all units), or their number.
    normalize, center, whiten : bool, optional
        As in every finder: codes are the prepared responses.
    random_state : int, Generator, RandomState or None, optional
        Not used.
    device, dtype : str, optional
        As in every finder.

    Attributes
    ----------
    directions_ : DataArray (unit, unit) as (direction, unit)
        The identity; directions have the labels of the units. A read-only view that takes no memory, unless it is
        copied; `to_dataset` leaves it out.
    mean_ : DataArray (unit,)
        Zero, unless `center` or `whiten`.

    See Also
    --------
    Random : The other baseline: random directions.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1., 5.], [2., 3.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "b"]})
    >>> codes = Units().fit_transform(r)
    >>> codes.direction.values.tolist(), codes.values.tolist()
    (['a', 'b'], [[1.0, 5.0], [2.0, 3.0]])
    """

    normalize: bool = False
    center: bool = False
    whiten: bool = False

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return nothing: the identity is not stored."""
        if n_directions != rows.n_columns:
            raise ValueError(f"Units gives one direction per unit, {rows.n_columns} here, not {n_directions}; use None")
        return {}

    @property
    def directions_(self) -> xr.DataArray:  # type: ignore[override]  # computed, not stored
        """The identity, as a view of 2 · units − 1 numbers: a matrix of 50,000 units would take 10 GB."""
        if not hasattr(self, "mean_"):
            raise AttributeError("Units has no directions yet; call .fit(responses) first")
        n = self.mean_.sizes["unit"]
        one = np.zeros(2 * n - 1, self.dtype)
        one[n - 1] = 1
        identity = np.lib.stride_tricks.sliding_window_view(one, n)[::-1]
        coords = {"direction": self.direction_index.values} | dict(self.mean_.coords)
        attrs = self.attrs_of_directions(pick_device(self.device))
        return xr.DataArray(identity, dims=("direction", "unit"), coords=coords, name="directions", attrs=attrs)

    @property
    def direction_index(self) -> pd.Index:
        """Labels of the units."""
        return self.mean_.indexes["unit"].rename("direction")

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the responses themselves."""
        return X

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return the codes, which are the responses."""
        return Z
