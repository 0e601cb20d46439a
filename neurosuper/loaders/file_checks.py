"""Verify a file before it is read; every error is one line that names the file and what to do."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from neurosuper._checks import one_line
from neurosuper.loaders.matlab_parts import MATRIX, has_whole_parts

if TYPE_CHECKING:
    import h5py

__all__ = ["HDF5_MAGIC", "check_file", "is_matlab_hdf5", "name_of", "open_hdf5", "read_mat"]

Kind = Literal["HDF5", "NWB", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"]
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
H5_ERROR = re.compile(r"Can't|[Uu]nable to|[Nn]o appropriate function")
LOCKED = re.compile(r"unable to lock file|already open for write|file consistency flags")
URL = re.compile(r"(https?|ftp|file|s3|gs|az|dandi):/", re.IGNORECASE)  # Path changes two slashes to one
ZARR_PARTS = (".zgroup", ".zattrs", ".zmetadata", "zarr.json")
EXPORT_ZARR = (
    "in an environment with hdmf-zarr, export it: NWBHDF5IO('session.nwb', 'w').export(src_io=NWBZarrIO(path, 'r'), "
    "write_args={'link_data': False}); if it refuses to unpickle and you trust the file, set the environment variable "
    "NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE=1"
)
MAX_JSON = 2**28  # bytes; metadata of a session have a few KB
MAX_VARIABLES = 2**16  # of a MATLAB file, whose headers are read one by one
# Bytes of a volume of voxels: 400³ complex numbers of 16 bytes. The largest atlases of a human brain, at 0.5 mm, have
# a fifth of it.
MAX_VOLUME = 2**30
MAX_EXTENSIONS = 2**26  # bytes between the header of a NIfTI file and its voxels, for extensions of the header
MAX_TAIL = 2**20  # bytes after the voxels that are still unpacked, to reach the checksum of an intact file


def check_file(path: str | PathLike, kind: Kind) -> Path:
    """Return the path of a file of the expected kind; else an error says in one line what it is.

    Parameters
    ----------
    path : path
        The file.
    kind : {"HDF5", "NWB", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"}
        "NWB" accepts any HDF5; "netCDF" 3 or 4; "MATLAB" 5 to 7.3; "NIfTI" 1 or 2, also gzipped.

    Returns
    -------
    Path
        The path, with the home folder of the user in place of "~".

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        A URL, a Zarr folder, an empty file, a pointer of git-lfs or git-annex, references to data elsewhere, a web
        page, a file of another kind, or one that is cut short.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "meta.json")
    >>> _ = path.write_text('{"session": 1}')
    >>> check_file(path, "JSON").name
    'meta.json'
    """
    if URL.match(str(path)):
        raise ValueError(
            f"{path} is a URL, and {kind} is read from a file: download it (published datasets: neurosuper.load or "
            "datasets.fetch, by id), or pass a stream if the loader accepts one (such as remfile.File(url))"
        )
    path = Path(path).expanduser()
    if not path.is_file():
        if any((path / name).exists() for name in ZARR_PARTS):
            export = EXPORT_ZARR if kind == "NWB" else f"export it to {kind}"
            raise ValueError(f"{path} is a Zarr folder, not a {kind} file; {export}")
        suffix = ", which is a folder" if path.is_dir() else ""
        raise FileNotFoundError(f"no {kind} file at {path}{suffix}; check the path")
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(0)
        fault = _detect_placeholder(head, kind) or CHECKS[kind](file, head, path.stat().st_size)
    if fault:
        raise ValueError(f"{path} cannot be read as {kind}: {fault}")
    return path


def _detect_placeholder(head: bytes, kind: Kind) -> str:
    """Return what a file contains in place of data (a pointer, a web page), and what to do; empty if neither."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty; fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "it looks like a git-lfs pointer; fetch it again with `git lfs pull`"
    if b"/annex/objects/" in head and len(head) < 1024:
        return "it looks like a git-annex pointer; fetch it again with `git annex get`"
    if kind != "JSON" and text.startswith(b"{") and (b'"refs"' in text or b'"generationmetadata"' in text):
        return "it is a JSON file of references (lindi or kerchunk) to data elsewhere; open the file that it refers to"
    if text.startswith(PAGE_STARTS):
        return "it looks like a web page, such as an error or login page; fetch it again from the archive"
    return ""


def _wrong_kind(kind: str) -> str:
    return f"it does not start like a {kind} file; check the path, or fetch it again"


def _truncation_error(has: int, needs: int) -> str:
    return f"it is cut short ({has} of {needs} bytes); fetch it again" if has < needs else ""


def _check_hdf5(file: BinaryIO, head: bytes, size: int) -> str:
    import h5py

    from neurosuper.loaders.external import heap_fault

    if fault := heap_fault(file, size):
        return fault
    try:
        h5py.File(file, "r").close()
    except (OSError, RuntimeError, KeyError) as error:
        reason = one_line(error)
        if _is_being_written(file.name):
            return ""  # opening it succeeds, or says that it is locked
        if "signature not found" in reason:
            return _wrong_kind("HDF5")
        return f"it is cut short or damaged ({reason}); fetch it again"
    return ""


def _is_being_written(path: str) -> bool:
    """Return whether a file whose bytes are incomplete is open for writing, in this process or in another."""
    import h5py

    try:
        h5py.File(path, "r").close()
    except OSError as error:
        return LOCKED.search(one_line(error)) is not None
    return True  # HDF5 has the rest in memory


def _check_netcdf(file: BinaryIO, head: bytes, size: int) -> str:
    # netCDF 3 starts with "CDF" and its version (classic, 64-bit offsets, 64-bit data); netCDF 4 is HDF5.
    if head[:3] == b"CDF" and head[3:4] in (b"\1", b"\2", b"\5"):
        return ""
    return _check_hdf5(file, head, size) if head.startswith(HDF5_MAGIC) else _wrong_kind("netCDF")


def _check_matlab(file: BinaryIO, head: bytes, size: int) -> str:
    if is_matlab_hdf5(head):
        return _check_hdf5(file, head, size)
    if len(head) < 128 or head[126:128] not in (b"IM", b"MI"):
        return _wrong_kind("MATLAB")
    # MATLAB 5 to 7.2: a header of 128 bytes that ends with the byte order, then variables, each with its type and its
    # number of bytes (4 + 4). The file is complete if the last variable ends where the file ends.
    end, order = 128, "<" if head[126:128] == b"IM" else ">"
    for _ in range(MAX_VARIABLES):
        if end >= size:
            return _truncation_error(size, end)
        file.seek(end)
        kind, n_bytes = struct.unpack(order + "II", file.read(8).ljust(8, b"\0"))
        start, end = end + 8, end + 8 + n_bytes
        if kind == MATRIX and end <= size and not has_whole_parts(file, start, end, order):
            return f"the parts of the variable at byte {start - 8} contradict each other; it is damaged, fetch it again"
    return f"it has more than {MAX_VARIABLES} variables; it is damaged, fetch it again"


def is_matlab_hdf5(head: bytes) -> bool:
    """Return whether a MATLAB file that starts with these 520 bytes is of version 7.3, which is HDF5.

    Examples
    --------
    >>> is_matlab_hdf5(b"MATLAB 5.0 MAT-file")
    False
    """
    return head.startswith((b"MATLAB 7.3", HDF5_MAGIC)) or head[512:520] == HDF5_MAGIC


def _check_nifti(file: BinaryIO, head: bytes, size: int) -> str:
    try:
        if not head.startswith(b"\x1f\x8b"):
            return _truncation_error(size, _volume_end(head))
        with gzip.GzipFile(fileobj=file) as stream:
            head = stream.read(1024)
            end, size = _volume_end(head), len(head)
            # Unpack no further than the end of the volume: a file may have any number of packed bytes after it.
            while size <= end + MAX_TAIL and (block := stream.read(1 << 20)):
                size += len(block)
    except (EOFError, OSError, zlib.error) as error:
        return f"it is cut short or damaged ({error}); fetch it again"
    except ValueError as error:
        return str(error)
    return _truncation_error(size, end)


def _volume_end(head: bytes) -> int:
    """Return the number of bytes of a NIfTI file according to its header; a ValueError describes a wrong header."""
    for order in "<>" if len(head) >= 348 else "":
        length = struct.unpack_from(order + "i", head)[0]
        # NIfTI-1: a header of 348 bytes, dim at 40 (int16), bitpix at 72, vox_offset at 108 (float32).
        if length == 348 and head[344:348] == b"n+1\0":
            dims, bits = struct.unpack_from(order + "8h", head, 40), struct.unpack_from(order + "h", head, 72)[0]
            return _end_of(struct.unpack_from(order + "f", head, 108)[0], dims, bits)
        # NIfTI-2: a header of 540 bytes, bitpix at 14, dim at 16 (int64), vox_offset at 168 (int64).
        if length == 540 and head[4:8] == b"n+2\0":
            dims, bits = struct.unpack_from(order + "8q", head, 16), struct.unpack_from(order + "h", head, 14)[0]
            return _end_of(struct.unpack_from(order + "q", head, 168)[0], dims, bits)
    raise ValueError(_wrong_kind("NIfTI"))


def _end_of(offset: float, dims: tuple[int, ...], bits: int) -> int:
    sides = dims[1 : 1 + dims[0]] if 1 <= dims[0] <= 7 else ()
    if not sides or min(sides) < 1 or not 0 <= offset <= MAX_EXTENSIONS or not 1 <= bits <= 256:
        raise ValueError(
            f"its header declares dims {dims} of {bits} bits from byte {offset}; it is damaged, fetch it again"
        )
    n_bytes = math.prod(sides) * bits // 8
    if n_bytes > MAX_VOLUME:
        raise ValueError(
            f"its header declares {n_bytes / 1e9:.1f} GB of voxels, but a volume may have {MAX_VOLUME / 1e9:.1f} GB; "
            "check the path"
        )
    return int(offset) + n_bytes


def _check_text(file: BinaryIO, head: bytes, size: int) -> str:
    try:
        text = head.decode("utf-8") if size <= len(head) else head[: head.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return _wrong_kind("CSV")
    return _wrong_kind("CSV") if "\0" in text else ""


def _check_json(file: BinaryIO, head: bytes, size: int) -> str:
    if size > MAX_JSON:
        return f"it has {size / 1e6:.0f} MB, but a JSON file may have {MAX_JSON / 1e6:.0f} MB; check the path"
    try:
        json.load(file)
    except (ValueError, RecursionError) as error:
        return f"{error}; fetch it again if it was cut short"
    return ""


CHECKS: dict[str, Callable[[BinaryIO, bytes, int], str]] = {
    "HDF5": _check_hdf5,
    "NWB": _check_hdf5,
    "netCDF": _check_netcdf,
    "MATLAB": _check_matlab,
    "NIfTI": _check_nifti,
    "CSV": _check_text,
    "JSON": _check_json,
}


@contextmanager
def open_hdf5(
    source: str | PathLike | BinaryIO,
    kind: Literal["HDF5", "NWB", "netCDF"] = "HDF5",
    *,
    allow_external: bool = False,
) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; errors of HDF5 within the block are one line that names the file.

    Every reader of HDF5 files uses this function, so that `check_contents` is applied to all of them.

    Parameters
    ----------
    source : path, or binary file object that can seek
        The file.
    kind : {"HDF5", "NWB", "netCDF"}, optional
        Name of the format in errors.
    allow_external : bool, optional
        Allow data from other files.

    Yields
    ------
    h5py.File
        The opened file.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `check_file`; data in other files, or declared and never stored (see `check_contents`); and a dataset
        that is missing, cannot be read, or does not fit into memory.
    OSError
        A file that is locked.

    Examples
    --------
    >>> import h5py, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.h5")
    >>> with h5py.File(path, "w") as file:
    ...     file["betas"] = [1, 2]
    >>> with open_hdf5(path) as file:
    ...     file["betas"][:].tolist()
    [1, 2]
    """
    import h5py

    from neurosuper.loaders.external import check_contents

    opened = check_file(source, kind) if isinstance(source, str | PathLike) else source
    try:
        with h5py.File(opened, "r") as file:
            check_contents(file, name_of(source), allow_external=allow_external)
            yield file
    except MemoryError as error:
        raise ValueError(f"{name_of(source)} declares more data than fit into memory; fetch it again") from error
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = one_line(error).strip("'\"")  # the text of a KeyError is quoted
        if LOCKED.search(reason):
            raise OSError(
                f"{name_of(source)} is locked: another program has it open for writing, or its file system cannot lock "
                "files; close it there, or set HDF5_USE_FILE_LOCKING=FALSE in the environment"
            ) from error
        if not H5_ERROR.search(reason):  # an error of the reader, not of HDF5
            raise
        raise ValueError(
            f"{name_of(source)} cannot be read as {kind}: {reason}; it is damaged or of another layout, fetch it again"
        ) from error


def name_of(source: str | PathLike | BinaryIO) -> str:
    """Return the file name of a path, an opened file or a stream; "the stream" if it has no name.

    Examples
    --------
    >>> name_of("data/session.nwb")
    'session.nwb'
    """
    named = (
        source if isinstance(source, str | PathLike) else getattr(source, "name", None) or getattr(source, "url", "")
    )
    return PurePosixPath(str(named).partition("?")[0].replace("\\", "/")).name or "the stream"


def read_mat(path: str | Path, names: Sequence[str]) -> dict[str, Any]:
    """Return the named variables of a MATLAB file (5 to 7.2); missing variables are left out.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `check_file`; and a file that is damaged, or of MATLAB 7.3.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from scipy.io import savemat
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.mat")
    >>> savemat(path, {"order": [1, 2]})
    >>> read_mat(path, ["order", "other"])["order"].tolist()
    [[1, 2]]
    """
    from scipy.io import loadmat

    path = check_file(path, "MATLAB")
    try:
        return loadmat(path, variable_names=names)
    except NotImplementedError as error:
        raise ValueError(f"{path} is of MATLAB 7.3; save it again with `save(…, '-v7')`") from error
    except MemoryError as error:
        raise ValueError(f"{path} declares more data than fit into memory; fetch it again") from error
    except Exception as error:  # scipy raises many kinds on damaged files
        reason = one_line(error)
        raise ValueError(f"{path} cannot be read as MATLAB: {reason}; it is damaged, fetch it again") from error
