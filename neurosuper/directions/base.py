"""What every finder shares: the door, the labels, and codes as projections.

R (stimulus, unit) responses, D (direction, unit) directions, Z (stimulus, direction) codes, R ≈ Z D + mean.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator

from neurosuper._torch import pick_device
from neurosuper.directions.blocks import Blocks, require_finite, to_tensor
from neurosuper.responses import check_averaged, check_labels, coords_along, name_some, require_varying

DTYPES = {"float32": torch.float32, "float64": torch.float64}
Learned = dict[str, tuple[tuple[str, ...], torch.Tensor]]  # name: (dims, values)


class DirectionFinder(BaseEstimator, ABC):
    """Base of all finders, which write `_fit`.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units.
    random_state : int, optional
        Seed; None draws a new one at every fit.
    device : {"cpu", "cuda"}, optional
        None takes a GPU if there is one.
    dtype : {"float32", "float64"}, optional
        Of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Rows of unit length; unit coords are carried over.
    mean_ : DataArray (unit,)
        What is taken off the responses before they are projected.
    """

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        self.n_directions = n_directions
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    @abstractmethod
    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
        """Return what is learned: at least `directions` (with rows of unit length) and `mean`."""

    def _prepare(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows as the directions see them; the same in `fit` and in `transform`."""
        return rows

    def fit(self, responses: xr.DataArray, y: object = None) -> Self:
        """Find directions.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            In memory, or dask-backed: then streamed, one chunk of stimuli at a time.
        y : ignored
            For scikit-learn's sake.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Responses that break the contract, hold NaN, or have units of zero variance; a number of directions that the
            method cannot give.
        """
        responses = check_averaged(responses)
        require_varying(responses)
        rows = self._blocks(responses)
        learned = self._fit(rows, count_directions(self.n_directions, rows.n_columns))
        self._label(responses, learned)
        return self

    def transform(self, responses: xr.DataArray) -> xr.DataArray:
        """Return codes: projections of the responses on the directions.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            With the units of the fit, in any order; a dask array gives lazy codes.

        Returns
        -------
        DataArray (stimulus, direction)
            Name `code`; stimulus coords are carried over.
        """
        responses = self._same_units(responses)
        D, mean = self._tensor(self.directions_), self._tensor(self.mean_)
        return self._map(responses, lambda rows: (self._prepare(rows) - mean) @ D.T)

    def fit_transform(self, responses: xr.DataArray, y: object = None) -> xr.DataArray:
        """Find directions and return the codes of the same responses."""
        return self.fit(responses).transform(responses)

    def inverse_transform(self, codes: xr.DataArray) -> xr.DataArray:
        """Return the responses that have these codes: of all such, those nearest to the mean.

        Z pinv(D)ᵀ + mean, which is Z D + mean where directions are orthonormal.

        Parameters
        ----------
        codes : DataArray (stimulus, direction)

        Returns
        -------
        DataArray (stimulus, unit)
        """
        Z = self._check_codes(codes)
        R = Z @ torch.linalg.pinv(self._tensor(self.directions_)).T + self._tensor(self.mean_)
        return self._label_responses(codes, R)

    def _blocks(self, responses: xr.DataArray) -> Blocks:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        return Blocks(responses, pick_device(self.device), DTYPES[self.dtype], self._prepare)

    def _generator(self) -> torch.Generator:
        """Return a fresh seeded generator; on the CPU, so that every device draws the same."""
        if not isinstance(self.random_state, int | np.integer | None):
            raise TypeError(f"random_state must be an int or None, got {type(self.random_state).__name__}")
        generator = torch.Generator()
        if self.random_state is None:
            generator.seed()
        else:
            generator.manual_seed(int(self.random_state))
        return generator

    def _label(self, responses: xr.DataArray, learned: Learned) -> None:
        """Store what was learned as labelled arrays whose names end in `_`."""
        units = responses.unit.values.tolist()
        labels = self._direction_labels(units, len(learned["directions"][1]))
        coords: dict[str, dict] = {
            "direction": {"direction": labels},
            "unit": coords_along(responses, "unit"),
            "stimulus": {"stimulus": responses.stimulus},
        }
        for name, (dims, values) in learned.items():
            carried = {key: coord for dim in dims for key, coord in coords[dim].items()}
            setattr(self, f"{name}_", xr.DataArray(values.cpu().numpy(), dims=dims, coords=carried, name=name))
        device = str(learned["directions"][1].device)
        self.directions_.attrs = {"method": type(self).__name__, "settings": repr(self), "device": device}

    def _direction_labels(self, units: list[str], n_directions: int) -> list[str]:
        width = len(str(n_directions - 1))
        return [f"{type(self).__name__} {i:0{width}d}" for i in range(n_directions)]

    def _tensor(self, array: xr.DataArray) -> torch.Tensor:
        return to_tensor(array.values, DTYPES[self.dtype], pick_device(self.device))

    def _require_fitted(self) -> None:
        if not hasattr(self, "directions_"):
            raise ValueError(f"this {type(self).__name__} has no directions yet; call .fit(responses) first")

    def _same_units(self, responses: xr.DataArray) -> xr.DataArray:
        self._require_fitted()
        responses = check_averaged(responses)
        fitted = self.directions_.indexes["unit"]
        if len(extra := fitted.symmetric_difference(responses.indexes["unit"])):
            raise ValueError(
                f"fitted on {len(fitted)} units, got {responses.sizes['unit']}; they differ in {name_some(extra)}"
            )
        return responses if fitted.equals(responses.indexes["unit"]) else responses.sel(unit=fitted)

    def _map(self, responses: xr.DataArray, codes_of: Callable[[torch.Tensor], torch.Tensor]) -> xr.DataArray:
        """Apply a kernel (row, unit) → (row, direction) to responses, block by block where they are lazy."""
        device, dtype = pick_device(self.device), DTYPES[self.dtype]

        def kernel(values: np.ndarray) -> np.ndarray:
            return codes_of(to_tensor(require_finite(values), dtype, device)).cpu().numpy()

        if responses.chunks is not None:
            responses = responses.chunk(unit=-1)
        codes = xr.apply_ufunc(
            kernel,
            responses,
            input_core_dims=[["unit"]],
            output_core_dims=[["direction"]],
            dask="parallelized",
            output_dtypes=[np.dtype(self.dtype)],
            dask_gufunc_kwargs={"output_sizes": {"direction": self.directions_.sizes["direction"]}},
            keep_attrs=True,
        )
        labels = {"direction": self.directions_.direction.values}
        return codes.assign_coords(labels).rename("code").assign_attrs(method=type(self).__name__)

    def _check_codes(self, codes: xr.DataArray) -> torch.Tensor:
        self._require_fitted()
        for dim in ("stimulus", "direction"):
            check_labels(codes, dim, "codes")
        fitted = self.directions_.indexes["direction"]
        if not fitted.equals(codes.indexes["direction"]):
            raise ValueError(f"codes must have the {len(fitted)} directions of this finder, got {codes.sizes}")
        return self._tensor(codes.transpose("stimulus", "direction"))

    def _label_responses(self, codes: xr.DataArray, R: torch.Tensor) -> xr.DataArray:
        return xr.DataArray(
            R.cpu().numpy(),
            dims=("stimulus", "unit"),
            coords=coords_along(codes, "stimulus") | dict(self.mean_.coords),
            name="response",
        )


def count_directions(n_directions: int | str | None, n_units: int) -> int:
    """Return how many directions are asked for: a number, "2x" for twice the units, None for as many as units.

    Raises
    ------
    ValueError
        Anything else, or fewer than one.

    Examples
    --------
    >>> count_directions("0.5x", n_units=90)
    45
    """
    if n_directions is None:
        return n_units
    if isinstance(n_directions, str) and re.fullmatch(r"\d*\.?\d+x", n_directions):
        n_directions = round(float(n_directions[:-1]) * n_units)
    if not isinstance(n_directions, int | np.integer) or isinstance(n_directions, bool) or n_directions < 1:
        raise ValueError(
            f"n_directions must be a positive int, a multiple of the units such as '2x', or None, got {n_directions!r}"
        )
    return int(n_directions)


def as_learned(D: torch.Tensor, mean: torch.Tensor | None = None) -> Learned:
    """Name directions and the mean, which is zero unless given."""
    mean = torch.zeros_like(D[0]) if mean is None else mean
    return {"directions": (("direction", "unit"), D), "mean": (("unit",), mean)}


def skew_positively(D: torch.Tensor, rows: Blocks) -> torch.Tensor:
    """Flip directions so that their codes are skewed to the right: "top" is then the heavy tail.

    One pass for the mean and one for the third central moment.
    """
    mean = rows.mean()
    (third,) = rows.sum(lambda part: ((((part - mean) @ D.T) ** 3).sum(0, dtype=torch.float64),), width=len(D))
    return torch.where((third < 0)[:, None], -D, D)
