"""Activations of network layers as responses `(stimulus, unit)`, and networks with random weights."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import xarray as xr
from torch import nn

from neurosuper._batch_cache import BatchCache
from neurosuper._checks import Seed, check_count, check_one_of, one_line_with_type, seed_or_new
from neurosuper._fingerprint import IndescribableError, fingerprint, weights_sha256
from neurosuper._layouts import Layout, check_axes, images_first, read_layouts
from neurosuper._progress import progress
from neurosuper._torch import (
    Preprocess,
    check_network,
    evaluating,
    named_tensors,
    pick_device,
    preprocess_images,
    run_layers,
    tap_layers,
)
from neurosuper.images import check_images
from neurosuper.responses import coords_along

__all__ = ["activations", "randomize"]

logger = logging.getLogger(__name__)

Position = Literal["center", "mean", "all"]
FORMAT = 2  # of stored batches; increase it when the same network would give other activations


def activations(
    model: nn.Module,
    images: xr.DataArray,
    layers: str | Sequence[str],
    *,
    position: Position = "center",
    layout: Layout = None,
    preprocess: Preprocess | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
) -> xr.DataArray:
    """Return the activations of network layers for images, as responses.

    Parameters
    ----------
    model : torch.nn.Module
        Takes `(n, 3, row, column)`, float32. It runs in eval mode and without gradients; its mode and device are
        restored afterwards.
    images : DataArray (stimulus, row, column, channel)
        RGB images of type uint8, in memory or dask, read one batch at a time; see `load_images`.
    layers : str or list of str
        Names as in `model.named_modules()`. A layer that runs several times in a pass gives its last output.
    position : {"center", "mean", "all"}, optional
        Which values of a map `(n, channel, row, column)` become units: for each channel the pixel
        `[row // 2, column // 2]`, the mean over the map, or every pixel. For tokens `(n, token, channel)`: their mean,
        or each token (`row` is the token, `column` is 0). A vector `(n, channel)` gives one unit per channel for each
        of these settings.
    layout : str or dict of str, optional
        The axes of a layer's output, in their order: the words of "image channel row column", "image token channel" or
        "image channel", such as "image row column channel" or "token image channel". A text applies to all layers, a
        dict to the layers that it names. None: in the order quoted first, by the number of axes.
    preprocess : callable, optional
        From a batch `(n, 3, row, column)` in [0, 1] to the input of the network; runs on the CPU. None: no change.
    batch_size : int, optional
        Images per forward pass.
    device : "cpu", "cuda" or None, optional
        None is a GPU if there is one. The model is moved there, and back afterwards.
    cache : folder, optional
        Stores every finished batch, so that a rerun after an interruption continues where it stopped. A batch is
        identified by the preprocessed images and by everything that defines the network: weights, code, attributes and
        hooks of every module, layers, settings, device and versions of packages. A network that contains an object
        without identifiable content (a random generator, an open file) is not cached, and a warning says so.

    Returns
    -------
    DataArray (stimulus, unit)
        Activations as float32, in the network's own units ("a.u."). Units are named `layer/channel`
        (`layer/channel/row/column` for "all") and have the coords `layer` and `channel` (and `row`, `column`); stimuli
        keep the coords of the images. `attrs` name model, layers, position, layout (if given), device and the SHA-256
        of the weights.

    Raises
    ------
    TypeError
        Not a torch module, not images, or a layer whose output is not one real tensor.
    ValueError
        Unknown layer or setting; weights that are not loaded; a scripted or exported network; an error of the network
        or of `preprocess`; an output whose images are on another axis, or that has no such position; NaN or infinite
        activations (the message names the stimulus).

    Warns
    -----
    UserWarning
        An output that looks as if channels were on another axis; a layer that mixes the images of a batch; a cache that
        cannot be used or written.

    See Also
    --------
    load_images : Load the images to show to the network.
    compare : Compare the activations with recorded responses.

    Notes
    -----
    The axis of images is checked by running two of the first images again. Compiled networks (`torch.compile`) run
    uncompiled. For changes inside installed packages, the cache checks the version and the files that define the
    modules of the network; it does not detect functions replaced inside a package, such as
    `torch.nn.functional.relu`, that other code of the package calls.

    References
    ----------
    Klindt et al. 2023 (arXiv 2310.11431) use the centre pixel of each channel, in the code of the paper.

    Examples
    --------
    >>> from torch import nn
    >>> import numpy as np
    >>> from neurosuper import load_images
    >>> images = load_images(np.zeros((2, 8, 8, 3), np.uint8))
    >>> responses = activations(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images, "1", device="cpu")
    >>> responses.unit.values.tolist()
    ['1/0000', '1/0001', '1/0002', '1/0003']
    """
    images, layers = check_images(images), [layers] if isinstance(layers, str) else list(layers)
    _check_settings(images, layers, position, batch_size)
    check_network(model, layers)
    axes, target, weights = read_layouts(layout, layers), pick_device(device), weights_sha256(named_tensors(model))
    about = {"model": type(model).__name__, "layers": ", ".join(layers), "position": position, "device": str(target)}
    if axes:
        about["layout"] = "; ".join(f"{layer}: {' '.join(names)}" for layer, names in axes.items())
    stored = None if cache is None else _open_cache(Path(cache), model, about, weights)
    stimuli, n_stimuli, result = images.stimulus.values, images.sizes["stimulus"], None
    logger.info("activations of %s (%s) to %s images", about["model"], about["layers"], f"{n_stimuli:,}")
    with (
        _moved(model, target),
        tap_layers(model, layers) as outputs,
        progress(total=n_stimuli, desc="activations", unit="image", delay=0) as bar,
    ):
        reader = _Reader(partial(run_layers, model, layers, outputs), position, axes, target)
        for start in range(0, n_stimuli, batch_size):
            rows = slice(start, start + batch_size)
            batch = preprocess_images(_to_tensor(images[rows].values), preprocess)
            run = partial(reader.units_of, batch, stimuli[rows])
            units = run() if stored is None else stored.recall(batch, run)
            if result is None:  # the first batch shows how many units each layer has
                shapes = [layer_units.shape[1:] for layer_units in units]
                result = np.empty((n_stimuli, sum(map(_size, shapes))), np.float32)
            _fill(result[rows], units, shapes, layers)
            del units  # before the next batch runs, so that only one batch is in memory
            bar.update(len(batch))
    return xr.DataArray(
        result,
        dims=("stimulus", "unit"),
        coords=coords_along(images, "stimulus") | _unit_coords(layers, shapes),
        name="response",
        attrs={"units": "a.u.", "modality": "network"} | about | {"weights_sha256": weights},
    )


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
    with _moved(control, torch.device("cpu")), torch.random.fork_rng(devices=[]), torch.no_grad():
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


def _check_settings(images: xr.DataArray, layers: list[str], position: object, batch_size: object) -> None:
    if not images.sizes["stimulus"]:
        raise ValueError("images contain no stimulus; pass at least one image")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be one or more names, each once, got {layers}")
    if position not in get_args(Position):
        raise ValueError(f"position must be one of {', '.join(map(repr, get_args(Position)))}, got {position!r}")
    check_count("batch_size", batch_size)


def _open_cache(folder: Path, model: nn.Module, about: dict[str, str], weights: str) -> BatchCache | None:
    """Return the cache of this network, layers and settings; warn and return None if it has no fingerprint."""
    parts = {"format": FORMAT, "settings": about, "weights": weights, "model": model}
    try:
        with evaluating(model):
            return BatchCache(folder, fingerprint(parts, named_tensors(model)))
    except IndescribableError as error:
        warnings.warn(f"activations are not cached: {error}", UserWarning, stacklevel=3)
        return None


@contextmanager
def _moved(model: nn.Module, target: torch.device) -> Iterator[None]:
    """Move the model to a device, and back to its own device on leaving."""
    devices = {tensor.device for _, tensor in named_tensors(model)}
    if len(devices) > 1:
        raise ValueError(f"the model is on several devices ({', '.join(sorted(map(str, devices)))}); move it to one")
    try:
        model.to(target)
        yield
    finally:
        for device in devices:
            model.to(device)


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 images (n, row, column, 3) as (n, 3, row, column) in [0, 1]."""
    return torch.from_numpy(np.moveaxis(pixels, 3, 1).astype(np.float32, order="C")) / 255


class _Reader:
    """Runs batches through a network and returns the units of its layers; checks the axes with the first batch."""

    def __init__(
        self,
        run: Callable[[torch.Tensor], dict[str, torch.Tensor]],
        position: Position,
        axes: dict[str, list[str]],
        target: torch.device,
    ) -> None:
        self.run, self.position, self.axes, self.target = run, position, axes, target
        self.checked = False

    def units_of(self, batch: torch.Tensor, stimuli: np.ndarray) -> list[np.ndarray]:
        """Return the units of each layer, (n, channel) or (n, channel, row, column)."""
        batch = batch.to(self.target)
        outputs = self.run(batch)
        if not self.checked:
            check_axes(self.run, batch, outputs, self.axes)
            self.checked = True
        ordered = {layer: images_first(layer, output, self.axes.get(layer)) for layer, output in outputs.items()}
        return [_pick_units(layer, output, self.position, stimuli) for layer, output in ordered.items()]


def _pick_units(layer: str, output: torch.Tensor, position: Position, stimuli: np.ndarray) -> np.ndarray:
    if output.ndim not in (2, 3, 4) or len(output) != len(stimuli):
        raise ValueError(
            f"layer {layer!r} gives shape {tuple(output.shape)} for {len(stimuli)} images; choose one that gives "
            "(n, channel), (n, token, channel) or (n, channel, row, column)"
        )
    if output.ndim == 3 and position == "center":
        raise ValueError(f"layer {layer!r} gives tokens, which have no centre; use position='mean' or 'all'")
    units = _as_maps(output)
    if position == "center":
        units = units[:, :, units.shape[2] // 2, units.shape[3] // 2]
    # `contiguous` copies the chosen pixels, so that the map itself can be freed.
    units = units.float().mean(dim=(2, 3)) if position == "mean" else units.float().contiguous()
    if not units.isfinite().all():
        finite = units.isfinite().flatten(1).all(dim=1).cpu().numpy()
        raise ValueError(
            f"layer {layer!r} gives NaN or infinite activations for {(~finite).sum()} of {len(stimuli)} images of a "
            f"batch, such as stimulus {stimuli[~finite][0]!s}; check that image, the weights and preprocess"
        )
    return units.cpu().numpy()


def _as_maps(output: torch.Tensor) -> torch.Tensor:
    """Return a vector, tokens or a map as (n, channel, row, column)."""
    if output.ndim == 2:
        return output[:, :, None, None]
    return output.transpose(1, 2).unsqueeze(3) if output.ndim == 3 else output


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _fill(rows: np.ndarray, units: list[np.ndarray], shapes: list[tuple[int, ...]], layers: list[str]) -> None:
    """Write the units of all layers side by side into rows (n, unit)."""
    stop = 0
    for layer, values, shape in zip(layers, units, shapes, strict=True):
        if values.shape[1:] != shape:
            raise ValueError(
                f"layer {layer!r} gives units of shape {values.shape[1:]} for one batch and {shape} for the first; "
                "preprocess must give every image the same size"
            )
        start, stop = stop, stop + _size(shape)
        rows[:, start:stop] = values.reshape(len(values), -1)


def _unit_coords(layers: list[str], shapes: list[tuple[int, ...]]) -> dict[str, object]:
    """Return labels and coords of the units of each layer, of shape (channel,) or (channel, row, column)."""
    indices = [np.indices(shape).reshape(len(shape), -1) for shape in shapes]
    names = [layer for layer, index in zip(layers, indices, strict=True) for _ in index.T]
    index = np.concatenate(indices, axis=1)
    labels = [
        "/".join([layer, f"{channel:04d}", *map(str, pixel)])
        for layer, (channel, *pixel) in zip(names, index.T.tolist(), strict=True)
    ]
    numbers = zip(("channel", "row", "column"), index, strict=False)
    return {"unit": labels, "layer": ("unit", names), **{name: ("unit", values) for name, values in numbers}}
