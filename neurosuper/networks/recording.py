"""Activations of network layers as responses `(stimulus, unit)`."""

from __future__ import annotations

import logging
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader, Dataset

from neurosuper._batch_cache import BatchCache
from neurosuper._checks import check_count
from neurosuper._fingerprint import IndescribableError, fingerprint, weights_sha256
from neurosuper._layer_outputs import check_network, run_layers, tap_layers
from neurosuper._layouts import Layout, check_axes, images_first, read_layouts
from neurosuper._optional import require
from neurosuper._preprocessing import Preprocess
from neurosuper._progress import progress
from neurosuper._torch import evaluating, moved, named_tensors, pick_device
from neurosuper.networks.batches import ImageBatches
from neurosuper.networks.named import load_network
from neurosuper.networks.tables import InMemory, OnDisk, Table, locked
from neurosuper.networks.units import OWN_OUTPUT, Position, check_position, pick_units

__all__ = ["activations"]

logger = logging.getLogger(__name__)

FORMAT = 3  # of stored activations; increase it when the same network would give other ones


def activations(
    model: nn.Module | str,
    images: xr.DataArray | Dataset | DataLoader,
    layers: str | Sequence[str],
    *,
    position: Position = "center",
    layout: Layout = None,
    preprocess: Preprocess | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    store: str | Path | None = None,
) -> xr.DataArray:
    """Return the activations of network layers for images, as responses.

    Parameters
    ----------
    model : torch.nn.Module or str
        Takes `(n, 3, row, column)`, float32. It runs in eval mode and without gradients; its mode and device are
        restored afterwards. A name such as "timm:vit_small_patch16_224", "torchvision:resnet18",
        "open_clip:ViT-B-32:openai" or "hub:owner/repository:name" loads a trained network; see `load_network`.
    images : DataArray (stimulus, row, column, channel), Dataset or DataLoader
        RGB images of type uint8, in memory or dask, read one batch at a time; see `load_images`. Or a
        `torch.utils.data.Dataset` or a `DataLoader` that does not shuffle, of images of PIL, arrays of uint8 or tensors
        (3, row, column), or of tuples that begin with one; their stimuli are named by their position.
    layers : str or list of str
        Names as in `model.named_modules()`; "" is the output of the network itself, whose units have the layer
        "output". Of an output that contains several tensors, `layer:0` or `layer:name` is one of them, and
        `layer:hidden_states:3` one inside another. A layer that runs several times in a pass gives its last output;
        `layer#0` is its first one.
    position : {"center", "mean", "all", "cls"} or int, optional
        Which values of a map `(n, channel, row, column)` become units: for each channel the pixel
        `[row // 2, column // 2]`, the mean over the map, or every pixel. For tokens `(n, token, channel)`: their mean,
        each token (`row` is the token, `column` is 0), the class token ("cls", token 0), or the token of a number. A
        vector `(n, channel)` gives one unit per channel for each of these settings.
    layout : str or dict of str, optional
        The axes of a layer's output, in their order: the words of "image channel row column", "image token channel" or
        "image channel", such as "image row column channel" or "token image channel". A text applies to all layers, a
        dict to the layers that it names. None: in the order quoted first, by the number of axes.
    preprocess : callable, optional
        From a batch `(n, 3, row, column)` in [0, 1] to the input of the network, or, if it fails on that, from one
        image of PIL to one input (channel, row, column), as the transforms of torchvision; runs on the CPU. None: no
        change; for a network by name, its own transform.
    batch_size : int, optional
        Images per forward pass; a loader has its own.
    device : "cpu", "cuda", "mps" or None, optional
        None is a CUDA GPU if there is one. The model is moved there, and back afterwards.
    cache : folder, optional
        Stores every finished batch, so that a rerun after an interruption continues where it stopped. A batch is
        identified by the preprocessed images and by everything that defines the network: weights, code, attributes and
        hooks of every module, layers, settings, device and versions of packages. A network that contains an object
        without identifiable content (a random generator, an open file) is not cached, and a warning says so.
    store : folder "….zarr", optional
        For activations that do not fit in memory: writes them to this zarr folder (needs the extra `zarr`), and returns
        an array that reads it lazily. The folder is complete or not there: an interrupted run leaves `….zarr.part`,
        and the same call continues where it stopped. If the folder is complete, the same call only checks that it
        contains these activations. Batches are identified as in a cache.

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
        Unknown network, layer or setting; weights that are not loaded; a scripted or exported network; an error of the
        network, of the dataset or of `preprocess`; an output whose images are on another axis, or that has no such
        position; NaN or infinite activations (the message names the stimulus); a store with other activations.
    ImportError
        A collection of networks, or zarr for `store`, is not installed.

    Warns
    -----
    UserWarning
        An output that looks as if channels were on another axis; a layer that mixes the images of a batch; a cache that
        cannot be used or written.

    See Also
    --------
    load_images : Load the images to show to the network.
    neurosuper.networks.load_network : Load a network by name, to see the names of its layers.
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
    layers = [layers] if isinstance(layers, str) else list(layers)
    _check_settings(layers, position, batch_size)
    if cache is not None and store is not None:
        raise ValueError("pass cache= or store=, not both: an interrupted store continues by itself")
    name = model if isinstance(model, str) else type(model).__name__
    if isinstance(model, str):
        model, preprocess = _load(model, preprocess)
    check_network(model, layers)
    batches, axes = ImageBatches(images, batch_size, preprocess), read_layouts(layout, layers)
    target, weights = pick_device(device, mps=True), weights_sha256(named_tensors(model))
    about: dict[str, object] = {"model": name, "layers": ", ".join(layers), "position": position, "device": str(target)}
    if axes:
        about["layout"] = "; ".join(f"{layer}: {' '.join(names)}" for layer, names in axes.items())
    attrs: dict[str, object] = {"units": "a.u.", "modality": "network"} | about | {"weights_sha256": weights}
    cached = None if cache is None else _open_cache(Path(cache).expanduser(), model, about, weights)
    logger.info("activations of %s (%s) to %s images", name, about["layers"], batches.n_images or "all")
    with (
        _open_table(store, model, about, layers, batches, attrs) as table,
        moved(model, target),
        tap_layers(model, layers) as outputs,
        progress(total=batches.n_images, desc="activations", unit="image", delay=0) as bar,
    ):
        reader = _Reader(partial(run_layers, model, layers, outputs), position, axes, target)
        for batch in batches:
            stimuli = batches.labels(table.n_rows, table.n_rows + len(batch))
            run = partial(reader.units_of, batch, stimuli)
            table.add(batch, run if cached is None else partial(cached.recall, batch, run))
            bar.update(len(batch))
        return table.finish()


def _check_settings(layers: list[str], position: object, batch_size: object) -> None:
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be one or more names, each once, got {layers}")
    if {"", OWN_OUTPUT} <= set(layers):
        raise ValueError(
            f"units of the network's own output, '', and of {OWN_OUTPUT!r} have the same name; ask for one"
        )
    check_position(position)
    check_count("batch_size", batch_size)


def _load(name: str, preprocess: Preprocess | None) -> tuple[nn.Module, Preprocess]:
    """Return a network by its name, and how it takes images."""
    model, own = load_network(name)
    if preprocess is None and own is None:
        raise ValueError(
            f"the network {name!r} comes without a transform of images; pass preprocess=, such as one of "
            "torchvision.transforms that resizes and normalises as its authors do"
        )
    return model, preprocess or own  # type: ignore[return-value]


def _identify(model: nn.Module, about: dict[str, object], weights: str, coords: object = None) -> str:
    """Return a fingerprint of everything that the activations depend on, except the pixels of the images."""
    parts = {"format": FORMAT, "settings": about, "weights": weights, "model": model, "coords": coords}
    with evaluating(model):
        return fingerprint(parts, named_tensors(model))


def _open_cache(folder: Path, model: nn.Module, about: dict[str, object], weights: str) -> BatchCache | None:
    """Return the cache of this network, layers and settings; warn and return None if it has no fingerprint."""
    try:
        return BatchCache(folder, _identify(model, about, weights))
    except IndescribableError as error:
        warnings.warn(f"activations are not cached: {error}", UserWarning, stacklevel=3)
        return None


@contextmanager
def _open_table(
    store: str | Path | None,
    model: nn.Module,
    about: dict[str, object],
    layers: list[str],
    batches: ImageBatches,
    attrs: dict[str, object],
) -> Iterator[Table]:
    """Give the table to fill, which no other process writes meanwhile."""
    if store is None:
        yield InMemory(layers, batches.n_images, batches.coords, attrs)
        return
    folder = Path(store).expanduser()
    if folder.suffix != ".zarr":
        raise ValueError(f"store must be a folder with the ending .zarr, got {str(store)!r}")
    require("zarr", "zarr")
    if batches.n_images is None:
        raise ValueError("store= needs to know the number of images; pass a dataset that has a length")
    coords = {name: np.asarray(coord) for name, coord in batches.coords(batches.n_images).items()}
    try:
        identity = _identify(model, about, str(attrs["weights_sha256"]), coords)
    except IndescribableError as error:
        warnings.warn(f"an interrupted run cannot be continued: {error}", UserWarning, stacklevel=4)
        identity = uuid.uuid4().hex
    with locked(folder):
        yield OnDisk(folder, identity, layers, batches.n_images, batches.coords, attrs)


class _Reader:
    """Runs batches through a network and returns the units of its layers; checks the axes with the first batch."""

    def __init__(
        self,
        run: Callable[..., dict[str, torch.Tensor]],
        position: Position,
        axes: dict[str, list[str]],
        target: torch.device,
    ) -> None:
        self.run, self.position, self.axes, self.target = run, position, axes, target
        self.checked = False

    def units_of(self, batch: torch.Tensor, stimuli: np.ndarray) -> list[np.ndarray]:
        """Return the units of each layer, (n, channel) or (n, channel, row, column)."""
        batch = batch.to(self.target)
        outputs = self.run(batch, images=f" (images {stimuli[0]} to {stimuli[-1]})")
        if not self.checked:
            check_axes(self.run, batch, outputs, self.axes)
            self.checked = True
        square, units = batch.ndim == 4 and batch.shape[2] == batch.shape[3], []
        for layer in list(outputs):
            # Each output is freed before the next one is read.
            output = images_first(layer, outputs.pop(layer), self.axes.get(layer))
            units.append(pick_units(layer, output, self.position, stimuli, square=square))
        return units
