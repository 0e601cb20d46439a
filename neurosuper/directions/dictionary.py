"""Dictionary learning: each response is a sum of few atoms; there may be more atoms than units.

X (stimulus, unit) prepared responses, D (direction, unit) atoms, Z (stimulus, direction) codes, X ≈ Z D.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
import torch
import xarray as xr

from neurosuper._checks import check_count
from neurosuper.directions._rows.minibatches import shuffled_minibatches
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.atoms import Atoms, draw_positions, first_atoms, squared_length
from neurosuper.directions._solvers.sparse_coding import correlate, lasso_codes, omp_codes, one_warning
from neurosuper.directions._solvers.steps import Step
from neurosuper.directions.hooks import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder
from neurosuper.directions.settings import count_directions

LARGEST_BATCH = 512  # stimuli between two updates, by default
LEAST_UPDATES = 16  # in an iteration, by default: few updates teach atoms little, however few the stimuli are


@dataclass(eq=False, repr=False)
class DictionaryLearning(IterativeFinder):
    """Atoms of a dictionary: each response is a sum of few of them (Mairal et al. 2010).

    Minimises the mean over stimuli of ½‖x − z D‖² + l1 ‖z‖₁ over atoms of unit length and codes, or, with
    ``encoding="omp"``, of ½‖x − z D‖² over codes of `n_active` atoms. Online, mini-batch by mini-batch: codes are
    computed for the current atoms, then each atom in turn is set to the optimum for the statistics ZᵀZ and ZᵀX, in
    which older mini-batches fade. An atom that has not been used for 10 stimuli per atom restarts at the residuals of
    badly reconstructed stimuli. More atoms than units is the normal case.

    One iteration is one pass over all stimuli, shuffled; for a dask array, chunks are shuffled, and stimuli within each
    chunk, in this process even if a cluster stores them, so that the size of chunks changes the result as another seed
    would. One pass before computes the ranges of units and collects the stimuli at which atoms start; one more
    computes the length that an l1 such as "0.1x" refers to. Cost: K · (units + K) operations per stimulus for K atoms.
    Peak memory, streamed: about five chunks, a few mini-batches, and a few times K · (K + units) numbers; on the CPU,
    K²/2 more on each thread.

    Parameters
    ----------
    n_directions : int or str, optional
        Number K of atoms, a multiple of the units such as "2x", or None for as many as units.
    l1 : float or str, optional
        Weight of the L1 penalty on codes. "0.1x" is a tenth of the root mean squared length of (prepared) response
        vectors, in any unit; from "1x" upwards hardly any response has a code. A number is used as given, and means
        the same as in scikit-learn.
    encoding : {"lasso", "omp"}, optional
        Codes are those of the lasso, or of orthogonal matching pursuit.
    n_active : int, optional
        Number of active atoms per stimulus, with "omp" only, instead of l1. None takes a tenth of the units.
    positive : bool, optional
        Require codes of the lasso to be non-negative.
    batch_size : int or None, optional
        Stimuli between two updates of the atoms. None: 512, or fewer, so that an iteration has at least 16 updates.
    normalize, center, whiten : bool, optional
        As in every finder. Zero codes stand for no response without `center`, and for the mean response with it.
    max_iter : int, optional
        Largest number of iterations.
    tol : float, optional
        As in every finder that iterates; None by default, since atoms of online learning never stop moving.
    random_state : int, Generator, RandomState or None, optional
        Seed; None draws a new one at every fit.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Atoms of unit length; signs are never touched.
    mean_ : DataArray (unit,)
        Zero without `center`.
    l1_ : float
        The penalty as a number (lasso only).
    objective_, learning_curve_, n_iter_
        As in every finder that iterates; the objective of each mini-batch is computed before the atoms are updated on
        it, so that its mean over an iteration is a little higher than the objective of the last atoms.

    See Also
    --------
    SparseAutoencoder : Sparse codes by one matrix product, for many more stimuli.
    NMF : Non-negative codes and directions.

    Notes
    -----
    `transform` gives the codes of the last atoms, accurate to 1e-4 of the largest code. If rounding prevents that, as
    it may if l1 is very small, a ConvergenceWarning says how large the error is; at most one per call.

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

    n_directions: int | str | None = "2x"
    _: KW_ONLY
    l1: float | str = "0.1x"
    encoding: Literal["lasso", "omp"] = "lasso"
    n_active: int | None = None
    positive: bool = False
    batch_size: int | None = None
    normalize: bool = False
    center: bool = False
    whiten: bool = False
    max_iter: int = 20
    tol: float | None = None

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the stimuli at which atoms start."""
        return draw_positions(rows.n_rows, count_directions(self.n_directions, rows.n_columns), self.generator())

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the atoms; at most one warning about codes that are not exact."""
        with one_warning():
            return super().find_directions(rows, n_directions)

    def code_responses(self, responses: xr.DataArray) -> xr.DataArray:
        """Return codes; at most one warning about codes that are not exact."""
        with one_warning():
            return super().code_responses(responses)

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the sparse codes of the lasso or of orthogonal matching pursuit."""
        D = self.tensor("directions_")
        return self._code(X, D, correlate(D, D), self.prepared_scale * self.l1_ if self.encoding == "lasso" else 0.0)

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return Z D."""
        return Z @ self.tensor("directions_")

    def _code(self, X: torch.Tensor, D: torch.Tensor, G: torch.Tensor, l1: float) -> torch.Tensor:
        if self.encoding == "lasso":
            return lasso_codes(X, D, l1, positive=self.positive, gram=G)
        return omp_codes(X, D, self._count_active(D.shape[1]))

    def _count_active(self, n_units: int) -> int:
        return max(1, n_units // 10) if self.n_active is None else self.n_active

    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the atoms after each pass over all stimuli."""
        limit = f"each starts at a stimulus of its own, of {rows.n_rows}"
        n_directions = self.at_most(n_directions, rows.n_rows, limit)
        self._check(rows, n_directions)
        generator = self.generator()
        penalty = 0.0
        if self.encoding == "lasso":
            penalty = self._absolute_l1(rows)
            self.l1_ = penalty / self.prepared_scale
        batch_size = self.batch_size or min(LARGEST_BATCH, -(-rows.n_rows // LEAST_UPDATES))
        atoms = Atoms(first_atoms(rows, n_directions, generator))
        while True:
            total = torch.zeros((), dtype=torch.float64, device=rows.device)
            for X in shuffled_minibatches(rows, batch_size, generator):
                G = correlate(atoms.D, atoms.D)
                Z = self._code(X, atoms.D, G, penalty)
                total += atoms.learn(X, Z, G, penalty)
                atoms.revive(X, Z, generator)
            if not bool(atoms.A.any()):
                raise ValueError(f"no response has a code with l1={self.l1!r}; choose a smaller one")
            yield Step(atoms.D.clone(), float(total) / rows.n_rows)

    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return the atoms."""
        return as_learned(step.D)

    def _absolute_l1(self, rows: Rows) -> float:
        if not isinstance(self.l1, str):
            return float(self.l1) * self.prepared_scale
        (total,) = rows.sum(squared_length)
        return float(self.l1[:-1]) * float(total / rows.n_rows) ** 0.5

    def _check(self, rows: Rows, n_directions: int) -> None:
        if self.encoding not in ("lasso", "omp"):
            raise ValueError(f"encoding must be 'lasso' or 'omp', got {self.encoding!r}")
        if not isinstance(self.positive, bool | np.bool_):
            raise ValueError(f"positive must be True or False, got {self.positive!r}")
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        if self.encoding == "lasso":
            self._check_lasso()
        else:
            self._check_omp(min(rows.n_columns, n_directions))

    def _check_lasso(self) -> None:
        number = self.l1
        if isinstance(number, str) and re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?x", number):
            number = float(number[:-1])
        if isinstance(number, str | bool) or not (isinstance(number, int | float | np.number) and 0 < number < np.inf):
            raise ValueError(
                "l1 must be a positive number, or a multiple of the length of a response such as '0.1x', got "
                f"{self.l1!r}"
            )
        if self.n_active is not None:
            raise ValueError(
                f"n_active={self.n_active!r} needs encoding='omp'; with 'lasso' l1 sets how few are active"
            )

    def _check_omp(self, most: int) -> None:
        if self.positive:
            raise ValueError("positive=True needs encoding='lasso'; 'omp' leaves the sign of codes free")
        if self.n_active is not None:
            check_count("n_active", self.n_active, most=most, why=", the smaller of the numbers of units and of atoms")
