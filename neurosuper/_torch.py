"""Pick a torch device; put a network into eval mode, or on a device, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from neurosuper._checks import one_line_with_type


def pick_device(device: str | torch.device | None, *, mps: bool = False) -> torch.device:
    """Return the requested device; for None, a CUDA GPU if there is one, else the CPU.

    Parameters
    ----------
    device : str, torch.device or None
        What the user asked for.
    mps : bool, optional
        Whether the GPU of a Mac may be asked for, which has no double precision.

    Raises
    ------
    ValueError
        Another device, or one that this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kinds = ("cpu", "cuda", "mps") if mps else ("cpu", "cuda")
    wrong = ValueError(f"device must be {', '.join(map(repr, kinds))} or None, got {device!r}")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise wrong from error
    if chosen.type not in kinds:
        raise wrong
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device {device!r} was requested, but torch sees no GPU of a Mac; use device='cpu' or None")
    if chosen.type == "cuda" and (chosen.index or 0) >= (n := torch.cuda.device_count()):
        raise ValueError(f"device {device!r} was requested, but torch sees {n} CUDA devices; use device='cpu' or None")
    return chosen


def named_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the weights and buffers of a network with their names."""
    return [*model.named_parameters(), *model.named_buffers()]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and restore the mode of every module on leaving.

    Raises
    ------
    ValueError
        A network that has no eval mode, such as an exported one.
    """
    training = {module: module.training for module in model.modules()}
    try:
        try:
            model.eval()
        except NotImplementedError as error:
            raise ValueError(
                f"{type(model).__name__} has no eval mode, as is the case for networks from torch.export; pass the "
                "Python module that was exported"
            ) from error
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def moved(model: nn.Module, target: torch.device) -> Iterator[None]:
    """Move a network to a device, and back to its own device on leaving.

    Raises
    ------
    ValueError
        A network on several devices, or one that does not fit on the device.
    """
    devices = {tensor.device for _, tensor in named_tensors(model)}
    if len(devices) > 1:
        raise ValueError(f"the model is on several devices ({', '.join(sorted(map(str, devices)))}); move it to one")
    try:
        try:
            model.to(target)
        except (RuntimeError, TypeError) as error:  # too large, or of a type that the device does not have
            raise ValueError(f"the network cannot be moved to {target}: {one_line_with_type(error)}") from error
        yield
    finally:
        for device in devices:
            model.to(device)
