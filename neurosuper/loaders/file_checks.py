"""Files: say in one line why a file cannot be read, and arrange what was read by stimulus and repetition."""

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

if TYPE_CHECKING:
    import h5py

__all__ = ["HDF5_MAGIC", "check_file", "name_of", "open_hdf5", "read_mat"]

Kind = Literal["HDF5", "NWB", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"]
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
H5_ERROR = re.compile(r"Can't|[Uu]nable to|[Nn]o appropriate function")
LOCKED = re.compile(r"unable to lock file|already open for write|file consistency flags")
URL = re.compile(r"(https?|ftp|file|s3|gs|az|dandi):/", re.IGNORECASE)  # Path makes one slash of two
ZARR_PARTS = (".zgroup", ".zattrs", ".zmetadata", "zarr.json")
MAX_JSON = 2**28  # bytes
MAX_VARIABLES = 2**16  # of a MATLAB file
# A volume of voxels: 400³ as complex numbers of 16 bytes; the largest atlas of a human brain at 0.5 mm has a fifth.
MAX_VOLUME = 2**30  # bytes
MAX_EXTENSIONS = 2**26  # bytes between the header of NIfTI and its voxels
MAX_TAIL = 2**20  # bytes behind them that are still unpacked, to reach the checksum of a file that is as it should be


def check_file(path: str | PathLike, kind: Kind) -> Path:
    """Return the path of a file, or say in one line why it cannot be of a kind.

    Parameters
    ----------
    path : path
    kind : {"HDF5", "NWB", "netCDF", "MATLAB", "NIfTI", "CSV", "JSON"}
        "NWB" is any HDF5; "netCDF" 3 or 4; "MATLAB" 5 to 7.3; "NIfTI" 1 or 2, also gzipped.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        No file there.
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
            f"{path} is a URL, and {kind} is read from a file: download it, or where a stream is allowed pass that "
            "(such as remfile.File(url))"
        )
    path = Path(path).expanduser()
    if not path.is_file():
        if any((path / name).exists() for name in ZARR_PARTS):
            raise ValueError(
                f"{path} is a folder of Zarr, not a file of {kind}; export it to {kind} (for NWB: hdmf_zarr)"
            )
        which = ", which is a folder" if path.is_dir() else ""
        raise FileNotFoundError(f"no {kind} file at {path}{which}; check the path")
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(0)
        fault = _detect_placeholder(head, kind) or CHECKS[kind](file, head, path.stat().st_size)
    if fault:
        raise ValueError(f"{path} cannot be read as {kind}: {fault}")
    return path


def _detect_placeholder(head: bytes, kind: Kind) -> str:
    """Return what stands in place of the data, if anything, and what to do."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "it is empty; fetch it again"
    if text.startswith(b"version https://git-lfs"):
        return "it looks like a git-lfs pointer; fetch it again with `git lfs pull`"
    if b"/annex/objects/" in head and len(head) < 1024:
        return "it looks like a git-annex pointer; fetch it again with `git annex get`"
    if kind != "JSON" and text.startswith(b"{") and (b'"refs"' in text or b'"generationmetadata"' in text):
        return "it is a JSON of references (lindi or kerchunk) to data elsewhere; open the file that it refers to"
    if text.startswith(PAGE_STARTS):
        return "it looks like a web page, such as an error or login page; fetch it again from the archive"
    return ""


def _other(kind: str) -> str:
    return f"it does not start as a {kind} file does; check the path, or fetch it again"


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
        told = one_line(error)
        if "signature not found" in told:
            return _other("HDF5")
        return f"it is cut short or damaged ({told}); fetch it again"
    return ""


def _check_netcdf(file: BinaryIO, head: bytes, size: int) -> str:
    if head[:3] == b"CDF" and head[3:4] in (b"\1", b"\2", b"\5"):
        return ""
    return _check_hdf5(file, head, size) if head.startswith(HDF5_MAGIC) else _other("netCDF")


def _check_matlab(file: BinaryIO, head: bytes, size: int) -> str:
    if head.startswith((b"MATLAB 7.3", HDF5_MAGIC)):
        return _check_hdf5(file, head, size)
    if len(head) < 128 or head[126:128] not in (b"IM", b"MI"):
        return _other("MATLAB")
    end, order = 128, "<" if head[126:128] == b"IM" else ">"
    for _ in range(MAX_VARIABLES):
        if end >= size:
            return _truncation_error(size, end)
        file.seek(end + 4)
        end += 8 + struct.unpack(order + "I", file.read(4).ljust(4, b"\0"))[0]
    return f"it has more than {MAX_VARIABLES} variables; it is damaged, fetch it again"


def _check_nifti(file: BinaryIO, head: bytes, size: int) -> str:
    try:
        if not head.startswith(b"\x1f\x8b"):
            return _truncation_error(size, _volume_end(head))
        with gzip.GzipFile(fileobj=file) as stream:
            head = stream.read(1024)
            end, size = _volume_end(head), len(head)
            # Unpacked no further than the volume goes, whatever is packed behind it.
            while size <= end + MAX_TAIL and (part := stream.read(1 << 20)):
                size += len(part)
    except (EOFError, OSError, zlib.error) as error:
        return f"it is cut short or damaged ({error}); fetch it again"
    except ValueError as error:
        return str(error)
    return _truncation_error(size, end)


def _volume_end(head: bytes) -> int:
    """Return how many bytes the header of a NIfTI file says that there are, or raise what is wrong with it."""
    for order in "<>" if len(head) >= 348 else "":
        length = struct.unpack_from(order + "i", head)[0]
        if length == 348 and head[344:348] == b"n+1\0":
            dims, bits = struct.unpack_from(order + "8h", head, 40), struct.unpack_from(order + "h", head, 72)[0]
            return _end_of(struct.unpack_from(order + "f", head, 108)[0], dims, bits)
        if length == 540 and head[4:8] == b"n+2\0":
            dims, bits = struct.unpack_from(order + "8q", head, 16), struct.unpack_from(order + "h", head, 14)[0]
            return _end_of(struct.unpack_from(order + "q", head, 168)[0], dims, bits)
    raise ValueError(_other("NIfTI"))


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
        return _other("CSV")
    return _other("CSV") if "\0" in text else ""


def _check_json(file: BinaryIO, head: bytes, size: int) -> str:
    if size > MAX_JSON:
        return f"it has {size / 1e6:.0f} MB, but JSON may have {MAX_JSON / 1e6:.0f} MB; check the path"
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
    """Open an HDF5 file for reading; whatever goes wrong in it meanwhile is said in one line that names the file.

    Every reader of HDF5 comes by here, so that what `check_contents` refuses is refused for all of them.

    Parameters
    ----------
    source : path, or binary file object that can seek
    kind : {"HDF5", "NWB", "netCDF"}, optional
        What to call it.
    allow_external : bool, optional
        Let the file take data from other files.

    Yields
    ------
    h5py.File

    Raises
    ------
    FileNotFoundError, ValueError
        As `check_file` does; data taken from other files, or declared and never stored (see `check_contents`); and a
        dataset that is missing, cannot be read, or does not fit into memory.
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
        told = " ".join(str(error).strip("'\"").split())
        if LOCKED.search(told):
            raise OSError(
                f"{name_of(source)} is locked: another program has it open for writing, or its file system cannot lock "
                "files; close it there, or set HDF5_USE_FILE_LOCKING=FALSE in the environment"
            ) from error
        if not H5_ERROR.search(told):
            raise
        raise ValueError(
            f"{name_of(source)} cannot be read as {kind}: {told}; it is damaged or of another layout, fetch it again"
        ) from error


def name_of(source: str | PathLike | BinaryIO) -> str:
    """Return the file name of a path, or of an opened file or stream as far as it has one.

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
    """Return some variables of a MATLAB file (5 to 7.2); those that it lacks are left out.

    Raises
    ------
    FileNotFoundError, ValueError
        As `check_file` does; and a file that is damaged, or of MATLAB 7.3.

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
