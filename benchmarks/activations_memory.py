"""Peak memory of `activations`, against the size of its result.

"center" of 8,000 images of 32 × 32 in a convolution of 64 channels, whose maps are 900 times as large as what is kept,
and "all" of 400 images of 64 × 64. The peak is what a fresh process gains over its peak after a first small batch.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from torch import nn

import neurosuper as ns

MIB = 2**20
CASES = {"center": (8000, 32), "mean": (8000, 32), "all": (400, 64)}  # images, pixels per side
BOUNDS = {"all": 1.6}  # results
N_CHANNELS, BATCH_SIZE = 64, 32


def peak() -> int:
    """Return the process's largest resident memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(position: str) -> None:
    """Print what one call takes and needs, in this process."""
    n_images, side = CASES[position]
    rng = np.random.default_rng(0)
    images = ns.load_images(rng.integers(0, 256, (n_images, side, side, 3), dtype=np.uint8))
    model = nn.Sequential(nn.Conv2d(3, N_CHANNELS, 3), nn.ReLU(inplace=True))
    settings = {"position": position, "device": "cpu", "batch_size": BATCH_SIZE}
    ns.activations(model, images[:BATCH_SIZE], ["0", "1"], **settings)
    before, start = peak(), time.perf_counter()
    result = ns.activations(model, images, ["0", "1"], **settings)
    seconds, gained = time.perf_counter() - start, peak() - before
    maps = n_images * N_CHANNELS * (side - 2) ** 2 * 4 * 2
    bound = f", at most {BOUNDS[position]}" if position in BOUNDS else ""
    print(
        f"{position:6} {n_images:,} images of {side} × {side}: result {result.nbytes / MIB:.1f} MiB of maps of "
        f"{maps / MIB:,.0f} MiB; peak {gained / MIB:.1f} MiB on top of {before / MIB:.0f} MiB "
        f"({gained / result.nbytes:.2f} results{bound}), {seconds:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", choices=CASES, help="measure one setting (the benchmark calls itself so)")
    position = parser.parse_args().measure
    if position:
        measure(position)
        return
    for each in CASES:
        subprocess.run([sys.executable, __file__, "--measure", each], check=True)


if __name__ == "__main__":
    main()
