"""What tables of a study file make: finders, metrics, and the arrays that they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import neurosuper
from neurosuper._checks import one_line_with_type
from neurosuper.comparison.fitting import join_system
from neurosuper.directions import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    DictionaryLearning,
    DirectionFinder,
    KMeans,
    Random,
    SparseAutoencoder,
    Units,
)
from neurosuper.images import load_images
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.metrics import LPIPS, Color, Features, ImageMetric, Label, Pixel, Precomputed, cached
from neurosuper.metrics.cache import Stored
from neurosuper.responses import average_repetitions, name_some
from neurosuper.study.file import Study
from neurosuper.study.references import References, Table, call

LOADERS = ("load", "load_nwb", "load_array", "activations")

FINDERS = (Units, Random, PCA, ICA, NMF, KMeans, DictionaryLearning, SparseAutoencoder, Archetypal)
METRICS = (LPIPS, Pixel, Color, Label, Features)
KEPT = (LPIPS, Features)  # whose embeddings take longer to make than to read

Metrics = Mapping[str, ImageMetric | Precomputed]


def make_finders(tables: Mapping[str, Table], files: References, device: str | None) -> dict[str, DirectionFinder]:
    """Make the finders of a study, by their names."""
    known = {finder.__name__: finder for finder in FINDERS}
    return {name: _make(known, name, table, files, device, "finder") for name, table in tables.items()}


def make_metrics(tables: Mapping[str, Table], files: References, device: str | None) -> Metrics:
    """Make the metrics of a study, by their names."""
    known = {metric.__name__: metric for metric in METRICS} | {"Precomputed": read_distances}
    return {name: _make(known, name, table, files, device, "metric") for name, table in tables.items()}


def _make(
    known: Mapping[str, Callable], name: str, table: Table, files: References, device: str | None, kind: str
) -> Any:
    """Make a finder or metric: of the class called like its table, or of the one that the table names."""
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
    """Return the metric of the distances in a netCDF file, or say what is wrong with them."""
    matrix = read_array(Path(str(path)), "distances", allow_external=allow_external)
    try:
        return Precomputed(matrix, name=name, quantity=quantity)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{path}: {error}") from error


def read_array(path: Path, what: str, *, allow_external: bool = False) -> xr.DataArray:
    """Return the one array of a netCDF file, or say what is wrong with the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no {what} file {path}; check the path")
    try:
        with open_netcdf(path, allow_external=allow_external) as data:
            if len(data.data_vars) != 1:
                raise ValueError(f"it has the arrays {name_some([str(name) for name in data.data_vars]) or 'none'}")
            return next(iter(data.data_vars.values())).load()
    except (ValueError, OSError) as error:
        raise ValueError(f"{what} {path} is not a netCDF file of one array: {one_line_with_type(error)}") from error


def read_truth(path: Path, name: str) -> xr.DataArray:
    """Return planted directions, or say what is wrong with them."""
    try:
        truth = read_array(path, "truth")
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"[systems.{name}] {error}") from error
    if set(truth.dims) != {"direction", "unit"} or set(truth.dims) - set(truth.indexes):
        raise ValueError(f"[systems.{name}] truth must have labelled dims direction and unit, got {dict(truth.sizes)}")
    return truth


def try_metrics(metrics: Metrics, images: xr.DataArray) -> None:
    """Embed an image of noise, look up all distances: what is wrong with a metric is told before hours of work."""
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


def keep_embeddings(metrics: Metrics, folder: Path, dtype: Stored) -> Metrics:
    """Return metrics that keep embeddings in a folder, where these take long to make."""
    return {
        name: cached(metric, folder, dtype=dtype) if isinstance(metric, KEPT) else metric
        for name, metric in metrics.items()
    }


class System(NamedTuple):
    """One population as the study uses it."""

    name: str
    responses: xr.DataArray
    truth: xr.DataArray | None
    drop_constant_units: bool


def make_study_metrics(study: Study, files: References, images: xr.DataArray, folder: Path) -> Metrics:
    """Make and try the metrics; where the study asks for it, their embeddings are kept in a folder."""
    metrics = make_metrics(study.metrics, files, study.device)
    kept = keep_embeddings(metrics, folder, study.cache_embeddings) if study.cache_embeddings else metrics
    try_metrics(metrics, images)
    return kept


def load_study_images(study: Study, files: References) -> xr.DataArray:
    """Return the images of a study: those of a dataset, or of a folder or file."""
    table = files.fill(study.images)
    if "dataset" in table:
        return call(neurosuper.load_stimuli, table, "images")
    if "path" not in table:
        raise ValueError("[images] needs a path (a folder or a zip file of images), or a dataset")
    return call(load_images, {"source": table.pop("path")} | table, "images")


def load_systems(study: Study, images: xr.DataArray, files: References, cache: Path) -> Iterator[System]:
    """Load every system, on the stimuli that have an image; a network gives one system per layer."""
    for name, table in study.systems.items():
        options = files.fill(table)
        loader, drop = options.pop("loader", None), options.pop("drop_constant_units", False)
        if loader not in LOADERS or not isinstance(drop, bool):
            raise ValueError(
                f"[systems.{name}] loader must be one of {', '.join(LOADERS)}, and drop_constant_units true or false; "
                f"got {loader!r} and {drop!r}"
            )
        truth = read_truth(options.pop("truth"), name) if "truth" in options else None
        if loader == "activations":
            options = {"device": study.device, "cache": cache} | options | {"images": images}
        elif options.get("stimuli") is True:
            options["stimuli"] = images
        responses = average_repetitions(call(getattr(neurosuper, loader), options, f"systems.{name}"))
        for own, part in _by_layer(name, responses, options.get("layers")):
            yield System(own, join_system(own, part, images.stimulus), truth, drop)


def _by_layer(name: str, responses: xr.DataArray, layers: object) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield one system per layer of a network whose layers are a list, else the one that it is."""
    if not isinstance(layers, list):
        yield name, responses
        return
    for layer in layers:
        yield f"{name} {layer}", responses.sel(unit=(responses.layer == layer).values)


def refuse_equal_names(names: list[str]) -> None:
    """Refuse two systems of one name."""
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two systems are called {sorted(twice)[0]!r} (a network's layers are added to its name)")
