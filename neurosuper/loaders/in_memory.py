"""Responses from values in memory, in any form.

Every form becomes a labelled array or a table first; axes and labels are then found by `from_arrays` or `from_tables`,
trials are arranged by stimulus, and labels become text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import one_line
from neurosuper.loaders.from_arrays import from_array
from neurosuper.loaders.from_tables import from_table
from neurosuper.loaders.labelling import Stimuli, add_unit_coords, name_labels
from neurosuper.loaders.request import Request
from neurosuper.loaders.trials import repeat_by_stimulus
from neurosuper.responses import check_responses

__all__ = ["as_responses", "label_responses"]


def as_responses(
    values: Any,
    dims: Sequence[str] | None = None,
    *,
    stimuli: Stimuli | None = None,
    units: Sequence | np.ndarray | str | None = None,
    trials: Any = None,
    measured_in: str | None = None,
    **unit_coords: Sequence | np.ndarray,
) -> xr.DataArray:
    """Return responses from an array, table or tensor of your own, with labels of stimuli and units.

    Parameters
    ----------
    values : array, nested lists, DataFrame, tensor, dask array or DataArray
        Responses of units to stimuli, or to each trial. A tensor may be on another device. A dask array stays lazy. A
        DataArray may have other names of dims and coords, or a MultiIndex, such as a NeuroidAssembly of Brain-Score.
    dims : sequence of str, optional
        Names of the axes in their order: "stimulus" (or "trial"), "unit" and, if stimuli were repeated, "repetition".
        May be left out if axes have usual names, or if the numbers of labels fit one order only.
    stimuli : labels, labelled array, path of the images, or name, optional
        Labels of the stimuli in order, as in `load_array`; or the name of the dim, coord, column or level of the index
        that contains them. By default the labels of `values`: of a DataFrame those of its rows.
    units : labels or name, optional
        Labels of the units in order, or the name of the coord or level that contains them. For a DataFrame, the list of
        the columns that are units; the others then describe stimuli or trials. By default the labels of `values`, else
        positions.
    trials : labels, DataFrame, path of a .csv file, or name, optional
        If rows are trials: the label of the stimulus of each, in any order and with any number of repeats. A DataFrame
        has a row per trial, and `stimuli` names the column with the label. A name is that of a column or coord.
    measured_in : str, optional
        Unit of measurement, such as "spikes/s". By default that of `values`, else "a.u.".
    **unit_coords
        Coords of the units, such as `area=["V1", "V4", …]`, with one value per unit.

    Returns
    -------
    DataArray (stimulus, unit) or (stimulus, repetition, unit)
        Responses that every function takes. With trials, repetitions are in the order of the rows and NaN where a
        stimulus has fewer; stimuli are sorted as numbers if all labels are numbers, else as text; columns of trials
        with one value per stimulus become coords. Labels become text: 12 and 12.0 are "12", and "012" is kept. Data
        types are kept, except that with trials integers become floats.

    Raises
    ------
    TypeError
        Values in a form that is none of these, or that are not numbers; the error names the function to use.
    ValueError
        Axes or labels that remain ambiguous (the error names the candidates), missing or repeated labels, numbers of
        labels that fit no axis, NaN or infinite values.

    See Also
    --------
    load_array : The same for a file.
    count_spikes : Count spikes in windows after onsets.
    average_repetitions : Average over repetitions.

    Examples
    --------
    Four trials of two units, with the image of each trial:

    >>> rates = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
    >>> responses = as_responses(rates, trials=["owl", "cat", "owl", "owl"], area=["V1", "V4"])
    >>> responses.sel(stimulus="owl", unit="0").values.tolist()
    [1.0, 5.0, 7.0]

    A table with images as rows and units as columns:

    >>> import pandas as pd
    >>> table = pd.DataFrame({"u1": [1.0, 2.0], "u2": [3.0, 4.0]}, index=["cat", "owl"])
    >>> as_responses(table, measured_in="spikes/s").sel(stimulus="owl", unit="u2").item()
    4.0
    """
    request = Request(dims, stimuli, units, trials, unit_coords)
    responses = label_responses(_as_array_or_table(values), request)
    return check_responses(responses.assign_attrs(units=measured_in or responses.attrs.get("units", "a.u.")))


def label_responses(values: xr.DataArray | pd.DataFrame, request: Request) -> xr.DataArray:
    """Return an array or a table as responses with text labels, arranged by stimulus and repetition if rows are trials.

    Parameters
    ----------
    values : DataArray or DataFrame
        An array, or a table with units as columns.
    request : Request
        The names and labels that the user gave.
    """
    if isinstance(values, pd.DataFrame):
        array, trials = from_table(values, request)
    else:
        array, trials = from_array(values, request)
        if request.units is not None and not isinstance(request.units, str):
            array = add_unit_coords(array, {"unit": request.units}, request.what)
    array = add_unit_coords(array, request.unit_coords, request.what)
    if trials is not None:
        array = repeat_by_stimulus(array, trials)
    return name_labels(array, request.what)


def _as_array_or_table(values: Any) -> xr.DataArray | pd.DataFrame:
    """Return values in one of the two forms, without copying them if possible."""
    if isinstance(values, pd.DataFrame | xr.DataArray):
        return values
    _refuse(values)
    if hasattr(values, "detach"):  # a torch tensor
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        values = values.numpy()
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(float), np.nan) if np.ma.is_masked(values) else values.data
    if not hasattr(values, "dask"):
        try:
            values = np.asarray(values)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"values are no array: {one_line(error)}; rows must have the same length (trials of one stimulus per "
                "list: pass one row per trial, and trials=)"
            ) from error
    if values.dtype.kind not in "iufb":
        raise TypeError(
            f"values must be real numbers, got dtype {values.dtype}; convert them, such as by values.astype(float)"
        )
    if not values.size:
        raise ValueError(f"values have shape {values.shape}, which is empty; check how they were selected")
    if values.ndim < 2:
        raise ValueError(f"values have shape {values.shape}; for a single unit, pass values[:, None]")
    return xr.DataArray(values)


def _refuse(values: Any) -> None:
    """Raise an error that names the right function for values of other kinds."""
    kind = type(values).__name__
    remedy = ""
    if isinstance(values, str | PathLike):
        remedy = "load_array(path, …) reads files, and load_nwb those of NWB"
    elif hasattr(values, "time_support") or (isinstance(values, Mapping) and not isinstance(values, xr.Dataset)):
        remedy = (
            "count_spikes(spikes, presentations, window=…) takes spike times of units; for responses by unit, pass "
            "pandas.DataFrame(values, index=stimuli)"
        )
    elif isinstance(values, xr.Dataset):
        remedy = f"choose one variable of it, such as values[{next(iter(values.data_vars), '…')!r}]"
    elif isinstance(values, pd.Series):
        remedy = "pass a DataFrame with a column per unit: values.unstack(), or values.to_frame('name of the unit')"
    elif hasattr(values, "toarray") or str(getattr(values, "layout", "")).startswith("torch.sparse"):
        remedy = "make it dense first, by values.toarray() or values.to_dense()"
    elif str(getattr(values, "device", "")) == "meta":
        remedy = "a tensor on the device 'meta' has no values: load the network's weights first"
    if remedy:
        raise TypeError(f"values is a {kind}, which is no array of responses; {remedy}")
