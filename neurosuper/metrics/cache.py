"""A cache of embeddings: each image is embedded once ever."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
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

FORMAT = "2"  # of a cache; another one wherever embeddings of the same metric change
Stored = Literal["float16", "float32"]


@runtime_checkable
class _Fingerprinted(ImageMetric, Protocol):
    """A metric that says what tells its embeddings from others."""

    def fingerprint(self) -> str: ...


def cached(metric: ImageMetric, folder: str | Path, *, dtype: Stored = "float16") -> Cached:
    """Return the same metric, which keeps the embedding of every image in a folder and embeds none twice.

    Embeddings are found by what the metric is (its name, fingerprint and weights) and by the pixels of an image, not by
    its label: subsets, other orders and other stacks reuse them, in this process or a later one. Every batch is kept as
    soon as it is embedded, so an interrupted run goes on where it stopped. What is damaged on disk is told in a warning
    and embedded again. A folder that cannot be written to is read from, with a warning, and so is one that is full. A
    metric that cannot be told from others (its fingerprint raises `ValueError`) is not cached, with a warning.

    Parameters
    ----------
    metric : ImageMetric
        `LPIPS`, `Features`, `Pixel`, `Color`, or any object with `embed` and a method `fingerprint() -> str` that
        changes whenever embeddings would. Its embedding of an image must depend on the pixels alone. It is
        fingerprinted at the first `embed`: a network that learns on afterwards needs a new `cached`.
    folder : str or Path
        Holds one zarr array for each metric and image size, `<name>-<key>`. May be shared by several metrics and by
        several processes: they write in turns, and images that both lack are embedded by both.
    dtype : {"float16", "float32"}, optional
        What is kept: for LPIPS (AlexNet) of 112 × 112 pixels, 220 or 440 KB an image before compression. What `embed`
        returns is rounded alike whether it was kept or just made.

    Returns
    -------
    Cached
        A metric with the name, quantity and batch size of the one given.

    Raises
    ------
    TypeError
        A metric without fingerprint, or one that has nothing to keep (`Label`, `Precomputed`).
    ValueError
        Another dtype, or a folder that is a file; when embedding, values too large for float16.
    ImportError
        zarr is not installed.

    Notes
    -----
    float16 rounds each feature to 1 part in 2,000. Measured on ImageNet photographs of 64 to 224 pixels a side, this
    changes LPIPS (AlexNet) by at most 1 part in 10,000, single layers of it by 1.5; between near-copies (noise of ±2 of
    255) by 3 parts in 1,000, single layers by 5. Rows made on a GPU are given to a CPU too, and the other way round.

    Examples
    --------
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
    """A metric whose embeddings are kept in a folder; `cached` makes it and describes it.

    Parameters
    ----------
    metric : ImageMetric
    folder : str or Path
    dtype : {"float16", "float32"}, optional

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
        """That of the metric."""
        return self.metric.name

    @property
    def quantity(self) -> str:
        """That of the metric."""
        return self.metric.quantity

    @property
    def squared(self) -> bool:
        """That of the metric."""
        return self.metric.squared

    @property
    def self_similarity(self) -> float:
        """That of the metric."""
        return self.metric.self_similarity

    @property
    def batch_size(self) -> int | None:
        """That of the metric."""
        return self.metric.batch_size

    def embed(self, images: Images) -> torch.Tensor:
        """Return the embedding of each image, from the folder where it is there.

        Parameters
        ----------
        images : DataArray (stimulus, row, column, channel), or tensor or ndarray (image, 3, row, column)
            uint8 where labelled (see `load_images`), else floating point in [0, 1].

        Returns
        -------
        Tensor (image, feature)
            float32, rounded to the dtype that is kept.

        Raises
        ------
        TypeError, ValueError
            Images of another kind, shape or range; whatever the metric refuses; values too large for float16.
        """
        if isinstance(images, xr.DataArray):
            images = check_images(images).compute()
        values = pixels(images, "cpu")
        keys = [digest(np.ascontiguousarray(image).data) for image in values.numpy()]
        store = self._store(tuple(values.shape[2:]))
        rows = {} if store is None else store.read(keys)
        missing = {key: place for place, key in enumerate(keys) if key not in rows}
        for batch in _batches_of(list(missing), self.batch_size):
            embedded = self._round(self.metric.embed(images[[missing[key] for key in batch]]))
            self._write(store, batch, embedded)
            rows |= zip(batch, embedded, strict=True)
        embedding = torch.stack([torch.from_numpy(rows[key]) for key in keys])
        return embedding.to(pick_device(getattr(self.metric, "device", None))).float()

    def _write(self, store: RowStore | None, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Keep rows; where that fails for the first time, say so, and keep no more."""
        if store is None or not self._writable:
            return
        try:
            store.write(keys, rows)
        except OSError as error:
            self._writable = False
            _warn(
                f"embeddings of {self.name} are not kept: cannot write to {self.folder} ({error.strerror or error}); "
                "what is there is used, the rest is embedded again by the next run"
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
        """Return the store of images of this size (rows, columns); None where the metric is not cached."""
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
    """Return the metric, or say why its embeddings cannot be kept."""
    if isinstance(metric, Label | Precomputed | Cached):
        raise TypeError(f"{metric!r} has nothing to keep in a cache; use it as it is")
    if not isinstance(metric, _Fingerprinted):
        raise TypeError(
            f"{type(metric).__name__} has no fingerprint, by which a cache tells its embeddings from others; give it a "
            "method fingerprint() that returns a str which changes whenever its embeddings would"
        )
    return metric


def _batches_of(keys: Sequence[bytes], size: int | None) -> Iterator[Sequence[bytes]]:
    step = size or max(1, len(keys))
    return (keys[start : start + step] for start in range(0, len(keys), step))


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)
