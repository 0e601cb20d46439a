"""Run every compiled kernel with bounds checks, and print those that were not run.

Sizes are above every block threshold, and input is unordered, repeated and NaN wherever that can reach a kernel. For
`test_kernels.py`, in a process with NUMBA_BOUNDSCHECK=1 and a cache of its own: numba's cache does not know the checks.
"""

import importlib
import pkgutil

import numpy as np
import torch

import neurosuper
from neurosuper import _kernels
from neurosuper.directions import dictionary
from neurosuper.directions._solvers import (
    center_search as kmeans_search,
)
from neurosuper.directions._solvers import (
    hals,
    sae_kernels,
)
from neurosuper.directions._solvers import (
    ica_contrasts as ica_nonlinearities,
)
from neurosuper.directions._solvers import (
    lasso_active_set as active_set,
)
from neurosuper.directions._solvers import (
    nearest_centers as kmeans_nearest,
)
from neurosuper.directions._solvers.sae_codes import Activation
from neurosuper.directions._solvers.sae_training import Training
from neurosuper.loaders.nwb.frames import sum_frames
from neurosuper.loaders.nwb.spikes import count_spikes
from neurosuper.metrics import distances as embedded


def find_kernels():
    """Return all compiled functions of the package, by module and name."""
    found = {}
    for info in pkgutil.walk_packages(neurosuper.__path__, "neurosuper."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            function = getattr(value, "py_func", None)
            if function is not None and function.__module__ == info.name:
                found[f"{info.name}.{name}"] = value
    return found


def spoiled(X):
    """Return rows of which some are repeated, one is NaN and one infinite."""
    X = X.clone()
    X[1::5], X[7], X[8, 3] = X[0], torch.nan, torch.inf
    return X


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def run_lasso():
    D = torch.nn.functional.normalize(draw(150, 40), dim=1)
    D[1::3] = D[0]  # linearly dependent atoms
    for dtype in (torch.float32, torch.float64):
        C = spoiled(draw(200, 40, seed=1).to(dtype)) @ D.T.to(dtype)
        for positive in (False, True):
            active_set.active_set(C, (D @ D.T).to(dtype), 0.05, positive, 1e-5)


def run_dictionary():
    X, D = spoiled(draw(100, 30)), torch.nn.functional.normalize(draw(150, 30, seed=1), dim=1)
    Z = spoiled(draw(100, 150, seed=2))
    A, B = dictionary.count_uses(X, Z)
    dictionary.update_atoms(D, A, B)


def run_hals():
    D = spoiled(draw(40, 20))
    hals.nonnegative_codes(D @ D.T, spoiled(draw(300, 20, seed=1)) @ D.T, sweeps=5)


def run_ica():
    ica_nonlinearities.NONLINEARITIES["logcosh"](spoiled(draw(300, 70)))


def run_kmeans():
    X, C = spoiled(draw(700, 80)), draw(130, 80, seed=1)
    for rows in (X, draw(700, 80, seed=2)):
        label, *_ = kmeans_nearest.nearest(rows, C, C.mean(0), 2)
        for n_best in (1, 2):
            kmeans_nearest.best_screened(rows, kmeans_nearest.Screen(C), n_best)
        kmeans_nearest.sum_by_center(rows, (label, torch.zeros_like(C, dtype=torch.float64)))
        kmeans_search.split_clusters(rows, label, C)
        kmeans_search.split_clusters(rows, torch.zeros_like(label), C)


def run_autoencoder():
    for kind in ("topk", "batchtopk"):
        D = torch.nn.functional.normalize(draw(600, 30), dim=1)
        bias = {"encoder_bias": draw(600, seed=1), "bias": draw(30, seed=2)}
        training = Training({"directions": D, "encoder": D.clone()} | bias, Activation(kind, 7, 0.1), 0.01, 10)
        training.step(draw(300, 30, seed=3))
        training.step(spoiled(draw(300, 30, seed=3)))
        training.step(draw(300, 30, seed=4))
    sae_kernels.largest(spoiled(draw(50, 600)).numpy(), 600)


def run_distances():
    E, at = spoiled(draw(60, 2500)), torch.arange(300).reshape(20, 15) % 60
    embedded._squared_distances(E, at[:, :7], at[:, 3:8])
    embedded._squared_lengths(E, at, draw(20, 15), [1, 4, 15])


def run_recordings():
    """Spike times and frames; what is done about spikes that are not in order is tested in load/nwb."""
    rng = np.random.default_rng(0)
    starts = np.concatenate([rng.uniform(-1, 12, 50), [3.0, 3.0]])
    for n_spikes in (3, 100, 30_000):
        times = np.sort(rng.uniform(0, 10, (4, n_spikes)), axis=1)
        count_spikes(times.ravel(), n_spikes * np.arange(1, 5), starts, starts + rng.uniform(-1, 2, 52))
    frames = rng.normal(size=(500, 6))
    frames[3] = np.nan
    times = np.sort(rng.uniform(0, 10, 500))
    for delays in (None, np.linspace(0, 0.1, 3)):
        sum_frames(frames, times, np.array([4, 0, 4]), starts, starts + 0.5, delays)


def find_run(kernels):
    """Return the names of kernels that were run: those that were compiled or loaded, and what they call."""
    run = {name for name, kernel in kernels.items() if getattr(kernel, "sequential", kernel).signatures}
    while True:
        called = {
            f"{name.rpartition('.')[0]}.{other}" for name in run for other in kernels[name].py_func.__code__.co_names
        }
        if not (more := called & kernels.keys() - run):
            return run
        run |= more


def main():
    _kernels._inherits_threads = True  # loops in turn, whose errors numba reports as they are
    for run in RUNS:
        run()
    kernels = find_kernels()
    print(len(kernels), "kernels; not run:", *sorted(kernels.keys() - find_run(kernels)))  # noqa: T201


RUNS = (run_lasso, run_dictionary, run_hals, run_ica, run_kmeans, run_autoencoder, run_distances, run_recordings)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
