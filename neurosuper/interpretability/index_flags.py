"""Marks of items whose index is not what it seems: copies of a photograph, or inactive stimuli, among the top ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._content import photographs_of
from neurosuper.interpretability.ranking import copies_among, count_active, warn_of_copies


def flag_copies(index: xr.DataArray, chosen: xr.DataArray, top: int | Sequence[int]) -> xr.DataArray:
    """Return the index with the coord `has_copies`, if the top stimuli of any item show a photograph twice."""
    if "is_copy" not in chosen.coords:
        return index
    sizes = [top] if isinstance(top, int | np.integer) else list(top)
    flags = chosen.is_copy.drop_vars([name for name in chosen.coords if name in ("code", "is_copy")])
    has_copies = xr.concat([flags[:n].any("rank") for n in sizes], xr.Variable("top", sizes))
    has_copies = has_copies.isel(top=0, drop=True) if "top" not in index.dims else has_copies
    warn_of_copies(
        copies_among(chosen)["n_items_with_copies"], chosen[0].isel(end=0, missing_dims="ignore").size, sizes[-1]
    )
    return index.assign_coords(has_copies=has_copies).assign_attrs(copies_among(chosen))


def flag_inactive(
    index: xr.DataArray, codes: xr.DataArray, chosen: xr.DataArray, end: Literal["top", "bottom", "both"]
) -> xr.DataArray:
    """Return the index with the coord `n_active`, if any item has fewer active stimuli than top stimuli."""
    least = chosen.code[-1].drop_vars(["rank", "code", "is_copy"], errors="ignore")
    # Unless `top` is more than half of the stimuli, one that is not active is among the top ones only if more than half
    # have the code of the last one: this is cheap to find out, unlike the code that most stimuli share.
    if 2 * chosen.sizes["rank"] <= codes.sizes["stimulus"]:
        shared = (codes == least).sum("stimulus").compute()
        if shared.max() < 2 or not (2 * shared > codes.notnull().sum("stimulus").compute()).any():
            return index
    values = codes.values
    values = values if values.dtype.kind == "f" else values.astype(float)
    ends = chosen.end.values.tolist() if end == "both" else [end]
    counts = np.stack([count_active(values, each) for each in ends])
    if not (n_inactive := int((counts < chosen.sizes["rank"]).any(0).sum())):
        return index
    n_active = (("end", codes.dims[1]), counts) if end == "both" else (codes.dims[1], counts[0])
    return index.assign_coords(n_active=n_active).assign_attrs(n_items_inactive=n_inactive)


def flag_all_copies(index: xr.DataArray, codes: xr.DataArray) -> xr.DataArray:
    """Return the index of all stimuli with the coord `has_copies`, true for every item, if a photograph is repeated."""
    photographs = photographs_of(codes)
    if photographs[-1] == len(photographs) - 1:  # no copies
        return index
    n_items = codes.shape[1]
    warn_of_copies(n_items, n_items, len(photographs))
    flags = xr.ones_like(index, dtype=bool).drop_vars("spread", errors="ignore")
    return index.assign_coords(has_copies=flags).assign_attrs(n_items_with_copies=n_items)
