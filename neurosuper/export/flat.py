"""A comparison as a flat table, for pandas, R and spreadsheets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["tidy"]


def tidy(comparison: xr.Dataset) -> pd.DataFrame:
    """Return a comparison as a flat table with one row for each item and metric.

    Variables with a further dim (differences of halves, influences) are left out, as is the recovery of planted
    directions, which is not one value per item. To write the table, use `to_csv(path, index=False)` or
    `to_parquet(path)`; the latter keeps types and needs pyarrow (``pip install 'neurosuper[export]'``).

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `compare` or `run_study`, or the contents of a `study.nc`.

    Returns
    -------
    DataFrame
        Columns in this order: `item` (its number in the comparison), the coords of items (`system`, `finder`,
        `direction`, `seed`, and those of units, such as `area`, which are empty where an item has none), `metric` and
        its `quantity`, the variables, and the labels of the top stimuli, `top_1` to `top_k`. The index
        (`interpretability`, `corrected`) and what it is compared with (`chance_level`, `chance_level_low`,
        `chance_level_high`, `frequency_floor`) are minus a distance, in the unit of `quantity`, for which 0 means
        identical images; reliabilities are correlations; `n_active` is a number of stimuli.

    Raises
    ------
    ValueError
        No comparison of items by metrics.

    See Also
    --------
    neurosuper.comparison.summarize : One row for each system, finder and metric.
    write_nwb : The same numbers in an NWB file.

    Examples
    --------
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), [[-0.7, -2.0], [-0.6, -3.0]])},
    ...     {"item": [0, 1], "system": ("item", ["V4", "V4"]), "metric": ["LPIPS", "color"]})
    >>> print(tidy(comparison).to_csv(index=False))
    item,system,metric,interpretability
    0,V4,LPIPS,-0.7
    0,V4,color,-2.0
    1,V4,LPIPS,-0.6
    1,V4,color,-3.0
    <BLANKLINE>
    """
    if not isinstance(comparison, xr.Dataset) or not {"item", "metric"} <= {*comparison.dims}:
        got = f"dims {', '.join(map(str, comparison.dims))}" if isinstance(comparison, xr.Dataset) else type(comparison)
        raise ValueError(f"a comparison has the dims item and metric, got {got}; pass the result of neurosuper.compare")
    n_items, n_metrics = comparison.sizes["item"], comparison.sizes["metric"]
    top = {f"top_{rank}": labels for rank, labels in enumerate(_labels_of_top(comparison).T, 1)}
    names = dict.fromkeys(["item", *comparison.coords, *comparison.data_vars])
    columns = {
        str(name): _stretch(comparison[name], n_items, n_metrics)
        for name in sorted(names, key=lambda name: _place(comparison[name]))
        if {*comparison[name].dims} <= {"item", "metric"} and comparison[name].dims and name != "top_stimuli"
    }
    return pd.DataFrame(columns | {name: np.repeat(labels, n_metrics) for name, labels in top.items()})


def _place(variable: xr.DataArray) -> tuple[bool, bool]:
    """Return the key that puts coords of items first, then those of metrics, then variables."""
    is_coord = variable.name in variable.coords
    return (not is_coord, is_coord and "metric" in variable.dims)


def _stretch(variable: xr.DataArray, n_items: int, n_metrics: int) -> np.ndarray:
    """Return a value for each item and metric, items first."""
    values = variable.transpose(..., "metric").values if "metric" in variable.dims else variable.values[:, np.newaxis]
    return np.broadcast_to(values, (n_items, n_metrics)).ravel()


def _labels_of_top(comparison: xr.Dataset) -> np.ndarray:
    """Return the labels of the top stimuli `(item, rank)`; of none, if the comparison does not contain them."""
    if "top_stimuli" not in comparison:
        return np.empty((comparison.sizes["item"], 0), str)
    return comparison.top_stimuli.transpose("item", "rank").values
