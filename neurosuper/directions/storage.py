"""Fitted finders as Datasets: all that was learned, and the settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator

Finder = TypeVar("Finder", bound=BaseEstimator)
FORMAT_VERSION = 1  # of what `write_finder` writes; Datasets before 0.1.0 have none
OLD_NAMES = {  # of settings, and of learned arrays, in Datasets without a version
    "KMeans": {"codes": "encoding"},
    "DictionaryLearning": {"codes": "encoding", "alpha": "l1"},
    "ICA": {"fun": "contrast"},
    "SparseAutoencoder": {"kind": "activation", "alpha": "l1"},
}


def write_finder(finder: Any) -> xr.Dataset:
    """Return a variable for each learned attribute, named without its `_`, and the settings as JSON."""
    learned = {name[:-1]: value for name, value in vars(finder).items() if name.endswith("_")}
    if taken := learned.keys() & finder.mean_.coords.keys():
        name = sorted(taken)[0]
        raise ValueError(
            f"units have a coord {name!r}, the name of a learned array; rename it before the fit, e.g. "
            f"responses.rename({name}='unit_{name}')"
        )
    variables = {
        name: value.rename(name) if isinstance(value, xr.DataArray) else ((), value) for name, value in learned.items()
    }
    settings = json.dumps(finder.get_params(deep=False), default=_as_json)
    attrs = {"finder": type(finder).__name__, "settings": settings, "format_version": FORMAT_VERSION}
    dataset = xr.Dataset(variables, attrs=attrs)
    text = {name: coord.astype(object) for name, coord in dataset.coords.items() if coord.dtype.kind == "U"}
    return dataset.assign_coords(text)  # strings of any length: fixed-length ones are not in the Zarr standard


def read_finder(cls: type[Finder], dataset: xr.Dataset) -> Finder:
    """Return the finder that `write_finder` wrote, of class `cls` or one below it."""
    name: Any = dataset.attrs.get("finder")
    known = {kind.__name__: kind for kind in _kinds(cls)}
    if name not in known and name in (room := import_module("neurosuper.directions")).__all__:
        getattr(room, name)  # imports its module: only then is it a subclass
        known = {kind.__name__: kind for kind in _kinds(cls)}
    settings = json.loads(dataset.attrs.get("settings", "null"))
    version = dataset.attrs.get("format_version")
    if version is None and isinstance(settings, dict):
        names = OLD_NAMES.get(name, {})
        settings = {names.get(key, key): value for key, value in settings.items()}
        dataset = dataset.rename_vars({old: new for old, new in names.items() if old in dataset.data_vars})
    elif version is not None and version != FORMAT_VERSION:
        raise ValueError(
            f"this fitted finder has format version {version}, and this neurosuper reads version {FORMAT_VERSION}; "
            "install a newer neurosuper, or fit again"
        )
    if not _is_of(known.get(name), settings, dataset):
        raise ValueError(
            f"a Dataset written by to_dataset of {', '.join(sorted(known))} is needed, got one of {name!r} with "
            f"{', '.join(map(str, dataset.data_vars)) or 'no variables'}"
        )
    finder = known[name](**{key: _from_json(value) for key, value in settings.items()})
    for key, value in dataset.load().data_vars.items():
        setattr(finder, f"{key}_", value.item() if value.ndim == 0 else value)
    return finder


def _is_of(kind: type[BaseEstimator] | None, settings: Any, dataset: xr.Dataset) -> bool:
    if kind is None or not isinstance(settings, dict) or not settings.keys() <= kind().get_params().keys():
        return False
    return "mean" in dataset and ("directions" in dataset or hasattr(kind, "directions_"))  # Units need none written


def _kinds(cls: type[Finder]) -> Iterator[type[Finder]]:
    if not getattr(cls, "__abstractmethods__", None):
        yield cls
    for kind in cls.__subclasses__():
        yield from _kinds(kind)


def _as_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.ndarray | xr.DataArray):
        return {"array": np.asarray(value).tolist()}
    raise TypeError(f"a setting of type {type(value).__name__} cannot be written; set it to plain values")


def _from_json(value: Any) -> Any:
    return np.array(value["array"]) if isinstance(value, dict) and set(value) == {"array"} else value
