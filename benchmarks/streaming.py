"""Streamed fits: time per row, growth with the stimuli, peers, peak memory, and two worker processes against one.

    python benchmarks/streaming.py [--repeats 2] [--small]

100,000 to 800,000 stimuli × 1,024 units, float32, in an uncompressed Zarr of 3.3 GB that is written chunk by chunk to a
temporary folder and deleted afterwards; the system may hold it in memory, so that this times reading, copying and
computing rather than a disk. PCA finds 100 directions, a Lloyd pass has 512 centres. Peers run on the smallest size.
The other finders make a few passes over the two smallest sizes.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import peers

# isort: split

import dask
import dask.array as da
import numpy as np
import timing
import workloads
import xarray as xr
import zarr
from finders import describe_machine

import neurosuper as ns

SIZES, N_UNITS = (100_000, 200_000, 400_000, 800_000), 1024
# Rows of a chunk: 16 MiB. From 32 MiB the allocator returns memory to the system, and page faults dominate.
CHUNK = 4096
N_PCA, N_KMEANS = 100, 512
PASSES = 4  # difference between the short and the long fit; their times differ by these passes
MIB = 2**20
MALLOC = {"MALLOC_TRIM_THRESHOLD_": 2**30, "MALLOC_MMAP_THRESHOLD_": 2**25}  # for workers: see directions/_rows/rows.py
OTHERS: dict[str, Callable[[], Any]] = {
    "NMF, 2 passes": partial(ns.NMF, 32, max_iter=2, tol=None, device="cpu"),
    "DictionaryLearning, 1 pass": partial(ns.DictionaryLearning, 64, max_iter=1, device="cpu"),
    "SparseAutoencoder, 1 pass": partial(ns.SparseAutoencoder, 256, n_active=16, max_iter=1, device="cpu"),
    "ICA, 3 passes": partial(ns.ICA, 32, max_iter=3, tol=None, device="cpu"),
}
MEASURED = OTHERS | {
    "PCA": partial(ns.PCA, N_PCA, device="cpu"),
    "KMeans": partial(ns.KMeans, N_KMEANS, max_iter=2, device="cpu"),
}


def write(path: Path, n_stimuli: int, n_units: int) -> None:
    stored = zarr.create_array(path, shape=(n_stimuli, n_units), chunks=(CHUNK, n_units), dtype="f4", compressors=None)
    for i, rows in enumerate(workloads.channel_blocks(n_stimuli, n_units, block=CHUNK)):
        stored[i * CHUNK : i * CHUNK + len(rows)] = rows


def open_responses(path: Path, n_stimuli: int) -> xr.DataArray:
    """Return the first `n_stimuli` stimuli, not yet read."""
    rows = da.from_zarr(str(path))[:n_stimuli]
    labels = np.char.add("s", np.arange(n_stimuli).astype("U6"))
    units = np.char.add("u", np.arange(rows.shape[1]).astype("U6"))
    return xr.DataArray(rows, dims=("stimulus", "unit"), coords={"stimulus": labels, "unit": units}, name="response")


def fit_other(name: str, R: xr.DataArray, seed: int = 0) -> Any:
    return OTHERS[name]().set_params(random_state=seed).fit(R)


def fit_pca(R: xr.DataArray, seed: int = 0) -> Any:
    return ns.PCA(N_PCA, random_state=seed, device="cpu").fit(R)


def fit_kmeans(R: xr.DataArray, seed: int = 0, *, centers: np.ndarray, passes: int = 1) -> Any:
    """Run `passes` Lloyd passes from given centres."""
    finder = ns.KMeans(
        len(centers), normalize=False, init=centers, max_iter=passes, tol=None, random_state=seed, device="cpu"
    )
    return finder.fit(R)


def first_centers(path: Path) -> np.ndarray:
    return open_responses(path, N_KMEANS).values


def stream_peers(centers: np.ndarray) -> dict[str, list[tuple[peers.Contender, float | None]]]:
    """Return the peers of each routine, with the target ratio."""
    return {
        "PCA": [
            (peers.dask_gram(N_PCA), 1.4),
            (dask_centred_gram(N_PCA), None),
            (peers.sklearn_incremental(N_PCA), 10.0),
        ],
        "Lloyd pass": [(peers.dask_lloyd(centers), None)],
    }


def dask_centred_gram(n: int) -> peers.Contender:
    """Directions as they are usually written: X less its mean, in two passes; all threads of BLAS in each of dask's."""

    def run(R: xr.DataArray, seed: int) -> np.ndarray:
        X = R.data - R.data.mean(0)
        return np.linalg.eigh((X.T @ X).compute())[1][:, ::-1][:, :n].T

    return peers.Contender("dask covariance as usually written: X - X.mean(0), X.T @ X", run, lambda D, X: D)


def race(path: Path, sizes: tuple[int, ...], repeats: int) -> tuple[dict[str, list[timing.Lap]], dict[str, Any]]:
    """Return the laps of ours on all sizes and of the peers on the smallest, and the last result of each."""
    centers, results = first_centers(path), {}
    fits = {
        "PCA": fit_pca,
        "short": partial(fit_kmeans, centers=centers),
        "long": partial(fit_kmeans, centers=centers, passes=1 + PASSES),
    }
    runs = {f"{name} {n}": partial(fit, open_responses(path, n)) for n in sizes for name, fit in fits.items()}
    limits = {f"{name} {n}": repeats * min(3, sizes[-1] // n) for n in sizes for name in fits}  # short ones vary more
    for peer, _ in chain.from_iterable(stream_peers(centers).values()):
        runs[peer.name] = partial(peer.run, open_responses(path, sizes[0]))
        limits[peer.name] = min(repeats, peer.laps or repeats)
    for fit in fits.values():
        fit(open_responses(path, CHUNK))
    return timing.take_turns(runs, limits, results.__setitem__), results


def print_growth(path: Path, sizes: tuple[int, ...], repeats: int) -> None:
    """Print the ratio of the other finders' times for twice as many stimuli."""
    runs = {f"{name} {n}": partial(fit_other, name, open_responses(path, n)) for name in OTHERS for n in sizes[:2]}
    for name in OTHERS:
        fit_other(name, open_responses(path, CHUNK))
    laps = timing.take_turns(runs, dict.fromkeys(runs, repeats), lambda _name, _result: None)
    print(f"| finder | {sizes[0]:,} stimuli, s | {sizes[1]:,} stimuli, s | ratio (min–max) | at most |")
    print("|---|---|---|---|---|")
    for name in OTHERS:
        once, twice = (laps[f"{name} {n}"] for n in sizes[:2])
        ratio = timing.summarize(timing.ratios(once, twice))
        print(f"| {name} | {timing.seconds(once)} | {timing.seconds(twice)} | {ratio} | 2.3 |")
    print(flush=True)


def per_pass(laps: dict[str, list[timing.Lap]], n: int) -> dict[str, list[timing.Lap]]:
    """Return the laps of our routines on `n` stimuli; a pass is timed as a long fit minus a short one."""
    pairs = zip(laps[f"long {n}"], laps[f"short {n}"], strict=True)
    passes = [
        timing.Lap((a.seconds - b.seconds) / PASSES, max(a.foreign, b.foreign), a.quiet and b.quiet) for a, b in pairs
    ]
    return {"PCA": laps[f"PCA {n}"], "Lloyd pass": passes}


def print_sizes(laps: dict[str, list[timing.Lap]], sizes: tuple[int, ...]) -> None:
    print("| routine | stimuli | s (min–max) | µs per row |", "|---|---|---|---|", sep="\n")
    growth = []
    for name in ("PCA", "Lloyd pass"):
        each_size = {n: per_pass(laps, n)[name] for n in sizes}
        took = {n: np.array([lap.seconds for lap in timing.undisturbed(of) or of]) for n, of in each_size.items()}
        per_row = [float(np.median(took[n])) / n * 1e6 for n in sizes]
        for n, each in zip(sizes, per_row, strict=True):
            print(f"| {name} | {n:,} | {timing.summarize(took[n])} | {each:.2f} |")
        growth.append(f"{name} {max(per_row) / min(per_row) - 1:.0%}")
    print(f"\ntime per row varies by: {', '.join(growth)} (asked for: at most 15%)\n")


def print_peers(laps: dict[str, list[timing.Lap]], results: dict[str, Any], path: Path, n: int) -> None:
    X, centers, ours = open_responses(path, n).values, first_centers(path), per_pass(laps, n)
    found = {"PCA": results[f"PCA {n}"].directions_.values, "Lloyd pass": results[f"short {n}"].centers_.values}
    objectives = {"PCA": peers.explained_variance, "Lloyd pass": peers.inertia}
    print(f"{n:,} stimuli:\n")
    print("| routine | peer | ours, s | peer, s | ratio (min–max) | objective ours | peer's | target |")
    print("|---|---|---|---|---|---|---|---|")
    for routine, rivals in stream_peers(centers).items():
        mine = objectives[routine](X, found[routine])
        for peer, target in rivals:
            theirs = objectives[routine](X, peer.read(results[peer.name], X))
            times = timing.seconds(ours[routine]), timing.seconds(laps[peer.name])
            ratio = timing.summarize(timing.ratios(ours[routine], laps[peer.name]))
            asked = target or "—"
            print(f"| {routine} | {peer.name} | {' | '.join(times)} | {ratio} | {mine:.6g} | {theirs:.6g} | {asked} |")
    print()


def peak() -> float:
    """Return the largest resident memory so far, MiB; on Linux without the parent's, which rusage includes."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def measure(path: Path, n: int, name: str) -> None:
    """Print the memory of a streamed fit in this process, in addition to imports and labels."""
    make = MEASURED[name]
    R = open_responses(path, n)
    make().fit(open_responses(path, CHUNK))
    before = peak()
    make().fit(R)
    gained, bound = peak() - before, R.nbytes / MIB / 10
    verdict = "met" if gained <= bound else "not met"
    print(
        f"{name}: peak memory {gained:.0f} MiB on top of {before:.0f}, of responses of {R.nbytes / MIB:.0f} MiB", end=""
    )
    print(f"; bound, a tenth of them, {bound:.0f} MiB: {verdict}", flush=True)


def compare_processes(path: Path, n: int, repeats: int) -> None:
    """Print the time of two worker processes with one thread relative to one process with two threads."""
    from distributed import Client

    R, centers = open_responses(path, n), first_centers(path)
    fits = {"PCA": fit_pca, "KMeans, 3 passes": partial(fit_kmeans, centers=centers, passes=3)}

    def alone(fit: Callable[..., Any], seed: int) -> Any:
        with dask.config.set(scheduler="threads"):
            return fit(R)

    def on_workers(fit: Callable[..., Any], seed: int) -> Any:
        return fit(R)

    roomy = {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in MALLOC.items()}
    with (
        dask.config.set(roomy),
        Client(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=path.parent),
    ):
        for name, fit in fits.items():
            results: dict[str, Any] = {}
            runs = {"alone": partial(alone, fit), "workers": partial(on_workers, fit)}
            for run in runs.values():
                run(0)
            laps = timing.take_turns(runs, dict.fromkeys(runs, repeats), results.__setitem__)
            ratio = timing.ratios(laps["alone"], laps["workers"])
            D, other = (results[side].directions_.values for side in ("alone", "workers"))
            print(f"two workers, {name}, {n:,} stimuli: {timing.summarize(ratio)} of the time of one process ", end="")
            print(f"(at most 1.3), directions differ by {np.abs(D - other).max():.1e} (at most 1e-5)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="a tenth of the stimuli and a quarter of the units")
    parser.add_argument("--measure", nargs=3, help="file, stimuli, finder (the benchmark calls itself so)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of convergence
    if options.measure:
        path, n, name = options.measure
        return measure(Path(path), int(n), name)
    sizes, n_units = (tuple(n // 10 for n in SIZES), N_UNITS // 4) if options.small else (SIZES, N_UNITS)
    print(f"streaming: {sizes[-1]:,} × {n_units:,}; {describe_machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "responses.zarr")
        write(path, sizes[-1], n_units)
        laps, results = race(path, sizes, options.repeats)
        print_sizes(laps, sizes)
        print_peers(laps, results, path, sizes[0])
        print_growth(path, sizes, options.repeats)
        for name in MEASURED:
            subprocess.run([sys.executable, __file__, "--measure", path, str(sizes[-1]), name], check=True)
        compare_processes(path, sizes[1], options.repeats)
    return None


if __name__ == "__main__":
    main()
