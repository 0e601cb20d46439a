"""What a study writes: tried before the first fit, published so that no two files disagree, kept when that fails."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import netCDF4
import numpy as np
import pandas as pd
import xarray as xr
from filelock import FileLock, Timeout

from neurosuper.comparison.side_by_side import Fit
from neurosuper.directions import Units
from neurosuper.responses import coords_along
from neurosuper.study.references import told

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
        for part in cache.glob("*.part"):
            part.unlink(missing_ok=True)
        yield


def cannot_write(folder: Path, error: Exception) -> OSError:
    """Return the error of a folder that cannot be written to."""
    why = getattr(error, "strerror", None) or told(error)
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
            raise ValueError(f"netCDF cannot store the {what} {name!r} ({told(error)}); {NETCDF_NAMES}") from error


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
            f"the unit coords {', '.join(coords)} of the system {system!r} cannot be written: {told(error)}"
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
        raise kind(f"there is no report ({told(error)}); all numbers are in {place / NUMBERS}") from error
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
