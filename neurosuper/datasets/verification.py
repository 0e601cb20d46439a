"""Verification: whether what is in the cache is still what was fetched."""

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
from neurosuper.datasets.manifest import Manifest
from neurosuper.datasets.receipts import UNVERIFIED, digest_of, digests_in, read_json

__all__ = ["drop_impostors", "verify_cache"]

COLUMNS = ["dataset", "version", "path", "state", "why"]


def verify_cache(dataset: str | Path | Manifest | None = None) -> pd.DataFrame:
    """Return a table of the finished files in `cache_folder()`, each read again and compared with its receipt.

    Nothing is changed. `fetch(dataset, verify="always")` does the same for one dataset, and fetches damaged files
    again. Parts of files that were streamed are not listed: each is compared with its own digest whenever it is read.

    Parameters
    ----------
    dataset : str, path or Manifest, optional
        By default all that was fetched.

    Returns
    -------
    DataFrame
        One row a file: `dataset`, `version`, `path`, `state` and `why`. `state` is "ok" (the bytes that arrived, and
        archive or manifest vouched for them), "unverified" (nobody gave a digest of the file, or there is no receipt
        of it) or "damaged".

    Raises
    ------
    ValueError
        Not the id of a dataset.

    See Also
    --------
    list_cache : what is there, without reading it.

    Examples
    --------
    >>> verify_cache("nobody-has-fetched-this").columns.tolist()
    ['dataset', 'version', 'path', 'state', 'why']
    """
    rows = [
        (folder.parent.name, folder.name, path, *_state(folder, path))
        for folder in cached_versions(dataset)
        for path in _files_in(folder)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _files_in(folder: Path) -> Iterator[str]:
    """Yield the files of a version, relative to its folder; links are not followed."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in OWN_FOLDERS)
        for name in sorted(names):
            if name != MARK and Path(here, name).is_file():
                yield Path(here, name).relative_to(folder).as_posix()


def _state(folder: Path, path: str) -> tuple[str, str]:
    """Return whether a file is what its receipt says, and why."""
    receipt = read_json(folder / RECEIPTS / f"{path}.json")
    digests = digests_in(receipt)
    try:
        for algorithm, noted in digests.items():
            if digest_of(folder / path, algorithm) != noted:
                return "damaged", f"its {algorithm} is not that of what arrived"
        against = str(receipt.get("verified_against", UNVERIFIED))
        if digests and against != UNVERIFIED:
            return "ok", against
        if fault := content_fault(folder / path, path):
            return "damaged", fault
    except (OSError, ValueError) as error:
        return "damaged", f"it cannot be read ({' '.join(str(error).split())})"
    return "unverified", "as it arrived, but nobody gave a digest of it" if digests else "there is no receipt of it"


def drop_impostors(root: Path, paths: Iterable[Path]) -> list[str]:
    """Return the files of a version that are not of the kind of their name, and drop their receipts.

    So the next fetch brings them again. Files that are as archive or manifest say are left alone.
    """
    dropped = []
    for path in paths:
        name = path.relative_to(root).as_posix()
        if path.is_file() and content_fault(path, name) and _state(root, name)[0] == "damaged":
            with suppress(OSError):
                (root / RECEIPTS / f"{name}.json").unlink(missing_ok=True)
                dropped.append(name)
    return dropped
