"""Recordings and images as Stringer et al. 2019 published them: MATLAB 7, a struct `stim`, a struct array `stat`."""

from pathlib import Path

import numpy as np
from scipy.io import savemat


def present(n_images: int, n_blanks: int, rng: np.random.Generator, missing: tuple[int, ...] = ()) -> np.ndarray:
    """Return the numbers of the images shown, from 1: each twice, except `missing`, and the grey screen last."""
    once = [i + 1 for i in range(n_images) if i not in missing]
    return rng.permutation([*range(1, n_images + 1), *once, *[n_images + 1] * n_blanks])


def write_recording(
    path: Path, responses: np.ndarray, istim: np.ndarray, spont: np.ndarray, red: np.ndarray | None = None
) -> Path:
    """Write responses (presentation, neuron), image numbers, spontaneous activity (time, neuron), and red neurons."""
    n = responses.shape[1]
    stat = np.zeros(
        (1, n), dtype=[("npix", object), ("redcell", object), ("redprob", object)][: 1 if red is None else 3]
    )
    for i in range(n):
        stat[0, i]["npix"] = float(50 + i)
        if red is not None:
            stat[0, i]["redcell"], stat[0, i]["redprob"] = red[i], float(red[i])
    stim = {
        "spont": spont.astype(np.float32),
        "resp": responses.astype(np.float32),
        "istim": istim[:, np.newaxis].astype(np.uint16),
    }
    centres = np.column_stack([np.arange(n), 100 + np.arange(n), np.full(n, -350.0)])
    database = {"mouse_name": "M170714_MP032", "date": "2017-09-14"}
    savemat(path, {"db": database, "stat": stat, "med": centres, "stim": stim}, do_compression=True)
    return path


def write_images(path: Path, images: np.ndarray) -> Path:
    """Write images (image, row, column), grey, as the matrix `imgs` of row × column × image."""
    savemat(path, {"imgs": np.moveaxis(images, 0, -1)}, do_compression=True)
    return path
