"""Figure of twins: the top stimuli of an item of one system, above those of its partner in another."""

from __future__ import annotations

from typing import overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper._checks import check_count
from neurosuper._rounding import format_interval, format_number, format_p
from neurosuper.images import check_images
from neurosuper.interpretability import top_stimuli
from neurosuper.plot.figure import PAGE_WIDTH
from neurosuper.plot.stimulus_grid import Rows, draw_grid, format_numbers, images_by_label
from neurosuper.plot.style import PLAIN
from neurosuper.responses import name_some

__all__ = ["plot_twins"]

NEEDED = ("partner", "r", "r_low", "r_high", "r_matched", "median_r", "p_adjusted")
TITLE_SIZE, GAP = 8, 3  # points; the gap is between a line and the images


@overload
def plot_twins(
    twins: xr.Dataset,
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    *,
    n_twins: int = ...,
    top: int = ...,
    interpretability_a: xr.DataArray | None = ...,
    interpretability_b: xr.DataArray | None = ...,
    ax: None = None,
) -> Figure: ...
@overload
def plot_twins(
    twins: xr.Dataset,
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    *,
    n_twins: int = ...,
    top: int = ...,
    interpretability_a: xr.DataArray | None = ...,
    interpretability_b: xr.DataArray | None = ...,
    ax: Axes,
) -> Axes: ...
@rc_context(PLAIN)
def plot_twins(
    twins: xr.Dataset,
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    *,
    n_twins: int = 5,
    top: int = 5,
    interpretability_a: xr.DataArray | None = None,
    interpretability_b: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Return a figure of twins: each as two rows of images, the top stimuli of an item and those of its partner.

    Shown are the items with the largest correlation on the stimuli where partners were chosen; the correlation that is
    written is that on other stimuli, so it is not large because these items are shown.

    Parameters
    ----------
    twins : Dataset (item_a)
        From `neurosuper.comparison.twins` of `a` and `b`.
    a, b : DataArray (stimulus, item), or (rank, item)
        The responses or codes that are compared, with or without repetitions; or top stimuli from
        `neurosuper.top_stimuli`.
    images : DataArray (stimulus, row, column, channel)
        Only images that are drawn are read.
    n_twins : int, optional
        Number of twins, at most; those without a partner are never shown.
    top : int, optional
        Number of stimuli per row.
    interpretability_a, interpretability_b : DataArray (item), optional
        The index of the items of each system, such as from `neurosuper.interpretability_index`, written next to them.
    ax : Axes, optional
        Draw here instead of on a new figure; the panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        Above each pair: r with its interval, its ceiling if there are repetitions, and p. Below all: the median r of
        all items, with those of random rotations of `a`, the control that single pairs do not have.

    Raises
    ------
    ValueError
        Another Dataset, items that `a` or `b` lacks, no twins, a stimulus without an image.

    See Also
    --------
    neurosuper.comparison.twins : Returns the twins.
    plot_top_stimuli : The top stimuli of one system.
    plot_similarity : Whole systems.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import load_images
    >>> from neurosuper.comparison import twins
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> a = xr.DataArray(rng.normal(size=(40, 3)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abc")})
    >>> b = a.assign_coords(unit=list("xyz")) + 0.3 * rng.normal(size=(40, 3))
    >>> figure = plot_twins(twins(a, b, n_permutations=19, n_rotations=1), a, b, images, n_twins=1, top=2)
    >>> len(figure.axes)
    4
    """
    if not isinstance(twins, xr.Dataset) or (missing := [name for name in NEEDED if name not in twins]):
        what = f" (it lacks {', '.join(missing)})" if isinstance(twins, xr.Dataset) else ""
        raise ValueError(f"twins must be a Dataset from neurosuper.comparison.twins{what}")
    check_count("n_twins", n_twins)
    images, chosen = check_images(images), _choose(twins, n_twins)
    systems = []
    for name, codes, index, labels in (
        ("a", a, interpretability_a, chosen.item_a.values),
        ("b", b, interpretability_b, chosen.partner.values),
    ):
        systems.append(_rows(name, codes, labels.astype(str), index, top))
    pairs = list(zip(*systems, strict=True))
    rows = Rows(np.stack([row[0] for pair in pairs for row in pair]), None, [row[1] for pair in pairs for row in pair])
    panels, drawn = draw_grid(rows, images_by_label(rows.stimuli, images), ax, titles=False, least_width=PAGE_WIDTH)
    for number in range(chosen.sizes["item_a"]):
        _write(panels[2 * number, 0], 1, "bottom", _describe(chosen.isel(item_a=number)))
        panels[2 * number, 0].set_title(" ", fontsize=TITLE_SIZE, pad=GAP + 2)  # keeps the place
    _write(panels[-1, 0], 0, "top", _describe_control(twins))
    panels[-1, 0].set_xlabel(" ", fontsize=TITLE_SIZE)
    return drawn


def _choose(twins: xr.Dataset, n_twins: int) -> xr.Dataset:
    """Return the twins with the largest correlation on the stimuli where partners were chosen."""
    order = np.argsort(-twins.r_matched.values, kind="stable")  # NaN, of items without a partner, is last
    order = order[(twins.partner.values != "")[order]][:n_twins]
    if not len(order):
        raise ValueError("no item has a twin, so there is none to draw")
    return twins.isel(item_a=order)


def _rows(
    name: str, codes: xr.DataArray, labels: np.ndarray, index: xr.DataArray | None, top: int
) -> list[tuple[np.ndarray, str]]:
    """Return the top stimuli of some items of a system, and their names with the index."""
    if "repetition" in codes.dims:
        codes = codes.mean("repetition")
    (item,) = (str(dim) for dim in codes.dims if dim not in ("stimulus", "rank")) if codes.ndim == 2 else ("",)
    if item not in codes.coords or not {"stimulus", "rank"} & {*codes.dims}:
        raise ValueError(f"{name} must have the dims stimulus (or rank) and unit or direction, got {codes.dims}")
    if missing := [label for label in dict.fromkeys(labels.tolist()) if label not in codes[item].values]:
        raise ValueError(f"{name} has no {item} {name_some(missing)}; pass what these twins are of")
    shown = codes.sel({item: np.unique(labels)})
    shown = (shown if "rank" in shown.dims else top_stimuli(shown, top=top)).sel({item: labels})
    names = labels.tolist()
    if index is not None:
        scores = format_numbers(index.sel({index.dims[0]: labels}).values)
        names = [f"{label}\nindex {score}" for label, score in zip(names, scores, strict=True)]
    return list(zip(shown.transpose(item, "rank").values[:, :top].astype(str), names, strict=True))


def _write(panel: Axes, edge: int, va: str, text: str) -> None:
    """Write a line above (edge 1) or below (0) a panel and wider, which the layout must not take for its width."""
    place, gap = ("axes fraction", "offset points"), (0, GAP if edge else -GAP)
    line = panel.annotate(text, (0, edge), gap, *place, ha="left", va=va, fontsize=TITLE_SIZE)
    line.set_in_layout(False)


def _describe(twin: xr.Dataset) -> str:
    """Return how similar a pair is."""
    r, low, high = (float(twin[name]) for name in ("r", "r_low", "r_high"))
    text = f"r = {format_number(r, 2)} {format_interval(low, high, 2)}"
    if "ceiling" in twin:
        text += f", ceiling {format_number(float(twin.ceiling), 2)}"
    return f"{text}, adjusted p {format_p(float(twin.p_adjusted))}"


def _describe_control(twins: xr.Dataset) -> str:
    """Return the median r of all items, and of random rotations."""
    text = f"median r of all items: {format_number(float(twins.median_r), 2)}"
    if "rotated" not in twins:
        return f"{text}; no rotations were drawn"
    low, high = (format_number(float(twins.rotated.quantile(q)), 2) for q in (0, 1))
    return f"{text}; of random rotations: {low} to {high} (p {format_p(float(twins.p_rotated))})"
