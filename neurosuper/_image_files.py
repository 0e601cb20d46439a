"""Find and open image files, within limits on bytes and pixels: a few bytes can declare any number of pixels."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath, PurePosixPath

from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from neurosuper._checks import one_line
from neurosuper._labels import IMAGE_SUFFIXES, name_some

__all__ = ["Opener", "check_archive", "check_files", "find_files", "naming_image", "open_image", "orientation_of"]

Opener = Callable[[], Image.Image]

# Formats that are decoded, for any file name. Other decoders of Pillow start other programs (EPS: Ghostscript).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Formats of photographs, drawings and movies that are not read: such files in a folder are counted and named.
OTHER_SUFFIXES = {
    *(".avif", ".dib", ".emf", ".eps", ".exr", ".heic", ".heif", ".j2k", ".jp2", ".jxl", ".pcx", ".psd", ".svg"),
    *(".svgz", ".tga", ".wmf", ".xcf"),
    *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".raw", ".rw2"),
    *(".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"),
}
SUFFIXES = IMAGE_SUFFIXES | OTHER_SUFFIXES
MAX_PIXELS = 2**26  # per image, 8192 × 8192; photographs of stimulus sets have about 20 times fewer
MAX_BYTES = 4 * MAX_PIXELS  # per file: that number of pixels, uncompressed, 4 bytes each
# Deflate expands one byte to at most 1032 bytes. A zip file that declares more has overlapping members or no pictures.
DEFLATE_RATIO, MAX_RATIO = 1032, 2000
PNG_BITS = {"LA": 16, "RGB": 24, "RGBA": 32}  # per pixel; other modes may have one bit
IMAGE_LENGTH = 257  # TIFF tag: number of rows
FREE_BYTES = 2**30  # of all members together; below this any ratio is harmless


def find_files(path: Path) -> list[tuple[str, Opener]]:
    """Return name and opener of every image file in a folder or zip file.

    Raises
    ------
    FileNotFoundError
        No such file or folder, or no image in it.
    ValueError
        Neither a folder nor a readable zip file.

    Warns
    -----
    UserWarning
        Some images have formats that are not read.
    """
    if not path.exists():
        raise FileNotFoundError(f"no images at {path}; give a folder, a zip file or a list of files")
    if path.is_file() and path.suffix.lower() != ".zip":
        raise ValueError(f"{path} is neither a folder nor a zip file; to load single files, pass a list of them")
    listed = _zip_files(path) if path.is_file() else _folder_files(path)
    found = [(inside, file) for inside, file in listed if inside.suffix.lower() in IMAGE_SUFFIXES]
    # The negative or the movie of a photograph has its name, and is no stimulus of its own.
    read = {inside.with_suffix("") for inside, _ in found}
    others = sorted(inside.as_posix() for inside, _ in listed if inside.with_suffix("") not in read)
    counts = Counter(PurePath(name).suffix.lower() for name in others)
    unread = ", ".join(f"{n} {suffix}" for suffix, n in counts.most_common())
    if not found:
        instead = f", found {unread}, which are not read: convert them to .png" if others else ""
        raise FileNotFoundError(f"no image in {path}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}{instead}")
    if others:
        warnings.warn(
            f"images in {path} are left out, because their formats are not read ({unread}): {name_some(others)}; "
            "convert them to .png, or remove them",
            stacklevel=4,
        )
    return [file for _, file in found]


def check_files(paths: list[Path]) -> list[tuple[str, Opener]]:
    """Return name and opener of every file of a list.

    Raises
    ------
    FileNotFoundError
        A file does not exist.
    """
    if missing := [str(p) for p in paths if not p.is_file()]:
        raise FileNotFoundError(f"no such image file: {name_some(missing)}; check the paths")
    return [(p.as_posix(), partial(_open_file, p)) for p in paths]


def _folder_files(folder: Path) -> list[tuple[PurePath, tuple[str, Opener]]]:
    """Return the path inside, the name and the opener of every image in a folder, also of formats that are not read."""
    files = [(file.relative_to(folder), file) for file in folder.rglob("*")]
    return [
        (inside, (file.as_posix(), partial(_open_file, file)))
        for inside, file in files
        if _is_image(inside) and file.is_file()
    ]


def _zip_files(path: Path) -> list[tuple[PurePath, tuple[str, Opener]]]:
    """Return the same of a zip file."""
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a readable zip file; it may be cut short, fetch it again") from error
    check_archive(archive, path)
    files = [  # Windows separates folders by backslashes
        (PurePosixPath(name.replace("\\", "/")), partial(_open_member, archive, name)) for name in archive.namelist()
    ]
    return [(inside, (f"{path.name}/{inside}", read)) for inside, read in files if _is_image(inside)]


def _is_image(path: PurePath) -> bool:
    is_hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not is_hidden


def _open_file(path: Path) -> ImageFile.ImageFile:
    """Return an opened image file, if it has at most `MAX_BYTES`."""
    _check_bytes(path.stat().st_size)
    return open_image(path.read_bytes())


def _open_member(archive: zipfile.ZipFile, name: str) -> ImageFile.ImageFile:
    """Return an opened image in a zip file, if it has at most `MAX_BYTES`, which is checked before it is unpacked."""
    _check_bytes(archive.getinfo(name).file_size)
    return open_image(archive.read(name))


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
