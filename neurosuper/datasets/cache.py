"""Fetch the files of a dataset into the cache once, and list or clear the cache.

Files at `<cache>/<dataset>/<version>/<path>` are finished and verified; their receipts are in `.receipts` of the
version's folder. `neurosuper.datasets.folders` describes the other folders.
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
from neurosuper.datasets.receipts import Place, Verify, disk_errors, is_finished, read_json, write_json
from neurosuper.datasets.threads import run_in_threads
from neurosuper.datasets.transfer import RESUMES, Progress, download

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
    """Return the paths of a dataset's files, after fetching and verifying those that are not in the cache.

    Interrupted downloads resume when the same call is made again, also by another process. If all files are in the
    cache, the network is not used (except for the draft of a dandiset, which may change).

    Parameters
    ----------
    dataset : str, path or Manifest
        An id (see `neurosuper.list_datasets`), or your own manifest (.toml).
    subset : mapping, optional
        Part of the dataset, such as `{"subject": "subj01"}`; by default that of the manifest.
    roles : sequence of {"responses", "companion", "support", "images"}, optional
        Files with these roles are fetched.
    jobs : int, optional
        Number of files fetched at a time.
    cache : path, optional
        By default `cache_folder()`.
    verify : {"receipt", "always"}, optional
        Which files in the cache to read again: with "receipt" those whose size or date differ from their receipt, with
        "always" all of them, which detects damage that leaves size and date unchanged. Damaged files are fetched again.

    Returns
    -------
    list of Path
        Paths of the files, verified by size and, if archive or manifest give one, by digest.

    Raises
    ------
    ValueError
        The dataset, subset or role is unknown; a file has the wrong size, digest or format; a pickle has no pinned
        sha256; or a path leads out of the cache.
    FileNotFoundError, PermissionError
        The archive lacks a file, or only some users may read it.
    OSError
        The archive does not respond, or the disk is full; the error states how much room is needed and where.
    RuntimeError
        The installed dandi is too old for the archive.

    Warns
    -----
    UserWarning
        A file in a cache that cannot be written has no readable receipt and no known digest: it is used unverified.

    See Also
    --------
    neurosuper.load : fetch a dataset and read its responses.
    verify_cache : check the files in the cache without fetching any.

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
    remove_unfinished(listing.parent)
    known = {file: _place(file, root, folder) for file in _read_listing(manifest, listing)}
    if known and not _missing(known, verify):
        return [root / file.path for file in known]
    places = {file: _place(file, root, folder) for file in list_files(manifest, choice, roles)}
    for file in places:
        _refuse_pickle(file)
    missing = _missing(places, verify)
    if missing:
        _download_missing(manifest, missing, jobs, folder, verify)
    _write_listing(manifest, listing, list(places))
    return [root / file.path for file in places]


def _check_roles(roles: Sequence[str]) -> tuple[str, ...]:
    named = (roles,) if isinstance(roles, str) else tuple(roles)
    if unknown := [role for role in named if role not in ROLES]:
        raise ValueError(f"no role {unknown[0]!r}; there are {', '.join(ROLES)}")
    if not named:
        raise ValueError(f"no role is named; name at least one of {', '.join(ROLES)}")
    return named


def _place(file: RemoteFile, root: Path, cache: Path) -> Place:
    """Return the paths of a file in the cache; refuse paths and symbolic links that lead out of it."""
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
    """Return the path of a file that the user provides; refuse one without the digest in the manifest."""
    _refuse_pickle(file)
    target = root / file.path
    if file.digest is None or target.is_dir():
        return target
    own_folder(cache / file.dataset)
    receipt = cache / file.dataset / version_folder(file.version) / RECEIPTS / f"{file.path}.json"
    if not is_finished(file, Place(target, receipt, target)):
        raise ValueError(f"{target} does not have the {file.digest.algorithm} that the manifest pins; get it again")
    return target


def _refuse_pickle(file: RemoteFile) -> None:
    pinned = file.digest is not None and (file.digest.algorithm, file.digest.source) == ("sha256", "manifest")
    if PICKLES & set(PurePosixPath(file.path.lower()).suffixes) and not pinned:
        raise ValueError(
            f"{file.path} of {file.dataset} is a pickle, which can run code when it is read; it is accepted only if "
            "the manifest pins its sha256 in [[checksums]]"
        )


def _missing(places: Mapping[RemoteFile, Place], verify: Verify) -> dict[RemoteFile, Place]:
    """Return the files that are not finished; delete what killed processes left of the others."""
    missing = {file: place for file, place in places.items() if not is_finished(file, place, verify)}
    for file, place in places.items():
        if file not in missing:
            place.tidy()
    for folder in {place.receipt.parent for place in places.values()}:
        remove_unfinished(folder)
    for folder in {place.staged.parent for place in places.values()}:
        remove_unfinished(folder, ending=".json")  # of notes; staged files are resumed, however old they are
    return missing


def _download_missing(
    manifest: Manifest, places: Mapping[RemoteFile, Place], jobs: int, cache: Path, verify: Verify
) -> None:
    """Download files, several at a time."""
    for folder in (cache / manifest.id, cache / STAGING):
        own_folder(folder)
    for place in places.values() if verify == "always" else ():
        with disk_errors(place.receipt):  # else it would be accepted for the damaged file
            place.receipt.unlink(missing_ok=True)
    sizes = [file.size for file in places]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    with Progress(manifest.id, total) as progress:
        try:
            outcomes = run_in_threads(
                lambda file: download(file, places[file], progress), list(places), jobs, progress.stop
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"fetching {manifest.id} was interrupted; {RESUMES}") from None
    _raise_first_fault(manifest.id, outcomes)


def _raise_first_fault(dataset: str, outcomes: Sequence[object]) -> None:
    faults = [fault for fault in outcomes if isinstance(fault, BaseException)]
    if not faults:
        return
    first = faults[0]
    if len(outcomes) == 1 or not isinstance(first, OSError | ValueError | RuntimeError):
        raise first
    remedy = "" if RESUMES in str(first) else f" (for the others, {RESUMES})"
    raise type(first)(
        f"{len(faults)} of {len(outcomes)} files of {dataset} were not fetched; the first: {first}{remedy}"
    )


def _fingerprint(manifest: Manifest, choice: Choice, roles: Sequence[str]) -> str:
    """Return a name for a request to an archive: the same for the same source, paths and pinned checksums."""
    pins = [pin.model_dump() for pin in manifest.checksums]
    asked = [manifest.source.model_dump(), manifest.paths(choice, *roles), pins]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _read_listing(manifest: Manifest, listing: Path) -> list[RemoteFile]:
    """Return the files that an archive listed before; empty without a listing, or for a draft, which may change."""
    content = {} if manifest.source.version == DRAFT else read_json(listing)
    with suppress(TypeError, ValueError):  # a damaged listing: the archive is contacted again
        return [
            RemoteFile(manifest.id, str(content.get("version", "")), path, size, digest and Digest(*digest), url=str)
            for path, size, digest in content.get("files", [])
        ]
    return []


def _write_listing(manifest: Manifest, listing: Path, files: Sequence[RemoteFile]) -> None:
    if isinstance(manifest.source, Dandi) and manifest.source.version != DRAFT and files:
        listed = [(file.path, file.size, file.digest) for file in files]
        with suppress(OSError):  # a cache that cannot be written: the archive is contacted again next time
            own_folder(listing.parents[2])
            write_json(listing, {"version": files[0].version, "files": listed})


def cached_versions(dataset: str | Path | Manifest | None = None) -> list[Path]:
    """Return the folders with finished files, one per version, of one dataset or of all."""
    name = None if dataset is None else _id_of(dataset)
    tops = [top for top in own_folders(cache_folder()) if top.name not in (STAGING, STREAMING)]
    return [version for top in tops if name in (None, top.name) for version in folders_in(top)]


def list_cache() -> pd.DataFrame:
    """Return a table of what is in `cache_folder()`.

    Returns
    -------
    DataFrame
        One row per version of a dataset: `dataset`, `version`, number of finished files (`n_files`) and their bytes
        (`size`), bytes of unfinished downloads (`unfinished`) and of streamed parts (`streamed`), `folder`.

    See Also
    --------
    verify_cache : read all files, and compare them with their receipts.
    clear_cache : delete fetched files.

    Examples
    --------
    >>> list_cache().columns.tolist()
    ['dataset', 'version', 'n_files', 'size', 'unfinished', 'streamed', 'folder']
    """
    cache, found_by_version = cache_folder(), defaultdict[tuple[str, str], dict[str, int]](dict)
    for top in own_folders(cache):
        kind = {STAGING: "unfinished", STREAMING: "streamed"}.get(top.name, "size")
        for dataset in [top] if kind == "size" else folders_in(top):
            for version in folders_in(dataset):
                sizes = list(_sizes(version, "*.part" if kind == "unfinished" else "*"))
                found = {kind: sum(sizes)} | ({"n_files": len(sizes)} if kind == "size" else {})
                if sizes:
                    found_by_version[dataset.name, version.name] |= found
    rows = [
        {"dataset": dataset, "version": version, "folder": str(cache / dataset / version)} | found
        for (dataset, version), found in sorted(found_by_version.items())
    ]
    counts = ["n_files", "size", "unfinished", "streamed"]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, int))


def _sizes(folder: Path, pattern: str = "*") -> Iterator[int]:
    """Yield the bytes of every file in a folder, without following links and without receipts and listings."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in OWN_FOLDERS]
        for name in names:
            if fnmatchcase(name, pattern):
                with suppress(FileNotFoundError):  # finished by another process in the meantime
                    yield Path(here, name).lstat().st_size


def clear_cache(dataset: str | Path | Manifest | None = None) -> int:
    """Delete fetched and streamed files, finished or not, and return the number of bytes freed.

    Parameters
    ----------
    dataset : str, path or Manifest, optional
        By default all datasets. Files that users provide, and folders without neurosuper's mark, are left alone.

    Returns
    -------
    int
        Bytes freed.

    Raises
    ------
    ValueError
        `dataset` cannot be the id of a dataset.
    OSError
        A folder cannot be deleted.

    See Also
    --------
    list_cache : what is in the cache.

    Examples
    --------
    >>> clear_cache("never-fetched")
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
        raise ValueError(f"{dataset!r} is not the id of a dataset; `neurosuper cache list` shows the cached ones")
    return dataset


def _delete(folder: Path) -> int:
    """Delete a folder and everything in it, without following links; return its bytes."""
    if folder.is_symlink() or not folder.is_dir():
        return 0
    freed = sum(_sizes(folder))
    shutil.rmtree(folder)
    return freed
