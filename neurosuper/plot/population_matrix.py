"""Figure of the similarity of all pairs of systems by one measure, as a matrix with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from neurosuper._rounding import ALPHA, format_number
from neurosuper.plot.figure import CHARACTER, PAGE_WIDTH, label_ticks, open_axes, open_panels, size_of
from neurosuper.plot.style import PLAIN
from neurosuper.responses import name_some

__all__ = ["plot_similarity"]

BACK = " back"  # ends the name of a measure that goes from the second system of a pair to the first
ONE_WAY = {  # measures that go from one system to another: what rows and columns are
    "encoding": ("predictions from items of", "of units of"),
    "twins": ("twins of items of", "among items of"),
}
NEEDED = ("estimate", "p_value", "system_a", "system_b")
CELL = 0.55  # inches, at most
WIDE = 4  # systems; matrices of more are below each other
TEXT = 0.5  # width of a character, in heights of its font
N_CHARACTERS = 7  # of a negative number in parentheses
FONT = 3.5, 9.0  # points, at least and at most, of the numbers
POINTS = 72  # of an inch
DARK = 0.55  # share of the colour scale above which white text is legible


@overload
def plot_similarity(
    populations: xr.Dataset, *, measure: str, items: str | Sequence[str] = ..., ax: None = None
) -> Figure: ...
@overload
def plot_similarity(populations: xr.Dataset, *, measure: str, items: str | Sequence[str] = ..., ax: Axes) -> Axes: ...
@rc_context(PLAIN)
def plot_similarity(
    populations: xr.Dataset, *, measure: str, items: str | Sequence[str] = "units", ax: Axes | None = None
) -> Figure | Axes:
    """Return a figure of how similar all pairs of systems are by one measure, as a matrix with numbers.

    Parameters
    ----------
    populations : Dataset (pair, items, measure)
        From `neurosuper.comparison.compare_populations`.
    measure : str
        One of its measures, such as "cka".
    items : str or sequence of str, optional
        What is compared: "units", "rotation" or the name of a finder. Several are drawn side by side, with the same
        colours for the same numbers.
    ax : Axes, optional
        Draw here instead of on a new figure; several panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        A row and a column for each system. The darker, the more similar; numbers in parentheses are of pairs that
        chance explains (adjusted p of at least 0.05). Of measures that go from one system to another, "twins" and
        "encoding", a row is where they start, and the other way round ("twins back") is drawn where it was measured.
        Pairs that were not compared are blank.

    Raises
    ------
    ValueError
        Another Dataset, or a measure or items that it does not have.

    See Also
    --------
    neurosuper.comparison.compare_populations : Returns the similarities, with intervals.
    plot_twins : Which item of one system is which of the other.

    Examples
    --------
    >>> import xarray as xr
    >>> dims = ("pair", "items", "measure")
    >>> pair = {"pair": ["V4 | IT"], "system_a": ("pair", ["V4"]), "system_b": ("pair", ["IT"])}
    >>> found = xr.Dataset({"estimate": (dims, [[[0.4]]]), "p_value": (dims, [[[0.01]]])},
    ...                    {**pair, "items": ["units"], "measure": ["cka"], "quantity": ("measure", ["debiased CKA"])})
    >>> figure = plot_similarity(found, measure="cka")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.40', '0.40']
    """
    shown = [items] if isinstance(items, str) else list(items)
    _check(populations, measure, shown)
    names = list(dict.fromkeys([*populations.system_a.values.tolist(), *populations.system_b.values.tolist()]))
    values = {each: _matrices(populations, measure, each, names) for each in shown}
    every = np.concatenate([each[0].ravel() for each in values.values()])
    every = every[np.isfinite(every)]
    scale = Normalize(min(0.0, every.min(initial=0)), max(every.max(initial=0), 1e-9))
    n_columns = min(len(shown), max(1, 2 if len(names) <= WIDE else 1), 2)
    n_rows = -(-len(shown) // n_columns)
    margin = min(1.8, CHARACTER * max(map(len, names)))  # of names, which are slanted below
    side = min(CELL * len(names), PAGE_WIDTH / n_columns - margin - 0.6)
    size = (PAGE_WIDTH, n_rows * (side + 0.75 * margin + 0.8))
    if len(shown) == 1:
        axes, drawn = open_axes(ax, size)
        panels = np.array([[axes]])
    else:
        panels, drawn = open_panels(ax, size, n_rows, n_columns, gap=(0.7, 0.5), n_rows_above=1)
    for panel in panels.ravel()[len(shown) :]:
        panel.set_axis_off()
    for panel, each in zip(panels.ravel(), shown, strict=False):
        own = min(size_of(panel)) if ax is not None else side
        _draw(panel, *values[each], names, scale, own / len(names))
        panel.set_title(each, fontsize=10)
        if words := ONE_WAY.get(measure.removesuffix(BACK)):
            panel.set_ylabel(words[0])
            panel.set_xlabel(words[1])
    quantity = str(populations.quantity.sel(measure=measure).item()) if "quantity" in populations.coords else measure
    _write_quantity(drawn, quantity, shown)
    return drawn


def _check(populations: xr.Dataset, measure: str, shown: Sequence[str]) -> None:
    """Refuse another Dataset, and names that it does not have."""
    if not isinstance(populations, xr.Dataset) or not set(NEEDED) <= {*map(str, populations.variables)}:
        raise ValueError("populations must be a Dataset from neurosuper.comparison.compare_populations")
    for what, asked in (("measure", [measure]), ("items", shown)):
        known = populations[what].values.tolist()
        if not asked or (unknown := [each for each in asked if each not in known]):
            got = repr(unknown[0]) if asked else "none"
            raise ValueError(f"{what} must be of {name_some(known)}; got {got}")


def _matrices(populations: xr.Dataset, measure: str, items: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the measure (system, system), and whether chance explains it; NaN where it was not measured."""
    forth, back = measure.removesuffix(BACK), f"{measure.removesuffix(BACK)}{BACK}"
    known = populations.measure.values.tolist()
    value, explained = np.full((len(names),) * 2, np.nan), np.zeros((len(names),) * 2, bool)
    p_name = "p_adjusted" if "p_adjusted" in populations else "p_value"
    for one, is_back in ((forth, False), (back, True)):
        if one not in known:
            continue
        found = populations.sel(items=items, measure=one)
        pairs = zip(
            found.system_a.values, found.system_b.values, found.estimate.values, found[p_name].values, strict=True
        )
        for a, b, estimate, p in pairs:
            places = [(names.index(a), names.index(b))]
            if is_back or forth not in ONE_WAY:
                places = [*([] if is_back else places), places[0][::-1]]
            for place in places:
                value[place], explained[place] = estimate, not p < ALPHA
    return value, explained


def _draw(
    axes: Axes, value: np.ndarray, explained: np.ndarray, names: Sequence[str], scale: Normalize, cell: float
) -> None:
    """Draw one matrix, with its numbers in a font that fits in cells of this side, in inches."""
    axes.imshow(np.ma.masked_invalid(value), cmap="Blues", norm=scale, aspect="equal")
    size = float(np.clip(POINTS * cell / (N_CHARACTERS * TEXT), *FONT))
    for (row, column), number in np.ndenumerate(value):
        if np.isfinite(number):
            text = format_number(number, 2)
            axes.text(
                column,
                row,
                f"({text})" if explained[row, column] else text,
                ha="center",
                va="center",
                fontsize=size,
                color="white" if scale(number) > DARK else "black",
            )
    places = range(len(names))
    label_ticks(axes.xaxis, places, names)
    label_ticks(axes.yaxis, places, names)
    for label in axes.get_xticklabels():
        label.set(rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0, labelsize=9 if len(names) <= 8 else 7)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)


def _write_quantity(drawn: Figure | Axes, quantity: str, shown: Sequence[str]) -> None:
    """Write what the numbers are above all panels."""
    if isinstance(drawn, Figure):
        drawn.suptitle(quantity, fontsize=10, wrap=True)
    else:
        drawn.set_title(quantity if len(shown) > 1 else f"{quantity}\n{shown[0]}", fontsize=10, wrap=True)
