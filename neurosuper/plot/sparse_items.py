"""Figure of sparseness against the interpretability index, one point per item."""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.plot.figure import PAGE_WIDTH, draw_legend, lay_out_legend, open_systems
from neurosuper.plot.named_results import Results, check_results, group_by_system
from neurosuper.plot.style import PLAIN, Look, finder_looks

__all__ = ["plot_sparseness"]

N_PARTS = 5  # of the items of a finder, by sparseness, whose means are joined by a line
MIN_IN_PART = 8  # items; fewer have no line


@overload
def plot_sparseness(result: Results, *, ax: None = None) -> Figure: ...
@overload
def plot_sparseness(result: Results, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_sparseness(result: Results, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of the interpretability index of each item against its sparseness.

    Parameters
    ----------
    result : Dataset (item,), or mapping of name to Dataset
        `sparseness`, from `neurosuper.superposition.sparseness`, and `interpretability` of the same items, from
        `neurosuper.interpretability_index`. With names such as "V4 · KMeans", each system has a panel. Use one
        `baseline` of the sparseness for all.
    ax : Axes, optional
        Draw here instead of on a new figure; several panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        A point per unit or direction; items without a value are left out. The line joins the means of fifths of the
        items, ordered by sparseness,
        if there are at least 40 of them.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one without these variables, or with variables of several dims.

    See Also
    --------
    neurosuper.superposition.sparseness : Returns the sparseness.
    plot_distributions : The distribution of the index.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> items = xr.Dataset({"sparseness": ("item", rng.uniform(size=20)),
    ...                     "interpretability": ("item", rng.normal(-0.6, 0.1, size=20))})
    >>> plot_sparseness({"V4 · Units": items}).axes[0].get_xlabel()
    'sparseness over stimuli'
    """
    source = "neurosuper.superposition.sparseness with interpretability"
    named = check_results(result, source, ("sparseness", "interpretability"))
    for each in named:
        if (dims := each.values.sparseness.dims) != each.values.interpretability.dims or len(dims) != 1:
            raise ValueError(f"sparseness and interpretability must have the same one dim, (item,); got {dims}")
    groups = group_by_system(named)
    names = list(dict.fromkeys(each.finder for each in named))
    looks = finder_looks(names)
    panels, drawn = open_systems(ax, list(groups), 3.4, sharey=True)
    for axes, of_system in zip(panels, groups.values(), strict=True):
        for each in of_system:
            _draw_items(axes, each.values, looks[each.finder])
    quantity = named[0].values.attrs.get("quantity", "")
    for axes in panels:
        axes.set_xlabel("sparseness over stimuli")
    panels[0].set_ylabel(f"interpretability index{f': {quantity}' if quantity else ''}", wrap=True)
    handles = [panels[0].plot([], [], looks[name].marker, color=looks[name].color, label=name)[0] for name in names]
    if names != [""]:
        draw_legend(drawn, handles, lay_out_legend(names, PAGE_WIDTH)[0])
    return drawn


def _draw_items(axes: Axes, items: xr.Dataset, look: Look) -> None:
    """Draw the items of a finder, and the line through the means of parts of them."""
    x, y = (items[name].values for name in ("sparseness", "interpretability"))
    known = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[known], kind="stable")
    x, y = x[known][order], y[known][order]
    axes.plot(x, y, look.marker, color=look.color, markersize=3.5, alpha=0.4, mew=0, rasterized=True)
    if len(x) >= N_PARTS * MIN_IN_PART:
        means = [[part.mean() for part in np.array_split(each, N_PARTS)] for each in (x, y)]
        axes.plot(*means, color="white", linewidth=3.2)  # an edge, so that the line is seen on points
        axes.plot(*means, color=look.color, linewidth=1.8)
