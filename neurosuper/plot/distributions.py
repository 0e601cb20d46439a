"""Figure of the distributions of the interpretability index, by system and finder."""

from __future__ import annotations

import textwrap
from typing import Literal, overload

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import gaussian_kde

from neurosuper._checks import check_one_of
from neurosuper.comparison.selections import whole_comparison
from neurosuper.comparison.table import inactive_items, summarize
from neurosuper.plot.figure import CHARACTER, LINE, SMALL, draw_legend, label_ticks, lay_out_legend, open_axes, size_of
from neurosuper.plot.style import PLAIN, Look, finder_looks

__all__ = ["plot_distributions"]

HALF_WIDTH = 0.4  # of a violin, in columns: leaves a fifth of a column between violins
GAP = 0.8  # between systems, in columns
NARROW = 0.32  # inches per column; three digits of a count need this width, and are rotated if there is less
CHANCE = "0.35"
SINGLE, OF_MEAN = 0.12, 0.35  # opacity of the bands of chance: of single sets, and of their means
MARKS = [  # columns of what is drawn of each group of values
    *("mean", "mean_low", "mean_high"),
    *("chance_level", "chance_level_low", "chance_level_high", "chance_of_mean_low", "chance_of_mean_high"),
]
Correction = Literal["none", "hub"]
Column = tuple[str, str]


@overload
def plot_distributions(
    comparison: xr.Dataset, metric: str, *, correction: Correction = ..., ax: None = None
) -> Figure: ...
@overload
def plot_distributions(comparison: xr.Dataset, metric: str, *, correction: Correction = ..., ax: Axes) -> Axes: ...
def plot_distributions(
    comparison: xr.Dataset, metric: str, *, correction: Correction = "none", ax: Axes | None = None
) -> Figure | Axes:
    """Return a figure of the distribution of the interpretability index per system and finder.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `neurosuper.compare`. Items whose index is NaN, and those with fewer active stimuli than `top` (see
        `n_active` of `compare`), are left out and not counted. Of several seeds, the items of the first are drawn, as
        `contrast_finders` tests them.
    metric : str
        One of `comparison.metric`; its `quantity` labels the axis.
    correction : {"none", "hub"}, optional
        "hub": the hub-corrected index, whose chance level is 0; see `neurosuper.interpretability_index`.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        One column per finder, grouped by system. Each item is a point, the violin shows their density, the horizontal
        bar and the marker the mean, the vertical bar its interval, and the number below counts the items. If the
        comparison has a `chance_level`, a dashed line shows it (the mean index of random sets of stimuli). Of two
        bands around it, the wide and light one contains 95 % of random sets: compare it with single items. The narrow
        and dark one contains 95 % of the means of as many random sets as there are items: compare it with the mean.

    Raises
    ------
    ValueError
        The comparison has no such metric, or no corrected index.

    See Also
    --------
    neurosuper.compare : Returns the comparison.
    neurosuper.comparison.summarize : The means and their intervals as a table.
    plot_contrasts : Tests of differences between the means.

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
    comparison = whole_comparison(comparison)
    metrics = comparison.metric.values.tolist()
    if metric not in metrics:
        raise ValueError(f"no metric {metric!r} in the comparison; it has {', '.join(metrics)}")
    check_one_of("correction", correction, ("none", "hub"))
    is_corrected = correction == "hub"
    if is_corrected and "corrected" not in comparison:
        raise ValueError("the comparison has no corrected index; score it again, or use correction='none'")
    chosen = comparison.sel(metric=metric)
    index = chosen["corrected" if is_corrected else "interpretability"].values
    left_out = inactive_items(comparison)
    if "seed" in comparison.coords:
        left_out = left_out | (comparison.seed != comparison.seed[0]).values
    return draw_groups(
        np.where(left_out, np.nan, index),  # a finder without active items keeps its column
        chosen.system.values.astype(str),
        chosen.finder.values.astype(str),
        label=f"{'hub-corrected' if is_corrected else 'interpretability'} index: {chosen.quantity.item()}",
        marks=_marks(comparison, metric, is_corrected),
        ax=ax,
    )


def _marks(comparison: xr.Dataset, metric: str, is_corrected: bool) -> pd.DataFrame:
    """Return the mean of each column with its interval, and its chance levels, by one metric."""
    if "floor" in comparison:
        raise ValueError("the comparison is of an older layout ('floor'); run its study again")
    of_metric = comparison.sel(metric=[metric])
    summary, suffix = summarize(of_metric).xs(metric, level="metric"), "_corrected" if is_corrected else ""
    found = {
        f"{name}{end}": f"{name}{suffix}{end}" for name in ("mean", "chance_of_mean") for end in ("", "_low", "_high")
    }
    marks = summary.reindex(columns=list(found.values())).set_axis(list(found), axis=1)
    if is_corrected:
        return marks.assign(chance_level=0.0)
    if "chance_level" not in comparison:
        return marks
    levels = comparison[[name for name in MARKS if name.startswith("chance_level")]].sel(metric=metric)
    by_column = levels.reset_coords(["system", "finder"]).to_dataframe().groupby(["system", "finder"])
    return marks.join(by_column[list(levels)].first())


@rc_context(PLAIN)
def draw_groups(
    values: np.ndarray,
    systems: np.ndarray,
    finders: np.ndarray,
    *,
    label: str,
    marks: pd.DataFrame,
    names: tuple[str, str] = ("mean", "chance level"),
    ax: Axes | None = None,
) -> Figure | Axes:
    """Return a figure of values as columns of points, one column per finder, grouped by system.

    Parameters
    ----------
    values : array (n,)
        NaN is left out.
    systems, finders : array of str (n,)
        System and finder of each value.
    label : str
        Label of the y axis, with the unit.
    marks : DataFrame
        By (system, finder): `mean`, and where known `mean_low`, `mean_high`, `chance_level`, `chance_level_low`,
        `chance_level_high`, `chance_of_mean_low` and `chance_of_mean_high`.
    names : (str, str), optional
        Of `mean` and `chance_level` in the legend.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`

    See Also
    --------
    plot_distributions : From a comparison.
    """
    places, looks = _place_columns(systems, finders), finder_looks(finders)
    last = max(places.values())
    width = float(np.clip(1.8 + 0.36 * last, 6.5, 12.5)) if ax is None else size_of(ax)[0] / SMALL
    marks = marks.reindex(columns=MARKS)
    handles = [_handle(looks[finder], finder) for finder in dict.fromkeys(finders)] + _mark_handles(marks, names)
    n_columns, n_rows = lay_out_legend([str(handle.get_label()) for handle in handles], width)
    axes, drawn = open_axes(ax, (width, 4 + LINE * n_rows))
    rng, counts = np.random.default_rng(0), []
    axes.set(xlim=(0.3, last + 0.7))
    axes.set_ylabel(label, wrap=True)
    for (system, finder), x in places.items():
        column = values[(systems == system) & (finders == finder) & np.isfinite(values)]
        counts.append(len(column))
        of_column = marks.loc[(system, finder)]
        _draw_chance(axes, x, of_column)
        _draw_column(axes, x, column, of_column, looks[finder], rng)
    _label_columns(axes, places, counts, pitch=(width - 1 if ax is None else width * SMALL) / (last + 0.4))
    axes.yaxis.grid(True, color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    draw_legend(drawn, handles, n_columns)
    return drawn


def _place_columns(systems: np.ndarray, finders: np.ndarray) -> dict[Column, float]:
    """Return the x of every column; systems and finders keep the order in which they first occur."""
    pairs = set(zip(systems, finders, strict=True))
    order = [(s, f) for s in dict.fromkeys(systems) for f in dict.fromkeys(finders) if (s, f) in pairs]
    group = {system: i for i, system in enumerate(dict.fromkeys(systems))}
    return {(system, finder): 1 + i + GAP * group[system] for i, (system, finder) in enumerate(order)}


def _draw_chance(axes: Axes, x: float, marks: pd.Series) -> None:
    """Draw the chance level of a column behind it, in its two bands."""
    reach = x - 0.5, x + 0.5
    bands = {"chance_level": SINGLE, "chance_of_mean": OF_MEAN}
    for name, opacity in bands.items():
        low, high = marks[f"{name}_low"], marks[f"{name}_high"]
        if np.isfinite(low):
            axes.fill_between(reach, low, high, color=CHANCE, alpha=opacity, linewidth=0)
    if np.isfinite(marks["chance_level"]):  # below the points
        axes.hlines(marks["chance_level"], *reach, color=CHANCE, linestyle="--", linewidth=1, zorder=1.2)


def _mark_handles(marks: pd.DataFrame, names: tuple[str, str]) -> list[Artist]:
    """Return the entries of a legend for the mean, and for the chance levels that are known."""
    has_interval = marks["mean_low"].notna().any()
    mean = Line2D([], [], color=CHANCE, linewidth=2, label=names[0])
    if has_interval:
        mean.set(marker="|", markersize=10, markeredgewidth=3, label=f"{names[0]}, 95 % interval")
    line = Line2D([], [], color=CHANCE, linestyle="--", linewidth=1, label=names[1])
    single = Patch(color=CHANCE, alpha=SINGLE, linewidth=0, label="95 % of random sets")
    of_mean = Patch(color=CHANCE, alpha=OF_MEAN, linewidth=0, label="95 % of means of n sets")
    handles = {"chance_level": line, "chance_level_low": single, "chance_of_mean_low": of_mean}
    return [mean, *(handle for name, handle in handles.items() if marks[name].notna().any())]


def _draw_column(
    axes: Axes, x: float, values: np.ndarray, marks: pd.Series, look: Look, rng: np.random.Generator
) -> None:
    if not len(values):
        return
    grid = np.linspace(values.min(), values.max(), 100)
    density = _density(values, grid)
    half = HALF_WIDTH * density / density.max()
    axes.fill_betweenx(grid, x - half, x + half, color=look.color, alpha=0.25, linewidth=0)
    jitter = rng.uniform(-0.9, 0.9, len(values)) * np.interp(values, grid, half)
    # the points of all columns are drawn in a row, between violins and bars: SVG then contains one image of them
    axes.plot(x + jitter, values, ".", c=look.color, ms=3.5, alpha=0.45, mew=0, rasterized=True, zorder=1.5)
    axes.hlines(marks["mean"], x - HALF_WIDTH, x + HALF_WIDTH, color=look.color, linewidth=2)
    if np.isfinite(marks["mean_low"]):
        axes.vlines(x, marks["mean_low"], marks["mean_high"], color=look.color, linewidth=3)
    axes.plot(x, marks["mean"], look.marker, markersize=5, markerfacecolor="white", markeredgecolor=look.color, mew=1.2)


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
    label_ticks(axes.xaxis, [float(np.mean(group)) for group in groups.values()], names)
    axes.tick_params(axis="x", which="major", length=0, pad=26 if narrow else 18)
    axes.xaxis.remove_overlapping_locs = False
    axes.annotate("n", (0, 0), (-4, -4), "axes fraction", textcoords="offset points", ha="right", va="top", fontsize=8)


def _handle(look: Look, name: str) -> Line2D:
    return Line2D(
        [], [], color=look.color, linewidth=2, marker=look.marker, markerfacecolor="white", mew=1.5, label=name
    )
