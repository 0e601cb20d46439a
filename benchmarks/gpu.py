"""Run the pairs of `finders.py` on a CUDA device; report the fraction of the device's peak that each routine reaches.

    python benchmarks/gpu.py [routine ...] [--repeats 3] [--small]

Peers run on the CPU. The peak is measured with large `torch.matmul` products in float32 in the same run, with TF32 off
as in all of neurosuper. The work of a routine is the work of its matrix products, as counted by torch in one run; its
time includes the copy of the responses to the device. The last line compares a sweep of K-means over 8 seeds, which
also evaluates each fit, with 8 separate fits. Without a CUDA device it prints one line. No figure of this benchmark has
been recorded yet: it was written without a GPU, and its arithmetic was only tested on a CPU.
"""

import os
import warnings
from functools import partial

os.environ.setdefault("TQDM_DISABLE", "1")

import finders

# isort: split

import numpy as np
import timing
import torch
import xarray as xr
from sklearn.base import clone
from torch.utils.flop_counter import FlopCounterMode

import neurosuper as ns

SIDE, PRODUCTS = 8192, 10  # side of the matrices whose product measures the peak, and the number of products
SEEDS = range(8)  # of a sweep


def peak_rate(device: str, side: int = SIDE) -> float:
    """Return the multiplications and additions per second of large products in float32."""
    a, b = (torch.randn(side, side, device=device) for _ in range(2))

    def multiply() -> None:
        for _ in range(PRODUCTS):
            product = torch.matmul(a, b)
        product[0, 0].item()  # waits

    multiply()
    laps = [timing.measure(multiply)[1].seconds for _ in range(5)]
    return PRODUCTS * 2 * side**3 / float(np.median(laps))


def share_of_peak(match: finders.Match, R: xr.DataArray, peak: float) -> float:
    """Return the rate of a routine's matrix products, relative to the peak."""
    run = partial(match.ours.run, finders.split(match, R)[0], 0)
    with FlopCounterMode(display=False) as counter:
        run()
    _, lap = timing.measure_quietly(run)
    return counter.get_total_flops() / lap.seconds / peak


def time_sweep(R: xr.DataArray, n: int, device: str, repeats: int) -> str:
    """Return a sentence that compares the time of one sweep over seeds with that of separate fits."""
    finder = ns.KMeans(n, device=device)
    contenders = {
        "sweep": lambda _: ns.sweep(finder, R, n_directions=[n], seeds=SEEDS),
        "fits": lambda _: [clone(finder).set_params(random_state=seed).fit(R) for seed in SEEDS],
    }
    for run in contenders.values():
        run(0)
    laps = timing.take_turns(contenders, dict.fromkeys(contenders, repeats), lambda name, result: None)
    sweep, fits = map(timing.seconds, laps.values())
    ratio = timing.summarize(timing.ratios(*laps.values()))
    return f"KMeans, {len(R):,} × {R.sizes['unit']:,}, {n}, {len(SEEDS)} seeds: sweep {sweep} s, fits {fits} s, {ratio}"


def main() -> None:
    options = finders.read_options(__doc__)
    if not torch.cuda.is_available():
        print("gpu: no CUDA device here; nothing was timed")
        return
    warnings.simplefilter("ignore")  # about convergence: the objective is compared instead
    peak = peak_rate("cuda")
    print(f"gpu: {torch.cuda.get_device_name()}, {peak / 1e12:.1f} TFLOP/s in float32; peers: ", end="")
    print(f"{finders.describe_machine()}\n")
    heading, rule = finders.HEADER
    print(f"{heading} share of peak |", f"{rule}---|", sep="\n", flush=True)
    for entry, match, R in finders.matches(options, "cuda"):
        share = share_of_peak(match, R, peak)
        for row in finders.rows_of(entry, match, R, options.repeats):
            print(f"{row} {share:.1%} |", flush=True)
    if not options.routines or "kmeans" in options.routines:
        R = finders.load("channels 50000 512", options.small)
        print(f"\n{time_sweep(R, 64 if options.small else 512, 'cuda', options.repeats)}", flush=True)


if __name__ == "__main__":
    main()
