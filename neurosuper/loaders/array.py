"""Responses from a matrix in a file, with its axes in any order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurosuper._checks import one_line
from neurosuper._image_files import check_archive
from neurosuper._labels import name_some
from neurosuper._memory import memory_of_machine
from neurosuper._optional import require
from neurosuper._zarr import check_codecs, refuse_sparse
from neurosuper.images import LAZY_BYTES
from neurosuper.loaders.array_files import (
    LazyArrays,
    is_matlab73,
    open_h5_arrays,
    open_matlab,
    open_safetensors,
    open_torch,
)
from neurosuper.loaders.file_checks import check_file, open_hdf5
from neurosuper.loaders.in_memory import label_responses
from neurosuper.loaders.labelling import Stimuli
from neurosuper.loaders.netcdf import check_netcdf
from neurosuper.loaders.request import Request
from neurosuper.loaders.text_tables import read_text_table
from neurosuper.responses import check_responses

__all__ = ["load_array"]

TEXT = (".csv", ".tsv", ".txt")
HDF5 = (".h5", ".hdf5")
SUFFIXES = (".npy", ".npz", ".nc", ".zarr", ".mat", *HDF5, *TEXT, ".pt", ".pth", ".safetensors")


def load_array(
    path: str | Path,
    dims: Sequence[str] | None = None,
    *,
    stimuli: Stimuli | None = None,
    units: Sequence | np.ndarray | str | None = None,
    trials: Any = None,
    measured_in: str | None = None,
    unit_coords: Mapping[str, Sequence | np.ndarray] | None = None,
    variable: str | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return responses from a file that contains a matrix.

    Parameters
    ----------
    path : path
        A file of NumPy (.npy, .npz), netCDF (.nc), MATLAB (.mat of any version), HDF5 (.h5, .hdf5), torch (.pt, .pth)
        or safetensors, a table (.csv, .tsv, .txt), or a folder .zarr (needs the extra `zarr`).
    dims : sequence of str, optional
        Names of the axes, in the order of the file (of a .mat: of MATLAB): "stimulus" (or "trial"), "unit" and, if
        stimuli were repeated, "repetition". May be left out if axes have usual names in the file, or if the numbers of
        labels fit one order only. In a table, units are columns.
    stimuli : labels, labelled array, path of the images, or name, optional
        Labels along the axis, in its order; or an array with `stimulus` labels (as from `load_images`), whose coord
        `content` is copied too; or the folder or zip file of the images, one per stimulus, sorted by label as text; or
        the name of the column, coord or other array in the file that contains the labels.
        By default the labels in the file. A warning is given if sorting as text puts numbers in another order (1, 10,
        2).
    units : labels or name, optional
        Labels of the units in order, or the name of the coord or other array in the file that contains them; in a
        table, the list of the columns that are units (by default all columns of numbers). By default the labels in the
        file, else positions.
    trials : labels, DataFrame, path of a .csv file, or name, optional
        If rows are trials: the label of the stimulus of each, as in `as_responses`; or the name of the column, coord or
        other array in the file that contains them.
    measured_in : str, optional
        Unit of measurement, such as "spikes/s". By default the one in the file, else "a.u.".
    unit_coords : mapping of str to sequence, optional
        Coords of the units, such as `area`, with one value per unit.
    variable : str, optional
        Name of the array, if the file contains several: a path such as "session/rates" in HDF5 and structs of MATLAB.
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, repetition, unit)
        Responses in the dtype of the file. In memory up to 1 GiB; a larger array is a dask array over the file (a .npz
        is always read as a whole).

    Raises
    ------
    FileNotFoundError
        No file or folder at that path.
    ValueError
        Another format, an unreadable file, axes or arrays that remain ambiguous (the error names the candidates), no
        labels for the stimuli, or a number of labels that differs from the axis.
    ImportError
        A .zarr without zarr installed, or a .safetensors without safetensors.

    See Also
    --------
    as_responses : The same for arrays and tables in memory.
    load_nwb : Load responses from an NWB file.
    load : Load a published dataset by its id.
    load_images : Load the images.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "rates.npy")
    >>> np.save(path, [[1., 2., 3.], [4., 5., 6.]])
    >>> r = load_array(path, ("unit", "stimulus"), stimuli=["cat", "dog", "owl"], unit_coords={"area": ["V1", "V4"]})
    >>> r.sel(stimulus="dog").values.tolist()
    [2.0, 5.0]
    """
    path = Path(path).expanduser()
    _check_path(path)
    request = Request(dims, stimuli, units, trials, unit_coords or {}, path.name)
    if path.suffix.lower() in TEXT:
        check_file(path, "CSV")
        with _errors_in_one_line(path):
            values = read_text_table(path, request)
    else:
        values, request = _read(path, request, variable, allow_external)
    responses = label_responses(values, request)
    attrs = {"units": measured_in or responses.attrs.get("units", "a.u."), "source": path.name}
    return check_responses(responses.assign_attrs(attrs))


def _check_path(path: Path) -> None:
    if not (path.is_file() or path.is_dir()):
        raise FileNotFoundError(f"no array at {path}; check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot read {path.name}: an array is a file in {', '.join(SUFFIXES)}; save it in one of these formats, "
            "or pass the array itself to neurosuper.as_responses"
        )


def _read(path: Path, request: Request, variable: str | None, allow_external: bool) -> tuple[xr.DataArray, Request]:
    """Return a file's matrix, in memory or as a dask array if it is large, and labels of its other arrays."""
    _check_store(path, allow_external)
    with ExitStack() as stack:
        with _errors_in_one_line(path):
            arrays = _open(path, stack, allow_external)
        name = _choose(arrays, variable, path)
        with _errors_in_one_line(path):
            array = xr.DataArray(arrays[name])
        array = array.drop_encoding()
        if not array.size:
            raise ValueError(f"{path.name} contains an empty array of shape {array.shape}; fetch it again")
        with _errors_in_one_line(path):
            request = _with_labels(request, arrays, name)
            if array.nbytes <= LAZY_BYTES:
                return array.copy(data=np.array(array.data)).load(), request
    token = f"{path}-{name}-{path.stat().st_mtime_ns}"  # spares dask from hashing the whole matrix
    return array, replace(request, token=token)


def _with_labels(request: Request, arrays: Mapping, chosen: str) -> Request:
    """Return the request with the labels in place of the name of another array of the file that contains them."""

    def read_labels(name: Any) -> Any:
        return np.asarray(arrays[name]) if isinstance(name, str) and name in arrays and name != chosen else name

    named = {"stimuli": request.stimuli, "units": request.units, "trials": request.trials}
    return replace(request, **{setting: read_labels(name) for setting, name in named.items()})


def _check_store(path: Path, allow_external: bool) -> None:
    """Before a file is opened, refuse it if it takes data from other files, or if its codecs may run code."""
    suffix = path.suffix.lower()
    if suffix == ".nc":
        check_netcdf(path, allow_external=allow_external)
    elif suffix == ".zarr":
        check_codecs(path)
    elif suffix in (".mat", *HDF5):
        check_file(path, "MATLAB" if suffix == ".mat" else "HDF5")
        if suffix in HDF5 or is_matlab73(path):
            with open_hdf5(path, allow_external=allow_external):
                pass


def _open(path: Path, stack: ExitStack, allow_external: bool) -> Mapping:
    """Return the arrays of a file by name, without reading their data."""
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return open_matlab(path, stack, allow_external=allow_external)
    if suffix in HDF5:
        return open_h5_arrays(path, stack, allow_external=allow_external)
    if suffix in (".pt", ".pth", ".safetensors"):
        return open_safetensors(path) if suffix == ".safetensors" else open_torch(path)
    if suffix == ".zarr":
        return _open_zarr(path)
    if suffix == ".nc":
        return stack.enter_context(xr.open_dataset(path, engine="netcdf4", decode_timedelta=False)).data_vars
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {path.stem: loaded}
    stack.enter_context(loaded)
    check_archive(loaded.zip, path)
    if max((member.file_size for member in loaded.zip.infolist()), default=0) > memory_of_machine():
        raise MemoryError  # an array in a zip file is read as a whole, and zeros are packed to 1/1000 of their bytes
    return loaded


def _open_zarr(path: Path) -> Mapping:
    """Return the variables of a store written by xarray, or the single array of a store without groups."""
    zarr = require("zarr", "zarr")
    node = zarr.open(path, mode="r")
    for array in [node] if isinstance(node, zarr.Array) else [member for _, member in node.arrays()]:
        refuse_sparse(path, array.nbytes, array.nchunks)
    if not isinstance(node, zarr.Array):
        return xr.open_dataset(path, engine="zarr", consolidated=False, chunks=None, decode_timedelta=False).data_vars
    import dask.array as da

    return {path.stem: da.from_zarr(node)}


@contextmanager
def _errors_in_one_line(path: Path) -> Iterator[None]:
    """Raise any exception of a library as a ValueError in one line: broken bytes can raise any type of exception."""
    try:
        yield
    except ImportError:
        raise
    except MemoryError as error:
        raise ValueError(
            f"cannot read {path}: it does not fit into memory; save it as .npy, which is read in blocks"
        ) from error
    except Exception as error:
        reason = one_line(error)
        raise ValueError(
            f"cannot read {path}: {reason}; if it was cut short, fetch it again, else save it as plain numbers"
        ) from error


def _choose(arrays: Mapping, variable: str | None, path: Path) -> str:
    """Return the name of the array of responses: the one that was named, else the only one, or the only matrix."""
    names = list(arrays)
    if variable is None:
        matrices = arrays.matrices() if isinstance(arrays, LazyArrays) else names
        if len(names) == 1 or len(matrices) == 1:
            return names[0] if len(names) == 1 else matrices[0]
        names = matrices or names
    if variable is None or variable not in names:
        problem = "no variable was named" if variable is None else f"there is no {variable!r}"
        raise ValueError(f"{path.name} contains the arrays {name_some(names, 10)} and {problem}; pass variable=")
    return variable
