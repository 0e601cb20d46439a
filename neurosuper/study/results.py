"""Read what a run left: the numbers of a `study.nc`, its images and report; write it again, or for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import netCDF4
import xarray as xr

from neurosuper import export
from neurosuper._files import whole_file
from neurosuper.images import load_images
from neurosuper.loaders.netcdf import open_netcdf
from neurosuper.report import make_report
from neurosuper.report.page import FORMAT_VERSION
from neurosuper.study.build import load_study_images
from neurosuper.study.measures import SUPERPOSITION, read_tree
from neurosuper.study.pairs import POPULATIONS, TWINS, TWINS_METHOD
from neurosuper.study.recorded import find_folder, read_provenance, study_of
from neurosuper.study.references import References
from neurosuper.study.write import PAGE, group_name

__all__ = [
    "export_results",
    "read_directions",
    "read_numbers",
    "read_populations",
    "read_superposition",
    "read_twins",
    "write_report",
]

TABLES = (".csv", ".parquet")


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


def read_directions(path: str | Path, system: str, finder: str, *, seed: int | None = None) -> xr.DataArray:
    """Return the directions that a finder found in a system, from a `study.nc`.

    Parameters
    ----------
    path : path
        Written by `run_study`.
    system, finder : str
        Names in the study; a layer of a network is called by both names, as in "net layer1".
    seed : int, optional
        By default the first seed of the study.

    Returns
    -------
    DataArray (direction, unit)
        Rows of norm 1.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a `study.nc`, or it contains no such directions (those of `Units` are not stored).

    See Also
    --------
    read_numbers : the scores.
    run_study : writes the file.

    Examples
    --------
    >>> read_directions("study_output/study.nc", "V4", "KMeans")  # doctest: +SKIP
    """
    seeds = read_provenance(Path(path))["seeds"]
    group = f"directions/{group_name(system)}/{group_name(finder)}"
    if len(seeds) > 1:
        group += f"/seed {seeds[0] if seed is None else seed}"
    elif seed not in (None, *seeds):
        raise ValueError(f"{path} has the seed {seeds[0]}, not {seed}")
    try:
        with open_netcdf(path, group=group) as data:
            return data.load()["directions"]
    except (OSError, KeyError, ValueError) as error:
        known = ", ".join(_list_directions(Path(path)))
        raise ValueError(f"no directions of {finder!r} in {system!r} in {path}; it has {known or 'none'}") from error


def _list_directions(path: Path) -> list[str]:
    """Return the systems and finders whose directions a file contains, as `system by finder`."""
    with netCDF4.Dataset(path) as file:
        stored = file.groups.get("directions")
        systems = {} if stored is None else stored.groups
        return [f"{finder!r} in {system!r}" for system, group in systems.items() for finder in group.groups]


def export_results(
    path: str | Path, output: str | Path, *, system: str | None = None, finder: str | None = None
) -> int:
    """Return the number of rows, or of directions, written from a `study.nc` to a table or into an NWB file.

    Parameters
    ----------
    path : path
        The `study.nc`.
    output : path
        A new .csv or .parquet gets the scores as a table, a row for each item and metric (`neurosuper.export.tidy`).
        The .nwb of the recording gets a processing module with the directions of one finder in one system, and with the
        scores of these and of the units (`neurosuper.export.write_nwb`), all of the first seed.
    system, finder : str, optional
        For .nwb: whose directions; names in the study.

    Returns
    -------
    int
        Rows of the table, or directions.

    Raises
    ------
    FileExistsError
        There is such a table.
    FileNotFoundError
        No such `study.nc` or recording.
    ValueError
        Not a `study.nc`; an output of another kind; no system or finder for an NWB file, or ones that the study does
        not have.

    See Also
    --------
    read_directions, read_numbers : read the same into memory.
    neurosuper.export.write_nwb : with codes, and other options.

    Examples
    --------
    >>> export_results("study_output/study.nc", "scores.csv")  # doctest: +SKIP
    """
    path, output = Path(path), Path(output)
    numbers, kind = read_numbers(path), output.suffix.lower()
    if kind == ".nwb":
        return _export_directions(path, numbers, output, system, finder)
    if output.exists():
        raise FileExistsError(f"{output} exists already; name another file, or delete it")
    if kind not in TABLES:
        raise ValueError(f"cannot export to {output.name}; name a file that ends in .csv, .parquet or .nwb")
    table = export.tidy(numbers)
    with whole_file(output) as partial:
        table.to_csv(partial, index=False) if kind == ".csv" else table.to_parquet(partial)
    return len(table)


def _export_directions(path: Path, numbers: xr.Dataset, output: Path, system: str | None, finder: str | None) -> int:
    """Return the number of directions written into an NWB file, with their scores and those of the units."""
    if system is None or finder is None:
        raise ValueError("an NWB file gets the directions of one finder in one system; give system and finder")
    directions = read_directions(path, system, finder)
    own = (numbers.system == system) & numbers.finder.isin([finder, "Units"]) & (numbers.seed == numbers.seed[0])
    export.write_nwb(output, directions, comparison=numbers.isel(item=own.values), module=f"neurosuper {finder}")
    return len(directions)


def write_report(path: str | Path, *, images: str | Path | None = None) -> Path:
    """Return the path of a new report of a `study.nc`, written next to it from its numbers.

    Parameters
    ----------
    path : path
        The `study.nc`; `superposition.nc`, `populations.nc` and `twins.nc` next to it give their sections.
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
        Not a `study.nc`, other images than those that were scored, or one of the other files of another run.

    See Also
    --------
    run_study : writes both.

    Examples
    --------
    >>> write_report("study_output/study.nc")  # doctest: +SKIP
    """
    path = Path(path)
    numbers = read_numbers(path)
    further = {
        Path(name).stem: _read_if_there(path, name, read, numbers)
        for name, read in ((SUPERPOSITION, read_superposition), (POPULATIONS, read_populations), (TWINS, read_twins))
    }
    page = make_report(numbers, _load_images(path, images), **further).html
    with whole_file(path.with_name(PAGE)) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path.with_name(PAGE)


def read_superposition(path: str | Path) -> xr.DataTree:
    """Return the measures of superposition of a study, from its `superposition.nc`.

    Parameters
    ----------
    path : path
        Written by `run_study`, for a study with a table `[superposition]`.

    Returns
    -------
    DataTree
        As from `neurosuper.superposition.measure_superposition`; its attr `provenance` is that of the `study.nc`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Another file than a `superposition.nc`.

    See Also
    --------
    read_numbers : The scores of the same study.
    run_study : Writes the file.

    Examples
    --------
    >>> read_superposition("study_output/superposition.nc")["spectrum/V4"].alpha  # doctest: +SKIP
    """
    tree = read_tree(Path(path))
    if not {"measures", "provenance"} <= tree.attrs.keys():
        raise ValueError(f"{path} is not a {SUPERPOSITION}, as neurosuper run writes it")
    return tree


def read_populations(path: str | Path) -> xr.Dataset:
    """Return the similarity of the systems of a study, from its `populations.nc`.

    Parameters
    ----------
    path : path
        Written by `run_study`, for a study with a table `[populations]`.

    Returns
    -------
    Dataset (pair, items, measure)
        As from `neurosuper.comparison.compare_populations`; its attr `provenance` is that of the `study.nc`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Another file than a `populations.nc`.

    See Also
    --------
    read_twins : Single items of two systems.
    neurosuper.plot.plot_similarity : Draws it.

    Examples
    --------
    >>> read_populations("study_output/populations.nc").estimate.sel(items="units")  # doctest: +SKIP
    """
    with open_netcdf(path := Path(path)) as file:
        found = file.load()
    if not {"pair", "items", "measure"} <= set(found.dims) or "provenance" not in found.attrs:
        raise ValueError(f"{path} is not a {POPULATIONS}, as neurosuper run writes it")
    return found


def read_twins(path: str | Path) -> xr.DataTree:
    """Return the twins of the systems of a study, from its `twins.nc`.

    Parameters
    ----------
    path : path
        Written by `run_study`, for a study with a table `[twins]`.

    Returns
    -------
    DataTree
        A node for each pair and kind of items, such as "V4 | net layer1/units", with a Dataset (item_a) as from
        `neurosuper.comparison.twins`, whose attrs are also `system_a`, `system_b`, `items` and `n_left_out`, the
        numbers of items of both that do not vary. `left_out` of the root says what was not possible, a line each; its
        `provenance` is that of the `study.nc`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Another file than a `twins.nc`.

    See Also
    --------
    read_populations : Systems as wholes.
    neurosuper.plot.plot_twins : Draws the twins of a node.

    Examples
    --------
    >>> read_twins("study_output/twins.nc")["V4 | net layer1/units"].median_r  # doctest: +SKIP
    """
    tree = read_tree(path := Path(path))
    if tree.attrs.get("method") != TWINS_METHOD or "provenance" not in tree.attrs:
        raise ValueError(f"{path} is not a {TWINS}, as neurosuper run writes it")
    return tree


def _read_if_there(path: Path, name: str, read: Callable[[Path], Any], numbers: xr.Dataset) -> Any:
    """Return what a file next to a `study.nc` contains, if it is there; refuse one of another run."""
    if not (file := path.with_name(name)).exists():
        return None
    found = read(file)
    if found.attrs["provenance"] != numbers.attrs.get("provenance"):
        raise ValueError(f"{file} is of another run than {path.name}; move it away, or run the study again")
    return found


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
