"""Activations: what a network's layers answer to images, as responses `(stimulus, unit)`."""

from __future__ import annotations

import hashlib
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
from tqdm import tqdm

from neurosuper._batch_cache import BatchCache
from neurosuper._checks import check_count
from neurosuper._fingerprint import IndescribableError, content_of, fingerprint
from neurosuper._layouts import Layout, check_axes, images_first, read_layouts
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

__all__ = ["activations"]

Position = Literal["center", "mean", "all"]
FORMAT = 2  # of what is kept; another one wherever the same network would give other activations


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
    """Show images to a network and return the activations of its layers as responses.

    Parameters
    ----------
    model : torch.nn.Module
        Takes `(n, 3, row, column)`, float32. It runs in eval mode and without gradients, and is left as it was.
    images : DataArray (stimulus, row, column, channel)
        uint8 RGB, in memory or dask, of which one batch is read at a time; see `load_images`.
    layers : str or list of str
        Names as in `model.named_modules()`. A layer that runs several times in a pass gives its last output.
    position : {"center", "mean", "all"}, optional
        What of a map `(n, channel, row, column)` is a unit: the pixel `[row // 2, column // 2]` of each channel, the
        mean over the map, or every pixel. Of tokens `(n, token, channel)`: their mean, or each one (`row` is the token,
        `column` 0). A vector `(n, channel)` is a map of one pixel: one unit a channel, whatever the position.
    layout : str or dict of str, optional
        The axes of a layer's output, in their order: the words of "image channel row column", "image token channel" or
        "image channel", such as "image row column channel" or "token image channel". A text is for all layers, a dict
        for those that it names. None: as quoted here, by the number of axes.
    preprocess : callable, optional
        From a batch `(n, 3, row, column)` in [0, 1] to what the network takes; runs on the CPU. None: as it is.
    batch_size : int, optional
        Images a forward pass.
    device : "cpu", "cuda" or None, optional
        None is a GPU if there is one. The model is moved there, and back.
    cache : folder, optional
        Keeps every finished batch, so that a rerun after an interruption goes on where it stopped. A batch is found
        again by the preprocessed images and by all that the network is: weights, code, attributes and hooks of every
        part, layers, settings, device and versions of packages. A network that holds what cannot be told apart (a
        random generator, an open file) is not cached, and a warning says so.

    Returns
    -------
    DataArray (stimulus, unit)
        float32, in the network's own units ("a.u."). Units are called `layer/channel` (`layer/channel/row/column` for
        "all") and carry `layer` and `channel` (and `row`, `column`); stimuli keep the coords of the images. `attrs`
        name model, layers, position, layout (where given), device and the SHA-256 of the weights.

    Warns
    -----
    UserWarning
        An output that looks as if channels were on another axis; a layer that mixes the images of a batch; a cache that
        cannot be used or written.

    Raises
    ------
    TypeError
        Not a torch module, not images, or a layer whose output is not one real tensor.
    ValueError
        Unknown layer or setting; weights that are not loaded; a scripted or exported network; an error of the network
        or of `preprocess`; an output whose images are on another axis, or that has no such position; NaN or infinite
        activations, whose stimulus is named.

    Notes
    -----
    Which axis counts images is tried by showing two of the first images once more. Compiled networks
    (`torch.compile`) run uncompiled. Of changes inside installed packages, the cache sees the version and the files
    that define the parts of the network; it does not see functions replaced inside a package, such as
    `torch.nn.functional.relu`, that other code of the package calls.

    References
    ----------
    The centre pixel is the choice of Klindt et al. 2023 (arXiv 2310.11431), in the code of the paper.

    Examples
    --------
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
    axes, place, weights = read_layouts(layout, layers), pick_device(device), _hash_weights(model)
    about = {"model": type(model).__name__, "layers": ", ".join(layers), "position": position, "device": str(place)}
    if axes:
        about["layout"] = "; ".join(f"{layer}: {' '.join(names)}" for layer, names in axes.items())
    kept = None if cache is None else _open_cache(Path(cache), model, about, weights)
    stimuli, n_stimuli, result = images.stimulus.values, images.sizes["stimulus"], None
    with (
        _moved(model, place),
        tap_layers(model, layers) as outputs,
        tqdm(total=n_stimuli, desc="activations", unit="image") as bar,
    ):
        reader = _Reader(partial(run_layers, model, layers, outputs), position, axes, place)
        for start in range(0, n_stimuli, batch_size):
            some = slice(start, start + batch_size)
            batch = preprocess_images(_to_tensor(images[some].values), preprocess)
            run = partial(reader.units_of, batch, stimuli[some])
            parts = run() if kept is None else kept.recall(batch, run)
            if result is None:
                shapes = [part.shape[1:] for part in parts]
                result = np.empty((n_stimuli, sum(map(_size, shapes))), np.float32)
            _fill(result[some], parts, shapes, layers)
            del parts
            bar.update(len(batch))
    return xr.DataArray(
        result,
        dims=("stimulus", "unit"),
        coords=coords_along(images, "stimulus") | _unit_coords(layers, shapes),
        name="response",
        attrs={"units": "a.u.", "modality": "network"} | about | {"weights_sha256": weights},
    )


def _check_settings(images: xr.DataArray, layers: list[str], position: object, batch_size: object) -> None:
    if not images.sizes["stimulus"]:
        raise ValueError("images hold no stimulus; nothing to show to the network")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be one or more names, each once, got {layers}")
    if position not in get_args(Position):
        raise ValueError(f"position must be one of {', '.join(map(repr, get_args(Position)))}, got {position!r}")
    check_count("batch_size", batch_size)


def _open_cache(folder: Path, model: nn.Module, about: dict[str, str], weights: str) -> BatchCache | None:
    """Return the cache of this network, layers and settings; None, with a warning, where it cannot be told apart."""
    parts = {"format": FORMAT, "settings": about, "weights": weights, "model": model}
    try:
        with evaluating(model):
            return BatchCache(folder, fingerprint(parts, named_tensors(model)))
    except IndescribableError as error:
        warnings.warn(f"activations are not cached: {error}", UserWarning, stacklevel=3)
        return None


@contextmanager
def _moved(model: nn.Module, place: torch.device) -> Iterator[None]:
    """Keep the model on a device for a while, then move it back to where it was."""
    homes = {tensor.device for _, tensor in named_tensors(model)}
    if len(homes) > 1:
        raise ValueError(f"the model lies on several devices ({', '.join(sorted(map(str, homes)))}); move it to one")
    try:
        model.to(place)
        yield
    finally:
        for home in homes:
            model.to(home)


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """Return uint8 images (n, row, column, 3) as (n, 3, row, column) in [0, 1]."""
    return torch.from_numpy(np.moveaxis(pixels, 3, 1).astype(np.float32, order="C")) / 255


class _Reader:
    """Runs batches through a network and returns the units of its layers; the first batch tells which axis is which."""

    def __init__(
        self,
        run: Callable[[torch.Tensor], dict[str, torch.Tensor]],
        position: Position,
        axes: dict[str, list[str]],
        place: torch.device,
    ) -> None:
        self.run, self.position, self.axes, self.place = run, position, axes, place
        self.checked = False

    def units_of(self, batch: torch.Tensor, stimuli: np.ndarray) -> list[np.ndarray]:
        """Return the units of each layer, (n, channel) or (n, channel, row, column)."""
        batch = batch.to(self.place)
        outputs = self.run(batch)
        if not self.checked:
            check_axes(self.run, batch, outputs, self.axes)
            self.checked = True
        first = {layer: images_first(layer, output, self.axes.get(layer)) for layer, output in outputs.items()}
        return [_pick_units(layer, output, self.position, stimuli) for layer, output in first.items()]


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
    units = units.float().mean(dim=(2, 3)) if position == "mean" else units.float().contiguous()  # lets the map go
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


def _fill(rows: np.ndarray, parts: list[np.ndarray], shapes: list[tuple[int, ...]], layers: list[str]) -> None:
    """Write the units of all layers side by side into rows (n, unit)."""
    stop = 0
    for layer, part, shape in zip(layers, parts, shapes, strict=True):
        if part.shape[1:] != shape:
            raise ValueError(
                f"layer {layer!r} gives units of shape {part.shape[1:]} for one batch and {shape} for the first; "
                "preprocess must give every image the same size"
            )
        start, stop = stop, stop + _size(shape)
        rows[:, start:stop] = part.reshape(len(part), -1)


def _unit_coords(layers: list[str], shapes: list[tuple[int, ...]]) -> dict[str, object]:
    """Label the units of each layer, of shape (channel,) or (channel, row, column)."""
    where = [np.indices(shape).reshape(len(shape), -1) for shape in shapes]
    names = [layer for layer, index in zip(layers, where, strict=True) for _ in index.T]
    index = np.concatenate(where, axis=1)
    labels = [
        "/".join([layer, f"{channel:04d}", *map(str, pixel)])
        for layer, (channel, *pixel) in zip(names, index.T.tolist(), strict=True)
    ]
    numbers = zip(("channel", "row", "column"), index, strict=False)
    return {"unit": labels, "layer": ("unit", names), **{name: ("unit", values) for name, values in numbers}}


def _hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of the names, shapes, dtypes and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in named_tensors(model):
        for text in (name, f"{tuple(tensor.shape)} {tensor.dtype}"):
            digest.update(f"{len(text)}:{text}".encode())
        digest.update(content_of(tensor).data)
    return digest.hexdigest()
