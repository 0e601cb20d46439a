"""Fits of arrays many times larger than the memory they take, in as many passes as is promised."""

import subprocess
import sys

import pytest
from sklearn.base import clone

from neurosuper.directions import PCA, KMeans, Random

SCRIPT = """
import resource, sys
import dask.array as da, numpy as np, xarray as xr
from neurosuper.directions import *

def labelled(data):
    labels = dict(stimulus=np.arange(data.shape[0]).astype(str), unit=np.arange(data.shape[1]).astype(str))
    return xr.DataArray(data, dims=("stimulus", "unit"), coords=labels)

def read(block_info):
    (start, stop), _ = block_info[None]["array-location"]
    return np.random.default_rng(start).random((stop - start, 1024), dtype="float32")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

sizes = 50 * (2048,)
lazy = labelled(da.map_blocks(read, chunks=(sizes, (1024,)), dtype="float32", meta=np.empty((0, 0), "float32")))
finder = {finder}
finder.fit(lazy[:2 * 2048])
before = peak()
finder.fit(lazy)
print((peak() - before) / lazy.nbytes)
"""

FINDERS = [
    "Random(device='cpu')",
    "PCA(device='cpu')",
    "KMeans(64, init=np.eye(64, 1024), max_iter=3, tol=None, device='cpu')",  # k-means++ keeps a sample besides
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="tells no peak of memory")
@pytest.mark.parametrize("finder", FINDERS)
def test_419_mb_in_chunks_of_8_mb_take_less_than_a_fifth_of_that(finder):
    """A tenth (three chunks, and parts), a few matrices (unit, unit) in float64, and what the allocator hoards."""
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(finder=finder)], capture_output=True, text=True, check=True
    )
    assert float(told.stdout) < 0.2


PASSES = [
    (Random(), lambda _fitted: 1),  # range and mean
    (PCA(), lambda _fitted: 1),  # scatter
    (PCA(normalize=True), lambda _fitted: 2),  # range; scatter
    (KMeans(4, normalize=False, tol=None, max_iter=3), lambda fitted: 2 + fitted.n_iter_),  # range and sample; labels
    (KMeans(4, tol=None, max_iter=3), lambda fitted: 2 + fitted.n_iter_),
]


@pytest.mark.parametrize(("finder", "passes"), PASSES, ids=[repr(finder) for finder, _ in PASSES])
@pytest.mark.parametrize("n_stimuli", [7, 40, 120])
def test_each_chunk_is_read_once_a_pass(finder, passes, n_stimuli, responses, count_reads):
    lazy, reads = count_reads(responses, n_stimuli)
    fitted = clone(finder).fit(lazy)
    assert set(reads.values()) == {passes(fitted)}
    assert len(reads) == -(-120 // n_stimuli)


def test_codes_are_read_once_and_not_before_they_are_asked_for(responses, count_reads):
    lazy, reads = count_reads(responses, 40)
    codes = PCA().fit(responses).transform(lazy)
    assert not reads
    codes.compute()
    assert set(reads.values()) == {1}
