"""Read and open image files within limits on bytes and pixels, because a few bytes can declare any number of pixels."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from neurosuper._checks import one_line

__all__ = ["check_archive", "naming_image", "open_image", "orientation_of", "read_file", "read_member"]

# Formats that are decoded, for any file name. Other decoders of Pillow start other programs (EPS: Ghostscript).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 2**26  # per image, 8192 × 8192; photographs of stimulus sets have about 20 times fewer
MAX_BYTES = 4 * MAX_PIXELS  # per file: that number of pixels, uncompressed, 4 bytes each
# Deflate expands one byte to at most 1032 bytes. A zip file that declares more has overlapping members or no pictures.
DEFLATE_RATIO, MAX_RATIO = 1032, 2000
PNG_BITS = {"LA": 16, "RGB": 24, "RGBA": 32}  # per pixel; other modes may have one bit
IMAGE_LENGTH = 257  # TIFF tag: number of rows
FREE_BYTES = 2**30  # of all members together; below this any ratio is harmless


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises
    ------
    ValueError
        More than `MAX_BYTES`.
    """
    _check_bytes(path.stat().st_size)
    return path.read_bytes()


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of an image in a zip file.

    Raises
    ------
    ValueError
        More than `MAX_BYTES`, checked before anything is unpacked.
    """
    _check_bytes(archive.getinfo(name).file_size)
    return archive.read(name)


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"it has {size / 1e6:,.0f} MB, but an image file may have {MAX_BYTES / 1e6:,.0f} MB")


def check_archive(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip file that unpacks to far more than it can contain.

    Raises
    ------
    ValueError
        More than `FREE_BYTES` together, and more than `MAX_RATIO` bytes per byte of the zip file.
    """
    unpacked, packed = sum(member.file_size for member in archive.infolist()), path.stat().st_size
    if unpacked > max(FREE_BYTES, MAX_RATIO * packed):
        raise ValueError(
            f"{path} would unpack to {unpacked / 1e9:,.1f} GB, though it has {packed / 1e6:,.3f} MB; it is damaged or "
            "contains no images; fetch it again"
        )


def open_image(content: bytes) -> ImageFile.ImageFile:
    """Return an opened image: its header is read, its pixels are not.

    Raises
    ------
    ValueError
        More than `MAX_PIXELS`, or fewer rows than the file declares.
    Exception
        Any exception that Pillow raises on broken bytes.

    Examples
    --------
    >>> content = io.BytesIO()
    >>> Image.new("L", (6, 4)).save(content, "PNG")
    >>> open_image(content.getvalue()).size
    (6, 4)
    """
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"it declares {width} × {height} pixels, but an image may have {MAX_PIXELS:,}")
    # If rows are missing in a PNG or a TIFF file, Pillow fills them with black.
    n_bytes = height * (1 + width * PNG_BITS.get(image.mode, 1) // 8)
    if image.format == "PNG" and n_bytes > DEFLATE_RATIO * len(content):
        raise ValueError(f"it declares {width} × {height} pixels, but has only {len(content)} bytes")
    extents = [tile[1] for tile in image.tile]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        declared = image.tag_v2.get(IMAGE_LENGTH, height)  # as stored; `image.size` is the size after rotation
        n_rows = max((extent[3] for extent in extents if extent), default=declared)
        if n_rows < declared:
            raise ValueError(f"it declares {declared} rows of pixels, but contains {n_rows}")
    return image


@contextmanager
def naming_image(name: str) -> Iterator[None]:
    """Name the image in the error if a decoder fails; on damaged bytes, decoders raise exceptions of any type."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read image {name}: unknown format; replace or remove it") from error
    except Exception as error:
        raise ValueError(f"cannot read image {name}: {one_line(error)}; replace or remove it") from error


def orientation_of(image: Image.Image, name: str) -> object:
    """Return the EXIF orientation; 1 (upright) for TIFF, which Pillow rotates itself."""
    with naming_image(name):
        return image.getexif().get(ExifTags.Base.Orientation, 1) if "exif" in image.info else 1
