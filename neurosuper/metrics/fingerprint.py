"""Fingerprints: short texts that change whenever embeddings would, by which `cached` tells them apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["fingerprint_of", "parts_of"]


def fingerprint_of(*parts: str | torch.Tensor) -> str:
    """Return a hash of texts and tensors, shapes and dtypes included.

    Parameters
    ----------
    *parts : str or Tensor
        On any device.

    Returns
    -------
    str
        32 hexadecimal digits.

    Examples
    --------
    >>> weights = torch.zeros(2)
    >>> fingerprint_of("net", weights) == fingerprint_of("net", weights.clone())
    True
    >>> fingerprint_of("net", weights) == fingerprint_of("net", weights + 1)
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        text = part if isinstance(part, str) else f"{tuple(part.shape)} {part.dtype}"
        digest.update(f"{len(text)}:{text}".encode())
        if isinstance(part, torch.Tensor):
            digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def parts_of(what: Callable[..., Any]) -> list[str | torch.Tensor]:
    """Return what can be seen of a function or module, the same in every process.

    Parameters
    ----------
    what : callable
        Of a function, its name; of a module, its class, parts, their plain settings and weights. Code is not seen.

    Returns
    -------
    list of str and Tensor

    Examples
    --------
    >>> parts_of(parts_of)
    ['neurosuper.metrics.fingerprint', '<function parts_of>']
    """
    shown: list[str | torch.Tensor] = [str(what.__module__), re.sub(" at 0x[0-9a-fA-F]+", "", repr(what))]
    if not isinstance(what, nn.Module):
        return shown
    for name, module in what.named_modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str) and k != "training"}
        shown.append(f"{name} {type(module).__module__}.{type(module).__qualname__} {plain}")
    for name, tensor in [*what.named_parameters(), *what.named_buffers()]:
        shown += [name, tensor]
    return shown
