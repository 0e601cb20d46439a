"""Check that the bytes of a file match the format in its name, for files without a digest."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from neurosuper.loaders.file_checks import PAGE_STARTS, check_file

__all__ = ["content_fault"]

KINDS: dict[str, Any] = {
    ".nwb": "NWB",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".nc": "netCDF",
    ".mat": "MATLAB",
    ".nii": "NIfTI",
    ".json": "JSON",
}
STARTS: dict[str, tuple[bytes, ...]] = {".npy": (b"\x93NUMPY",), ".gz": (b"\x1f\x8b",)}
IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II", b"MM", b"BM", b"GIF8", b"RIFF")
STARTS |= dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"), IMAGE_STARTS)  # often mixed up
ZIPPED = {".npz", ".zip"}
POINTER_START = b"version https://git-lfs"
MARKUP = {".html", ".htm", ".xhtml", ".xml", ".svg"}  # may start like a web page


def content_fault(path: Path, name: str) -> str:
    """Return why the bytes of a file do not match its name: a web page, a pointer, another format, or truncated.

    Parameters
    ----------
    path : Path
        The file, under any name.
    name : str
        Name or path that the file should have, with its suffix.

    Returns
    -------
    str
        Empty if no fault is found. For unknown suffixes, only web pages and pointers are recognised.

    See Also
    --------
    neurosuper.datasets.verify_cache : check all files in the cache.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.part")
    >>> _ = path.write_text("<html>Please log in</html>")
    >>> content_fault(path, "rates.npy")
    'it is a web page, such as a login page, or a pointer to data elsewhere'
    """
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    last = suffixes[-1] if suffixes else ""
    kind = "NIfTI" if suffixes[-2:] == [".nii", ".gz"] else KINDS.get(last)
    if kind is not None:
        return _fault_of_kind(path, kind)
    with path.open("rb") as file:
        head = file.read(1024)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    annexed = b"/annex/objects/" in head and len(head) < 1024
    if (annexed or text.startswith((*PAGE_STARTS, POINTER_START))) and last not in MARKUP:
        return "it is a web page, such as a login page, or a pointer to data elsewhere"
    if last in STARTS and not head.startswith(STARTS[last]):
        return f"it does not start like a {last} file"
    if last in ZIPPED and not zipfile.is_zipfile(path):
        return f"it is not a {last} file, or truncated"
    return _fault_of_array(path) if last == ".npy" else ""


def _fault_of_kind(path: Path, kind: Any) -> str:
    try:
        check_file(path, kind)
    except ValueError as error:
        fault = str(error).removeprefix(f"{path} ").removeprefix(f"cannot be read as {kind}: ")
        # Only faults of the transfer: others, such as a size that a reader refuses, would recur after a new transfer.
        return fault if "fetch it again" in fault else ""
    return ""


def _fault_of_array(path: Path) -> str:
    import numpy as np

    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if "object" in str(error).lower():  # an array of pickled objects, which are not unpickled here
            return ""
        return f"it is truncated or damaged ({' '.join(str(error).split())})"
    return ""
