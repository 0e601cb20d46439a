"""One slow, obvious twin in NumPy for every compiled kernel: the same arguments, the same result.

A twin writes to its arguments where the kernel does. Memory whose content after a call means nothing is marked with NaN
(or `ANYTHING`, for integers), and not compared; see `test_naive.py`.
"""

import functools
import itertools

import numpy as np
from scipy import stats
from sklearn.svm import LinearSVC

ANYTHING = -999


# neurosuper.directions._solvers.atoms


def add_uses(X, Z, A, B):
    A += Z.T @ Z
    B += Z.T @ X


def turn_atoms(D, A, residual):
    B = residual + A @ D
    for j in range(len(D)):
        others = np.delete(np.arange(len(D)), j)
        residual[j] = B[j] - A[j, others] @ D[others]
        if A[j, j] > 0 and residual[j].any():
            D[j] = residual[j] / np.linalg.norm(residual[j])


# neurosuper.directions._solvers.center_exchange


def squared_distance(x, c):
    return ((x - c) ** 2).sum()


def nearest(x, C):
    return ((C - x) ** 2).sum(1).argmin()


def cheapest_entry(x, w, C, n, own):
    rise = n * w / (n + w) * ((C - x) ** 2).sum(1)
    rise[own] = np.inf
    return rise.argmin(), rise.min()


def update_means(X, w, label, C):
    member = np.eye(len(C))[label] * w[:, None]
    n = member.sum(0)
    C[n > 0] = (member.T @ X)[n > 0] / n[n > 0, None]
    return n


def _inertia(X, w, label):
    """Return the inertia about the means of clusters."""
    total = 0.0
    for k in np.unique(label):
        own = label == k
        total += (w[own] * ((X[own] - np.average(X[own], axis=0, weights=w[own])) ** 2).sum(1)).sum()
    return total


def move_rows(X, w, label, C, least):
    while True:
        before = label.copy()
        for i in range(len(X)):
            if (label == label[i]).sum() == 1:
                continue
            moved = [np.where(np.arange(len(X)) == i, k, label) for k in range(len(C))]
            inertia = [_inertia(X, w, other) for other in moved]
            if _inertia(X, w, label) - min(inertia) > least:
                label[:] = moved[int(np.argmin(inertia))]
        if (label == before).all():
            return update_means(X, w, label, C)


def splits(X, w, label, C, n):
    far, gain = np.full(len(C), -1), np.zeros(len(C))
    for k in range(len(C)):
        (own,) = np.nonzero(label == k)
        from_center = ((X[own] - C[k]) ** 2).sum(1)
        if not len(own) or from_center.max() == 0:
            continue
        far[k] = own[from_center.argmax()]
        leaves = ((X[own] - X[far[k]]) ** 2).sum(1) < from_center
        if 0 < leaves.sum() < len(own):
            gain[k] = _inertia(X[own], w[own], 0 * own) - _inertia(X[own], w[own], leaves)
    return far, gain


def merge_and_split(X, w, label, C, n, least):
    far, gain = splits(X, w, label, C, n)
    found = []
    for k in np.argsort(-gain)[:3]:
        for a in range(len(C)):
            for b in range(a):
                if k not in (a, b):
                    merged = np.where(label == b, a, label)
                    found.append((gain[k] - _inertia(X, w, merged) + _inertia(X, w, label), a, b, k))
    best, a, b, k = max(found, default=(0, 0, 0, 0))
    if best <= least:
        return False
    label[label == b] = a
    leaves = ((X - X[far[k]]) ** 2).sum(1) < ((X - C[k]) ** 2).sum(1)
    label[(label == k) & leaves] = b
    return True


def improve(X, w, C):
    least = 1e-9 * (w * (X**2).sum(1)).sum()
    label = np.array([nearest(x, C) for x in X])
    while True:
        n = move_rows(X, w, label, C, least)
        if not merge_and_split(X, w, label, C, n, least):
            return _inertia(X, w, label)


# neurosuper.directions._solvers.center_search


def centre(X, rows, P, mean):
    mean[:] = X[rows].mean(0)
    P[:] = X[rows] - mean
    return np.argmax((P**2).sum(1))


def side(P, axis, sides):
    for _ in range(6):
        axis[:] = P.T @ (P @ axis)
        axis /= np.linalg.norm(axis) or 1
    sides[:] = P @ axis


def halve_all(X, order, starts, halves, gain):
    for k in range(len(gain)):
        members = X[order[starts[k] : starts[k + 1]]]
        if len(members) < 4:
            continue
        P, mean, sides = np.empty_like(members), np.empty_like(members[0]), np.empty_like(members[:, 0])
        far = centre(members, np.arange(len(members)), P, mean)
        side(P, P[far].copy(), sides)
        if not (sides > 0).any() or (sides > 0).all():
            continue
        halves[k] = members[sides > 0].mean(0), members[sides <= 0].mean(0)
        labels = (sides <= 0).astype(int)
        gain[k] = ((members - mean) ** 2).sum() - ((members - halves[k][labels]) ** 2).sum()


# neurosuper.directions._solvers.hals


def sweep(gram, inverse, residual, z):
    products, before = residual + z @ gram, z.copy()
    for j in range(len(z)):
        z[j] = max(0, z[j] + (products[j] - z @ gram[j]) * inverse[j])
    residual[:] = products - z @ gram
    return ((z - before) ** 2 * np.diag(gram)).max(), (z**2 * np.diag(gram)).max()


def sweep_rows(gram, inverse, products, codes, sweeps, squared_tol):
    for p, z in zip(products, codes, strict=True):
        for _ in range(sweeps):
            change, largest = sweep(gram, inverse, p - z @ gram, z)
            if change <= squared_tol * largest:
                break


# neurosuper.directions._solvers.ica_contrasts


def tanh_in_place(S, totals):
    edges = len(S) * np.arange(len(totals) + 1) // len(totals)
    for total, start, stop in zip(totals, edges[:-1], edges[1:], strict=True):
        s = S[start:stop].astype(float)
        total += np.stack([(np.tanh(s) ** 2).sum(0), np.log(np.cosh(s)).sum(0)])
    S[:] = np.tanh(S.astype(float))


# neurosuper.directions._solvers.lasso_active_set; work.L has the rows of a lower triangle, its diagonal inverted


def count_peaks(n):
    return max(power for power in (1, 2, 4, 8, 16) if power <= n)


def strengths(q, positive):
    return np.maximum(q, 0) if positive else np.abs(q)


def find_peaks(work, positive):
    work.peaks[:] = np.nan
    n_peaks = count_peaks(len(work.q))
    for k in range(n_peaks):
        work.peaks[k] = strengths(work.q, positive)[k::n_peaks].max()


def highest(peaks, n):
    return peaks[: count_peaks(n)].max()


def add_atoms(z, bar, alpha, positive, work, n):
    by_peak = sorted(range(len(z)), key=lambda j: (j % count_peaks(len(z)), j))
    new = [j for j in by_peak if strengths(work.q, positive)[j] >= bar and z[j] == 0][:8]
    for n, j in enumerate(new, n):  # noqa: B020
        work.active[n], work.u[n], work.sign[n] = j, 0, np.sign(work.q[j])
        work.slope[n] = work.q[j] - alpha * np.sign(work.q[j])
    return n + 1 if new else n


def unpacked(L, n):
    """Return the lower triangle `(n, n)` as it is stored, diagonal inverted back."""
    triangle = np.zeros((n, n))
    triangle[np.tril_indices(n)] = L[: n * (n + 1) // 2]
    triangle[np.diag_indices(n)] = 1 / np.diag(triangle)
    return triangle


def factor(G, rank_tolerance, work, known, n):
    H = G[np.ix_(work.active[:n], work.active[:n])]
    for i in range(n):
        at = i * (i + 1) // 2
        row = np.linalg.solve(unpacked(work.L, i), H[i, :i]) if i else np.zeros(0)
        square = H[i, i] - row @ row
        work.L[at : at + i] = row
        if square <= rank_tolerance * H[i, i]:
            work.L[at + i :] = np.nan
            return i
        work.L[at + i] = 1 / np.sqrt(square)
    work.L[n * (n + 1) // 2 :] = np.nan
    return n


def solve(work, n):
    L = unpacked(work.L, n)
    work.step[:n] = np.linalg.solve(L @ L.T, work.slope[:n])


def solve_back(L, v, n):
    v[:n] = np.linalg.solve(unpacked(L, n).T, v[:n])


def find_null_step(work, i, n):
    row = work.L[i * (i + 1) // 2 :][:i]
    work.step[:n] = 0
    work.step[:i] = -np.linalg.solve(unpacked(work.L, i).T, row) if i else 0
    work.step[i] = 1
    if work.sign[:n] @ work.step[:n] > 0:
        work.step[:n] *= -1


def take_step(work, is_null_step, n):
    u, step = work.u[:n], work.step[:n]
    shrinking = np.flatnonzero(step * work.sign[:n] < 0)
    shares = -u[shrinking] / step[shrinking]
    share, first = np.inf if is_null_step else 1.0, -1
    if len(shares) and shares.min() < share:
        share, first = shares.min(), int(shrinking[shares.argmin()])
    if first < 0 and is_null_step:
        return 1.0, -1
    u += share * step
    return share, first


def drop_atom(G, z, work, i, n):
    j = work.active[i]
    work.q[:] += z[j] * G[j]
    z[j] = 0
    for values in (work.u, work.sign, work.slope, work.active):
        values[i : n - 1] = values[i + 1 : n].copy()


def commit_codes(G, z, work, n):
    new = np.zeros_like(z)
    new[work.active[:n]] = work.u[:n]
    inactive = np.setdiff1d(np.arange(len(z)), work.active[:n])
    new[inactive] = z[inactive]
    work.q[:] -= (new - z) @ G
    z[:] = new


def update_gradient(alpha, work, n):
    work.slope[:n] = work.q[work.active[:n]] - alpha * work.sign[:n]
    return np.abs(work.slope[:n]).max(initial=0)


def forget(*arrays):
    for values in arrays:
        values[:] = ANYTHING if values.dtype.kind == "i" else np.nan


def solve_active_set(G, z, rank_tolerance, work, known, n):
    dense = np.linalg.matrix_rank
    while n:
        H = G[np.ix_(work.active[:n], work.active[:n])]
        rank = next((i for i in range(n) if dense(H[: i + 1, : i + 1], tol=1e-9) <= i), n)
        if rank < n:
            factor(G, rank_tolerance, work, 0, n)
            find_null_step(work, rank, n)
        else:
            work.step[:n] = np.linalg.solve(H, work.slope[:n])
        share, first = take_step(work, rank < n, n)
        if first < 0:
            break
        work.slope[:n] *= 1 if rank < n else 1 - share
        drop_atom(G, z, work, first, n)
        n -= 1
    forget(work.step, work.L)
    return n


def lasso(c, G, alpha, positive):
    """Coordinate descent, until nothing changes."""
    z = np.zeros_like(c)
    for _ in range(5000):
        before = z.copy()
        for j in range(len(z)):
            q = c[j] - z @ G[j] + z[j] * G[j, j]
            z[j] = np.sign(q) * max(0, abs(q) - alpha) / G[j, j] if q > 0 or not positive else 0
        if np.abs(z - before).max() < 1e-14:
            break
    return z


def code_row(c, G, z, alpha, positive, tol, rank_tolerance, work):
    z[:] = lasso(c, G, alpha, positive)
    forget(*work)
    return 0.0


def code_rows(C, G, Z, alpha, positive, tol, rank_tolerance):
    Z[:] = [lasso(c, G, alpha, positive) for c in C]
    return np.zeros(min(len(C), 64))


# neurosuper.directions._solvers.nearest_centers


def widened(values):
    return np.array([int(value) << 16 for value in values], np.uint32).view(np.float32)


def refine(x_rounded, products, X, C, half, c_length, c_off, two, label, scores):
    exact = X @ C.T - half
    label[:] = exact.argmax(1)
    scores[:] = np.sort(exact, axis=1)[:, [-1, -2]].T
    if not two:
        scores[1] = np.nan


def add_rows(X, label, sums, n_threads):
    for x, k in zip(X, label, strict=True):
        sums[k] += x


# neurosuper.directions._solvers.sae_kernels


def encode(X, encoder, bias):
    return X @ encoder.T + bias


def sift_down(values, atoms, at=0):
    children = [child for child in (2 * at + 1, 2 * at + 2) if child < len(values)]
    least = min(children, key=lambda child: values[child], default=at)
    if values[least] < values[at]:
        for array in (values, atoms):
            array[[at, least]] = array[[least, at]]
        sift_down(values, atoms, least)


def largest(P, n_active):
    """Return them in ascending order of values; the kernel in the order of a heap."""
    atoms = P.argsort(1)[:, P.shape[1] - n_active :].astype(np.int32)
    values = np.take_along_axis(P, atoms, 1)
    return np.where(values > 0, atoms, 0), np.maximum(values, 0)


def dot(a, b):
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def as_matrix(starts, atoms, codes, n_atoms):
    Z = np.zeros((len(starts) - 1, n_atoms))
    for i in range(len(Z)):
        for entry in range(starts[i], starts[i + 1]):
            Z[i, atoms[entry]] = codes[entry]
    return Z


def rows_of(starts):
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def decode(starts, atoms, codes, D, X):
    E = as_matrix(starts, atoms, codes, len(D)) @ D - X
    return E, (E @ D.T)[rows_of(starts), atoms]


def by_atom(starts, atoms, n_atoms):
    entries = np.argsort(atoms, kind="stable")
    first = np.searchsorted(atoms[entries], np.arange(n_atoms + 1))
    return first, entries, rows_of(starts)[entries]


def adam(weights, first, second, gradient, rates):
    beta1, beta2, step, epsilon = rates
    first[:] = beta1 * first + (1 - beta1) * gradient
    second[:] = beta2 * second + (1 - beta2) * gradient**2
    weights -= step * first / (np.sqrt(second) + epsilon)


def update(groups, codes, slopes, E, X, D, encoder, moments, encoder_moments, rates):
    starts, entries, rows = groups
    for k in range(len(D)):
        mine = slice(starts[k], starts[k + 1])
        gradient = codes[entries[mine]] @ E[rows[mine]]
        gradient = gradient - (gradient @ D[k]) * D[k]
        adam(D[k], moments[0][k], moments[1][k], gradient, rates)
        D[k] /= np.linalg.norm(D[k])
        encoder_gradient = slopes[entries[mine]] @ X[rows[mine]]
        adam(encoder[k], encoder_moments[0][k], encoder_moments[1][k], encoder_gradient, rates)


# neurosuper.loaders.nwb


def check_sorted(values):
    return bool(np.isfinite(values).all() and (values == np.sort(values)).all())


def rank(values, edge):
    return sum(value < edge for value in values.tolist())


def merge(times, edges, ranks):
    ranks[-1] = ANYTHING
    ranks[:-1] = [rank(times, edge) for edge in edges]


def merge_partition(times, edges, n):
    merged = sorted([(edge, "edge") for edge in edges.tolist()] + [(time, "time") for time in times.tolist()])
    return sum(kind == "time" for _, kind in merged[:n])


def step(times, edges, ranks, n, i):
    ranks[n - i] = i
    return i + 1 if times[i] < edges[n - i] else i


def count_block(times, first, last, edges, start_at, end_at, counts, is_sorted):
    for unit in range(len(first)):
        spikes = times[first[unit] : last[unit]]
        is_sorted[unit] = check_sorted(spikes)
        if is_sorted[unit]:
            counts[unit] = [
                ((spikes >= edges[start]) & (spikes < edges[end])).sum()
                for start, end in zip(start_at, end_at, strict=True)
            ]


def frame_at(times, delay, edge):
    return sum(time + delay < edge for time in times.tolist())


def sum_block(frames, times, delays, starts, ends, totals, n_frames):
    n_nan = 0
    for column in range(frames.shape[1]):
        at = times + np.broadcast_to(delays, frames.shape[1:])[column]
        for window in range(len(starts)):
            values = frames[(at >= starts[window]) & (at < ends[window]), column]
            finite = values[np.isfinite(values)]
            totals[column, window] += finite.sum()
            n_frames[column, window] += len(finite)
            n_nan += len(values) - len(finite)
    return n_nan


# neurosuper.metrics.distances


def add_squared_distances(E, a, b, squares):
    for row in range(len(a)):
        squares[row] += ((E[a[row], None].astype(float) - E[b[row]]) ** 2).sum(-1)


def add_squared_lengths(E, at, weights, sizes, lengths):
    for row in range(len(at)):
        for i, n in enumerate(sizes):
            lengths[row, i] += ((weights[row, :n, None] * E[at[row, :n]].astype(float)).sum(0) ** 2).sum()


# neurosuper.metrics.pair_distances


def add_squares_of_pairs(E, a, b, squares):
    squares += ((E[a].astype(float) - E[b]) ** 2).sum(1)


# neurosuper.interpretability.group_scores


def places_needed(order, groups, n_groups, top):
    needed = [
        [max(np.flatnonzero(marks == group)[top - 1] + 1 for group in range(n_groups)) for marks in groups[own].T]
        for own in order
    ]
    return np.array(needed).max(1)


def mean_in_groups(tables, leading, groups, top, means):
    n_pairs = top * (top - 1)
    for draw, group, item in np.ndindex(means.shape):
        members = np.flatnonzero(groups[leading[item], draw] == group)[:top]
        means[draw, group, item] = tables[item][np.ix_(members, members)].sum() / n_pairs


# neurosuper.interpretability.rank_sums


def add_rank_sums(values, order, groups, sums, ties):
    among = groups >= 0
    for item, z in enumerate(values[:, among]):
        np.add.at(sums[item], groups[among], (2 * stats.rankdata(z)).astype(int))
        ties[item] += sum(t**3 - t for t in np.unique(z, return_counts=True)[1].tolist())


# neurosuper.superposition.index_tables


def mean_in_subsets(leading, members, rows, distances, top, means):
    for (item, order), (subset, member) in itertools.product(enumerate(leading), enumerate(members.T)):
        at = rows[order[member[order]][:top]]
        means[item, subset] = distances[np.ix_(at, at)].sum() / (top * (top - 1)) if len(at) == top else np.nan


def mean_of_first(leading, member, rows, distances, top):
    means = np.empty((1, 1))
    mean_in_subsets(leading[None], member[:, None], rows, distances, top, means)
    return means.item()


def add_in_subsets(first, members, near, top, totals, counts, chosen):
    chosen[:] = np.nan
    for subset in range(len(totals)):
        at = np.flatnonzero(members[first, subset])
        counts[subset] = len(at)
        totals[subset] = sum(near[i, j] for j, i in itertools.combinations(at[:top], 2))


# neurosuper.superposition.combinations


def join(a, b, kind):
    return [a + b, max(a, 0) * max(b, 0), min(a, b)][kind]


def combine(first, others, members, weights, kind, z):
    for s in range(len(z)):
        parts = [first[s], *others[members[1:], s]]
        z[s] = functools.reduce(
            lambda a, b: join(a, b, kind), (w * part for w, part in zip(weights, parts, strict=True))
        )


def threshold(z, bests, n):
    lanes = [z[i :: len(bests)].max(initial=-np.inf) for i in range(len(bests))]
    bests[:] = np.nan
    return sorted(lanes)[-n]


def nth_largest(values, n):
    found = sorted(values)[-n]
    values[:] = np.nan
    return found


def at_least(z, least, stimuli):
    found = np.flatnonzero(z >= least)
    stimuli[:] = ANYTHING
    stimuli[: len(found)] = found
    return len(found)


def sort(codes, stimuli):
    order = np.argsort(-codes, kind="stable")
    codes[:], stimuli[:] = codes[order], stimuli[order]


def lead_combinations(
    first, first_rounded, others, others_rounded, members, weights, scaled, slack, kind, leading, is_decided
):
    z = np.empty(first.shape[1])
    for group in range(len(members)):
        combine(first[members[group, 0]], others, members[group], weights[group], kind, z)
        order = np.argsort(-z)
        leading[group] = order[: leading.shape[1]]
        is_decided[group] = (np.diff(z[order[: leading.shape[1] + 1]]) < 0).all()
        if not is_decided[group]:
            leading[group] = ANYTHING


# neurosuper.superposition.factor_predictions


def solve_svms(X, is_level, c_level, c_rest):
    models = [
        LinearSVC(dual=False, tol=1e-12, max_iter=10_000, class_weight={True: c_level, False: c_rest}).fit(x, is_level)
        for x in X.T[:, :, None]
    ]
    return np.array([model.coef_[0, 0] for model in models]), np.array([model.intercept_[0] for model in models])


# neurosuper.comparison.partner_tests


def add_permuted_products(own, theirs, orders, sums):
    for draw, order in enumerate(orders):
        sums[:, draw] += (own * theirs[:, order]).sum(1)


# neurosuper.comparison.pair_kernels


def shuffled_product(F, G, order):
    return (F * G[order][:, order]).sum()


def upper_triangle(d):
    return d[np.triu_indices(len(d), 1)]


def is_symmetric(d):
    return (d == d.T).all()


def pack(x, low, scale):
    return np.array([int((value - low) * scale) << 32 | k for k, value in enumerate(x)], np.uint64)


def rank_nearly_sorted(x, packed):
    pairs = itertools.combinations([(int(each) >> 32, x[int(each) % 2**32]) for each in packed], 2)
    moves = sum(key == other and value > later for (key, value), (other, later) in pairs)
    return np.empty(0) if moves > 8 * len(x) else stats.rankdata(x)
