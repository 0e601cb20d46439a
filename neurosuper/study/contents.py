"""What any file of an analysis contains, in words: a recording, results, a matrix, or images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from neurosuper._checks import one_line
from neurosuper.comparison import headline
from neurosuper.images import image_labels
from neurosuper.loaders import inspect_nwb
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.responses import name_some

__all__ = ["inspect_file"]


def inspect_file(path: str | Path) -> str:
    """Return what a file contains, as text, and how to load it.

    Parameters
    ----------
    path : path
        An NWB file (see `neurosuper.inspect_nwb`), a `study.nc`, a matrix of responses (.npy, .npz, .nc), or a
        folder or zip file of images.

    Returns
    -------
    str
        Several lines.

    Raises
    ------
    FileNotFoundError
        No such file, or no image in a folder.
    ValueError
        A file of another format, or a damaged one.

    See Also
    --------
    neurosuper.inspect_nwb : the same for an NWB file, as an object.
    new_study : write a study file for it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "v4.npy")
    >>> np.save(path, np.zeros((89, 1200)))
    >>> print(inspect_file(path).splitlines()[0].partition("v4.npy")[2])
    : array of shape (89, 1200), float64
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}; check the path")
    if suffix == ".nwb":
        return str(inspect_nwb(path))
    if suffix == ".nc":
        with open_netcdf(path) as data:
            describe = _describe_study if "format_version" in data.attrs else _describe_netcdf
            return "\n".join(describe(path, data))
    if suffix in (".npy", ".npz"):
        return "\n".join(_describe_arrays(path))
    labels = image_labels(path)
    return (
        f"{path}: {len(labels):,} images, labelled {name_some(labels)}\nTo load them:\n"
        f"  neurosuper.load_images({str(path)!r})"
    )


def _describe_study(path: Path, data: xr.Dataset) -> Iterator[str]:
    provenance = json.loads(data.attrs.get("provenance", "{}"))
    created = provenance.get("created", "at an unknown time")
    yield f"{path}: results of the study {data.attrs.get('title', '')!r}, written {created}"
    if note := data.attrs.get("note"):
        yield note
    counts = data.interpretability[:, 0].groupby(["system", "finder"]).count().to_series().unstack("finder")
    yield from ["", "Items (system, finder):", counts.fillna(0).astype(int).to_string(), ""]
    yield f"Metrics: {', '.join(map(str, data.metric.values))}"
    if "command" in provenance:
        yield f"Command: {provenance['command']}"
    yield from ["", *headline(data.load())]
    yield from ["", "To load the scores:", f"  neurosuper.study.read_numbers({str(path)!r})"]


def _describe_netcdf(path: Path, data: xr.Dataset) -> Iterator[str]:
    for name, array in data.data_vars.items():
        sizes = ", ".join(f"{dim} {n:,}" for dim, n in array.sizes.items())
        yield f"{path}: array {name!r} ({sizes}), {array.dtype}"
    yield from _advice(path, {str(name): array.shape for name, array in data.data_vars.items()})


def _describe_arrays(path: Path) -> Iterator[str]:
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            arrays = {path.stem: (array.shape, array.dtype)}
        else:
            # Opened here, because numpy leaves a broken zip file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
                arrays = {name: (loaded[name].shape, loaded[name].dtype) for name in loaded}
    except Exception as error:  # broken bytes can raise any type of exception
        raise ValueError(f"cannot read {path}: {one_line(error)}; if it was cut short, fetch it again") from error
    for name, (shape, dtype) in arrays.items():
        label = "" if path.suffix.lower() == ".npy" else f" {name!r}"
        yield f"{path}: array{label} of shape {shape}, {dtype}"
    yield from _advice(path, {name: shape for name, (shape, _) in arrays.items()})


def _advice(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Yield how to load the first array that may be responses; of three axes, the shortest is the repetitions."""
    fitting = [name for name, shape in shapes.items() if len(shape) in (2, 3)]
    if not fitting:
        return
    dims = ["unit", "stimulus"]
    if len(shape := shapes[fitting[0]]) == 3:
        dims.insert(int(np.argmin(shape)), "repetition")
    variable = f", variable={fitting[0]!r}" if len(shapes) > 1 else ""
    yield "To load responses, name the axes in their order (here a guess), and the images in the order of the stimuli:"
    yield f"  neurosuper.load_array({str(path)!r}, dims={tuple(dims)}, stimuli='folder of images'{variable})"
