"""The cache: fetch the files of a dataset once, and see or clear what was fetched.

`<cache>/<dataset>/<version>/<path>` is finished and verified, and `.receipts` in the folder of the version says by
what; `<cache>/.staging` holds what is unfinished, `<cache>/.streaming` the parts of files that were streamed. Only
folders that bear our mark are listed or cleared.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import get_args

import pandas as pd

from neurosuper._checks import check_count
from neurosuper._files import remove_unfinished
from neurosuper.datasets.archives import DRAFT, OWN_FOLDERS, Digest, RemoteFile, check_path, list_files
from neurosuper.datasets.folders import (
    LISTINGS,
    RECEIPTS,
    STAGING,
    STREAMING,
    cache_folder,
    chosen_cache,
    dataset_root,
    folders_in,
    own_folder,
    own_folders,
    version_folder,
)
from neurosuper.datasets.manifest import Choice, Dandi, File, Local, Manifest, read_manifest
from neurosuper.datasets.receipts import Place, Verify, disk, finished, read_json, write_json
from neurosuper.datasets.threads import side_by_side
from neurosuper.datasets.transfer import GOES_ON, Progress, download

__all__ = [
    "cache_folder",
    "cached_versions",
    "clear_cache",
    "dataset_root",
    "fetch",
    "list_cache",
    "own_folder",
    "version_folder",
]

ROLES = get_args(File.model_fields["role"].annotation)
COLUMNS = ["dataset", "version", "n_files", "size", "unfinished", "streamed", "folder"]
PICKLES = {".pkl", ".pickle"}


def fetch(
    dataset: str | Path | Manifest,
    *,
    subset: Mapping[str, object] | None = None,
    roles: Sequence[str] = ("responses", "companion", "support"),
    jobs: int = 4,
    cache: str | Path | None = None,
    verify: Verify = "receipt",
) -> list[Path]:
    """Fetch the files of a dataset that are not in the cache yet, and verify them.

    A transfer that was cut or interrupted goes on where it stopped when the same is called again, also by another
    process. Where all is there, the network is not touched (except for the draft of a dandiset, which may change).

    Parameters
    ----------
    dataset : str, path or Manifest
        An id (see `neurosuper.list_datasets`), or a manifest of your own (.toml).
    subset : mapping, optional
        Which part, such as `{"subject": "subj01"}`; by default what the manifest says.
    roles : sequence of {"responses", "companion", "support", "images"}, optional
        What the files are for.
    jobs : int, optional
        How many files are fetched at a time.
    cache : path, optional
        By default `cache_folder()`.
    verify : {"receipt", "always"}, optional
        When to read files in the cache again: "receipt" those whose size or date differ from their receipt; "always"
        all of them, so that a damaged one is noticed whatever its date says. A file that is found wrong is fetched
        again.

    Returns
    -------
    list of Path
        Where the files lie: verified by size and, where archive or manifest tells it, by digest.

    Raises
    ------
    ValueError
        Unknown dataset, subset or role; a file that is not what it must be; a pickle without pinned sha256; a path that
        leads out of the cache.
    FileNotFoundError, PermissionError
        The archive lacks a file, or lets only some users read it.
    OSError
        The archive does not answer, or the disk is full: the error says how much room is needed and where.
    RuntimeError
        The installed dandi is too old for the archive.

    Warns
    -----
    UserWarning
        A file in a cache that cannot be written has neither a receipt that can be read nor a known digest: it is used
        unverified.

    See Also
    --------
    neurosuper.load : fetch and read.
    verify_cache : only look whether what is in the cache is sound.

    Examples
    --------
    >>> fetch("nsd", subset={"subject": "subj01", "session": [1, 2]})  # doctest: +SKIP
    >>> fetch("nsd", roles=["music"])
    Traceback (most recent call last):
    ValueError: no role 'music'; there are responses, companion, images, support
    """
    manifest = read_manifest(dataset)
    choice, roles, folder = manifest.choose(subset), _check_roles(roles), chosen_cache(cache)
    jobs = check_count("jobs", jobs)
    if verify not in get_args(Verify):
        raise ValueError(f"verify must be 'receipt' or 'always', got {verify!r}")
    root = dataset_root(manifest, folder)
    if isinstance(manifest.source, Local):
        return [_check_local(file, root, folder) for file in list_files(manifest, choice, roles)]
    listing = root / LISTINGS / f"{_fingerprint(manifest, choice, roles)}.json"
    known = {file: _place(file, root, folder) for file in _read_listing(manifest, listing)}
    if known and not _missing(known, verify):
        return [root / file.path for file in known]
    places = {file: _place(file, root, folder) for file in list_files(manifest, choice, roles)}
    for file in places:
        _refuse_pickle(file)
    missing = _missing(places, verify)
    if missing:
        _download_missing(manifest, missing, jobs, folder, verify)
    _note_listing(manifest, listing, list(places))
    return [root / file.path for file in places]


def _check_roles(roles: Sequence[str]) -> tuple[str, ...]:
    named = (roles,) if isinstance(roles, str) else tuple(roles)
    if unknown := [role for role in named if role not in ROLES]:
        raise ValueError(f"no role {unknown[0]!r}; there are {', '.join(ROLES)}")
    if not named:
        raise ValueError(f"no role is named; name at least one of {', '.join(ROLES)}")
    return named


def _place(file: RemoteFile, root: Path, cache: Path) -> Place:
    """Return where a file lies; a path or a symbolic link that leads out of the cache is refused."""
    relative = check_path(file.path)
    name = hashlib.sha256(relative.encode()).hexdigest()[:32]
    place = Place(
        root / relative,
        root / RECEIPTS / f"{relative}.json",
        cache / STAGING / file.dataset / root.name / f"{name}.part",
    )
    for path in (place.target, place.receipt, place.staged):
        if not path.resolve().is_relative_to(cache.resolve()):
            raise ValueError(f"{path} leads out of the cache by a symbolic link; remove the link, and fetch again")
    return place


def _check_local(file: RemoteFile, root: Path, cache: Path) -> Path:
    """Return where a file of the user lies, if it is what the manifest says."""
    _refuse_pickle(file)
    target = root / file.path
    if file.digest is None or target.is_dir():
        return target
    own_folder(cache / file.dataset)
    receipt = cache / file.dataset / version_folder(file.version) / RECEIPTS / f"{file.path}.json"
    if not finished(file, Place(target, receipt, target)):
        raise ValueError(f"{target} has not the {file.digest.algorithm} that the manifest pins; get it again")
    return target


def _refuse_pickle(file: RemoteFile) -> None:
    pinned = file.digest is not None and (file.digest.algorithm, file.digest.said_by) == ("sha256", "manifest")
    if PICKLES & set(PurePosixPath(file.path.lower()).suffixes) and not pinned:
        raise ValueError(
            f"{file.path} of {file.dataset} is a pickle, which runs code when it is read; it is taken only if the "
            "manifest pins its sha256 in [[checksums]]"
        )


def _missing(places: Mapping[RemoteFile, Place], verify: Verify) -> dict[RemoteFile, Place]:
    """Return the files that are not finished, and remove what killed processes left behind of the others."""
    missing = {file: place for file, place in places.items() if not finished(file, place, verify)}
    for file, place in places.items():
        if file not in missing:
            place.tidy()
    for folder in {place.receipt.parent for place in places.values()}:
        remove_unfinished(folder)
    return missing


def _download_missing(
    manifest: Manifest, places: Mapping[RemoteFile, Place], jobs: int, cache: Path, verify: Verify
) -> None:
    """Bring files to their places, several at a time."""
    for folder in (cache / manifest.id, cache / STAGING):
        own_folder(folder)
    for place in places.values() if verify == "always" else ():
        with disk(place.receipt):  # it would vouch for a file that is damaged
            place.receipt.unlink(missing_ok=True)
    sizes = [file.size for file in places]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    with Progress(manifest.id, total) as progress:
        try:
            outcomes = side_by_side(
                lambda file: download(file, places[file], progress), list(places), jobs, progress.stop
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"fetching {manifest.id} was interrupted; {GOES_ON}") from None
    _raise_first(manifest.id, outcomes)


def _raise_first(dataset: str, outcomes: Sequence[object]) -> None:
    faults = [fault for fault in outcomes if isinstance(fault, BaseException)]
    if not faults:
        return
    first = faults[0]
    if len(outcomes) == 1 or not isinstance(first, OSError | ValueError | RuntimeError):
        raise first
    remedy = "" if GOES_ON in str(first) else f" (for the others, {GOES_ON})"
    raise type(first)(
        f"{len(faults)} of {len(outcomes)} files of {dataset} were not fetched; the first: {first}{remedy}"
    )


def _fingerprint(manifest: Manifest, choice: Choice, roles: Sequence[str]) -> str:
    """Return a name for what was asked of an archive."""
    pins = [pin.model_dump() for pin in manifest.checksums]
    asked = [manifest.source.model_dump(), manifest.paths(choice, *roles), pins]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _read_listing(manifest: Manifest, listing: Path) -> list[RemoteFile]:
    """Return the files that an archive listed before; empty where it was not asked, or may answer otherwise today."""
    noted = {} if manifest.source.version == DRAFT else read_json(listing)
    with suppress(TypeError, ValueError):  # damaged: the archive is asked again
        return [
            RemoteFile(manifest.id, str(noted.get("version", "")), path, size, digest and Digest(*digest), url=str)
            for path, size, digest in noted.get("files", [])
        ]
    return []


def _note_listing(manifest: Manifest, listing: Path, files: Sequence[RemoteFile]) -> None:
    if isinstance(manifest.source, Dandi) and manifest.source.version != DRAFT and files:
        listed = [(file.path, file.size, file.digest) for file in files]
        with suppress(OSError):  # a cache that cannot be written: the archive is asked again next time
            own_folder(listing.parents[2])
            write_json(listing, {"version": files[0].version, "files": listed})


def cached_versions(dataset: str | Path | Manifest | None = None) -> list[Path]:
    """Return the folders with finished files: one a version of a dataset, or of the one named."""
    name = None if dataset is None else _id_of(dataset)
    tops = [top for top in own_folders(cache_folder()) if top.name not in (STAGING, STREAMING)]
    return [version for top in tops if name in (None, top.name) for version in folders_in(top)]


def list_cache() -> pd.DataFrame:
    """Return a table of what is in `cache_folder()`.

    Returns
    -------
    DataFrame
        One row a version of a dataset: `dataset`, `version`, number of finished files (`n_files`) and their bytes
        (`size`), bytes of transfers that were cut (`unfinished`) and of files streamed (`streamed`), `folder`.

    Examples
    --------
    >>> list_cache().columns.tolist()
    ['dataset', 'version', 'n_files', 'size', 'unfinished', 'streamed', 'folder']
    """
    cache, held = cache_folder(), defaultdict[tuple[str, str], dict[str, int]](dict)
    for top in own_folders(cache):
        kind = {STAGING: "unfinished", STREAMING: "streamed"}.get(top.name, "size")
        for dataset in [top] if kind == "size" else folders_in(top):
            for version in folders_in(dataset):
                sizes = list(_sizes(version, "*.part" if kind == "unfinished" else "*"))
                found = {kind: sum(sizes)} | ({"n_files": len(sizes)} if kind == "size" else {})
                if sizes:
                    held[dataset.name, version.name] |= found
    rows = [
        {"dataset": dataset, "version": version, "folder": str(cache / dataset / version)} | found
        for (dataset, version), found in sorted(held.items())
    ]
    counts = ["n_files", "size", "unfinished", "streamed"]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int))


def _sizes(folder: Path, pattern: str = "*") -> Iterator[int]:
    """Yield the bytes of every file in a folder; links are not followed, and what we note ourselves is left out."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in OWN_FOLDERS]
        for name in names:
            if fnmatchcase(name, pattern):
                with suppress(FileNotFoundError):  # finished by another process meanwhile
                    yield Path(here, name).lstat().st_size


def clear_cache(dataset: str | Path | Manifest | None = None) -> int:
    """Delete what was fetched or streamed, finished or not.

    Parameters
    ----------
    dataset : str, path or Manifest, optional
        By default everything. Files that users brought themselves, and folders that are not ours, are left alone.

    Returns
    -------
    int
        How many bytes were freed.

    Raises
    ------
    ValueError
        Not the id of a dataset.
    OSError
        A folder that cannot be deleted.

    Examples
    --------
    >>> clear_cache("nobody-has-fetched-this")
    0
    """
    tops = own_folders(cache_folder())
    if dataset is not None:
        name = _id_of(dataset)
        shared = [top / name for top in tops if top.name in (STAGING, STREAMING)]
        tops = [top for top in tops if top.name == name] + shared
    return sum(_delete(folder) for folder in tops)


def _id_of(dataset: str | Path | Manifest) -> str:
    if not isinstance(dataset, str) or dataset.endswith(".toml"):
        return read_manifest(dataset).id
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", dataset):
        raise ValueError(f"{dataset!r} is not the id of a dataset; `neurosuper cache list` shows those that are cached")
    return dataset


def _delete(folder: Path) -> int:
    """Delete a folder of ours with all in it, links as such; return its bytes."""
    if folder.is_symlink() or not folder.is_dir():
        return 0
    freed = sum(_sizes(folder))
    shutil.rmtree(folder)
    return freed
