"""Checkpoints of a fit: written completely or not at all, and resumed only with the same settings and responses."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import torch

from neurosuper._checks import one_line
from neurosuper._files import remove_unfinished, whole_file
from neurosuper.directions._rows.rows import Rows


def digest_rows(rows: Rows) -> str:
    """Return a digest of all responses, in order, and of the labels of stimuli and units; one pass.

    Responses are digested in the dtype of the fit, so that neither chunks nor the dtype of a file matter.
    """
    digest = hashlib.blake2b(digest_size=16)
    for labels in (rows.indexes["stimulus"], rows.indexes["unit"]):
        digest.update("\0".join([*map(str, labels), ""]).encode("utf-8", "surrogatepass"))
    for block in rows.raw:
        digest.update(block.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def prepare_place(path: str) -> None:
    """Refuse a folder that does not exist, and remove unfinished files of processes that were killed.

    Called before the fit: an error hours later would lose it.

    Raises
    ------
    FileNotFoundError
        The folder of the checkpoint does not exist.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder of checkpoint {path} does not exist; make it, or name another path")
    remove_unfinished(folder, Path(path).name)


def write_checkpoint(path: str, state: dict[str, Any]) -> bool:
    """Write tensors and plain values to a file; an older file is replaced only when the new one is complete.

    Returns
    -------
    bool
        Whether it was written.

    Warns
    -----
    UserWarning
        The file cannot be written, for example on a full disk. The fit continues without it.
    """
    try:
        with whole_file(Path(path)) as partial:
            torch.save(state, partial)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
        reason = getattr(error, "strerror", None) or one_line(error)
        warnings.warn(
            f"checkpoint {path} cannot be written ({reason}); the fit continues without it: free some space, or "
            "name another path",
            stacklevel=2,
        )
        return False
    return True


def read_checkpoint(path: str, expected: dict[str, Any]) -> dict[str, Any] | None:
    """Return the content of a checkpoint, on the CPU, or None if there is no such file yet.

    Parameters
    ----------
    path : str
    expected : dict
        Plain values that must be the same in `state["fit"]`: settings, and a digest of the responses.

    Raises
    ------
    ValueError
        The file is damaged, is not a checkpoint, or belongs to another fit.
    """
    if not Path(path).exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(state["fit"])
    except Exception as error:  # torch raises nearly anything at a damaged file
        raise ValueError(
            f"checkpoint {path} is damaged or of another kind ({type(error).__name__}); delete it to start again, or "
            "name another path"
        ) from error
    for name, value in expected.items():
        if type(found.get(name)) is not type(value) or found[name] != value:
            what = "other responses" if name == "responses" else f"another {name}, {found.get(name)!r}, not {value!r}"
            raise ValueError(
                f"checkpoint {path} is of a fit with {what}; delete it to start again, or name another path"
            )
    return state
