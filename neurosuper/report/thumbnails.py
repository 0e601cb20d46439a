"""Thumbnails of images, each embedded in a page only once."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
import xarray as xr
from PIL import Image

from neurosuper.images import check_images
from neurosuper.responses import name_some

__all__ = ["embed_thumbnails"]

MAX_SIDE = 96  # pixels of a longer side: nearly twice the 52 px at which page.css shows it, for dense screens
MAX_PNG_SIDE = 48  # pixels; up to here JPEG artefacts are visible, and PNG files are small


def embed_thumbnails(images: xr.DataArray, labels: Iterable[str]) -> tuple[str, dict[str, int]]:
    """Return CSS that contains each image once, and the number of the class that shows it.

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        RGB images, uint8.
    labels : iterable of str
        Stimuli to embed; each is read once, and no other image is read.

    Returns
    -------
    css : str
        One rule per image: class `t0` shows the first, and class `t` gives all of them their shape.
    numbers : dict of str to int
        Number of the class, by label.

    Raises
    ------
    ValueError
        A label has no image.

    See Also
    --------
    neurosuper.report.make_report : the page that shows them.

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper import load_images
    >>> css, numbers = embed_thumbnails(load_images(np.zeros((2, 8, 8, 3), np.uint8)), ["1"])
    >>> numbers
    {'1': 0}
    """
    images, wanted = check_images(images), set(labels)
    stack = images.stimulus.values.tolist()
    if missing := sorted(wanted.difference(stack)):
        raise ValueError(f"no image of stimulus {name_some(missing)}; load the images that these labels name")
    chosen = [label for label in stack if label in wanted]  # in stack order, so that no block is read twice
    pixels = _shrink_all(images.sel(stimulus=chosen)).values
    rules = [f".t{i}{{background-image:url({_data_uri(image)})}}" for i, image in enumerate(pixels)]
    return "\n".join([_shape_rule(pixels), *rules]), {label: i for i, label in enumerate(chosen)}


def _shrink_all(images: xr.DataArray) -> xr.DataArray:
    """Return thumbnails of all images; a dask stack is shrunk block by block as it is read."""
    scale = min(1.0, MAX_SIDE / max(images.sizes["row"], images.sizes["column"]))
    rows, columns = (max(1, round(scale * images.sizes[dim])) for dim in ("row", "column"))
    return xr.apply_ufunc(
        _shrink,
        images,
        kwargs={"rows": rows, "columns": columns},
        input_core_dims=[["row", "column", "channel"]],
        output_core_dims=[["thumbnail_row", "thumbnail_column", "channel"]],
        dask="parallelized",
        output_dtypes=[np.uint8],
        dask_gufunc_kwargs={"output_sizes": {"thumbnail_row": rows, "thumbnail_column": columns}},
    )


def _shrink(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    shrunk = np.empty((len(images), rows, columns, 3), np.uint8)
    for image, out in zip(images, shrunk, strict=True):
        out[:] = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS))
    return shrunk


def _shape_rule(pixels: np.ndarray) -> str:
    _, rows, columns, _ = pixels.shape
    rendering = "pixelated" if max(rows, columns) <= MAX_PNG_SIDE else "auto"
    return f".t{{aspect-ratio:{columns}/{rows};image-rendering:{rendering}}}"


def _data_uri(pixels: np.ndarray) -> str:
    kind = "png" if max(pixels.shape[:2]) <= MAX_PNG_SIDE else "jpeg"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=85, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
