"""The figures of a report, as SVG."""

from __future__ import annotations

import io
import re
import warnings
from typing import NamedTuple

import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure

from neurosuper.comparison.table import inactive_items
from neurosuper.plot import plot_distributions, plot_recovery

MARKS = "Violins: distribution. Horizontal bar and marker: mean.{} n: number of points."
INTERVAL = " Vertical bar: its 95 % interval."
CHANCE = (
    " Dashed line: chance level, the mean index of random sets with the same number of stimuli. The light band "
    "contains 95 % of these sets: compare it with single points. The dark band contains 95 % of the means of as many "
    "sets as there are points: compare it with the mean."
)
CHANCE_IS_ZERO = (
    " Dashed line: chance level, 0. The dark band contains 95 % of the means of as many random sets as there are "
    "points: compare it with the mean."
)
LEFT_OUT = " Inactive items are left out."


class Picture(NamedTuple):
    """A figure: SVG with its width in points, its title and its caption."""

    svg: str
    width: int
    title: str
    caption: str


def draw_figures(comparison: xr.Dataset) -> list[Picture]:
    """Return figures of the distributions of the index by each metric, and of the recovery of planted directions."""
    points = (
        f"Points: units or directions. {MARKS.format(INTERVAL)}{LEFT_OUT if inactive_items(comparison).any() else ''}"
    )
    pictures = []
    for i, metric in enumerate(comparison.metric.values.tolist()):
        caption = f"{points}{CHANCE if 'chance_level' in comparison else ''}"
        title = f"Interpretability index by {metric}"
        pictures.append(draw_picture(plot_distributions(comparison, metric), title, caption, f"metric{i}"))
        if "corrected" in comparison:
            figure, title = plot_distributions(comparison, metric, correction="hub"), f"Hub-corrected index by {metric}"
            pictures.append(draw_picture(figure, title, f"{points}{CHANCE_IS_ZERO}", f"corrected{i}"))
    if "recovery" in comparison:
        caption = f"Points: planted directions; 1 means recovered exactly. {MARKS.format('')}"
        figure = plot_recovery(comparison.recovery)
        pictures.append(draw_picture(figure, "Recovery of planted directions", caption, "recovery"))
    return pictures


def draw_picture(figure: Figure, title: str, caption: str, prefix: str) -> Picture:
    """Return a figure as SVG whose ids begin with `prefix`, which is unique within the page."""
    return Picture(_svg(figure, prefix), round(72 * figure.get_figwidth()), title, caption)


def _svg(figure: Figure, prefix: str) -> str:
    """Return a figure as SVG for a page: text stays text, and every id is unique within the page."""
    file = io.StringIO()
    with rc_context({"svg.hashsalt": prefix}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text is drawn by the browser, with its own fonts
        figure.savefig(file, format="svg", dpi=200)
    svg = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)

    def prefix_ids(tag: re.Match[str]) -> str:
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag[0])

    return re.sub("<[^>]*>", prefix_ids, svg[svg.index("<svg") :])  # only inside tags, never in text
