"""Figure of the top stimuli of units or directions, in rows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper._checks import check_count
from neurosuper.comparison.selections import whole_comparison
from neurosuper.images import check_images
from neurosuper.interpretability import top_stimuli
from neurosuper.interpretability.ranking import End
from neurosuper.plot.figure import open_panels, size_of
from neurosuper.plot.style import PLAIN
from neurosuper.responses import name_some

__all__ = ["plot_top_stimuli"]

TOP = 5  # stimuli of an item, unless `top` says otherwise: the default of `top_stimuli`
SIDE = 0.9  # of a thumbnail, in inches
MAX_ROWS = 50  # that are drawn without being named: drawing takes about 0.1 s per row
CAPTION_SIZE = 7  # points
CHARACTER = 0.06  # mean width of a character of a caption, in inches
Items = str | Sequence[str] | np.ndarray | xr.DataArray


class Rows(NamedTuple):
    """Top stimuli (item, rank) with their codes, if known, and the name of each item."""

    stimuli: np.ndarray
    codes: np.ndarray | None
    names: list[str]


@overload
def plot_top_stimuli(
    codes: xr.DataArray | xr.Dataset,
    images: xr.DataArray,
    items: Items | None = ...,
    *,
    top: int | None = ...,
    end: End = ...,
    index: xr.DataArray | None = ...,
    ax: None = None,
) -> Figure: ...
@overload
def plot_top_stimuli(
    codes: xr.DataArray | xr.Dataset,
    images: xr.DataArray,
    items: Items | None = ...,
    *,
    top: int | None = ...,
    end: End = ...,
    index: xr.DataArray | None = ...,
    ax: Axes,
) -> Axes: ...
@rc_context(PLAIN)
def plot_top_stimuli(
    codes: xr.DataArray | xr.Dataset,
    images: xr.DataArray,
    items: Items | None = None,
    *,
    top: int | None = None,
    end: End = "top",
    index: xr.DataArray | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Return a figure with the top stimuli of units or directions as rows of images, the strongest first.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction), or (rank, …), or Dataset (item, metric)
        Responses or codes; or top stimuli from `neurosuper.top_stimuli`, where an empty label leaves a gap; or a
        comparison from `neurosuper.compare`, or a part of it, such as `table.sel(item=table.system == "V4")`.
    images : DataArray (stimulus, row, column, channel)
        Only images that are drawn are read.
    items : str or sequence of str, optional
        Labels of the units or directions to draw, in this order, such as ["KMeans 07"]. In a comparison, every item
        with such a label is drawn, and the rows name its system and finder where these differ. None draws all.
    top : int, optional
        Number of stimuli per row. None: 5 of codes, or all that are known.
    end : {"top", "bottom"}, optional
        "bottom": the stimuli with the smallest codes; only of codes.
    index : DataArray (unit) or (direction), optional
        Written below the names, such as the result of `neurosuper.interpretability_index`. A comparison has its own:
        the index by its first metric, and the corrected one.
    ax : Axes, optional
        Draw here instead of on a new figure; the panels become `ax.child_axes`.

    Returns
    -------
    Figure, or `ax`
        One row per item. Each image is titled with its label, shortened if it is long, and its code, if it is known.

    Raises
    ------
    ValueError
        Other dims, a label that no item has, more than 50 items without `items`, a stimulus without an image, more
        `top` than known, or "bottom" of what has only top stimuli.

    See Also
    --------
    neurosuper.top_stimuli : The labels, and other ways to choose them.
    neurosuper.interpretability_index : How similar they are to one another.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import load_images
    >>> images = load_images(np.zeros((3, 8, 8, 3), np.uint8))
    >>> codes = xr.DataArray([[1., 7.], [3., 6.], [2., 0.]], dims=("stimulus", "direction"),
    ...                      coords={"stimulus": images.stimulus, "direction": ["KMeans 0", "KMeans 1"]})
    >>> figure = plot_top_stimuli(codes, images, ["KMeans 1"], top=2)
    >>> [(axes.get_ylabel(), axes.get_title().split()) for axes in figure.axes]
    [('KMeans 1', ['0', '7.00']), ('', ['1', '6.00'])]
    """
    images = check_images(images)
    if isinstance(codes, xr.Dataset):
        rows = _rows_of_table(codes, items, index)
    else:
        codes, index = _select(codes, items), _index_of(codes, index)
        chosen = codes if "rank" in codes.dims else top_stimuli(codes, top=TOP if top is None else top, end=end)
        rows = rows_of_top(chosen, index)
    if end != "top" and "rank" in codes.dims:
        raise ValueError(f"end={end!r} needs codes (stimulus, direction); top stimuli were chosen before")
    if top is not None:
        check_count("top", top, most=rows.stimuli.shape[1], why=", the number of top stimuli that are known")
    stimuli = rows.stimuli[:, :top]
    return draw_grid(rows._replace(stimuli=stimuli), images_by_label(stimuli, images), ax)[1]


def _select(codes: xr.DataArray, items: Items | None) -> xr.DataArray:
    """Return the codes (or the top stimuli) of the named items, or of all."""
    dims = [str(dim) for dim in codes.dims if dim not in ("stimulus", "rank")]
    if codes.ndim != 2 or len(dims) != 1:
        raise ValueError(
            "codes must have the dims stimulus and unit or direction, or rank and one of these (from top_stimuli), "
            f"got {codes.dims}"
        )
    item = dims[0]
    known = codes[item].values.astype(str)
    return codes.isel({item: _places(items, known, item)}).transpose(..., item)


def _index_of(codes: xr.DataArray, index: xr.DataArray | None) -> xr.DataArray | None:
    """Return the index by item, if it was given and has the items of the codes."""
    if index is not None and (index.ndim != 1 or index.dims[0] not in codes.dims or index.dims[0] == "stimulus"):
        raise ValueError(f"index must be one number per unit or direction of codes {codes.dims}, got {index.dims}")
    return index


def _places(items: Items | None, known: np.ndarray, what: str) -> np.ndarray:
    """Return the places of the named items among the known ones, or of all."""
    if items is None:
        if len(known) > MAX_ROWS:
            raise ValueError(
                f"{len(known)} items are too many for one figure; name at most {MAX_ROWS}, such as "
                f"items={known[:2].tolist()}"
            )
        return np.arange(len(known))
    wanted = np.atleast_1d(np.asarray(items)).astype(str).tolist()
    if not wanted:
        raise ValueError(f"items is empty; name some of {name_some(known)}")
    for label in wanted:
        if label not in known:
            near = _nearest(label, np.unique(known).tolist())
            nearest = f"nearest: {', '.join(map(repr, near))}; " if near else ""
            raise ValueError(f"no {what} {label!r}; {nearest}known: {name_some(np.unique(known))}")
    return np.concatenate([np.flatnonzero(known == label) for label in wanted])


def _nearest(label: str, known: list[str]) -> list[str]:
    """Return up to three known labels: first those that differ in zeros before numbers alone, then similar ones."""
    same = [other for other in known if _without_zeros(other) == _without_zeros(label)]
    return list(dict.fromkeys([*same, *difflib.get_close_matches(label, known, 3)]))[:3]


def _without_zeros(label: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", label)


def rows_of_top(chosen: xr.DataArray, index: xr.DataArray | None) -> Rows:
    """Return the rows of top stimuli (rank, item)."""
    chosen = chosen.transpose(..., "rank")
    labels = chosen[chosen.dims[0]].values.tolist()
    scores = index.sel({chosen.dims[0]: labels}).values if index is not None else None
    names = [str(label) for label in labels]
    if scores is not None:
        names = [f"{name}\nindex {score}" for name, score in zip(names, format_numbers(scores), strict=True)]
    codes = chosen["code"].transpose(..., "rank").values if "code" in chosen.coords else None
    return Rows(chosen.values.astype(str), codes, names)


def _rows_of_table(table: xr.Dataset, items: Items | None, index: xr.DataArray | None) -> Rows:
    """Return the rows of a comparison; names have system and finder where these differ, and the index."""
    if index is not None:
        raise ValueError("a comparison has its own index; pass index only with codes")
    table = whole_comparison(table)
    if "top_stimuli" not in table or set(table.top_stimuli.dims) != {"item", "rank"}:
        raise ValueError("the comparison has no top_stimuli (item, rank); run neurosuper.compare, or its study, again")
    places = _places(items, table.direction.values.astype(str), "direction")
    scores = [name for name in ("interpretability", "corrected") if name in table]
    chosen = table[["top_stimuli", *scores]].isel(item=places)
    names = chosen.direction.values.astype(str).tolist()
    for coord in ("finder", "system", "seed"):
        if coord in chosen.coords and len(np.unique(chosen[coord])) > 1:
            extra = [f"seed {value}" if coord == "seed" else value for value in chosen[coord].values.tolist()]
            names = [f"{value}\n{name}" for value, name in zip(extra, names, strict=True)]
    for name in scores:
        values, what = chosen[name].isel(metric=0).values, "index" if name == "interpretability" else name
        names = [f"{row}\n{what} {value}" for row, value in zip(names, format_numbers(values), strict=True)]
    return Rows(chosen.top_stimuli.transpose("item", "rank").values.astype(str), None, names)


def format_numbers(values: np.ndarray) -> list[str]:
    """Return numbers with as many decimals as give the largest three significant digits."""
    largest = np.nanmax(np.abs(values), initial=0.0)
    decimals = int(np.clip(2 - np.floor(np.log10(largest)), 0, 6)) if largest else 0
    return [f"{value:.{decimals}f}".replace("-", "−") for value in values.ravel().tolist()]


def images_by_label(stimuli: np.ndarray, images: xr.DataArray) -> dict[str, np.ndarray]:
    """Return the image of each label, "" left out; no other image is read."""
    labels = np.unique(stimuli[stimuli != ""])
    if len(missing := np.setdiff1d(labels, images.stimulus.values)):
        raise ValueError(f"no image for stimulus {name_some(missing)}; load the images of these labels too")
    return dict(zip(labels.tolist(), images.sel(stimulus=labels).values, strict=True))


def draw_grid(
    rows: Rows, images: dict[str, np.ndarray], ax: Axes | None, *, titles: bool = True, least_width: float = 0.0
) -> tuple[np.ndarray, Figure | Axes]:
    """Draw a row of images per item; return the panels (row, column), and what a plot function returns.

    With `titles`, each image is titled with its label, and its code if it is known. `least_width` is in inches.
    """
    n_items, n_ranks = rows.stimuli.shape
    codes = [] if rows.codes is None else format_numbers(rows.codes[:, :n_ranks])
    n_lines = 2 if codes else 1
    tall = max((image.shape[0] / image.shape[1] for image in images.values()), default=1.0)
    size = max(1.5 + SIDE * n_ranks, least_width), (SIDE * min(tall, 1.5) + 0.05 + 0.13 * n_lines) * n_items
    panels, drawn = open_panels(ax, size, n_items, n_ranks, gap=(0.18 * n_lines, 0.05))
    width = SIDE if ax is None else size_of(ax)[0] / n_ranks
    for row, col in np.ndindex(panels.shape):
        axes, label = panels.item(row, col), str(rows.stimuli[row, col])
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if col == 0:
            axes.set_ylabel(rows.names[row], rotation=0, ha="right", va="center", fontsize=8)
        if titles:
            code = f"\n{codes[row * n_ranks + col]}" if codes and label else ""
            axes.set_title(_shorten(label, int(width / CHARACTER)) + code, fontsize=CAPTION_SIZE, pad=2)
        if label:
            axes.imshow(images[label])
    return panels, drawn


def _shorten(label: str, longest: int) -> str:
    """Return a label without its middle, if it is longer than an image is wide."""
    kept = max(4, longest - 1)
    return label if len(label) <= longest else f"{label[: kept // 2]}…{label[kept // 2 - kept :]}"
