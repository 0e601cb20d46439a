"""Read an NWB session by its paths with h5py, for files that pynwb refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from typing import Any

import h5py
import numpy as np

from neurosuper._labels import as_label
from neurosuper.loaders.nwb.records import (
    Column,
    Referred,
    Series,
    Table,
    Template,
    images_template,
    is_stack,
    listed,
    series_template,
)

__all__ = ["H5Session", "broken_links", "referred_of", "stores", "text_of"]

# Groups of NWB 2 that may contain tables and time series.
GROUPS = ("units", "intervals", "general/extracellular_ephys", "processing", "acquisition", "analysis", "scratch")
STIMULI = ("stimulus/presentation", "stimulus/templates")


def text_of(value: Any) -> str:
    """Return a scalar as text."""
    return as_label(value.item() if isinstance(value, np.ndarray) and value.size == 1 else value)


def referred_of(file: h5py.File, reference: h5py.Reference) -> Any:
    """Return the object to which a reference leads, or None if it was removed from the file."""
    try:
        found = file[reference]
    except (KeyError, OSError, RuntimeError, ValueError):
        return None
    return None if found.name is None else found


def stores(file: h5py.File, path: str) -> bool:
    """Return whether a file has a link at a path, even if the link is broken."""
    folder, _, name = path.rpartition("/")
    group = file.get(folder) if folder else file
    return isinstance(group, h5py.Group) and group.get(name, getlink=True) is not None


def broken_links(file: h5py.File) -> dict[str, str]:
    """Return the targets of the links of a file that lead to nothing, by the paths of the links."""
    found: dict[str, str] = {}

    def enter(group: h5py.Group, where: str) -> None:
        for name in group:
            link, child = group.get(name, getlink=True), _linked(group, name)
            if isinstance(link, h5py.HardLink):
                if isinstance(child, h5py.Group):
                    enter(child, f"{where}{name}/")
            elif child is None:
                is_external = isinstance(link, h5py.ExternalLink)
                found[f"{where}{name}"] = f"{link.path!r} in {link.filename!r}" if is_external else repr(link.path)

    enter(file, "")
    return found


class H5Session:
    """A session read by its paths, for files that pynwb refuses."""

    def __init__(self, file: h5py.File, name: str, reader: str) -> None:
        self._file, self.name, self.reader = file, name, reader

    def about(self) -> dict[str, str]:
        """Return the identifier and the start of the session."""
        stored = {name: self._file.get(name) for name in ("identifier", "session_start_time")}
        about = {name: "unknown" if value is None else text_of(value[()]) for name, value in stored.items()}
        with suppress(ValueError):
            about["session_start_time"] = datetime.fromisoformat(about["session_start_time"]).isoformat()
        return about

    def found(self, kind: str) -> Mapping[str, Callable[[], Any]]:
        """Return functions that open the tables, series, … of a kind, by their paths."""
        if kind == "template":
            walked = self._walk("stimulus/templates")
            return {path: partial(_h5_template, group, self.name) for path, group in walked}
        if kind == "stack":
            groups = self._groups | dict(self._walk("stimulus/presentation"))
            return {
                path: partial(_h5_template, group, self.name)
                for path, group in groups.items()
                if is_stack(text_of(group.attrs.get("neurodata_type", "")))
            }
        if kind == "index_series":
            walked = self._walk("stimulus/presentation")
            return {path: partial(_h5_series, group, self.name) for path, group in walked}
        if kind in ("table", "intervals"):
            tables = {path: group for path, group in self._groups.items() if "colnames" in group.attrs}
            wanted = [path for path, group in tables.items() if kind == "table" or "start_time" in group]
            return {path: partial(_h5_table, tables[path], self.name) for path in wanted}
        return {path: partial(_h5_series, group, self.name) for path, group in self._groups.items() if "data" in group}

    def has(self, path: str) -> bool:
        """Return whether an object is stored at a path."""
        return stores(self._file, path)

    def broken_links(self) -> Mapping[str, str]:
        """Return the targets of the links that lead to nothing, by the paths of the links."""
        return broken_links(self._file)

    @cached_property
    def _groups(self) -> dict[str, h5py.Group]:
        return {path: group for start in GROUPS for path, group in self._walk(start)}

    def _walk(self, start: str) -> Iterator[tuple[str, h5py.Group]]:
        """Yield the groups below a path, by their paths relative to it; soft links are not followed."""
        top = self._file.get(start)
        if not isinstance(top, h5py.Group):
            return
        if "colnames" in top.attrs:
            yield top.name.rpartition("/")[2], top
            return
        lost = [name for name in top if _linked(top, name) is None]
        if not start.startswith("stimulus/") and not {"data", "timestamps"} & set(top):
            # Broken links of a series, and to templates, are reported only if they are needed.
            _warn_of_lost(lost, f"links in {start}", self.name)
        for name in (name for name in top if name not in lost):
            child = top[name]
            if isinstance(top.get(name, getlink=True), h5py.HardLink) and isinstance(child, h5py.Group):
                path = f"{start}/{name}"
                root = next(group for group in (*GROUPS, *STIMULI) if path.startswith(f"{group}/"))
                yield path.removeprefix(f"{root}/"), child
                if "colnames" not in child.attrs:
                    yield from self._walk(path)


def _h5_table(group: h5py.Group, file: str) -> Table:
    name = group.name.rpartition("/")[2]
    names = [as_label(name) for name in np.atleast_1d(group.attrs["colnames"])]
    columns = {column: _h5_column(group, column, file) for column in names if _is_dataset(group, column)}
    _warn_of_lost(set(names) - set(columns), f"columns of table {name!r}", file)
    plane = group.get("imaging_plane/location")
    location = None if plane is None or plane.shape is None else text_of(plane[()])
    ids = group["id"] if _is_dataset(group, "id") else None
    return Table(name, ids, columns, location, file, frozenset(names) - frozenset(columns))


def _is_dataset(group: h5py.Group, name: str) -> bool:
    return isinstance(_linked(group, name), h5py.Dataset)


def _warn_of_lost(lost: Collection[str], what: str, file: str) -> None:
    if lost:
        warnings.warn(f"{what} of {file} that cannot be read are left out: {listed(sorted(lost))}", stacklevel=2)


def _h5_column(group: h5py.Group, name: str, file: str) -> Column:
    data = group[name]
    reference, elements = data.attrs.get("table"), data.attrs.get("elements")
    table = None if reference is None else referred_of(group.file, reference)
    texts = None if elements is None else referred_of(group.file, elements)
    if elements is not None and texts is None:
        raise ValueError(
            f"column {name!r} of table {group.name.rpartition('/')[2]!r} of {file} contains indices whose texts are "
            "missing from the file; fetch it again"
        )
    is_reference = reference is None and h5py.check_ref_dtype(data.dtype) is h5py.Reference
    return Column(
        data,
        group.get(f"{name}_index"),
        None if table is None else _h5_table(table, file),
        texts,
        partial(_h5_referred, data) if is_reference else None,
    )


def _h5_referred(references: h5py.Dataset) -> list[Referred]:
    objects = [referred_of(references.file, reference) if reference else None for reference in references[:]]
    return [
        Referred("", "")
        if found is None
        else Referred(found.name.rpartition("/")[2], text_of(found.attrs.get("location", "")))
        for found in objects
    ]


def _h5_series(group: h5py.Group, file: str) -> Series:
    data, start = group.get("data"), group.get("starting_time")
    attrs: Mapping = {} if data is None else data.attrs
    channels = group.get("channel_conversion")
    # NWB 2.5 and later link the images of an IndexSeries as `indexed_images`, earlier versions as `indexed_timeseries`.
    images = next((link for name in ("indexed_images", "indexed_timeseries") if (link := _linked(group, name))), None)
    return Series(
        group.name.rpartition("/")[2],
        text_of(group.attrs.get("neurodata_type", "TimeSeries")),
        data,
        group.get("timestamps"),
        0.0 if start is None else float(start[()]),
        None if start is None else float(start.attrs["rate"]),
        attrs.get("conversion", 1.0) * (1.0 if channels is None else channels[:]),
        attrs.get("offset", 0.0),
        text_of(attrs.get("unit", "")),
        _h5_column(group, "rois", file) if "rois" in group else None,
        None if images is None else _h5_template(images, file),
        file,
    )


def _linked(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return the object to which a link leads, or None if it was removed or is in a file that is missing."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError):
        return None


def _h5_template(group: h5py.Group, file: str) -> Template:
    name, data = group.name.rpartition("/")[2], group.get("data")
    if data is not None or "external_file" in group:
        external = group.get("external_file")
        return series_template(name, data, external, None if external is None else external.attrs.get("starting_frame"))
    members = {key: _linked(group, key) for key in group if key != "order_of_images"}
    images = {key: item for key, item in members.items() if isinstance(item, h5py.Dataset) and item.ndim in (2, 3)}
    _warn_of_lost(set(members) - set(images), f"images of template {name!r}", file)
    order = group.get("order_of_images")
    referred = [] if order is None else [referred_of(group.file, reference) for reference in order[:]]
    names = [None if image is None else image.name.rpartition("/")[2] for image in referred]
    return images_template(name, images, names, file)
