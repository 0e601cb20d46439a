"""Compile loops with numba; compiled code is stored on disk if possible, and works after a fork."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import FunctionType
from typing import Any

import numba
from numba.core import event
from numba.core.caching import FunctionCache

from neurosuper._progress import progress

logger = logging.getLogger(__name__)

# The one policy for floating point in compiled loops: sums may be regrouped ("reassoc", so that loops use vector
# instructions), x·y + z may be rounded once ("contract"), and the sign of zero does not matter ("nsz"). Not allowed is
# to assume that no value is NaN or infinite ("nnan", "ninf", both part of numba's `fastmath=True`): comparisons with
# NaN would then have any result. Kernels whose result must not depend on the order of a sum are compiled without it.
FASTMATH = {"reassoc", "contract", "nsz"}

COMPILING = "compiling fast loops (once per installation, up to half a minute)"  # 15 s for KMeans, on 2 cores

_inherits_threads = False


class _Notice(event.Listener):
    """Show that kernels compile, in a line below the bar that stands still, and once in the log.

    Numba compiles under a lock, so the events of two threads never mix; those of a kernel contain those of the kernels
    that it calls.
    """

    def __init__(self) -> None:
        self._depth, self._is_logged, self._bar = 0, False, None

    def on_start(self, event: event.Event) -> None:
        """Open the line, if a kernel of neurosuper is compiled."""
        if self._depth or event.data["dispatcher"].py_func.__module__.startswith("neurosuper."):
            self._depth += 1
        if self._depth == 1 and self._bar is None:
            if not self._is_logged:
                logger.info(COMPILING)
            self._is_logged = True
            self._bar = progress(desc=COMPILING, unit="kernel", bar_format="{desc}", leave=False, delay=0)

    def on_end(self, event: event.Event) -> None:
        """Close the line, after the outermost kernel."""
        self._depth = max(self._depth - 1, 0)
        if self._depth == 0 and self._bar is not None:
            self._bar.close()
            self._bar = None


event.register("numba:compile", _Notice())


class _Cache(FunctionCache):
    """A cache that compiles a kernel again if its files are damaged or missing, or the disk is full."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling a damaged file raises nearly anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def njit(*, parallel: bool = False, **options: Any) -> Callable[[Callable], Any]:
    """Return a decorator that compiles a function like `numba.njit` with these options; x / 0 follows NumPy's rules.

    Compiled code is stored in one of numba's folders if it can be written (next to the source, in the user's cache, or
    `NUMBA_CACHE_DIR`). If none can, each process compiles again, where numba itself would fail to import the module.

    A `parallel` kernel must be called from Python. It runs on as many threads as torch uses, whose number stays as it
    is. It runs on one thread in a process that was forked after the parent had started numba's threads: these do not
    exist in the child, and GNU OpenMP would end the process.
    """

    def decorate(function: Callable) -> Any:
        if not parallel:
            return _compile(function, **options)
        from neurosuper._threads import torch_threads  # imports torch, which kernels of one thread do without

        threaded = _compile(function, parallel=True, **options)
        sequential = _compile(_renamed(function), **options)

        @wraps(function)
        def run(*args: Any) -> Any:
            if _inherits_threads:
                return sequential(*args)
            with torch_threads():
                return threaded(*args)

        run.py_func, run.sequential = function, sequential  # type: ignore[attr-defined]
        return run

    return decorate


def _renamed(function: Callable) -> Callable:
    """Return the same function under another name: numba's cache distinguishes kernels by name, not by options."""
    other = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    other.__qualname__ = f"{function.__qualname__}_sequential"
    other.__module__ = function.__module__
    return other


def _compile(function: Callable, **options: Any) -> Any:
    kernel = numba.njit(error_model="numpy", **options)(function)
    with suppress(RuntimeError):  # numba: "no locator available"
        kernel._cache = _Cache(function)
    return kernel


def _notice_fork() -> None:
    global _inherits_threads
    try:
        numba.threading_layer()
    except ValueError:  # no threads were started before
        return
    _inherits_threads = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_notice_fork)
