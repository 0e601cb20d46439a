"""Torch without assumptions: which device to use, and how to read a network's layers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the device asked for; for None a GPU if there is one, else the CPU.

    Raises
    ------
    ValueError
        A device that this machine or this torch does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be 'cpu', 'cuda' or None, got {device!r}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but torch sees no CUDA device; use device='cpu' or None")
    return chosen


def find_layers(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules of those names, or say which names are near.

    Raises
    ------
    ValueError
        No layer of that name.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    for layer in layers:
        if layer not in modules:
            near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.4) or list(modules)[:5]
            raise ValueError(f"no layer {layer!r} in {type(model).__name__}; near names: {', '.join(near)}")
    return {layer: modules[layer] for layer in layers}


@contextmanager
def tap_layers(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of layers at each forward pass, in eval mode and without gradients.

    Hooks are removed and every module's training mode is restored on leaving, whatever happens inside.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            outputs[name] = output

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in find_layers(model, layers).items()]
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            yield outputs
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
