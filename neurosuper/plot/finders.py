"""Figure that compares finders: one panel per measure, one row per finder, one marker per system."""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.plot.figure import draw_legend, label_ticks, open_panels
from neurosuper.plot.style import MARKERS, OKABE_ITO, PLAIN

__all__ = ["plot_finders"]

LEGEND_COLUMNS = 4


@overload
def plot_finders(table: xr.Dataset, *, ax: None = None) -> Figure: ...
@overload
def plot_finders(table: xr.Dataset, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_finders(table: xr.Dataset, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure that compares finders on several measures, in one or several systems.

    Parameters
    ----------
    table : Dataset (finder,) or (system, finder)
        One variable per measure, each drawn in its own panel; `attrs["long_name"]` labels its axis. NaN (a finder does
        not have the measure) is left out. Further dims, such as `seed`, are drawn as their mean and range.
    ax : Axes, optional
        Draw here instead of on a new figure; the panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        With the values of a measure on the x axis of its panel.

    Raises
    ------
    ValueError
        No measure, or no dim `finder`.

    See Also
    --------
    plot_distributions : The interpretability index of every item, by finder.

    Examples
    --------
    >>> import xarray as xr
    >>> table = xr.Dataset({"sparsity": ("finder", [0.2, 0.7])}, coords={"finder": ["PCA", "KMeans"]})
    >>> plot_finders(table).axes[0].get_xlabel()
    'sparsity'
    """
    if "finder" not in table.dims or not table.data_vars:
        raise ValueError(f"a table of finders needs a dim 'finder' and a measure, got dims {tuple(table.dims)}")
    if "system" not in table.dims:
        table = table.expand_dims(system=[""])
    names, systems = table.finder.values.astype(str), table.system.values.astype(str)
    size = (1.5 + 2.4 * len(table.data_vars), 1.3 + 0.32 * len(names))
    n_legend_rows = -(-len(systems) // LEGEND_COLUMNS) if systems[0] else 0
    panels, drawn = open_panels(ax, size, 1, len(table.data_vars), sharey=True, n_rows_above=n_legend_rows)
    for axes, (name, measure) in zip(panels[0], table.data_vars.items(), strict=True):
        for i, system in enumerate(systems):
            height = np.arange(len(names)) + 0.16 * (i - (len(systems) - 1) / 2)
            over = [dim for dim in measure.dims if dim not in ("finder", "system")]
            values = measure.isel(system=i)
            mean, least, most = values.mean(over), values.min(over), values.max(over)
            color, marker = OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]
            axes.hlines(height, least, most, color=color, linewidth=1)
            axes.plot(mean, height, marker, color=color, markersize=5, label=system)
        axes.set_xlabel(str(measure.attrs.get("long_name", name)), wrap=True)
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    first = panels[0, 0]
    label_ticks(first.yaxis, range(len(names)), names.tolist())
    first.invert_yaxis()
    if n_legend_rows:
        draw_legend(drawn, first.get_legend_handles_labels()[0], LEGEND_COLUMNS)
    return drawn
