"""Loaders: from a file, or from a network and its images, to labelled responses."""

import importlib
from typing import Any

_HOME = {"activations": "network", "load_array": "array", "load_nwb": "nwb"}

__all__ = ["activations", "load_array", "load_nwb"]


def __getattr__(name: str) -> Any:
    """Import a loader when it is first used: each brings the libraries of its own format."""
    if name not in _HOME:
        raise AttributeError(f"module 'neurosuper.load' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = getattr(importlib.import_module(f"neurosuper.load.{_HOME[name]}"), name)
    return globals()[name]
