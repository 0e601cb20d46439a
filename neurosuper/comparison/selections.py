"""A comparison as `compare` returns it, from a part that was selected with xarray."""

from __future__ import annotations

import numpy as np
import xarray as xr

BY_METRIC = (  # variables (item, metric, …) of a comparison, as far as it has them
    *("interpretability", "difference_of_halves", "influence", "index_reliability", "mean_of_halves"),
    *("corrected", "corrected_difference_of_halves", "corrected_influence", "corrected_reliability"),
    *("chance_level", "chance_level_low", "chance_level_high", "chance_level_sd"),
    *("corrected_chance_low", "corrected_chance_high", "corrected_chance_sd", "frequency_floor"),
)
OF_ITEMS = {  # variables (item, …) that no metric changes, and the type of their values
    "top_stimuli": str,
    "top_groups": int,
    "n_active": int,
    "n_stimuli": int,
    "n_stimulus_groups": int,
    "has_copies": bool,
}
NEEDED = ("interpretability", "system", "finder", "metric")


def whole_comparison(comparison: xr.Dataset) -> xr.Dataset:
    """Return a comparison with the dims and types of one from `compare`; items that `where` has masked are left out.

    A single metric, as `sel(metric="LPIPS")` selects it, becomes a dim again. Counts and labels, which `where` turns
    into floats and objects, get their types back.

    Raises
    ------
    TypeError
        No Dataset.
    ValueError
        It lacks what every comparison has; a single item as a scalar; items that were selected by each metric apart.
    """
    if not isinstance(comparison, xr.Dataset):
        raise TypeError(
            f"a comparison must be a Dataset from neurosuper.compare, got {type(comparison).__name__}; pass all of it, "
            "not a variable or a list"
        )
    if missing := [name for name in NEEDED if name not in comparison.variables]:
        raise ValueError(f"no comparison: it lacks {', '.join(missing)}; pass what neurosuper.compare returns")
    if "item" not in comparison.dims:
        raise ValueError("the comparison has a single item, without the dim 'item'; select a list, as .isel(item=[0])")
    for name in OF_ITEMS:
        if name in comparison and "metric" in comparison[name].dims:
            raise ValueError(
                f"{name} differs between metrics, because items were selected by each metric apart; select items by "
                "one condition over items, as .isel(item=condition), or pass one metric, as .sel(metric=['LPIPS'])"
            )
    return _without_masked(comparison if "metric" in comparison.dims else _with_metric(comparison))


def _with_metric(comparison: xr.Dataset) -> xr.Dataset:
    """Return a comparison by one metric with the dim `metric`."""
    coords = {
        name: ("metric", [comparison[name].item()], comparison[name].attrs)
        for name in ("metric", "quantity")
        if name in comparison.coords
    }
    bare = comparison.drop_vars(list(coords))
    scores = {name: bare[name].expand_dims("metric", axis=1) for name in BY_METRIC if name in bare}
    return bare.assign(scores).assign_coords(coords)


def _without_masked(comparison: xr.Dataset) -> xr.Dataset:
    """Return a comparison without the items that have no counts and labels, with the types of these."""
    changed = {
        name: kind
        for name, kind in OF_ITEMS.items()
        if name in comparison and comparison[name].dtype.kind not in np.dtype(kind).kind + "iu" * (kind is int)
    }
    if not changed:
        return comparison
    n = comparison.sizes["item"]
    masked = np.any([comparison[name].isnull().values.reshape(n, -1).any(1) for name in changed], axis=0)
    kept = comparison.isel(item=~masked)
    return kept.assign({name: kept[name].astype(kind) for name, kind in changed.items()})
