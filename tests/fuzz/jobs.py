"""Long jobs that may be killed or run out of disk: their files must be whole or absent, and a second run continues."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array  # noqa: F401 - imported once, before the sandbox forks
import numpy as np
import torch
import xarray as xr
import zarr  # noqa: F401
from PIL import Image

import neurosuper as ns
import neurosuper.study.run
from neurosuper.metrics import cached
from tests.fuzz.sandbox import digest
from tests.study.minimal import MINIMAL_STUDY

STUDY = f"""cache_embeddings = "float32"
{MINIMAL_STUDY}
[finders.PCA]
[finders.KMeans]
n_directions = 4
[metrics.features]
metric = "Features"
model = "net.py:Slow"
layer = "first"
[systems.net]
loader = "activations"
model = "net.py:Slow"
layers = ["first", "second"]
batch_size = 4
"""
torch.set_num_threads(1)


class Slow(torch.nn.Module):
    """A network that takes a while; its source is also the study's `net.py`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Conv2d(3, 8, 5), torch.nn.Conv2d(8, 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return self.second(torch.relu(self.first(x)))


def write_inputs(folder: Path) -> Path:
    """Write what the jobs read: photographs, rates, a network, a study."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for i in range(24):
        photo = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        photo.save(folder / "images" / f"p{i:02d}.png")
    np.save(folder / "brain.npy", rng.gamma(1, 5, (12, 24)))
    (folder / "net.py").write_text(f"import time\n\nimport torch\n\n\n{inspect.getsource(Slow)}")
    (folder / "study.toml").write_text(STUDY)
    return folder


def study(inputs: Path, output: Path) -> np.ndarray:
    """Run a study, and return digests of its outputs."""
    ns.run_study(inputs / "study.toml", output)
    return read_study_of(output)


def read_study_of(output: Path) -> np.ndarray:
    """Return digests of all groups of study.nc, and whether the page is complete."""
    with xr.open_datatree(output / "study.nc") as tree:
        numbers = [digest(tree[name].to_dataset().load()) for name in tree.groups]
    return np.array([*numbers, str("</html>" in (output / "report.html").read_text())])


def activations(inputs: Path, output: Path) -> xr.DataArray:
    """Return activations, stored in a folder batch by batch."""
    images = ns.load_images(inputs / "images")
    kept = {"batch_size": 2, "cache": output, "position": "all"}
    return ns.activations(Slow(), images, ["first", "second"], device="cpu", **kept)


def stored(inputs: Path, output: Path) -> xr.DataArray:
    """Return activations, written to a zarr folder batch by batch."""
    images = ns.load_images(inputs / "images")
    kept = {"batch_size": 2, "store": output / "net.zarr", "position": "all"}
    return ns.activations(Slow(), images, ["first", "second"], device="cpu", **kept).load()


def embeddings(inputs: Path, output: Path) -> np.ndarray:
    """Return embeddings, stored in a folder batch by batch."""
    metric = ns.Features(Slow(), "first", device="cpu")
    metric.batch_size = 2
    return cached(metric, output, dtype="float32").embed(ns.load_images(inputs / "images")).numpy()


def autoencoder(inputs: Path, output: Path) -> xr.DataArray:
    """Return directions of an autoencoder, trained with a checkpoint in a folder."""
    values = np.random.default_rng(0).gamma(1, 5, (2000, 24))
    labels = {"stimulus": np.arange(2000).astype(str), "unit": np.arange(24).astype(str)}
    output.mkdir(exist_ok=True)
    finder = ns.SparseAutoencoder("8x", n_active=4, max_iter=20, checkpoint=str(output / "kept.ckpt"), device="cpu")
    return finder.fit(xr.DataArray(values, labels, ("stimulus", "unit"))).directions_


def fetched(inputs: Path, output: Path) -> np.ndarray:
    """Return the bytes of files fetched into a cache."""
    paths = ns.datasets.fetch(inputs / "remote.toml", cache=output)
    return np.concatenate([np.fromfile(path, np.uint8) for path in paths])


CALLS: dict[str, Callable[[Path, Path], Any]] = {
    job.__name__: job for job in (study, activations, stored, embeddings, autoencoder, fetched)
}
