"""Import an optional dependency; if it is missing, name the pip extra that installs it."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Return the imported `module`; if it is missing, the error names the pip extra that installs it.

    Raises
    ------
    ImportError
        `module` is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is not installed; run: pip install 'neurosuper[{extra}]'") from error
