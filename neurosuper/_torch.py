"""Pick a torch device; run a network and record the outputs of its layers."""

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
    """The output of a layer is not one real tensor."""


def pick_device(device: str | torch.device | None) -> torch.device:
    """Return the requested device; for None, a GPU if there is one, else the CPU.

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
        raise ValueError(f"device {device!r} was requested, but torch sees {n} CUDA devices; use device='cpu' or None")
    return chosen


def named_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the weights and buffers of a network with their names."""
    return [*model.named_parameters(), *model.named_buffers()]


def check_network(model: object, layers: Sequence[str]) -> None:
    """Refuse an object that is not a network, has no weights yet, or has layers that cannot be read.

    Raises
    ------
    TypeError
        Not a torch module.
    ValueError
        No layer of that name, weights that are not loaded, or a network in TorchScript.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    kind, python = type(model).__name__, "whose layers cannot be read; pass the Python module that it was made from"
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
    """Return the submodules with the given names; an error lists similar names.

    Raises
    ------
    ValueError
        No layer of that name.
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    # torch.compile wraps a network as `_orig_mod`; its layers can be named with or without that prefix.
    modules |= {name.replace("_orig_mod.", ""): module for name, module in modules.items()}
    modules.pop("_orig_mod", None)
    for layer in layers:
        if layer not in modules:
            near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.4) or list(modules)[:5]
            raise ValueError(f"no layer {layer!r} in {type(model).__name__}; similar names: {', '.join(near)}")
    return {layer: modules[layer] for layer in layers}


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
        model.eval()
        yield
    except NotImplementedError as error:
        raise ValueError(
            f"{type(model).__name__} has no eval mode, as is the case for networks from torch.export; pass the Python "
            "module that was exported"
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def tap_layers(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of layers at each forward pass, in eval mode and without gradients.

    Outputs are copies, which a later in-place layer cannot change. For a layer that runs several times, the last
    output is kept. Compiled networks run uncompiled, because compiled code does not call hooks. Hooks are removed and
    every module's training mode is restored on leaving, also after an error.

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
        The network fails on the batch, or a layer is not used in its forward pass.
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
        raise ValueError(f"layer {unused[0]!r} is not used in the forward pass of {kind}; choose another layer")
    found = dict(outputs)
    outputs.clear()  # frees these outputs before the next batch runs
    return found


def preprocess_images(images: torch.Tensor, preprocess: Preprocess | None) -> torch.Tensor:
    """Return preprocessed images for a network, from images (n, 3, row, column) in [0, 1].

    Raises
    ------
    ValueError
        `preprocess` fails, or does not return one tensor with the same number of images.
    """
    takes = f"preprocess takes a tensor {tuple(images.shape)} of float32 in [0, 1]"
    try:
        batch = images if preprocess is None else preprocess(images)
    except Exception as error:  # the user's own code may fail in any way
        raise ValueError(
            f"{takes}, and fails on it: {one_line_with_type(error)}; leave out transforms that take one "
            "image or a PIL image, such as ToTensor and convert"
        ) from error
    if not isinstance(batch, torch.Tensor) or batch.shape[:1] != images.shape[:1]:
        got = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise ValueError(f"{takes}, and must return a tensor of {len(images)} images, got {got}")
    return batch
