"""LPIPS as a squared Euclidean distance between embeddings of single images.

LPIPS(a, b) = Σ_layers ‖√(w/HW)·f̂(a) − √(w/HW)·f̂(b)‖². Here f̂ are the features of a trunk, scaled to unit length over
channels at each position, H × W is the number of positions of a layer, and w ≥ 0 are its learned channel weights (Zhang
et al. 2018, eq. 1; version 0.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, NamedTuple, cast
from urllib.request import Request, urlopen
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn

from neurosuper._fingerprint import fingerprint
from neurosuper._layer_outputs import tap_layers
from neurosuper._optional import require
from neurosuper._torch import pick_device
from neurosuper.metrics.base import ImageMetric, Images, pixels
from neurosuper.responses import name_some

__all__ = ["LPIPS", "fetch_trunk", "hub_file"]

Net = Literal["alex", "vgg", "squeeze"]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # mean and s.d. of RGB in [−1, 1], as in lpips 0.1
EPS = 1e-10  # added to the length of feature vectors, as in lpips 0.1, so that silent positions are not divided by 0
UNREADABLE = (OSError, ValueError, LookupError, EOFError, RuntimeError, AttributeError, BadZipFile, UnpicklingError)


class _Trunk(NamedTuple):
    title: str
    architecture: str  # in torchvision.models
    layers: tuple[str, ...]  # ReLUs (or the Fire modules that end in one); the last one ends the trunk
    smallest: int  # pixels per side


TRUNKS = {
    "alex": _Trunk("AlexNet", "alexnet", ("1", "4", "7", "9", "11"), 31),
    "vgg": _Trunk("VGG-16", "vgg16", ("3", "8", "15", "22", "29"), 16),
    "squeeze": _Trunk("SqueezeNet", "squeezenet1_1", ("1", "4", "7", "9", "10", "11", "12"), 17),
}


@dataclass(eq=False)
class LPIPS(ImageMetric):
    """Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1: a distance, 0 for equal images.

    Values are those of `lpips.LPIPS(net=net, version="0.1")`, whose channel weights are used.

    Parameters
    ----------
    net : {"alex", "vgg", "squeeze"}, optional
        The trunk: AlexNet, VGG-16 or SqueezeNet 1.1.
    weights : str or Path, optional
        The trunk's weights: a torchvision state dict (.pth), or an .npz file of `conv{i}.weight` and `conv{i}.bias` for
        the i-th convolution, counted from the input. None: torchvision's weights (ImageNet) in torch's hub folder,
        where they are downloaded once.
    layer : int, optional
        A single layer, from 1 at the input to 5 (7 for SqueezeNet); later layers are neither read nor run. None: the
        sum over all layers.
    device : str or torch.device, optional
        None is the GPU if there is one.

    Raises
    ------
    ValueError
        Another `net`, or a layer that it does not have.
    ImportError
        lpips or torchvision is not installed: `pip install 'neurosuper[lpips]'`.

    See Also
    --------
    Features : cosine distance in a layer of any network.
    Pixel : the distance between pixels.
    neurosuper.metrics.cached : keep embeddings on disk.

    Notes
    -----
    The network is read when images are first embedded. On a GPU, convolutions follow
    `torch.backends.cudnn.allow_tf32`, which is True by default in torch; set it to False for the precision of the CPU.

    References
    ----------
    Zhang, Isola, Efros, Shechtman, Wang 2018, "The unreasonable effectiveness of deep features as a perceptual
    metric", arXiv 1801.03924.

    Examples
    --------
    >>> metric = LPIPS("squeeze", device="cpu")
    >>> metric.name, metric.quantity
    ('LPIPS-squeeze', 'LPIPS distance (SqueezeNet)')
    >>> LPIPS("alex", layer=3, device="cpu").name
    'LPIPS-alex layer 3'
    """

    net: Net = "alex"
    _: KW_ONLY
    weights: str | Path | None = None
    layer: int | None = None
    device: str | torch.device | None = None

    squared = True
    self_similarity = 0.0
    batch_size = 64

    def __post_init__(self) -> None:
        n_layers = len(_trunk_of(self.net).layers)
        for package in ("torchvision", "lpips"):
            require(package, "lpips")
        if self.layer is not None and (
            isinstance(self.layer, bool | float) or self.layer not in range(1, n_layers + 1)
        ):
            raise ValueError(
                f"layer of {self.net!r} must be a number from 1 to {n_layers}, or None for all, got {self.layer!r}"
            )

    @property
    def name(self) -> str:
        """`"LPIPS-<net>"`, followed by the layer if it is a single one."""
        return f"LPIPS-{self.net}" + ("" if self.layer is None else f" layer {self.layer}")

    @property
    def quantity(self) -> str:
        """The measured quantity, as text for an axis label."""
        layer = "" if self.layer is None else f", layer {self.layer}"
        return f"LPIPS distance ({_trunk_of(self.net).title}{layer})"

    def embed(self, images: Images) -> torch.Tensor:
        """Return the weighted features of each image, in all layers or in the single one.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            Labelled images are uint8 (see `load_images`), others floating point in [0, 1]. They are scaled as LPIPS
            needs them.

        Returns
        -------
        Tensor (image, feature)
            In float32. About 110,000 features for AlexNet and images of 112 × 112 pixels, in proportion to the area.

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range, or too small for the whole trunk; weights that do not fit it.
        FileNotFoundError
            No file at `weights`, or no weights in the hub folder and the download failed.
        """
        x = pixels(images, self.device)
        smallest = _trunk_of(self.net).smallest
        if min(x.shape[2:]) < smallest:
            raise ValueError(
                f"{self.name} needs at least {smallest} × {smallest} pixels, got {x.shape[2]} × {x.shape[3]}; "
                "load the images larger with load_images(…, size=…)"
            )
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        x = (2 * x - 1 - shift) / scale  # from [0, 1] to [−1, 1], then standardised
        with tap_layers(self._network, self._layers) as features:
            self._network(x.to_mkldnn() if next(self._network.parameters()).is_mkldnn else x)
        return _weigh([features[layer].to_dense() for layer in self._layers], self._channel_weights)

    def fingerprint(self) -> str:
        """Return the identity of these embeddings for `cached`: net, layer, and all weights, which are read.

        Returns
        -------
        str
            Changes whenever the embeddings would.
        """
        weights = [*(w.to_dense() for w in self._network.state_dict().values()), *self._channel_weights]
        return fingerprint({"metric": "LPIPS", "net": self.net, "layer": self.layer, "weights": weights})

    @property
    def _numbers(self) -> range:
        """The layers used, counted from 0."""
        return range(len(_trunk_of(self.net).layers)) if self.layer is None else range(self.layer - 1, self.layer)

    @property
    def _layers(self) -> list[str]:
        """The layers used, by their names in the trunk."""
        return [_trunk_of(self.net).layers[i] for i in self._numbers]

    @cached_property
    def _network(self) -> nn.Sequential:
        """The trunk with its weights, up to the last layer used, on the device; on a CPU in the layout of oneDNN."""
        trunk = _trunk_of(self.net)
        with torch.device("meta"):  # allocates and draws no random weights
            model = require("torchvision.models", "lpips").get_model(trunk.architecture, weights=None)
        network = cast(nn.Sequential, model.features)[: int(self._layers[-1]) + 1]
        path = fetch_trunk(self.net) if self.weights is None else Path(self.weights)
        state, device = _read_trunk(path, network, trunk.architecture), pick_device(self.device)
        # oneDNN's layout spares reordering between layers, if each layer of the trunk takes it
        takes_blocked = all(isinstance(layer, nn.Conv2d | nn.ReLU | nn.MaxPool2d) for layer in network)
        blocked = device.type == "cpu" and torch.backends.mkldnn.is_available() and takes_blocked
        state = {name: w.to_mkldnn() if blocked else w.to(device) for name, w in state.items()}
        network.load_state_dict(state, assign=True)
        return network.requires_grad_(False)

    @cached_property
    def _channel_weights(self) -> list[torch.Tensor]:
        """The learned weight of each channel, for each layer used."""
        file = resources.files("lpips") / "weights" / "v0.1" / f"{self.net}.pth"
        with file.open("rb") as stream:
            stored = torch.load(stream, map_location=pick_device(self.device), weights_only=True)
        weights = [stored[f"lin{i}.model.1.weight"] for i in self._numbers]
        if any((w < 0).any() for w in weights):
            raise ValueError(f"{file} contains negative weights, so LPIPS is not a distance; reinstall lpips 0.1.4")
        return weights


def hub_file(net: Net) -> Path:
    """Return the path of a trunk's pretrained weights in torch's hub folder, even if the file does not exist.

    Parameters
    ----------
    net : {"alex", "vgg", "squeeze"}
        The trunk: AlexNet, VGG-16 or SqueezeNet 1.1.

    Returns
    -------
    Path
        In the folder `checkpoints` of `torch.hub.get_dir()`.

    Raises
    ------
    ValueError
        Another `net`.
    ImportError
        torchvision is not installed: `pip install 'neurosuper[lpips]'`.

    See Also
    --------
    LPIPS : the metric that reads these weights.

    Examples
    --------
    >>> hub_file("alex").name
    'alexnet-owt-7be5be79.pth'
    """
    return Path(torch.hub.get_dir(), "checkpoints", Path(_url(net)).name)


def _trunk_of(net: str) -> _Trunk:
    if net not in TRUNKS:
        raise ValueError(f"net must be one of {', '.join(map(repr, TRUNKS))}, got {net!r}")
    return TRUNKS[net]


def _weigh(features: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
    """Return √(w/HW)·f̂ of all layers as (image, feature), for weights (1, channel, 1, 1); see the module."""
    sizes = [layer[0].numel() for layer in features]
    weighted = features[0].new_empty(len(features[0]), sum(sizes))
    for layer, w, part in zip(features, weights, weighted.split(sizes, dim=1), strict=True):
        out = part.unflatten(1, layer.shape[1:])
        # ‖f‖ over channels, with `out` as workspace
        length = torch.mul(layer, layer, out=out).sum(1, keepdim=True).sqrt()
        # √(w/HW) f / ‖f‖
        torch.mul(layer, (w / layer[0, 0].numel()).sqrt(), out=out).div_(length + EPS)
    return weighted


def _url(net: str) -> str:
    models = require("torchvision.models", "lpips")
    return models.get_model_weights(_trunk_of(net).architecture).DEFAULT.url


def fetch_trunk(net: Net, *, timeout: float | None = None) -> Path:
    """Return the path of a trunk's pretrained weights, after downloading and verifying them if necessary.

    Parameters
    ----------
    net : {"alex", "vgg", "squeeze"}
        The trunk: AlexNet (233 MB), VGG-16 (528 MB) or SqueezeNet 1.1 (5 MB).
    timeout : float, optional
        Seconds that the server has to respond before the download begins; None: no limit.

    Returns
    -------
    Path
        As `hub_file` gives it.

    Raises
    ------
    ValueError
        Another `net`.
    FileNotFoundError
        The weights are not in the hub folder, and the download failed.
    ImportError
        torchvision is not installed: `pip install 'neurosuper[lpips]'`.

    See Also
    --------
    LPIPS : the metric that reads these weights.

    Examples
    --------
    >>> fetch_trunk("squeeze", timeout=5)  # doctest: +SKIP
    """
    path, url = hub_file(net), _url(net)
    if path.is_file():
        return path
    try:
        if timeout is not None:  # torch's download has no limit of its own
            urlopen(Request(url, method="HEAD"), timeout=timeout).close()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rpartition("-")[2])
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"no LPIPS weights: {path.name} is not in {path.parent}, and downloading {url} failed ({error}); fetch it "
            f"elsewhere, then put it there or pass LPIPS({net!r}, weights=path)"
        ) from error
    return path


def _read_trunk(path: Path, network: nn.Sequential, architecture: str) -> dict[str, torch.Tensor]:
    """Return the state dict of a trunk from a file, checked key by key."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}; pass a state dict of torchvision's {architecture}, or None")
    stored = _read_file(path)
    state = {}
    for key, expected in network.state_dict().items():
        name = _conv_name(network, key) if path.suffix == ".npz" else f"features.{key}"
        remedy = f"pass weights of torchvision's {architecture}"
        if name not in stored:
            raise ValueError(f"no weight {name!r} in {path}, which has {name_some(list(stored))}; {remedy}")
        if stored[name].shape != expected.shape:
            shapes = f"{tuple(stored[name].shape)}, not {tuple(expected.shape)}"
            raise ValueError(f"weight {name!r} in {path} has shape {shapes}; {remedy}")
        state[key] = stored[name].float()
        if not state[key].isfinite().all():
            raise ValueError(f"weight {name!r} in {path} is not finite; {remedy}")
    return state


def _conv_name(network: nn.Sequential, key: str) -> str:
    """Return the name in an .npz file of a trunk's parameter: "3.weight" of AlexNet is "conv1.weight"."""
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    module, _, parameter = key.rpartition(".")
    return f"conv{convolutions.index(module)}.{parameter}"


def _read_file(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        if path.suffix == ".npz":
            with path.open("rb") as stream, np.load(stream) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays}
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value for name, value in stored.items() if isinstance(value, torch.Tensor)}
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is not a readable weights file ({type(error).__name__}); it may be cut short, fetch it again"
        ) from error
