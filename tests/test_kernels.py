"""Compiled kernels: within bounds, with or without a cache on disk, and after a fork."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bounds import run_with_bounds_checked

FOLDER = Path(__file__).parent


def run_python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=540,
    )


@pytest.mark.slow
def test_no_kernel_leaves_its_arrays_and_none_is_forgotten(request):
    printed = run_with_bounds_checked(
        FOLDER / "run_kernels.py", request.config.cache.mkdir("kernels-with-bounds-checks")
    )
    number, _, forgotten = printed.partition(" kernels; not run:")
    assert int(number) > 40
    assert forgotten.split() == [], "run them in tests/run_kernels.py"


FIT = """
import os, sys
import numpy as np
from neurosuper import _kernels

@_kernels.njit()
def add_one(x):
    return x + 1

print(add_one(1))
"""
REFUSE = """
from numba.core import caching
def refuse(self):
    raise OSError("read-only")
for name in dir(caching):
    if "Locator" in name:
        setattr(getattr(caching, name), "ensure_cache_path", refuse)
"""
FULL = """
from numba.core import caching
def refuse(self, *_):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = refuse
"""


@pytest.mark.parametrize("fault", [REFUSE, FULL], ids=["nowhere to write", "disk full"])
def test_kernels_compile_where_no_cache_can_be_written(fault, tmp_path):
    (tmp_path / "script.py").write_text(fault + FIT)
    done = run_python(tmp_path / "script.py", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr


@pytest.mark.parametrize("damage", [b"", b"\x80\x04cut"], ids=["empty", "cut"])
def test_a_damaged_cache_is_replaced(damage, tmp_path):
    (tmp_path / "script.py").write_text(FIT)
    cache = tmp_path / "cache"
    first = run_python(tmp_path / "script.py", NUMBA_CACHE_DIR=str(cache))
    files = [file for file in cache.rglob("*") if file.is_file()]
    assert first.stdout == "2\n"
    assert len(files) == 2  # an index, and the code
    for file in files:
        file.write_bytes(damage)
        again = run_python(tmp_path / "script.py", NUMBA_CACHE_DIR=str(cache))
        assert (again.stdout, again.returncode) == ("2\n", 0), again.stderr
    assert all(file.stat().st_size > 100 for file in files)


FORK = """
import multiprocessing
import numpy as np
import xarray as xr
import neurosuper as ns

R = np.random.default_rng(0).gamma(1, 5, (600, 70)).astype("float32")
FINDERS = [ns.KMeans(70, max_iter=3, tol=None), ns.DictionaryLearning(8, max_iter=1), ns.PCA(3)]
labels = {"stimulus": [f"s{i}" for i in range(600)], "unit": [f"u{i}" for i in range(70)]}
lazy = xr.DataArray(R, labels, ("stimulus", "unit")).chunk(stimulus=100)

def fit(i):
    if i < 3:
        return FINDERS[i].fit(R).directions_.values
    return FINDERS[2].fit(lazy).transform(lazy).compute().values  # on the threads of dask

expected = [fit(i) for i in range(4)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(fit, range(4)).get(timeout=300)
print([float(abs(a - b).max()) < 1e-4 for a, b in zip(expected, found)])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_processes_forked_after_a_fit_give_the_same_fit(tmp_path):
    (tmp_path / "script.py").write_text(FORK)
    done = run_python("-W", "ignore", tmp_path / "script.py", OMP_NUM_THREADS="2", NUMBA_NUM_THREADS="2")
    assert done.stdout == "[True, True, True, True]\n", done.stderr[-2000:]
