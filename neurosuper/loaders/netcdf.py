"""Open netCDF files after the checks of `open_hdf5`, which the netCDF library does not make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from neurosuper._checks import one_line
from neurosuper.loaders.file_checks import HDF5_MAGIC, check_file, open_hdf5

__all__ = ["check_netcdf", "open_netcdf"]


def check_netcdf(path: str | Path, *, allow_external: bool = False) -> Path:
    """Return the path of a netCDF file after the checks of `open_hdf5`.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `check_file` and `open_hdf5`.
    """
    path = check_file(path, "netCDF")
    with path.open("rb") as file:
        is_hdf5 = file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    if is_hdf5:
        with open_hdf5(path, "netCDF", allow_external=allow_external):
            pass
    return path


@contextmanager
def open_netcdf(path: str | Path, *, allow_external: bool = False, **options: Any) -> Iterator[xr.Dataset]:
    """Open a netCDF file (3 or 4) for reading, without loading its data.

    Parameters
    ----------
    path : path
        The file.
    allow_external : bool, optional
        Allow a netCDF-4 file, which is HDF5, to take data from other files.
    **options
        Passed to `xarray.open_dataset`.

    Yields
    ------
    Dataset
        The opened file.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `open_hdf5`; and a file that xarray cannot read.

    Examples
    --------
    >>> import pathlib, tempfile, xarray
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.nc")
    >>> xarray.Dataset({"rate": ("unit", [1, 2])}).to_netcdf(path)
    >>> with open_netcdf(path) as data:
    ...     data.rate.values.tolist()
    [1, 2]
    """
    path = check_netcdf(path, allow_external=allow_external)
    try:
        with xr.open_dataset(path, engine="netcdf4", **options) as data:
            yield data
    except (OSError, RuntimeError) as error:
        reason = one_line(error)
        raise ValueError(f"{path} cannot be read as netCDF: {reason}; it is damaged, fetch it again") from error
    except MemoryError as error:
        raise ValueError(f"{path} declares more data than fit into memory; fetch it again") from error
