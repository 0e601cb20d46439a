"""Activations: what a network's layers answer to images, as responses `(stimulus, unit)`."""

from __future__ import annotations

import hashlib
import os
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm import tqdm

from neurosuper._torch import pick_device, tap_layers
from neurosuper.images import check_images
from neurosuper.responses import coords_along

__all__ = ["activations"]

Position = Literal["center", "mean", "all"]
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def activations(
    model: nn.Module,
    images: xr.DataArray,
    layers: str | Sequence[str],
    *,
    position: Position = "center",
    preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
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
    preprocess : callable, optional
        From a batch `(n, 3, row, column)` in [0, 1] to what the network takes; runs on the CPU. None: as it is.
    batch_size : int, optional
        Images a forward pass.
    device : "cpu", "cuda" or None, optional
        None is a GPU if there is one. The model is moved there, and back.
    cache : folder, optional
        Keeps every finished batch, so that a rerun after an interruption goes on where it stopped. Files are named by a
        hash of weights, settings, device and preprocessed images; edits to the code of `forward` are not seen.

    Returns
    -------
    DataArray (stimulus, unit)
        float32, in the network's own units ("a.u."). Units are called `layer/channel` (`layer/channel/row/column` for
        "all") and carry `layer` and `channel` (and `row`, `column`); stimuli keep the coords of the images. `attrs`
        name model, layers, position, device and the SHA-256 of the weights.

    Notes
    -----
    Maps are taken to be channel-first and tokens image-first, as torch's own networks give them; of networks that keep
    channels last (Swin), permute in a wrapper, or choose another layer.

    Raises
    ------
    TypeError
        Not a torch module, not images, or a layer whose output is not one real tensor.
    ValueError
        Unknown layer or setting, an output that has no such position, or NaN or infinite activations.

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
    _check_settings(model, images, layers, position, batch_size)
    place, folder, weights = pick_device(device), _make_folder(cache), _hash_weights(model)
    recipe = repr([weights, _describe(model), layers, position, str(place)])
    n_stimuli, batches = images.sizes["stimulus"], []
    with (
        _moved(model, place),
        tap_layers(model, layers) as outputs,
        tqdm(total=n_stimuli, desc="activations", unit="image") as bar,
    ):
        for start in range(0, n_stimuli, batch_size):
            batch = _to_input(images[start : start + batch_size].values, preprocess)
            run = partial(_run, model, batch, outputs, layers, position, place)
            if folder is None:
                batches.append(run())
            else:
                batches.append(_recall(folder / f"{_hash(recipe, batch)}.npz", len(layers), run))
            bar.update(len(batch))
    attrs = {"units": "a.u.", "modality": "network", "model": type(model).__name__, "layers": ", ".join(layers)}
    return xr.DataArray(
        np.concatenate([_flatten(parts) for parts in batches]),
        dims=("stimulus", "unit"),
        coords=coords_along(images, "stimulus") | _unit_coords(layers, [part.shape[1:] for part in batches[0]]),
        name="response",
        attrs=attrs | {"position": position, "device": str(place), "weights_sha256": weights},
    )


def _check_settings(
    model: object, images: xr.DataArray, layers: list[str], position: object, batch_size: object
) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not images.sizes["stimulus"]:
        raise ValueError("images hold no stimulus; nothing to show to the network")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be one or more names, each once, got {layers}")
    if position not in get_args(Position):
        raise ValueError(f"position must be one of {', '.join(map(repr, get_args(Position)))}, got {position!r}")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size must be a positive int, got {batch_size!r}")


@contextmanager
def _moved(model: nn.Module, place: torch.device) -> Iterator[None]:
    """Keep the model on a device for a while, then move it back to where it was."""
    homes = {tensor.device for _, tensor in _named_tensors(model)}
    if len(homes) > 1:
        raise ValueError(f"the model lies on several devices ({', '.join(sorted(map(str, homes)))}); move it to one")
    try:
        model.to(place)
        yield
    finally:
        for home in homes:
            model.to(home)


def _named_tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _to_input(pixels: np.ndarray, preprocess: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
    """Return uint8 images (n, row, column, 3) as what the network takes."""
    images = torch.from_numpy(np.moveaxis(pixels, 3, 1).astype(np.float32, order="C")) / 255
    batch = images if preprocess is None else preprocess(images)
    if not isinstance(batch, torch.Tensor) or batch.shape[:1] != images.shape[:1]:
        got = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
        raise ValueError(f"preprocess must return a tensor of {len(images)} images, got {got}")
    return batch


def _run(
    model: nn.Module,
    batch: torch.Tensor,
    outputs: dict[str, torch.Tensor],
    layers: list[str],
    position: Position,
    place: torch.device,
) -> list[np.ndarray]:
    """Return the units of each layer, (n, channel) or (n, channel, row, column)."""
    outputs.clear()
    try:
        model(batch.to(place))
    except (RuntimeError, ValueError, IndexError, AttributeError) as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"{type(model).__name__} fails on a batch of shape {tuple(batch.shape)}, {batch.dtype}: {told}; check "
            "preprocess (size, channels, dtype)"
        ) from error
    if unused := [layer for layer in layers if layer not in outputs]:
        raise ValueError(f"layer {unused[0]!r} takes no part in the forward pass of {type(model).__name__}")
    return [_pick_units(layer, outputs[layer], position, len(batch)) for layer in layers]


def _pick_units(layer: str, output: torch.Tensor, position: Position, n_images: int) -> np.ndarray:
    if output.ndim not in (2, 3, 4) or len(output) != n_images:
        raise ValueError(
            f"layer {layer!r} gives shape {tuple(output.shape)} for {n_images} images; choose one that gives "
            "(n, channel), (n, token, channel) or (n, channel, row, column)"
        )
    if output.ndim == 3 and position == "center":
        raise ValueError(f"layer {layer!r} gives tokens, which have no centre; use position='mean' or 'all'")
    units = _as_maps(output)
    if position == "center":
        units = units[:, :, units.shape[2] // 2, units.shape[3] // 2]
    units = units.float().mean(dim=(2, 3)) if position == "mean" else units.float()
    if not units.isfinite().all():
        raise ValueError(f"layer {layer!r} gives NaN or infinite activations; check the weights and preprocess")
    return units.cpu().numpy()


def _as_maps(output: torch.Tensor) -> torch.Tensor:
    """Return a vector, tokens or a map as (n, channel, row, column)."""
    if output.ndim == 2:
        return output[:, :, None, None]
    return output.transpose(1, 2).unsqueeze(3) if output.ndim == 3 else output


def _flatten(parts: list[np.ndarray]) -> np.ndarray:
    """Set the units of all layers side by side, (n, unit)."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


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


def _describe(model: nn.Module) -> list[str]:
    """Return what makes a network beside its weights: its class, its parts and their plain settings."""
    kind = type(model)
    settings = [
        f"{name}.{key}={value!r}"
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str) and key != "training"
    ]
    return [f"{kind.__module__}.{kind.__qualname__}", str(model), *settings]


def _hash_weights(model: nn.Module) -> str:
    return _hash(*(part for named in _named_tensors(model) for part in named))


def _hash(*parts: str | torch.Tensor) -> str:
    """Return the SHA-256 of texts and tensors, shapes and dtypes included."""
    digest = hashlib.sha256()
    for part in parts:
        text = part if isinstance(part, str) else f"{tuple(part.shape)} {part.dtype}"
        digest.update(f"{len(text)}:{text}".encode())
        if isinstance(part, torch.Tensor):
            digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _make_folder(cache: str | Path | None) -> Path | None:
    if cache is None:
        return None
    folder = Path(cache)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"cache must be a folder, got the file {folder}; give another path")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _recall(path: Path, n_layers: int, run: Callable[[], list[np.ndarray]]) -> list[np.ndarray]:
    """Return the batch kept in a file; where there is none, or a damaged one, run the network and keep it."""
    kept = _read_batch(path, n_layers) if path.exists() else None
    if kept is None:
        kept = run()
        _write_batch(path, kept)
    return kept


def _read_batch(path: Path, n_layers: int) -> list[np.ndarray] | None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return [arrays[f"arr_{i}"] for i in range(n_layers)]
    except DAMAGED:
        return None


def _write_batch(path: Path, arrays: Iterable[np.ndarray]) -> None:
    """Write under another name first: a file that was cut short never has the final name."""
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, *arrays)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
