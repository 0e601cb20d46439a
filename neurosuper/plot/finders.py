"""Figure that compares finders: one panel per measure, one row per finder, one marker per system."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurosuper.plot.style import MARKERS, OKABE_ITO, NotebookFigure

__all__ = ["plot_finders"]


def plot_finders(table: xr.Dataset) -> Figure:
    """Return a figure that compares finders on several measures, in one or several systems.

    Parameters
    ----------
    table : Dataset (finder,) or (system, finder)
        One variable per measure, each drawn in its own panel; `attrs["long_name"]` labels its axis. NaN (a finder does
        not have the measure) is left out. Further dims, such as `seed`, are drawn as their mean and range.

    Returns
    -------
    Figure
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
    figure = NotebookFigure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(table.data_vars), sharey=True, squeeze=False)[0]
    for axes, (name, measure) in zip(panels, table.data_vars.items(), strict=True):
        for i, system in enumerate(systems):
            height = np.arange(len(names)) + 0.16 * (i - (len(systems) - 1) / 2)
            over = [dim for dim in measure.dims if dim not in ("finder", "system")]
            values = measure.isel(system=i)
            mean, least, most = values.mean(over), values.min(over), values.max(over)
            axes.hlines(height, least, most, color=OKABE_ITO[i], linewidth=1)
            axes.plot(mean, height, MARKERS[i], color=OKABE_ITO[i], markersize=5, label=system)
        axes.set_xlabel(str(measure.attrs.get("long_name", name)), wrap=True)
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    if systems[0]:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure
