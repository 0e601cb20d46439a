"""Figure of synergy: histograms of where it was found, and of other stimuli."""

from __future__ import annotations

import textwrap
from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from neurosuper.plot.figure import draw_legend, open_systems
from neurosuper.plot.named_results import Results, check_results
from neurosuper.plot.style import OKABE_ITO, PLAIN

__all__ = ["plot_synergy"]

BINS = 10, 50  # smallest and largest number; between them, the square root of that of pairs
FOUND, SCORED = "0.6", OKABE_ITO[5]
OF_BEST = 1.1, 1.2  # heights of the means of the best pairs, in those of the highest bin
TOP = 1.3  # of the axis, in the same


@overload
def plot_synergy(result: Results, *, ax: None = None) -> Figure: ...
@overload
def plot_synergy(result: Results, *, ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_synergy(result: Results, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a histogram of the synergy of pairs of units, where it was found and on other stimuli.

    Parameters
    ----------
    result : Dataset (pair,), or mapping of name to Dataset
        From `neurosuper.superposition.synergy`. Each entry of a mapping, such as that of a system, has a panel.
    ax : Axes, optional
        Draw here instead of on a new figure; several panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        Grey: synergy on the stimuli where it was found ("held-out" only). Blue: synergy on the scored stimuli. Above
        the bins, means of the 5 % of pairs that are the best where they were found: the hollow marker is their mean
        there, the filled one that on the scored stimuli, with its interval. Above 0, a pair is more interpretable than
        its units.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one of another function.

    See Also
    --------
    neurosuper.superposition.synergy : Returns the results.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> from neurosuper.superposition import synergy
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (80, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcd")})
    >>> plot_synergy({"V4": synergy(r, images, Color(), n_resamples=99)}).axes[0].get_title()
    'V4: 6 pairs'
    """
    named = check_results(result, "neurosuper.superposition.synergy", ("synergy", "mean_synergy"))
    counts = [f"{each.values.sizes['pair']:,} pairs" for each in named]
    titles = [f"{each.name}: {n}" if each.name else n for each, n in zip(named, counts, strict=True)]
    panels, drawn = open_systems(ax, titles, 3.2)
    for axes, each in zip(panels, named, strict=True):
        _draw_pairs(axes, each.values)
        against = "mean of its units" if each.values.attrs.get("against") == "mean" else "better unit"
        label = f"synergy: index of a pair minus that of its {against}"
        axes.set_xlabel(textwrap.fill(label, 30 if len(named) < 3 else 18))
        axes.xaxis.set_major_locator(MaxNLocator(4 if len(named) < 3 else 3))
        axes.set_ylabel("share of pairs (%)")
    has_found = any("synergy_found" in each.values for each in named)
    draw_legend(drawn, _handles(has_found), 2 if has_found else 1)
    return drawn


def _draw_pairs(axes: Axes, pairs: xr.Dataset) -> None:
    """Draw the histograms of a system, and the means of its best pairs above them."""
    shown = {name: pairs[name].values for name in ("synergy_found", "synergy") if name in pairs}
    every = np.concatenate(list(shown.values()))
    n_bins = int(np.clip(pairs.sizes["pair"] ** 0.5, *BINS))
    bins = np.histogram_bin_edges(every, n_bins)
    heights = {name: 100 * np.histogram(values, bins)[0] / len(values) for name, values in shown.items()}
    highest = max(each.max() for each in heights.values())
    if "synergy_found" in heights:
        axes.stairs(heights["synergy_found"], bins, fill=True, color=FOUND, alpha=0.45)
    axes.stairs(heights["synergy"], bins, color=SCORED, linewidth=1.6)
    axes.axvline(0, color="0.3", linewidth=0.8, linestyle="--", zorder=0)
    if "synergy_of_best" in pairs:
        found, scored, low, high = (
            float(pairs[name])
            for name in ("found_of_best", "synergy_of_best", "synergy_of_best_low", "synergy_of_best_high")
        )
        y_found, y_scored = (height * highest for height in OF_BEST[::-1])
        axes.plot([found, scored], [y_found, y_scored], color="0.6", linewidth=0.8)
        axes.plot([low, high], [y_scored] * 2, color=SCORED, linewidth=2)
        axes.plot(found, y_found, "o", color="0.35", markerfacecolor="white", markersize=6, mew=1.3)
        axes.plot(scored, y_scored, "o", color=SCORED, markersize=6)
    axes.set_ylim(0, TOP * highest)


def _handles(has_found: bool) -> list:
    """Return the entries of the legend."""
    scored = Line2D([], [], color=SCORED, linewidth=1.6, label="on other stimuli" if has_found else "pairs")
    if not has_found:
        return [scored]
    best = "mean of the best 5 %,".replace(" %", "\N{NO-BREAK SPACE}%")
    return [
        Patch(color=FOUND, alpha=0.45, linewidth=0, label="where synergy was found"),
        scored,
        Line2D([], [], color="0.35", marker="o", markerfacecolor="white", mew=1.3, ls="", label=f"{best} where found"),
        Line2D([], [], color=SCORED, marker="o", linewidth=2, label=f"{best} on other stimuli"),
    ]
