"""Rows of responses as torch blocks: one for an array in memory, one after another for a dask array."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

PART_ENTRIES = 2**25  # 128 MiB in float32
Tensors = tuple[torch.Tensor, ...]
Rows = Callable[[torch.Tensor], torch.Tensor]


def to_tensor(values: np.ndarray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an array of any real dtype, layout or byte order as a tensor; a copy only where one is needed."""
    target = torch.empty(0, dtype=dtype).numpy().dtype
    return torch.from_numpy(np.require(values, target, ["C", "W"])).to(device)


def require_finite(values: np.ndarray) -> np.ndarray:
    """Return values of a block unchanged, or refuse NaN and infinity: what could not be checked while it was lazy."""
    if not (finite := np.isfinite(values)).all():
        raise ValueError(
            f"responses hold {int((~finite).sum())} NaN or infinite values in a block of stimuli; drop them"
        )
    return values


class Blocks:
    """Iterate over the rows of responses, prepared, on a device.

    An array in memory is one block, copied to the device and prepared once. A dask array is read anew at every pass,
    one chunk of stimuli in memory at a time.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
    device : torch.device
    dtype : torch.dtype
    prepare : callable
        Applied to each block `(row, unit)`; it must treat rows one by one.
    """

    def __init__(self, responses: xr.DataArray, device: torch.device, dtype: torch.dtype, prepare: Rows) -> None:
        self.responses, self.device, self.dtype = responses, device, dtype
        self.n_rows, self.n_columns = responses.shape
        self.in_memory = responses.chunks is None
        self._prepare = prepare
        self._whole = self._load(responses.values) if self.in_memory else None

    def _load(self, values: np.ndarray) -> torch.Tensor:
        return self._prepare(to_tensor(require_finite(values), self.dtype, self.device))

    def __iter__(self) -> Iterator[torch.Tensor]:
        if self._whole is not None:
            yield self._whole
            return
        stop = 0
        for size in tqdm(self.responses.data.chunks[0], desc="blocks", unit="block", leave=False, delay=2):
            start, stop = stop, stop + size
            yield self._load(self.responses.data[start:stop].compute())

    def parts(self, width: int = 1) -> Iterator[torch.Tensor]:
        """Yield the rows in parts so small that neither a part nor a matrix (row, width) has over 2²⁵ entries."""
        size = max(1, PART_ENTRIES // max(width, self.n_columns))
        for block in self:
            yield from block.split(size)

    def sum(self, function: Callable[[torch.Tensor], Tensors], width: int = 1) -> Tensors:
        """Return the sum over parts (see `parts`) of what `function` returns for each."""
        totals: Tensors = ()
        for part in self.parts(width):
            terms = function(part)
            totals = tuple(a + b for a, b in zip(totals, terms, strict=True)) if totals else terms
        return totals

    def mean(self) -> torch.Tensor:
        """Return the mean row `(unit,)`, accumulated in float64."""
        (total,) = self.sum(lambda part: (part.sum(0, dtype=torch.float64),))
        return (total / self.n_rows).to(self.dtype)

    def take(self, rows: np.ndarray) -> torch.Tensor:
        """Return the rows at these positions, in rising order, prepared; of a dask array only they are read."""
        if self._whole is not None:
            return self._whole[torch.as_tensor(rows, device=self.device)]
        return self._load(self.responses.data[rows].compute())
