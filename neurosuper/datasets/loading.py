"""Load the responses and images of a dataset by id."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurosuper import loaders
from neurosuper._checks import one_line
from neurosuper._content import CONTENT, all_stimuli
from neurosuper._progress import progress
from neurosuper.datasets.cache import cache_folder, dataset_root, fetch
from neurosuper.datasets.manifest import Choice, Local, Manifest, Value, expand, read_manifest
from neurosuper.datasets.verification import drop_receipts_of_wrong_files
from neurosuper.images import load_images
from neurosuper.responses import check_responses, coords_along, name_some

__all__ = ["load", "load_stimuli"]

Subset = Mapping[str, object]
DATA_ROLES = ("responses", "companion", "support")  # roles of files


def load(
    dataset: str | Path | Manifest,
    *,
    subset: Subset | None = None,
    path: str | Path | None = None,
    stream: bool = False,
    **options: Any,
) -> xr.DataArray:
    """Return the responses of a dataset, after fetching the files that are not in the cache.

    Parameters
    ----------
    dataset : str, path or Manifest
        An id (see `neurosuper.list_datasets`), or your own manifest (.toml).
    subset : mapping, optional
        Part of the dataset, such as `{"subject": "subj01", "session": [1, 2]}`; by default that of the manifest.
        `neurosuper info ID` lists the keys. Several recordings are joined along `unit`, on the union of their stimuli.
    path : path, optional
        Folder with the files in the layout of the archive (or the one file to read). Nothing is fetched.
    stream : bool, optional
        Read a remote NWB file by ranged requests instead of fetching all of it.
    **options
        Passed to the loader instead of the manifest's settings, such as `window=(0.05, 0.15)` or `roi="V4"`.

    Returns
    -------
    DataArray (stimulus, repetition, unit) or (stimulus, unit)
        As the loader returns it, with the subset (`session`, `subject`, …) as unit coords. With several recordings,
        units are called `recording/unit`. `attrs` name dataset, version, DOI, licence and citation.

    Raises
    ------
    ValueError
        Unknown dataset, subset or option; a file unlike the manifest; human judgements (see `read_judgements`).
    FileNotFoundError
        `path` lacks a file.

    See Also
    --------
    load_stimuli : the images that were shown.
    list_datasets : a table of all datasets.
    neurosuper.datasets.fetch : fetch files without reading them.

    Examples
    --------
    >>> from pathlib import Path
    >>> from neurosuper import load_stimuli
    >>> import tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("cat", "owl"):
    ...     Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    >>> np.save(folder / "rates.npy", [[1.0, 2.0], [3.0, 4.0]])
    >>> _ = (folder / "mine.toml").write_text('''
    ... schema_version = 1
    ... id = "mine"
    ... title = "Two units"
    ... species = "Macaca mulatta"
    ... modality = "spikes"
    ... areas = ["V4"]
    ... doi = "unverified"
    ... licence = "unverified"
    ... citation = "unpublished"
    ... homepage = "http://localhost"
    ... loader = "load_array"
    ... opens = "rates.npy"
    ... options = { dims = ["unit", "stimulus"], stimuli = ["cat", "owl"] }
    ... source = { kind = "local", obtain = "ask me" }
    ... files = [{ path = "rates.npy" }]
    ... stimulus.label = "name of the image"
    ... response = { measure = "rate", units = "spikes/s", noise_ceiling = { rule = "none" } }
    ... images = { loader = "load_images", opens = "." }
    ... ''')
    >>> load(folder / "mine.toml", path=folder).sel(stimulus="owl").values.tolist()
    [2.0, 4.0]
    >>> load_stimuli(folder / "mine.toml", path=folder).stimulus.values.tolist()
    ['cat', 'owl']
    """
    manifest = read_manifest(dataset)
    choice, loader = manifest.choose(subset), _loader_function(manifest)
    _refuse_equal_labels(manifest, choice)
    takes = inspect.signature(loader).parameters
    if unknown := sorted(set(options) - set(takes)):
        raise ValueError(f"{manifest.loader} has no option {unknown[0]!r}; it takes {', '.join(list(takes)[1:])}")
    with ExitStack() as stack:
        find = _remote_finder(manifest, choice, stack) if stream else _local_finder(manifest, choice, path)
        if path is None and not stream:
            stack.enter_context(_explain_damage(manifest, choice, DATA_ROLES))
        # One call of the loader for each combination of the keys that it does not take together.
        keys = [key for key in choice if not manifest.subset[key].together]
        recordings = [dict(zip(keys, each, strict=True)) for each in itertools.product(*(choice[key] for key in keys))]
        bar = progress(recordings, desc=manifest.id, unit="recording")
        parts = [_load_recording(manifest, loader, find, single, choice, options) for single in bar]
    return check_responses(_join_recordings(parts).assign_attrs(_origin(manifest, path)))


def load_stimuli(
    dataset: str | Path | Manifest,
    *,
    subset: Subset | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> xr.DataArray:
    """Return the images that were shown, with the same labels as the responses of the dataset.

    Parameters
    ----------
    dataset : str, path or Manifest
        As for `load`.
    subset : mapping, optional
        As for `load`.
    path : path, optional
        As for `load`.
    **options
        Passed to the loader of images, such as `size=64`.

    Returns
    -------
    DataArray (stimulus, row, column, channel)
        RGB, uint8; see `load_images`.

    Raises
    ------
    ValueError
        The dataset or subset is unknown, or the archive has no images; the error then states where they are.

    See Also
    --------
    neurosuper.load : the responses of a dataset.
    neurosuper.load_images : images from a folder, a zip file or an array.

    Examples
    --------
    >>> load_stimuli("cowley-v4", subset={"session": "210325"}, size=64)  # doctest: +SKIP
    """
    manifest = read_manifest(dataset)
    images = manifest.images
    if images.loader == "none":
        raise ValueError(f"the archive of {manifest.id} has no images: {images.obtain}; then use load_images")
    choice = manifest.choose(subset)
    _refuse_equal_labels(manifest, choice)
    find = _local_finder(manifest, choice, path, roles=("images",))
    read = _loader_by_name(images.loader)
    with _explain_damage(manifest, choice, ("images",)) if path is None else nullcontext():
        stacks = [read(find(template), **images.options | options) for template, _ in expand(images.opens, choice)]
    return reduce(_add_new_stimuli, stacks)


def _add_new_stimuli(images: xr.DataArray, more: xr.DataArray) -> xr.DataArray:
    all_stimuli([images, more])  # refuses one label for two photographs
    new = more.sel(stimulus=~more.indexes["stimulus"].isin(images.indexes["stimulus"]))
    if not new.sizes["stimulus"]:
        return images
    if not all(CONTENT in part.coords for part in (images, new)):  # stacks too large for memory do not have it
        images, new = (part.drop_vars(CONTENT, errors="ignore") for part in (images, new))
    return xr.concat([images, new], dim="stimulus")


def _loader_by_name(loader: str) -> Callable[..., xr.DataArray]:
    return load_images if loader == "load_images" else getattr(loaders, loader)


def _loader_function(manifest: Manifest) -> Callable[..., xr.DataArray]:
    if manifest.modality == "human judgements":
        raise ValueError(
            f"{manifest.id} contains human judgements, not responses of units; fetch {manifest.opens} with "
            f"neurosuper.datasets.fetch({manifest.id!r}), and read it with "
            f"neurosuper.interpretability.{manifest.loader}(path)"
        )
    if manifest.loader not in dir(loaders) or not manifest.loader.startswith("load_"):
        known = ", ".join(name for name in dir(loaders) if name.startswith("load_"))
        raise ValueError(f"manifest {manifest.id}: no loader {manifest.loader!r}; there are {known}")
    return _loader_by_name(manifest.loader)


def _refuse_equal_labels(manifest: Manifest, choice: Choice) -> None:
    """Refuse recordings in which the same label means different images."""
    for key in manifest.stimulus.own_to:
        if len(choice[key]) > 1:
            raise ValueError(
                f"every {key} of {manifest.id} has its own images, some under the same labels; load one {key} at a "
                f"time, got {name_some(choice[key])}"
            )


def _load_recording(
    manifest: Manifest,
    loader: Callable[..., xr.DataArray],
    find: Callable[[str], Any],
    single: dict[str, Value],
    choice: Choice,
    options: dict[str, Any],
) -> xr.DataArray:
    """Return one recording with its subset as unit coords; `attrs` name it, and give the identifier in its file."""
    here = choice | {key: [value] for key, value in single.items()}
    takes = inspect.signature(loader).parameters
    arguments = _recipe(manifest, takes) | {key: value for key, value in (choice | single).items() if key in takes}
    if manifest.companion is not None and "companion" not in options:
        arguments["companion"] = find(next(expand(manifest.companion, here))[0])
    opens = next(expand(manifest.opens, here))[0]
    if "sha256" in takes and "sha256" not in options:
        arguments["sha256"] = _pinned(manifest, opens)
    responses = loader(find(opens), **arguments | options)
    n_units, known = responses.sizes["unit"], responses.coords
    new = {key: ("unit", np.full(n_units, str(value))) for key, value in single.items() if key not in known}
    named = {"recording": "/".join(map(str, single.values()))}
    if "dataset" in responses.attrs:
        named["identifier"] = responses.attrs["dataset"]
    return responses.assign_coords(new).assign_attrs(named)


def _recipe(manifest: Manifest, takes: Mapping[str, object]) -> dict[str, Any]:
    """Return the arguments of a loader that a manifest gives: settings that it accepts, and its options."""
    stimulus, response = manifest.stimulus, manifest.response
    settings: dict[str, Any] = {
        "stimulus_column": stimulus.column,
        "index_series": stimulus.index_series,
        "blanks": stimulus.blanks,
        "measure": response.measure,
        "measured_in": response.units,
        "window": _in_seconds(response.window_ms),
        "series": response.series,
        "area_column": response.area_column,
        "area_map": response.area_map,
        "units_where": response.filters,
    }
    recipe = {name: value for name, value in settings.items() if value and name in takes}
    if "presentations" in takes:
        recipe["presentations"] = stimulus.presentations
    return recipe | manifest.options


def _pinned(manifest: Manifest, path: str) -> str:
    """Return the sha256 that a manifest pins for a file; without one, the file is refused."""
    for checksum in manifest.checksums:
        if (checksum.path, checksum.algorithm) == (path, "sha256"):
            return checksum.value
    raise ValueError(
        f"{path} of {manifest.id} may run code when it is read, and its manifest pins no sha256: pass sha256=, or pin "
        "it under [[checksums]] in your own manifest"
    )


def _in_seconds(window_ms: Mapping[str, list[float]] | None) -> tuple | dict | None:
    """Return windows in seconds by area; one pair if the manifest gives one for all areas."""
    if window_ms is None:
        return None
    seconds = {area: (start / 1000, stop / 1000) for area, (start, stop) in window_ms.items()}
    return seconds["all"] if set(seconds) == {"all"} else seconds


def _local_finder(
    manifest: Manifest,
    choice: Choice,
    path: str | Path | None,
    roles: tuple[str, ...] = DATA_ROLES,
) -> Callable[[str], Path]:
    """Return a function from a path of the archive to the local file, after fetching missing files."""
    if path is None:
        fetch(manifest, subset=choice, roles=roles)
        root = dataset_root(manifest)
    else:
        root = Path(path)
        if not root.exists():
            raise FileNotFoundError(f"no folder or file at {root}; check the path")
    return partial(_one_match, manifest, root) if root.is_dir() else partial(_named_file, manifest, root, choice)


@contextmanager
def _explain_damage(manifest: Manifest, choice: Choice, roles: tuple[str, ...]) -> Iterator[None]:
    """Add to errors of a loader how to fetch a damaged file again.

    If a file does not have the format of its name, its receipt is deleted, so that the next call fetches it again.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, RuntimeError, KeyError, EOFError) as error:
        if isinstance(manifest.source, Local):
            raise
        message, root = one_line(error), dataset_root(manifest)
        paths = manifest.paths(choice, *roles)
        fetched = [file for path in paths for file in (sorted(root.glob(path)) if "*" in path else [root / path])]
        if dropped := drop_receipts_of_wrong_files(root, fetched):
            raise ValueError(f"{message}; the same call fetches {name_some(dropped)} again") from error
        if "fetch it again" not in message:
            raise
        raise ValueError(f"{message}, by fetch(…, verify='always') or `neurosuper fetch … --verify always`") from error


def _named_file(manifest: Manifest, file: Path, choice: Choice, pattern: str) -> Path:
    """Return the one file that the user named; refuse it if the loader needs a second file."""
    if manifest.companion and pattern in [path for path, _ in expand(manifest.companion, choice)]:
        raise FileNotFoundError(
            f"{manifest.id} needs two files, {file.name} and its companion {pattern}: pass path= the folder with both "
            "in the layout of the archive, or companion= the path of the second"
        )
    return file


def _one_match(manifest: Manifest, root: Path, pattern: str) -> Path:
    """Return the one file or folder that matches a pattern."""
    if "*" not in pattern and (root / pattern).exists():
        return root / pattern
    found = [file for file in sorted(root.glob(pattern)) if not file.name.startswith(".")] if "*" in pattern else []
    if len(found) != 1:
        names = name_some([file.relative_to(root).as_posix() for file in found]) if found else "none"
        raise FileNotFoundError(
            f"{manifest.id} needs one {pattern} in {root}, but it has {names}; see `neurosuper info {manifest.id}`"
        )
    return found[0]


def _remote_finder(manifest: Manifest, choice: Choice, stack: ExitStack) -> Callable[[str], Any]:
    """Return a function from a path of the archive to the opened remote file."""
    from neurosuper.datasets.archives import list_files
    from neurosuper.datasets.remote import open_remote

    if manifest.loader != "load_nwb":
        raise ValueError(f"{manifest.id} is not NWB and cannot be streamed; use stream=False")
    files = list_files(manifest, choice, ("responses", "companion"))

    def find(pattern: str) -> Any:
        matching = [file for file in files if fnmatchcase(file.path, pattern)]
        if len(matching) != 1:
            raise ValueError(f"{len(matching)} files of {manifest.id} match {pattern}; choose another subset")
        opened = open_remote(matching[0], cache_folder())
        stack.callback(opened.close)
        return opened

    return find


def _origin(manifest: Manifest, path: str | Path | None) -> dict[str, str]:
    """Return the attrs that name the dataset; the version of files that the user names is not known."""
    return {
        "dataset": manifest.id,
        "dataset_version": manifest.source.version if path is None else "files of the user",
        "modality": manifest.modality,
        "doi": manifest.doi,
        "licence": manifest.licence,
        "citation": manifest.citation,
        "stimulus_label": manifest.stimulus.label,
        "noise_ceiling_rule": manifest.response.noise_ceiling.rule,
    }


def _join_recordings(recordings: list[xr.DataArray]) -> xr.DataArray:
    """Return recordings joined along `unit` on the union of their stimuli, with NaN for stimuli that one lacks."""
    if len(recordings) == 1:
        return recordings[0]
    if any("repetition" in part.dims for part in recordings):
        recordings = [part if "repetition" in part.dims else part.expand_dims("repetition", 1) for part in recordings]
        most = max(part.sizes["repetition"] for part in recordings)
        recordings = [part.pad(repetition=(0, most - part.sizes["repetition"])) for part in recordings]
    all_stimuli(recordings)  # refuses one label for two photographs
    coords = [xr.Dataset(coords=coords_along(part, "stimulus")) for part in recordings]
    stimuli = reduce(lambda known, more: known.combine_first(more), (part.reset_coords() for part in coords))
    named = [
        part.drop_vars(set(coords_along(part, "stimulus")) - {"stimulus"}).assign_coords(
            unit=[f"{part.attrs['recording']}/{unit}" for unit in part.unit.values]
        )
        for part in recordings
    ]
    joined = xr.concat(
        named, dim="unit", join="outer", coords="minimal", compat="override", combine_attrs="drop_conflicts"
    )
    return joined.assign_coords(stimuli.sel(stimulus=joined.stimulus).data_vars)
