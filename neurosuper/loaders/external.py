"""HDF5 files that take data from others, declare far more data than they store, or would never be read to an end.

A file from anywhere may name any file of this machine as the place of its data: as external storage of a dataset, as a
source of a virtual dataset, or by an external link. What is read would then be that file, and nothing would say so.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import h5py

from neurosuper._checks import one_line

__all__ = ["FREE_BYTES", "MAX_RATIO", "check_contents", "heap_fault", "refuse_cycles", "sources_of"]

# Nothing recorded compresses so well: deflate makes at most 1032 bytes of one, and only of zeros. What is beyond was
# never written, but fills memory when it is read.
MAX_RATIO = 2000  # bytes declared for each byte stored
FREE_BYTES = 2**30  # declared; up to here any ratio is harmless
HEAP = b"GCOL\1\0\0\0"  # how a global heap begins
MAX_SCANNED = 2**24  # bytes of a file that is searched for heaps, in a few ms


def check_contents(file: h5py.File, name: str, *, allow_external: bool = False) -> None:
    """Refuse a file that takes data from other files, or declares far more data than it stores.

    Every object is looked at once, whatever links lead to it, and none of its data are read.

    Parameters
    ----------
    file : h5py.File
    name : str
        What to call it.
    allow_external : bool, optional
        Let it take data from other files.

    Raises
    ------
    ValueError
        External storage, a virtual dataset over another file, a link that leads out of the file; or a dataset of more
        than `FREE_BYTES` that declares more than `MAX_RATIO` bytes for each byte stored.

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
        told = one_line(error)
        raise ValueError(f"{name} cannot be read as HDF5: {told}; it is damaged, fetch it again") from error
    if problem is not None:
        raise ValueError(f"{name} {problem}")


def refuse_cycles(file: h5py.File, name: str) -> None:
    """Refuse a file in which a group contains itself: a reader that follows all links would not come to an end.

    Parameters
    ----------
    file : h5py.File
    name : str
        What to call it.

    Raises
    ------
    ValueError
        A hard link from a group to itself, or to a group that it is in.
    """
    entered, left = {h5py.h5o.get_info(file.id).addr}, set()

    def enter(group: h5py.h5g.GroupID, where: str) -> None:
        links: list[tuple[bytes, int]] = []
        group.links.iterate(
            lambda link, info: links.append((link, info.u)) if info.type == h5py.h5l.TYPE_HARD else None, info=True
        )
        for link, address in links:
            path = f"{where}/{link.decode(errors='replace')}"
            if address in entered:
                raise ValueError(f"{name} has the link {path!r} to a group that contains it; fetch the file again")
            if address in left or h5py.h5o.get_info(group, link).type != h5py.h5o.TYPE_GROUP:
                continue
            entered.add(address)
            enter(h5py.h5g.open(group, link), path)
            entered.remove(address)
            left.add(address)

    enter(h5py.h5g.open(file.id, b"/"), "")


def heap_fault(file: BinaryIO, size: int) -> str:
    """Return what is wrong with the text and references of an HDF5 file, if anything.

    They are kept in global heaps. HDF5 2.0 never returns from one that contains free space of no size, as where a part
    of a file was overwritten by zeros. Files of more than `MAX_SCANNED` are not looked at.

    Parameters
    ----------
    file : binary file, opened for reading
    size : int
        Its bytes.
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
    """Return whether a heap, of version 1 and lengths of 8 bytes, has free space of no size before its end."""
    end = start + int.from_bytes(content[start + 8 : start + 16], "little")
    at = start + 16
    while at + 16 <= min(end, size):
        index, n_bytes = struct.unpack_from("<H6xQ", content, at)  # and a count of references
        if index == 0:  # free space, whose size includes its own header
            return n_bytes == 0
        at += 16 + n_bytes + -n_bytes % 8
    return False


def _problems(file: h5py.File, allow_external: bool) -> Iterator[str]:
    """Yield in words what is refused."""
    for where, found in _datasets_and_outward_links(file):
        sources = sources_of(found) if isinstance(found, h5py.h5d.DatasetID) else [found]
        if sources and not allow_external:
            yield (
                f"takes data from another file: {where!r} from {sources[0]!r}; if you trust it, pass "
                "allow_external=True"
            )
        if not sources and (apart := _declared_beyond_stored(file, found, where)):
            yield f"{apart}; it is damaged or was never filled: fetch it again"


def _datasets_and_outward_links(file: h5py.File) -> Iterator[tuple[str, h5py.h5d.DatasetID | str]]:
    """Yield every dataset, opened, and the file that every other than a hard or soft link leads to, by their paths."""
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
                    continue  # damaged: what cannot be opened is not read
                if isinstance(found, h5py.h5g.GroupID):
                    groups.append((f"{where}/", found))
                elif isinstance(found, h5py.h5d.DatasetID):
                    yield where, found


def sources_of(dataset: h5py.h5d.DatasetID) -> list[str]:
    """Return the other files that a dataset takes its data from.

    Parameters
    ----------
    dataset : h5py.h5d.DatasetID

    Returns
    -------
    list of str
    """
    storage = dataset.get_create_plist()
    layout = storage.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        names = [storage.get_virtual_filename(i) for i in range(storage.get_virtual_count())]
        return [name for name in names if name != "."]  # the file itself
    if layout == h5py.h5d.CONTIGUOUS:  # the only one that HDF5 stores in other files
        return [os.fsdecode(storage.get_external(i)[0]) for i in range(storage.get_external_count())]
    return []


def _declared_beyond_stored(file: h5py.File, dataset: h5py.h5d.DatasetID, where: str) -> str:
    """Return what a dataset declares and stores, where that is too far apart, else nothing."""
    declared = dataset.get_space().get_simple_extent_npoints() * dataset.get_type().get_size()
    if declared <= FREE_BYTES:
        return ""
    # Of a remote file, what a dataset stores is not asked: that would read the index of all its chunks.
    is_virtual = dataset.get_create_plist().get_layout() == h5py.h5d.VIRTUAL
    whole_file = is_virtual or file.driver != "sec2"
    stored = file.id.get_filesize() if whole_file else dataset.get_storage_size()
    if declared <= MAX_RATIO * stored:
        return ""
    return f"declares {declared / 1e9:.1f} GB for {where!r} but stores {stored} bytes of it"
