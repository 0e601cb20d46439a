"""Responses from a folder of suite2p: traces of the ROIs of all planes, and a table of presentations.

Layout: the documentation of suite2p ("Outputs" and "Settings").
"""

from __future__ import annotations

import importlib
import pickle
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper._checks import check_one_of, one_line
from neurosuper.loaders.nwb.units import Windows
from neurosuper.loaders.presentation_tables import read_presentation_table
from neurosuper.loaders.traces import Traces, average_parts

__all__ = ["is_suite2p", "load_suite2p", "plane_folders"]

PLANE = re.compile(r"plane(\d+)")
SETTINGS = ("ops.npy", "settings.npy", "db.npy")  # the first that has `fs`; since version 1, settings are not in ops
# What pickled arrays are made of. All else becomes an empty object, for a pickle can call any function.
PLAIN = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def load_suite2p(
    path: str | Path,
    presentations: pd.DataFrame | xr.Dataset | tuple[Any, Any],
    *,
    window: tuple[float, float] | Sequence[tuple[float, float]],
    stimulus_column: str = "stimulus",
    onset_column: str = "onset",
    blanks: Collection[object] | str | float = (),
    traces: str = "spks",
    neuropil: float = 0.7,
    cells_only: bool = True,
    frame_times: np.ndarray | Sequence[float] | None = None,
) -> xr.DataArray:
    r"""Return the mean of suite2p traces in a window after each onset, as responses of the cells of all planes.

    Parameters
    ----------
    path : path of a folder
        The folder suite2p (with plane0, plane1, …) or the one that contains it; or one plane, or `combined`.
    presentations : DataFrame, Dataset, or pair (onsets, labels)
        As in `count_spikes`.
    window : (start, stop), or list of (start, stop)
        Seconds after onset; a frame at `start` counts, one at `stop` does not.
    stimulus_column, onset_column : str, optional
        Columns of the table.
    blanks : value or collection of values, optional
        Stimuli to leave out.
    traces : {"spks", "F"}, optional
        Deconvolved traces, or fluorescence minus `neuropil` times the neuropil, F − 0.7 Fneu.
    neuropil : float, optional
        Share of the neuropil that is subtracted from "F"; 0 subtracts nothing. suite2p has subtracted it from "spks".
    cells_only : bool, optional
        Keep only ROIs that are cells, by the first column of iscell.npy.
    frame_times : array (frame,), optional
        Time of each frame of a plane in seconds, in order, by the clock of the onsets. By default frame i is at
        i / fs, with the rate `fs` of the folder: onsets are then seconds since the first frame.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Responses as float32, arranged as by `count_spikes`. Units are named by plane and ROI ("plane0_12"), with coords
        `plane`, `x` and `y` (pixels, of the centre), `n_pixels`, `is_cell` and `cell_probability`.

    Raises
    ------
    FileNotFoundError
        No such folder, or a file is missing.
    ValueError
        Arrays that do not belong together, no rate of frames, no cell; or cells were chosen in `combined` and not in
        the planes.

    Warns
    -----
    UserWarning
        Frames of several recordings without `frame_times`; also as `average_frames`.

    See Also
    --------
    average_frames : The same for traces in memory, such as dF/F.
    load_nwb : The same for an NWB file of suite2p.

    Notes
    -----
    stat.npy and the settings are pickles, which can run code. Here numbers, text and arrays are read, and nothing is
    run. Planes are scanned one after another; the difference, under 1 / fs, is neglected.

    References
    ----------
    Pachitariu, M. et al. (2017). Suite2p: beyond 10,000 neurons with standard two-photon microscopy. bioRxiv 061507.

    Examples
    --------
    >>> import tempfile
    >>> plane = Path(tempfile.mkdtemp()) / "suite2p" / "plane0"
    >>> plane.mkdir(parents=True)
    >>> np.save(plane / "spks.npy", np.array([[0.0, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0]]))
    >>> np.save(plane / "iscell.npy", np.array([[1, 0.9], [0, 0.2]]))
    >>> np.save(plane / "stat.npy", np.array([{"med": [4, 7], "npix": 30}, {"med": [1, 1], "npix": 9}]))
    >>> np.save(plane / "ops.npy", {"fs": 2.0})
    >>> responses = load_suite2p(plane.parent, ([0.0, 1.0], ["owl", "cat"]), window=(0.0, 1.0))
    >>> responses.sel(stimulus="cat", unit="plane0_0").values.tolist()
    [2.5]
    """
    check_one_of("traces", traces, ("spks", "F"))
    planes = [_read_plane(folder, traces, neuropil) for folder in plane_folders(path)]
    rois = pd.concat([plane.rois for plane in planes], ignore_index=True)
    places = rois.groupby("plane").cumcount()
    rois.insert(0, "unit", [f"plane{plane}_{i}" for plane, i in zip(rois.plane, places, strict=True)])
    kept = rois.is_cell.to_numpy() if cells_only else np.ones(len(rois), bool)
    if not kept.any():
        raise ValueError(f"none of {len(rois)} ROIs in {path} is a cell; choose cells in suite2p, or cells_only=False")
    parts, concerns, start = [], [], 0
    for plane in planes:
        columns = np.flatnonzero(kept[start : start + len(plane.rois)])
        start += len(plane.rois)
        if len(columns):
            times, several = _times_of(plane, frame_times, max(each.values.shape[0] for each in planes))
            parts.append(Traces(plane.values, times, columns))
            concerns += [several] if several and several not in concerns else []
    shown = read_presentation_table(presentations, stimulus_column, onset_column, blanks)
    coords = {str(name): column.to_numpy() for name, column in rois[kept].items()}
    responses, more = average_parts(parts, shown, Windows.of(window), coords, "a.u.")
    for concern in [*concerns, *more]:
        warnings.warn(concern, stacklevel=2)
    return responses.assign_attrs(traces=traces, **({"neuropil": float(neuropil)} if traces == "F" else {}))


def is_suite2p(path: Path) -> bool:
    """Return whether suite2p wrote a folder, its planes, or a folder suite2p in it."""
    return any(next(path.glob(f"{below}iscell.npy"), None) for below in ("", "plane*/", "suite2p/plane*/"))


def plane_folders(path: str | Path) -> list[Path]:
    """Return the folders of the planes in a folder of suite2p, in order; one folder if `path` is a plane.

    Raises
    ------
    FileNotFoundError
        No such folder, or one that suite2p did not write.
    ValueError
        Cells were chosen in `combined`, which the planes do not know.
    """
    top = Path(path).expanduser()
    if not top.is_dir():
        raise FileNotFoundError(f"no folder {top}; check the path")
    if (top / "iscell.npy").is_file():
        return [top]
    top = top / "suite2p" if (top / "suite2p").is_dir() else top
    planes = [folder for folder in top.glob("plane*") if PLANE.fullmatch(folder.name) and folder.is_dir()]
    planes = sorted(planes, key=_number)
    if not planes:
        raise FileNotFoundError(f"no folder plane0 and no iscell.npy in {top}; pass the folder that suite2p wrote")
    if (combined := top / "combined" / "iscell.npy").is_file():
        of_planes = np.concatenate([_read_numbers(plane, "iscell.npy")[:, 0] for plane in planes])
        if not np.array_equal(_read_numbers(combined.parent, "iscell.npy")[:, 0], of_planes):
            raise ValueError(
                f"{top} has other cells in combined than in its planes; pass the folder combined, or move it away, by "
                "which of them was curated"
            )
    return planes


@dataclass(frozen=True)
class _Plane:
    """Traces (frame, ROI) of a folder, facts on its ROIs, its rate of frames, and the lengths of its recordings."""

    folder: Path
    values: Any
    rois: pd.DataFrame
    rate: float | None
    n_recordings: int


class _Difference:
    """Fluorescence minus a share of the neuropil (frame, ROI), computed for the frames that are read."""

    def __init__(self, fluorescence: np.ndarray, neuropil: np.ndarray, share: float) -> None:
        self.shape = fluorescence.shape
        self._fluorescence, self._neuropil, self._share = fluorescence, neuropil, share

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        return np.asarray(self._fluorescence[key], np.float64) - self._share * np.asarray(self._neuropil[key])


def _read_plane(folder: Path, traces: str, neuropil: float) -> _Plane:
    values: Any = _read_numbers(folder, f"{traces}.npy").T
    if traces == "F" and neuropil:
        around = _read_numbers(folder, "Fneu.npy").T
        if around.shape != values.shape:
            raise ValueError(f"{folder} has F.npy of shape {values.shape[::-1]}, Fneu.npy of {around.shape[::-1]}")
        values = _Difference(values, around, float(neuropil))
    iscell = _read_numbers(folder, "iscell.npy")
    stat = np.atleast_1d(_read_objects(folder / "stat.npy"))
    if iscell.shape[1] != 2 or not len(iscell) == len(stat) == values.shape[1]:
        raise ValueError(
            f"{folder} has {values.shape[1]} traces in {traces}.npy, iscell.npy of shape {iscell.shape}, and "
            f"{len(stat)} ROIs in stat.npy; the files differ in origin"
        )
    if missing := {"med", "npix"} - set.intersection({"med", "npix"}, *map(set, stat)):
        raise ValueError(f"ROIs in {folder / 'stat.npy'} have no {' and no '.join(sorted(missing))}; run suite2p again")
    rois = pd.DataFrame({
        "plane": [int(roi.get("iplane", _number(folder))) for roi in stat],
        "x": [float(roi["med"][1]) for roi in stat],
        "y": [float(roi["med"][0]) for roi in stat],
        "n_pixels": [int(roi["npix"]) for roi in stat],
        "is_cell": iscell[:, 0] == 1,
        "cell_probability": iscell[:, 1],
    })  # fmt: skip
    settings = [_read_objects(folder / name).item() for name in SETTINGS if (folder / name).is_file()]
    rate = next((float(each["fs"]) for each in settings if each.get("fs")), None)
    recordings = next((each["frames_per_folder"] for each in settings if "frames_per_folder" in each), [0])
    return _Plane(folder, values, rois, rate, np.size(recordings))


def _number(folder: Path) -> int:
    """Return the number of a plane, by the name of its folder."""
    found = PLANE.fullmatch(folder.name)
    return int(found[1]) if found else 0


def _times_of(plane: _Plane, frame_times: Any, n_frames: int) -> tuple[np.ndarray, str]:
    """Return the times of the frames of a plane, and a warning or ""; a plane may lack the last frames of others."""
    n = plane.values.shape[0]
    if frame_times is not None:
        times = np.asarray(frame_times, dtype=float)
        if times.shape != (n_frames,):
            raise ValueError(f"frame_times must be one for each of {n_frames} frames of a plane, got {times.shape}")
        return times[:n], ""
    if plane.rate is None:
        raise ValueError(f"no rate `fs` in {' or '.join(SETTINGS)} of {plane.folder}; pass frame_times=")
    several = (
        f"{plane.folder.parent} has frames of {plane.n_recordings} recordings, taken as one without gaps; pass "
        "frame_times= unless onsets count so"
    )
    return np.arange(n) / plane.rate, several if plane.n_recordings > 1 else ""


def _read_numbers(folder: Path, name: str) -> np.ndarray:
    """Return a matrix with a row for each ROI, read when it is used."""
    if not (folder / name).is_file():
        raise FileNotFoundError(f"no {name} in {folder}; pass the folder that suite2p wrote")
    try:
        values = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # broken bytes can raise any type of exception
        raise ValueError(f"cannot read {folder / name}: {one_line(error)}; copy it again") from error
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise ValueError(f"{folder / name} must contain numbers (ROI, …), got {values.dtype} of shape {values.shape}")
    return values


class _Plain(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and arrays; objects of other classes come back empty, and no code is run."""

    def find_class(self, module: str, name: str) -> Any:
        return getattr(importlib.import_module(module), name) if (module, name) in PLAIN else _Other


class _Other:
    """In place of an object that is not read."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take any arguments."""

    def __setstate__(self, _: object) -> None:
        """Take any state."""

    def __setitem__(self, *_: object) -> None:
        """Take any items."""


def _read_objects(path: Path) -> np.ndarray:
    """Return an array of dicts, or of one dict, without running code of the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}; pass the folder that suite2p wrote")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            header(file)
            values = _Plain(file).load()
        if not isinstance(values, np.ndarray) or not all(isinstance(each, dict) for each in values.ravel()):
            raise TypeError("it has no dicts")
    except Exception as error:  # broken bytes can raise any type of exception
        raise ValueError(f"cannot read {path}: {one_line(error)}; copy it again") from error
    return values
