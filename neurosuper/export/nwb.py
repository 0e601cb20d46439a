"""Directions, codes and indices as tables of a processing module in an NWB file, with core types only."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

import neurosuper
from neurosuper._files import whole_file
from neurosuper.export.flat import tidy
from neurosuper.loaders.file_checks import open_hdf5
from neurosuper.responses import coords_along, name_some

if TYPE_CHECKING:
    from hdmf.common import DynamicTable
    from pynwb import NWBFile, ProcessingModule

__all__ = ["write_nwb"]

DESCRIPTIONS = {  # of columns of the scores; others are described by their name
    "interpretability": "index: minus the mean distance between the images of the top stimuli (0: identical images)",
    "corrected": "index without what the mean distances of the images to all others explain",
    "chance_level": "mean index of random sets of as many stimuli",
    "n_active": "number of stimuli with a code above the most frequent one, among those that were scored",
    "metric": "name of the distance between images",
    "quantity": "what the metric measures",
    "direction": "row of the table of directions",
    "unit": "row of the Units table of this file",
}


def write_nwb(
    path: str | Path,
    directions: xr.DataArray,
    codes: xr.DataArray | None = None,
    comparison: xr.Dataset | None = None,
    *,
    module: str = "neurosuper",
    unit_names: str | None = "id",
    new_file: NWBFile | None = None,
) -> None:
    """Write directions, codes and their interpretability into an NWB file, as a processing module of tables.

    The module contains up to five tables of core types (DynamicTable), which every NWB reader opens:

    - `directions`: a row for each direction, with its `label` and its `weights`, one for each row of `units`.
    - `units`: the units of the weights, with their `label`, and `unit`, a reference to the row of the Units table of
      the file (if it has one).
    - `codes`: a row for each stimulus, with its label (`stimulus`) and its `codes`, one for each row of `directions`.
    - `scores_of_directions`: a row for each direction and metric, with the columns of `tidy` that are not empty, and a
      reference to the row of `directions`.
    - `scores_of_units`: the same for single units, with references to `units`.

    If the file exists, it is copied next to itself, the module is added to the copy, and the copy takes its place: a
    failure leaves the file as it was, and until the end this takes as much disk again. To leave an original untouched,
    write to a copy of it, or make a `new_file` that contains only the module.

    Parameters
    ----------
    path : path
        An NWB file.
    directions : DataArray (direction, unit)
        `directions_` of a fitted finder, or directions of one's own.
    codes : DataArray (stimulus, direction), optional
        From `transform` of the finder.
    comparison : Dataset (item, metric), optional
        From `compare` or `run_study`: of one system, one seed, and one finder besides `Units`, whose directions these
        are.
    module : str, optional
        Name of the processing module; for several finders or systems, choose one for each call.
    unit_names : str or None, optional
        Column of the file's Units table that contains the labels of the units: "id", as in `load_nwb`. None: write no
        references, for units that are not in the file.
    new_file : pynwb.NWBFile, optional
        Makes a new file: with the description of the session, its start, and the subject, as of any NWB file.

    Raises
    ------
    FileNotFoundError
        No such file, and no `new_file`.
    ValueError
        The file is damaged or has a module of this name; a `new_file` where one exists; arrays with other dims; units
        that are not in the Units table; codes or scores of other directions; a comparison of several systems, seeds or
        finders.

    See Also
    --------
    tidy : The scores as a flat table.
    neurosuper.load_nwb : Reads responses from an NWB file.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import UTC, datetime
    >>> from pynwb import NWBHDF5IO, NWBFile
    >>> directions = xr.DataArray(np.eye(2, 3), dims=("direction", "unit"),
    ...                           coords={"direction": ["a", "b"], "unit": ["7", "8", "9"]})
    >>> path = Path(tempfile.mkdtemp(), "results.nwb")
    >>> write_nwb(path, directions, new_file=NWBFile("V4", "session-1", datetime(2023, 10, 17, tzinfo=UTC)))
    >>> with NWBHDF5IO(path, "r") as io:
    ...     io.read().processing["neurosuper"]["directions"].to_dataframe().label.tolist()
    ['a', 'b']
    """
    path = Path(path)
    _check(directions, codes)
    _check_path(path, new_file)
    with whole_file(path) as partial:
        if new_file is None:
            with open_hdf5(path, "NWB"):
                pass
            shutil.copyfile(path, partial)
        with _opened(partial, new_file) as nwb:
            if module in nwb.processing:
                raise ValueError(f"{path} has a processing module {module!r} already; choose another name with module=")
            _fill(nwb, _make_module(nwb, module), directions, codes, comparison, unit_names)


def _check(directions: xr.DataArray, codes: xr.DataArray | None) -> None:
    for name, array, dims in (
        ("directions", directions, ("direction", "unit")),
        ("codes", codes, ("stimulus", "direction")),
    ):
        if array is not None and (not isinstance(array, xr.DataArray) or {*array.dims} != {*dims}):
            got = array.dims if isinstance(array, xr.DataArray) else type(array).__name__
            raise ValueError(f"{name} must be a DataArray with the dims {' and '.join(dims)}, got {got}")
    if codes is not None and codes.direction.values.tolist() != directions.direction.values.tolist():
        raise ValueError(
            f"codes are of {name_some(codes.direction.values)}, and directions are "
            f"{name_some(directions.direction.values)}; pass the codes of these directions, in the same order"
        )


def _check_path(path: Path, new_file: NWBFile | None) -> None:
    if new_file is None and not path.is_file():
        raise FileNotFoundError(f"no file {path}; to make a new one, pass new_file=pynwb.NWBFile(…)")
    if new_file is not None and path.exists():
        raise ValueError(f"{path} exists; leave out new_file to add to it, or choose another path")


@contextmanager
def _opened(path: Path, new_file: NWBFile | None) -> Iterator[NWBFile]:
    """Yield the file at `path`, or a new one, and write it if the block ends without an exception."""
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what others wrote into the file, and its temporary name
        with NWBHDF5IO(path, "a" if new_file is None else "w") as io:
            nwb = io.read() if new_file is None else new_file
            yield nwb
            io.write(nwb)


def _make_module(nwb: NWBFile, name: str) -> ProcessingModule:
    about = f"directions of a neural population and their interpretability, by neurosuper {neurosuper.__version__}"
    return nwb.create_processing_module(name, about)


def _fill(
    nwb: NWBFile,
    module: ProcessingModule,
    directions: xr.DataArray,
    codes: xr.DataArray | None,
    comparison: xr.Dataset | None,
    unit_names: str | None,
) -> None:
    """Add all tables to a module."""
    D = directions.transpose("direction", "unit")
    about = "; ".join(str(D.attrs[key]) for key in ("method", "settings") if key in D.attrs)
    of_directions = _add(
        module,
        "directions",
        f"directions in the space of the responses of units{about and f', found by {about}'}",
        {"label": (D.direction.values, "label of the direction")}
        | {"weights": (D.values, "weight of each unit, in the order of the table units")},
    )
    coords = {
        name: (coord.values, f"{name} of the unit") for name, coord in coords_along(D, "unit").items() if name != "unit"
    }
    rows = _rows_of(nwb, D.unit.values, unit_names)
    recorded = {} if rows is None else {"unit": (nwb.units, rows)}
    labels = {"label": (D.unit.values, "label of the unit")}
    of_units = _add(module, "units", "units that directions have weights for", labels | coords, recorded)
    if codes is not None:
        Z = codes.transpose("stimulus", "direction")
        unit = f", in {codes.attrs['units']}" if "units" in codes.attrs else ""
        about = f"code of each direction, in the order of the table directions{unit}"
        columns = {"stimulus": (Z.stimulus.values, "label of the image"), "codes": (Z.values, about)}
        _add(module, "codes", "codes: how strongly each direction responds to each stimulus", columns)
    if comparison is not None:
        referred = {"directions": (of_directions, D.direction.values, np.arange(len(D)))}
        own = (of_units, np.arange(D.sizes["unit"])) if rows is None else (nwb.units, rows)
        referred["units"] = own[0], D.unit.values, own[1]
        _add_scores(module, comparison, referred)


def _add_scores(
    module: ProcessingModule,
    comparison: xr.Dataset,
    referred: Mapping[str, tuple[DynamicTable, np.ndarray, np.ndarray]],
) -> None:
    """Add the scores of directions and of units, each with references to the rows of a table that have these labels."""
    scores = tidy(comparison)
    for name in ("system", "seed"):
        if name in scores and scores[name].nunique() > 1:
            raise ValueError(
                f"the comparison has the {name}s {name_some(scores[name].unique().astype(str))}; select one, as in "
                f"comparison.isel(item=(comparison.{name} == …).values)"
            )
    labels = scores.direction.astype(str).values
    unknown = ~np.isin(labels, np.concatenate([known for _, known, _ in referred.values()]).astype(str))
    if unknown.any():
        raise ValueError(
            f"the comparison has the items {name_some(pd.unique(labels[unknown]))}, which are neither directions nor "
            "units of `directions`; select the others, as in comparison.isel(item=comparison.finder.isin([…]).values)"
        )
    if scores.duplicated(["direction", "metric"]).any():
        raise ValueError("the comparison has several finders with directions of the same label; select one of them")
    for kind, (table, known, rows) in referred.items():
        own = scores[np.isin(labels, known.astype(str))]
        if len(own):
            places = rows[pd.Index(known.astype(str)).get_indexer(own.direction.astype(str))]
            filled = [name for name in own if name != "direction" and not own[name].isin([np.nan, ""]).all()]
            columns = {name: (own[name].to_numpy(), _describe(comparison, name)) for name in filled}
            about = f"interpretability of {kind}: a row for each of them and each distance between images"
            _add(module, f"scores_of_{kind}", about, columns, {kind.removesuffix("s"): (table, places)})


def _describe(comparison: xr.Dataset, name: str) -> str:
    """Return the description of a column of scores."""
    if name.startswith("top_") and name[4:].isdigit():
        return f"label of the image with rank {name[4:]} by response or code, 1 is the highest"
    own = comparison[name].attrs if name in comparison.variables else {}
    if "long_name" in own:
        return f"{own['long_name']} ({own['units']})" if "units" in own else own["long_name"]
    return DESCRIPTIONS.get(name, f"{name.replace('_', ' ')}, as in neurosuper.compare")


def _add(
    module: ProcessingModule,
    name: str,
    description: str,
    columns: Mapping[str, tuple[np.ndarray, str]],
    references: Mapping[str, tuple[DynamicTable, np.ndarray]] | None = None,
) -> DynamicTable:
    """Add a table to a module: columns with their descriptions, and references to rows of other tables."""
    from hdmf.common import DynamicTable, DynamicTableRegion, VectorData

    data = [
        DynamicTableRegion(column, rows.tolist(), f"row of the table {table.name} of this file", table)
        for column, (table, rows) in (references or {}).items()
    ]
    for column, (values, about) in columns.items():
        taken = hasattr(DynamicTable, column) or column in (references or {})
        is_text = values.dtype.kind not in "iufb"
        data.append(VectorData(f"{column}_" if taken else column, about, list(map(str, values)) if is_text else values))
    table = DynamicTable(name, description, columns=data)
    module.add(table)
    return table


def _rows_of(nwb: NWBFile, labels: np.ndarray, unit_names: str | None) -> np.ndarray | None:
    """Return the row of each unit in the Units table of a file; None if there is no table or none is wanted."""
    if nwb.units is None or unit_names is None:
        return None
    if unit_names != "id" and unit_names not in nwb.units.colnames:
        raise ValueError(f"the Units table has no column {unit_names!r}; it has id, {', '.join(nwb.units.colnames)}")
    values = nwb.units.id[:] if unit_names == "id" else nwb.units[unit_names].data[:]
    names = pd.Index([value.decode() if isinstance(value, bytes) else str(value) for value in values])
    rows = names.get_indexer_for(labels.astype(str))
    if (rows < 0).any():
        raise ValueError(
            f"the Units table has no unit {name_some(labels[rows < 0])} in its column {unit_names!r}, but "
            f"{name_some(names.values)}; name another column with unit_names=, or pass None to write no references"
        )
    return rows
