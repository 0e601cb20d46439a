"""Dictionary learning: atoms, often more of them than units, few of which are active in any response.

X (stimulus, unit) prepared responses, D (direction, unit) atoms, Z (stimulus, direction) codes, X ≈ Z D.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import xarray as xr
from numba import prange

from neurosuper._kernels import njit
from neurosuper._threads import torch_threads
from neurosuper.directions._rows.minibatches import batches
from neurosuper.directions._rows.rows import Blocks, Tensors
from neurosuper.directions._solvers.sparse_coding import correlate, lasso_codes, omp_codes, one_warning
from neurosuper.directions.base import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder, Step
from neurosuper.directions.settings import count_directions

FORGETTING = 0.7  # batch t weighs as much as t^0.7 batches before it have left
BLOCK = 64  # atoms that are updated after one product
TAKEN = 16  # atoms that a thread takes at a time
PATIENCE = 10  # stimuli an atom, after which an atom that none of them used is dead


class DictionaryLearning(IterativeFinder):
    """Directions as the atoms of a dictionary with which every response is made of few (Mairal et al. 2010).

    Minimises the mean over stimuli of ½‖x − z D‖² + alpha ‖z‖₁ over atoms of unit length and codes, or, with
    ``codes="omp"``, of ½‖x − z D‖² over codes of `n_active` atoms. Online: batch by batch, codes are found for the
    atoms as they are, and each atom in turn is set to the best one for the statistics ZᵀZ and ZᵀX, in which older
    batches fade. An atom that 10 stimuli per atom have not used restarts at what is left of stimuli that are
    reconstructed badly. More atoms than units is the normal case.

    One iteration is one pass over all stimuli, shuffled; of a dask array, the order of chunks and the stimuli within
    each, in this process, also where a cluster holds them, so that the size of chunks changes the result as another
    seed would. One pass before looks at their range and puts the stimuli aside at which atoms start; one more finds the
    length that an alpha such as "0.1x" is a part of. Cost: K · (units +
    K) operations per stimulus, K atoms. Peak memory, streamed: some five chunks, a few batches, and a few times
    K · (K + units) numbers; on the CPU, K²/2 more on each thread.

    Parameters
    ----------
    n_directions : int or str, optional
        Number K of atoms, a multiple of the units such as "2x", or None for as many as units.
    alpha : float or str, optional
        How dear codes are. "0.1x" is a tenth of the root mean squared length of (prepared) response vectors, whatever
        unit they are in; from "1x" upwards hardly any response has a code. A number is taken as it is, and means what
        it does in scikit-learn.
    codes : {"lasso", "omp"}, optional
        How responses are coded: by the lasso, or by orthogonal matching pursuit.
    n_active : int, optional
        With "omp" only, in place of alpha: atoms per stimulus. None takes a tenth of the units.
    positive : bool, optional
        Codes of the lasso must not be negative.
    batch_size : int, optional
        Stimuli between two updates of the atoms.
    normalize, center, whiten : bool, optional
        As in every finder. Without `center` zero codes stand for no response, with it for the mean response.
    max_iter : int, optional
    tol : float, optional
        As in every finder that iterates; None, since atoms of online learning never quite rest.
    random_state : int, optional
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Atoms of unit length; signs are never touched.
    mean_ : DataArray (unit,)
        Zero without `center`.
    alpha_ : float
        The penalty as a number (lasso only).
    objective_, learning_curve_, n_iter_
        As in every finder that iterates; the objective of each batch is that before the atoms are updated on it, and
        so is its mean over an iteration: a little higher than that of the atoms at the end.

    Notes
    -----
    `transform` gives codes that are accurate to 1e-4 of the largest; they are those of the atoms at the end. Where
    rounding forbids that, as it may where alpha is tiny, a ConvergenceWarning says by how much; one for each call.

    References
    ----------
    Mairal, Bach, Ponce and Sapiro, Online learning for matrix factorization and sparse coding, JMLR 2010.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray([[9., 0.], [7., 0.], [0., 2.], [0., 4.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("wxyz"), "unit": list("ab")})
    >>> sorted(DictionaryLearning(2).fit(r).directions_.values.round(3).tolist())
    [[0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        n_directions: int | str | None = "2x",
        *,
        alpha: float | str = "0.1x",
        codes: Literal["lasso", "omp"] = "lasso",
        n_active: int | None = None,
        positive: bool = False,
        batch_size: int = 512,
        normalize: bool = False,
        center: bool = False,
        whiten: bool = False,
        max_iter: int = 20,
        tol: float | None = None,
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            n_directions,
            normalize=normalize,
            center=center,
            whiten=whiten,
            random_state=random_state,
            device=device,
            dtype=dtype,
        )
        self.alpha = alpha
        self.codes = codes
        self.n_active = n_active
        self.positive = positive
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol

    def _rows_to_keep(self, rows: Blocks) -> np.ndarray:
        return _drawn(rows.n_rows, count_directions(self.n_directions, rows.n_columns), self._generator())

    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
        with one_warning():
            return super()._fit(rows, n_directions)

    def _map(self, responses: xr.DataArray) -> xr.DataArray:
        with one_warning():
            return super()._map(responses)

    def _encode(self, X: torch.Tensor) -> torch.Tensor:
        D = self._tensor("directions_")
        return self._code(X, D, correlate(D, D), self._unit * self.alpha_ if self.codes == "lasso" else 0.0)

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        return Z @ self._tensor("directions_")

    def _code(self, X: torch.Tensor, D: torch.Tensor, G: torch.Tensor, alpha: float) -> torch.Tensor:
        if self.codes == "lasso":
            return lasso_codes(X, D, alpha, positive=self.positive, gram=G)
        return omp_codes(X, D, self._count_active(D.shape[1]))

    def _count_active(self, n_units: int) -> int:
        return max(1, n_units // 10) if self.n_active is None else self.n_active

    def _steps(self, rows: Blocks, n_directions: int) -> Iterator[Step]:
        self._check(rows, n_directions)
        generator = self._generator()
        penalty = 0.0
        if self.codes == "lasso":
            penalty = self._absolute_alpha(rows)
            self.alpha_ = penalty / self._unit
        atoms = Atoms(first_atoms(rows, n_directions, generator))
        while True:
            total = torch.zeros((), dtype=torch.float64, device=rows.device)
            for X in batches(rows, self.batch_size, generator):
                G = correlate(atoms.D, atoms.D)
                Z = self._code(X, atoms.D, G, penalty)
                total += atoms.learn(X, Z, G, penalty)
                atoms.revive(X, Z, generator)
            if not bool(atoms.A.any()):
                raise ValueError(f"no response has a code with alpha={self.alpha!r}; choose a smaller one")
            yield Step(atoms.D.clone(), float(total) / rows.n_rows)

    def _finish(self, rows: Blocks, step: Step) -> Learned:
        return as_learned(step.D)

    def _absolute_alpha(self, rows: Blocks) -> float:
        if not isinstance(self.alpha, str):
            return float(self.alpha) * self._unit
        (total,) = rows.sum(_squared_length)
        return float(self.alpha[:-1]) * float(total / rows.n_rows) ** 0.5

    def _check(self, rows: Blocks, n_directions: int) -> None:
        if self.codes not in ("lasso", "omp"):
            raise ValueError(f"codes must be 'lasso' or 'omp', got {self.codes!r}")
        if not isinstance(self.positive, bool | np.bool_):
            raise ValueError(f"positive must be True or False, got {self.positive!r}")
        if not _is_count(self.batch_size):
            raise ValueError(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
        if n_directions > rows.n_rows:
            raise ValueError(
                f"DictionaryLearning cannot learn {n_directions} atoms from {rows.n_rows} stimuli; ask for fewer"
            )
        if self.codes == "lasso":
            self._check_lasso()
        else:
            self._check_omp(min(rows.n_columns, n_directions))

    def _check_lasso(self) -> None:
        number = self.alpha
        if isinstance(number, str) and re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?x", number):
            number = float(number[:-1])
        if isinstance(number, str | bool) or not (isinstance(number, int | float | np.number) and 0 < number < np.inf):
            raise ValueError(
                "alpha must be a positive number, or a multiple of the length of a response such as '0.1x', got "
                f"{self.alpha!r}"
            )
        if self.n_active is not None:
            raise ValueError(
                f"n_active={self.n_active!r} needs codes='omp'; with 'lasso' alpha sets how few are active"
            )

    def _check_omp(self, most: int) -> None:
        if self.positive:
            raise ValueError("positive=True needs codes='lasso'; 'omp' leaves the sign of codes free")
        if self.n_active is not None and not (_is_count(self.n_active) and self.n_active <= most):
            raise ValueError(
                f"n_active must be a whole number from 1 to {most}, the smaller of the numbers of units and of atoms, "
                f"got {self.n_active!r}"
            )


class Atoms:
    """Atoms D (direction, unit), and the statistics that they follow: A = ZᵀZ and B = ZᵀX, where older batches fade."""

    def __init__(self, D: torch.Tensor) -> None:
        n = len(D)
        self.D, self.A, self.B = D, D.new_zeros(n, n), torch.zeros_like(D)
        self.n_batches, self.idle = 0, torch.zeros(n, dtype=torch.long, device=D.device)

    def learn(self, X: torch.Tensor, Z: torch.Tensor, G: torch.Tensor, alpha: float) -> torch.Tensor:
        """Update the atoms on a batch, and return its summed objective before that: ½‖x − z D‖² + alpha ‖z‖₁.

        G (direction, direction) is D Dᵀ.
        """
        (A, B), D = count_uses(X, Z), self.D
        misfit = (X**2).sum() - 2 * (B * D).sum() + (A * G).sum()
        self.n_batches += 1
        kept = 1 - self.n_batches**-FORGETTING
        self.A.mul_(kept).add_(A)
        self.B.mul_(kept).add_(B)
        self.idle += len(X)
        self.idle[A.diagonal() > 0] = 0
        update_atoms(D, self.A, self.B)
        return misfit.double() / 2 + alpha * Z.abs().sum(dtype=torch.float64)

    def revive(self, X: torch.Tensor, Z: torch.Tensor, generator: torch.Generator) -> None:
        """Restart dead atoms at what is left of rows, drawn as often as their squared errors are large."""
        dead = (self.idle >= PATIENCE * len(self.D)).nonzero().flatten()
        if len(dead) == 0:
            return
        E = X - Z @ self.D
        chances = (E**2).sum(1).double().cpu()
        dead = dead[: int((chances > 0).sum())]
        if len(dead) == 0:
            return
        drawn = torch.multinomial(chances, len(dead), generator=generator).to(X.device)
        self.D[dead] = torch.nn.functional.normalize(E[drawn], dim=1)
        self.A[dead], self.A[:, dead], self.B[dead], self.idle[dead] = 0, 0, 0, 0


def first_atoms(rows: Blocks, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return stimuli drawn at random, scaled to unit length; where one has no response, a random direction."""
    D = rows.take(_drawn(rows.n_rows, n, generator)).clone()
    silent = ~D.any(1)
    D[silent] = torch.randn(n, D.shape[1], generator=generator).to(D)[silent]
    return torch.nn.functional.normalize(D, dim=1)


def _drawn(n_rows: int, n: int, generator: torch.Generator) -> np.ndarray:
    """Return the positions of `n` stimuli, drawn at random."""
    return torch.randperm(n_rows, generator=generator)[:n].sort().values.numpy()


def count_uses(X: torch.Tensor, Z: torch.Tensor) -> Tensors:
    """Return the statistics ZᵀZ and ZᵀX; on the CPU by compiled loops over codes that are not zero."""
    if X.device.type != "cpu":
        return Z.T @ Z, Z.T @ X
    A, B = Z.new_zeros(Z.shape[1], Z.shape[1]), X.new_zeros(Z.shape[1], X.shape[1])
    with torch_threads():
        _add_uses(X.numpy(), Z.numpy(), A.numpy(), B.numpy())
    return A, B


@njit(parallel=True, fastmath=True)
def _add_uses(X: np.ndarray, Z: np.ndarray, A: np.ndarray, B: np.ndarray) -> None:
    for part in prange((len(A) + TAKEN - 1) // TAKEN):
        for i in range(len(X)):
            for j in range(part * TAKEN, min((part + 1) * TAKEN, len(A))):
                code = Z[i, j]
                if code != 0:
                    for k in range(len(A)):
                        A[j, k] += code * Z[i, k]
                    for unit in range(X.shape[1]):
                        B[j, unit] += code * X[i, unit]


def update_atoms(D: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> None:
    """Set one atom after another, in place, to the one of unit length that is best for these statistics.

    Each is the direction of B_j − Σ_{i≠j} A_ji d_i; those that no code used stay as they are. One product for a block
    of atoms, which is corrected as they change.
    """
    turn = turn_compiled if D.device.type == "cpu" else turn_atoms
    for start in range(0, len(D), BLOCK):
        block = slice(start, start + BLOCK)
        turn(D[block], A[block, block], B[block] - A[block] @ D)


def turn_atoms(D: torch.Tensor, A: torch.Tensor, left: torch.Tensor) -> None:
    """Turn atoms one after another, given what is `left` for each, B − A D over all atoms, which is written to."""
    for j in range(len(D)):
        goal = left[j] + A[j, j] * D[j]
        length = goal.norm()
        change = torch.where((length > 0) & (A[j, j] > 0), goal / length, D[j]) - D[j]
        left[j + 1 :] -= A[j + 1 :, j, None] * change
        D[j] += change


def turn_compiled(D: torch.Tensor, A: torch.Tensor, left: torch.Tensor) -> None:
    """Do the same in compiled loops on the CPU."""
    _turn_atoms(D.numpy(), A.numpy(), left.numpy())


@njit(fastmath=True)
def _turn_atoms(D: np.ndarray, A: np.ndarray, left: np.ndarray) -> None:
    (n, n_units), change = D.shape, np.empty_like(D[0])
    for j in range(n):
        goal, square = left[j], left[j, 0] * 0
        for unit in range(n_units):
            goal[unit] += A[j, j] * D[j, unit]
            square += goal[unit] * goal[unit]
        if A[j, j] <= 0 or square <= 0:
            continue
        scale = 1 / np.sqrt(square)
        for unit in range(n_units):
            new = goal[unit] * scale
            change[unit] = new - D[j, unit]
            D[j, unit] = new
        for i in range(j + 1, n):
            weight = A[i, j]
            for unit in range(n_units):
                left[i, unit] -= weight * change[unit]


def _squared_length(part: torch.Tensor) -> Tensors:
    return ((part**2).sum(dtype=torch.float64),)


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)
