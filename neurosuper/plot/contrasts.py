"""Figure of tests: the difference of each system and finder with its interval, in one panel per reference."""

from __future__ import annotations

import textwrap
from typing import Literal, overload

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from neurosuper._checks import check_one_of
from neurosuper.comparison.contrast import kind_of_reference
from neurosuper.plot.figure import draw_legend, label_ticks, open_panels
from neurosuper.plot.style import PLAIN, Look, finder_looks

__all__ = ["plot_contrasts"]

Correction = Literal["none", "hub"]
LABELS, PANEL, LINE = 1.5, 1.5, 0.19  # inches: width of the names of finders, of a panel; height of a line of names
AROUND = 1.85  # inches that the legend, titles and the labels of axes take
LONGEST = 20  # characters of a name in one line
LABEL_SIZE = 9  # points; a figure of two panels is then legible on the screen of a phone
KINDS = {"Units": "single units"}  # others have their names
NEXT = 1.4  # lines between the last finder of a system and the name of the next system


@overload
def plot_contrasts(
    tests: xr.Dataset, metric: str, *, correction: Correction | None = ..., ax: None = None
) -> Figure: ...
@overload
def plot_contrasts(tests: xr.Dataset, metric: str, *, correction: Correction | None = ..., ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_contrasts(
    tests: xr.Dataset, metric: str, *, correction: Correction | None = None, ax: Axes | None = None
) -> Figure | Axes:
    r"""Return a forest plot of tests: the difference of each system and finder, with its interval.

    Parameters
    ----------
    tests : Dataset (test,)
        From `neurosuper.contrast_finders` or `neurosuper.contrast_systems`.
    metric : str
        One of `tests.metric`.
    correction : {"none", "hub"}, optional
        The index whose tests are drawn. None: the hub-corrected index, where it was tested.
    ax : Axes, optional
        Draw here instead of on a new figure; the panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        One row per system and finder, and one panel per reference: single units, and the matched baseline of each
        finder. A filled marker is a difference that is detectable (adjusted p below 0.05), a hollow one a difference
        that is not, which may still exist. Without an interval (see `contrast_finders`), only the marker is drawn.

    Raises
    ------
    ValueError
        No tests by this metric, or of this correction.

    See Also
    --------
    neurosuper.contrast_finders : Returns the tests.
    plot_distributions : The index of every item.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import contrast_finders
    >>> index = np.concatenate([np.linspace(-0.8, -0.6, 30), np.linspace(-0.6, -0.4, 30)])
    >>> comparison = xr.Dataset(
    ...     {"interpretability": (("item", "metric"), index[:, None])},
    ...     {"system": ("item", ["V4"] * 60), "finder": ("item", np.repeat(["Units", "KMeans"], 30)),
    ...      "metric": ["LPIPS"]})
    >>> figure = plot_contrasts(contrast_finders(comparison, n_resamples=999), "LPIPS")
    >>> figure.axes[0].get_title(), [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ('against\nsingle units', ['V4', 'KMeans'])
    """
    frame, corrected = _tests_by(tests, metric, correction)
    heights, bottom = _place_rows(frame)
    kinds = list(dict.fromkeys(frame["kind"]))
    looks = finder_looks(frame["finder"])
    size = LABELS + PANEL * max(2, len(kinds)), AROUND + LINE * bottom
    n_characters = 20 * max(2, len(kinds)) // len(kinds)
    panels, drawn = open_panels(ax, size, 1, len(kinds), gap=(0, 0.12), sharey=True, n_rows_above=4)
    level = f"{tests.confidence_level:.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    what = f"difference in mean {corrected}index by {metric}, with {level} interval"
    for axes, kind in zip(panels[0], kinds, strict=True):
        for row in frame[frame["kind"] == kind].itertuples():
            _draw_test(axes, heights[row.system, row.finder], row, looks[row.finder])
        axes.axvline(0, color="0.4", linewidth=0.8, zorder=0)
        axes.set_title(f"against\n{textwrap.fill(kind, LONGEST)}", fontsize=LABEL_SIZE)
        axes.set_xlabel(textwrap.fill(what, n_characters, break_on_hyphens=False), fontsize=LABEL_SIZE)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.tick_params(labelsize=LABEL_SIZE)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    _label_rows(panels[0, 0], heights, bottom)
    reach = _reach(frame)
    for axes in panels[0]:
        axes.set_xlim(*reach)
    draw_legend(drawn, [_mark(True, "detectable (adjusted p < 0.05)"), _mark(False, "not detectable")], 2)
    return drawn


def _tests_by(tests: xr.Dataset, metric: str, correction: Correction | None) -> tuple[pd.DataFrame, str]:
    """Return the tests of one metric and correction, with the kind of their reference, and the name of that index."""
    names, corrections = (list(dict.fromkeys(tests[name].values.tolist())) for name in ("metric", "correction"))
    if metric not in names:
        raise ValueError(f"no tests by metric {metric!r}; there are tests by {', '.join(names)}")
    if correction is None:
        correction = "hub" if "hub" in corrections else "none"
    check_one_of("correction", correction, ("none", "hub"))
    if correction not in corrections:
        raise ValueError(f"no tests of correction {correction!r}; there are tests of {', '.join(corrections)}")
    frame = tests.isel(test=((tests.metric == metric) & (tests.correction == correction)).values).to_dataframe()
    kinds = map(kind_of_reference, frame["against"], frame["family"])
    frame["kind"] = [KINDS.get(kind, kind) for kind in kinds]
    return frame, "hub-corrected " if correction == "hub" else ""


def _place_rows(frame: pd.DataFrame) -> tuple[dict[tuple[str, str], float], float]:
    """Return the height of each row in lines from the top, by system and finder ("" is the name of the system)."""
    heights: dict[tuple[str, str], float] = {}
    bottom = 0.0
    for system in dict.fromkeys(frame["system"]):
        for finder in ["", *dict.fromkeys(frame["finder"][frame["system"] == system])]:
            n_lines = len(textwrap.wrap(finder or system, LONGEST))
            heights[system, finder] = bottom + (n_lines - 1) / 2
            bottom += n_lines
        bottom += NEXT - 1
    return heights, bottom


def _draw_test(axes: Axes, height: float, test: object, look: Look) -> None:
    """Draw the interval of a test and its difference, filled if it is detectable."""
    axes.axhline(height, color="0.9", linewidth=0.6, zorder=-1)  # leads the eye to the name
    low, high = test.difference_low, test.difference_high  # type: ignore[attr-defined]
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [height, height], color=look.color, linewidth=1.5)
    fill = look.color if test.detectable else "white"  # type: ignore[attr-defined]
    axes.plot(
        test.difference,  # type: ignore[attr-defined]
        height,
        look.marker,
        color=look.color,
        markerfacecolor=fill,
        markersize=7,
        mew=1.3,
    )


def _label_rows(axes: Axes, heights: dict[tuple[str, str], float], bottom: float) -> None:
    """Write the names of finders, and those of systems in bold above them."""
    names = [textwrap.fill(finder or system, LONGEST) for system, finder in heights]
    label_ticks(axes.yaxis, list(heights.values()), names)
    for label, (_, finder) in zip(axes.get_yticklabels(), heights, strict=True):
        if not finder:
            label.set_fontweight("bold")
    axes.set_ylim(bottom - 0.5, -0.5)


def _reach(frame: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of all panels: what is drawn, with 0 in them."""
    drawn = frame[["difference", "difference_low", "difference_high"]].to_numpy()
    low, high = min(0.0, np.nanmin(drawn)), max(0.0, np.nanmax(drawn))
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _mark(is_detectable: bool, label: str) -> Line2D:
    fill = "0.3" if is_detectable else "white"
    return Line2D([], [], color="0.3", linewidth=1.5, marker="o", markerfacecolor=fill, mew=1.3, label=label)
