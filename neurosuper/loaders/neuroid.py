"""Brain-Score assemblies: netCDF files of presentation × neuroid × time bin, as written by brainio (MajajHong2015, …).

brainio stores no MultiIndex: properties of presentations, neuroids and time bins are plain variables along these dims,
and the dims themselves have no labels. Source: the BrainIO format specification and `write_netcdf`,
brain-score/brainio.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._labels import as_label, clean_labels
from neurosuper.loaders.arrange import arrange
from neurosuper.loaders.file_checks import check_file
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.responses import check_responses, name_some

__all__ = ["load_neuroid"]

STIMULUS_IDS = ("stimulus_id", "image_id")
STIMULUS_FILES = ("filename", "image_file_name")
ABOUT_STIMULI = {"category_name": "category", "object_name": "object_name"}  # variable in the file: coord
NO_FACTORS = {*STIMULUS_IDS, *STIMULUS_FILES, "presentation", "repetition", "stimulus"}  # labels and numbers of trials
OWN_COORDS = {"unit", "split", "content", "n_repetitions"}  # which mean something else in responses
BLOCK_BYTES = 2**26  # read at once, before averaging over time bins


def load_neuroid(
    path: str | Path,
    *,
    companion: str | Path | None = None,
    window: tuple[float, float] | None = None,
    area_column: str | None = "region",
    regions: Collection[str] | str | None = None,
    stimulus_coord: str | None = None,
    measured_in: str | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return the responses of a Brain-Score NeuroidAssembly from its netCDF file.

    Parameters
    ----------
    path : path of a .nc file
        Contains one variable, of any name, along presentation, neuroid and, unless it was dropped, time_bin, in any
        order.
    companion : path of a .csv file, optional
        The stimulus set: stimuli are then named by the base name of their `filename` (or `image_file_name`), as in
        `load_images`, and its columns become coords. By default they are named by their id.
    window : (start, stop), optional
        Seconds after onset; the time bins within it are averaged. By default all of them.
    area_column : str, optional
        Variable along neuroid that names the area; None if there is none.
    regions : str or collection of str, optional
        Keep only the units of these areas; no others are loaded into memory.
    stimulus_coord : str, optional
        Variable along presentation that names the stimulus; by default `stimulus_id`, else `image_id`.
    measured_in : str, optional
        Unit of measurement; by default the one in the file, else "a.u.".
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Responses as float32. Repetitions are in the order of the variable `repetition`, else of the file; NaN if a
        stimulus has fewer repetitions, or a presentation lacks a time bin. Units are named by `neuroid_id`, with
        `area`, `subject` and all other variables along neuroid as coords. Coords of stimuli are `category` (the
        variable `category_name`), `object_name`, and all other variables along presentation that have one value for
        each stimulus, such as pose, position, size and background: factors for `disentanglement`. Numbers stay numbers.
        One whose name is taken, as by a coord of units, is called `stimulus_…`. `attrs["window"]` is the window of the
        time bins used, in s. While reading, about twice the result is in memory.

    Raises
    ------
    FileNotFoundError
        No file at that path.
    ValueError
        A file that is not such an assembly, no such variable, region or time bin, a category that differs between
        presentations of a stimulus, or a stimulus set that lacks a stimulus.

    See Also
    --------
    load_array : Load any matrix of responses.
    load_images : Load the images.
    neurosuper.superposition.disentanglement : Whether units encode single factors of the stimuli.

    Examples
    --------
    >>> from pathlib import Path
    >>> import xarray as xr
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "assy.nc")
    >>> coords = {"stimulus_id": ("presentation", ["owl", "cat", "owl"]), "neuroid_id": ("neuroid", ["a", "b"])}
    >>> data = xr.DataArray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dims=("neuroid", "presentation"), coords=coords)
    >>> data.to_netcdf(path)
    >>> load_neuroid(path, area_column=None).sel(stimulus="owl", unit="b").values.tolist()
    [4.0, 6.0]
    """
    with open_netcdf(path, allow_external=allow_external, decode_times=False) as data:
        recorded = _find_responses(data, path)
        coords = _unit_coords(data, path, area_column)
        kept = _in_regions(coords, regions, path)
        bins, span = _bins(data, recorded, window, path)
        labels = _texts(_along(data, "presentation", STIMULUS_IDS if stimulus_coord is None else stimulus_coord, path))
        about = _along_presentation(data, stimulus_coord)
        order = _along(data, "presentation", "repetition", path) if "repetition" in data else None
        values = _read(recorded, kept, bins)
        attrs = data.attrs | recorded.attrs
    stimuli, arranged = arrange(values, labels, order)
    facts = _facts(stimuli, labels, about)
    if companion is not None:
        stimuli, from_set = _read_stimulus_set(companion, stimuli)
        facts |= from_set
    responses = xr.DataArray(
        arranged,
        dims=("stimulus", "repetition", "unit"),
        coords={name: ("unit", values[kept]) for name, values in coords.items()}
        | {_free_name(name, coords.keys()): ("stimulus", values) for name, values in facts.items()}
        | {"stimulus": stimuli},
        attrs={"units": measured_in or attrs.get("units", "a.u."), "source": Path(path).name}
        | ({} if span is None else {"window": span})
        | ({"dataset": attrs["identifier"]} if "identifier" in attrs else {}),
    )
    return check_responses(responses)


def _find_responses(data: xr.Dataset, path: str | Path) -> xr.Variable:
    """Return the one variable with responses, without reading it."""
    found = {str(name): v for name, v in data.variables.items() if {"presentation", "neuroid"} <= set(v.dims)}
    if len(found) != 1:
        got = f"there are {name_some(list(found))}" if found else f"its dims are {name_some(list(data.sizes))}"
        raise ValueError(
            f"{path} is not a NeuroidAssembly: exactly one variable must have the dims presentation and neuroid, but "
            f"{got}; check the file, or use load_array"
        )
    variable = next(iter(found.values()))
    if extra := set(variable.dims) - {"presentation", "neuroid", "time_bin"}:
        raise ValueError(f"{path} has the extra dims {sorted(map(str, extra))}; select or average them first")
    return variable


def _along(data: xr.Dataset, dim: str, names: str | Sequence[str], path: str | Path) -> np.ndarray:
    """Return the values of the first of some variables that is stored along a dim."""
    wanted = [names] if isinstance(names, str) else list(names)
    known = [str(name) for name, variable in data.variables.items() if variable.dims == (dim,)]
    for name in wanted:
        if name in known:
            return data.variables[name].values
    raise ValueError(f"{path} has no {' or '.join(wanted)} along {dim}; it has {name_some(known, 20) or 'nothing'}")


def _texts(values: np.ndarray) -> np.ndarray:
    return np.array([as_label(value) for value in values.tolist()], dtype=str)


def _unit_coords(data: xr.Dataset, path: str | Path, area_column: str | None) -> dict[str, np.ndarray]:
    """Return all variables along neuroid, under the names of unit coords."""
    for needed in ("neuroid_id", area_column):
        if needed is not None:
            _along(data, "neuroid", needed, path)
    known = {str(name): variable.values for name, variable in data.variables.items() if variable.dims == ("neuroid",)}
    known.pop("neuroid", None)
    names = {"neuroid_id": "unit", "animal": "subject", area_column: "area"}
    return {
        names.get(name, name): values if values.dtype.kind in "iufb" and name != "neuroid_id" else _texts(values)
        for name, values in known.items()
    }


def _in_regions(coords: dict[str, np.ndarray], regions: Collection[str] | str | None, path: str | Path) -> np.ndarray:
    """Return the positions of the units to keep."""
    if regions is None:
        return np.arange(len(coords["unit"]))
    if "area" not in coords:
        raise ValueError("regions needs area_column, the variable along neuroid that names the area; got None")
    wanted = [regions] if isinstance(regions, str) else list(regions)
    if unknown := sorted(set(wanted) - set(coords["area"].tolist())):
        raise ValueError(
            f"{path} has no unit in {name_some(unknown)}; it has {name_some(np.unique(coords['area']), 20)}"
        )
    return np.flatnonzero(np.isin(coords["area"], wanted))


def _bins(
    data: xr.Dataset, recorded: xr.Variable, window: tuple[float, float] | None, path: str | Path
) -> tuple[np.ndarray, list[float] | None]:
    """Return the positions of the time bins to average, and the time (s) from the first to the last of them."""
    edges = [np.atleast_1d(data[name].values) for name in ("time_bin_start", "time_bin_end") if name in data.variables]
    if len(edges) < 2:
        if window is not None:
            raise ValueError(f"{path} has no times of its bins, so no window can be chosen; leave window out")
        return np.arange(recorded.sizes.get("time_bin", 1)), None
    starts, ends = edges
    chosen = np.ones(len(starts), bool)
    if window is not None:
        if np.shape(window) != (2,) or not window[0] < window[1]:
            raise ValueError(f"window must be (start, stop) in seconds, with start before stop, got {window!r}")
        chosen = (starts >= 1000 * window[0] - 1e-6) & (ends <= 1000 * window[1] + 1e-6)  # brainio stores ms
    if not chosen.any():
        raise ValueError(
            f"no time bin of {path} is within {tuple(window or ())} s; its {len(starts)} bins go from "
            f"{starts.min() / 1000:g} to {ends.max() / 1000:g} s, the first until {ends[0] / 1000:g} s"
        )
    return np.flatnonzero(chosen), [float(starts[chosen].min()) / 1000, float(ends[chosen].max()) / 1000]


def _read(recorded: xr.Variable, kept: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return responses (presentation, unit) averaged over time bins, reading the file chunk by chunk."""
    import dask.array as da
    from dask.array.core import normalize_chunks

    chunks = normalize_chunks(
        "auto",
        shape=recorded.shape,
        limit=BLOCK_BYTES,
        dtype=recorded.dtype,
        previous_chunks=recorded.encoding.get("chunksizes"),
    )
    lazy = recorded.chunk(dict(zip(recorded.dims, chunks, strict=True))).isel(neuroid=kept)
    if "time_bin" in lazy.dims:
        lazy = lazy.isel(time_bin=bins).mean("time_bin", skipna=False)
    lazy = lazy.astype(np.float32).transpose("presentation", "neuroid")
    values = np.empty(lazy.shape, np.float32)
    da.store(lazy.data, values, lock=False, scheduler="synchronous")
    return values


def _along_presentation(data: xr.Dataset, stimulus_coord: str | None) -> dict[str, np.ndarray]:
    """Return what is known of each presentation, but for its labels."""
    known = {
        str(name): variable.values for name, variable in data.variables.items() if variable.dims == ("presentation",)
    }
    return {name: values for name, values in known.items() if name not in NO_FACTORS | {stimulus_coord}}


def _facts(stimuli: list[str], labels: np.ndarray, about: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what has one value for each stimulus; refuse a category or object that differs between presentations."""
    found, first, which = np.unique(labels, return_index=True, return_inverse=True)
    order, facts = np.searchsorted(found, stimuli), {}
    for name, values in about.items():
        codes = pd.factorize(values)[0]  # missing values are equal
        differs = found[np.unique(which[codes != codes[first][which]])]
        if not len(differs):
            facts[name] = _as_numbers_or_texts(name, values[first][order])
        elif name in ABOUT_STIMULI:
            names = f"{ABOUT_STIMULI[name]} differs between presentations of stimulus {name_some(differs)}"
            raise ValueError(f"{names}; correct the file")
    return facts


def _as_numbers_or_texts(name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "iufb" and name not in ABOUT_STIMULI:
        return values
    return np.where(pd.isnull(values), "", _texts(values))


def _free_name(name: str, of_units: Collection[str]) -> str:
    """Return the name of a coord of stimuli: another one if it is taken."""
    name = ABOUT_STIMULI.get(name, name)
    return f"stimulus_{name}" if name in OWN_COORDS or name in of_units else name


def _read_stimulus_set(path: str | Path, stimuli: list[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the base names of the image files of stimuli, and what else is known of them, from a table."""
    table = pd.read_csv(check_file(path, "CSV"), dtype=str)
    names = [name for name in STIMULUS_IDS if name in table]
    files = [name for name in STIMULUS_FILES if name in table]
    if not names or not files:
        raise ValueError(f"{path} needs the columns stimulus_id (or image_id) and filename; it has {list(table)}")
    table[names[0]] = clean_labels(table[names[0]].fillna("").tolist())
    rows = table.drop_duplicates(names[0]).set_index(names[0]).reindex(stimuli)
    if (missing := rows[files[0]].isna()).any():
        raise ValueError(
            f"{path} lacks stimulus {name_some(rows.index[missing])}; pass the stimulus set of this assembly"
        )
    others = [name for name in rows if name not in NO_FACTORS and not name.startswith("Unnamed:")]
    return [PurePosixPath(name).stem for name in rows[files[0]]], {name: _parsed(name, rows[name]) for name in others}


def _parsed(name: str, column: pd.Series) -> np.ndarray:
    """Return a column of text as numbers if all of it is, except for codes with leading zeros, such as 007."""
    given = column.dropna()
    numbers = pd.to_numeric(given, errors="coerce")
    if not len(given) or numbers.isna().any() or given.str.fullmatch(r"\s*[+-]?0\d+").any():
        return _as_numbers_or_texts(name, column.to_numpy(object))
    return _as_numbers_or_texts(name, numbers.reindex(column.index).to_numpy())
