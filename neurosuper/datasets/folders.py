"""Folders of the cache, and the mark by which neurosuper recognises its own.

`<cache>/<dataset>/<version>` contains the finished files of a version, `<cache>/.staging` unfinished files, and
`<cache>/.streaming` parts of streamed files. Only folders with the mark file are listed or cleared.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from neurosuper.datasets.archives import OWN_FOLDERS, check_path, local_folder
from neurosuper.datasets.manifest import Local, Manifest
from neurosuper.datasets.receipts import disk_errors

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
    """Return the folder for fetched files: `NEUROSUPER_CACHE`, or the platform's folder for caches.

    Returns
    -------
    Path
        The folder, which may not exist yet.

    See Also
    --------
    list_cache : what is in it.

    Examples
    --------
    >>> from unittest.mock import patch
    >>> with patch.dict("os.environ", NEUROSUPER_CACHE="/data/neurosuper"):
    ...     cache_folder().as_posix()
    '/data/neurosuper'
    """
    folder = os.environ.get("NEUROSUPER_CACHE")
    return Path(folder).expanduser() if folder else user_cache_path("neurosuper", appauthor=False)


def dataset_root(manifest: Manifest, cache: str | Path | None = None) -> Path:
    """Return the folder with a dataset's files, in the layout of the archive.

    Parameters
    ----------
    manifest : Manifest
        Manifest of the dataset.
    cache : path, optional
        By default `cache_folder()`. Files that users provide are in the folder that they named.

    Returns
    -------
    Path
        The folder, which may not exist yet.

    Raises
    ------
    FileNotFoundError
        The user has not named that folder.
    ValueError
        The version cannot be the name of a folder.
    """
    if isinstance(manifest.source, Local):
        return local_folder(manifest)
    return chosen_cache(cache) / manifest.id / version_folder(manifest.source.version)


def chosen_cache(cache: str | Path | None) -> Path:
    """Return the folder chosen for the cache, by default `cache_folder()`."""
    return cache_folder() if cache is None else Path(cache)


def version_folder(version: str) -> str:
    """Return a version as the name of a folder; refuse one that cannot be."""
    if "/" in version:
        raise ValueError(f"version {version!r} cannot be the name of a folder; write it without '/'")
    return check_path(version)


def own_folder(folder: Path) -> None:
    """Create a folder of the cache and mark it as neurosuper's; refuse a folder with files of other programs."""
    if (folder / MARK).is_file():
        return
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{MARK}.lock"):
            folder.mkdir(exist_ok=True)
            if not any(folder.iterdir()):
                (folder / MARK).touch()
    if not (folder / MARK).is_file():
        raise ValueError(
            f"{folder} contains files that neurosuper did not write; move them, or name another folder in "
            "NEUROSUPER_CACHE"
        )


def own_folders(cache: Path) -> list[Path]:
    """Return the folders directly in the cache that have neurosuper's mark."""
    if not cache.is_dir():
        return []
    return [folder for folder in sorted(cache.iterdir()) if not folder.is_symlink() and (folder / MARK).is_file()]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, without links."""
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.is_symlink()]
