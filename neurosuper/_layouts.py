"""Axes of a layer's output: find the axis of images with a second batch, and reorder the axes as `layout` says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch

AXES = {2: "image channel", 3: "image token channel", 4: "image channel row column"}
KNOWN = tuple(sorted(text.split()) for text in AXES.values())
# Relative difference between two batches above which a layer mixes images. Batches of different sizes round
# differently, in half precision by about 0.001 per operation.
OTHER_VALUES = 0.05
ROUNDING = 1.5  # pixels by which strides and padding may change the aspect of a map
MAX_EXTRA_TOKENS = 5  # class and register tokens of a vision transformer, in addition to its patches

Layout = str | Mapping[str, str] | None
Outputs = dict[str, torch.Tensor]


def read_layouts(layout: Layout, layers: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the axes of each layer whose layout is given.

    Raises
    ------
    ValueError
        Not a permutation of the axes of a vector, tokens or a map; a layer that was not requested.
    """
    texts = dict(layout) if isinstance(layout, Mapping) else {} if layout is None else dict.fromkeys(layers, layout)
    if unknown := [layer for layer in texts if layer not in layers]:
        raise ValueError(f"layout names layer {unknown[0]!r}, which is not among the layers {', '.join(layers)}")
    for text in texts.values():
        if not isinstance(text, str) or sorted(text.split()) not in KNOWN:
            allowed = " or ".join(repr(known) for known in AXES.values())
            raise ValueError(f"layout must be {allowed}, with the words in the order of the axes, got {text!r}")
    return {layer: text.split() for layer, text in texts.items()}


def images_first(layer: str, output: torch.Tensor, axes: list[str] | None) -> torch.Tensor:
    """Return an output with its axes in the order of `AXES`.

    Raises
    ------
    ValueError
        The output does not have as many axes as the layout names.
    """
    if axes is None:
        return output
    if output.ndim != len(axes):
        raise ValueError(
            f"layer {layer!r} gives shape {tuple(output.shape)}, but layout={' '.join(axes)!r} names {len(axes)} axes; "
            "if layers differ, pass layout={layer: axes}"
        )
    return output.permute([axes.index(axis) for axis in AXES[len(axes)].split()])


def check_axes(run: Callable[[torch.Tensor], Outputs], batch: torch.Tensor, found: Outputs, axes: Mapping) -> None:
    """Refuse layers whose images are on another axis than expected; warn if channels may be on the last axis.

    The network runs again on two of the images (three if the batch has two): only the axis of images changes its
    length.

    Parameters
    ----------
    run : callable
        From a batch to the outputs of the layers.
    batch : Tensor
        The first batch.
    found : dict of str to Tensor
        The outputs for that batch.
    axes : dict
        Axes of the layers whose layout is given.

    Raises
    ------
    ValueError
        The images are on another axis, or on none.
    """
    n_few = 3 if len(batch) == 2 else 2
    try:
        again = run(batch[torch.arange(n_few) % len(batch)])
    except ValueError as error:
        if set(found) - set(axes):
            _warn(
                f"the axis of images in the layers' outputs was not checked, because the network does not run on "
                f"{n_few} images ({error}); name the axes with layout="
            )
        return
    for layer, output in found.items():
        _check_images(layer, output, again[layer], (len(batch), n_few), axes.get(layer))
        if layer not in axes and batch.ndim == 4:
            _warn_about_channels(layer, tuple(output.shape), tuple(batch.shape[2:]))


def _check_images(
    layer: str, output: torch.Tensor, again: torch.Tensor, numbers: tuple[int, int], axes: list[str] | None
) -> None:
    axis, shapes = (axes.index("image") if axes else 0), (tuple(output.shape), tuple(again.shape))
    # Axes that are as long as the first batch in the first output, and as the second batch in the second.
    counting = [k for k in range(min(output.ndim, again.ndim)) if (output.shape[k], again.shape[k]) == numbers]
    if axis in counting:
        # Both batches begin with the same image, so its activations agree unless the layer mixes images.
        first, second = output.select(axis, 0).float(), again.select(axis, 0).float()
        if first.shape == second.shape and (first - second).abs().amax() > OTHER_VALUES * first.abs().amax():
            _warn(
                f"layer {layer!r} gives other activations for the same image in a batch of {numbers[1]} than in one of "
                f"{numbers[0]}: it mixes the images of a batch, or draws random numbers"
            )
        return
    names = AXES.get(output.ndim, "").split()
    remedy = "choose a layer that keeps images apart"
    if len(counting) == 1 and names:
        names.insert(counting[0], names.pop(0))
        remedy = f"pass layout={' '.join(names)!r}, if that is the order of its axes, or choose another layer"
    raise ValueError(
        f"layer {layer!r} gives shape {shapes[0]} for {numbers[0]} images and {shapes[1]} for {numbers[1]}, so its "
        f"axis {axis} does not count images; {remedy}"
    )


def _warn_about_channels(layer: str, shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Warn if the shape of a map or of tokens suggests that channels are on another axis."""
    if len(shape) == 4 and _has_aspect(shape[1:3], size) and not _has_aspect(shape[2:], size):
        other = "image row column channel"
    elif (
        len(shape) == 3
        and is_square(shape[2])
        and not any(is_square(shape[1] - n) for n in range(MAX_EXTRA_TOKENS + 1))
    ):
        other = "image channel token"  # the last axis counts the pixels of a square map
    else:
        return
    read = AXES[len(shape)]
    _warn(
        f"layer {layer!r} gives shape {shape}, which looks like ({', '.join(other.split())}) but is read as "
        f"({', '.join(read.split())}); pass layout={other!r}, or layout={read!r} if that is right"
    )


def _has_aspect(shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a map has the aspect ratio of the images, apart from rounding."""
    (rows, columns), (height, width) = shape, size
    if height == width:
        return rows == columns
    return abs(rows * width - columns * height) <= ROUNDING * max(height, width)


def is_square(number: int) -> bool:
    return number >= 4 and round(number**0.5) ** 2 == number


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
