"""The study that a `study.nc` records: its settings, and the folder that paths in them are relative to."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.report.page import FORMAT_VERSION
from neurosuper.study.file import Study, check_settings, read_study, shareable_settings

__all__ = ["Provenance", "find_folder", "read_provenance", "study_of"]

N_FOLDERS = 4  # in which the study file is looked for: that of study.nc, and those above it
Provenance = dict[str, Any]


def read_provenance(path: Path) -> Provenance:
    """Return the provenance in a `study.nc` that can be run again."""
    with open_netcdf(path) as file:
        attrs = dict(file.attrs)
    if "provenance" not in attrs or "format_version" not in attrs:
        raise ValueError(f"{path} is not a study.nc: it lacks the attrs provenance and format_version of run_study")
    if attrs["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {attrs['format_version']}, and this neurosuper writes version "
            f"{FORMAT_VERSION}; use the neurosuper that wrote it, whose version is in its attr provenance"
        )
    provenance = json.loads(attrs["provenance"])
    if not {"study", "settings"} <= provenance.keys():
        raise ValueError(
            f"{path} does not contain the settings of its study, which neurosuper did not record then; run the study "
            "file again with neurosuper run"
        )
    if Path(name := provenance["study"]).name != name:
        raise ValueError(f"{path} names its study file {name!r}, which is not the name of a file; it was edited")
    return provenance


def find_folder(path: Path, name: str) -> Path:
    """Return the folder of the study file: that of `study.nc`, or one above it."""
    above = list(path.resolve().parents)[:N_FOLDERS]
    for folder in above:
        if (folder / name).is_file():
            return folder
    raise FileNotFoundError(
        f"no {name} in {above[0]} or the {N_FOLDERS - 1} folders above it; pass folder=, the folder that paths in the "
        "study file are relative to"
    )


def study_of(recorded: Provenance, path: Path, file: Path) -> tuple[Study, bool]:
    """Return the study that was run, and whether its file now has other settings."""
    on_disk = None
    if file.is_file():
        with suppress(ValueError):  # not a study any more
            on_disk = read_study(file)
        if on_disk is not None and shareable_settings(on_disk) == recorded["settings"]:
            return on_disk, False  # which also says where absolute paths lead
    if recorded["has_absolute_paths"]:
        state = "was edited" if file.is_file() else "is not there"
        raise ValueError(
            f"the study names absolute paths, and {path.name} contains only their last parts, but {file} {state}; put "
            "it back as it was, or pass folder= with a copy"
        )
    return check_settings(recorded["settings"], path), file.is_file()
