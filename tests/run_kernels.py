"""Run every compiled kernel with bounds checks, and print those that were not run.

Sizes are above every block threshold, and input is unordered, repeated, NaN and infinite, for all kernels that can get
such input. Run by `test_kernels.py` in a process with NUMBA_BOUNDSCHECK=1 and its own cache, because numba's cache does
not distinguish kernels with and without these checks.
"""

import importlib
import pkgutil

import numpy as np
import torch

import neurosuper
from neurosuper import _kernels
from neurosuper.comparison import pair_kernels, partner_tests
from neurosuper.directions._solvers import (
    atoms,
    center_exchange,
    center_search,
    hals,
    ica_contrasts,
    lasso_active_set,
    nearest_centers,
    sae_kernels,
)
from neurosuper.directions._solvers.sae_codes import Activation
from neurosuper.directions._solvers.sae_training import Training
from neurosuper.interpretability import group_scores, rank_sums
from neurosuper.loaders import spike_counts
from neurosuper.loaders.nwb import frames
from neurosuper.metrics import distances, pair_distances
from neurosuper.superposition import combinations, factor_predictions, index_tables
from neurosuper.superposition.unit_groups import UnitGroups


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
    """Return rows with repetitions, one NaN and one infinite value."""
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
            lasso_active_set.active_set(C, (D @ D.T).to(dtype), 0.05, positive, 1e-5)


def run_dictionary():
    X, D = spoiled(draw(100, 30)), torch.nn.functional.normalize(draw(150, 30, seed=1), dim=1)
    Z = spoiled(draw(100, 150, seed=2))
    A, B = atoms.count_uses(X, Z)
    atoms.update_atoms(D, A, B)


def run_hals():
    D = spoiled(draw(40, 20))
    hals.nonnegative_codes(D @ D.T, spoiled(draw(300, 20, seed=1)) @ D.T, sweeps=5)


def run_ica():
    ica_contrasts.NONLINEARITIES["logcosh"](spoiled(draw(300, 70)))


def run_kmeans():
    X, C = spoiled(draw(700, 80)), draw(130, 80, seed=1)
    for rows in (X, draw(700, 80, seed=2)):
        label, *_ = nearest_centers.nearest(rows, C, C.mean(0), 2)
        for n_best in (1, 2):
            nearest_centers.best_screened(rows, nearest_centers.Screen(C), n_best)
        nearest_centers.sum_by_center(rows, (label, torch.zeros_like(C, dtype=torch.float64)))
        center_search.split_clusters(rows, label, C)
        center_search.split_clusters(rows, torch.zeros_like(label), C)


def run_exchange():
    for rows in (draw(400, 40), spoiled(draw(400, 40, seed=2))):
        center_exchange.exchange(rows, draw(30, 40, seed=1))


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
    distances._squared_distances(E, at[:, :7], at[:, 3:8])
    distances._squared_lengths(E, at, draw(20, 15), [1, 4, 15])
    pairs = np.random.default_rng(0).integers(0, 60, (2, 5000))
    pair_distances.squares_of_pairs(E, *pairs)


def run_group_scores():
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(60, dtype=np.int32), (7, 1)), axis=1)
    groups = rng.permuted(np.tile(np.arange(60) % 4, (30, 1)).astype(np.int8), axis=1).T.copy()
    group_scores._places_needed(order, groups, 4, 5)
    group_scores._mean_in_groups(rng.random((7, 60, 60)), order, groups, 5, np.zeros((30, 4, 7), np.float32))


def run_rank_sums():
    """Rank codes with ties and of constant items, of which some stimuli are left out; and none."""
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(size=(500, 5)), rng.integers(0, 3, (500, 5)), np.zeros((500, 2))])
    rank_sums.rank_sums(values, rng.integers(-1, 7, (3, 500)), 7)
    rank_sums.rank_sums(values, np.full((1, 500), -1), 7)


def run_index_tables():
    """Find the index of more items than a thread takes at once, in few subsets and in many, some with few stimuli."""
    rng = np.random.default_rng(0)
    leading, distances = np.stack([rng.permutation(60) for _ in range(150)]).astype(np.int32), rng.random((60, 60))
    for n_subsets in (1, 40):
        members = rng.random((60, n_subsets)) < 0.5
        for n_places in (3, 30, 60):
            index_tables._mean_in_subsets(
                leading[:, :n_places].copy(),
                members,
                rng.permutation(60),
                distances.astype(np.float32),
                5,
                np.zeros((150, n_subsets)),
            )


def run_combinations():
    """Rank combinations of more stimuli than lanes, and of fewer, with equal codes, infinite ones, and many places."""
    rng = np.random.default_rng(0)
    for n_stimuli in (50, 700):
        for values in (rng.normal(size=(9, n_stimuli)), rng.integers(0, 3, (9, n_stimuli)).astype(float)):
            rows = combinations.Rows.of(values)
            spoiled_rows = rows._replace(rounded=np.where(rng.random(values.shape) < 0.1, np.inf, rows.rounded))
            for kind, combine in enumerate(("sum", "product", "and")):
                members = np.stack([rng.permutation(9)[: 2 + (kind == 0)] for _ in range(150)])
                groups = UnitGroups(np.arange(150).astype(str), members, np.ones(members.shape))
                stimuli = {"stimulus": np.arange(n_stimuli).astype(str)}
                for own in (rows, spoiled_rows):
                    for n_places in (2, 50, 600):
                        combinations.leading_of_combinations(own, own, groups, combine, n_places, stimuli, 0)


def run_spikes():
    """Count spikes by searches and merges, of more than one block: in order, unordered, repeated, NaN and infinite."""
    rng = np.random.default_rng(0)
    spike_counts.BLOCK = 2**12
    ordered = np.sort(rng.uniform(0, 61, (8, 2000)))
    with_stray, with_nan, with_inf = ordered.copy(), ordered.copy(), ordered.copy()
    with_stray[:, 0], with_nan[:, [0, 77, 1999]], with_inf[:, [0, 1999]] = 99, np.nan, [-np.inf, np.inf]
    repeated = [np.round(ordered), np.ones((8, 2000)), np.tile(ordered[:, :100], 20)]
    unordered = [ordered[:, ::-1], rng.permuted(ordered, axis=1), with_stray]
    for times in (ordered, *repeated, *unordered, with_nan, with_inf, np.full((8, 2000), np.nan), ordered[:, :3]):
        for n in (1, 60, 5000):  # few windows are searched for, many are merged
            starts = rng.uniform(-5, 70, n)
            check_counts(times, starts, starts + rng.choice([-1, 0, 0.2, 9], n))


def check_counts(times, starts, ends):
    n_units, n_spikes = times.shape
    found = spike_counts.count_in_windows(times.ravel(), n_spikes * np.arange(1, n_units + 1), starts, ends)
    for row, train in zip(found.counts, times, strict=True):
        train = np.sort(train[np.isfinite(train)])
        expected = np.searchsorted(train, np.maximum(starts, ends)) - np.searchsorted(train, starts)
        np.testing.assert_array_equal(row, expected)


def run_frames():
    """Sum frames of more than one block: regular and repeated times, NaN and infinite values."""
    rng = np.random.default_rng(0)
    frames.BLOCK = 2**12
    starts, columns = rng.uniform(-5, 99, 200), np.array([4, 1, 1, 0])
    for times in (np.arange(3000) / 32, np.zeros(3000), np.repeat(np.arange(30.0), 100)):
        for values in (rng.normal(size=(3000, 5)), np.full((3000, 5), np.nan), np.full((3000, 5), np.inf)):
            for delays in (None, rng.uniform(-1, 1, 4)):
                frames.sum_frames(values, times, columns, starts, starts + rng.uniform(0, 9, 200), delays)


def run_readouts():
    """Fit a linear classifier to each of some items, also where classes do not overlap."""
    rng = np.random.default_rng(0)
    is_level = rng.random(300) < 0.3
    for gap in (0, 1, 20):
        factor_predictions._solve_svms(rng.normal(size=(300, 4)) + gap * is_level[:, None], is_level, 0.02, 0.01)


def run_partner_tests():
    """Permute stimuli of more items than a tile has, some of which have no partner."""
    own, theirs = np.random.default_rng(0).normal(size=(2, 50, 70))
    for r in (np.where(np.arange(70) % 9, 0.1, np.nan), np.full(70, 0.1)):
        partner_tests.p_of_partners(own, theirs, r, None, 130, 0)


def run_pair_kernels():
    """Rank many values, some of them equal, and values that an outlier leaves one key to; read and multiply pairs."""
    x = np.random.default_rng(0).normal(size=900)
    for values in (x, x.round(1), np.append(x, 1e30)):
        pair_kernels.rank(values)
    F = np.add.outer(x[:70], x[:70])
    pair_kernels.shuffled_product(F, F, np.arange(70)[::-1])
    pair_kernels.upper_triangle(F)
    pair_kernels.is_symmetric(F)


def find_run(kernels):
    """Return the names of kernels that were run: those that were compiled or loaded, and those that they call."""
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


RUNS = (
    run_lasso,
    run_dictionary,
    run_hals,
    run_ica,
    run_kmeans,
    run_exchange,
    run_autoencoder,
    run_distances,
    run_group_scores,
    run_rank_sums,
    run_index_tables,
    run_combinations,
    run_spikes,
    run_frames,
    run_readouts,
    run_partner_tests,
    run_pair_kernels,
)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
