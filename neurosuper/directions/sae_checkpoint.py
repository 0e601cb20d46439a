"""Checkpoints of a fit: written whole or not at all, and resumed only by a fit of the same settings and responses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def write_checkpoint(path: str, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the file of that name is replaced only when the new one is complete."""
    partial = Path(f"{path}.{os.getpid()}.partial")
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: str, expected: dict[str, Any]) -> dict[str, Any] | None:
    """Return what `write_checkpoint` wrote, on the CPU, or None where there is no such file yet.

    Parameters
    ----------
    path : str
    expected : dict
        Tensors and plain values that must be the same in `state["fit"]`: settings, and what tells the responses.

    Raises
    ------
    ValueError
        A file that is damaged or no checkpoint, or that of another fit.
    """
    if not Path(path).exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = dict(state["fit"])
    except Exception as error:  # torch raises nearly anything at a damaged file
        raise ValueError(
            f"checkpoint {path} is damaged or of another kind ({type(error).__name__}); delete it to start anew, or "
            "name another path"
        ) from error
    for name, value in expected.items():
        if not _same(found.get(name), value):
            told = "" if isinstance(value, torch.Tensor) else f", {found.get(name)!r}, not {value!r}"
            raise ValueError(
                f"checkpoint {path} is of a fit with another {name}{told}; delete it to start anew, or name another "
                "path"
            )
    return state


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        alike = isinstance(found, torch.Tensor) and found.shape == expected.shape
        return alike and torch.allclose(found, expected.cpu(), rtol=1e-4, atol=1e-6)
    return type(found) is type(expected) and found == expected
