"""Compare finders of directions with their peers: time and objective.

    python benchmarks/finders.py [routine ...] [--repeats 3] [--small]

Prints one row per pair, in Markdown. Both have the same number of threads and alternate in one process; the ratio is
the median over turns, with the smallest and the largest. The objective of both is computed by one function in float64.
A pair is met if the median ratio reaches its target and the objective is as good as the peer's, up to a slack.
"""

import argparse
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import peers
from peers import Contender

# isort: split

import numpy as np
import threadpoolctl
import timing
import torch
import workloads
import xarray as xr

import neurosuper as ns

WARM_ROWS = 4096
N_PASSES = 2  # of dictionary learning, as many as spams makes
EQUAL = 1e-6  # relative; tolerance of "no worse" for rounding
HEADER = (
    "| routine | workload | peer | ours, s | peer, s | ratio (min–max) | objective | ours | peer's | target | met |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


# ours: how each finder is made


def make(name: str, n: int, seed: int, device: str, **options: Any) -> Any:
    return getattr(ns, name)(n, random_state=seed, device=device, **options)


def ours(name: str, n: int, device: str, read: Callable[[Any, xr.DataArray], Any], **options: Any) -> Contender:
    """Return the fit of a finder as a contender."""
    return Contender(name, lambda R, seed: make(name, n, seed, device, **options).fit(R), read)


def read_centers(fitted: Any, R: xr.DataArray) -> np.ndarray:
    return fitted.centers_.values


def read_directions(fitted: Any, R: xr.DataArray) -> np.ndarray:
    return fitted.directions_.values


def read_codes(fitted: Any, R: xr.DataArray) -> np.ndarray:
    return fitted.transform(R).values


def read_reconstruction(fitted: Any, R: xr.DataArray) -> np.ndarray:
    return fitted.inverse_transform(fitted.transform(R)).values


# pairs


@dataclass(frozen=True)
class Match:
    """Our finder, its peers with the target ratios, and the objective by which both are judged.

    `slack` is how much worse our objective may be, relative to the peer's; one that is `within` a bound is accepted for
    any value of the peer's. The objective is computed on the last `n_held_out` stimuli, which are not used in the fit,
    or on all.
    """

    n_directions: int
    ours: Contender
    peers: list[tuple[Contender, float | None]]
    measure: str
    objective: Callable[[np.ndarray, Any], float]
    larger_is_better: bool = False
    slack: float = EQUAL
    within: float = 0.0
    n_held_out: int = 0

    def as_good(self, mine: float, theirs: float) -> bool:
        worse = (theirs - mine) if self.larger_is_better else (mine - theirs)
        return worse <= self.slack * abs(theirs) or mine <= self.within


def kmeans(
    R: xr.DataArray, n: int, device: str, targets: tuple[float | None, ...] = (None, None), **options: Any
) -> Match:
    rivals = zip((peers.sklearn_kmeans(n), peers.faiss_kmeans(n)), targets, strict=True)
    mine = ours("KMeans", n, device, read_centers, normalize=False, **options)
    return Match(n, mine, list(rivals), "inertia", peers.inertia, slack=1e-3)


def unit_kmeans(
    R: xr.DataArray, n: int, device: str, targets: tuple[float | None, ...] = (None, None), **options: Any
) -> Match:
    rivals = zip((peers.sklearn_kmeans(n, unit=True), peers.faiss_kmeans(n, spherical=True)), targets, strict=True)
    mine = ours("KMeans", n, device, read_centers, normalize=True, **options)
    return Match(n, mine, list(rivals), "inertia", peers.unit_inertia)


def pca(R: xr.DataArray, n: int, device: str, target: float | None = None) -> Match:
    """Against its default, and, where its default draws at random and units are few enough, its exact solver."""
    rivals = [(peers.sklearn_pca(n, "auto"), target)]
    if 1000 < R.sizes["unit"] < R.sizes["stimulus"]:
        rivals.append((peers.sklearn_pca(n, "covariance_eigh"), None))
    mine = ours("PCA", n, device, read_directions)
    return Match(n, mine, rivals, "explained variance", peers.explained_variance, larger_is_better=True)


def ica(R: xr.DataArray, n: int, device: str, target: float | None = 5) -> Match:
    """Local optima differ between seeds by 0.1 %, for both."""
    rivals = [(peers.sklearn_ica(n, tol=1e-4), target), (peers.picard_ica(n), None)]
    mine = ours("ICA", n, device, read_codes, contrast="logcosh", tol=1e-4)
    return Match(n, mine, rivals, "log likelihood", peers.contrast, larger_is_better=True, slack=1e-3)


def nmf(R: xr.DataArray, n: int, device: str, target: float | None = 12) -> Match:
    """At a tolerance that reaches the peer's loss within half a percent."""
    mine = ours("NMF", n, device, read_directions, tol=1e-2)
    return Match(n, mine, [(peers.sklearn_nmf(n), target)], "loss", peers.nmf_loss, slack=5e-3)


def tight_nmf(R: xr.DataArray, n: int, device: str, target: float | None = 4, tol: float = 1e-3) -> Match:
    """At a tolerance that reaches the peer's loss."""
    mine = ours("NMF", n, device, read_directions, tol=tol)
    return Match(n, mine, [(peers.sklearn_nmf(n), target)], "loss", peers.nmf_loss)


def dictionary(R: xr.DataArray, n: int, device: str, targets: tuple[float | None, ...] = (30, 1.8)) -> Match:
    alpha = pick_alpha(R)
    rivals = zip((peers.sklearn_dictionary(n, alpha), peers.spams_dictionary(n, alpha)), targets, strict=True)
    mine = ours("DictionaryLearning", n, device, read_directions, l1=alpha, max_iter=N_PASSES)
    return Match(n, mine, list(rivals), "lasso", partial(peers.lasso, alpha=alpha))


def codes(R: xr.DataArray, n: int, device: str, targets: tuple[float | None, ...] = (50, 50, 2)) -> Match:
    """Codes of all stimuli for given atoms."""
    alpha = pick_alpha(R)
    fitted = make("DictionaryLearning", n, 0, device, l1=alpha, max_iter=N_PASSES).fit(R)
    D = fitted.directions_.values
    rivals = (
        peers.sklearn_codes(D, alpha, "lasso_cd"),
        peers.sklearn_codes(D, alpha, "lasso_lars"),
        peers.spams_codes(D, alpha),
    )
    mine = Contender("transform", lambda R, seed: fitted.transform(R), lambda codes, R: codes.values)
    error = partial(peers.codes_error, best=peers.solve_codes(R.values, D, alpha))
    return Match(n, mine, list(zip(rivals, targets, strict=True)), "largest error", error, within=1e-3)


def autoencoder(
    R: xr.DataArray, n: int, device: str, target: float | None = None, batch_size: int | None = None
) -> Match:
    """Both use batches of 256 by default."""
    n_active = min(32, R.sizes["unit"] // 4)
    options = {"activation": "topk", "n_active": n_active, "max_iter": 1, "batch_size": batch_size}
    mine = ours("SparseAutoencoder", n, device, read_reconstruction, **options)
    rivals = [(peers.overcomplete_sae(n, n_active), target)]
    n_held_out = R.sizes["stimulus"] // 11
    return Match(n, mine, rivals, "test R²", peers.r2, larger_is_better=True, n_held_out=n_held_out)


def pick_alpha(R: xr.DataArray) -> float:
    """Return a penalty that leaves about a twentieth of 256 atoms active: a tenth of the mean length of responses."""
    return float(np.linalg.norm(R.values[:WARM_ROWS], axis=1).mean() / 10)


@dataclass(frozen=True)
class Entry:
    """A routine on a workload, with a number of directions; `options` are targets, or settings of our finder."""

    routine: str
    match: Callable[..., Match]
    workload: str
    n_directions: int
    options: dict[str, Any] = field(default_factory=dict)


NO_TARGETS = {"targets": (None, None)}
NO_TARGET: dict[str, Any] = {"target": None}
ENTRIES = (
    Entry("KMeans(tol=5e-3)", kmeans, "channels 50000 512", 512, {"targets": (8, 1.5), "tol": 5e-3}),
    Entry("KMeans", kmeans, "channels 50000 512", 512),
    Entry("KMeans(normalize=True, tol=5e-3)", unit_kmeans, "channels 50000 512", 512, {"targets": (8, 1), "tol": 5e-3}),
    Entry("KMeans(normalize=True)", unit_kmeans, "channels 50000 512", 512),
    Entry("PCA", pca, "channels 50000 512", 64, {"target": 0.9}),
    Entry("ICA", ica, "channels 50000 512", 128),
    Entry("NMF, within 0.5 %", nmf, "channels 50000 512", 64),
    Entry("NMF, no worse", tight_nmf, "channels 50000 512", 64),
    Entry("DictionaryLearning", dictionary, "channels 50000 512", 256),
    Entry("codes", codes, "channels 50000 512", 256),
    Entry("SparseAutoencoder", autoencoder, "channels 55000 512", 4096),
    Entry(
        "SparseAutoencoder(batch_size=1024)", autoencoder, "channels 55000 512", 4096, {"target": 3, "batch_size": 1024}
    ),
    Entry("PCA", pca, "channels 50000 2048", 100, {"target": 3}),
    Entry("PCA", pca, "voxels 10000 10000", 100, {"target": 2}),
    Entry("KMeans", kmeans, "voxels 10000 1000", 128),
    Entry("KMeans(normalize=True)", unit_kmeans, "voxels 10000 1000", 128),
    Entry("ICA", ica, "voxels 10000 1000", 64, NO_TARGET),
    Entry("DictionaryLearning", dictionary, "voxels 10000 1000", 128, NO_TARGETS),
    Entry("SparseAutoencoder", autoencoder, "voxels 10000 1000", 2048),
    Entry("KMeans", kmeans, "resnet 10000", 256),
    Entry("KMeans(normalize=True)", unit_kmeans, "resnet 10000", 256),
    Entry("KMeans", kmeans, "counts 10000 300", 128),
    Entry("KMeans(normalize=True)", unit_kmeans, "counts 10000 300", 128),
    Entry("PCA", pca, "resnet 10000", 64),
    Entry("ICA", ica, "resnet 10000", 64, NO_TARGET),
    Entry("NMF, within 0.5 %", nmf, "resnet 10000", 32, NO_TARGET),
    Entry("NMF, no worse", tight_nmf, "resnet 10000", 32, NO_TARGET | {"tol": 1e-5}),
    Entry("NMF, within 0.5 %", nmf, "counts 10000 300", 32, NO_TARGET),
    Entry("NMF, no worse", tight_nmf, "counts 10000 300", 32, NO_TARGET),
    Entry("DictionaryLearning", dictionary, "resnet 10000", 128, NO_TARGETS),
    Entry("SparseAutoencoder", autoencoder, "resnet 10000", 2048),
)


@cache
def load(workload: str, small: bool) -> xr.DataArray | None:
    """Return a workload by name and sizes; a small one has a tenth of the stimuli and a quarter of the units."""
    name, *sizes = workload.split()
    shape = [int(size) // shrink if small else int(size) for size, shrink in zip(sizes, (10, 4), strict=False)]
    return getattr(workloads, name)(*shape)


# the table


def split(match: Match, R: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the responses to fit, and those of the objective."""
    if not match.n_held_out:
        return R, R
    return R[: -match.n_held_out], R[-match.n_held_out :]


def race(match: Match, R: xr.DataArray, repeats: int) -> tuple[dict[str, list[timing.Lap]], dict[str, np.ndarray]]:
    """Return laps and objectives of all contenders of a match."""
    fitted, judged = split(match, R)
    contenders = {"ours": match.ours} | {peer.name: peer for peer, _ in match.peers}
    found: dict[str, list[float]] = {name: [] for name in contenders}

    def seen(contender: Contender, rows: xr.DataArray) -> Any:
        rows = rows[: round(contender.share * len(rows))]
        return rows if contender is match.ours else rows.values

    def look(name: str, result: Any) -> None:
        contender = contenders[name]
        rows = seen(contender, judged)
        found[name].append(match.objective(np.asarray(rows), contender.read(result, rows)))

    runs = {name: partial(contender.run, seen(contender, fitted)) for name, contender in contenders.items()}
    for contender in contenders.values():
        contender.run(seen(contender, fitted[:WARM_ROWS]), 0)
    limits = {name: min(repeats, contender.laps or repeats) for name, contender in contenders.items()}
    laps = timing.take_turns(runs, limits, look)
    scaled = {name: [lap.scaled(1 / contenders[name].share) for lap in laps[name]] for name in laps}
    return scaled, {name: np.array(values) for name, values in found.items()}


def rows_of(entry: Entry, match: Match, R: xr.DataArray, repeats: int) -> Iterator[str]:
    """Yield a row of the table for each peer."""
    laps, found = race(match, R, repeats)
    n_stimuli, n_units = split(match, R)[0].shape
    mine = float(np.median(found["ours"]))
    for peer, target in match.peers:
        theirs, ratio = float(np.median(found[peer.name])), timing.ratios(laps["ours"], laps[peer.name])
        faults = [] if target is None or np.median(ratio) >= target else ["time"]
        faults += [] if match.as_good(mine, theirs) else ["objective"]
        quiet = all(map(timing.undisturbed, (laps["ours"], laps[peer.name])))
        verdict = ("no: " + ", ".join(faults) if faults else "yes") if quiet else "disturbed"
        cells = (
            entry.routine,
            f"{entry.workload.split()[0]}, {n_stimuli:,} × {n_units:,}, {match.n_directions}",
            peer.name + (f" ({peer.share:.0%} of rows, scaled)" if peer.share < 1 else ""),
            timing.seconds(laps["ours"]),
            timing.seconds(laps[peer.name]),
            timing.summarize(ratio),
            match.measure,
            f"{mine:.6g}",
            f"{theirs:.6g}",
            "—" if target is None else f"{target}",
            verdict,
        )
        yield f"| {' | '.join(cells)} |"


def matches(options: argparse.Namespace, device: str) -> Iterator[tuple[Entry, Match, xr.DataArray]]:
    """Yield the requested workloads for which there are data."""
    for entry in ENTRIES:
        if options.routines and entry.match.__name__ not in options.routines:
            continue
        if (R := load(entry.workload, options.small)) is not None:
            n = entry.n_directions // 8 if options.small else entry.n_directions
            yield entry, entry.match(R, n, device, **entry.options), R


def describe_machine() -> str:
    """Return one line about the machine and the libraries."""
    info = threadpoolctl.threadpool_info()
    kernels = sorted({library["architecture"] for library in info if "architecture" in library})
    return (
        f"{processor()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"torch {torch.__version__}, NumPy {np.__version__}, OpenBLAS kernels {', '.join(kernels)}"
    )


def processor() -> str:
    """Return the name of the processor, as far as the system reports it."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def read_options(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted({entry.match.__name__ for entry in ENTRIES})
    parser.add_argument("routines", nargs="*", metavar="routine", help=f"of {', '.join(known)}; all of them if none")
    parser.add_argument("--repeats", type=int, default=3, help="turns; peers that take long have fewer")
    parser.add_argument("--small", action="store_true", help="sizes to try it out with, at least ten times smaller")
    options = parser.parse_args()
    if unknown := sorted(set(options.routines) - set(known)):
        parser.error(f"no routine {', '.join(unknown)}; choose from {', '.join(known)}")
    return options


def main() -> None:
    options = read_options(__doc__)
    warnings.simplefilter("ignore")  # about convergence: the objective is compared instead
    print(f"finders: {describe_machine()}; † all laps disturbed by others\n", *HEADER, sep="\n", flush=True)
    for entry, match, R in matches(options, "cpu"):
        for row in rows_of(entry, match, R, options.repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main()
