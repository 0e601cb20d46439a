"""The base of all finders: fit, transform, inverse_transform, and files.

R (stimulus, unit) responses, X prepared responses, D (direction, unit) directions, Z (stimulus, direction) codes;
X ≈ Z D. Tensors are of responses times `scale_`; the arrays that a user sees are in the unit of the responses, and
`_label` and `tensor` convert between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import torch
import xarray as xr
from sklearn.exceptions import NotFittedError

from neurosuper._checks import check_seed
from neurosuper._torch import pick_device
from neurosuper.directions._rows.preparation import choose_scale
from neurosuper.directions._rows.rows import Rows, Tensors
from neurosuper.directions._rows.tensors import DTYPES, require_finite, require_finite_codes, to_tensor
from neurosuper.directions._rows.tiles import into_tiles
from neurosuper.directions.hooks import FinderHooks, Learned
from neurosuper.directions.labels import check_codes, coords_of_dims, label_input, label_known_input, label_responses
from neurosuper.directions.settings import count_directions
from neurosuper.directions.storage import read_finder, write_finder

Array = TypeVar("Array", xr.DataArray, np.ndarray)


@dataclass(eq=False, repr=False)
class DirectionFinder(FinderHooks, auto_wrap_output_keys=None):
    """Base of all finders: a dataclass of keyword settings that learns directions from responses.

    Responses are prepared first, in this order, by the settings that a finder has: `normalize` scales the response
    vector of each stimulus to unit length, `center` subtracts the mean of each unit, `whiten` makes units uncorrelated
    and of unit variance, staying as close as possible to the original units (ZCA; Bell and Sejnowski 1997). Directions
    are in the space of prepared responses; `transform` prepares responses in the same way.

    Responses may be in any physical unit: the largest from 1e-24 to 1e19. Very small and very large responses are
    rescaled for computation; all that is learned, codes, and objectives are in the unit of the responses.

    Works on labelled responses, and, as inside a scikit-learn `Pipeline`, on plain arrays and data frames
    `(stimulus, unit)`: these give plain codes, or what `set_output` asks for.

    To write a finder of your own, fill in `find_directions`, and `encode` and `decode` if codes are not projections;
    tutorials/methods/write_a_finder.md shows how.

    Parameters
    ----------
    n_directions : int, str or None, optional
        A number, a multiple of the units such as "2x", or None for as many as units. Where the
        stimuli allow fewer directions, a number is refused, and the other two are capped, with a warning.
    normalize, center, whiten : bool, optional
        See above; `whiten` also centres.
    random_state : int, Generator, RandomState or None, optional
        Seed; a generator of NumPy draws a new one at every fit, and None too, from the operating system.
    device : {"cpu", "cuda"}, optional
        None: a GPU if available.
    dtype : {"float32", "float64"}, optional
        Precision of all computation.

    Attributes
    ----------
    directions_ : DataArray (direction, unit)
        Rows of unit length; unit coords are carried over.
    mean_ : DataArray (unit,)
        Subtracted from responses before they are projected.
    whitening_ : DataArray (unit, whitened_unit)
        Only with `whiten`: centred responses are multiplied by it.
    scale_ : float
        Power of two by which responses are multiplied for computation: 1 if the largest is from 2⁻¹⁶ to 2¹⁶.
    n_features_in_ : int
        Number of units.
    feature_names_in_ : array of str
        Labels of the units; not defined if they are only numbered, as those of a plain array.
    unit_powers : dict of str to int
        For each learned array, the power of the unit of prepared responses that it has, if that is not 0; set by the
        class.

    See Also
    --------
    IterativeFinder : Base of finders that iterate.
    neurosuper.compare : Compares the directions of several finders with units.
    """

    # Methods for users.

    def fit(self, responses: xr.DataArray | np.ndarray, y: object = None) -> Self:
        """Find directions, and return the finder.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            In memory, or dask-backed: then streamed, chunk by chunk, or, with a `dask.distributed` client, reduced on
            its workers. A plain array or a data frame is accepted too.
        y : ignored
            As scikit-learn asks.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Responses that break the contract, contain NaN, have units of zero variance, or are all smaller than 1e-24
            or somewhere larger than 1e19; a number of directions that the method cannot give.
        KeyboardInterrupt
            At Ctrl-C. The directions found by then are kept and can be used.

        See Also
        --------
        transform : Gives the codes of these or other responses.
        """
        responses = label_input(responses)
        return self.fit_rows(responses, self.prepare_rows(responses))

    def transform(self, responses: Array) -> Array:
        """Return codes.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            With the units of the fit, in any order, of one or more stimuli; a dask array gives lazy codes. A plain
            array or a data frame, with units in the order of the fit, gives a plain array, or what `set_output` asks
            for.

        Returns
        -------
        DataArray (stimulus, direction)
            Name `code`; stimulus coords are carried over.

        See Also
        --------
        inverse_transform : Gives the responses that have these codes.
        """
        self._require_fitted()
        if isinstance(responses, xr.DataArray):
            return self.code_responses(label_known_input(responses, self))
        return super().transform(responses)

    def fit_transform(self, responses: Array, y: object = None) -> Array:
        """Find directions and return the codes of the same responses.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            As for `fit`.
        y : ignored
            As scikit-learn asks.

        Returns
        -------
        DataArray (stimulus, direction)
            As of `transform`.

        See Also
        --------
        fit : Finds directions.
        transform : Gives codes.
        """
        return self.fit(responses).transform(responses)

    def inverse_transform(self, codes: Array) -> Array:
        """Return the responses that have these codes.

        Z D + mean if the method reconstructs in this way; if codes are projections on directions that are not
        orthonormal, the responses nearest to the mean that have these projections. The length of a response vector is
        not restored if it was normalised.

        Parameters
        ----------
        codes : DataArray (stimulus, direction)

        Returns
        -------
        DataArray (stimulus, unit)

        See Also
        --------
        transform : Gives the codes of responses.
        """
        self._require_fitted()
        if isinstance(codes, xr.DataArray):
            R = self._decode_values(check_codes(codes, self.direction_index))
            return label_responses(R, codes, self.mean_)
        return self._decode_values(np.asarray(codes))

    def explained_variance(self, responses: xr.DataArray | np.ndarray) -> float:
        """Return the share of the variance of (prepared) responses that their reconstruction explains.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            Those of the fit, or others with the same units; read twice.

        Returns
        -------
        float
            1 − Σ‖x − x̂‖² / Σ‖x − mean of x‖²: at most 1; negative if the mean response would be a better guess.

        Raises
        ------
        ValueError
            Responses to a single stimulus, which have no variance; other units than those of the fit.

        See Also
        --------
        neurosuper.sweep : Computes it for many numbers of directions and seeds.
        """
        self._require_fitted()
        rows = self.rows_of(label_known_input(responses, self, min_stimuli=2)).prepared(self.preparation())
        residual, total = rows.sum(_squared_errors, self, rows.mean(), width=len(self.direction_index))
        return 1 - float(residual / total)

    def score(self, responses: xr.DataArray | np.ndarray, y: object = None) -> float:
        """Return `explained_variance`, as the score for scikit-learn's `GridSearchCV` and `cross_val_score`.

        Parameters
        ----------
        responses : DataArray (stimulus, unit)
            As for `transform`.
        y : ignored
            As scikit-learn asks.

        Returns
        -------
        float
            Share of variance explained: higher is better.

        See Also
        --------
        explained_variance : Defines it.
        """
        return self.explained_variance(responses)

    def to_dataset(self) -> xr.Dataset:
        """Return the settings and all that was learned as one Dataset, to write as netCDF or Zarr.

        Returns
        -------
        Dataset
            A variable for each learned attribute, named without its `_`; `attrs["settings"]` as JSON.

        See Also
        --------
        from_dataset : Reads it again.

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
        """Return the fitted finder that `to_dataset` wrote, of the class that was written.

        Raises
        ------
        ValueError
            A Dataset that no finder of this class wrote, or one of another format version.

        See Also
        --------
        to_dataset : Writes the Dataset.
        """
        return read_finder(cls, dataset)

    # A fit in two halves: many fits may share prepared rows.

    def prepare_rows(self, responses: xr.DataArray) -> Rows:
        """Return the rows of checked responses as directions are sought in them, for `fit_rows`.

        Raises
        ------
        TypeError, ValueError
            Units, or a setting, that the finder cannot take.

        See Also
        --------
        fit_rows : Finds directions in these rows.
        """
        for option in ("normalize", "center", "whiten"):
            if not isinstance(getattr(self, option), bool | np.bool_):
                raise ValueError(f"{option} must be True or False, got {getattr(self, option)!r}")
        if not isinstance(self.random_state, np.random.Generator | np.random.RandomState):
            check_seed(self.random_state)  # which would advance a generator
        rows = self.rows_of(responses)
        if (positions := self.rows_to_keep(rows)) is not None:
            rows.keep(positions)
        sizes = self.check_units(responses, rows)
        scale = choose_scale(sizes.double().cpu().numpy(), responses.unit.values)
        return rows.prepared(self.choose_preparation(rows, scale))

    def fit_rows(self, responses: xr.DataArray, rows: Rows) -> Self:
        """Find directions in rows that `prepare_rows` returned for these responses, and return the finder.

        See Also
        --------
        prepare_rows : Returns the rows.
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self._interrupted, self.scale_ = False, rows.preparation.scale
        learned = self.find_directions(rows, count_directions(self.n_directions, rows.n_columns))
        _, mean, whitening, _ = rows.preparation
        mean = torch.zeros(rows.n_columns, dtype=rows.dtype) if mean is None else mean
        matrix: Learned = {} if whitening is None else {"whitening": (("unit", "whitened_unit"), whitening)}
        self._label(responses, {"mean": (("unit",), mean)} | matrix | learned)
        if self._interrupted:
            raise KeyboardInterrupt(f"the fit was interrupted; this {type(self).__name__} keeps what it had found")
        return self

    def code_responses(self, responses: xr.DataArray) -> xr.DataArray:
        """Return the codes of checked responses, block by block if they are lazy."""
        if responses.chunks is not None:
            whole = {responses.get_axis_num("unit"): -1}  # of the data only: `chunk` would make coords lazy too
            responses = responses.copy(data=responses.data.rechunk(whole))
        labels = self.direction_index
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
        unitless = {"units": "1"} if self.preparation().is_unitless else {}
        codes = codes.assign_coords(direction=labels.values).rename("code")
        return codes.assign_attrs(method=type(self).__name__, **unitless)

    def attrs_of_directions(self, device: torch.device) -> dict[str, str]:
        """Return the attrs of `directions_`: method, settings and device."""
        return {"method": type(self).__name__, "settings": repr(self), "device": str(device)}

    def _decode_values(self, codes: np.ndarray) -> np.ndarray:
        Z = to_tensor(codes, DTYPES[self.dtype], pick_device(self.device))
        X = self.decode(Z if self.prepared_scale == 1 else Z * self.prepared_scale)
        return self.preparation().undo(X).cpu().numpy()

    def _code_plain(self, responses: np.ndarray) -> np.ndarray:
        return self.code_responses(label_known_input(responses, self)).values

    def rows_of(self, responses: xr.DataArray) -> Rows:
        """Return the rows of checked responses, not prepared."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'float64', got {self.dtype!r}")
        return Rows(responses, self.device, self.dtype)

    def _label(self, responses: xr.DataArray, learned: Learned) -> None:
        """Store what was learned as labelled arrays, in the unit of the user, whose names end in `_`."""
        labels = None
        if "directions" in learned:
            n_directions = len(learned["directions"][1])
            width = len(str(n_directions - 1))
            labels = [f"{type(self).__name__} {i:0{width}d}" for i in range(n_directions)]
        coords = coords_of_dims(responses, labels)
        for name, (dims, values) in learned.items():
            carried = {key: coord for dim in dims for key, coord in coords.get(dim, {}).items()}
            factor = self.scale_of(name)
            own = (values if factor == 1 else values / factor).cpu().numpy()
            setattr(self, f"{name}_", xr.DataArray(own, dims=dims, coords=carried, name=name))
        if labels is not None:
            self.directions_.attrs = self.attrs_of_directions(learned["directions"][1].device)

    def _require_fitted(self) -> None:
        if not hasattr(self, "mean_"):
            raise NotFittedError(f"this {type(self).__name__} has no directions yet; call .fit(responses) first")


def _codes_of_block(values: np.ndarray, finder: DirectionFinder) -> np.ndarray:
    """Return codes `(row, direction)` of a block of raw responses `(row, unit)`."""
    R = to_tensor(require_finite(values), DTYPES[finder.dtype], pick_device(finder.device))
    prepare, n_directions = finder.preparation(), len(finder.direction_index)
    codes = torch.cat([finder.encode(prepare(part)) for part in into_tiles(R, n_directions)])
    factor = finder.prepared_scale
    return require_finite_codes((codes if factor == 1 else codes / factor).cpu().numpy())


def _squared_errors(X: torch.Tensor, finder: DirectionFinder, mean: torch.Tensor) -> Tensors:
    residual = finder.squared_error(X).sum(dtype=torch.float64)
    return residual, ((X - mean) ** 2).sum(dtype=torch.float64)
