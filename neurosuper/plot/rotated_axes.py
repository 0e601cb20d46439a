"""Figure of rotation curves: the index of axes that are turned away from the units."""

from __future__ import annotations

from typing import overload

import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.plot.figure import PAGE_WIDTH, draw_legend, lay_out_legend, open_axes
from neurosuper.plot.named_results import Results, check_results
from neurosuper.plot.style import PLAIN, system_looks

__all__ = ["plot_rotation"]

DODGE = 0.012  # of the amount: intervals of several systems would hide each other


@overload
def plot_rotation(result: Results, *, ax: None = None) -> Figure: ...
@overload
def plot_rotation(result: Results, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_rotation(result: Results, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of the mean index of rotated axes minus that of the units, against the amount of rotation.

    Parameters
    ----------
    result : Dataset (amount, rotation), or mapping of name to Dataset
        From `neurosuper.superposition.rotation_curve`. Each entry of a mapping is a curve, such as that of a system.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        Thin lines: each rotation. Thick line: their mean, with its interval for other stimuli. The dashed line is that
        of the units: a population without preferred axes stays on it. The legend shows the p-value of the largest
        amount.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one of another function.

    See Also
    --------
    neurosuper.superposition.rotation_curve : Returns the results.
    plot_interference : How much directions point the same way.

    Examples
    --------
    >>> import xarray as xr
    >>> curve = xr.Dataset({"difference": (("amount", "rotation"), [[0., 0.], [-0.1, -0.2]]),
    ...                     "mean_difference": ("amount", [0, -0.15]), "p_value": ("amount", [1, 0.05]),
    ...                     "mean_difference_low": ("amount", [0, -0.2]),
    ...                     "mean_difference_high": ("amount", [0, -0.1])}, {"amount": [0., 1.]})
    >>> plot_rotation({"V4": curve}).axes[0].lines[-1].get_label()
    'units'
    """
    needed = ("difference", "mean_difference", "mean_difference_low", "mean_difference_high", "p_value")
    named = check_results(result, "neurosuper.superposition.rotation_curve", needed)
    axes, drawn = open_axes(ax, (PAGE_WIDTH, 4))
    looks = system_looks(each.name for each in named)
    for i, (name, _, _, curve) in enumerate(named):
        color, marker = looks[name]
        mean = curve.mean_difference.values
        x = curve.amount.values + DODGE * (i - (len(named) - 1) / 2)
        axes.plot(x, curve.difference.transpose("amount", "rotation"), color=color, linewidth=0.6, alpha=0.35)
        ends = [abs(curve[f"mean_difference{end}"].values - mean) for end in ("_low", "_high")]
        bars = axes.errorbar(x, mean, ends, color=color, marker=marker, markersize=6, linewidth=2, elinewidth=2)
        bars.set_label(_describe(name, curve))
    axes.axhline(0, color="0.3", linewidth=1, linestyle="--", zorder=0, label="units")
    axes.set_xlabel("amount of rotation (0: the units, 1: random axes)")
    quantity = named[0].values.attrs.get("quantity", "")
    axes.set_ylabel(f"mean index minus that of the units{f': {quantity}' if quantity else ''}", wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    draw_legend(drawn, handles, lay_out_legend(labels, PAGE_WIDTH)[0])
    return drawn


def _describe(name: str, curve: xr.Dataset) -> str:
    return f"{name or 'mean of rotations'} (p = {float(curve.p_value[-1]):.2g})"
