"""Responses to time finders on: rectified channels of a network, voxels, and the real activations of ResNet-20.

All are labelled float32 responses (stimulus, unit), seeded, and made in memory. R (stimulus, unit) responses.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

import neurosuper as ns

BLOCK = 5000  # stimuli drawn at once
N_CLASSES, N_STATES = 200, 64  # of the part that all channels share
LAYERS = tuple(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2))
NETWORKS = Path(__file__).parents[1] / "tutorials" / "networks.py"


def label(values: np.ndarray) -> xr.DataArray:
    """Return an array (stimulus, unit) as responses."""
    stimuli, units = (np.arange(n).astype(str) for n in values.shape)
    coords = {"stimulus": np.char.add("stimulus ", stimuli), "unit": np.char.add("unit ", units)}
    return xr.DataArray(values, dims=("stimulus", "unit"), coords=coords, name="response")


def channel_blocks(n_stimuli: int, n_units: int, seed: int = 0, block: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield the rows of `channels`, block by block."""
    rng = np.random.default_rng(seed)
    n_features = 2 * n_units
    atoms = np.abs(rng.standard_normal((n_features, n_units), np.float32))
    atoms *= rng.random(atoms.shape, np.float32) < 0.1
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True) + 1e-9
    often = np.arange(1, n_features + 1) ** -0.5
    often = (0.03 * often / often.mean()).astype(np.float32)
    shared = 0.075 * rng.standard_normal((N_STATES, n_units), np.float32)
    shared *= np.arange(1, N_STATES + 1, dtype=np.float32)[:, None] ** -0.7
    classes = rng.standard_normal((N_CLASSES, N_STATES), np.float32)
    for start in range(0, n_stimuli, block):
        n = min(block, n_stimuli - start)
        features = rng.standard_exponential((n, n_features), np.float32)
        features *= rng.random(features.shape, np.float32) < often
        states = 0.7 * rng.standard_normal((n, N_STATES), np.float32) + classes[rng.integers(N_CLASSES, size=n)]
        noise = rng.standard_normal((n, n_units), np.float32)
        yield np.maximum(features @ atoms + states @ shared + np.float32(0.05) * noise - np.float32(0.02), 0)


def channels(n_stimuli: int, n_units: int, seed: int = 0) -> xr.DataArray:
    """Return simulated activations of a network's layer after its ReLU.

    Twice as many sparse features as units, rare ones rarer, each in a tenth of the units; a state of 64 dimensions that
    differs between 200 classes of stimuli; noise; all rectified.
    """
    R = np.empty((n_stimuli, n_units), np.float32)
    for i, rows in enumerate(channel_blocks(n_stimuli, n_units, seed)):
        R[i * BLOCK : i * BLOCK + len(rows)] = rows
    return label(R)


def voxels(n_stimuli: int, n_units: int, seed: int = 0) -> xr.DataArray:
    """Return simulated voxels: 400 heavy-tailed components whose amplitudes follow a power law, and noise."""
    rng = np.random.default_rng(seed)
    amplitudes = np.arange(1, 401, dtype=np.float32) ** -0.6
    components = amplitudes[:, None] * rng.standard_normal((400, n_units), np.float32)
    scores = rng.standard_exponential((n_stimuli, 400), np.float32) / np.float32(np.sqrt(2))
    scores *= rng.choice(np.array([-1, 1], np.float32), scores.shape)
    R = scores @ components
    R += rng.standard_normal(R.shape, np.float32)
    R += 1
    return label(R)


def counts(n_stimuli: int, n_units: int, seed: int = 0) -> xr.DataArray:
    """Return simulated spike counts: Poisson, with rates of about 1 to 10 that are exponentials of 20 features."""
    rng = np.random.default_rng(seed)
    tuning = rng.standard_normal((20, n_units), np.float32) * np.float32(0.2)
    rates = np.exp(rng.standard_normal((n_stimuli, 20), np.float32) @ tuning + rng.uniform(0, 2, n_units))
    return label(rng.poisson(rates).astype(np.float32))


def resnet(n_stimuli: int) -> xr.DataArray | None:
    """Return activations of ResNet-20's blocks at their centre pixel for images of CIFAR-10, or None without the data.

    The folder `NEUROSUPER_TEST_DATA` contains images/cifar10_train_50000_jpg.zip and nets/resnet20-12fca82f.th.
    Constant channels are left out.
    """
    folder = Path(os.environ.get("NEUROSUPER_TEST_DATA", "missing"))
    archive, weights = folder / "images" / "cifar10_train_50000_jpg.zip", folder / "nets" / "resnet20-12fca82f.th"
    if not (archive.is_file() and weights.is_file()):
        print("ResNet-20 on CIFAR-10: skipped, NEUROSUPER_TEST_DATA names no folder with these files", flush=True)
        return None
    spec = importlib.util.spec_from_file_location("networks", NETWORKS)
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    images = ns.load_images(archive, category_from="folder")
    images = images[:: len(images) // n_stimuli][:n_stimuli]
    model = networks.resnet20(weights)
    responses = ns.activations(
        model, images, LAYERS, preprocess=networks.resnet20_preprocess, batch_size=256, device="cpu"
    )
    varying = ns.responses.drop_constant_units(responses)
    return varying.copy(data=np.ascontiguousarray(varying.values))
