"""Import an optional dependency, or name the pip extra that brings it."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Return the imported `module`, or say which pip extra installs it.

    Raises
    ------
    ImportError
        `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed; run: pip install 'neurosuper[{extra}]'") from error
