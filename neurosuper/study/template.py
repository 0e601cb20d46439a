"""Write a commented study file for a recording, a matrix of responses, or a folder of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurosuper._labels import match_file_names
from neurosuper.images import load_images
from neurosuper.loaders import inspect_nwb, load_array, load_nwb_images, load_presentations
from neurosuper.loaders.file_arrays import list_arrays
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.metrics.lpips import hub_file
from neurosuper.responses import name_some
from neurosuper.study.build import are_grey
from neurosuper.study.file import read_study

__all__ = ["new_study"]

SIZE = 128  # pixels, if images differ in size: LPIPS and most networks see enough
RESIZED = {"size": (SIZE, "pixels: the images differ in size, so all are resized")}
FEWEST_STIMULI_PER_DIRECTION = 4  # of the half that directions are found on
PRESENTATIONS = ("presentations", "stimulus_column", "index_series", "onset_column", "blanks")
IN_PATHS = (".mat", ".h5", ".hdf5")  # arrays in them are named by paths
TABLES = (".csv", ".tsv")
ARRAYS = (".npy", ".npz", ".nc", ".zarr", *IN_PATHS, *TABLES)
Settings = dict[str, Any]  # values, or pairs of a value and a comment
TEXT = """\
# A study: which directions of a population are more interpretable than its single units?
# Check it with:  neurosuper check {file}
# Run it with:    neurosuper run {file}
# Paths are relative to this file; environment variables such as $DATA are filled in.
title = {title}  # heads the report
note = ""                     # a sentence about the data, below the title
top = {top}                       # number of top stimuli: the images that drive an item most
score_on = "held-out"         # find directions on one half of the stimuli, score them on the other; or "all"
seeds = [0]                   # of the halves and the finders; each of [0, 1, 2] gives scores, the first is tested
baselines = true              # add the matched baseline of each finder: what a gain over units is worth
# output = "results"          # folder of study.nc and report.html; by default {stem}_output
# stimulus_groups = "burst"   # a stimulus coord whose groups of dependent stimuli are never divided
# device = "cpu"              # by default a GPU if there is one
# cache_embeddings = "float32"  # keep embeddings of images for later runs; needs neurosuper[zarr]

[images]
{images}

# Systems: one table per population. Add others, such as a network that sees the same images, to compare them.
{system}
# select_units = {{ reliability = 0.3 }}  # keep units whose responses to repetitions agree: split-half reliability
# fit_on = {{ {fit_on} }}  # find directions in responses to other stimuli

# Finders: what finds directions. Single units are what they are compared with.
[finders.Units]

[finders.KMeans]              # also: PCA, ICA, NMF, DictionaryLearning, SparseAutoencoder, Archetypal, Random
n_directions = {n_directions}             # at most a quarter of the stimuli to fit on

[finders."KMeans centred"]    # without the mean response, to which directions of KMeans are close
finder = "KMeans"
n_directions = {n_directions}             # as many
center = true                 # subtract the mean response of each unit

# Metrics: how similar two images are. The index is minus the mean distance between the top stimuli of an item.
{grey}[metrics.Color]               # also: Pixel, Label (needs categories of the images), Features (of a network)

{lpips}

# Superposition: whether features share units. Interference of directions, spectrum, sparseness, rotated axes, pairs of
# units, and, with factors of the stimuli, disentanglement; in superposition.nc and in a section of the report.
# [superposition]             # as it is: all measures that are possible
# measures = ["interference", "spectrum", "sparseness", "rotation", "synergy"]
# metric = "Color"            # by default the first
# max_units = 256             # of a system, for rotation and synergy of all pairs; of more, a random sample
# [factors]                   # what is known of each image, for the measure "disentanglement"
# path = "factors.csv"        # with a column stimulus, the labels of the images, and at least two others
# kinds = {{ pose = "label" }}  # numbers that are labels

# Systems against systems, if there are several: similarity of the populations, and twins, the items of one that respond
# to the same images as items of another; in populations.nc and twins.nc, and in sections of the report.
# [populations]               # as it is: all pairs
# measures = ["cka", "rsa", "twins"]  # also: procrustes, encoding (needs neurosuper[encoding]), and those "back"
# finders = ["KMeans"]        # by default all
# [twins]                     # as it is: all pairs
# match = "best"              # or "one-to-one", "mutual"
# remove = "common"           # what all items of a system share, such as contrast; or "none"

# A difference that you state before you see scores; the report tests it apart from all others.
# [[hypotheses]]
# system = {name}
# finder = "KMeans"
# against = "Units"
# metric = "Color"
"""
GREY = """\
# The images are grey, so Color compares their brightness and nothing else; LPIPS compares what they show.
"""
LPIPS = """\
# LPIPS: perceptual distance. Its weights (233 MB) are downloaded once; remove the # to use it.
# [metrics.LPIPS]
# net = "alex"
"""
LPIPS_ON_DISK = """\
[metrics.LPIPS]
net = "alex"                  # its weights are on this disk"""
NETWORK = """\
[systems.network]
loader = "activations"        # of a network that sees the images
model = "neurosuper.demo.network:small_cnn"  # or "file.py:function", in the folder of this file, that returns yours
layers = ["layer3", "layer4"] # each layer is a system of its own
position = "center"           # of a map: the unit at its centre; or "mean", or "all"
# preprocess = "file.py:function"  # scales images in [0, 1] as the network expects them
"""


def new_study(source: str | Path, output: str | Path = "study.toml", *, images: str | Path | None = None) -> Path:
    """Return the path of a new study file for your data, with every setting explained by a comment.

    The file names what was found in the data. Of an NWB file: the table and column that name the stimuli, a window, the
    column of areas (see `neurosuper.inspect_nwb`). Of a matrix: which axis is the stimulus, from the number of
    images. A folder of images gives a study of the small network that comes with neurosuper, to be replaced by yours.

    Parameters
    ----------
    source : path of an NWB file, of a matrix, or of a folder or zip file of images
        Your data. A matrix is in a .npy, .npz, .nc, .zarr, .mat or .h5, or a table (.csv, .tsv) whose columns are
        units.
    output : path, optional
        The file to write; it must not exist.
    images : folder or zip file, optional
        The images that were shown. May be left out for an NWB file that contains them.

    Returns
    -------
    Path
        The file; `read_study` accepts it.

    Raises
    ------
    FileExistsError
        There is a file of that name.
    FileNotFoundError
        No such source or images, or no images were given and the source has none.
    ValueError
        The stimuli of a recording are not named as the images, no axis of a matrix has the number of images, or a file
        of another format.

    See Also
    --------
    check_study : what a study will do, and how long it takes.
    run_study : run it.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for i in range(20):
    ...     Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"photo{i:02d}.png")
    >>> np.save(folder / "v4.npy", np.random.default_rng(0).gamma(1, 5, (4, 20)))
    >>> path = new_study(folder / "v4.npy", folder / "study.toml", images=folder)
    >>> read_study(path).systems["v4"]["dims"]
    ['unit', 'stimulus']
    """
    source, output = Path(source), Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists already; name another file as output, or delete it")
    if not source.exists():
        raise FileNotFoundError(f"no file or folder {source}; check the path")
    table, stack, system, n_units = _describe(source, images, output.resolve().parent)
    n_fit = stack.sizes["stimulus"] // 2
    text = TEXT.format(
        file=output.name,
        stem=output.stem,
        title=_toml(f"Units and directions of {source.stem}"),
        top=int(np.clip(n_fit // 2, 2, 5)),
        images="\n".join(map(_line, table.items())),
        system=_system_text(source.stem, system) if system else NETWORK.strip(),
        fit_on='path = "other"' if system else 'path = "other_images"',
        name=_toml(_name(source.stem) if system else "network layer4"),
        n_directions=int(np.clip(n_units, 2, max(2, n_fit // FEWEST_STIMULI_PER_DIRECTION))),
        grey=GREY if are_grey(stack) else "",
        lpips=LPIPS_ON_DISK if hub_file("alex").is_file() else LPIPS.strip(),
    )
    output.write_text(text, encoding="utf-8")
    read_study(output)
    return output


def _describe(source: Path, images: str | Path | None, folder: Path) -> tuple[Settings, xr.DataArray, Settings, int]:
    """Return the settings of the images, the images, the settings of the system (none: a network), and its size."""
    kind = source.suffix.lower()
    if kind == ".nwb":
        table, stack = _find_nwb_images(source, folder) if images is None else _find_images(Path(images), folder)
        return table, stack, *_nwb_system(source, stack, folder)
    if kind not in ARRAYS:
        table, stack = _find_images(source, folder)
        return table, stack, {}, stack.sizes["stimulus"]
    if images is None:
        raise FileNotFoundError(f"{source.name} contains no images; give images= (--images), their folder or zip file")
    table, stack = _find_images(Path(images), folder)
    return table, stack, *_array_system(source, Path(images), stack, folder)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # strings, numbers, booleans and lists of JSON are those of TOML


def _line(setting: tuple[str, Any]) -> str:
    name, value = setting
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
        value, comment = value
        return f"{name} = {_toml(value)}".ljust(29) + f" # {comment}"
    return f"{name} = {_toml(value)}"


def _path(path: Path, folder: Path) -> str:
    """Return a path as a study file names it: relative if it is below the folder of the file."""
    path = path.resolve()
    text = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
    if "$" in text:
        raise ValueError(f"{text} contains $, which a study file takes for an environment variable; rename it")
    return text


def _name(stem: str) -> str:
    """Return the name of a file as the name of a system, which contains none of / | $ and no . alone."""
    return "".join("_" if letter in "/|$" else letter for letter in stem)


def _system_text(stem: str, settings: Mapping[str, Any]) -> str:
    return "\n".join([f"[systems.{_toml(_name(stem))}]", *map(_line, settings.items())])


def _find_images(path: Path, folder: Path) -> tuple[Settings, xr.DataArray]:
    """Return the settings of images, and the images."""
    table: Settings = {"path": (_path(path, folder), "folder or zip file; labels are the base names of the files")}
    try:
        return table, load_images(path)
    except ValueError:  # they differ in size; another error is raised again
        return table | RESIZED, load_images(path, size=SIZE)


def _find_nwb_images(source: Path, folder: Path) -> tuple[Settings, xr.DataArray]:
    """Return the same for a recording that contains its images."""
    stored = inspect_nwb(source).images
    names = stored.index[stored.in_file.astype(bool)].tolist()
    if not names:
        raise FileNotFoundError(f"{source.name} contains no images; give images= (--images), their folder or zip file")
    table: Settings = {
        "path": (_path(source, folder), "the recording contains the images"),
        "template": (names[0], f"of the templates with images: {', '.join(names)}"),
    }
    try:
        return table, load_nwb_images(source, template=names[0])
    except ValueError:
        return table | RESIZED, load_nwb_images(source, template=names[0], size=SIZE)


def _nwb_system(source: Path, images: xr.DataArray, folder: Path) -> tuple[Settings, int]:
    """Return the settings of a system that reads a recording, and its number of units."""
    labels = images.stimulus.values.tolist()
    found = inspect_nwb(source, labels=labels)
    if "window" not in found.arguments:
        raise ValueError(f"{source.name}: {found.remark}; see neurosuper inspect {source.name}")
    request = {name: found.arguments[name] for name in PRESENTATIONS if name in found.arguments}
    _require_shared(load_presentations(source, **request).stimulus.values.tolist(), labels, source)
    comments = {
        "presentations": f"table of presentations (false: none); there are {', '.join(found.intervals)}",
        "stimulus_column": "column of that table that names the image",
        "index_series": "IndexSeries that names the image",
        "onset_column": "column with the onset of the image, in seconds",
        "blanks": "not a stimulus",
        "window": "seconds after onset",
        "series": "time series whose columns are the units",
        "unit_names": "table/column that names the units",
        "area_column": f"column that names the area; there are {', '.join(found.areas)}",
    }
    settings: Settings = {
        "loader": "load_nwb",
        "path": _path(source, folder),
        **{
            name: (list(value) if isinstance(value, tuple) else value is not None and value, comments[name])
            for name, value in found.arguments.items()
        },
    }
    return settings, found.n_units


def _array_system(source: Path, path: Path, images: xr.DataArray, folder: Path) -> tuple[Settings, int]:
    """Return the settings of a system that reads a matrix, and its number of units."""
    settings: Settings = {"loader": "load_array", "path": _path(source, folder)}
    labels = _find_labels(source, images) if source.suffix.lower() in TABLES else {}
    try:
        own = load_array(source, **{key: name for key, (name, _) in labels.items()})
        settings |= labels
    except ValueError:  # it does not name its axes
        name, shape, n_arrays = _find_matrix(source, images.sizes["stimulus"])
        if n_arrays > 1:
            settings["variable"] = (name, "array in the file")
        dims = _guess_dims(shape, images.sizes["stimulus"])
        settings["dims"] = (dims, "axes of the matrix, in its order")
        settings["stimuli"] = (_path(path, folder), "labels of the stimuli: the images, sorted by name")
        n_units = shape[dims.index("unit")]
    else:
        _require_shared(own.stimulus.values.tolist(), images.stimulus.values.tolist(), source)
        n_units = own.sizes["unit"]
    settings["measured_in"] = ("a.u.", 'unit of measurement, such as "spikes/s"')
    return settings, n_units


def _find_labels(source: Path, images: xr.DataArray) -> Settings:
    """Return the column of a table that names the images, one row for each or, if labels repeat, for each trial."""
    known = images.stimulus.values.tolist()
    for name, column in list_arrays(source).items():
        labels = [str(label) for label in column.labels or []]
        if not set(known).isdisjoint(labels) or match_file_names(labels, known) is not None:
            is_of_trials = len(set(labels)) < len(labels)
            return {"trials" if is_of_trials else "stimuli": (name, "column that names the images")}
    return {}


def _find_matrix(source: Path, n_images: int) -> tuple[str, tuple[int, ...], int]:
    """Return name and shape of the array that has an axis of the stimuli, and the number of arrays in the file."""
    if source.suffix.lower() in (*IN_PATHS, *TABLES):
        shapes = {name: array.shape for name, array in list_arrays(source).items()}
    elif source.suffix.lower() == ".nc":
        with open_netcdf(source) as data:
            shapes = {str(name): array.shape for name, array in data.data_vars.items()}
    else:
        loaded = np.load(source, mmap_mode="r", allow_pickle=False)
        arrays = {source.stem: loaded} if isinstance(loaded, np.ndarray) else loaded
        shapes = {name: arrays[name].shape for name in arrays}
    fitting = [name for name, shape in shapes.items() if len(shape) in (2, 3) and n_images in shape]
    if not fitting:
        known = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"no axis of {source.name} ({known}) has the length {n_images}, the number of images; give the images "
            "that were shown, one for each stimulus"
        )
    return fitting[0], shapes[fitting[0]], len(shapes)


def _guess_dims(shape: tuple[int, ...], n_images: int) -> list[str]:
    """Return the names of axes: the stimuli have as many as images; of two others, the shorter is the repetitions."""
    stimulus = shape.index(n_images)
    others = sorted((axis for axis in range(len(shape)) if axis != stimulus), key=lambda axis: shape[axis])
    names = {stimulus: "stimulus", others[-1]: "unit"} | ({others[0]: "repetition"} if len(others) == 2 else {})
    return [names[axis] for axis in range(len(shape))]


def _require_shared(of_responses: list[str], of_images: list[str], source: Path) -> None:
    """Refuse data and images without a common label; a study leaves out folder and extension of image files."""
    of_responses = list(dict.fromkeys(of_responses))  # several presentations of a stimulus are one
    if set(of_responses).isdisjoint(of_images) and match_file_names(of_responses, of_images) is None:
        raise ValueError(
            f"no stimulus of {source.name} is named as an image: they are {name_some(of_responses)}, the images "
            f"{name_some(of_images)}; rename the image files as the stimuli"
        )
