"""The interpretability index against scoring pairs of top images with the `lpips` package, and against one embedding.

LPIPS on AlexNet with the same random weights on both sides (the time does not depend on them) and the same threads. The
peer is timed on some pairs, drawn from all, and scaled: one by one, as published scripts call it, and at its best, in
batches. The gain is about the number of pairs over that of unique images, so both are printed. Embedding alone and the
index take turns. Then the hub-corrected index against the raw one, and intervals from 500 draws against 50: these alone
by `index.py corrected` and `index.py draws`.
"""

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import torch
import xarray as xr

from neurosuper import LPIPS, Color, Pixel, interpretability_index, top_stimuli
from neurosuper.interpretability import index_interval
from neurosuper.metrics import ImageMetric

TURNS = 2
BATCH = 64  # pairs
N_SINGLE, N_BATCHED = 100, 20 * BATCH  # pairs that the peer is timed on


@dataclass(frozen=True)
class Workload:
    n_images: int
    size: int
    n_directions: int
    tops: tuple[int, ...]
    targets: tuple[float | None, float | None, float | None]  # × embedding at most; pairs, batched pairs at least
    most_memory: float  # GiB


WORKLOADS = (
    Workload(10_000, 64, 4096, (5, 10, 15, 20), (1.6, 80, 12), 2),
    Workload(800, 224, 4096, (20,), (None, 100, None), 4),
)


def make_inputs(n_images: int, size: int, n_directions: int) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    labels = [f"image{i:05d}" for i in range(n_images)]
    images = xr.DataArray(
        rng.integers(0, 256, (n_images, size, size, 3), dtype=np.uint8),
        dims=("stimulus", "row", "column", "channel"),
        coords={"stimulus": labels},
    )
    codes = xr.DataArray(
        rng.normal(size=(n_images, n_directions)),
        dims=("stimulus", "direction"),
        coords={"stimulus": labels, "direction": [f"direction{i}" for i in range(n_directions)]},
    )
    return codes, images


def make_metrics() -> tuple[lpips.LPIPS, LPIPS]:
    """Return the peer, and ours with the peer's trunk."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    convolutions = [module for module in peer.net.modules() if isinstance(module, torch.nn.Conv2d)]
    weights = {
        f"conv{i}.{name}": getattr(convolution, name).detach().numpy()
        for i, convolution in enumerate(convolutions)
        for name in ("weight", "bias")
    }
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "trunk.npz"), **weights)
        ours = LPIPS("alex", weights=Path(folder, "trunk.npz"), device="cpu")
        ours.embed(torch.zeros(1, 3, 64, 64))  # reads the file
    return peer, ours


def peak_memory() -> float:
    """Return the process's largest resident memory so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def embed_once(images: xr.DataArray, metric: ImageMetric) -> None:
    """Embed all images in batches, and keep nothing."""
    size = metric.batch_size or images.sizes["stimulus"]
    for start in range(0, images.sizes["stimulus"], size):
        metric.embed(images[start : start + size])


def as_peer(images: np.ndarray) -> torch.Tensor:
    """Return images (image, row, column, channel) as the lpips package takes them, in [−1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def score_pairs(images: xr.DataArray, peer: lpips.LPIPS, pairs: np.ndarray, batch: int) -> np.ndarray:
    """Return the distances of pairs `(pair, 2)` of positions, by the lpips package."""
    with torch.inference_mode():
        parts = [
            peer(*(as_peer(images.values[part[:, side]]) for side in (0, 1))).flatten()
            for part in np.split(pairs, range(batch, len(pairs), batch))
        ]
    return torch.cat(parts).numpy()


def all_pairs(codes: xr.DataArray, images: xr.DataArray, top: int) -> np.ndarray:
    """Return the positions `(direction, pair, 2)` of the pairs of top stimuli."""
    chosen = top_stimuli(codes, top=top)
    at = images.get_index("stimulus").get_indexer(chosen.values.T.ravel()).reshape(-1, top)
    return at[:, np.stack(np.triu_indices(top, 1), axis=1)]


def verdict(value: float, target: float | None, at_most: bool = False) -> str:
    if target is None:
        return "no target"
    met = value <= target if at_most else value >= target
    return f"{'at most' if at_most else 'at least'} {target:g}: {'met' if met else 'MISSED'}"


def run(workload: Workload, peer: lpips.LPIPS, metric: LPIPS) -> None:
    codes, images = make_inputs(workload.n_images, workload.size, workload.n_directions)
    most = workload.tops[-1]
    pairs = all_pairs(codes, images, most)
    n_pairs, n_unique = pairs.shape[0] * pairs.shape[1], len(np.unique(pairs))
    print(
        f"index: {workload.n_directions} directions, top {', '.join(map(str, workload.tops))} in one pass, "
        f"{workload.n_images} images of {workload.size}×{workload.size}, LPIPS-alex, CPU, {torch.get_num_threads()} "
        f"threads; {n_unique} unique images in {n_pairs} pairs of top {most}"
    )
    before = peak_memory()
    turns = []
    for _ in range(TURNS):
        once, _ = timed(lambda: embed_once(images, metric))
        ours, index = timed(lambda: interpretability_index(codes, images, metric, top=list(workload.tops)))
        turns.append((once, ours))
    memory = peak_memory()
    once, ours = np.min(turns, axis=0)
    some = np.random.default_rng(1).permutation(pairs.reshape(-1, 2))
    single, _ = timed(lambda: score_pairs(images, peer, some[:N_SINGLE], 1))
    batched, _ = timed(lambda: score_pairs(images, peer, some[:N_BATCHED], BATCH))
    theirs = -score_pairs(images, peer, pairs[:5].reshape(-1, 2), BATCH).reshape(5, -1).mean(1)
    ratio, single, batched = ours / once, single * n_pairs / N_SINGLE, batched * n_pairs / N_BATCHED
    most_times, least_single, least_batched = workload.targets
    print(f"  embedding once    {once:9.2f} s")
    print(
        f"  ours              {ours:9.2f} s   {ratio:6.2f} × embedding   ({verdict(ratio, most_times, at_most=True)})"
    )
    print(
        f"  lpips, one by one {single:9.0f} s   {single / ours:6.1f} × ours   "
        f"({verdict(single / ours, least_single)}; {N_SINGLE} pairs, scaled)"
    )
    print(
        f"  lpips, batched    {batched:9.0f} s   {batched / ours:6.1f} × ours   "
        f"({verdict(batched / ours, least_batched)}; {N_BATCHED} pairs in batches of {BATCH}, scaled)"
    )
    print(
        f"  peak memory       {memory:9.2f} GiB, {before:.2f} before (including codes and images "
        f"{(codes.nbytes + images.nbytes) / 2**30:.2f}); {verdict(memory, workload.most_memory, at_most=True)}"
    )
    print(f"  largest difference of the index {np.abs(index.sel(top=most)[:5] - theirs).max():.1e}\n", flush=True)


def best_of_turns(*works: Callable[[], Any]) -> np.ndarray:
    """Return the shortest time of each, s; they take turns."""
    return np.min([[timed(work)[0] for work in works] for _ in range(TURNS)], axis=0)


def compare_corrected(metric: ImageMetric, n_images: int, size: int, n_directions: int, target: float | None) -> None:
    """Print the time of the hub-corrected index over that of the raw one, and over one embedding of all images."""
    codes, images = make_inputs(n_images, size, n_directions)
    n_top = len(np.unique(top_stimuli(codes, top=5)))
    once, raw, corrected = best_of_turns(
        lambda: embed_once(images, metric),
        lambda: interpretability_index(codes, images, metric),
        lambda: interpretability_index(codes, images, metric, correction="hub"),
    )
    ratio = corrected / raw
    print(
        f"corrected: {metric.name}, {n_images} images of {size}×{size}, {n_directions} directions: embedding once "
        f"{once:.2f} s, raw {raw:.2f} s ({n_top} images are embedded), corrected {corrected:.2f} s (all are)\n"
        f"  corrected / raw {ratio:.2f} ({verdict(ratio, target, at_most=True)}); corrected / embedding all once "
        f"{corrected / once:.2f}; all images / those that raw embeds {n_images / n_top:.2f}",
        flush=True,
    )


def compare_corrections(metric: LPIPS) -> None:
    """Print the cost of the correction where raw embeds nearly all images, and where it embeds few.

    The correction needs the mean distance of each image to all others, and so the embedding of every image. Raw embeds
    those among the top stimuli alone: if these are few, no correction over all images can cost 1.3 times as much.
    Squared distances, such as LPIPS, have the sums over all images in closed form; others need all pairs.
    """
    compare_corrected(metric, 10_000, 64, 4096, 1.3)
    compare_corrected(metric, 10_000, 64, 50, None)
    for other in (Color(device="cpu"), Pixel(device="cpu")):
        compare_corrected(other, 10_000, 32, 4096, None)


def compare_draws(metric: LPIPS) -> None:
    """Print the time of intervals from 500 random halves over that from 50."""
    for each, n_images, n_directions in ((metric, 1200, 89), (Color(device="cpu"), 1200, 89), (metric, 4000, 500)):
        codes, images = make_inputs(n_images, 64, n_directions)
        few, many = best_of_turns(
            *(lambda n=n: index_interval(codes, images, each, n_resamples=n) for n in (50, 500))  # noqa: B023
        )
        ratio = many / few
        print(
            f"draws: {each.name}, {n_images} images, {n_directions} directions: 50 draws {few:.2f} s, 500 {many:.2f}, "
            f"ratio {ratio:.2f} ({verdict(ratio, 2, at_most=True)})",
            flush=True,
        )


def main() -> None:
    """Run each workload in a process of its own, whose peak of memory is then that of the workload."""
    parts = {"corrected": compare_corrections, "draws": compare_draws}
    if len(sys.argv) == 1:
        for part in (*map(str, range(len(WORKLOADS))), *parts):
            subprocess.run([sys.executable, __file__, part], check=True)
    elif sys.argv[1] in parts:
        parts[sys.argv[1]](make_metrics()[1])
    else:
        run(WORKLOADS[int(sys.argv[1])], *make_metrics())


if __name__ == "__main__":
    main()
