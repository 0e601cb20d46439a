"""NWB: one session behind one small protocol, read by pynwb, or by h5py where pynwb refuses a file.

pynwb builds all objects of a file, and one that it cannot build (a template that was taken out, an extension that
nobody cached) costs the whole file. The second reader opens the few paths that are asked for and nothing else.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import h5py
import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import Images

from neurosuper.load.array import as_label
from neurosuper.load.files import name_of, open_hdf5
from neurosuper.load.nwb.parts import Column, Series, Table, Template, images_template, listed, series_template

__all__ = ["Session", "find", "open_session"]

Kind = Literal["table", "intervals", "series", "index_series", "template"]
ROOMS = ("units", "intervals", "general/extracellular_ephys", "processing", "acquisition", "analysis", "scratch")
STIMULI = ("stimulus/presentation", "stimulus/templates")


class Session(Protocol):
    """One NWB file, opened."""

    name: str
    reader: str

    def about(self) -> dict[str, str]:
        """Return who and when."""

    def found(self, kind: Kind) -> Mapping[str, Callable[[], Any]]:
        """Return how to open each table, series, … by its path."""


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
    """
    with open_hdf5(source, "NWB", allow_external=allow_external) as file, ExitStack() as stack:
        name = name_of(source)
        _require_nwb2(file, name)
        try:
            session: Session = PynwbSession(file, name, stack)
        except Exception as error:
            session = H5Session(file, name, f"h5py: {_reason(error, file)}")
        try:
            yield session
        except Exception as error:
            if isinstance(error, ValueError | Warning | OSError | MemoryError) and not isinstance(error, UnicodeError):
                raise
            told = " ".join(str(error).split())
            raise ValueError(
                f"{name} cannot be read as NWB: {type(error).__name__}: {told}; it is damaged or of another layout, "
                "fetch it again"
            ) from error


def _text(value: Any) -> str:
    return as_label(value.item() if isinstance(value, np.ndarray) and value.size == 1 else value)


def _require_nwb2(file: h5py.File, name: str) -> None:
    if "nwb_version" in file.attrs:
        return
    if isinstance(file.get("nwb_version"), h5py.Dataset):
        version = _text(file["nwb_version"][()])
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
        name for name in units if "table" in units[name].attrs and _referred(file, units[name].attrs["table"]) is None
    ]
    return f"column {listed(lost)} of the units" if lost else "something"


def _referred(file: h5py.File, reference: h5py.Reference) -> Any:
    """Return what a reference leads to, or None where it was taken out."""
    try:
        found = file[reference]
    except (KeyError, OSError, RuntimeError, ValueError):
        return None
    return None if found.name is None else found


class PynwbSession:
    """A session as pynwb reads it."""

    reader = "pynwb"

    def __init__(self, file: h5py.File, name: str, stack: ExitStack) -> None:
        self.name = name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts that are not asked for
            door = NWBHDF5IO(file=file, mode="r")
            stack.callback(door.close)
            self._nwb: NWBFile = door.read()
            self._objects = [(_path(part), part) for part in self._nwb.objects.values()]

    def about(self) -> dict[str, str]:
        return {"identifier": self._nwb.identifier, "session_start_time": self._nwb.session_start_time.isoformat()}

    def found(self, kind: Kind) -> Mapping[str, Callable[[], Any]]:
        if kind == "index_series":
            return {path: partial(_pynwb_series, part) for path, part in self._nwb.stimulus.items()}
        if kind == "template":
            return {path: partial(_pynwb_template, part) for path, part in self._nwb.stimulus_template.items()}
        if kind in ("table", "intervals"):
            tables = {path: part for path, part in self._objects if isinstance(part, DynamicTable)}
            wanted = [path for path, part in tables.items() if kind == "table" or "start_time" in part.colnames]
            return {path: partial(_pynwb_table, tables[path]) for path in wanted}
        aside = {id(part) for part in (*self._nwb.stimulus.values(), *self._nwb.stimulus_template.values())}
        series = {path: part for path, part in self._objects if isinstance(part, TimeSeries) and id(part) not in aside}
        return {path: partial(_pynwb_series, part) for path, part in series.items()}


def _path(part: Any) -> str:
    return "/".join([*[ancestor.name for ancestor in reversed(part.get_ancestors())][1:], part.name])


def _pynwb_table(table: DynamicTable) -> Table:
    plane = getattr(table, "imaging_plane", None)
    columns = {name: _pynwb_column(table[name]) for name in table.colnames}
    ids = table.id.data if isinstance(table.id.data, h5py.Dataset) else None  # else pynwb made them up
    return Table(table.name, ids, columns, getattr(plane, "location", None))


def _pynwb_column(column: Any) -> Column:
    stops = None
    if isinstance(column, VectorIndex):
        stops, column = column.data, column.target
    table = column.table if isinstance(column, DynamicTableRegion) else None
    return Column(column.data, stops, None if table is None else _pynwb_table(table))


def _pynwb_series(series: TimeSeries) -> Series:
    rois = getattr(series, "rois", None)
    images = getattr(series, "indexed_images", None) or getattr(series, "indexed_timeseries", None)
    channels = getattr(series, "channel_conversion", None)
    return Series(
        series.name,
        series.neurodata_type,
        series.data,
        series.timestamps,
        series.starting_time or 0.0,
        series.rate,
        series.conversion * (1.0 if channels is None else np.asarray(channels[:])),
        series.offset,
        series.unit,
        None if rois is None else _pynwb_column(rois),
        None if images is None else _pynwb_template(images),
    )


def _pynwb_template(template: Any) -> Template:
    if isinstance(template, Images):
        order = template.order_of_images
        names = None if order is None else [image.name for image in order.data[:]]
        return images_template(template.name, {image.name: image.data for image in template.images.values()}, names)
    return series_template(
        template.name,
        template.data,
        getattr(template, "external_file", None),
        getattr(template, "starting_frame", None),
    )


class H5Session:
    """A session as its paths say, for files that pynwb refuses."""

    def __init__(self, file: h5py.File, name: str, reader: str) -> None:
        self._file, self.name, self.reader = file, name, reader

    def about(self) -> dict[str, str]:
        told = {name: self._file.get(name) for name in ("identifier", "session_start_time")}
        about = {name: "unknown" if value is None else _text(value[()]) for name, value in told.items()}
        with suppress(ValueError):
            about["session_start_time"] = datetime.fromisoformat(about["session_start_time"]).isoformat()
        return about

    def found(self, kind: Kind) -> Mapping[str, Callable[[], Any]]:
        if kind == "template":
            return {path: partial(_h5_template, group) for path, group in self._walk("stimulus/templates")}
        if kind == "index_series":
            return {path: partial(_h5_series, group) for path, group in self._walk("stimulus/presentation")}
        if kind in ("table", "intervals"):
            tables = {path: group for path, group in self._groups.items() if "colnames" in group.attrs}
            wanted = [path for path, group in tables.items() if kind == "table" or "start_time" in group]
            return {path: partial(_h5_table, tables[path]) for path in wanted}
        return {path: partial(_h5_series, group) for path, group in self._groups.items() if "data" in group}

    @cached_property
    def _groups(self) -> dict[str, h5py.Group]:
        return {path: group for room in ROOMS for path, group in self._walk(room)}

    def _walk(self, room: str) -> Iterator[tuple[str, h5py.Group]]:
        """Yield the groups of a room by their paths in it; soft links lead to groups that lie elsewhere."""
        top = self._file.get(room)
        if not isinstance(top, h5py.Group):
            return
        if "colnames" in top.attrs:
            yield top.name.rpartition("/")[2], top
            return
        for name in top:
            if isinstance(top.get(name, getlink=True), h5py.HardLink) and isinstance(
                child := top.get(name), h5py.Group
            ):
                path = f"{room}/{name}"
                yield path.removeprefix(next(r for r in (*ROOMS, *STIMULI) if path.startswith(r + "/")) + "/"), child
                if "colnames" not in child.attrs:
                    yield from self._walk(path)


def _h5_table(group: h5py.Group) -> Table:
    names = [as_label(name) for name in np.atleast_1d(group.attrs["colnames"])]
    columns = {name: _h5_column(group, name) for name in names if isinstance(group.get(name), h5py.Dataset)}
    plane = group.get("imaging_plane/location")
    location = None if plane is None else _text(plane[()])
    return Table(group.name.rpartition("/")[2], group.get("id"), columns, location)


def _h5_column(group: h5py.Group, name: str) -> Column:
    reference = group[name].attrs.get("table")
    table = None if reference is None else _referred(group.file, reference)
    return Column(group[name], group.get(f"{name}_index"), None if table is None else _h5_table(table))


def _h5_series(group: h5py.Group) -> Series:
    data, start = group.get("data"), group.get("starting_time")
    told: Mapping = {} if data is None else data.attrs
    channels = group.get("channel_conversion")
    images = next((link for name in ("indexed_images", "indexed_timeseries") if (link := _linked(group, name))), None)
    return Series(
        group.name.rpartition("/")[2],
        _text(group.attrs.get("neurodata_type", "TimeSeries")),
        data,
        group.get("timestamps"),
        0.0 if start is None else float(start[()]),
        None if start is None else float(start.attrs["rate"]),
        told.get("conversion", 1.0) * (1.0 if channels is None else channels[:]),
        told.get("offset", 0.0),
        _text(told.get("unit", "")),
        _h5_column(group, "rois") if "rois" in group else None,
        None if images is None else _h5_template(images),
    )


def _linked(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return what a link leads to, or None where that was taken out or lies in a file that is not there."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError):
        return None


def _h5_template(group: h5py.Group) -> Template:
    name, data = group.name.rpartition("/")[2], group.get("data")
    if data is not None or "external_file" in group:
        external = group.get("external_file")
        return series_template(name, data, external, None if external is None else external.attrs.get("starting_frame"))
    images = {key: part for key, part in group.items() if isinstance(part, h5py.Dataset) and part.ndim in (2, 3)}
    order = group.get("order_of_images")
    names = None if order is None else [_referred(group.file, ref).name.rpartition("/")[2] for ref in order[:]]
    return images_template(name, images, names)
