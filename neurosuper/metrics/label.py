"""Label agreement: whether two images have the same label."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
import xarray as xr

from neurosuper._torch import pick_device
from neurosuper.images import check_images
from neurosuper.metrics.base import ImageMetric, Images
from neurosuper.responses import name_some

__all__ = ["Label"]


@dataclass(eq=False)
class Label(ImageMetric):
    """Label agreement: 1 if two images have the same label, else 0 (Klindt et al. 2023); pixels are not read.

    Parameters
    ----------
    coord : str, optional
        The stimulus coord of the images with the labels.
    device : str or torch.device, optional
        None is the GPU if there is one.

    See Also
    --------
    neurosuper.load_images : `category_from` adds the labels.
    Precomputed : distances from a matrix.

    Notes
    -----
    The embedding is one-hot over the labels present, divided by √2, so that the squared distance is 0 or 1 and
    1 − distance is the agreement. All stimuli must therefore be embedded in one call.

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper.images import load_images
    >>> images = load_images(np.zeros((3, 2, 2, 3), np.uint8), category_from={"0": "cat", "1": "dog", "2": "cat"})
    >>> first, second, third = Label(device="cpu").embed(images)
    >>> [round(1 - (first - other).square().sum().item(), 4) for other in (second, third)]
    [0.0, 1.0]
    """

    coord: str = "category"
    _: KW_ONLY
    device: str | torch.device | None = None

    quantity = "label agreement"
    squared = True
    self_similarity = 1.0
    batch_size = None

    @property
    def name(self) -> str:
        """`"label"`, followed by the coord if it is not `"category"`."""
        return "label" if self.coord == "category" else f"label:{self.coord}"

    def embed(self, images: Images) -> torch.Tensor:
        """Return the label of each image, one-hot / √2.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel)
            With the stimulus coord `coord`.

        Returns
        -------
        Tensor (stimulus, label)
            In float32; labels in sorted order.

        Raises
        ------
        TypeError
            Images without labels (a tensor or ndarray).
        ValueError
            No such stimulus coord, or stimuli without a label, which are named.
        """
        labels, codes = np.unique(self._read(images), return_inverse=True)
        one_hot = torch.eye(len(labels), device=pick_device(self.device)) / 2**0.5
        return one_hot[torch.from_numpy(codes)]

    def _read(self, images: Images) -> np.ndarray:
        """Return the label of every stimulus, as strings."""
        remedy = f"add it with load_images(…, category_from=…) or .assign_coords({self.coord}=('stimulus', labels))"
        if not isinstance(images, xr.DataArray):
            raise TypeError(f"{self!r} needs an images DataArray, got {type(images).__name__}; see load_images")
        images = check_images(images)
        if self.coord not in images.coords or images[self.coord].dims != ("stimulus",):
            raise ValueError(f"images have no stimulus coord {self.coord!r}; {remedy}")
        labels = images[self.coord]
        names = labels.values.astype(str)
        missing = labels.isnull().values | (np.char.strip(names) == "")
        if missing.any():
            raise ValueError(f"no {self.coord} for stimulus {name_some(images.stimulus.values[missing])}; {remedy}")
        return names
