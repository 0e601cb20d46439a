"""Pixel distance: the Euclidean distance between the pixels of two images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neurosuper.metrics.base import ImageMetric, Images, pixels

__all__ = ["Pixel"]


@dataclass(eq=False, kw_only=True)
class Pixel(ImageMetric):
    """Euclidean (L2) distance between all RGB values, in [0, 1], of two images (Klindt et al. 2023).

    Parameters
    ----------
    device : str or torch.device, optional
        None is the GPU if there is one.

    See Also
    --------
    Color : the distance between mean colors.
    LPIPS : perceptual distance.

    Examples
    --------
    >>> import torch
    >>> black_and_white = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    >>> black, white = Pixel(device="cpu").embed(black_and_white)
    >>> round(torch.dist(black, white).item(), 4)  # √(2 · 2 · 3)
    3.4641
    """

    device: str | torch.device | None = None

    name = "pixel"
    quantity = "pixel distance (RGB, 0–1)"
    squared = False
    self_similarity = 0.0
    batch_size = 64

    def embed(self, images: Images) -> torch.Tensor:
        """Return the pixels of each image.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            Labelled images are uint8 (see `load_images`), others floating point in [0, 1].

        Returns
        -------
        Tensor (image, feature)
            In float32 and [0, 1].

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range.
        """
        return pixels(images, self.device).flatten(1)

    def fingerprint(self) -> str:
        """Return the identity of these embeddings for `cached`: the same for all images and devices.

        Returns
        -------
        str
            Changes whenever the embeddings would.
        """
        return "pixel"
