"""What a study file refers to: paths, functions in Python files, and the networks that these build."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from neurosuper._sources import sources_of

PATH_KEYS = {"path", "stimuli", "truth"}
FUNCTION_KEYS = {"model", "preprocess"}
Table = dict[str, Any]


class References:
    """Fill in what a study file refers to: paths, which are remembered for provenance, and functions."""

    def __init__(self, study_path: Path) -> None:
        self.study, self.folder = study_path, study_path.parent
        self.used = {study_path.name: study_path}

    def resolve(self, text: str) -> Path:
        """Return the path meant: environment variables filled in, relative to the study file."""
        variables = re.findall(r"\$\{?(\w+)\}?", text)
        if unset := [name for name in variables if name not in os.environ]:
            raise ValueError(f"{text}: the environment variable {unset[0]} is not set; set it, or write the path out")
        return self.folder / os.path.expandvars(text)

    def path(self, text: str) -> Path:
        """Return the path meant, and remember it."""
        path = self.resolve(text)
        if path.exists():
            self.used[text] = path
        return path

    def function(self, text: str) -> Callable:
        """Return the function meant by `file.py:name` or `package.module:name`."""
        source, _, name = text.partition(":")
        found = getattr(self._module(source), name, None)
        if not callable(found):
            raise ValueError(f"cannot find {text!r}: no function {name!r} there; write 'file.py:name' or 'module:name'")
        return found

    def _module(self, source: str) -> ModuleType:
        """Import a module by its name, or a file once under a name of its own."""
        try:
            return self._run_file(self.path(source)) if source.endswith(".py") else importlib.import_module(source)
        except Exception as error:  # the user's own code may fail in any way
            raise ValueError(
                f"cannot import {source!r}: {told(error)}; write 'file.py:name' or 'module:name'"
            ) from error

    @staticmethod
    def _run_file(path: Path) -> ModuleType:
        identity = f"{path.resolve()} {sha256_of(path)}"
        name = f"neurosuper_study_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        if name not in sys.modules:
            module = ModuleType(name)
            module.__file__ = str(path)
            sys.modules[name] = module  # where dataclasses and pickle look for it
            try:
                SourceFileLoader(name, str(path)).exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def fill(self, table: Table) -> Table:
        """Return keyword arguments, with paths and functions in place of their names."""
        filled = dict(table)
        for key, value in table.items():
            if isinstance(value, str) and (key in PATH_KEYS or self._may_be_path(key, value)):
                filled[key] = self.path(value)
            elif isinstance(value, str) and key in FUNCTION_KEYS:
                filled[key] = self.function(value)
        if "model" in filled:
            filled["model"] = self._build(table["model"], filled["model"], filled.pop("model_args", {}))
        return filled

    def _may_be_path(self, key: str, value: str) -> bool:
        return (key == "weights" and self._is_path(value)) or (key == "dataset" and value.endswith(".toml"))

    def _is_path(self, text: str) -> bool:
        return "$" in text or self.resolve(text).is_file()

    def _build(self, text: str, build: Callable, arguments: object) -> Any:
        """Call the function that builds a network; arguments that are paths of files are resolved."""
        if not isinstance(arguments, dict):
            raise ValueError(
                f'model_args of {text!r} must be a table, such as {{ weights = "file.pth" }}, got {arguments!r}'
            )
        known = {
            key: self.path(value) if isinstance(value, str) and self._is_path(value) else value
            for key, value in arguments.items()
        }
        try:
            model = call(build, known, "model_args")
        except Exception as error:  # the user's own code may fail in any way
            raise ValueError(f"cannot build the network {text!r}: {told(error)}") from error
        if isinstance(getattr(model, "__dict__", None), dict):
            # An attribute like any other: what the caches keep of this network is found by it too.
            vars(model)["built_from"] = sources_of(self._module(text.partition(":")[0]))
        return model

    def checksums(self) -> dict[str, str]:
        """Return the sha256 of every file or folder that was used, by the name that the study gives it."""
        return {text: sha256_of(path) for text, path in self.used.items()}


def told(error: Exception) -> str:
    """Return what an error says, in one line."""
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file; of a folder, that of the names and checksums of the files in it."""
    if path.is_dir():
        parts = [f"{file.relative_to(path)} {sha256_of(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def call(function: Callable, arguments: Table, where: str) -> Any:
    """Call a function with what a table of the study file says, naming the table where it does not fit."""
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(function).parameters)
        raise ValueError(f"[{where}] {error}; {function.__name__} takes {takes}") from error
    return function(**arguments)
