"""Reductions on a `dask.distributed` cluster: blocks are reduced by the workers that have them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import numpy as np
import torch

FAN_IN = 8  # blocks whose results one task combines
WARN_ABOVE = "distributed.admin.large-graph-warning-threshold"  # raised by the size of the state that a job carries


def client_in_charge() -> Any:
    """Return the `dask.distributed` client that would compute a dask array, or None."""
    import dask.base

    client = getattr(dask.base.get_scheduler(), "__self__", None)
    return client if type(client).__module__.startswith("distributed") else None


def reduce_on(
    client: Any, chunks: Iterable[Any], run: Callable, job: Any, n_bytes: int, picks: Iterable[tuple[Any, np.ndarray]]
) -> tuple[tuple[torch.Tensor, ...], list[np.ndarray]]:
    """Return what `run(chunk, job)` returns for each chunk, combined by `job.combine`, and rows picked from chunks.

    One task per chunk, and a tree of tasks that combines results in a fixed order. All input of a task is part of the
    graph, so that it can be sent again if a worker is lost.

    Parameters
    ----------
    client : Client
    chunks : iterable of dask.delayed
    run, job
        A function of a module, and its argument, of `n_bytes`.
    picks : iterable of (dask.delayed, array of int)
        Chunks, and positions of rows in them.
    """
    import dask
    from dask.utils import parse_bytes

    shared = dask.delayed(job, name=f"job-{uuid.uuid4().hex}", traverse=False)
    delay = [dask.delayed(function, pure=False, traverse=False) for function in (run, _pick)]
    terms = [delay[0](chunk, shared) for chunk in chunks]
    merge = dask.delayed(_merge, pure=False)
    while len(terms) > 1:
        terms = [merge(job.combine, *terms[i : i + FAN_IN]) for i in range(0, len(terms), FAN_IN)]
    picked = [delay[1](chunk, at) for chunk, at in picks]
    with dask.config.set({WARN_ABOVE: parse_bytes(dask.config.get(WARN_ABOVE)) + n_bytes}):
        total, *rows = dask.compute(terms[0], *picked, scheduler=client)
    return total, rows


def _merge(combine: Callable, *terms: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    first = tuple(tensor.clone() for tensor in terms[0])  # a task may run again
    return reduce(combine, terms[1:], first)


def _pick(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    return values[at]


def move(values: tuple, device: torch.device) -> tuple:
    """Return a tuple whose tensors are on a device."""
    return tuple(value.to(device) if isinstance(value, torch.Tensor) else value for value in values)


def pack(values: tuple) -> tuple:
    """Return tensors that can be sent: on the CPU, and copied if they are views of larger memory."""
    values = move(values, torch.device("cpu"))
    views = [isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes for value in values]
    return tuple(value.clone() if is_view else value for value, is_view in zip(values, views, strict=True))
