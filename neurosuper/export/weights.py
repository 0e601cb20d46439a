"""Weights of sparse autoencoders as safetensors, under the names that SAELens uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from neurosuper._checks import one_line
from neurosuper._files import whole_file
from neurosuper._optional import require
from neurosuper.directions import SparseAutoencoder

__all__ = ["read_safetensors", "write_safetensors"]

ARRAYS = ("encoder", "encoder_bias", "directions", "bias", "mean", "thresholds")  # stored as tensors
HEADER = "neurosuper"  # key of the header with everything else, as JSON
OF_MACHINE = ("device", "checkpoint")  # settings that are not written


def write_safetensors(sae: SparseAutoencoder, path: str | Path) -> None:
    """Write the weights of a fitted sparse autoencoder as a safetensors file.

    Tensors have the names, shapes and meaning of SAELens, for responses R (stimulus, unit) as they were fitted:

        Z = activation((R − b_dec) W_enc + b_enc),  R ≈ Z W_dec + b_dec,

    with `W_enc` (unit, direction), `b_enc` (direction,), `W_dec` (direction, unit), `b_dec` (unit,), and for
    "batchtopk" and "jumprelu" `threshold` (direction,), above which codes are kept. "topk" keeps the `n_active` largest
    codes of each stimulus, "relu" all above zero. The mean that `center=True` subtracts is added to `b_dec`. The header
    contains, under "neurosuper" and as JSON, settings, labels of units and directions, and what else was learned. The
    file is written whole or not at all.

    Parameters
    ----------
    sae : SparseAutoencoder
        Fitted, without `normalize` and `whiten`.
    path : path
        An existing file is replaced.

    Raises
    ------
    TypeError
        Not a `SparseAutoencoder`.
    ValueError
        It was fitted to normalised or whitened responses, on which the weights would act.
    ImportError
        safetensors is not installed.

    See Also
    --------
    read_safetensors : Reads the file again.
    SparseAutoencoder.to_dataset : Everything of any finder, to write as netCDF or Zarr.

    Examples
    --------
    >>> from neurosuper import SparseAutoencoder
    >>> sae = SparseAutoencoder(8, n_active=2).fit(responses)  # doctest: +SKIP
    >>> write_safetensors(sae, "sae_weights.safetensors")  # doctest: +SKIP
    """
    numpy_format = require("safetensors.numpy", "export")
    if not isinstance(sae, SparseAutoencoder):
        raise TypeError(
            f"safetensors files are for a SparseAutoencoder, got {type(sae).__name__}; write its to_dataset() instead"
        )
    dataset, changed = sae.to_dataset(), dict.fromkeys(OF_MACHINE) | {"center": False}
    settings = json.loads(dataset.attrs["settings"]) | changed
    if used := [name for name in ("normalize", "whiten") if settings[name]]:
        raise ValueError(
            f"the weights act on responses after {used[0]}, which other programs do not apply; fit with "
            f"{used[0]}=False (to prepared responses), or write to_dataset()"
        )
    learned = {name: dataset[name].values for name in ARRAYS if name in dataset}
    tensors = {
        "W_enc": learned["encoder"].T,
        "b_enc": learned["encoder_bias"],
        "W_dec": learned["directions"],
        # Z = activation((R − mean − bias) encoderᵀ + encoder_bias): both are subtracted, and added again.
        "b_dec": learned["bias"] + learned["mean"],
    } | ({"threshold": learned["thresholds"]} if "thresholds" in learned else {})
    rest = dataset.drop_vars([name for name in ARRAYS if name in dataset]).assign_attrs(settings=json.dumps(settings))
    attrs = dataset.directions.attrs | {"settings": repr(clone(sae).set_params(**changed))}
    header = {HEADER: json.dumps(rest.to_dict()), "directions": json.dumps(attrs)}
    with whole_file(Path(path)) as partial:
        numpy_format.save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, partial, header)


def read_safetensors(path: str | Path) -> SparseAutoencoder:
    """Return the fitted sparse autoencoder that `write_safetensors` wrote.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    SparseAutoencoder
        With the same labels and codes as the one that was written; one that was fitted with `center=True` has
        `center=False` and the mean in its `bias_`.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file, not a safetensors file, or one that `write_safetensors` did not write.
    ImportError
        safetensors is not installed.

    See Also
    --------
    write_safetensors : Writes the file.

    Examples
    --------
    >>> read_safetensors("sae_weights.safetensors").transform(responses)  # doctest: +SKIP
    """
    package = require("safetensors", "export")
    if not (path := Path(path)).is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    try:
        with package.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (package.SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {one_line(error)}; it is damaged") from error
    if HEADER not in header or not {"W_enc", "b_enc", "W_dec", "b_dec"} <= tensors.keys():
        raise ValueError(
            f"{path} was not written by neurosuper: its header lacks {HEADER!r}, with settings and labels; it has the "
            f"tensors {', '.join(sorted(tensors)) or 'none'}"
        )
    return SparseAutoencoder.from_dataset(_as_dataset(json.loads(header[HEADER]), header, tensors))


def _as_dataset(rest: dict[str, Any], header: dict[str, str], tensors: dict[str, np.ndarray]) -> xr.Dataset:
    """Return the Dataset of `to_dataset` from the header and the tensors."""
    arrays = {
        "encoder": (("direction", "unit"), tensors["W_enc"].T),
        "encoder_bias": (("direction",), tensors["b_enc"]),
        "directions": (("direction", "unit"), tensors["W_dec"], json.loads(header["directions"])),
        "bias": (("unit",), tensors["b_dec"]),
        "mean": (("unit",), np.zeros_like(tensors["b_dec"])),
    }
    if "threshold" in tensors:
        arrays["thresholds"] = ("direction",), tensors["threshold"]
    return xr.Dataset.from_dict(rest).assign(arrays)
