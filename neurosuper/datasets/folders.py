"""Folders: where the cache is, and which folders in it are ours.

`<cache>/<dataset>/<version>` is the folder of a version; `<cache>/.staging` holds what is unfinished, and
`<cache>/.streaming` the parts of files that were streamed. Only folders that bear our mark are listed or cleared.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from neurosuper.datasets.archives import OWN_FOLDERS, check_path, local_folder
from neurosuper.datasets.manifest import Local, Manifest
from neurosuper.datasets.receipts import disk

__all__ = [
    "LISTINGS",
    "MARK",
    "RECEIPTS",
    "STAGING",
    "STREAMING",
    "cache_folder",
    "chosen_cache",
    "dataset_root",
    "folders_in",
    "own_folder",
    "own_folders",
    "version_folder",
]

STAGING, STREAMING, MARK = ".staging", ".streaming", ".neurosuper"
RECEIPTS, LISTINGS = OWN_FOLDERS


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
    return chosen_cache(cache) / manifest.id / version_folder(manifest.source.version)


def chosen_cache(cache: str | Path | None) -> Path:
    """Return the folder that a caller chose for the cache, by default `cache_folder()`."""
    return cache_folder() if cache is None else Path(cache)


def version_folder(version: str) -> str:
    """Return a version as the name of a folder, or refuse it."""
    if "/" in version:
        raise ValueError(f"version {version!r} cannot name a folder; write it without '/'")
    return check_path(version)


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


def own_folders(cache: Path) -> list[Path]:
    """Return the folders directly in the cache that are ours."""
    if not cache.is_dir():
        return []
    return [folder for folder in sorted(cache.iterdir()) if not folder.is_symlink() and (folder / MARK).is_file()]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly in a folder; links are left out."""
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.is_symlink()]
