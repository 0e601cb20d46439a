"""Images: one labelled stack, `(stimulus, row, column, channel)`, uint8 RGB, lazy where large.

Labels are base names of files without extension; they join images to responses. Images of a folder or zip file are
sorted by label; a list of files keeps its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from neurosuper._content import CONTENT, digest_of, digests_of
from neurosuper._image_files import Opener, check_files, find_files
from neurosuper._image_pixels import as_pixels, is_array, is_picture, opener_of, read_rgb, upright_size
from neurosuper._labels import check_labels, clean_label, clean_labels, name_some
from neurosuper._progress import progress

if TYPE_CHECKING:
    import torch

__all__ = ["check_images", "image_labels", "load_images"]

DIMS = ("stimulus", "row", "column", "channel")
LAZY_BYTES = 2**30  # bytes; a larger stack is a dask array, so that it need not fit in memory
CHUNK = 64  # images per chunk of a lazy stack, at most: what metrics embed at once
BLOCK_BYTES = 2**28  # bytes per chunk, at most; chunks of large images have fewer
Pictures: TypeAlias = "Sequence[Image.Image] | Sequence[np.ndarray] | Sequence[torch.Tensor]"
Source: TypeAlias = "str | Path | Sequence[str | Path] | Pictures | np.ndarray | torch.Tensor | xr.DataArray"


def load_images(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    category_from: Literal["folder"] | Mapping[str, str] | None = None,
) -> xr.DataArray:
    """Return images from files, PIL images, arrays or tensors as one labelled stack.

    Parameters
    ----------
    source : folder, zip file, list of image files, list of PIL images, arrays or tensors, or one array or tensor
        Folders and zip files are searched with all their subfolders, except for hidden names (`.x`), and sorted by
        label, as text. A list keeps its order. An array or tensor of all images is `(stimulus, row, column, channel)`
        or `(stimulus, channel, row, column)`, one in a list lacks the first dim; uint8, or floats from 0 to 1. What is
        no file is named by its position, unless it is a DataArray `(stimulus, row, column, channel)` with labels.
    size : int or (rows, columns), optional
        Resize (never crop) every image to this size in pixels, bicubic with anti-aliasing. Needed if sizes differ.
    category_from : "folder" or mapping, optional
        Adds the stimulus coord `category`: the name of the image's folder, or the mapping's value for its label. With
        "folder", files with the same base name in different folders are labelled `folder/name`.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        RGB in uint8, rotated as the EXIF orientation says. In memory up to 1 GiB; a larger stack is a dask array, read
        at most 64 images at a time. Images in memory have the stimulus coord `content`, a digest of their pixels before
        resizing (empty for a lazy stack). It identifies copies of one photograph (`find_copies`) and one label for two
        photographs (`align`). It is not updated if you replace the pixels, as in `images.copy(data=…)`: remove it then
        with `.drop_vars("content")`.

    Raises
    ------
    FileNotFoundError
        No such file or folder, or no image in it.
    TypeError
        Neither files nor images, or files without an order.
    ValueError
        Two files with the same base name, sizes that differ without `size`, an unreadable file, one of more than
        8192 × 8192 pixels or more than one frame, or pixels that have no single meaning as 8-bit RGB (CMYK,
        transparency, 16 bit, floats outside [0, 1]): each is named. Grey and palette images become RGB.

    Warns
    -----
    UserWarning
        A folder or zip file has images in formats that are not read, such as HEIC or SVG: they are counted and named.

    See Also
    --------
    neurosuper.load_stimuli : the images of a published dataset.
    image_labels : the labels alone, without reading pixels.
    neurosuper.align : join images and responses by label or content.
    neurosuper.copies.find_copies : find the copies of a photograph.

    Examples
    --------
    >>> import numpy as np
    >>> load_images(np.zeros((2, 8, 8, 3), np.uint8)).stimulus.values.tolist()
    ['0', '1']
    """
    if isinstance(source, xr.DataArray) or is_array(source):
        images = _from_array(source, size)
        category = _from_mapping(images.stimulus.values, category_from)
        return images if category is None else images.assign_coords(category=("stimulus", category))
    labels, names, openers = _list_images(source, category_from == "folder")
    shape = _common_size(names, openers, size)
    stack, digests = _read_stack(names, openers, shape)
    images = xr.DataArray(
        stack,
        dims=DIMS,
        coords={"stimulus": labels, "channel": ["red", "green", "blue"]}
        | {CONTENT: ("stimulus", [""] * len(labels) if digests is None else digests)},
        name="image",
        attrs={"source": str(source) if isinstance(source, str | Path) else f"{len(names)} images"},
    )
    folders = [PurePosixPath(name).parent.name for name in names]
    category = folders if category_from == "folder" else _from_mapping(labels, category_from)
    return images if category is None else images.assign_coords(category=("stimulus", category))


def image_labels(source: str | Path | Sequence[str | Path] | Pictures) -> list[str]:
    """Return the labels that `load_images` gives to image files, without reading pixels.

    Parameters
    ----------
    source : folder, zip file, list of image files, or list of images
        As for `load_images`.

    Returns
    -------
    list of str
        Base names without extension: sorted, or in the order of the list. Positions of what is no file.

    Raises
    ------
    FileNotFoundError
        No such file or folder, or no image in it.
    ValueError
        Two files with the same base name, or neither a folder nor a zip file.

    See Also
    --------
    load_images : load the images themselves.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("owl.png", "cat.jpg", "notes.txt"):
    ...     (folder / name).touch()
    >>> image_labels(folder)
    ['cat', 'owl']
    """
    return _list_images(source, by_folder=False)[0]


def check_images(images: xr.DataArray) -> xr.DataArray:
    """Return images with their dims in standard order, or raise an error that says what is wrong with them.

    Parameters
    ----------
    images : DataArray with dims stimulus, row, column, channel
        RGB in uint8, with labels on `stimulus`.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        The same data, transposed.

    Raises
    ------
    TypeError
        Not a DataArray, or not uint8.
    ValueError
        Other dims, labels missing or repeated, or not three channels.

    See Also
    --------
    load_images : load images in this layout.
    neurosuper.responses.check_responses : the same for responses.

    Examples
    --------
    >>> from neurosuper import load_images
    >>> import numpy as np
    >>> check_images(load_images(np.zeros((2, 8, 8, 3), np.uint8))).sizes["row"]
    8
    """
    if not isinstance(images, xr.DataArray):
        raise TypeError(f"images must be an xarray.DataArray, got {type(images).__name__}; see load_images")
    if set(images.dims) != set(DIMS):
        raise ValueError(f"images need the dims {DIMS}, got {images.dims}; see load_images")
    images = check_labels(images, "stimulus", "images")
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8 (0 to 255), got {images.dtype}; multiply [0, 1] by 255 and round")
    if images.sizes["channel"] != 3:
        raise ValueError(f"images need 3 channels (RGB), got {images.sizes['channel']}; see load_images")
    return images.transpose(*DIMS)


def _from_array(source: Any, size: int | tuple[int, int] | None) -> xr.DataArray:
    if not isinstance(source, xr.DataArray):
        pixels = as_pixels(source, DIMS[:3])
        source = xr.DataArray(pixels, dims=DIMS, coords={"stimulus": _positions(len(pixels))}, name="image")
    images = check_images(source)
    if CONTENT not in images.coords:
        unknown = [""] * images.sizes["stimulus"]  # digests need all pixels, and reading a lazy stack takes long
        images = images.assign_coords({CONTENT: ("stimulus", unknown if images.chunks else digests_of(images))})
    return images if size is None else _resize_stack(images, _as_shape(size))


def _positions(n_images: int) -> list[str]:
    return [str(i).zfill(len(str(n_images - 1))) for i in range(n_images)]


def _resize_stack(images: xr.DataArray, shape: tuple[int, int]) -> xr.DataArray:
    def resize(block: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(_resize(Image.fromarray(image), shape)) for image in block])

    return xr.apply_ufunc(
        resize,
        images,
        input_core_dims=[["row", "column", "channel"]],
        output_core_dims=[["row", "column", "channel"]],
        exclude_dims={"row", "column"},
        dask="parallelized",
        output_dtypes=[np.uint8],
        dask_gufunc_kwargs={"output_sizes": {"row": shape[0], "column": shape[1]}, "allow_rechunk": True},
        keep_attrs=True,
    )


def _list_images(source: object, by_folder: bool) -> tuple[list[str], list[str], list[Opener]]:
    """Return label, name and opener of every image: in the order of a list, else sorted by label."""
    if isinstance(source, str | Path):
        files = find_files(Path(source))
    else:
        items = _as_list(source)
        if not isinstance(items[0], str | Path):
            if by_folder:
                raise ValueError("category_from='folder' is for files; give a dict of labels, from '0' on, or None")
            labels = _positions(len(items))
            return labels, labels, [opener_of(item) for item in items]
        files = check_files([Path(item) for item in items])
    labels = _label_files(files, by_folder)
    order = list(range(len(files)))
    if isinstance(source, str | Path):
        order.sort(key=labels.__getitem__)
    return [labels[i] for i in order], [files[i][0] for i in order], [files[i][1] for i in order]


def _as_list(source: object) -> list:
    """Return a list of paths or of images in memory, or raise an error that says what images may be loaded from."""
    allowed = (
        "give a folder, a zip file, a list of image files, of PIL images or of tensors, or an array (stimulus, row, "
        "column, channel)"
    )
    if not isinstance(source, Sequence | np.ndarray | pd.Series | pd.Index) or isinstance(source, bytes):
        unordered = " (its files have no order: pass sorted(files))" if isinstance(source, Set | Iterator) else ""
        raise TypeError(f"images cannot be loaded from {type(source).__name__}; {allowed}{unordered}")
    items = list(source)
    if not items:
        raise FileNotFoundError("the list of images is empty; give at least one")
    is_path = isinstance(items[0], str | Path)
    for item in items:
        if not (isinstance(item, str | Path) if is_path else is_picture(item)):
            kinds = " and ".join(sorted({type(items[0]).__name__, type(item).__name__}))
            pairs = "; if the images are in pairs, pass [image for image, _ in pairs]" if type(item) is tuple else ""
            raise TypeError(f"images cannot be loaded from a {type(source).__name__} of {kinds}; {allowed}{pairs}")
    return items


def _label_files(files: list[tuple[str, Opener]], by_folder: bool) -> list[str]:
    """Return base names without extension, or `folder/name` where folders are categories and base names repeat."""
    paths = [PurePosixPath(name) for name, _ in files]
    labels = clean_labels([path.stem for path in paths])
    if by_folder and len(set(labels)) < len(labels):
        labels = clean_labels([f"{path.parent.name}/{path.stem}" for path in paths])
    first: dict[str, PurePosixPath] = {}
    for label, path in zip(labels, paths, strict=True):
        if label in first:
            remedy = "" if by_folder else ", or, where folders are categories, use load_images(category_from='folder')"
            raise ValueError(f"two images have the label {label!r}: {first[label]} and {path}; rename one{remedy}")
        first[label] = path
    return labels


def _as_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = np.asarray(size)
    if sides.shape not in ((), (2,)) or sides.dtype.kind not in "iu" or sides.min() < 1:
        raise ValueError(f"size must be a positive int or (rows, columns) in pixels, got {size!r}")
    rows, columns = np.broadcast_to(sides, 2).tolist()
    return rows, columns


def _common_size(names: list[str], openers: list[Opener], size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Return (rows, columns) of the stack: `size` if given, else the size that all files share."""
    if size is not None:
        return _as_shape(size)
    sizes: dict[tuple[int, int], str] = {}
    for name, read in zip(names, openers, strict=True):
        sizes.setdefault(upright_size(name, read), name)
    if len(sizes) > 1:
        examples = ", ".join(f"{rows}×{columns} ({name})" for (rows, columns), name in list(sizes.items())[:3])
        raise ValueError(f"images differ in size: {examples}; pass size=(rows, columns) to resize them")
    return next(iter(sizes))


def _read(name: str, read: Opener, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Return one image as (row, column, channel) uint8 RGB, and the digest of its pixels before resizing."""
    image = read_rgb(name, read)
    return np.asarray(_resize(image, shape)), digest_of(np.asarray(image))


def _resize(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    return image if image.size == shape[::-1] else image.resize(shape[::-1], Image.Resampling.BICUBIC)


def _read_stack(names: list[str], openers: list[Opener], shape: tuple[int, int]) -> tuple[Any, list[str] | None]:
    """Return (stimulus, row, column, channel) and digests; a large stack is a dask array without digests."""
    files = list(zip(names, openers, strict=True))

    def block(start: int, stop: int) -> np.ndarray:
        return np.stack([_read(name, read, shape)[0] for name, read in files[start:stop]])

    bytes_each = shape[0] * shape[1] * 3
    if len(files) * bytes_each <= LAZY_BYTES:
        stack, digests = np.empty((len(files), *shape, 3), np.uint8), []
        for i, (name, read) in enumerate(progress(files, desc="images", unit="image")):
            stack[i], digest = _read(name, read, shape)
            digests.append(digest)
        return stack, digests
    chunk = int(np.clip(BLOCK_BYTES // bytes_each, 1, CHUNK))
    import dask
    import dask.array as da

    blocks = []
    for start in range(0, len(files), chunk):
        stop = min(start + chunk, len(files))
        blocks.append(da.from_delayed(dask.delayed(block)(start, stop), (stop - start, *shape, 3), np.uint8))
    return da.concatenate(blocks), None


def _from_mapping(labels: Iterable[str], mapping: object) -> list[str] | None:
    if mapping is None:
        return None
    if not isinstance(mapping, Mapping):
        got = repr(mapping) if isinstance(mapping, str) else type(mapping).__name__
        raise ValueError(f"category_from must be 'folder' (for files), a dict of labels, or None, got {got}")
    labels, mapping = list(labels), {clean_label(str(label)): category for label, category in mapping.items()}
    if missing := [label for label in labels if label not in mapping]:
        raise ValueError(f"category_from has no category for stimulus {name_some(missing)}; add it")
    return [str(mapping[label]) for label in labels]
