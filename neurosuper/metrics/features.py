"""Feature distance: how far two images are apart to a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from neurosuper._torch import pick_device, tap_layers
from neurosuper.metrics.base import Images, pixels
from neurosuper.metrics.fingerprint import fingerprint_of, parts_of

__all__ = ["Features"]


class Features:
    """Cosine distance, 1 − cosine, between the features of two images in one layer of any network.

    Parameters
    ----------
    model : torch.nn.Module
        Run in eval mode and moved to the device.
    layer : str
        Name of a submodule, as in `model.named_modules()`; its whole output is the feature vector.
    preprocess : callable, optional
        From images (image, 3, row, column) in [0, 1] to what the model takes; None: as they are.
    name : str, optional
        None is `"features:<layer>"`; give another where two networks share a layer name.
    device : str or torch.device, optional
        None is the GPU if there is one.

    Notes
    -----
    Embeddings have length 1/√2, so that their squared distance is 1 − cosine.

    Examples
    --------
    >>> red_and_blue = torch.zeros(2, 3, 2, 2)
    >>> red_and_blue[0, 0] = red_and_blue[1, 2] = 1
    >>> model = nn.Sequential(nn.AvgPool2d(2), nn.ReLU())
    >>> red, blue = Features(model, "0", device="cpu").embed(red_and_blue)
    >>> round((red - blue).square().sum().item(), 4)
    1.0
    """

    squared = True
    self_similarity = 0.0
    batch_size = 32

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        preprocess: Callable[[torch.Tensor], torch.Tensor] | None = None,
        name: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.model = model
        self.layer = layer
        self.preprocess = preprocess
        self.name = f"features:{layer}" if name is None else name
        self.quantity = f"cosine distance in {layer}"
        self.device = device

    def __repr__(self) -> str:
        return f"Features({type(self.model).__name__}, {self.layer!r}, name={self.name!r}, device={self.device!r})"

    def embed(self, images: Images) -> torch.Tensor:
        """Return the features of each image, of length 1/√2.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            uint8 where labelled (see `load_images`), else floating point in [0, 1].

        Returns
        -------
        Tensor (image, feature)
            float32.

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range; no such layer, or one that does not give one tensor per image;
            features that are all zero or not finite, whose cosine is undefined.
        """
        features = self._run(pixels(images, "cpu")).flatten(1).float()
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        undefined = int((~((length > 0) & length.isfinite())).sum())
        if undefined:
            raise ValueError(
                f"{undefined} of {len(features)} images have all-zero or non-finite features in {self.layer!r}, whose "
                "cosine is undefined; choose another layer or check preprocess"
            )
        return features / (length * 2**0.5)

    def fingerprint(self) -> str:
        """Return what tells these embeddings from others (see `cached`).

        Of the model: its class, modules, their settings and weights; then the layer, the name, and what `preprocess` is
        called (with settings and weights where it is a module). What the code of `preprocess` and `forward` does is not
        seen: give another `name` when it changes.

        Returns
        -------
        str
        """
        preprocess = [] if self.preprocess is None else parts_of(self.preprocess)
        return fingerprint_of("Features", self.layer, self.name, *parts_of(self.model), "preprocess", *preprocess)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layer gives for each image."""
        place = pick_device(self.device)
        model = self.model.to(place)
        with tap_layers(model, [self.layer]) as outputs:
            model((x if self.preprocess is None else self.preprocess(x)).to(place))
        output = outputs.get(self.layer)
        if output is None or output.ndim < 2 or len(output) != len(x):
            got = "nothing" if output is None else f"an output of shape {tuple(output.shape)}"
            raise ValueError(
                f"layer {self.layer!r} gave {got}, not (image, …) for {len(x)} images; choose a layer that runs in the "
                "forward pass and keeps images first"
            )
        return output
