"""Color distance: the distance between the mean colors of two images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from neurosuper.metrics.base import ImageMetric, Images, pixels

__all__ = ["Color"]


@dataclass(eq=False, kw_only=True)
class Color(ImageMetric):
    """Euclidean distance between the mean RGB, in [0, 1], of two images (Klindt et al. 2023).

    Parameters
    ----------
    device : str or torch.device, optional
        None is the GPU if there is one.

    See Also
    --------
    Pixel : the distance between all pixels.
    LPIPS : perceptual distance.

    Examples
    --------
    >>> import torch
    >>> black_and_white = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    >>> black, white = Color(device="cpu").embed(black_and_white)
    >>> round(torch.dist(black, white).item(), 4)  # √3
    1.7321
    """

    device: str | torch.device | None = None

    name = "color"
    quantity = "color distance (mean RGB, 0–1)"
    squared = False
    self_similarity = 0.0
    batch_size = 64

    def embed(self, images: Images) -> torch.Tensor:
        """Return the mean color of each image.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            Labelled images are uint8 (see `load_images`), others floating point in [0, 1].

        Returns
        -------
        Tensor (image, 3)
            In float32 and [0, 1]: red, green, blue.

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range.
        """
        return pixels(images, self.device).mean((2, 3))

    def fingerprint(self) -> str:
        """Return the identity of these embeddings for `cached`: the same for all images and devices.

        Returns
        -------
        str
            Changes whenever the embeddings would.
        """
        return "color"
