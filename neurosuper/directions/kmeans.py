"""K-means directions, the method of Klindt et al. 2023: the centres of clustered response vectors.

X (stimulus, unit) prepared responses, C (direction, unit) centres, D = C with rows of unit length.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
import xarray as xr

from neurosuper._checks import check_count
from neurosuper.directions._rows.rows import Rows, Tensors, join
from neurosuper.directions._rows.shared_passes import StackedKernel
from neurosuper.directions._solvers.center_exchange import best_centers
from neurosuper.directions._solvers.center_search import sample_size
from neurosuper.directions._solvers.nearest_centers import nearest, nearest_of_each, sum_by_center
from neurosuper.directions._solvers.steps import Step
from neurosuper.directions.base import Array
from neurosuper.directions.hooks import Learned, as_learned
from neurosuper.directions.iterative import IterativeFinder
from neurosuper.directions.labels import label_known_input
from neurosuper.directions.settings import count_directions
from neurosuper.responses import coords_along


@dataclass(kw_only=True, eq=False, repr=False)
class KMeans(IterativeFinder):
    """Directions towards the centres of clusters of responses (Klindt et al. 2023).

    Minimises Σ ‖x − c‖² over stimuli, with c the centre nearest to x, by Lloyd's algorithm; response vectors x are
    scaled to unit length first. Centres are the directions; there may be more of them than units. Empty clusters
    restart at the vectors farthest from their centres.

    Centres start from a search on a sample of stimuli (2²⁵ responses, or 2²⁴ if they are streamed, and at least 16
    stimuli per cluster): k-means++ in batches (Bahmani et al. 2012), then Lloyd's iterations during which the centres
    whose removal costs least move to the clusters whose split helps most (local search; Lattanzi and Sohler 2019).
    If stimuli are few (stimuli × units × K up to 2²⁵), single stimuli then move to other clusters, and clusters merge
    and split, while the inertia falls (Hartigan and Wong 1979): with few stimuli per cluster Lloyd's algorithm alone
    hardly moves from its start.

    After that, every iteration is one pass over all stimuli, streamed or in memory. On CPUs with bfloat16 instructions,
    products in bfloat16 show which centres can be the nearest, and only these are compared in float32: the nearest
    centre found is the same.

    Centres stop moving after some tens of iterations; for very large data, `tol=5e-3` stops after a few.
    An iteration costs 2 stimuli × units × directions operations. In addition to the iterations, a dask array is passed
    over once for the ranges of units and the sample, and once for the labels. Memory, in addition to the (normalised)
    responses: the sample, if it is not all of them, and a copy of it; a few numbers per stimulus; and a few times the
    centres in float64.

    Parameters
    ----------
    n_directions : int, str or None, optional
        Number K of clusters, a multiple of the units such as "0.5x" or "2x", or None for as many as units: these two
        are at most half the number of stimuli (those with equal responses are counted once), with a warning, because
        many directions would be single stimuli. A number is at most that of the stimuli.
    normalize : bool, optional
        Scale response vectors to unit length, here and in `transform`. A stimulus without any response stays zero and
        is left out of the fit.
    center, whiten : bool, optional
        As in every finder. Without `center`, the default as in the paper, all centres are close to the mean response:
        see Notes.
    init : {"k-means++", "units"} or array (direction, unit), optional
        Where the centres start: at rows drawn as in k-means++ (Arthur and Vassilvitskii 2007) and improved by the
        search; on the axes of the units (K must be the number of units; a cluster that stays empty stays on its unit);
        or at given centres. From units or given centres, only Lloyd's algorithm is run.
    n_init : int or None, optional
        How many times first centres are searched for, with "k-means++"; the fit continues from those of the smallest
        inertia. None: four times if stimuli × units × K is at most 2²², otherwise once.
    encoding : {"projection", "distance"}, optional
        Codes are projections on the directions, or minus the distances to the centres.
    max_iter : int, optional
        Largest number of iterations.
    tol : float, optional
        As in every finder that iterates: stop when ½‖shift‖²/‖centre‖² is at most this for every centre.
    random_state : int, Generator, RandomState or None, optional
        Seed; None draws a new one at every fit.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Centres scaled to unit length; signs are never touched.
    mean_ : DataArray (unit,)
        Zero.
    centers_ : DataArray (direction, unit)
        The centres themselves, in the space of the (normalised) responses.
    labels_ : DataArray (stimulus,)
        Cluster of each stimulus, as a position along `direction`.
    inertia_ : float
        Sum of squared distances to the nearest centre, over the stimuli of the fit.
    objective_, learning_curve_, n_iter_
        As in every finder that iterates; the objective is the inertia before each iteration.

    Warns
    -----
    UserWarning
        Fewer than two stimuli per cluster: directions are then single stimuli, which look interpretable.
    ConvergenceWarning
        `max_iter` was reached first.

    See Also
    --------
    Exemplars, CovarianceMatched : Baselines for the preparation that centres were found in.
    sweep : Fit with several numbers of directions and seeds.
    neurosuper.directions.direction_stability : How well directions are recovered from other stimuli or seeds.
    DictionaryLearning, SparseAutoencoder : Other finders that give more directions than units.

    Notes
    -----
    Response vectors of unit length that are not centred are all in one corner of the sphere: most of each is the mean
    response, and so are the centres of their clusters (in two sessions of V4 the mean cosine of a centre with the mean
    response is 0.97). Codes then measure above all how close a response is to the mean pattern, with any centre. The
    default is kept, as it is the method of the paper; its baselines are ``Exemplars(normalize=True)`` and
    ``CovarianceMatched(normalize=True)``. With ``center=True`` the mean response is subtracted first: centres are
    deviations from it, which differ between clusters, and their baselines have ``center=True`` too. Report both.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray([[9., 0.], [7., 0.], [0., 2.], [0., 4.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("wxyz"), "unit": list("ab")})
    >>> sorted(KMeans(2).fit(r).directions_.values.tolist())
    [[0.0, 1.0], [1.0, 0.0]]
    """

    normalize: bool = True
    center: bool = False
    whiten: bool = False
    init: str | np.ndarray = "k-means++"
    n_init: int | None = None
    encoding: Literal["projection", "distance"] = "projection"
    max_iter: int = 300
    tol: float | None = 1e-7

    stacks_fits = True

    def predict(self, responses: Array) -> Array:
        """Return the cluster of each stimulus, as a position along `direction`.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            As for `transform`; a dask array is read here.

        Returns
        -------
        DataArray (stimulus,)
            Name `labels`. A plain array or a data frame gives a plain array.

        See Also
        --------
        transform : Gives the codes of all directions.
        """
        self._require_fitted()
        labelled = label_known_input(responses, self)
        C = self.tensor("centers_")
        rows = self.rows_of(labelled).prepared(self.preparation())
        labels = rows.map(_label_rows, C, C.mean(0), self.normalize, width=len(C))[0].cpu().numpy()
        if not isinstance(responses, xr.DataArray):
            return labels
        return xr.DataArray(labels, coords_along(labelled, "stimulus"), dims="stimulus", name="labels")

    unit_powers: ClassVar = {"objective": 2, "centers": 1}

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return projections on the directions, or minus the distances to the centres."""
        if self.encoding == "projection":
            return super().encode(X)
        return -torch.cdist(X, self.tensor("centers_"), compute_mode="donot_use_mm_for_euclid_dist")

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return rows that have these projections, or the nearest centres."""
        return super().decode(Z) if self.encoding == "projection" else self.tensor("centers_")[Z.argmax(1)]

    def squared_error(self, X: torch.Tensor) -> torch.Tensor:
        """Return the squared distance of each row to its nearest centre."""
        C = self.tensor("centers_")
        return ((X - C[nearest(X, C, C.mean(0))[0]]) ** 2).sum(1)

    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the centres after each of Lloyd's iterations."""
        self._check()
        C = self._first_centers(rows, n_directions)
        origin = C.mean(0)
        self._warn_of_few(rows, len(C))
        keep_empty = isinstance(self.init, str) and self.init == "units"
        while True:
            C, inertia = _update(rows, C, origin, self.normalize, keep_empty)
            yield Step(C, inertia, origin)

    def rows_to_keep(self, rows: Rows) -> np.ndarray | None:
        """Return the positions of the sample on which first centres are sought, if responses are streamed."""
        if rows.in_memory or not (isinstance(self.init, str) and self.init == "k-means++"):
            return None
        return _sample(rows, count_directions(self.n_directions, rows.n_columns), self.generator())

    def _check(self) -> None:
        if self.encoding not in ("projection", "distance"):
            raise ValueError(f"encoding must be 'projection' or 'distance', got {self.encoding!r}")
        if self.n_init is not None:
            check_count("n_init", self.n_init)

    def _warn_of_few(self, rows: Rows, n_directions: int) -> None:
        if rows.n_rows < 2 * n_directions:
            warnings.warn(
                f"{n_directions} clusters of {rows.n_rows} stimuli: many directions are single stimuli, which makes "
                "them look interpretable; ask for fewer directions",
                stacklevel=7,
            )

    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return the centres, their directions, and the cluster of each stimulus."""
        C = step.D
        if self.encoding == "projection" and bool((C.norm(dim=1) == 0).any()):
            raise ValueError(
                "a K-means centre is at the origin (stimuli without any response) and has no direction; drop those "
                "stimuli, or use encoding='distance'"
            )
        labels, distance = rows.map(_label_rows, C, step.state, self.normalize, width=len(C))
        self.inertia_ = float(distance.sum(dtype=torch.float64)) / self.scale_of("objective")
        return as_learned(torch.nn.functional.normalize(C, dim=1)) | {
            "centers": (("direction", "unit"), C),
            "labels": (("stimulus",), labels),
        }

    def _first_centers(self, rows: Rows, n_directions: int) -> torch.Tensor:
        if isinstance(self.init, str) and self.init == "k-means++":
            return self._search(rows, n_directions)
        if isinstance(self.init, str) and self.init == "units":
            C = torch.eye(rows.n_columns, dtype=rows.dtype, device=rows.device)
        elif isinstance(self.init, str):
            raise ValueError(f"init must be 'k-means++', 'units' or an array of centres, got {self.init!r}")
        else:
            C = torch.as_tensor(np.array(self.init) * self.prepared_scale, dtype=rows.dtype, device=rows.device)
        if C.shape != (n_directions, rows.n_columns):
            raise ValueError(
                f"init={self.init!r:.20} gives centres of shape {tuple(C.shape)}, but {n_directions} directions of "
                f"{rows.n_columns} units are asked for; set n_directions={len(C)} or None"
            )
        if len(C) > rows.n_rows:
            raise ValueError(f"KMeans cannot make {len(C)} clusters of {rows.n_rows} stimuli; give fewer centres")
        return C

    def _search(self, rows: Rows, n_directions: int) -> torch.Tensor:
        generator = self.generator()
        sample = _sample(rows, n_directions, generator)
        whole = rows.whole if rows.in_memory and len(sample) == rows.n_rows else None
        X = nonzero_rows(rows.take(sample) if whole is None else whole, self.normalize)
        if isinstance(self.n_directions, str | None):
            # Of more clusters than half the stimuli, many are single stimuli, which "2x" of the units does not ask for.
            n_different = _count_different(X, 2 * n_directions)
            most = max(n_different // 2, min(1, len(X) // 2))
            stimuli = f"{len(X)} stimuli" + (f" with {n_different} different responses" * (n_different < len(X)))
            limit = f"{stimuli} are enough for {most} clusters of two stimuli on average"
            n_directions = self.at_most(n_directions, most, limit)
        else:
            limit = f"only {len(X)} stimuli have a response, and each cluster needs one"
            n_directions = self.at_most(n_directions, len(X), limit)
        look = partial(rows.map, _two_nearest, width=None) if X is whole else None
        return best_centers(X, n_directions, generator, self.n_init, look)


def _sample(rows: Rows, n_directions: int, generator: torch.Generator) -> np.ndarray:
    """Return the positions of the stimuli on which first centres are sought."""
    n_sample = sample_size(rows.n_rows, rows.n_columns, n_directions, rows.in_memory)
    return torch.randperm(rows.n_rows, generator=generator)[:n_sample].sort().values.numpy()


def _count_different(X: torch.Tensor, enough: int) -> int:
    """Return how many rows differ, such as those of a stimulus and of its copy do not; at least `enough`, if it is."""
    seen: set[int] = set()
    for start in range(0, len(X), enough):
        seen.update(hash(row.tobytes()) for row in X[start : start + enough].cpu().numpy())
        if len(seen) >= enough:
            break
    return len(seen)


def nonzero_rows(X: torch.Tensor, normalized: bool) -> torch.Tensor:
    """Return the rows that are not zero, if they are normalised; else all rows."""
    if not normalized:
        return X
    taken = X.norm(dim=1) > 0
    return X if taken.all() else X[taken]


def _totals_of_each(X: torch.Tensor, fits: list[tuple[torch.Tensor, torch.Tensor, bool]]) -> list[Tensors]:
    """Return the sum and the number of rows of each cluster, and the inertia, for each fit."""
    centers, origins, (normalized, *_) = zip(*fits, strict=True)
    X = nonzero_rows(X, normalized)
    found = nearest_of_each(X, centers, origins)
    sums = [torch.zeros_like(C, dtype=torch.float64) for C in centers]
    sum_by_center(X, *((label, total) for (label, _), total in zip(found, sums, strict=True)))
    return [
        (total, torch.bincount(label, minlength=len(total)), distance.sum(dtype=torch.float64))
        for (label, distance), total in zip(found, sums, strict=True)
    ]


def _two_nearest_of_each(X: torch.Tensor, fits: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Tensors]:
    """Return the nearest centre of each row, and the squared distances to the two nearest, for each fit."""
    centers, origins = zip(*fits, strict=True)
    return nearest_of_each(X, centers, origins, 2)


_totals, _two_nearest = StackedKernel(_totals_of_each), StackedKernel(_two_nearest_of_each)


def _update(
    rows: Rows, C: torch.Tensor, origin: torch.Tensor, normalized: bool, keep_empty: bool
) -> tuple[torch.Tensor, float]:
    """Return the means of the clusters, and the inertia before, in one pass, or two if a cluster is empty."""
    state = C, origin, normalized
    sums, counts, inertia = rows.sum(_totals, *state, width=None)
    # Lloyd's update: c_k = Σ_{x in cluster k} x / n_k.
    new = (sums / counts.clamp(min=1)[:, None]).to(C.dtype)
    empty = counts == 0
    if empty.any():
        new[empty] = C[empty] if keep_empty else _farthest(rows, C, origin, normalized, int(empty.sum()))
    return new, float(inertia)


def _farthest(rows: Rows, C: torch.Tensor, origin: torch.Tensor, normalized: bool, n: int) -> torch.Tensor:
    """Return the `n` rows farthest from their nearest centre."""
    return rows.reduce(_farthest_kernel, _merge_farthest, C, origin, normalized, n, width=len(C))[1]


def _farthest_kernel(X: torch.Tensor, C: torch.Tensor, origin: torch.Tensor, normalized: bool, n: int) -> Tensors:
    """Return the `n` rows of a tile with the largest squared distances; fewer rows are padded, at distance −∞."""
    X = nonzero_rows(X, normalized)
    distance, at = nearest(X, C, origin)[1].topk(min(n, len(X)))
    n_padded = n - len(at)
    return torch.cat([distance, distance.new_full((n_padded,), -torch.inf)]), torch.cat(
        [X[at], X.new_zeros(n_padded, X.shape[1])]
    )


def _merge_farthest(a: Tensors, b: Tensors) -> Tensors:
    distance, rows = join(a, b)
    distance, at = distance.topk(len(a[0]))
    return distance, rows[at]


def _label_rows(X: torch.Tensor, C: torch.Tensor, origin: torch.Tensor, normalized: bool) -> Tensors:
    """Return the cluster of each row, and the squared distance to its centre."""
    label = nearest(X, C, origin)[0]
    # Σ (x − c)² from the differences: ‖x‖² − 2 x·c + ‖c‖² would lose the digits of small distances.
    distance = ((X - C[label]) ** 2).sum(1)
    return label, distance * (X.norm(dim=1) > 0) if normalized else distance
