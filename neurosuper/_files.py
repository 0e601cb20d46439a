"""Write a file whole or not at all, and remove what killed processes left half-written."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".part"
STALE = 24 * 3600  # seconds; no write takes longer, so an older file was left by a killed process of any machine


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which replaces `path` if the block ends without an exception.

    The temporary name contains machine and process: no two writers share one, and files of killed processes can be
    recognised (see `remove_unfinished`). An incomplete file never has the final name.

    Parameters
    ----------
    path : Path
        Final path of the file.

    Yields
    ------
    Path
        Temporary path to write to.

    See Also
    --------
    remove_unfinished : delete temporary files of killed processes.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> with whole_file(path) as partial:
    ...     _ = partial.write_text("whole")
    >>> [each.name for each in path.parent.iterdir()]
    ['a.txt']
    """
    partial = path.with_name(f"{_start_of(path.name)}.{_machine()}.{os.getpid()}.{uuid.uuid4().hex}{SUFFIX}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str | None = None, *, ending: str = "") -> None:
    """Delete the temporary files that killed processes left in a folder, of one final name, of some or of all.

    Parameters
    ----------
    folder : Path
        Only files directly in it are deleted.
    name : str, optional
        Final name of one file.
    ending : str, optional
        End of the final names, for a folder in which other files may be as old as they like.

    See Also
    --------
    whole_file : write a file whole or not at all.
    """
    final = f"*{ending}" if name is None else glob.escape(_start_of(name))
    for path in folder.glob(f"*{SUFFIX}" if final == "*" else f"{final}.*{SUFFIX}"):
        if _is_left_over(path):
            with suppress(OSError):
                path.unlink()


def _start_of(name: str) -> str:
    """Return the part of a name that temporary names begin with: with its 53 characters more, at most 255 bytes."""
    return name.encode()[:150].decode(errors="ignore")


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_left_over(path: Path) -> bool:
    """Return whether a temporary file has no writer: its process is gone, or it is a day old (from any machine)."""
    *_, machine, process, _, _ = ("", "", "", *path.name.split("."))  # padded, for names of other programs
    try:
        if time.time() - path.stat().st_mtime > STALE:
            return True
        if os.name == "posix" and machine == _machine() and process.isdigit():
            os.kill(int(process), 0)  # signal 0 only asks whether the process exists
    except ProcessLookupError:
        return True
    except OSError:  # deleted in the meantime, or another user's process
        return False
    return False
