"""Betas of the Natural Scenes Dataset (NSD, human 7T fMRI) as responses (image, voxel).

Files are laid out as in the bucket `natural-scenes-dataset`. h5py reads the arrays of MATLAB with reversed axes: betas
are (trial, z, y, x), whereas a NIfTI volume is (x, y, z).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neurosuper._checks import one_line
from neurosuper._optional import require
from neurosuper._progress import progress
from neurosuper.loaders.arrange import number_repetitions
from neurosuper.loaders.file_checks import check_file, open_hdf5, read_mat
from neurosuper.responses import check_responses, name_some

__all__ = ["load_nsd"]

SPACE = "func1pt8mm"
TRIALS = 750  # per session
SESSIONS = 40  # of the longest-recorded subjects
SCALE = np.float32(300)  # betas are stored as int16, 300 for 1 % signal change
DESIGN = Path("nsddata", "experiments", "nsd", "nsd_expdesign.mat")
ATLASES = {  # names in the .ctab files of nsddata/freesurfer/subjXX/label, from number 1 on
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "nsdgeneral": ("nsdgeneral",),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}


@dataclass(frozen=True)
class Voxels:
    """Positions and areas of voxels, counted from 0, in the order of the betas: x fastest, z slowest."""

    shape: tuple[int, ...]  # of the NIfTI volume: x, y, z
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    area: np.ndarray

    def runs(self) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield z, y, the slice of x and the slice of voxels, for each run of neighbours along x."""
        # h5py reads a slice much faster than a list of indices, so each run is one read.
        breaks = (np.diff(self.x) != 1) | (np.diff(self.y) != 0) | (np.diff(self.z) != 0)
        starts = np.flatnonzero(np.append(True, breaks))
        for start, stop in zip(starts, np.append(starts[1:], len(self.x)), strict=True):
            xs = slice(int(self.x[start]), int(self.x[stop - 1]) + 1)
            yield int(self.z[start]), int(self.y[start]), xs, slice(int(start), int(stop))


def load_nsd(
    path: str | Path,
    *,
    subject: str,
    session: int | Sequence[int] = (1,),
    roi: str | Sequence[str] | None = None,
    atlas: str = "prf-visualrois",
    preparation: str = "betas_fithrf_GLMdenoise_RR",
    area_map: Mapping[Any, str] | None = None,
    zscore: bool = False,
    allow_external: bool = False,
) -> xr.DataArray:
    """Return the responses of one subject's voxels to the images of some sessions.

    Only the requested voxels are read. The result is allocated once and filled session by session, so that only it and
    one session of these voxels are in memory.

    Parameters
    ----------
    path : path
        Folder laid out like the bucket: `nsddata`, `nsddata_betas`.
    subject : str
        Subject, "subj01" to "subj08".
    session : int or sequence of int, optional
        Sessions, counted from 1. An image is shown up to three times, often in different sessions.
    roi : str or sequence of str, optional
        Areas of the atlas; by default all. "V1" means V1v and V1d.
    atlas : str, optional
        Name of a volume in `nsddata/ppdata/SUBJECT/func1pt8mm/roi`.
    preparation : str, optional
        Folder of the betas, in the space func1pt8mm.
    area_map : mapping of number to name, optional
        Names of the numbers in the atlas; built in for prf-visualrois, nsdgeneral, floc-* and streams.
    zscore : bool, optional
        Z-score every voxel within every session, as the authors do before they compare repetitions: drifts between
        sessions would count as noise (see `ncsnr`).
    allow_external : bool, optional
        Read a file that takes data from other files of this machine (external storage, external links, virtual
        datasets). By default it is refused.

    Returns
    -------
    DataArray (stimulus, repetition, unit)
        Responses in % signal change (or s.d.), as float32; repetitions in order of time, NaN if an image was shown less
        often. Stimuli are nsdIds, counted from 0, in five digits; units are voxels, "x-y-z" counted from 0. The
        stimulus coord is `shared1000` (shown to all subjects); unit coords are `subject`, `area`, `x`, `y`, `z` and, if
        the archive's ncsnr.nii.gz is present, `ncsnr` and `noise_ceiling` (0 to 1, share of the variance of the average
        over these repetitions).
        Voxels outside the brain (0 in every trial), or constant in any of the sessions, are left out:
        `attrs["n_voxels_outside"]` and `attrs["n_voxels_constant"]` count them.

    Raises
    ------
    FileNotFoundError
        A file is missing; the message names its path.
    ValueError
        Unknown subject, session, area or atlas; betas and atlas of different volumes; an unreadable file.
    ImportError
        Without nibabel (extra `fmri`).

    Warns
    -----
    UserWarning
        More than half of the voxels have no data: the atlas probably belongs to another subject or space.

    See Also
    --------
    load_nsd_images : Load the images.
    load : Load a published dataset by its id.

    References
    ----------
    Allen et al. 2022, doi 10.1038/s41593-021-00962-x; NSD Data Manual (cvnlab.slite.page).

    Examples
    --------
    One voxel that responds with the number of the trial, in percent:

    >>> import numpy as np
    >>> import h5py, nibabel, pathlib, scipy.io, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> design, rois = folder / "nsddata" / "experiments" / "nsd", folder / "nsddata/ppdata/subj01/func1pt8mm/roi"
    >>> betas = folder / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    >>> for part in (design, rois, betas):
    ...     part.mkdir(parents=True)
    >>> order = {"masterordering": np.arange(30000) % 500 + 1, "sharedix": [[1]]}
    >>> order["subjectim"] = np.tile(np.arange(1, 10001), (8, 1))
    >>> scipy.io.savemat(design / "nsd_expdesign.mat", order)
    >>> nibabel.save(nibabel.Nifti1Image(np.array([[[0]], [[7]]], np.int16), np.eye(4)), rois / "prf-visualrois.nii.gz")
    >>> with h5py.File(betas / "betas_session01.hdf5", "w") as file:
    ...     file["betas"] = np.zeros((750, 1, 1, 2), np.int16) + 3 * np.arange(750, dtype=np.int16)[:, None, None, None]
    >>> load_nsd(folder, subject="subj01", roi="hV4").sel(stimulus="00100", unit="001-000-000").values.tolist()
    [1.0, 6.0]
    """
    sessions = _check_request(subject, session)
    voxels = _find_voxels(Path(path), subject, atlas, roi, area_map)
    images, shared = _read_design(Path(path) / DESIGN, subject, sessions)
    ids, row, repetition = place_trials(images)
    folder = Path(path) / "nsddata_betas" / "ppdata" / subject / SPACE / preparation
    values, outside, constant = _read_sessions(folder, sessions, voxels, row, repetition, zscore, allow_external)
    kept = ~constant
    if kept.sum() < len(kept) / 2:
        _warn_about_voxels(kept, int(outside.sum()))
    coords = _voxel_coords(subject, voxels) | _read_ceilings(folder / "ncsnr.nii.gz", voxels, np.bincount(row))
    responses = xr.DataArray(
        _keep(values, kept),
        dims=("stimulus", "repetition", "unit"),
        coords={name: ("unit", along[kept], about) for name, (along, about) in coords.items()}
        | {"stimulus": as_labels(ids), "shared1000": ("stimulus", np.isin(ids, shared))},
        attrs={
            "units": "s.d." if zscore else "% signal change",
            "modality": "fMRI",
            "session": sessions,
            "atlas": atlas,
            "preparation": preparation,
            "space": SPACE,
            "stimulus_label": "nsdId, counted from 0, in five digits",
            "n_presentations": len(row),
            "n_voxels_outside": int(outside.sum()),
            "n_voxels_constant": int((constant & ~outside).sum()),
        },
    )
    return check_responses(responses)


def place_trials(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sorted images, and for every trial the row of its image and the number of earlier trials of that image."""
    ids, row = np.unique(images, return_inverse=True)
    return ids, row, number_repetitions(row)


def as_labels(ids: np.ndarray) -> list[str]:
    """Return nsdIds as text of five digits."""
    return [f"{i:05d}" for i in ids]


def _check_request(subject: str, session: int | Sequence[int]) -> list[int]:
    """Return the sessions in order of time."""
    if not re.fullmatch(r"subj0[1-8]", str(subject)):
        raise ValueError(f"subject must be one of 'subj01' to 'subj08', got {subject!r}")
    sessions = np.unique(session).tolist()
    if len(sessions) < max(1, np.size(session)) or set(sessions) - set(range(1, SESSIONS + 1)):
        raise ValueError(f"session must be numbers from 1 to {SESSIONS}, each once, got {session!r}")
    return sessions


def _warn_about_voxels(kept: np.ndarray, n_outside: int) -> None:
    summary = (
        f"of {len(kept)} voxels, {n_outside} are 0 in every trial and {(~kept).sum() - n_outside} constant in a session"
    )
    if not kept.any():
        raise ValueError(f"{summary}: none is left; atlas and betas do not fit, fetch both again for this subject")
    warnings.warn(f"{summary}; check that atlas and betas are of one subject and space", stacklevel=3)


def _find_voxels(
    folder: Path, subject: str, atlas: str, roi: str | Sequence[str] | None, area_map: Mapping[Any, str] | None
) -> Voxels:
    names = _area_names(atlas, area_map)
    numbers = list(names) if roi is None else _numbers_of([roi] if isinstance(roi, str) else roi, names, atlas)
    volume = _read_volume(folder / "nsddata" / "ppdata" / subject / SPACE / "roi" / f"{atlas}.nii.gz")
    z, y, x = np.nonzero(np.isin(volume.T, numbers))
    if not len(x):
        requested = name_some(list(names.values()) if roi is None else roi)
        raise ValueError(f"{atlas} of {subject} has no voxel of {requested}; choose another roi")
    return Voxels(volume.shape, x, y, z, np.array([names[int(number)] for number in volume[x, y, z]]))


def _area_names(atlas: str, area_map: Mapping[Any, str] | None) -> dict[int, str]:
    if area_map:
        if wrong := [number for number in area_map if not re.fullmatch(r"\d+", str(number))]:
            raise ValueError(f"area_map must name the numbers of {atlas}, such as {{1: 'V1'}}, got {wrong[0]!r}")
        return {int(number): name for number, name in area_map.items()}
    if atlas not in ATLASES:
        raise ValueError(
            f"the numbers of atlas {atlas!r} have no built-in names; pass area_map={{1: 'name', …}}, or use one of "
            f"{', '.join(ATLASES)}"
        )
    return dict(enumerate(ATLASES[atlas], start=1))


def _numbers_of(rois: Sequence[str], names: dict[int, str], atlas: str) -> list[int]:
    """Return the numbers of areas; the name of an area also means its ventral and dorsal part."""
    found = {roi: [n for n, name in names.items() if name in (roi, f"{roi}v", f"{roi}d")] for roi in rois}
    if unknown := [roi for roi, numbers in found.items() if not numbers]:
        raise ValueError(f"{atlas} has no area {unknown[0]!r}; it has {', '.join(dict.fromkeys(names.values()))}")
    return [number for numbers in found.values() for number in numbers]


def _read_volume(path: Path) -> np.ndarray:
    """Return a NIfTI volume (x, y, z)."""
    nibabel = require("nibabel", "fmri")
    check_file(path, "NIfTI")
    try:
        volume = np.asarray(nibabel.load(path).dataobj)
    except Exception as error:  # nibabel raises many kinds on damaged headers
        raise ValueError(f"{path} cannot be read as NIfTI: {one_line(error)}; fetch it again") from error
    if volume.ndim != 3:
        raise ValueError(f"{path} has shape {volume.shape}, but a volume has three axes; check the path")
    return volume


def _read_design(path: Path, subject: str, sessions: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the nsdIds of all trials in order of time, and of the shared images, counted from 0."""
    names = ("masterordering", "subjectim", "sharedix")
    design = read_mat(path, names)
    if missing := [name for name in names if name not in design]:
        raise ValueError(f"{path} has no {missing[0]!r}; it must be NSD's nsd_expdesign.mat, fetch it again")
    order, images, shared = (design[name].astype(int) for name in names)
    trials = np.concatenate([np.arange(TRIALS) + TRIALS * (session - 1) for session in sessions])
    if images.shape[0] != 8 or order.size <= trials[-1] or order.min() < 1 or order.max() > images.shape[1]:
        raise ValueError(
            f"{path} has masterordering of {order.size} trials, {order.min()} to {order.max()}, and subjectim of shape "
            f"{images.shape}; it must count the images of 8 subjects from 1, in sessions of {TRIALS} trials"
        )
    # nsd_expdesign.mat counts from 1: masterordering gives the image of each trial among the 10,000 of a subject, and
    # subjectim (subject, image) the number of that image among all 73,000.
    return images[int(subject[-1]) - 1, order.ravel()[trials] - 1] - 1, shared.ravel() - 1


def _read_sessions(
    folder: Path,
    sessions: list[int],
    voxels: Voxels,
    row: np.ndarray,
    repetition: np.ndarray,
    zscore: bool,
    allow_external: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return responses (image, repetition, voxel), masks of voxels that are always 0, and constant in any session."""
    n_voxels = len(voxels.x)
    values = np.full((row.max() + 1, repetition.max() + 1, n_voxels), np.nan, np.float32)
    outside, constant = np.ones(n_voxels, bool), np.zeros(n_voxels, bool)
    places = zip(row.reshape(-1, TRIALS), repetition.reshape(-1, TRIALS), strict=True)
    bar = progress(sessions, desc="NSD", unit="session")
    for session, (rows, repetitions) in zip(bar, places, strict=True):
        betas = _read_betas(folder / f"betas_session{session:02d}.hdf5", voxels, allow_external)
        values[rows, repetitions] = _zscore(betas) if zscore else betas / SCALE
        outside &= ~betas.any(axis=0)
        constant |= betas.min(axis=0) == betas.max(axis=0)
    return values, outside, constant


def _zscore(betas: np.ndarray) -> np.ndarray:
    """Return betas (trial, voxel) with mean 0 and standard deviation 1; constant voxels are 0."""
    deviation = betas.std(axis=0, dtype=np.float64)
    scaled = betas - betas.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled /= np.where(deviation > 0, deviation, 1).astype(np.float32)
    return scaled


def _read_betas(path: Path, voxels: Voxels, allow_external: bool) -> np.ndarray:
    """Return int16 betas (trial, voxel) of one session."""
    with open_hdf5(path, allow_external=allow_external) as file:
        stored, expected = file["betas"], (TRIALS, *voxels.shape[::-1])
        shape, dtype = getattr(stored, "shape", None), getattr(stored, "dtype", None)
        if shape != expected or dtype != np.int16:
            raise ValueError(
                f"{path} contains betas of shape {shape} and dtype {dtype}, but the atlas, of shape {voxels.shape}, "
                f"needs {expected} (trial, z, y, x) and int16; their axes are in another order, or subject or space "
                "differ"
            )
        betas = np.empty((TRIALS, len(voxels.x)), np.int16)
        for z, y, xs, run in voxels.runs():
            betas[:, run] = stored[:, z, y, xs]
    return betas


def _keep(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the kept positions of the last axis, moved forward in place: a copy would need the same memory again."""
    if kept.all():
        return values
    flat, rows, n = values.reshape(-1), values.reshape(-1, len(kept)), kept.sum()
    for i, row in enumerate(rows):
        flat[i * n : (i + 1) * n] = row[kept]
    return flat[: len(rows) * n].reshape(*values.shape[:-1], n)


def _voxel_coords(subject: str, voxels: Voxels) -> dict[str, tuple[np.ndarray, dict[str, str]]]:
    """Return values and attrs of the coords of voxels."""
    indices = {"x": voxels.x, "y": voxels.y, "z": voxels.z}
    labels = [f"{x:03d}-{y:03d}-{z:03d}" for x, y, z in zip(*indices.values(), strict=True)]
    coords = {"unit": np.array(labels), "subject": np.full(len(labels), subject), "area": voxels.area} | indices
    attrs = {"long_name": f"index in the volume {SPACE}, from 0"}
    return {name: (values, attrs if name in indices else {}) for name, values in coords.items()}


def _read_ceilings(path: Path, voxels: Voxels, shown: np.ndarray) -> dict[str, tuple[np.ndarray, dict[str, str]]]:
    """Return values and attrs of `ncsnr` and `noise_ceiling`; an empty dict if the file of the archive is missing."""
    if not path.exists():
        return {}
    volume = _read_volume(path)
    if volume.shape != voxels.shape:
        raise ValueError(f"{path} has shape {volume.shape}, but the atlas has {voxels.shape}; fetch both again")
    ncsnr = volume[voxels.x, voxels.y, voxels.z].astype(np.float32)
    # Noise ceiling = ncsnr² / (ncsnr² + mean over images of 1 / n), with n repetitions (NSD Data Manual).
    ceiling = ncsnr**2 / (ncsnr**2 + np.float32((1 / shown).mean()))
    rule = "ncsnr² / (ncsnr² + mean over images of 1 / repetitions): share of the variance of averages over repetitions"
    return {
        "ncsnr": (ncsnr, {"rule": f"noise ceiling signal-to-noise ratio, from {path.name}"}),
        "noise_ceiling": (ceiling, {"rule": rule}),
    }
