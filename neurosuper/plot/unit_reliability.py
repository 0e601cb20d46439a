"""Figure of the reliability of the units of a recording, by area."""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.plot.figure import open_axes
from neurosuper.plot.style import OKABE_ITO, PLAIN

__all__ = ["plot_reliability"]


@overload
def plot_reliability(reliability: xr.DataArray, *, threshold: float | None = ..., ax: None = None) -> Figure: ...
@overload
def plot_reliability(reliability: xr.DataArray, *, threshold: float | None = ..., ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_reliability(
    reliability: xr.DataArray, *, threshold: float | None = None, ax: Axes | None = None
) -> Figure | Axes:
    """Return a histogram of the reliability of units, stacked by area.

    Parameters
    ----------
    reliability : DataArray (unit)
        From `split_half_reliability`, or any other measure per unit; `attrs["rule"]` labels the axis. Units with the
        coord `area` are stacked by area. NaN is left out, and counted in the label of the axis.
    threshold : float, optional
        Drawn as a line; the legend shows how many units reach it.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        The legend shows the number of units of each area.

    Raises
    ------
    ValueError
        Other dims than `unit`, or no unit with a value.

    See Also
    --------
    neurosuper.reliability.split_half_reliability : Returns the reliability.
    neurosuper.select_units : Selects reliable units.

    Examples
    --------
    >>> import xarray as xr
    >>> reliability = xr.DataArray([0.2, 0.8], dims="unit", coords={"unit": ["a", "b"]}, attrs={"rule": "split-half"})
    >>> plot_reliability(reliability, threshold=0.3).axes[0].get_xlabel()
    'split-half'
    """
    if reliability.dims != ("unit",) or not np.isfinite(reliability).any():
        raise ValueError(
            f"reliability must have one number per unit, got dims {reliability.dims}; see split_half_reliability"
        )
    values = reliability.values
    areas = reliability.area.values.astype(str) if "area" in reliability.coords else np.full(values.shape, "all units")
    axes, drawn = open_axes(ax, (5, 3))
    known = np.isfinite(values)
    names = list(dict.fromkeys(areas[known]))
    groups = [values[known & (areas == name)] for name in names]
    labels = [f"{name} ({len(group)})" for name, group in zip(names, groups, strict=True)]
    colors = [OKABE_ITO[(i + 1) % len(OKABE_ITO)] for i in range(len(names))]
    bins = np.linspace(min(0.0, values[known].min()), max(1.0, values[known].max()), 31).tolist()
    axes.hist(groups, bins=bins, stacked=True, label=labels, color=colors, edgecolor="white", linewidth=0.5)
    if threshold is not None:
        reached = int((values[known] >= threshold).sum())
        axes.axvline(threshold, color="black", linestyle="--", label=f"≥ {threshold:g}: {reached} of {len(values)}")
    unknown = int((~known).sum())
    axes.set_xlabel(str(reliability.attrs.get("rule", reliability.name or "reliability")))
    axes.set_ylabel("units" + (f" ({unknown} without a value)" if unknown else ""))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return drawn
