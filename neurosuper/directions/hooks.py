"""What a finder fills in to learn and to code, and the tools that it has for that.

X (row, unit) prepared responses, one tile at a time, D (direction, unit) directions, Z (row, direction) codes.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr

from neurosuper._checks import Seed, check_seed
from neurosuper._torch import pick_device
from neurosuper.directions._rows.lost_digits import warn_of_dropped, warn_of_far_units
from neurosuper.directions._rows.moments import RANK_TOLERANCE, moments, whitening
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._rows.tensors import DTYPES, to_tensor
from neurosuper.directions.estimator import Estimator
from neurosuper.responses import DROP_THEM, name_some

Learned = dict[str, tuple[tuple[str, ...], torch.Tensor]]  # name: (dims, values)


@dataclass(eq=False, repr=False)
class FinderHooks(Estimator, ABC):
    """Settings that all finders have, the hooks that each fills in, and tools for use in them."""

    n_directions: int | str | None = None
    _: KW_ONLY
    random_state: Seed = 0
    device: str | None = None
    dtype: str = "float32"

    normalize = center = whiten = False  # of finders without these settings
    scale_ = 1.0
    unit_powers: ClassVar[dict[str, int]] = {}

    # Hooks.

    @abstractmethod
    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the arrays learned from prepared rows, by name, each with its dims.

        Parameters
        ----------
        rows : Rows
            Prepared responses: `rows.whole` if they are in memory, `rows.sum(kernel, *state)` for any size.
        n_directions : int
            The number that the setting asks for.

        Returns
        -------
        dict of str to (dims, tensor)
            At least `"directions": (("direction", "unit"), D)`, with rows of unit length; `"mean"` too if the method
            subtracts one. Each becomes an attribute with a `_` at its end.

        See Also
        --------
        encode : Gives the codes of these directions.
        """

    def encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return codes (row, direction) of prepared rows: projections, unless a finder has others."""
        return X @ self.tensor("directions_").T

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return prepared rows (row, unit) that have these codes: the ones nearest to the origin.

        A finder whose reconstruction is Z D returns that.
        """
        return Z @ torch.linalg.pinv(self.tensor("directions_")).T

    def squared_error(self, X: torch.Tensor) -> torch.Tensor:
        """Return the squared error (row,) of the reconstruction of each prepared row."""
        return ((X - self.decode(self.encode(X))) ** 2).sum(1)

    def rows_to_keep(self, rows: Rows) -> np.ndarray | None:
        """Return the sorted positions of the rows that the fit will take, to keep them from the first pass."""
        return None

    def check_units(self, responses: xr.DataArray, rows: Rows) -> torch.Tensor:
        """Return the largest |response| of each unit; refuse units that never vary, and, in the same pass, NaN."""
        least, largest, _ = rows.column_ranges
        constant = (least == largest).cpu().numpy()
        if constant.any():
            raise ValueError(f"zero variance over stimuli in unit {name_some(responses.unit[constant])}; {DROP_THEM}")
        warn_of_far_units(rows, least, largest)
        return torch.maximum(least.abs(), largest.abs())

    def choose_preparation(self, rows: Rows, scale: float) -> Preparation:
        """Return how rows are prepared before directions are sought in them, in at most two passes."""
        first = Preparation(self.normalize, scale=scale)
        rows = rows.prepared(first)
        if self.whiten:
            mean, scatter = moments(rows)
            variance, V = torch.linalg.eigh(scatter / (rows.n_rows - 1))
            tolerance = RANK_TOLERANCE[rows.dtype]
            warn_of_dropped("whitening", rows, mean, variance, V, tolerance)
            return first._replace(mean=mean.to(rows.dtype), whitening=whitening(variance, V, tolerance).to(rows.dtype))
        return first._replace(mean=rows.mean() if self.center else None)

    # Tools.

    def at_most(self, n_directions: int, most: int, limit: str, advice: str = "ask for fewer") -> int:
        """Return the number of directions to find: a relative size, such as "2x", is capped, with a warning.

        Parameters
        ----------
        n_directions : int
            The number that the setting asks for.
        most : int
            The largest number that these responses allow.
        limit : str
            What allows no more, as a sentence.
        advice : str
            Ends the error.

        Raises
        ------
        ValueError
            A number that the setting names is too large.
        """
        if n_directions <= most:
            return n_directions
        name, asked = type(self).__name__, self.n_directions
        if not (asked is None or isinstance(asked, str)) or most < 1:
            raise ValueError(f"{name} cannot give {n_directions} directions: {limit}; {advice}")
        relative = "as many directions as units" if asked is None else f"n_directions={asked!r}"
        warnings.warn(
            f"{name} finds {most} directions, not {n_directions} ({relative}): {limit}; set n_directions to a "
            "number to choose it yourself",
            stacklevel=_levels_to_user(),
        )
        return most

    def tensor(self, name: str) -> torch.Tensor:
        """Return a learned array as a tensor on the device, times its `scale_of`; `name` ends in `_`."""
        values = to_tensor(getattr(self, name).values, DTYPES[self.dtype], pick_device(self.device))
        factor = self.scale_of(name[:-1])
        return values if factor == 1 else values * factor

    def generator(self) -> torch.Generator:
        """Return a new generator of random numbers, seeded; on the CPU, so that every device draws the same numbers.

        Raises
        ------
        TypeError, ValueError
            `random_state` is none of those that `check_seed` takes.
        """
        seed, generator = check_seed(self.random_state), torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    @property
    def prepared_scale(self) -> float:
        """Factor from prepared responses in the unit of the user to those of the computation."""
        return 1.0 if self.normalize or self.whiten else self.scale_

    def scale_of(self, name: str) -> float:
        """Return the factor from a learned array in the unit of the user to that of the computation."""
        if power := {"mean": 1, "whitening": -1}.get(name):  # both apply to responses before whitening
            return 1.0 if self.normalize else self.scale_**power
        return self.prepared_scale ** self.unit_powers.get(name, 0)

    def preparation(self) -> Preparation:
        """Return how responses are prepared before they are encoded, as learned in the fit.

        See Also
        --------
        DirectionFinder.prepare_rows : Prepares rows for a fit.
        """
        whitening = self.tensor("whitening_") if hasattr(self, "whitening_") else None
        return Preparation(self.normalize, self.tensor("mean_"), whitening, self.scale_)


def _levels_to_user() -> int:
    """Return the stacklevel of a warning of the caller that points at the first line outside this package."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith("neurosuper."):
        frame, level = frame.f_back, level + 1
    return level


def as_learned(D: torch.Tensor) -> Learned:
    """Return directions as `find_directions` does."""
    return {"directions": (("direction", "unit"), D)}
