"""What a file contains, and a proposal of how to load it: arrays in any format, tables, images, NWB."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neurosuper.images import image_labels
from neurosuper.loaders.file_arrays import READERS, TEXT, ArrayInFile, list_arrays
from neurosuper.loaders.nwb import NWBContents, inspect_nwb
from neurosuper.responses import name_some

__all__ = ["FileContents", "inspect_file"]

TABLES = (".csv", ".tsv", ".parquet")
MAX_LISTED = 40  # arrays, or columns of a table, that are listed
NAMES = {  # of axes and of lists of labels, by what they usually mean
    "stimulus": re.compile(r"stim|image|img|picture|photo|scene|frame|condition|presentation"),
    "repetition": re.compile(r"rep|trial"),
    "unit": re.compile(r"unit|neur|cell|channel|electrode|voxel|roi|site"),
}

TIMES = re.compile(r"time|onset|offset|duration|latency")  # of lists that are no labels
NUMBERS = re.compile(r"u?int|float|double|single|bool|logical")  # types
EXPRESSIONS = {  # that read labels from a file
    ".npz": "numpy.load({path!r})[{name!r}]",
    ".nc": "xarray.load_dataset({path!r})[{name!r}].values",
}


@dataclass(frozen=True, repr=False)
class FileContents:
    """What a file contains, as returned by `inspect_file`; printed, it is a listing.

    Parameters
    ----------
    source : str
        The file or folder.
    arrays : DataFrame
        A row for each array, by name, or for each column of a table: `dims` (names of axes), `shape`, `dtype`, and
        `examples`, the first values. Empty for images.
    labels : list of str
        Labels of the images, in a folder or zip file of images.
    call : str
        Proposed call that loads responses or images; "" if nothing can be responses.

    See Also
    --------
    inspect_file : Returns it.

    Examples
    --------
    >>> FileContents("photos", pd.DataFrame(), ["cat", "owl"], "neurosuper.load_images('photos')")
    photos: 2 images, labelled 'cat', 'owl'
    <BLANKLINE>
    To load them:
      neurosuper.load_images('photos')
    """

    source: str
    arrays: pd.DataFrame
    labels: list[str]
    call: str

    def __repr__(self) -> str:
        if self.labels:
            lines = [f"{self.source}: {len(self.labels):,} images, labelled {name_some(self.labels)}"]
            return "\n".join([*lines, "", "To load them:", f"  {self.call}"])
        what = "column" if Path(self.source).suffix.lower() in TABLES else "array"
        lines = [f"{self.source}: {len(self.arrays):,} {what}{'s' * (len(self.arrays) != 1)}", ""]
        lines.append(self.arrays.head(MAX_LISTED).to_string(max_colwidth=40) if len(self.arrays) else "nothing")
        if (n_more := len(self.arrays) - MAX_LISTED) > 0:
            lines.append(f"… and {n_more:,} more in .arrays")
        if self.call:
            lines += ["", "To load responses; axes and labels are a guess, so check them:", f"  {self.call}"]
        return "\n".join(lines)


def inspect_file(path: str | Path) -> FileContents | NWBContents:
    """Return what a file contains, with shapes, types and first values, and how to load it.

    The proposed call runs as it is, but is a guess: of several matrices, the largest is taken for responses. An axis is
    that of the stimuli if a list in the file has a label for each of its entries, or if it is named so; otherwise axes
    are taken for units, stimuli and, if there are three, the shortest for repetitions. Stimuli without labels are
    numbered: replace the numbers by the folder or zip file of the images, if they are in the order of their names.

    Parameters
    ----------
    path : path
        An array or several (.npy, .npz, .nc, .zarr, .mat, .h5), a table (.csv, .tsv, .parquet), a folder or zip file of
        images, or an NWB file.

    Returns
    -------
    FileContents or NWBContents
        Printed, it is a listing; `call` is the proposed call. NWB files are described by `inspect_nwb`.

    Raises
    ------
    FileNotFoundError
        No such file, or no image in a folder.
    ValueError
        A file of another format, or a damaged one.
    ImportError
        A .zarr without zarr, or a .parquet without pyarrow.

    See Also
    --------
    inspect_nwb : More of an NWB file.
    load_array : Loads responses.
    neurosuper.load_images : Loads images.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> path = Path(tempfile.mkdtemp(), "v4.npz")
    >>> np.savez(path, rates=np.ones((2, 3)), image=["cat", "dog", "owl"])
    >>> inspect_file(path).arrays.loc["image", ["shape", "examples"]].tolist()
    [(3,), 'cat, dog, owl']
    >>> print(inspect_file(path).call.replace(str(path), "v4.npz"))
    neurosuper.load_array('v4.npz', dims=('unit', 'stimulus'), stimuli=numpy.load('v4.npz')['image'], variable='rates')
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}; check the path")
    if ".nwb" in map(str.lower, path.suffixes):
        return inspect_nwb(path)
    if path.suffix.lower() not in READERS:
        labels = image_labels(path)
        return FileContents(str(path), pd.DataFrame(), labels, f"neurosuper.load_images({str(path)!r})")
    arrays = list_arrays(path)
    columns = ["dims", "shape", "dtype", "examples"]
    listed = {name: (array.dims, array.shape, array.dtype, array.examples) for name, array in arrays.items()}
    table = pd.DataFrame.from_dict(listed, orient="index", columns=columns)
    return FileContents(str(path), table if any(table.dims) else table.drop(columns="dims"), [], _propose(path, arrays))


def _propose(path: Path, arrays: Mapping[str, ArrayInFile]) -> str:
    """Return a call that loads the largest matrix as responses; "" if there is none."""
    matrices = {name: array for name, array in arrays.items() if _may_be_responses(array)}
    if not matrices:
        return ""
    name = max(matrices, key=lambda each: math.prod(matrices[each].shape))
    array = matrices.pop(name)
    lists = {
        each: other for each, other in arrays.items() if other.labels is not None and not TIMES.search(each.lower())
    }
    dims, labelled_by = _guess_dims(array, lists)
    arguments = {"dims": repr(dims)}
    stimuli = _write_labels(path, array, dims, labelled_by, arrays)
    arguments |= {"stimuli": stimuli} if stimuli else {}
    arguments |= {"variable": repr(name)} if len(arrays) > 1 else {}
    return (
        f"neurosuper.load_array({', '.join([repr(str(path)), *(f'{key}={text}' for key, text in arguments.items())])})"
    )


def _may_be_responses(array: ArrayInFile) -> bool:
    return NUMBERS.match(array.dtype) is not None and len(array.shape) in (2, 3) and sum(n > 1 for n in array.shape) > 1


def _guess_dims(array: ArrayInFile, lists: Mapping[str, ArrayInFile]) -> tuple[tuple[str, ...], str]:
    """Return the names of the axes, and the list that labels the stimuli ("" if there is none)."""
    named = {axis: meaning for axis, dim in enumerate(array.dims) if (meaning := _meaning(dim))}
    known = {meaning: axis for axis, meaning in reversed(named.items())}
    free = [axis for axis in range(len(array.shape)) if axis not in known.values()]
    labelled_by = ""
    likely = sorted(lists, key=lambda name: (_meaning(name) != "stimulus", lists[name].dtype != TEXT))
    for name in likely:
        length, axes = len(lists[name].labels or []), [known["stimulus"]] if "stimulus" in known else free
        fitting = [axis for axis in axes if array.shape[axis] == length and _meaning(name) in ("", "stimulus")]
        if fitting:
            labelled_by, known = name, known | {"stimulus": fitting[0]}
            break
    free = [axis for axis in free if axis not in known.values()]
    missing = [name for name in ("unit", "stimulus") if name not in known]
    if len(free) > len(missing):
        known["repetition"] = min(free, key=lambda axis: array.shape[axis])
        free.remove(known["repetition"])
    known |= dict(zip(missing, free, strict=True))
    return tuple(sorted(known, key=known.__getitem__)), labelled_by


def _meaning(name: str) -> str:
    """Return what an axis or a list with this name usually is; "" if it says nothing."""
    return next((meaning for meaning, pattern in NAMES.items() if pattern.search(name.lower())), "")


def _write_labels(
    path: Path, array: ArrayInFile, dims: tuple[str, ...], labelled_by: str, arrays: Mapping[str, ArrayInFile]
) -> str:
    """Return the labels of the stimuli as a Python expression; "" if the loader finds them itself."""
    axis = dims.index("stimulus")
    if array.dims and array.dims[axis] in arrays:
        return ""
    labels = arrays[labelled_by].labels if labelled_by else None
    if labels is not None and len(set(labels)) == len(labels) and path.suffix.lower() in EXPRESSIONS:
        return EXPRESSIONS[path.suffix.lower()].format(path=str(path), name=labelled_by)
    return f"[str(i) for i in range({array.shape[axis]})]"
