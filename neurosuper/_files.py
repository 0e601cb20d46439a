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
STALE = 24 * 3600  # seconds; nothing that is written here takes longer, on whichever machine


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Provide a temporary path beside `path`, which replaces it when the block ends without an exception.

    The temporary name contains machine and process, so that no two writers share one, and those of killed processes
    can be recognised (see `remove_unfinished`). A file that was cut short never has the final name.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "a.txt")
    >>> with whole_file(path) as partial:
    ...     _ = partial.write_text("whole")
    >>> [each.name for each in path.parent.iterdir()]
    ['a.txt']
    """
    partial = path.with_name(f"{path.name}.{_machine()}.{os.getpid()}.{uuid.uuid4().hex}{SUFFIX}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half-written in a folder: of one file, or of all."""
    for path in folder.glob(f"*{SUFFIX}" if name is None else f"{glob.escape(name)}.*{SUFFIX}"):
        if _is_left_over(path):
            with suppress(OSError):
                path.unlink()


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_left_over(path: Path) -> bool:
    """Whether nobody writes a file any more: its process is gone, or it is a day old (also of other machines)."""
    *_, machine, process, _, _ = ("", "", "", *path.name.split("."))
    try:
        if time.time() - path.stat().st_mtime > STALE:
            return True
        if os.name == "posix" and machine == _machine() and process.isdigit():
            os.kill(int(process), 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:  # removed meanwhile, or another user's process
        return False
    return False
