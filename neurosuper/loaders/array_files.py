"""Arrays in files of MATLAB, HDF5, torch and safetensors, by name; each is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neurosuper._optional import require
from neurosuper.loaders.file_checks import is_matlab_hdf5, open_hdf5, read_mat

__all__ = ["LazyArrays", "is_matlab73", "open_h5_arrays", "open_matlab", "open_safetensors", "open_torch"]

MATLAB_CLASS = "MATLAB_class"  # the attribute that MATLAB writes on every dataset of a file of version 7.3


class LazyArrays(Mapping[str, Any]):
    """Arrays of a file by name; `[name]` reads one. `shapes` of matrices is known before."""

    def __init__(self, readers: Mapping[str, Callable[[], Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._readers, self.shapes = readers, shapes

    def __getitem__(self, name: str) -> Any:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers  # that of Mapping would read the array

    def __len__(self) -> int:
        return len(self._readers)

    def matrices(self) -> list[str]:
        """Return the names of the arrays of numbers with two axes or more that are longer than 1."""
        return [name for name, shape in self.shapes.items() if sum(n > 1 for n in shape) > 1]


class _H5Matrix:
    """A dataset of an HDF5 file that is opened for each slice, so that a dask array over it keeps no file open."""

    def __init__(self, path: Path, name: str, dataset: Any) -> None:
        self._path, self._name = path, name
        self.shape, self.dtype, self.ndim, self.chunks = dataset.shape, dataset.dtype, dataset.ndim, dataset.chunks

    def __getitem__(self, key: Any) -> np.ndarray:
        import h5py

        with h5py.File(self._path, "r") as file:
            return file[self._name][key]


def open_h5_arrays(path: Path, stack: ExitStack, *, allow_external: bool = False) -> LazyArrays:
    """Return the datasets of an HDF5 file, by their paths; those that MATLAB wrote have MATLAB's order of axes.

    Parameters
    ----------
    path : Path
        The file.
    stack : ExitStack
        Closes the file.
    allow_external : bool, optional
        As in `open_hdf5`.
    """
    import dask.array as da
    import h5py

    file = stack.enter_context(open_hdf5(path, allow_external=allow_external))
    readers: dict[str, Callable[[], Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def matrix(name: str) -> Any:
        whole = da.from_array(_H5Matrix(path, name, file[name]), asarray=True, name=False)
        # HDF5 stores the axes of MATLAB, whose first axis changes fastest, in reverse order.
        return whole.T if MATLAB_CLASS in file[name].attrs else whole

    def add(name: str, found: Any) -> None:
        if not isinstance(found, h5py.Dataset) or name.startswith("#"):  # "#refs#" contains the cells of MATLAB
            return
        is_text = h5py.check_string_dtype(found.dtype) or _class_of(found) in ("char", "cell")
        if is_text or found.dtype.kind in "SUO":
            readers[name] = lambda: _texts(found)
        elif found.dtype.kind in "iufb":
            readers[name] = lambda: matrix(name)
            shapes[name] = found.shape[::-1] if MATLAB_CLASS in found.attrs else found.shape

    file.visititems(add)
    return LazyArrays(readers, shapes)


def _class_of(dataset: Any) -> str:
    name = dataset.attrs.get(MATLAB_CLASS, b"")
    return name.decode() if isinstance(name, bytes) else str(name)


def _texts(dataset: Any) -> np.ndarray:
    """Return text of an HDF5 file: strings, or a list of them in a cell array or a matrix of letters of MATLAB 7.3."""
    import h5py

    if h5py.check_ref_dtype(dataset.dtype) is not None:
        cells = [dataset.file[reference] for reference in dataset[()].ravel()]
        return np.array([_texts(cell)[0] if _class_of(cell) == "char" else cell[()].ravel()[0] for cell in cells])
    if _class_of(dataset) == "char":  # (letter, row) of UTF-16
        letters = np.atleast_2d(dataset[()]).astype("<u2").T
        return np.array([row.tobytes().decode("utf-16-le") for row in np.ascontiguousarray(letters)])
    return np.asarray(dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()])


def open_matlab(path: Path, stack: ExitStack, *, allow_external: bool = False) -> LazyArrays:
    """Return the variables of a MATLAB file of any version, in MATLAB's order of axes; fields of structs as "s/field".

    Parameters
    ----------
    path : Path
        The file.
    stack : ExitStack
        Closes the file.
    allow_external : bool, optional
        As in `open_hdf5`, for a file of version 7.3, which is HDF5.
    """
    if is_matlab73(path):
        return open_h5_arrays(path, stack, allow_external=allow_external)
    from scipy.io import whosmat

    readers: dict[str, Callable[[], Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape, kind in whosmat(path):
        if kind == "struct":
            fields = _fields(read_mat(path, [name])[name])
            readers |= {f"{name}/{field}": partial(_plain, value) for field, value in fields.items()}
            shapes |= {f"{name}/{f}": value.shape for f, value in fields.items() if value.dtype.kind in "iufb"}
            continue
        readers[name] = partial(_read_variable, path, name)
        if kind not in ("char", "cell", "function", "opaque", "object", "sparse", "unknown"):
            shapes[name] = shape
    return LazyArrays(readers, shapes)


def is_matlab73(path: Path) -> bool:
    """Return whether a file is of MATLAB 7.3, which is HDF5."""
    with path.open("rb") as file:
        return is_matlab_hdf5(file.read(520))


def _read_variable(path: Path, name: str) -> np.ndarray:
    return _plain(read_mat(path, [name])[name])


def _fields(struct: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of a struct, if it is a single one."""
    if struct.size != 1 or struct.dtype.names is None:
        return {}
    return {field: np.asarray(struct[field].ravel()[0]) for field in struct.dtype.names}


def _plain(value: np.ndarray) -> np.ndarray:
    """Return a cell array of text or numbers as a flat list, and any other array as it is."""
    if value.dtype != object:
        return value
    return np.array([np.asarray(cell).ravel()[0] if np.size(cell) else "" for cell in value.ravel()])


def open_torch(path: Path) -> LazyArrays:
    """Return the tensors of a file of torch by name, and lists of labels; nothing is unpickled.

    Parameters
    ----------
    path : Path
        Written by `torch.save`: a tensor, or a dict of tensors and lists.
    """
    import torch

    stored = torch.load(path, map_location="cpu", weights_only=True)
    parts = stored if isinstance(stored, dict) else {path.stem: stored}
    arrays = {str(name): _as_numpy(part) if isinstance(part, torch.Tensor) else part for name, part in parts.items()}
    return _in_memory(arrays)


def open_safetensors(path: Path) -> LazyArrays:
    """Return the tensors of a safetensors file by name (needs the extra `export`).

    Parameters
    ----------
    path : Path
        The file.
    """
    tensors = require("safetensors.torch", "export").load_file(path)
    arrays = {name: _as_numpy(tensor) for name, tensor in tensors.items()}
    return _in_memory(arrays)


def _in_memory(arrays: Mapping[str, Any]) -> LazyArrays:
    """Return arrays that were read already."""
    shapes = {name: part.shape for name, part in arrays.items() if isinstance(part, np.ndarray)}
    return LazyArrays({name: partial(arrays.__getitem__, name) for name in arrays}, shapes)


def _as_numpy(tensor: Any) -> np.ndarray:
    """Return a tensor as an array; bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
