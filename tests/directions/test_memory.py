"""Memory of a fit and its codes grows in proportion to the responses, along either dim."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

PEAK = Path("/proc/self/clear_refs")
SIZES = {"units": [(300, 4000), (300, 8000)], "stimuli": [(40_000, 30), (80_000, 30)]}
SCRIPT = """
import ctypes, gc, sys, warnings
import numpy as np, torch
from neurosuper.directions import *

warnings.simplefilter("ignore")
FINDERS = [
    Units(), Random(4), Exemplars(4), CovarianceMatched(4), PCA(4),
    KMeans(8, max_iter=2, tol=None), ICA(4, max_iter=2, tol=None),
    NMF(4, max_iter=2, tol=None), DictionaryLearning(8, max_iter=1), Archetypal(4, max_iter=1, tol=None),
    SparseAutoencoder(8, n_active=2, max_iter=1), KMeans(8, max_iter=1, tol=None, normalize=False),
]

def read(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

def peak(finder, R):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = read("VmRSS")
    finder.fit(R).transform(R)
    return read("VmHWM") - before

for finder in FINDERS:
    finder.set_params(device="cpu").fit(np.random.default_rng(0).random((300, 100), np.float32))
    for sizes in SIZES.values():  # so small that they are scaled, which takes one more copy
        R = [np.random.default_rng(0).random(size, np.float32) * np.float32(1e-12) for size in sizes]
        print(type(finder).__name__, *sizes[1], *(peak(finder, r) for r in R))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access(PEAK, os.W_OK), reason="this system does not reset the peak of a process's memory")
def test_memory_grows_in_proportion_to_the_responses():
    assert hasattr(ctypes.CDLL(None), "malloc_trim")
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}  # freed memory goes back
    environment = os.environ | at_once | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"SIZES = {SIZES}{SCRIPT}"], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 12 * 2
    steep = [line for line in lines if int(line[-1]) > 2.3 * int(line[-2]) + 8192]  # kB
    assert not steep
