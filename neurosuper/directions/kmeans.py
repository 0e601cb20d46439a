"""K-means directions, the method of Klindt et al. 2023: the centres of clustered response vectors.

X (stimulus, unit) prepared responses, C (direction, unit) centres, D = C with rows of unit length.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
import xarray as xr
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from neurosuper.directions.base import DirectionFinder, Learned, as_learned
from neurosuper.directions.blocks import Blocks, Rows

SEED_ROWS = 16  # rows a centre to draw the first centres from


class KMeans(DirectionFinder):
    """Directions towards the centres of clusters of responses (Klindt et al. 2023).

    Every stimulus's response vector is scaled to unit length and the vectors are clustered by Lloyd's algorithm.
    Centres are the directions; there may be more of them than units. Empty clusters restart at the vectors farthest
    from their centres. Memory beside the (normalised) responses: a few times 128 MiB, and one label per stimulus. A
    dask array is streamed: one pass per iteration.

    Parameters
    ----------
    n_directions : int, str or None, optional
        Number K of clusters, a multiple of the units such as "0.5x" or "2x", or None for as many as units.
    normalize : bool, optional
        Scale response vectors to unit length, here and in `transform`. A stimulus without any response stays zero and
        takes no part in the fit.
    init : {"k-means++", "units"} or array (direction, unit), optional
        Where the centres start: greedy k-means++ (Arthur and Vassilvitskii 2007); on the units' axes, where K is the
        number of units and a cluster that stays empty stays on its unit; or at given centres.
    codes : {"projection", "distance"}, optional
        Codes are projections on the directions, or minus the distances to the centres.
    max_iter : int, optional
    tol : float, optional
        Stop when the squared shift of all centres falls below `tol` times the mean variance of the units.
    random_state : int, optional
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional

    Warns
    -----
    UserWarning
        Fewer than two stimuli per cluster: directions are then single stimuli, and their neighbours look alike.
    ConvergenceWarning
        `max_iter` was reached first.

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
        Sum of squared distances to the nearest centre, of the stimuli that took part.
    n_iter_ : int

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray([[9., 0.], [7., 0.], [0., 2.], [0., 4.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("wxyz"), "unit": list("ab")})
    >>> sorted(KMeans(2).fit(r).directions_.values.tolist())
    [[0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        normalize: bool = True,
        init: str | np.ndarray = "k-means++",
        codes: Literal["projection", "distance"] = "projection",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        super().__init__(n_directions, random_state=random_state, device=device, dtype=dtype)
        self.normalize = normalize
        self.init = init
        self.codes = codes
        self.max_iter = max_iter
        self.tol = tol

    def transform(self, responses: xr.DataArray) -> xr.DataArray:
        """Return codes: projections on the directions, or minus the distances to the centres.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            With the units of the fit, in any order; a dask array gives lazy codes.

        Returns
        -------
        DataArray (stimulus, direction)
            Name `code`; stimulus coords are carried over.
        """
        units = {"units": "1"} if self.normalize else {}
        if self.codes == "projection":
            return super().transform(responses).assign_attrs(units)
        responses = self._same_units(responses).assign_attrs(units)
        C = self._tensor(self.centers_)
        exact = "donot_use_mm_for_euclid_dist"
        return self._map(responses, lambda rows: -torch.cdist(self._prepare(rows), C, compute_mode=exact))

    def inverse_transform(self, codes: xr.DataArray) -> xr.DataArray:
        """Return (normalised) responses: from projections as in every finder, from distances the nearest centre.

        Parameters
        ----------
        codes : DataArray (stimulus, direction)

        Returns
        -------
        DataArray (stimulus, unit)
        """
        if self.codes == "projection":
            return super().inverse_transform(codes)
        nearest = self._check_codes(codes).argmax(1)
        return self._label_responses(codes, self._tensor(self.centers_)[nearest])

    def _prepare(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(rows, dim=1) if self.normalize else rows

    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
        if self.codes not in ("projection", "distance"):
            raise ValueError(f"codes must be 'projection' or 'distance', got {self.codes!r}")
        if not isinstance(self.normalize, bool) or self.max_iter < 1:
            raise ValueError(
                f"normalize must be a bool and max_iter at least 1, got {self.normalize!r}, {self.max_iter!r}"
            )
        if n_directions > rows.n_rows:
            raise ValueError(
                f"KMeans cannot make {n_directions} clusters of {rows.n_rows} stimuli; ask for fewer directions"
            )
        C, origin = self._lloyd(rows, self._first_centers(rows, n_directions))
        if self.codes == "projection" and bool((C.norm(dim=1) == 0).any()):
            raise ValueError(
                "a K-means centre lies at the origin (stimuli without any response) and has no direction; drop those "
                "stimuli, or use codes='distance'"
            )
        if rows.n_rows < 2 * n_directions:
            warnings.warn(
                f"{n_directions} clusters of {rows.n_rows} stimuli: many directions are single stimuli, which makes "
                "them look interpretable; ask for fewer directions",
                stacklevel=3,
            )
        labels, self.inertia_ = _assign_all(rows, self._takes_part, C, origin)
        return as_learned(torch.nn.functional.normalize(C, dim=1)) | {
            "centers": (("direction", "unit"), C),
            "labels": (("stimulus",), labels),
        }

    def _takes_part(self, X: torch.Tensor) -> torch.Tensor:
        """Return which rows take part in the fit: of normalised ones, those that are not zero."""
        return X.any(1) if self.normalize else torch.ones_like(X[:, 0], dtype=torch.bool)

    def _first_centers(self, rows: Blocks, n_directions: int) -> torch.Tensor:
        if isinstance(self.init, str) and self.init == "k-means++":
            generator = self._generator()
            n_sample = min(rows.n_rows, max(SEED_ROWS * n_directions, 10_000))
            sample = torch.randperm(rows.n_rows, generator=generator)[:n_sample].sort().values
            X = rows.take(sample.numpy())
            return _plus_plus(X[self._takes_part(X)], n_directions, generator)
        if isinstance(self.init, str) and self.init == "units":
            C = torch.eye(rows.n_columns, dtype=rows.dtype, device=rows.device)
        elif isinstance(self.init, str):
            raise ValueError(f"init must be 'k-means++', 'units' or an array of centres, got {self.init!r}")
        else:
            C = torch.as_tensor(np.array(self.init), dtype=rows.dtype, device=rows.device)
        if C.shape != (n_directions, rows.n_columns):
            raise ValueError(
                f"init={self.init!r:.20} gives centres of shape {tuple(C.shape)}, but {n_directions} directions of "
                f"{rows.n_columns} units are asked for; set n_directions={len(C)} or None"
            )
        return C

    def _lloyd(self, rows: Blocks, C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Alternate assignment and averaging until the centres rest; return them and the mean row."""
        origin = rows.mean()
        keep_empty = isinstance(self.init, str) and self.init == "units"
        (variance,) = rows.sum(lambda part: (((part - origin) ** 2).sum(dtype=torch.float64),))
        threshold = self.tol * float(variance) / (rows.n_rows * rows.n_columns)
        bar = tqdm(range(1, self.max_iter + 1), desc="K-means", unit="iteration", leave=False, delay=2)
        for self.n_iter_ in bar:
            new, inertia = _update(rows, self._takes_part, C, origin, keep_empty)
            shift = float(((new - C) ** 2).sum())
            C = new
            bar.set_postfix(inertia=f"{inertia:.6g}", refresh=False)
            if shift <= threshold:
                break
        else:
            warnings.warn(
                f"K-means moved its centres by {shift:.3g} (squared) in iteration {self.max_iter}, above the tolerance "
                f"{threshold:.3g}; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )
        return C, origin


def _assign(X: torch.Tensor, C: torch.Tensor, origin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the nearest centre of each row, and the squared distance to it.

    ‖x − c‖² = ‖x‖² − 2 (x·c − ‖c‖²/2), about the mean row, where rounding is least.
    """
    X, C = X - origin, C - origin
    score, label = torch.addmm(-(C**2).sum(1) / 2, X, C.T).max(1)
    return label, ((X**2).sum(1) - 2 * score).clamp(min=0)


def _update(
    rows: Blocks, takes_part: Rows, C: torch.Tensor, origin: torch.Tensor, keep_empty: bool
) -> tuple[torch.Tensor, float]:
    """Return the means of the clusters, and the inertia before: one pass, and one more where a cluster is empty."""

    def totals(X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        X = X[takes_part(X)]
        label, distance = _assign(X, C, origin)
        sums = torch.zeros_like(C, dtype=torch.float64).index_add_(0, label, X.double())
        return sums, torch.bincount(label, minlength=len(C)), distance.sum(dtype=torch.float64)

    sums, counts, inertia = rows.sum(totals, width=len(C))
    new = (sums / counts.clamp(min=1)[:, None]).to(C.dtype)
    empty = counts == 0
    if empty.any():
        new[empty] = C[empty] if keep_empty else _farthest(rows, takes_part, C, origin, int(empty.sum()))
    return new, float(inertia)


def _farthest(rows: Blocks, takes_part: Rows, C: torch.Tensor, origin: torch.Tensor, n: int) -> torch.Tensor:
    """Return the `n` rows farthest from their nearest centre."""
    far, far_rows = C.new_empty(0), C.new_empty(0, C.shape[1])
    for part in rows.parts(len(C)):
        X = part[takes_part(part)]
        far, far_rows = torch.cat([far, _assign(X, C, origin)[1]]), torch.cat([far_rows, X])
        best = far.topk(min(n, len(far))).indices
        far, far_rows = far[best], far_rows[best]
    return far_rows


def _assign_all(rows: Blocks, takes_part: Rows, C: torch.Tensor, origin: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return the label of every row, and the inertia from the differences themselves."""
    labels, inertia = [], 0.0
    for X in rows.parts(len(C)):
        label = _assign(X, C, origin)[0]
        labels.append(label)
        part = takes_part(X)
        inertia += float(((X[part] - C[label[part]]) ** 2).sum(dtype=torch.float64))
    return torch.cat(labels), inertia


def _plus_plus(X: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Return `n` rows far from one another: greedy k-means++, the best of 2 + log n draws at each step."""
    if len(X) < n:
        raise ValueError(f"KMeans cannot make {n} clusters of {len(X)} stimuli that have a response; ask for fewer")
    centred, trials = X - X.mean(0), 2 + int(np.log(n))
    norms = (centred**2).sum(1)

    def squared_distances(at: torch.Tensor) -> torch.Tensor:
        gram = torch.addmm(norms, centred[at], centred.T, alpha=-2)
        return (gram + norms[at, None]).clamp(min=0)

    first = torch.randint(len(X), (1,), generator=generator).to(X.device)
    chosen, distance = [first], squared_distances(first)[0]
    while len(chosen) < n:
        cumulated = distance.double().cumsum(0)
        draws = torch.rand(trials, generator=generator, dtype=torch.float64).to(X.device) * cumulated[-1]
        candidates = torch.searchsorted(cumulated, draws).clamp(max=len(X) - 1)
        nearer = torch.minimum(squared_distances(candidates), distance)
        best = nearer.sum(1).argmin(keepdim=True)
        chosen.append(candidates[best])
        distance = nearer[best[0]]
    return X[torch.cat(chosen)].clone()
