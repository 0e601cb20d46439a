"""Kill fetches at random moments: `kill_fetches` counts the wrong files found after each."""

import hashlib
import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from neurosuper.datasets.cache import fetch
from tests.datasets.dandi_server import make_manifest
from tests.datasets.faulty_server import FaultyServer

FILES = {f"day{i}/rates.bin": np.random.default_rng(i).bytes(400_000 + i) for i in range(3)}
PINNED = list(FILES)[:2]  # the third can be checked only against the server's headers


def _fetch(manifest, cache):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    fetch(manifest, cache=cache)


def kill_fetches(folder, kills, seed=0):
    """Kill a number of fetches, complete each, and count the faults found.

    Parameters
    ----------
    folder : Path
        Empty folder to work in.
    kills : int
        At least how many processes are killed.
    seed : int, optional

    Returns
    -------
    Counter
        "kills" and "runs"; and "wrong" (a final name with other bytes), "unequal" (a run that did not end with all
        files as they are), "left over" (parts and scraps after the end), all 0 if all is well.
    """
    rng, counts = np.random.default_rng(seed), Counter(kills=0, runs=0, wrong=0, unequal=0, left_over=0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.datasets.killed_fetches"])
    with FaultyServer(FILES) as server:
        server.pause = 0.004
        pins = [{"path": path, "value": hashlib.sha256(FILES[path]).hexdigest()} for path in PINNED]
        manifest = make_manifest({"kind": "http", "url": server.url}, list(FILES), checksums=pins)
        _run(context, manifest, folder / "first", None)  # includes the time of imports
        usual = _run(context, manifest, folder / "usual", None)
        while counts["kills"] < kills:
            cache = Path(folder, f"run{counts['runs']}")
            for _ in range(rng.integers(1, 4)):
                counts["kills"] += _run(context, manifest, cache, rng.uniform(0, usual)) is None
                counts["wrong"] += sum(found[path] != FILES[path] for found in [_finals(cache)] for path in found)
            _run(context, manifest, cache, None)
            counts["runs"] += 1
            counts["unequal"] += _finals(cache) != FILES
            counts["left_over"] += len([*cache.rglob("*.part"), *cache.rglob(".staging/**/*.json")])
    return counts


def _run(context, manifest, cache, limit):
    """Return how long a fetch takes, or None if it was killed at its limit."""
    process = context.Process(target=_fetch, args=(manifest, cache))
    begin = time.monotonic()
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return time.monotonic() - begin


def _finals(cache):
    """Return the files under their final names."""
    root = cache / "planted" / "unverified"
    return {path: (root / path).read_bytes() for path in FILES if (root / path).exists()}
