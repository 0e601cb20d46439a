"""The interpretability index against scoring every pair of top images with the `lpips` package.

512 directions, top 20, 2,000 images of 64 × 64, LPIPS on AlexNet: 97,280 pairs, at most 2,000 unique images. Both
sides use the same random weights (the time does not depend on them) and the same threads. The peer is timed at its
best, in batches of 64 pairs, on a share of the directions and scaled up, since it takes minutes. It runs between two
runs of ours, so that a drift of the machine shows.
"""

import argparse
import itertools
import resource
import tempfile
import time
import warnings
from pathlib import Path

import lpips
import numpy as np
import torch
import xarray as xr

from neurosuper import LPIPS, interpretability_index, top_stimuli
from neurosuper.metrics.base import pixels

N_IMAGES, N_DIRECTIONS, TOP, SIZE = 2000, 512, 20, 64
BATCH = 64  # pairs


def make_inputs() -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(0)
    labels = [f"image{i:04d}" for i in range(N_IMAGES)]
    images = xr.DataArray(
        rng.integers(0, 256, (N_IMAGES, SIZE, SIZE, 3), dtype=np.uint8),
        dims=("stimulus", "row", "column", "channel"),
        coords={"stimulus": labels},
    )
    directions = [f"direction{i}" for i in range(N_DIRECTIONS)]
    codes = xr.DataArray(
        rng.normal(size=(N_IMAGES, N_DIRECTIONS)),
        dims=("stimulus", "direction"),
        coords={"stimulus": labels, "direction": directions},
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
        ours.embed(torch.zeros(1, 3, SIZE, SIZE))  # reads the file
    return peer, ours


def peak_memory() -> float:
    """Return the process's largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_ours(codes: xr.DataArray, images: xr.DataArray, metric: LPIPS) -> tuple[float, xr.DataArray]:
    start = time.perf_counter()
    index = interpretability_index(codes, images, metric, top=TOP)
    return time.perf_counter() - start, index


def time_peer(codes: xr.DataArray, images: xr.DataArray, peer: lpips.LPIPS, n: int) -> tuple[float, np.ndarray]:
    """Return the time for `n` directions, and their index."""
    start = time.perf_counter()
    top = top_stimuli(codes[:, :n], TOP)
    positions = images.get_index("stimulus").get_indexer(top.values.T.ravel()).reshape(n, TOP)
    pairs = np.array([pair for row in positions for pair in itertools.combinations(row, 2)])
    x = 2 * pixels(images, torch.device("cpu")) - 1
    with torch.inference_mode():
        distances = [
            peer(x[batch[:, 0]], x[batch[:, 1]]).flatten()
            for batch in (torch.as_tensor(part) for part in np.split(pairs, range(BATCH, len(pairs), BATCH)))
        ]
    index = -torch.cat(distances).reshape(n, -1).mean(1).numpy()
    return time.perf_counter() - start, index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-directions", type=int, default=64, help="directions the peer scores (of 512)")
    n = parser.parse_args().peer_directions
    codes, images = make_inputs()
    peer, metric = make_metrics()
    n_unique = len(np.unique(top_stimuli(codes, TOP)))
    print(f"index: {N_DIRECTIONS} directions, top {TOP}, {N_IMAGES} images of {SIZE}×{SIZE}, LPIPS-alex, CPU,")
    n_pairs = N_DIRECTIONS * TOP * (TOP - 1) // 2
    print(f"       {torch.get_num_threads()} threads; {n_unique} unique images in {n_pairs} pairs")
    before = peak_memory()
    first, index = time_ours(codes, images, metric)
    after = peak_memory()
    share, theirs = time_peer(codes, images, peer, n)
    second, _ = time_ours(codes, images, metric)
    ours, scaled = float(np.mean([first, second])), share * N_DIRECTIONS / n
    memory = f"peak memory {after:.0f} MiB, {before:.0f} before"
    print(f"ours   {ours:8.2f} s  (two runs: {first:.2f}, {second:.2f}; {memory})")
    print(f"lpips  {scaled:8.2f} s  (batches of {BATCH} pairs; {n} directions took {share:.2f} s, scaled)")
    print(f"ratio  {scaled / ours:8.1f}   largest difference of the index {np.abs(index[:n] - theirs).max():.1e}")


if __name__ == "__main__":
    main()
