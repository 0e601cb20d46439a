"""Check HDF5 files for data in other files, data that were never written, and structures that are endless to read.

A downloaded file can name any file of this machine as the place of its data: as external storage of a dataset, as a
source of a virtual dataset, or by an external link. A reader would then return the content of that file without notice.
"""

from __future__ import annotations

import mmap
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from neurosuper._checks import one_line

__all__ = [
    "FREE_BYTES",
    "MAX_RATIO",
    "MAX_STREAM_CHUNKS",
    "check_contents",
    "check_written",
    "external_sources",
    "heap_fault",
    "refuse_cycles",
]

# Bytes declared per byte stored. Deflate expands one byte to at most 1032 bytes, and only zeros that well: a dataset
# beyond this ratio was never written, but would fill memory when it is read.
MAX_RATIO = 2000
FREE_BYTES = 2**30  # declared bytes; below this any ratio is harmless
MAX_STREAM_CHUNKS = 1024  # of a dataset in a stream: the addresses of these chunks take about 50 KB to read
HEAP = b"GCOL\1\0\0\0"  # signature and version of a global heap
MAX_SCANNED = 2**24  # bytes of a file that is searched for heaps; takes a few ms


def check_contents(file: h5py.File, name: str, *, allow_external: bool = False) -> None:
    """Refuse a file that takes data from other files, or declares far more data than it contains.

    Every object is checked once, even if several links lead to it, and no data are read. See `check_written` for
    smaller datasets that were never written.

    Parameters
    ----------
    file : h5py.File
        The opened file.
    name : str
        Name of the file in errors.
    allow_external : bool, optional
        Allow data from other files.

    Raises
    ------
    ValueError
        External storage, a virtual dataset over another file, a link that leads out of the file; or a dataset of more
        than `FREE_BYTES` that declares more than `MAX_RATIO` bytes per byte stored.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.h5")
    >>> with h5py.File(path, "w") as file:
    ...     file["elsewhere"] = h5py.ExternalLink("b.h5", "/data")
    >>> with h5py.File(path) as file:
    ...     check_contents(file, "a.h5")
    Traceback (most recent call last):
    ...
    ValueError: a.h5 takes data from another file: 'elsewhere' from 'b.h5'; if you trust it, pass allow_external=True
    """
    try:
        problem = next(_problems(file, allow_external), None)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:  # h5py raises any of them on damaged files
        raise ValueError(f"{name} cannot be read as HDF5: {one_line(error)}; it is damaged, fetch it again") from error
    if problem is not None:
        raise ValueError(f"{name} {problem}")


def check_written(data: Any, what: str) -> None:
    """Refuse a dataset that was never written, which HDF5 reads as zeros; warn if parts of it were never written.

    `check_contents` protects memory from large empty datasets; this check is for data that are about to be read.

    Parameters
    ----------
    data : h5py.Dataset
        Other objects pass.
    what : str
        Name of the dataset in errors.

    Raises
    ------
    ValueError
        No value was ever written, or a file from which a virtual dataset takes its data is missing.
    """
    if not isinstance(data, h5py.Dataset) or not data.size:
        return
    if data.is_virtual:
        for source in external_sources(data.id):
            if not (Path(data.file.filename).parent / source).is_file():
                raise ValueError(
                    f"{what} is stored in the file {source!r}, which is missing; put it next to the file that refers "
                    "to it"
                )
        return
    # For a stream, HDF5 would fetch the addresses of all chunks.
    is_stream = data.file.driver != "sec2"
    if is_stream and data.chunks and data.size > MAX_STREAM_CHUNKS * np.prod(data.chunks, dtype=float):
        return
    status = data.id.get_space_status()
    if status == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED:
        raise ValueError(f"{what} has room for {data.size} values, but none was ever written; fetch the file again")
    # Parts that read as NaN are visibly missing and need no warning.
    if status == h5py.h5d.SPACE_STATUS_PART_ALLOCATED and data.fillvalue == data.fillvalue:
        warnings.warn(f"parts of {what} were never written, and are read as {data.fillvalue!r}", stacklevel=2)


def refuse_cycles(file: h5py.File, name: str) -> None:
    """Refuse a file in which a group contains itself: a reader that follows all links would never finish.

    Parameters
    ----------
    file : h5py.File
        The opened file.
    name : str
        Name of the file in errors.

    Raises
    ------
    ValueError
        A hard link from a group to itself, or to a group that contains it.
    """
    # Depth-first search over hard links, by the addresses of groups: a link to a group on the current path is a cycle.
    on_path, finished = {h5py.h5o.get_info(file.id).addr}, set()

    def enter(group: h5py.h5g.GroupID, where: str) -> None:
        links: list[tuple[bytes, int]] = []
        group.links.iterate(
            lambda link, info: links.append((link, info.u)) if info.type == h5py.h5l.TYPE_HARD else None, info=True
        )
        for link, address in links:
            path = f"{where}/{link.decode(errors='replace')}"
            if address in on_path:
                raise ValueError(f"{name} has the link {path!r} to a group that contains it; fetch the file again")
            if address in finished or h5py.h5o.get_info(group, link).type != h5py.h5o.TYPE_GROUP:
                continue
            on_path.add(address)
            enter(h5py.h5g.open(group, link), path)
            on_path.remove(address)
            finished.add(address)

    enter(h5py.h5g.open(file.id, b"/"), "")


def heap_fault(file: BinaryIO, size: int) -> str:
    """Return a description of damaged text and references in an HDF5 file, empty if there is no damage.

    They are stored in global heaps. HDF5 2.0 never returns from a heap that contains free space of size 0, for
    instance after a part of a file was overwritten by zeros. Files of more than `MAX_SCANNED` bytes are not checked.

    Parameters
    ----------
    file : binary file
        Opened for reading.
    size : int
        Its number of bytes.

    Returns
    -------
    str
        Damage and remedy.
    """
    if not 0 < size <= MAX_SCANNED:
        return ""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            if _is_endless(content, start, size):
                return f"its text is damaged (global heap at byte {start}); fetch it again"
            start = content.find(HEAP, start + 1)
    return ""


def _is_endless(content: mmap.mmap, start: int, size: int) -> bool:
    """Return whether a global heap (version 1, lengths of 8 bytes) has free space of size 0 before its end."""
    # Header of 16 bytes: signature and version (8), size of the heap (8). Each object: index (2), count of references
    # (2), reserved (4), size (8), then the data padded to 8 bytes.
    end = start + int.from_bytes(content[start + 8 : start + 16], "little")
    at = start + 16
    while at + 16 <= min(end, size):
        index, n_bytes = struct.unpack_from("<H6xQ", content, at)
        if index == 0:  # free space, whose size includes its own header
            return n_bytes == 0
        at += 16 + n_bytes + -n_bytes % 8
    return False


def _problems(file: h5py.File, allow_external: bool) -> Iterator[str]:
    """Yield a description of each problem of a file."""
    for where, found in _datasets_and_outward_links(file):
        sources = external_sources(found) if isinstance(found, h5py.h5d.DatasetID) else [found]
        if sources and not allow_external:
            yield (
                f"takes data from another file: {where!r} from {sources[0]!r}; if you trust it, pass "
                "allow_external=True"
            )
        if not sources and (excess := _declared_beyond_stored(file, found, where)):
            yield f"{excess}; it is damaged or was never filled: fetch it again"


def _datasets_and_outward_links(file: h5py.File) -> Iterator[tuple[str, h5py.h5d.DatasetID | str]]:
    """Yield the path and the opened dataset of every dataset, and the path and target file of every external link."""
    groups, seen = [("", file.id)], set()
    while groups:
        parent, group = groups.pop()
        links: list[tuple[bytes, int, int]] = []
        group.links.iterate(lambda link, info: links.append((link, info.type, info.u)), info=True)  # noqa: B023
        for link, kind, address in links:
            where = f"{parent}{link.decode(errors='replace')}"
            if kind == h5py.h5l.TYPE_EXTERNAL:
                yield where, group.links.get_val(link)[0].decode(errors="replace")
            elif kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
                yield where, "a link of a kind that is not HDF5's own"
            elif kind == h5py.h5l.TYPE_HARD and address not in seen:
                seen.add(address)
                try:
                    found = h5py.h5o.open(group, link)
                except (KeyError, OSError, RuntimeError, ValueError):
                    continue  # damaged; it cannot be read either
                if isinstance(found, h5py.h5g.GroupID):
                    groups.append((f"{where}/", found))
                elif isinstance(found, h5py.h5d.DatasetID):
                    yield where, found


def external_sources(dataset: h5py.h5d.DatasetID) -> list[str]:
    """Return the names of other files from which a dataset takes its data."""
    storage = dataset.get_create_plist()
    layout = storage.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        names = [storage.get_virtual_filename(i) for i in range(storage.get_virtual_count())]
        return [name for name in names if name != "."]  # "." is the file itself
    if layout == h5py.h5d.CONTIGUOUS:  # the only layout that HDF5 can store in other files
        return [os.fsdecode(storage.get_external(i)[0]) for i in range(storage.get_external_count())]
    return []


def _declared_beyond_stored(file: h5py.File, dataset: h5py.h5d.DatasetID, where: str) -> str:
    """Return a description of a dataset that declares far more than it stores, else an empty text."""
    declared = dataset.get_space().get_simple_extent_npoints() * dataset.get_type().get_size()
    if declared <= FREE_BYTES:
        return ""
    # For a stream, the size of the whole file is compared: the stored size of one dataset would need the index of all
    # its chunks.
    is_virtual = dataset.get_create_plist().get_layout() == h5py.h5d.VIRTUAL
    whole_file = is_virtual or file.driver != "sec2"
    stored = file.id.get_filesize() if whole_file else dataset.get_storage_size()
    if declared <= MAX_RATIO * stored:
        return ""
    return f"declares {declared / 1e9:.1f} GB for {where!r} but stores {stored} bytes of it"
