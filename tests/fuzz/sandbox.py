"""Run calls, each in its own process with limits of memory and time, and report how each ended.

A server process imports everything once, has no threads, and forks for every call (20 to 200 ms each). It reads
requests as lines of JSON from its standard input, and writes outcomes to its standard output.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# MiB of addresses that a call may take in addition to the server's. A study takes 1,600 where loops are not compiled
# yet, with an arena of malloc for each thread; at most 800 are in memory.
MEMORY = 2500
SECONDS = 40  # limit of a call; generous, since the machine may be busy
PROMISED = (ValueError, TypeError, OSError, ImportError, RuntimeError)  # the errors that the documentation names
ROOT = Path(__file__).resolve().parents[2]


class Sandbox:
    """Client of the server: `run(name, path, …)` returns how a call ended; the module lists calls in a dict `CALLS`."""

    def __init__(self, module: str) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "TQDM_DISABLE"), "1")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.sandbox", module],
            cwd=ROOT,
            env=os.environ | one_thread | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str, *paths: Path, **limits: float) -> dict[str, Any]:
        """Return the outcome of a call: `kind` (ok, error, crash, hang, memory), and `digest`, `text` or `warnings`.

        Limits are `seconds` (how long it may take), `killed_after` (seconds after which it is killed) and `file_size`
        (bytes that it may write to one file).
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([name, [str(path) for path in paths], limits]) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate("")


def fault_of(outcome: dict[str, Any]) -> str:
    """Return the fault in an outcome: a crash, a hang, all memory taken, or an error undocumented or of many lines."""
    if outcome["kind"] in ("crash", "hang", "memory"):
        return outcome["kind"]
    if outcome["kind"] == "error":
        if not outcome["promised"]:
            return f"raises {outcome['type']}: {outcome['text'][:300]}"
        if "\n" in outcome["text"].strip():
            return f"raises {outcome['text'].count(chr(10)) + 1} lines: {outcome['text'][:300]}"
    return ""


def digest(result: Any) -> str:
    """Return a hash of the arrays, labels and coords that a call returned."""
    import numpy as np
    import xarray as xr

    if isinstance(result, xr.DataArray | xr.Dataset):
        parts = {str(name): variable.values for name, variable in result.reset_coords().variables.items()}
        if isinstance(result, xr.DataArray):
            parts = {"": result.values} | {str(name): coord.values for name, coord in result.coords.items()}
    else:
        parts = {"": np.asarray(result)}
    sha256 = hashlib.sha256()
    for name in sorted(parts):
        values = parts[name]
        sha256.update(f"{name} {values.shape}".encode())
        text = values.dtype.kind not in "iufbc"
        sha256.update(repr(values.tolist()).encode() if text else np.ascontiguousarray(values, "f8").tobytes())
    return sha256.hexdigest()


def _counts_of(result: Any) -> dict[str, int]:
    """Return the counts in the attrs of a result, such as the number of presentations that were not observed."""
    attrs = getattr(result, "attrs", {})
    return {name: int(value) for name, value in attrs.items() if name.startswith("n_")}


def isolated(
    call: Callable[[], Any], seconds: float = SECONDS, killed_after: float | None = None, file_size: float | None = None
) -> dict[str, Any]:
    """Return how a call ends in a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run_child(call, writing, file_size)
    os.close(writing)
    outcome, deadline = b"", time.monotonic() + (seconds if killed_after is None else killed_after)
    while (left := deadline - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        part = os.read(reading, 1 << 16)
        if not part:
            break
        outcome += part
    else:
        os.kill(child, signal.SIGKILL)
        outcome = b'{"kind": "hang"}' if killed_after is None else b'{"kind": "killed"}'
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return json.loads(outcome) if outcome else {"kind": "crash", "status": status}


def _run_child(call: Callable[[], Any], writing: int, file_size: float | None) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (MEMORY << 20), now + (MEMORY << 20)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write raises OSError instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_size), int(file_size)))
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(BaseException):
        warnings.simplefilter("always")
        try:
            result = call()
            outcome = {"kind": "ok", "digest": digest(result), "counts": _counts_of(result)}
        except MemoryError as error:
            outcome = {"kind": "memory", "text": str(error)}
        except BaseException as error:
            memory = "Unable to allocate" in str(error) or "MemoryError" in str(error)
            outcome = {"kind": "memory" if memory else "error", "type": type(error).__name__, "text": str(error)}
            outcome["promised"] = isinstance(error, PROMISED)
        outcome["warnings"] = [str(warning.message) for warning in caught if warning.category is UserWarning]
        with os.fdopen(writing, "wb") as file:
            file.write(json.dumps(outcome).encode())
    os._exit(0)


def _serve(calls: dict[str, Callable[..., Any]]) -> None:
    outcomes = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints of a call must not mix with outcomes
    for line in sys.stdin:
        name, paths, limits = json.loads(line)
        call = partial(calls[name], *map(Path, paths))
        print(json.dumps(isolated(call, **limits)), file=outcomes, flush=True)


if __name__ == "__main__":
    _serve(importlib.import_module(sys.argv[1]).CALLS)
