"""Figure of the distributions of the interpretability index, by system and finder."""

from __future__ import annotations

import textwrap
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import gaussian_kde

from neurosuper._checks import check_one_of
from neurosuper.comparison.table import inactive_items
from neurosuper.plot.style import PLAIN, Look, NotebookFigure, finder_looks

__all__ = ["draw_groups", "plot_distributions"]

HALF_WIDTH = 0.4  # of a violin, in columns: leaves a fifth of a column between violins
GAP = 0.8  # between systems, in columns
CHARACTER = 0.08  # mean width of a character of a name, in inches
HANDLE = 0.7  # inches of a legend entry without its text: line and spaces
LINE = 0.2  # inches between lines of the legend
NARROW = 0.32  # inches per column; three digits of a count need this width, and are rotated if there is less
CHANCE_COLOR = "0.35"
Column = tuple[str, str]
ChanceLevel = tuple[float, float, float]


def plot_distributions(comparison: xr.Dataset, metric: str, *, correction: Literal["none", "hub"] = "none") -> Figure:
    """Return a figure of the distribution of the interpretability index per system and finder.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `neurosuper.compare`. Items whose index is NaN, and those with fewer active stimuli than `top` (see
        `n_active` of `compare`), are left out and not counted.
    metric : str
        One of `comparison.metric`; its `quantity` labels the axis.
    correction : {"none", "hub"}, optional
        "hub": the hub-corrected index, whose chance level is 0; see `neurosuper.interpretability_index`.

    Returns
    -------
    Figure
        One column per finder, grouped by system. Each item is a point, the violin shows their density, the vertical bar
        the interquartile range, the horizontal bar the median, and the number below counts the items. If the comparison
        has a `chance_level`, a dashed line shows it (the mean index of random sets of stimuli), in a band that contains
        95 % of such sets.

    Raises
    ------
    ValueError
        The comparison has no such metric, or no corrected index.

    See Also
    --------
    neurosuper.compare : Returns the comparison.
    neurosuper.comparison.summarize : The medians and quartiles as a table.

    Examples
    --------
    >>> import xarray as xr
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), [[-0.7], [-0.6], [-0.5], [-0.4]])},
    ...     {"system": ("item", ["V4"] * 4), "finder": ("item", ["Units", "Units", "PCA", "PCA"]),
    ...      "metric": ["LPIPS-alex"], "quantity": ("metric", ["−LPIPS distance (AlexNet)"])})
    >>> plot_distributions(comparison, "LPIPS-alex").axes[0].get_ylabel()
    'interpretability index: −LPIPS distance (AlexNet)'
    """
    metrics = comparison.metric.values.tolist()
    if metric not in metrics:
        raise ValueError(f"no metric {metric!r} in the comparison; it has {', '.join(metrics)}")
    check_one_of("correction", correction, ("none", "hub"))
    is_corrected = correction == "hub"
    if is_corrected and "corrected" not in comparison:
        raise ValueError("the comparison has no corrected index; score it again, or use correction='none'")
    chosen = comparison.sel(metric=metric)
    index = chosen["corrected" if is_corrected else "interpretability"].values
    return draw_groups(
        np.where(inactive_items(comparison), np.nan, index),  # a finder without active items keeps its column
        chosen.system.values.astype(str),
        chosen.finder.values.astype(str),
        label=f"{'hub-corrected' if is_corrected else 'interpretability'} index: {chosen.quantity.item()}",
        chance_levels=_chance_levels(chosen, is_corrected),
    )


def _chance_levels(chosen: xr.Dataset, is_corrected: bool) -> dict[str, ChanceLevel]:
    """Return the chance level of each system, by one metric."""
    if "floor" in chosen:
        raise ValueError("the comparison is of an older layout ('floor'); run its study again")
    if is_corrected:
        return {str(system): (0.0, 0.0, 0.0) for system in chosen.system.values.tolist()}
    if "chance_level" not in chosen:
        return {}
    columns = (
        chosen[name].values.tolist() for name in ("system", "chance_level_low", "chance_level", "chance_level_high")
    )
    return {str(system): (low, mean, high) for system, low, mean, high in zip(*columns, strict=True)}


@rc_context(PLAIN)
def draw_groups(
    values: np.ndarray,
    systems: np.ndarray,
    finders: np.ndarray,
    *,
    label: str,
    chance_levels: dict[str, ChanceLevel] | None = None,
) -> Figure:
    """Return a figure of values as columns of points, one column per finder, grouped by system.

    Parameters
    ----------
    values : array (n,)
        NaN is left out.
    systems, finders : array of str (n,)
        System and finder of each value.
    label : str
        Label of the y axis, with the unit.
    chance_levels : dict of str to (low, mean, high), optional
        Chance level of a system: a dashed line in a band.

    Returns
    -------
    Figure

    See Also
    --------
    plot_distributions : From a comparison.

    Examples
    --------
    >>> import numpy as np
    >>> systems, finders = np.array(["V4", "V4"]), np.array(["Units", "PCA"])
    >>> figure = draw_groups(np.array([1., 2.]), systems, finders, label="index (a.u.)")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['Units', 'PCA']
    """
    places, looks = _place_columns(systems, finders), finder_looks(finders)
    last = max(places.values())
    width = float(np.clip(1.8 + 0.36 * last, 6.5, 12.5))
    names = [*dict.fromkeys(finders), *(["random sets"] if chance_levels else [])]
    n_columns, n_rows = _lay_out_legend(names, width)
    figure = NotebookFigure(figsize=(width, 4 + LINE * n_rows), layout="constrained")
    axes, rng, counts = figure.add_subplot(), np.random.default_rng(0), []
    axes.set(xlim=(0.3, last + 0.7))
    axes.set_ylabel(label, wrap=True)
    for system, chance_level in (chance_levels or {}).items():
        _draw_chance_level(axes, [x for (of_column, _), x in places.items() if of_column == system], chance_level)
    for (system, finder), x in places.items():
        column = values[(systems == system) & (finders == finder) & np.isfinite(values)]
        _draw_column(axes, x, column, looks[finder], rng)
        counts.append(len(column))
    _label_columns(axes, places, counts, pitch=(width - 1) / (last + 0.4))
    axes.yaxis.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [_handle(looks[finder], finder) for finder in dict.fromkeys(finders)]
    if chance_levels:
        handles.append(Line2D([], [], color=CHANCE_COLOR, linestyle="--", linewidth=1, label="random sets"))
    figure.legend(handles=handles, loc="outside upper center", ncols=n_columns, frameon=False)
    return figure


def _lay_out_legend(names: list[str], width: float) -> tuple[int, int]:
    """Return the numbers of columns and rows of a legend that is at most as wide as the figure, in inches."""
    for n_columns in range(min(6, len(names)), 1, -1):
        columns = np.array_split([len(name) for name in names], n_columns)  # as matplotlib fills them
        if sum(HANDLE + CHARACTER * column.max() for column in columns) < width:
            return n_columns, len(columns[0])
    return 1, len(names)


def _place_columns(systems: np.ndarray, finders: np.ndarray) -> dict[Column, float]:
    """Return the x of every column; systems and finders keep the order in which they first occur."""
    pairs = set(zip(systems, finders, strict=True))
    order = [(s, f) for s in dict.fromkeys(systems) for f in dict.fromkeys(finders) if (s, f) in pairs]
    group = {system: i for i, system in enumerate(dict.fromkeys(systems))}
    return {(system, finder): 1 + i + GAP * group[system] for i, (system, finder) in enumerate(order)}


def _draw_chance_level(axes: Axes, places: list[float], chance_level: ChanceLevel) -> None:
    """Draw the chance level behind the columns of a system, if it has any column."""
    if places:
        low, mean, high = chance_level
        reach = min(places) - 0.5, max(places) + 0.5
        axes.fill_between(reach, low, high, color=CHANCE_COLOR, alpha=0.12, linewidth=0)
        axes.hlines(mean, *reach, color=CHANCE_COLOR, linestyle="--", linewidth=1, zorder=1.2)  # below the points


def _draw_column(axes: Axes, x: float, values: np.ndarray, look: Look, rng: np.random.Generator) -> None:
    if not len(values):
        return
    grid = np.linspace(values.min(), values.max(), 100)
    density = _density(values, grid)
    half = HALF_WIDTH * density / density.max()
    axes.fill_betweenx(grid, x - half, x + half, color=look.color, alpha=0.25, linewidth=0)
    jitter = rng.uniform(-0.9, 0.9, len(values)) * np.interp(values, grid, half)
    # the points of all columns are drawn in a row, between violins and bars: SVG then contains one image of them
    axes.plot(x + jitter, values, ".", c=look.color, ms=3.5, alpha=0.45, mew=0, rasterized=True, zorder=1.5)
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    axes.vlines(x, lower, upper, color=look.color, linewidth=1.5)
    axes.hlines(median, x - HALF_WIDTH, x + HALF_WIDTH, color=look.color, linewidth=2)
    axes.plot(x, median, look.marker, markersize=6, markerfacecolor="white", markeredgecolor=look.color, mew=1.5)


def _density(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the density of values (in any scale); constant if they are too few, or too equal, to estimate it."""
    if len(values) < 3 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return np.ones(len(at))
    return gaussian_kde(values)(at)


def _label_columns(axes: Axes, places: dict[Column, float], counts: list[int], pitch: float) -> None:
    """Write counts under the columns, and the names of systems under the counts; `pitch` is inches per column."""
    narrow = pitch < NARROW
    axes.set_xticks(list(places.values()), [str(count) for count in counts], minor=True)
    axes.tick_params(axis="x", which="minor", length=0, labelsize=8, rotation=90 if narrow else 0)
    groups: dict[str, list[float]] = {}
    for (system, _), x in places.items():
        groups.setdefault(system, []).append(x)
    widths = [int((len(group) + GAP / 2) * pitch / CHARACTER) for group in groups.values()]
    names = [textwrap.fill(system, max(6, width)) for system, width in zip(groups, widths, strict=True)]
    axes.set_xticks([float(np.mean(group)) for group in groups.values()], names)
    axes.tick_params(axis="x", which="major", length=0, pad=26 if narrow else 18)
    axes.xaxis.remove_overlapping_locs = False
    axes.annotate("n", (0, 0), (-4, -4), "axes fraction", textcoords="offset points", ha="right", va="top", fontsize=8)


def _handle(look: Look, name: str) -> Line2D:
    return Line2D(
        [], [], color=look.color, linewidth=2, marker=look.marker, markerfacecolor="white", mew=1.5, label=name
    )
