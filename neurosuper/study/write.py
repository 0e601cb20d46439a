"""Write the outputs of a study: a trial before the first fit, each file whole or not at all, and what a failure leaves.

Layout of `study.nc`: the root group is the comparison (see `neurosuper.compare`) with the attrs and coords that a study
adds; the groups `directions/<system>/<finder>`, or `directions/<system>/<finder>/seed <seed>` where there are several
seeds, contain the directions of every finder but `Units`. Its attr `format_version` covers the names, dims, units and
meaning of everything in these groups, and the keys of the JSON in `provenance`. It is raised when a file of the old
layout would be misread; a variable, coord or attr that is only added does not raise it. Readers compare it with
`FORMAT_VERSION` and refuse files of another layout (see `neurosuper.report.make_report`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shlex
import shutil
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import torch
import xarray as xr
from filelock import FileLock, Timeout

from neurosuper._checks import one_line_with_type
from neurosuper._files import SUFFIX as UNFINISHED_SUFFIX
from neurosuper._torch import pick_device
from neurosuper.comparison.fitting import Fit, describe_shared
from neurosuper.comparison.table import describe_left_out
from neurosuper.directions import DirectionFinder, Units
from neurosuper.report.page import FORMAT_VERSION
from neurosuper.responses import coords_along
from neurosuper.study.build import System
from neurosuper.study.file import Study, has_absolute_paths, shareable_settings
from neurosuper.study.measures import SUPERPOSITION
from neurosuper.study.pairs import POPULATIONS, TWINS
from neurosuper.study.references import References, sha256_of, shared_name

NUMBERS, PAGE, UNFINISHED = "study.nc", "report.html", "unfinished.nc"
COMPRESSED = {"dtype": "S1", "zlib": True, "complevel": 1}  # HDF5 compresses characters, not strings
STAGING = ".writing-"  # prefix of folders with unfinished files
NETCDF_NAMES = (
    "choose another name, with a letter or digit first, no blank at the end, no control character, at most 256 bytes"
)


def output_folder(study: Study, files: References, output: str | Path | None) -> Path:
    """Return the folder to write to; it is created if necessary, and a trial file is written."""
    if output is not None:
        folder = Path(output)
    else:
        asked = study.output or f"{files.study.stem}_output"
        folder = files.output_path(asked, "output")
        files.output_path(f"{asked}/cache/embeddings", "output")  # may be a link that came with the study
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, and remove files that killed runs left there."""
    cache = folder / "cache"
    try:
        cache.mkdir(exist_ok=True)
        lock = FileLock(cache / "study.lock", mode=0o666)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            warnings.warn(f"another run writes to {folder}; waiting until it ends", UserWarning, stacklevel=4)
            lock.acquire()
    except OSError as error:
        raise cannot_write(folder, error) from error
    with lock:
        lock.release()  # it was acquired above and again by `with`
        for left in folder.glob(f"{STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        for part in cache.glob(f"*{UNFINISHED_SUFFIX}"):  # no other run writes here while this one has the lock
            part.unlink(missing_ok=True)
        yield


def cannot_write(folder: Path, error: Exception) -> OSError:
    """Return the error for a folder that cannot be written to."""
    why = getattr(error, "strerror", None) or one_line_with_type(error)
    return OSError(f"cannot write to {folder}: {why}; choose another output folder")


def try_writing(
    folder: Path, finders: Iterable[str], systems: Mapping[str, xr.DataArray | None], texts: Mapping[str, Iterable[str]]
) -> None:
    """Write an empty page and a `study.nc` without values, then delete both, so that errors come before hours of work.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    finders : iterable of str
        Names of the finders whose directions are written.
    systems : mapping of name to DataArray (stimulus, unit)
        None for a system that is not loaded yet.
    texts : mapping of str to iterable of str
        Further texts to be stored; the key describes them in errors.

    Raises
    ------
    ValueError
        A name that netCDF refuses, two names that netCDF treats as equal, coords that it cannot store, or text that is
        not Unicode.
    OSError
        The folder cannot be written to.
    """
    for what, each in texts.items():
        _require_unicode(what, each)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=STAGING) as staging:
            Path(staging, PAGE).write_text("", encoding="utf-8")
            numbers = Path(staging, NUMBERS)
            with netCDF4.Dataset(numbers, "w") as file:
                for what, names in (("system", systems), ("finder", finders)):
                    _try_names(file.createGroup(what), what, names)
            for i, (name, responses) in enumerate(systems.items()):
                if responses is not None:
                    _try_coords(numbers, f"coords {i}", name, responses)
    except (OSError, RuntimeError) as error:
        raise cannot_write(folder, error) from error


def _require_unicode(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{what} {text!r} is not Unicode, so it cannot be written; rename it") from error
        if "\0" in text:
            raise ValueError(f"{what} {text!r} contains a NUL character, so it cannot be written; rename it")


def _try_names(group: netCDF4.Group, what: str, names: Iterable[str]) -> None:
    known: dict[str, str] = {}
    _require_unicode(f"the {what}", names)
    for name in names:
        stored = unicodedata.normalize("NFC", group_name(name))  # as netCDF does
        if stored in known:
            raise ValueError(
                f"the {what}s {known[stored]!r} and {name!r} would be stored under one name in {NUMBERS}; rename one"
            )
        known[stored] = name
        try:
            group.createGroup(group_name(name))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"netCDF cannot store the {what} {name!r} ({one_line_with_type(error)}); {NETCDF_NAMES}"
            ) from error


def _try_coords(path: Path, group: str, system: str, responses: xr.DataArray) -> None:
    coords = coords_along(responses, "unit")
    for name, coord in coords.items():
        if coord.dtype.kind in "OU":
            _require_unicode(f"{name} of the system {system!r}:", map(str, coord.values))
    trial = xr.DataArray(np.zeros(responses.sizes["unit"]), dims="unit", coords=coords, name="directions")
    try:
        _without_objects(trial).to_netcdf(path, mode="a", group=group)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the unit coords {', '.join(coords)} of the system {system!r} cannot be written: "
            f"{one_line_with_type(error)}"
        ) from error


def group_name(name: str) -> str:
    """Return the name of the group of a system or finder."""
    return name.replace("/", "_")


def write_numbers(path: Path, result: xr.Dataset, fits: Mapping[int, Sequence[Fit]]) -> None:
    """Write the comparison and all directions except those of `Units` as netCDF (layout: see the module).

    Texts are compressed: a study of 11,000 items takes 135 instead of 142 MB, and is written in two thirds of the time.
    Numbers are not: most are differences between random halves, 17 % smaller after three times the time.
    """
    texts = [name for name, variable in result.variables.items() if variable.dtype.kind == "U" and variable.ndim]
    result.to_netcdf(path, encoding=dict.fromkeys(texts, COMPRESSED))
    for seed, of_seed in fits.items():
        for fit in of_seed:
            if not isinstance(fit.fitted, Units):
                names = [fit.system, fit.finder] + ([f"seed {seed}"] if len(fits) > 1 else [])
                group = "/".join(["directions", *map(group_name, names)])
                _shareable_directions(fit.fitted).to_netcdf(path, mode="a", group=group)


def _shareable_directions(finder: DirectionFinder) -> xr.DataArray:
    """Return directions that netCDF can store; their attr `settings` names no folder of this machine."""
    directions = _without_objects(finder.directions_)
    checkpoint = getattr(finder, "checkpoint", None)
    if checkpoint is None:
        return directions
    settings = directions.attrs["settings"].replace(repr(checkpoint), repr(shared_name(str(checkpoint))))
    return directions.assign_attrs(settings=settings)


def _without_objects(array: xr.DataArray) -> xr.DataArray:
    """Return an array with coords of Python objects, which netCDF cannot store, converted to text."""
    texts = {
        name: (coord.dims, np.where(pd.isnull(coord.values), "", coord.values.astype(str)))
        for name, coord in array.coords.items()
        if coord.dtype.kind == "O"
    }
    return array.assign_coords(texts)


def publish(folder: Path, write: dict[str, Callable[[Path], None]], render: Callable[[], str]) -> None:
    """Write all numbers, then the page: each file whole or not at all, and never one with those of another run.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    write : mapping of name to callable
        Writes the file of this name, such as `study.nc`, to the path that it is given.
    render : callable
        Returns the page.

    Raises
    ------
    OSError
        The folder cannot be written to. If possible, all results are written to a temporary folder, which the error
        names.
    OSError, RuntimeError
        The page could not be rendered or written; the numbers are complete.
    """
    written_to, fault = folder, None
    try:
        _replace_numbers(folder, write)
    except Exception as error:
        fault = cannot_write(folder, error)
        try:
            _replace_numbers(written_to := Path(tempfile.mkdtemp(prefix="neurosuper-")), write)
        except Exception:  # the disk of temporary files is full too
            raise fault from error
    try:
        page = render()
        with _staged(written_to, PAGE) as path:
            # A name that is not Unicode is escaped: better than no page.
            path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except Exception as error:
        kind = OSError if isinstance(error, OSError) else RuntimeError
        numbers = written_to / NUMBERS
        raise kind(f"there is no report ({one_line_with_type(error)}); all numbers are in {numbers}") from error
    if fault:
        raise OSError(f"{fault}; this time, all results are in {written_to}")


def _replace_numbers(folder: Path, write: dict[str, Callable[[Path], None]]) -> None:
    """Write all numbers and delete what belongs to an earlier run."""
    with contextlib.ExitStack() as stack:
        for name, write_one in reversed(write.items()):  # the last that is staged gets its name first: study.nc
            write_one(stack.enter_context(_staged(folder, name)))
        # Before the new numbers get their names, so that a run killed here leaves nothing of other numbers.
        for name in (PAGE, SUPERPOSITION, POPULATIONS, TWINS):
            (folder / name).unlink(missing_ok=True)
    (folder / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def _staged(folder: Path, name: str) -> Iterator[Path]:
    """Yield a temporary path, and move the file written there to its final name when the block ends."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=STAGING, ignore_cleanup_errors=True) as staging:
        yield (path := Path(staging, name))
        path.replace(folder / name)


def keep_directions(folder: Path, fits: Mapping[int, Sequence[Fit]]) -> str:
    """Write the directions found by a run that failed, if any; return a note with their path."""
    if not any(fits.values()):
        return ""
    for choose_folder in (lambda: folder, lambda: Path(tempfile.mkdtemp(prefix="neurosuper-"))):
        with contextlib.suppress(Exception), _staged(choose_folder(), UNFINISHED) as path:
            write_numbers(path, xr.Dataset(attrs={"format_version": FORMAT_VERSION}), fits)
            return f"the directions found before are in {path.parents[1] / UNFINISHED}"
    return "the directions found before could not be written"


def describe_run(study: Study, systems: list[System], result: xr.Dataset) -> dict[str, str | int]:
    """Return the attrs of `study.nc` that a study adds to the scores, except its provenance."""
    sentences = [*_randomized(systems, study.seeds[0]), *describe_selected(systems)]
    sentences += [*_left_out(systems, result), *describe_left_out(result)]
    fit_on = {system.name: system.fit_on for system in systems if system.fit_on is not None}
    return {
        "format_version": FORMAT_VERSION,
        "title": study.title,
        "note": " ".join([study.note, *sentences]).strip(),
        "score_on": study.score_on,
        "shared_stimuli": describe_shared({system.name: system.responses for system in systems}, fit_on),
    }


def _randomized(systems: list[System], seed: int) -> Iterator[str]:
    """Yield a sentence for each way in which networks have random weights."""
    for how in dict.fromkeys(system.randomize for system in systems if system.randomize):
        names = ", ".join(system.name for system in systems if system.randomize == how)
        yield f"Random weights ({how}, seed {seed}): {names}."


def describe_selected(systems: Iterable[System]) -> list[str]:
    """Return a sentence for each system whose units were selected."""
    return [f"Units of {system.name}: {system.selected}." for system in systems if system.selected]


def _left_out(systems: list[System], result: xr.Dataset) -> Iterator[str]:
    """Yield a sentence that counts the units of each system that were left out because they do not vary."""
    counts = zip(systems, result.attrs.get("n_units_left_out", []), strict=False)
    parts = [f"{n} of {system.responses.sizes['unit']} units of {system.name}" for system, n in counts if n]
    if parts:
        yield f"Left out, as they do not vary over the stimuli to fit on or to score on: {', '.join(parts)}."


def trace_provenance(
    study: Study, systems: list[System], result: xr.Dataset, checksums: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Return what `reproduce` needs or compares: provenance of scores, command, machine, seeds, data, checksums."""
    scored = json.loads(result.provenance)
    for settings in scored["finders"].values():
        settings.pop("random_state", None)  # one of the seeds
        if "checkpoint" in settings:
            settings["checkpoint"] = shared_name(settings["checkpoint"])
    keys = ("dataset", "dataset_version", "doi")
    attrs_of = {system.name: system.responses.attrs for system in systems}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": str(pick_device(study.device)),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "seeds": study.seeds,
        **scored,
        "versions": {"python": platform.python_version()} | scored["versions"],
        "code": checksum_of_code(),
        "settings": shareable_settings(study),
        "has_absolute_paths": has_absolute_paths(study),
        "datasets": {
            name: {key: attrs[key] for key in keys} for name, attrs in attrs_of.items() if set(keys) <= set(attrs)
        },
        "files": dict(checksums),
    }


@cache
def checksum_of_code() -> str:
    """Return the SHA-256 of all Python files of neurosuper, which may be edited without a new version."""
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def command_line(path: str | Path) -> str:
    """Return the command that started the run, or the Python call; absolute paths are shortened to their last part."""
    program = Path(sys.argv[0]).name
    if program != "neurosuper":
        return f"neurosuper.run_study({shared_name(str(path))!r})"
    words = ["=".join(map(shared_name, word.split("="))) for word in sys.argv[1:]]
    return shlex.join([program, *words])
