"""The figures and axes that plot functions draw on: an own figure, or the axes that were given."""

from __future__ import annotations

import base64
import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure

from neurosuper.plot.style import PLAIN

EDITABLE: dict[Any, Any] = PLAIN | {"svg.fonttype": "none", "pdf.fonttype": 42, "ps.fonttype": 42}  # text stays text
SAVED_DPI = 300  # of a saved figure, also of the points within an SVG or PDF: what journals ask for
SHARP = 2  # pixels per CSS pixel in a notebook, as on most screens and phones
SMALL = 0.83  # size of the text of a legend within given axes: that of "small"
LINE = 0.2  # inches between lines of a legend
PAGE_WIDTH = 6.5  # inches: two such figures are in a row of a report, and one fits a page
CHARACTER = 0.075  # mean width of a character of a name, in inches
HANDLE = 0.65  # inches of a legend entry without its text: line and spaces
UNSHOWN = (
    "no window can be opened here (matplotlib backend {backend!r}); save the figure with "
    "figure.savefig('figure.png'), or return it from a cell of a notebook"
)


class PlotFigure(Figure):
    """A `matplotlib.figure.Figure` that does not depend on pyplot until it is shown.

    pyplot would keep every figure until it is closed, and a notebook would show a figure twice: as the value of the
    cell and at its end. `savefig` keeps text as text in SVG and PDF.
    """

    def savefig(self, fname: Any, **settings: Any) -> None:
        """Save the figure, with text as text in SVG and PDF, and 300 dpi unless `dpi` or rcParams say otherwise."""
        if matplotlib.rcParams["savefig.dpi"] == "figure":
            settings.setdefault("dpi", SAVED_DPI)
        with rc_context(EDITABLE):
            super().savefig(fname, **settings)

    def show(self, warn: bool = True) -> None:
        """Show the figure in a window, or in a notebook; a script waits until windows are closed.

        Warns
        -----
        UserWarning
            No window can be opened.
        """
        from matplotlib import pyplot  # it chooses a backend that works here

        backend = pyplot.get_backend()
        if backend.lower() in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
            if warn:
                warnings.warn(UNSHOWN.format(backend=backend), stacklevel=2)
            return
        if self not in map(pyplot.figure, pyplot.get_fignums()):
            pyplot.figure(
                FigureClass=cast(type[Figure], lambda **_: self)
            )  # with a window of its own, as if pyplot had made it
        pyplot.show()

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        """Return a PNG for a notebook, with more pixels than it takes on the screen."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=SHARP * self.dpi)
        width, height = (self.get_size_inches() * self.dpi).round().astype(int).tolist()
        size = {"width": width, "height": height}
        return {"image/png": base64.b64encode(file.getvalue()).decode()}, {"image/png": size}


def open_axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Axes, Figure | Axes]:
    """Return the axes to draw on, and what a plot function returns: `ax`, or a new figure of a size in inches."""
    if ax is not None:
        _check_axes(ax)
        return ax, ax
    figure = PlotFigure(figsize=size, layout="constrained")
    return figure.add_subplot(), figure


def open_panels(
    ax: Axes | None,
    size: tuple[float, float],
    n_rows: int,
    n_columns: int,
    *,
    gap: tuple[float, float] = (0.1, 0.1),
    sharey: bool = False,
    n_rows_above: int = 0,
) -> tuple[np.ndarray, Figure | Axes]:
    """Return panels (row, column) to draw on, and what a plot function returns.

    In a new figure the panels are its axes. In given axes they are insets, `ax.child_axes`: they move with `ax`, which
    works for axes of any layout, and is emptied. `gap` is the space between panels, in (heights, widths) of a panel;
    `n_rows_above` leaves room for a legend and titles above them.
    """
    if ax is None:
        figure = PlotFigure(figsize=size, layout="constrained")
        return figure.subplots(n_rows, n_columns, sharey=sharey, squeeze=False), figure
    _check_axes(ax)
    ax.set_axis_off()
    all_heights = 1 - _legend_share(ax, n_rows_above)
    height, width = all_heights / (n_rows + (n_rows - 1) * gap[0]), 1 / (n_columns + (n_columns - 1) * gap[1])
    panels = np.empty((n_rows, n_columns), object)
    for row, column in np.ndindex(panels.shape):
        place = column * width * (1 + gap[1]), all_heights - height - row * height * (1 + gap[0]), width, height
        panel = ax.inset_axes(place, sharey=panels[row, 0] if sharey and column else None)
        panel.tick_params(labelleft=not (sharey and column))
        panels[row, column] = panel
    return panels, ax


def _check_axes(ax: Axes) -> None:
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one matplotlib Axes, got {type(ax).__name__}; pass one of plt.subplots()[1]")


def open_systems(
    ax: Axes | None, systems: Sequence[str], row_height: float, *, sharey: bool = False
) -> tuple[list[Axes], Figure | Axes]:
    """Return one panel per system, with its name as title, and what a plot function returns.

    Up to three panels are in a row of a figure of `PAGE_WIDTH`, whose rows are `row_height` inches high. A single
    system takes the given axes themselves.
    """
    if len(systems) == 1:
        axes, drawn = open_axes(ax, (PAGE_WIDTH, row_height))
        opened = [axes]
    else:
        n_columns = 2 if len(systems) in (2, 4) else 3
        n_rows = -(-len(systems) // n_columns)
        size, gap = (PAGE_WIDTH, n_rows * row_height), (0.6, 0.12 if sharey else 0.4)
        panels, drawn = open_panels(ax, size, n_rows, n_columns, gap=gap, sharey=sharey, n_rows_above=4)
        for unused in panels.ravel()[len(systems) :]:
            unused.set_axis_off()
        opened = panels.ravel()[: len(systems)].tolist()
    n_characters = 0.8 * PAGE_WIDTH / min(3, len(systems)) / CHARACTER  # in letters of 10 points
    for axes, system in zip(opened, systems, strict=True):
        axes.set_title(textwrap.fill(system, int(n_characters)), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return opened, drawn


def label_ticks(axis: Axis, places: Sequence[float], names: Sequence[str]) -> None:
    """Write names at some places of an axis: as they are, also on an axis that the user has drawn before."""
    axis.set_ticks(places, names)
    for label in axis.get_ticklabels():
        label.set_parse_math(False)


def size_of(axes: Axes) -> tuple[float, float]:
    """Return the (width, height) of axes in inches, before a layout moves them."""
    box, dpi = axes.get_window_extent(), axes.figure.dpi
    return box.width / dpi, box.height / dpi


def draw_legend(drawn: Figure | Axes, handles: Sequence[Artist], n_columns: int) -> None:
    """Draw a legend above the axes of an own figure; within given axes, at the top, where room is made for it."""
    if isinstance(drawn, Figure):
        drawn.legend(handles=handles, loc="outside upper center", ncols=n_columns, frameon=False, fontsize=9)
        return
    share = _legend_share(drawn, math.ceil(len(handles) / n_columns))
    low, high = drawn.get_ylim()
    drawn.set_ylim(low, low + (high - low) / (1 - share))
    drawn.legend(handles=handles, loc="upper center", ncols=n_columns, frameon=False, fontsize="small")


def _legend_share(axes: Axes, n_rows: int) -> float:
    """Return the share of the height of axes that a legend takes, with a margin below."""
    return min(0.5, LINE * (n_rows + 0.5) / size_of(axes)[1]) if n_rows else 0.0


def lay_out_legend(names: list[str], width: float) -> tuple[int, int]:
    """Return the numbers of columns and rows of a legend that is at most as wide as the figure, in inches."""
    for n_columns in range(min(6, len(names)), 1, -1):
        columns = np.array_split([len(name) for name in names], n_columns)  # as matplotlib fills them
        if sum(HANDLE + CHARACTER * column.max() for column in columns) < width:
            return n_columns, len(columns[0])
    return 1, len(names)
