"""Measures of superposition of a study, and the factors of its stimuli; `superposition.nc` contains the tree of them.

Layout of `superposition.nc`: a group for each result (see `neurosuper.superposition.measure_superposition`). The attr
`provenance` of its root is that of the `study.nc` next to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import netCDF4
import pandas as pd
import xarray as xr

from neurosuper._checks import one_line_with_type
from neurosuper._labels import as_label, match_file_names
from neurosuper.comparison import Fit
from neurosuper.loaders.netcdf import check_netcdf
from neurosuper.loaders.request import Request
from neurosuper.loaders.text_tables import read_text_table
from neurosuper.responses import coords_along, name_some
from neurosuper.study.build import Metrics, System
from neurosuper.study.file import Study
from neurosuper.study.references import References
from neurosuper.superposition import measure_superposition
from neurosuper.superposition.all_measures import check_measures, make_tree

SUPERPOSITION = "superposition.nc"
STIMULUS = "stimulus"  # column of a table of factors


def measure_study(
    study: Study,
    systems: Sequence[System],
    fits: Sequence[Fit],
    images: xr.DataArray,
    metrics: Metrics,
    factors: xr.Dataset | None,
) -> xr.DataTree | None:
    """Return the measures that a study asks for, of the fits of one seed; None if it asks for none."""
    table = study.superposition
    if table is None:
        return None
    options = table.model_dump(exclude={"measures", "metric"})
    if study.factors is not None:
        options["bins"] = study.factors.bins
    return measure_superposition(
        {system.name: system.responses if system.repeated is None else system.repeated for system in systems},
        fits,
        images,
        metrics[metric_of(study)],
        measures=table.measures or "all",
        factors=factors,
        top=study.top,
        stimulus_groups=study.stimulus_groups,
        random_state=study.seeds[0],
        **options,
    )


def describe_measures(study: Study) -> str:
    """Return what a study measures of superposition, in a line; "" if nothing."""
    if study.superposition is None:
        return ""
    names = check_measures(study.superposition.measures or "all", study.factors is not None)
    return f"superposition: {', '.join(names)}; images by {metric_of(study)}"


def metric_of(study: Study) -> str:
    """Return the name of the metric of the measures of superposition."""
    asked = study.superposition.metric if study.superposition else None
    return asked or next(iter(study.metrics))


def load_factors(study: Study, systems: Sequence[System], images: xr.DataArray, files: References) -> xr.Dataset | None:
    """Return the factors (stimulus,) of all stimuli of a study; None if it has none.

    Columns of a table come first, then coords of the images, then those of the systems.
    """
    table = study.factors
    if table is None:
        return None
    columns = {} if table.path is None else _read_columns(files.input_path(table.path), images)
    names = list(columns) if table.names is None else table.names
    if len(names) < 2:
        raise ValueError(f"[factors] needs at least 2 factors; {table.path} has {', '.join(names) or 'none'}")
    shown = pd.Index(sorted({label for system in systems for label in system.responses.stimulus.values.tolist()}))
    found = {}
    for name in names:
        column = columns[name] if name in columns else _column_of_coords(name, images, systems, list(columns))
        column = column.reindex(shown)
        if column.isna().any():
            missing = name_some(shown[column.isna()])
            raise ValueError(f"[factors] {name} is missing for stimulus {missing}; add it, or leave the factor out")
        found[name] = ("stimulus", _as_kind(name, column, table.kinds.get(name)))
    return xr.Dataset(found, {"stimulus": shown.to_numpy()})


def _read_columns(path: Path, images: xr.DataArray) -> dict[str, pd.Series]:
    """Return the columns of a table of factors, labelled by stimulus."""
    if not path.is_file():
        raise FileNotFoundError(f"[factors] no table {path}; check the path")
    try:
        table = read_text_table(path, Request(stimuli=STIMULUS))
    except (ValueError, OSError) as error:
        raise ValueError(f"[factors] {path} is not a table of text: {one_line_with_type(error)}") from error
    if STIMULUS not in table.columns:
        raise ValueError(
            f"[factors] {path} has no column {STIMULUS!r}, the labels of the images; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    labels = [as_label(label) for label in table.pop(STIMULUS)]
    labels = match_file_names(labels, images.stimulus.values.tolist()) or labels
    if (twice := pd.Index(labels)[pd.Index(labels).duplicated()]).size:
        raise ValueError(f"[factors] {path} has stimulus {name_some(twice.unique())} twice; keep one line for each")
    return {str(name): table[name].set_axis(labels) for name in table}


def _column_of_coords(name: str, images: xr.DataArray, systems: Sequence[System], columns: Sequence[str]) -> pd.Series:
    """Return a stimulus coord of the images, or else that of the systems which have it."""
    arrays = [images, *(system.responses for system in systems)]
    own = [coords_along(array, "stimulus") for array in arrays]
    found = [
        pd.Series(coords[name].values, array.stimulus.values)
        for array, coords in zip(arrays, own, strict=True)
        if name in coords and name != STIMULUS
    ]
    if not found:
        known = sorted({*columns, *(str(key) for coords in own for key in coords)} - {STIMULUS})
        raise ValueError(f"[factors] no factor {name!r}; there are {', '.join(known) or 'no stimulus coords'}")
    column = found[0]
    for other in found[1:]:
        column = pd.concat([column, other[~other.index.isin(column.index)]])
    return column


def _as_kind(name: str, column: pd.Series, kind: str | None) -> object:
    """Return the values of a factor as labels or numbers."""
    column = column.infer_objects()
    is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if kind == "label" or (kind is None and not is_number):
        return column.map(as_label).to_numpy(str)
    try:
        return pd.to_numeric(column).to_numpy(float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"[factors] {name} is not a number for all stimuli: {one_line_with_type(error)}") from error


def write_tree(path: Path, tree: xr.DataTree) -> None:
    """Write the measures as netCDF."""
    tree.to_netcdf(path)


def read_tree(path: Path) -> xr.DataTree:
    """Return measures, or twins, that were written, in memory."""
    groups = read_groups(path)
    root, nodes = groups.pop(""), {f"/{name}": group for name, group in groups.items()}
    return make_tree(root, nodes) if "measures" in root.attrs else xr.DataTree.from_dict({"/": root} | nodes)


def read_groups(path: Path) -> dict[str, xr.Dataset]:
    """Return the contents of a netCDF file by group, those with variables; "" is its root."""
    with netCDF4.Dataset(check_netcdf(path)) as file:
        names = ["", *_groups_below(file, "")]
    return {name: xr.load_dataset(path, group=name or None, engine="netcdf4") for name in names}


def _groups_below(group: netCDF4.Dataset, path: str) -> Iterator[str]:
    for name, inner in group.groups.items():
        if inner.variables:
            yield f"{path}{name}"
        yield from _groups_below(inner, f"{path}{name}/")
