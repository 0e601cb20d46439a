"""Run several network calls at a time, while the main thread can still be interrupted by Ctrl-C.

A thread that waits for a silent server cannot be stopped. These threads are therefore daemons: Python does not wait for
them at exit, as it does for the threads of its executors.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["call_unless_stopped", "run_in_threads"]

POLL = 0.2  # seconds between checks: a join without a limit ignores Ctrl-C on Windows
GRACE = 1.0  # seconds for calls to end after an interruption, enough to write the bytes that arrived

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_threads(
    call: Callable[[Item], Result], items: Sequence[Item], jobs: int, stop: Callable[[], None]
) -> list[Result | BaseException]:
    """Return the result of a call for each item, or the error that it raised.

    Parameters
    ----------
    call : callable
        Called with one item.
    items : sequence
        Arguments of the calls.
    jobs : int
        Maximum number of calls at a time.
    stop : callable
        Asks running calls to end; called once if the caller is interrupted.

    Returns
    -------
    list
        Results or exceptions, in the order of the items.

    Raises
    ------
    KeyboardInterrupt
        The caller was interrupted; calls that do not end soon are abandoned.

    See Also
    --------
    call_unless_stopped : one call that can be abandoned.

    Examples
    --------
    >>> run_in_threads(abs, [-1, 2], jobs=2, stop=lambda: None)
    [1, 2]
    """
    waiting: SimpleQueue[tuple[int, Item]] = SimpleQueue()
    results: dict[int, Result | BaseException] = {}
    for item in enumerate(items):
        waiting.put(item)
    threads = [threading.Thread(target=_work, args=(call, waiting, results), daemon=True) for _ in items[:jobs]]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(POLL)
    except BaseException:
        _drain(waiting)
        stop()
        end = time.monotonic() + GRACE
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        raise
    return [results[place] for place in range(len(items))]


def call_unless_stopped(stop: threading.Event, call: Callable[[], Result], limit: float = math.inf) -> Result:
    """Return the result of a call, or abandon it once `stop` is set or `limit` seconds have passed.

    Parameters
    ----------
    stop : threading.Event
        Set it to abandon the call.
    call : callable
        Called without arguments.
    limit : float, optional
        Seconds.

    Returns
    -------
    object
        The result of the call.

    Raises
    ------
    KeyboardInterrupt
        `stop` was set.
    TimeoutError
        The call took longer than `limit`.

    See Also
    --------
    run_in_threads : several calls at a time.

    Examples
    --------
    >>> call_unless_stopped(threading.Event(), lambda: 2)
    2
    """
    outcomes: SimpleQueue[Result | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            outcomes.put(call())
        except BaseException as error:
            outcomes.put(error)

    threading.Thread(target=run, daemon=True).start()
    end = time.monotonic() + limit
    while not stop.is_set():
        if time.monotonic() > end:
            raise TimeoutError(f"no response in {limit} s")
        with suppress(Empty):
            result = outcomes.get(timeout=POLL)
            if isinstance(result, BaseException):
                raise result
            return result
    raise KeyboardInterrupt


def _work(
    call: Callable[[Item], Result],
    waiting: SimpleQueue[tuple[int, Item]],
    results: dict[int, Result | BaseException],
) -> None:
    while True:
        try:
            place, item = waiting.get_nowait()
        except Empty:
            return
        try:
            results[place] = call(item)
        except BaseException as error:
            results[place] = error


def _drain(waiting: SimpleQueue[tuple[int, Item]]) -> None:
    while not waiting.empty():
        try:
            waiting.get_nowait()
        except Empty:
            return
