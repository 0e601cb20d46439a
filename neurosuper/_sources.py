"""Find where code comes from (an installed package or the user's own files) and which globals it uses."""

from __future__ import annotations

import ast
import dis
import hashlib
import importlib.util
import platform
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from weakref import WeakKeyDictionary

PYTHON = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib")})
SITES = ("site-packages", "dist-packages")

# The source of each module when it was first read: an edit after the import does not change the imported code.
_SEEN: WeakKeyDictionary[types.ModuleType, bytes] = WeakKeyDictionary()


def package_of(name: object) -> str | None:
    """Return package, version and file of a module of Python or of an installed package; None for the user's own code.

    An installed package is described by its version, the list of its files with their checksums, and the checksum of
    the module's file, because people often edit their own packages without a new version.
    """
    if not isinstance(name, str):
        return None
    top = name.partition(".")[0]
    file = _file_of(name) or _file_of(top)
    if file is None:
        built_in = top in sys.builtin_module_names
        # `__main__` and `this` are listed as standard library, but a user's script may be called so.
        standard = top in sys.stdlib_module_names and top not in ("__main__", "this")
        return f"Python {platform.python_version()}" if built_in or standard else None
    in_site = any(f"/{site}/" in file.replace("\\", "/") for site in SITES)
    if file.startswith(PYTHON) and not in_site:
        return f"Python {platform.python_version()}"
    if not in_site and top != "neurosuper":
        return None
    return f"{top} {_release(top)} {_checksum(file) if file.endswith('.py') else ''}"


def sources_of(module: types.ModuleType) -> list[tuple[str, str]]:
    """Return names and SHA-256 of a module's file and of the user's own files that it imports, directly or indirectly.

    If a file was edited after Python imported it, the imported version is described, with a warning.
    """
    found: dict[str, tuple[str, str]] = {}
    waiting = [(module.__name__, module)]
    while waiting:
        name, module = waiting.pop()
        file = getattr(module, "__file__", None)
        if file is None or file in found or package_of(name) is not None or not Path(file).is_file():
            continue
        source = _as_imported(module, Path(file))
        found[file] = (Path(file).name, hashlib.sha256(source).hexdigest())
        waiting += [(other, sys.modules[other]) for other in _imports(source, module) if other in sys.modules]
    return sorted(found.values())


def find_object(module: object, name: str) -> object:
    """Return the object of a loaded module that has this (dotted) name; None if there is none."""
    found = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def used_globals(code: types.CodeType, known: Mapping[str, object]) -> dict[str, object]:
    """Return the globals that a function reads, by their names; for a module, only the attributes that it reads."""
    used: dict[str, object] = {}
    steps = list(dis.get_instructions(code))
    for number, step in enumerate(steps):
        name = step.argval
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and name in known:
            value = known[name]
            # `np.linalg.norm` is a global followed by attribute look-ups: follow them as far as they lead in modules.
            for later in steps[number + 1 :]:
                if not isinstance(value, types.ModuleType) or later.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                if not hasattr(value, later.argval):
                    break
                name, value = f"{name}.{later.argval}", getattr(value, later.argval)
            used[name] = value
        elif step.opname == "IMPORT_NAME" and name in sys.modules:
            used[f"import {name}"] = sys.modules[name]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):  # a nested function or comprehension
            used |= used_globals(constant, known)
    return used


def _file_of(name: str) -> str | None:
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return path if isinstance(path, str) else None


@cache
def _release(top: str) -> str:
    """Return the version of a package and the checksum of the list of its files."""
    try:
        package = metadata.distribution(top)
        return f"{package.version} {hashlib.sha256((package.read_text('RECORD') or '').encode()).hexdigest()}"
    except metadata.PackageNotFoundError:  # the package has another name than its module, such as pillow (PIL)
        return str(getattr(sys.modules.get(top), "__version__", "unknown"))


@cache
def _checksum(file: str) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return "not readable"


def _as_imported(module: types.ModuleType, path: Path) -> bytes:
    now = path.read_bytes()
    if _SEEN.setdefault(module, now) != now:
        warnings.warn(f"{path} was edited after it was imported; restart Python to run it as it is", stacklevel=2)
    return _SEEN[module]


def _imports(source: bytes, module: types.ModuleType) -> Iterator[str]:
    """Yield the names of modules that a file may import, also inside functions."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(base, module.__package__)
            except ImportError:
                continue
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
