"""Loaders: a dataset by its id, a file, or a network and its images, to labelled responses.

The room and its main function share a name, and a package has one attribute of a name: so the room can be called.
`neurosuper.load("nsd")` and `neurosuper.load.load("nsd")` are the same.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_MODULES = {
    "array": ("load_array",),
    "cache": ("cache_folder", "clear_cache", "fetch", "list_cache"),
    "cadena": ("load_cadena", "load_cadena2019"),
    "catalogue": ("cite", "datasets", "describe"),
    "cowley": ("load_cowley",),
    "dataset": ("load", "load_stimuli"),
    "manifest": ("read_manifest",),
    "network": ("activations",),
    "neuroid": ("load_neuroid",),
    "nsd": ("load_nsd",),
    "nsd_images": ("load_nsd_images",),
    "nwb": ("load_nwb", "load_nwb_images", "load_presentations"),
    "stringer": ("load_mat_images", "load_stringer"),
    "tvsd": ("load_tvsd",),
    "verification": ("verify_cache",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a loader when it is first used: each brings the libraries of its own format."""
    if name not in _HOME:
        raise AttributeError(f"module 'neurosuper.load' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = getattr(importlib.import_module(f"neurosuper.load.{_HOME[name]}"), name)
    return globals()[name]


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
