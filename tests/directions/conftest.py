"""A dask array that counts how often it is read, and a real population."""

from collections import Counter
from collections.abc import Callable

import dask.array as da
import numpy as np
import pytest
import xarray as xr


@pytest.fixture
def count_reads() -> Callable[[xr.DataArray, int], tuple[xr.DataArray, Counter]]:
    """Make responses lazy, in chunks of `n_stimuli`, and count how often each chunk is read.

    `lazy, reads = count_reads(responses, 40)`; after a pass over all of them, `set(reads.values()) == {1}`.
    """

    def count(responses: xr.DataArray, n_stimuli: int) -> tuple[xr.DataArray, Counter]:
        reads: Counter = Counter()

        def read(block_info: dict) -> np.ndarray:
            (start, stop), _ = block_info[None]["array-location"]
            reads[start] += 1
            return responses.values[start:stop]

        sizes = np.full(-(-len(responses) // n_stimuli), n_stimuli)
        sizes[-1] -= sizes.sum() - len(responses)
        chunks = tuple(sizes.tolist()), (responses.sizes["unit"],)
        lazy = da.map_blocks(read, chunks=chunks, dtype=responses.dtype, meta=np.empty((0, 0), responses.dtype))
        return responses.copy(data=lazy), reads

    return count


@pytest.fixture
def v4(real_data, make_responses) -> xr.DataArray:
    """Spike counts of 89 units of V4 to 1,200 images, session 201025."""
    return make_responses(np.load(real_data / "v4" / "responses_avg_201025.npy").T.astype(np.float64))
