"""Running a script in a process of its own where compiled loops check every index."""

import os
import subprocess
import sys
from pathlib import Path


def run_with_bounds_checked(script: str, folder: Path) -> str:
    """Return what a script prints where numba raises IndexError for an index out of bounds.

    Loops that were compiled without the check are not reused: what is compiled is stored in the folder.
    """
    env = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(folder)}
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    if ran.returncode:
        raise AssertionError(f"the script failed: {ran.stderr[-2000:]}")
    return ran.stdout
