"""The peers of our finders with their best settings, and the objectives in float64 by which both are judged.

X (stimulus, unit) responses, D (direction, unit) directions, Z (stimulus, direction) codes.

Import this module before NumPy: it picks the kernels of OpenBLAS, which is what NumPy, SciPy, scikit-learn, faiss and
spams multiply matrices with. The OpenBLAS 0.3.15 in the wheels of faiss and spams does not know newer processors, and
falls back to kernels that are three times slower; what an environment asks for may be slower too.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def pick_kernels() -> None:
    """Select OpenBLAS kernels for the widest vectors of this processor, on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    kernels = "SkylakeX" if "avx512f" in flags else "Haswell" if "avx2" in flags else None
    if kernels:
        os.environ["OPENBLAS_CORETYPE"] = kernels


pick_kernels()

import numba  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn import cluster, decomposition  # noqa: E402

TILE_ROWS = 4096  # stimuli converted to float64 at once
GAUSSIAN = 0.374567207491438  # mean of log cosh of a standard normal


@dataclass(frozen=True)
class Contender:
    """A function to be timed, and how its result is read.

    `run(responses, seed)` is timed; `read(result, responses)` extracts the arguments of the objective from its result
    and is not timed. A slow contender has few `laps`, or is timed on a `share` of the stimuli, and its time is scaled.
    """

    name: str
    run: Callable[[Any, int], Any]
    read: Callable[[Any, Any], Any]
    laps: int | None = None
    share: float = 1.0


# objectives


def inertia(X: np.ndarray, C: np.ndarray) -> float:
    """Return the sum of squared distances to the means of the clusters that these centres make."""
    C = C.astype(np.float64)
    sums, counts, total = np.zeros_like(C), np.zeros(len(C)), 0.0
    for start in range(0, len(X), TILE_ROWS):
        rows = X[start : start + TILE_ROWS].astype(np.float64)
        nearest = (rows @ C.T - (C**2).sum(1) / 2).argmax(1)
        np.add.at(sums, nearest, rows)
        counts += np.bincount(nearest, minlength=len(C))
        total += (rows**2).sum()
    return total - ((sums**2).sum(1) / counts.clip(min=1)).sum()


def unit_inertia(X: np.ndarray, C: np.ndarray) -> float:
    """Return the inertia of response vectors of unit length."""
    return inertia(unit_rows(X), C)


def explained_variance(X: np.ndarray, D: np.ndarray) -> float:
    """Return the share of the variance in the space that directions span."""
    mean, basis = X.mean(0, dtype=np.float64), np.linalg.qr(D.astype(np.float64).T)[0]
    explained = total = 0.0
    for start in range(0, len(X), TILE_ROWS):
        rows = X[start : start + TILE_ROWS] - mean
        explained += ((rows @ basis) ** 2).sum()
        total += (rows**2).sum()
    return explained / total


def contrast(X: np.ndarray, Z: np.ndarray) -> float:
    """Return the log likelihood per stimulus of independent sources, above that of Gaussian ones.

    Σ |E log cosh z − E log cosh ν| over sources of unit variance, ν standard normal: each source is taken to be heavy
    or light in the tail, whichever it is, as FastICA does. Both sides' sources are turned into the nearest rotation of
    one whitening of the responses, so that neither gains by sources that are not white.
    """
    centred = X - X.mean(0, dtype=np.float64)
    variance, axes = np.linalg.eigh(centred.T @ centred / len(X))
    n = Z.shape[1]
    white = centred @ (axes[:, -n:] / np.sqrt(variance[-n:]))
    left, _, right = np.linalg.svd(white.T @ (Z - Z.mean(0, dtype=np.float64)))
    sources = np.abs(white @ (left @ right))
    return np.abs((np.logaddexp(0, -2 * sources) + sources - np.log(2)).mean(0) - GAUSSIAN).sum()


def nmf_loss(X: np.ndarray, H: np.ndarray) -> float:
    """Return ½ ‖X − W H‖², each side's H with the best W ≥ 0."""
    W = solve_codes(X, H, 0.0, positive=True)
    return sum(((X[at] - W[at] @ H.astype(np.float64)) ** 2).sum() for at in _slices(len(X))) / 2


def lasso(X: np.ndarray, D: np.ndarray, alpha: float) -> float:
    """Return the mean of ½ ‖x − z D‖² + α ‖z‖₁ over stimuli, each side's atoms (of unit length) with the best codes."""
    D = unit_rows(D.astype(np.float64))
    Z = solve_codes(X, D, alpha)
    return sum(((X[at] - Z[at] @ D) ** 2).sum() / 2 + alpha * np.abs(Z[at]).sum() for at in _slices(len(X))) / len(X)


def codes_error(X: np.ndarray, Z: np.ndarray, best: np.ndarray) -> float:
    """Return the largest difference between codes and the best ones, of the first stimuli, relative to the largest."""
    best = best[: len(Z)]
    return np.abs(Z - best).max() / np.abs(best).max()


def r2(X: np.ndarray, reconstructed: np.ndarray) -> float:
    """Return the share of the variance that a reconstruction has."""
    X = X.astype(np.float64)
    return 1 - ((X - reconstructed) ** 2).sum() / ((X - X.mean(0)) ** 2).sum()


def unit_rows(X: np.ndarray) -> np.ndarray:
    """Return rows scaled to unit length; zeros stay."""
    return X / np.linalg.norm(X, axis=1, keepdims=True).clip(min=1e-12)


def _slices(n: int) -> list[slice]:
    return [slice(start, start + TILE_ROWS) for start in range(0, n, TILE_ROWS)]


def solve_codes(X: np.ndarray, D: np.ndarray, alpha: float, positive: bool = False) -> np.ndarray:
    """Return the codes (stimulus, direction) that minimise ½ ‖x − z D‖² + α ‖z‖₁, accurately."""
    D = D.astype(np.float64)
    Z = np.zeros((len(X), len(D)))
    for at in _slices(len(X)):
        _descend(X[at] @ D.T, D @ D.T, Z[at], alpha, positive)
    return Z


@numba.njit(parallel=True, fastmath=True, cache=True)
def _descend(Q: np.ndarray, G: np.ndarray, Z: np.ndarray, alpha: float, positive: bool) -> None:
    """Change one code after another until none moves by 1e-8 of the largest possible; Q becomes its slope."""
    for i in numba.prange(len(Q)):
        enough = 1e-8 * np.abs(Q[i]).max()
        for _ in range(10_000):
            largest = 0.0
            for j in range(len(G)):
                if G[j, j] == 0:
                    continue
                aim = Q[i, j] + Z[i, j] * G[j, j]
                code = max(aim - alpha, 0.0) if positive else np.sign(aim) * max(abs(aim) - alpha, 0.0)
                change = code / G[j, j] - Z[i, j]
                if change != 0:
                    Z[i, j] += change
                    Q[i] -= change * G[j]
                    largest = max(largest, abs(change) * G[j, j])
            if largest <= enough:
                break


# peers


def sklearn_kmeans(n: int, unit: bool = False) -> Contender:
    """One k-means++ start, and Lloyd's algorithm until it rests: its defaults."""

    def run(X: np.ndarray, seed: int) -> cluster.KMeans:
        return cluster.KMeans(n, n_init=1, random_state=seed).fit(unit_rows(X) if unit else X)

    name = "scikit-learn KMeans" + (" on unit rows" if unit else "")
    return Contender(name, run, lambda fitted, X: fitted.cluster_centers_, laps=1)


def faiss_kmeans(n: int, spherical: bool = False) -> Contender:
    """All rows, and 25 iterations, which reach within 0.05 % of the inertia of 100.

    Its k-means++ reaches no less, and its SuperKmeans takes twice as long for at most 0.03 % less.
    """
    import faiss

    def run(X: np.ndarray, seed: int) -> faiss.Kmeans:
        fitted = faiss.Kmeans(
            X.shape[1],
            n,
            niter=25,
            seed=seed + 1,
            spherical=spherical,
            min_points_per_centroid=1,
            max_points_per_centroid=-(-len(X) // n),
        )
        fitted.train(unit_rows(X) if spherical else X)
        return fitted

    return Contender("faiss Kmeans" + (", spherical" if spherical else ""), run, lambda fitted, X: fitted.centroids)


def sklearn_pca(n: int, solver: str) -> Contender:
    def run(X: np.ndarray, seed: int) -> decomposition.PCA:
        return decomposition.PCA(n, svd_solver=solver, random_state=seed).fit(X)

    return Contender(f"scikit-learn PCA, {solver}", run, lambda fitted, X: fitted.components_)


def sklearn_ica(n: int, tol: float) -> Contender:
    """Whitened by the covariance, which is faster than its default where stimuli outnumber units."""

    def run(X: np.ndarray, seed: int) -> decomposition.FastICA:
        return decomposition.FastICA(
            n, whiten="unit-variance", whiten_solver="eigh", tol=tol, max_iter=500, random_state=seed
        ).fit(X)

    return Contender("scikit-learn FastICA", run, lambda fitted, X: fitted.transform(X), laps=2)


def picard_ica(n: int) -> Contender:
    """Down to a gradient of 1e-3, which gives it the likelihood of FastICA."""
    from picard import picard

    def run(X: np.ndarray, seed: int) -> np.ndarray:
        return picard(X.T, n_components=n, tol=1e-3, random_state=seed)[2]

    return Contender("picard", run, lambda sources, X: sources.T, laps=1)


def sklearn_nmf(n: int) -> Contender:
    def run(X: np.ndarray, seed: int) -> decomposition.NMF:
        return decomposition.NMF(n, init="nndsvda", tol=1e-4, max_iter=200, random_state=seed).fit(X)

    return Contender("scikit-learn NMF, cd", run, lambda fitted, X: fitted.components_, laps=1)


def sklearn_dictionary(n: int, alpha: float) -> Contender:
    """One pass in batches of 256, by coordinate descent: a fifth of the time of its default, least angle regression."""

    def run(X: np.ndarray, seed: int) -> decomposition.MiniBatchDictionaryLearning:
        return decomposition.MiniBatchDictionaryLearning(
            n,
            alpha=alpha,
            batch_size=256,
            max_iter=1,
            fit_algorithm="cd",
            n_jobs=torch.get_num_threads(),
            random_state=seed,
            tol=0,
            max_no_improvement=None,
        ).fit(X)

    name = "scikit-learn MiniBatchDictionaryLearning"
    return Contender(name, run, lambda fitted, X: fitted.components_, laps=1)


def spams_dictionary(n: int, alpha: float) -> Contender:
    """Two passes in batches of 512."""
    import spams

    def run(X: np.ndarray, seed: int) -> np.ndarray:
        first = np.asfortranarray(X[np.random.default_rng(seed).choice(len(X), n, replace=False)].T)
        n_batches, threads = -(-2 * len(X) // 512), torch.get_num_threads()
        return spams.trainDL(
            np.asfortranarray(X.T),
            D=first / np.linalg.norm(first, axis=0),
            lambda1=alpha,
            mode=spams.PENALTY,
            batchsize=512,
            iter=n_batches,
            numThreads=threads,
            verbose=False,
        )

    return Contender("spams trainDL", run, lambda D, X: np.ascontiguousarray(D.T))


def sklearn_codes(D: np.ndarray, alpha: float, algorithm: str) -> Contender:
    """Coordinate descent in one process, which beats two; least angle regression in two."""
    n_jobs = {"lasso_cd": 1, "lasso_lars": torch.get_num_threads()}[algorithm]

    def run(X: np.ndarray, seed: int) -> np.ndarray:
        return decomposition.sparse_encode(X, D, algorithm=algorithm, alpha=alpha, n_jobs=n_jobs, max_iter=1000)

    return Contender(f"scikit-learn sparse_encode, {algorithm}", run, lambda codes, X: codes, laps=1, share=0.2)


def spams_codes(D: np.ndarray, alpha: float) -> Contender:
    import spams

    atoms = np.asfortranarray(D.T)

    def run(X: np.ndarray, seed: int) -> Any:
        threads = torch.get_num_threads()
        return spams.lasso(np.asfortranarray(X.T), D=atoms, lambda1=alpha, mode=spams.PENALTY, numThreads=threads)

    return Contender("spams lasso", run, lambda codes, X: codes.toarray().T)


def overcomplete_sae(n: int, n_active: int) -> Contender:
    """One pass in batches of 256, centred, without the monitoring of its own loop.

    Adam at 6e-3 with a warm-up and a linear fall gave the best test R² of 1e-3 to 2e-2, with and without.
    """
    sae = import_overcomplete()

    def run(X: np.ndarray, seed: int) -> tuple[torch.Tensor, Any]:
        rows = torch.from_numpy(X)
        mean, generator = rows.mean(0), torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = sae.TopKSAE(X.shape[1], n, top_k=n_active)
        adam, n_steps = torch.optim.Adam(model.parameters(), lr=6e-3, fused=True), -(-len(X) // 256)
        rate = torch.optim.lr_scheduler.LambdaLR(
            adam, lambda i: min(1, 20 * i / n_steps + 1 / n_steps, 2 * (1 - i / n_steps))
        )
        for batch in torch.randperm(len(X), generator=generator).split(256):
            centred = rows[batch] - mean
            adam.zero_grad()
            (centred - model(centred)[2]).square().mean().backward()
            adam.step()
            rate.step()
        return mean, model.eval()

    def read(fitted: tuple[torch.Tensor, Any], X: np.ndarray) -> np.ndarray:
        mean, model = fitted
        with torch.inference_mode():
            return (model(torch.from_numpy(X) - mean)[2] + mean).numpy()

    return Contender("overcomplete TopKSAE", run, read)


def import_overcomplete() -> Any:
    """Import overcomplete's autoencoders; its colour maps call a function that matplotlib 3.11 no longer has."""
    import matplotlib
    import matplotlib.cm

    if not hasattr(matplotlib.cm, "get_cmap"):
        matplotlib.cm.get_cmap = matplotlib.colormaps.__getitem__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from overcomplete import sae
    return sae


# peers that stream; their responses are lazy


def dask_gram(n: int) -> Contender:
    """Directions from the sum and the Gram matrix of all rows, in one pass; dask's threads, one of BLAS in each."""
    import dask
    from threadpoolctl import threadpool_limits

    def run(R: Any, seed: int) -> np.ndarray:
        X = R.data
        with threadpool_limits(1, "blas"):
            gram, total = dask.compute(X.T @ X, X.sum(0, dtype=np.float64))
        gram = gram.astype(np.float64) - np.outer(total, total) / len(X)
        return np.linalg.eigh(gram)[1][:, ::-1][:, :n].T

    return Contender("dask Gram matrix", run, lambda D, X: D)


def sklearn_incremental(n: int) -> Contender:
    def run(R: Any, seed: int) -> decomposition.IncrementalPCA:
        fitted = decomposition.IncrementalPCA(n)
        for block in R.data.blocks:
            fitted.partial_fit(block.compute(), check_input=False)
        return fitted

    return Contender("scikit-learn IncrementalPCA", run, lambda fitted, X: fitted.components_, laps=1)


def dask_lloyd(C: np.ndarray) -> Contender:
    """One pass: nearest centres, and their sums and counts, block by block; dask's threads, one of BLAS in each."""
    import dask
    from scipy import sparse
    from threadpoolctl import threadpool_limits

    @dask.delayed
    def totals(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = (rows @ C.T - (C**2).sum(1) / 2).argmax(1)
        members = sparse.csr_array((np.ones(len(rows), C.dtype), (nearest, np.arange(len(rows)))), (len(C), len(rows)))
        return members @ rows, np.bincount(nearest, minlength=len(C))

    def run(R: Any, seed: int) -> np.ndarray:
        with threadpool_limits(1, "blas"):
            terms = dask.compute(*map(totals, R.data.to_delayed().ravel()))
        sums, counts = (sum(term) for term in zip(*terms, strict=True))
        return np.where(counts[:, None], sums / counts.clip(min=1)[:, None], C)

    return Contender("one-pass Lloyd in dask", run, lambda centers, X: centers)
