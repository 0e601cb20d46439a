"""What a study writes: tried before the first fit, published so that no two files disagree, kept when that fails."""

from __future__ import annotations

import contextlib
import platform
import shlex
import shutil
import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr
from filelock import FileLock, Timeout

from neurosuper._checks import one_line_with_type
from neurosuper._files import remove_unfinished
from neurosuper._torch import pick_device
from neurosuper.comparison.fitting import Fit, describe_shared
from neurosuper.directions import Units
from neurosuper.responses import coords_along
from neurosuper.study.build import (
    System,
)
from neurosuper.study.file import Study
from neurosuper.study.references import References, shared_name

PACKAGES = (
    *("neurosuper", "numpy", "scipy", "scikit-learn", "xarray", "dask"),
    *("pillow", "torch", "torchvision", "lpips", "pynwb"),
)

NUMBERS, PAGE, UNFINISHED = "study.nc", "report.html", "unfinished.nc"
STAGING = ".writing-"  # starts the names of folders of files that are not finished
NETCDF_NAMES = (
    "name it otherwise, with a letter or digit first, no blank at the end, no control character, at most 256 bytes"
)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, and remove what killed runs left there."""
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
        lock.release()  # one of the two times that it was acquired
        for left in folder.glob(f"{STAGING}*"):
            shutil.rmtree(left, ignore_errors=True)
        remove_unfinished(cache)
        yield


def cannot_write(folder: Path, error: Exception) -> OSError:
    """Return the error of a folder that cannot be written to."""
    why = getattr(error, "strerror", None) or one_line_with_type(error)
    return OSError(f"cannot write to {folder}: {why}; choose another output folder")


def try_writing(
    folder: Path, finders: Iterable[str], systems: Mapping[str, xr.DataArray | None], texts: Mapping[str, Iterable[str]]
) -> None:
    """Write an empty page and numbers without values, then delete both: errors come before hours of work.

    Parameters
    ----------
    folder : Path
    finders : iterable of str
        Those whose directions are written.
    systems : mapping of name to DataArray (stimulus, unit), or None where it is not loaded yet
    texts : mapping of str to iterable of str
        What else is stored as text, by what it is.

    Raises
    ------
    ValueError
        A name that netCDF refuses, two that it takes for one, coords that it cannot contain, text that is not Unicode.
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
        stored = unicodedata.normalize("NFC", _group_name(name))  # as netCDF does
        if stored in known:
            raise ValueError(
                f"the {what}s {known[stored]!r} and {name!r} would have one place in {NUMBERS}; rename one of them"
            )
        known[stored] = name
        try:
            group.createGroup(_group_name(name))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"netCDF cannot store the {what} {name!r} ({one_line_with_type(error)}); {NETCDF_NAMES}"
            ) from error


def _try_coords(path: Path, group: str, system: str, responses: xr.DataArray) -> None:
    coords = coords_along(responses, "unit")
    for name, coord in coords.items():
        if coord.dtype.kind in "OU":
            _require_unicode(f"{name} of the system {system!r}:", map(str, coord.values))
    nothing = xr.DataArray(np.zeros(responses.sizes["unit"]), dims="unit", coords=coords, name="directions")
    try:
        _without_objects(nothing).to_netcdf(path, mode="a", group=group)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the unit coords {', '.join(coords)} of the system {system!r} cannot be written: "
            f"{one_line_with_type(error)}"
        ) from error


def _group_name(name: str) -> str:
    return name.replace("/", "_")


def write_numbers(path: Path, result: xr.Dataset, fits: Mapping[int, Sequence[Fit]]) -> None:
    """Write the numbers of a study and the directions that it found, but for those of `Units`, as netCDF."""
    result.to_netcdf(path)
    for seed, of_seed in fits.items():
        for fit in of_seed:
            if not isinstance(fit.fitted, Units):
                names = [fit.system, fit.finder] + ([f"seed {seed}"] if len(fits) > 1 else [])
                group = "/".join(["directions", *map(_group_name, names)])
                _without_objects(fit.fitted.directions_).to_netcdf(path, mode="a", group=group)


def _without_objects(array: xr.DataArray) -> xr.DataArray:
    """Return an array whose coords are no Python objects, which netCDF cannot contain, but their text."""
    texts = {
        name: (coord.dims, np.where(pd.isnull(coord.values), "", coord.values.astype(str)))
        for name, coord in array.coords.items()
        if coord.dtype.kind == "O"
    }
    return array.assign_coords(texts)


def publish(folder: Path, write: Callable[[Path], None], render: Callable[[], str]) -> None:
    """Write the numbers, then the page: each whole or not at all, and never a page beside numbers of another run.

    Raises
    ------
    OSError
        The folder cannot be written to; where possible, all results are in another one, which is named.
    OSError, RuntimeError
        There is no page; the numbers are in their place.
    """
    place, fault = folder, None
    try:
        _write_numbers(folder, write)
    except Exception as error:
        fault = cannot_write(folder, error)
        try:
            _write_numbers(place := Path(tempfile.mkdtemp(prefix="neurosuper-")), write)
        except Exception:  # the disk of temporary files is full too
            raise fault from error
    try:
        page = render()
        with _staged(place, PAGE) as path:  # no page for a name that is no Unicode would be worse than an escape
            path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except Exception as error:
        kind = OSError if isinstance(error, OSError) else RuntimeError
        raise kind(f"there is no report ({one_line_with_type(error)}); all numbers are in {place / NUMBERS}") from error
    if fault:
        raise OSError(f"{fault}; this time, all results are in {place}")


def _write_numbers(folder: Path, write: Callable[[Path], None]) -> None:
    with _staged(folder, NUMBERS) as path:
        write(path)
        (folder / PAGE).unlink(missing_ok=True)  # that of the last run
    (folder / UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def _staged(folder: Path, name: str) -> Iterator[Path]:
    """Give a path to write to, and put what is written there in its place."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=STAGING, ignore_cleanup_errors=True) as staging:
        yield (path := Path(staging, name))
        path.replace(folder / name)


def keep_directions(folder: Path, fits: Mapping[int, Sequence[Fit]]) -> str:
    """Write the directions found by a run that failed, if any; return where they are."""
    if not any(fits.values()):
        return ""
    for place in (lambda: folder, lambda: Path(tempfile.mkdtemp(prefix="neurosuper-"))):
        with contextlib.suppress(Exception), _staged(place(), UNFINISHED) as path:
            write_numbers(path, xr.Dataset(), fits)
            return f"the directions found before are in {path.parents[1] / UNFINISHED}"
    return "the directions found before could not be written"


def describe_run(study: Study, systems: list[System], fits: dict[int, list[Fit]]) -> dict[str, str]:
    """Return the attrs of `study.nc` that say what was done."""
    return {
        "title": study.title,
        "note": " ".join([study.note, *_dropped(systems, fits)]).strip(),
        "score_on": study.score_on,
        "shared_stimuli": describe_shared({system.name: system.responses for system in systems}),
    }


def trace_provenance(study: Study, systems: list[System], files: References, command: str) -> dict[str, Any]:
    """Return where every number comes from."""
    about = ("dataset", "dataset_version", "doi")
    told = {system.name: system.responses.attrs for system in systems}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": str(pick_device(study.device)),
        "seeds": study.seeds,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "datasets": {
            name: {key: attrs[key] for key in about} for name, attrs in told.items() if set(about) <= set(attrs)
        },
        "files": files.checksums(),
    }


def command_line(path: str | Path) -> str:
    """Return the command line, or the call where there was none; absolute paths by their names: reports are shared."""
    program = Path(sys.argv[0]).name
    if program != "neurosuper":
        return f"neurosuper.run_study({shared_name(str(path))!r})"
    words = ["=".join(map(shared_name, word.split("="))) for word in sys.argv[1:]]
    return shlex.join([program, *words])


def _dropped(systems: list[System], fits: dict[int, list[Fit]]) -> Iterator[str]:
    """Say how many units of which system were left out because they did not vary."""
    every = [fit for of_seed in fits.values() for fit in of_seed]
    for system in systems:
        n_units = system.responses.sizes["unit"]
        n_lost = n_units - min(fit.fitted.mean_.sizes["unit"] for fit in every if fit.system == system.name)
        if n_lost:
            yield f"{system.name}: {n_lost} of {n_units} units do not vary over the stimuli and were dropped."


def output_folder(study: Study, files: References, output: str | Path | None) -> Path:
    """Return the folder to write to, made if need be, after a trial write."""
    if output is not None:
        folder = Path(output)
    else:
        asked = study.output or f"{files.study.stem}_output"
        folder = files.written(asked, "output")
        files.written(f"{asked}/cache/embeddings", "output")  # which may be a link that came with the study
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder
