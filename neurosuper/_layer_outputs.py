"""Run a network and record the outputs of its layers.

A layer is named as in `model.named_modules()`; "" is the network itself. Behind the name may follow `#` and the number
of a call, for a module that runs several times in a pass, and `:` and the place of a tensor, for an output of several:
"blocks.3.attn:0", "encoder:last_hidden_state", "relu#1", "encoder:hidden_states:3".
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from neurosuper._checks import one_line_with_type
from neurosuper._torch import evaluating, named_tensors

MANY = 5  # names or tensors that an error lists


class LayerOutputError(TypeError):
    """The output of a layer is not one real tensor."""


class Tap(NamedTuple):
    """A module, which of its calls in a pass to record (None: the last), and the place of a tensor in its output."""

    module: nn.Module
    call: int | None
    place: str


class LayerOutputs(dict[str, torch.Tensor]):
    """The recorded outputs of the last pass by layer, and how many times each layer's module ran in it."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls: Counter[str] = Counter()


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
    for name, tap in find_layers(model, layers).items():
        if isinstance(tap.module, torch.jit.ScriptModule):
            raise ValueError(f"layer {name!r} of {kind} is TorchScript (scripted or traced), {python}")


def find_layers(model: nn.Module, layers: Sequence[str]) -> dict[str, Tap]:
    """Return what to record for layers of the given names; an error lists similar names.

    Raises
    ------
    ValueError
        No layer of that name.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    # torch.compile wraps a network as `_orig_mod`; its layers can be named with or without that prefix.
    modules |= {name.replace("_orig_mod.", ""): module for name, module in modules.items()}
    modules.pop("_orig_mod", None)
    return {layer: _read_name(layer, modules, type(model).__name__) for layer in layers}


def _read_name(layer: str, modules: Mapping[str, nn.Module], kind: str) -> Tap:
    if layer in modules:
        return Tap(modules[layer], None, "")
    called, colon, place = layer.partition(":")
    name, _, call = called.partition("#")
    if name in modules and (call.isdecimal() or called == name):
        return Tap(modules[name], int(call) if call else None, colon + place)
    names = [known for known in modules if known]
    near = difflib.get_close_matches(name, names, n=MANY, cutoff=0.4) or names[:MANY]
    raise ValueError(f"no layer {layer!r} in {kind}; similar names: {', '.join(near)}")


@contextmanager
def tap_layers(model: nn.Module, layers: Sequence[str]) -> Iterator[LayerOutputs]:
    """Collect the outputs of layers at each forward pass, in eval mode and without gradients.

    Outputs are copies, which a later in-place layer cannot change. For a layer that runs several times, the last
    output is kept, unless its name gives the number of a call. Compiled networks run uncompiled, because compiled code
    does not call hooks. Hooks are removed and every module's training mode is restored on leaving, also after an error.

    Raises
    ------
    ValueError
        No layer of that name, or a network that has no eval mode.
    LayerOutputError
        A layer whose output is not one real tensor.
    """
    outputs = LayerOutputs()

    def keep(layer: str, tap: Tap) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if tap.call in (None, outputs.n_calls[layer]):
                # Detached: a network may compute gradients inside.
                outputs[layer] = _find_tensor(layer, tap, output).detach().clone()
            outputs.n_calls[layer] += 1

        return hook

    handles = [tap.module.register_forward_hook(keep(layer, tap)) for layer, tap in find_layers(model, layers).items()]
    handles.append(model.register_forward_pre_hook(lambda *_: outputs.n_calls.clear()))
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    try:
        # Not `inference_mode`: tensors that a network stores for later passes could not be used in training then.
        with evaluating(model), torch.no_grad(), eager:
            yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _find_tensor(layer: str, tap: Tap, output: object) -> torch.Tensor:
    """Return the tensor at a place of an output, or the only one in it."""
    found = [each for each in _tensors_in(output) if f"{each[0]}:".startswith(f"{tap.place}:")]
    if len(found) == 1 and not found[0][1].is_complex():
        return found[0][1]
    if len(found) == 1:
        raise LayerOutputError(
            f"layer {layer!r} gives {found[0][1].dtype}, not one real tensor; choose a layer before or after it"
        )
    kind, inside = type(output).__name__, found or list(_tensors_in(output))
    if not inside:
        raise LayerOutputError(f"layer {layer!r} gives {kind}, not one real tensor; choose a layer before or after it")
    start = layer.removesuffix(tap.place)
    names = ", ".join(f"{start + place!r} {tuple(tensor.shape)}" for place, tensor in inside[:MANY])
    raise LayerOutputError(
        f"layer {layer!r} gives {kind}, not one real tensor; name one in it: {names}{', …' * (len(inside) > MANY)}"
    )


def _tensors_in(output: object, place: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors in a tuple, list, dict or dataclass, and in those inside it, with their places such as ":0"."""
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(output, torch.Tensor):
        yield place, output
    elif isinstance(output, Mapping):  # first: outputs of the package transformers are dicts and dataclasses
        parts = output.items()
    elif isinstance(output, tuple | list):
        parts = zip(getattr(output, "_fields", range(len(output))), output, strict=True)
    elif dataclasses.is_dataclass(output):
        parts = [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    for key, part in parts:
        yield from _tensors_in(part, f"{place}:{key}")


def run_layers(
    model: nn.Module, layers: Sequence[str], outputs: LayerOutputs, batch: torch.Tensor, images: str = ""
) -> dict[str, torch.Tensor]:
    """Return the outputs of tapped layers for a batch; `images` says in errors which images it contains.

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
            f"{kind} fails on a batch of shape {tuple(batch.shape)}, {batch.dtype}{images}"
            f"{_place_of(error, model)}: {message}; "
            + ("use a smaller batch_size" if full else "check preprocess (size, channels, dtype)")
        ) from error
    for layer in layers:
        if layer not in outputs:
            raise ValueError(_why_unused(layer, outputs.n_calls[layer], kind))
    found = {layer: outputs[layer] for layer in layers}  # in this order; the network runs them in another one
    outputs.clear()  # frees these outputs before the next batch runs
    return found


def _why_unused(layer: str, n_calls: int, kind: str) -> str:
    if not n_calls:
        return f"layer {layer!r} is not used in the forward pass of {kind}; choose another layer"
    name = layer.partition("#")[0]
    calls = f"{name}#0" if n_calls == 1 else f"{name}#0 to {name}#{n_calls - 1}"
    return f"layer {layer!r} asks for a call that {kind} does not make: {name!r} runs {n_calls} times, as {calls}"


def _place_of(error: BaseException, model: nn.Module) -> str:
    """Return ", in layer '…'" for the innermost layer that was running when an error was raised."""
    names = {id(module): name for name, module in model.named_modules() if name}
    place, step = "", error.__traceback__
    while step is not None:
        running = names.get(id(step.tb_frame.f_locals.get("self")))
        place = place if running is None else f", in layer {running!r}"
        step = step.tb_next
    return place
