"""Random directions: a baseline for all finders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neurosuper.directions._rows.moments import sign_rows, skew_signs
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned, as_learned

DRAWN = 2**20  # random numbers drawn at a time: 8 MiB in float64


@dataclass(kw_only=True, eq=False, repr=False)
class Random(DirectionFinder):
    """Random directions: a random rotation of the units, or random unit vectors if more than units are asked for.

    Up to the number of units, directions are orthonormal, drawn uniformly over rotations (QR of a Gaussian matrix:
    Mezzadri 2007) except for their signs, which follow the responses. More directions than units are drawn
    independently and uniformly on the sphere.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units.
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
        Rows of unit length, each with the sign that skews the codes of the stimuli (of 4,096, evenly spread, if there
        are more) to the right.
    mean_ : DataArray (unit,)
        Zero, unless `center` or `whiten`.

    See Also
    --------
    Units : The other baseline: the units themselves.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.eye(5, 3) + 1, dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("vwxyz"), "unit": list("abc")})
    >>> D = Random(random_state=0).fit(r).directions_.values
    >>> bool(np.allclose(D @ D.T, np.eye(3), atol=1e-6))
    True
    """

    normalize: bool = False
    center: bool = False
    whiten: bool = False

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return a random rotation, or random unit vectors if there are more of them than units."""
        n_units, generator = rows.n_columns, self.generator()
        if n_directions <= n_units:
            Q = torch.linalg.qr(_draw(n_units, n_directions, generator)).Q
            D = Q.T  # the sign of each row is that of its codes, below
        else:
            draw = torch.randn(n_directions, n_units, generator=generator, dtype=torch.float64)
            D = draw / draw.norm(dim=1, keepdim=True)
        D = D.to(rows.device, rows.dtype).contiguous()
        return as_learned(skew_signs(rows.take(sign_rows(rows)), rows.mean(), D) * D)

    def rows_to_keep(self, rows: Rows) -> np.ndarray:
        """Return the positions of the stimuli that decide the signs."""
        return sign_rows(rows)


def _draw(n: int, n_columns: int, generator: torch.Generator) -> torch.Tensor:
    """Return the first columns of a Gaussian matrix (n, n), drawn a few rows at a time to save memory.

    Torch draws 16 numbers at once, and the last ones of a tensor by another rule: blocks of 16 rows give the same
    numbers as the whole matrix.
    """
    size = max(16, DRAWN // n // 16 * 16)
    kept, block = (torch.empty(height, width, dtype=torch.float64) for height, width in ((n, n_columns), (size, n)))
    for start in range(0, n, size):
        rows = kept[start : start + size]
        rows[:] = block[: len(rows)].normal_(generator=generator)[:, :n_columns]
    return kept
