"""Interference between the weights of a network's units.

W (unit, input) weights of one layer; ŵ a row of unit length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import nn

from neurosuper._layer_outputs import check_network, find_layers

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def weight_interference(model: nn.Module, layers: str | Sequence[str]) -> xr.DataArray:
    """Return how much the weights of each unit of a network overlap with those of the other units of its layer.

    Parameters
    ----------
    model : torch.nn.Module
        Not run and not changed.
    layers : str or list of str
        Names as in `model.named_modules()`, of layers with a matrix of weights: linear or convolutional.

    Returns
    -------
    DataArray (unit,)
        Name `interference`: √(Σ_{j≠i} (ŵᵢ·wⱼ)²), the norm of a row of the off-diagonal of Ŵ Wᵀ; 0 if the weights of a
        unit are orthogonal to all others. Units are the output channels of each layer, named `layer/channel` as in
        `activations`, with the coords `layer` and `channel`; `norm`, the length of the unit's weights; and
        `chance_level`, the interference expected of a random ŵᵢ.

    Raises
    ------
    TypeError
        Not a torch module.
    ValueError
        No layer of that name; one without a matrix of weights; a unit whose weights are all 0, or not finite.

    See Also
    --------
    neurosuper.activations : Responses of the same units.

    Notes
    -----
    The weights of all positions of a kernel are one vector. In a convolution with groups, units of different groups
    have no input in common, and do not interfere. The expectation for a random direction in p inputs is
    √(Σ_{j≠i} ‖wⱼ‖²/p). Layers with more units than inputs have interference by necessity. Biases, normalisation and
    nonlinearities are ignored.

    References
    ----------
    Elhage et al. 2022, "Toy models of superposition", transformer-circuits.pub (section 2: Σ (ŵᵢ·wⱼ)²).

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(2, 3, bias=False)
    >>> layer.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]])
    >>> weight_interference(torch.nn.Sequential(layer), "0").values.tolist()
    [0.0, 1.0, 2.0]
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise ValueError("no layer to read weights of; name one or more, as in model.named_modules()")
    check_network(model, names)
    return xr.concat([_of_layer(name, tap.module) for name, tap in find_layers(model, names).items()], "unit")


def _of_layer(name: str, module: nn.Module) -> xr.DataArray:
    """Return the interference between the units of one layer."""
    W, groups = _read_weights(name, module)
    norms = np.linalg.norm(W, axis=1)
    if (bad := ~(np.isfinite(norms) & (norms > 0))).any():
        raise ValueError(
            f"the weights of channel {np.flatnonzero(bad)[0]} of layer {name!r} are all 0 or not finite, and have no "
            "direction; choose another layer, or remove this channel"
        )
    # ŵᵢ·wⱼ between different units that have inputs in common
    shares_inputs = (groups[:, None] == groups) & ~np.eye(len(W), dtype=bool)
    overlap = np.where(shares_inputs, (W / norms[:, None]) @ W.T, 0)
    # E (ŵ·w)² = ‖w‖²/p for a random ŵ in p dimensions
    chance = np.sqrt((shares_inputs * norms**2).sum(1) / W.shape[1])
    channels = np.arange(len(W))
    coords = {
        "unit": [f"{name}/{channel}" for channel in channels],
        "layer": ("unit", [name] * len(W)),
        "channel": ("unit", channels),
        "norm": ("unit", norms),
        "chance_level": ("unit", chance),
    }
    attrs = {"method": "norm of the off-diagonal of Ŵ Wᵀ", "quantity": "interference of weights", "units": "a.u."}
    return xr.DataArray(np.linalg.norm(overlap, axis=1), coords, ("unit",), "interference", attrs)


def _read_weights(name: str, module: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (unit, input) in float64, and the number of the group of inputs of each unit."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim < 2 or weight.is_complex():
        raise ValueError(
            f"layer {name!r} ({type(module).__name__}) has no matrix of weights; choose a linear or convolutional layer"
        )
    values = weight.detach().cpu().double()
    n_groups = int(getattr(module, "groups", 1))
    if isinstance(module, TRANSPOSED):
        # (input, unit of a group, …) with the inputs of all groups one after the other
        parts = [part.transpose(0, 1) for part in values.chunk(n_groups)]
        values = torch.cat(parts)
    W = values.flatten(1).numpy()
    return W, np.arange(len(W)) // (len(W) // n_groups)
