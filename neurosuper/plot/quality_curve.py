"""Figure of the measures of a sweep over numbers of directions."""

from __future__ import annotations

import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from neurosuper.plot.style import OKABE_ITO, NotebookFigure

__all__ = ["plot_sweep"]


def plot_sweep(table: xr.Dataset) -> Figure:
    """Return a figure of each measure of a sweep against the number of directions: the mean over seeds, and every seed.

    Parameters
    ----------
    table : Dataset (n_directions, seed)
        From `neurosuper.sweep`.

    Returns
    -------
    Figure
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
    figure = NotebookFigure(figsize=(2.6 * len(measures), 2.6), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures.items(), strict=True):
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
    return figure
