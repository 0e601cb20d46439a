"""Rows of responses as torch blocks, and reductions over them: one kernel, three scales.

An array in memory is one block, on the device if it fits there, otherwise sent in smaller blocks. A dask array has one
block per chunk of stimuli; the next is read while one is reduced, so that at most three are in memory. With an active
`dask.distributed` client, blocks are reduced on its workers, and results are combined in a fixed order.

A chunk costs about a millisecond regardless of its size: use chunks of 8 to 64 MB. Each pass reads them again;
responses that fit in the memory of a cluster are best `.persist()`ed there. Give a cluster one process per core or per
GPU, with one thread each. dask starts processes with a small `MALLOC_TRIM_THRESHOLD_`, so that memory is allocated
again for each tile; passes are faster with a large one and `MALLOC_MMAP_THRESHOLD_` of 32 MiB (both in
`distributed.nanny.pre-spawn-environ`).
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr

from neurosuper._progress import progress
from neurosuper._torch import pick_device
from neurosuper.directions._rows.cluster import client_in_charge, move, pack, reduce_on
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.products import bare
from neurosuper.directions._rows.tensors import DTYPES, require_finite, to_tensor
from neurosuper.directions._rows.tiles import into_tiles, tile_rows

N_READERS = 8  # threads that read one chunk, if it consists of several chunks of units: files wait and decompress
SUM_ROWS = 512  # rows added in their own dtype; their sums are added in float64, so that rounding stays small

Tensors = tuple[torch.Tensor, ...]
Kernel = Callable[..., Tensors]
Combine = Callable[[Tensors, Tensors], Tensors]


class ColumnRanges(NamedTuple):
    """Smallest, largest and mean response of each unit."""

    minimum: torch.Tensor
    maximum: torch.Tensor
    mean: torch.Tensor


class Rows:
    """Rows of responses on a device, to iterate over in blocks and to reduce; see `prepared`.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
    device : {"cpu", "cuda"} or None
        None uses a GPU if there is one; on a cluster each worker decides for itself.
    dtype : {"float32", "float64"}

    See Also
    --------
    neurosuper.directions.DirectionFinder : finders get their responses as rows.

    Examples
    --------
    >>> import xarray as xr
    >>> rows = Rows(xr.DataArray([[1.0, 2.0], [3.0, 4.0]], dims=("stimulus", "unit")), "cpu")
    >>> rows.n_rows, [block.shape for block in rows]
    (2, [torch.Size([2, 2])])
    """

    def __init__(self, responses: xr.DataArray, device: str | None, dtype: str = "float32") -> None:
        self.n_rows, self.n_columns = responses.shape
        self.indexes = responses.indexes
        self.is_lazy, self.source_dtype = responses.chunks is not None, responses.dtype
        self._data: Any = responses.data.rechunk({1: -1}) if self.is_lazy else responses.values
        self._has_unit_chunks = self.is_lazy and responses.data.numblocks[1] > 1
        self._device_name = device
        self.device, self.dtype = pick_device(device), DTYPES[dtype]
        self.preparation = Preparation()
        self._raw: Rows | None = None
        self._ranges: dict[bool, ColumnRanges] = {}  # of raw and of normalised rows
        self._whitened_ranges: ColumnRanges | None = None
        self._kept: _PickedRows | None = None
        self._reducer: Callable[..., Tensors] | None = None

    @property
    def raw(self) -> Rows:
        """The same rows without preparation."""
        return self._raw or self

    def reduced_by(self, reducer: Callable[..., Tensors]) -> Rows:
        """Return the same rows, reduced by `ask(rows, kernel, combine, state, width)`: see `fit_together`."""
        other = copy.copy(self)
        other._reducer, other._raw = reducer, self._raw and self._raw.reduced_by(reducer)
        if self.in_memory:
            other.whole = self.whole
        return other

    def prepared(self, preparation: Preparation) -> Rows:
        """Return the same rows, prepared in this way only."""
        if preparation.is_nothing:
            return self.raw
        other = copy.copy(self)
        other._raw, other.preparation = self._raw or self, preparation
        other.__dict__.pop("whole", None)
        other._whitened_ranges = None
        return other

    @cached_property
    def in_memory(self) -> bool:
        """Whether all rows are in the memory of the device, in `whole`."""
        if self._raw:
            return self._raw.in_memory
        if self.is_lazy or self.device.type == "cpu":
            return not self.is_lazy
        # The raw rows, the prepared ones, and as much again for a kernel.
        free, _ = torch.cuda.mem_get_info(self.device)
        return 3 * self.n_rows * self.n_columns * self.dtype.itemsize < free

    @cached_property
    def whole(self) -> torch.Tensor:
        """All rows `(row, unit)`, prepared once; only if they are `in_memory`.

        Read-only: without preparation, it may share memory with the user's array.
        """
        if not self.in_memory:
            raise RuntimeError("rows that are streamed are never all in memory")
        return self.preparation(self._raw.whole) if self._raw else self._load(self._data)

    def _load(self, values: np.ndarray) -> torch.Tensor:
        if self.is_lazy:
            require_finite(values)
        return self.preparation(to_tensor(values, self.dtype, self.device))

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """First and last row (exclusive) of each block."""
        if self.is_lazy:
            edges = np.cumsum([0, *self._data.chunks[0]]).tolist()
            return [(start, stop) for start, stop in pairwise(edges) if start < stop]
        size = self.n_rows if self.in_memory else tile_rows(self.device, self.n_columns)
        return [(start, min(start + size, self.n_rows)) for start in range(0, self.n_rows, size)]

    @cached_property
    def _chunks(self) -> dict[tuple[int, int], Any]:
        """The blocks of a dask array, raw and not yet read, by their bounds."""
        chunks = self._data.to_delayed(optimize_graph=True).ravel()
        held = [chunk for chunk, n_rows in zip(chunks, self._data.chunks[0], strict=True) if n_rows]
        return dict(zip(self.bounds, held, strict=True))

    def read(self, start: int, stop: int, pool: Executor | None = None) -> torch.Tensor:
        """Return the rows from `start` to `stop`, prepared, on the device; best between `bounds`."""
        if self.in_memory:
            return self.whole[start:stop]
        if not self.is_lazy:
            return self._load(self._data[start:stop])
        chunk = self._chunks[start, stop] if (start, stop) in self._chunks else self._data[start:stop]
        return self._load(self._compute(chunk, pool))

    def _compute(self, chunk: Any, pool: Executor | None) -> np.ndarray:
        """Read a chunk with the threads of a pool: dask would start threads for each pass, and each keeps memory."""
        import dask.base

        if pool is None or dask.base.get_scheduler() is not None:
            return chunk.compute()
        return chunk.compute(pool=pool) if self._has_unit_chunks else chunk.compute(scheduler="synchronous")

    def __iter__(self) -> Iterator[torch.Tensor]:
        if self.in_memory:
            yield self.whole
        elif self._raw:
            yield from (self.preparation(block) for block in self._raw)
        else:
            yield from self._stream(self.bounds, self._kept)

    def _stream(self, bounds: list[tuple[int, int]], picked: _PickedRows | None) -> Iterator[torch.Tensor]:
        """Yield blocks, while the next one is read and picked rows are copied from it."""

        def read(start: int, stop: int) -> torch.Tensor:
            block = self.read(start, stop, pool)
            if picked is not None and not picked.is_complete:
                picked.put(block, start, stop)
            return block

        with (
            ThreadPoolExecutor(1 + N_READERS, "neurosuper-read") as pool,
            progress(total=len(bounds), desc="blocks", unit="block", leave=False) as bar,
        ):
            ahead = pool.submit(read, *bounds[0])
            for following in [*bounds[1:], None]:
                block = ahead.result()
                if following is not None:
                    ahead = pool.submit(read, *following)
                yield block
                bar.update()

    def tiles(self, width: int | None = 1) -> Generator[torch.Tensor, None, None]:
        """Yield the rows in tiles, small enough that a tile and a matrix (row, width) stay in the cache.

        See `into_tiles`. If `width` is None yield whole blocks, for kernels that divide them themselves.
        """
        if self.in_memory:
            yield from into_tiles(self.whole, width)
            return
        for block in self.raw:
            yield from self.tiles_of(block, width)

    def tiles_of(self, block: torch.Tensor, width: int | None) -> Iterator[torch.Tensor]:
        """Yield the prepared tiles of a raw block, from `whole` if that was computed: the block is then all rows."""
        if "whole" in vars(self):
            return iter(into_tiles(self.whole, width))
        return (self.preparation(tile) for tile in into_tiles(block, width))

    def sum(self, kernel: Kernel, *state: Any, width: int | None = 1) -> Tensors:
        """Return the sum over tiles (see `tiles`) of the tensors that `kernel(tile, *state)` returns."""
        return self.reduce(kernel, add, *state, width=width)

    def reduce(self, kernel: Kernel, combine: Combine, *state: Any, width: int | None = 1) -> Tensors:
        """Return what `kernel(tile, *state)` returns for each tile, combined pair by pair, on the device.

        `combine` may overwrite its first argument. `kernel` and `combine` are functions of a module, and `state` is
        their further input, so that both can be sent to a worker; tensors in `state` are moved to the device of the
        tile.
        """
        if self._reducer is not None:
            return self._reducer(self, kernel, combine, state, width)
        if self.is_lazy and (client := client_in_charge()) is not None:
            return move(self._reduce_on(client, kernel, combine, state, width), self.device)
        with closing(self.tiles(width)) as tiles:
            return _reduce_tiles(tiles, kernel, combine, state)

    def _reduce_on(self, client: Any, kernel: Kernel, combine: Combine, state: tuple, width: int | None) -> Tensors:
        """Reduce blocks on the workers; picked rows come back from the same pass."""
        raw = self.raw
        job = _Job(kernel, state, width, combine, self.preparation, self._device_name, self.dtype).packed()
        kept = raw._kept if raw._kept is not None and not raw._kept.is_complete else None
        picks = [(raw._chunks[block], at) for block, at in kept.within(raw.bounds).items()] if kept else []
        totals, picked = reduce_on(client, raw._chunks.values(), _run, job, job.n_bytes, picks)
        if kept is not None:
            kept.fill(torch.cat([raw._load(rows) for rows in picked]))
        return totals

    def map(self, kernel: Kernel, *state: Any, width: int | None = 1) -> Tensors:
        """Return what `kernel(tile, *state)` returns for each row, in the order of rows, on the device."""
        if self._reducer is not None or (self.is_lazy and client_in_charge() is not None):
            return self.reduce(kernel, join, *state, width=width)
        columns: Tensors = ()
        start = 0
        with closing(self.tiles(width)) as tiles:
            for tile in tiles:
                results = kernel(tile, *state)
                # Small results left between large temporary ones would keep their memory from being used again.
                columns = columns or tuple(result.new_empty(self.n_rows, *result.shape[1:]) for result in results)
                for column, result in zip(columns, results, strict=True):
                    column[start : start + len(tile)] = result
                start += len(tile)
        return columns

    @property
    def column_ranges(self) -> ColumnRanges:
        """Minimum, maximum and mean of each unit's prepared responses; one pass the first time they are needed."""
        normalize, mean, whitening, scale = self.preparation
        if whitening is not None:
            self._whitened_ranges = self._whitened_ranges or self._compute_ranges()
            return self._whitened_ranges
        # Scaling and centring change ranges by a factor and a shift: raw and normalised ranges serve all of these.
        if normalize not in self._ranges:
            plain = self.preparation._replace(mean=None) if normalize else Preparation()
            unmoved = self if mean is None and (normalize or scale == 1) else self.prepared(plain)
            self._ranges[normalize] = unmoved._compute_ranges()
        factor, shift = (1.0 if normalize else scale), (0.0 if mean is None else mean.to(self.device))
        return ColumnRanges(*(factor * values - shift for values in self._ranges[normalize]))

    def _compute_ranges(self) -> ColumnRanges:
        least, largest, total = self.reduce(_range_and_total, _combine_ranges)
        return ColumnRanges(least, largest, (total / self.n_rows).to(self.dtype))

    def mean(self) -> torch.Tensor:
        """Return the mean row `(unit,)`; groups of 512 rows are added in float64."""
        return self.column_ranges.mean

    def keep(self, positions: np.ndarray) -> None:
        """Copy the rows at these sorted positions in the next pass, so that `take` need not read them again."""
        if not self.in_memory:
            self.raw._kept = _PickedRows(positions, self.n_columns, self.dtype, self.device)

    def take(self, positions: np.ndarray) -> torch.Tensor:
        """Return the prepared rows at these sorted positions; only blocks that contain some are read."""
        if self.in_memory:
            return torch.as_tensor(bare(self.whole)[positions])
        return self.preparation(self.raw._take_raw(positions))

    def _take_raw(self, positions: np.ndarray) -> torch.Tensor:
        kept, self._kept = self._kept, None
        if kept is not None and kept.is_complete and np.array_equal(kept.positions, positions):
            return kept.rows
        if not self.is_lazy:
            return self._load(self._data[positions])
        if client_in_charge() is not None:
            return self._load(self._data[positions].compute())
        taken = _PickedRows(positions, self.n_columns, self.dtype, self.device)
        for _ in self._stream(list(taken.within(self.bounds)), taken):
            pass
        return taken.rows


class _PickedRows:
    """Rows at given positions, copied block by block."""

    def __init__(self, positions: np.ndarray, n_columns: int, dtype: torch.dtype, device: torch.device) -> None:
        self.positions, self.is_complete = positions, False
        self.rows = torch.empty(len(positions), n_columns, dtype=dtype, device=device)

    def within(self, bounds: list[tuple[int, int]]) -> dict[tuple[int, int], np.ndarray]:
        """Return the positions of the rows in their block, for each block that contains any."""
        edges = {block: np.searchsorted(self.positions, block) for block in bounds}
        return {block: self.positions[first:last] - block[0] for block, (first, last) in edges.items() if first < last}

    def put(self, block: torch.Tensor, start: int, stop: int) -> None:
        """Copy the rows that are in a block; blocks come in order."""
        first, last = np.searchsorted(self.positions, (start, stop))
        self.rows[first:last] = torch.as_tensor(bare(block)[self.positions[first:last] - start])
        self.is_complete = stop > self.positions[-1]

    def fill(self, rows: torch.Tensor) -> None:
        """Set all rows at once."""
        self.rows, self.is_complete = rows, True


def add(a: Tensors, b: Tensors) -> Tensors:
    """Return the sums of two tuples of tensors."""
    return tuple(map(operator.add, a, b))


def join(a: Tensors, b: Tensors) -> Tensors:
    """Return two tuples of tensors, joined along rows."""
    return tuple(torch.cat(pair) for pair in zip(a, b, strict=True))


def _range_and_total(tile: torch.Tensor) -> Tensors:
    """Return the minimum, maximum and sum of each unit."""
    # Faster than `aminmax(dim=0)`, and than a sum straight in float64.
    totals = torch.stack([rows.sum(0) for rows in tile.split(SUM_ROWS)])
    return tile.amin(0), tile.amax(0), totals.sum(0, dtype=torch.float64)


def _combine_ranges(a: Tensors, b: Tensors) -> Tensors:
    return torch.minimum(a[0], b[0]), torch.maximum(a[1], b[1]), a[2] + b[2]


def _reduce_tiles(tiles: Iterator[torch.Tensor], kernel: Kernel, combine: Combine, state: tuple) -> Tensors:
    return reduce(combine, (kernel(tile, *state) for tile in tiles))


class _Job(NamedTuple):
    """All that a worker needs to reduce a block of raw rows."""

    kernel: Kernel
    state: tuple
    width: int | None
    combine: Combine
    preparation: Preparation
    device: str | None
    dtype: torch.dtype

    def packed(self) -> _Job:
        return self._replace(state=pack(self.state), preparation=Preparation(*pack(self.preparation)))

    @property
    def n_bytes(self) -> int:
        return sum(value.nbytes for value in (*self.state, *self.preparation) if isinstance(value, torch.Tensor))


def _run(values: np.ndarray, job: _Job) -> Tensors:
    """Return the result of reducing one block on a worker, in the memory of its CPU."""
    device = pick_device(job.device)
    R = to_tensor(require_finite(values), job.dtype, device)
    tiles = (job.preparation(tile) for tile in into_tiles(R, job.width))
    terms = _reduce_tiles(tiles, job.kernel, job.combine, move(job.state, device))
    return pack(terms)
