"""Populations against populations: `twins`, `rsa`, `cka` and `encode` against what they need at least, or peers.

    python benchmarks/populations.py [routine …] [--small]

`twins` of 4,096 × 4,096 items on 2,000 stimuli, with 999 permutations, is compared with NumPy's product of the z-scored
halves that partners are chosen on, (1,000 × 4,096)ᵀ (1,000 × 4,096), in float64. It is timed without rotations of the
units, and with the default of 20: each of these needs a random rotation, its product with the responses, and a matrix
of correlations of its own. `--small` takes a quarter of the items.

`rsa` of 1,200 stimuli × 200 units of 20 systems with another one, from responses to similarities, is compared with
rsatoolbox, which computes the same numbers; neither tests them. Dissimilarities are 1 − correlation with rho-a, and
crossnobis, of 4 repetitions, with the cosine. `cka` of 10,000 stimuli × 2,048 units in two dask arrays of float32, with
19 permutations and no interval, is compared with one product of the arrays, (10,000 × 2,048)ᵀ (10,000 × 2,048) in
float64, and its peak memory is measured in a process of its own. `encode` of 10,000 stimuli × 2,048 features → 5,000
voxels, in two folds, is compared with calls of himalaya with the same folds and penalties. `--small` takes a quarter of
the stimuli and units of these, for `encode` a tenth.

The two of a pair alternate (`timing.py`); ratios are of adjacent laps.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from sklearn.model_selection import PredefinedSplit
from timing import Lap, ratios, seconds, summarize, take_turns
from workloads import label

from neurosuper.comparison import cka, dissimilarities, encode, rsa, twins
from neurosuper.comparison.encoding import ALPHAS
from neurosuper.comparison.shared_stimuli import number_folds

os.environ.setdefault("TQDM_DISABLE", "1")

N_STIMULI, N_ITEMS = 2_000, 4_096
N_SYSTEMS = 20


def report(what: str, ours: list[Lap], theirs: list[Lap], other: str, target: str) -> None:
    """Print how many times as long as something else a routine takes."""
    times = 1 / ratios(ours, theirs)
    print(f"| {what} | {seconds(ours)} | {other} | {seconds(theirs)} | {summarize(times)} | {target} |", flush=True)


def compare_twins(is_small: bool) -> None:
    n_items = N_ITEMS // 4 if is_small else N_ITEMS
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N_STIMULI, n_items))
    a, b = (label(shared + rng.normal(size=shared.shape)) for _ in range(2))
    A, B = ((each.values - each.values.mean(0)) / each.values.std(0) for each in (a[::2], b[::2]))
    twins(a[:100, :8], b[:100, :8], n_permutations=19, n_rotations=0)  # compiles what is not compiled yet
    contenders: dict[str, Callable[[int], object]] = {
        "without rotations": lambda i: twins(a, b, n_rotations=0, random_state=i),
        "product": lambda i: A.T @ B,
        "20 rotations": lambda i: twins(a, b, random_state=i),
    }
    laps = {"without rotations": 3, "product": 3, "20 rotations": 1}
    taken = take_turns(contenders, laps, lambda name, result: None)
    what = f"`twins`, {n_items:,} × {n_items:,} items, {N_STIMULI:,} stimuli, 999 permutations"
    other = "the matrix of correlations, by NumPy"
    report(f"{what}, no rotations", taken["without rotations"], taken["product"], other, "at most 20 ×")
    report(f"{what}, 20 rotations", taken["20 rotations"], taken["product"], other, "—")


def by_ours(systems: list[xr.DataArray], distance: str, noise: str, similarity: str, i: int) -> np.ndarray:
    """Return the similarity of the first system with each of the others."""
    d = [dissimilarities(each, distance=distance, noise=noise) for each in systems]
    others = {str(k): each for k, each in enumerate(d[1:])}
    return rsa(d[0], others, similarity=similarity, n_permutations=0, n_resamples=0, random_state=i).estimate.values


def by_rsatoolbox(
    systems: list[Any], distance: str, descriptors: dict[str, str], similarity: str, i: int
) -> np.ndarray:
    """Return the same by rsatoolbox."""
    import rsatoolbox

    d = [rsatoolbox.rdm.calc_rdm(each, distance, **descriptors) for each in systems]
    return rsatoolbox.rdm.compare(d[0], rsatoolbox.rdm.concat(d[1:]), method=similarity).ravel()


def compare_rsa(is_small: bool) -> None:
    from rsatoolbox.data import Dataset

    n_stimuli, n_units = (300, 50) if is_small else (1_200, 200)
    rng = np.random.default_rng(0)
    shared, names = rng.normal(size=(n_stimuli, 1, n_units)), np.arange(n_stimuli).astype(str)
    for distance, m, similarity in (("correlation", 1, "rho-a"), ("crossnobis", 4, "cosine")):
        values = [shared + rng.normal(size=(n_stimuli, m, n_units)) for _ in range(N_SYSTEMS + 1)]
        repeated = [xr.concat([label(each[:, k]) for k in range(m)], "repetition") for each in values]
        systems = [each[0] if m == 1 else each.transpose("stimulus", "repetition", "unit") for each in repeated]
        sets = [
            Dataset(
                each.reshape(-1, n_units),
                obs_descriptors={"stimulus": np.repeat(names, m), "repetition": np.tile(np.arange(m), n_stimuli)},
            )
            for each in values
        ]
        descriptors = {} if m == 1 else {"descriptor": "stimulus", "cv_descriptor": "repetition"}
        found: dict[str, np.ndarray] = {}
        contenders = {
            "ours": partial(by_ours, systems, distance, "none", similarity),
            "peer": partial(by_rsatoolbox, sets, distance, descriptors, similarity),
        }
        by_ours(systems[:2], distance, "none", similarity, 0)  # compiles what is not compiled yet
        laps = take_turns(contenders, {"ours": 5, "peer": 3}, found.__setitem__)
        what = f"`rsa`, {distance}, repetitions: {m}, {similarity}, {n_stimuli:,} stimuli, {N_SYSTEMS} systems"
        report(what, laps["ours"], laps["peer"], "rsatoolbox", "at most 0.2 ×")
        print(f"largest difference: {np.abs(found['ours'] - found['peer']).max():.1e}", file=sys.stderr)


def open_stored(path: Path, name: str) -> xr.DataArray:
    """Return responses, not yet read."""
    rows = da.from_zarr(str(path / name))
    names = {dim: np.arange(n).astype(str) for dim, n in zip(("stimulus", "unit"), rows.shape, strict=True)}
    return xr.DataArray(rows, names, ("stimulus", "unit"), "response")


def cka_of_stored(path: Path, i: int = 0) -> float:
    a, b = open_stored(path, "a"), open_stored(path, "b")
    return cka(a, b, n_permutations=19, n_resamples=0, random_state=i).estimate.item()


def by_definition(path: Path) -> float:
    """Return debiased CKA from all products of items, in float64 (Song et al. 2012, eq. 5)."""
    A, B = (each - each.mean(0) for each in (open_stored(path, name).values.astype(float) for name in "ab"))
    n = len(A)

    def hsic(X: np.ndarray, Y: np.ndarray) -> float:
        d, e = ((each**2).sum(1) for each in (X, Y))
        return ((X.T @ Y) ** 2).sum() - d @ e + d.sum() * e.sum() / ((n - 1) * (n - 2)) - 2 * (d @ e) / (n - 2)

    return hsic(A, B) / np.sqrt(hsic(A, A) * hsic(B, B))


def compare_cka(is_small: bool) -> None:
    n_stimuli, n_units = (2_500, 512) if is_small else (10_000, 2_048)
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(n_stimuli, n_units))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for name in "ab":
            stored = zarr.create_array(path / name, shape=shared.shape, chunks=(1_000, n_units), dtype="f4")
            stored[:] = (shared + rng.normal(size=shared.shape)).astype("f4")
        A, B = (open_stored(path, name).values.astype(float) for name in "ab")
        found: dict[str, Any] = {}
        contenders: dict[str, Callable[[int], Any]] = {
            "ours": partial(cka_of_stored, path),
            "product": lambda i: A.T @ B,
        }
        laps = take_turns(contenders, {"ours": 1, "product": 3}, found.__setitem__)
        what = f"`cka`, {n_stimuli:,} stimuli × {n_units:,} units, 19 permutations, no interval"
        report(what, laps["ours"], laps["product"], "one product AᵀB by NumPy", "—")
        print(f"difference from the definition: {abs(found['ours'] - by_definition(path)):.1e}", file=sys.stderr)
        subprocess.run([sys.executable, __file__, "--peak-of-cka", folder], check=True)


def print_peak_of_cka(path: Path) -> None:
    """Print the memory of this process, in all and without imports."""
    from streaming import peak

    before = peak()
    cka_of_stored(path)
    print(f"peak memory of cka {peak():.0f} MiB (at most 1,024), {before:.0f} before", file=sys.stderr)


def by_himalaya(X: xr.DataArray, Y: xr.DataArray, n_folds: int, seed: int) -> float:
    """Return the mean r of ridge regression by himalaya, with the folds and penalties of `encode`."""
    from himalaya.ridge import RidgeCV

    fold, r = number_folds(Y, None, n_folds, seed), []
    for k in range(n_folds):
        fit = fold != k
        inner = PredefinedSplit(number_folds(Y[fit], None, n_folds, seed + 1))
        x, y = ((each - each[fit].mean(0)) for each in (X.values, Y.values))
        x /= x[fit].std(0)
        predicted = RidgeCV(alphas=ALPHAS, cv=inner).fit(x[fit], y[fit]).predict(x[~fit])
        own, theirs = ((each - each.mean(0)) / each.std(0) for each in (y[~fit], predicted))
        r.append((own * theirs).mean(0))
    return float(np.mean(r))


def workload_of_encoding(is_small: bool) -> tuple[xr.DataArray, xr.DataArray]:
    n_stimuli, n_features, n_voxels = (1_000, 205, 500) if is_small else (10_000, 2_048, 5_000)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_stimuli, n_features))
    Y = X @ rng.normal(size=(n_features, n_voxels)) / np.sqrt(n_features) + rng.normal(size=(n_stimuli, n_voxels))
    return label(X), label(Y)


def compare_encoding(is_small: bool) -> None:
    X, Y = workload_of_encoding(is_small)
    found: dict[str, Any] = {}
    contenders: dict[str, Callable[[int], Any]] = {
        "ours": lambda i: encode(X, Y, n_folds=2).r.mean().item(),
        "peer": lambda i: by_himalaya(X, Y, 2, 0),
    }
    laps = take_turns(contenders, {"ours": 2, "peer": 2}, found.__setitem__)
    what = f"`encode`, {len(X):,} stimuli × {X.shape[1]:,} features → {Y.shape[1]:,} voxels, 2 folds"
    report(what, laps["ours"], laps["peer"], "himalaya", "at most 1.2 ×")
    print(f"mean r {found['ours']:.6f} and {found['peer']:.6f}", file=sys.stderr)
    subprocess.run([sys.executable, __file__, "--peak-of-encoding", str(int(is_small))], check=True)


def print_peak_of_encoding(is_small: bool) -> None:
    """Print the memory of this process, in all and with the workload."""
    from streaming import peak

    X, Y = workload_of_encoding(is_small)
    before = peak()
    encode(X, Y, n_folds=2)
    data = (X.nbytes + Y.nbytes) / 2**20
    print(f"peak memory of encode {peak():.0f} MiB, {before:.0f} before; data {data:.0f}", file=sys.stderr)


ROUTINES: dict[str, Callable[[bool], None]] = {
    "twins": compare_twins,
    "rsa": compare_rsa,
    "cka": compare_cka,
    "encoding": compare_encoding,
}


def main() -> None:
    warnings.simplefilter("ignore")  # of rsatoolbox: arrays of numpy.matrix
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("routines", nargs="*", help=f"of {', '.join(ROUTINES)}; all by default")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--peak-of-cka", type=Path, help="folder (the benchmark calls itself so)")
    parser.add_argument("--peak-of-encoding", type=int, help="whether small (the benchmark calls itself so)")
    asked = parser.parse_args()
    if asked.peak_of_cka is not None:
        return print_peak_of_cka(asked.peak_of_cka)
    if asked.peak_of_encoding is not None:
        return print_peak_of_encoding(bool(asked.peak_of_encoding))
    if unknown := set(asked.routines) - ROUTINES.keys():
        parser.error(f"no routine {', '.join(sorted(unknown))}; there are {', '.join(ROUTINES)}")
    print("| what | ours, s | compared with | s | times as long (min–max) | target |\n|---|---|---|---|---|---|")
    for name in asked.routines or ROUTINES:
        ROUTINES[name](asked.small)
    return None


if __name__ == "__main__":
    main()
