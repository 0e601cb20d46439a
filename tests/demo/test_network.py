"""The network of the demo is small on disk, and as accurate as its file states."""

from importlib import resources

import numpy as np
import pytest
import torch

from neurosuper import load_images
from neurosuper._layer_outputs import tap_layers
from neurosuper.demo.network import small_cnn

WEIGHTS = resources.files("neurosuper.demo") / "small_cnn.npz"


def test_the_weights_are_light_and_the_network_is_trained():
    with WEIGHTS.open("rb") as file, np.load(file) as arrays:
        accuracy = arrays["test_accuracy"]
    assert len(WEIGHTS.read_bytes()) <= 1.5e6
    assert accuracy >= 0.75


def test_layers_are_halved_maps_after_relu():
    model = small_cnn()
    with tap_layers(model, ["layer1", "layer2", "layer3", "layer4"]) as outputs:
        model(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert [tuple(maps.shape) for maps in outputs.values()] == [
        (2, 24, 16, 16), (2, 64, 8, 8), (2, 96, 4, 4), (2, 128, 4, 4),
    ]  # fmt: skip
    assert all(maps.min() == 0 < maps.max() for maps in outputs.values())


def test_the_accuracy_in_the_file_is_right(real_data):
    images = load_images(real_data / "images/cifar10_test_5000_jpg.zip", category_from="folder")[::5]
    truth = np.unique(images.category, return_inverse=True)[1]
    with torch.inference_mode():
        found = small_cnn()(torch.tensor(images.values).permute(0, 3, 1, 2) / 255).argmax(1).numpy()
    with WEIGHTS.open("rb") as file, np.load(file) as arrays:
        assert np.mean(found == truth) == pytest.approx(arrays["test_accuracy"].item(), abs=0.03)
