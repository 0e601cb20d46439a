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
        Neither CPU nor CUDA, or a device that this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wrong = ValueError(f"device must be 'cpu', 'cuda' or None, got {device!r}")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise wrong from error
    if chosen.type not in ("cpu", "cuda"):
        raise wrong
    if chosen.type == "cuda" and (chosen.index or 0) >= (n := torch.cuda.device_count()):
        raise ValueError(f"device {device!r} was asked for, but torch sees {n} CUDA devices; use device='cpu' or None")
    return chosen


def find_layers(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules of those names, or say which names are near.

    Raises
    ------
    ValueError
        No layer of that name.
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    for layer in layers:
        if layer not in modules:
            near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.4) or list(modules)[:5]
            raise ValueError(f"no layer {layer!r} in {type(model).__name__}; near names: {', '.join(near)}")
    return {layer: modules[layer] for layer in layers}


@contextmanager
def tap_layers(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of layers at each forward pass, in eval mode and without gradients.

    Outputs are copies, which a later in-place layer cannot change; of a layer that runs several times, the last one.
    Hooks are removed and every module's training mode is restored on leaving, whatever happens inside.

    Raises
    ------
    ValueError
        No layer of that name.
    TypeError
        A layer whose output is not one real tensor.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            outputs[name] = _check_output(name, output).clone()

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


def _check_output(layer: str, output: object) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.is_complex():
        kind = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise TypeError(f"layer {layer!r} gives {kind}, not one real tensor; choose a layer before or after it")
    return output
