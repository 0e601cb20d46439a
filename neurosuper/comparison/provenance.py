"""What a comparison records about how it was made: settings of finders, quantities of metrics, versions of packages."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from neurosuper.directions import DirectionFinder

PACKAGES = (
    *("neurosuper", "numpy", "scipy", "numba", "scikit-learn", "xarray", "dask"),
    *("pillow", "torch", "torchvision", "lpips", "pynwb"),
)  # whose versions can change a number


def describe_comparison(finders: Mapping[str, DirectionFinder], quantities: Mapping[str, str]) -> str:
    """Return the provenance of a comparison as JSON.

    Parameters
    ----------
    finders : mapping of name to finder
    quantities : mapping of str to str
        What the index of each metric measures, by the name of the metric.
    """
    return json.dumps(
        {
            "finders": {name: settings_of(finder) for name, finder in finders.items()},
            "metrics": dict(quantities),
            "versions": installed_versions(),
        },
        default=_as_json,
    )


def settings_of(finder: DirectionFinder) -> dict[str, Any]:
    """Return the class of a finder (`finder`) and its settings that are not defaults, except the device."""
    settings = {
        name: value
        for name, parameter in inspect.signature(type(finder)).parameters.items()
        if name != "device" and not _equal(value := getattr(finder, name), parameter.default)
    }
    return {"finder": type(finder).__name__} | settings


def _equal(value: Any, default: Any) -> bool:
    # not np.array_equal: until NumPy 2.2 it fails for two single objects, such as a Path and None
    return np.shape(value) == np.shape(default) and bool(np.all(value == default))


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that can change a number, as far as they are installed."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _as_json(value: object) -> object:
    """Return a setting that JSON does not know: a number or array of NumPy as numbers, anything else as its text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)
