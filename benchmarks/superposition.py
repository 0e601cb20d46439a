"""Measures of superposition: `interference` against its own matrix product, `spectrum` against scikit-learn's PCA.

    python benchmarks/superposition.py [--small]

`interference` of 65,536 directions of 2,048 units is compared with the products of all directions with all others, by
blocks of rows. `spectrum` by cross-validated PCA, with the default of 10 splits, of 2,800 stimuli × 2 repetitions ×
10,000 units (the size of Stringer et al. 2019) is compared with ten full PCAs; one is timed. A smaller spectrum is
compared with the equation of the method, split by split. `synergy` of all pairs of 512 units on 10,000 photographs is
compared with the time of embedding these by LPIPS, at 32 × 32 pixels, their own size, and enlarged to 64 × 64, the size
of the patches that LPIPS was calibrated with (Zhang et al. 2018).

The two of a pair alternate, two times each, and each has its best time. Ratios are of the time of the processor in this
process, in which other processes count little; those of the clock are given, too. `--small` takes a sixteenth of the
products of `interference`, and half of the stimuli and units of `spectrum`.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.decomposition import PCA
from workloads import label

from neurosuper import LPIPS, load_images, split_repetitions
from neurosuper.superposition import interference, spectrum, synergy

BLOCK, N_UNITS = 256, 2_048
SPLITS = 10
PAIRED = 512  # units


class Seconds:
    """The least seconds of the processor and of the clock that some work took, of several times."""

    def __init__(self) -> None:
        self.processor = self.clock = np.inf

    def add(self, work: Callable[[], Any]) -> Any:
        """Time some work, and return its result."""
        clock, processor = time.perf_counter(), time.process_time()
        result = work()
        self.processor = min(self.processor, time.process_time() - processor)
        self.clock = min(self.clock, time.perf_counter() - clock)
        return result

    def over(self, other: "Seconds", times: float = 1) -> str:
        """Return how many times as long as other work this took, by the processor and by the clock."""
        ratios = times * self.processor / other.processor, times * self.clock / other.clock
        return f"{ratios[0]:.2f} × ({ratios[1]:.2f} × by the clock)"


def compare_interference(n_directions: int) -> None:
    D = np.random.default_rng(0).standard_normal((n_directions, N_UNITS), np.float32)
    names = {"direction": np.arange(n_directions).astype(str), "unit": np.arange(N_UNITS).astype(str)}
    directions, product = xr.DataArray(D, names, ("direction", "unit")), np.empty((BLOCK, n_directions), np.float32)

    def multiply() -> None:
        for start in range(0, n_directions, BLOCK):
            np.matmul(D[start : start + BLOCK], D.T, out=product)

    ours, least = Seconds(), Seconds()
    for _ in range(2):
        least.add(multiply)
        found = ours.add(lambda: interference(directions))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"interference: {n_directions} directions of {N_UNITS} units in {ours.processor:.1f} s, {ours.over(least)} the "
        f"matrix product (target 1.5), peak {peak:.2f} GiB (target 2); rms {found.rms.item():.5f}",
        flush=True,
    )


def repeated(n_stimuli: int, n_units: int) -> xr.DataArray:
    """Return two repetitions of responses with a power law, in noise."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(n_stimuli, 1, n_units)) / np.sqrt(np.arange(1, n_units + 1))
    values = signal + 0.3 * rng.normal(size=(n_stimuli, 2, n_units))
    return xr.concat([label(values[:, k]) for k in range(2)], "repetition").transpose("stimulus", "repetition", "unit")


def by_equation(responses: xr.DataArray) -> np.ndarray:
    """Return the cross-validated spectrum, split by split, with the PCA of scikit-learn."""
    spectra = []
    for i in range(SPLITS):
        a, b = (half.values.astype(float) for half in split_repetitions(responses, random_state=i))
        components = PCA(svd_solver="full").fit(a).components_
        spectra.append((((a - a.mean(0)) @ components.T) * ((b - b.mean(0)) @ components.T)).sum(0) / (len(a) - 1))
    return np.mean(spectra, axis=0)


def compare_spectrum(n_stimuli: int, n_units: int) -> None:
    small = repeated(300, 1000)
    expected, found = by_equation(small)[:299], spectrum(small, n_splits=SPLITS, n_resamples=0).variance.values
    difference = np.abs(found - expected).max() / expected.max()
    responses = repeated(n_stimuli, n_units)
    first = responses.values[:, 0].astype(float)
    ours, theirs = Seconds(), Seconds()
    for _ in range(2):
        ours.add(lambda: spectrum(responses, n_splits=SPLITS, n_resamples=0))
        theirs.add(lambda: PCA(svd_solver="full").fit(first))
    print(
        f"spectrum: cvPCA of {n_stimuli} × 2 × {n_units} in {ours.processor:.1f} s; ten full PCAs of "
        f"scikit-learn (one, scaled) take {theirs.over(ours, times=SPLITS)} that (target 5); difference from the "
        f"equation on 300 × 2 × 1000: {difference:.1e} of the largest variance (target 1e-6)",
        flush=True,
    )


def compare_synergy(size: int) -> None:
    data = Path(os.environ["NEUROSUPER_TEST_DATA"])
    images = load_images(data / "images" / "cifar10_train_50000_jpg.zip", category_from="folder")[::5].compute()
    images = images.isel(row=np.arange(size) * 32 // size, column=np.arange(size) * 32 // size)
    metric = LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz", device="cpu")
    values = np.random.default_rng(2).gamma(1, 5, (len(images), PAIRED)).astype(np.float32)
    names = {"stimulus": images.stimulus.values, "unit": [f"u{i:03d}" for i in range(PAIRED)]}
    responses = xr.DataArray(values, names, ("stimulus", "unit"))
    batches = [images[start : start + 256] for start in range(0, len(images), 256)]
    synergy(responses[:400, :3], images, metric, n_resamples=19)  # compiles what is not compiled yet
    ours, least = Seconds(), Seconds()
    for _ in range(2):
        least.add(lambda: [metric.embed(batch) for batch in batches] and None)
        found = ours.add(lambda: synergy(responses, images, metric))
    print(
        f"synergy: all {found.sizes['pair']} pairs of {PAIRED} units on {len(images)} images of {size} × {size} pixels "
        f"in {ours.processor:.1f} s, {ours.over(least)} embedding the images once (target 3)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    is_small = parser.parse_args().small
    compare_interference(16_384 if is_small else 65_536)
    compare_spectrum(*((1_400, 5_000) if is_small else (2_800, 10_000)))
    if "NEUROSUPER_TEST_DATA" not in os.environ:
        print("synergy: not measured, as NEUROSUPER_TEST_DATA (photographs and weights of LPIPS) is not set")
        return
    for size in (32, 64):
        compare_synergy(size)


if __name__ == "__main__":
    main()
