"""Run a script in a process in which compiled loops check every index."""

import os
import subprocess
import sys
from pathlib import Path


def run_with_bounds_checked(script: Path, cache: Path) -> str:
    """Return what a script prints where numba raises IndexError for an index out of bounds.

    Loops that were compiled without the check are not reused: compiled code is stored in the folder `cache`.
    """
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env, timeout=540)
    if ran.returncode:
        raise AssertionError(f"the script failed: {ran.stderr[-2000:]}")
    return ran.stdout
