"""Read what a run left: the numbers of a `study.nc`, its images, and its report, which can be written again."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from neurosuper._files import whole_file
from neurosuper._toml import parse_toml
from neurosuper.images import load_images
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.report import render_report
from neurosuper.report.html import FORMAT_VERSION
from neurosuper.study.build import load_study_images
from neurosuper.study.file import Study
from neurosuper.study.references import References
from neurosuper.study.write import PAGE

__all__ = ["read_numbers", "write_report"]

N_FOLDERS = 4  # in which the study file is looked for: that of study.nc, and those above it


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
    page = render_report(numbers, _load_images(numbers, path, images))
    with whole_file(path.with_name(PAGE)) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path.with_name(PAGE)


def _load_images(numbers: xr.Dataset, path: Path, images: str | Path | None) -> xr.DataArray:
    """Return the images of a study: those that were given, resized as the study asks, else those that it names."""
    recorded = json.loads(numbers.attrs.get("provenance", "{}")).get("study")
    if recorded is None:
        if images is None:
            raise FileNotFoundError(f"{path} does not record which images it is of; give images= (--images)")
        return load_images(images)
    study = Study.model_validate(parse_toml(recorded["text"].encode(), recorded["name"]))
    if images is not None:
        settings = {name: value for name, value in study.images.items() if name in ("size", "category_from")}
        return load_images(images, **settings)
    above = list(path.resolve().parents)[:N_FOLDERS]
    folder = next((folder for folder in above if (folder / recorded["name"]).is_file()), above[0])
    try:
        return load_study_images(study, References(folder / recorded["name"]))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; give images= (--images), where the images of {path.name} are now") from error
