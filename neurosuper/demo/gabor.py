"""A fixed bank of Gabor energy filters, as an image metric without learned weights."""

from __future__ import annotations

import math

import torch
from torch import nn


class GaborEnergy(nn.Module):
    """Energy of local orientation at a few spatial frequencies, on luminance.

    Parameters
    ----------
    wavelengths : tuple of float, optional
        Pixels per cycle.
    n_orientations : int, optional
        Evenly spaced over 180°.
    grid : int, optional
        The layer `energy` averages each map over a grid × grid array of patches.

    See Also
    --------
    neurosuper.Features : Image metric from a layer of a network.

    References
    ----------
    Adelson and Bergen 1985, doi 10.1364/JOSAA.2.000284.

    Examples
    --------
    >>> import torch
    >>> GaborEnergy()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 16, 4, 4])
    """

    even: torch.Tensor
    odd: torch.Tensor

    def __init__(self, wavelengths: tuple[float, ...] = (4.0, 8.0), n_orientations: int = 8, grid: int = 4) -> None:
        super().__init__()
        angles = [math.pi * i / n_orientations for i in range(n_orientations)]
        pairs = [_quadrature_pair(wave, angle) for wave in wavelengths for angle in angles]
        self.register_buffer("even", torch.stack([even for even, _ in pairs])[:, None])
        self.register_buffer("odd", torch.stack([odd for _, odd in pairs])[:, None])
        self.energy = nn.AdaptiveAvgPool2d(grid)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return energies (image, filter, row, column) of images (image, 3, row, column) in [0, 1]."""
        luminance = nn.functional.pad(images.mean(1, keepdim=True), [self.even.shape[-1] // 2] * 4, mode="reflect")
        # Energy = √(even² + odd²) of a quadrature pair: independent of the phase of a grating.
        even, odd = (nn.functional.conv2d(luminance, bank) for bank in (self.even, self.odd))
        return self.energy((even**2 + odd**2).sqrt())


def _quadrature_pair(wavelength: float, angle: float, size: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a cosine and a sine Gabor (row, column) of unit norm; neither responds to uniform luminance."""
    y, x = torch.meshgrid(*[torch.arange(size) - size // 2.0] * 2, indexing="ij")
    phase = 2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
    envelope = torch.exp(-(x**2 + y**2) / (2 * (wavelength / 2) ** 2))
    even, odd = torch.cos(phase) * envelope, torch.sin(phase) * envelope
    # The cosine has a mean; without it, both filters give 0 for uniform luminance.
    even = even - envelope * even.sum() / envelope.sum()
    return even / even.norm(), odd / odd.norm()
