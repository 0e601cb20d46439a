"""Pixels of one image as 8-bit RGB, from a file, a PIL image, an array or a tensor; others are refused by name."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from neurosuper._image_files import Opener, naming_image, orientation_of

__all__ = ["as_pixels", "is_array", "is_picture", "open_checked", "opener_of", "read_rgb", "upright_size"]

ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that exchange rows and columns
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # Pillow modes that convert to 8-bit RGB in one way only
GREY = "repeat grey images along an axis of 3"


def open_checked(name: str, read: Opener) -> Image.Image:
    """Return an image after reading its header only.

    Raises
    ------
    ValueError
        An image that is not 8-bit RGB, grey or palette, or a file of more than one.
    """
    with naming_image(name):
        image = read()
        # The others of an MPO file, as phones write them, are a preview or a map of depth.
        is_one = image.format == "MPO" or not getattr(image, "is_animated", False)
        n_frames = 1 if is_one else image.n_frames  # type: ignore[attr-defined]
    if n_frames > 1:
        raise ValueError(f"image {name} has {n_frames} frames; save the one that was shown as an image of its own")
    depth = " of 16 bit" if any(";16" in str(tile) for tile in getattr(image, "tile", ())) else ""
    if depth or image.mode not in MODES:
        raise ValueError(
            f"image {name} has mode {image.mode}{depth}, which has no single meaning as 8-bit RGB; save it as 8-bit RGB"
        )
    return image


def upright_size(name: str, read: Opener) -> tuple[int, int]:
    """Return (rows, columns) of an image as viewers show it, after reading its header only."""
    image = open_checked(name, read)
    width, height = image.size
    return (width, height) if orientation_of(image, name) in ON_ITS_SIDE else (height, width)


def read_rgb(name: str, read: Opener) -> Image.Image:
    """Return an image in 8-bit RGB, rotated as its EXIF orientation says.

    Raises
    ------
    ValueError
        As `open_checked`; broken pixels, or partly transparent ones.
    """
    image = open_checked(name, read)
    orientation = orientation_of(image, name)
    with naming_image(name):
        image.load()
        upright = image if orientation == 1 else ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        if np.asarray(upright)[..., 3].min() < 255:
            raise ValueError(
                f"image {name} is partly transparent; draw it on the background that was shown and save it as RGB"
            )
    return upright.convert("RGB")


def is_array(value: object) -> bool:
    """Return whether a value is a plain array or tensor of numbers in memory."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "UOT"
    return _is_tensor(value)


def is_picture(value: object) -> bool:
    """Return whether a value may be one image in memory."""
    return isinstance(value, Image.Image) or is_array(value)


def opener_of(picture: object) -> Opener:
    """Return a function that returns one image in memory as a PIL image."""
    return partial(_as_pil, picture)


def _as_pil(picture: object) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else Image.fromarray(as_pixels(picture, ("row", "column")))


def as_pixels(values: object, dims: tuple[str, ...]) -> np.ndarray:
    """Return an array or tensor in uint8, with channels last.

    Parameters
    ----------
    values : array or tensor
        In uint8, or floats from 0 to 1. Channels are its last axis, or the third from the end, as in tensors of
        torch. Where both have a length of 3, they are last in an array, and the third from the end in a tensor.
    dims : tuple of str
        Names of the axes other than that of channels, for errors.

    Returns
    -------
    array (…, row, column, channel)

    Raises
    ------
    TypeError, ValueError
        Another dtype or shape, or values outside [0, 1].
    """
    array = _to_numpy(values)
    layouts = [(*dims, "channel"), (*dims[:-2], "channel", *dims[-2:])]
    if array.ndim != len(dims) + 1:
        allowed = " or ".join(f"({', '.join(layout)})" for layout in layouts)
        one = ", pass x[None] if it is one image" if array.ndim == 3 else ""
        raise ValueError(f"an image array is {allowed}, got shape {array.shape}; {GREY}{one}")
    is_last, is_first = array.shape[-1] == 3, array.shape[-3] == 3
    if not is_last and not is_first:
        raise ValueError(f"images need 3 channels (RGB), last or before rows, got shape {array.shape}; {GREY}")
    array = np.moveaxis(array, -3, -1) if is_first and (_is_tensor(values) or not is_last) else array
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise TypeError(f"images must be uint8 (0 to 255), or floats from 0 to 1, got {array.dtype}; convert them")
    low, high = array.min(initial=0), array.max(initial=0)
    if not (low >= 0 and high <= 1):  # nor NaN
        found = f"{low:g} to {high:g}"
        raise ValueError(f"images of floats must be from 0 to 1, got {found}; undo a normalisation, or pass uint8")
    return np.rint(array * array.dtype.type(255)).astype(np.uint8)


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")  # who has a tensor has imported it
    return torch is not None and isinstance(value, torch.Tensor)


def _to_numpy(values: object) -> np.ndarray:
    if not _is_tensor(values):
        return np.asarray(values)
    tensor = values.detach().cpu()  # type: ignore[attr-defined]
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
