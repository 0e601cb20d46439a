"""A cache of embeddings on disk: each image is embedded only once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
import xarray as xr

from neurosuper._fingerprint import IndescribableError, fingerprint
from neurosuper._optional import require
from neurosuper._torch import pick_device
from neurosuper.images import check_images
from neurosuper.metrics.base import ImageMetric, Images, pixels
from neurosuper.metrics.label import Label
from neurosuper.metrics.precomputed import Precomputed
from neurosuper.metrics.store import RowStore, digest

__all__ = ["Cached", "cached"]

FORMAT = "2"  # version of the cache; to be raised when the embeddings of a metric change
Stored = Literal["float16", "float32"]


@runtime_checkable
class _Fingerprinted(ImageMetric, Protocol):
    """A metric that can identify its embeddings."""

    def fingerprint(self) -> str: ...


def cached(metric: ImageMetric, folder: str | Path, *, dtype: Stored = "float16") -> Cached:
    """Return the metric with a cache: it stores the embedding of every image in a folder and embeds no image twice.

    Embeddings are looked up by the identity of the metric (its name, fingerprint and weights) and by the pixels of an
    image, not by its label: subsets, other orders and other stacks reuse them, in this process or a later one. Each
    batch is stored as soon as it is embedded, so an interrupted run continues where it stopped. Damaged embeddings are
    computed again, with a warning. A folder that is full or cannot be written to is only read, with a warning. A metric
    that cannot be identified (its fingerprint raises `ValueError`) is not cached, with a warning.

    Parameters
    ----------
    metric : ImageMetric
        `LPIPS`, `Features`, `Pixel`, `Color`, or any object with `embed` and a method `fingerprint() -> str` that
        changes whenever embeddings would. Its embedding of an image must depend on the pixels only. The fingerprint is
        taken at the first `embed`: a network that is trained further afterwards needs a new `cached`.
    folder : str or Path
        Contains one zarr array per metric and image size, `<name>-<key>`. Several metrics and several processes may
        share it: processes write in turn, and an image that is missing in two of them is embedded by both.
    dtype : {"float16", "float32"}, optional
        Type of the stored numbers: for LPIPS (AlexNet) of 112 × 112 pixels, 220 or 440 KB per image before compression.
        `embed` returns the same rounded values for stored and for new embeddings.

    Returns
    -------
    Cached
        A metric with the name, quantity and batch size of the given one.

    Raises
    ------
    TypeError
        A metric without fingerprint, or one without embeddings worth storing (`Label`, `Precomputed`).
    ValueError
        Another dtype, or a folder that is a file; when embedding, values too large for float16.
    ImportError
        zarr is not installed.

    See Also
    --------
    LPIPS, Features : metrics whose embeddings are worth storing.
    neurosuper.run_study : `cache_embeddings` does this for a study.

    Notes
    -----
    float16 rounds each feature to 1 part in 2,000. Measured on ImageNet photographs of 64 to 224 pixels per side, this
    changes LPIPS (AlexNet) by at most 1 part in 10,000, and its single layers by 1.5; between near-copies (noise of ±2
    of 255) by 3 parts in 1,000, and single layers by 5. Embeddings computed on a GPU are also used on a CPU, and
    conversely.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.full((2, 4, 4, 3), 255, np.uint8))
    >>> metric = cached(Color(device="cpu"), tempfile.mkdtemp())
    >>> metric.embed(images).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    require("zarr", "zarr")
    return Cached(metric, folder, dtype=dtype)


class Cached(ImageMetric):
    """Metric whose embeddings are stored in a folder; `cached` returns it and describes it.

    Parameters
    ----------
    metric : ImageMetric
        As for `cached`.
    folder : str or Path
        As for `cached`.
    dtype : {"float16", "float32"}, optional
        Type of the stored numbers.

    See Also
    --------
    cached : returns this metric after checking that zarr is installed.

    Examples
    --------
    >>> from neurosuper import Color
    >>> Cached(Color(device="cpu"), "embeddings").name
    'color'
    """

    def __init__(self, metric: ImageMetric, folder: str | Path, *, dtype: Stored = "float16") -> None:
        self.metric = _check_metric(metric)
        self.folder, self.dtype = Path(folder), dtype
        if dtype not in get_args(Stored):
            raise ValueError(f"dtype must be one of {', '.join(map(repr, get_args(Stored)))}, got {dtype!r}")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"the cache must be a folder, got the file {folder}; give another path")
        self._fingerprint: str | None = None
        self._kept = self._writable = True
        self._stores: dict[tuple[int, ...], RowStore] = {}

    def __repr__(self) -> str:
        return f"Cached({self.metric!r}, {str(self.folder)!r}, dtype={self.dtype!r})"

    @property
    def name(self) -> str:
        """The same as of the metric."""
        return self.metric.name

    @property
    def quantity(self) -> str:
        """The same as of the metric."""
        return self.metric.quantity

    @property
    def squared(self) -> bool:
        """The same as of the metric."""
        return self.metric.squared

    @property
    def self_similarity(self) -> float:
        """The same as of the metric."""
        return self.metric.self_similarity

    @property
    def batch_size(self) -> int | None:
        """The same as of the metric."""
        return self.metric.batch_size

    def embed(self, images: Images) -> torch.Tensor:
        """Return the embedding of each image, read from the folder if it is stored there.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            Labelled images are uint8 (see `load_images`), others floating point in [0, 1].

        Returns
        -------
        Tensor (image, feature)
            In float32, rounded to the stored dtype.

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range; errors of the metric itself; values too large for float16.
        """
        if isinstance(images, xr.DataArray):
            images = check_images(images).compute()
        values = pixels(images, "cpu")
        keys = [digest(np.ascontiguousarray(image).data) for image in values.numpy()]
        store = self._store(tuple(values.shape[2:]))
        rows = {} if store is None else store.read(keys)
        missing = {key: place for place, key in enumerate(keys) if key not in rows}
        new, step = list(missing), self.batch_size or max(1, len(missing))
        for start in range(0, len(new), step):
            batch = new[start : start + step]
            embedded = self._round(self.metric.embed(images[[missing[key] for key in batch]]))
            self._write(store, batch, embedded)
            rows |= zip(batch, embedded, strict=True)
        embedding = torch.stack([torch.from_numpy(rows[key]) for key in keys])
        return embedding.to(pick_device(getattr(self.metric, "device", None))).float()

    def _write(self, store: RowStore | None, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Store rows; when this fails for the first time, warn and store no more."""
        if store is None or not self._writable:
            return
        try:
            store.write(keys, rows)
        except OSError as error:
            self._writable = False
            _warn(
                f"embeddings of {self.name} are not stored: cannot write to {self.folder} ({error.strerror or error}); "
                "stored ones are used, the others are embedded again by the next run"
            )

    def _round(self, embedding: torch.Tensor) -> np.ndarray:
        kept = embedding.to(getattr(torch, self.dtype))
        if (too_large := embedding[kept.isinf() & embedding.isfinite()]).numel():
            raise ValueError(
                f"embeddings of {self.name} reach {too_large.abs().max().item():.3g}, too large for {self.dtype}; use "
                "cached(…, dtype='float32')"
            )
        return kept.cpu().numpy()

    def _store(self, size: tuple[int, ...]) -> RowStore | None:
        """Return the store for images of this size (rows, columns); None if the metric is not cached."""
        if self._fingerprint is None and self._kept:
            kind = f"{type(self.metric).__module__}.{type(self.metric).__qualname__}"
            parts = {"format": FORMAT, "kind": kind, "name": self.name, "dtype": self.dtype}
            try:
                self._fingerprint = fingerprint(parts | {"fingerprint": self.metric.fingerprint()})
            except IndescribableError as error:
                self._kept = False
                _warn(f"embeddings of {self.name} are not cached: {error}")
        if self._fingerprint is None:
            return None
        if size not in self._stores:
            slug = re.sub("[^A-Za-z0-9]+", "-", self.name).strip("-")
            key = fingerprint({"metric": self._fingerprint, "size": size})[:16]
            about = {"metric": self.name, "quantity": self.quantity, "image_size": "{} × {} pixels".format(*size)}
            self._stores[size] = RowStore(self.folder / f"{slug}-{key}", self.dtype, about)
        return self._stores[size]


def _check_metric(metric: ImageMetric) -> _Fingerprinted:
    """Return the metric, or raise an error that says why its embeddings cannot be stored."""
    if isinstance(metric, Label | Precomputed | Cached):
        raise TypeError(f"{metric!r} has no embeddings to store in a cache; use it without one")
    if not isinstance(metric, _Fingerprinted):
        raise TypeError(
            f"{type(metric).__name__} has no fingerprint, by which a cache identifies its embeddings; give it a method "
            "fingerprint() that returns a str which changes whenever its embeddings would"
        )
    return metric


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
