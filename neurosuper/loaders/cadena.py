"""Macaque V1 and V4 of Cadena et al.: sessions of 2024 in folders with a table, and V1 of 2019 in one pickle."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurosuper._checks import one_line
from neurosuper._labels import as_label
from neurosuper.loaders.arrange import arrange
from neurosuper.loaders.file_checks import check_file
from neurosuper.responses import check_responses, name_some

__all__ = ["load_cadena", "load_cadena2019"]

Window = Sequence[float]


def load_cadena(
    path: str | Path,
    *,
    window: Window | Mapping[str, Window],
    area: str | None = None,
    n_bins: int = 12,
    first_bin: float = 0.04,
    bin_width: float = 0.01,
) -> xr.DataArray:
    r"""Return the spike counts of one session of Cadena et al. 2024.

    Parameters
    ----------
    path : path
        Folder of the session, with `meta_data.json` and `responses.csv`.
    window : (start, stop) in s after onset, or mapping of area to it
        The bins in it are summed; start and stop must be edges of bins. The authors use 0.04 to 0.16 for V1 and 0.07
        to 0.16 for V4.
    area : str, optional
        Area of all units, which the files do not state; becomes a coord, and selects the window from a mapping.
    n_bins : int, optional
        Number of bins per trial.
    first_bin, bin_width : float, optional
        Start of the first bin and length of each bin, in s.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Spike counts as float32; repetitions in the order of `trial_id` if the table has it, else of the table; NaN if
        an image was shown less often. Stimuli are named like the image files, "000123"; units by their position. Unit
        coords are `subject` and, if given, `area`.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A window that does not start and stop at edges of bins, trials of another shape, an unreadable file.

    See Also
    --------
    load_cadena2019 : Load the V1 recordings of 2019.

    References
    ----------
    Cadena et al. 2024, doi 10.1371/journal.pcbi.1012056.

    Examples
    --------
    >>> from pathlib import Path
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "meta_data.json").write_text('{"subject_id": "m1", "session_id": 7}')
    >>> _ = (folder / "responses.csv").write_text('image_id,responses\n2,"[[1, 2, 3]]"\n1,"[[4, 5, 6]]"\n')
    >>> load_cadena(folder, window=(0.05, 0.07), n_bins=3).sel(stimulus="000002").values.tolist()
    [[5.0]]
    """
    start, stop = _choose_window(window, area)
    bins = _bins_in(start, stop, n_bins, first_bin, bin_width)
    meta, table = _read_meta(Path(path) / "meta_data.json"), Path(path) / "responses.csv"
    texts, images, order = _read_table(table)
    counts = _sum_bins(texts, bins, n_bins, table)
    stimuli, values = arrange(counts, images, order)
    n_units = counts.shape[1]
    coords: dict[str, Any] = {
        "stimulus": stimuli,
        "unit": _positions(n_units),
        "subject": ("unit", np.full(n_units, str(meta["subject_id"]))),
    }
    if area is not None:
        coords["area"] = ("unit", np.full(n_units, area))
    attrs = {
        "units": "spike count",
        "modality": "spikes",
        "window": [start, stop],
        "session": str(meta["session_id"]),
        "n_presentations": len(counts),
    }
    return check_responses(xr.DataArray(values, dims=("stimulus", "repetition", "unit"), coords=coords, attrs=attrs))


def load_cadena2019(path: str | Path, *, sha256: str) -> xr.DataArray:
    """Return the spike counts of V1 neurons of Cadena et al. 2019.

    The file is a pickle, and a pickle may run any code. Therefore it is read only if its SHA-256 is the one that you
    pass, and even then only numpy arrays and plain containers are created from it.

    Parameters
    ----------
    path : path
        `cadena_ploscb_data.pkl`.
    sha256 : str
        Expected SHA-256 of the file.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Spike counts as float32; NaN if a neuron was not recorded. Stimuli are named by image and type, such as
        "12_conv1", with the coords `image_id` and `image_type` (original, conv1 to conv4: textures with the statistics
        of the image up to that layer). Unit coords are `area` ("V1") and, if the file has it, `subject`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Another SHA-256, a pickle with other objects, arrays whose shapes do not fit each other.

    See Also
    --------
    load_cadena : Load the sessions of 2024.

    References
    ----------
    Cadena et al. 2019, doi 10.1371/journal.pcbi.1006897.

    Examples
    --------
    >>> from pathlib import Path
    >>> import hashlib
    >>> import pickle
    >>> import numpy as np
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "data.pkl")
    >>> data = {"responses": np.ones((4, 2, 3)), "image_ids": np.array([7, 7]), "image_types": ["original", "conv1"]}
    >>> content = pickle.dumps(data, protocol=4)
    >>> _ = path.write_bytes(content)
    >>> load_cadena2019(path, sha256=hashlib.sha256(content).hexdigest()).stimulus.values.tolist()
    ['7_original', '7_conv1']
    """
    data = _read_pickle(Path(path), sha256)
    needed = ("responses", "image_ids", "image_types")
    if not isinstance(data, dict) or (missing := [name for name in needed if name not in data]):
        got = f"a {type(data).__name__}" if not isinstance(data, dict) else f"no {missing[0]!r}"
        raise ValueError(f"{path} contains {got}; it must be a dict of {', '.join(needed)}: check the path")
    values, ids, types = np.asarray(data["responses"]), _texts(data["image_ids"]), _texts(data["image_types"])
    if values.dtype.kind not in "iuf" or values.ndim != 3 or {len(ids), len(types)} != {values.shape[1]}:
        raise ValueError(
            f"{path} contains responses of shape {values.shape} and dtype {values.dtype} with {len(ids)} image_ids and "
            f"{len(types)} image_types; responses must be numbers (repetition, image, neuron)"
        )
    n_units, subjects = values.shape[2], _texts(data.get("subject_id", ()))
    coords: dict[str, Any] = {
        "stimulus": [f"{image}_{kind}" for image, kind in zip(ids, types, strict=True)],
        "image_id": ("stimulus", ids),
        "image_type": ("stimulus", types),
        "unit": _positions(n_units),
        "area": ("unit", np.full(n_units, "V1")),
    }
    if len(subjects) == n_units:
        coords["subject"] = ("unit", subjects)
    responses = xr.DataArray(
        values.swapaxes(0, 1).astype(np.float32),
        dims=("stimulus", "repetition", "unit"),
        coords=coords,
        attrs={"units": "spike count", "modality": "spikes"},
    )
    return check_responses(responses)


def _positions(n_units: int) -> list[str]:
    digits = len(str(n_units - 1))
    return [f"{i:0{digits}d}" for i in range(n_units)]


def _choose_window(window: Window | Mapping[str, Window], area: str | None) -> tuple[float, float]:
    if isinstance(window, Mapping):
        if area is None or area not in window:
            raise ValueError(f"window differs between {', '.join(window)}; pass one as area, got area={area!r}")
        window = window[area]
    edges = np.asarray(window)
    if edges.shape != (2,) or edges.dtype.kind not in "iuf":
        raise ValueError(f"window must be (start, stop) in seconds, got {window!r}")
    return float(edges[0]), float(edges[1])


def _bins_in(start: float, stop: float, n_bins: int, first_bin: float, bin_width: float) -> slice:
    """Return the bins in a window."""
    edges = (np.array([start, stop]) - first_bin) / bin_width
    first, last = np.rint(edges)
    if not np.allclose(edges, [first, last], atol=1e-6) or not 0 <= first < last <= n_bins:
        raise ValueError(
            f"window must start and stop at edges of bins, {n_bins} of {bin_width:g} s from {first_bin:g} s to "
            f"{first_bin + n_bins * bin_width:g} s, got ({start:g}, {stop:g})"
        )
    return slice(int(first), int(last))


def _read_meta(path: Path) -> dict[str, Any]:
    meta = json.loads(check_file(path, "JSON").read_bytes())
    has = list(meta) if isinstance(meta, dict) else []
    if missing := [name for name in ("subject_id", "session_id") if name not in has]:
        raise ValueError(f"{path} has no {missing[0]!r}, it has {name_some(has)}; check the path")
    return meta


def _read_table(path: Path) -> tuple[list[str], np.ndarray, np.ndarray | None]:
    """Return the responses of every trial as text, the label of its image, and the order of trials if it is known."""
    import pandas as pd

    # pandas reads a table that ends within a line without an error, and would lose digits of its last number.
    with check_file(path, "CSV").open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            raise ValueError(f"{path} ends within a line; it is cut short, fetch it again")
    columns = ("responses", "image_id", "trial_id")
    try:
        table = pd.read_csv(path, usecols=lambda name: name in columns, dtype={"responses": str})
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as a table: {one_line(error)}; it may be cut short, fetch it again"
        ) from error
    if missing := [name for name in columns[:2] if name not in table]:
        raise ValueError(f"{path} has no column {missing[0]!r}; it must be a responses.csv of Cadena et al. 2024")
    numbers = {name: table[name].to_numpy() for name in columns[1:] if name in table}
    if odd := [name for name, values in numbers.items() if values.dtype.kind not in "iu"]:
        raise ValueError(
            f"{path} must have a whole number as {odd[0]} of every trial; it may be cut short, fetch it again"
        )
    labels = np.array([f"{image:06d}" for image in numbers["image_id"]])
    return table["responses"].tolist(), labels, numbers.get("trial_id")


def _sum_bins(texts: list[str], bins: slice, n_bins: int, path: Path) -> np.ndarray:
    """Return the counts (trial, unit) summed over some bins, from texts of nested lists unit × bin."""
    counts: list[np.ndarray] = []
    for trial, text in enumerate(texts):
        where = f"{path} has, for responses of trial {trial},"
        try:
            by_bin = np.asarray(json.loads(text), dtype=np.float64)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{where} no list of numbers; it may be cut short, fetch it again") from error
        units = counts[0].shape if counts else by_bin.shape[:1]
        if by_bin.shape != (*units, n_bins):
            raise ValueError(
                f"{where} an array of shape {by_bin.shape}; (unit, bin) is needed, with the same units in every trial "
                f"and {n_bins} bins: check n_bins"
            )
        counts.append(by_bin[:, bins].sum(axis=1).astype(np.float32))
    return np.stack(counts)


def _texts(values: Any) -> list[str]:
    """Return one text per value; a value may be stored in an array of its own."""
    return [as_label(np.ravel(value)[0]) for value in np.ravel(np.asarray(values, dtype=object))]


def _encode(text: str, encoding: str) -> bytes:
    """Return the bytes that a pickle of protocol 2 stores as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin-1")


# Pickles name the module of the numpy that wrote them: `numpy.core` until 1.26, `numpy._core` from 2.0 on.
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    ADMITTED[_module, "_reconstruct"] = np.empty(0).__reduce__()[0]
    ADMITTED[_module, "scalar"] = np.float64(0).__reduce__()[0]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numpy arrays and plain containers, and refuses to look up any other object."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ADMITTED[module, name]


def _read_pickle(path: Path, sha256: str) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no pickle at {path}; check the path")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise ValueError(
                f"{path} has sha256 {found}, but {sha256} is pinned; a pickle may run any code, so it is not read: "
                "fetch it again, or pin what you trust"
            )
        file.seek(0)
        try:
            return _ArraysOnly(file).load()
        except Exception as error:  # a pickle may fail in any way
            raise ValueError(
                f"{path} is not a pickle that contains only arrays: {one_line(error)}; it is not read"
            ) from error
