"""Response vectors of stimuli drawn at random: a baseline for directions that follow the responses.

X (stimulus, unit) prepared responses; D (direction, unit) = some rows of X, scaled to unit length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neurosuper.directions._rows.rows import Rows
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned, as_learned
from neurosuper.directions.settings import count_directions


@dataclass(kw_only=True, eq=False, repr=False)
class Exemplars(DirectionFinder):
    """Response vectors of stimuli that are drawn at random, as directions: a baseline for `KMeans`.

    Each direction is the (prepared) response vector of one stimulus of the fit, scaled to unit length. The centres of
    uncentred clusters are close to the mean response, and so are most response vectors: directions that score no
    better than these have found no more than that. Give it the preparation of the finder that it is compared with:
    ``Exemplars(normalize=True)`` is the baseline of ``KMeans()``.

    Stimuli are drawn without replacement; one without any response is replaced by the next drawn. A dask array is
    passed over once; once more to replace such stimuli, and once more if responses are whitened, or both normalised and
    centred.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units; at most as many as stimuli.
    normalize, center, whiten : bool, optional
        As in every finder.
    random_state : int, Generator, RandomState or None, optional
        Seed; None draws a new one at every fit.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Rows of unit length, in the order of the stimuli; signs are never touched.
    positions_ : DataArray (direction,)
        Position, among the stimuli of the fit, of the one whose response vector is this direction.
    mean_ : DataArray (unit,)
        Zero, unless `center` or `whiten`.

    See Also
    --------
    CovarianceMatched : A baseline with the mean and covariance of the responses, without their other structure.
    Random, Units : Baselines that do not depend on the responses.

    Notes
    -----
    The direction of a stimulus is fitted to that stimulus, whose code is then among the largest: score the codes of
    other stimuli than those of the fit.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray([[3., 4.], [8., 6.], [0., 2.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("xyz"), "unit": list("ab")})
    >>> Exemplars(3, dtype="float64").fit(r).directions_.values.round(3).tolist()
    [[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]]
    """

    normalize: bool = False
    center: bool = False
    whiten: bool = False

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the response vectors of stimuli drawn at random, among those that have a response."""
        order = self._order(rows)
        at, D = np.empty(0, int), torch.empty(0, rows.n_columns, dtype=rows.dtype, device=rows.device)
        while len(at) < n_directions and len(order):
            drawn, order = np.split(order, [n_directions - len(at)])
            drawn.sort()
            X = rows.take(drawn)
            responds = X.any(dim=1)  # a zero vector has no direction
            at, D = np.concatenate([at, drawn[responds.cpu().numpy()]]), torch.cat([D, X[responds]])
        self.at_most(n_directions, len(D), f"{len(D)} of {rows.n_rows} stimuli have a response")
        positions, rank = torch.from_numpy(at).sort()
        D = torch.nn.functional.normalize(D[rank.to(D.device)], dim=1)
        return as_learned(D) | {"positions": (("direction",), positions)}

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the stimuli drawn first."""
        n_directions = count_directions(self.n_directions, rows.n_columns)
        return np.sort(self._order(rows)[:n_directions])

    def _order(self, rows: Rows) -> np.ndarray:
        """Return the positions of all stimuli, in the order in which they are drawn."""
        return torch.randperm(rows.n_rows, generator=self.generator()).numpy()
