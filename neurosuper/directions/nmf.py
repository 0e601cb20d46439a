"""Non-negative matrix factorisation: responses as sums of non-negative directions, which cannot cancel.

X (stimulus, unit) prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes ≥ 0, X ≈ Z D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
from neurosuper.directions.hooks import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder
from neurosuper.directions.settings import count_directions
from neurosuper.responses import name_some


@dataclass(kw_only=True, eq=False, repr=False)
class NMF(IterativeFinder):
    """Non-negative directions that add up to the responses with non-negative codes (Lee and Seung 1999).

    Minimises, over Z ≥ 0 and D ≥ 0 (with `signed`, D of any sign: semi-NMF, Ding, Li and Jordan 2010),

    ½‖X − Z D‖² + units · (l1_codes Σ Z + ½ l2_codes ‖Z‖²) + stimuli · (l1_directions Σ D + ½ l2_directions ‖D‖²),

    which is scikit-learn's objective with alpha_W = l1_codes + l2_codes, alpha_H = l1_directions + l2_directions and
    l1_ratio = l1 / (l1 + l2) of each. Each iteration finds the best codes of every stimulus from D alone (hierarchical
    alternating least squares on Gram matrices; Cichocki and Phan 2009, Gillis and Glineur 2012), then the best D from
    Zᵀ X and Zᵀ Z, then moves D a little further the way it moved, less after a rise (Ang and Gillis 2019). With more
    than 24,000 stimuli (or 200 times the directions), the fit starts on a random sample of half that number.

    Each iteration is one pass over the responses, so that a dask array is streamed, or reduced on the workers of a
    cluster; one pass before that collects the sample. Cost of an iteration: stimuli × units × directions, and a few
    times stimuli × directions². Peak memory, streamed: the sample, or all stimuli if they are at most twice as many,
    and a few chunks. `solver="mu"` also keeps all codes, and sends the blocks of a cluster to this machine.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units.
    signed : bool, optional
        Let directions, and so responses, have any sign. Without penalties, many sets of such directions explain
        responses equally well: all sets whose cone contains them; penalties choose the narrowest cone.
    solver : {"hals", "mu"}, optional
        As above, or multiplicative updates of Lee and Seung (2001), which are slow; codes then start at equal values.
    init : {"nndsvd", "random"} or array (direction, unit), optional
        "nndsvd": non-negative parts of singular vectors (Boutsidis and Gallopoulos 2008; with `signed`, the vectors
        themselves), and random response vectors beyond the rank. "random": random response vectors only. Or given
        directions.
    l1_codes, l2_codes, l1_directions, l2_directions : float, optional
        Weights of the penalties. Codes and directions must be penalised together or not at all: otherwise one grows
        without bound as the other shrinks.
    normalize, center, whiten : bool, optional
        As in every finder; the latter two only with `signed`.
    max_iter : int, optional
        Largest number of iterations.
    tol : float or None, optional
        As in every finder that iterates.
    random_state : int, Generator, RandomState or None, optional
        Seed of the random sample and of random starts.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Scaled to unit length; codes are scaled to match.
    mean_ : DataArray (unit,)
        Zero.
    lengths_ : DataArray (direction,)
        Lengths of the directions before they were scaled: penalties apply to `directions_ · lengths_` and to codes /
        `lengths_`.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates.

    Raises
    ------
    ValueError
        Negative responses without `signed`; only codes or only directions penalised.

    See Also
    --------
    DictionaryLearning : Sparse codes, with directions of any sign.
    Archetypal : Directions towards extreme stimuli.

    Notes
    -----
    More directions than units are not unique, so that features in superposition are not recovered, not even if they are
    non-negative, as tuning of firing rates. Share of 64 planted atoms in 32 units that a direction matches at a cosine
    above .9 (8,000 stimuli, three active atoms each, codes not negative), for atoms of any sign and for non-negative
    ones: this finder (with `signed` for the first) .08 and .00, `SparseAutoencoder` .94 and .00, but `KMeans` 1.00 and
    1.00, and `DictionaryLearning` with ``positive=True`` 1.00 and 1.00.

    Examples
    --------
    >>> import numpy as np
    >>> parts = np.array([[4.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
    >>> responses = np.random.default_rng(0).exponential(size=(50, 2)) @ parts
    >>> np.sort(NMF(2, dtype="float64").fit(responses).directions_.values, axis=0).round(3).tolist()
    [[0.0, 0.0, 0.0], [0.8, 0.6, 1.0]]
    """

    signed: bool = False
    solver: Literal["hals", "mu"] = "hals"
    init: str | np.ndarray = "nndsvd"
    l1_codes: float = 0.0
    l2_codes: float = 0.0
    l1_directions: float = 0.0
    l2_directions: float = 0.0
    normalize: bool = False
    center: bool = False
    whiten: bool = False
    max_iter: int = 200
    tol: float | None = 1e-5

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn may expect: no negative responses, unless `signed`."""
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = not self.signed
        return tags

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the sample on which the fit starts."""
        return draw_positions(rows.n_rows, count_directions(self.n_directions, rows.n_columns), self.generator())

    def check_units(self, responses: xr.DataArray, rows: Rows) -> torch.Tensor:
        """Return the largest |response| of each unit; also refuse negative responses, unless `signed`."""
        sizes = super().check_units(responses, rows)
        if not self.signed and (self.center or self.whiten):
            raise ValueError("centred or whitened responses have negative values; NMF takes them with signed=True")
        negative = (rows.column_ranges.minimum < 0).cpu().numpy()
        if not self.signed and negative.any():
            raise ValueError(
                f"Negative values in data, in unit {name_some(responses.unit.values[negative])}; NMF takes them with "
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
            raise ValueError("l1_directions needs non-negative directions; use l2_directions with signed")
        if (self.l1_codes + self.l2_codes > 0) != (self.l1_directions + self.l2_directions > 0):
            raise ValueError(f"codes and directions are penalised together or not at all, got {weights}")

    def _penalties(self, n_stimuli: int, n_units: int) -> Penalties:
        """Return the weights times the number of units or stimuli, for responses times `prepared_scale`.

        Codes scale with responses, directions do not.
        """
        unit = self.prepared_scale
        codes, directions = (unit * self.l1_codes, self.l2_codes), (self.l1_directions, self.l2_directions)
        return Penalties(*(n_units * w for w in codes), *(unit**2 * n_stimuli * w for w in directions))

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return the best non-negative codes under the penalties."""
        D, lengths = self.tensor("directions_"), self.tensor("lengths_")
        penalties = self._penalties(1, D.shape[1])
        return best_codes(X, D * lengths[:, None], penalties, INNER_TOL[X.dtype]) * lengths

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return Z D."""
        return Z @ self.tensor("directions_")

    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the directions after each alternation of codes and directions."""
        self._check_settings()
        generator = self.generator()
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
            raise ValueError("init must be finite directions, none of them all zero or, without signed, negative")
        return D

    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return the directions, scaled to unit length, and their lengths before."""
        lengths = step.D.norm(dim=1)
        D = torch.nn.functional.normalize(torch.where(lengths[:, None] > 0, step.D, 1), dim=1)
        penalised = any(self._penalties(1, 1))
        return as_learned(D) | {"lengths": (("direction",), lengths if penalised else torch.ones_like(lengths))}
