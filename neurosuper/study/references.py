"""Resolve the paths, Python functions and networks that a study file names, and refuse those it may not use."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from neurosuper._checks import one_line_with_type
from neurosuper._sources import sources_of
from neurosuper._toml import PATHS

PATH_KEYS = {"path", "truth"}
LABEL_KEYS = {"stimuli", "trials"}  # a file or folder, or the name of labels within the file of responses
FUNCTION_KEYS = {"model", "preprocess"}
WRITTEN_KEYS = {"cache", "checkpoint"}  # files and folders that a run writes
OWN_MODULE = re.compile(r"neurosuper(\.[A-Za-z_]\w*)+")
ALLOW = "run it with --trust (run_study(…, trust=True))"
MAX_CALL_LENGTH = 200  # characters of a refused call in an error: arguments from the file can be of any length
Table = dict[str, Any]


class References:
    """Resolve the names in a study file to paths and functions, and record every file read for provenance.

    A study file may come from anyone. Unless it is trusted, it runs only Python files in its own folder or below it and
    the networks of neurosuper, and writes only below its folder. Symbolic links are followed before this is checked.

    Parameters
    ----------
    study_path : Path
        The study file; it need not exist if its settings are known from elsewhere.
    trust : bool, optional
        Whether the study may run any code and write anywhere.
    write_to : Path, optional
        Existing folder for all files that the study asks to write, in place of the paths that it names: a rerun neither
        reads nor changes what the first run left there.

    Attributes
    ----------
    study, folder : Path
        The study file and its folder.
    trust : bool
        Whether the study may run any code and write anywhere.
    used : dict of str to Path
        Files and folders that were read, by the name that the study gives them.
    """

    def __init__(self, study_path: Path, *, trust: bool = False, write_to: Path | None = None) -> None:
        self.study, self.folder, self.trust = study_path, study_path.parent, trust
        self.write_to = write_to
        self.used = {study_path.name: study_path} if write_to is None or study_path.is_file() else {}

    def resolve(self, text: str) -> Path:
        """Return a path with environment variables filled in, relative to the folder of the study file."""
        variables = re.findall(r"\$\{?(\w+)\}?", text)
        if unset := [name for name in variables if name not in os.environ]:
            raise ValueError(f"{text}: the environment variable {unset[0]} is not set; set it, or write the path out")
        return self.folder / os.path.expandvars(text)

    def input_path(self, text: str) -> Path:
        """Return the resolved path of an input, and record it for provenance if it exists."""
        path = self.resolve(text)
        if path.exists():
            self.used[text] = path
        return path

    def _is_below(self, path: Path) -> bool:
        """Return whether a path, with links followed, is in the study's folder or below it."""
        return path.resolve().is_relative_to(self.folder.resolve())

    def output_path(self, text: str, key: str) -> Path:
        """Return the path of a file or folder that the run will write; refuse one outside the study's folder."""
        if self.write_to is not None:
            return self.write_to / hashlib.sha256(f"{key} {text}".encode()).hexdigest()[:16]
        path = self.resolve(text)
        if not self.trust and not self._is_below(path):
            caller = " give --output," if key == "output" else ""
            raise ValueError(
                f"{key} = {text!r} leads to {path.resolve()}, outside the folder of {self.study.name}; name a path "
                f"below that folder,{caller} or, if you trust this study, {ALLOW}"
            )
        return path

    def check_code(self, tables: Iterable[Table]) -> None:
        """Refuse code that is neither in the study's folder nor in neurosuper, before any of it is imported."""
        for table in tables:
            for key in FUNCTION_KEYS & table.keys():
                if isinstance(table[key], str):
                    self._check_source(key, table[key], table.get("model_args") if key == "model" else None)

    def _check_source(self, key: str, text: str, arguments: object) -> None:
        source = text.partition(":")[0]
        if source.endswith(".py"):
            path = self.resolve(source).resolve()
            known = self._is_below(path) and path.suffix == ".py"
        else:
            known = OWN_MODULE.fullmatch(source) is not None
        if not known and not self.trust:
            raise self._foreign_code_error(key, text, arguments)

    def _foreign_code_error(self, key: str, text: str, arguments: object) -> ValueError:
        """Return the error that shows which call was refused and how to allow it."""
        given = arguments if isinstance(arguments, dict) else {}
        refused = " ".join(f"{text}({', '.join(f'{name}={value!r}' for name, value in given.items())})".split())
        refused = refused if len(refused) <= MAX_CALL_LENGTH else f"{refused[:MAX_CALL_LENGTH]}…"
        return ValueError(
            f"{self.study.name} asks to run {refused} as its {key}, which was not run: code must be in .py files in "
            f"the folder of the study, or be a network of neurosuper; if you trust this study, {ALLOW}"
        )

    def function(self, key: str, text: str, arguments: object = None) -> Callable:
        """Return the function that `file.py:name` or `package.module:name` names."""
        self._check_source(key, text, arguments)
        source, _, name = text.partition(":")
        found = getattr(self._module(source), name, None)
        if not callable(found):
            raise ValueError(f"cannot find {text!r}: no function {name!r} there; write 'file.py:name' or 'module:name'")
        if not self.trust and not source.endswith(".py") and not _is_own(found, key):
            raise self._foreign_code_error(key, text, arguments)
        return found

    def _module(self, source: str) -> ModuleType:
        """Return a module imported by name, or a Python file run once and registered under a unique name."""
        try:
            if source.endswith(".py"):
                return self._run_file(self.input_path(source))
            return importlib.import_module(source)
        except Exception as error:  # the user's own code may fail in any way
            raise ValueError(
                f"cannot import {source!r}: {one_line_with_type(error)}; write 'file.py:name' or 'module:name'"
            ) from error

    @staticmethod
    def _run_file(path: Path) -> ModuleType:
        if not path.is_file():
            raise FileNotFoundError(f"no Python file {path}")
        content = path.read_bytes()
        identity = f"{path.resolve()} {hashlib.sha256(content).hexdigest()}"
        name = f"neurosuper_study_{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        if name not in sys.modules:
            module = ModuleType(name)
            module.__file__ = str(path)
            sys.modules[name] = module  # dataclasses and pickle look modules up there
            try:
                # Compiled from the bytes that were hashed, never from __pycache__, which may be of another version.
                exec(compile(content, str(path), "exec", dont_inherit=True), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def fill(self, table: Table) -> Table:
        """Return a table as keyword arguments, with paths and functions in place of their names."""
        filled = dict(table)
        for key, value in table.items():
            if not isinstance(value, str):
                continue
            # `weights`, `dataset` and labels may be names as well as paths.
            named_file = (key == "weights" and self._is_path(value)) or (key == "dataset" and value.endswith(".toml"))
            named_file |= key in LABEL_KEYS and ("$" in value or self.resolve(value).exists())
            if key in PATH_KEYS or named_file:
                filled[key] = self.input_path(value)
            elif key in FUNCTION_KEYS and not (key == "model" and _is_in_collection(value)):
                filled[key] = self.function(key, value, table.get("model_args") if key == "model" else None)
            elif key in WRITTEN_KEYS:
                filled[key] = str(self.output_path(value, key))
        if "model" in filled:
            text, arguments = table["model"], filled.pop("model_args", {})
            if _is_in_collection(text):
                return filled | self._load_named(text, arguments, filled.get("preprocess"))
            filled["model"] = self._build(text, filled["model"], arguments)
        return filled

    def _is_path(self, text: str) -> bool:
        return "$" in text or self.resolve(text).is_file()

    def _build(self, text: str, build: Callable, arguments: object) -> Any:
        """Return the network that a function builds; arguments that are paths of files are resolved first."""
        if not isinstance(arguments, dict):
            raise ValueError(
                f'model_args of {text!r} must be a table, such as {{ weights = "file.pth" }}, got {arguments!r}'
            )
        known = {
            key: self.input_path(value) if isinstance(value, str) and self._is_path(value) else value
            for key, value in arguments.items()
        }
        try:
            model = call(build, known, "model_args")
        except Exception as error:  # the user's own code may fail in any way
            raise ValueError(f"cannot build the network {text!r}: {one_line_with_type(error)}") from error
        if isinstance(getattr(model, "__dict__", None), dict):
            # Caches hash a network's attributes, so an edited source file gets new cache entries.
            vars(model)["built_from"] = sources_of(self._module(text.partition(":")[0]))
        return model

    def _load_named(self, text: str, arguments: object, preprocess: Callable | None) -> Table:
        """Return a network of a collection, such as "timm:resnet18", and its preprocessing unless another is given.

        A collection is code of others, so the study must be trusted.
        """
        from neurosuper.networks import load_network

        self._check_source("model", text, arguments)
        network = self._build(
            text, load_network, {"name": text} | arguments if isinstance(arguments, dict) else arguments
        )
        if preprocess is None and network.preprocess is None:
            raise ValueError(
                f'the network {text!r} comes without a transform of images; add preprocess = "file.py:function"'
            )
        return {"model": network.model, "preprocess": preprocess or network.preprocess}

    def checksums(self) -> dict[str, str]:
        """Return the sha256 of every file or folder that was read, by the name that the study gives it.

        Reports are shared, so an absolute path is shortened to its last part, with a number where two are equal.
        """
        found: dict[str, str] = {}
        for text, path in self.used.items():
            name = shared_name(text)
            found[name if name not in found else f"{name} ({len(found)})"] = sha256_of(path)
        return found


def _is_in_collection(text: object) -> bool:
    """Return whether a text names a network of a collection rather than a function that builds one."""
    if not isinstance(text, str):
        return False
    from neurosuper.networks.named import COLLECTIONS

    return text.partition(":")[0] in COLLECTIONS


def _is_own(found: Any, key: str) -> bool:
    """Return whether a function or class of neurosuper builds a network or, for `preprocess`, returns a tensor.

    A study file may call nothing else of neurosuper (some functions clear caches or write files), and nothing that
    neurosuper imports from other packages.
    """
    from torch import Tensor, nn

    module, name = getattr(found, "__module__", None) or "", getattr(found, "__name__", "_")
    if not module.startswith("neurosuper.") or name.startswith("_"):
        return False
    try:
        made = found if inspect.isclass(found) else get_type_hints(found).get("return")
    except NameError:  # the annotation is a name that only type checkers import
        return False
    return inspect.isclass(made) and issubclass(made, Tensor if key == "preprocess" else nn.Module)


def shared_name(text: str) -> str:
    """Return a path that reveals nothing of this machine: a relative one unchanged, an absolute one's last part."""
    return Path(text).name if Path(text).is_absolute() else text


def refuse_escapes(table: Table, where: str) -> None:
    r"""Refuse control characters in values that may be paths: in double quotes, `data\trial` contains a tab."""
    inner = table.get("model_args")
    for key, value in (table | (inner if isinstance(inner, dict) else {})).items():
        if isinstance(value, str) and key not in ("name", "quantity") and re.search(r"[\x00-\x1f\x7f]", value):
            raise ValueError(f"{where} {key} = {value!r} contains a control character; {PATHS}")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, or for a folder the sha256 of the names and checksums of its files."""
    if path.is_dir():
        parts = [f"{file.relative_to(path)} {sha256_of(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def call(function: Callable, arguments: Table, where: str) -> Any:
    """Return the result of a function called with a table of the study file; errors name the table."""
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(function).parameters)
        raise ValueError(f"[{where}] {error}; {function.__name__} takes {takes}") from error
    return function(**arguments)
