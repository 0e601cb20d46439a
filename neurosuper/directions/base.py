"""What every finder shares: the door, what is done to responses first, the labels, codes, and files.

R (stimulus, unit) responses, X prepared ones, D (direction, unit) directions, Z (stimulus, direction) codes; X ≈ Z D.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, TypeVar

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator

from neurosuper._torch import pick_device
from neurosuper.directions.blocks import DTYPES, Blocks, Tensors, require_finite, split, to_tensor
from neurosuper.directions.moments import moments, whitening
from neurosuper.directions.n_directions import count_directions
from neurosuper.directions.preparation import Preparation
from neurosuper.directions.storage import read_finder, write_finder
from neurosuper.responses import DROP_THEM, check_averaged, check_labels, coords_along, name_some

Learned = dict[str, tuple[tuple[str, ...], torch.Tensor]]  # name: (dims, values)
Array = TypeVar("Array", xr.DataArray, np.ndarray)


class DirectionFinder(BaseEstimator, ABC):
    """Base of all finders, which write `_fit`.

    Responses are prepared first, in this order, by the options that a finder takes: `normalize` scales each stimulus's
    response vector to unit length, `center` takes off the mean of each unit, `whiten` makes units uncorrelated and of
    unit variance, each as near to the unit that it was as can be (ZCA; Bell and Sejnowski 1997). Directions lie in the
    space of prepared responses; `transform` prepares alike.

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
    """

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
    def _fit(self, rows: Blocks, n_directions: int) -> Learned:
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
            In memory, or dask-backed: then streamed, one chunk of stimuli at a time, or, with a `dask.distributed`
            client, reduced on its workers. A plain array will do as well.
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
            With the units of the fit, in any order; a dask array gives lazy codes. A plain array, with units in the
            order of the fit, gives a plain array.

        Returns
        -------
        DataArray (stimulus, direction)
            Name `code`; stimulus coords are carried over.
        """
        self._require_fitted()
        codes = self._map(self._same_units(self._labelled(responses)))
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
            Z = to_tensor(codes, DTYPES[self.dtype], pick_device(self.device))
            return self._preparation().undo(self._decode(Z)).cpu().numpy()
        Z = self._check_codes(codes)
        return self._label_responses(codes, self._preparation().undo(self._decode(Z)))

    def explained_variance(self, responses: xr.DataArray | np.ndarray) -> float:
        """Return the share of the variance of (prepared) responses that their reconstruction explains.

        1 − Σ‖x − x̂‖² / Σ‖x − mean of x‖², over stimuli; one pass and one for the mean.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            Those of the fit, or others with the same units.

        Returns
        -------
        float
            At most 1; negative where the mean response would do better.
        """
        self._require_fitted()
        rows = self._blocks(self._same_units(self._labelled(responses))).prepared(self._preparation())
        residual, total = rows.sum(_squared_errors, self, rows.mean(), width=self.directions_.sizes["direction"])
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

    def _labelled(self, responses: xr.DataArray | np.ndarray) -> xr.DataArray:
        """Return responses that keep the contract; plain arrays get the labels of the fit, or numbers."""
        if isinstance(responses, np.ndarray):
            responses = self._with_labels(responses)
        return check_averaged(responses)

    def _with_labels(self, values: np.ndarray) -> xr.DataArray:
        if values.ndim != 2:
            raise ValueError(f"a plain array of responses must be (stimulus, unit), got shape {values.shape}")
        n_stimuli, n_units = values.shape
        fitted = self.directions_.unit.values if hasattr(self, "directions_") else None
        units = fitted if fitted is not None and len(fitted) == n_units else np.arange(n_units).astype(str)
        labels = {"stimulus": np.arange(n_stimuli).astype(str), "unit": units}
        return xr.DataArray(values, dims=("stimulus", "unit"), coords=labels)

    def _blocks(self, responses: xr.DataArray) -> Blocks:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        return Blocks(responses, self.device, self.dtype)

    def _prepared_rows(self, responses: xr.DataArray) -> Blocks:
        """Return rows as directions are sought in them, or say what is wrong with the units or the settings."""
        for option in ("normalize", "center", "whiten"):
            if not isinstance(getattr(self, option, False), bool | np.bool_):
                raise ValueError(f"{option} must be True or False, got {getattr(self, option)!r}")
        rows = self._blocks(responses)
        if (positions := self._rows_to_keep(rows)) is not None:
            rows.keep(positions)
        self._check_units(responses, rows)
        return rows.prepared(self._prepare(rows))

    def _fit_prepared(self, responses: xr.DataArray, rows: Blocks) -> Self:
        """Find directions in prepared rows, and label what is learned."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self._interrupted = False
        learned = self._fit(rows, count_directions(self.n_directions, rows.n_columns))
        mean, whitening = rows.preparation.mean, rows.preparation.whitening
        nothing = torch.zeros_like(learned["directions"][1][0])
        shared: Learned = {"mean": (("unit",), nothing if mean is None else mean)}
        if whitening is not None:
            shared["whitening"] = ("unit", "whitened_unit"), whitening
        self._label(responses, shared | learned)
        if self._interrupted:
            raise KeyboardInterrupt(f"the fit was interrupted; this {type(self).__name__} keeps what it had found")
        return self

    def _rows_to_keep(self, rows: Blocks) -> np.ndarray | None:
        """Return the positions of those rows that the fit will take, to put them aside in the first pass."""
        return None

    def _check_units(self, responses: xr.DataArray, rows: Blocks) -> None:
        """Refuse units that never vary; the same pass refuses NaN and infinity."""
        constant = (rows.survey.least == rows.survey.largest).cpu().numpy()
        if constant.any():
            raise ValueError(
                f"zero variance over stimuli in unit {name_some(responses.unit.values[constant])}; {DROP_THEM}"
            )

    def _prepare(self, rows: Blocks) -> Preparation:
        """Return what is to be done to rows before directions are sought in them; at most two passes."""
        normalize = getattr(self, "normalize", False)
        rows = rows.prepared(Preparation(normalize))
        if getattr(self, "whiten", False):
            mean, scatter = moments(rows)
            return Preparation(normalize, mean.to(rows.dtype), whitening(scatter, rows.n_rows).to(rows.dtype))
        return Preparation(normalize, rows.mean() if getattr(self, "center", False) else None)

    def _preparation(self) -> Preparation:
        """Return what was done to responses in the fit."""
        whitening = self._tensor("whitening_") if hasattr(self, "whitening_") else None
        return Preparation(getattr(self, "normalize", False), self._tensor("mean_"), whitening)

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

    # Labels.

    def _label(self, responses: xr.DataArray, learned: Learned) -> None:
        """Store what was learned as labelled arrays whose names end in `_`."""
        labels = self._direction_labels(responses.unit.values.tolist(), len(learned["directions"][1]))
        coords: dict[str, dict] = {
            "direction": {"direction": labels},
            "unit": coords_along(responses, "unit"),
            "whitened_unit": {"whitened_unit": responses.unit.values},
            "stimulus": {"stimulus": responses.stimulus},
        }
        for name, (dims, values) in learned.items():
            carried = {key: coord for dim in dims for key, coord in coords.get(dim, {}).items()}
            setattr(self, f"{name}_", xr.DataArray(values.cpu().numpy(), dims=dims, coords=carried, name=name))
        device = str(learned["directions"][1].device)
        self.directions_.attrs = {"method": type(self).__name__, "settings": repr(self), "device": device}

    def _direction_labels(self, units: list[str], n_directions: int) -> list[str]:
        width = len(str(n_directions - 1))
        return [f"{type(self).__name__} {i:0{width}d}" for i in range(n_directions)]

    def _tensor(self, name: str) -> torch.Tensor:
        """Return a learned array as a tensor on the device, by the name of its attribute."""
        return to_tensor(getattr(self, name).values, DTYPES[self.dtype], pick_device(self.device))

    def _require_fitted(self) -> None:
        if not hasattr(self, "directions_"):
            raise ValueError(f"this {type(self).__name__} has no directions yet; call .fit(responses) first")

    def _same_units(self, responses: xr.DataArray) -> xr.DataArray:
        fitted = self.directions_.indexes["unit"]
        if len(extra := fitted.symmetric_difference(responses.indexes["unit"])):
            raise ValueError(
                f"fitted on {len(fitted)} units, got {responses.sizes['unit']}; they differ in {name_some(extra)}"
            )
        return responses if fitted.equals(responses.indexes["unit"]) else responses.sel(unit=fitted)

    def _map(self, responses: xr.DataArray) -> xr.DataArray:
        """Encode responses, block by block where they are lazy."""
        if responses.chunks is not None:
            whole = {responses.get_axis_num("unit"): -1}  # of the data only: `chunk` would make coords lazy too
            responses = responses.copy(data=responses.data.rechunk(whole))
        codes = xr.apply_ufunc(
            _codes_of_block,
            responses,
            kwargs={"finder": self},
            input_core_dims=[["unit"]],
            output_core_dims=[["direction"]],
            dask="parallelized",
            output_dtypes=[np.dtype(self.dtype)],
            dask_gufunc_kwargs={"output_sizes": {"direction": self.directions_.sizes["direction"]}},
            keep_attrs=True,
        )
        labels = {"direction": self.directions_.direction.values}
        unitless = {"units": "1"} if self._preparation().is_unitless else {}
        return codes.assign_coords(labels).rename("code").assign_attrs(method=type(self).__name__, **unitless)

    def _check_codes(self, codes: xr.DataArray) -> torch.Tensor:
        for dim in ("stimulus", "direction"):
            codes = check_labels(codes, dim, "codes")
        fitted = self.directions_.indexes["direction"]
        if not fitted.equals(codes.indexes["direction"]):
            raise ValueError(f"codes must have the {len(fitted)} directions of this finder, got {codes.sizes}")
        values = codes.transpose("stimulus", "direction").values
        return to_tensor(values, DTYPES[self.dtype], pick_device(self.device))

    def _label_responses(self, codes: xr.DataArray, R: torch.Tensor) -> xr.DataArray:
        return xr.DataArray(
            R.cpu().numpy(),
            dims=("stimulus", "unit"),
            coords=coords_along(codes, "stimulus") | dict(self.mean_.coords),
            name="response",
        )


def _codes_of_block(values: np.ndarray, finder: DirectionFinder) -> np.ndarray:
    """Return codes `(row, direction)` of a block of raw responses `(row, unit)`."""
    R = to_tensor(require_finite(values), DTYPES[finder.dtype], pick_device(finder.device))
    prepare, n_directions = finder._preparation(), finder.directions_.sizes["direction"]
    return torch.cat([finder._encode(prepare(part)) for part in split(R, n_directions)]).cpu().numpy()


def _squared_errors(X: torch.Tensor, finder: DirectionFinder, mean: torch.Tensor) -> Tensors:
    residual = finder._residual(X).sum(dtype=torch.float64)
    return residual, ((X - mean) ** 2).sum(dtype=torch.float64)


def as_learned(D: torch.Tensor) -> Learned:
    """Name directions."""
    return {"directions": (("direction", "unit"), D)}
