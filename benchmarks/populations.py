"""Populations against populations: `twins` against the one matrix of correlations that it needs.

    python benchmarks/populations.py [routine …] [--small]

`twins` of 4,096 × 4,096 items on 2,000 stimuli, with 999 permutations, is compared with NumPy's product of the z-scored
halves that partners are chosen on, (1,000 × 4,096)ᵀ (1,000 × 4,096), in float64. It is timed without rotations of the
units, and with the default of 20: each of these needs a random rotation, its product with the responses, and a matrix
of correlations of its own. `--small` takes a quarter of the items.

The two of a pair alternate (`timing.py`); ratios are of adjacent laps.
"""

import argparse
from collections.abc import Callable

import numpy as np
from timing import Lap, ratios, seconds, summarize, take_turns
from workloads import label

from neurosuper.comparison import twins

N_STIMULI, N_ITEMS = 2_000, 4_096


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


ROUTINES: dict[str, Callable[[bool], None]] = {"twins": compare_twins}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("routines", nargs="*", help=f"of {', '.join(ROUTINES)}; all by default")
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    if unknown := set(asked.routines) - ROUTINES.keys():
        parser.error(f"no routine {', '.join(sorted(unknown))}; there are {', '.join(ROUTINES)}")
    print("| what | ours, s | compared with | s | times as long (min–max) | target |\n|---|---|---|---|---|---|")
    for name in asked.routines or ROUTINES:
        ROUTINES[name](asked.small)


if __name__ == "__main__":
    main()
