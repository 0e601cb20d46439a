"""The arrays in a file of any format: shapes, types, names of axes, first values, without reading large data."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from neurosuper._checks import one_line
from neurosuper._image_files import check_archive
from neurosuper._optional import require
from neurosuper._zarr import check_codecs
from neurosuper.loaders.array_files import open_h5_arrays, open_matlab, open_safetensors, open_torch
from neurosuper.loaders.file_checks import check_file
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.loaders.request import Request
from neurosuper.loaders.text_tables import read_text_table

__all__ = ["INDEX", "READERS", "TABLES", "TEXT", "ArrayInFile", "list_arrays"]

N_EXAMPLES = 3
MAX_LABELS = 10**6  # entries of a list that is read as a whole, to know whether they repeat
TEXT = "text"
INDEX = "(rows)"  # labels of the rows of a table


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


def _list_lazily(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    """Yield the arrays of a format whose loader gives them by name: .mat, .h5, .pt, .safetensors."""
    with ExitStack() as stack:
        match path.suffix.lower():
            case ".mat":
                arrays: Mapping[str, Any] = open_matlab(path, stack)
            case ".h5" | ".hdf5":
                arrays = open_h5_arrays(path, stack)
            case ".safetensors":
                arrays = open_safetensors(path)
            case _:
                arrays = open_torch(path)
        for name in arrays:
            array = arrays[name]
            shape = np.shape(array)
            yield name, _summarize(shape, _read_some(array, shape) if hasattr(array, "shape") else array)


def _list_table(path: Path) -> Iterator[tuple[str, ArrayInFile]]:
    if path.suffix.lower() == ".parquet":
        require("pyarrow", "export")
        table = pd.read_parquet(path)
    else:
        table = read_text_table(check_file(path, "CSV"), Request(what=path.name))
    if not isinstance(table.index, pd.RangeIndex):  # labels of the rows
        yield INDEX, _summarize((len(table),), table.index.to_numpy())
    for name, column in table.items():
        yield str(name), _summarize((len(column),), column.to_numpy())


Reader = Callable[[Path], Iterator[tuple[str, ArrayInFile]]]
LAZY = (".mat", ".h5", ".hdf5", ".pt", ".pth", ".safetensors")
TABLES = (".csv", ".tsv", ".parquet")
READERS: dict[str, Reader] = {
    ".npy": _list_npy,
    ".npz": _list_npz,
    ".nc": _list_netcdf,
    ".zarr": _list_zarr,
    **dict.fromkeys(LAZY, _list_lazily),
    **dict.fromkeys(TABLES, _list_table),
}
