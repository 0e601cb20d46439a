"""Networks with random weights, as a control for what training contributes."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from neurosuper._checks import Seed, check_one_of, one_line_with_type, seed_or_new
from neurosuper._layer_outputs import check_network
from neurosuper._torch import moved

__all__ = ["randomize"]


def randomize(
    model: nn.Module,
    *,
    how: Literal["init", "shuffle"] = "init",
    random_state: Seed = 0,
) -> nn.Module:
    """Return a copy of a network with random weights, as a control for what training contributes.

    Parameters
    ----------
    model : torch.nn.Module
        Not changed.
    how : {"init", "shuffle"}, optional
        "init" initialises every module again by its `reset_parameters`, with the running statistics of batch
        normalisation. "shuffle" permutes the entries of each parameter, which keeps their distribution in each layer;
        running statistics are kept.
    random_state : int, Generator, RandomState or None, optional
        Seed; the global generator of torch is not touched.

    Returns
    -------
    torch.nn.Module
        On the device and in the mode of the model.

    Raises
    ------
    TypeError
        Not a torch module.
    ValueError
        Unknown `how`; a network that cannot be copied; for "init", a module with parameters that has no
        `reset_parameters`, or one that does not change them.

    See Also
    --------
    activations : Shows images to the network.
    shuffle_units : A control that keeps the responses of each unit.

    Notes
    -----
    `reset_parameters` is the initialisation of the layer, by torch; a network whose own code initialises layers in
    another way is better built again without weights, after `torch.manual_seed`.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    >>> control = randomize(model, random_state=1)
    >>> bool((control[0].weight == model[0].weight).any())
    False
    """
    check_one_of("how", how, ("init", "shuffle"))
    check_network(model, [])
    seed = seed_or_new(random_state)
    try:
        control = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"the network cannot be copied: {one_line_with_type(error)}") from error
    # On the CPU, so that every device gets the same weights, and only the CPU's generator has to be restored.
    with moved(control, torch.device("cpu")), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        if how == "init":
            _initialise(control)
        else:
            for weights in control.parameters():
                weights.copy_(weights.flatten()[torch.randperm(weights.numel())].view_as(weights))
    return control


def _initialise(model: nn.Module) -> None:
    """Initialise all modules again, children first: parents may initialise the parameters of children otherwise."""
    for name, module in reversed(list(model.named_modules())):
        before = {key: weights.clone() for key, weights in module.named_parameters(recurse=False)}
        # Attention has only the private method.
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if reset is not None:
            reset()
        # Weights that are all equal, as those of a normalisation, may rightly be the same again.
        kept = [
            key
            for key, weights in before.items()
            if torch.equal(weights, getattr(module, key)) and bool((weights != weights.flatten()[:1]).any())
        ]
        if kept or (before and reset is None):
            raise ValueError(
                f"module {name!r} ({type(module).__name__}) has no reset_parameters that changes its "
                f"{', '.join(kept or before)}; use how='shuffle', or build the network again without weights"
            )
