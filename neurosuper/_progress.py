"""Progress bars: shown in a terminal and in a notebook, elsewhere only if asked for."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from threading import RLock
from typing import Any

from tqdm import TqdmWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets, where bars are drawn as text
    from tqdm.auto import tqdm

SWITCH = "TQDM_DISABLE"  # of tqdm: "1" hides all bars; here "0" shows them, also in a log file
LOG_INTERVAL = 10  # seconds between two lines of a bar in a log file, where nothing is overwritten


class _Bar(tqdm):
    """A bar that an interrupt never leaves locked, as it may those of tqdm: other threads would wait forever."""

    def refresh(self, nolock: bool = False, lock_args: tuple | None = None) -> None:
        """Draw the bar."""
        if nolock:
            super().refresh(nolock=True)
        else:
            with self.get_lock():
                super().refresh(nolock=True)


def _unlock() -> None:
    # One lock of C, which `with` takes and releases without a moment for an interrupt; tqdm has two, taken in Python.
    _Bar.set_lock(RLock())


_unlock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)  # a thread that exists only in the parent may have it


def progress(
    iterable: Iterable | None = None, *, desc: str, unit: str, total: int | None = None, **settings: Any
) -> tqdm:
    """Return a progress bar of tqdm, as a widget in notebooks that have them.

    It is shown if the standard error stream is a terminal, or in a notebook. The environment variable `TQDM_DISABLE`
    decides otherwise: "1" hides all bars, and "0" shows them in a log file too, with a line every ten seconds.

    Parameters
    ----------
    iterable : iterable, optional
        Its steps are counted; without it, call `update`.
    desc, unit : str
        What takes time, and what is counted.
    total : int, optional
        Number of steps, if the iterable has no length.
    **settings
        Of tqdm. Unless `delay` is given, a bar appears after two seconds.

    Returns
    -------
    tqdm
        Close it, or use it as a context manager or iterator.

    Examples
    --------
    >>> sum(progress([1, 2], desc="adding", unit="number"))
    3
    """
    settings = {"delay": 2, "disable": not is_shown()} | settings
    if not _is_notebook() and not _is_terminal():
        settings["mininterval"] = LOG_INTERVAL
    return _Bar(iterable, desc=desc, unit=unit, total=total, **settings)


def is_shown() -> bool:
    """Return whether progress bars are shown."""
    if asked := os.environ.get(SWITCH):
        return asked == "0"
    return _is_terminal() or _is_notebook()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")  # the standard error stream of a kernel is no terminal
