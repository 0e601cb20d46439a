"""Units themselves as directions: what every other finder is measured against."""

from __future__ import annotations

import torch

from neurosuper.directions.base import DirectionFinder, Learned, as_learned
from neurosuper.directions.blocks import Blocks


class Units(DirectionFinder):
    """The units themselves: D is the identity, and codes are the responses.

    Parameters
    ----------
    n_directions : None, optional
        Only None (all units), or their number.
    random_state : int, optional
        Not used.
    device, dtype : str, optional
        As in every finder.

    Attributes
    ----------
    directions_ : DataArray (unit, unit) as (direction, unit)
        The identity; directions bear the labels of the units.
    mean_ : DataArray (unit,)
        Zero.

    Examples
    --------
    >>> import xarray as xr
    >>> r = xr.DataArray([[1., 5.], [2., 3.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "b"]})
    >>> codes = Units().fit_transform(r)
    >>> codes.direction.values.tolist(), codes.values.tolist()
    (['a', 'b'], [[1.0, 5.0], [2.0, 3.0]])
    """

    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
        if n_directions != rows.n_columns:
            raise ValueError(f"Units gives one direction per unit, {rows.n_columns} here, not {n_directions}; use None")
        return as_learned(torch.eye(n_directions, dtype=rows.dtype, device=rows.device))

    def _direction_labels(self, units: list[str], n_directions: int) -> list[str]:
        return units
