"""Principal components: orthonormal directions of largest variance.

X (row, unit) prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes, Z = (X − mean) Dᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import scipy.linalg
import torch
import xarray as xr

from neurosuper._threads import bare, gram, one_blas_thread, product
from neurosuper.directions._rows.moments import (
    RANK_TOLERANCE,
    centred_chunks,
    is_small,
    moments,
    sign_rows,
    skew_signs,
)
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.rows import Blocks, Tensors
from neurosuper.directions.base import DirectionFinder, Learned, as_learned
from neurosuper.directions.settings import count_directions

DOUBT = 1e-4  # of the squared mean: a variance above is surely none that rounding makes of a constant unit
SURE = 1e-4  # of the largest variance: below, products in float32 are not good enough
EXACT_SIDE = 1000  # always exact, where the smaller of stimuli and units is not more
EXACT_STREAM = 4096  # the same of units, where responses are streamed and a pass costs most
FEW = 25  # randomized pays where the smaller of stimuli and units is more than this many times the directions
DEPTH = 2  # blocks of the Krylov space beside the first, where the first comes from a sample
BLIND_DEPTH = 3  # where it is random
OVERSAMPLING = 12  # columns of a block beside one per direction
SAMPLE = 8  # one row in so many gives the first block

Multiply = Callable[[torch.Tensor], torch.Tensor]


class _Spectrum(NamedTuple):
    """Variances by falling size `(direction,)`, their directions `(direction, unit)`, and the variance in all."""

    variance: torch.Tensor
    D: torch.Tensor
    in_all: torch.Tensor


class PCA(DirectionFinder):
    """Principal component analysis.

    The orthonormal D that maximise Σ ‖(x − mean) Dᵀ‖², by one of two solvers:

    "exact"
        Eigenvectors of the covariance of units, or, where responses in memory have fewer stimuli than units, of the
        Gram matrix of stimuli. Products are of float64; but of float32, accumulated in float64, where `dtype` is
        float32, a number of directions is asked for, and there are over 2³¹ products. These are done again in float64
        where a variance of less than 10⁻⁴ of the largest is asked for. Memory beside the responses: a few times
        min(stimuli, units)² numbers (streamed: units²) in float64. Passes over a dask array: one; one more where
        products are done again or responses are normalized.
    "randomized"
        Rayleigh-Ritz on a block Krylov space (Musco and Musco 2015) of the covariance, which is never formed. In memory
        the space is seeded by the same method on an eighth of the stimuli, where they are more than twice as many as
        units. Directions are near to the exact ones where the spectrum falls; the explained variance is a little less.
        Memory: some ten times directions × units numbers. Passes over a dask array: five, one of them to look for
        constant units.

    "auto" is randomized where both stimuli and units are over 25 times the directions asked for, and float32 responses
    in memory have over 1,000 of both, or streamed ones over 4,096 units; also where streamed responses have over 4,096
    units, and more than stimuli. Else it is exact; and in memory it becomes so where the last variance is less than
    10⁻⁴ of the largest. Responses are never copied to be centred.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "0.5x", or None for all along which the responses vary: their rank.
    normalize, center : bool, optional
        As in every finder. Without `center`, directions are those of the largest second moment about zero, and so are
        the "variances".
    solver : {"auto", "exact", "randomized"}, optional
    random_state : int, optional
        Seed of the randomized solver.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Orthonormal, by falling variance, each with the sign that skews the codes of the stimuli (of up to 4,096,
        evenly spread, where there are more) to the right.
    mean_ : DataArray (unit,)
        Mean response of each unit.
    explained_variance_, explained_variance_ratio_ : DataArray (direction,)
        Variance of the codes (ddof=1), and its share of the total.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.outer(np.arange(5.) ** 2, [3, 4]), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("vwxyz"), "unit": list("ab")})
    >>> PCA(1, dtype="float64").fit(r).directions_.values.round(3).tolist()
    [[0.6, 0.8]]
    """

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        normalize: bool = False,
        center: bool = True,
        solver: Literal["auto", "exact", "randomized"] = "auto",
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            n_directions, normalize=normalize, center=center, random_state=random_state, device=device, dtype=dtype
        )
        self.solver = solver

    _powers: ClassVar = {"explained_variance": 2}

    def _rows_to_keep(self, rows: Blocks) -> np.ndarray:
        return sign_rows(rows)

    def _check_units(self, responses: xr.DataArray, rows: Blocks) -> torch.Tensor:
        """Look for constant units only where the covariance, which is summed first, leaves a doubt."""
        if not self.normalize and not self._is_randomized(rows) and not _has_gram(rows):
            mean, scatter = moments(rows, self.n_directions is None)
            variance = scatter.diagonal() / rows.n_rows
            if bool(((DOUBT * mean**2 < variance) & (variance < torch.inf)).all()):
                return (variance + mean**2).sqrt()
        return super()._check_units(responses, rows)

    def _prepare(self, rows: Blocks, scale: float) -> Preparation:
        """Return no centring: the mean is taken off chunk by chunk, without a centred copy of the responses."""
        return Preparation(self.normalize, scale=scale)

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        return Z @ self._tensor("directions_")

    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
        wanted = None if self.n_directions is None else n_directions
        mean, found = self._solve(rows, wanted)
        tolerance = RANK_TOLERANCE[torch.float64]
        rank = int((found.variance > tolerance * found.variance[0]).sum())
        if wanted is not None and wanted > rank:
            raise ValueError(
                f"these responses vary along {rank} directions (the rank of {rows.n_rows} stimuli × {rows.n_columns} "
                f"units), not {wanted}; ask for fewer, or use KMeans, which gives more directions than units"
            )
        variance, D = found.variance[:rank], found.D[:rank].to(rows.dtype)
        mean = mean.to(rows.dtype)
        signs = skew_signs(rows.take(sign_rows(rows)), mean if self.center else rows.mean(), D)
        return as_learned(signs * D) | {
            "mean": (("unit",), mean),
            "explained_variance": (("direction",), variance),
            "explained_variance_ratio": (("direction",), variance / found.in_all),
        }

    def _is_randomized(self, rows: Blocks) -> bool:
        if self.solver not in ("auto", "exact", "randomized"):
            raise ValueError(f"solver must be 'auto', 'exact' or 'randomized', got {self.solver!r}")
        if self.solver != "auto" or self.n_directions is None:
            return self.solver == "randomized"
        smaller = min(rows.n_rows, rows.n_columns)
        are_few = FEW * count_directions(self.n_directions, rows.n_columns) < smaller
        if rows.in_memory:
            return are_few and smaller > EXACT_SIDE and rows.dtype == torch.float32
        return rows.n_columns > EXACT_STREAM and (are_few or rows.n_columns > rows.n_rows)

    def _solve(self, rows: Blocks, wanted: int | None) -> tuple[torch.Tensor, _Spectrum]:
        """Return the mean, and as many principal components as are wanted and there are."""
        if self._is_randomized(rows):
            mean = rows.mean() if self.center else torch.zeros_like(rows.mean())
            found = _randomized(rows, mean, wanted or min(rows.n_rows, rows.n_columns), self._generator())
            if self.solver == "randomized" or not rows.in_memory or _is_sure(found):
                return mean, found
        if self.solver == "auto" and not rows.in_memory and rows.n_columns > max(EXACT_STREAM, rows.n_rows):
            raise ValueError(
                f"PCA cannot stream all directions of more units ({rows.n_columns}) than stimuli ({rows.n_rows}); give "
                "n_directions, or call responses.compute() first"
            )
        return _exact(rows, wanted, self.center)


def _is_sure(found: _Spectrum) -> bool:
    return bool(found.variance[-1] > SURE * found.variance[0])


def _has_gram(rows: Blocks) -> bool:
    """Whether the Gram matrix of stimuli is the smaller one, and at hand."""
    return rows.in_memory and rows.n_columns > rows.n_rows


# Exact.


def _exact(rows: Blocks, wanted: int | None, center: bool) -> tuple[torch.Tensor, _Spectrum]:
    """Solve from float32 products where these will do, else from those of float64."""
    solve = _from_gram if _has_gram(rows) else _from_covariance
    if wanted is not None and rows.dtype == torch.float32 and not is_small(rows):
        mean, found = solve(rows, wanted, center, precise=False)
        if _is_sure(found):
            return mean, found
    return solve(rows, wanted, center, precise=True)


def _from_covariance(rows: Blocks, wanted: int | None, center: bool, precise: bool) -> tuple[torch.Tensor, _Spectrum]:
    mean, scatter = moments(rows, precise)
    if not center:
        mean, scatter = torch.zeros_like(mean), torch.addr(scatter, mean, mean, alpha=rows.n_rows)
    squares, vectors = _leading(scatter, wanted)
    return mean, _Spectrum(squares / (rows.n_rows - 1), vectors.T, scatter.trace() / (rows.n_rows - 1))


def _from_gram(rows: Blocks, wanted: int | None, center: bool, precise: bool) -> tuple[torch.Tensor, _Spectrum]:
    """Solve from inner products of stimuli, XXᵀ = U S² Uᵀ; D = S⁻¹ Uᵀ X."""
    X = rows.whole
    mean = rows.mean() if center else torch.zeros_like(rows.mean())
    dtype = torch.float64 if precise else X.dtype
    columns = [slice(start, start + len(X)) for start in range(0, X.shape[1], len(X))]
    inner = torch.zeros(len(X), len(X), dtype=torch.float64, device=X.device)
    for some in columns:
        centred = (X[:, some] - mean[some]).to(dtype)
        inner += gram(centred.T)
    squares, U = _leading(inner, wanted)
    varies = squares > RANK_TOLERANCE[torch.float64] * squares[0]
    squares, U = squares[varies], U[:, varies].to(dtype)
    D = torch.cat([U.T @ (X[:, some] - mean[some]).to(dtype) for some in columns], dim=1)
    in_all = inner.trace() / (len(X) - 1)
    return mean, _Spectrum(squares / (len(X) - 1), torch.nn.functional.normalize(D, dim=1), in_all)


def _leading(S: torch.Tensor, wanted: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest eigenvalues of a symmetric matrix, falling, and eigenvectors as columns; of all where None."""
    size = len(S)
    n = size if wanted is None else min(wanted, size)
    if S.device.type == "cpu":
        some = [size - n, size - 1] if 2 * n <= size else None
        columnwise = S.numpy().T  # as LAPACK takes it, without a copy to turn it round
        with one_blas_thread() if size <= EXACT_SIDE else nullcontext():
            values, vectors = scipy.linalg.eigh(columnwise, subset_by_index=some, check_finite=False)
        return torch.from_numpy(values[::-1][:n].copy()), torch.from_numpy(vectors[:, ::-1][:, :n].copy())
    values, vectors = torch.linalg.eigh(S)
    return values[-n:].flip(0), vectors[:, -n:].flip(1)


# Randomized.


def _randomized(rows: Blocks, mean: torch.Tensor, n_directions: int, generator: torch.Generator) -> _Spectrum:
    """Solve on a block Krylov space of the scatter S = XᵀX, X centred; one pass for each of its blocks."""
    width = min(n_directions + OVERSAMPLING, rows.n_columns)
    Q = torch.randn(rows.n_columns, width, generator=generator, dtype=rows.dtype).to(rows.device)
    depth = BLIND_DEPTH
    if rows.in_memory and rows.n_rows > 2 * rows.n_columns:
        Q, depth = _from_sample(rows.whole[::SAMPLE], mean, Q), DEPTH
    K, products = _krylov(lambda Q: rows.sum(_multiply, mean, Q, width=None)[0], Q, depth)
    corner, squares = rows.sum(_finish, mean, K[:, products.shape[1] :], width=None)
    upper = K.T @ products
    H = torch.cat([upper.double(), torch.cat([upper[products.shape[1] :].T.double(), corner])], dim=1)
    values, V = _leading((H + H.T) / 2, n_directions)
    D = torch.linalg.qr(K @ V.to(K.dtype))[0].T
    return _Spectrum(values.clamp(min=0) / (rows.n_rows - 1), D, squares / (rows.n_rows - 1))


def _from_sample(X: torch.Tensor, mean: torch.Tensor, Q: torch.Tensor) -> torch.Tensor:
    """Return approximate eigenvectors of some rows, as many as Q `(unit, column)` has."""
    K, products = _krylov(lambda Q: _multiply(X, mean, Q)[0], Q, BLIND_DEPTH)
    K = K[:, : products.shape[1]]
    return K @ _leading((K.T @ products).double(), Q.shape[1])[1].to(K.dtype)


def _krylov(multiply: Multiply, Q: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an orthonormal basis K of Q, SQ, …, S^depth Q, and SK of all but the last block."""
    K = torch.linalg.qr(Q)[0]
    products = K[:, :0]
    for _ in range(depth):
        products = torch.cat([products, multiply(K[:, products.shape[1] :])], dim=1)
        block = products[:, -Q.shape[1] :][:, : len(K) - K.shape[1]]
        if not block.shape[1]:
            break
        for _ in range(2):
            block = torch.linalg.qr(block - K @ (K.T @ block))[0]
        K = torch.cat([K, block], dim=1)
    return K, products


def _multiply(block: torch.Tensor, mean: torch.Tensor, Q: torch.Tensor) -> Tensors:
    """Return S Q, S = XᵀX of centred rows."""
    total = bare(torch.zeros_like(Q))
    for X in centred_chunks(block, mean):
        total += bare(product(X.T, product(X, Q)))
    return (torch.as_tensor(total),)


def _finish(block: torch.Tensor, mean: torch.Tensor, Q: torch.Tensor) -> Tensors:
    """Return QᵀSQ and the trace of S."""
    corner = torch.zeros(Q.shape[1], Q.shape[1], dtype=torch.float64, device=Q.device)
    trace = corner.new_zeros(())
    vecdot = np.linalg.vecdot if block.device.type == "cpu" else torch.linalg.vecdot
    for X in centred_chunks(block, mean):
        Y = product(X, Q)
        corner += gram(Y)
        trace += torch.as_tensor(vecdot(bare(X), bare(X))).double().sum()
    return corner, trace
