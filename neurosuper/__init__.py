"""Ask whether the directions of a neural population are more interpretable than its single units.

Responses are `stimulus × unit` and codes are `stimulus × direction`. Every measure of interpretability takes either, so
units are compared with directions, or brain with network, by the same call made twice.
"""

import logging
from typing import Any

import lazy_loader

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # messages are shown if the caller configures logging

# Names and rooms are imported when they are first used, as listed in `__init__.pyi`, which type checkers read too
_import_lazily, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'neurosuper' has no attribute {name!r}; it has {', '.join(__all__)}")
    return _import_lazily(name)
