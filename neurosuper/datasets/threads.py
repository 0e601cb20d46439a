"""Threads: several network calls at a time, while the main thread stays free to heed Ctrl-C.

A thread that waits for a silent server cannot be stopped. So these are daemons: nobody waits for them at exit, as the
standard library does for those of its executors.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["side_by_side", "unless"]

POLL = 0.2  # s between looks: a join without a limit is deaf to Ctrl-C on Windows
GRACE = 1.0  # s that calls have to end when interrupted, so that what arrived is written

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    call: Callable[[Item], Result], items: Sequence[Item], jobs: int, stop: Callable[[], None]
) -> list[Result | BaseException]:
    """Return what a call returns for each item, or the error that it raises.

    Parameters
    ----------
    call : callable
    items : sequence
    jobs : int
        How many calls run at a time.
    stop : callable
        Asks the calls to end; called once, if the caller is interrupted.

    Raises
    ------
    KeyboardInterrupt
        The caller was interrupted; a call that does not end at once is left behind.

    Examples
    --------
    >>> side_by_side(abs, [-1, 2], jobs=2, stop=lambda: None)
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


def unless(stop: threading.Event, call: Callable[[], Result], limit: float = math.inf) -> Result:
    """Return what a call returns, or leave it behind as soon as `stop` is set or `limit` seconds have passed.

    Raises
    ------
    KeyboardInterrupt, TimeoutError

    Examples
    --------
    >>> unless(threading.Event(), lambda: 2)
    2
    """
    answers: SimpleQueue[Result | BaseException] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put(call())
        except BaseException as error:
            answers.put(error)

    threading.Thread(target=answer, daemon=True).start()
    end = time.monotonic() + limit
    while not stop.is_set():
        if time.monotonic() > end:
            raise TimeoutError(f"no answer in {limit} s")
        with suppress(Empty):
            result = answers.get(timeout=POLL)
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
