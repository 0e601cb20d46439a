"""One NWB session behind one small protocol, read by pynwb, or by h5py if pynwb refuses the file.

pynwb builds all objects of a file, and refuses the whole file if it cannot build one of them (a template that was
removed, an extension that was not cached). The second reader opens only the few paths that are needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import TextIOBase
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import h5py
from pynwb import NWBHDF5IO, NWBFile

from neurosuper._checks import one_line_with_type
from neurosuper.loaders.external import refuse_cycles
from neurosuper.loaders.file_checks import name_of, open_hdf5
from neurosuper.loaders.nwb.h5_session import H5Session, referred_of, text_of
from neurosuper.loaders.nwb.pynwb_session import PynwbSession
from neurosuper.loaders.nwb.records import listed

__all__ = ["Session", "check_source", "find", "open_session", "refuse_broken_link"]

Kind = Literal["table", "intervals", "series", "index_series", "template", "stack"]


class Session(Protocol):
    """One NWB file, opened."""

    name: str
    reader: str

    def about(self) -> dict[str, str]:
        """Return the identifier and the start of the session."""

    def found(self, kind: Kind) -> Mapping[str, Callable[[], Any]]:
        """Return functions that open the tables, series, … of a kind, by their paths."""

    def has(self, path: str) -> bool:
        """Return whether an object is stored at a path, even one that the reader could not build."""

    def broken_links(self) -> Mapping[str, str]:
        """Return the targets of the links that lead to nothing, by the paths of the links."""


def find(session: Session, kind: Kind, wanted: str, what: str) -> Any:
    """Return the one table, series, … whose path is, or ends with, the wanted path."""
    found = session.found(kind)
    paths = [path for path in found if path == wanted] or [path for path in found if path.endswith(f"/{wanted}")]
    if not paths:
        refuse_broken_link(session, wanted)
        raise ValueError(f"no {what} {wanted!r} in {session.name}; it has {listed(found)}")
    if len(paths) > 1:
        raise ValueError(f"{session.name} has more than one {what} {wanted!r}; name one of {listed(paths)}")
    return found[paths[0]]()


def refuse_broken_link(session: Session, *wanted: str) -> None:
    """Raise an error if what was not found is a link that leads to nothing."""
    names = {name.rpartition("/")[2] for name in wanted}
    for path, target in session.broken_links().items():
        if path.rpartition("/")[2] in names:
            raise ValueError(
                f"{session.name}: {path!r} is a broken link to {target}, which is missing; restore it, or link to its "
                "new place"
            )


@contextmanager
def open_session(source: str | Path | BinaryIO, *, allow_external: bool = False) -> Iterator[Session]:
    """Open an NWB file with pynwb, else with h5py; `reader` of the session names the library and the reason.

    Parameters
    ----------
    source : path, or binary file object that can seek
        The file, or what h5py or pynwb opened from a path.
    allow_external : bool, optional
        Allow data from other files.

    Yields
    ------
    Session
        The opened file.

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        A file that is not NWB 2, that takes data from other files, or whose requested data are damaged: one line that
        names the file and the remedy.
    TypeError
        Neither a path nor a binary file object.
    """
    source = check_source(source)
    name = name_of(source)
    with open_hdf5(source, "NWB", allow_external=allow_external) as file, ExitStack() as stack:
        _require_nwb2(file, name)
        refuse_cycles(file, name)
        try:
            session: Session = PynwbSession(file, name, stack)
        except Exception as error:  # pynwb, hdmf and h5py raise exceptions of many types
            session = H5Session(file, name, f"h5py: {_reason(error, file)}")
        try:
            yield session
        except Exception as error:
            is_clear = isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError)
            if isinstance(error, Warning | MemoryError) or (is_clear and "\n" not in str(error)):
                raise
            raise ValueError(
                f"{name} cannot be read as NWB: {one_line_with_type(error)}; it is damaged or of another layout, fetch "
                "it again"
            ) from error


def check_source(source: Any) -> Any:
    """Return a path or a stream, of an opened file its path; refuse other objects, and several files."""
    source = _path_of_opened(source)
    methods = ("read", "seek", "tell")  # prose: ok
    is_stream = all(hasattr(source, name) for name in methods) and not isinstance(source, TextIOBase)
    if isinstance(source, str | PathLike) or is_stream:
        return source
    kind = f"{type(source).__module__.partition('.')[0]}.{type(source).__name__}".removeprefix("builtins.")
    raise TypeError(
        f"an NWB file must be the path of one file, or a binary file object that can seek, got {kind}; pass the path "
        "of the file, and load several files one by one"
    )


def _path_of_opened(source: Any) -> Any:
    """Return the path from which h5py or pynwb opened a file; other objects are returned as they are."""
    _refuse_writing(source)
    if isinstance(source, NWBHDF5IO | NWBFile):
        path = source.source if isinstance(source, NWBHDF5IO) else source.container_source
        if path is None or not Path(path).exists():
            raise TypeError(
                f"this {type(source).__name__} was not read from a file of this machine; pass the stream from which it "
                "was read, or write it with NWBHDF5IO and pass the path"
            )
        return path
    if isinstance(source, h5py.File):
        if not source:
            raise TypeError("this h5py.File is closed; pass the path of the file")
        if source.driver == "fileobj":
            raise TypeError("this h5py.File was opened from a stream; pass the stream, such as remfile.File(url)")
        return source.filename
    return source


def _refuse_writing(source: Any) -> None:
    """Refuse a file that is open for writing: what was written may not be on disk yet."""
    file = getattr(source, "_file", None) if isinstance(source, NWBHDF5IO) else source
    if isinstance(file, h5py.File) and file and file.mode != "r":
        raise OSError(f"{name_of(file.filename)} is open for writing; close it first, and pass its path")


def _require_nwb2(file: h5py.File, name: str) -> None:
    if "nwb_version" in file.attrs:
        return
    if isinstance(file.get("nwb_version"), h5py.Dataset):
        version = text_of(file["nwb_version"][()])
        raise ValueError(
            f"{name} cannot be read as NWB 2: it is {version}, a layout that pynwb does not read either; fetch a newer "
            "release of the dataset, or convert it"
        )
    raise ValueError(f"{name} cannot be read as NWB: it is HDF5 without nwb_version; check the path, or fetch it again")


def _reason(error: BaseException, file: h5py.File) -> str:
    """Return in one line why pynwb refused a file."""
    # The last argument is the message; hdmf puts the builder of the object, which is very long, before it.
    message = " ".join(str(error.args[-1] if error.args else error).split()).rstrip(".")
    message = re.sub(r"^(.{240}).+", r"\1 …", message)
    if found := re.search(r"'(ndx-[\w-]+)' not a namespace", message):
        message += f"; install the package {found[1]} to read its types"
    # A DynamicTableRegion whose table is missing fails in pynwb as a path of type None.
    if isinstance(error, TypeError) and "os.PathLike" in message:
        message = f"{_dangling(file)} refers to a table that is missing"
    return f"{type(error).__name__}: {message}"


def _dangling(file: h5py.File) -> str:
    """Return the columns of the units that refer to an object that is missing."""
    units = file.get("units") or {}
    columns = {name: units.get(name) for name in units}
    lost = [
        name
        for name, column in columns.items()
        if column is not None and "table" in column.attrs and referred_of(file, column.attrs["table"]) is None
    ]
    return f"column {listed(lost)} of the units" if lost else "something"
