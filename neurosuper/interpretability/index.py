"""The interpretability index (Klindt et al. 2023): how alike are the images that drive a unit or direction most.

E (image, feature) embeddings of the images under a metric. For a metric that is a squared Euclidean distance, the mean
over the pairs of M images is 2 / (M (M − 1)) · (M Σ‖e‖² − ‖Σ e‖²): no pair is ever formed.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import torch
import xarray as xr
from tqdm import tqdm

from neurosuper.images import check_images
from neurosuper.interpretability.top_stimuli import check_codes, top_stimuli
from neurosuper.metrics import ImageMetric
from neurosuper.responses import align, name_some, require_varying

SLAB_BYTES = 2**28  # embeddings held in memory at once
READ_AT_ONCE = 256  # images, of a stack in memory


def interpretability_index(
    codes: xr.DataArray, images: xr.DataArray, metric: ImageMetric, top: int = 5
) -> xr.DataArray:
    """Score every unit or direction by how alike its top stimuli are.

    Minus the mean distance over the i < j pairs of the top stimuli (for `Label`: their mean agreement). Higher is
    more interpretable. Each image is embedded once, in batches; where embeddings are large they wait in a temporary
    file and are read back in slabs of features, so that memory stays below about 1 GiB beside codes and images,
    whatever their number.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, or any object with `embed`.
    top : int, optional
        Number M of top stimuli.

    Returns
    -------
    DataArray (unit,) or (direction,)
        Name `interpretability`; coords are carried over.

    Raises
    ------
    ValueError
        Codes and images share no stimulus, `top` below 2 or above the number of stimuli, or constant codes.

    References
    ----------
    Klindt, Sanborn, Acosta, Poitevin, Miolane 2023, arXiv 2310.11431.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> grey = np.array([0, 0, 255, 255], np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> codes = xr.DataArray([[2., 2.], [1., 0.], [0., 1.], [0., 0.]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["dark", "mixed"]})
    >>> interpretability_index(codes, images, Color(), top=2).values.round(3).tolist()
    [0.0, -1.732]
    """
    images = check_images(images)
    codes, _ = align(check_codes(codes), images.stimulus)
    require_varying(codes)
    return index_of_top(top_stimuli(codes, top), images, metric)


def index_of_top(top: xr.DataArray, images: xr.DataArray, metric: ImageMetric) -> xr.DataArray:
    """Score units or directions whose top stimuli are already known (see `interpretability_index`).

    Parameters
    ----------
    top : DataArray (rank, unit) or (rank, direction)
        Labels of stimuli, from `top_stimuli`.
    images : DataArray (stimulus, row, column, channel)
    metric : ImageMetric

    Returns
    -------
    DataArray (unit,) or (direction,)

    Raises
    ------
    ValueError
        Fewer than two top stimuli, or one that has no image.

    Examples
    --------
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.zeros((3, 4, 4, 3), np.uint8))
    >>> top = xr.DataArray([["0"], ["2"]], dims=("rank", "unit"), coords={"unit": ["a"]})
    >>> index_of_top(top, images, Color()).values.tolist()
    [0.0]
    """
    if top.sizes["rank"] < 2:
        raise ValueError(f"the index needs at least 2 top stimuli, got {top.sizes['rank']}; raise `top`")
    places = images.get_index("stimulus").get_indexer(top.values.ravel())
    if (places < 0).any():
        missing = np.unique(top.values.ravel()[places < 0])
        raise ValueError(f"no image for stimulus {name_some(missing)}; images have {name_some(images.stimulus)}")
    chosen, positions = np.unique(places, return_inverse=True)
    positions = positions.reshape(top.shape).T
    with tempfile.TemporaryFile() as file:
        slabs = _Slabs(images, chosen, metric, file)
        mean_distance = (_mean_squared if metric.squared else _mean_euclidean)(slabs, positions)
    attrs = {"metric": metric.name, "quantity": describe(metric), "top": top.sizes["rank"]}
    index = top.isel(rank=0, drop=True).copy(data=metric.self_similarity - mean_distance)
    return index.rename("interpretability").assign_attrs(attrs)


def describe(metric: ImageMetric) -> str:
    """Return what the index under a metric is, for an axis: minus a distance, or an agreement."""
    return metric.quantity if metric.self_similarity else f"−{metric.quantity}"


class _Slabs:
    """Embeddings of images, made once, image by image, and given back in slabs (image, some features).

    No slab is larger than `SLAB_BYTES`. A single one stays on the metric's device; several wait in the file.
    """

    def __init__(self, images: xr.DataArray, chosen: np.ndarray, metric: ImageMetric, file: BinaryIO) -> None:
        self.n_images, self.file = len(chosen), file
        batches = _embed(images, chosen, metric)
        first = next(batches)
        self.device = first.device
        width = max(1, SLAB_BYTES // (4 * self.n_images))
        self.edges = [*range(0, first.shape[1], width), first.shape[1]]
        self.norms = torch.empty(self.n_images, dtype=torch.float64, device=self.device)
        self.whole = first.new_empty(self.n_images, first.shape[1]) if len(self.edges) == 2 else None
        self._keep_all(itertools.chain([first], batches), metric.name)

    def _keep_all(self, batches: Iterable[torch.Tensor], name: str) -> None:
        start = 0
        with tqdm(total=self.n_images, desc=f"embedding for {name}", unit="image", delay=1, leave=False) as bar:
            for batch in batches:
                stop = start + len(batch)
                self.norms[start:stop] = (batch**2).sum(1, dtype=torch.float64)
                self._keep(start, stop, batch)
                bar.update(len(batch))
                start = stop

    def _keep(self, start: int, stop: int, batch: torch.Tensor) -> None:
        if self.whole is not None:
            self.whole[start:stop] = batch
            return
        values = batch.cpu().numpy()
        for left, right in itertools.pairwise(self.edges):
            self.file.seek(4 * (self.n_images * left + start * (right - left)))
            self.file.write(np.ascontiguousarray(values[:, left:right], dtype=np.float32).data)

    def __iter__(self) -> Iterator[torch.Tensor]:
        if self.whole is not None:
            yield self.whole
            return
        self.file.seek(0)
        for left, right in itertools.pairwise(self.edges):
            slab = np.fromfile(self.file, np.float32, self.n_images * (right - left))
            yield torch.from_numpy(slab.reshape(self.n_images, -1)).to(self.device)


def _embed(images: xr.DataArray, chosen: np.ndarray, metric: ImageMetric) -> Iterator[torch.Tensor]:
    """Embed the chosen images, batch by batch; after the first, batches are as large as a quarter of a slab allows."""
    if metric.batch_size is None:
        yield metric.embed(images.isel(stimulus=chosen))
        return
    size = 1
    for block in _read(images, chosen):
        start = 0
        while start < block.sizes["stimulus"]:
            batch = metric.embed(block[start : start + size])
            yield batch
            start += size
            size = int(np.clip(SLAB_BYTES // (16 * batch.shape[1]), 1, metric.batch_size))


def _read(images: xr.DataArray, chosen: np.ndarray) -> Iterator[xr.DataArray]:
    """Read the images at these rising positions into memory, block by block; of a dask stack each block once."""
    n = images.sizes["stimulus"]
    sizes = images.chunksizes.get("stimulus") or [READ_AT_ONCE] * (n // READ_AT_ONCE + 1)
    for own in np.split(chosen, np.searchsorted(chosen, np.cumsum(sizes))):
        if len(own):
            yield images.isel(stimulus=own).compute()


def _item_blocks(positions: torch.Tensor, bytes_per_item: int) -> Iterator[tuple[slice, torch.Tensor]]:
    size = max(1, SLAB_BYTES // bytes_per_item)
    for start in range(0, len(positions), size):
        yield slice(start, start + size), positions[start : start + size]


def _mean_squared(slabs: _Slabs, positions: np.ndarray) -> np.ndarray:
    """Return the mean squared distance over the pairs of each row of `positions` (item, top), in closed form."""
    at = torch.as_tensor(positions, device=slabs.device)
    n_items, top = at.shape
    of_sums = torch.zeros(n_items, dtype=torch.float64, device=slabs.device)
    for E in slabs:
        for items, chosen in _item_blocks(at, 4 * E.shape[1]):
            sums = torch.nn.functional.embedding_bag(chosen, E, mode="sum")
            of_sums[items] += (sums**2).sum(1, dtype=torch.float64)
    mean = (top * slabs.norms[at].sum(1) - of_sums) * 2 / (top * (top - 1))
    return mean.clamp(min=0).cpu().numpy()


def _mean_euclidean(slabs: _Slabs, positions: np.ndarray) -> np.ndarray:
    """Return the mean distance over the pairs of each row of `positions` (item, top)."""
    at = torch.as_tensor(positions, device=slabs.device)
    n_items, top = at.shape
    squared = torch.zeros(n_items, top, top, dtype=torch.float64, device=slabs.device)
    for E in slabs:
        for items, chosen in _item_blocks(at, 8 * top * E.shape[1]):
            points = E[chosen].double()
            squared[items] += torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    return (squared.sqrt().sum((1, 2)) / (top * (top - 1))).cpu().numpy()
