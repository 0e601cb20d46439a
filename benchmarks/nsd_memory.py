"""Peak memory of reading one region of NSD, against the bound: twice the result and one session of its voxels.

2,000 voxels × 10 sessions of a subject with a volume of 81 × 104 × 83, in files laid out as published (int16, one chunk
a voxel; only the chunks of the region are written). The region is a shell, as cortex is, so that runs of neighbours are
short. The peak is what a fresh process gains over its peak after the imports.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import nibabel
import numpy as np
import scipy.io

from neurosuper.loaders import load_nsd

SHAPE, N_VOXELS, N_SESSIONS, TRIALS = (81, 104, 83), 2000, 10, 750
SUBJECT, SPACE, PREPARATION = "subj01", "func1pt8mm", "betas_fithrf_GLMdenoise_RR"
MIB = 2**20


def write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    radius = np.sqrt(sum((axis - side // 2) ** 2 for axis, side in zip(np.indices(SHAPE), SHAPE, strict=True)))
    shell = np.argsort(np.abs(radius - 16), axis=None, kind="stable")[:N_VOXELS]
    atlas = np.zeros(SHAPE, np.int16)
    atlas.flat[shell] = 7
    rois = folder / "nsddata" / "ppdata" / SUBJECT / SPACE / "roi"
    design = folder / "nsddata" / "experiments" / "nsd"
    betas = folder / "nsddata_betas" / "ppdata" / SUBJECT / SPACE / PREPARATION
    for part in (rois, design, betas):
        part.mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(atlas, np.eye(4)), rois / "prf-visualrois.nii.gz")
    when = np.repeat(rng.permutation(10_000) * 3.0, 3) + rng.uniform(0, 1200, 30_000)
    order = np.repeat(np.arange(1, 10_001), 3)[np.argsort(when)]
    images = np.tile(np.arange(1, 10_001), (8, 1))
    scipy.io.savemat(
        design / "nsd_expdesign.mat", {"masterordering": order, "subjectim": images, "sharedix": np.arange(1, 1001)}
    )
    for session in range(1, N_SESSIONS + 1):
        with h5py.File(betas / f"betas_session{session:02d}.hdf5", "w") as file:
            stored = file.create_dataset("betas", (TRIALS, *SHAPE[::-1]), np.int16, chunks=(TRIALS, 1, 1, 1))
            for x, y, z in zip(*np.nonzero(atlas), strict=True):
                stored[:, z, y, x] = rng.integers(-3000, 3000, TRIALS)


def peak() -> int:
    """Return the process's largest resident memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(folder: Path) -> None:
    """Print what reading takes and needs, in this process."""
    before, start = peak(), time.perf_counter()
    responses = load_nsd(folder, subject=SUBJECT, session=range(1, N_SESSIONS + 1), roi="hV4")
    seconds, gained = time.perf_counter() - start, peak() - before
    chunk = TRIALS * responses.sizes["unit"] * np.dtype(np.int16).itemsize
    bound = 2 * responses.nbytes + chunk
    print(f"nsd: {responses.sizes['unit']} voxels × {N_SESSIONS} sessions of {' × '.join(map(str, SHAPE))}, result")
    print(f"     {' × '.join(map(str, responses.shape))} float32, {responses.nbytes / MIB:.1f} MiB, in {seconds:.2f} s")
    print(f"peak   {gained / MIB:8.1f} MiB  (on top of {before / MIB:.0f} MiB after the imports)")
    print(f"bound  {bound / MIB:8.1f} MiB  (twice the result and one session of {chunk / MIB:.1f} MiB)")
    print(f"ratio  {gained / bound:8.2f}   {gained / responses.nbytes:.2f} results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", type=Path, help="read the files in this folder (the benchmark calls itself so)")
    folder = parser.parse_args().measure
    if folder:
        measure(folder)
        return
    with tempfile.TemporaryDirectory() as new:
        write(Path(new))
        subprocess.run([sys.executable, __file__, "--measure", new], check=True)


if __name__ == "__main__":
    main()
