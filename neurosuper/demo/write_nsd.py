"""Write a small Natural Scenes Dataset in exactly the published layout, with planted responses."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import h5py
import nibabel
import numpy as np
import scipy.io

# Trials per session, trials and images of one subject, images of all subjects.
TRIALS, N_TRIALS, N_IMAGES, N_ALL = 750, 30_000, 10_000, 73_000
SPACE, PREPARATION = "func1pt8mm", "betas_fithrf_GLMdenoise_RR"
Respond = Callable[[np.ndarray], np.ndarray]


class Nsd(NamedTuple):
    """The planted data."""

    order: np.ndarray  # (trial,) nsdId from 0, all sessions
    shared: np.ndarray  # (1000,) nsdIds from 0
    atlas: np.ndarray  # (x, y, z): -1 outside the cortex, 0 no area, 1 to 7
    ncsnr: np.ndarray  # (x, y, z)
    respond: Respond  # nsdIds from 0 -> (image, x, y, z) in % signal change


def waves(shape: tuple[int, int, int], seed: int = 0) -> Respond:
    """Return responses that differ for every image and every voxel."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.5, 2.5, shape), rng.uniform(0, 6, shape)
    return lambda ids: 3 * np.sin(np.asarray(ids)[:, None, None, None] * frequency + phase)


def make_atlas(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return an atlas of seven areas and cortex without area, surrounded by voxels outside the cortex."""
    atlas = np.full(shape, -1, np.int16)
    inside = tuple(slice(1, side - 1) for side in shape)
    n_inside = int(np.prod([side - 2 for side in shape]))
    atlas[inside] = np.random.default_rng(seed).permutation(np.arange(n_inside) % 8).reshape(atlas[inside].shape)
    return atlas


def make_design(seed: int = 0) -> dict[str, np.ndarray]:
    """Return the content of nsd_expdesign.mat, counted from 1: every image three times, often within a session."""
    rng = np.random.default_rng(seed)
    when = np.repeat(rng.permutation(N_IMAGES) * 3.0, 3) + rng.uniform(0, 1200, N_TRIALS)
    others = rng.permutation(N_ALL) + 1
    shared = np.sort(others[:1000])
    own = others[1000:].reshape(8, 9000)
    pattern = np.zeros((40, 12, 75), np.uint8)
    pattern[:, :, 5:68] = 1
    return {
        "masterordering": np.repeat(np.arange(1, N_IMAGES + 1), 3)[np.argsort(when)][None].astype(np.uint16),
        "subjectim": np.hstack([np.tile(shared, (8, 1)), own]).astype(np.uint32),
        "sharedix": shared[None].astype(np.uint32),
        "stimpattern": pattern,
        "basiccnt": np.zeros((3, 40), np.uint16),
    }


def save_volume(path: Path, volume: np.ndarray) -> None:
    """Write a NIfTI volume (x, y, z)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.8, 1.8, 1.8, 1.0])), path)


def save_betas(path: Path, percent: np.ndarray) -> None:
    """Write (trial, x, y, z) as MATLAB does: axes reversed, int16, 300 for 1 %, one chunk per voxel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    betas = np.round(percent * 300).astype(np.int16).transpose(0, 3, 2, 1)
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=betas, chunks=(len(betas), 1, 1, 1))


def write_nsd(
    folder: Path,
    *,
    subject: str = "subj01",
    sessions: Iterable[int] = (1, 2),
    shape: tuple[int, int, int] = (6, 7, 5),
    respond: Respond | None = None,
    noise: float = 0.0,
    seed: int = 0,
    design: dict[str, np.ndarray] | None = None,
    atlas: np.ndarray | None = None,
) -> Nsd:
    """Write design, atlas, ncsnr and betas of one subject into `folder`, laid out like the bucket."""
    rng = np.random.default_rng(seed + 1)
    respond, design = respond or waves(shape, seed), make_design(seed) if design is None else design
    atlas = make_atlas(shape, seed) if atlas is None else atlas
    path = folder / "nsddata" / "experiments" / "nsd"
    path.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path / "nsd_expdesign.mat", design)
    save_volume(folder / "nsddata" / "ppdata" / subject / SPACE / "roi" / "prf-visualrois.nii.gz", atlas)
    betas = folder / "nsddata_betas" / "ppdata" / subject / SPACE / PREPARATION
    ncsnr = rng.uniform(0.1, 1.5, shape).astype(np.float32)
    save_volume(betas / "ncsnr.nii.gz", ncsnr)
    order = design["subjectim"][int(subject[-1]) - 1, design["masterordering"].ravel() - 1].astype(int) - 1
    for session in sessions:
        percent = respond(order[TRIALS * (session - 1) : TRIALS * session])
        percent = percent + noise * rng.normal(size=percent.shape)
        save_betas(betas / f"betas_session{session:02d}.hdf5", np.where(atlas >= 0, percent, 0))
    return Nsd(order, design["sharedix"].ravel().astype(int) - 1, atlas, ncsnr, respond)


def write_nsd_images(folder: Path, images: dict[int, np.ndarray], side: int = 425) -> None:
    """Write nsd_stimuli.hdf5 with some of the 73,000 images (nsdId from 0 -> row × column × channel)."""
    path = folder / "nsddata_stimuli" / "stimuli" / "nsd"
    path.mkdir(parents=True, exist_ok=True)
    with h5py.File(path / "nsd_stimuli.hdf5", "w") as file:
        brick = file.create_dataset("imgBrick", (N_ALL, side, side, 3), np.uint8, chunks=(1, side, side, 3))
        for nsd_id, image in images.items():
            brick[nsd_id] = image
