"""What a file contains, and a proposal of how to load it: arrays in any format, tables, images, NWB."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neurosuper.images import image_labels
from neurosuper.loaders.file_arrays import INDEX, READERS, TABLES, TEXT, ArrayInFile, list_arrays
from neurosuper.loaders.nwb import NWBContents, inspect_nwb
from neurosuper.loaders.suite2p import is_suite2p, plane_folders
from neurosuper.responses import name_some

__all__ = ["FileContents", "inspect_file"]

SPIKES = "spike_times.npy"  # in a folder of Kilosort or phy
MATRICES = ("F.npy", "Fneu.npy", "iscell.npy", "spks.npy")  # in a folder of a plane of suite2p
MAX_LISTED = 40  # arrays, or columns of a table, that are listed
NAMES = {  # of axes and of lists of labels, by what they usually mean
    "stimulus": re.compile(r"stim|image|img|picture|photo|scene|frame|condition|presentation"),
    "repetition": re.compile(r"rep|trial"),
    "unit": re.compile(r"unit|neur|cell|channel|electrode|voxel|roi|site"),
}

TIMES = re.compile(r"time|onset|offset|duration|latency")  # of lists that are no labels
NUMBERS = re.compile(r"u?int|float|double|single|bool|logical")  # types


@dataclass(frozen=True, repr=False)
class FileContents:
    r"""What a file contains, as returned by `inspect_file`; printed, it is a listing.

    Parameters
    ----------
    source : str
        The file or folder.
    arrays : DataFrame
        A row for each array, by name, or for each column of a table: `dims` (names of axes), `shape`, `dtype`, and
        `examples`, the first values. Empty for images.
    labels : list of str
        Labels of the images, in a folder or zip file of images.
    proposed_call : str
        Lines of Python that load responses or images; "" if nothing can be responses.

    See Also
    --------
    inspect_file : Returns it.

    Examples
    --------
    >>> code = "import neurosuper as ns\nimages = ns.load_images('photos')"
    >>> FileContents("photos", pd.DataFrame(), ["cat", "owl"], code)
    photos: 2 images, labelled 'cat', 'owl'
    <BLANKLINE>
    To load them:
      import neurosuper as ns
      images = ns.load_images('photos')
    """

    source: str
    arrays: pd.DataFrame
    labels: list[str]
    proposed_call: str

    def __repr__(self) -> str:
        if self.labels:
            lines = [f"{self.source}: {len(self.labels):,} images, labelled {name_some(self.labels)}"]
            return "\n".join([*lines, "", "To load them:", *self._code()])
        what = "column" if Path(self.source).suffix.lower() in TABLES else "array"
        lines = [f"{self.source}: {len(self.arrays):,} {what}{'s' * (len(self.arrays) != 1)}", ""]
        lines.append(self.arrays.head(MAX_LISTED).to_string(max_colwidth=40) if len(self.arrays) else "nothing")
        if (n_more := len(self.arrays) - MAX_LISTED) > 0:
            lines.append(f"… and {n_more:,} more in .arrays")
        if self.proposed_call:
            what = "To load responses; axes and labels are a guess, so check them:"
            if "load_phy" in self.proposed_call:
                what = "To load the spike times, which neurosuper.count_spikes turns into responses:"
            if "load_suite2p" in self.proposed_call:
                what = (
                    "To load responses, with your table of presentations (columns stimulus and onset, in s) and window:"
                )
            lines += ["", what, *self._code()]
        return "\n".join(lines)

    def _code(self) -> list[str]:
        return [f"  {line}" for line in self.proposed_call.splitlines()]


def inspect_file(path: str | Path) -> FileContents | NWBContents:
    """Return what a file contains, with shapes, types and first values, and how to load it.

    The proposed call runs as it is, but is a guess: of several matrices, the largest is taken for responses. An axis is
    that of the stimuli if a list in the file has a label for each of its entries, or if it is named so; if labels
    repeat, it is that of trials. Otherwise axes are taken for units, stimuli and, if there are three, the shortest for
    repetitions. Stimuli without labels are numbered: replace the numbers by the folder or zip file of the images, if
    the stimuli are in the order of their names.

    Parameters
    ----------
    path : path
        An array or several (.npy, .npz, .nc, .zarr, .mat of any version, .h5, .pt, .safetensors), a table (.csv, .tsv,
        .parquet), a folder or zip file of images, a folder of Kilosort or phy, or of suite2p, or an NWB file.

    Returns
    -------
    FileContents or NWBContents
        Printed, it is a listing; `proposed_call` is Python that loads it. NWB files are described by `inspect_nwb`.

    Raises
    ------
    FileNotFoundError
        No such file, or no image in a folder.
    ValueError
        A file of another format, or a damaged one.
    ImportError
        A .zarr without zarr, a .parquet without pyarrow, or a .safetensors without safetensors.

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
    >>> print(inspect_file(path).proposed_call.replace(str(path), "v4.npz"))
    import neurosuper as ns
    responses = ns.load_array('v4.npz', dims=('unit', 'stimulus'), stimuli='image', variable='rates')
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}; check the path")
    if ".nwb" in map(str.lower, path.suffixes) or _is_nwb_zarr(path):
        return inspect_nwb(path)
    if (path / SPIKES).is_file():
        arrays = {name: array for file in sorted(path.glob("*.npy")) for name, array in list_arrays(file).items()}
        return FileContents(str(path), _tabulate(arrays), [], _as_code("spikes", f"ns.loaders.load_phy({str(path)!r})"))
    if path.is_dir() and is_suite2p(path):
        return _describe_suite2p(path)
    if path.suffix.lower() not in READERS:
        labels = image_labels(path)
        return FileContents(str(path), pd.DataFrame(), labels, _as_code("images", f"ns.load_images({str(path)!r})"))
    arrays = list_arrays(path)
    return FileContents(str(path), _tabulate(arrays), [], _propose(path, arrays))


def _is_nwb_zarr(path: Path) -> bool:
    facts = path / ".zattrs"
    return facts.is_file() and "nwb_version" in facts.read_text(encoding="utf-8", errors="replace")


def _describe_suite2p(path: Path) -> FileContents:
    """Return the matrices of all planes, and a call that averages frames in windows."""
    files = [folder / name for folder in plane_folders(path) for name in MATRICES if (folder / name).is_file()]
    arrays = {str(file.relative_to(path).with_suffix("")): list_arrays(file)[file.stem] for file in files}
    call = f"ns.loaders.load_suite2p({str(path)!r}, pd.read_csv('presentations.csv'), window=(0.0, 0.5))"
    return FileContents(str(path), _tabulate(arrays), [], _as_code("responses", call))


def _tabulate(arrays: Mapping[str, ArrayInFile]) -> pd.DataFrame:
    """Return arrays as a table, with the names of axes if there are any."""
    columns = ["dims", "shape", "dtype", "examples"]
    listed = {name: (array.dims, array.shape, array.dtype, array.examples) for name, array in arrays.items()}
    table = pd.DataFrame.from_dict(listed, orient="index", columns=columns)
    return table if any(table.dims) else table.drop(columns="dims")


def _propose(path: Path, arrays: Mapping[str, ArrayInFile]) -> str:
    """Return code that loads the largest matrix, or a table, as responses; "" if there is none."""
    lists = {name: array for name, array in arrays.items() if array.labels and not TIMES.search(name.lower())}
    if path.suffix.lower() in TABLES:
        return _propose_table(path, arrays, lists)
    matrices = {name: array for name, array in arrays.items() if _may_be_responses(array)}
    if not matrices:
        return ""
    name = max(matrices, key=lambda each: math.prod(matrices[each].shape))
    array = matrices[name]
    dims, label = _guess_dims(array, lists)
    axis = dims.index("stimulus")
    settings = {"dims": repr(dims)}
    if label and _repeats(lists[label]):
        settings = {"dims": repr(tuple("trial" if dim == "stimulus" else dim for dim in dims)), "trials": repr(label)}
    elif label:
        settings["stimuli"] = repr(label)
    elif not (array.dims and array.dims[axis] in arrays):  # else the loader finds the labels of this axis
        settings["stimuli"] = _numbers(array.shape[axis])
    return _write_call("load_array", repr(str(path)), settings | ({"variable": repr(name)} if len(arrays) > 1 else {}))


def _propose_table(path: Path, columns: Mapping[str, ArrayInFile], lists: Mapping[str, ArrayInFile]) -> str:
    """Return code that loads the columns with numbers as units; "" if there are none."""
    kind = path.suffix.lower()
    names = sorted(lists, key=lambda name: (_meaning(name) != "stimulus", lists[name].dtype != TEXT))
    label = next((name for name in names if _meaning(name) == "stimulus" or lists[name].dtype == TEXT), "")
    label = INDEX if INDEX in columns else label
    units = [name for name, column in columns.items() if name != label and NUMBERS.match(column.dtype)]
    if not units:
        return ""
    settings = {"stimuli": _numbers(columns[units[0]].shape[0])}
    if label:
        settings = {} if label == INDEX else {"trials" if _repeats(lists[label]) else "stimuli": repr(label)}
    others = [name for name in columns if name not in (label, *units)]
    if kind != ".parquet" and not others:
        return _write_call("load_array", repr(str(path)), settings)
    read = {".parquet": "read_parquet({})", ".csv": "read_csv({})", ".tsv": "read_csv({}, sep='\\t')"}[kind]
    settings |= {"units": repr(units)} if others else {}
    return _write_call("as_responses", f"pd.{read.format(repr(str(path)))}", settings)


def _write_call(function: str, first: str, settings: Mapping[str, str]) -> str:
    arguments = ", ".join([first, *(f"{key}={text}" for key, text in settings.items())])
    return _as_code("responses", f"ns.{function}({arguments})")


def _as_code(result: str, call: str) -> str:
    imports = ["import neurosuper as ns", *(["import pandas as pd"] * ("pd." in call))]
    return "\n".join([*imports, f"{result} = {call}"])


def _numbers(n: int) -> str:
    """Return numbers as labels, as a Python expression."""
    return f"[str(i) for i in range({n})]"


def _repeats(array: ArrayInFile) -> bool:
    return len(set(array.labels or [])) < len(array.labels or [])


def _may_be_responses(array: ArrayInFile) -> bool:
    return NUMBERS.match(array.dtype) is not None and len(array.shape) in (2, 3) and sum(n > 1 for n in array.shape) > 1


def _guess_dims(array: ArrayInFile, lists: Mapping[str, ArrayInFile]) -> tuple[tuple[str, ...], str]:
    """Return the names of the axes, and the list that labels the stimuli ("" if there is none)."""
    named = {axis: meaning for axis, dim in enumerate(array.dims) if (meaning := _meaning(dim))}
    known = {meaning: axis for axis, meaning in reversed(named.items())}
    free = [axis for axis in range(len(array.shape)) if axis not in known.values()]
    places = [known["stimulus"]] if "stimulus" in known else free
    label = ""
    for name in sorted(lists, key=lambda name: (_meaning(name) != "stimulus", lists[name].dtype != TEXT)):
        fitting = [axis for axis in places if array.shape[axis] == len(lists[name].labels or [])]
        is_dim = name in array.dims  # its labels are found by the loader
        if fitting and not is_dim and _meaning(name) != "unit" and not (_repeats(lists[name]) and len(array.shape) > 2):
            label, known = name, known | {"stimulus": fitting[0]}
            break
    free = [axis for axis in free if axis not in known.values()]
    missing = [name for name in ("unit", "stimulus") if name not in known]
    if len(free) > len(missing):
        known["repetition"] = min(free, key=lambda axis: array.shape[axis])
        free.remove(known["repetition"])
    known |= dict(zip(missing, free, strict=True))
    return tuple(sorted(known, key=known.__getitem__)), label


def _meaning(name: str) -> str:
    """Return what an axis or a list with this name usually is; "" if it says nothing."""
    return next((meaning for meaning, pattern in NAMES.items() if pattern.search(name.lower())), "")
