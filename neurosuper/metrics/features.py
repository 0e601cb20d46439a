"""Feature distance: the cosine distance between two images in the features of a network."""

from __future__ import annotations

from functools import partial

import torch
import xarray as xr
from torch import nn

from neurosuper._fingerprint import fingerprint
from neurosuper._layer_outputs import check_network, run_layers, tap_layers
from neurosuper._layouts import check_axes, images_first, read_layouts
from neurosuper._preprocessing import Preprocess, preprocess_images
from neurosuper._torch import evaluating, pick_device
from neurosuper.metrics.base import ImageMetric, Images, pixels

__all__ = ["Features"]


class Features(ImageMetric):
    """Cosine distance, 1 − cosine, between the features of two images in one layer of any network.

    Parameters
    ----------
    model : torch.nn.Module
        Moved to the device and run in eval mode.
    layer : str
        Name of a submodule, as for `activations`; its whole output is the feature vector.
    preprocess : callable, optional
        Converts images (image, 3, row, column) in [0, 1] to the input of the model, or, if it fails on that, one RGB
        image of PIL to one input; None: no conversion.
    name : str, optional
        None is `"features:<layer>"` ("features" for the output of the network); give another if two networks share a
        layer name.
    device : str or torch.device, optional
        None is the GPU if there is one.
    layout : str, optional
        The axes of the layer's output in their order, if images are not the first: such as "token image channel"
        (see `activations`). It is checked when images are first embedded.

    See Also
    --------
    neurosuper.activations : the responses of a network's layers to images.
    LPIPS : perceptual distance with learned weights.

    Notes
    -----
    Embeddings have length 1/√2, so their squared distance is 1 − cosine.

    Examples
    --------
    >>> from torch import nn
    >>> import torch
    >>> red_and_blue = torch.zeros(2, 3, 2, 2)
    >>> red_and_blue[0, 0] = red_and_blue[1, 2] = 1
    >>> model = nn.Sequential(nn.AvgPool2d(2), nn.ReLU())
    >>> red, blue = Features(model, "0", device="cpu").embed(red_and_blue)
    >>> round((red - blue).square().sum().item(), 4)
    1.0
    """

    name = "features"
    quantity = "cosine distance"
    squared = True
    self_similarity = 0.0
    batch_size = 32

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        *,
        preprocess: Preprocess | None = None,
        name: str | None = None,
        device: str | torch.device | None = None,
        layout: str | None = None,
    ) -> None:
        self.model = model
        self.layer = layer
        self.preprocess = preprocess
        self.name = f"features:{layer}".rstrip(":") if name is None else name
        self.quantity = f"cosine distance in {layer or 'the output'}"
        self.device = device
        self.layout = layout
        self._axes = read_layouts(layout, [layer])
        self._checked = False

    def __repr__(self) -> str:
        return f"Features({type(self.model).__name__}, {self.layer!r}, name={self.name!r}, device={self.device!r})"

    def embed(self, images: Images) -> torch.Tensor:
        """Return the features of each image, of length 1/√2.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            Labelled images are uint8 (see `load_images`), others floating point in [0, 1].

        Returns
        -------
        Tensor (image, feature)
            In float32.

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range; no such layer, or one that does not return one tensor per image;
            features that are all zero or not finite, so that the cosine is undefined.
        """
        features = self._run(pixels(images, "cpu")).flatten(1).float()
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        undefined = ~((length > 0) & length.isfinite()).flatten().cpu()
        if undefined.any():
            labels = images.stimulus.values if isinstance(images, xr.DataArray) else range(len(features))
            first = labels[int(undefined.nonzero()[0])]
            raise ValueError(
                f"{int(undefined.sum())} of {len(features)} images have all-zero or non-finite features in "
                f"{self.layer!r}, whose cosine is undefined, such as image {first}; choose another layer or check "
                "preprocess"
            )
        return features / (length * 2**0.5)  # ‖a − b‖² = ½ + ½ − 2 · ½ cosine = 1 − cosine

    def fingerprint(self) -> str:
        """Return the identity of these embeddings for `cached`.

        It covers the model and `preprocess` (weights, code, attributes and hooks of every part; closures, defaults and
        the globals that functions use; versions of packages), then layer, layout and name.

        Returns
        -------
        str
            Changes whenever the embeddings would.

        Raises
        ------
        ValueError
            The model or `preprocess` contains an object without a unique description, such as a random generator.
        """
        parts = {"layer": self.layer, "layout": self.layout, "name": self.name, "model": self.model}
        with evaluating(self.model):
            return fingerprint({"metric": "Features"} | parts | {"preprocess": self.preprocess})

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the layer for each image."""
        check_network(self.model, [self.layer])
        place = pick_device(self.device)
        model = self.model.to(place)
        with tap_layers(model, [self.layer]) as outputs:
            batch = preprocess_images(x, self.preprocess).to(place)
            run = partial(run_layers, model, [self.layer], outputs)
            found = run(batch)
            if not self._checked:
                check_axes(run, batch, found, self._axes)
                self._checked = True
        output = images_first(self.layer, found[self.layer], self._axes.get(self.layer))
        if output.ndim < 2 or len(output) != len(x):
            raise ValueError(
                f"layer {self.layer!r} returned an output of shape {tuple(output.shape)}, not (image, …) for {len(x)} "
                "images; choose a layer that keeps images first, or pass layout="
            )
        return output
