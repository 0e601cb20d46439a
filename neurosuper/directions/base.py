"""What every finder shares: the door, what is done to responses first, the labels, codes, and files.

R (stimulus, unit) responses, X prepared ones, D (direction, unit) directions, Z (stimulus, direction) codes; X ≈ Z D.
Tensors are of responses times `scale_`; arrays that a user sees, in `_label` and `_tensor`, are in the user's unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import BaseEstimator

from neurosuper._torch import pick_device
from neurosuper.directions._rows.moments import moments, whitening
from neurosuper.directions._rows.preparation import Preparation, choose_scale
from neurosuper.directions._rows.rows import Rows, Tensors
from neurosuper.directions._rows.tensors import DTYPES, require_finite, require_finite_codes, to_tensor
from neurosuper.directions._rows.tiles import into_tiles
from neurosuper.directions.labels import (
    check_codes,
    check_labelled,
    coords_of_dims,
    label_plain,
    label_responses,
    put_in_order,
)
from neurosuper.directions.seeds import seeded_generator
from neurosuper.directions.settings import count_directions
from neurosuper.directions.storage import read_finder, write_finder
from neurosuper.responses import DROP_THEM, name_some

Learned = dict[str, tuple[tuple[str, ...], torch.Tensor]]  # name: (dims, values)
Array = TypeVar("Array", xr.DataArray, np.ndarray)


class DirectionFinder(BaseEstimator, ABC):
    """Base of all finders, which write `_fit`.

    Responses are prepared first, in this order, by the options that a finder takes: `normalize` scales each stimulus's
    response vector to unit length, `center` takes off the mean of each unit, `whiten` makes units uncorrelated and of
    unit variance, each as near to the unit that it was as can be (ZCA; Bell and Sejnowski 1997). Directions lie in the
    space of prepared responses; `transform` prepares alike.

    Responses may be in any physical unit: the largest from 1e-24 to 1e19. Tiny and huge ones are computed with at an
    ordinary size, and all that is learned, codes, and objectives are in the unit of the responses.

    Works on labelled responses, and on plain arrays `(stimulus, unit)`, as inside a scikit-learn `Pipeline`: a plain
    array gives plain codes.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units.
    normalize, center, whiten : bool, optional
        See above; `whiten` centres too.
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
    whitening_ : DataArray (unit, whitened_unit)
        Only with `whiten`: what centred responses are multiplied by.
    scale_ : float
        Power of two that responses are multiplied by for computation: 1 where the largest is from 2⁻¹⁶ to 2¹⁶.
    """

    normalize = center = whiten = False  # of finders without these options
    scale_ = 1.0
    _powers: ClassVar[dict[str, int]] = {}  # of the unit of prepared responses, in what is learned

    def __init__(
        self,
        n_directions: int | str | None = None,
        *,
        normalize: bool = False,
        center: bool = False,
        whiten: bool = False,
        random_state: int | None = 0,
        device: str | None = None,
        dtype: str = "float32",
    ) -> None:
        self.n_directions = n_directions
        self.normalize = normalize
        self.center = center
        self.whiten = whiten
        self.random_state = random_state
        self.device = device
        self.dtype = dtype

    # What a finder writes. X (row, unit) are prepared rows, Z (row, direction) codes; all four see one block at a time.

    @abstractmethod
    def _fit(self, rows: Rows, n_directions: int) -> Learned:
        """Return what is learned from prepared rows: at least `directions`, with rows of unit length.

        A finder that takes off a mean of its own returns `mean` too.
        """

    def _encode(self, X: torch.Tensor) -> torch.Tensor:
        """Return codes: projections on the directions."""
        return X @ self._tensor("directions_").T

    def _decode(self, Z: torch.Tensor) -> torch.Tensor:
        """Return the prepared responses that have these codes: of all such, those nearest to the origin."""
        return Z @ torch.linalg.pinv(self._tensor("directions_")).T

    def _residual(self, X: torch.Tensor) -> torch.Tensor:
        """Return the squared error `(row,)` of each row's reconstruction by this method."""
        return ((X - self._decode(self._encode(X))) ** 2).sum(1)

    # What a user calls.

    def fit(self, responses: xr.DataArray | np.ndarray, y: object = None) -> Self:
        """Find directions.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            In memory, or dask-backed: then streamed, chunk by chunk, or, with a `dask.distributed` client, reduced on
            its workers. A plain array will do as well.
        y : ignored
            For scikit-learn's sake.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Responses that break the contract, hold NaN, have units of zero variance, or are all smaller than 1e-24 or
            somewhere larger than 1e19; a number of directions that the method cannot give.
        KeyboardInterrupt
            At Ctrl-C. What had been found by then is kept and can be used.
        """
        responses = self._labelled(responses)
        return self._fit_prepared(responses, self._prepared_rows(responses))

    def transform(self, responses: Array) -> Array:
        """Return codes.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            With the units of the fit, in any order, of one stimulus or more; a dask array gives lazy codes. A plain
            array, with units in the order of the fit, gives a plain array.

        Returns
        -------
        DataArray (stimulus, direction)
            Name `code`; stimulus coords are carried over.
        """
        self._require_fitted()
        codes = self._map(self._known(responses))
        return codes if isinstance(responses, xr.DataArray) else codes.values

    def fit_transform(self, responses: Array, y: object = None) -> Array:
        """Find directions and return the codes of the same responses."""
        return self.fit(responses).transform(responses)

    def inverse_transform(self, codes: Array) -> Array:
        """Return the responses that have these codes.

        Z D + mean where the method reconstructs so; where codes are projections on directions that are not orthonormal,
        those responses nearest to the mean that have these projections. The length of a response vector is not restored
        where it was normalised.

        Parameters
        ----------
        codes : DataArray (stimulus, direction)

        Returns
        -------
        DataArray (stimulus, unit)
        """
        self._require_fitted()
        if isinstance(codes, np.ndarray):
            return self._undo(to_tensor(codes, DTYPES[self.dtype], pick_device(self.device)))
        Z = to_tensor(check_codes(codes, self._direction_index), DTYPES[self.dtype], pick_device(self.device))
        return label_responses(self._undo(Z), codes, self.mean_)

    def explained_variance(self, responses: xr.DataArray | np.ndarray) -> float:
        """Return the share of the variance of (prepared) responses that their reconstruction explains.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            Those of the fit, or others with the same units; read twice.

        Returns
        -------
        float
            1 − Σ‖x − x̂‖² / Σ‖x − mean of x‖²: at most 1; negative where the mean response would do better.
        """
        self._require_fitted()
        rows = self._blocks(self._known(responses)).prepared(self._preparation())
        residual, total = rows.sum(_squared_errors, self, rows.mean(), width=len(self._direction_index))
        return 1 - float(residual / total)

    def to_dataset(self) -> xr.Dataset:
        """Return all that was learned, and the settings, as one Dataset, to be written as netCDF or Zarr.

        Returns
        -------
        Dataset
            A variable for each attribute that ends in `_`, without the `_`; `attrs["settings"]` as JSON.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> from neurosuper import PCA
        >>> fitted = PCA(2).fit(np.random.default_rng(0).normal(size=(20, 4)))
        >>> again = PCA.from_dataset(fitted.to_dataset())
        >>> bool((again.directions_ == fitted.directions_).all())
        True
        """
        self._require_fitted()
        return write_finder(self)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Self:
        """Return the finder that `to_dataset` wrote; of its own class, whichever finder's method is called.

        Raises
        ------
        ValueError
            A Dataset that no finder of this kind wrote.
        """
        return read_finder(cls, dataset)

    # The door.

    def _labelled(self, responses: xr.DataArray | np.ndarray, least_stimuli: int = 2) -> xr.DataArray:
        """Return responses that keep the contract; plain arrays get the labels of the fit, or numbers."""
        if isinstance(responses, np.ndarray):
            responses = label_plain(responses, self.mean_.indexes["unit"] if hasattr(self, "mean_") else None)
        return check_labelled(responses, least_stimuli)

    def _known(self, responses: xr.DataArray | np.ndarray) -> xr.DataArray:
        """Return responses of one stimulus or more that have the units of the fit, in its order."""
        return put_in_order(self._labelled(responses, 1), self.mean_.indexes["unit"])

    def _blocks(self, responses: xr.DataArray) -> Rows:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        return Rows(responses, self.device, self.dtype)

    def _prepared_rows(self, responses: xr.DataArray) -> Rows:
        """Return rows as directions are sought in them, or say what is wrong with the units or the settings."""
        for option in ("normalize", "center", "whiten"):
            if not isinstance(getattr(self, option), bool | np.bool_):
                raise ValueError(f"{option} must be True or False, got {getattr(self, option)!r}")
        rows = self._blocks(responses)
        if (positions := self._rows_to_keep(rows)) is not None:
            rows.keep(positions)
        sizes = self._check_units(responses, rows)
        scale = choose_scale(sizes.double().cpu().numpy(), responses.unit.values)
        return rows.prepared(self._prepare(rows, scale))

    def _fit_prepared(self, responses: xr.DataArray, rows: Rows) -> Self:
        """Find directions in prepared rows, and label what is learned."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self._interrupted, self.scale_ = False, rows.preparation.scale
        learned = self._fit(rows, count_directions(self.n_directions, rows.n_columns))
        _, mean, whitening, _ = rows.preparation
        mean = torch.zeros(rows.n_columns, dtype=rows.dtype) if mean is None else mean
        matrix: Learned = {} if whitening is None else {"whitening": (("unit", "whitened_unit"), whitening)}
        self._label(responses, {"mean": (("unit",), mean)} | matrix | learned)
        if self._interrupted:
            raise KeyboardInterrupt(f"the fit was interrupted; this {type(self).__name__} keeps what it had found")
        return self

    def _rows_to_keep(self, rows: Rows) -> np.ndarray | None:
        """Return the positions of those rows that the fit will take, to put them aside in the first pass."""
        return None

    def _check_units(self, responses: xr.DataArray, rows: Rows) -> torch.Tensor:
        """Return the largest |response| of each unit; refuse units that never vary, and, in the same pass, NaN."""
        least, largest, _ = rows.column_ranges
        constant = (least == largest).cpu().numpy()
        if constant.any():
            raise ValueError(f"zero variance over stimuli in unit {name_some(responses.unit[constant])}; {DROP_THEM}")
        return torch.maximum(least.abs(), largest.abs())

    def _prepare(self, rows: Rows, scale: float) -> Preparation:
        """Return what is to be done to rows before directions are sought in them; at most two passes."""
        first = Preparation(self.normalize, scale=scale)
        rows = rows.prepared(first)
        if self.whiten:
            mean, scatter = moments(rows)
            return first._replace(mean=mean.to(rows.dtype), whitening=whitening(scatter, rows.n_rows).to(rows.dtype))
        return first._replace(mean=rows.mean() if self.center else None)

    def _preparation(self) -> Preparation:
        """Return what was done to responses in the fit."""
        whitening = self._tensor("whitening_") if hasattr(self, "whitening_") else None
        return Preparation(self.normalize, self._tensor("mean_"), whitening, self.scale_)

    @property
    def _unit(self) -> float:
        """What prepared responses in the user's unit are multiplied by for computation."""
        return 1.0 if self.normalize or self.whiten else self.scale_

    def _factor(self, name: str) -> float:
        """Return what a learned array in the user's unit is multiplied by for computation."""
        if power := {"mean": 1, "whitening": -1}.get(name):  # of responses before they are whitened
            return 1.0 if self.normalize else self.scale_**power
        return self._unit ** self._powers.get(name, 0)

    def _generator(self) -> torch.Generator:
        """Return a fresh seeded generator; on the CPU, so that every device draws the same."""
        return seeded_generator(self.random_state)

    def _label(self, responses: xr.DataArray, learned: Learned) -> None:
        """Store what was learned as labelled arrays, in the user's unit, whose names end in `_`."""
        directions = self._direction_labels(len(learned["directions"][1])) if "directions" in learned else None
        coords = coords_of_dims(responses, directions)
        for name, (dims, values) in learned.items():
            carried = {key: coord for dim in dims for key, coord in coords.get(dim, {}).items()}
            factor = self._factor(name)
            own = (values if factor == 1 else values / factor).cpu().numpy()
            setattr(self, f"{name}_", xr.DataArray(own, dims=dims, coords=carried, name=name))
        if directions is not None:
            self.directions_.attrs = self._attrs(learned["directions"][1].device)

    def _attrs(self, device: torch.device) -> dict[str, str]:
        return {"method": type(self).__name__, "settings": repr(self), "device": str(device)}

    def _direction_labels(self, n_directions: int) -> list[str]:
        width = len(str(n_directions - 1))
        return [f"{type(self).__name__} {i:0{width}d}" for i in range(n_directions)]

    @property
    def _direction_index(self) -> pd.Index:
        return self.directions_.indexes["direction"]

    def _tensor(self, name: str) -> torch.Tensor:
        """Return a learned array as a tensor on the device, by the name of its attribute, times `_factor`."""
        values = to_tensor(getattr(self, name).values, DTYPES[self.dtype], pick_device(self.device))
        factor = self._factor(name[:-1])
        return values if factor == 1 else values * factor

    def _require_fitted(self) -> None:
        if not hasattr(self, "mean_"):
            raise ValueError(f"this {type(self).__name__} has no directions yet; call .fit(responses) first")

    def _map(self, responses: xr.DataArray) -> xr.DataArray:
        """Encode responses, block by block where they are lazy."""
        if responses.chunks is not None:
            whole = {responses.get_axis_num("unit"): -1}  # of the data only: `chunk` would make coords lazy too
            responses = responses.copy(data=responses.data.rechunk(whole))
        labels = self._direction_index
        codes = xr.apply_ufunc(
            _codes_of_block,
            responses,
            kwargs={"finder": self},
            input_core_dims=[["unit"]],
            output_core_dims=[["direction"]],
            dask="parallelized",
            output_dtypes=[np.dtype(self.dtype)],
            dask_gufunc_kwargs={"output_sizes": {"direction": len(labels)}},
            keep_attrs=True,
        )
        unitless = {"units": "1"} if self._preparation().is_unitless else {}
        codes = codes.assign_coords(direction=labels.values).rename("code")
        return codes.assign_attrs(method=type(self).__name__, **unitless)

    def _undo(self, Z: torch.Tensor) -> np.ndarray:
        """Return the responses that have these codes, which are in the user's unit."""
        return self._preparation().undo(self._decode(Z if self._unit == 1 else Z * self._unit)).cpu().numpy()


def _codes_of_block(values: np.ndarray, finder: DirectionFinder) -> np.ndarray:
    """Return codes `(row, direction)` of a block of raw responses `(row, unit)`."""
    R = to_tensor(require_finite(values), DTYPES[finder.dtype], pick_device(finder.device))
    prepare, n_directions = finder._preparation(), len(finder._direction_index)
    codes = torch.cat([finder._encode(prepare(part)) for part in into_tiles(R, n_directions)])
    return require_finite_codes((codes if finder._unit == 1 else codes / finder._unit).cpu().numpy())


def _squared_errors(X: torch.Tensor, finder: DirectionFinder, mean: torch.Tensor) -> Tensors:
    residual = finder._residual(X).sum(dtype=torch.float64)
    return residual, ((X - mean) ** 2).sum(dtype=torch.float64)


def as_learned(D: torch.Tensor) -> Learned:
    """Name directions."""
    return {"directions": (("direction", "unit"), D)}
