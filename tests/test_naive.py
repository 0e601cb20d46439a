"""Every compiled kernel gives what its slow, obvious twin in `naive.py` gives, on arguments that hypothesis varies."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from neurosuper._kernels import FASTMATH
from neurosuper.directions._solvers.lasso_active_set import Workspace
from neurosuper.directions._solvers.nearest_centers import Screen
from tests import naive
from tests.run_kernels import find_kernels

KERNELS = {name.rpartition(".")[2].lstrip("_"): kernel for name, kernel in find_kernels().items()}
CASES = {}


def case(function):
    """Register a function that draws arguments for the kernel of the same name: `function(rng, n, m)`."""
    CASES[function.__name__] = function
    return function


def normal(rng, *shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def sparse(rng, *shape, dtype=np.float32):
    return normal(rng, *shape, dtype=dtype) * (rng.random(shape) < 0.4)


def unit_rows(D):
    return D / np.linalg.norm(D, axis=1, keepdims=True)


@case
def add_uses(rng, n, m):
    return normal(rng, m, 5), sparse(rng, m, n), np.zeros((n, n), np.float32), np.zeros((n, 5), np.float32)


@case
def turn_atoms(rng, n, m):
    Z, X, D = sparse(rng, m, n), normal(rng, m, 5), unit_rows(normal(rng, n, 5))
    A = np.pad(Z.T @ Z, 1)[1:-1, 1:-1]
    return D, A, Z.T @ X - A @ D


def clusters(rng, n, m):
    """Rows, how often each occurs, labels of clusters, and their means, from which two rows would be equally far."""
    n_clusters = 3 + n % 3
    X = normal(rng, 3 * n_clusters + m, 3, dtype=np.float64)
    w = rng.integers(1, 4, len(X)).astype(float)
    label = rng.permutation(np.arange(len(X)) % n_clusters)
    C = np.zeros((n_clusters, 3))
    return X, w, label, C, naive.update_means(X, w, label, C)


@case
def squared_distance(rng, n, m):
    return normal(rng, n, dtype=np.float64), normal(rng, n, dtype=np.float64)


@case
def nearest(rng, n, m):
    return normal(rng, m, dtype=np.float64), normal(rng, n, m, dtype=np.float64)


@case
def cheapest_entry(rng, n, m):
    X, w, label, C, sizes = clusters(rng, n, m)
    return X[0], w[0], C, sizes, label[0]


@case
def update_means(rng, n, m):
    X, w, label, C, _ = clusters(rng, n, m)
    return X, w, np.where(label == 1, 0, label), C  # one cluster is empty


@case
def move_rows(rng, n, m):
    X, w, label, C, _ = clusters(rng, n, m)
    return X, w, label, C, 1e-9


@case
def merge_and_split(rng, n, m):
    return *clusters(rng, n, m), 1e-9


@case
def splits(rng, n, m):
    return clusters(rng, n, m)


@case
def improve(rng, n, m):
    X, w, _, C, _ = clusters(rng, n, m)
    return X, w, C


@case
def centre(rng, n, m):
    rows = rng.permutation(n + m + 1)[: n + 1]  # two rows would be equally far from their mean
    return normal(rng, n + m + 1, 6), rows, np.zeros((n + 1, 6), np.float32), np.zeros(6, np.float32)


def long_axis(rng, n, dtype=np.float64):
    """Rows that are much longer along one axis, so that power iterations converge."""
    return (normal(rng, n, 6, dtype=dtype) * [9, 1, 1, 1, 1, 1] @ np.linalg.qr(rng.normal(size=(6, 6)))[0]).astype(
        dtype
    )


@case
def side(rng, n, m):
    P = long_axis(rng, n)
    return P, P[0].copy(), np.zeros(n)


@case
def halve_all(rng, n, m):
    X, label = long_axis(rng, 3 * n), np.sort(rng.integers(0, m, 3 * n))
    starts = np.searchsorted(label, np.arange(m + 1))
    return X, rng.permutation(3 * n), starts, normal(rng, m, 2, 6, dtype=np.float64), np.zeros(m)


def hals_problem(rng, n, m):
    D = normal(rng, n, 7, dtype=np.float64)
    D[0] *= rng.random() > 0.3
    gram = D @ D.T
    inverse = np.divide(1, np.diag(gram), out=np.zeros(n), where=np.diag(gram) > 0)
    return gram, inverse, normal(rng, m, 7, dtype=np.float64) @ D.T, np.abs(normal(rng, m, n, dtype=np.float64))


@case
def sweep(rng, n, m):
    gram, inverse, products, codes = hals_problem(rng, n, 1)
    return gram, inverse, products[0] - codes[0] @ gram, codes[0]


@case
def sweep_rows(rng, n, m):
    return *hals_problem(rng, n, m), 3, 1e-4


@case
def tanh_in_place(rng, n, m):
    S = normal(rng, 5 * n, 4) * np.array([1e-3, 1, 5, 20], np.float32)
    return S, np.zeros((m % 3 + 1, 2, 4))


def workspace(rng, n_atoms, n, positive=False):
    """A row in work: n of its atoms are active, generic numbers everywhere."""
    u = rng.uniform(0.1, 2, n_atoms)
    sign = np.ones(n_atoms) if positive else rng.choice([-1.0, 1.0], n_atoms)
    L = rng.uniform(0.5, 1.5, n_atoms * (n_atoms + 1) // 2)
    q, slope, steps = normal(rng, 3, n_atoms, dtype=np.float64)
    return Workspace(q, np.zeros(n_atoms), rng.permutation(n_atoms), u * sign, sign, slope, steps, L)


def gram_matrix(rng, n, n_units=None):
    D = unit_rows(normal(rng, n, n_units or n + 2, dtype=np.float64))
    return D @ D.T


@case
def count_peaks(rng, n, m):
    return (n * m,)


@case
def find_peaks(rng, n, m):
    return workspace(rng, n * m, 0), bool(m % 2)


@case
def highest(rng, n, m):
    return normal(rng, n * m, dtype=np.float64), n * m


@case
def add_atoms(rng, n, m):
    work, positive = workspace(rng, 4 * n, 0), bool(m % 2)
    naive.find_peaks(work, positive)
    z = np.zeros(4 * n)
    z[work.active[:2]] = 1
    return z, 0.7 * naive.highest(work.peaks, 4 * n), 0.1, positive, work, 2


@case
def solve_active_set(rng, n, m):
    G = gram_matrix(rng, n + 1, None if m % 2 else max(1, n // 2))
    work = workspace(rng, n + 1, n)
    work.u[:] = np.abs(work.u) * work.sign
    c = rng.normal(size=n + 1)
    active = work.active[:n]
    z = np.zeros(n + 1)
    work.q[:] = c
    work.slope[:n] = c[active] - G[np.ix_(active, active)] @ work.u[:n] - 0.1 * work.sign[:n]
    if not m % 2:  # a null step needs slopes in the row space
        work.slope[:n] = G[np.ix_(active, active)] @ rng.normal(size=n)
    return G, z, 1e-10, work, 0, n


@case
def take_step(rng, n, m):
    return workspace(rng, n, n), bool(m % 2), n


@case
def drop_atom(rng, n, m):
    work = workspace(rng, n + m, n)
    return gram_matrix(rng, n + m), normal(rng, n + m, dtype=np.float64), work, m % n, n


@case
def commit_codes(rng, n, m):
    work = workspace(rng, n + m, n)
    return gram_matrix(rng, n + m), normal(rng, n + m, dtype=np.float64), work, n


@case
def update_gradient(rng, n, m):
    return 0.3, workspace(rng, n + m, n), n


@case
def factor(rng, n, m):
    G, work = gram_matrix(rng, n + m, 3 if m % 3 == 0 else None), workspace(rng, n + m, n)
    return G, 1e-10, work, 0, n


@case
def solve(rng, n, m):
    return workspace(rng, n + 1, n), n


@case
def solve_back(rng, n, m):
    work = workspace(rng, n + 1, n)
    return work.L, work.step, n


@case
def find_null_step(rng, n, m):
    return workspace(rng, n + 1, n), n - 1, n


def lasso_problem(rng, n, m):
    D = unit_rows(normal(rng, n, 6, dtype=np.float64))
    return normal(rng, m, 6, dtype=np.float64) @ D.T, D @ D.T


@case
def code_row(rng, n, m):
    C, G = lasso_problem(rng, n, 1)
    return C[0], G, np.zeros(n), 0.4, bool(m % 2), 1e-12, 1e-10, workspace(rng, n, 0)


@case
def code_rows(rng, n, m):
    C, G = lasso_problem(rng, n, m)
    return C, G, np.zeros((m, n)), 0.4, bool(m % 2), 1e-12, 1e-10


@case
def widened(rng, n, m):
    values = torch.from_numpy(normal(rng, n)).bfloat16()
    return (values.view(torch.int16).numpy().view(np.uint16),)


@case
def refine(rng, n, m):
    X, C = normal(rng, m, 8), normal(rng, n + 1, 8)
    screen = Screen(torch.from_numpy(C))
    rounded = [values.view(torch.int16).numpy().view(np.uint16) for values in screen.multiply(torch.from_numpy(X))]
    tables = [table.numpy() for table in (screen.half, screen.length, screen.off)]
    return *rounded, X, C, *tables, bool(m % 2), np.empty(m, np.int64), np.empty((2, m), np.float32)


@case
def add_rows(rng, n, m):
    return normal(rng, n, 7), rng.integers(0, m, n), np.zeros((m, 7)), 3


@case
def encode(rng, n, m):
    return normal(rng, m, 5), normal(rng, n, 5), normal(rng, n)


@case
def sift_down(rng, n, m):
    values = np.sort(normal(rng, n))
    values[0] = rng.normal()
    return values, rng.permutation(n).astype(np.int32)


@case
def largest(rng, n, m):
    return normal(rng, m, n), m % n + 1


@case
def dot(rng, n, m):
    return normal(rng, n), normal(rng, n)


def active_lists(rng, n, m):
    Z = sparse(rng, m, n)
    rows, atoms = Z.nonzero()
    return np.searchsorted(rows, np.arange(m + 1)), atoms, Z[rows, atoms]


@case
def decode(rng, n, m):
    return *active_lists(rng, n, m), unit_rows(normal(rng, n, 5)), normal(rng, m, 5)


@case
def by_atom(rng, n, m):
    starts, atoms, _ = active_lists(rng, n, m)
    return starts, atoms, n


RATES = np.array([0.5, 0.999, 0.1, 1e-3], np.float32)


@case
def adam(rng, n, m):
    return normal(rng, n), normal(rng, n), np.abs(normal(rng, n)), normal(rng, n), RATES


@case
def update(rng, n, m):
    starts, atoms, codes = active_lists(rng, n, m)
    groups = naive.by_atom(starts, atoms, n)
    moments, encoder_moments = ((normal(rng, n, 5), np.abs(normal(rng, n, 5))) for _ in range(2))
    E, X, encoder = normal(rng, m, 5), normal(rng, m, 5), normal(rng, n, 5)
    D = unit_rows(normal(rng, n, 5))
    return groups, codes, normal(rng, len(codes)), E, X, D, encoder, moments, encoder_moments, RATES


def rounded_times(rng, n):
    """Sorted times, many of which are equal."""
    return np.sort(rng.integers(0, 40, n) / 8)


@case
def check_sorted(rng, n, m):
    values = rounded_times(rng, n)
    if m % 4:
        values[rng.integers(n)] = [np.nan, np.inf, 2.0][m % 4 - 1]
    return (values,)


@case
def rank(rng, n, m):
    return rounded_times(rng, n), rng.integers(-1, 42) / 8


@case
def merge(rng, n, m):
    edges = rounded_times(rng, 3 * m)
    return rounded_times(rng, 5 * n - 5), edges, np.empty(len(edges) + 1, np.int32)


@case
def merge_partition(rng, n, m):
    return rounded_times(rng, n), rounded_times(rng, m), int(rng.integers(0, n + m))


@case
def step(rng, n, m):
    passed = int(rng.integers(0, n))
    edge = int(rng.integers(0, m))
    return rounded_times(rng, n), rounded_times(rng, m), np.zeros(m + 1, np.int32), passed + edge, np.uint64(passed)


@case
def count_block(rng, n, m):
    units = [rounded_times(rng, rng.integers(0, 5 * n)) for _ in range(3)]
    units[1][:1] = np.nan
    units.append(np.sort(rng.random(33 * 2 * m)) * 5)  # many spikes: edges are searched for
    stops = np.cumsum([len(unit) for unit in units])
    edges, place = rounded_times(rng, 2 * m), rng.permutation(2 * m).astype(np.int32)
    starts, ends = np.minimum(place[:m], place[m:]), np.maximum(place[:m], place[m:])
    counts = np.zeros((4, m), np.int32)
    return np.concatenate(units), np.append(0, stops[:-1]), stops, edges, starts, ends, counts, np.ones(4, bool)


@case
def frame_at(rng, n, m):
    return rounded_times(rng, n), m / 8, rng.integers(-1, 42) / 8


@case
def sum_block(rng, n, m):
    frames = rng.integers(-9, 9, (5 * n, 3)).astype(float)
    frames[rng.random(frames.shape) < 0.2] = [np.nan, np.inf][n % 2]
    starts = rng.integers(-2, 40, m) / 8
    delays = np.zeros(1) if m % 2 else rng.integers(-4, 4, 3) / 8
    totals, n_frames = np.zeros((3, m)), np.zeros((3, m), np.int32)
    return frames, rounded_times(rng, 5 * n), delays, starts, starts + rng.integers(-2, 9, m) / 8, totals, n_frames


@case
def add_squared_distances(rng, n, m):
    E, a, b = normal(rng, n, 1030), rng.integers(0, n, (m, 4)), rng.integers(0, n, (m, 2))
    return E, a, b, np.zeros((m, 4, 2))


@case
def add_squares_of_pairs(rng, n, m):
    a, b = rng.integers(0, n, (2, 300 * m))
    return normal(rng, n, 1030), a, b, np.ones(300 * m)


@case
def add_squared_lengths(rng, n, m):
    sizes = np.array([1, 3, 4])
    return normal(rng, n, 1030), rng.integers(0, n, (m, 4)), normal(rng, m, 4), sizes, np.zeros((m, 3))


def draw_groups(rng, n, m):
    """Return orders (item, place) of 2n + 8 stimuli, and their groups (stimulus, draw), at least 4 in each of two."""
    marks = np.arange(2 * n + 8) % 2
    order = rng.permuted(np.broadcast_to(np.arange(len(marks), dtype=np.int32), (m, len(marks))), axis=1)
    return order, rng.permuted(np.tile(marks.astype(np.int8), (5, 1)), axis=1).T.copy()


@case
def places_needed(rng, n, m):
    return *draw_groups(rng, n, m), 2, 1 + n % 4


@case
def mean_in_groups(rng, n, m):
    order, groups = draw_groups(rng, n, m)
    tables = rng.random((m, order.shape[1], order.shape[1]))
    tables = tables + tables.transpose(0, 2, 1)
    tables[:, np.arange(order.shape[1]), np.arange(order.shape[1])] = 0
    return tables, order, groups, 2 + n % 3, np.zeros((5, 2, m), np.float32)


@case
def add_rank_sums(rng, n, m):
    """Codes with ties, some of them of stimuli that are left out."""
    values = rng.integers(0, 6, (m, 3 * n)).astype(np.float32)
    sums, ties = np.zeros((m, 4), np.int64), np.zeros(m)
    return values, values.argsort(axis=1), rng.integers(-1, 4, 3 * n), sums, ties


@case
def mean_in_subsets(rng, n, m):
    """Items whose leading stimuli are in some subsets, more or fewer than those that distances are copied for."""
    n_stimuli = 12 + 3 * n
    leading = np.stack([rng.permutation(n_stimuli) for _ in range(m + 1)])[:, : 10 + 2 * n].astype(np.int32)
    distances = rng.random((n_stimuli, n_stimuli)).astype(np.float32)
    distances = distances + distances.T
    np.fill_diagonal(distances, 0)
    members = rng.random((n_stimuli, 3 * m + n)) < 0.5
    members[leading[0], 0] = False
    return leading, members, rng.permutation(n_stimuli), distances, 2 + n % 3, np.zeros((m + 1, 3 * m + n))


@case
def mean_of_first(rng, n, m):
    leading, members, rows, distances, top, _ = mean_in_subsets(rng, n, m)
    return leading[m], members[:, 0].copy(), rows, distances, top


@case
def add_in_subsets(rng, n, m):
    members = rng.random((9 + n, 5 * m)) < 0.5
    return rng.permutation(9 + n)[:9], members, rng.random((9, 9)), n, np.ones(5 * m), np.ones(5 * m), np.ones((10, 50))


@case
def join(rng, n, m):
    return rng.normal(), rng.normal(), n % 3


@case
def combine(rng, n, m):
    rows = normal(rng, 3, 9 * n)
    members, weights = rng.permutation(3)[: 1 + m % 3], normal(rng, 1 + m % 3)
    return rows[members[0]], rows, members, weights, n % 3, np.zeros(9 * n, np.float32)


@case
def threshold(rng, n, m):
    return normal(rng, 9 * n), np.zeros(n + 3, np.float32), 1 + m % n


@case
def at_least(rng, n, m):
    z = normal(rng, 9 * n)
    return z, z[m], np.zeros(9 * n, np.int32)


@case
def nth_largest(rng, n, m):
    values = rng.integers(0, 20, 9 * n).astype(float)
    values[rng.integers(0, 9 * n, m)] = -np.inf
    return values, 1 + int(rng.integers(9 * n))


@case
def sort(rng, n, m):
    return rng.integers(0, 9, n).astype(float), rng.permutation(n).astype(np.int32)


@case
def lead_combinations(rng, n, m):
    """Combinations of whole numbers, whose codes are often equal, and of others; more stimuli than lanes, or fewer."""
    first, others = (rng.normal(scale=3, size=(5, 40 * n)) for _ in range(2))
    if m % 3 == 0:
        first, others = first.round(), others.round()
    members = np.stack([rng.permutation(5)[: 1 + n % 3] for _ in range(m)])
    weights = rng.choice([-1.0, 0.5, 1.0], members.shape)
    rounded = (values.astype(np.float32) for values in (first, others))
    arrays = first, next(rounded), others, next(rounded), members, weights, weights.astype(np.float32)
    return *arrays, np.full(m, 1e-4), m % 3 if m % 3 < n % 3 else 0, np.zeros((m, 2 + n), np.int32), np.zeros(m, bool)


def flat(value):
    """Return all arrays and numbers in nested tuples."""
    return list(itertools.chain.from_iterable(map(flat, value))) if isinstance(value, tuple) else [np.asarray(value)]


@case
def solve_svms(rng, n, m):
    is_level = rng.random(3 * n) < 0.4
    is_level[:2] = False, True
    return rng.normal(size=(3 * n, m)) + 2 * is_level[:, None], is_level, *rng.uniform(0.01, 1, 2)


@case
def add_permuted_products(rng, n, m):
    orders = np.stack([rng.permutation(n) for _ in range(m)]).astype(np.int32)
    own, theirs = rng.normal(size=(2, 3, n, 32))
    return own, theirs, orders, np.ones((3, m, 32))


@case
def shuffled_product(rng, n, m):
    F, G = rng.normal(size=(2, n, n))
    return F + F.T, G + G.T, rng.permutation(n)


@case
def upper_triangle(rng, n, m):
    return (rng.normal(size=(n, n)),)


@case
def is_symmetric(rng, n, m):
    """Matrices of several tiles, of which one entry may differ."""
    d = np.add.outer(*rng.normal(size=(2, 1)).repeat(9 * n, axis=1)) * np.ones(9 * n)
    d[rng.integers(9 * n), rng.integers(9 * n)] += m % 2
    return (d,)


@case
def pack(rng, n, m):
    x = rng.normal(size=9 * n)
    return x, x.min(), 1000.0 / np.ptp(x)


@case
def rank_nearly_sorted(rng, n, m):
    """Values with the same key, some of them equal, and in the end too many of them."""
    x = rng.normal(size=9 * n).round(m % 3)
    return x, np.sort(naive.pack(x, x.min(), m))


def assert_same(ours, expected, near):
    for one, other in zip(flat(ours), flat(expected), strict=True):
        assert one.shape == other.shape
        means_something = ~np.isnan(other) if other.dtype.kind == "f" else other != naive.ANYTHING
        np.testing.assert_allclose(one[means_something], other[means_something], rtol=near, atol=near)


def in_ascending_order(found):
    """Return what `largest` returns, sorted: a heap has another order. Atoms without a value are zero."""
    atoms, values = found
    order = values.argsort(1)
    return np.take_along_axis(np.where(values > 0, atoms, 0), order, 1), np.take_along_axis(values, order, 1)


def test_each_kernel_has_a_twin():
    assert len(KERNELS) == len(find_kernels()), "kernels of two modules have the same name"
    assert sorted(CASES) == sorted(KERNELS), "write a twin in naive.py, and draw its arguments here"
    assert KERNELS.keys() <= vars(naive).keys()


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 12), m=st.integers(1, 9))
def test_a_kernel_gives_what_its_twin_gives(name, seed, n, m):
    arguments = CASES[name](np.random.default_rng(seed), n, m)
    ours, expected = copy.deepcopy(arguments), copy.deepcopy(arguments)
    if name == "turn_atoms":  # a view of a larger matrix, as in `update_atoms`
        ours = arguments
    found, truth = KERNELS[name](*ours), getattr(naive, name)(*expected)
    is_single = any(value.dtype == np.float32 for value in flat((found if found is not None else 0, ours)))
    if name == "largest":
        found = in_ascending_order(found)
    near = 2e-4 if is_single else 1e-7
    assert_same(() if truth is None else found, () if truth is None else truth, near)
    assert_same(ours, expected, near)


def test_kernels_may_regroup_sums_but_not_assume_finite_numbers():
    for kernel in KERNELS.values():
        options = getattr(kernel, "sequential", kernel).targetoptions
        assert options.get("fastmath", FASTMATH) == FASTMATH
    assert not FASTMATH & {"nnan", "ninf", "fast"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_stay_in_their_row(bad):
    rng = np.random.default_rng(0)
    E, a, b, squares = add_squared_distances(rng, 6, 5)
    E[0, 1029] = bad
    KERNELS["add_squared_distances"](E, a, b, squares)
    assert_array_equal(~np.isfinite(squares), (a == 0)[:, :, None] | (b == 0)[:, None])
    gram, inverse, products, codes = hals_problem(rng, 5, 40)
    expected = codes.copy()
    KERNELS["sweep_rows"](gram, inverse, products, expected, 3, 0.0)
    products[7] = bad
    KERNELS["sweep_rows"](gram, inverse, products, codes, 3, 0.0)
    assert_array_equal(np.delete(codes, 7, 0), np.delete(expected, 7, 0))
    S, totals = tanh_in_place(rng, 4, 1)
    S[3, 0] = bad
    KERNELS["tanh_in_place"](S, totals)
    assert np.isfinite(totals).all((0, 1)).tolist() == [False, True, True, True]
    P = np.array([[1, bad, 3, 2]], np.float32)
    assert KERNELS["largest"](P, 2)[1].tolist() == [[2, 3] if np.isnan(bad) else [3, np.inf]]
