"""Figure of the measures of a sweep over numbers of directions."""

from __future__ import annotations

from typing import overload

import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from neurosuper.plot.figure import open_panels
from neurosuper.plot.style import OKABE_ITO, PLAIN

__all__ = ["plot_sweep"]


@overload
def plot_sweep(table: xr.Dataset, *, ax: None = None) -> Figure: ...
@overload
def plot_sweep(table: xr.Dataset, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_sweep(table: xr.Dataset, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of each measure of a sweep against the number of directions: the mean over seeds, and every seed.

    Parameters
    ----------
    table : Dataset (n_directions, seed)
        From `neurosuper.sweep`.
    ax : Axes, optional
        Draw here instead of on a new figure; the panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        One panel per measure that has values.

    Raises
    ------
    ValueError
        Other dims.

    See Also
    --------
    neurosuper.sweep : Returns the table.

    Examples
    --------
    >>> import numpy as np, neurosuper as ns
    >>> r = np.random.default_rng(0).exponential(size=(60, 5))
    >>> figure = plot_sweep(ns.sweep(ns.KMeans(), r, n_directions=[2, 4], seeds=[0, 1]))
    >>> figure.axes[0].get_xlabel()
    'number of directions'
    """
    if set(table.dims) != {"n_directions", "seed"}:
        raise ValueError(f"a sweep has the dims n_directions and seed, got {tuple(table.dims)}; see neurosuper.sweep")
    measures = {str(name): values for name, values in table.items() if values.notnull().any()}
    panels, drawn = open_panels(ax, (2.6 * len(measures), 2.6), 1, len(measures), gap=(0, 0.5))
    for axes, (name, values) in zip(panels[0], measures.items(), strict=True):
        n = table.n_directions.values
        for seed in table.seed.values:
            axes.plot(n, values.sel(seed=seed), ".", color=OKABE_ITO[1], markersize=5)
        axes.plot(n, values.mean("seed"), color=OKABE_ITO[5])
        axes.set_xscale("log")
        axes.set_xticks(n)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("number of directions")
        axes.set_ylabel(str(values.attrs.get("long_name", name)))
        axes.spines[["top", "right"]].set_visible(False)
    return drawn
