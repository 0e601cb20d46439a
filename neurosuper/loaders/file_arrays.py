"""The arrays in a file of any format: shapes, types, names of axes, first values, without reading large data."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from neurosuper._checks import one_line
from neurosuper._image_files import check_archive
from neurosuper._optional import require
from neurosuper._zarr import check_codecs
from neurosuper.loaders.file_checks import check_file, open_hdf5, read_mat
from neurosuper.loaders.netcdf import open_netcdf

__all__ = ["ArrayInFile", "list_arrays"]

N_EXAMPLES = 3
MAX_LABELS = 10**6  # entries of a list that is read as a whole, to know whether they repeat
TEXT = "text"


class ArrayInFile(NamedTuple):
    """An array in a file, without its data.

    Parameters
    ----------
    shape : tuple of int
        As the loader gives it: that of MATLAB for .mat.
    dtype : str
        Type of numbers, or "text".
    examples : str
        The first values.
    dims : tuple of str
        Names of the axes; empty if they have none.
    labels : list or None
        All values, of a list of text or whole numbers.
    """

    shape: tuple[int, ...]
    dtype: str
    examples: str
    dims: tuple[str, ...] = ()
    labels: list | None = None


def list_arrays(path: Path) -> dict[str, ArrayInFile]:
    """Return the arrays in a file by name, or those of a table by column.

    Raises
    ------
    ValueError
        A damaged file.
    ImportError
        The format needs a package that is not installed.
    """
    try:
        return dict(READERS[path.suffix.lower()](path))
    except (ImportError, FileNotFoundError):
        raise
    except Exception as error:  # broken bytes can raise any type of exception
        reason = one_line(error)
        place = f"{path}: " if str(path) not in reason and path.name not in reason else ""
        raise ValueError(f"{place}{reason}") from error


def _summarize(shape: tuple[int, ...], values: Any, dims: tuple[str, ...] = ()) -> ArrayInFile:
    """Return what is known of an array, from its values or, if it is large, from the first of them."""
    values = np.asarray(values)
    is_text = values.dtype.kind in "UOST"
    flat = [_as_text(value) if is_text else value for value in values.ravel().tolist()]
    examples = ", ".join(map(_example, flat[:N_EXAMPLES])) + (", …" if math.prod(shape) > N_EXAMPLES else "")
    is_list = sum(n > 1 for n in shape) == 1 and len(flat) == math.prod(shape)
    whole = is_text or values.dtype.kind in "iu" or (values.dtype.kind == "f" and bool((values % 1 == 0).all()))
    return ArrayInFile(
        shape, TEXT if is_text else str(values.dtype), examples, dims, flat if is_list and whole else None
    )


def _as_text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _example(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read_some(array: Any, shape: tuple[int, ...]) -> Any:
    """Return all values of a list, else those of the first row."""
    if not shape or (sum(n > 1 for n in shape) <= 1 and math.prod(shape) <= MAX_LABELS):
        return array[()]
    return array[(0,) * (len(shape) - 1)][:N_EXAMPLES] if all(shape) else []


def _list_npy(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    yield path.stem, _summarize(array.shape, _read_some(array, array.shape))


def _list_npz(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
        for member in archive.namelist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = np.lib.format.read_array_header_1_0
                if version > (1, 0):
                    read_header = np.lib.format.read_array_header_2_0
                shape, _, dtype = read_header(file)
                if dtype.hasobject:
                    yield member.removesuffix(".npy"), ArrayInFile(shape, "Python objects, which may run code", "")
                    continue
                is_list = sum(n > 1 for n in shape) <= 1 and math.prod(shape) <= MAX_LABELS
                n = math.prod(shape) if is_list else N_EXAMPLES
                values = np.frombuffer(file.read(n * dtype.itemsize), dtype)
                yield member.removesuffix(".npy"), _summarize(shape, values)


def _list_netcdf(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    with open_netcdf(path, decode_times=False) as data:
        for name, array in data.variables.items():
            yield str(name), _summarize(array.shape, _read_some(array, array.shape), tuple(map(str, array.dims)))


def _list_zarr(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    zarr = require("zarr", "zarr")
    check_codecs(path)
    node = zarr.open(path, mode="r")
    arrays = {path.stem: node} if isinstance(node, zarr.Array) else dict(node.arrays())
    for name, array in arrays.items():
        named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS", ())
        yield name, _summarize(array.shape, _read_some(array, array.shape), tuple(map(str, named)))


def _list_hdf5(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    import h5py

    with open_hdf5(path) as file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, node: found.update({name: node} if isinstance(node, h5py.Dataset) else {}))
        for name, array in found.items():
            if h5py.check_string_dtype(array.dtype) is not None:
                array = array.asstr()
            elif array.dtype.kind not in "biufUS":
                yield name, ArrayInFile(array.shape, str(array.dtype), "")
                continue
            yield name, _summarize(found[name].shape, _read_some(array, found[name].shape))


def _list_mat(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    import h5py

    if h5py.is_hdf5(check_file(path, "MATLAB")):
        yield from _list_mat73(path)
        return
    from scipy.io import whosmat

    shapes = {name: (shape, kind) for name, shape, kind in whosmat(path)}
    for name, (shape, kind) in shapes.items():
        if kind not in ("char", "cell") and (kind in ("struct", "object", "function") or math.prod(shape) > MAX_LABELS):
            yield name, ArrayInFile(shape, kind, "")
            continue
        values = read_mat(path, [name])[name]
        if kind == "cell":
            values = np.array([_of_cell(cell) for cell in values.ravel()], dtype=str)
        yield name, _summarize(shape if kind != "char" else values.shape, values)


def _of_cell(cell: Any) -> str:
    """Return the text of a cell of MATLAB; "…" if it contains an array."""
    content = np.asarray(cell).squeeze()
    return str(content) if content.ndim == 0 else "…"


def _list_mat73(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    """Yield the variables of a file of MATLAB 7.3, which is HDF5 with axes in reversed order."""
    import h5py

    with open_hdf5(path) as file:
        for name, array in file.items():
            if not isinstance(array, h5py.Dataset):
                continue
            kind, shape = array.attrs.get("MATLAB_class", b"").decode(), array.shape[::-1]
            if kind == "char":
                rows = ["".join(map(chr, row)) for row in np.atleast_2d(array[()].T)]
                yield name, _summarize((len(rows),), rows)
            elif kind == "cell":
                yield name, _summarize(shape, [_of_reference(file[cell]) for cell in array[()].T.ravel()])
            elif array.dtype.kind in "biuf":
                yield name, _summarize(shape, _read_some(array, array.shape))
            else:
                yield name, ArrayInFile(shape, kind or str(array.dtype), "")


def _of_reference(cell: Any) -> str:
    """Return the text of a cell of MATLAB 7.3; "…" if it contains anything else."""
    is_text = cell.attrs.get("MATLAB_class") == b"char" and cell.dtype.kind in "ui"
    return "".join(map(chr, np.ravel(cell[()].T))) if is_text else "…"


def _list_table(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    if path.suffix.lower() == ".parquet":
        require("pyarrow", "export")
        table = pd.read_parquet(path)
    else:
        table = pd.read_csv(check_file(path, "CSV"), sep="\t" if path.suffix.lower() == ".tsv" else ",")
    for name, column in table.items():
        yield str(name), _summarize((len(column),), column.to_numpy())


READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, ArrayInFile]]]] = {
    ".npy": _list_npy,
    ".npz": _list_npz,
    ".nc": _list_netcdf,
    ".zarr": _list_zarr,
    ".h5": _list_hdf5,
    ".hdf5": _list_hdf5,
    ".mat": _list_mat,
    ".csv": _list_table,
    ".tsv": _list_table,
    ".parquet": _list_table,
}
