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
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import get_args

import pandas as pd
from filelock import FileLock
from platformdirs import user_cache_path

from neurosuper.load.archives import DRAFT, OWN_FOLDERS, Digest, RemoteFile, check_path, list_files, local_folder
from neurosuper.load.manifest import Choice, Dandi, File, Local, Manifest, read_manifest
from neurosuper.load.transfer import GOES_ON, Place, Progress, disk, download, finished, read_json, write_json

__all__ = ["cache_folder", "clear_cache", "dataset_root", "fetch", "list_cache", "own_folder", "version_folder"]

STAGING, STREAMING, MARK = ".staging", ".streaming", ".neurosuper"
RECEIPTS, LISTINGS = OWN_FOLDERS
ROLES = get_args(File.model_fields["role"].annotation)
COLUMNS = ["dataset", "version", "n_files", "size", "unfinished", "streamed", "folder"]
PICKLES = {".pkl", ".pickle"}


def cache_folder() -> Path:
    """Return the folder for fetched files: `NEUROSUPER_CACHE`, or where the platform keeps caches.

    Examples
    --------
    >>> from unittest.mock import patch
    >>> with patch.dict("os.environ", NEUROSUPER_CACHE="/data/neurosuper"):
    ...     cache_folder().as_posix()
    '/data/neurosuper'
    """
    named = os.environ.get("NEUROSUPER_CACHE")
    return Path(named).expanduser() if named else user_cache_path("neurosuper", appauthor=False)


def dataset_root(manifest: Manifest, cache: str | Path | None = None) -> Path:
    """Return the folder in which a dataset's files lie as the archive lays them.

    Parameters
    ----------
    manifest : Manifest
    cache : path, optional
        By default `cache_folder()`. Files that users bring themselves lie in the folder that they named.

    Raises
    ------
    FileNotFoundError
        The user has not named that folder.
    ValueError
        A version that cannot be the name of a folder.
    """
    if isinstance(manifest.source, Local):
        return local_folder(manifest)
    return _cache(cache) / manifest.id / version_folder(manifest.source.version)


def _cache(cache: str | Path | None) -> Path:
    return cache_folder() if cache is None else Path(cache)


def version_folder(version: str) -> str:
    """Return a version as the name of a folder, or refuse it."""
    if "/" in version:
        raise ValueError(f"version {version!r} cannot name a folder; write it without '/'")
    return check_path(version)


def fetch(
    dataset: str | Path | Manifest,
    *,
    subset: Mapping[str, object] | None = None,
    roles: Sequence[str] = ("responses", "companion", "support"),
    jobs: int = 4,
    cache: str | Path | None = None,
) -> list[Path]:
    """Fetch the files of a dataset that are not in the cache yet, and verify them.

    A transfer that was cut or interrupted goes on where it stopped when the same is called again, also by another
    process. Where all is there, the network is not touched (except for the draft of a dandiset, which may change).

    Parameters
    ----------
    dataset : str, path or Manifest
        An id (see `neurosuper.datasets`), or a manifest of your own (.toml).
    subset : mapping, optional
        Which part, such as `{"subject": "subj01"}`; by default what the manifest says.
    roles : sequence of {"responses", "companion", "support", "images"}, optional
        What the files are for.
    jobs : int, optional
        How many files are fetched at a time.
    cache : path, optional
        By default `cache_folder()`.

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
        The archive does not answer, or the disk is full.
    RuntimeError
        The installed dandi is too old for the archive.

    See Also
    --------
    neurosuper.load.load : fetch and read.

    Examples
    --------
    >>> fetch("nsd", subset={"subject": "subj01", "session": [1, 2]})  # doctest: +SKIP
    >>> fetch("nsd", roles=["music"])
    Traceback (most recent call last):
    ValueError: no role 'music'; there are responses, companion, images, support
    """
    manifest = read_manifest(dataset)
    choice, roles, folder = manifest.choose(subset), _check_roles(roles), _cache(cache)
    if not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs must be a whole number of at least 1, got {jobs!r}")
    root = dataset_root(manifest, folder)
    if isinstance(manifest.source, Local):
        return [_check_local(file, root, folder) for file in list_files(manifest, choice, roles)]
    listing = root / LISTINGS / f"{_fingerprint(manifest, choice, roles)}.json"
    known = _read_listing(manifest, listing)
    if known and all(finished(file, _place(file, root, folder)) for file in known):
        return [root / file.path for file in known]
    files = list_files(manifest, choice, roles)
    _bring(manifest, {file: _place(file, root, folder) for file in files}, jobs, folder)
    _note_listing(manifest, listing, files)
    return [root / file.path for file in files]


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


def _bring(manifest: Manifest, places: Mapping[RemoteFile, Place], jobs: int, cache: Path) -> None:
    """Bring the files that are not finished to their places, several at a time."""
    for file in places:
        _refuse_pickle(file)
    missing = [file for file, place in places.items() if not finished(file, place)]
    if not missing:
        return
    for folder in (cache / manifest.id, cache / STAGING):
        own_folder(folder)
    sizes = [file.size for file in missing]
    total = sum(size for size in sizes if size is not None) if None not in sizes else None
    with Progress(manifest.id, total) as progress, ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(download, file, places[file], progress) for file in missing]
        try:
            wait(tasks)
        except KeyboardInterrupt:
            progress.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise KeyboardInterrupt(f"fetching {manifest.id} was interrupted; {GOES_ON}") from None
    _raise_first(manifest.id, [task.exception() for task in tasks])


def _raise_first(dataset: str, outcomes: Sequence[BaseException | None]) -> None:
    faults = [fault for fault in outcomes if fault is not None]
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
    return [
        RemoteFile(manifest.id, noted.get("version", ""), path, size, digest and Digest(*digest), url=str)
        for path, size, digest in noted.get("files", [])
    ]


def _note_listing(manifest: Manifest, listing: Path, files: Sequence[RemoteFile]) -> None:
    if isinstance(manifest.source, Dandi) and manifest.source.version != DRAFT and files:
        own_folder(listing.parents[2])
        listed = [(file.path, file.size, file.digest) for file in files]
        with disk(listing):
            write_json(listing, {"version": files[0].version, "files": listed})


def own_folder(folder: Path) -> None:
    """Make a folder of the cache and mark it as ours, to be listed and cleared; one that others made is refused."""
    if (folder / MARK).is_file():
        return
    with disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{MARK}.lock"):
            folder.mkdir(exist_ok=True)
            if not any(folder.iterdir()):
                (folder / MARK).touch()
    if not (folder / MARK).is_file():
        raise ValueError(
            f"{folder} holds files that neurosuper did not put there; move them, or name another folder in "
            "NEUROSUPER_CACHE"
        )


def _own_folders(cache: Path) -> list[Path]:
    """Return the folders directly in the cache that are ours."""
    if not cache.is_dir():
        return []
    return [folder for folder in sorted(cache.iterdir()) if not folder.is_symlink() and (folder / MARK).is_file()]


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
    for top in _own_folders(cache):
        kind = {STAGING: "unfinished", STREAMING: "streamed"}.get(top.name, "size")
        for dataset in [top] if kind == "size" else _folders(top):
            for version in _folders(dataset):
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


def _folders(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.is_symlink()]


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
    tops = _own_folders(cache_folder())
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
