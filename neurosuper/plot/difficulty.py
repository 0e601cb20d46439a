"""Figure of the accuracy of machine psychophysics against the difficulty of the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.inference import bootstrap_interval
from neurosuper.plot.figure import draw_legend, open_axes
from neurosuper.plot.style import PLAIN, finder_looks

__all__ = ["plot_difficulty"]

CHANCE = 0.5  # accuracy of guessing between two alternatives
Sweeps = xr.Dataset | Mapping[str, xr.Dataset]


@overload
def plot_difficulty(result: Sweeps, *, ax: None = None) -> Figure: ...
@overload
def plot_difficulty(result: Sweeps, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_difficulty(result: Sweeps, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of accuracy against difficulty: the mean over items, with its 95 % bootstrap interval as a band.

    Parameters
    ----------
    result : Dataset (unit, quantile) or (direction, quantile), or mapping of name to Dataset
        From `neurosuper.psychophysics`, with several `quantiles`. Each entry of a mapping is a curve, such as that of a
        finder. Quantiles without trials are left out.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        The legend shows the number n of items.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one without accuracy over items and quantiles; fewer than two quantiles with trials, or fewer than
        two items; an item without an accuracy.

    See Also
    --------
    neurosuper.psychophysics : Returns the results.
    neurosuper.inference.bootstrap_interval : Returns the intervals.

    Examples
    --------
    >>> import xarray as xr
    >>> import numpy as np
    >>> accuracy = np.linspace([0.95, 0.8, 0.6], [0.85, 0.7, 0.4], 30)
    >>> result = xr.Dataset({"accuracy": (("unit", "quantile"), accuracy)}, coords={"quantile": [0, 0.2, 0.4]})
    >>> axes = plot_difficulty({"Units": result}).axes[0]
    >>> axes.lines[0].get_label(), axes.lines[0].get_ydata().round(2).tolist()
    ('Units (n = 30)', [0.9, 0.75, 0.5])
    """
    results = _check_results(result)
    axes, drawn = open_axes(ax, (5.5, 4))
    looks, shown = finder_looks(results), set()
    for name, of_name in results.items():
        accuracy, item = _check_sweep(name, of_name)
        mean = bootstrap_interval(accuracy, item)
        x, n, (color, marker) = accuracy["quantile"].values, accuracy.sizes[item], looks[name]
        label = f"{name} (n = {n:,})" if name else f"n = {n:,}"
        axes.plot(x, mean.estimate, color=color, marker=marker, markersize=5, label=label)
        shown.update(x.tolist())
        axes.fill_between(x, mean.estimate_low, mean.estimate_high, color=color, alpha=0.15, linewidth=0)
    axes.axhline(CHANCE, color="0.4", linestyle="--", linewidth=1, zorder=0, label="chance")
    axes.set_xticks(sorted(shown))
    axes.set_xlabel("share of stimuli left out at each side (harder →)")
    axes.set_ylabel("share of correct trials\nmean over items, with its 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    draw_legend(drawn, axes.get_legend_handles_labels()[0], 2)
    return drawn


def _check_results(result: Sweeps) -> Mapping[str, xr.Dataset]:
    """Return results by name; a single result has the name ""."""
    results = {"": result} if isinstance(result, xr.Dataset) else result
    if not isinstance(results, Mapping) or not all(isinstance(value, xr.Dataset) for value in results.values()):
        got = type(result).__name__
        raise TypeError(f"result must be a Dataset from neurosuper.psychophysics, or {{name: Dataset, …}}; got {got}")
    if not results:
        raise ValueError("result is empty; pass {name: neurosuper.psychophysics(…), …}")
    return results


def _check_sweep(name: str, result: xr.Dataset) -> tuple[xr.DataArray, str]:
    """Return accuracy at the quantiles that have trials, and the dim of its items."""
    whose = f"the sweep of {name!r}" if name else "a sweep"
    dims = result["accuracy"].dims if "accuracy" in result else ()
    if len(dims) != 2 or "quantile" not in dims:
        raise ValueError(f"{whose} needs accuracy (unit, quantile), got dims {dims}; see neurosuper.psychophysics")
    accuracy = result["accuracy"].dropna("quantile", how="all")
    if accuracy.sizes["quantile"] < 2:
        raise ValueError(
            f"{whose} needs at least 2 quantiles that leave stimuli for trials, got {accuracy.sizes['quantile']}; "
            "call psychophysics with quantiles=[0, 0.1, 0.2]"
        )
    return accuracy, next(str(dim) for dim in dims if dim != "quantile")
