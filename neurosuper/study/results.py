"""Read what a run left: the numbers of a `study.nc`, its images, and its report, which can be written again."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from neurosuper._files import whole_file
from neurosuper.images import load_images
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.report import make_report
from neurosuper.report.page import FORMAT_VERSION
from neurosuper.study.build import load_study_images
from neurosuper.study.recorded import find_folder, read_provenance, study_of
from neurosuper.study.references import References
from neurosuper.study.write import PAGE

__all__ = ["read_numbers", "write_report"]


def read_numbers(path: str | Path) -> xr.Dataset:
    """Return the scores in a `study.nc`, without its directions.

    Parameters
    ----------
    path : path
        Written by `run_study`.

    Returns
    -------
    Dataset (item, metric)
        As from `run_study`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a `study.nc`, or one of another layout than this neurosuper reads.

    See Also
    --------
    run_study : writes the file.

    Examples
    --------
    >>> read_numbers("study_output/study.nc")  # doctest: +SKIP
    """
    path = Path(path)
    with open_netcdf(path) as file:
        numbers = file.load()
    if "interpretability" not in numbers or "format_version" not in numbers.attrs:
        raise ValueError(f"{path} is not a study.nc, as neurosuper run writes it")
    if numbers.attrs["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {numbers.attrs['format_version']}, and this neurosuper reads {FORMAT_VERSION}; "
            "run its study again, or use the version of neurosuper that wrote it"
        )
    numbers.encoding["source"] = str(path)
    return numbers


def write_report(path: str | Path, *, images: str | Path | None = None) -> Path:
    """Return the path of a new report of a `study.nc`, written next to it from its numbers.

    Parameters
    ----------
    path : path
        The `study.nc`.
    images : folder or zip file, optional
        The images of the study. By default those that its study file names, as recorded in `study.nc`; paths are
        relative to the folder of the study file: that of `study.nc`, or one of the three above it.

    Returns
    -------
    Path
        `report.html`; one that was there is replaced.

    Raises
    ------
    FileNotFoundError
        No such file, or the images are no longer where they were.
    ValueError
        Not a `study.nc`, or other images than those that were scored.

    See Also
    --------
    run_study : writes both.

    Examples
    --------
    >>> write_report("study_output/study.nc")  # doctest: +SKIP
    """
    path = Path(path)
    numbers = read_numbers(path)
    page = make_report(numbers, _load_images(path, images)).html
    with whole_file(path.with_name(PAGE)) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path.with_name(PAGE)


def _load_images(path: Path, images: str | Path | None) -> xr.DataArray:
    """Return the images of a study: those that were given, resized as the study asks, else those that it names."""
    recorded = read_provenance(path)
    if images is not None:
        settings = recorded["settings"]["images"]
        return load_images(images, **{name: settings[name] for name in ("size", "category_from") if name in settings})
    file = find_folder(path, recorded["study"]) / recorded["study"]
    study, _ = study_of(recorded, path, file)
    try:
        return load_study_images(study, References(file))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; give images= (--images), where the images of {path.name} are now") from error
