"""Non-negative matrix factorisation: directions as parts, of which responses are sums without cancelling.

X (stimulus, unit) prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes ≥ 0, X ≈ Z D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch
import xarray as xr

from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.nmf_alternation import (
    INNER_TOL,
    Penalties,
    alternate,
    best_codes,
    code_statistics,
    converge,
    multiplicative_updates,
)
from neurosuper.directions._solvers.nmf_starts import draw_directions, draw_positions, singular_directions
from neurosuper.directions._solvers.steps import Step
from neurosuper.directions.base import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder
from neurosuper.directions.settings import count_directions
from neurosuper.responses import name_some


class NMF(IterativeFinder):
    """Directions as parts: responses are sums of non-negative directions with non-negative codes (Lee and Seung 1999).

    Minimises, over Z ≥ 0 and D ≥ 0 (with `signed`, D of any sign: semi-NMF, Ding, Li and Jordan 2010),

    ½‖X − Z D‖² + units · (l1_codes Σ Z + ½ l2_codes ‖Z‖²) + stimuli · (l1_directions Σ D + ½ l2_directions ‖D‖²),

    which is scikit-learn's objective with alpha_W = l1_codes + l2_codes, alpha_H = l1_directions + l2_directions and
    l1_ratio = l1 / (l1 + l2) of each. Each iteration finds the best codes of every stimulus from D alone (hierarchical
    alternating least squares on Gram matrices; Cichocki and Phan 2009, Gillis and Glineur 2012), then the best D from
    Zᵀ X and Zᵀ Z, then goes on a little in the direction in which D moved, less after a rise (Ang and Gillis 2019). Of
    over 24,000 stimuli (or 200 times the directions), half that many are drawn for the fit to start on.

    Each iteration is one pass over the responses, so that a dask array is streamed, or reduced on the workers of a
    cluster; one pass before puts the drawn ones aside. Cost of an iteration: stimuli × units × directions, and some
    times stimuli × directions². Peak memory, streamed: the drawn stimuli, or all of at most twice as many, and a few
    chunks. `solver="mu"` keeps all codes too, and a cluster's blocks come to this machine.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units.
    signed : bool, optional
        Let directions, and so responses, have any sign. Without penalties many such directions explain responses alike:
        all whose cone holds them; penalties choose the narrowest.
    solver : {"hals", "mu"}, optional
        As above, or multiplicative updates of Lee and Seung (2001), which are slow, of codes that start all alike.
    init : {"nndsvd", "random"} or array (direction, unit), optional
        Non-negative parts of singular vectors (Boutsidis and Gallopoulos 2008; with `signed`, the vectors themselves),
        then, beyond the rank, drawn response vectors; drawn ones only; or given directions.
    l1_codes, l2_codes, l1_directions, l2_directions : float, optional
        Weights of the penalties. Codes and directions are penalised together or not at all: else, one grows without
        bound as the other shrinks.
    normalize, center, whiten : bool, optional
        As in every finder; the latter two only with `signed`.
    max_iter : int, optional
    tol : float or None, optional
        As in every finder that iterates.
    random_state : int, optional
        Draws stimuli.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Scaled to unit length; codes are those that go with it.
    mean_ : DataArray (unit,)
        Zero.
    lengths_ : DataArray (direction,)
        Of the directions before they were scaled: what penalties apply to is `directions_ · lengths_`, and codes /
        `lengths_`.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates.

    Raises
    ------
    ValueError
        Negative responses without `signed`; only codes or only directions penalised.

    Examples
    --------
    >>> import numpy as np
    >>> parts = np.array([[4.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    >>> responses = np.random.default_rng(0).exponential(size=(50, 2)) @ parts
    >>> np.sort(NMF(2, dtype="float64").fit(responses).directions_.values, axis=0).round(3).tolist()
    [[0.0, 0.0, 0.0], [0.8, 0.6, 1.0]]
    """

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        signed: bool = False,
        solver: Literal["hals", "mu"] = "hals",
        init: str | np.ndarray = "nndsvd",
        l1_codes: float = 0.0,
        l2_codes: float = 0.0,
        l1_directions: float = 0.0,
        l2_directions: float = 0.0,
        normalize: bool = False,
        center: bool = False,
        whiten: bool = False,
        max_iter: int = 200,
        tol: float | None = 1e-5,
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
        self.signed = signed
        self.solver = solver
        self.init = init
        self.l1_codes = l1_codes
        self.l2_codes = l2_codes
        self.l1_directions = l1_directions
        self.l2_directions = l2_directions
        self.max_iter = max_iter
        self.tol = tol

    def _rows_to_keep(self, rows: Rows) -> np.ndarray:
        return draw_positions(rows.n_rows, count_directions(self.n_directions, rows.n_columns), self._generator())

    def _check_units(self, responses: xr.DataArray, rows: Rows) -> torch.Tensor:
        sizes = super()._check_units(responses, rows)
        if not self.signed and (self.center or self.whiten):
            raise ValueError("centred or whitened responses have negative values; NMF takes them with signed=True")
        negative = (rows.column_ranges.minimum < 0).cpu().numpy()
        if not self.signed and negative.any():
            raise ValueError(
                f"negative responses in unit {name_some(responses.unit.values[negative])}; NMF takes them with "
                "signed=True, or clip them at zero"
            )
        return sizes

    def _check_settings(self) -> None:
        if self.solver not in ("hals", "mu") or (self.solver == "mu" and self.signed):
            raise ValueError(
                f"solver must be 'hals', or 'mu' without signed, got {self.solver!r}, signed={self.signed}"
            )
        weights = {name: getattr(self, name) for name in Penalties._fields}
        if any(not 0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"weights of penalties must be finite and not negative, got {weights}")
        if self.signed and self.l1_directions:
            raise ValueError("l1_directions is for directions that are not negative; use l2_directions with signed")
        if (self.l1_codes + self.l2_codes > 0) != (self.l1_directions + self.l2_directions > 0):
            raise ValueError(f"codes and directions are penalised together or not at all, got {weights}")

    def _penalties(self, n_stimuli: int, n_units: int) -> Penalties:
        """Return the weights, times the units or stimuli, for responses times `_unit`: codes grow with them, D not."""
        unit = self._unit
        codes, directions = (unit * self.l1_codes, self.l2_codes), (self.l1_directions, self.l2_directions)
        return Penalties(*(n_units * w for w in codes), *(unit**2 * n_stimuli * w for w in directions))

    def _encode(self, X: torch.Tensor) -> torch.Tensor:
        D, lengths = self._tensor("directions_"), self._tensor("lengths_")
        penalties = self._penalties(1, D.shape[1])
        return best_codes(X, D * lengths[:, None], penalties, INNER_TOL[X.dtype]) * lengths

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        return Z @ self._tensor("directions_")

    def _steps(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        self._check_settings()
        generator = self._generator()
        drawn = draw_positions(rows.n_rows, n_directions, generator)
        sample = rows.whole if rows.in_memory and len(drawn) == rows.n_rows else rows.take(drawn)
        D = self._first_directions(sample, n_directions, generator)
        penalties = self._penalties(rows.n_rows, rows.n_columns)
        if self.solver == "mu":
            yield from multiplicative_updates(rows, D, penalties)
            return
        if len(sample) < rows.n_rows:
            on_sample = self._penalties(len(sample), rows.n_columns)
            D = converge(alternate(partial(code_statistics, sample), D, on_sample, self.signed, sample))
        yield from alternate(partial(rows.sum, code_statistics, width=None), D, penalties, self.signed, sample)

    def _first_directions(self, sample: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
        if not isinstance(self.init, str):
            return self._given_directions(sample, n)
        if self.init not in ("nndsvd", "random"):
            raise ValueError(f"init must be 'nndsvd', 'random' or an array of directions, got {self.init!r}")
        parts = singular_directions(sample, n, self.signed) if self.init == "nndsvd" else sample[:0]
        D = torch.cat([parts, draw_directions(sample, n - len(parts), generator)])
        return D + D.mean() if self.solver == "mu" else D

    def _given_directions(self, sample: torch.Tensor, n: int) -> torch.Tensor:
        D = torch.as_tensor(np.array(self.init), dtype=sample.dtype, device=sample.device)
        if D.shape != (n, sample.shape[1]):
            raise ValueError(
                f"init gives directions of shape {tuple(D.shape)}, but {n} directions of {sample.shape[1]} units are "
                f"asked for; set n_directions={len(D)}"
            )
        if not D.isfinite().all() or not D.any(1).all() or (not self.signed and (D < 0).any()):
            raise ValueError("init must hold finite directions, none of them all zero or, without signed, negative")
        return D

    def _finish(self, rows: Rows, step: Step) -> Learned:
        lengths = step.D.norm(dim=1)
        D = torch.nn.functional.normalize(torch.where(lengths[:, None] > 0, step.D, 1), dim=1)
        penalised = any(self._penalties(1, 1))
        return as_learned(D) | {"lengths": (("direction",), lengths if penalised else torch.ones_like(lengths))}
