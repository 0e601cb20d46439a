"""Low-level statistics of images, which explain part of what drives units, and of the index of their top stimuli.

Y (image, row, column) luminance, 0–1. P(f) radially averaged power spectrum at spatial frequency f.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper.images import check_images
from neurosuper.metrics import ImageMetric, Pixel, Precomputed
from neurosuper.metrics.distances import open_distances
from neurosuper.responses import coords_along

BATCH_BYTES = 2**24  # bytes of luminance in float64 at once (16 MiB); transforms of it need some ten times as much
REC_709 = np.array([0.2126, 0.7152, 0.0722])  # weights of red, green, blue
MIN_PIXELS = 16  # rows and columns: fewer leave too few frequencies for a slope
FIRST_RING = 3  # cycles per image: a Hann window spreads the mean and slow gradients over the first two
LABELS = {  # variable: long name, units
    "luminance": ("mean luminance (Rec. 709, stored values)", "0–1"),
    "rms_contrast": ("RMS contrast: standard deviation of luminance", "0–1"),
    "saturation": ("mean saturation (HSV)", "0–1"),
    "edge_energy": ("mean gradient magnitude of luminance", "1/pixel"),
    "spectral_slope": ("slope of log power against log spatial frequency", "1"),
    "entropy": ("entropy of the luminance histogram (256 bins)", "bits"),
}


def image_statistics(images: xr.DataArray, *, metric: ImageMetric | Precomputed | None = None) -> xr.Dataset:
    """Return low-level statistics of every image, such as its luminance, contrast and plainness.

    A unit or direction whose top stimuli are merely plain or dark images has a high interpretability index without any
    feature: plain images resemble all images. These statistics show that (see `explained_by`).

    Parameters
    ----------
    images : DataArray (stimulus, row, column, channel)
        See `load_images`; at least 16 × 16 pixels. They are read in batches.
    metric : ImageMetric or Precomputed, optional
        Metric of `plainness`; None is `Pixel()`. Pass the metric of the index to be explained, such as `LPIPS()`.

    Returns
    -------
    Dataset (stimulus,)
        With the coords of the images; each variable has the attrs `long_name` and `units`.

        - `luminance`: mean over pixels of Y = 0.2126 R + 0.7152 G + 0.0722 B (Rec. 709), 0–1, of the stored values
          (with their gamma, so near to perceived lightness), not of linear light.
        - `rms_contrast`: standard deviation of Y over pixels (Peli 1990).
        - `saturation`: mean over pixels of HSV saturation, (max − min)/max of R, G, B; 0 for grey and black.
        - `edge_energy`: mean over pixels of the length of the gradient of Y, by central differences, per pixel.
        - `spectral_slope`: slope of log power against log frequency, by least squares over rings that are one cycle
          per image wide, from 3 cycles per image to the last below the Nyquist frequency of the shorter side. Power is
          that of Y less its mean in a Hann window, averaged over each ring. Natural images have about −2; NaN for an
          image of constant luminance.
        - `entropy`: Shannon entropy of the histogram of Y in 256 bins, in bits: 0–8.
        - `plainness`: minus the mean distance to all other images, in the unit of the metric (for `Label`: mean
          agreement). The index of a set of images contains their mean plainness.

    Raises
    ------
    TypeError, ValueError
        Not images, fewer than two, or fewer than 16 × 16 pixels.

    See Also
    --------
    explained_by : The share of codes that these statistics explain.
    interpretability_index : The index.

    Notes
    -----
    Memory, in addition to the images, is below about 1 GiB for any number of images (0.5 GiB for 10,000 of 64 × 64
    pixels with `Pixel`): the matrix of all distances is never stored. Plainness by a squared distance, such as `LPIPS`,
    takes little longer than embedding the images; by another, such as `Pixel`, it computes all pairs.

    References
    ----------
    Peli 1990, "Contrast in complex images". Field 1987, "Relations between the statistics of natural images and the
    response properties of cortical cells".

    Examples
    --------
    >>> import numpy as np
    >>> from neurosuper import load_images
    >>> noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    >>> statistics = image_statistics(load_images(noise))
    >>> statistics.luminance.values.round(1).tolist(), statistics.entropy.values.round().tolist()
    ([0.5, 0.5], [8.0, 8.0])
    """
    images = check_images(images)
    n, rows, columns = (images.sizes[dim] for dim in ("stimulus", "row", "column"))
    if n < 2 or min(rows, columns) < MIN_PIXELS:
        raise ValueError(
            f"image_statistics needs at least two images of at least {MIN_PIXELS} × {MIN_PIXELS} pixels, got {n} of "
            f"{rows} × {columns}; load more or larger ones (see load_images)"
        )
    size = max(1, BATCH_BYTES // (8 * rows * columns))
    batches = [_statistics(images[start : start + size].values) for start in range(0, n, size)]
    variables = {
        name: ("stimulus", np.concatenate([batch[name] for batch in batches]), {"long_name": long, "units": units})
        for name, (long, units) in LABELS.items()
    }
    metric = Pixel() if metric is None else metric
    # −h_i = −Σ_{j≠i} d_ij / (n − 1), or the mean agreement
    with open_distances(images, np.arange(n), metric) as distances:
        to_others = distances.weighted_sums(np.ones((n, 1)))[:, 0]
    plainness = metric.self_similarity - to_others / (n - 1)
    quantity = metric.quantity if metric.self_similarity else f"minus the mean {metric.quantity}"
    about = {"long_name": f"plainness: {quantity}, to all other images", "units": "1", "metric": metric.name}
    variables["plainness"] = ("stimulus", plainness, about)
    return xr.Dataset(variables, coords=coords_along(images, "stimulus"), attrs={"metric": metric.name})


def _statistics(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Return the statistics of a batch of images (image, row, column, channel), uint8."""
    high, low = rgb.max(3).astype(float), rgb.min(3)
    Y = rgb @ (REC_709 / 255)
    gradients = np.gradient(Y, axis=(1, 2))
    return {
        "luminance": Y.mean((1, 2)),
        "rms_contrast": Y.std((1, 2)),
        "saturation": ((high - low) / np.maximum(high, 1)).mean((1, 2)),  # a black pixel, 0/1, is not saturated
        "edge_energy": np.hypot(*gradients).mean((1, 2)),
        "spectral_slope": _spectral_slopes(Y),
        "entropy": np.array([_entropy(luminance) for luminance in Y]),
    }


def _entropy(Y: np.ndarray) -> float:
    # −Σ p log₂ p over bins that are not empty
    counts = np.bincount(np.rint(Y * 255).astype(int).ravel(), minlength=256)
    p = counts[counts > 0] / Y.size
    return float(-(p * np.log2(p)).sum()) + 0.0


def _spectral_slopes(Y: np.ndarray) -> np.ndarray:
    """Return the slope of log P(f) on log f of each image; NaN for constant luminance."""
    _, n_rows, n_columns = Y.shape
    window = np.hanning(n_rows + 1)[:-1, None] * np.hanning(n_columns + 1)[:-1]
    mean = (Y * window).sum((1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.rfft2((Y - mean) * window)) ** 2
    # Rings of one cycle per image (of its shorter side): f in cycles per pixel, times that side, rounded.
    side = min(n_rows, n_columns)
    f = np.hypot(np.fft.fftfreq(n_rows)[:, None], np.fft.rfftfreq(n_columns)) * side
    ring = np.rint(f).astype(int).ravel()
    # rfft2 has one of each pair of conjugate frequencies: all but those of its first and last column count twice.
    twice = np.full(power.shape[1:], 2.0)
    twice[:, 0] = 1
    if n_columns % 2 == 0:
        twice[:, -1] = 1
    rings = np.arange(FIRST_RING, side // 2)
    weights = (ring == rings[:, None]) * twice.ravel()
    P = power.reshape(len(Y), -1) @ (weights / weights.sum(1, keepdims=True)).T
    x = np.log(rings) - np.log(rings).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.log(P) @ (x / (x**2).sum())
    return np.where(np.ptp(Y, axis=(1, 2)) > 1e-12, slopes, np.nan)
