"""Images: one labelled stack, `(stimulus, row, column, channel)`, uint8 RGB, lazy where large.

Labels are base names of files without extension; they join images to responses. Images of a folder or zip file are
sorted by label; a list of files keeps its order.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image, ImageFile, ImageOps

from neurosuper._content import CONTENT, digest_of, digests_of
from neurosuper._image_files import check_archive, naming_image, open_image, orientation_of, read_file, read_member
from neurosuper._labels import IMAGE_SUFFIXES, check_labels, clean_label, clean_labels, name_some
from neurosuper._progress import progress

__all__ = ["check_images", "image_labels", "load_images"]

DIMS = ("stimulus", "row", "column", "channel")
LAZY_BYTES = 2**30  # bytes; a larger stack is a dask array, so that it need not fit in memory
CHUNK = 64  # images per chunk of a lazy stack, at most: what metrics embed at once
BLOCK_BYTES = 2**28  # bytes per chunk, at most; chunks of large images have fewer
ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # Pillow modes that convert to 8-bit RGB in one way only
Source = str | Path | Sequence[str | Path] | np.ndarray | xr.DataArray
Opener = Callable[[], bytes]


def load_images(
    source: Source,
    *,
    size: int | tuple[int, int] | None = None,
    category_from: Literal["folder"] | Mapping[str, str] | None = None,
) -> xr.DataArray:
    """Return images from files or an array as one labelled stack.

    Parameters
    ----------
    source : folder, zip file, list of image files, or array
        Folders and zip files are searched with all their subfolders, except for hidden names (`.x`), and sorted by
        label, as text. A list keeps its order. An array is `(stimulus, row, column, channel)`, uint8; its stimuli are
        named by their position, unless it is a DataArray with labels.
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
        Neither files nor an array, or files without an order.
    ValueError
        Two files with the same base name, sizes that differ without `size`, an unreadable file, one of more than
        8192 × 8192 pixels, or pixels that have no single meaning as 8-bit RGB (CMYK, transparency, 16 bit): each is
        named. Grey and palette images become RGB.

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
    if isinstance(source, xr.DataArray) or (isinstance(source, np.ndarray) and source.dtype.kind not in "UO"):
        images = _from_array(source, size)
        category = _from_mapping(images.stimulus.values, category_from)
        return images if category is None else images.assign_coords(category=("stimulus", category))
    labels, names, openers = _list_files(source, category_from == "folder")
    shape = _common_size(names, openers, size)
    stack, digests = _read_stack(names, openers, shape)
    images = xr.DataArray(
        stack,
        dims=DIMS,
        coords={"stimulus": labels, "channel": ["red", "green", "blue"]}
        | {CONTENT: ("stimulus", [""] * len(labels) if digests is None else digests)},
        name="image",
        attrs={"source": str(source) if isinstance(source, str | Path) else f"{len(names)} files"},
    )
    folders = [PurePosixPath(name).parent.name for name in names]
    category = folders if category_from == "folder" else _from_mapping(labels, category_from)
    return images if category is None else images.assign_coords(category=("stimulus", category))


def image_labels(source: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the labels that `load_images` gives to image files, without reading pixels.

    Parameters
    ----------
    source : folder, zip file, or list of image files
        As for `load_images`.

    Returns
    -------
    list of str
        Base names without extension: sorted, or in the order of the list.

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
    return _list_files(source, by_folder=False)[0]


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


def _from_array(source: np.ndarray | xr.DataArray, size: int | tuple[int, int] | None) -> xr.DataArray:
    if isinstance(source, np.ndarray):
        if source.ndim != 4:
            raise ValueError(
                f"an image array is (stimulus, row, column, channel), got shape {source.shape}; "
                "repeat grey images along a last axis of 3"
            )
        labels = [str(i).zfill(len(str(len(source) - 1))) for i in range(len(source))]
        source = xr.DataArray(source, dims=DIMS, coords={"stimulus": labels}, name="image")
    images = check_images(source)
    if CONTENT not in images.coords:
        unknown = [""] * images.sizes["stimulus"]  # digests need all pixels, and reading a lazy stack takes long
        images = images.assign_coords({CONTENT: ("stimulus", unknown if images.chunks else digests_of(images))})
    return images if size is None else _resize_stack(images, _as_shape(size))


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


def _list_files(source: Source, by_folder: bool) -> tuple[list[str], list[str], list[Opener]]:
    """Return label, name and opener of every image file: in the order of a list, else sorted by label."""
    files = _find_files(source)
    labels = _label_files(files, by_folder)
    order = list(range(len(files)))
    if isinstance(source, str | Path):
        order.sort(key=labels.__getitem__)
    return [labels[i] for i in order], [files[i][0] for i in order], [files[i][1] for i in order]


def _find_files(source: Source) -> list[tuple[str, Opener]]:
    """Return (name, function that reads the bytes) for every image file."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.exists():
            raise FileNotFoundError(f"no images at {path}; give a folder, a zip file or a list of files")
        if path.is_file() and path.suffix.lower() != ".zip":
            raise ValueError(f"{path} is neither a folder nor a zip file; to load single files, pass a list of them")
        found = _zip_files(path) if path.is_file() else _folder_files(path)
        if not found:
            raise FileNotFoundError(f"no image in {path}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
        return found
    paths = _as_paths(source)
    if missing := [str(p) for p in paths if not p.is_file()]:
        raise FileNotFoundError(f"no such image file: {name_some(missing)}; check the paths")
    if not paths:
        raise FileNotFoundError("the list of image files is empty; give at least one")
    return [(p.as_posix(), partial(read_file, p)) for p in paths]


def _as_paths(source: object) -> list[Path]:
    """Return a list of paths, or raise an error that says what images may be loaded from."""
    allowed = "give a folder, a zip file, a list of image files, or an array (stimulus, row, column, channel) of uint8"
    if not isinstance(source, Sequence | np.ndarray | pd.Series | pd.Index) or isinstance(source, bytes):
        unordered = " (its files have no order: pass sorted(files))" if isinstance(source, Set | Iterator) else ""
        raise TypeError(f"images cannot be loaded from {type(source).__name__}; {allowed}{unordered}")
    items = list(source)
    if wrong := [item for item in items if not isinstance(item, str | Path)]:
        raise TypeError(
            f"images cannot be loaded from a {type(source).__name__} of {type(wrong[0]).__name__}; {allowed}"
        )
    return [Path(item) for item in items]


def _folder_files(folder: Path) -> list[tuple[str, Opener]]:
    paths = [p for p in folder.rglob("*") if _is_image(p.relative_to(folder)) and p.is_file()]
    return [(p.as_posix(), partial(read_file, p)) for p in paths]


def _zip_files(path: Path) -> list[tuple[str, Opener]]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a readable zip file; it may be cut short, fetch it again") from error
    check_archive(archive, path)
    names = [(name, name.replace("\\", "/")) for name in archive.namelist()]  # Windows separates folders by backslashes
    images = [(name, shown) for name, shown in names if _is_image(PurePosixPath(shown))]
    return [(f"{path.name}/{shown}", partial(read_member, archive, name)) for name, shown in images]


def _is_image(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in path.parts)


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
        image = _open(name, read)
        width, height = image.size
        sizes.setdefault((width, height) if orientation_of(image, name) in ON_ITS_SIDE else (height, width), name)
    if len(sizes) > 1:
        examples = ", ".join(f"{rows}×{columns} ({name})" for (rows, columns), name in list(sizes.items())[:3])
        raise ValueError(f"images differ in size: {examples}; pass size=(rows, columns) to resize them")
    return next(iter(sizes))


def _open(name: str, read: Opener) -> ImageFile.ImageFile:
    """Return an image after reading its header only; raise an error if it is not 8-bit RGB, grey or palette."""
    with naming_image(name):
        image = open_image(read())
    depth = " of 16 bit" if any(";16" in str(tile) for tile in image.tile) else ""
    if depth or image.mode not in MODES:
        raise ValueError(
            f"image {name} has mode {image.mode}{depth}, which has no single meaning as 8-bit RGB; save it as 8-bit RGB"
        )
    return image


def _read(name: str, read: Opener, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Return one image as (row, column, channel) uint8 RGB, and the digest of its pixels before resizing."""
    image = _open(name, read)
    orientation = orientation_of(image, name)
    with naming_image(name):
        image.load()
        upright = image if orientation == 1 else ImageOps.exif_transpose(image)
    upright = _to_rgb(upright, name)
    return np.asarray(_resize(upright, shape)), digest_of(np.asarray(upright))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise ValueError(
                f"image {name} is partly transparent; draw it on the background that was shown and save it as RGB"
            )
    return image.convert("RGB")


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
