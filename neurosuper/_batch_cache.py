"""A folder of finished batches of activations, none of which is trusted unless its checksums are right."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from neurosuper._files import remove_unfinished, whole_file
from neurosuper._fingerprint import content_of


class BatchCache:
    """Activations of batches in `<key>.npz`, by what a network is and the content of a batch.

    A file is an archive of arrays with their checksums (CRC-32), and its key once more. One that is damaged or bears
    another one's name is computed again. A folder that cannot be written to, or is full, is read from; the first
    failure is a warning, and no further batch is written.

    Parameters
    ----------
    folder : Path
        Made if need be. What killed runs left there is removed.
    network : str
        Fingerprint of all that the activations depend on, but for the batch.

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
        """Return the arrays of a batch that are kept; where there are none, run the network and keep them."""
        about = f"{self.network} {tuple(batch.shape)} {batch.dtype} ".encode()
        path = self.folder / f"{hashlib.sha256(about + content_of(batch).data).hexdigest()}.npz"
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
                file.write(path.stem.encode())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.writable = False
        warnings.warn(
            f"activations are not kept: cannot write to {self.folder} ({error.strerror or error}); what is there is "
            "used, the rest is computed again by the next run",
            UserWarning,
            stacklevel=4,
        )


def _read(path: Path) -> list[np.ndarray] | None:
    """Return the arrays of a file; None where there is none, or a damaged one, or that of another batch."""
    try:
        content = path.read_bytes()
        if not content.endswith(path.stem.encode()):
            return None
        with np.load(io.BytesIO(content)) as arrays:  # compares the checksum of each array
            return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    except Exception:  # a damaged archive may make numpy and zipfile raise anything
        return None
