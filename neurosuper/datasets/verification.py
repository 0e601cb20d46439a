"""Verify that the files in the cache still match their receipts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd

from neurosuper.datasets.archives import OWN_FOLDERS
from neurosuper.datasets.cache import cached_versions
from neurosuper.datasets.content import content_fault
from neurosuper.datasets.folders import MARK, RECEIPTS
from neurosuper.datasets.manifest import Manifest, read_manifest
from neurosuper.datasets.receipts import UNVERIFIED, digest_of, digests_in, read_json

__all__ = ["drop_receipts_of_wrong_files", "verify_cache"]

COLUMNS = ["dataset", "version", "path", "state", "why"]


def verify_cache(dataset: str | Path | Manifest | None = None) -> pd.DataFrame:
    """Return a table of the finished files in `cache_folder()`, each read again and compared with its receipt.

    Nothing is changed. `fetch(dataset, verify="always")` does the same for one dataset, and fetches damaged files
    again. Parts of streamed files are not listed: each is compared with its own digest whenever it is read.

    Parameters
    ----------
    dataset : str, path or Manifest, optional
        By default all datasets in the cache.

    Returns
    -------
    DataFrame
        One row per file: `dataset`, `version`, `path`, `state` and `why`. `state` is "ok" (the file has the digest
        given by the archive or the manifest), "unverified" (neither gave a digest, or there is no receipt) or
        "damaged".

    Raises
    ------
    ValueError
        There is no dataset with this id, neither in the cache nor in the catalogue.

    See Also
    --------
    list_cache : what is in the cache, without reading files.
    fetch : fetch damaged files again with `verify="always"`.

    Examples
    --------
    >>> import tempfile
    >>> from unittest.mock import patch
    >>> with patch.dict("os.environ", NEUROSUPER_CACHE=tempfile.mkdtemp()):
    ...     verify_cache("nsd").columns.tolist()
    ['dataset', 'version', 'path', 'state', 'why']
    """
    folders = cached_versions(dataset)
    if not folders and dataset is not None:
        read_manifest(dataset)  # refuses an unknown id
    rows = [
        (folder.parent.name, folder.name, path, *_state(folder, path))
        for folder in folders
        for path in _files_in(folder)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _files_in(folder: Path) -> Iterator[str]:
    """Yield the paths of the files of a version, relative to its folder, without following links."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in OWN_FOLDERS)
        for name in sorted(names):
            if name != MARK and Path(here, name).is_file():
                yield Path(here, name).relative_to(folder).as_posix()


def _state(folder: Path, path: str) -> tuple[str, str]:
    """Return the state of a file and the reason for it."""
    receipt = read_json(folder / RECEIPTS / f"{path}.json")
    digests = digests_in(receipt)
    try:
        for algorithm, recorded in digests.items():
            if digest_of(folder / path, algorithm) != recorded:
                return "damaged", f"its {algorithm} differs from the receipt"
        against = str(receipt.get("verified_against", UNVERIFIED))
        if digests and against != UNVERIFIED:
            return "ok", against
        if fault := content_fault(folder / path, path):
            return "damaged", fault
    except (OSError, ValueError) as error:
        return "damaged", f"it cannot be read ({' '.join(str(error).split())})"
    return "unverified", "unchanged, but archive and manifest give no digest" if digests else "it has no receipt"


def drop_receipts_of_wrong_files(root: Path, paths: Iterable[Path]) -> list[str]:
    """Return the files of a version whose bytes do not match their name, after deleting their receipts.

    The next fetch then fetches them again. Files with the digest of archive or manifest are left alone.
    """
    dropped = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if path.is_file() and content_fault(path, name) and _state(root, name)[0] == "damaged":
            with suppress(OSError):
                (root / RECEIPTS / f"{name}.json").unlink(missing_ok=True)
                dropped.append(name)
    return dropped
