"""Write a small TVSD in exactly the published layout (MATLAB 7.3), with planted responses."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

N_CHANNELS = 1024


class Tvsd(NamedTuple):
    """The planted data; stimuli are named by the image files, without extension."""

    train_images: list[str]
    test_images: list[str]
    train: np.ndarray  # (image, channel)
    test: np.ndarray  # (image, channel) without noise
    repetitions: np.ndarray  # (image, repetition, channel)
    quality: dict[str, np.ndarray]  # as MATLAB has it: (channel, …)


def waves(n_images: int, seed: int, n_channels: int = N_CHANNELS) -> np.ndarray:
    """Return responses (image, channel) that differ for every image and every channel."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.5, 2.5, n_channels), rng.uniform(0, 6, n_channels)
    return np.sin(np.arange(n_images)[:, None] * frequency + phase)


def make_paths(n: int, first: int = 0) -> list[str]:
    """Return paths as in things_path, the concept before the file."""
    return [f"thing{i // 2:02d}\\thing{i // 2:02d}_{i:02d}s.jpg" for i in range(first, first + n)]


def open_mat(path: Path) -> h5py.File:
    """Open an HDF5 file with MATLAB's own 512 bytes before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = h5py.File(path, "w", userblock_size=512)
    file.close()
    head = b"MATLAB 7.3 MAT-file, Platform: PCWIN64, Created on: Fri Sep  1 12:00:00 2023 HDF5 schema 1.00 ."
    with path.open("r+b") as raw:
        raw.write(head.ljust(116) + b"\0" * 8 + b"\0\2IM")
    return h5py.File(path, "r+")


def save_array(file: h5py.File, name: str, values: np.ndarray) -> None:
    """Save an array as MATLAB does: axes reversed, doubles, vectors as 1 × n."""
    stored = np.atleast_2d(values).T.astype(np.float64)
    file.create_dataset(name, data=stored, chunks=True, compression="gzip", compression_opts=1)
    file[name].attrs["MATLAB_class"] = np.bytes_("double")


def save_struct(file: h5py.File, name: str, fields: dict[str, Sequence[str]]) -> None:
    """Save a 1 × n struct of texts: each field contains references to UTF-16."""
    group, refs = file.create_group(name), file.require_group("#refs#")
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    for field, texts in fields.items():
        stored = np.empty((len(texts), 1), h5py.ref_dtype)
        for i, text in enumerate(texts):
            letters = np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None]
            one = refs.create_dataset(f"{name}_{field}_{i}", data=letters)
            one.attrs["MATLAB_class"] = np.bytes_("char")
            stored[i, 0] = one.ref
        group.create_dataset(field, data=stored)


def save_images(folder: Path, train_paths: Sequence[str], test_paths: Sequence[str]) -> None:
    """Write the names and concepts of the images, one per column."""
    with open_mat(folder / "_logs" / "things_imgs.mat") as file:
        for name, paths in {"train_imgs": train_paths, "test_imgs": test_paths}.items():
            concepts = [path.split("\\")[0] for path in paths]
            local = [f"D:\\stimuli\\{i:05d}.bmp" for i in range(len(paths))]
            save_struct(file, name, {"class": concepts, "local_path": local, "things_path": list(paths)})


def write_tvsd(
    folder: Path,
    *,
    monkey: str = "F",
    train: np.ndarray | None = None,
    test: np.ndarray | None = None,
    train_paths: Sequence[str] | None = None,
    test_paths: Sequence[str] | None = None,
    n_repetitions: int = 4,
    noise: float = 0.0,
    seed: int = 0,
) -> Tvsd:
    """Write the files of one monkey into `folder`; `train` and `test` are (image, channel), with 1,024 channels."""
    rng = np.random.default_rng(seed)
    train = waves(len(train_paths or range(9)), seed + 1) if train is None else train
    test = waves(len(test_paths or range(6)), seed + 2) if test is None else test
    train_paths = train_paths or make_paths(len(train), len(test))
    test_paths = test_paths or make_paths(len(test))
    repetitions = test[:, None] + noise * rng.normal(size=(len(test), n_repetitions, test.shape[1]))
    n_pairs = n_repetitions * (n_repetitions - 1) // 2
    quality = {
        "SNR": rng.uniform(0, 9, (N_CHANNELS, 4)),
        "SNR_max": rng.uniform(0, 9, N_CHANNELS),
        "lats": rng.uniform(30, 90, (N_CHANNELS, 4)),
        "reliab": rng.uniform(0, 1, (N_CHANNELS, n_pairs)),
        "oracle": rng.uniform(0, 1, N_CHANNELS),
    }
    with open_mat(folder / f"monkey{monkey}" / "THINGS_normMUA.mat") as file:
        save_array(file, "train_MUA", train.T)
        save_array(file, "test_MUA", repetitions.mean(axis=1).T)
        save_array(file, "test_MUA_reps", repetitions.transpose(2, 0, 1))
        save_array(file, "tb", np.arange(-99.0, 201.0))
        for name, values in quality.items():
            save_array(file, name, values)
    save_images(folder / f"monkey{monkey}", train_paths, test_paths)
    return Tvsd(_base_names(train_paths), _base_names(test_paths), train, test, repetitions, quality)


def _base_names(paths: Sequence[str]) -> list[str]:
    return [path.split("\\")[-1].rpartition(".")[0] for path in paths]
