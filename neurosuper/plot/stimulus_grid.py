"""Figure of the top stimuli of each unit or direction, in rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.images import check_images
from neurosuper.plot.style import NotebookFigure
from neurosuper.responses import name_some

__all__ = ["plot_top_stimuli"]

SIDE = 0.9  # of a thumbnail, in inches


def plot_top_stimuli(chosen: xr.DataArray, images: xr.DataArray, *, titles: Sequence[str] | None = None) -> Figure:
    """Return a figure with the top stimuli of every item as a row of images, the strongest first.

    Parameters
    ----------
    chosen : DataArray (rank, unit) or (rank, direction)
        Stimulus labels, from `neurosuper.top_stimuli`; an empty label leaves a gap.
    images : DataArray (stimulus, row, column, channel)
        Only images that are drawn are read.
    titles : sequence of str, optional
        One per item; by default the labels of the items.

    Returns
    -------
    Figure
        One row per item; each image is titled with its label.

    Raises
    ------
    ValueError
        `chosen` has other dims, a label has no image, or the numbers of titles and items differ.

    See Also
    --------
    neurosuper.top_stimuli : Returns the labels.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import load_images
    >>> images = load_images(np.zeros((3, 8, 8, 3), np.uint8))
    >>> top = xr.DataArray([["2", "0"], ["1", "2"]], dims=("rank", "unit"), coords={"unit": ["a", "b"]})
    >>> [axes.get_title() for axes in plot_top_stimuli(top, images).axes]
    ['2', '1', '0', '2']
    """
    images = check_images(images)
    if chosen.ndim != 2 or "rank" not in chosen.dims:
        raise ValueError(f"chosen must have the dims rank and unit (or direction), got {chosen.dims}; see top_stimuli")
    chosen = chosen.transpose(..., "rank")
    titles = [str(label) for label in chosen[chosen.dims[0]].values] if titles is None else list(titles)
    if len(titles) != len(chosen):
        raise ValueError(f"got {len(titles)} titles for {len(chosen)} items; pass one per item")
    labels = np.unique(chosen.values[chosen.values != ""])
    if len(missing := np.setdiff1d(labels, images.stimulus.values)):
        raise ValueError(f"no image for stimulus {name_some(missing)}; load the images of these labels too")
    return _draw_grid(chosen.values, dict(zip(labels, images.sel(stimulus=labels).values, strict=True)), titles)


def _draw_grid(labels: np.ndarray, images: dict[str, np.ndarray], titles: list[str]) -> Figure:
    figure = NotebookFigure(figsize=(1.5 + SIDE * labels.shape[1], 1.25 * SIDE * len(labels)), layout="constrained")
    grid = figure.subplots(*labels.shape, squeeze=False)
    for row, of_item, title in zip(grid, labels, titles, strict=True):
        row[0].set_ylabel(title, rotation=0, ha="right", va="center")
        for axes, label in zip(row, of_item, strict=True):
            _draw_image(axes, images.get(label), label)
    return figure


def _draw_image(axes: Axes, image: np.ndarray | None, label: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(label, fontsize=7)
    if image is not None:
        axes.imshow(image)
