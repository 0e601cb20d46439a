"""Read an NWB session with pynwb."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5.h5_utils import AbstractH5ReferenceDataset
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex
from hdmf.common.table import EnumData
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import Images

from neurosuper.loaders.nwb.h5_session import broken_links, stores
from neurosuper.loaders.nwb.records import (
    Column,
    Referred,
    Series,
    Table,
    Template,
    images_template,
    is_stack,
    series_template,
)

__all__ = ["PynwbSession"]


class PynwbSession:
    """A session read by pynwb."""

    reader = "pynwb"

    def __init__(self, file: h5py.File, name: str, stack: ExitStack) -> None:
        self._file, self.name = file, name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about objects that are not requested
            reader = NWBHDF5IO(file=file, mode="r")
            stack.callback(reader.close)
            self._nwb: NWBFile = reader.read()
            self._objects = [(_path(item), item) for item in self._nwb.objects.values()]

    def about(self) -> dict[str, str]:
        """Return the identifier and the start of the session."""
        return {"identifier": self._nwb.identifier, "session_start_time": self._nwb.session_start_time.isoformat()}

    def found(self, kind: str) -> Mapping[str, Callable[[], Any]]:
        """Return functions that open the tables, series, … of a kind, by their paths."""
        if kind == "index_series":
            return {path: partial(_pynwb_series, item, self.name) for path, item in self._nwb.stimulus.items()}
        if kind == "template":
            templates = self._nwb.stimulus_template
            return {path: partial(_pynwb_template, item, self.name) for path, item in templates.items()}
        if kind == "stack":  # images outside the templates; movies of the brain are none
            templates = set(map(id, self._nwb.stimulus_template.values()))
            stacks = {path: item for path, item in self._objects if is_stack(getattr(item, "neurodata_type", ""))}
            return {
                path: partial(_pynwb_template, item, self.name)
                for path, item in stacks.items()
                if id(item) not in templates
            }
        if kind in ("table", "intervals"):
            tables = {path: item for path, item in self._objects if isinstance(item, DynamicTable)}
            wanted = [path for path, item in tables.items() if kind == "table" or "start_time" in item.colnames]
            return {path: partial(_pynwb_table, tables[path], self.name) for path in wanted}
        stimuli = {id(item) for item in (*self._nwb.stimulus.values(), *self._nwb.stimulus_template.values())}
        series = {
            path: item for path, item in self._objects if isinstance(item, TimeSeries) and id(item) not in stimuli
        }
        return {path: partial(_pynwb_series, item, self.name) for path, item in series.items()}

    def has(self, path: str) -> bool:
        """Return whether an object is stored at a path."""
        return stores(self._file, path)

    def broken_links(self) -> Mapping[str, str]:
        """Return the targets of the links that lead to nothing, by the paths of the links."""
        return broken_links(self._file)


def _path(item: Any) -> str:
    return "/".join([*[ancestor.name for ancestor in reversed(item.get_ancestors())][1:], item.name])


def _pynwb_table(table: DynamicTable, file: str) -> Table:
    plane = getattr(table, "imaging_plane", None)
    columns = {name: _pynwb_column(table[name], file) for name in table.colnames}
    ids = table.id.data if isinstance(table.id.data, h5py.Dataset) else None  # else pynwb generated them
    location = getattr(plane, "location", None)
    return Table(table.name, ids, columns, location if isinstance(location, str) else None, file)


def _pynwb_column(column: Any, file: str) -> Column:
    stops = None
    if isinstance(column, VectorIndex):
        stops, column = column.data, column.target
    table = column.table if isinstance(column, DynamicTableRegion) else None
    return Column(
        column.data,
        stops,
        None if table is None else _pynwb_table(table, file),
        column.elements.data if isinstance(column, EnumData) else None,
        partial(_pynwb_referred, column.data)
        if table is None and isinstance(column.data, AbstractH5ReferenceDataset)
        else None,
    )


def _pynwb_referred(references: Any) -> list[Referred]:
    return [Referred(item.name, str(getattr(item, "location", ""))) for item in references[:]]


def _pynwb_series(series: TimeSeries, file: str) -> Series:
    rois = getattr(series, "rois", None)
    # NWB 2.5 and later link the images of an IndexSeries as `indexed_images`, earlier versions as `indexed_timeseries`.
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
        None if rois is None else _pynwb_column(rois, file),
        None if images is None else _pynwb_template(images, file),
        file,
    )


def _pynwb_template(template: Any, file: str) -> Template:
    if isinstance(template, Images):
        order = template.order_of_images
        names = None if order is None else [image.name for image in order.data[:]]
        images = {image.name: image.data for image in template.images.values()}
        return images_template(template.name, images, names, file)
    return series_template(
        template.name,
        template.data,
        getattr(template, "external_file", None),
        getattr(template, "starting_frame", None),
    )
