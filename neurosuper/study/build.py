"""Build what the tables of a study file describe: images, systems, finders and metrics."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import neurosuper
from neurosuper._checks import one_line_with_type
from neurosuper._content import CONTENT
from neurosuper._labels import match_file_names
from neurosuper.comparison.fitting import join_system
from neurosuper.comparison.splits import join_fit_on, take_groups
from neurosuper.directions import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    CovarianceMatched,
    DictionaryLearning,
    DirectionFinder,
    Exemplars,
    KMeans,
    Random,
    SparseAutoencoder,
    Units,
)
from neurosuper.images import load_images
from neurosuper.loaders import load_nwb_images
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.metrics import LPIPS, Color, Features, ImageMetric, Label, Pixel, Precomputed, cached
from neurosuper.responses import average_repetitions, coords_along, name_some
from neurosuper.study.file import Study
from neurosuper.study.references import References, Table, call

logger = logging.getLogger(__name__)

LOADERS = ("load", "load_nwb", "load_array", "activations")
NOT_OF_LOADERS = ("truth", "select_units", "fit_on")  # keys of a system that its loader does not take
FINDERS = (
    *(Units, Random, Exemplars, CovarianceMatched),  # baselines
    *(PCA, ICA, NMF, KMeans, DictionaryLearning, SparseAutoencoder, Archetypal),
)
METRICS = (LPIPS, Pixel, Color, Label, Features)
STORED_METRICS = (LPIPS, Features)  # their embeddings take longer to compute than to read
N_TRIED = 100  # images, to find out whether they are grey

Metrics = Mapping[str, ImageMetric | Precomputed]


class System(NamedTuple):
    """One population: its name and responses, its planted directions if known, and how its weights were made random."""

    name: str
    responses: xr.DataArray
    truth: xr.DataArray | None
    randomize: str | None = None  # how the weights of a network were made random
    fit_on: xr.DataArray | None = None  # responses to other stimuli that directions are found in
    selected: str = ""  # how many units were selected, and by which thresholds
    repeated: xr.DataArray | None = None  # responses before averaging, if superposition or twins use repetitions


def load_study_images(study: Study, files: References) -> xr.DataArray:
    """Return the images of a study, from a dataset, a folder, a file, or an NWB file that contains them."""
    table = files.fill(study.images)
    if "dataset" in table:
        return call(neurosuper.load_stimuli, table, "images")
    if "path" not in table:
        raise ValueError("[images] needs a path (a folder or a zip file of images, or an NWB file), or a dataset")
    if table["path"].suffix.lower() == ".nwb":
        return call(load_nwb_images, table, "images")
    return call(load_images, {"source": table.pop("path")} | table, "images")


def are_grey(images: xr.DataArray) -> bool:
    """Return whether all images (of many, some) have no color, so that `Color` compares their brightness."""
    some = np.unique(np.linspace(0, images.sizes["stimulus"] - 1, N_TRIED).round().astype(int))
    pixels = images.isel(stimulus=some).transpose(..., "channel").values
    return bool((pixels == pixels[..., :1]).all())


def load_systems(study: Study, images: xr.DataArray, files: References, cache: Path) -> Iterator[System]:
    """Yield every system, on the stimuli that have an image; a network with a list of layers gives one per layer.

    Stimuli that are named as files of images, `cat.jpg` or `animals/cat.jpg` for the image `cat`, get its name.
    """
    for name, table in study.systems.items():
        truth = read_truth(files.fill({"truth": table["truth"]})["truth"], name) if "truth" in table else None
        repeated = _as_images(name, _load_responses(name, table, study, images, files, cache), images)
        responses = average_repetitions(repeated)
        selected = str(responses.attrs["selected_units"]) if "select_units" in table else ""
        others = _load_fit_on(name, table, responses, study, files, cache) if "fit_on" in table else None
        for own, part in _by_layer(name, responses, table.get("layers")):
            joined = _with_groups(own, join_system(own, part, images.stimulus), images, study.stimulus_groups)
            fit_on = None
            if others is not None:
                fit_on = dict(_by_layer(name, others, table.get("layers")))[own]
                fit_on = join_fit_on({own: joined}, {own: fit_on}, study.stimulus_groups)[own]
            kept = None
            uses_repetitions = study.superposition is not None or study.twins is not None
            if uses_repetitions and "repetition" in repeated.dims:  # not of the layers of a network
                of_stimuli = coords_along(joined, "stimulus")
                kept = repeated.sel(stimulus=joined.stimulus.values).assign_coords(of_stimuli)
            yield System(own, joined, truth, table.get("randomize"), fit_on, selected, kept)


def _load_responses(
    name: str, table: Table, study: Study, images: xr.DataArray | None, files: References, cache: Path
) -> xr.DataArray:
    """Return the responses that the table of a system describes: of the units that it selects."""
    options = files.fill({key: value for key, value in table.items() if key not in NOT_OF_LOADERS})
    if options.get("presentations") is False:  # TOML has no None
        options["presentations"] = None
    loader = options.pop("loader", None)
    if loader not in LOADERS:
        raise ValueError(f"[systems.{name}] loader must be one of {', '.join(LOADERS)}; got {loader!r}")
    if loader == "activations":
        _randomize(options, name, study.seeds[0])
        options = {"device": study.device, "cache": cache} | options | {"images": images}
    elif options.get("stimuli") is True:
        options["stimuli"] = images
    responses = call(getattr(neurosuper, loader), options, f"systems.{name}")
    if "select_units" in table:
        try:
            responses = neurosuper.select_units(responses, **table["select_units"])
        except (TypeError, ValueError) as error:
            raise type(error)(f"[systems.{name}] select_units: {error}") from error
    return responses


def _load_fit_on(
    name: str, table: Table, responses: xr.DataArray, study: Study, files: References, cache: Path
) -> xr.DataArray:
    """Return the responses that directions of a system are found in, of the same units to other stimuli."""
    images = load_fit_on_images(study, table, files)
    changed = {} if images is not None else table["fit_on"]
    own = {key: value for key, value in table.items() if key != "select_units"} | changed
    if own.get("stimuli") is True:
        raise ValueError(f"[systems.{name}.fit_on] has other stimuli than [images]; give `stimuli`, such as a folder")
    others = average_repetitions(_load_responses(f"{name}.fit_on", own, study, images, files, cache))
    if "select_units" not in table:
        return others
    return others.sel(unit=others.indexes["unit"].isin(responses.indexes["unit"]))


def load_fit_on_images(study: Study, table: Table, files: References) -> xr.DataArray | None:
    """Return the images on which directions of a network are found, loaded as those of the study; None if no network.

    The labels of these images are other than those of the study, or the network would be scored on what it was
    fitted on.
    """
    if table.get("loader") != "activations":
        return None
    return load_study_images(study.model_copy(update={"images": study.images | table["fit_on"]}), files)


def _as_images(name: str, responses: xr.DataArray, images: xr.DataArray) -> xr.DataArray:
    """Return responses without extension and folder of image files in their labels, if that is all that differs."""
    labels = responses.stimulus.values.tolist()
    bare = match_file_names(labels, images.stimulus.values.tolist())
    if bare is None:
        return responses
    logger.info("%s: its stimuli are named %s, taken for images such as %r", name, name_some(labels, 1), bare[0])
    return responses.assign_coords(stimulus=("stimulus", bare, responses.stimulus.attrs))


def _randomize(options: Table, name: str, seed: int) -> None:
    """Replace the network by one with random weights, if its table asks for them."""
    if (how := options.pop("randomize", None)) is None or "model" not in options:  # `activations` asks for a model
        return
    try:
        options["model"] = neurosuper.networks.randomize(options["model"], how=how, random_state=seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"[systems.{name}] {error}") from error


def _with_groups(name: str, responses: xr.DataArray, images: xr.DataArray, groups: str | None) -> xr.DataArray:
    """Return responses with the stimulus coord of the study's groups: their own, else that of the images."""
    responses = take_groups(responses, images, groups)
    if groups is None or groups in responses.coords:
        return responses
    known = {*coords_along(responses, "stimulus"), *coords_along(images, "stimulus")} - {"stimulus", CONTENT}
    raise ValueError(
        f"[systems.{name}] neither its stimuli nor the images have the coord {groups!r}, the stimulus_groups of the "
        f"study; they have {', '.join(sorted(known)) or 'no coords'}"
    )


def _by_layer(name: str, responses: xr.DataArray, layers: object) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield names and responses: one pair per layer where the study lists layers, else one for the whole system."""
    if not isinstance(layers, list):
        yield name, responses
        return
    for layer in layers:
        yield f"{name} {layer}", responses.sel(unit=(responses.layer == layer).values)


def refuse_equal_names(names: list[str]) -> None:
    """Refuse two systems with the same name."""
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two systems are called {sorted(twice)[0]!r} (a network's layers are added to its name)")


def read_truth(path: Path, name: str) -> xr.DataArray:
    """Return planted directions `(direction, unit)` from a netCDF file."""
    try:
        truth = read_array(path, "truth")
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"[systems.{name}] {error}") from error
    if set(truth.dims) != {"direction", "unit"} or set(truth.dims) - set(truth.indexes):
        raise ValueError(f"[systems.{name}] truth must have labelled dims direction and unit, got {dict(truth.sizes)}")
    return truth


def make_finders(tables: Mapping[str, Table], files: References, device: str | None) -> dict[str, DirectionFinder]:
    """Return the finders of a study by name."""
    known = {finder.__name__: finder for finder in FINDERS}
    return {name: _make(known, name, table, files, device, "finder") for name, table in tables.items()}


def make_study_metrics(study: Study, files: References, images: xr.DataArray, folder: Path) -> Metrics:
    """Return the metrics of a study by name, each tried once; their embeddings are stored if the study asks for it."""
    metrics = make_metrics(study, files)
    stored = dict(metrics)
    if dtype := study.cache_embeddings:
        for name, metric in metrics.items():
            if isinstance(metric, STORED_METRICS):
                stored[name] = cached(metric, folder, dtype=dtype)
    try_metrics(metrics, images)
    return stored


def make_metrics(study: Study, files: References) -> dict[str, ImageMetric | Precomputed]:
    """Return the metrics of a study by name, before any embedding."""
    known = {metric.__name__: metric for metric in METRICS} | {"Precomputed": read_distances}
    return {name: _make(known, name, table, files, study.device, "metric") for name, table in study.metrics.items()}


def _make(
    known: Mapping[str, Callable], name: str, table: Table, files: References, device: str | None, kind: str
) -> Any:
    """Return a finder or metric of the class that its table names, else of the class named like the table."""
    table = dict(table)
    asked = table.pop(kind, name)
    if asked not in known:
        raise ValueError(f"[{kind}s.{name}] no {kind} {asked!r}; there are {', '.join(known)}")
    if "random_state" in table:
        raise ValueError(f"[{kind}s.{name}] random_state is given by the study's seeds; remove it")
    given = {"device": device} if "device" in inspect.signature(known[asked]).parameters else {}
    return call(known[asked], given | files.fill(table), f"{kind}s.{name}")


def read_distances(
    path: Path, name: str | None = None, quantity: str | None = None, allow_external: bool = False
) -> Precomputed:
    """Return the metric `Precomputed` of the distances in a netCDF file."""
    matrix = read_array(Path(str(path)), "distances", allow_external=allow_external)
    try:
        return Precomputed(matrix, name=name, quantity=quantity)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def read_array(path: Path, what: str, *, allow_external: bool = False) -> xr.DataArray:
    """Return the array of a netCDF file that contains only one; `what` describes the file in errors."""
    if not path.is_file():
        raise FileNotFoundError(f"no {what} file {path}; check the path")
    try:
        with open_netcdf(path, allow_external=allow_external) as data:
            if len(data.data_vars) != 1:
                raise ValueError(
                    f"it contains the arrays {name_some([str(name) for name in data.data_vars]) or 'none'}"
                )
            return next(iter(data.data_vars.values())).load()
    except (ValueError, OSError) as error:
        raise ValueError(f"{what} {path} is not a netCDF file of one array: {one_line_with_type(error)}") from error


def try_metrics(metrics: Metrics, images: xr.DataArray) -> None:
    """Embed one image of noise and look up all distances, so that errors of a metric come before hours of work."""
    noise = np.random.default_rng(0).integers(0, 256, (1, *images.shape[1:]), dtype=np.uint8)
    for name, metric in metrics.items():
        if isinstance(metric, Precomputed):
            _require_distances(name, metric, images)
        else:
            metric.embed(images if metric.batch_size is None else images[:1].copy(data=noise))


def _require_distances(name: str, metric: Precomputed, images: xr.DataArray) -> None:
    try:
        metric.distances_between(images.stimulus)
    except ValueError as error:
        raise ValueError(f"[metrics.{name}] {error}; leave these images out, or add their distances") from error
