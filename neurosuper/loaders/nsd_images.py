"""Images of the Natural Scenes Dataset, with the same labels as its responses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neurosuper._content import CONTENT
from neurosuper._labels import check_labels, clean_labels, name_some
from neurosuper.images import CHUNK, check_images, load_images
from neurosuper.loaders.file_checks import open_hdf5
from neurosuper.loaders.nsd import as_labels

if TYPE_CHECKING:
    import h5py

__all__ = ["load_nsd_images"]

IMAGES = Path("nsddata_stimuli", "stimuli", "nsd", "nsd_stimuli.hdf5")


def load_nsd_images(
    path: str | Path,
    stimuli: Sequence[str] | xr.DataArray | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return images of NSD, with the same labels as in `load_nsd`.

    Parameters
    ----------
    path : path
        File nsd_stimuli.hdf5, or a folder laid out like the bucket, with the file in `nsddata_stimuli/stimuli/nsd`.
    stimuli : sequence of str or labelled array, optional
        Labels (nsdIds) such as "00042", or responses to the images. By default all 73,000.
    size : int or (rows, columns), optional
        Resize every image to this size in pixels; see `load_images`.
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        RGB images of type uint8, as a dask array over the file, read 64 images at a time.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        An unreadable file, or labels that are not nsdIds.

    See Also
    --------
    load_nsd : Load the responses.

    Examples
    --------
    >>> import numpy as np
    >>> import h5py, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "nsd_stimuli.hdf5")
    >>> with h5py.File(path, "w") as file:
    ...     file["imgBrick"] = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    >>> load_nsd_images(path, ["00001"]).values[0, 0].tolist()
    [[12, 13, 14], [15, 16, 17]]
    """
    import dask
    import dask.array as da

    path = Path(path) / IMAGES if Path(path).is_dir() else Path(path)
    with open_hdf5(path, allow_external=allow_external) as file:
        n, *shape = _image_brick(file).shape
    labels = as_labels(np.arange(n)) if stimuli is None else _labels_of(stimuli)
    positions = _positions(labels, n)

    def read(rows: list[int]) -> np.ndarray:
        with open_hdf5(path, allow_external=allow_external) as file:
            return np.stack([_image_brick(file)[i] for i in rows])

    blocks = [positions[i : i + CHUNK] for i in range(0, len(positions), CHUNK)]
    stack = da.concatenate(
        [da.from_delayed(dask.delayed(read)(block), (len(block), *shape), np.uint8) for block in blocks]
    )
    images = xr.DataArray(
        stack,
        dims=("stimulus", "row", "column", "channel"),
        coords={"stimulus": labels, "channel": ["red", "green", "blue"], CONTENT: ("stimulus", [""] * len(labels))},
        name="image",
        attrs={"source": path.name},
    )
    return check_images(images) if size is None else load_images(images, size=size)


def _image_brick(file: h5py.File) -> h5py.Dataset:
    brick = file["imgBrick"]
    shape, dtype = getattr(brick, "shape", ()), getattr(brick, "dtype", None)
    if len(shape) != 4 or shape[-1:] != (3,) or dtype != np.uint8:
        raise ValueError(
            f"{file.filename} contains imgBrick of shape {shape} and dtype {dtype}, but images are uint8 (image, row, "
            "column, channel); fetch it again"
        )
    return brick


def _labels_of(stimuli: Sequence[str] | xr.DataArray) -> list[str]:
    if not isinstance(stimuli, xr.DataArray):
        return clean_labels([str(label) for label in stimuli])
    return check_labels(stimuli, "stimulus", "stimuli").stimulus.values.tolist()


def _positions(labels: list[str], n: int) -> list[int]:
    wrong = [label for label in labels if not re.fullmatch(r"\d{5}", label) or int(label) >= n]
    if wrong or not labels:
        raise ValueError(f"stimuli must be nsdIds, '00000' to '{n - 1:05d}', got {name_some(wrong)}; see load_nsd")
    return [int(label) for label in labels]
