"""A folder of finished batches of activations; each file is verified by checksum when it is read."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from neurosuper._files import remove_unfinished, whole_file
from neurosuper._fingerprint import tensor_bytes


class BatchCache:
    """Activations of batches in files `<key>.npz`; the key is a hash of the network and of the content of the batch.

    A file is an archive of arrays with their checksums (CRC-32), followed by its key. A file that is damaged, or that
    was renamed, is computed again. A folder that is full or cannot be written to is still read; the first failure
    gives a warning, and no further batch is written.

    Parameters
    ----------
    folder : Path
        Created if it does not exist. Unfinished files of killed runs are removed.
    network : str
        Fingerprint of everything that the activations depend on, except the batch.

    Raises
    ------
    ValueError
        The folder is a file.
    """

    def __init__(self, folder: Path, network: str) -> None:
        self.folder, self.network, self.writable = folder, network, True
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cache must be a folder, got the file {folder}; give another path")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(error)
        remove_unfinished(folder)

    def recall(self, batch: torch.Tensor, run: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
        """Return the stored arrays of a batch; if there are none, run the network and store its arrays."""
        path = self.folder / f"{key_of(self.network, batch)}.npz"
        arrays = _read(path)
        if arrays is None:
            arrays = run()
            self._write(path, arrays)
        return arrays

    def _write(self, path: Path, arrays: list[np.ndarray]) -> None:
        if not self.writable:
            return
        archive = io.BytesIO()
        np.savez(archive, *arrays)
        try:
            with whole_file(path) as partial, partial.open("wb") as file:
                file.write(archive.getbuffer())
                file.write(path.stem.encode())  # zip readers accept trailing bytes
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.writable = False
        warnings.warn(
            f"activations are not stored: cannot write to {self.folder} ({error.strerror or error}); batches that are "
            "already there are used, and the next run computes the others again",
            UserWarning,
            stacklevel=4,
        )


def key_of(network: str, batch: torch.Tensor) -> str:
    """Return a hash of a network's fingerprint and the content of a batch."""
    digest = hashlib.sha256(f"{network} {tuple(batch.shape)} {batch.dtype} ".encode())
    digest.update(tensor_bytes(batch).data)
    return digest.hexdigest()


def _read(path: Path) -> list[np.ndarray] | None:
    """Return the arrays of a file; None if it is missing, damaged, or belongs to another batch."""
    try:
        content = path.read_bytes()
        if not content.endswith(path.stem.encode()):
            return None
        with np.load(io.BytesIO(content)) as arrays:  # compares the checksum of each array
            return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    except Exception:  # a damaged archive may make numpy and zipfile raise anything
        return None
