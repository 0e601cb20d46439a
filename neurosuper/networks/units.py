"""Which values of a layer's output become units, and how they are named."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch

from neurosuper._checks import is_count
from neurosuper._layouts import is_square

Place = Literal["center", "mean", "all", "cls"]
Position = Place | int
OWN_OUTPUT = "output"  # what the layer "", the network itself, is called in labels
CLASS_TOKEN = 0  # its place among the tokens of vision transformers


def check_position(position: object) -> Position:
    """Return a position, or raise an error that says which ones there are.

    Raises
    ------
    ValueError
        Neither one of the words, nor the number of a token.
    """
    if not is_count(position, least=0) and position not in get_args(Place):
        words = ", ".join(map(repr, get_args(Place)))
        raise ValueError(f"position must be one of {words}, or the number of a token, got {position!r}")
    return position  # type: ignore[return-value]


def pick_units(
    layer: str, output: torch.Tensor, position: Position, stimuli: np.ndarray, *, square: bool
) -> np.ndarray:
    """Return the units of a layer for a batch: (n, channel) or, for every pixel or token, (n, channel, row, column).

    Parameters
    ----------
    layer : str
        Name of the layer, for errors.
    output : Tensor
        Vectors (n, channel), tokens (n, token, channel) or maps (n, channel, row, column).
    position : str or int
        See `activations`.
    stimuli : ndarray of str
        Labels of the images.
    square : bool
        Whether the network's input is square, so that a square number of tokens has no class token among them.

    Raises
    ------
    ValueError
        An output of another shape or without such a position; values that are not finite.
    """
    if output.ndim not in (2, 3, 4) or len(output) != len(stimuli):
        raise ValueError(
            f"layer {layer!r} gives shape {tuple(output.shape)} for {len(stimuli)} images; choose one that gives "
            "(n, channel), (n, token, channel) or (n, channel, row, column)"
        )
    if output.ndim == 2:  # a vector has no positions to choose from
        units = output if position != "all" else output[:, :, None, None]
    elif position == "mean":
        units = output.float().mean(dim=1 if output.ndim == 3 else (2, 3))
    elif output.ndim == 3:
        units = _of_tokens(layer, output, position, square)
    else:
        units = _of_maps(layer, output, position)
    # `contiguous` copies the chosen values, so that the whole output can be freed.
    units = units.float().contiguous()
    if not units.isfinite().all():
        finite = units.isfinite().flatten(1).all(dim=1).cpu().numpy()
        raise ValueError(
            f"layer {layer!r} gives NaN or infinite activations for {(~finite).sum()} of {len(stimuli)} images of a "
            f"batch, such as stimulus {stimuli[~finite][0]!s}; check that image, the weights and preprocess"
        )
    return units.cpu().numpy()


def _of_tokens(layer: str, output: torch.Tensor, position: Position, square: bool) -> torch.Tensor:
    n_tokens = output.shape[1]
    if position == "all":
        return output.transpose(1, 2).unsqueeze(3)  # a token is a row, of one column
    if position == "center":
        raise ValueError(
            f"layer {layer!r} gives tokens, which have no centre; use position='mean', 'all', 'cls' or the number of a "
            "token"
        )
    if position == "cls" and square and is_square(n_tokens):
        raise ValueError(
            f"layer {layer!r} gives {n_tokens} tokens, a square of patches without a class token; use position='mean', "
            "or position=0 for its first token"
        )
    token = CLASS_TOKEN if position == "cls" else int(position)
    if token >= n_tokens:
        raise ValueError(f"layer {layer!r} gives {n_tokens} tokens, from 0 to {n_tokens - 1}; got position={token}")
    return output[:, token]


def _of_maps(layer: str, output: torch.Tensor, position: Position) -> torch.Tensor:
    if position == "all":
        return output
    if position == "center":
        return output[:, :, output.shape[2] // 2, output.shape[3] // 2]
    raise ValueError(
        f"layer {layer!r} gives maps, not tokens, so that position={position!r} names nothing in it; use "
        "position='center', 'mean' or 'all'"
    )


def unit_coords(layers: list[str], shapes: list[tuple[int, ...]]) -> dict[str, object]:
    """Return labels and coords of the units of each layer, of shape (channel,) or (channel, row, column).

    The output of the network itself, "", becomes the layer "output": layers that are compared need names.
    """
    indices = [np.indices(shape).reshape(len(shape), -1) for shape in shapes]
    names = [layer or OWN_OUTPUT for layer, index in zip(layers, indices, strict=True) for _ in index.T]
    index = np.concatenate(indices, axis=1)
    labels = [
        "/".join([layer, f"{channel:04d}", *map(str, pixel)])
        for layer, (channel, *pixel) in zip(names, index.T.tolist(), strict=True)
    ]
    numbers = zip(("channel", "row", "column"), index, strict=False)
    return {"unit": labels, "layer": ("unit", names), **{name: ("unit", values) for name, values in numbers}}
