"""Responses from a matrix in .npy, .npz, .nc or .zarr, with its axes in any order."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

from neurosuper._checks import one_line
from neurosuper._content import CONTENT, content_of
from neurosuper._image_files import check_archive
from neurosuper._labels import check_labels, clean_label, name_some
from neurosuper._memory import memory_of_machine
from neurosuper._optional import require
from neurosuper._zarr import check_codecs, refuse_sparse
from neurosuper.images import LAZY_BYTES, image_labels
from neurosuper.loaders.netcdf import check_netcdf
from neurosuper.responses import check_responses

__all__ = ["load_array"]

NUMBER = re.compile(r"(\d+)")
SUFFIXES = (".npy", ".npz", ".nc", ".zarr")
Stimuli = Sequence[str] | np.ndarray | xr.DataArray | str | Path


def load_array(
    path: str | Path,
    dims: Sequence[str] | None = None,
    *,
    stimuli: Stimuli | None = None,
    unit_coords: Mapping[str, Sequence | np.ndarray] | None = None,
    units: str | None = None,
    variable: str | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return responses from a file that contains a matrix.

    Parameters
    ----------
    path : path
        A file .npy, .npz or .nc (netCDF), or a folder .zarr (needs the extra `zarr`).
    dims : sequence of str, optional
        Names of the axes, in the order of the file: "stimulus", "unit" and, if stimuli were repeated, "repetition".
        May be left out for .nc and .zarr files whose axes have these names.
    stimuli : labels, labelled array, or path of the images, optional
        Labels along the axis, in its order; or an array with `stimulus` labels (as from `load_images`), whose coord
        `content` is copied too; or the folder or zip file of the images, one per stimulus, sorted by label as text.
        By default the labels in the file. A warning is given if sorting as text puts numbers in another order (1, 10,
        2).
    unit_coords : mapping of str to sequence, optional
        Coords of the units, such as `area`; the key "unit" gives their labels. By default units keep their labels in
        the file, else they are named by their position.
    units : str, optional
        Unit of measurement, such as "spikes/s". By default the one in the file, else "a.u.".
    variable : str, optional
        Name of the array, if the file contains several.
    allow_external : bool, optional
        Read a .nc that takes data from other files of this machine: external storage, external links, virtual datasets.
        By default it is refused.

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
        Another format, an unreadable file, axes or variable not named, no labels for the stimuli, or a number of labels
        that differs from the axis.
    ImportError
        A .zarr without zarr installed.

    See Also
    --------
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
    path = Path(path)
    array = _read(path, dims, variable, allow_external)
    given = {name: ("unit", _fitted(array, "unit", values)) for name, values in (unit_coords or {}).items()}
    if stimuli is not None:
        coords = _stimulus_coords(stimuli)
        given |= {name: ("stimulus", _fitted(array, "stimulus", values)) for name, values in coords.items()}
    array = _name_labels(array.assign_coords(given), path)
    attrs = {"units": units or array.attrs.get("units", "a.u."), "source": path.name}
    return check_responses(array.assign_attrs(attrs))


def as_label(value: object) -> str:
    """Return a value of a file as a label: text in Unicode form NFC (bytes of UTF-8, else Latin-1), 12.0 as "12"."""
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return clean_label(str(value))


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")  # which assigns a letter to every byte


def _read(path: Path, dims: Sequence[str] | None, variable: str | None, allow_external: bool) -> xr.DataArray:
    """Return a file's matrix with named axes: in memory, or as a dask array if it is large."""
    if not (path.is_file() or path.is_dir()):
        raise FileNotFoundError(f"no array at {path}; check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot read {path.name}: an array is a file in {', '.join(SUFFIXES)}; save it in one of these formats"
        )
    _check_store(path, allow_external)
    with ExitStack() as stack:
        with _errors_in_one_line(path):
            arrays = _open(path, stack)
        name = _choose(list(arrays), variable, path)
        with _errors_in_one_line(path):
            array = xr.DataArray(arrays[name])
        array = _name_axes(array, dims, path).drop_encoding()
        if not array.size:
            raise ValueError(f"{path.name} contains an empty array of shape {array.shape}; fetch it again")
        if array.nbytes <= LAZY_BYTES:
            with _errors_in_one_line(path):
                return array.copy(data=np.array(array.data)).load()
    token = f"{path}-{name}-{path.stat().st_mtime_ns}"  # spares dask from hashing the whole matrix
    return array.chunk({dim: "auto" if dim == "stimulus" else -1 for dim in array.dims}, token=token)


def _check_store(path: Path, allow_external: bool) -> None:
    """Before a file is opened, refuse it if it takes data from other files, or if its codecs may run code."""
    suffix = path.suffix.lower()
    if suffix == ".nc":
        check_netcdf(path, allow_external=allow_external)
    elif suffix == ".zarr":
        check_codecs(path)


def _open(path: Path, stack: ExitStack) -> Mapping:
    """Return the arrays of a file by name, without reading their data."""
    suffix = path.suffix.lower()
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


def _choose(names: list[str], variable: str | None, path: Path) -> str:
    if variable is None and len(names) == 1:
        return names[0]
    if variable not in names:
        problem = "no variable was named" if variable is None else f"there is no {variable!r}"
        raise ValueError(f"{path.name} contains the arrays {name_some(names, 10)} and {problem}; pass variable=")
    return variable


def _name_axes(array: xr.DataArray, dims: Sequence[str] | None, path: Path) -> xr.DataArray:
    names = array.dims if dims is None else tuple(dims)
    if len(names) != array.ndim or set(names) - {"repetition"} != {"stimulus", "unit"} or len(set(names)) < len(names):
        raise ValueError(
            f"{path.name} has shape {array.shape}; dims must name each axis 'stimulus', 'unit' or 'repetition' "
            f"(if stimuli were repeated), got {names}"
        )
    if set(array.dims) == set(names) and array.dims != names:
        raise ValueError(
            f"{path.name} itself names its axes {array.dims}, which dims={names} contradicts; leave dims out"
        )
    return array.rename({old: new for old, new in zip(array.dims, names, strict=True) if old != new})


def _stimulus_coords(stimuli: Stimuli) -> dict[str, Sequence | np.ndarray]:
    """Return the labels of the stimuli, and the content of their images if it is known."""
    if isinstance(stimuli, str | Path):
        labels = image_labels(stimuli)
        _warn_of_text_order(labels, str(stimuli))
        return {"stimulus": labels}
    if not isinstance(stimuli, xr.DataArray):
        return {"stimulus": stimuli}
    stimuli = check_labels(stimuli, "stimulus", "stimuli")
    _warn_of_text_order(stimuli.stimulus.values.tolist(), "the array passed as stimuli")
    content = content_of(stimuli)
    return {"stimulus": stimuli.stimulus.values} | ({} if content is None else {CONTENT: content})


def _warn_of_text_order(labels: list[str], source: str) -> None:
    """Warn if labels that differ by a number are sorted as text, which puts 10 before 2."""
    if labels != sorted(labels):
        return  # the order was chosen
    same_text: dict[tuple[str, ...], dict[str, list[int]]] = {}  # numbers of the labels that share their other text
    for label in labels:
        pieces = NUMBER.split(label)  # text, number, text, …
        same_text.setdefault(tuple(pieces[::2]), {})[label] = [int(number) for number in pieces[1::2]]
    for numbers in same_text.values():
        by_number = sorted(numbers, key=numbers.__getitem__)
        if by_number != list(numbers):
            warnings.warn(
                f"{source}: labels with numbers of different length are sorted as text: {', '.join([*numbers][:3])}, "
                f"…; if responses are in order of number ({', '.join(by_number[:3])}, …), pass stimuli= a list of the "
                "labels in that order; a list of labels is used as given, without this warning",
                stacklevel=4,
            )
            return


def _fitted(array: xr.DataArray, dim: str, values: Sequence | np.ndarray) -> np.ndarray:
    """Return values as an array with one value per position along a dim; the error says how many are needed."""
    values = np.asarray(values)
    if values.shape != (array.sizes[dim],):
        raise ValueError(
            f"the array has length {array.sizes[dim]} along {dim!r}, but values of shape {values.shape} were given for "
            "it; check dims and their order"
        )
    return values


def _name_labels(array: xr.DataArray, path: Path) -> xr.DataArray:
    """Return the array with text labels; units without labels are named by their position."""
    if "stimulus" not in array.indexes:
        raise ValueError(
            f"{path.name} has no stimulus labels; pass stimuli= a list of labels, the labelled images, or the path of "
            "their folder or zip file"
        )
    if "unit" not in array.indexes:
        digits = len(str(array.sizes["unit"] - 1))
        array = array.assign_coords(unit=[f"{i:0{digits}d}" for i in range(array.sizes["unit"])])
    return array.assign_coords({dim: [as_label(v) for v in array[dim].values] for dim in ("stimulus", "unit")})
