"""Fits side by side, whose passes over the responses are made together: each block is read once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Lock
from typing import NamedTuple, TypeVar

import torch

from neurosuper.directions.blocks import Blocks, Combine, Kernel, Tensors

Result = TypeVar("Result")


def fit_together(fits: Sequence[Callable[[Blocks], Result]], rows: Blocks) -> list[Result]:
    """Return what each function makes of streamed rows: one pass for all of them, whenever each has asked for one.

    Each runs in a thread of its own, but one at a time: they take turns, and a turn lasts until the next pass.

    Parameters
    ----------
    fits : sequence of callable
        Each takes rows, reduces them as often as it likes, and returns what it likes. What a fit keeps between passes
        is held as many times as there are fits.
    rows : Blocks

    Raises
    ------
    Exception
        The first that any of them raises, once all have ended. KeyboardInterrupt ends them all.
    """
    passes = _Passes(rows, len(fits))
    with ThreadPoolExecutor(len(fits), "neurosuper-fit") as pool:
        futures = [pool.submit(passes.run, fit) for fit in fits]
        passes.serve()
    return [future.result() for future in futures]


class _Question(NamedTuple):
    """A reduction that a fit waits for."""

    rows: Blocks
    kernel: Kernel
    combine: Combine
    state: tuple
    width: int | None

    def is_like(self, other: _Question) -> bool:
        """Whether both ask the same of the same rows; tensors that are part of a question are not looked into."""
        if any(isinstance(value, torch.Tensor) for value in (*self.state, *other.state)):
            return self is other
        return self[1:] == other[1:] and self.rows.preparation is other.rows.preparation


class _Passes:
    """What the fits that still run have asked for."""

    def __init__(self, rows: Blocks, n_running: int) -> None:
        self.rows, self.n_running = rows, n_running
        self.pending: list[tuple[_Question, Future[Tensors]]] = []
        self.changed, self.turn = Condition(), Lock()
        self.interrupt: KeyboardInterrupt | None = None

    def run(self, fit: Callable[[Blocks], Result]) -> Result:
        """Run a fit, in a thread of its own, when it is its turn."""
        try:
            with self.turn:
                return fit(self.rows.asking(self._ask))
        finally:
            with self.changed:
                self.n_running -= 1
                self.changed.notify()

    def _ask(self, rows: Blocks, kernel: Kernel, combine: Combine, state: tuple, width: int | None) -> Tensors:
        answer: Future[Tensors] = Future()
        self.turn.release()
        try:
            with self.changed:
                self.pending.append((_Question(rows, kernel, combine, state, width), answer))
                self.changed.notify()
            return answer.result()
        finally:
            self.turn.acquire()

    def serve(self) -> None:
        """Make passes until no fit runs any more; once interrupted, tell whoever asks."""
        while self.n_running:
            try:
                with self.changed:
                    self.changed.wait_for(lambda: len(self.pending) == self.n_running)
                if self.pending:
                    self._answer()
            except KeyboardInterrupt as error:
                self.interrupt = error
        if self.interrupt is not None:
            raise self.interrupt

    def _answer(self) -> None:
        try:
            if self.interrupt is not None:
                raise self.interrupt
            totals = _pass_over(self.rows.raw, [question for question, _ in self.pending])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self.interrupt = error
            for _, answer in self.pending:
                answer.set_exception(error)
        else:
            for (_, answer), total in zip(self.pending, totals, strict=True):
                answer.set_result(total)
        self.pending = []


def _pass_over(raw: Blocks, questions: Sequence[_Question]) -> list[Tensors]:
    """Return the totals of all questions, those that are alike reckoned once."""
    first_like = [next(i for i, one in enumerate(questions) if one.is_like(other)) for other in questions]
    totals: dict[int, Tensors] = {}
    for block in raw:
        for i in set(first_like):
            rows, kernel, combine, state, width = questions[i]
            for part in rows.parts_of(block, width):
                terms = kernel(part, *state)
                totals[i] = combine(totals[i], terms) if i in totals else terms
    return [totals[i] for i in first_like]
