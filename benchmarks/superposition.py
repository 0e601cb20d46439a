"""Measures of superposition: `interference` against its own matrix product, `spectrum` against scikit-learn's PCA.

`interference` of 65,536 directions of 2,048 units has to compute directions² × units products; its time is compared
with that of the products alone, by blocks of rows. `spectrum` by cross-validated PCA, with the default of 10 splits, of
2,800 stimuli × 2 repetitions × 10,000 units (the size of Stringer et al. 2019) is compared with ten full PCAs; one is
timed. A smaller spectrum is compared with the equation of the method, split by split. `synergy` of all pairs of 512
units on 10,000 photographs is compared with the time of embedding these by LPIPS.
"""

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

N_DIRECTIONS, N_UNITS, BLOCK = 65_536, 2_048, 256
STIMULI, NEURONS, SPLITS = 2_800, 10_000, 10
PAIRED = 512  # units


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that some work takes, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def compare_interference() -> None:
    D = np.random.default_rng(0).normal(size=(N_DIRECTIONS, N_UNITS)).astype(np.float32)
    names = {"direction": np.arange(N_DIRECTIONS).astype(str), "unit": np.arange(N_UNITS).astype(str)}
    directions, product = xr.DataArray(D, names, ("direction", "unit")), np.empty((BLOCK, N_DIRECTIONS), np.float32)

    def multiply() -> None:
        for start in range(0, N_DIRECTIONS, BLOCK):
            np.matmul(D[start : start + BLOCK], D.T, out=product)

    least, _ = timed(multiply)
    ours, found = timed(lambda: interference(directions))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"interference: {N_DIRECTIONS} directions of {N_UNITS} units in {ours:.0f} s, {ours / least:.2f} × the time of "
        f"the matrix product (target 1.5), peak {peak:.2f} GiB (target 2); rms {found.rms.item():.5f}"
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


def compare_spectrum() -> None:
    small = repeated(300, 1000)
    expected, found = by_equation(small)[:299], spectrum(small, n_splits=SPLITS, n_resamples=0).variance.values
    difference = np.abs(found - expected).max() / expected.max()
    responses = repeated(STIMULI, NEURONS)
    ours, _ = timed(lambda: spectrum(responses, n_splits=SPLITS, n_resamples=0))
    first = responses.values[:, 0].astype(float)
    theirs, _ = timed(lambda: PCA(svd_solver="full").fit(first))
    print(
        f"spectrum: cvPCA of {STIMULI} × 2 × {NEURONS} in {ours:.1f} s, ten full PCAs of scikit-learn "
        f"{SPLITS * theirs:.0f} s (one, scaled): {SPLITS * theirs / ours:.1f} × (target 5); difference from "
        f"the equation on 300 × 2 × 1000: {difference:.1e} of the largest variance (target 1e-6)"
    )


def compare_synergy() -> None:
    if "NEUROSUPER_TEST_DATA" not in os.environ:
        print("synergy: not measured, as NEUROSUPER_TEST_DATA (photographs and weights of LPIPS) is not set")
        return
    data = Path(os.environ["NEUROSUPER_TEST_DATA"])
    images = load_images(data / "images" / "cifar10_train_50000_jpg.zip", category_from="folder")[::5].compute()
    metric = LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz", device="cpu")
    values = np.random.default_rng(2).gamma(1, 5, (len(images), PAIRED)).astype(np.float32)
    names = {"stimulus": images.stimulus.values, "unit": [f"u{i:03d}" for i in range(PAIRED)]}
    responses = xr.DataArray(values, names, ("stimulus", "unit"))
    batches = [images[start : start + 256] for start in range(0, len(images), 256)]
    least, _ = timed(lambda: [metric.embed(batch) for batch in batches] and None)
    ours, found = timed(lambda: synergy(responses, images, metric))
    print(
        f"synergy: all {found.sizes['pair']} pairs of {PAIRED} units on {len(images)} images in {ours:.0f} s, "
        f"{ours / least:.2f} × the time of embedding the images once (target 3)"
    )


if __name__ == "__main__":
    compare_interference()
    compare_spectrum()
    compare_synergy()
