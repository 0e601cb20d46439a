"""Figure of disentanglement: every measure of units and directions, with what permuted factors score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT

from neurosuper.plot.figure import PAGE_WIDTH, draw_legend, label_ticks, lay_out_legend, open_systems
from neurosuper.plot.named_results import Named, Results, check_results, group_by_system
from neurosuper.plot.style import PLAIN, Look, finder_looks

__all__ = ["MEASURES", "plot_disentanglement"]

MEASURES = {  # each is 0 to 1, and 1 is best
    "mig": "MIG",
    "sap": "SAP",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "modularity": "modularity",
    "explicitness": "explicitness",
    "infom": "InfoM",
    "infoc": "InfoC",
    "infoe": "InfoE",
}
PER_FINDER, AROUND = 0.09, 0.16  # inches of height of a row: for each finder, and between measures
LOWEST = -0.3  # score that is drawn: readouts that overfit score far less
SPREAD = 0.7  # of the height of a row that finders take


@overload
def plot_disentanglement(result: Results, *, ax: None = None) -> Figure: ...
@overload
def plot_disentanglement(result: Results, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_disentanglement(result: Results, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of all measures of disentanglement, of units and directions side by side.

    Parameters
    ----------
    result : Dataset, or mapping of name to Dataset
        From `neurosuper.superposition.disentanglement`, on the same factors. With names such as "V4 · KMeans", each
        system has a panel.
    ax : Axes, optional
        Draw here instead of on a new figure; several panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        A row per measure. Marker: the measure, with its interval as a line. Vertical tick of the same colour: its mean
        if factors are permuted, which items that encode no factor score. A caret at the left edge is a score below
        −0.3, which readouts that overfit may have. Measures without a value are left out.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one without any measure.

    See Also
    --------
    neurosuper.superposition.disentanglement : Returns the results.

    Examples
    --------
    >>> import xarray as xr
    >>> units = xr.Dataset({"mig": 0.05, "mig_low": 0.02, "mig_high": 0.08, "mig_null": 0.01})
    >>> figure = plot_disentanglement({"V4 · Units": units})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['MIG']
    """
    named = check_results(result, "neurosuper.superposition.disentanglement", ())
    shown = [name for name in MEASURES if any(name in each.values and np.isfinite(each.values[name]) for each in named)]
    if not shown:
        raise ValueError("result has no measure; pass what neurosuper.superposition.disentanglement returns")
    groups, names = group_by_system(named), list(dict.fromkeys(each.finder for each in named))
    looks = finder_looks(names)
    panels, drawn = open_systems(ax, list(groups), 1.3 + len(shown) * (AROUND + PER_FINDER * len(names)), sharey=True)
    for axes, of_system in zip(panels, groups.values(), strict=True):
        for each in of_system:
            offset = SPREAD * ((names.index(each.finder) + 0.5) / len(names) - 0.5)
            _draw_finder(axes, each, shown, offset, looks[each.finder])
        for boundary in range(1, len(shown)):
            axes.axhline(boundary - 0.5, color="0.9", linewidth=0.6, zorder=0)
        axes.axvline(0, color="0.9", linewidth=0.6, zorder=0)
        axes.set_xlabel("score: 1 is best")
        axes.tick_params(axis="y", length=0)
    label_ticks(panels[0].yaxis, range(len(shown)), [MEASURES[name] for name in shown])
    lowest = min(np.nanmin(_values(each.values, [*shown, *(f"{name}_null" for name in shown)])) for each in named)
    for axes in panels:
        axes.set_xlim(max(LOWEST, min(0.0, lowest)) - 0.03, 1.03)
        axes.set_ylim(len(shown) - 0.5, -0.5)
    handles = _handles(names, looks)
    n_columns, _ = lay_out_legend([str(handle.get_label()) for handle in handles], PAGE_WIDTH)
    draw_legend(drawn, handles, n_columns)
    return drawn


def _draw_finder(axes: Axes, named: Named, shown: Sequence[str], offset: float, look: Look) -> None:
    """Draw the measures of a finder: markers, intervals, and what permuted factors score."""
    heights = np.arange(len(shown)) + offset
    of = {end: _values(named.values, [f"{name}{end}" for name in shown]) for end in ("", "_low", "_high", "_null")}
    axes.hlines(heights, of["_low"], of["_high"], color=look.color, linewidth=1.5)
    for end, marker, style in (("_null", "|", {"ms": 7, "mew": 1.2, "alpha": 0.7}), ("", look.marker, {"ms": 5})):
        is_low = of[end] < LOWEST
        axes.plot(np.where(is_low, np.nan, of[end]), heights, marker, color=look.color, **style)
        if is_low.any():
            axes.plot(np.full(is_low.sum(), LOWEST), heights[is_low], marker=CARETLEFT, color=look.color, ms=5, ls="")


def _values(result: xr.Dataset, names: Sequence[str]) -> np.ndarray:
    return np.array([float(result[name]) if name in result else np.nan for name in names])


def _handles(names: Sequence[str], looks: dict[str, Look]) -> list[Line2D]:
    """Return the entries of the legend: finders, and the mark of permuted factors."""
    finders = [
        Line2D([], [], color=looks[name].color, marker=looks[name].marker, markersize=5, label=name)
        for name in names
        if name
    ]
    null = Line2D([], [], color="0.35", marker="|", markersize=7, mew=1.2, linestyle="", label="factors permuted")
    return [*finders, null]
