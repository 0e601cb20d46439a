"""NWB: one session behind one small protocol, read by pynwb, or by h5py where pynwb refuses a file.

pynwb builds all objects of a file, and one that it cannot build (a template that was taken out, an extension that
nobody cached) costs the whole file. The second reader opens the few paths that are asked for and nothing else.
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
from pynwb import NWBHDF5IO

from neurosuper.loaders.external import refuse_cycles
from neurosuper.loaders.file_checks import name_of, open_hdf5
from neurosuper.loaders.nwb.h5_session import H5Session, referred_of, text_of
from neurosuper.loaders.nwb.pynwb_session import PynwbSession
from neurosuper.loaders.nwb.records import listed

__all__ = ["Session", "check_source", "find", "open_session"]

Kind = Literal["table", "intervals", "series", "index_series", "template"]


class Session(Protocol):
    """One NWB file, opened."""

    name: str
    reader: str

    def about(self) -> dict[str, str]:
        """Return who and when."""

    def found(self, kind: Kind) -> Mapping[str, Callable[[], Any]]:
        """Return how to open each table, series, … by its path."""

    def has(self, path: str) -> bool:
        """Return whether anything is stored at a path, even what the reader could not make sense of."""


def find(session: Session, kind: Kind, wanted: str, what: str) -> Any:
    """Return the one table, series, … whose path is, or ends with, what is wanted."""
    found = session.found(kind)
    paths = [path for path in found if path == wanted] or [path for path in found if path.endswith(f"/{wanted}")]
    if not paths:
        raise ValueError(f"no {what} {wanted!r} in {session.name}; it has {listed(found)}")
    if len(paths) > 1:
        raise ValueError(f"{session.name} has more than one {what} {wanted!r}; name one of {listed(paths)}")
    return found[paths[0]]()


@contextmanager
def open_session(source: str | Path | BinaryIO, *, allow_external: bool = False) -> Iterator[Session]:
    """Open an NWB file: by pynwb, else by h5py, and `reader` says which and why.

    Parameters
    ----------
    source : path, or binary file object that can seek
    allow_external : bool, optional
        Let the file take data from other files.

    Raises
    ------
    FileNotFoundError
        No file there.
    ValueError
        A file that is not NWB 2, that takes data from other files, or that is damaged where it is read: one line that
        names it and the remedy.
    TypeError
        Neither of the two: one line that says what is allowed.
    """
    with open_hdf5(check_source(source), "NWB", allow_external=allow_external) as file, ExitStack() as stack:
        name = name_of(source)
        _require_nwb2(file, name)
        refuse_cycles(file, name)
        try:
            session: Session = PynwbSession(file, name, stack)
        except Exception as error:
            session = H5Session(file, name, f"h5py: {_reason(error, file)}")
        try:
            yield session
        except Exception as error:
            told = " ".join(str(error).split())
            is_clear = isinstance(error, ValueError | OSError) and not isinstance(error, UnicodeError)
            if isinstance(error, Warning | MemoryError) or (is_clear and str(error) == told):
                raise
            raise ValueError(
                f"{name} cannot be read as NWB: {type(error).__name__}: {told}; it is damaged or of another layout, "
                "fetch it again"
            ) from error


def check_source(source: Any) -> Any:
    """Return a source that may be one: not what pynwb or h5py opened, nor several at once."""
    is_stream = all(hasattr(source, name) for name in ("read", "seek", "tell")) and not isinstance(source, TextIOBase)
    if isinstance(source, str | PathLike) or (is_stream and not isinstance(source, NWBHDF5IO)):
        return source
    kind = f"{type(source).__module__.partition('.')[0]}.{type(source).__name__}".removeprefix("builtins.")
    raise TypeError(
        f"an NWB file is given as the path of one file, or as a binary file object that can seek, got {kind}; pass the "
        "path of what you opened, and load several files one by one"
    )


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
    told = " ".join(str(error.args[-1] if error.args else error).split()).rstrip(".")
    told = re.sub(r"^(.{240}).+", r"\1 …", told)
    if found := re.search(r"'(ndx-[\w-]+)' not a namespace", told):
        told += f"; install the package {found[1]} to read its types"
    if isinstance(error, TypeError) and "os.PathLike" in told:
        told = f"{_dangling(file)} refers to a table that is missing"
    return f"{type(error).__name__}: {told}"


def _dangling(file: h5py.File) -> str:
    """Return the columns of the units that refer to nothing."""
    units = file.get("units", {})
    lost = [
        name for name in units if "table" in units[name].attrs and referred_of(file, units[name].attrs["table"]) is None
    ]
    return f"column {listed(lost)} of the units" if lost else "something"
