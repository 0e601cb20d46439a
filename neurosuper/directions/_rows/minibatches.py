"""Rows of responses in shuffled mini-batches, for methods that learn online."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from neurosuper.directions._rows.rows import Rows


def shuffled_minibatches(rows: Rows, batch_size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield all rows, shuffled, in mini-batches of nearly the same size.

    Rows in memory are shuffled together; of rows that are streamed, the order of blocks and the rows within each block.
    """
    n = count_minibatches(rows.n_rows, batch_size)
    sizes = [len(positions) for positions in np.array_split(np.empty(rows.n_rows), n)]
    if rows.in_memory:
        order = torch.randperm(rows.n_rows, generator=generator).to(rows.device)
        yield from (rows.whole[positions] for positions in order.split(sizes))
        return
    # Rows of a block that do not fill a mini-batch wait for the next block.
    waiting = torch.empty(0, rows.n_columns, dtype=rows.dtype, device=rows.device)
    for i in torch.randperm(len(rows.bounds), generator=generator).tolist():
        block = rows.read(*rows.bounds[i])
        waiting = torch.cat([waiting, block[torch.randperm(len(block), generator=generator).to(rows.device)]])
        while sizes and len(waiting) >= sizes[0]:
            yield waiting[: sizes[0]]
            waiting = waiting[sizes.pop(0) :]


def count_minibatches(n_rows: int, batch_size: int) -> int:
    """Return the number of mini-batches that rows are split into."""
    return -(-n_rows // batch_size)
