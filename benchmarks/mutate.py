"""Mutation score: which changes of one operator, number or condition do the tests notice?

A copy of the checkout is changed in one place at a time by cosmic-ray, and the tests of that module are run. A change
that all tests pass survives: either it changes nothing, or a test is missing. Run as `make mutate`, or for few modules
as `python benchmarks/mutate.py --each 20 reliability inference/effect`. It is no part of CI: a change takes 5 to 30 s.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.work_db import WorkDB
from cosmic_ray.work_item import WorkItem

ROOT = Path(__file__).resolve().parent.parent
# numerics, inference and loaders; the tests of `a/b.py` are `tests/a/test_b.py`, except for those named in TESTS
MODULES = (
    *("reliability", "repetitions", "responses", "copies"),
    *("_joins", "_content", "_labels", "_layouts", "_fingerprint"),
    *(f"inference/{name}" for name in ("bootstrap", "effect", "items", "multiplicity", "permutation", "power")),
    *(f"interpretability/{name}" for name in ("cross_unit_task", "explained", "human_judgements", "index")),
    *(f"interpretability/{name}" for name in ("human_reliability", "low_level_statistics")),
    *(f"interpretability/{name}" for name in ("machine_psychophysics", "nulls", "random_splits", "ranking")),
    *(f"interpretability/{name}" for name in ("stimulus_sampling", "trials")),
    *(f"metrics/{name}" for name in ("base", "color", "distances", "features", "label", "lpips", "pixel", "slabs")),
    *(f"comparison/{name}" for name in ("contrast", "fitting", "scoring", "side_by_side", "table")),
    *(f"directions/{name}" for name in ("ica", "kmeans", "nmf", "pca", "planted", "random", "settings")),
    *(f"directions/_rows/{name}" for name in ("moments",)),
    *(f"directions/_solvers/{name}" for name in ("center_search", "hals", "ica_contrasts", "nearest_centers")),
    *(f"directions/_solvers/{name}" for name in ("sparse_coding",)),
    *(f"datasets/{name}" for name in ("answers",)),
    *(f"loaders/{name}" for name in ("array", "cadena", "cowley", "file_checks", "neuroid", "nsd", "stringer", "tvsd")),
    *(f"loaders/nwb/{name}" for name in ("conditions", "frames", "loading", "presentations", "recording")),
    *(f"loaders/nwb/{name}" for name in ("spikes", "units", "validate")),
)
TESTS = {
    **{
        f"metrics/{name}": [f"tests/metrics/test_{name}.py", "tests/metrics/test_base.py"]
        for name in ("color", "features", "label", "lpips", "pixel")
    },
    "_content": ["tests/test_content.py", "tests/test_copies.py"],
    "directions/_solvers/nearest_centers": ["tests/directions/test_kmeans.py"],
    "directions/_solvers/center_search": ["tests/directions/test_kmeans.py"],
    "metrics/slabs": ["tests/metrics/test_pairwise_distances.py", "tests/interpretability/test_index.py"],
    "loaders/nwb/loading": ["tests/loaders/nwb/test_loading.py", "tests/loaders/nwb/test_quirks.py"],
    "loaders/nwb/units": [
        "tests/loaders/nwb/test_recording.py",
        "tests/loaders/nwb/test_loading.py",
        "tests/loaders/nwb/test_quirks.py",
    ],
    "inference/items": ["tests/inference"],
    "comparison/fitting": ["tests/comparison"],
    "comparison/scoring": ["tests/comparison"],
    "metrics/distances": ["tests/metrics/test_distances.py", "tests/interpretability/test_index.py"],
}
# kinds of changes that do not concern numerics: of decorators and of `X | None` in types
LEFT_OUT = ("core/RemoveDecorator", "core/ReplaceBinaryOperator_*_Bit*", "core/ReplaceBinaryOperator_Bit*", "*Shift*")
HEAVY = ("dask.array", "h5py", "numba", "scipy.stats", "sklearn.decomposition", "torch", "xarray")
LONGEST = 600  # seconds; upper bound for the tests of a module
PATIENCE = 5  # a change is also noticed if the tests take this many times as long, for instance in a loop without end


def main() -> None:
    """Change every module in a few places, and print the changes that survive, and the score."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("modules", nargs="*", default=list(MODULES), help="such as inference/effect")
    options.add_argument("--each", type=int, default=10, help="number of random changes per module")
    options.add_argument("--seconds", type=float, default=3600, help="per module; no change is started later")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "demo_output", "__pycache__", "*.egg-info"))
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": str(copy), "TQDM_DISABLE": "1", "NUMBA_CACHE_DIR": str(Path(folder, "numba"))}
        sys.path.insert(0, str(copy))
        for name in HEAVY:
            importlib.import_module(name)
        n_killed = n_all = 0
        for module in asked.modules:
            killed, survivors = _try(module, asked.each, asked.seconds, asked.seed, Path(folder))
            n_killed, n_all = n_killed + killed, n_all + killed + len(survivors)
            print(f"{module}: {killed} of {killed + len(survivors)} noticed", flush=True)
            print("".join(f"    survives  {change}\n" for change in survivors), end="", flush=True)
    print(f"mutation score: {n_killed} of {n_all} changes noticed ({n_killed / max(n_all, 1):.0%})")


def _try(module: str, each: int, seconds: float, seed: int, folder: Path) -> tuple[int, list[str]]:
    """Return the number of changes of a module that its tests notice, and the changes that they do not notice."""
    room, _, name = module.rpartition("/")
    tests = TESTS.get(module, [str(Path("tests", room, f"test_{name.lstrip('_')}.py"))])
    killed, survivors, path = 0, [], Path("neurosuper", f"{module}.py")
    sys.dont_write_bytecode = False
    start = time.monotonic()
    if not _pass(tests, _Quickest(folder / "seconds.json", measure=True), LONGEST):
        raise RuntimeError(f"{' '.join(tests)} fail before any change")
    sys.dont_write_bytecode = True  # a change of the same length within a second would go unnoticed
    limit = 10 + PATIENCE * (time.monotonic() - start)
    start = time.monotonic()
    for item in _draw(path, each, seed, folder):
        if "njit" in path.read_text():  # numba's cache of a kernel is not updated when a kernel that it calls changes
            shutil.rmtree(os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)
        mutation = item.mutations[0]
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        with use_mutation(mutation.module_path, operator, mutation.occurrence) as (before, after):
            if not _pass(tests, _Quickest(folder / "seconds.json"), limit):
                killed += 1
            else:
                survivors.append(_describe(mutation.start_pos[0], before, after))
        if time.monotonic() - start > seconds:
            break
    return killed, survivors


def _draw(path: Path, each: int, seed: int, folder: Path) -> list[WorkItem]:
    """Return `each` random changes of a file."""
    kinds = [name for name in operator_names() if not any(fnmatch.fnmatch(name, pattern) for pattern in LEFT_OUT)]
    session = WorkDB(folder / "session.sqlite", WorkDB.Mode.create)
    init([path], session, {})
    items = [item for item in session.work_items if item.mutations[0].operator_name in kinds]
    session.close()
    items.sort(key=lambda item: (item.mutations[0].start_pos, item.mutations[0].operator_name, str(item.mutations)))
    return random.Random(f"{path} {seed}").sample(items, min(each, len(items)))


class _Quickest:
    """Run the tests in order of their earlier duration; a change is usually noticed by a quick one."""

    def __init__(self, file: Path, measure: bool = False) -> None:
        self.file, self.measure = file, measure
        self.seconds = {} if measure else json.loads(file.read_text())

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration

    def pytest_sessionfinish(self) -> None:
        if self.measure:
            self.file.write_text(json.dumps(self.seconds))


def _pass(tests: list[str], order: _Quickest, limit: float) -> bool:
    """Run tests in a fork of this process, which has imported the slow dependencies but not neurosuper."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(null, stream)
            code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not gpu", *tests], [order])
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _describe(line: int, before: str, after: str) -> str:
    """Return a line before and after its change."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    old, new = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return f"line {line}: {old.strip()}  →  {new.strip()}"


if __name__ == "__main__":
    main()
