"""Torch without assumptions: which device to use, and how to run a network and read its layers."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from neurosuper._checks import one_line_with_type

Preprocess = Callable[[torch.Tensor], torch.Tensor]


class LayerOutputError(TypeError):
    """A layer gives something other than one real tensor."""


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


def named_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the weights and buffers of a network with their names."""
    return [*model.named_parameters(), *model.named_buffers()]


def check_network(model: object, layers: Sequence[str]) -> None:
    """Refuse what is no network, has no weights yet, or has layers that cannot be read.

    Raises
    ------
    TypeError
        Not a torch module.
    ValueError
        No layer of that name, weights that are not loaded, or a network of TorchScript.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    kind, python = type(model).__name__, "whose layers cannot be read; pass the Python module that it was made of"
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(f"{kind} is TorchScript (scripted or traced), {python}")
    for name, tensor in named_tensors(model):
        if is_lazy(tensor):
            raise ValueError(f"{name!r} of {kind} has no shape yet (a lazy module); run the network once on a batch")
        if tensor.is_meta:
            raise ValueError(f"{name!r} of {kind} has no weights yet (it is on the meta device); load them first")
    for name, module in find_layers(model, layers).items():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"layer {name!r} of {kind} is TorchScript (scripted or traced), {python}")


def find_layers(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """Return the submodules of those names, or say which names are near.

    Raises
    ------
    ValueError
        No layer of that name.
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    modules |= {name.replace("_orig_mod.", ""): module for name, module in modules.items()}  # of torch.compile
    modules.pop("_orig_mod", None)
    for layer in layers:
        if layer not in modules:
            near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.4) or list(modules)[:5]
            raise ValueError(f"no layer {layer!r} in {type(model).__name__}; near names: {', '.join(near)}")
    return {layer: modules[layer] for layer in layers}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Keep a network in eval mode for a while, then give every module its own mode back.

    Raises
    ------
    ValueError
        A network that has no eval mode, such as an exported one.
    """
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    except NotImplementedError as error:
        raise ValueError(
            f"{type(model).__name__} has no eval mode, as networks from torch.export have none; pass the Python module "
            "that was exported"
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def tap_layers(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of layers at each forward pass, in eval mode and without gradients.

    Outputs are copies, which a later in-place layer cannot change; of a layer that runs several times, the last one.
    Compiled networks run as they were before, because compiled code calls no hooks. Hooks are removed and every
    module's training mode is restored on leaving, whatever happens inside.

    Raises
    ------
    ValueError
        No layer of that name, or a network that has no eval mode.
    LayerOutputError
        A layer whose output is not one real tensor.
    """
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            outputs[name] = _check_output(name, output).clone()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in find_layers(model, layers).items()]
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    try:
        with evaluating(model), torch.inference_mode(), eager:
            yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _check_output(layer: str, output: object) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.is_complex():
        kind = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise LayerOutputError(f"layer {layer!r} gives {kind}, not one real tensor; choose a layer before or after it")
    return output


def run_layers(
    model: nn.Module, layers: Sequence[str], outputs: dict[str, torch.Tensor], batch: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the outputs of tapped layers for a batch.

    Raises
    ------
    ValueError
        The network fails on the batch, or a layer takes no part in its forward pass.
    LayerOutputError
        A layer whose output is not one real tensor.
    """
    kind = type(model).__name__
    outputs.clear()
    try:
        model(batch)
    except LayerOutputError:
        raise
    except Exception as error:  # networks are the user's own code, and may fail in any way
        message = one_line_with_type(error)
        full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in message
        raise ValueError(
            f"{kind} fails on a batch of shape {tuple(batch.shape)}, {batch.dtype}: {message}; "
            + ("use a smaller batch_size" if full else "check preprocess (size, channels, dtype)")
        ) from error
    if unused := [layer for layer in layers if layer not in outputs]:
        raise ValueError(f"layer {unused[0]!r} takes no part in the forward pass of {kind}")
    found = dict(outputs)
    outputs.clear()  # so that no batch is kept while the next one runs
    return found


def preprocess_images(images: torch.Tensor, preprocess: Preprocess | None) -> torch.Tensor:
    """Return images (n, 3, row, column) in [0, 1] as what a network takes.

    Raises
    ------
    ValueError
        `preprocess` fails, or does not return one tensor of as many images.
    """
    takes = f"preprocess takes a tensor {tuple(images.shape)} of float32 in [0, 1]"
    try:
        batch = images if preprocess is None else preprocess(images)
    except Exception as error:  # the user's own code may fail in any way
        raise ValueError(
            f"{takes}, and fails on it: {one_line_with_type(error)}; leave out what takes one "
            "image or a PIL image, such as ToTensor and convert"
        ) from error
    if not isinstance(batch, torch.Tensor) or batch.shape[:1] != images.shape[:1]:
        got = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise ValueError(f"{takes}, and must return a tensor of {len(images)} images, got {got}")
    return batch
