"""Several fits that share their passes over the responses: each block is read once for all of them.

A `StackedKernel` answers the requests of all fits in one call, for example by one product with all their centres.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Any, NamedTuple, TypeVar

import torch

from neurosuper.directions._rows.rows import Combine, Kernel, Rows, Tensors

Result = TypeVar("Result")
STACKING_DEVICES = ("cuda",)  # on a CPU compiled kernels answer one request after another


def stacks_on(device: torch.device) -> bool:
    """Return whether stacked kernels answer several requests at once on a device."""
    return device.type in STACKING_DEVICES


@dataclass(frozen=True)
class StackedKernel:
    """A kernel that answers several requests about the same rows: `answer(tile, states)`, one result per state."""

    answer: Callable[[torch.Tensor, list[tuple]], list[Tensors]]

    def __call__(self, tile: torch.Tensor, *state: Any) -> Tensors:
        """Answer one request."""
        return self.answer(tile, [state])[0]


def fit_together(fits: Sequence[Callable[[Rows], Result]], rows: Rows) -> list[Result]:
    """Return the result of each function of rows; a pass is made when every running fit waits for one.

    Each fit has its own thread, but only one runs at a time: they take turns, and a turn lasts until the next pass.

    Parameters
    ----------
    fits : sequence of callable
        Each takes rows, reduces them any number of times, and returns anything. Memory that a fit keeps between passes
        is needed once per fit.
    rows : Rows

    Raises
    ------
    Exception
        The first exception of any fit, after all have ended. KeyboardInterrupt ends all fits.
    """
    passes = _PassScheduler(rows, len(fits))
    gpu = torch.cuda.current_device() if rows.device.type == "cuda" else -1  # each thread has its own current device
    with ThreadPoolExecutor(len(fits), "neurosuper-fit", torch.cuda.set_device, (gpu,)) as pool:
        futures = [pool.submit(passes.run, fit) for fit in fits]
        passes.serve()
    return [future.result() for future in futures]


class _ReductionRequest(NamedTuple):
    """A reduction that a fit waits for."""

    rows: Rows
    kernel: Kernel
    combine: Combine
    state: tuple
    width: int | None

    def is_like(self, other: _ReductionRequest) -> bool:
        """Return whether both have the same rows, kernel and state; a request with tensors equals only itself."""
        if any(isinstance(value, torch.Tensor) for value in (*self.state, *other.state)):
            return self is other
        return self[1:] == other[1:] and self._is_of_rows_of(other)

    def is_stacked_with(self, other: _ReductionRequest) -> bool:
        """Return whether one call of a kernel answers both."""
        if not isinstance(self.kernel, StackedKernel):
            return self is other
        return self.kernel == other.kernel and self._is_of_rows_of(other)

    def _is_of_rows_of(self, other: _ReductionRequest) -> bool:
        return all(map(operator.is_, self.rows.preparation, other.rows.preparation))


class _PassScheduler:
    """Requests of the fits that still run, and the passes that answer them."""

    def __init__(self, rows: Rows, n_running: int) -> None:
        self.rows, self.n_running = rows, n_running
        self.asked: list[tuple[_ReductionRequest, Future[Tensors]]] = []  # all that are not answered, at least
        self.changed, self.turn = Condition(), Lock()
        self.interrupt: KeyboardInterrupt | None = None

    def run(self, fit: Callable[[Rows], Result]) -> Result:
        """Run a fit, in a thread of its own, when it is its turn."""
        try:
            with self.turn:
                return fit(self.rows.reduced_by(self._ask))
        finally:
            with self.changed:
                self.n_running -= 1
                self.changed.notify()

    def _ask(self, rows: Rows, kernel: Kernel, combine: Combine, state: tuple, width: int | None) -> Tensors:
        answer: Future[Tensors] = Future()
        self.turn.release()
        try:
            with self.changed:
                self.asked = [*self._unanswered(), (_ReductionRequest(rows, kernel, combine, state, width), answer)]
                self.changed.notify()
            return answer.result()
        finally:
            self.turn.acquire()

    def _unanswered(self) -> list[tuple[_ReductionRequest, Future[Tensors]]]:
        return [(request, answer) for request, answer in self.asked if not answer.done()]

    def serve(self) -> None:
        """Make passes until no fit runs; after an interrupt, raise it in each fit that makes a request."""
        while self.n_running:
            try:
                with self.changed:
                    self.changed.wait_for(lambda: len(self._unanswered()) == self.n_running)
                    waiting = self._unanswered()
                if waiting:
                    self._answer(waiting)
            except KeyboardInterrupt as error:
                self.interrupt = error
        if self.interrupt is not None:
            raise self.interrupt

    def _answer(self, waiting: list[tuple[_ReductionRequest, Future[Tensors]]]) -> None:
        """Answer these requests; a fit may make its next request before the last of them is answered."""
        try:
            if self.interrupt is not None:
                raise self.interrupt
            totals = _pass_over(self.rows.raw, [request for request, _ in waiting])
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self.interrupt = error
            for _, answer in waiting:
                answer.set_exception(error)
        else:
            for (_, answer), total in zip(waiting, totals, strict=True):
                answer.set_result(total)


def _pass_over(raw: Rows, requests: Sequence[_ReductionRequest]) -> list[Tensors]:
    """Answer all requests in one pass, computing identical ones once."""
    first_like = [next(i for i, one in enumerate(requests) if one.is_like(other)) for other in requests]
    groups: dict[int, list[int]] = {}
    for i in sorted(set(first_like)):
        first = next((j for j in groups if requests[j].is_stacked_with(requests[i])), i)
        groups.setdefault(first, []).append(i)
    totals: dict[int, Tensors] = {}
    for block in raw:
        for group in groups.values():
            for answers in _answers(block, [requests[i] for i in group]):
                for i, terms in zip(group, answers, strict=True):
                    totals[i] = requests[i].combine(totals[i], terms) if i in totals else terms
    return [totals[i] for i in first_like]


def _answers(block: torch.Tensor, group: list[_ReductionRequest]) -> Iterator[list[Tensors]]:
    """Yield the contribution of each tile of a block to the answers of requests that one call answers."""
    rows, kernel, *_ = group[0]
    widths = [request.width for request in group if request.width is not None]
    tiles = rows.tiles_of(block, sum(widths) if widths else None)
    if isinstance(kernel, StackedKernel):
        return (kernel.answer(tile, [request.state for request in group]) for tile in tiles)
    return ([kernel(tile, *group[0].state)] for tile in tiles)
